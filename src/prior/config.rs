//! What a prior's network looks like: the JSON beside its weights.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, checked_from_json};
use crate::tokens::TokenLayout;

/// The network of a prior: everything that trainer and engine need to know beside the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorConfig {
    /// Id of the codec whose tokens it predicts, in hexadecimal: a hash of the codec's configuration and
    /// weights.
    pub codec: String,
    /// Frames that a code of each level covers, as in the codec's configuration.
    pub strides: Vec<usize>,
    /// Codes in each level's codebook.
    pub codebook_size: usize,
    /// Numbers that stand for a code: the length of its embedding.
    #[serde(default = "defaults::embedding")]
    pub embedding: usize,
    /// Channels of the network over steps.
    #[serde(default = "defaults::dim")]
    pub dim: usize,
    /// Blocks of the network over steps.
    #[serde(default = "defaults::blocks")]
    pub blocks: usize,
    /// Steps that the convolution of a block sees.
    #[serde(default = "defaults::kernel")]
    pub kernel: usize,
    /// Hidden channels of a block or layer for each of its channels.
    #[serde(default = "defaults::expansion")]
    pub expansion: usize,
    /// Channels of the network within a step.
    #[serde(default = "defaults::width")]
    pub width: usize,
    /// Steps after which the network forgets: chunks of a file have at most as many, so that each can be
    /// decoded by itself.
    #[serde(default = "defaults::steps")]
    pub steps: usize,
}

mod defaults {
    pub fn embedding() -> usize {
        64
    }
    pub fn dim() -> usize {
        256
    }
    pub fn blocks() -> usize {
        4
    }
    pub fn kernel() -> usize {
        7
    }
    pub fn expansion() -> usize {
        2
    }
    pub fn width() -> usize {
        192
    }
    pub fn steps() -> usize {
        64
    }
}

impl PriorConfig {
    /// The default network for the tokens of the codec with the id `codec`.
    pub fn new(codec: String, strides: Vec<usize>, codebook_size: usize) -> Self {
        Self {
            codec,
            strides,
            codebook_size,
            embedding: defaults::embedding(),
            dim: defaults::dim(),
            blocks: defaults::blocks(),
            kernel: defaults::kernel(),
            expansion: defaults::expansion(),
            width: defaults::width(),
            steps: defaults::steps(),
        }
    }

    /// Reads a configuration from JSON text and checks it.
    ///
    /// # Errors
    /// The text is not JSON, has unknown fields, or a value is out of range.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        checked_from_json(text, Self::check)
    }

    /// The configuration as JSON text.
    ///
    /// # Errors
    /// None for values that [`Self::check`] accepts.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Checks every value, so that no later code has to.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |field, value: &dyn ToString, expected| {
            Err(ConfigError::Value { field, value: value.to_string(), expected })
        };
        let hexadecimal = self.codec.bytes().all(|b| b.is_ascii_hexdigit());
        if self.codec.len() != 32 || !hexadecimal {
            return bad("codec", &self.codec, "32 hexadecimal digits");
        }
        if !(2..=65_536).contains(&self.codebook_size) {
            return bad("codebook_size", &self.codebook_size, "2 to 65536");
        }
        if let Err(error) = self.layout().validate() {
            return bad("strides", &format!("{:?} ({error})", self.strides), "a token layout");
        }
        if self.codes_per_step() > 256 {
            return bad("strides", &format!("{:?}", self.strides), "256 codes a step at most");
        }
        for (field, value, most) in [
            ("embedding", self.embedding, 1024),
            ("dim", self.dim, 4096),
            ("kernel", self.kernel, 64),
            ("expansion", self.expansion, 16),
            ("width", self.width, 4096),
        ] {
            if !(1..=most).contains(&value) {
                return bad(
                    field,
                    &value,
                    "at least 1, and no larger than a real-time network has",
                );
            }
        }
        if self.blocks > 64 {
            return bad("blocks", &self.blocks, "0 to 64");
        }
        if !(1..=255).contains(&self.steps) {
            return bad("steps", &self.steps, "1 to 255, as steps of a chunk are");
        }
        Ok(())
    }

    /// The tokens that it predicts.
    pub fn layout(&self) -> TokenLayout {
        TokenLayout {
            strides: self.strides.clone(),
            codebook_sizes: vec![self.codebook_size; self.strides.len()],
        }
    }

    /// Codes of a step, all levels together.
    pub fn codes_per_step(&self) -> usize {
        let first = self.strides.first().copied().unwrap_or(0);
        self.strides.iter().map(|stride| first / (*stride).max(1)).sum()
    }

    /// The level of each code of a step, coarse to fine.
    pub fn levels_of_codes(&self) -> Vec<usize> {
        let first = self.strides.first().copied().unwrap_or(0);
        let codes =
            |(level, stride): (usize, &usize)| std::iter::repeat_n(level, first / (*stride).max(1));
        self.strides.iter().enumerate().flat_map(codes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PriorConfig {
        PriorConfig::new("0123456789abcdef".repeat(2), vec![4, 2, 1, 1], 1024)
    }

    #[test]
    fn a_step_is_coarse_to_fine() {
        assert_eq!(config().codes_per_step(), 11);
        assert_eq!(config().levels_of_codes(), [0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
        let text = config().to_json().unwrap();
        assert_eq!(PriorConfig::from_json(&text).unwrap(), config());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        type Break = fn(&mut PriorConfig);
        let cases: [(&str, Break); 9] = [
            ("codec", |c| c.codec.push('0')),
            ("codec", |c| c.codec = "x".repeat(32)),
            ("strides", |c| c.strides.clear()),
            ("strides", |c| c.strides = vec![256, 1, 1]),
            ("codebook_size", |c| c.codebook_size = 1),
            ("dim", |c| c.dim = 0),
            ("width", |c| c.width = 1 << 20),
            ("blocks", |c| c.blocks = 65),
            ("steps", |c| c.steps = 256),
        ];
        for (field, break_it) in cases {
            let mut broken = config();
            break_it(&mut broken);
            let error = broken.check().unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }
}
