//! The layers both halves of the network are made of.

use candle_core::{Result, Tensor, Var};

use super::ops::{self, InverseStft, Precision};
use super::params::{Builder, standard_normal};
use crate::config::CodecConfig;

/// Where log magnitudes start: the level of quiet music in an orthonormal spectrum.
const QUIET: f32 = -3.0;
/// Where voicing starts: nearly all is noise.
const UNVOICED: f32 = -2.0;

/// A linear layer with bias.
#[derive(Debug, Clone)]
pub struct Linear {
    w: Tensor,
    b: Tensor,
    precision: Precision,
}

impl Linear {
    /// `name.weight` (outputs, inputs) and `name.bias` (outputs); weights of standard deviation
    /// `gain / sqrt(inputs)`, bias zero.
    pub(crate) fn new(
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
            precision: Precision::F32,
        })
    }

    /// The same with a random bias, so that an input of zeros is not lost on a normalisation behind it.
    pub(crate) fn with_random_bias(
        p: &mut Builder,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self> {
        let deviation = 1.0 / (inputs as f32).sqrt();
        Ok(Self {
            w: p.normal(&format!("{name}.weight"), (outputs, inputs), deviation)?,
            b: p.normal(&format!("{name}.bias"), outputs, 1.0)?,
            precision: Precision::F32,
        })
    }

    /// A layer with weights (outputs, inputs) to start from, in rows.
    pub(super) fn with_weights(
        p: &mut Builder,
        name: &str,
        inputs: usize,
        outputs: usize,
        weights: Vec<f32>,
    ) -> Result<Self> {
        Ok(Self {
            w: p.start(&format!("{name}.weight"), (outputs, inputs), |_, _| weights)?,
            b: p.constant(&format!("{name}.bias"), outputs, 0.0)?,
            precision: Precision::F32,
        })
    }

    /// The layer before an inverse STFT: log magnitudes start at random and low, the directions of the
    /// learned bins as the channels' pairs, as the encoder's analysis makes them, and all that is above as
    /// noise.
    pub(super) fn head(
        p: &mut Builder,
        name: &str,
        inputs: usize,
        synthesis: &InverseStft,
    ) -> Result<Self> {
        let (magnitudes, learned) = (synthesis.magnitudes(), synthesis.learned_bins());
        let outputs = synthesis.inputs();
        let voicing = magnitudes + 2 * learned;
        let (lead, led) = (synthesis.first_lead(), synthesis.led_bins());
        let w = p.start(&format!("{name}.weight"), (outputs, inputs), |rng, count| {
            let deviation = 1.0 / (3.0 * inputs as f32).sqrt();
            let mut w: Vec<f32> = (0..count).map(|_| deviation * standard_normal(rng)).collect();
            for bin in 0..learned.min(inputs / 2) {
                for (part, channel) in [(0, 2 * bin), (1, 2 * bin + 1)] {
                    let row = &mut w[(magnitudes + part * learned + bin) * inputs..][..inputs];
                    row.fill(0.0);
                    row[channel] = 1.0;
                }
            }
            // What leads starts as the matching channels, too; further up nothing is known.
            w[lead * inputs..].fill(0.0);
            for i in 0..led.min((inputs / 2).saturating_sub(learned)) {
                for part in [0, 1] {
                    w[(lead + part * led + i) * inputs + 2 * (learned + i) + part] = 1.0;
                }
            }
            w
        })?;
        let b = p.start(&format!("{name}.bias"), outputs, |_, _| {
            let start = |i| match i {
                _ if i < magnitudes => QUIET,
                _ if i >= voicing && i < lead => UNVOICED,
                _ => 0.0,
            };
            (0..outputs).map(start).collect()
        })?;
        Ok(Self { w, b, precision: Precision::F32 })
    }

    /// Sets weights (outputs, inputs) and bias (outputs).
    ///
    /// # Errors
    /// Other shapes.
    pub(super) fn set(&self, w: &Tensor, b: &Tensor) -> Result<()> {
        // Both are variables, made by the builder; `from_tensor` gives those back as they are.
        Var::from_tensor(&self.w)?.set(w)?;
        Var::from_tensor(&self.b)?.set(b)
    }

    /// Adds to the weights (outputs, inputs).
    ///
    /// # Errors
    /// Another shape.
    pub(crate) fn add_to_weights(&self, more: &Tensor) -> Result<()> {
        let w = Var::from_tensor(&self.w)?;
        w.set(&(w.as_detached_tensor() + more)?)
    }

    /// Numbers that it takes.
    ///
    /// # Errors
    /// None for weights that the builder made.
    pub(crate) fn inputs(&self) -> Result<usize> {
        self.w.dim(1)
    }

    /// What the product is computed in from here on.
    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The layer of `count` outputs from the output `first` on, with the same parameters.
    ///
    /// # Errors
    /// There are not that many outputs.
    pub(crate) fn outputs(&self, first: usize, count: usize) -> Result<Self> {
        Ok(Self {
            w: self.w.narrow(0, first, count)?,
            b: self.b.narrow(0, first, count)?,
            precision: self.precision,
        })
    }

    /// (..., inputs) to (..., outputs).
    ///
    /// # Errors
    /// A last dimension other than `inputs`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.w, &self.b, self.precision)
    }
}

/// What a block looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockShape {
    /// Channels in and out.
    pub dim: usize,
    /// Hidden channels for each of them.
    pub expansion: usize,
    /// Frames that the convolution sees.
    pub kernel: usize,
}

impl From<&CodecConfig> for BlockShape {
    fn from(config: &CodecConfig) -> Self {
        Self { dim: config.dim, expansion: config.expansion, kernel: config.kernel }
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
    pub(crate) fn new(p: &mut Builder, name: &str, shape: BlockShape) -> Result<Self> {
        let (dim, hidden, taps) = (shape.dim, shape.dim * shape.expansion, shape.kernel);
        Ok(Self {
            depthwise: p.normal(
                &format!("{name}.depthwise.weight"),
                (taps, dim),
                1.0 / (taps as f32).sqrt(),
            )?,
            depthwise_bias: p.constant(&format!("{name}.depthwise.bias"), dim, 0.0)?,
            widen: Linear::new(p, &format!("{name}.widen"), dim, hidden, 1.0)?,
            narrow: Linear::new(p, &format!("{name}.narrow"), hidden, dim, 1.0)?,
            gain: p.constant(&format!("{name}.gain"), dim, 0.1)?,
        })
    }

    /// What the pointwise layers' products are computed in from here on.
    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.widen.set_precision(precision);
        self.narrow.set_precision(precision);
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
