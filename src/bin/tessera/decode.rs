//! `tessera decode`: tokens back to audio.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use tessera_codec::audio::{AudioError, WavFormat, WavSink, WavStream};
use tessera_codec::bitstream::{ContainerReader, Damage, DamageReason};
use tessera_codec::files;

use super::interrupt::Interrupt;
use super::model::ModelArgs;
use super::pipe;
use super::progress::Progress;
use super::{Outcome, encode, report};

/// Decode a .tsr file to a WAV of the source's rate, channels and length.
///
/// Damaged parts are made up and named; the exit code is 3 then.
#[derive(clap::Args)]
pub struct Args {
    /// The file of tokens (.tsr); `-` for stdin.
    input: PathBuf,
    /// The WAV to write; `-` for stdout.
    output: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Use only the first levels; all that are stored by default.
    #[arg(long, value_name = "N")]
    levels: Option<usize>,
    /// How samples are written.
    #[arg(long, value_enum, default_value_t = Format::S16)]
    format: Format,
    /// Write samples without a header: 32-bit floats, little-endian, the channels' samples in turn.
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// Formats of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// 16-bit integers.
    S16,
    /// 24-bit integers.
    S24,
    /// 32-bit floats.
    F32,
}

impl From<Format> for WavFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::S16 => Self::Pcm16,
            Format::S24 => Self::Pcm24,
            Format::F32 => Self::Float32,
        }
    }
}

pub fn run(args: Args) -> Result<Outcome> {
    let name = args.input.display().to_string();
    let mut reader = pipe::open_tokens(&args.input)
        .and_then(|source| Ok(ContainerReader::open(source)?))
        .with_context(|| format!("cannot decode {name}"))?;
    if let Some(levels) = args.levels {
        reader.limit_levels(levels).with_context(|| format!("cannot decode {name}"))?;
    }
    let model = args.model.load()?;
    let prior = args.model.prior();
    let prior = prior.to_decode(reader.header())?;
    let (rate, channels) = (reader.header().source_rate, reader.header().channels);
    // Before there is a temporary file, which only an orderly end removes.
    let interrupt = Interrupt::listen()?;
    let mut sink = Sound::create(&args, rate, channels, reader.samples())?;
    let piped = pipe::is_stdio(&args.output);
    let output = args.output.display().to_string();
    let mut write = |planar: &[Vec<f32>]| {
        interrupt.check().map_err(|source| AudioError::Write { path: output.clone(), source })?;
        sink.write(planar)
    };
    // A cut file of unknown length just ends; a lost trailer may leave a few samples too many.
    let length_known = reader.samples().is_some();
    let mut progress = Progress::of_audio(reader.samples());
    let started = Instant::now();
    let speed = |seconds: f64| seconds / started.elapsed().as_secs_f64().max(1e-9);
    let mut watch = |frames: u64| {
        let seconds = frames as f64 / f64::from(rate);
        progress.update(frames, || {
            format!("{} decoded, {:.1}x", report::duration(seconds), speed(seconds))
        });
    };
    let done = files::decode_with(&model, prior, &mut reader, &mut write, &mut watch)
        .with_context(|| format!("cannot decode {name}"))?;
    sink.finish()?;
    drop(progress);
    let seconds = done.samples as f64 / f64::from(rate);
    for damage in &done.damages {
        report::warn(&format!("{name}: {damage}"));
    }
    let harmed = !length_known || done.damages.iter().any(harms);
    if harmed {
        report::warn(&format!(
            "{name} is damaged: {:.2} of {seconds:.2} s of {output} were made up",
            done.concealed_seconds
        ));
    }
    let levels = args.levels.unwrap_or_else(|| reader.header().layout.levels());
    if args.json {
        report::print_json_beside(
            piped,
            &json!({
                "input": name,
                "output": output,
                "model": model.config().name,
                "model_id": model.id_hex(),
                "levels": levels,
                "sample_rate": rate,
                "channels": channels,
                "samples": done.samples,
                "seconds": seconds,
                "concealed_seconds": done.concealed_seconds,
                "damages": done.damages.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }),
        )?;
    } else {
        report::print_beside(
            piped,
            &format!(
                "{output}: {seconds:.2} s, {rate} Hz, {channels} channels, {levels} levels, \
             {:.1}x real time\n",
                speed(seconds),
            ),
        )?;
    }
    Ok(if harmed { Outcome::Damaged } else { Outcome::Done })
}

/// Where the sound goes.
enum Sound {
    File(WavSink),
    Stream(WavStream<pipe::Output>),
}

impl Sound {
    /// Begins the output; `frames` is its length where that is certain.
    fn create(args: &Args, rate: u32, channels: u16, frames: Option<u64>) -> Result<Self> {
        let (path, format) = (&args.output, args.format.into());
        Ok(if args.raw {
            Self::Stream(WavStream::raw(pipe::Output::create(path, args.force)?, channels)?)
        } else if pipe::is_stdio(path) {
            let stdout = pipe::Output::create(path, args.force)?;
            Self::Stream(WavStream::new(stdout, rate, channels, format, frames)?)
        } else {
            let sink = WavSink::create(path, rate, channels, format, args.force);
            Self::File(sink.context(encode::hint(args.force))?)
        })
    }

    fn write(&mut self, planar: &[Vec<f32>]) -> Result<(), AudioError> {
        match self {
            Self::File(sink) => sink.write(planar),
            Self::Stream(stream) => stream.write(planar),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::File(sink) => Ok(sink.finish()?),
            Self::Stream(stream) => stream.finish()?.commit(),
        }
    }
}

/// Whether audio was lost by a damage, not only bytes that carried none.
fn harms(damage: &Damage) -> bool {
    use DamageReason::{Garbage, Index, OutOfOrder, TrailingBytes};
    let beside =
        matches!(damage.reason, Garbage { .. } | Index | OutOfOrder { .. } | TrailingBytes { .. });
    damage.chunks > 0 || !beside
}
