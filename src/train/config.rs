//! How a model is trained: the JSON given to `tessera train --config`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::adversarial::AdversarialConfig;
use crate::config::{CodecConfig, ConfigError, checked_from_json};
use crate::model::Choice;
use crate::model::ops::{Precision, Resolution, SpectralWeights};

/// Everything about a training run but its data, its length and its seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The network.
    pub codec: CodecConfig,
    /// Crops in a batch.
    pub batch: usize,
    /// Length of a crop in seconds, rounded to whole coarse steps.
    pub seconds: f64,
    /// Share of the run before the bottleneck narrows to the levels' projections.
    pub wide: f64,
    /// Share of the run, after `wide`, with projections but without codes.
    pub narrow: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The quantizer's training.
    pub vq: VqTraining,
    /// What the spectral terms count for.
    pub loss: SpectralWeights,
    /// Learning rate of encoder and quantizer as a share of the decoder's, 0..=1; the adversarial stage has one of
    /// its own. At 0 they and the codes stay as they are: what a trained model makes of a sound, its tokens, stays
    /// the same, and so does its prior's use, while the decoder goes on learning.
    pub encoder_rate: f64,
    /// Whether decoder and codes stay as they are, and the encoder alone learns, to choose better codes: what
    /// tokens decode to stays the same.
    pub hold_decoder: bool,
    /// What the distance of the decoder's envelope above the learned phases from the sound's own counts for.
    pub envelope: f64,
    /// What the distance of what leads bins above the learned phases (`codec.led_top`) from the sound's directions counts
    /// for.
    pub lead: f64,
    /// Resolutions of the spectral loss by step, taken in turn: a few a step cost less than all, and
    /// over a turn each counts the same.
    pub resolutions: Vec<Vec<Resolution>>,
    /// The adversarial stage; null for none.
    pub adversarial: Option<AdversarialConfig>,
    /// What the matrix products of encoder, decoder and discriminators are computed in. Parameters,
    /// losses and the quantizer stay at 32 bits.
    pub precision: Precision,
    /// Relative weight of each kind (first-level subfolder) of the data; 1 where not named.
    pub kind_weights: BTreeMap<String, f64>,
    /// Share of the crops that are made by arithmetic, 0..=1: tones, bands of noise, chords, sweeps, plain
    /// waveforms and clicks, which recordings hold next to none of.
    pub synthetic: f64,
}

/// AdamW with warm-up and cosine decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end as a share of the peak.
    pub final_share: f64,
    /// Steps over which the rate rises at the start.
    pub warm_up: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay of matrices; biases and gains have none.
    pub weight_decay: f64,
    /// Largest norm of the gradient.
    pub clip: f64,
    /// Decay of the running mean of the weights that is validated and exported.
    pub average: f64,
}

/// How codes are chosen and kept alive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VqTraining {
    /// How a latent chooses its code.
    pub choice: Choice,
    /// What moves the codes.
    pub update: Update,
    /// Weight of the commitment loss.
    pub commitment: f64,
    /// Weight of the diversity loss; 0 for none.
    pub diversity: f64,
    /// Steps without use after which a code is put elsewhere; 0 for never.
    pub restart_after: usize,
    /// Share of the items of a batch that get only a random number of the first levels.
    pub level_dropout: f64,
    /// How often they get one, two, ... levels, relative to one another; 1 where not named.
    pub prefix_weights: Vec<f64>,
}

/// What moves the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// Exponential moving averages of the vectors that fall to them.
    Ema,
    /// The gradient of the codebook loss.
    Gradient,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            codec: CodecConfig::default(),
            batch: 8,
            seconds: 1.0,
            wide: 0.27,
            narrow: 0.0,
            optimizer: OptimizerConfig::default(),
            vq: VqTraining::default(),
            loss: SpectralWeights {
                mel: 1.0,
                log: 0.0,
                linear: 0.0,
                complex: 0.6,
                power: 0.5,
                complex_top: 900.0,
            },
            encoder_rate: 1.0,
            hold_decoder: false,
            envelope: 5.0,
            lead: 1.0,
            resolutions: default_resolutions(),
            adversarial: None,
            precision: Precision::F32,
            kind_weights: BTreeMap::new(),
            synthetic: 0.05,
        }
    }
}

/// Mel distances at the windows of the DAC paper and at one that tells low partials apart, phase at those that
/// resolve partials: two a step.
fn default_resolutions() -> Vec<Vec<Resolution>> {
    let turns = [[2048, 256], [1024, 128], [4096, 512], [2048, 64], [1024, 32], [4096, 512]];
    let times = |window| turns.iter().flatten().filter(|&&w| w == window).count() as f64;
    let resolution = |&window: &usize| Resolution {
        window,
        hop: window / if window <= 64 { 2 } else { 4 },
        // Partials 50 Hz apart can be told by 400 bands.
        mel_bands: (window * 5 / 32).min(400),
        stft: window >= 256,
        gain: turns.len() as f64 / times(window),
    };
    turns.iter().map(|turn| turn.iter().map(resolution).collect()).collect()
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 2e-3,
            final_share: 0.03,
            warm_up: 100,
            beta1: 0.8,
            beta2: 0.99,
            weight_decay: 0.01,
            clip: 1.0,
            average: 0.998,
        }
    }
}

