//! The adversarial stage's part of a training configuration.

use serde::{Deserialize, Serialize};

use super::super::config::OptimizerConfig;
use crate::config::ConfigError;

/// Discriminators, and what the generator makes of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdversarialConfig {
    /// Share of the run before the stage begins. It waits for the codes in any case.
    pub start: f64,
    /// Steps that a discriminator learns for before the generator hears of it.
    pub head_start: u64,
    /// How discriminators tell real from decoded.
    pub loss: GanLoss,
    /// Weight of the discriminators' verdict in the generator's loss; 0 for none.
    pub weight: f64,
    /// Weight of feature matching; 0 for none.
    pub feature_weight: f64,
    /// What the two weights are relative to.
    pub balance: Balance,
    /// Learning rate of encoder and quantizer in this stage as a share of the decoder's. At 0 they
    /// stay as they are, and so do the codes, which saves their part of the backward pass.
    pub encoder_rate: f64,
    /// The discriminators learn in every so many steps.
    pub update_every: u64,
    /// Discriminators that take part in a step, in turn; 0 for all.
    pub at_once: usize,
    /// The discriminators' optimizer; each clips its own gradient.
    pub optimizer: OptimizerConfig,
    /// The discriminators.
    pub discriminators: Vec<DiscriminatorConfig>,
}

/// How discriminators tell real from decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GanLoss {
    /// Real above 1, decoded below -1; the generator wants its own above 1 (as in SoundStream and EnCodec).
    Hinge,
    /// Real at 1, decoded at 0; the generator wants its own at 1 (Mao et al. 2017; HiFi-GAN, DAC).
    LeastSquares,
}

/// What the weights of the adversarial losses are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The losses' own values.
    Fixed,
    /// The gradients' sizes at the decoder's output: a weight of 1 pulls as hard as the spectral loss
    /// (the balancer of EnCodec, Défossez et al. 2022, with the spectral loss as the measure).
    Gradient,
}

/// One discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum DiscriminatorConfig {
    /// Looks at a spectrogram.
    Stft(StftDiscriminatorConfig),
    /// Looks at every so many samples.
    Period(PeriodDiscriminatorConfig),
}

/// A discriminator of a band of a spectrogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StftDiscriminatorConfig {
    /// Window (Hann) and FFT length in samples; even.
    pub window: usize,
    /// Samples between frames.
    pub hop: usize,
    /// What is seen of the spectrum.
    pub input: SpectrumInput,
    /// With complex input, the frequency in Hz above which only magnitudes are seen: where the decoder's
    /// phases are noise (`codec.noise_band`), they would give it away whatever it learns.
    pub complex_top: f64,
    /// Power to which magnitudes are compressed, above 0 and up to 1.
    pub power: f64,
    /// Lowest and highest frequency seen, in Hz.
    pub band: [f64; 2],
    /// Channels of the layers, from the input on.
    pub channels: Vec<usize>,
}

/// What is seen of a spectrum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpectrumInput {
    /// Real and imaginary parts as two channels.
    Complex,
    /// Magnitudes alone.
    Magnitude,
}

/// A discriminator of the waveform folded at a period (Kong et al. 2020, "HiFi-GAN").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeriodDiscriminatorConfig {
    /// Samples in a row.
    pub period: usize,
    /// Channels of the layers, from the input on.
    pub channels: Vec<usize>,
}

impl Default for AdversarialConfig {
    fn default() -> Self {
        let windows = [2048, 1024, 512];
        Self {
            start: 0.5,
            head_start: 50,
            loss: GanLoss::Hinge,
            weight: 0.1,
            feature_weight: 0.2,
            balance: Balance::Gradient,
            encoder_rate: 0.0,
            update_every: 1,
            at_once: 1,
            optimizer: OptimizerConfig {
                learning_rate: 5e-4,
                final_share: 0.1,
                warm_up: 20,
                ..OptimizerConfig::default()
            },
            discriminators: windows
                .map(|window| {
                    let hop = window / 4;
                    DiscriminatorConfig::Stft(StftDiscriminatorConfig {
                        window,
                        hop,
                        ..StftDiscriminatorConfig::default()
                    })
                })
                .into(),
        }
    }
}

