//! The adversarial stage: discriminators learn to tell real sound from decoded, and the decoder learns
//! from what they go by.
//!
//! Multi-resolution STFT discriminators (Défossez et al. 2022, "EnCodec"; Kumar et al. 2023, "DAC") and
//! period discriminators (Kong et al. 2020, "HiFi-GAN"), hinge or least-squares losses, and feature
//! matching. The encoder and the codes may stand still meanwhile (Wu et al. 2023, "AudioDec"; Caillon and
//! Esling 2021, "RAVE").

mod balance;
mod config;
mod discriminator;

pub use config::{
    AdversarialConfig, Balance, DiscriminatorConfig, GanLoss, PeriodDiscriminatorConfig,
    SpectrumInput, StftDiscriminatorConfig,
};
pub use discriminator::{Discriminator, Judgement};

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};

use super::optimizer::{AdamW, learning_rate};
use crate::model::ops::Precision;
use balance::Balancer;

/// Name of the balancer's state in a checkpoint.
const BALANCER: &str = "balancer";

/// Losses of one step, unweighted, as means over the discriminators that took part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdversarialLosses {
    /// The discriminators' own.
    pub discriminator: f64,
    /// The verdict on the decoder; none while no discriminator has had its head start.
    pub adversarial: Option<f64>,
    /// Distance of the features; none as well then.
    pub feature: Option<f64>,
    /// Norm of the discriminators' gradients before clipping; none if they did not learn in this step.
    pub gradient: Option<f64>,
}

/// A discriminator and what moves it.
struct Player {
    discriminator: Discriminator,
    optimizer: AdamW,
}

/// All discriminators, and the balance of their losses.
pub struct Adversary {
    config: AdversarialConfig,
    players: Vec<Player>,
    balancer: Balancer,
}

/// What a batch made of the two sides: the decoder's gradient, and the discriminators' for later.
pub struct Contest {
    /// Gradient of the generator's losses in the decoded samples.
    pub gradient: Tensor,
    /// What the adversarial losses add to the generator's loss. Balanced gradients come from no one
    /// loss; their weights are counted all the same.
    pub added: f64,
    /// The losses.
    pub losses: AdversarialLosses,
    /// Gradients by discriminator.
    lessons: Vec<(usize, GradStore)>,
}

