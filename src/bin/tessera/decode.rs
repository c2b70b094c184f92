//! `tessera decode`: tokens back to audio.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use tessera_codec::audio::{self, AudioError, SampleFormat, WavFormat, WavSink, WavStream};
use tessera_codec::bitstream::{ContainerReader, Damage, DamageReason};
use tessera_codec::files;

use super::batch::{self, Batch, Done, Job};
use super::interrupt::Interrupt;
use super::model::{ModelArgs, TokenModel, TokenModels};
use super::pipe;
use super::progress::Progress;
use super::{Outcome, encode, report, sound};

/// Decode a .tsr file to a WAV of the source's rate, channels and length. With --out, decode a folder.
///
/// Damaged parts are made up and named; the exit code is 3 then. In a folder, IN/a.wav.tsr and IN/a.tsr
/// become OUT/a.wav, several files at a time. Files that are there already are kept, so that a run that was
/// stopped can go on; what cannot be decoded is named and left out, and the exit code is 1 then.
#[derive(clap::Args)]
pub struct Args {
    /// The file of tokens (.tsr); `-` for stdin. With --out a folder with such files in any depth.
    input: PathBuf,
    /// The WAV to write; `-` for stdout.
    #[arg(required_unless_present = "out", conflicts_with = "out")]
    output: Option<PathBuf>,
    /// Folder to write the audio of a folder to.
    #[arg(long, value_name = "DIR", conflicts_with = "raw")]
    out: Option<PathBuf>,
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

impl Format {
    /// As it is told of a file that is read.
    fn as_read(self) -> SampleFormat {
        match self {
            Self::S16 => SampleFormat::Int(16),
            Self::S24 => SampleFormat::Int(24),
            Self::F32 => SampleFormat::Float(32),
        }
    }
}

pub fn run(args: Args) -> Result<Outcome> {
    match (&args.output, &args.out) {
        (Some(output), None) => decode_file(&args, output),
        (None, Some(out)) => decode_folder(&args, out),
        _ => bail!("name one output: a file, or with --out a folder"),
    }
}

/// What all files are decoded with.
struct Decoder<'a> {
    args: &'a Args,
    models: TokenModels,
    interrupt: &'a Interrupt,
}

/// What came of a file.
struct Decoded {
    /// Name and id of the model.
    model: [String; 2],
    rate: u32,
    channels: u16,
    levels: usize,
    samples: u64,
    seconds: f64,
    concealed_seconds: f64,
    damages: Vec<Damage>,
    /// Whether a part of the sound is lost, or may be.
    harmed: bool,
}

impl Decoder<'_> {
    /// Decodes `reader`, the file with the name `name`, to `path`.
    fn decode<R: Read + Seek>(
        &self,
        reader: &mut ContainerReader<R>,
        name: &str,
        path: &Path,
        watch: &mut dyn FnMut(u64),
    ) -> Result<Decoded> {
        let TokenModel { model, prior } = self.models.with_id(&reader.header().model_id)?;
        let prior = prior.to_decode(reader.header())?;
        let (rate, channels) = (reader.header().source_rate, reader.header().channels);
        let mut sink = Sound::create(self.args, path, rate, channels, reader.samples())?;
        let mut write = |planar: &[Vec<f32>]| {
            let stop = |source| AudioError::Write { path: path.display().to_string(), source };
            self.interrupt.check().map_err(stop)?;
            sink.write(planar)
        };
        // A cut file of unknown length just ends; a lost trailer may leave a few samples too many.
        let length_known = reader.samples().is_some();
        let done = files::decode_with(model, prior, reader, &mut write, watch)
            .with_context(|| format!("cannot decode {name}"))?;
        sink.finish()?;
        Ok(Decoded {
            model: [model.config().name.clone(), model.id_hex()],
            rate,
            channels,
            levels: self.args.levels.unwrap_or_else(|| reader.header().layout.levels()),
            samples: done.samples,
            seconds: done.samples as f64 / f64::from(rate),
            concealed_seconds: done.concealed_seconds,
            harmed: !length_known || done.damages.iter().any(harms),
            damages: done.damages,
        })
    }

    /// Decodes a file of a folder, unless that is done.
    fn decode_job(&self, job: &Job) -> Result<Done> {
        let mut reader = ContainerReader::open_path(&job.input)?;
        if let Some(levels) = self.args.levels {
            reader.limit_levels(levels)?;
        }
        if !self.args.force && job.output.exists() {
            return self.keep(job, &reader);
        }
        job.make_folder()?;
        let name = job.input.display().to_string();
        let done = self.decode(&mut reader, &name, &job.output, &mut |_| {})?;
        Ok(Done {
            seconds: done.seconds,
            size: std::fs::metadata(&job.output).map_or(0, |data| data.len()),
            damaged: done.harmed,
            warnings: done.warnings(&job.output),
            details: done.details(),
            ..Done::default()
        })
    }

    /// An output that is there: of the shape that it would be written in now.
    fn keep<R: Read + Seek>(&self, job: &Job, reader: &ContainerReader<R>) -> Result<Done> {
        let found = audio::open(&job.output).with_context(|| job.is_there())?.info().clone();
        let header = reader.header();
        let shape = (header.source_rate, header.channels, self.args.format.as_read());
        let length = reader.samples().or(found.frames);
        if (found.sample_rate, found.channels, found.format) != shape || found.frames != length {
            bail!("of another rate, length or format, or number of channels: {}", job.is_there());
        }
        Ok(Done {
            kept: true,
            seconds: length.unwrap_or(0) as f64 / f64::from(found.sample_rate),
            size: std::fs::metadata(&job.output).with_context(|| job.is_there())?.len(),
            ..Done::default()
        })
    }
}

