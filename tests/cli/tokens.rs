//! tokens, and back.

use std::process::Command;

use tessera_codec::audio::WavFormat;

use crate::common::{Folder, model, shape, tessera, text, tone};

const FORMATS: [&str; 3] = ["npz", "safetensors", "jsonl"];

#[test]
fn every_format_decodes_as_the_tsr() {
    let folder = Folder::new();
    let (wav, tsr) = (folder.text("a.wav"), folder.text("a.tsr"));
    for (rate, channels) in [(48_000, 2), (44_100, 1)] {
        let force = "--force";
        let _ = std::fs::remove_file(folder.path("a.wav"));
        tone(&folder.path("a.wav"), rate, channels, 50_001, WavFormat::Float32);
        let encode = ["encode", &wav, &tsr, "--model", model(), "--effort", "0", force];
        tessera(&encode).expect(0, &[]);
        let back = folder.text("tsr.wav");
        tessera(&["decode", &tsr, &back, "--model", model(), force]).expect(0, &[]);
        let expected = std::fs::read(back).unwrap();
        for input in [&wav, &tsr] {
            for format in FORMATS {
                let file = folder.text(&format!("a.{format}"));
                tessera(&["tokens", input, "--out", &file, "--model", model(), force])
                    .expect(0, &[]);
                let back = folder.text("back.wav");
                let args = ["tokens", "--decode", &file, "--out", &back, "--model", model(), force];
                tessera(&args).expect(0, &[]);
                assert_eq!(shape(&folder.path("back.wav")), (rate, channels, 50_001));
                assert!(std::fs::read(back).unwrap() == expected, "{input} {format} {rate}");
            }
        }
    }
    // The shipped model is another one.
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tessera-48k");
    let (file, back) = (folder.text("a.npz"), folder.text("other.wav"));
    tessera(&["tokens", "--decode", &file, "--out", &back, "--model", shipped])
        .expect(1, &["encoded with the model", "--model"]);
    assert!(!folder.path("other.wav").exists());
}

#[test]
fn a_folder_goes_on_where_it_was_stopped() {
    let folder = Folder::new();
    tone(&folder.path("in/a.wav"), 48_000, 1, 9_000, WavFormat::Pcm16);
    tone(&folder.path("in/deep/b.wav"), 16_000, 2, 9_000, WavFormat::Pcm16);
    std::fs::write(folder.path("in/broken.wav"), "no audio").unwrap();
    let (input, out) = (folder.text("in"), folder.text("out"));
    let args = ["tokens", &input, "--out", &out, "--model", model(), "--levels", "2"];
    tessera(&args).expect(1, &["1 of 3 files were left out", "broken.wav"]);
    std::fs::remove_file(folder.path("in/broken.wav")).unwrap();
    let done = tessera(&[&args[..], &["--json"]].concat()).json();
    assert_eq!((&done["kept"], &done["written"]), (&2.into(), &0.into()));
    std::fs::remove_file(folder.path("out/deep/b.wav.npz")).unwrap();
    let done = tessera(&[&args[..], &["--json"]].concat()).json();
    assert_eq!((&done["kept"], &done["written"]), (&1.into(), &1.into()));
    // What is there but not the same is not replaced unasked.
    let more = ["tokens", &input, "--out", &out, "--model", model()];
    tessera(&more).expect(1, &["number of levels", "--force"]);
    tessera(&[&more[..], &["--force"]].concat()).expect(0, &[]);
    std::fs::write(folder.path("out/a.wav.npz"), "PK").unwrap();
    tessera(&more).expect(1, &["a.wav.npz", "--force"]);
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 1, 1_000, WavFormat::Pcm16);
    let (wav, npz) = (folder.text("a.wav"), folder.text("a.npz"));
    tessera(&["tokens", "--out", &npz]).expect(2, &["IN"]);
    tessera(&["tokens", &wav, "--decode", &npz, "--out", &wav]).expect(2, &["--decode"]);
    let asked = ["tokens", &wav, "--out", &npz, "--model", model()];
    tessera(&[&asked[..], &["--format", "jsonl"]].concat()).expect(1, &["contradicts"]);
    tessera(&[&asked[..], &["--levels", "9"]].concat()).expect(1, &["1 to 4"]);
    tessera(&asked).expect(0, &[]);
    tessera(&asked).expect(1, &["exists already", "--force"]);
    let twice = ["tokens", &wav, &wav, "--out", &folder.text("out"), "--model", model()];
    tessera(&twice).expect(1, &["would both become"]);
    let bytes = std::fs::read(&npz).unwrap();
    std::fs::write(&npz, &bytes[..bytes.len() / 2]).unwrap();
    let decode = ["tokens", "--decode", &npz, "--out", &folder.text("b.wav"), "--model", model()];
    tessera(&decode).expect(1, &["cannot decode", "cut short"]);
}

#[test]
fn numpy_reads_the_archive() {
    let python = Command::new("python3").args(["-c", "import numpy"]).output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no python3 with numpy");
        return;
    }
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 2, 48_000, WavFormat::Pcm16);
    let npz = folder.text("a.npz");
    tessera(&["tokens", &folder.text("a.wav"), "--out", &npz, "--model", model()]).expect(0, &[]);
    // Reads, checks, and writes it again as NumPy does.
    let script = "import json, numpy, sys\n\
        t = numpy.load(sys.argv[1])\n\
        m = json.loads(t['metadata'].item())\n\
        assert m['samples'] == 48000 and m['levels'] == 4, m\n\
        shapes = [t[f'level_{i + 1}'].shape for i in range(4)]\n\
        assert shapes == [(2, 26), (2, 52), (2, 104), (2, 104)], shapes\n\
        assert all(t[f'level_{i + 1}'].dtype == numpy.uint16 for i in range(4))\n\
        numpy.savez(sys.argv[2], **t)\n";
    let again = folder.text("again.npz");
    let ran = Command::new("python3").args(["-c", script, &npz, &again]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for file in [&npz, &again] {
        let out = text(&folder.path("out.wav"));
        tessera(&["tokens", "--decode", file, "--out", &out, "--model", model(), "--force"])
            .expect(0, &[]);
        assert_eq!(shape(&folder.path("out.wav")), (48_000, 2, 48_000));
    }
}
