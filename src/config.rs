//! What a codec network looks like: the JSON beside its weights.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::tokens::TokenLayout;

/// Largest `config.json` that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A configuration that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The JSON does not have the fields or types of a configuration.
    #[error("not a Tessera configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// A field's value is outside what the codec can do.
    #[error("`{field}` is {value}, but must be {expected}")]
    Value {
        /// Name of the field as in the JSON.
        field: &'static str,
        /// The value found.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
}

/// A configuration read from JSON text, once `check` accepts it.
pub(crate) fn checked_from_json<C: DeserializeOwned>(
    text: &str,
    check: impl FnOnce(&C) -> Result<(), ConfigError>,
) -> Result<C, ConfigError> {
    let config = serde_json::from_str(text)?;
    check(&config)?;
    Ok(config)
}

/// The network of a codec: everything that both executors need to know beside the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodecConfig {
    /// Name of the model, for people.
    pub name: String,
    /// Samples a second the network works at.
    pub sample_rate: u32,
    /// Samples between two frames.
    pub hop: usize,
    /// Samples seen by the learned analysis convolution; a multiple of `hop`.
    pub analysis_window: usize,
    /// Bands whose levels the encoder sees beside the analysis, their distance growing with frequency:
    /// filters learn what is loud, and hardly any of them listens above 8 kHz.
    pub level_bands: usize,
    /// Window of the inverse STFT in samples; a multiple of `hop`, even.
    pub synthesis_window: usize,
    /// Frequencies in Hz between which the decoder's phases turn from learned to noise: at a few kbps the
    /// tokens cannot tell them any higher, and a network left to itself then buzzes at the frame rate.
    pub noise_band: [u32; 2],
    /// Frames after which the decoder's noise comes round, if it is the model's own, made even by training: 512 are
    /// long enough not to be heard as a loop. 0 for white noise, which needs no weights.
    pub noise_frames: usize,
    /// Loops that may be heard in the noise's place, found in the sounds of the training: 255 are as many as a file can tell
    /// apart. 0 for none, which needs no weights.
    pub noise_loops: usize,
    /// Values that describe the magnitudes where phases are nothing but noise, their distance growing
    /// with frequency; bins between them lie on lines. There are never more than bins.
    pub noise_bands: usize,
    /// Bands between the noise's beginning and `voiced_top` in each of which the decoder says how much of it
    /// is partials at the multiples of those below; 0 for noise alone.
    pub voiced_bands: usize,
    /// Frequency in Hz above which there is noise alone, as there is above a quarter of the sample rate.
    pub voiced_top: u32,
    /// Frequency in Hz up to which the decoder also leads the noise and the partials above the learned phases
    /// where it wants them, as far as it knows; 0 for not at all.
    pub led_top: u32,
    /// Channels of the encoder's and decoder's blocks.
    pub dim: usize,
    /// Hidden channels of a block as a multiple of `dim`.
    pub expansion: usize,
    /// Taps of the blocks' depthwise convolutions, in frames.
    pub kernel: usize,
    /// Blocks of the encoder.
    pub encoder_blocks: usize,
    /// Blocks of the decoder.
    pub decoder_blocks: usize,
    /// The quantizer.
    pub vq: VqConfig,
}

/// The multi-scale residual vector quantizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VqConfig {
    /// Frames that a code covers, by level, coarse to fine. Each divides the first.
    pub strides: Vec<usize>,
    /// Codes in each level's codebook.
    pub codebook_size: usize,
    /// Dimension of a code.
    pub code_dim: usize,
    /// Whether codes and latents are compared by direction alone (L2-normalised, as in Yu et al. 2021,
    /// "Vector-quantized Image Modeling with Improved VQGAN").
    pub normalize: bool,
}

impl Default for CodecConfig {
    fn default() -> Self {
        Self {
            name: "tessera-48k".into(),
            sample_rate: 48_000,
            hop: 480,
            analysis_window: 1920,
            level_bands: 64,
            synthesis_window: 1920,
            noise_band: [900, 1000],
            noise_frames: 0,
            noise_loops: 0,
            noise_bands: 192,
            voiced_bands: 16,
            voiced_top: 8000,
            led_top: 0,
            dim: 384,
            expansion: 3,
            kernel: 7,
            encoder_blocks: 2,
            decoder_blocks: 3,
            vq: VqConfig::default(),
        }
    }
}

impl Default for VqConfig {
    fn default() -> Self {
        Self { strides: vec![4, 2, 1, 1], codebook_size: 1024, code_dim: 8, normalize: false }
    }
}

