//! The training loop: one step at a time, so that whoever drives it can watch, save and stop.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::adversarial::{self, AdversarialLosses, Adversary, Contest};
use super::checkpoint::{self, CheckpointError, Progress};
use super::config::{TrainConfig, Update};
use super::dataset::{BatchLoader, Dataset, DatasetError};
use super::grow;
use super::level_dropout;
use super::optimizer::{AdamW, learning_rate};
use super::strip;
use crate::config::ConfigError;
use crate::model::ops::{EnvelopeLoss, LeadLoss, SpectralLoss, SpectralTerms, Terms};
use crate::model::{Bottleneck, CodebookState, Network};

/// Batches whose latents start the projections and codebooks.
const START_BATCHES: usize = 48;

/// Training that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration is not usable.
    #[error("the training configuration cannot be used: {0}")]
    Config(#[from] ConfigError),
    /// The data cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor operation failed.
    #[error("the network failed: {0}")]
    Candle(#[from] candle_core::Error),
    /// The loss left the range of numbers and does not come back.
    #[error(
        "the gradient was not finite for {0} steps in a row; resume from the last checkpoint with a \
         lower learning rate"
    )]
    Diverged(u64),
}

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// A number of steps.
    Steps(u64),
    /// Wall-clock time spent training, over all sessions.
    Time(Duration),
}

impl Budget {
    /// The share that `steps` steps in `seconds` seconds have spent, at most 1.
    pub fn spent(self, steps: u64, seconds: f64) -> f64 {
        let share = match self {
            Self::Steps(most) => steps as f64 / most.max(1) as f64,
            Self::Time(most) => seconds / most.as_secs_f64().max(1e-9),
        };
        share.min(1.0)
    }
}

/// What a step did.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Share of the run that is done, 0..=1.
    pub progress: f64,
    /// Stage of the bottleneck by name.
    pub stage: &'static str,
    /// The whole loss.
    pub loss: f64,
    /// Its spectral terms, unweighted.
    pub terms: SpectralTerms,
    /// Distance of the decoder's envelope from the sound's, unweighted.
    pub envelope: f64,
    /// Distance of what leads from the sound's directions, unweighted; none where nothing is led.
    pub lead: Option<f64>,
    /// Commitment loss, unweighted.
    pub commitment: f64,
    /// Diversity loss, unweighted.
    pub diversity: f64,
    /// Losses of the adversarial stage, once it has begun.
    pub adversarial: Option<AdversarialLosses>,
    /// Norm of the gradient before clipping.
    pub gradient: f64,
    /// Learning rate.
    pub rate: f64,
    /// Distinct codes used by the batch, by level; empty unless quantised.
    pub used: Vec<usize>,
    /// Seconds of audio in the batch.
    pub audio_seconds: f64,
}

/// Result of a validation.
#[derive(Debug, Clone)]
pub struct Validation {
    /// Spectral terms of the averaged weights with all levels, over all resolutions.
    pub terms: SpectralTerms,
    /// Some of the original crops, (crop, samples).
    pub originals: Vec<Vec<f32>>,
    /// What came back of them.
    pub decoded: Vec<Vec<f32>>,
    /// By level, the codes of all crops.
    pub codes: Vec<Vec<u16>>,
}

/// A run in progress.
pub struct Trainer {
    config: TrainConfig,
    budget: Budget,
    network: Network,
    optimizer: AdamW,
    losses: Vec<SpectralLoss>,
    envelope: EnvelopeLoss,
    lead: Option<LeadLoss>,
    adversary: Option<Adversary>,
    dataset: Arc<Dataset>,
    loader: BatchLoader,
    device: Device,
    progress: Progress,
    not_finite: u64,
}

/// The losses of decoded samples as one.
struct SignalLoss {
    /// A scalar with the gradient wanted.
    loss: Tensor,
    /// What its value lacks of the losses' sum.
    offset: f64,
    /// The spectral terms.
    terms: Terms,
}

const STAGES: [&str; 3] = ["wide", "narrow", "quantised"];

/// Is this the name of a parameter that decides what tokens decode to?
fn decodes(name: &str) -> bool {
    name.starts_with("decoder.") || name.contains(".up.") || name.ends_with(".codes")
}

