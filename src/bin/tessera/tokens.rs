//! `tessera tokens`: tokens as data for other tools, and back to audio.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tessera_codec::audio::{self, AudioError, WavSink};
use tessera_codec::bitstream::{ContainerReader, OutputFile, Overwrite};
use tessera_codec::engine::Model;
use tessera_codec::files;
use tessera_codec::token_files::{Format, TokenFile};

use super::interrupt::{Interrupt, Interruptible};
use super::model::{ModelArgs, ModelPrior};
use super::progress::Progress;
use super::{Outcome, decode, encode, levels, report, sound};

/// Files worked on at the same time.
const THREADS: usize = 2;

/// Turn audio into tokens for language models and other tools, and back.
///
/// Writes .npz, .safetensors or .jsonl; docs/tokens.md describes them. In a folder, files that are there
/// already are kept, so that a run that was stopped can go on; audio that cannot be read is named and left
/// out, and the exit code is 1 then.
#[derive(clap::Args)]
pub struct Args {
    /// Audio, .tsr files, or folders with them in any depth.
    #[arg(value_name = "IN", required_unless_present = "decode", conflicts_with = "decode")]
    inputs: Vec<PathBuf>,
    /// Turn this file of tokens back into audio.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "levels"])]
    decode: Option<PathBuf>,
    /// A file for a single input, a folder for more; with --decode the WAV to write.
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// How tokens are written; by default as the name of the output says, and .npz in a folder.
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Levels to write, from 1 (coarsest); all by default.
    #[arg(long, value_name = "N")]
    levels: Option<usize>,
    /// How samples are written with --decode.
    #[arg(long, value_enum, default_value_t = decode::Format::S16, requires = "decode")]
    samples: decode::Format,
    #[command(flatten)]
    model: ModelArgs,
    /// Replace outputs that exist.
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// Formats of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// NumPy's archive.
    Npz,
    /// A safetensors file.
    Safetensors,
    /// A line of JSON for each channel.
    Jsonl,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Npz => Self::Npz,
            FormatArg::Safetensors => Self::Safetensors,
            FormatArg::Jsonl => Self::Jsonl,
        }
    }
}

pub fn run(args: Args) -> Result<Outcome> {
    match &args.decode {
        Some(input) => to_audio(&args, input),
        None => to_tokens(&args),
    }
}

/// A file to be turned into tokens.
struct Job {
    input: PathBuf,
    output: PathBuf,
}

/// What became of a job.
struct Done {
    /// Whether there was nothing left to do.
    kept: bool,
    seconds: f64,
    codes: u64,
}

fn is_tsr(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsr"))
}

/// What is to be done, and whether the output is a folder.
fn plan(args: &Args) -> Result<(Vec<Job>, Format, bool)> {
    let asked = args.format.map(Format::from);
    let named = Format::of_path(&args.out);
    if let ([input], Some(named)) = (&args.inputs[..], named)
        && !input.is_dir()
        && !args.out.is_dir()
    {
        if asked.is_some_and(|asked| asked != named) {
            bail!(
                "--format {} contradicts {}",
                asked.unwrap_or(named).extension(),
                args.out.display()
            );
        }
        let job = Job { input: input.clone(), output: args.out.clone() };
        return Ok((vec![job], named, false));
    }
    let format = asked.unwrap_or(Format::Npz);
    let mut jobs = Vec::new();
    for input in &args.inputs {
        let found = match input.is_dir() {
            true => sound::list_where(input, |path| sound::is_audio(path) || is_tsr(path))?,
            false => {
                let name = input
                    .file_name()
                    .with_context(|| format!("{} is not the name of a file", input.display()))?;
                vec![(name.to_string_lossy().into_owned(), input.clone())]
            }
        };
        for (name, input) in found {
            // The whole name stays: beside a.wav there may be an a.flac.
            let output = args.out.join(format!("{name}.{}", format.extension()));
            jobs.push(Job { input, output });
        }
    }
    let mut taken: HashMap<&Path, &Path> = HashMap::new();
    for job in &jobs {
        if let Some(other) = taken.insert(&job.output, &job.input) {
            bail!(
                "{} and {} would both become {}; give them an --out of their own",
                other.display(),
                job.input.display(),
                job.output.display()
            );
        }
    }
    Ok((jobs, format, true))
}

