//! `tessera encode`: audio to tokens.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use tessera_codec::audio::{self, AudioSource};
use tessera_codec::bitstream::{ContainerReader, OutputFile};
use tessera_codec::engine::Model;
use tessera_codec::files::{self, EncodeReport, Encoding, Ladder};
use tessera_codec::lines::Selection;
use tessera_codec::prior::Prior;

use super::batch::{self, Batch, Done, Job};
use super::effort::{EffortArgs, FileCoder};
use super::entropy::EntropyArgs;
use super::interrupt::{Interrupt, Interruptible};
use super::model::ModelArgs;
use super::pipe::{self, Raw};
use super::progress::Progress;
use super::{Outcome, kbps, levels, report, sound};

/// The share of a rate that a file has at least which was encoded to fill it, unless it has all levels. Between two numbers of levels there
/// is a third of the rate where there are few.
const NEAR: f64 = 0.6;

/// Encode an audio file: any sample rate, any number of channels up to 32. With --out, encode a folder.
///
/// In a folder, IN/a.wav becomes OUT/a.wav.tsr, several files at a time. Files that are there already are
/// kept, so that a run that was stopped can go on; audio that cannot be read is named and left out, and the
/// exit code is 1 then.
#[derive(clap::Args)]
pub struct Args {
    /// The audio: WAV, FLAC, OGG, MP3 and others; `-` for a WAV from stdin. With --out a folder with audio
    /// in any depth.
    input: PathBuf,
    /// The file of tokens to write (.tsr); `-` for stdout.
    #[arg(required_unless_present = "out", conflicts_with = "out")]
    output: Option<PathBuf>,
    /// Folder to write the tokens of a folder to.
    #[arg(long, value_name = "DIR", conflicts_with = "raw")]
    out: Option<PathBuf>,
    /// The audio has no header: 32-bit floats, little-endian, the channels' samples in turn.
    #[arg(long, value_name = "RATE,CHANNELS")]
    raw: Option<Raw>,
    #[command(flatten)]
    model: ModelArgs,
    /// Levels to store, from 1 (coarsest); all by default.
    #[arg(long, value_name = "N", conflicts_with = "kbps")]
    levels: Option<usize>,
    /// The best file of at most this rate, all channels together: it is encoded three to six times, with more or fewer levels
    /// and all else as does most for its bits. Of less than two seconds, as if it lasted two. From a pipe, as many levels as fit
    /// with their codes packed.
    #[arg(long, value_name = "X", value_parser = positive)]
    kbps: Option<f64>,
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Lines to draw beside the codes: pure tones, whistles and bells above 950 Hz, which codes alone make noise of. By
    /// default few where the codes have less than 4 kbps a channel, and many where they have more; none with a model as
    /// quick as tessera-live-48k.
    #[arg(long, value_enum, value_name = "HOW MANY")]
    lines: Option<LinesWanted>,
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

/// How many lines.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum LinesWanted {
    /// None: codes alone.
    None,
    /// Up to three at a time, that stand out most, and the partials of a clear pitch; trims: how much louder or
    /// softer bands are than the codes have them; and in files a choice of noise every 160 ms.
    Few,
    /// Up to eight at a time, and the partials of a pitch; more trims; and in files a choice of noise every 40 ms.
    Many,
}

impl LinesWanted {
    pub fn selection(self) -> Selection {
        match self {
            Self::None => Selection::NONE,
            Self::Few => Selection::FEW,
            Self::Many => Selection::MANY,
        }
    }
}

pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if f64::is_finite(value) && value > 0.0 => Ok(value),
        _ => Err("give a number above 0".into()),
    }
}

pub fn run(args: Args) -> Result<Outcome> {
    match (&args.output, &args.out) {
        (Some(output), None) => encode_file(&args, output),
        (None, Some(out)) => encode_folder(&args, out),
        _ => bail!("name one output: a file, or with --out a folder"),
    }
}

/// What all files are encoded with.
struct Encoder<'a> {
    args: &'a Args,
    model: &'a Model,
    coder: FileCoder,
    prior: Option<&'a Prior>,
    interrupt: &'a Interrupt,
    /// Files that may be encoded side by side, at least 1.
    files_at_once: usize,
}

/// Opens the audio of an input.
type Open<'a> = dyn Fn() -> Result<Box<dyn AudioSource>> + 'a;

/// A sound to be encoded.
struct Input<'a> {
    source: Box<dyn AudioSource>,
    name: &'a str,
    /// Opens it again; none of a pipe.
    again: Option<&'a Open<'a>>,
}