/// Codes that are still to be found cannot be held.
fn nothing_to_hold() -> TrainError {
    TrainError::Config(ConfigError::Value {
        field: "hold_decoder",
        value: "true".into(),
        expected: "false where a model or levels of it begin anew",
    })
}

/// A network with weights by name; gradients are for what learns.
fn network(
    config: &TrainConfig,
    weights: &BTreeMap<String, Tensor>,
    device: &Device,
) -> candle_core::Result<Network> {
    let held = if config.hold_decoder { decodes } else { |_: &str| false };
    Network::holding(held, &config.codec, weights, device)
}

/// Is this the name of a parameter of one of these levels of the quantizer?
fn is_of_level(name: &str, mut levels: Range<usize>) -> bool {
    levels.any(|level| name.starts_with(&format!("quantizer.{level}.")))
}

impl Trainer {
    /// A run from its beginning.
    ///
    /// # Errors
    /// The configuration cannot be used, or the data or the device fails.
    pub fn new(
        config: &TrainConfig,
        budget: Budget,
        dataset: Arc<Dataset>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, TrainError> {
        if config.hold_decoder {
            return Err(nothing_to_hold());
        }
        let progress = Progress::start(0, seed);
        let mut start = Network::random(&config.codec, seed, device)?;
        if grow::lacks_loops(&config.codec, None) {
            let mut weights = start.params.snapshot()?;
            grow::find_loops(&config.codec, seed, &dataset, &mut weights)?;
            start = network(config, &weights, device)?;
        }
        Self::build(config, budget, dataset, start, progress, device)
    }

    /// A run that begins with a trained model's weights, by name, and its codes in use: for more training,
    /// or to fit a model to other sounds. Levels that the weights lack are added: they start as those of
    /// a new run do, with what the model's own levels leave to be coded. Blocks that they lack are added behind
    /// theirs and change nothing at first. Where the weights lead no bins and the
    /// configuration does, nothing is known of them at first; where the configuration has noise or loops of its own and the
    /// weights have none, they are made.
    ///
    /// # Errors
    /// As [`Self::new`], or the weights belong to another configuration.
    pub fn fine_tune(
        config: &TrainConfig,
        budget: Budget,
        dataset: Arc<Dataset>,
        seed: u64,
        weights: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let progress = Progress::start(2, seed);
        let levels = config.codec.levels();
        let own = |level: usize| weights.contains_key(&format!("quantizer.{level}.codes"));
        let trained = (0..levels).take_while(|level| own(*level)).count();
        let mut tensors = weights.clone();
        grow::fit(&config.codec, seed, &dataset, &mut tensors)?;
        if trained == 0 || trained == levels {
            let network = network(config, &tensors, device)?;
            return Self::build(config, budget, dataset, network, progress, device);
        }
        if config.hold_decoder {
            return Err(nothing_to_hold());
        }
        for (name, tensor) in Network::random(&config.codec, seed, device)?.params.snapshot()? {
            if is_of_level(&name, trained..levels) {
                tensors.insert(name, tensor);
            }
        }
        let network = network(config, &tensors, device)?;
        let mut trainer = Self::build(config, budget, dataset, network, progress, device)?;
        let (latents, mut rng) = (trainer.start_latents()?, trainer.rng(1));
        trainer.network.quantizer.start_levels(trained, &latents, &mut rng)?;
        trainer.optimizer.restart(|name| is_of_level(name, trained..levels))?;
        Ok(trainer)
    }

    /// A run from where its checkpoint stands.
    ///
    /// # Errors
    /// As [`Self::new`], or the checkpoint is missing, damaged or of another configuration.
    pub fn resume(
        config: &TrainConfig,
        budget: Budget,
        dataset: Arc<Dataset>,
        path: &Path,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let (progress, tensors) = checkpoint::load::<Progress>(path)?;
        let damaged = |e: candle_core::Error| CheckpointError::Damaged {
            path: path.into(),
            reason: e.to_string(),
        };
        let weights = strip(&tensors, "weight.");
        let network = network(config, &weights, device).map_err(damaged)?;
        let mut trainer = Self::build(config, budget, dataset, network, progress, device)?;
        let steps = trainer.progress.optimizer_steps;
        trainer.optimizer.set_state(steps, &tensors).map_err(damaged)?;
        if let Some(adversary) = &mut trainer.adversary {
            let own = strip(&tensors, "discriminator.");
            let steps = &trainer.progress.discriminator_steps;
            adversary.set_state(steps, &own).map_err(damaged)?;
        }
        for (i, level) in trainer.network.quantizer.levels.iter_mut().enumerate() {
            let part = |name: &str| -> candle_core::Result<Vec<f32>> {
                match tensors.get(&format!("codebook.{i}.{name}")) {
                    Some(t) => t.flatten_all()?.to_vec1(),
                    None => candle_core::bail!("`codebook.{i}.{name}` is missing"),
                }
            };
            let state = (|| {
                let state = CodebookState {
                    usage: part("usage")?,
                    sums: part("sums")?,
                    idle: part("idle")?,
                };
                level.codebook.set_state(state)
            })();
            state.map_err(damaged)?;
        }
        Ok(trainer)
    }

    fn build(
        config: &TrainConfig,
        budget: Budget,
        dataset: Arc<Dataset>,
        mut network: Network,
        progress: Progress,
        device: &Device,
    ) -> Result<Self, TrainError> {
        config.check()?;
        network.set_precision(config.precision);
        let by_gradient = config.vq.update == Update::Gradient || !config.vq.choice.is_nearest();
        let moves = |name: &str| by_gradient || !name.ends_with(".codes");
        let optimizer = AdamW::new(&network.params, &config.optimizer, moves)?;
        let losses = config
            .resolutions
            .iter()
            .map(|turn| SpectralLoss::new(config.codec.sample_rate, turn, config.loss))
            .collect::<candle_core::Result<_>>()?;
        let envelope = EnvelopeLoss::new(network.decoder.synthesis(), device)?;
        let lead = LeadLoss::new(network.decoder.synthesis())?;
        let rate = config.codec.sample_rate;
        let adversary = match &config.adversarial {
            Some(stage) => {
                Some(Adversary::new(stage, rate, config.precision, progress.seed, device)?)
            }
            None => None,
        };
        let loader = BatchLoader::new(
            dataset.clone(),
            progress.seed,
            progress.step,
            config.batch,
            config.samples(),
        )?;
        Ok(Self {
            config: config.clone(),
            budget,
            network,
            optimizer,
            losses,
            envelope,
            lead,
            adversary,
            dataset,
            loader,
            device: device.clone(),
            progress,
            not_finite: 0,
        })
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.progress.step
    }

    /// Seconds spent training so far.
    pub fn elapsed(&self) -> f64 {
        self.progress.elapsed
    }

    /// Parameters of the network.
    pub fn parameters(&self) -> usize {
        self.network.params.count()
    }

    /// Parameters of the discriminators; none without an adversarial stage.
    pub fn discriminator_parameters(&self) -> Option<usize> {
        self.adversary.as_ref().map(Adversary::parameters)
    }

    /// Share of the budget that is spent.
    pub fn done(&self) -> f64 {
        self.budget.spent(self.progress.step, self.progress.elapsed)
    }

    fn rng(&self, purpose: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.progress.seed ^ 0x7e55_e7a0);
        rng.set_stream(self.progress.step << 3 | purpose);
        rng
    }

