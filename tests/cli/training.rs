//! A run from the folder of audio to decoded sound.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tessera_codec::audio::WavFormat;
use tessera_codec::train::TrainConfig;

use crate::common::{Folder, shape, tessera, text, tiny, tone};

/// Two kinds, one file that cannot be read, and a configuration that trains in no time.
fn prepare(folder: &Folder) {
    let data = folder.path("data");
    for n in 0..3 {
        tone(&data.join(format!("music/{n}.wav")), 44_100, 2, 44_100, WavFormat::Pcm16);
        tone(&data.join(format!("speech/{n}.wav")), 48_000, 1, 48_000, WavFormat::Pcm16);
    }
    std::fs::write(data.join("speech/broken.wav"), "RIFF").unwrap();
    let mut config =
        TrainConfig { codec: tiny(), batch: 2, seconds: 0.32, wide: 0.3, ..TrainConfig::default() };
    config.resolutions.truncate(1);
    write_config(&folder.path("config.json"), &config);
}

fn write_config(path: &Path, config: &TrainConfig) {
    std::fs::write(path, serde_json::to_string(config).unwrap()).unwrap();
}

#[test]
fn from_a_folder_to_sound() {
    let folder = Folder::new();
    prepare(&folder);
    let [data, run, config] = ["data", "run", "config.json"].map(|name| folder.text(name));
    let train = |more: &[&str]| tessera(&[&["train", &data, "--out", &run], more].concat());
    train(&["--steps", "2", "--config", &config, "--seed", "5"]).expect(
        0,
        &["6 files", "1 unreadable", "broken.wav", "parameters", "validation mel", "done: 2 steps"],
    );
    for name in ["checkpoint.safetensors", "train.json", "metrics.csv", "data.json", "loss.png"] {
        assert!(Path::new(&run).join(name).exists(), "{name}");
    }
    assert!(Path::new(&run).join("validation.png").exists());

    // The run is there; what contradicts it is refused.
    let again = ["--steps", "6", "--config", &config];
    train(&again).expect(1, &["run", "checkpoint.safetensors", "--resume"]);
    let resume = |more: &[&str]| train(&[&again[..], &["--resume"], more].concat());
    resume(&["--seed", "6"]).expect(1, &["--seed 6", "the seed 5"]);
    let other = folder.path("other.json");
    write_config(&other, &TrainConfig { batch: 3, ..TrainConfig::default() });
    train(&["--steps", "6", "--resume", "--config", &text(&other)])
        .expect(1, &["other.json", "train.json"]);
    let model = folder.text("model");

    resume(&["--seed", "5"]).expect(0, &["from before", "done: 6 steps"]);
    let metrics = std::fs::read_to_string(Path::new(&run).join("metrics.csv")).unwrap();
    let header = metrics.lines().next().unwrap();
    for column in ["step", "loss/mel", "usage/3", "validation/perplexity/0"] {
        assert!(header.split(',').any(|name| name == column), "{column} in {header}");
    }
    let steps: Vec<&str> = metrics.lines().skip(1).filter_map(|l| l.split(',').next()).collect();
    assert!(steps.first() == Some(&"2") && steps.last() == Some(&"6"), "{steps:?}");

    tessera(&["info", &run]).expect(1, &["run", "export"]);
    tessera(&["export", &run, &model, "--name", "ours"]).expect(0, &[]);
    tessera(&["export", &run, &model]).expect(1, &["exists already", "--force"]);
    tessera(&["export", &run, &model, "--name", "ours", "--force"]).expect(0, &[]);
    let card = std::fs::read_to_string(Path::new(&model).join("README.md")).unwrap();
    for words in ["# ours", "6 steps", "music", "6 files", "Seed: 5", "perplexity"] {
        assert!(card.contains(words), "no {words:?} in {card}");
    }

    // The model goes on against discriminators; its network need not be named again.
    let mut text: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    text.as_object_mut().unwrap().remove("codec");
    text["adversarial"] = serde_json::json!({
        "start": 0.0,
        "head_start": 1,
        "discriminators": [{ "kind": "stft", "window": 256, "hop": 128, "channels": [4] }],
    });
    let [further, tuned] = ["further.json", "tuned"].map(|name| folder.text(name));
    std::fs::write(&further, text.to_string()).unwrap();
    tessera(&[
        "train", &data, "--out", &tuned, "--init", &model, "--steps", "3", "--config", &further,
    ])
    .expect(0, &["of the discriminators", "done: 3 steps"]);
    let metrics = std::fs::read_to_string(Path::new(&tuned).join("metrics.csv")).unwrap();
    let mut rows = metrics.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let (header, row) = (rows.next().unwrap(), rows.next().unwrap());
    for column in ["loss/discriminator", "loss/adversarial", "loss/feature"] {
        let at = header.iter().position(|name| *name == column).unwrap();
        assert!(row[at].parse::<f64>().unwrap() > 0.0, "{column} in {metrics}");
    }
    write_config(further.as_ref(), &TrainConfig::default());
    let again = folder.text("again");
    tessera(&[
        "train", &data, "--out", &again, "--init", &model, "--steps", "3", "--config", &further,
    ])
    .expect(1, &["another network", "codec"]);

    let [wav, tsr, out] =
        [folder.text("data/music/0.wav"), folder.text("a.tsr"), folder.text("b.wav")];
    tessera(&["encode", &wav, &tsr, "--model", &model]).expect(0, &[]);
    tessera(&["decode", &tsr, &out, "--model", &model]).expect(0, &[]);
    assert_eq!(shape(out.as_ref()), (44_100, 2, 44_100));
}