impl Encoder<'_> {
    fn levels(&self, channels: u16) -> Result<usize> {
        let config = self.model.config();
        match (self.args.levels, self.args.kbps) {
            (Some(asked), _) => levels::within(asked, config),
            (None, Some(kbps)) => levels::for_rate(kbps, channels, config),
            (None, None) => Ok(config.levels()),
        }
    }

    /// The lines that were asked for.
    fn lines(&self) -> Option<Selection> {
        self.args.lines.map(LinesWanted::selection)
    }

    fn encoding(&self, levels: usize) -> Encoding {
        Encoding { lines: self.lines(), ..Encoding::of_levels(levels) }
    }

    /// Encodes a sound; the output then has its name at `path`.
    fn encode(
        &self,
        input: Input,
        mut output: pipe::Output,
        path: &Path,
        watch: &mut dyn FnMut(u64),
    ) -> Result<EncodeReport> {
        let channels = input.source.info().channels;
        let done;
        (output, done) = match (self.args.kbps, input.again) {
            (Some(kbps), Some(again)) => {
                let ladder = Ladder::new(self.model.config(), self.lines());
                let (mut first, name) = (Some(input.source), input.name);
                let attempt = |encoding, held| {
                    let source = first.take().map_or_else(again, Ok)?;
                    self.tokens(source, name, encoding, held, watch)
                };
                let (mut held, done) = kbps::fill(kbps, channels, &ladder, name, attempt)?;
                std::io::copy(&mut held, &mut output)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                (output, done)
            }
            _ => {
                let encoding = self.encoding(self.levels(channels)?);
                self.tokens(input.source, input.name, encoding, output, watch)?
            }
        };
        if let (true, pipe::Output::File(file)) = (self.args.verify, &mut output) {
            read_back(file, self.prior, &done)
                .with_context(|| format!("cannot verify {}; it was not kept", path.display()))?;
        }
        output.commit()?;
        Ok(done)
    }

    /// Writes the tokens of a source with the name `name`.
    fn tokens<W: Write>(
        &self,
        source: Box<dyn AudioSource>,
        name: &str,
        encoding: Encoding,
        output: W,
        watch: &mut dyn FnMut(u64),
    ) -> Result<(W, EncodeReport)> {
        let interrupt = self.interrupt.clone();
        let mut source = Interruptible { source, interrupt, path: name.into() };
        self.coder
            .encode(
                self.model,
                self.prior,
                &mut source,
                encoding,
                output,
                self.files_at_once,
                self.interrupt,
                watch,
            )
            .with_context(|| format!("cannot encode {name}"))
    }

    /// Encodes a file of a folder, unless that is done.
    fn encode_job(&self, job: &Job) -> Result<Done> {
        if !self.args.force && job.output.exists() {
            return self.keep(job);
        }
        let open = || Ok(audio::open(&job.input)?);
        let source = open()?;
        let effort = self.coder.effort(source.info());
        job.make_folder()?;
        let output = pipe::Output::create(&job.output, self.args.force)?;
        let name = job.input.display().to_string();
        let input = Input { source, name: &name, again: Some(&open) };
        let done = self.encode(input, output, &job.output, &mut |_| {})?;
        Ok(Done {
            seconds: done.seconds,
            size: done.bytes,
            warnings: done.warnings.iter().map(ToString::to_string).collect(),
            details: self.details(&done, effort),
            ..Done::default()
        })
    }

    /// An output that is there: complete, and as it would be written now.
    fn keep(&self, job: &Job) -> Result<Done> {
        let reader = ContainerReader::open_path(&job.output).with_context(|| job.is_there())?;
        let header = reader.header();
        // A short file may have been smaller without a prior.
        let other_prior = header.prior_id.is_some_and(|id| self.prior.map(Prior::id) != Some(id));
        let samples = reader.samples().with_context(|| format!("cut short: {}", job.is_there()))?;
        let seconds = samples as f64 / f64::from(header.source_rate);
        let size = std::fs::metadata(&job.output).with_context(|| job.is_there())?.len();
        let levels = header.layout.levels();
        // With any rate there are lines of the same kinds.
        let lines = self.encoding(levels).selection(self.model.config()).kept();
        let as_asked = match self.args.kbps {
            // Or as near to it as there is anything.
            Some(kbps) => {
                let share = kbps::rate(size, seconds) / kbps;
                share <= 1.0 && (share >= NEAR || levels == self.model.levels())
            }
            None => levels == self.levels(header.channels)?,
        };
        if header.model_id != self.model.id() || !as_asked || header.lines != lines || other_prior {
            bail!("of another model, rate, number of levels, prior or lines: {}", job.is_there());
        }
        Ok(Done { kept: true, seconds, size, ..Done::default() })
    }

    /// What machines are told of an output, beside its name, length and size.
    fn details(&self, done: &EncodeReport, effort: u8) -> Map<String, Value> {
        let fields = [
            ("effort", json!(effort)),
            ("prior_id", json!(done.prior_id)),
            ("levels", json!(done.levels)),
            ("sample_rate", json!(done.sample_rate)),
            ("channels", json!(done.channels)),
            ("samples", json!(done.samples)),
            ("kbps", json!(done.kbps)),
            ("verified", json!(self.args.verify)),
        ];
        fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }
}

