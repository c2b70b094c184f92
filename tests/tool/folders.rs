//! encode and decode of whole folders.

use std::path::Path;

use serde_json::Value;
use tessera_codec::audio::WavFormat;

use crate::common::{Folder, tessera, tones, write};
use crate::prior::{json, model};

/// A model with a prior, and a folder with two sounds, the second deeper, and one file that is no sound.
fn prepared() -> (Folder, String, String) {
    let folder = Folder::new();
    model(&folder.path("model"), Some(1));
    std::fs::create_dir_all(folder.path("in/deep")).unwrap();
    let sound = tones(44_100, 2, 150_000);
    write(&folder.path("in/a.wav"), 44_100, &sound, WavFormat::Pcm16);
    let sound = tones(16_000, 1, 20_000);
    write(&folder.path("in/deep/b.WAV"), 16_000, &sound, WavFormat::Float32);
    std::fs::write(folder.path("in/notes.txt"), "no sound").unwrap();
    let (input, model) = (folder.text("in"), folder.text("model"));
    (folder, input, model)
}

/// Names of all files below a folder, with those that are hidden.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(path) = folders.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => names.push(path.strip_prefix(folder).unwrap().to_str().unwrap().into()),
            }
        }
    }
    names.sort();
    names
}

/// The counts of what a batch did.
fn counts(done: &Value) -> [u64; 3] {
    ["written", "kept", "failed"].map(|name| done[name].as_u64().unwrap())
}

#[test]
fn a_folder_is_encoded_and_goes_on_where_it_was_stopped() {
    let (folder, input, model) = prepared();
    std::fs::write(folder.path("in/broken.wav"), "no audio").unwrap();
    let out = folder.text("out");
    let args = ["encode", &input, "--out", &out, "--model", &model, "--effort", "0"];
    let encode = |more: &[&str]| tessera(&[&args[..], more].concat());
    let ran = encode(&["--verify"]);
    ran.expect(1, &["skipped: notes.txt", "broken.wav", "1 of 3 files were left out"]);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("2 files written, 0 kept, 1 left out"));
    assert_eq!(files(&folder.path("out")), ["a.wav.tsr", "deep/b.WAV.tsr"]);
    for name in ["a.wav", "deep/b.WAV"] {
        let (wav, tsr) = (format!("{input}/{name}"), folder.text("one.tsr"));
        tessera(&["encode", &wav, &tsr, "--model", &model, "--effort", "0", "--force"])
            .expect(0, &[]);
        assert!(folder.read(&format!("out/{name}.tsr")) == folder.read("one.tsr"), "{name}");
    }

    std::fs::remove_file(folder.path("in/broken.wav")).unwrap();
    std::fs::remove_file(folder.path("out/deep/b.WAV.tsr")).unwrap();
    let done = json(&encode(&["--json"]));
    assert_eq!(counts(&done), [1, 1, 0]);
    assert!(done["skipped"][0].as_str().unwrap().starts_with("notes.txt"));
    let [kept, written] = [&done["files"][0], &done["files"][1]];
    assert_eq!((&kept["result"], &written["result"]), (&"kept".into(), &"written".into()));
    assert_eq!(
        (&kept["seconds"], &written["samples"]),
        (&(150_000.0 / 44_100.0).into(), &20_000.into())
    );
    let size = folder.read("out/deep/b.WAV.tsr").len();
    assert_eq!((&written["bytes"], &written["levels"]), (&size.into(), &4.into()));

    // What is there but not the same is not replaced unasked.
    encode(&["--levels", "2"]).expect(1, &["a.wav.tsr", "number of levels", "--force"]);
    encode(&["--entropy", "none"]).expect(1, &["a.wav.tsr", "prior", "--force"]);
    assert_eq!(counts(&json(&encode(&["--levels", "2", "--force", "--json"]))), [2, 0, 0]);
    assert_eq!(counts(&json(&encode(&["--kbps", "4", "--force", "--json"]))), [2, 0, 0]);
    assert_eq!(counts(&json(&encode(&["--kbps", "4", "--json"]))), [0, 2, 0]);
    encode(&["--kbps", "4", "--lines", "none"]).expect(1, &["a.wav.tsr", "lines", "--force"]);
    encode(&["--kbps", "1"]).expect(1, &["a.wav.tsr", "rate", "--force"]);
}