impl Default for VqTraining {
    fn default() -> Self {
        Self {
            choice: Choice::Nearest,
            update: Update::Ema,
            commitment: 0.25,
            diversity: 0.1,
            restart_after: 60,
            level_dropout: 0.25,
            prefix_weights: Vec::new(),
        }
    }
}

impl TrainConfig {
    /// Reads a configuration from JSON text and checks it; what is not named keeps its default.
    ///
    /// # Errors
    /// The text is not JSON, has unknown fields, or a value is out of range.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        checked_from_json(text, Self::check)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.codec.check()?;
        let bad = |field, value: f64, expected| {
            Err(ConfigError::Value { field, value: value.to_string(), expected })
        };
        if self.batch == 0 || self.batch > 4096 {
            return bad("batch", self.batch as f64, "1 to 4096");
        }
        if !(0.1..=60.0).contains(&self.seconds) {
            return bad("seconds", self.seconds, "0.1 to 60");
        }
        let shares = [
            ("wide", self.wide),
            ("narrow", self.narrow),
            ("wide + narrow", self.wide + self.narrow),
            ("vq.level_dropout", self.vq.level_dropout),
            ("encoder_rate", self.encoder_rate),
        ];
        for (field, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return bad(field, value, "0 to 1");
            }
        }
        self.optimizer.check([
            "optimizer.learning_rate",
            "optimizer.final_share",
            "optimizer.beta1",
            "optimizer.beta2",
            "optimizer.average",
            "optimizer.clip",
            "optimizer.weight_decay",
        ])?;
        for (field, value) in
            [("loss.power", self.loss.power), ("loss.complex_top", self.loss.complex_top)]
        {
            if !(value.is_finite() && value > 0.0) {
                return bad(field, value, "more than 0");
            }
        }
        let weights = [
            ("vq.commitment", self.vq.commitment),
            ("vq.diversity", self.vq.diversity),
            ("loss.mel", self.loss.mel),
            ("loss.log", self.loss.log),
            ("loss.linear", self.loss.linear),
            ("loss.complex", self.loss.complex),
            ("envelope", self.envelope),
            ("lead", self.lead),
        ];
        for (field, value) in weights {
            if !(value.is_finite() && value >= 0.0) {
                return bad(field, value, "0 or more");
            }
        }
        if let Choice::Gumbel { temperature, final_temperature } = self.vq.choice {
            let last = final_temperature.unwrap_or(temperature);
            for (field, value) in
                [("vq.choice.temperature", temperature), ("vq.choice.final_temperature", last)]
            {
                if !(value.is_finite() && value > 0.0) {
                    return bad(field, value, "more than 0");
                }
            }
        }
        for weight in &self.vq.prefix_weights {
            if !(weight.is_finite() && *weight >= 0.0) {
                return bad("vq.prefix_weights", *weight, "0 or more");
            }
        }
        if self.vq.prefix_weights.len() >= self.codec.levels()
            && self.vq.prefix_weights.iter().all(|weight| *weight == 0.0)
        {
            return bad("vq.prefix_weights", 0.0, "more than 0 for at least one number of levels");
        }
        if self.hold_decoder && (self.encoder_rate == 0.0 || self.adversarial.is_some()) {
            return Err(ConfigError::Value {
                field: "hold_decoder",
                value: "true".into(),
                expected: "an encoder that learns (encoder_rate above 0, no adversarial stage)",
            });
        }
        if self.resolutions.is_empty() || self.resolutions.iter().any(Vec::is_empty) {
            return bad("resolutions", 0.0, "at least one turn of at least one resolution");
        }
        if let Some(adversarial) = &self.adversarial {
            adversarial.check(self.complete_samples(), self.codec.sample_rate)?;
        }
        Ok(())
    }

    /// Samples of a crop: whole coarse steps.
    pub fn samples(&self) -> usize {
        let step = self.codec.samples_per_step();
        let wanted = (self.seconds * f64::from(self.codec.sample_rate)).round() as usize;
        (wanted / step).max(1) * step
    }

    /// Samples of a decoded crop that lack nothing: its end waits for frames to come.
    pub fn complete_samples(&self) -> usize {
        self.samples().saturating_sub(self.codec.synthesis_window - self.codec.hop)
    }
}

