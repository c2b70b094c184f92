//! From latent frames back to samples.

use candle_core::{Result, Tensor};

use super::block::{Block, Linear};
use super::even_noise;
use super::ops::{self, InverseStft, Precision};
use super::params::Builder;
use crate::config::CodecConfig;
use crate::synthesis::{self, OwnNoise};

/// Causal blocks, then magnitude and phase of an inverse STFT (Siuzdak 2023, "Vocos").
#[derive(Clone)]
pub struct Decoder {
    input: Linear,
    blocks: Vec<Block>,
    head: Linear,
    synthesis: InverseStft,
}

impl Decoder {
    pub(super) fn new(p: &mut Builder, config: &CodecConfig) -> Result<Self> {
        let dim = config.dim;
        let mut identity = vec![0.0; dim * dim];
        (0..dim).for_each(|i| identity[i * dim + i] = 1.0);
        let input = Linear::with_weights(p, "decoder.input", dim, dim, identity)?;
        let blocks = (0..config.decoder_blocks)
            .map(|i| Block::new(p, &format!("decoder.blocks.{i}"), config.into()))
            .collect::<Result<_>>()?;
        let own = OwnNoise {
            turns: match synthesis::noise_shape(config) {
                [0, _] => Vec::new(),
                shape => {
                    let even = |_: &mut _, _| even_noise::turns(config);
                    p.start(synthesis::NOISE, &shape, even)?.flatten_all()?.to_vec1()?
                }
            },
            loops: match synthesis::loops_shape(config) {
                [0, ..] => Vec::new(),
                // Any lines will do until some are found in sounds.
                shape => p.normal(synthesis::LOOPS, &shape, 0.5)?.flatten_all()?.to_vec1()?,
            },
        };
        let synthesis = InverseStft::with_noise(config, &own).map_err(candle_core::Error::wrap)?;
        let head = Linear::head(p, "decoder.head", dim, &synthesis)?;
        Ok(Self { input, blocks, head, synthesis })
    }

    /// What matrix products are computed in from here on.
    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.input.set_precision(precision);
        self.blocks.iter_mut().for_each(|block| block.set_precision(precision));
        self.head.set_precision(precision);
    }

    /// Latents (batch, frames, dim) to samples (batch, frames * hop), aligned with the encoder's input.
    /// `first_frames` has the number of each item's first frame in its stream.
    /// The last `synthesis_window - hop` samples still lack what frames to come will add.
    ///
    /// # Errors
    /// Another shape.
    pub fn forward(&self, latents: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
        self.synthesis.forward(&self.describe(latents)?, first_frames)
    }

    /// Latents (batch, frames, dim) to what [`InverseStft::forward`] makes samples from.
    ///
    /// # Errors
    /// Another shape.
    pub fn describe(&self, latents: &Tensor) -> Result<Tensor> {
        let mut x = self.input.forward(latents)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&ops::normalize(&x)?)
    }

    /// What makes samples from descriptions.
    pub fn synthesis(&self) -> &InverseStft {
        &self.synthesis
    }
}