impl CodecConfig {
    /// Reads a configuration from JSON text and checks it.
    ///
    /// # Errors
    /// The text is not JSON, has unknown fields, or a value is out of range.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        checked_from_json(text, Self::check)
    }

    /// The configuration as JSON text: the same bytes for the same values, since the model id is made
    /// from it.
    ///
    /// # Errors
    /// None for values that [`Self::check`] accepts.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Checks every value against what the codec can do, so that no later code has to.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |field, value: &dyn ToString, expected| {
            Err(ConfigError::Value { field, value: value.to_string(), expected })
        };
        if !(8_000..=192_000).contains(&self.sample_rate) {
            return bad("sample_rate", &self.sample_rate, "8000 to 192000");
        }
        if !(16..=8192).contains(&self.hop) {
            return bad("hop", &self.hop, "16 to 8192 samples");
        }
        for (field, window) in
            [("analysis_window", self.analysis_window), ("synthesis_window", self.synthesis_window)]
        {
            if window % self.hop != 0 || window % 2 != 0 || !(1..=16).contains(&(window / self.hop))
            {
                return bad(field, &window, "even, and 1 to 16 times `hop`");
            }
        }
        if self.synthesis_window < 2 * self.hop {
            return bad("synthesis_window", &self.synthesis_window, "at least twice `hop`");
        }
        let [from, to] = self.noise_band;
        if from >= to || to > 1_000_000 {
            return bad(
                "noise_band",
                &format!("{from} to {to}"),
                "a rising pair of frequencies in Hz",
            );
        }
        if self.noise_frames > 4096 {
            return bad("noise_frames", &self.noise_frames, "at most 4096");
        }
        if self.noise_loops > 255 {
            return bad("noise_loops", &self.noise_loops, "at most 255");
        }
        if self.voiced_bands > 65_536 {
            return bad("voiced_bands", &self.voiced_bands, "at most 65536");
        }
        if self.voiced_bands > 0 && !self.synthesis_window.is_multiple_of(4) {
            return bad(
                "synthesis_window",
                &self.synthesis_window,
                "a multiple of 4, or `voiced_bands` 0",
            );
        }
        for (field, value, top) in [
            ("level_bands", self.level_bands, 65_536),
            ("noise_bands", self.noise_bands, 65_536),
            ("dim", self.dim, 4096),
            ("expansion", self.expansion, 16),
            ("kernel", self.kernel, 64),
            ("encoder_blocks", self.encoder_blocks, 64),
            ("decoder_blocks", self.decoder_blocks, 64),
            ("vq.code_dim", self.vq.code_dim, 4096),
        ] {
            if value == 0 || value > top {
                return bad(field, &value, "at least 1 and not absurdly large");
            }
        }
        if !(2..=65_536).contains(&self.vq.codebook_size) {
            return bad("vq.codebook_size", &self.vq.codebook_size, "2 to 65536");
        }
        let coarsest = self.vq.strides.first().copied().unwrap_or(0);
        if coarsest > 64 || self.layout().validate().is_err() {
            return bad(
                "vq.strides",
                &format!("{:?}", self.vq.strides),
                "1 to 16 strides, each a divisor of the first, which is at most 64",
            );
        }
        Ok(())
    }

    /// Samples in which the levels of bands are measured: the newest two hops, to tell an attack from what
    /// was before.
    pub fn level_window(&self) -> usize {
        2 * self.hop
    }

    /// Samples that a frame of the encoder sees before its first block.
    pub fn encoder_window(&self) -> usize {
        self.analysis_window.max(self.level_window())
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.vq.strides.len()
    }

    /// How tokens of this codec are laid out.
    pub fn layout(&self) -> TokenLayout {
        TokenLayout {
            strides: self.vq.strides.clone(),
            codebook_sizes: vec![self.vq.codebook_size; self.levels()],
        }
    }

    /// Samples in a coarse step, the smallest unit that is coded.
    pub fn samples_per_step(&self) -> usize {
        self.hop * self.layout().frames_per_step()
    }

    /// Samples by which the decoder's output lags when both ends stream: the coarsest pool and the
    /// overlap of the inverse STFT.
    pub fn latency_samples(&self) -> usize {
        self.samples_per_step() + self.lag_samples()
    }

    /// Samples by which the decoder's output lags behind its codes: the overlap of the inverse STFT.
    pub fn lag_samples(&self) -> usize {
        self.synthesis_window - self.hop
    }

    /// Bits a second of the first `levels` levels, packed plainly.
    pub fn bits_per_second(&self, levels: usize) -> f64 {
        self.layout().bits_per_step(levels) as f64 * f64::from(self.sample_rate)
            / self.samples_per_step() as f64
    }

    /// Steps before a point that the decoder has to see to give the same audio from there on as if it
    /// had started at the beginning.
    pub fn warm_up_steps(&self) -> usize {
        let frames = self.decoder_blocks * (self.kernel - 1) + self.synthesis_window / self.hop - 1;
        frames.div_ceil(self.layout().frames_per_step())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_the_design() {
        let config = CodecConfig::default();
        config.check().unwrap();
        assert_eq!(config.bits_per_second(4), 2750.0);
        assert_eq!(config.bits_per_second(1), 250.0);
        assert_eq!(config.samples_per_step(), 1920);
        assert_eq!(CodecConfig::from_json(&config.to_json().unwrap()).unwrap(), config);
    }

    #[test]
    fn absurd_values_are_named() {
        type Spoil = fn(&mut CodecConfig);
        let cases: [(&str, Spoil); 13] = [
            ("sample_rate", |c| c.sample_rate = 1),
            ("hop", |c| c.hop = 0),
            ("analysis_window", |c| c.analysis_window = 481),
            ("synthesis_window", |c| c.synthesis_window = 480),
            ("noise_band", |c| c.noise_band = [2000, 1000]),
            ("noise_frames", |c| c.noise_frames = 1 << 30),
            ("noise_loops", |c| c.noise_loops = 256),
            ("voiced_bands", |c| c.voiced_bands = 1 << 30),
            ("synthesis_window", |c| {
                (c.hop, c.analysis_window, c.synthesis_window) = (441, 882, 882)
            }),
            ("dim", |c| c.dim = 1 << 30),
            ("vq.codebook_size", |c| c.vq.codebook_size = 1),
            ("vq.strides", |c| c.vq.strides = vec![2, 4]),
            ("vq.strides", |c| c.vq.strides = vec![]),
        ];
        for (name, spoil) in cases {
            let mut config = CodecConfig::default();
            spoil(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
