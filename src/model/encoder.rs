//! From samples to latent frames.

use candle_core::{Result, Tensor};

use super::block::{Block, Linear};
use super::ops::{self, Precision};
use super::params::Builder;
use crate::config::CodecConfig;

/// Learned analysis, the levels of bands, and causal blocks.
#[derive(Debug, Clone)]
pub struct Encoder {
    hop: usize,
    window: usize,
    analysis: Linear,
    levels: ops::BandLevels,
    envelope: Linear,
    blocks: Vec<Block>,
}

impl Encoder {
    pub(super) fn new(p: &mut Builder, config: &CodecConfig) -> Result<Self> {
        let analysis = Linear::with_weights(
            p,
            "encoder.analysis",
            config.analysis_window,
            config.dim,
            fourier_analysis(config.analysis_window, config.dim),
        )?;
        let levels = ops::BandLevels::new(
            config.level_window(),
            config.hop,
            config.sample_rate,
            config.level_bands,
        );
        let envelope = Linear::new(p, "encoder.envelope", levels.count(), config.dim, 0.3)?;
        let blocks = (0..config.encoder_blocks)
            .map(|i| Block::new(p, &format!("encoder.blocks.{i}"), config.into()))
            .collect::<Result<_>>()?;
        Ok(Self {
            hop: config.hop,
            window: config.analysis_window,
            analysis,
            levels,
            envelope,
            blocks,
        })
    }

    /// Samples (batch, frames * hop) to latents (batch, frames, dim). Frame `t` sees the samples before
    /// `hop (t + 1)` and none after; before the first sample there is silence.
    ///
    /// # Errors
    /// A number of samples that is no multiple of the hop.
    pub fn forward(&self, samples: &Tensor) -> Result<Tensor> {
        let envelope = self.envelope.forward(&self.levels.forward(samples)?)?;
        let mut x =
            (self.analysis.forward(&ops::frames(samples, self.window, self.hop)?)? + envelope)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        ops::normalize(&x)
    }

    /// What matrix products are computed in from here on.
    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.analysis.set_precision(precision);
        self.envelope.set_precision(precision);
        self.blocks.iter_mut().for_each(|block| block.set_precision(precision));
    }
}

/// Where the analysis starts: pairs of windowed cosines and sines of the lowest frequencies, one pair
/// for each two channels. From there harmonics are learned several times sooner than from noise.
fn fourier_analysis(window: usize, dim: usize) -> Vec<f32> {
    let scale = 1.0 / (window as f64).sqrt() * 2f64.sqrt();
    let mut weights = Vec::with_capacity(dim * window);
    for channel in 0..dim {
        for n in 0..window {
            let turn = 2.0 * std::f64::consts::PI * n as f64 / window as f64;
            let hann = 0.5 - 0.5 * turn.cos();
            let (sin, cos) = (turn * (channel / 2) as f64).sin_cos();
            let wave = if channel % 2 == 0 { cos } else { -sin };
            weights.push((scale * hann * wave) as f32);
        }
    }
    weights
}
