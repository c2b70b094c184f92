//! `tessera train`: a model from a folder of audio.

mod data;
mod monitor;
pub mod options;
pub mod session;
mod validation;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use candle_core::Tensor;
use tessera_codec::codec::load_model;
use tessera_codec::train::checkpoint::{self, CONFIG, Progress};
use tessera_codec::train::log::RunLog;
use tessera_codec::train::{TrainConfig, Trainer, lacks_loops};

use super::interrupt::Interrupt;
use super::{Outcome, report};
use monitor::Monitor;
use options::RunArgs;
use session::{Run, Stepped};

pub use data::DATA;

/// Train a model on a folder of audio files, or go on with a run.
///
/// The run's folder gets checkpoints, metrics.csv, event files for TensorBoard, curves and spectrograms.
/// The audio is decoded once into a cache there, of 2 bytes for each sample at the model's rate (0.35 GB
/// for an hour of mono). Ctrl-C saves and stops; a second one stops at once.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with audio; its first-level subfolders are kinds, which are sampled evenly.
    dir: PathBuf,
    #[command(flatten)]
    run: RunArgs,
    /// Begin with the weights of this model's folder, codes in use from the first step: to train it
    /// further or fit it to other sounds. A configuration that names a network has to name the model's,
    /// but for levels that follow its own in vq.strides and for more blocks: those are added.
    #[arg(long, value_name = "MODEL_DIR", conflicts_with = "resume")]
    init: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<Outcome> {
    let budget = args.run.budget()?;
    let device = args.run.open_device()?;
    let checkpoint = args.run.make_folder()?;
    let (mut config, seed) = match args.run.resume {
        true => continued(&args.run, &checkpoint)?,
        false => (args.run.begun(TrainConfig::from_json)?, args.run.new_seed()),
    };
    let model = match &args.init {
        Some(folder) => {
            let configured = args.run.names("codec")?;
            Some(initial(folder, &mut config, configured)?)
        }
        None => None,
    };
    let interrupt = Interrupt::listen()?;
    let dataset = Arc::new(data::open(&args.dir, &args.run.out, &config, &interrupt)?);
    if !args.run.resume && lacks_loops(&config.codec, model.as_ref()) {
        let loops = config.codec.noise_loops;
        report::note(&format!("finding {loops} loops in the sounds: some minutes"));
    }
    let trainer = if args.run.resume {
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
    let log = if args.run.resume {
        RunLog::open(&args.run.out, Some(trainer.steps()))?
    } else {
        let log = session::begin_log(&args.run.out, &config, &[])?;
        // From here on the run can be resumed, and a disk that is too small shows now.
        trainer.save(&checkpoint)?;
        log
    };
    let next = format!("`tessera export {} MODEL_DIR` makes a model of it", args.run.out.display());
    let mut run = ModelRun {
        monitor: Monitor::new(log, &config, &trainer)?,
        validates: dataset.has_validation(),
        folder: args.run.out,
        checkpoint,
        config,
        trainer,
    };
    session::train(&mut run, &interrupt, &next)
}

/// The weights of the model to begin with, whose network the configuration takes over or has to have.
fn initial(
    folder: &Path,
    config: &mut TrainConfig,
    configured: bool,
) -> Result<BTreeMap<String, Tensor>> {
    let (mut codec, weights) = load_model(folder)?;
    if configured {
        if config.codec.vq.strides.starts_with(&codec.vq.strides) {
            codec.vq.strides.clone_from(&config.codec.vq.strides);
        }
        if codec.led_top == 0 {
            codec.led_top = config.codec.led_top;
        }
        if codec.noise_frames == 0 {
            codec.noise_frames = config.codec.noise_frames;
        }
        if codec.noise_loops == 0 {
            codec.noise_loops = config.codec.noise_loops;
        }
        codec.encoder_blocks = codec.encoder_blocks.max(config.codec.encoder_blocks);
        codec.decoder_blocks = codec.decoder_blocks.max(config.codec.decoder_blocks);
        if config.codec != codec {
            bail!(
                "the configuration describes another network than the model in {}; leave `codec` out, or \
                 as that model's config.json has it, where only levels may be added at the end of vq.strides, \
                 blocks to encoder and decoder, and led_top, noise_frames and noise_loops where there are none",
                folder.display()
            );
        }
    }
    config.codec = codec;
    Ok(weights)
}

/// Configuration and seed of the run to go on with, which what is asked for must not contradict.
fn continued(args: &RunArgs, checkpoint: &Path) -> Result<(TrainConfig, u64)> {
    let (config, asked) = args.continued(TrainConfig::from_json)?;
    if let (Some(path), Some(asked)) = (&args.config, asked)
        && asked != config
    {
        bail!(
            "--config {}: it differs from {CONFIG} of the run {}, which goes on as it began; leave \
             --config out or begin another run",
            path.display(),
            args.out.display()
        );
    }
    let (progress, _) = checkpoint::load::<Progress>(checkpoint)?;
    args.check_seed(progress.seed)?;
    Ok((config, progress.seed))
}

/// A model's run while it trains.
struct ModelRun {
    trainer: Trainer,
    monitor: Monitor,
    validates: bool,
    folder: PathBuf,
    checkpoint: PathBuf,
    config: TrainConfig,
}

impl Run for ModelRun {
    const SAVE_EVERY: Duration = Duration::from_secs(180);

    fn step(&mut self) -> Result<Option<Stepped>> {
        let Some(step) = self.trainer.step()? else { return Ok(None) };
        let row_ended = self.monitor.step(&step)?;
        Ok(Some(Stepped { step: step.step, row_ended }))
    }

    fn finish_row(&mut self) -> Result<()> {
        self.monitor.finish_row()
    }

    fn validate(&mut self) -> Result<()> {
        if !self.validates {
            return Ok(());
        }
        let result = self.trainer.validate(validation::CROPS)?;
        let steps = self.trainer.steps();
        validation::record(&result, steps, &self.config, &self.folder, &mut self.monitor)
    }

    fn save(&mut self) -> Result<()> {
        // The log first: a run that resumes then finds all rows up to its checkpoint.
        self.monitor.flush()?;
        Ok(self.trainer.save(&self.checkpoint)?)
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