    fn bottleneck(&self) -> Bottleneck {
        match self.progress.stage {
            0 => Bottleneck::Wide,
            1 => Bottleneck::Narrow,
            _ => Bottleneck::Quantized(self.config.vq.choice.at(self.done())),
        }
    }

    fn tensor(&self, samples: Vec<f32>) -> Result<Tensor, TrainError> {
        let length = self.config.samples();
        Ok(Tensor::from_vec(samples, ((), length), &self.device)?)
    }

    /// Moves to the stage that the run's progress calls for, starting projections and codebooks from
    /// the latents as they are.
    fn enter_stage(&mut self) -> Result<(), TrainError> {
        let done = self.done();
        let due = if done < self.config.wide {
            0
        } else if done < self.config.wide + self.config.narrow {
            1
        } else {
            2
        };
        if due <= self.progress.stage {
            return Ok(());
        }
        let latents = self.start_latents()?;
        if self.progress.stage == 0 {
            self.network.quantizer.start_projections(&latents)?;
        }
        if due == 2 {
            let mut rng = self.rng(1);
            self.network.quantizer.start_codebooks(&latents, &mut rng)?;
        }
        self.optimizer.restart(|name| name.starts_with("quantizer."))?;
        self.progress.stage = due;
        Ok(())
    }