impl Adversary {
    /// Discriminators of signals of `rate` samples a second, with random weights.
    ///
    /// # Errors
    /// The configuration cannot be built, or the device fails.
    pub fn new(
        config: &AdversarialConfig,
        rate: u32,
        precision: Precision,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let player = |(i, d): (usize, &DiscriminatorConfig)| -> Result<Player> {
            // Every seed of a run goes to one network only.
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1 + i as u64);
            let discriminator = Discriminator::random(d, rate, precision, seed, device)?;
            let optimizer = AdamW::new(&discriminator.params, &config.optimizer, |_| true)?;
            Ok(Player { discriminator, optimizer })
        };
        let players =
            config.discriminators.iter().enumerate().map(player).collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), players, balancer: Balancer::default() })
    }

    /// What it was built from.
    pub fn config(&self) -> &AdversarialConfig {
        &self.config
    }

    /// Parameters of all discriminators.
    pub fn parameters(&self) -> usize {
        self.players.iter().map(|p| p.discriminator.params.count()).sum()
    }

    /// Discriminators that take part in a step, and whether they learn in it.
    fn turn(&self, step: u64) -> (Vec<usize>, bool) {
        let count = self.players.len();
        let taking = if self.config.at_once == 0 { count } else { self.config.at_once };
        let first = (step % count as u64) as usize * taking;
        // Over `count` steps each takes part alike: they learn in some such rounds and rest in others.
        let round = if taking == count { step } else { step / count as u64 };
        let learns = round.is_multiple_of(self.config.update_every);
        ((0..taking).map(|i| (first + i) % count).collect(), learns)
    }

    /// Judges what was decoded against what it should be, both (batch, samples), in the run's `step`.
    /// `spectral` is the gradient of the other losses in the decoded samples. Nothing moves yet.
    ///
    /// # Errors
    /// Signals too short for a discriminator, or the device fails.
    pub fn contest(
        &mut self,
        decoded: &Var,
        target: &Tensor,
        spectral: &Tensor,
        step: u64,
    ) -> Result<Contest> {
        let batch = target.dim(0)?;
        let (turn, learns) = self.turn(step);
        let both = Tensor::cat(&[target, &decoded.as_detached_tensor()], 0)?;
        let (mut own, mut verdicts, mut distances, mut lessons) = (0.0, vec![], vec![], vec![]);
        for &index in &turn {
            let Player { discriminator, optimizer } = &self.players[index];
            let judged = discriminator.judge(&both, learns)?;
            let (real, fake) =
                (judged.scores.narrow(0, 0, batch)?, judged.scores.narrow(0, batch, batch)?);
            let loss = self.config.loss.of_discriminator(&real, &fake)?;
            own += f64::from(loss.to_scalar::<f32>()?) / turn.len() as f64;
            if learns {
                lessons.push((index, loss.backward()?));
            }
            if optimizer.steps() < self.config.head_start {
                continue;
            }
            let heard = discriminator.judge(decoded, false)?;
            verdicts.push(self.config.loss.of_generator(&heard.scores)?);
            distances.push(feature_distance(&heard.features, &judged.features, batch)?);
        }
        let mut contest = Contest {
            gradient: spectral.clone(),
            added: 0.0,
            losses: AdversarialLosses {
                discriminator: own,
                adversarial: None,
                feature: None,
                gradient: None,
            },
            lessons,
        };
        if verdicts.is_empty() {
            return Ok(contest);
        }
        let (verdict, distance) = (mean(&verdicts)?, mean(&distances)?);
        let (weight, feature_weight) = (self.config.weight, self.config.feature_weight);
        contest.gradient = match self.config.balance {
            Balance::Fixed => {
                let sum = ((&verdict * weight)? + (&distance * feature_weight)?)?;
                (spectral + in_samples(&sum, decoded)?)?
            }
            Balance::Gradient => {
                let (a, b) = (in_samples(&verdict, decoded)?, in_samples(&distance, decoded)?);
                self.balancer.join(spectral, [(&a, weight), (&b, feature_weight)])?
            }
        };
        let [a, b] = [&verdict, &distance].map(|t| t.to_scalar::<f32>());
        let (a, b) = (f64::from(a?), f64::from(b?));
        contest.added = weight * a + feature_weight * b;
        (contest.losses.adversarial, contest.losses.feature) = (Some(a), Some(b));
        Ok(contest)
    }

    /// Lets the discriminators learn from a contest, `progress` being the run's share that is done.
    /// Gives its losses.
    ///
    /// # Errors
    /// The device fails.
    pub fn learn(&mut self, contest: Contest, progress: f64) -> Result<AdversarialLosses> {
        let Contest { mut losses, lessons, .. } = contest;
        let share = (progress - self.config.start) / (1.0 - self.config.start).max(1e-9);
        let count = lessons.len() as f64;
        for (index, grads) in lessons {
            let optimizer = &mut self.players[index].optimizer;
            let rate = learning_rate(&self.config.optimizer, optimizer.steps(), share);
            let norm = optimizer.step(&grads, |_| rate)?;
            *losses.gradient.get_or_insert(0.0) += norm / count;
        }
        Ok(losses)
    }

    /// Steps that each discriminator has learned for.
    pub fn steps(&self) -> Vec<u64> {
        self.players.iter().map(|p| p.optimizer.steps()).collect()
    }

    /// Everything else that a checkpoint needs, by name.
    ///
    /// # Errors
    /// The device fails.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (i, player) in self.players.iter().enumerate() {
            for (name, var) in player.discriminator.params.iter() {
                tensors.insert(format!("{i}.weight.{name}"), var.as_detached_tensor());
            }
            let state = player.optimizer.state();
            tensors.extend(state.into_iter().map(|(name, t)| (format!("{i}.{name}"), t)));
        }
        let balance = Tensor::new(&self.balancer.state(), &Device::Cpu)?;
        tensors.insert(BALANCER.into(), balance);
        Ok(tensors)
    }

    /// Puts back what [`Self::steps`] and [`Self::state`] gave.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn set_state(&mut self, steps: &[u64], tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        if steps.len() != self.players.len() {
            candle_core::bail!(
                "it holds {} discriminators, the configuration has {}",
                steps.len(),
                self.players.len()
            );
        }
        for (i, (player, &steps)) in self.players.iter_mut().zip(steps).enumerate() {
            let own = super::strip(tensors, &format!("{i}."));
            player.discriminator.params.restore(&super::strip(&own, "weight."))?;
            player.optimizer.set_state(steps, &own)?;
        }
        let balance = tensors.get(BALANCER).map(|t| t.to_vec1::<f64>()).transpose()?;
        match balance.and_then(|values| <[f64; 6]>::try_from(values).ok()) {
            Some(values) => self.balancer.set_state(values),
            None => candle_core::bail!("the balance of the losses is missing"),
        }
        Ok(())
    }
}

