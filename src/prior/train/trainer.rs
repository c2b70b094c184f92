//! The training loop: one step at a time, so that whoever drives it can watch, save and stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{PriorTrainConfig, TokenSet};
use crate::prior::PriorConfig;
use crate::prior::network::{Batch, Crop, PriorNetwork};
use crate::train::checkpoint::{self, CheckpointError};
use crate::train::{AdamW, Budget, TrainError, learning_rate, strip};

/// Crops that are validated with at once.
const VALIDATION_BATCH: usize = 32;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriorProgress {
    /// Steps done.
    pub step: u64,
    /// Steps the optimizer counts, for its bias correction.
    pub optimizer_steps: u64,
    /// Seconds spent training, over all sessions.
    pub elapsed: f64,
    /// Seed of the run.
    pub seed: u64,
    /// The best validation, whose weights are exported.
    pub best: Option<Best>,
}

impl PriorProgress {
    fn start(seed: u64) -> Self {
        Self { step: 0, optimizer_steps: 0, elapsed: 0.0, seed, best: None }
    }
}

/// A validation that none was better than.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done then.
    pub step: u64,
    /// What it gave.
    pub validation: PriorValidation,
}

/// What the averaged weights give on the validation files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriorValidation {
    /// Bits a code: in row `n`, of the first `n + 1` levels when these alone are in use.
    pub bits: Vec<Vec<f64>>,
    /// Codes of each level in a step.
    pub codes_per_step: Vec<usize>,
}

impl PriorValidation {
    /// Bits a code by level, with all levels in use.
    pub fn all_levels(&self) -> &[f64] {
        self.bits.last().map_or(&[], Vec::as_slice)
    }

    /// Bits a step with the first `levels` levels in use, from 1.
    pub fn bits_per_step(&self, levels: usize) -> f64 {
        let bits = self.bits.get(levels.wrapping_sub(1)).map_or(&[][..], Vec::as_slice);
        bits.iter().zip(&self.codes_per_step).map(|(bits, codes)| bits * *codes as f64).sum()
    }
}

/// What a step did.
#[derive(Debug, Clone)]
pub struct PriorStep {
    /// Steps done, this one included.
    pub step: u64,
    /// Share of the run that is done, 0..=1.
    pub progress: f64,
    /// Bits a code, all levels together.
    pub loss: f64,
    /// Bits a code by level; `None` where no crop used the level.
    pub bits: Vec<Option<f64>>,
    /// Norm of the gradient before clipping.
    pub gradient: f64,
    /// Learning rate.
    pub rate: f64,
    /// Steps of the tokens in the batch.
    pub token_steps: usize,
}

/// A run in progress.
pub struct PriorTrainer {
    config: PriorTrainConfig,
    budget: Budget,
    network: PriorNetwork,
    optimizer: AdamW,
    tokens: Arc<TokenSet>,
    progress: PriorProgress,
    /// The averaged weights of the best validation.
    best: BTreeMap<String, Tensor>,
    not_finite: u64,
}

impl PriorTrainer {
    /// A run from its beginning; `codebooks` are the codec's codes by level.
    ///
    /// # Errors
    /// The configuration cannot be used, or the device fails.
    pub fn new(
        config: &PriorTrainConfig,
        prior: &PriorConfig,
        budget: Budget,
        tokens: Arc<TokenSet>,
        codebooks: &[Tensor],
        seed: u64,
        device: &Device,
    ) -> Result<Self, TrainError> {
        config.check()?;
        prior.check()?;
        let network = PriorNetwork::random(prior, seed, device)?;
        network.start_from_codebooks(codebooks, seed)?;
        Self::build(config, budget, tokens, network, PriorProgress::start(seed))
    }

    /// A run as [`Self::new`] that takes over the weights of a prior, by name, of the same shape but for
    /// levels that were added: one for a codec that was trained further, or for other sounds.
    ///
    /// # Errors
    /// As [`Self::new`], or the weights are of another shape.
    pub fn start_from(mut self, weights: &BTreeMap<String, Tensor>) -> Result<Self, TrainError> {
        self.network.start_from_fewer_levels(weights)?;
        // The averaged weights begin anew with these.
        self.optimizer.restart(|_| true)?;
        Ok(self)
    }

