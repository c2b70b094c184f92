//! `tessera train`: a model from a folder of audio.

mod data;
mod monitor;
mod validation;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use tessera_codec::bitstream::write_atomically;
use tessera_codec::codec::load_model;
use tessera_codec::train::checkpoint::{self, CHECKPOINT, CONFIG, Progress};
use tessera_codec::train::log::RunLog;
use tessera_codec::train::{Budget, TrainConfig, Trainer};

use super::interrupt::Interrupt;
use super::{Outcome, report};
use monitor::Monitor;

pub use data::DATA;

/// Time between checkpoints, each after a validation.
const SAVE_EVERY: Duration = Duration::from_secs(180);

/// Train a model on a folder of audio files, or go on with a run.
///
/// The run's folder gets checkpoints, metrics.csv, event files for TensorBoard, curves and spectrograms.
/// The audio is decoded once into a cache there, of 2 bytes for each sample at the model's rate (0.35 GB
/// for an hour of mono). Ctrl-C saves and stops; a second one stops at once.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("budget").required(true)))]
pub struct Args {
    /// Folder with audio; its first-level subfolders are kinds, which are sampled evenly.
    dir: PathBuf,
    /// Folder of the run.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Training configuration (JSON); what it does not name keeps its default.
    #[arg(long, value_name = "FILE.json")]
    config: Option<PathBuf>,
    /// Train until so many steps are done, over all sessions.
    #[arg(long, value_name = "N", group = "budget")]
    steps: Option<u64>,
    /// Train for so many minutes, over all sessions.
    #[arg(long, value_name = "M", group = "budget", value_parser = minutes)]
    max_minutes: Option<f64>,
    /// Go on from the run's checkpoint.
    #[arg(long)]
    resume: bool,
    /// Begin with the weights of this model's folder, codes in use from the first step: to train it
    /// further or fit it to other sounds. A configuration that names a network has to name the model's.
    #[arg(long, value_name = "MODEL_DIR", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Seed of everything random; 0 by default.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceName {
    Cpu,
    Cuda,
    Metal,
}

pub fn minutes(text: &str) -> Result<f64, String> {
    // A thousand years are enough, and fit a duration.
    match text.parse() {
        Ok(value) if (f64::MIN_POSITIVE..=5e8).contains(&value) => Ok(value),
        _ => Err("give a number above 0".into()),
    }
}

impl DeviceName {
    pub fn open(self) -> Result<Device> {
        let (name, built) = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Cuda => ("cuda", cfg!(feature = "cuda")),
            Self::Metal => ("metal", cfg!(feature = "metal")),
        };
        if !built {
            bail!(
                "--device {name}: this program was built without it; build it with \
                 `cargo build --release --features {name}`"
            );
        }
        let device = match self {
            Self::Metal => Device::new_metal(0),
            _ => Device::new_cuda(0),
        };
        device.with_context(|| format!("--device {name}: there is no such device to be used"))
    }
}

pub fn run(args: Args) -> Result<Outcome> {
    let budget = match (args.steps, args.max_minutes) {
        (Some(steps), _) => Budget::Steps(steps),
        (None, Some(minutes)) => Budget::Time(Duration::from_secs_f64(minutes * 60.0)),
        (None, None) => bail!("one of --steps and --max-minutes is needed"),
    };
    let device = args.device.open()?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let checkpoint = args.out.join(CHECKPOINT);
    let (mut config, seed) = match args.resume {
        true => continued(&args, &checkpoint)?,
        false => begun(&args, &checkpoint)?,
    };
    let model = match &args.init {
        Some(folder) => {
            let configured = args.config.as_deref().map(names_network).transpose()?;
            Some(initial(folder, &mut config, configured.unwrap_or(false))?)
        }
        None => None,
    };
    let interrupt = Interrupt::listen()?;
    let dataset = Arc::new(data::open(&args.dir, &args.out, &config, &interrupt)?);
    let mut trainer = if args.resume {
        Trainer::resume(&config, budget, dataset.clone(), &checkpoint, &device)?
    } else if let Some(weights) = &model {
        Trainer::fine_tune(&config, budget, dataset.clone(), seed, weights, &device)?
    } else {
        Trainer::new(&config, budget, dataset.clone(), seed, &device)?
    };
    let (own, others) = (trainer.parameters(), trainer.discriminator_parameters());
    let discriminators =
        others.map(|n| format!(", and {n} of the discriminators")).unwrap_or_default();
    report::note(&format!(
        "{own} parameters{discriminators}; a checkpoint takes about {}",
        report::bytes(16 * (own + others.unwrap_or_default()) as u64)
    ));
    let log = if args.resume {
        RunLog::open(&args.out, Some(trainer.steps()))?
    } else {
        let text =
            serde_json::to_string_pretty(&config).context("cannot write the configuration")?;
        write_atomically(&args.out.join(CONFIG), text.as_bytes())?;
        let log = RunLog::open(&args.out, None)?;
        // From here on the run can be resumed, and a disk that is too small shows now.
        trainer.save(&checkpoint)?;
        log
    };
    let mut session = Session {
        monitor: Monitor::new(log, &config, &trainer)?,
        validates: dataset.has_validation(),
        folder: args.out,
        checkpoint,
        config,
    };
    session.train(&mut trainer, &interrupt)
}

