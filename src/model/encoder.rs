//! From samples to latent frames.

use candle_core::{Result, Tensor};

use super::block::{Block, Linear};
use super::params::Builder;
use crate::config::CodecConfig;

/// Learned analysis and causal blocks.
#[derive(Debug, Clone)]
pub struct Encoder {
    hop: usize,
    window: usize,
    analysis: Linear,
    blocks: Vec<Block>,
    output: Linear,
}

impl Encoder {
    pub(super) fn new(p: &mut Builder, config: &CodecConfig) -> Result<Self> {
        // Audio is quiet against unit variance (-20 dBFS is common): the gain brings frames near it.
        let analysis = Linear::new(p, "encoder.analysis", config.analysis_window, config.dim, 6.0)?;
        let blocks = (0..config.encoder_blocks)
            .map(|i| Block::new(p, &format!("encoder.blocks.{i}"), config))
            .collect::<Result<_>>()?;
        let output = Linear::new(p, "encoder.output", config.dim, config.dim, 1.0)?;
        Ok(Self { hop: config.hop, window: config.analysis_window, analysis, blocks, output })
    }

    /// Samples (batch, frames * hop) to latents (batch, frames, dim). Frame `t` sees the samples before
    /// `hop (t + 1)` and none after; before the first sample there is silence.
    ///
    /// # Errors
    /// A number of samples that is no multiple of the hop.
    pub fn forward(&self, samples: &Tensor) -> Result<Tensor> {
        let mut x = self.analysis.forward(&self.frames(samples)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.output.forward(&x)
    }

    /// Overlapping frames, (batch, frames, window).
    fn frames(&self, samples: &Tensor) -> Result<Tensor> {
        let (batch, length) = samples.dims2()?;
        if length % self.hop != 0 {
            candle_core::bail!("{length} samples are no multiple of the hop, {}", self.hop);
        }
        let (frames, parts) = (length / self.hop, self.window / self.hop);
        let hops = samples.reshape((batch, frames, self.hop))?.pad_with_zeros(1, parts - 1, 0)?;
        let shifted =
            (0..parts).map(|j| hops.narrow(1, j, frames)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&shifted, 2)
    }
}
