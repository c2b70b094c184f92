//! `tessera tokens`: tokens as data for other tools, and back to audio.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tessera_codec::audio::{self, AudioError, WavSink};
use tessera_codec::bitstream::{ContainerReader, OutputFile, Overwrite};
use tessera_codec::engine::Model;
use tessera_codec::files;
use tessera_codec::token_files::{Format, TokenFile};

use super::batch::{self, Batch, Done, Job};
use super::interrupt::{Interrupt, Interruptible};
use super::model::{ModelArgs, TokenModels};
use super::progress::Progress;
use super::sound::is_tsr;
use super::{Outcome, decode, encode, levels, report, sound};

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
    batch::check_outputs(&jobs)?;
    Ok((jobs, format, true))
}

/// What all jobs share.
struct Work<'a> {
    args: &'a Args,
    format: Format,
    folder: bool,
    /// None where no audio has to be encoded.
    model: Option<&'a Model>,
    /// Of the .tsr files.
    models: TokenModels,
    interrupt: &'a Interrupt,
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
    let interrupt = Interrupt::listen()?;
    let models = args.model.for_tokens();
    let work = Work { args, format, folder, model: model.as_ref(), models, interrupt: &interrupt };
    let batch = Batch {
        interrupt: &interrupt,
        verb: "encoded",
        unit: "codes",
        size: |codes| format!("{codes} codes"),
        skipped: Vec::new(),
    };
    let id = model.as_ref().map(Model::id_hex);
    let head = [("format", json!(format.extension())), ("model_id", json!(id))];
    let head = head.map(|(name, value)| (name.into(), value)).into_iter().collect();
    batch.run(&jobs, &args.out, args.json.then_some(head), |job| work.one(job))
}

impl Work<'_> {
    fn one(&self, job: &Job) -> Result<Done> {
        if self.folder {
            if !self.args.force && job.output.exists() {
                return self.keep(job);
            }
            job.make_folder()?;
        }
        let overwrite = if self.args.force { Overwrite::Replace } else { Overwrite::Refuse };
        // Begun first: whether it can be written is known before an hour is encoded.
        let mut output =
            OutputFile::create(&job.output, overwrite).context(encode::hint(self.args.force))?;
        let (tokens, warnings) = self.tokens(&job.input)?;
        let bytes = tokens.to_bytes(self.format)?;
        std::io::Write::write_all(&mut output, &bytes)
            .with_context(|| format!("cannot write {}", job.output.display()))?;
        output.commit()?;
        Ok(Done { warnings, ..done(&tokens, false) })
    }

    /// An output that is there: complete, and as it would be written now.
    fn keep(&self, job: &Job) -> Result<Done> {
        let tokens = TokenFile::open(&job.output).with_context(|| job.is_there())?;
        let (id, levels) = if is_tsr(&job.input) {
            let header = ContainerReader::open_path(&job.input)?.header().clone();
            (header.model_id, self.args.levels.unwrap_or(header.layout.levels()))
        } else {
            let model = self.model.context("no model was loaded")?;
            (model.id(), self.args.levels.unwrap_or(model.levels()))
        };
        if tokens.header().model_id != id || tokens.header().layout.levels() != levels {
            bail!("of another model or number of levels: {}", job.is_there());
        }
        Ok(done(&tokens, true))
    }

    /// The tokens of audio or of a .tsr, and what is odd about it.
    fn tokens(&self, input: &Path) -> Result<(TokenFile, Vec<String>)> {
        if is_tsr(input) {
            let mut reader = ContainerReader::open_path(input)?;
            // Only what the prior has coded needs it, and so a model.
            if reader.header().prior_id.is_some() {
                self.models.with_id(&reader.header().model_id)?.prior.attach(&mut reader)?;
            }
            let levels = self.args.levels.unwrap_or(reader.header().layout.levels());
            return Ok((TokenFile::from_tsr(&mut reader, levels)?, Vec::new()));
        }
        let model = self.model.context("no model was loaded")?;
        let levels = self.args.levels.unwrap_or(model.levels());
        let name = input.display().to_string();
        let source = audio::open(input)?;
        let mut source =
            Interruptible { source, interrupt: self.interrupt.clone(), path: name.clone() };
        let (tsr, done) = files::encode(model, &mut source, levels, Vec::new(), &mut |_| {})?;
        let warnings = done.warnings.iter().map(ToString::to_string).collect();
        let mut reader = ContainerReader::open(Cursor::new(tsr))?;
        Ok((TokenFile::from_tsr(&mut reader, levels)?, warnings))
    }
}

fn done(tokens: &TokenFile, kept: bool) -> Done {
    let header = tokens.header();
    let seconds = header.samples.unwrap_or(0) as f64 / f64::from(header.source_rate);
    Done { kept, seconds, size: tokens.codes(), ..Done::default() }
}

fn to_audio(args: &Args, input: &Path) -> Result<Outcome> {
    let name = input.display().to_string();
    let fail = || format!("cannot decode {name}");
    let tokens = TokenFile::open(input).with_context(fail)?;
    let header = tokens.header();
    let models = args.model.for_tokens();
    let model = &models.with_id(&header.model_id)?.model;
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
    let done = files::decode(model, &mut reader, &mut write, &mut watch).with_context(fail)?;
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
