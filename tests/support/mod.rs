//! Models of random weights, made without candle, sounds to code with them, and coding them whole.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tessera_codec::audio::{AudioError, AudioInfo, AudioSource, AudioWarning, SampleFormat};
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
use tessera_codec::prior::{Prior, PriorConfig};

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

/// A signal as a source.
pub struct Signal {
    pub info: AudioInfo,
    pub planar: Vec<Vec<f32>>,
    at: usize,
    /// The most it gives at once.
    pub most: usize,
}

impl Signal {
    pub fn tone(rate: u32, channels: u16, frames: usize) -> Self {
        let planar = (0..channels)
            .map(|c| {
                (0..frames).map(|n| (0.05 * f32::from(c + 1) * n as f32).sin() * 0.3).collect()
            })
            .collect();
        Self::new(rate, planar)
    }

    /// Of these samples, by channel.
    pub fn new(rate: u32, planar: Vec<Vec<f32>>) -> Self {
        let channels = planar.len() as u16;
        let info = AudioInfo {
            sample_rate: rate,
            channels,
            frames: None,
            format: SampleFormat::Float(32),
        };
        Self { info, planar, at: 0, most: usize::MAX }
    }
}

impl AudioSource for Signal {
    fn info(&self) -> &AudioInfo {
        &self.info
    }

    fn read(&mut self, planar: &mut Vec<Vec<f32>>, max: usize) -> Result<usize, AudioError> {
        let end = (self.at + max.min(self.most)).min(self.planar[0].len());
        *planar = self.planar.iter().map(|p| p[self.at..end].to_vec()).collect();
        let frames = end - self.at;
        self.at = end;
        Ok(frames)
    }

    fn warnings(&self) -> Vec<AudioWarning> {
        Vec::new()
    }
}