impl GanLoss {
    /// What a discriminator makes smaller.
    fn of_discriminator(self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        match self {
            Self::Hinge => (1.0 - real)?.relu()?.mean_all()? + (fake + 1.0)?.relu()?.mean_all()?,
            Self::LeastSquares => (1.0 - real)?.sqr()?.mean_all()? + fake.sqr()?.mean_all()?,
        }
    }

    /// What the generator makes smaller.
    fn of_generator(self, fake: &Tensor) -> Result<Tensor> {
        match self {
            Self::Hinge => (1.0 - fake)?.relu()?.mean_all(),
            Self::LeastSquares => (1.0 - fake)?.sqr()?.mean_all(),
        }
    }
}

/// L1 distance of features from those of the real signals, which are the first `batch` items of theirs,
/// relative to the mean magnitude of the real ones; a mean over layers (EnCodec's form).
fn feature_distance(heard: &[Tensor], judged: &[Tensor], batch: usize) -> Result<Tensor> {
    let distances = heard
        .iter()
        .zip(judged)
        .map(|(heard, judged)| {
            let real = judged.narrow(0, 0, batch)?.detach();
            let size = (real.abs()?.mean_all()? + 1e-6)?;
            (heard - real)?.abs()?.mean_all()? / size
        })
        .collect::<Result<Vec<_>>>()?;
    mean(&distances)
}

fn mean(scalars: &[Tensor]) -> Result<Tensor> {
    Tensor::stack(scalars, 0)?.mean_all()
}