    /// Latents of the batches to come, (batch, frames, dim): what projections and codebooks start from.
    fn start_latents(&self) -> Result<Tensor, TrainError> {
        let mut latents = Vec::new();
        for i in 0..START_BATCHES {
            let step = self.progress.step + i as u64;
            let samples = self.dataset.batch(
                self.progress.seed,
                step,
                self.config.batch,
                self.config.samples(),
            )?;
            latents.push(self.network.encoder.forward(&self.tensor(samples)?)?.detach());
        }
        Ok(Tensor::cat(&latents, 0)?)
    }

    /// One step: a batch forward, backward, and everything moved. `None` when the budget is spent.
    ///
    /// # Errors
    /// The data or the device fails, or the gradient is not finite again and again.
    pub fn step(&mut self) -> Result<Option<StepReport>, TrainError> {
        let progress = self.done();
        if progress >= 1.0 {
            return Ok(None);
        }
        let started = Instant::now();
        self.enter_stage()?;
        let samples = self.loader.next()?;
        let samples = self.tensor(samples)?;
        let bottleneck = self.bottleneck();
        let encoder_rate = self.encoder_rate();
        let frozen = encoder_rate == 0.0;
        let mut latents = self.network.encoder.forward(&samples)?;
        if frozen {
            latents = latents.detach();
        }
        let keep = match bottleneck {
            Bottleneck::Wide => None,
            _ => self.level_dropout()?,
        };
        let vq = self.config.vq.clone();
        let mut rng = self.rng(2);
        let mut quantized = self.network.quantizer.train(
            &latents,
            bottleneck,
            keep.as_ref(),
            vq.diversity > 0.0 && !frozen,
            &mut rng,
        )?;
        if frozen {
            quantized.latents = quantized.latents.detach();
        }
        // Somewhere in a long stream, elsewhere each time: the noise of the synthesis is not to be learned.
        let mut rng = self.rng(6);
        let first_frames: Vec<u64> = (0..self.config.batch).map(|_| rng.random()).collect();
        let head = self.network.decoder.describe(&quantized.latents)?;
        let envelope = self.envelope.forward(&head, &samples)?;
        let lead = self.lead.as_ref().map(|lead| lead.forward(&head, &samples)).transpose()?;
        let decoded = self.network.decoder.synthesis().forward(&head, &first_frames)?;
        let complete = self.config.complete_samples();
        let decoded = decoded.narrow(1, 0, complete)?;
        let target = samples.narrow(1, 0, complete)?;
        let (signal, contest) = self.signal_loss(&decoded, &target)?;
        let mut loss = (signal.loss + (&envelope * self.config.envelope)?)?;
        if let Some(lead) = &lead {
            loss = (loss + (lead * self.config.lead)?)?;
        }
        if !frozen {
            loss = (loss + (&quantized.commitment * vq.commitment)?)?;
            loss = (loss + (&quantized.diversity * vq.diversity)?)?;
            if vq.update == Update::Gradient {
                loss = (loss + &quantized.codebook)?;
            }
        }
        let grads = loss.backward()?;
        let rate = learning_rate(&self.config.optimizer, self.progress.step, progress);
        let rate_of = |name: &str| match name.starts_with("decoder.") {
            true => rate,
            false => rate * encoder_rate,
        };
        let gradient = self.optimizer.step(&grads, rate_of)?;
        self.not_finite = if gradient.is_finite() { 0 } else { self.not_finite + 1 };
        if self.not_finite > 20 {
            return Err(TrainError::Diverged(self.not_finite));
        }
        let adversarial = match (&mut self.adversary, contest) {
            (Some(adversary), Some(contest)) => Some(adversary.learn(contest, progress)?),
            _ => None,
        };
        let mut used = Vec::new();
        let ema = vq.update == Update::Ema && vq.choice.is_nearest();
        let restart = (vq.restart_after > 0).then_some(vq.restart_after);
        let mut rng = self.rng(3);
        for (level, (vectors, indices)) in
            self.network.quantizer.levels.iter_mut().zip(&quantized.assignments)
        {
            let mut codes = indices.to_vec1()?;
            if gradient.is_finite() && !frozen && !self.config.hold_decoder {
                level.codebook.update(vectors, &codes, ema, restart, &mut rng)?;
            }
            codes.sort_unstable();
            codes.dedup();
            used.push(codes.len());
        }
        self.progress.step += 1;
        self.progress.elapsed += started.elapsed().as_secs_f64();
        let scalar =
            |t: &Tensor| -> candle_core::Result<f64> { Ok(f64::from(t.to_scalar::<f32>()?)) };
        Ok(Some(StepReport {
            step: self.progress.step,
            progress: self.done(),
            stage: STAGES[usize::from(self.progress.stage)],
            loss: scalar(&loss)? + signal.offset,
            terms: signal.terms.read()?,
            adversarial,
            envelope: scalar(&envelope)?,
            lead: lead.as_ref().map(scalar).transpose()?,
            commitment: scalar(&quantized.commitment)?,
            diversity: scalar(&quantized.diversity)?,
            gradient,
            rate,
            used,
            audio_seconds: samples.elem_count() as f64 / f64::from(self.config.codec.sample_rate),
        }))
    }

