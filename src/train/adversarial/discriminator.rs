//! Networks that tell real sound from decoded.

use candle_core::{Device, Result, Tensor};

use super::config::{DiscriminatorConfig, SpectrumInput, StftDiscriminatorConfig};
use crate::model::ops::{Compress, Conv2d, Precision, Stft, leaky_relu};
use crate::model::{Builder, Params};

/// Gain of a layer before a leaky rectifier, so that variances neither grow nor shrink.
const GAIN: f32 = std::f32::consts::SQRT_2;

/// What a discriminator makes of some signals.
pub struct Judgement {
    /// Verdicts: high for real. One for each place of the last layer; the first dimension is the batch.
    pub scores: Tensor,
    /// What the layers before hold, batch first.
    pub features: Vec<Tensor>,
}

/// A convolution with normalised weights (Salimans and Kingma 2016): a direction and a length a channel.
struct Layer {
    conv: Conv2d,
    direction: Tensor,
    gain: Tensor,
    bias: Tensor,
}

impl Layer {
    fn new(
        p: &mut Builder,
        name: &str,
        conv: Conv2d,
        inputs: usize,
        outputs: usize,
        gain: f32,
    ) -> Result<Self> {
        let patch = conv.kernel[0] * conv.kernel[1] * inputs;
        Ok(Self {
            conv,
            // No longer than about 1: steps of the optimizer then turn it as quickly as plain weights.
            direction: p.normal(
                &format!("{name}.direction"),
                (outputs, patch),
                1.0 / (patch as f32).sqrt(),
            )?,
            gain: p.constant(&format!("{name}.gain"), outputs, gain)?,
            bias: p.constant(&format!("{name}.bias"), outputs, 0.0)?,
        })
    }

    /// `learns` says whether gradients flow into the layer's parameters.
    fn forward(&self, x: &Tensor, learns: bool, precision: Precision) -> Result<Tensor> {
        let part = |t: &Tensor| if learns { t.clone() } else { t.detach() };
        let direction = part(&self.direction);
        let length = (direction.sqr()?.sum_keepdim(1)? + 1e-12)?.sqrt()?;
        let scale = (part(&self.gain).unsqueeze(1)? / length)?;
        let w = direction.broadcast_mul(&scale)?;
        self.conv.forward(x, &w, &part(&self.bias), precision)
    }
}

/// What a discriminator sees of a signal.
enum View {
    /// Some bins of a compressed spectrogram.
    Spectrogram { stft: Stft, compress: Compress, first_bin: usize, bins: usize, channels: usize },
    /// The samples in rows of a period.
    Rows { period: usize },
}

impl View {
    fn spectrogram(config: &StftDiscriminatorConfig, rate: u32) -> Result<Self> {
        let stft = Stft::new(config.window, config.hop)?;
        let bin =
            |frequency: f64| (frequency * config.window as f64 / f64::from(rate)).round() as usize;
        let first_bin = bin(config.band[0]).min(stft.bins() - 1);
        let bins = (bin(config.band[1]) + 1).min(stft.bins()).saturating_sub(first_bin).max(1);
        let (complex_bins, channels) = match config.input {
            SpectrumInput::Complex => (bin(config.complex_top), 2),
            SpectrumInput::Magnitude => (0, 1),
        };
        let compress = Compress { power: config.power as f32, complex_bins };
        Ok(Self::Spectrogram { stft, compress, first_bin, bins, channels })
    }

    fn channels(&self) -> usize {
        match self {
            Self::Spectrogram { channels, .. } => *channels,
            Self::Rows { .. } => 1,
        }
    }

    /// Signals (batch, samples) to (batch, frames, bands, channels).
    fn of(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Spectrogram { stft, compress, first_bin, bins, channels } => compress
                .forward(&stft.forward(x)?)?
                .narrow(2, *first_bin, *bins)?
                .narrow(3, 0, *channels)?
                .contiguous(),
            Self::Rows { period } => {
                let (batch, samples) = x.dims2()?;
                let rows = samples / period;
                x.narrow(1, 0, rows * period)?.reshape((batch, rows, *period, 1))
            }
        }
    }
}

/// A discriminator: a view of the signal, then convolutions.
pub struct Discriminator {
    view: View,
    layers: Vec<Layer>,
    verdict: Layer,
    /// Its parameters, by name.
    pub params: Params,
    precision: Precision,
}