impl OptimizerConfig {
    /// Checks every value; errors go by the names given for rate, final share, the two decays, average,
    /// clip and weight decay.
    pub(crate) fn check(&self, names: [&'static str; 7]) -> Result<(), ConfigError> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let [rate, share, beta1, beta2, average, clip, decay] = names;
        let below_one = "0 or more and less than 1";
        for (field, value, fits, expected) in [
            (rate, self.learning_rate, positive(self.learning_rate), "more than 0"),
            (share, self.final_share, (0.0..=1.0).contains(&self.final_share), "0 to 1"),
            (beta1, self.beta1, (0.0..1.0).contains(&self.beta1), below_one),
            (beta2, self.beta2, (0.0..1.0).contains(&self.beta2), below_one),
            (average, self.average, (0.0..1.0).contains(&self.average), below_one),
            (clip, self.clip, positive(self.clip), "more than 0"),
            (
                decay,
                self.weight_decay,
                self.weight_decay.is_finite() && self.weight_decay >= 0.0,
                "0 or more",
            ),
        ] {
            if !fits {
                return Err(ConfigError::Value { field, value: value.to_string(), expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_json_and_check() {
        let config = TrainConfig::default();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(TrainConfig::from_json(&text).unwrap(), config);
        assert_eq!(TrainConfig::from_json("{}").unwrap(), config);
        assert_eq!(config.samples(), 48_000);
    }

    #[test]
    fn each_window_counts_the_same_over_a_turn() {
        let turns = default_resolutions();
        for window in [32, 64, 128, 256, 512, 1024, 2048, 4096] {
            let sum: f64 =
                turns.iter().flatten().filter(|r| r.window == window).map(|r| r.gain).sum();
            assert!((sum - turns.len() as f64).abs() < 1e-9, "window {window}: {sum}");
        }
    }

    /// A configuration with one discriminator.
    fn one(discriminator: &str) -> String {
        format!(r#"{{"adversarial": {{"at_once": 0, "discriminators": [{discriminator}]}}}}"#)
    }

    #[test]
    fn an_adversarial_stage_survives_json() {
        let config = TrainConfig {
            adversarial: Some(AdversarialConfig::default()),
            ..TrainConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(TrainConfig::from_json(&text).unwrap(), config);
        assert_eq!(TrainConfig::from_json(r#"{"adversarial": {}}"#).unwrap(), config);
        let period = one(r#"{"kind": "period", "period": 3}"#);
        let found = TrainConfig::from_json(&period).unwrap().adversarial.unwrap();
        assert_eq!(found.discriminators.len(), 1);
    }

    #[test]
    fn absurd_values_are_named() {
        for (json, name) in [
            (r#"{"batch": 0}"#, "batch"),
            (r#"{"wide": 0.7, "narrow": 0.5}"#, "wide + narrow"),
            (r#"{"optimizer": {"learning_rate": -1}}"#, "learning_rate"),
            (r#"{"vq": {"choice": {"kind": "gumbel", "temperature": 0}}}"#, "temperature"),
            (r#"{"resolutions": []}"#, "resolutions"),
            (r#"{"envelope": -1}"#, "envelope"),
            (r#"{"lead": -1}"#, "lead"),
            (r#"{"encoder_rate": 1.5}"#, "encoder_rate"),
            (r#"{"hold_decoder": true, "encoder_rate": 0}"#, "hold_decoder"),
            (r#"{"hold_decoder": true, "adversarial": {}}"#, "hold_decoder"),
            (r#"{"vq": {"prefix_weights": [1, -1]}}"#, "prefix_weights"),
            (r#"{"vq": {"prefix_weights": [0, 0, 0, 0]}}"#, "prefix_weights"),
            (r#"{"codec": {"hop": 1}}"#, "hop"),
            (r#"{"bach": 1}"#, "bach"),
            (r#"{"precision": "f16"}"#, "f16"),
            (r#"{"adversarial": {"start": 2}}"#, "adversarial.start"),
            (r#"{"adversarial": {"encoder_rate": -1}}"#, "encoder_rate"),
            (r#"{"adversarial": {"update_every": 0}}"#, "update_every"),
            (r#"{"adversarial": {"at_once": 4}}"#, "at_once"),
            (r#"{"adversarial": {"weight": -0.5}}"#, "adversarial.weight"),
            (r#"{"adversarial": {"loss": "wasserstein"}}"#, "wasserstein"),
            (r#"{"adversarial": {"optimizer": {"beta2": 1}}}"#, "adversarial.optimizer.beta2"),
            (r#"{"adversarial": {"discriminators": []}}"#, "discriminators"),
            (&one(r#"{"kind": "stft", "window": 99}"#), "window"),
            (&one(r#"{"kind": "stft", "window": 65536}"#), "window"),
            (&one(r#"{"kind": "stft", "hop": 0}"#), "hop"),
            (&one(r#"{"kind": "stft", "power": 0}"#), "power"),
            (&one(r#"{"kind": "stft", "band": [5000, 100]}"#), "band"),
            (&one(r#"{"kind": "stft", "band": [23999, 30000]}"#), "band"),
            (&one(r#"{"kind": "stft", "channels": []}"#), "channels"),
            (&one(r#"{"kind": "stft", "widow": 9}"#), "widow"),
            (&one(r#"{"kind": "period", "period": 0}"#), "period"),
            (&one(r#"{"kind": "wavelet"}"#), "wavelet"),
        ] {
            let error = TrainConfig::from_json(json).unwrap_err().to_string();
            assert!(error.contains(name), "{json}: {error}");
        }
    }
}