/// The weights of the model to begin with, whose network the configuration takes over or has to have.
fn initial(
    folder: &Path,
    config: &mut TrainConfig,
    configured: bool,
) -> Result<BTreeMap<String, Tensor>> {
    let (codec, weights) = load_model(folder)?;
    if configured && config.codec != codec {
        bail!(
            "the configuration describes another network than the model in {}; leave `codec` out, or \
             as that model's config.json has it",
            folder.display()
        );
    }
    config.codec = codec;
    Ok(weights)
}

/// Whether a configuration says anything of the network.
fn names_network(path: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot use the configuration {}", path.display()))?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("cannot use the configuration {}", path.display()))?;
    Ok(value.get("codec").is_some())
}

/// Configuration and seed of a new run, in a folder without one.
fn begun(args: &Args, checkpoint: &Path) -> Result<(TrainConfig, u64)> {
    if checkpoint.exists() {
        bail!(
            "{} holds a run already ({CHECKPOINT}): go on with it by --resume, or name another folder",
            args.out.display()
        );
    }
    let config = match &args.config {
        Some(path) => read_config(path)?,
        None => TrainConfig::default(),
    };
    Ok((config, args.seed.unwrap_or_default()))
}

/// Configuration and seed of the run to go on with, which what is asked for must not contradict.
fn continued(args: &Args, checkpoint: &Path) -> Result<(TrainConfig, u64)> {
    let run = args.out.display();
    if !checkpoint.exists() {
        bail!("--resume: there is no {CHECKPOINT} in {run}; without --resume a run begins there");
    }
    let config = read_config(&args.out.join(CONFIG))?;
    if let Some(path) = &args.config
        && read_config(path)? != config
    {
        bail!(
            "--config {}: it differs from {CONFIG} of the run {run}, which goes on as it began; leave \
             --config out or begin another run",
            path.display()
        );
    }
    let (progress, _) = checkpoint::load::<Progress>(checkpoint)?;
    if let Some(seed) = args.seed.filter(|seed| *seed != progress.seed) {
        bail!("--seed {seed}: the run {run} has the seed {}; leave --seed out", progress.seed);
    }
    Ok((config, progress.seed))
}

fn read_config(path: &Path) -> Result<TrainConfig> {
    let name = || format!("cannot use the configuration {}", path.display());
    let text = std::fs::read_to_string(path).with_context(name)?;
    TrainConfig::from_json(&text).with_context(name)
}

/// A run while it trains.
struct Session {
    monitor: Monitor,
    validates: bool,
    folder: PathBuf,
    checkpoint: PathBuf,
    config: TrainConfig,
}

impl Session {
    fn train(&mut self, trainer: &mut Trainer, interrupt: &Interrupt) -> Result<Outcome> {
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
            "done: {} steps in {}; `tessera export {} MODEL_DIR` makes a model of it",
            trainer.steps(),
            report::duration(trainer.elapsed()),
            self.folder.display()
        ));
        Ok(Outcome::Done)
    }

    fn save(&mut self, trainer: &Trainer) -> Result<()> {
        // The log first: a run that resumes then finds all rows up to its checkpoint.
        self.monitor.flush()?;
        Ok(trainer.save(&self.checkpoint)?)
    }

    fn validate(&mut self, trainer: &Trainer) -> Result<()> {
        if !self.validates {
            return Ok(());
        }
        let result = trainer.validate(validation::CROPS)?;
        validation::record(&result, trainer.steps(), &self.config, &self.folder, &mut self.monitor)
    }
}