/// A small network whose sizes are no multiples of anything.
pub fn odd() -> CodecConfig {
    CodecConfig {
        hop: 24,
        analysis_window: 72,
        synthesis_window: 96,
        level_bands: 11,
        noise_band: [4000, 8000],
        noise_frames: 5,
        noise_loops: 3,
        noise_bands: 7,
        voiced_bands: 3,
        voiced_top: 12_000,
        led_top: 10_000,
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
    // No more bands than bins, whether of the encoder's levels or of the decoder's noise.
    linear("encoder.envelope".into(), config.level_bands.min(config.hop + 1), dim);
    let bins_of_frame = config.synthesis_window / 2 + 1;
    let below = |bins: usize, frequency: u32| {
        (0..bins)
            .filter(|bin| {
                bin * (config.sample_rate as usize) < frequency as usize * config.synthesis_window
            })
            .count()
    };
    let learned = below(bins_of_frame, config.noise_band[1]);
    let voiced = below(config.synthesis_window / 4, config.voiced_top).saturating_sub(learned);
    let bands = config.noise_bands.min(bins_of_frame - learned) + config.voiced_bands.min(voiced);
    let led = below(bins_of_frame, config.led_top).saturating_sub(learned);
    linear("decoder.head".into(), dim, 3 * learned + bands + 2 * led);
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
    if config.noise_frames > 0 {
        // Where noise begins there is none yet.
        let noisy = bins_of_frame - below(bins_of_frame, config.noise_band[0] + 1);
        blocks.push(("decoder.noise".into(), vec![config.noise_frames, noisy]));
    }
    if config.noise_loops > 0 {
        // From 1 to 5.9 kHz.
        let line = |hz: usize| (hz * 8 * config.hop).div_ceil(config.sample_rate as usize);
        let lines = line(5900) - line(1000);
        blocks.push(("decoder.loops".into(), vec![config.noise_loops, lines, 2]));
    }
    shapes.extend(blocks);
    let scale = |name: &str, shape: &[usize]| {
        let product = shape.len() == 2 && name.ends_with(".weight");
        let inputs = if product { shape[1] } else { 1 };
        256.0 / (inputs as f32).sqrt()
    };
    tensors(shapes, seed, dtype, scale)
}

/// A file of tensors of these names and shapes; the values of each are up to `scale` 256ths.
fn tensors(
    shapes: Vec<(String, Vec<usize>)>,
    seed: u32,
    dtype: Dtype,
    scale: impl Fn(&str, &[usize]) -> f32,
) -> Vec<u8> {
    let mut random = Random::new(seed);
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let scale = scale(&name, &shape);
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

/// A small prior for the tokens of `model`, of sizes that are no multiples of anything.
pub fn small_prior(model: &Model) -> PriorConfig {
    PriorConfig {
        embedding: 5,
        dim: 19,
        blocks: 2,
        kernel: 3,
        width: 21,
        steps: 16,
        ..default_prior(model)
    }
}

/// A prior of the default size for the tokens of `model`.
pub fn default_prior(model: &Model) -> PriorConfig {
    let vq = &model.config().vq;
    PriorConfig::new(model.id_hex(), vq.strides.clone(), vq.codebook_size)
}

/// A weights file for a prior. With a `sharpness` of 1 the scores are within some units of each other; the
/// larger it is, the surer the prior is of what it expects.
pub fn prior_weights(config: &PriorConfig, seed: u32, sharpness: f32, dtype: Dtype) -> Vec<u8> {
    let PriorConfig { embedding, dim, width, expansion, codebook_size, .. } = *config;
    let codes = config.codes_per_step();
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut linear = |name: String, inputs: usize, outputs: usize| {
        shapes.push((format!("{name}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{name}.bias"), vec![outputs]));
    };
    linear("input".into(), codes * embedding, dim);
    linear("context".into(), dim, codes * width);
    for b in 0..config.blocks {
        linear(format!("blocks.{b}.widen"), dim, dim * expansion);
        linear(format!("blocks.{b}.narrow"), dim * expansion, dim);
    }
    for l in 0..config.strides.len() {
        linear(format!("hidden.{l}.widen"), width, width * expansion);
        linear(format!("hidden.{l}.narrow"), width * expansion, width);
        linear(format!("head.{l}"), width, codebook_size);
    }
    for b in 0..config.blocks {
        shapes.push((format!("blocks.{b}.depthwise.weight"), vec![config.kernel, dim]));
        shapes.push((format!("blocks.{b}.depthwise.bias"), vec![dim]));
        shapes.push((format!("blocks.{b}.gain"), vec![dim]));
    }
    for l in 0..config.strides.len() {
        shapes.push((format!("hidden.{l}.gain"), vec![width]));
        shapes.push((format!("embedding.{l}.weight"), vec![codebook_size, embedding]));
    }
    for i in 1..codes {
        shapes.push((format!("past.{i}.weight"), vec![width, i * embedding]));
    }
    let scale = |name: &str, shape: &[usize]| {
        let inputs = if shape.len() == 2 && !name.starts_with("embedding") { shape[1] } else { 1 };
        let sharpness = if name.starts_with("head") { sharpness } else { 1.0 };
        256.0 * sharpness / (inputs as f32).sqrt()
    };
    tensors(shapes, seed, dtype, scale)
}

/// A prior of random weights.
pub fn prior(config: &PriorConfig, seed: u32, sharpness: f32) -> Prior {
    let weights = prior_weights(config, seed, sharpness, Dtype::F16);
    let json = config.to_json().unwrap();
    Prior::from_bytes(json.as_bytes(), &weights, Path::new("random")).unwrap()
}

/// A model of random weights.
pub fn model(config: &CodecConfig, seed: u32, dtype: Dtype) -> Model {
    let json = config.to_json().unwrap();
    Model::from_bytes(json.as_bytes(), &weights(config, seed, dtype), Path::new("random")).unwrap()
}

/// All codes of a sound, given at once.
pub fn encode(model: &Model, batch: usize, sound: &[f32], levels: usize) -> Vec<u16> {
    let mut encoder = StreamEncoder::with_batch(model, batch);
    // Room for the tail as well: the lag of the analysis, less than this many steps.
    let steps = sound.len() / model.chunk_samples() + 16;
    let mut codes = vec![0; steps * model.codes_per_step(levels)];
    let done = encoder.process_into(sound, levels, &mut codes).unwrap();
    assert_eq!(done.consumed, sound.len());
    let tail = encoder.finish(levels, &mut codes[done.produced..]).unwrap();
    codes.truncate(done.produced + tail.produced);
    codes
}

/// All samples of codes, given at once.
pub fn decode(model: &Model, batch: usize, codes: &[u16], levels: usize) -> Vec<f32> {
    let mut decoder = StreamDecoder::with_batch(model, batch);
    let steps = codes.len() / model.codes_per_step(levels);
    let length = steps * model.chunk_samples() + decoder.latency_samples();
    let mut samples = vec![0.0; length];
    let done = decoder.process_into(codes, levels, &mut samples).unwrap();
    assert_eq!(done.consumed, codes.len());
    let tail = decoder.finish(&mut samples[done.produced..]).unwrap();
    assert_eq!(done.produced + tail.produced, length);
    samples
}
