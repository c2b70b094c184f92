//! `tessera encode`: audio to tokens.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tessera_codec::bitstream::{ContainerReader, OutputFile};
use tessera_codec::files::{self, EncodeReport};
use tessera_codec::prior::Prior;

use super::entropy::EntropyArgs;
use super::interrupt::{Interrupt, Interruptible};
use super::model::ModelArgs;
use super::pipe::{self, Raw};
use super::progress::Progress;
use super::{Outcome, levels, report};

/// Encode an audio file: any sample rate, any number of channels up to 32.
#[derive(clap::Args)]
pub struct Args {
    /// The audio: WAV, FLAC, OGG, MP3 and others; `-` for a WAV from stdin.
    input: PathBuf,
    /// The file of tokens to write (.tsr); `-` for stdout.
    output: PathBuf,
    /// The audio has no header: 32-bit floats, little-endian, the channels' samples in turn.
    #[arg(long, value_name = "RATE,CHANNELS")]
    raw: Option<Raw>,
    #[command(flatten)]
    model: ModelArgs,
    /// Levels to store, from 1 (coarsest); all by default.
    #[arg(long, value_name = "N", conflicts_with = "kbps")]
    levels: Option<usize>,
    /// Store as many levels as fit this rate, all channels together.
    #[arg(long, value_name = "X", value_parser = positive)]
    kbps: Option<f64>,
    #[command(flatten)]
    entropy: EntropyArgs,
    /// Read back what was written and compare it with the tokens made, before the file gets its name.
    #[arg(long)]
    verify: bool,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if f64::is_finite(value) && value > 0.0 => Ok(value),
        _ => Err("give a number above 0".into()),
    }
}

pub fn run(args: Args) -> Result<Outcome> {
    let name = args.input.display().to_string();
    let source = pipe::open_audio(&args.input, args.raw)?;
    let info = source.info().clone();
    if args.verify && pipe::is_stdio(&args.output) {
        bail!("--verify reads the file back, and a pipe cannot be: name a file");
    }
    // Before there is a temporary file, which only an orderly end removes.
    let interrupt = Interrupt::listen()?;
    let output = pipe::Output::create(&args.output, args.force)?;
    let piped = pipe::is_stdio(&args.output);
    let model = args.model.load()?;
    let prior = args.model.prior();
    let prior = args.entropy.choose(&prior)?;
    let levels = match (args.levels, args.kbps) {
        (Some(asked), _) => levels::within(asked, model.config())?,
        (None, Some(kbps)) => levels::for_rate(kbps, info.channels, model.config())?,
        (None, None) => model.config().levels(),
    };
    let mut source = Interruptible { source, interrupt, path: name.clone() };
    let mut progress = Progress::of_audio(info.frames);
    let started = Instant::now();
    let rate = f64::from(info.sample_rate);
    let speed = |seconds: f64| seconds / started.elapsed().as_secs_f64().max(1e-9);
    let mut watch = |frames: u64| {
        let seconds = frames as f64 / rate;
        progress.update(frames, || {
            format!("{} encoded, {:.1}x", report::duration(seconds), speed(seconds))
        });
    };
    let (mut output, done) =
        files::encode_with(&model, prior, &mut source, levels, output, &mut watch)
            .with_context(|| format!("cannot encode {name}"))?;
    if let (true, pipe::Output::File(file)) = (args.verify, &mut output) {
        read_back(file, prior, &done)
            .with_context(|| format!("cannot verify {}; it was not kept", args.output.display()))?;
    }
    output.commit()?;
    drop(progress);
    for warning in &done.warnings {
        report::warn(&format!("{name}: {warning}"));
    }
    if args.json {
        report::print_json_beside(
            piped,
            &json!({
                "input": name,
                "output": args.output.display().to_string(),
                "model": model.config().name,
                "model_id": model.id_hex(),
                "prior_id": done.prior_id,
                "levels": done.levels,
                "sample_rate": done.sample_rate,
                "channels": done.channels,
                "samples": done.samples,
                "seconds": done.seconds,
                "bytes": done.bytes,
                "kbps": done.kbps,
                "verified": args.verify,
                "warnings": done.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }),
        )?;
    } else {
        report::print_beside(
            piped,
            &format!(
                "{}: {:.2} s in {}, {:.2} kbps, {} of {} levels, {:.1}x real time{}\n",
                args.output.display(),
                done.seconds,
                report::bytes(done.bytes),
                done.kbps,
                done.levels,
                model.config().levels(),
                speed(done.seconds),
                if args.verify { ", verified" } else { "" },
            ),
        )?;
    }
    Ok(Outcome::Done)
}

/// Checks that the file holds exactly the tokens that were made.
fn read_back(output: &mut OutputFile, prior: Option<&Prior>, made: &EncodeReport) -> Result<()> {
    let mut reader = ContainerReader::open(output.read_back()?)?;
    files::attach(&mut reader, prior)?;
    let found = reader.summary()?;
    if let Some(damage) = found.damages.first() {
        bail!("what was read back is damaged: {damage}; check the disk");
    }
    if found.samples != Some(made.samples) || found.token_digest != Some(made.token_digest) {
        bail!("what was read back is not what was written; check the disk");
    }
    Ok(())
}

/// What to say about an output that cannot be begun.
pub fn hint(force: bool) -> &'static str {
    match force {
        true => "the output cannot be written",
        false => "the output cannot be written (--force replaces a file that exists)",
    }
}
