//! `tessera prior train`: a prior from audio, or from tokens.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tessera_codec::bitstream::write_atomically;
use tessera_codec::engine::Model;
use tessera_codec::prior::train::{
    Baselines, PriorTrainConfig, PriorTrainer, TokenReport, TokenSet, baselines, load_progress,
};
use tessera_codec::prior::{PRIOR_CONFIG_FILE, PriorConfig};
use tessera_codec::train::Budget;
use tessera_codec::train::checkpoint::{CHECKPOINT, CONFIG};
use tessera_codec::train::log::RunLog;

use super::super::interrupt::{self, Interrupt};
use super::super::model::ModelArgs;
use super::super::progress::Progress;
use super::super::train::{DeviceName, minutes};
use super::super::{Outcome, report};
use super::monitor::Monitor;
use super::table::{TABLE, table};

/// Time between checkpoints, each after a validation.
const SAVE_EVERY: Duration = Duration::from_secs(120);
/// Unreadable files that are named; all are counted.
const MAX_NAMED: usize = 20;

/// Train the prior of a model on the tokens of a folder, or go on with a run.
///
/// Audio is encoded once; the tokens are kept in the run's folder, beside checkpoints, metrics.csv, event
/// files for TensorBoard, curves, and prior.md with what the prior saves. Files are kept for validation
/// as in `tessera train`. Ctrl-C saves and stops; a second one stops at once.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("budget").required(true)))]
pub struct Args {
    /// Folder with audio, or with files of tokens as `tessera tokens` writes them, or one such file;
    /// first-level subfolders are kinds, which are sampled evenly.
    #[arg(value_name = "DIR|TOKENS")]
    data: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Folder of the run.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Training configuration (JSON); what it does not name keeps its default.
    #[arg(long, value_name = "FILE.json")]
    config: Option<PathBuf>,
    /// Gains at which each file of audio is coded, for more tokens of it; 0,-6,-12 unless the
    /// configuration names others. Validation is with the first.
    #[arg(long, value_name = "DB,..", value_delimiter = ',', allow_hyphen_values = true)]
    gains: Option<Vec<f64>>,
    /// Train until so many steps are done, over all sessions.
    #[arg(long, value_name = "N", group = "budget")]
    steps: Option<u64>,
    /// Train for so many minutes, over all sessions; making the tokens does not count.
    #[arg(long, value_name = "M", group = "budget", value_parser = minutes)]
    max_minutes: Option<f64>,
    /// Go on from the run's checkpoint.
    #[arg(long)]
    resume: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Seed of everything random; 0 by default.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

pub fn run(args: Args) -> Result<Outcome> {
    let budget = match (args.steps, args.max_minutes) {
        (Some(steps), _) => Budget::Steps(steps),
        (None, Some(minutes)) => Budget::Time(Duration::from_secs_f64(minutes * 60.0)),
        (None, None) => bail!("one of --steps and --max-minutes is needed"),
    };
    let device = args.device.open()?;
    let model = args.model.load()?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let checkpoint = args.out.join(CHECKPOINT);
    let (config, seed) = match args.resume {
        true => continued(&args, &checkpoint)?,
        false => begun(&args, &checkpoint)?,
    };
    let prior = config.network.prior(model.id_hex(), model.config());
    prior.check().context("a prior cannot be made for this model with this configuration")?;
    if args.resume {
        same_prior(&args.out, &prior)?;
    }
    let interrupt = Interrupt::listen()?;
    let tokens = Arc::new(open(&args.data, &args.out, &model, &config, &interrupt)?);
    let mut trainer = if args.resume {
        PriorTrainer::resume(&config, &prior, budget, tokens.clone(), &checkpoint, &device)?
    } else {
        let codebooks = args.model.load_codec()?.codebooks();
        PriorTrainer::new(&config, &prior, budget, tokens.clone(), &codebooks, seed, &device)?
    };
    report::note(&format!(
        "{} parameters; a checkpoint takes about {}",
        trainer.parameters(),
        report::bytes(20 * trainer.parameters() as u64)
    ));
    let log = if args.resume {
        RunLog::open(&args.out, Some(trainer.steps()))?
    } else {
        let text =
            serde_json::to_string_pretty(&config).context("cannot write the configuration")?;
        write_atomically(&args.out.join(CONFIG), text.as_bytes())?;
        write_atomically(&args.out.join(PRIOR_CONFIG_FILE), prior.to_json()?.as_bytes())?;
        let log = RunLog::open(&args.out, None)?;
        // From here on the run can be resumed, and a disk that is too small shows now.
        trainer.save(&checkpoint)?;
        log
    };
    let validation = tokens.validation(prior.steps);
    let baselines = (!validation.is_empty()).then(|| {
        let levels_of_codes = prior.levels_of_codes();
        baselines(tokens.training(), &validation, &levels_of_codes, prior.codebook_size)
    });
    let mut session = Session {
        monitor: Monitor::new(log, prior.strides.len(), &trainer)?,
        baselines,
        folder: args.out,
        checkpoint,
        prior,
    };
    session.train(&mut trainer, &interrupt)
}

/// The tokens, and what is to be said of them.
fn open(
    data: &Path,
    run: &Path,
    model: &Model,
    config: &PriorTrainConfig,
    stop: &Interrupt,
) -> Result<TokenSet> {
    let bar: Mutex<Option<Progress>> = Mutex::new(None);
    let watch = |done: usize, files: usize| {
        if stop.asked() {
            // There is nothing to save yet.
            std::process::exit(interrupt::EXIT_CODE);
        }
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bar.get_or_insert_with(|| {
            Progress::new(files as u64, "[{bar:40}] {percent:>3}%  {msg}  {eta} left")
        });
        bar.update(done as u64, || format!("tokens of {done} of {files} files"));
    };
    let (tokens, found) = TokenSet::open(data, run, model, config, &watch)?;
    drop(bar);
    tell(data, &found);
    Ok(tokens)
}

fn tell(data: &Path, found: &TokenReport) {
    for (path, reason) in found.skipped.iter().take(MAX_NAMED) {
        let path = data.join(path).display().to_string();
        // Most reasons name the file themselves.
        match reason.contains(&path) {
            true => report::warn(&format!("not used: {reason}")),
            false => report::warn(&format!("not used: {path}: {reason}")),
        }
    }
    if found.skipped.len() > MAX_NAMED {
        let more = found.skipped.len() - MAX_NAMED;
        report::warn(&format!("not used: {more} more files, {} in all", found.skipped.len()));
    }
    let kinds: Vec<String> = found
        .seconds_by_kind
        .iter()
        .map(|(kind, seconds)| format!("{kind} {:.2} h", seconds / 3600.0))
        .collect();
    report::note(&format!(
        "{} files ({} of them for validation, {} unreadable): {}; {} steps of tokens{}",
        found.files,
        found.validation_files,
        found.skipped.len(),
        kinds.join(", "),
        found.steps,
        if found.reused { ", from before" } else { "" }
    ));
    if found.validation_files == 0 {
        report::warn("a single file is all for training: there is no validation");
    }
}

/// Configuration and seed of a new run, in a folder without one.
fn begun(args: &Args, checkpoint: &Path) -> Result<(PriorTrainConfig, u64)> {
    if checkpoint.exists() {
        bail!(
            "{} holds a run already ({CHECKPOINT}): go on with it by --resume, or name another folder",
            args.out.display()
        );
    }
    let mut config = match &args.config {
        Some(path) => read_config(path)?,
        None => PriorTrainConfig::default(),
    };
    if let Some(gains) = &args.gains {
        config.gains_db = gains.clone();
        config.check().context("--gains")?;
    }
    Ok((config, args.seed.unwrap_or_default()))
}

/// Configuration and seed of the run to go on with, which what is asked for must not contradict.
fn continued(args: &Args, checkpoint: &Path) -> Result<(PriorTrainConfig, u64)> {
    let run = args.out.display();
    if !checkpoint.exists() {
        bail!("--resume: there is no {CHECKPOINT} in {run}; without --resume a run begins there");
    }
    let config = read_config(&args.out.join(CONFIG))?;
    let mut asked = match &args.config {
        Some(path) => PriorTrainConfig { gains_db: config.gains_db.clone(), ..read_config(path)? },
        None => config.clone(),
    };
    if let Some(gains) = &args.gains {
        asked.gains_db = gains.clone();
    }
    if asked != config {
        bail!(
            "--config or --gains differ from {CONFIG} of the run {run}, which goes on as it began; leave \
             them out or begin another run"
        );
    }
    let progress = load_progress(checkpoint)?;
    if let Some(seed) = args.seed.filter(|seed| *seed != progress.seed) {
        bail!("--seed {seed}: the run {run} has the seed {}; leave --seed out", progress.seed);
    }
    Ok((config, progress.seed))
}

/// Refuses to go on with another model than the run's.
fn same_prior(run: &Path, prior: &PriorConfig) -> Result<()> {
    let began = super::export::read_prior(run)?;
    if began != *prior {
        bail!(
            "the run {} is for the model {}, not for {}; name that model's folder with --model",
            run.display(),
            began.codec,
            prior.codec
        );
    }
    Ok(())
}

fn read_config(path: &Path) -> Result<PriorTrainConfig> {
    let name = || format!("cannot use the configuration {}", path.display());
    let text = std::fs::read_to_string(path).with_context(name)?;
    PriorTrainConfig::from_json(&text).with_context(name)
}

/// A run while it trains.
struct Session {
    monitor: Monitor,
    /// `None` where there is nothing to validate with.
    baselines: Option<Baselines>,
    folder: PathBuf,
    checkpoint: PathBuf,
    prior: PriorConfig,
}

impl Session {
    fn train(&mut self, trainer: &mut PriorTrainer, interrupt: &Interrupt) -> Result<Outcome> {
        let mut saved = Instant::now();
        while let Some(step) = trainer.step()? {
            let row_ended = self.monitor.step(&step)?;
            if interrupt.asked() {
                self.save(trainer)?;
                self.monitor.note(&format!("stopped at step {}; go on with --resume", step.step));
                return Ok(Outcome::Done);
            }
            // At the end of a row, so that a resumed run's rows are those of one that went through.
            if saved.elapsed() >= SAVE_EVERY && row_ended {
                self.validate(trainer)?;
                self.save(trainer)?;
                saved = Instant::now();
            }
        }
        self.monitor.finish_row()?;
        self.validate(trainer)?;
        self.save(trainer)?;
        self.monitor.note(&format!(
            "done: {} steps in {}; `tessera prior export {} MODEL_DIR` puts the prior beside its model",
            trainer.steps(),
            report::duration(trainer.elapsed()),
            self.folder.display()
        ));
        Ok(Outcome::Done)
    }

    fn save(&mut self, trainer: &PriorTrainer) -> Result<()> {
        // The log first: a run that resumes then finds all rows up to its checkpoint.
        self.monitor.flush()?;
        trainer.save(&self.checkpoint)?;
        if let (Some(best), Some(baselines)) = (trainer.best(), &self.baselines) {
            let text = table(&self.prior, best, baselines, trainer.parameters());
            write_atomically(&self.folder.join(TABLE), text.as_bytes())?;
        }
        Ok(())
    }

    fn validate(&mut self, trainer: &mut PriorTrainer) -> Result<()> {
        if let (Some(found), Some(baselines)) = (trainer.validate()?, &self.baselines) {
            self.monitor.validation(trainer.steps(), &found, baselines)?;
        }
        Ok(())
    }
}