    /// Whether discriminators take part in the step that is due.
    fn is_adversarial(&self) -> bool {
        let quantized = matches!(self.bottleneck(), Bottleneck::Quantized(_));
        let due = |a: &Adversary| self.done() >= a.config().start;
        quantized && self.adversary.as_ref().is_some_and(due)
    }

    /// Learning rate of encoder and quantizer as a share of the decoder's.
    fn encoder_rate(&self) -> f64 {
        match &self.adversary {
            Some(adversary) if self.is_adversarial() => adversary.config().encoder_rate,
            _ => self.config.encoder_rate,
        }
    }

    /// The losses that look at what was decoded.
    fn signal_loss(
        &mut self,
        decoded: &Tensor,
        target: &Tensor,
    ) -> Result<(SignalLoss, Option<Contest>), TrainError> {
        let turn = (self.progress.step % self.losses.len() as u64) as usize;
        let adversarial = self.is_adversarial();
        let Some(adversary) = self.adversary.as_mut().filter(|_| adversarial) else {
            let (loss, terms) = self.losses[turn].forward(decoded, target)?;
            return Ok((SignalLoss { loss, offset: 0.0, terms }, None));
        };
        let samples = Var::from_tensor(&decoded.detach())?;
        let (spectral, terms) = self.losses[turn].forward(&samples, target)?;
        let gradient = adversarial::in_samples(&spectral, &samples)?;
        let contest = adversary.contest(&samples, target, &gradient, self.progress.step)?;
        // Its gradient in the decoder's output is the joined one.
        let loss = (decoded * &contest.gradient)?.sum_all()?;
        let value = f64::from(spectral.to_scalar::<f32>()?) + contest.added;
        let offset = value - f64::from(loss.to_scalar::<f32>()?);
        Ok((SignalLoss { loss, offset, terms }, Some(contest)))
    }

    /// Which levels each item of a batch gets: (batch, levels) of 1 and 0.
    fn level_dropout(&self) -> Result<Option<Tensor>, TrainError> {
        if self.config.vq.level_dropout == 0.0 {
            return Ok(None);
        }
        let (batch, levels) = (self.config.batch, self.config.codec.levels());
        let keep = level_dropout::draw(&self.config.vq, batch, levels, &mut self.rng(4));
        Ok(Some(Tensor::from_vec(keep, (batch, levels), &self.device)?))
    }

