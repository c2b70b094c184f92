//! The layers both halves of the network are made of.

use candle_core::{Result, Tensor};

use super::ops;
use super::params::Builder;
use crate::config::CodecConfig;

/// A linear layer with bias.
#[derive(Debug, Clone)]
pub struct Linear {
    w: Tensor,
    b: Tensor,
}

impl Linear {
    /// `name.weight` (outputs, inputs) and `name.bias` (outputs); weights of standard deviation
    /// `gain / sqrt(inputs)`, bias zero.
    pub(super) fn new(
        p: &mut Builder,
        name: &str,
        inputs: usize,
        outputs: usize,
        gain: f32,
    ) -> Result<Self> {
        let deviation = gain / (inputs as f32).sqrt();
        Ok(Self {
            w: p.normal(&format!("{name}.weight"), (outputs, inputs), deviation)?,
            b: p.constant(&format!("{name}.bias"), outputs, 0.0)?,
        })
    }

    /// (..., inputs) to (..., outputs).
    ///
    /// # Errors
    /// A last dimension other than `inputs`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.w, &self.b)
    }
}

/// A causal ConvNeXt block over frames (Liu et al. 2022; for audio, Siuzdak 2023): depthwise
/// convolution, normalisation, two pointwise layers around a GELU, residual with a gain a channel.
#[derive(Debug, Clone)]
pub struct Block {
    depthwise: Tensor,
    depthwise_bias: Tensor,
    widen: Linear,
    narrow: Linear,
    gain: Tensor,
}

impl Block {
    pub(super) fn new(p: &mut Builder, name: &str, config: &CodecConfig) -> Result<Self> {
        let (dim, hidden, taps) = (config.dim, config.dim * config.expansion, config.kernel);
        Ok(Self {
            depthwise: p.normal(
                &format!("{name}.depthwise.weight"),
                (taps, dim),
                1.0 / (taps as f32).sqrt(),
            )?,
            depthwise_bias: p.constant(&format!("{name}.depthwise.bias"), dim, 0.0)?,
            widen: Linear::new(p, &format!("{name}.widen"), dim, hidden, 1.0)?,
            narrow: Linear::new(p, &format!("{name}.narrow"), hidden, dim, 1.0)?,
            gain: p.constant(&format!("{name}.gain"), dim, 0.2)?,
        })
    }

    /// (batch, frames, dim) to the same.
    ///
    /// # Errors
    /// Another shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = ops::depthwise_causal(x, &self.depthwise, &self.depthwise_bias)?;
        let h = ops::gelu(&self.widen.forward(&ops::normalize(&h)?)?)?;
        ops::scaled_residual(x, &self.narrow.forward(&h)?, &self.gain)
    }
}