#[test]
fn a_folder_is_decoded_to_the_names_it_came_from() {
    let (folder, input, model) = prepared();
    let (coded, out) = (folder.text("coded"), folder.text("out"));
    tessera(&["encode", &input, "--out", &coded, "--model", &model, "--effort", "0"])
        .expect(0, &[]);
    std::fs::rename(folder.path("coded/a.wav.tsr"), folder.path("coded/a.tsr")).unwrap();
    std::fs::write(folder.path("coded/list.m3u"), "a.tsr").unwrap();
    let args = ["decode", &coded, "--out", &out, "--model", &model];
    let decode = |more: &[&str]| tessera(&[&args[..], more].concat());
    decode(&[]).expect(0, &["skipped: list.m3u"]);
    assert_eq!(files(&folder.path("out")), ["a.wav", "deep/b.WAV"]);
    for (tsr, wav) in [("a.tsr", "a.wav"), ("deep/b.WAV.tsr", "deep/b.WAV")] {
        let (tsr, one) = (format!("{coded}/{tsr}"), folder.text("one.wav"));
        tessera(&["decode", &tsr, &one, "--model", &model, "--force"]).expect(0, &[]);
        assert!(folder.read(&format!("out/{wav}")) == folder.read("one.wav"), "{wav}");
    }
    assert_eq!(counts(&json(&decode(&["--json"]))), [0, 2, 0]);
    decode(&["--format", "f32"]).expect(1, &["a.wav", "format", "--force"]);
    assert_eq!(counts(&json(&decode(&["--format", "f32", "--force", "--json"]))), [2, 0, 0]);

    // A damaged file is decoded as far as it goes, and one that is none stops no other.
    let mut bytes = folder.read("coded/a.tsr");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path("coded/a.tsr"), &bytes).unwrap();
    let ran = decode(&["--force"]);
    ran.expect(3, &["a.tsr", "checksum", "were made up"]);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("1 of them damaged"));
    std::fs::write(folder.path("coded/a.tsr"), "no tokens").unwrap();
    let ran = decode(&["--force", "--json"]);
    ran.expect(1, &["a.tsr", "1 of 2 files were left out"]);
    let done: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(counts(&done), [1, 0, 1]);
    assert_eq!(done["files"][0]["result"], "failed");
    // What was there before it failed is as it was.
    assert!(folder.read("out/a.wav").starts_with(b"RIFF"));
}

#[test]
fn mistakes_are_named() {
    let (folder, input, model) = prepared();
    let (out, wav) = (folder.text("out"), folder.text("in/a.wav"));
    for command in ["encode", "decode"] {
        let run = |args: &[&str]| tessera(&[&[command], args, &["--model", &model]].concat());
        run(&[&input]).expect(2, &[]);
        run(&[&input, &out, "--out", &out]).expect(2, &["--out"]);
        run(&[&input, &out]).expect(1, &["is a folder", "--out"]);
        run(&[&wav, "--out", &out]).expect(1, &["a.wav", "--out takes a folder"]);
        run(&["-", "--out", &out]).expect(1, &["--out takes a folder"]);
        run(&[&folder.text("none"), "--out", &out]).expect(1, &["cannot read the folder", "none"]);
    }
    tessera(&["encode", &folder.text("model"), "--out", &out]).expect(1, &["no audio files"]);
    tessera(&["decode", &input, "--out", &out]).expect(1, &["no .tsr files"]);
    assert!(!folder.path("out").exists());
    std::fs::write(folder.path("in/a.tsr"), "").unwrap();
    tessera(&["decode", &input, "--out", &input]).expect(1, &["name another"]);
    std::fs::write(folder.path("in/a.wav.tsr"), "").unwrap();
    tessera(&["decode", &input, "--out", &out]).expect(1, &["would both become"]);
    assert!(!folder.path("out").exists());
}

/// Ctrl-C leaves whole files only; the same command goes on.
#[cfg(unix)]
#[test]
fn stopped_and_gone_on_with() {
    use std::process::Command;
    use std::time::{Duration, Instant};

    let folder = Folder::new();
    std::fs::create_dir(folder.path("in")).unwrap();
    let sound = tones(48_000, 1, 480_000);
    for n in 0..24 {
        write(&folder.path("in").join(format!("{n}.wav")), 48_000, &sound, WavFormat::Pcm16);
    }
    let (input, out) = (folder.text("in"), folder.text("out"));
    let args = ["encode", &input, "--out", &out, "--entropy", "none", "--effort", "0"];
    let child = crate::common::command(&args).spawn().unwrap();
    let started = Instant::now();
    let whole = |name: &String| !name.starts_with('.');
    let any = || folder.path("out").exists() && files(&folder.path("out")).iter().any(whole);
    while !any() {
        assert!(started.elapsed() < Duration::from_secs(60), "no file");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let made = files(&folder.path("out"));
    assert!(made.iter().all(whole), "{made:?}");
    if made.len() < 24 {
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("the same command goes on"), "{stderr}");
        assert!(!stderr.contains("left out"), "{stderr}");
    }
    let done = json(&tessera(&[&args[..], &["--json"]].concat()));
    assert_eq!(counts(&done), [24 - made.len() as u64, made.len() as u64, 0]);
}