fn encode_file(args: &Args, path: &Path) -> Result<Outcome> {
    let name = args.input.display().to_string();
    if args.input.is_dir() {
        bail!("{name} is a folder: name the folder for its tokens with --out");
    }
    let open = || pipe::open_audio(&args.input, args.raw);
    let source = open()?;
    let info = source.info().clone();
    if args.verify && pipe::is_stdio(path) {
        bail!("--verify reads the file back, and a pipe cannot be: name a file");
    }
    // Before there is a temporary file, which only an orderly end removes.
    let interrupt = Interrupt::listen()?;
    let output = pipe::Output::create(path, args.force)?;
    let piped = pipe::is_stdio(path);
    let (model, prior) = (args.model.load()?, args.model.prior());
    let prior = args.entropy.choose(&prior)?;
    let coder = args.effort.coder(&args.model)?;
    let encoder =
        Encoder { args, model: &model, coder, prior, interrupt: &interrupt, files_at_once: 1 };
    if let Some(note) = encoder.coder.note(&info) {
        report::note(&format!("{name}: {note}"));
    }
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
    let again: Option<&Open> = if pipe::is_stdio(&args.input) { None } else { Some(&open) };
    let done = encoder.encode(Input { source, name: &name, again }, output, path, &mut watch)?;
    drop(progress);
    for warning in &done.warnings {
        report::warn(&format!("{name}: {warning}"));
    }
    if args.json {
        let mut value = json!({
            "input": name,
            "output": path.display().to_string(),
            "model": model.config().name,
            "model_id": model.id_hex(),
            "seconds": done.seconds,
            "bytes": done.bytes,
            "warnings": done.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        if let Value::Object(fields) = &mut value {
            fields.extend(encoder.details(&done, encoder.coder.effort(&info)));
        }
        report::print_json_beside(piped, &value)?;
    } else {
        report::print_beside(
            piped,
            &format!(
                "{}: {:.2} s in {}, {:.2} kbps, {} of {} levels, {:.1}x real time{}\n",
                path.display(),
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

fn encode_folder(args: &Args, out: &Path) -> Result<Outcome> {
    let (found, others) = batch::inputs(&args.input, sound::is_audio)?;
    if found.is_empty() {
        bail!("{}", sound::no_audio(&args.input));
    }
    // The whole name stays: beside a.wav there may be an a.flac.
    let job = |(name, input)| Job { input, output: out.join(format!("{name}.tsr")) };
    let jobs: Vec<Job> = found.into_iter().map(job).collect();
    batch::check_outputs(&jobs)?;
    let interrupt = Interrupt::listen()?;
    let (model, prior) = (args.model.load()?, args.model.prior());
    let prior = args.entropy.choose(&prior)?;
    let coder = args.effort.coder(&args.model)?;
    let encoder = Encoder {
        args,
        model: &model,
        coder,
        prior,
        interrupt: &interrupt,
        files_at_once: jobs.len(),
    };
    // What no file can be encoded with is said once.
    if args.kbps.is_none() {
        encoder.levels(1)?;
    }
    let batch = Batch {
        interrupt: &interrupt,
        verb: "encoded",
        unit: "bytes",
        size: report::bytes,
        skipped: others.iter().map(|(name, _)| format!("{name} is no audio by its name")).collect(),
    };
    let head = [("model", json!(model.config().name)), ("model_id", json!(model.id_hex()))];
    let head =
        args.json.then(|| head.map(|(name, value)| (name.into(), value)).into_iter().collect());
    batch.run(&jobs, out, head, |job| encoder.encode_job(job))
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
