//! eval and plot.

use tessera_codec::audio::WavFormat;

use crate::common::{Folder, model, shape, tessera, text, tone};

#[test]
fn a_folder_is_measured_by_kind_and_level() {
    let folder = Folder::new();
    let reference = folder.path("ref");
    tone(&reference.join("speech/a.wav"), 48_000, 1, 24_000, WavFormat::Pcm16);
    tone(&reference.join("speech/b.wav"), 16_000, 2, 8_000, WavFormat::Float32);
    tone(&reference.join("music/deep/c.WAV"), 44_100, 1, 30_000, WavFormat::Pcm24);
    std::fs::write(reference.join("notes.txt"), "not audio").unwrap();
    let out = folder.text("dec");
    let args = ["eval", &text(&reference), "--model", model(), "--out", &out];
    let json = tessera(&[&args[..], &["--levels", "all", "--json"]].concat()).json();
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for (i, result) in results.iter().enumerate() {
        assert_eq!(result["levels"], i + 1);
        let clips: Vec<&String> = result["clips"].as_object().unwrap().keys().collect();
        assert_eq!(clips, ["music/deep/c.WAV", "speech/a.wav", "speech/b.wav"]);
        for (kind, count) in [("speech", 2), ("music", 1), ("all", 3)] {
            assert_eq!(result["summary"][kind]["clips"], count);
            for figure in ["kbps", "mel", "stft", "sisdr", "fine"] {
                assert!(result["summary"][kind]["means"][figure].is_f64(), "{kind} {figure}");
            }
        }
        let decoded = folder.path("dec").join(format!("levels-{}", i + 1));
        assert_eq!(shape(&decoded.join("speech/b.wav")), (16_000, 2, 8_000));
        assert_eq!(shape(&decoded.join("music/deep/c.WAV")), (44_100, 1, 30_000));
        let sizes = std::fs::read_to_string(decoded.join("bytes.tsv")).unwrap();
        for line in sizes.lines() {
            let (name, bytes) = line.split_once('\t').unwrap();
            let clip = &result["clips"][name];
            assert_eq!(clip["bytes"], bytes.parse::<u64>().unwrap());
            // What `encode --levels` makes.
            let tsr = folder.text("one.tsr");
            let source = text(&reference.join(name));
            let levels = (i + 1).to_string();
            let encode =
                ["encode", &source, &tsr, "--model", model(), "--levels", &levels, "--force"];
            tessera(&encode).expect(0, &[]);
            assert_eq!(clip["bytes"], std::fs::metadata(&tsr).unwrap().len(), "{name}");
        }
        assert_eq!(sizes.lines().count(), 3);
    }
    let codebooks = json["codebooks"].as_array().unwrap();
    assert_eq!(codebooks.len(), 4);
    for book in codebooks {
        let (usage, entropy) = (book["usage"].as_f64(), book["entropy_bits"].as_f64());
        assert!((0.0..=1.0).contains(&usage.unwrap()) && (0.0..=5.0).contains(&entropy.unwrap()));
    }
    // Decoded audio is not replaced, and tables are for people as well.
    tessera(&[&args[..], &["--levels", "all"]].concat()).expect(1, &["bytes.tsv", "--force"]);
    let shown = tessera(&["eval", &text(&reference), "--model", model(), "--levels", "2"]);
    shown.expect(0, &[]);
    for word in ["2 of 4 levels", "speech", "music", "all", "perplexity", "entropy"] {
        assert!(shown.stdout.contains(word), "{}", shown.stdout);
    }
}

#[test]
fn files_that_cannot_be_measured_are_left_out_and_named() {
    let folder = Folder::new();
    let reference = folder.text("ref");
    let eval = || tessera(&["eval", &reference, "--model", model()]);
    eval().expect(1, &["ref"]);
    std::fs::create_dir(folder.path("ref")).unwrap();
    eval().expect(1, &["no audio files", "ref"]);
    std::fs::write(folder.path("ref/broken.wav"), "RIFF").unwrap();
    eval().expect(1, &["broken.wav", "none of the 1 files"]);
    tone(&folder.path("ref/good.wav"), 48_000, 1, 9_600, WavFormat::Pcm16);
    let ran = eval();
    ran.expect(1, &["broken.wav is left out", "1 of 2 files"]);
    assert!(ran.stdout.contains("all"), "{}", ran.stdout);
}

#[test]
fn spectrograms_are_drawn_side_by_side() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 1, 24_000, WavFormat::Pcm16);
    tone(&folder.path("b.wav"), 22_050, 2, 11_025, WavFormat::Pcm16);
    std::fs::write(folder.path("c.wav"), "").unwrap();
    let [a, b, c, png] = ["a.wav", "b.wav", "c.wav", "out.png"].map(|name| folder.text(name));
    tessera(&["plot", &a, &b, &png]).expect(0, &[]);
    let picture = std::fs::read(&png).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    tessera(&["plot", &a, &png]).expect(1, &["out.png", "exists already", "--force"]);
    assert_eq!(std::fs::read(&png).unwrap(), picture);
    tessera(&["plot", &a, &png, "--force"]).expect(0, &[]);
    assert_ne!(std::fs::read(&png).unwrap(), picture);
    // The picture forgotten: a clip must not be taken for it.
    tessera(&["plot", &a, &b, "--force"]).expect(1, &["b.wav", ".png"]);
    assert_eq!(shape(&folder.path("b.wav")), (22_050, 2, 11_025));
    tessera(&["plot", &a, &c, &folder.text("no.png")]).expect(1, &["c.wav", "empty"]);
    assert_eq!(folder.names(), ["a.wav", "b.wav", "c.wav", "out.png"]);
}

#[test]
fn a_folder_is_measured_against_opus() {
    let installed = ["opusenc", "opusdec"].iter().all(|tool| {
        std::process::Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success())
    });
    let folder = Folder::new();
    let reference = folder.path("ref");
    tone(&reference.join("speech/a.wav"), 48_000, 1, 24_000, WavFormat::Pcm16);
    tone(&reference.join("speech/b.wav"), 44_100, 2, 30_000, WavFormat::Float32);
    let picture = folder.text("rate.png");
    let args = ["eval", &text(&reference), "--model", model(), "--against", "opus"];
    let args = [&args[..], &["--plot", &picture, "--levels", "all", "--json"]].concat();
    let output = tessera(&args);
    if !installed {
        output.expect(1, &["opusenc", "opus-tools"]);
        assert!(!std::path::Path::new(&picture).exists());
        return;
    }
    let json = output.json();
    let results = json["results"].as_array().unwrap();
    let opus: Vec<_> = results.iter().filter(|r| r["opus_kbps"].is_u64()).collect();
    assert_eq!((results.len(), opus.len()), (8, 4));
    let mean =
        |i: usize, figure: &str| opus[i]["summary"]["all"]["means"][figure].as_f64().unwrap();
    // A tone is what Opus can do: more bits bring more of it back.
    assert!(mean(3, "kbps") > mean(0, "kbps"));
    assert!(mean(3, "sisdr") > 10.0, "{}", mean(3, "sisdr"));
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    tessera(&args).expect(1, &["rate.png", "--force"]);
}
