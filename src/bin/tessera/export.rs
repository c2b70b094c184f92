//! `tessera export`: a run's weights as a model folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use serde_json::Value;
use tessera_codec::bitstream::write_atomically;
use tessera_codec::codec::{CONFIG_FILE, Codec, WEIGHTS_FILE, save_model};
use tessera_codec::train::checkpoint::{self, CHECKPOINT, CONFIG, Progress};
use tessera_codec::train::{TrainConfig, exportable};

use super::train::DATA;
use super::{Outcome, report};

/// The model card's name.
const CARD: &str = "README.md";

/// Write the averaged weights of a run as a model folder: configuration, weights, model card.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run.
    run: PathBuf,
    /// Folder of the model; made if it is not there.
    model_dir: PathBuf,
    /// Name of the model; that of its configuration by default.
    #[arg(long)]
    name: Option<String>,
    /// Replace a model that is in the folder.
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args) -> Result<Outcome> {
    let path = args.run.join(CONFIG);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; is this the folder of a run?", path.display()))?;
    let train = TrainConfig::from_json(&text).with_context(|| path.display().to_string())?;
    let mut codec = train.codec.clone();
    if let Some(name) = args.name {
        codec.name = name;
    }
    let checkpoint = args.run.join(CHECKPOINT);
    let (progress, weights) = exportable(&checkpoint)?;
    let usage = usage(&checkpoint, codec.levels())?;
    for name in [CONFIG_FILE, WEIGHTS_FILE, CARD] {
        let path = args.model_dir.join(name);
        if path.exists() && !args.force {
            bail!("{} exists already: --force replaces the model", path.display());
        }
    }
    let data = data(&args.run)?;
    save_model(&args.model_dir, &codec, &weights)?;
    let model = Codec::load(&args.model_dir)?;
    let bytes = std::fs::metadata(args.model_dir.join(WEIGHTS_FILE)).map_or(0, |m| m.len());
    let card = card(&model, &train, &progress, &usage, data.as_ref(), bytes);
    write_atomically(&args.model_dir.join(CARD), card.as_bytes())?;
    report::print(&format!(
        "{}: {} after {} steps, {}, id {}\n",
        args.model_dir.display(),
        codec.name,
        progress.step,
        report::bytes(bytes),
        model.id_hex()
    ))?;
    Ok(Outcome::Done)
}

/// What the run wrote down of its data; runs of older versions did not.
fn data(run: &Path) -> Result<Option<Value>> {
    let path = run.join(DATA);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let value = serde_json::from_str(&text);
            Ok(Some(value.with_context(|| format!("{} is damaged", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// How evenly the codes were used at the end of training.
struct Usage {
    /// Share of the codes with at least a twentieth of an even share.
    share: f64,
    /// Exponential of the entropy as a share of the codebook.
    perplexity: f64,
}

/// By level, from the running counts that the codebooks keep.
fn usage(path: &Path, levels: usize) -> Result<Vec<Usage>> {
    let (_, tensors): (Progress, BTreeMap<String, Tensor>) = checkpoint::load(path)?;
    let one = |level: usize| -> Result<Usage> {
        let name = format!("codebook.{level}.usage");
        let tensor = tensors.get(&name);
        let tensor = tensor.with_context(|| format!("{}: no `{name}`", path.display()))?;
        let counts: Vec<f32> =
            tensor.flatten_all()?.to_vec1().with_context(|| path.display().to_string())?;
        let total = counts.iter().map(|c| f64::from(*c)).sum::<f64>().max(f64::MIN_POSITIVE);
        let shares: Vec<f64> = counts.iter().map(|c| f64::from(*c) / total).collect();
        let size = shares.len() as f64;
        let entropy: f64 = shares.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let used = shares.iter().filter(|p| **p * size >= 0.05).count();
        Ok(Usage { share: used as f64 / size, perplexity: entropy.exp() / size })
    };
    (0..levels).map(one).collect()
}

fn card(
    model: &Codec,
    train: &TrainConfig,
    progress: &Progress,
    usage: &[Usage],
    data: Option<&Value>,
    bytes: u64,
) -> String {
    let config = model.config();
    let audio = progress.step as f64 * (train.batch * train.samples()) as f64
        / f64::from(config.sample_rate);
    let mut card = String::new();
    // Writing to a String does not fail.
    let mut line = |text: String| {
        let _ = writeln!(card, "{text}");
    };
    line(format!("# {}\n", config.name));
    line(format!(
        "A model of [Tessera](https://crates.io/crates/tessera-codec), a neural audio codec: {} Hz, one \
         channel at a time, {} levels of tokens.\n",
        config.sample_rate,
        config.levels()
    ));
    line(format!("- Id: `{}`", model.id_hex()));
    line(format!(
        "- Size: {} parameters in half precision, {}",
        model.parameters(),
        report::bytes(bytes)
    ));
    line(format!(
        "- Latency when both ends stream: {:.0} ms",
        config.latency_samples() as f64 * 1000.0 / f64::from(config.sample_rate)
    ));
    line("\n## Levels\n".into());
    line("| level | codes | codes a second | kbps up to here | codes in use | perplexity |".into());
    line("|---|---|---|---|---|---|".into());
    for (level, usage) in usage.iter().enumerate() {
        line(format!(
            "| {} | {} | {:.1} | {:.2} | {:.0} % | {:.0} % |",
            level + 1,
            config.vq.codebook_size,
            f64::from(config.sample_rate) / (config.hop * config.vq.strides[level]) as f64,
            config.bits_per_second(level + 1) / 1000.0,
            usage.share * 100.0,
            usage.perplexity * 100.0
        ));
    }
    line(
        "\nUse and perplexity are those of the last training steps, as shares of the codebook; a code \
         counts as in use from a twentieth of an even share. `tessera eval` measures any other audio."
            .into(),
    );
    line("\n## Training\n".into());
    line(format!(
        "- {} steps of {} crops of {:.2} s: {:.1} hours of audio heard in {:.2} hours of time",
        progress.step,
        train.batch,
        train.samples() as f64 / f64::from(config.sample_rate),
        audio / 3600.0,
        progress.elapsed / 3600.0
    ));
    line(format!("- Seed: {}", progress.seed));
    let Some(data) = data else {
        line("- Data: the run did not write down what it was trained on".into());
        return card;
    };
    let count = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or_default();
    line(format!(
        "- Data: {} files, {} of them kept for validation, {} unreadable",
        count("files"),
        count("validation_files"),
        count("skipped")
    ));
    if let Some(kinds) = data.get("hours_by_kind").and_then(Value::as_object) {
        for (kind, hours) in kinds {
            line(format!("  - {kind}: {:.2} hours", hours.as_f64().unwrap_or_default()));
        }
    }
    card
}
