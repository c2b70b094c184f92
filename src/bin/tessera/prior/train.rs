//! `tessera prior train`: a prior from audio, or from tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use tessera_codec::bitstream::write_atomically;
use tessera_codec::engine::Model;
use tessera_codec::prior::network::load_prior;
use tessera_codec::prior::train::{
    Baselines, NetworkShape, PriorTrainConfig, PriorTrainer, TokenReport, TokenSet, baselines,
    load_progress,
};
use tessera_codec::prior::{PRIOR_CONFIG_FILE, PriorConfig};
use tessera_codec::train::checkpoint::CONFIG;
use tessera_codec::train::log::RunLog;

use super::super::interrupt::{self, Interrupt};
use super::super::model::ModelArgs;
use super::super::progress::Progress;
use super::super::train::options::RunArgs;
use super::super::train::session::{self, Run, Stepped};
use super::super::{Outcome, report};
use super::monitor::Monitor;
use super::table::{TABLE, table};

/// Train the prior of a model on the tokens of a folder, or go on with a run.
///
/// Audio is encoded once; the tokens are kept in the run's folder, beside checkpoints, metrics.csv, event
/// files for TensorBoard, curves, and prior.md with what the prior saves. Files are kept for validation
/// as in `tessera train`. Ctrl-C saves and stops; a second one stops at once.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with audio, or with files of tokens as `tessera tokens` writes them, or one such file;
    /// first-level subfolders are kinds, which are sampled evenly.
    #[arg(value_name = "DIR|TOKENS")]
    data: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: RunArgs,
    /// Gains at which each file of audio is coded, for more tokens of it; 0,-6,-12 unless the
    /// configuration names others. Validation is with the first.
    #[arg(long, value_name = "DB,..", value_delimiter = ',', allow_hyphen_values = true)]
    gains: Option<Vec<f64>>,
    /// Begin with the prior in this model's folder, of the same levels and codes or the first of these
    /// levels: for a model that was trained further, or for other sounds. A configuration that names a
    /// network has to name its.
    #[arg(long, value_name = "MODEL_DIR", conflicts_with = "resume")]
    init: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<Outcome> {
    let budget = args.run.budget()?;
    let device = args.run.open_device()?;
    let model = args.model.load()?;
    let checkpoint = args.run.make_folder()?;
    let (mut config, seed) = match args.run.resume {
        true => continued(&args, &checkpoint)?,
        false => (begun(&args)?, args.run.new_seed()),
    };
    let weights = match &args.init {
        Some(folder) => Some(initial(folder, &mut config, args.run.names("network")?, &model)?),
        None => None,
    };
    let prior = config.network.prior(model.id_hex(), model.config());
    prior.check().context("a prior cannot be made for this model with this configuration")?;
    let folder = args.run.out;
    if args.run.resume {
        same_prior(&folder, &prior)?;
    }
    let interrupt = Interrupt::listen()?;
    let tokens = Arc::new(open(&args.data, &folder, &model, &config, &interrupt)?);
    let trainer = if args.run.resume {
        PriorTrainer::resume(&config, &prior, budget, tokens.clone(), &checkpoint, &device)?
    } else {
        let codebooks = args.model.load_codec()?.codebooks();
        let new =
            PriorTrainer::new(&config, &prior, budget, tokens.clone(), &codebooks, seed, &device)?;
        match &weights {
            Some(weights) => new.start_from(weights)?,
            None => new,
        }
    };
    report::note(&format!(
        "{} parameters; a checkpoint takes about {}",
        trainer.parameters(),
        report::bytes(20 * trainer.parameters() as u64)
    ));
    let log = if args.run.resume {
        RunLog::open(&folder, Some(trainer.steps()))?
    } else {
        let log = session::begin_log(&folder, &config, &[(PRIOR_CONFIG_FILE, prior.to_json()?)])?;
        // From here on the run can be resumed, and a disk that is too small shows now.
        trainer.save(&checkpoint)?;
        log
    };
    let validation = tokens.validation(prior.steps);
    let baselines = (!validation.is_empty()).then(|| {
        let levels_of_codes = prior.levels_of_codes();
        baselines(tokens.training(), &validation, &levels_of_codes, prior.codebook_size)
    });
    let monitor = Monitor::new(log, prior.strides.len(), &trainer)?;
    let next = format!(
        "`tessera prior export {} MODEL_DIR` puts the prior beside its model",
        folder.display()
    );
    let mut run = PriorRun { trainer, monitor, baselines, folder, checkpoint, prior };
    session::train(&mut run, &interrupt, &next)
}

