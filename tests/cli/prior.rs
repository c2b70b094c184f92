//! A prior from tokens to the file beside its model.

use std::path::Path;

use tessera_codec::audio::WavFormat;
use tessera_codec::codec::{CONFIG_FILE, WEIGHTS_FILE, save_model};
use tessera_codec::model::Network;
use tessera_codec::prior::PriorConfig;

use crate::common::{Folder, model, tessera, tiny, tone};

const TINY: &str = r#"{"network": {"embedding": 4, "dim": 8, "blocks": 1, "width": 8, "steps": 8},
    "batch": 2, "gains_db": [0, -6]}"#;

#[test]
fn from_tokens_to_a_prior_beside_its_model() {
    let folder = Folder::new();
    for n in 0..4 {
        tone(&folder.path(&format!("audio/music/{n}.wav")), 48_000, 1, 48_000, WavFormat::Pcm16);
    }
    std::fs::write(folder.path("config.json"), TINY).unwrap();
    let [audio, data, run, config, with_prior] =
        ["audio", "tokens", "run", "config.json", "model"].map(|name| folder.text(name));
    tessera(&["tokens", &audio, "--out", &data, "--model", model()]).expect(0, &[]);
    let train = |more: &[&str]| {
        tessera(&[&["prior", "train", &data, "--model", model(), "--out", &run], more].concat())
    };
    train(&["--steps", "2", "--config", &config, "--seed", "5"]).expect(
        0,
        &[
            "4 files (1 of them for validation",
            "parameters",
            "validation",
            "bigram",
            "done: 2 steps",
        ],
    );
    for name in ["checkpoint.safetensors", "train.json", "prior.json", "metrics.csv", "prior.md"] {
        assert!(Path::new(&run).join(name).exists(), "{name}");
    }
    assert!(Path::new(&run).join("loss.png").exists());

    // The run is there; what contradicts it is refused.
    train(&["--steps", "4"]).expect(1, &["--resume"]);
    train(&["--steps", "4", "--resume", "--seed", "6"]).expect(1, &["--seed 6", "the seed 5"]);
    train(&["--steps", "4", "--resume", "--gains", "0"]).expect(1, &["--gains", "train.json"]);
    train(&["--steps", "4", "--resume", "--config", &config])
        .expect(0, &["from before", "done: 4"]);
    let metrics = std::fs::read_to_string(Path::new(&run).join("metrics.csv")).unwrap();
    let steps: Vec<&str> = metrics.lines().skip(1).filter_map(|l| l.split(',').next()).collect();
    assert_eq!(steps, ["2", "2", "4", "4"], "{metrics}");

    // It belongs to the model that made the tokens.
    let network = Network::random(&tiny(), 8, &candle_core::Device::Cpu).unwrap();
    let other = folder.path("other");
    save_model(&other, &tiny(), &network.params.snapshot().unwrap()).unwrap();
    tessera(&["prior", "export", &run, &folder.text("other")]).expect(1, &["its own model alone"]);
    assert!(!other.join("prior.json").exists());

    std::fs::create_dir(&with_prior).unwrap();
    for name in [CONFIG_FILE, WEIGHTS_FILE] {
        std::fs::copy(Path::new(model()).join(name), Path::new(&with_prior).join(name)).unwrap();
    }
    let done = tessera(&["prior", "export", &run, &with_prior]);
    done.expect(0, &[]);
    for words in ["## Prior", "| level |", "| levels in use |"] {
        assert!(done.stdout.contains(words), "no {words:?} in {}", done.stdout);
    }
    let text = std::fs::read_to_string(Path::new(&with_prior).join("prior.json")).unwrap();
    let prior = PriorConfig::from_json(&text).unwrap();
    assert_eq!((prior.dim, prior.codebook_size), (8, 32));
    let weights = std::fs::read(Path::new(&with_prior).join("prior.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&weights).unwrap();
    assert_eq!(tensors.tensor("past.10.weight").unwrap().shape(), [8, 40]);
    assert!(tensors.iter().all(|(_, view)| view.dtype() == safetensors::Dtype::F16));
    tessera(&["prior", "export", &run, &with_prior]).expect(1, &["exists already", "--force"]);
    tessera(&["prior", "export", &run, &with_prior, "--force"]).expect(0, &[]);
    let exported = std::fs::read(Path::new(&with_prior).join("prior.safetensors")).unwrap();

    // A prior that is there is a beginning for another, which takes over its network.
    let further = |run: &str, more: &[&str]| {
        let args =
            ["prior", "train", &data, "--model", model(), "--init", &with_prior, "--out", run];
        tessera(&[&args[..], &["--steps", "1"], more].concat())
    };
    let (init, wrong) = (folder.text("init"), folder.text("wrong.json"));
    // A rate at which nothing moves by as much as half precision keeps.
    std::fs::write(&config, r#"{"optimizer": {"learning_rate": 1e-12}}"#).unwrap();
    further(&init, &["--config", &config]).expect(0, &["done: 1 steps"]);
    let file = |folder: &str, name: &str| std::fs::read(Path::new(folder).join(name)).unwrap();
    assert_eq!(file(&init, "prior.json"), file(&with_prior, "prior.json"));
    tessera(&["prior", "export", &init, &with_prior, "--force"]).expect(0, &[]);
    assert_eq!(file(&with_prior, "prior.safetensors"), exported);
    std::fs::write(&wrong, TINY.replace("\"dim\": 8", "\"dim\": 16")).unwrap();
    further(&folder.text("no1"), &["--config", &wrong])
        .expect(1, &["another network", "prior.json"]);
    further(&init, &["--resume"]).expect(2, &["--init"]);

    // Tokens of another model are none.
    let (other, second) = (folder.text("other"), folder.text("run2"));
    let foreign = ["prior", "train", &data, "--model", &other, "--out", &second, "--steps", "1"];
    tessera(&foreign).expect(1, &["none of the 4", &prior.codec]);
}