impl Decoded {
    /// What is to be said of the damage.
    fn warnings(&self, path: &Path) -> Vec<String> {
        let mut warnings: Vec<String> = self.damages.iter().map(ToString::to_string).collect();
        warnings.extend(self.made_up(path).map(|text| format!("damaged: {text}")));
        warnings
    }

    /// How much of `path` is lost, if anything is.
    fn made_up(&self, path: &Path) -> Option<String> {
        self.harmed.then(|| {
            let Self { concealed_seconds, seconds, .. } = self;
            format!("{concealed_seconds:.2} of {seconds:.2} s of {} were made up", path.display())
        })
    }

    /// What machines are told, beside names and length.
    fn details(&self) -> Map<String, Value> {
        let damages: Vec<String> = self.damages.iter().map(ToString::to_string).collect();
        let [model, id] = &self.model;
        let fields = [
            ("model", json!(model)),
            ("model_id", json!(id)),
            ("levels", json!(self.levels)),
            ("sample_rate", json!(self.rate)),
            ("channels", json!(self.channels)),
            ("samples", json!(self.samples)),
            ("concealed_seconds", json!(self.concealed_seconds)),
            ("damages", json!(damages)),
        ];
        fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }
}

fn decode_file(args: &Args, path: &Path) -> Result<Outcome> {
    let name = args.input.display().to_string();
    if args.input.is_dir() {
        bail!("{name} is a folder: name the folder for its audio with --out");
    }
    let fail = || format!("cannot decode {name}");
    let mut reader = pipe::open_tokens(&args.input)
        .and_then(|source| Ok(ContainerReader::open(source)?))
        .with_context(fail)?;
    if let Some(levels) = args.levels {
        reader.limit_levels(levels).with_context(fail)?;
    }
    // Before there is a temporary file, which only an orderly end removes.
    let interrupt = Interrupt::listen()?;
    let decoder = Decoder { args, models: args.model.for_tokens(), interrupt: &interrupt };
    let rate = f64::from(reader.header().source_rate);
    let mut progress = Progress::of_audio(reader.samples());
    let started = Instant::now();
    let speed = |seconds: f64| seconds / started.elapsed().as_secs_f64().max(1e-9);
    let mut watch = |frames: u64| {
        let seconds = frames as f64 / rate;
        progress.update(frames, || {
            format!("{} decoded, {:.1}x", report::duration(seconds), speed(seconds))
        });
    };
    let done = decoder.decode(&mut reader, &name, path, &mut watch)?;
    drop(progress);
    for damage in &done.damages {
        report::warn(&format!("{name}: {damage}"));
    }
    if let Some(text) = done.made_up(path) {
        report::warn(&format!("{name} is damaged: {text}"));
    }
    let (piped, output) = (pipe::is_stdio(path), path.display());
    if args.json {
        let mut value = json!({
            "input": name,
            "output": output.to_string(),
            "seconds": done.seconds,
        });
        if let Value::Object(fields) = &mut value {
            fields.extend(done.details());
        }
        report::print_json_beside(piped, &value)?;
    } else {
        let Decoded { rate, channels, levels, seconds, .. } = done;
        report::print_beside(
            piped,
            &format!(
                "{output}: {seconds:.2} s, {rate} Hz, {channels} channels, {levels} levels, \
                 {:.1}x real time\n",
                speed(seconds),
            ),
        )?;
    }
    Ok(if done.harmed { Outcome::Damaged } else { Outcome::Done })
}

fn decode_folder(args: &Args, out: &Path) -> Result<Outcome> {
    let (found, others) = batch::inputs(&args.input, sound::is_tsr)?;
    if found.is_empty() {
        bail!("no .tsr files in {}", args.input.display());
    }
    if let (Ok(from), Ok(to)) = (args.input.canonicalize(), out.canonicalize())
        && from == to
    {
        // The originals may stand there, under the very names that decoded files get.
        bail!("--out is the folder that the tokens are in: name another one");
    }
    let job = |(name, input): (String, PathBuf)| {
        let bare = &name[..name.len() - ".tsr".len()];
        let wav = if sound::is_wav(bare) { bare.into() } else { format!("{bare}.wav") };
        Job { input, output: out.join(wav) }
    };
    let jobs: Vec<Job> = found.into_iter().map(job).collect();
    batch::check_outputs(&jobs)?;
    let interrupt = Interrupt::listen()?;
    let decoder = Decoder { args, models: args.model.for_tokens(), interrupt: &interrupt };
    let batch = Batch {
        interrupt: &interrupt,
        verb: "decoded",
        unit: "bytes",
        size: report::bytes,
        skipped: others.iter().map(|(name, _)| format!("{name} is no .tsr by its name")).collect(),
    };
    batch.run(&jobs, out, args.json.then_some(Map::new()), |job| decoder.decode_job(job))
}

/// Where the sound goes.
enum Sound {
    File(WavSink),
    Stream(WavStream<pipe::Output>),
}

impl Sound {
    /// Begins the output at `path`; `frames` is its length where that is certain.
    fn create(
        args: &Args,
        path: &Path,
        rate: u32,
        channels: u16,
        frames: Option<u64>,
    ) -> Result<Self> {
        let format = args.format.into();
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
