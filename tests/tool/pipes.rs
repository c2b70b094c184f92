//! `-` for stdin and stdout: the same bytes as by files, and nothing else on stdout.

use std::io::Read;

use tessera_codec::audio::WavFormat;

use crate::common::{Folder, command, piped, tessera, tones, write};

/// A sound as a file and, coded, as another.
fn coded(folder: &Folder, rate: u32, channels: usize, format: WavFormat) {
    let frames = rate as usize * 3 / 2 + 77;
    write(&folder.path("a.wav"), rate, &tones(rate, channels, frames), format);
    tessera(&["encode", &folder.text("a.wav"), &folder.text("a.tsr"), "--effort", "0"])
        .expect(0, &[]);
}

#[test]
fn pipes_and_files_give_the_same_bytes() {
    for (rate, channels, format, name) in [
        (44_100, 2, WavFormat::Pcm16, "s16"),
        (48_000, 1, WavFormat::Float32, "f32"),
        (16_000, 3, WavFormat::Pcm24, "s24"),
    ] {
        let folder = Folder::new();
        coded(&folder, rate, channels, format);
        let wav = folder.read("a.wav");
        let ran = piped(&["encode", "-", "-", "--effort", "0"], &wav);
        ran.expect(0, &["kbps"]);
        assert!(ran.stdout == folder.read("a.tsr"), "{rate} Hz");
        // As a program that does not know the length writes it.
        let data = wav.windows(4).position(|w| w == b"data").unwrap();
        let mut streamed = wav.clone();
        streamed[4..8].fill(0xFF);
        streamed[data + 4..data + 8].fill(0xFF);
        assert!(piped(&["encode", "-", "-"], &streamed).stdout == folder.read("a.tsr"));
        let ran =
            piped(&["encode", "-", &folder.text("b.tsr"), "--levels", "7", "--effort", "0"], &wav);
        assert!(ran.expect(0, &[]).stdout.starts_with(folder.text("b.tsr").as_bytes()));
        assert!(folder.read("b.tsr") == folder.read("a.tsr"));

        // What comes through a pipe comes once.
        let most = (3.3 * channels as f64).to_string();
        let by_codes = piped(&["encode", "-", "-", "--effort", "0", "--kbps", &most], &wav);
        let levels = piped(&["encode", "-", "-", "--effort", "0", "--levels", "5"], &wav);
        assert!(by_codes.expect(0, &["5 of 7 levels"]).stdout == levels.stdout);

        let (tsr, out) = (folder.text("a.tsr"), folder.text("out.wav"));
        tessera(&["decode", &tsr, &out, "--format", name]).expect(0, &[]);
        let out = folder.read("out.wav");
        let ran = piped(&["decode", "-", "-", "--format", name], &folder.read("a.tsr"));
        assert!(ran.expect(0, &["3 levels", "real time"][1..]).stdout == out, "{rate} Hz");
        assert!(tessera(&["decode", &tsr, "-", "--format", name]).stdout == out);
        piped(&["decode", "-", &folder.text("b.wav"), "--format", name], &folder.read("a.tsr"))
            .expect(0, &[]);
        assert!(folder.read("b.wav") == out);
    }
}

#[test]
fn raw_samples_go_in_and_out() {
    let folder = Folder::new();
    let sound = tones(32_000, 2, 40_001);
    write(&folder.path("a.wav"), 32_000, &sound, WavFormat::Float32);
    let raw: Vec<u8> =
        (0..40_001).flat_map(|n| sound.iter().flat_map(move |c| c[n].to_le_bytes())).collect();
    std::fs::write(folder.path("a.raw"), &raw).unwrap();
    tessera(&["encode", &folder.text("a.wav"), &folder.text("a.tsr"), "--effort", "0"])
        .expect(0, &[]);
    let tsr = folder.read("a.tsr");
    assert!(piped(&["encode", "-", "-", "--raw", "32000,2"], &raw).stdout == tsr);
    assert!(tessera(&["encode", &folder.text("a.raw"), "-", "--raw", "32000, 2"]).stdout == tsr);
    let out = piped(&["decode", "-", "-", "--raw"], &tsr).stdout;
    assert_eq!(out.len(), raw.len());
    tessera(&["decode", &folder.text("a.tsr"), &folder.text("b.raw"), "--raw"]).expect(0, &[]);
    assert!(folder.read("b.raw") == out);
    let wav = tessera(&["decode", &folder.text("a.tsr"), "-", "--format", "f32"]).stdout;
    assert!(wav.ends_with(&out));
    tessera(&["decode", &folder.text("a.tsr"), &folder.text("b.raw"), "--raw"])
        .expect(1, &["b.raw", "exists", "--force"]);
}

#[test]
fn results_keep_off_a_stdout_that_is_taken() {
    let folder = Folder::new();
    coded(&folder, 8_000, 1, WavFormat::Pcm16);
    let ran = tessera(&["encode", &folder.text("a.wav"), "-", "--effort", "0", "--json"]);
    assert!(ran.expect(0, &["\"samples\": 12077"]).stdout == folder.read("a.tsr"));
    let ran = tessera(&["decode", &folder.text("a.tsr"), &folder.text("b.wav"), "--json"]);
    assert!(ran.expect(0, &[]).stdout.starts_with(b"{"));
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::new();
    let tsr = folder.text("a.tsr");
    piped(&["encode", "-", &tsr], b"").expect(1, &["stdin"]);
    piped(&["encode", "-", &tsr], b"fLaC and the rest of it").expect(1, &["stdin", "only WAV"]);
    piped(&["encode", "-", &tsr, "--raw", "0,1"], b"abcd").expect(1, &["0 Hz"]);
    piped(&["encode", "-", &tsr, "--raw", "8000,99"], b"abcd").expect(1, &["99 channels"]);
    piped(&["decode", "-", "-"], b"").expect(1, &["cannot decode -"]);
    piped(&["decode", "-", "-"], &[7; 100_000]).expect(1, &["cannot decode -"]);
    assert!(!folder.path("a.tsr").exists());
    for raw in ["48000", "48000,x", "x,1", ",", "48000,-1", "1,2,3"] {
        piped(&["encode", "-", &tsr, "--raw", raw], b"").expect(2, &["48000,2"]);
    }
    tessera(&["decode", "-", "-", "--raw", "--format", "s16"]).expect(2, &["--raw"]);
}

/// A reader that has had enough is no mistake of ours: nothing is said.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    coded(&folder, 48_000, 2, WavFormat::Pcm16);
    for args in [["encode", &folder.text("a.wav"), "-"], ["decode", &folder.text("a.tsr"), "-"]] {
        let mut child = command(&args).spawn().unwrap();
        let mut first = [0];
        let mut stdout = child.stdout.take().unwrap();
        // The sound is longer than a pipe holds; the tokens are not, and may have gone all the same.
        if args[0] == "decode" {
            stdout.read_exact(&mut first).unwrap();
        }
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(141), ""), "{args:?}");
    }
}