    /// Everything a checkpoint holds, and the averaged weights with which to go out.
    fn tensors(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let mut tensors: BTreeMap<String, Tensor> = self
            .network
            .params
            .iter()
            .map(|(name, var)| (format!("weight.{name}"), var.as_detached_tensor()))
            .collect();
        tensors.extend(self.optimizer.state());
        if let Some(adversary) = &self.adversary {
            let own = adversary.state()?;
            let named = own.into_iter().map(|(name, t)| (format!("discriminator.{name}"), t));
            tensors.extend(named);
        }
        for (i, level) in self.network.quantizer.levels.iter().enumerate() {
            let state = level.codebook.state();
            for (name, values) in
                [("usage", state.usage), ("sums", state.sums), ("idle", state.idle)]
            {
                let length = values.len();
                tensors.insert(
                    format!("codebook.{i}.{name}"),
                    Tensor::from_vec(values, length, &Device::Cpu)?,
                );
            }
        }
        Ok(tensors)
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// The folder cannot be written to or the disk is full; an older checkpoint then stays.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let progress = Progress {
            optimizer_steps: self.optimizer.steps(),
            discriminator_steps: match &self.adversary {
                Some(adversary) => adversary.steps(),
                None => Vec::new(),
            },
            ..self.progress.clone()
        };
        Ok(checkpoint::save(path, &progress, &self.tensors()?)?)
    }

    /// Codes validation crops with the averaged weights.
    ///
    /// # Errors
    /// There are no validation files, or the device fails.
    pub fn validate(&self, crops: usize) -> Result<Validation, TrainError> {
        let samples = self.config.samples();
        let originals = self.dataset.validation_crops(crops, samples)?;
        let now = self.network.params.snapshot()?;
        let mut averaged = now.clone();
        averaged.extend(self.optimizer.averages());
        self.network.params.restore(&averaged)?;
        let result = self.validate_as_is(originals, crops);
        self.network.params.restore(&now)?;
        result
    }

    fn validate_as_is(&self, originals: Vec<f32>, crops: usize) -> Result<Validation, TrainError> {
        let batch = self.tensor(originals)?;
        let latents = self.network.encoder.forward(&batch)?;
        let codes = match self.bottleneck() {
            Bottleneck::Quantized(_) => {
                self.network.quantizer.encode(&latents, self.config.codec.levels())?
            }
            _ => Vec::new(),
        };
        let passed = match codes.is_empty() {
            false => self.network.quantizer.decode(&codes)?,
            true => {
                let mut rng = self.rng(5);
                let narrow = self.network.quantizer.train(
                    &latents,
                    self.bottleneck(),
                    None,
                    false,
                    &mut rng,
                )?;
                narrow.latents
            }
        };
        let decoded = self.network.decoder.forward(&passed, &vec![0; crops])?.detach();
        let complete = self.config.complete_samples();
        let (y, x) = (decoded.narrow(1, 0, complete)?, batch.narrow(1, 0, complete)?);
        let mut terms = SpectralTerms::default();
        for loss in &self.losses {
            terms.add(&loss.forward(&y, &x)?.1.read()?, 1.0 / self.losses.len() as f64);
        }
        let rows = |t: &Tensor| -> candle_core::Result<Vec<Vec<f32>>> { t.to_vec2() };
        let codes = codes
            .iter()
            .map(|level| {
                let codes: Vec<u32> = level.flatten_all()?.to_vec1()?;
                Ok(codes.into_iter().map(|c| c as u16).collect())
            })
            .collect::<candle_core::Result<_>>()?;
        let shown = crops.min(4);
        Ok(Validation {
            terms,
            originals: rows(&x.narrow(0, 0, shown)?.contiguous()?)?,
            decoded: rows(&y.narrow(0, 0, shown)?.contiguous()?)?,
            codes,
        })
    }
}

/// The averaged weights of a checkpoint, by the names a model has: what is exported.
///
/// # Errors
/// The checkpoint is missing or damaged, or the run has not yet come to its codes.
pub fn exportable(path: &Path) -> Result<(Progress, BTreeMap<String, Tensor>), CheckpointError> {
    let (progress, tensors) = checkpoint::load::<Progress>(path)?;
    if progress.stage < 2 {
        return Err(CheckpointError::Damaged {
            path: path.into(),
            reason: format!(
                "the run is still in its {} stage and has no codes; train on",
                STAGES[usize::from(progress.stage)]
            ),
        });
    }
    let mut weights = strip(&tensors, "weight.");
    weights.extend(strip(&tensors, "average."));
    Ok((progress, weights))
}