impl Discriminator {
    /// A discriminator with random weights, the same for the same seed, of signals of `rate` samples a
    /// second.
    ///
    /// # Errors
    /// The configuration cannot be built, or the device fails.
    pub fn random(
        config: &DiscriminatorConfig,
        rate: u32,
        precision: Precision,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut params = Params::new(device);
        let (view, channels) = match config {
            DiscriminatorConfig::Stft(c) => (View::spectrogram(c, rate)?, &c.channels),
            DiscriminatorConfig::Period(c) => (View::Rows { period: c.period }, &c.channels),
        };
        let p = &mut params.random(seed);
        let mut inputs = view.channels();
        let mut layers = Vec::new();
        for (i, &outputs) in channels.iter().enumerate() {
            let conv = match config {
                // Twice as wide as the step along frequency, which the first layers take quickly.
                DiscriminatorConfig::Stft(_) => {
                    let along = if i < 2 { 4 } else { 2 };
                    Conv2d { kernel: [3, 2 * along], stride: [1 + i % 2, along] }
                }
                DiscriminatorConfig::Period(_) => Conv2d { kernel: [5, 1], stride: [3, 1] },
            };
            layers.push(Layer::new(p, &format!("layers.{i}"), conv, inputs, outputs, GAIN)?);
            inputs = outputs;
        }
        let kernel = match config {
            DiscriminatorConfig::Stft(_) => [3, 3],
            DiscriminatorConfig::Period(_) => [3, 1],
        };
        let conv = Conv2d { kernel, stride: [1, 1] };
        let verdict = Layer::new(p, "verdict", conv, inputs, 1, 1.0)?;
        Ok(Self { view, layers, verdict, params, precision })
    }

    /// Judges signals (batch, samples). Gradients flow into the signals, and into the discriminator's
    /// parameters if it `learns` from this.
    ///
    /// # Errors
    /// Signals too short for it.
    pub fn judge(&self, signals: &Tensor, learns: bool) -> Result<Judgement> {
        let mut x = self.view.of(signals)?;
        let mut features = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            x = leaky_relu(&layer.forward(&x, learns, self.precision)?)?;
            features.push(x.clone());
        }
        Ok(Judgement { scores: self.verdict.forward(&x, learns, Precision::F32)?, features })
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::PeriodDiscriminatorConfig;
    use super::*;
    use crate::model::ops::check;

    fn all() -> Vec<DiscriminatorConfig> {
        let stft = StftDiscriminatorConfig {
            window: 64,
            hop: 16,
            channels: vec![3, 4],
            ..StftDiscriminatorConfig::default()
        };
        let magnitude = StftDiscriminatorConfig { input: SpectrumInput::Magnitude, ..stft.clone() };
        let band = StftDiscriminatorConfig {
            band: [6000.0, 18_000.0],
            complex_top: 12_000.0,
            ..stft.clone()
        };
        let period = PeriodDiscriminatorConfig { period: 5, channels: vec![3, 4] };
        vec![
            DiscriminatorConfig::Stft(stft),
            DiscriminatorConfig::Stft(magnitude),
            DiscriminatorConfig::Stft(band),
            DiscriminatorConfig::Period(period),
        ]
    }

    #[test]
    fn gradients_reach_signals_and_parameters() {
        for config in all() {
            let d = Discriminator::random(&config, 48_000, Precision::F32, 1, &Device::Cpu);
            let d = d.unwrap();
            let x = check::random(2, &[3, 320]);
            check::gradients(|t| Ok(d.judge(&t[0], true)?.scores), std::slice::from_ref(&x), 2e-2);
            let loss = |learns| d.judge(&x, learns).unwrap().scores.sqr().unwrap().sum_all();
            let grads = loss(true).unwrap().backward().unwrap();
            for (name, var) in d.params.iter() {
                let grad = grads.get(var).unwrap_or_else(|| panic!("{config:?}: {name}"));
                // Against a difference along the gradient itself, which sums all of its errors.
                let square = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                let before = var.as_detached_tensor().copy().unwrap();
                let at = |h: f64| {
                    var.set(&(&before + (grad * h).unwrap()).unwrap()).unwrap();
                    f64::from(loss(false).unwrap().to_scalar::<f32>().unwrap())
                };
                let h = 1e-3 / f64::from(square).sqrt().max(1e-6);
                let slope = (at(h) - at(-h)) / (2.0 * h);
                var.set(&before).unwrap();
                let expected = f64::from(square);
                assert!(
                    (slope - expected).abs() < 0.05 * expected + 1e-2,
                    "{config:?}: {name}: slope {slope}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn one_that_does_not_learn_passes_gradients_to_signals_alone() {
        let d = Discriminator::random(&all()[0], 48_000, Precision::F32, 1, &Device::Cpu).unwrap();
        let x = candle_core::Var::from_tensor(&check::random(2, &[2, 320])).unwrap();
        let judgement = d.judge(&x, false).unwrap();
        assert_eq!(judgement.features.len(), 2);
        let grads = judgement.scores.sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&x).is_some());
        assert!(d.params.iter().all(|(_, var)| grads.get(var).is_none()));
    }

    #[test]
    fn sixteen_bits_judge_much_alike() {
        for config in all() {
            let scores = [Precision::F32, Precision::Bf16].map(|precision| {
                let d = Discriminator::random(&config, 48_000, precision, 1, &Device::Cpu);
                d.unwrap().judge(&check::random(2, &[2, 320]), false).unwrap().scores
            });
            check::close(&scores[1], &scores[0], 5e-2);
        }
    }
}
