//! How a prior is trained: the JSON given to `tessera prior train --config`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{CodecConfig, ConfigError, checked_from_json};
use crate::prior::PriorConfig;
use crate::train::config::OptimizerConfig;

/// The most gains at which audio is coded.
const MAX_GAINS: usize = 16;

/// Everything about a prior's training but its codec, its data, its length and its seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriorTrainConfig {
    /// The network.
    pub network: NetworkShape,
    /// Crops in a batch, each of the network's `steps` steps.
    pub batch: usize,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Share of the crops that get only a random number of the first levels.
    pub level_dropout: f64,
    /// Gains in dB at which each file of audio is coded: more tokens of a small folder. The first is
    /// validated with.
    pub gains_db: Vec<f64>,
    /// Relative weight of each kind (first-level subfolder) of the data; 1 where not named.
    pub kind_weights: BTreeMap<String, f64>,
}

/// What a prior's network looks like, but for what its codec says; see [`PriorConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct NetworkShape {
    pub embedding: usize,
    pub dim: usize,
    pub blocks: usize,
    pub kernel: usize,
    pub expansion: usize,
    pub width: usize,
    pub steps: usize,
}

impl From<&PriorConfig> for NetworkShape {
    fn from(prior: &PriorConfig) -> Self {
        let PriorConfig { embedding, dim, blocks, kernel, expansion, width, steps, .. } = *prior;
        Self { embedding, dim, blocks, kernel, expansion, width, steps }
    }
}

impl Default for NetworkShape {
    fn default() -> Self {
        Self::from(&PriorConfig::new(String::new(), Vec::new(), 0))
    }
}

impl NetworkShape {
    /// The network for the tokens of a codec with the id `id`, in hexadecimal.
    pub fn prior(&self, id: String, codec: &CodecConfig) -> PriorConfig {
        let Self { embedding, dim, blocks, kernel, expansion, width, steps } = *self;
        let (strides, codebook_size) = (codec.vq.strides.clone(), codec.vq.codebook_size);
        PriorConfig {
            codec: id,
            strides,
            codebook_size,
            embedding,
            dim,
            blocks,
            kernel,
            expansion,
            width,
            steps,
        }
    }
}

impl Default for PriorTrainConfig {
    fn default() -> Self {
        Self {
            network: NetworkShape::default(),
            batch: 16,
            optimizer: OptimizerConfig {
                beta1: 0.9,
                beta2: 0.98,
                weight_decay: 0.05,
                ..OptimizerConfig::default()
            },
            level_dropout: 0.25,
            gains_db: vec![0.0, -6.0, -12.0],
            kind_weights: BTreeMap::new(),
        }
    }
}

impl PriorTrainConfig {
    /// Reads a configuration from JSON text and checks it; what is not named keeps its default.
    ///
    /// # Errors
    /// The text is not JSON, has unknown fields, or a value is out of range.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        checked_from_json(text, Self::check)
    }

    /// Checks every value but the network's, which [`PriorConfig::check`] does.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |field, value: &dyn ToString, expected| {
            Err(ConfigError::Value { field, value: value.to_string(), expected })
        };
        if !(1..=4096).contains(&self.batch) {
            return bad("batch", &self.batch, "1 to 4096");
        }
        if !(0.0..=1.0).contains(&self.level_dropout) {
            return bad("level_dropout", &self.level_dropout, "0 to 1");
        }
        if !(1..=MAX_GAINS).contains(&self.gains_db.len()) {
            return bad("gains_db", &self.gains_db.len(), "1 to 16 gains");
        }
        if let Some(gain) = self.gains_db.iter().find(|gain| !(-60.0..=20.0).contains(*gain)) {
            return bad("gains_db", gain, "-60 to 20 dB");
        }
        self.optimizer.check([
            "optimizer.learning_rate",
            "optimizer.final_share",
            "optimizer.beta1",
            "optimizer.beta2",
            "optimizer.average",
            "optimizer.clip",
            "optimizer.weight_decay",
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_json_and_make_a_prior() {
        let config = PriorTrainConfig::default();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(PriorTrainConfig::from_json(&text).unwrap(), config);
        assert_eq!(PriorTrainConfig::from_json("{}").unwrap(), config);
        let codec = CodecConfig::default();
        let id = "0123456789abcdef".repeat(2);
        let prior = config.network.prior(id.clone(), &codec);
        assert_eq!(prior, PriorConfig::new(id, codec.vq.strides, codec.vq.codebook_size));
        prior.check().unwrap();
    }

    #[test]
    fn absurd_values_are_named() {
        for (json, name) in [
            (r#"{"batch": 0}"#, "batch"),
            (r#"{"level_dropout": 1.5}"#, "level_dropout"),
            (r#"{"gains_db": []}"#, "gains_db"),
            (r#"{"gains_db": [-90]}"#, "gains_db"),
            (r#"{"optimizer": {"beta1": 1}}"#, "beta1"),
            (r#"{"network": {"wide": 1}}"#, "wide"),
        ] {
            let error = PriorTrainConfig::from_json(json).unwrap_err().to_string();
            assert!(error.contains(name), "{json}: {error}");
        }
    }
}
