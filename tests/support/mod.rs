//! Models of random weights, made without candle, and sounds to code with them.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::Model;

/// Numbers from -1 to 1 (xorshift, Marsaglia 2003).
pub struct Random(u32);

impl Random {
    pub fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(2_654_435_761) | 1)
    }

    pub fn draw(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as f32 / u32::MAX as f32 * 2.0 - 1.0
    }
}

/// Noise under a slow envelope.
pub fn noise(seed: u32, samples: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..samples).map(|n| 0.5 * (n as f32 * 1e-3).sin().abs() * random.draw()).collect()
}

/// A small network whose sizes are no multiples of anything.
pub fn odd() -> CodecConfig {
    CodecConfig {
        hop: 24,
        analysis_window: 72,
        synthesis_window: 96,
        noise_band: [4000, 12_000],
        dim: 37,
        kernel: 4,
        vq: VqConfig { codebook_size: 50, code_dim: 5, ..VqConfig::default() },
        ..CodecConfig::default()
    }
}

/// A weights file for `config` in one type; values are such that half precision holds them.
pub fn weights(config: &CodecConfig, seed: u32, dtype: Dtype) -> Vec<u8> {
    let dim = config.dim;
    let hidden = dim * config.expansion;
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut linear = |name: String, inputs: usize, outputs: usize| {
        shapes.push((format!("{name}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{name}.bias"), vec![outputs]));
    };
    linear("encoder.analysis".into(), config.analysis_window, dim);
    linear("decoder.input".into(), dim, dim);
    linear("decoder.head".into(), dim, 3 * (config.synthesis_window / 2 + 1));
    let mut blocks = Vec::new();
    for (half, count) in [("encoder", config.encoder_blocks), ("decoder", config.decoder_blocks)] {
        for i in 0..count {
            let name = format!("{half}.blocks.{i}");
            linear(format!("{name}.widen"), dim, hidden);
            linear(format!("{name}.narrow"), hidden, dim);
            blocks.push((format!("{name}.depthwise.weight"), vec![config.kernel, dim]));
            blocks.push((format!("{name}.depthwise.bias"), vec![dim]));
            blocks.push((format!("{name}.gain"), vec![dim]));
        }
    }
    for (i, stride) in config.vq.strides.iter().enumerate() {
        linear(format!("quantizer.{i}.down"), dim * stride, config.vq.code_dim);
        linear(format!("quantizer.{i}.up"), config.vq.code_dim, dim * stride);
        let shape = vec![config.vq.codebook_size, config.vq.code_dim];
        blocks.push((format!("quantizer.{i}.codes"), shape));
    }
    shapes.extend(blocks);
    let mut random = Random::new(seed);
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let inputs = if shape.len() == 2 && !name.ends_with("codes") { shape[1] } else { 1 };
            let scale = 256.0 / (inputs as f32).sqrt();
            let bytes = (0..shape.iter().product::<usize>())
                .flat_map(|_| {
                    // A whole number of 256ths up to 255, which every type holds exactly.
                    let whole = (random.draw() * scale).clamp(-255.0, 255.0) as i32;
                    let single = (whole as f32 / 256.0).to_bits();
                    match dtype {
                        Dtype::F32 => single.to_le_bytes().to_vec(),
                        Dtype::BF16 => ((single >> 16) as u16).to_le_bytes().to_vec(),
                        _ if whole == 0 => vec![0, 0],
                        _ => {
                            // The exponent's bias is 15 in place of 127, the mantissa 10 bits of 23.
                            let half = (single >> 13 & 0x3_ffff) - (112 << 10);
                            ((half | single >> 16 & 0x8000) as u16).to_le_bytes().to_vec()
                        }
                    }
                })
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A model of random weights.
pub fn model(config: &CodecConfig, seed: u32, dtype: Dtype) -> Model {
    let json = config.to_json().unwrap();
    Model::from_bytes(json.as_bytes(), &weights(config, seed, dtype), Path::new("random")).unwrap()
}