    /// A run from where its checkpoint stands.
    ///
    /// # Errors
    /// As [`Self::new`], or the checkpoint is missing, damaged or of another configuration.
    pub fn resume(
        config: &PriorTrainConfig,
        prior: &PriorConfig,
        budget: Budget,
        tokens: Arc<TokenSet>,
        path: &Path,
        device: &Device,
    ) -> Result<Self, TrainError> {
        config.check()?;
        prior.check()?;
        let (progress, tensors) = checkpoint::load::<PriorProgress>(path)?;
        let damaged = |e: candle_core::Error| CheckpointError::Damaged {
            path: path.into(),
            reason: e.to_string(),
        };
        let network = PriorNetwork::from_tensors(prior, &strip(&tensors, "weight."), device)
            .map_err(damaged)?;
        let steps = progress.optimizer_steps;
        let mut trainer = Self::build(config, budget, tokens, network, progress)?;
        trainer.optimizer.set_state(steps, &tensors).map_err(damaged)?;
        trainer.best = strip(&tensors, "best.");
        Ok(trainer)
    }

    fn build(
        config: &PriorTrainConfig,
        budget: Budget,
        tokens: Arc<TokenSet>,
        network: PriorNetwork,
        progress: PriorProgress,
    ) -> Result<Self, TrainError> {
        let optimizer = AdamW::new(&network.params, &config.optimizer, |_| true)?;
        Ok(Self {
            config: config.clone(),
            budget,
            network,
            optimizer,
            tokens,
            progress,
            best: BTreeMap::new(),
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

    /// The best validation so far.
    pub fn best(&self) -> Option<&Best> {
        self.progress.best.as_ref()
    }

    /// Share of the budget that is spent.
    pub fn done(&self) -> f64 {
        self.budget.spent(self.progress.step, self.progress.elapsed)
    }

    /// One step: a batch forward, backward, and everything moved. `None` when the budget is spent.
    ///
    /// # Errors
    /// The device fails, or the gradient is not finite again and again.
    pub fn step(&mut self) -> Result<Option<PriorStep>, TrainError> {
        let progress = self.done();
        if progress >= 1.0 {
            return Ok(None);
        }
        let started = Instant::now();
        let batch = self.batch()?;
        let counts = batch.counts();
        let losses = self.network.losses(&batch)?;
        let total = losses.iter().flatten().cloned().map(Ok);
        let total = total.reduce(|a: candle_core::Result<Tensor>, b| a? + b?);
        let codes = counts.iter().sum::<usize>().max(1) as f64;
        let loss = (total.unwrap_or_else(|| candle_core::bail!("an empty batch"))? / codes)?;
        let grads = loss.backward()?;
        let rate = learning_rate(&self.config.optimizer, self.progress.step, progress);
        let gradient = self.optimizer.step(&grads, |_| rate)?;
        self.not_finite = if gradient.is_finite() { 0 } else { self.not_finite + 1 };
        if self.not_finite > 20 {
            return Err(TrainError::Diverged(self.not_finite));
        }
        let by_level = losses
            .iter()
            .zip(&counts)
            .map(|(loss, count)| match loss {
                Some(loss) => Ok(Some(bits(loss)? / *count as f64)),
                None => Ok(None),
            })
            .collect::<candle_core::Result<_>>()?;
        self.progress.step += 1;
        self.progress.elapsed += started.elapsed().as_secs_f64();
        Ok(Some(PriorStep {
            step: self.progress.step,
            progress: self.done(),
            loss: bits(&loss)?,
            bits: by_level,
            gradient,
            rate,
            token_steps: batch.rows(),
        }))
    }

    /// The crops of the step that is due, some of them with fewer levels.
    fn batch(&self) -> candle_core::Result<Batch> {
        let prior = &self.network.config;
        let mut rng = ChaCha8Rng::seed_from_u64(self.progress.seed ^ 0x7e55_e7a0);
        rng.set_stream(self.progress.step);
        let levels = prior.strides.len();
        let (seed, step) = (self.progress.seed, self.progress.step);
        let crops: Vec<Crop<'_>> = self
            .tokens
            .crops(seed, step, self.config.batch, prior.steps)
            .into_iter()
            .map(|codes| Crop {
                codes,
                levels: match rng.random::<f64>() < self.config.level_dropout {
                    true => rng.random_range(1..=levels),
                    false => levels,
                },
            })
            .collect();
        Batch::new(prior, &crops)
    }

    /// Predicts the validation files' codes with the averaged weights, which are kept if they were never
    /// better. `None` without validation files.
    ///
    /// # Errors
    /// The device fails.
    pub fn validate(&mut self) -> Result<Option<PriorValidation>, TrainError> {
        if !self.tokens.has_validation() {
            return Ok(None);
        }
        let averages = self.optimizer.averages();
        let now = self.network.params.snapshot()?;
        self.network.params.restore(&averages)?;
        let result = self.validate_as_is();
        self.network.params.restore(&now)?;
        let validation = result?;
        let levels = validation.codes_per_step.len();
        let bits = validation.bits_per_step(levels);
        let best = self.progress.best.as_ref().map(|best| best.validation.bits_per_step(levels));
        if best.is_none_or(|best| bits < best) {
            let copy = |(name, t): (&String, &Tensor)| Ok((name.clone(), t.copy()?));
            self.best = averages.iter().map(copy).collect::<candle_core::Result<_>>()?;
            let step = self.progress.step;
            self.progress.best = Some(Best { step, validation: validation.clone() });
        }
        Ok(Some(validation))
    }

    fn validate_as_is(&self) -> candle_core::Result<PriorValidation> {
        let prior = &self.network.config;
        let pieces = self.tokens.validation(prior.steps);
        let all = prior.strides.len();
        let with = |levels: usize| {
            let (mut sums, mut counts) = (vec![0.0; levels], vec![0usize; levels]);
            for pieces in pieces.chunks(VALIDATION_BATCH) {
                let crops: Vec<Crop<'_>> =
                    pieces.iter().map(|piece| Crop { codes: piece.codes, levels }).collect();
                let batch = Batch::new(prior, &crops)?;
                let losses = self.network.losses(&batch)?;
                for (level, count) in batch.counts().into_iter().enumerate().take(levels) {
                    if let Some(loss) = &losses[level] {
                        sums[level] += bits(loss)?;
                    }
                    counts[level] += count;
                }
            }
            Ok(sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1) as f64).collect())
        };
        let levels_of_codes = prior.levels_of_codes();
        let codes = |level| levels_of_codes.iter().filter(|l| **l == level).count();
        Ok(PriorValidation {
            bits: (1..=all).map(with).collect::<candle_core::Result<_>>()?,
            codes_per_step: (0..all).map(codes).collect(),
        })
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// The folder cannot be written to or the disk is full; an older checkpoint then stays.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let mut tensors: BTreeMap<String, Tensor> = self
            .network
            .params
            .iter()
            .map(|(name, var)| (format!("weight.{name}"), var.as_detached_tensor()))
            .collect();
        tensors.extend(self.optimizer.state());
        tensors.extend(self.best.iter().map(|(name, t)| (format!("best.{name}"), t.clone())));
        let progress =
            PriorProgress { optimizer_steps: self.optimizer.steps(), ..self.progress.clone() };
        Ok(checkpoint::save(path, &progress, &tensors)?)
    }
}

/// A scalar of nats in bits.
fn bits(nats: &Tensor) -> candle_core::Result<f64> {
    Ok(f64::from(nats.to_scalar::<f32>()?) / std::f64::consts::LN_2)
}

/// Where the run of a checkpoint stands.
///
/// # Errors
/// The checkpoint is missing or damaged.
pub fn load_progress(path: &Path) -> Result<PriorProgress, CheckpointError> {
    Ok(checkpoint::load::<PriorProgress>(path)?.0)
}

/// The weights that go out: the averages at the best validation, or where there is none, as they are.
///
/// # Errors
/// The checkpoint is missing or damaged.
pub fn exportable(
    path: &Path,
) -> Result<(PriorProgress, BTreeMap<String, Tensor>), CheckpointError> {
    let (progress, tensors) = checkpoint::load::<PriorProgress>(path)?;
    let mut weights = strip(&tensors, "average.");
    weights.extend(strip(&tensors, "best."));
    Ok((progress, weights))
}
