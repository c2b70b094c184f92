//! The shipped models by name, and files of tokens that find the one they were made with.

use crate::common::{Folder, tessera, tones, write};
use crate::prior::json;
use tessera_codec::audio::WavFormat;

const LIVE: [&str; 2] = ["--model", "tessera-live-48k"];

/// A folder with `in/general.tsr` and `in/live.tsr`.
fn prepared() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("in")).unwrap();
    write(&folder.path("a.wav"), 48_000, &tones(48_000, 1, 30_000), WavFormat::Pcm16);
    let wav = folder.text("a.wav");
    tessera(&["encode", &wav, &folder.text("in/general.tsr")]).expect(0, &[]);
    tessera(&[&["encode", &wav, &folder.text("in/live.tsr")][..], &LIVE].concat()).expect(0, &[]);
    folder
}

#[test]
fn tokens_find_the_model_they_were_made_with() {
    let folder = prepared();
    for (name, model) in [("general", "tessera-48k"), ("live", "tessera-live-48k")] {
        let (tsr, wav) = (folder.text(&format!("in/{name}.tsr")), folder.text("out.wav"));
        let done = json(&tessera(&["decode", &tsr, &wav, "--json", "--force"]));
        assert_eq!((done["model"].as_str(), done["samples"].as_u64()), (Some(model), Some(30_000)));
        assert_eq!(json(&tessera(&["verify", &tsr, "--json"]))["model"], model);
        // And by way of tokens that are no .tsr.
        let (npz, other) = (folder.text("a.npz"), folder.text("other.wav"));
        tessera(&["tokens", &tsr, "--out", &npz, "--force"]).expect(0, &[]);
        tessera(&["tokens", "--decode", &npz, "--out", &other, "--force"]).expect(0, &[]);
        assert!(folder.read("out.wav") == folder.read("other.wav"));
    }
    let (from, to) = (folder.text("in"), folder.text("all"));
    let done = json(&tessera(&["decode", &from, "--out", &to, "--json"]));
    let models: Vec<&str> =
        done["files"].as_array().unwrap().iter().map(|f| f["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["tessera-48k", "tessera-live-48k"]);
}

#[test]
fn a_model_that_is_named_is_the_one_that_is_used() {
    let folder = prepared();
    let (tsr, out) = (folder.text("in/live.tsr"), folder.text("out.wav"));
    for command in [&["decode", &tsr, &out][..], &["verify", &tsr]] {
        let other = [command, &["--model", "tessera-48k"]].concat();
        tessera(&other).expect(1, &["encoded with the model", "--model"]);
        tessera(&[command, &LIVE].concat()).expect(0, &[]);
    }
    tessera(&["encode", &folder.text("a.wav"), &folder.text("b.tsr"), "--model", "tessera-9k"])
        .expect(1, &["tessera-9k", "config.json"]);
    // A folder of that name is meant before the shipped model is.
    std::fs::create_dir(folder.path("tessera-live-48k")).unwrap();
    let named = folder.text("tessera-live-48k");
    tessera(&["encode", &folder.text("a.wav"), &folder.text("b.tsr"), "--model", &named])
        .expect(1, &["config.json"]);
}