impl Default for StftDiscriminatorConfig {
    fn default() -> Self {
        Self {
            window: 1024,
            hop: 256,
            input: SpectrumInput::Complex,
            complex_top: 1000.0,
            power: 0.3,
            band: [0.0, 24_000.0],
            channels: vec![16, 32, 48],
        }
    }
}

impl Default for PeriodDiscriminatorConfig {
    fn default() -> Self {
        Self { period: 7, channels: vec![16, 32, 64, 64] }
    }
}

impl AdversarialConfig {
    /// Checks every value; crops are `samples` long at `rate` samples a second.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn check(&self, samples: usize, rate: u32) -> Result<(), ConfigError> {
        let bad = |field, value: &dyn ToString, expected| {
            Err(ConfigError::Value { field, value: value.to_string(), expected })
        };
        for (field, value) in
            [("adversarial.start", self.start), ("adversarial.encoder_rate", self.encoder_rate)]
        {
            if !(0.0..=1.0).contains(&value) {
                return bad(field, &value, "0 to 1");
            }
        }
        for (field, value) in [
            ("adversarial.weight", self.weight),
            ("adversarial.feature_weight", self.feature_weight),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return bad(field, &value, "0 or more");
            }
        }
        if self.update_every == 0 {
            return bad("adversarial.update_every", &self.update_every, "1 or more");
        }
        self.optimizer.check([
            "adversarial.optimizer.learning_rate",
            "adversarial.optimizer.final_share",
            "adversarial.optimizer.beta1",
            "adversarial.optimizer.beta2",
            "adversarial.optimizer.average",
            "adversarial.optimizer.clip",
            "adversarial.optimizer.weight_decay",
        ])?;
        let count = self.discriminators.len();
        if !(1..=32).contains(&count) {
            return bad("adversarial.discriminators", &count, "a list of 1 to 32");
        }
        if self.at_once > count {
            return bad(
                "adversarial.at_once",
                &self.at_once,
                "no more than there are discriminators",
            );
        }
        for discriminator in &self.discriminators {
            let channels = match discriminator {
                DiscriminatorConfig::Stft(d) => {
                    if !d.window.is_multiple_of(2)
                        || !(16..=samples.min(1 << 16)).contains(&d.window)
                    {
                        let expected = "even, at least 16, at most 65536 and no longer than a crop \
                                        without the synthesis window";
                        return bad("window", &d.window, expected);
                    }
                    if !(1..=d.window).contains(&d.hop) {
                        return bad("hop", &d.hop, "1 to the window");
                    }
                    if !(d.complex_top.is_finite() && d.complex_top >= 0.0) {
                        return bad("complex_top", &d.complex_top, "0 or more");
                    }
                    if !(d.power > 0.0 && d.power <= 1.0) {
                        return bad("power", &d.power, "above 0, up to 1");
                    }
                    let [low, high] = d.band;
                    let bin = f64::from(rate) / d.window as f64;
                    if !(low >= 0.0 && high.is_finite() && high >= low + 8.0 * bin)
                        || low + 8.0 * bin > f64::from(rate) / 2.0
                    {
                        let expected = "from and to a frequency in Hz, eight bins or more apart";
                        return bad("band", &format!("{low} to {high}"), expected);
                    }
                    &d.channels
                }
                DiscriminatorConfig::Period(d) => {
                    if !(1..=samples / 16).contains(&d.period) {
                        return bad("period", &d.period, "1 to a sixteenth of a crop");
                    }
                    &d.channels
                }
            };
            if !(1..=12).contains(&channels.len())
                || channels.iter().any(|c| !(1..=4096).contains(c))
            {
                return bad("channels", &format!("{channels:?}"), "1 to 12 layers of 1 to 4096");
            }
        }
        Ok(())
    }
}
