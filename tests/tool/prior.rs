//! Coding with a model's prior: what the tool does with a model that has one, and without.

use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;
use tessera_codec::audio::WavFormat;
use tessera_codec::config::{CodecConfig, VqConfig};

use crate::common::{Folder, Ran, tessera, tones, write};
use crate::support;

/// Writes a model into a folder, and a prior of random weights beside it where a seed says which.
pub fn model(folder: &Path, prior: Option<u32>) {
    let config = CodecConfig {
        dim: 8,
        encoder_blocks: 1,
        decoder_blocks: 1,
        vq: VqConfig { codebook_size: 32, ..VqConfig::default() },
        ..CodecConfig::default()
    };
    std::fs::create_dir_all(folder).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    put("config.json", config.to_json().unwrap().as_bytes());
    put("weights.safetensors", &support::weights(&config, 5, Dtype::F16));
    if let Some(seed) = prior {
        let config = support::small_prior(&support::model(&config, 5, Dtype::F16));
        put("prior.json", config.to_json().unwrap().as_bytes());
        put("prior.safetensors", &support::prior_weights(&config, seed, 1.0, Dtype::F16));
    }
}

/// What a run that went well says.
pub fn json(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// Folders of a model without a prior and with each of two, and a sound.
fn prepared() -> (Folder, [String; 3], String) {
    let folder = Folder::new();
    let names = ["none", "one", "other"];
    for (name, prior) in names.into_iter().zip([None, Some(1), Some(2)]) {
        model(&folder.path(name), prior);
    }
    let wav = folder.text("a.wav");
    write(&folder.path("a.wav"), 44_100, &tones(44_100, 2, 200_000), WavFormat::Pcm16);
    let models = names.map(|name| folder.text(name));
    (folder, models, wav)
}

#[test]
fn a_model_with_a_prior_codes_with_it() {
    let (folder, [none, one, _], wav) = prepared();
    let path = |name: &str| folder.text(name);
    let (coded, plain, asked) = (path("coded.tsr"), path("plain.tsr"), path("asked.tsr"));
    let encode = |out: &str, model: &str, more: &[&str]| {
        let args = ["encode", &wav, out, "--model", model, "--effort", "0", "--json", "--verify"];
        let args = [&args[..], more].concat();
        json(&tessera(&args))
    };
    let made = encode(&coded, &one, &[]);
    let id = made["prior_id"].as_str().unwrap().to_string();
    assert_eq!(encode(&asked, &one, &["--entropy", "prior"])["prior_id"], *id);
    assert!(folder.read("coded.tsr") == folder.read("asked.tsr"));
    assert!(encode(&plain, &one, &["--entropy", "none"])["prior_id"].is_null());
    assert!(encode(&path("without.tsr"), &none, &[])["prior_id"].is_null());
    assert!(folder.read("plain.tsr") == folder.read("without.tsr"));

    let info = json(&tessera(&["info", &coded, "--json"]));
    assert_eq!((info["entropy"].as_str(), &info["prior_id"]), (Some("prior"), &made["prior_id"]));
    assert_eq!((&info["samples"], &info["damaged_chunks"]), (&200_000.into(), &0.into()));
    let text = tessera(&["info", &coded]).stdout;
    assert!(String::from_utf8(text).unwrap().contains(&format!("with the prior {id}")));
    let info = json(&tessera(&["info", &plain, "--json"]));
    assert_eq!((info["entropy"].as_str(), &info["prior_id"]), (Some("none"), &Value::Null));
    assert_eq!(json(&tessera(&["info", &one, "--json"]))["prior_id"], *id);
    assert!(json(&tessera(&["info", &none, "--json"]))["prior_id"].is_null());

    let verified = json(&tessera(&["verify", &coded, "--model", &one, "--json"]));
    assert_eq!((&verified["whole"], verified["prior_id"].as_str()), (&true.into(), Some(&*id)));
    for (tsr, wav) in [(&coded, "coded.wav"), (&plain, "plain.wav")] {
        tessera(&["decode", tsr, &path(wav), "--model", &one]).expect(0, &[]);
        tessera(&["tokens", tsr, "--out", &path(&format!("{wav}.jsonl")), "--model", &one])
            .expect(0, &[]);
    }
    assert!(folder.read("coded.wav") == folder.read("plain.wav"));
    assert!(folder.read("coded.wav.jsonl") == folder.read("plain.wav.jsonl"));
}

#[test]
fn what_is_missing_is_named() {
    let (folder, [none, one, other], wav) = prepared();
    let (tsr, out) = (folder.text("a.tsr"), folder.text("out"));
    tessera(&["encode", &wav, &out, "--model", &none, "--entropy", "prior"])
        .expect(1, &["has no prior", "prior.json", "--model"]);
    assert!(!folder.path("out").exists());
    tessera(&["encode", &wav, &tsr, "--model", &one, "--effort", "0"]).expect(0, &[]);
    let id = |model: &str| {
        let info = json(&tessera(&["info", model, "--json"]));
        info["prior_id"].as_str().unwrap().to_string()
    };
    let (right, wrong) = (id(&one), id(&other));
    let npz = folder.text("out.npz");
    for command in
        [vec!["decode", &tsr, &out], vec!["verify", &tsr], vec!["tokens", &tsr, "--out", &npz]]
    {
        let with = |model: &str| tessera(&[&command[..], &["--model", model]].concat());
        with(&none).expect(1, &[&right, "--model"]);
        with(&other).expect(1, &[&right, &wrong, "--model"]);
    }
    assert!(!folder.path("out").exists() && !folder.path("out.npz").exists());
    // Another model's prior is not coded with.
    let mut config = std::fs::read(folder.path("none/config.json")).unwrap();
    config.push(b'\n');
    std::fs::write(folder.path("one/config.json"), config).unwrap();
    tessera(&["encode", &wav, &out, "--model", &one]).expect(1, &["the model's own prior"]);
    // A prior that is damaged is no reason to do without.
    std::fs::write(folder.path("other/prior.safetensors"), b"").unwrap();
    tessera(&["encode", &wav, &out, "--model", &other]).expect(1, &["prior.safetensors"]);
    tessera(&["encode", &wav, &out, "--model", &other, "--entropy", "none"]).expect(0, &[]);
}

#[test]
fn damage_costs_its_chunk_and_repair_needs_no_prior() {
    let (folder, [_, one, _], wav) = prepared();
    let (tsr, mended) = (folder.text("a.tsr"), folder.text("b.tsr"));
    tessera(&["encode", &wav, &tsr, "--model", &one, "--effort", "0"]).expect(0, &[]);
    let mut bytes = folder.read("a.tsr");
    bytes[300] ^= 1;
    std::fs::write(&tsr, bytes).unwrap();
    tessera(&["verify", &tsr, "--model", &one]).expect(3, &["checksum"]);
    tessera(&["decode", &tsr, &folder.text("a.out.wav"), "--model", &one]).expect(3, &["chunk 0"]);
    tessera(&["repair", &tsr, &mended]).expect(3, &["chunk 0"]);
    let ran = tessera(&["verify", &mended, "--model", &one]);
    ran.expect(3, &["lost before the file was repaired"]);
}

/// What eval measures is the file that encode writes.
#[test]
fn files_are_measured_as_they_are_written() {
    let folder = Folder::new();
    let model = folder.text("model");
    self::model(&folder.path("model"), Some(1));
    std::fs::create_dir(folder.path("ref")).unwrap();
    // So short that the prior does not pay, and long.
    for (name, frames) in [("short.wav", 9_000), ("long.wav", 300_000)] {
        let sound = tones(48_000, 1, frames);
        write(&folder.path("ref").join(name), 48_000, &sound, WavFormat::Pcm16);
    }
    let (reference, tsr, out) = (folder.text("ref"), folder.text("a.tsr"), folder.text("out"));
    for more in [&[][..], &["--entropy", "none"], &["--entropy", "prior"]] {
        let more = [&["--effort", "0"], more].concat();
        let eval = ["eval", &reference, "--model", &model, "--levels", "all", "--json", "--force"];
        let found = json(&tessera(&[&eval[..], &["--out", &out], &more].concat()));
        assert_eq!(found["prior_id"].is_null(), more.contains(&"none"));
        let mut by_prior = 0;
        for result in found["results"].as_array().unwrap() {
            let levels = result["levels"].to_string();
            for name in ["short.wav", "long.wav"] {
                let source = format!("{reference}/{name}");
                let encode = ["encode", &source, &tsr, "--model", &model, "--force", "--json"];
                let made = json(&tessera(&[&encode[..], &["--levels", &levels], &more].concat()));
                let clip = &result["clips"][name];
                assert_eq!(clip["bytes"], made["bytes"], "{name} {levels} {more:?}");
                assert_eq!(clip["figures"]["kbps"], made["kbps"], "{name} {levels} {more:?}");
                let wav = folder.text("a.wav");
                let decode = ["decode", &tsr, &wav, "--model", &model, "--force"];
                tessera(&[&decode[..], &["--format", "f32"]].concat()).expect(0, &[]);
                assert!(
                    folder.read(&format!("out/levels-{levels}/{name}")) == folder.read("a.wav")
                );
                by_prior += usize::from(!made["prior_id"].is_null());
            }
        }
        assert_eq!(by_prior > 0, !more.contains(&"none"), "{more:?}");
    }
    let rate = ["--kbps", "4", "--effort", "0", "--model", &model, "--json"];
    let found = json(&tessera(&[&["eval", &reference][..], &rate].concat()));
    assert_eq!(found["results"][0]["most_kbps"], 4.0);
    for name in ["short.wav", "long.wav"] {
        let source = format!("{reference}/{name}");
        let made = json(&tessera(&[&["encode", &source, &tsr, "--force"][..], &rate].concat()));
        assert_eq!(found["results"][0]["clips"][name]["bytes"], made["bytes"], "{name}");
    }
    let none = folder.text("none");
    self::model(&folder.path("none"), None);
    let asked = ["eval", &reference, "--model", &none, "--entropy", "prior"];
    tessera(&asked).expect(1, &["has no prior", "--model"]);
}
