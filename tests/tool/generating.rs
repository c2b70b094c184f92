//! generate: sound out of a prior.

use safetensors::Dtype;
use tessera_codec::audio::{self, WavFormat};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

use crate::common::{Folder, tessera, tones, write};
use crate::support;

/// A folder with a small random model and a random prior of it.
fn model(folder: &Folder) -> (String, Model) {
    let config = support::odd();
    let path = folder.path("model");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("config.json"), config.to_json().unwrap()).unwrap();
    let weights = support::weights(&config, 1, Dtype::F16);
    std::fs::write(path.join("weights.safetensors"), weights).unwrap();
    let model = Model::load(&path).unwrap();
    let prior = support::small_prior(&model);
    std::fs::write(path.join("prior.json"), prior.to_json().unwrap()).unwrap();
    let weights = support::prior_weights(&prior, 2, 1.0, Dtype::F16);
    std::fs::write(path.join("prior.safetensors"), weights).unwrap();
    (folder.text("model"), model)
}

fn samples(path: &std::path::Path) -> Vec<f32> {
    let mut source = audio::open(path).unwrap();
    assert_eq!((source.info().sample_rate, source.info().channels), (48_000, 1));
    audio::read_all(source.as_mut(), 1 << 24).unwrap().swap_remove(0)
}

#[test]
fn a_seed_is_a_sound() {
    let folder = Folder::new();
    let (model, _) = model(&folder);
    let make = |name: &str, more: &[&str]| {
        let out = folder.text(name);
        let args = ["generate", &out, "--model", &model, "--seconds", "0.7", "--format", "f32"];
        tessera(&[&args[..], more].concat()).expect(0, &[name, "real time"]);
        samples(&folder.path(name))
    };
    let first = make("a.wav", &[]);
    assert_eq!(first.len(), 33_600);
    assert!(first.iter().all(|x| x.is_finite()) && first.iter().any(|x| x.abs() > 1e-4));
    assert_eq!(make("b.wav", &["--seed", "0"]), first);
    assert_ne!(make("c.wav", &["--seed", "1"]), first);
    assert_ne!(make("d.wav", &["--temperature", "0.3"]), first);
    assert_ne!(make("e.wav", &["--top-p", "0.1"]), first);
    assert_ne!(make("f.wav", &["--levels", "2"]), first);
    // The likeliest codes need no seed.
    let cold = make("g.wav", &["--temperature", "0"]);
    assert_eq!(make("h.wav", &["--temperature", "0", "--seed", "9"]), cold);
}

/// The prompt comes back as it is coded, and what follows joins on: it is one stream of the decoder's.
#[test]
fn a_prompt_goes_on() {
    let folder = Folder::new();
    let (name, model) = model(&folder);
    let sound = tones(48_000, 2, 5000);
    write(&folder.path("in.wav"), 48_000, &sound, WavFormat::Float32);
    let (input, out) = (folder.text("in.wav"), folder.text("out.wav"));
    let args = ["generate", &out, "--model", &name, "--prompt", &input, "--format", "f32"];
    let args = [&args[..], &["--seconds", "0.25", "--seed", "3", "--json"]].concat();
    let ran = tessera(&args);
    ran.expect(0, &[]);
    let json: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let steps = 5000 / model.chunk_samples();
    let prompted = (steps * model.chunk_samples()) as f64 / 48_000.0;
    assert!((json["prompt_seconds"].as_f64().unwrap() - prompted).abs() < 1e-9);
    assert!((json["seconds"].as_f64().unwrap() - prompted - 0.25).abs() < 1e-9);

    let mono: Vec<f32> = sound[0].iter().zip(&sound[1]).map(|(a, b)| 0.5 * (a + b)).collect();
    let levels = model.config().levels();
    let mut codes = vec![0; steps * model.codes_per_step(levels)];
    StreamEncoder::new(&model).process_into(&mono, levels, &mut codes).unwrap();
    let mut decoder = StreamDecoder::new(&model);
    let mut decoded = vec![0.0; steps * model.chunk_samples()];
    decoder.process_into(&codes, levels, &mut decoded).unwrap();
    let expected = &decoded[decoder.latency_samples()..];
    let made = samples(&folder.path("out.wav"));
    assert_eq!(made.len(), steps * model.chunk_samples() + 12_000);
    let error = |(a, b): (&f32, &f32)| (a - b).abs();
    let worst = made.iter().zip(expected).map(error).fold(0.0, f32::max);
    assert!(worst < 1e-6, "{worst}");
    assert!(made[expected.len()..].iter().any(|x| x.abs() > 1e-4));
}

#[test]
fn what_cannot_be_generated_is_said() {
    let folder = Folder::new();
    let (model, _) = model(&folder);
    let out = folder.text("out.wav");
    write(&folder.path("short.wav"), 48_000, &tones(48_000, 1, 20), WavFormat::Pcm16);
    let short = folder.text("short.wav");
    let missing = folder.text("missing.wav");
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["--seconds", "0"], 1, &["--seconds", "above 0"]),
        (&["--seconds", "1e9"], 1, &["--seconds", "86400"]),
        (&["--temperature", "-1"], 2, &[]),
        (&["--temperature", "11"], 1, &["temperature", "0 to 10"]),
        (&["--top-p", "0"], 1, &["top-p", "above 0"]),
        (&["--levels", "9"], 1, &["9", "4"]),
        (&["--prompt", &short], 1, &["short.wav", "less than"]),
        (&["--prompt", &missing], 1, &["missing.wav"]),
    ];
    for (more, code, words) in cases {
        let args = [&["generate", &out, "--model", &model][..], more].concat();
        tessera(&args).expect(code, words);
        assert!(!folder.path("out.wav").exists(), "{more:?}");
    }
    std::fs::write(folder.path("out.wav"), "mine").unwrap();
    tessera(&["generate", &out, "--model", &model]).expect(1, &["out.wav", "--force"]);
    // A model without a prior, and one with that of another.
    std::fs::remove_file(folder.path("model/prior.json")).unwrap();
    let force = ["generate", &out, "--force", "--model", &model];
    tessera(&force).expect(1, &["no prior", "prior train"]);
    assert_eq!(folder.read("out.wav"), b"mine");
}
