//! The network in candle: training, and coding in batches on any device candle has.

mod block;
mod codebook;
mod decoder;
mod encoder;
pub(crate) mod even_noise;
pub mod ops;
mod params;
mod pca;
mod quantizer;

pub(crate) use block::{Block, BlockShape, Linear};
pub use codebook::{Codebook, CodebookState};
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use params::Params;
pub(crate) use params::{Builder, standard_normal};
pub use quantizer::{Bottleneck, Choice, Level, Quantized, Quantizer};

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use crate::config::CodecConfig;

/// The whole network: encoder, quantizer, decoder, and the parameters they share with an optimizer.
pub struct Network {
    /// What it was built from.
    pub config: CodecConfig,
    /// Everything the optimizer moves, by name. Codebooks are here as well; which of them it moves is
    /// the trainer's to say.
    pub params: Params,
    /// Samples to latents.
    pub encoder: Encoder,
    /// Latents to codes and back.
    pub quantizer: Quantizer,
    /// Latents to samples.
    pub decoder: Decoder,
}

impl Network {
    /// A network with random weights, the same for the same seed.
    ///
    /// # Errors
    /// The configuration cannot be built, or the device fails.
    pub fn random(config: &CodecConfig, seed: u64, device: &Device) -> Result<Self> {
        let mut params = Params::new(device);
        let (encoder, quantizer, decoder) = Self::layers(&mut params.random(seed), config)?;
        Ok(Self { config: config.clone(), params, encoder, quantizer, decoder })
    }

    /// A network with weights by name.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the configuration says.
    pub fn from_tensors(
        config: &CodecConfig,
        tensors: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        Self::holding(|_| false, config, tensors, device)
    }

    /// The same with weights that no gradient is computed for, to use and not to train.
    ///
    /// # Errors
    /// As [`Self::from_tensors`].
    pub fn constant(
        config: &CodecConfig,
        tensors: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        Self::holding(|_| true, config, tensors, device)
    }

    /// The same without gradients for the weights whose names `held` accepts.
    ///
    /// # Errors
    /// As [`Self::from_tensors`].
    pub fn holding(
        held: fn(&str) -> bool,
        config: &CodecConfig,
        tensors: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let mut params = Params::holding(device, held);
        let (encoder, quantizer, decoder) = Self::layers(&mut params.from(tensors), config)?;
        Ok(Self { config: config.clone(), params, encoder, quantizer, decoder })
    }

    /// What the encoder's and the decoder's matrix products are computed in from here on; the quantizer
    /// stays at 32 bits. A new network computes in 32 bits throughout.
    pub fn set_precision(&mut self, precision: ops::Precision) {
        self.encoder.set_precision(precision);
        self.decoder.set_precision(precision);
    }

    fn layers(
        p: &mut params::Builder,
        config: &CodecConfig,
    ) -> Result<(Encoder, Quantizer, Decoder)> {
        Ok((Encoder::new(p, config)?, Quantizer::new(p, config)?, Decoder::new(p, config)?))
    }
}