/// The weights of the prior to begin with, whose network the configuration takes over or has to have.
fn initial(
    folder: &Path,
    config: &mut PriorTrainConfig,
    configured: bool,
    model: &Model,
) -> Result<BTreeMap<String, Tensor>> {
    let (found, weights) = load_prior(folder)?;
    let shape = NetworkShape::from(&found);
    if configured && config.network != shape {
        bail!(
            "the configuration describes another network than the prior in {}; leave `network` out, or \
             as that prior's {PRIOR_CONFIG_FILE} has it",
            folder.display()
        );
    }
    config.network = shape;
    let wanted = config.network.prior(found.codec.clone(), model.config());
    let first = wanted.strides.starts_with(&found.strides);
    if !first || found.codebook_size != wanted.codebook_size {
        bail!(
            "the prior in {} is for tokens of strides {:?} and {} codes a level, the model's have {:?} \
             and {}",
            folder.display(),
            found.strides,
            found.codebook_size,
            wanted.strides,
            wanted.codebook_size
        );
    }
    Ok(weights)
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
    session::warn_of_files(data, "not used", &found.skipped);
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

/// The configuration of a new run, in a folder without one.
fn begun(args: &Args) -> Result<PriorTrainConfig> {
    let mut config = args.run.begun(PriorTrainConfig::from_json)?;
    if let Some(gains) = &args.gains {
        config.gains_db = gains.clone();
        config.check().context("--gains")?;
    }
    Ok(config)
}

/// Configuration and seed of the run to go on with, which what is asked for must not contradict.
fn continued(args: &Args, checkpoint: &Path) -> Result<(PriorTrainConfig, u64)> {
    let (config, asked) = args.run.continued(PriorTrainConfig::from_json)?;
    // The run's gains may have been named beside its configuration.
    let gains_db = args.gains.as_ref().unwrap_or(&config.gains_db).clone();
    let asked = PriorTrainConfig { gains_db, ..asked.unwrap_or_else(|| config.clone()) };
    if asked != config {
        bail!(
            "--config or --gains differ from {CONFIG} of the run {}, which goes on as it began; leave \
             them out or begin another run",
            args.run.out.display()
        );
    }
    let progress = load_progress(checkpoint)?;
    args.run.check_seed(progress.seed)?;
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

/// A prior's run while it trains.
struct PriorRun {
    trainer: PriorTrainer,
    monitor: Monitor,
    /// `None` where there is nothing to validate with.
    baselines: Option<Baselines>,
    folder: PathBuf,
    checkpoint: PathBuf,
    prior: PriorConfig,
}

impl Run for PriorRun {
    const SAVE_EVERY: Duration = Duration::from_secs(120);

    fn step(&mut self) -> Result<Option<Stepped>> {
        let Some(step) = self.trainer.step()? else { return Ok(None) };
        let row_ended = self.monitor.step(&step)?;
        Ok(Some(Stepped { step: step.step, row_ended }))
    }

    fn finish_row(&mut self) -> Result<()> {
        self.monitor.finish_row()
    }

    fn validate(&mut self) -> Result<()> {
        if let (Some(found), Some(baselines)) = (self.trainer.validate()?, &self.baselines) {
            self.monitor.validation(self.trainer.steps(), &found, baselines)?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        // The log first: a run that resumes then finds all rows up to its checkpoint.
        self.monitor.flush()?;
        self.trainer.save(&self.checkpoint)?;
        if let (Some(best), Some(baselines)) = (self.trainer.best(), &self.baselines) {
            let text = table(&self.prior, best, baselines, self.trainer.parameters());
            write_atomically(&self.folder.join(TABLE), text.as_bytes())?;
        }
        Ok(())
    }

    fn steps(&self) -> u64 {
        self.trainer.steps()
    }

    fn elapsed(&self) -> f64 {
        self.trainer.elapsed()
    }

    fn note(&self, text: &str) {
        self.monitor.note(text);
    }
}