/// What all jobs share.
struct Work<'a> {
    args: &'a Args,
    format: Format,
    folder: bool,
    /// None where no audio has to be encoded.
    model: Option<Model>,
    prior: ModelPrior,
    interrupt: Interrupt,
}

fn to_tokens(args: &Args) -> Result<Outcome> {
    let (jobs, format, folder) = plan(args)?;
    let model = match jobs.iter().all(|job| is_tsr(&job.input)) {
        true => None,
        false => Some(args.model.load()?),
    };
    if let (Some(asked), Some(model)) = (args.levels, &model) {
        levels::within(asked, model.config())?;
    }
    let (prior, interrupt) = (args.model.prior(), Interrupt::listen()?);
    let work = Work { args, format, folder, model, prior, interrupt };
    let started = Instant::now();
    let results = work.all(&jobs);
    if work.interrupt.asked() {
        bail!("stopped before the end; the same command goes on from here");
    }
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let (mut seconds, mut codes, mut kept) = (0.0, 0, 0);
    for (job, result) in jobs.iter().zip(&results) {
        match result {
            Ok(done) => {
                kept += usize::from(done.kept);
                if !done.kept {
                    seconds += done.seconds;
                    codes += done.codes;
                }
            }
            Err(_) => failed.push(job.input.display().to_string()),
        }
        rows.push(row(job, result));
    }
    let written = jobs.len() - failed.len() - kept;
    if args.json {
        report::print_json(&json!({
            "format": format.extension(),
            "model_id": work.model.as_ref().map(Model::id_hex),
            "written": written,
            "kept": kept,
            "failed": failed.len(),
            "files": rows,
        }))?;
    } else {
        report::print(&format!(
            "{}: {written} files written, {kept} kept, {} left out; {} of audio, {codes} codes, {:.1}x real \
             time\n",
            args.out.display(),
            failed.len(),
            report::duration(seconds),
            seconds / started.elapsed().as_secs_f64().max(1e-9),
        ))?;
    }
    if !failed.is_empty() {
        bail!("{} of {} files were left out: {}", failed.len(), jobs.len(), failed.join(", "));
    }
    Ok(Outcome::Done)
}

fn row(job: &Job, result: &Result<Done>) -> Value {
    let input = job.input.display().to_string();
    match result {
        Ok(done) => json!({
            "input": input,
            "output": job.output.display().to_string(),
            "result": if done.kept { "kept" } else { "written" },
            "seconds": done.seconds,
            "codes": done.codes,
        }),
        Err(error) => json!({ "input": input, "result": "failed", "error": format!("{error:#}") }),
    }
}