/// Gradient of a loss in the decoded samples.
pub(super) fn in_samples(loss: &Tensor, decoded: &Var) -> Result<Tensor> {
    match loss.backward()?.remove(decoded) {
        Some(gradient) => Ok(gradient),
        None => decoded.zeros_like(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check;
    use crate::train::config::OptimizerConfig;

    fn config(loss: GanLoss, balance: Balance) -> AdversarialConfig {
        let stft = |window| {
            DiscriminatorConfig::Stft(StftDiscriminatorConfig {
                window,
                hop: window / 4,
                channels: vec![8, 8],
                ..StftDiscriminatorConfig::default()
            })
        };
        let period = PeriodDiscriminatorConfig { period: 3, channels: vec![8, 8] };
        AdversarialConfig {
            start: 0.0,
            head_start: 0,
            loss,
            balance,
            at_once: 0,
            optimizer: OptimizerConfig {
                learning_rate: 3e-3,
                warm_up: 1,
                ..OptimizerConfig::default()
            },
            discriminators: vec![stft(256), stft(64), DiscriminatorConfig::Period(period)],
            ..AdversarialConfig::default()
        }
    }

    /// A batch of tones, which is real, or of noise, which is not.
    fn sound(seed: u64, real: bool) -> Tensor {
        let x = check::random(seed, &[4, 2048]);
        if !real {
            return (x * 0.5).unwrap();
        }
        let base: Vec<f32> = x.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let tone = |f: f32| (0..2048).map(move |n| 0.5 * (n as f32 * (0.3 + 0.1 * f)).sin());
        let samples: Vec<f32> = base.into_iter().flat_map(tone).collect();
        Tensor::from_vec(samples, (4, 2048), &Device::Cpu).unwrap()
    }

    fn no_gradient() -> Tensor {
        sound(0, false).zeros_like().unwrap()
    }

    #[test]
    fn discriminators_learn_to_tell_tones_from_noise() {
        for loss in [GanLoss::Hinge, GanLoss::LeastSquares] {
            let config = config(loss, Balance::Fixed);
            let mut adversary =
                Adversary::new(&config, 48_000, Precision::F32, 1, &Device::Cpu).unwrap();
            let mut own = Vec::new();
            for step in 0..40 {
                let fake = Var::from_tensor(&sound(100 + step, false)).unwrap();
                let contest =
                    adversary.contest(&fake, &sound(step, true), &no_gradient(), step).unwrap();
                own.push(adversary.learn(contest, 0.0).unwrap().discriminator);
            }
            // Signals that neither side has been shown.
            for player in &adversary.players {
                let score = |real| {
                    let judged = player.discriminator.judge(&sound(999, real), false).unwrap();
                    judged.scores.mean_all().unwrap().to_scalar::<f32>().unwrap()
                };
                assert!(score(true) > score(false) + 0.5, "{loss:?}: {own:?}");
            }
            assert!(own[39] < 0.6 * own[0], "{loss:?}: {own:?}");
        }
    }

    #[test]
    fn a_generator_follows_the_verdict() {
        for balance in [Balance::Fixed, Balance::Gradient] {
            let config = config(GanLoss::LeastSquares, balance);
            let mut adversary =
                Adversary::new(&config, 48_000, Precision::F32, 1, &Device::Cpu).unwrap();
            for step in 0..30 {
                let fake = Var::from_tensor(&sound(100 + step, false)).unwrap();
                let contest =
                    adversary.contest(&fake, &sound(step, true), &no_gradient(), step).unwrap();
                adversary.learn(contest, 0.0).unwrap();
            }
            // Samples that move by themselves against discriminators that stand still. The spectral
            // gradient only gives the size of a step; its direction is none.
            let fake = Var::from_tensor(&sound(200, false)).unwrap();
            let mut verdicts = Vec::new();
            for step in 0..60 {
                let sign = if step % 2 == 0 { 1e-3 } else { -1e-3 };
                let measure = (check::random(7, &[4, 2048]) * sign).unwrap();
                let measure = if balance == Balance::Fixed { no_gradient() } else { measure };
                let contest = adversary.contest(&fake, &sound(step, true), &measure, 0).unwrap();
                verdicts.push(contest.losses.adversarial.unwrap());
                let along = (&contest.gradient - measure).unwrap();
                let norm = along.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
                let unit = along.broadcast_div(&(norm + 1e-9).unwrap()).unwrap();
                fake.set(&(fake.as_detached_tensor() - (unit * 1.0).unwrap()).unwrap()).unwrap();
            }
            assert!(verdicts[59] < 0.6 * verdicts[0], "{balance:?}: {verdicts:?}");
        }
    }

    #[test]
    fn discriminators_take_turns() {
        let config = AdversarialConfig {
            at_once: 2,
            update_every: 2,
            ..config(GanLoss::Hinge, Balance::Fixed)
        };
        let adversary = Adversary::new(&config, 48_000, Precision::F32, 1, &Device::Cpu).unwrap();
        let turns: Vec<(Vec<usize>, bool)> = (0..4).map(|step| adversary.turn(step)).collect();
        let expected =
            [(vec![0, 1], true), (vec![2, 0], true), (vec![1, 2], true), (vec![0, 1], false)];
        assert_eq!(turns, expected);
    }

    #[test]
    fn the_generator_hears_nothing_before_the_head_start() {
        let config = AdversarialConfig {
            head_start: 3,
            update_every: 2,
            ..config(GanLoss::Hinge, Balance::Gradient)
        };
        let mut adversary =
            Adversary::new(&config, 48_000, Precision::F32, 1, &Device::Cpu).unwrap();
        let measure = check::random(5, &[4, 2048]);
        for step in 0..6 {
            let fake = Var::from_tensor(&sound(100 + step, false)).unwrap();
            let contest = adversary.contest(&fake, &sound(step, true), &measure, step).unwrap();
            check::close(&contest.gradient, &measure, if step < 5 { 0.0 } else { 9e9 });
            let losses = adversary.learn(contest, 0.0).unwrap();
            assert_eq!(losses.gradient.is_some(), step % 2 == 0);
            // After steps 0, 2 and 4 it has learned three times.
            assert_eq!(losses.adversarial.is_some(), step == 5);
        }
    }
}