#[test]
fn runs_that_cannot_begin_or_be_exported() {
    let folder = Folder::new();
    prepare(&folder);
    let [data, run, config] = ["data", "run", "config.json"].map(|name| folder.text(name));
    let train = |data: &str, more: &[&str]| {
        tessera(&[&["train", data, "--out", &run, "--steps", "1"], more].concat())
    };
    train(&folder.text("none"), &[]).expect(1, &["none"]);
    std::fs::create_dir(folder.path("bare")).unwrap();
    train(&folder.text("bare"), &[]).expect(1, &["no audio files", "bare"]);
    train(&data, &["--resume"]).expect(1, &["--resume", "checkpoint.safetensors", "run"]);
    train(&data, &["--config", &folder.text("no.json")]).expect(1, &["no.json"]);
    std::fs::write(folder.path("bad.json"), r#"{"batch": 0}"#).unwrap();
    train(&data, &["--config", &folder.text("bad.json")]).expect(1, &["bad.json", "batch"]);
    if cfg!(not(feature = "cuda")) {
        train(&data, &["--device", "cuda"]).expect(1, &["--device cuda", "--features cuda"]);
    }
    let model = folder.text("model");
    tessera(&["export", &run, &model]).expect(1, &["train.json", "folder of a run"]);
    // A run that has no codes yet.
    let mut text: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    text["wide"] = 1.0.into();
    std::fs::write(&config, text.to_string()).unwrap();
    train(&data, &["--config", &config]).expect(0, &["done: 1 steps"]);
    tessera(&["export", &run, &model]).expect(1, &["wide stage", "train on"]);
    assert!(!folder.path("model").exists());
    std::fs::write(folder.path("run/checkpoint.safetensors"), "torn").unwrap();
    tessera(&["export", &run, &model]).expect(1, &["checkpoint.safetensors"]);
    train(&data, &["--resume"]).expect(1, &["checkpoint.safetensors"]);
}

/// Ctrl-C saves; the run goes on from there.
#[cfg(unix)]
#[test]
fn stopped_and_resumed() {
    let folder = Folder::new();
    prepare(&folder);
    let [data, run, config] = ["data", "run", "config.json"].map(|name| folder.text(name));
    let child = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["train", &data, "--out", &run, "--config", &config, "--max-minutes", "60"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first checkpoint is written just before the first step.
    let started = Instant::now();
    while !folder.path("run/checkpoint.safetensors").exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("stopped at step") && stderr.contains("--resume"), "{stderr}");
    tessera(&["train", &data, "--out", &run, "--resume", "--steps", "40"])
        .expect(0, &["done: 40 steps"]);
    let metrics = std::fs::read_to_string(folder.path("run/metrics.csv")).unwrap();
    assert!(metrics.lines().any(|line| line.starts_with("30,")), "{metrics}");
}