impl Work<'_> {
    /// Does all jobs on a few threads; the results are in the jobs' order.
    fn all(&self, jobs: &[Job]) -> Vec<Result<Done>> {
        let template = "[{bar:40}] {pos}/{len}  {msg}  {eta} left";
        let progress = Mutex::new((Progress::new(jobs.len() as u64, template), 0usize, 0.0));
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        let worker = || {
            let mut results = Vec::new();
            while let Some((at, job)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                jobs.get(at).map(|job| (at, job))
            } {
                if self.interrupt.asked() {
                    break;
                }
                let result = self.one(job).with_context(|| job.input.display().to_string());
                let mut shared = progress.lock().unwrap_or_else(PoisonError::into_inner);
                let (progress, count, seconds) = &mut *shared;
                *count += 1;
                match &result {
                    Ok(done) if !done.kept => *seconds += done.seconds,
                    Err(error) if !self.interrupt.asked() => {
                        progress.warn(&format!("left out: {error:#}"));
                    }
                    _ => {}
                }
                let speed = *seconds / started.elapsed().as_secs_f64().max(1e-9);
                progress.update(*count as u64, || {
                    let length = report::duration(*seconds);
                    format!("{count} of {} files, {length} encoded, {speed:.1}x", jobs.len())
                });
                results.push((at, result));
            }
            results
        };
        let mut results = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (1..THREADS.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
            let mut results = worker();
            for thread in threads {
                // A thread that panicked took its results along; the panic goes on here.
                match thread.join() {
                    Ok(more) => results.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            results
        });
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn one(&self, job: &Job) -> Result<Done> {
        if self.folder {
            if !self.args.force && job.output.exists() {
                return self.keep(job);
            }
            if let Some(folder) = job.output.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            }
        }
        let overwrite = if self.args.force { Overwrite::Replace } else { Overwrite::Refuse };
        // Begun first: whether it can be written is known before an hour is encoded.
        let mut output =
            OutputFile::create(&job.output, overwrite).context(encode::hint(self.args.force))?;
        let tokens = self.tokens(&job.input)?;
        let bytes = tokens.to_bytes(self.format)?;
        std::io::Write::write_all(&mut output, &bytes)
            .with_context(|| format!("cannot write {}", job.output.display()))?;
        output.commit()?;
        Ok(Done::of(&tokens, false))
    }

    /// An output that is there: complete, and as it would be written now.
    fn keep(&self, job: &Job) -> Result<Done> {
        let there = || format!("{} is there already; --force replaces it", job.output.display());
        let tokens = TokenFile::open(&job.output).with_context(there)?;
        let (id, levels) = if is_tsr(&job.input) {
            let header = ContainerReader::open_path(&job.input)?.header().clone();
            (header.model_id, self.args.levels.unwrap_or(header.layout.levels()))
        } else {
            let model = self.model.as_ref().context("no model was loaded")?;
            (model.id(), self.args.levels.unwrap_or(model.levels()))
        };
        if tokens.header().model_id != id || tokens.header().layout.levels() != levels {
            bail!("of another model or number of levels: {}", there());
        }
        Ok(Done::of(&tokens, true))
    }

    /// The tokens of audio or of a .tsr.
    fn tokens(&self, input: &Path) -> Result<TokenFile> {
        if is_tsr(input) {
            let mut reader = ContainerReader::open_path(input)?;
            self.prior.attach(&mut reader)?;
            let levels = self.args.levels.unwrap_or(reader.header().layout.levels());
            return Ok(TokenFile::from_tsr(&mut reader, levels)?);
        }
        let model = self.model.as_ref().context("no model was loaded")?;
        let levels = self.args.levels.unwrap_or(model.levels());
        let name = input.display().to_string();
        let source = audio::open(input)?;
        let mut source =
            Interruptible { source, interrupt: self.interrupt.clone(), path: name.clone() };
        let (tsr, done) = files::encode(model, &mut source, levels, Vec::new(), &mut |_| {})?;
        for warning in &done.warnings {
            report::warn(&format!("{name}: {warning}"));
        }
        Ok(TokenFile::from_tsr(&mut ContainerReader::open(Cursor::new(tsr))?, levels)?)
    }
}

impl Done {
    fn of(tokens: &TokenFile, kept: bool) -> Self {
        let header = tokens.header();
        let seconds = header.samples.unwrap_or(0) as f64 / f64::from(header.source_rate);
        Self { kept, seconds, codes: tokens.codes() }
    }
}

fn to_audio(args: &Args, input: &Path) -> Result<Outcome> {
    let name = input.display().to_string();
    let fail = || format!("cannot decode {name}");
    let tokens = TokenFile::open(input).with_context(fail)?;
    let header = tokens.header();
    let model = args.model.load()?;
    let (rate, channels) = (header.source_rate, header.channels);
    let output = args.out.display().to_string();
    let interrupt = Interrupt::listen()?;
    let mut sink = WavSink::create(&args.out, rate, channels, args.samples.into(), args.force)
        .context(encode::hint(args.force))?;
    let mut write = |planar: &[Vec<f32>]| {
        interrupt.check().map_err(|source| AudioError::Write { path: output.clone(), source })?;
        sink.write(planar)
    };
    let mut progress = Progress::of_audio(header.samples);
    let mut watch = |frames: u64| {
        let seconds = frames as f64 / f64::from(rate);
        progress.update(frames, || format!("{} decoded", report::duration(seconds)));
    };
    let mut reader = tokens.to_tsr().with_context(fail)?;
    let done = files::decode(&model, &mut reader, &mut write, &mut watch).with_context(fail)?;
    sink.finish()?;
    drop(progress);
    let (levels, seconds) = (header.layout.levels(), done.samples as f64 / f64::from(rate));
    if args.json {
        report::print_json(&json!({
            "input": name,
            "output": output,
            "model_id": model.id_hex(),
            "levels": levels,
            "sample_rate": rate,
            "channels": channels,
            "samples": done.samples,
            "seconds": seconds,
        }))?;
    } else {
        report::print(&format!(
            "{output}: {seconds:.2} s, {rate} Hz, {channels} channels, {levels} levels\n"
        ))?;
    }
    Ok(Outcome::Done)
}
