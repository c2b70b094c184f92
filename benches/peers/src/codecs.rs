//! The codecs, each behind the same two calls.

use anyhow::{Context, Result, bail};
use candle_core::{Device, Module, StreamTensor, Tensor};
use candle_transformers::models::{dac, encodec, mimi, snac};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

use super::SECONDS;
use super::random::weights;

/// What there is to know of a codec besides what is measured.
pub struct About {
    pub audio: &'static str,
    pub latency: &'static str,
}

/// The codecs measured; ours is the last, with which the others are compared.
pub const ALL: [(&str, About); 5] = [
    ("EnCodec", About { audio: "24 kHz mono, 24 kbps", latency: "whole file (13 ms by design)" }),
    ("SNAC", About { audio: "24 kHz mono, 0.98 kbps", latency: "whole file" }),
    ("DAC", About { audio: "44.1 kHz mono, 8 kbps", latency: "whole file" }),
    ("Mimi", About { audio: "24 kHz mono, 1.1 kbps", latency: "80 ms, streamed" }),
    ("Tessera", About { audio: "48 kHz mono, 2.75 kbps", latency: "70 ms, streamed" }),
];

/// Codes the ten seconds, and decodes what the last coding gave.
pub trait Codec {
    fn encode(&mut self) -> Result<()>;
    fn decode(&mut self) -> Result<()>;
}

/// The codec of that name.
pub fn make(name: &str) -> Result<Box<dyn Codec>> {
    Ok(match name {
        "EnCodec" => {
            let model = encodec::Model::new(&encodec::Config::default(), weights(false))?;
            Box::new(EnCodec { model, sound: tensor(24_000)?, codes: None })
        }
        "SNAC" => {
            let config = snac::Config {
                sampling_rate: 24_000,
                encoder_dim: 48,
                encoder_rates: vec![2, 4, 8, 8],
                decoder_dim: 1024,
                decoder_rates: vec![8, 8, 4, 2],
                attn_window_size: None,
                codebook_size: 4096,
                codebook_dim: 8,
                vq_strides: vec![4, 2, 1],
                noise: true,
                depthwise: true,
            };
            let model = snac::Model::new(&config, weights(true))?;
            Box::new(Snac { model, sound: tensor(24_000)?, codes: Vec::new() })
        }
        "DAC" => {
            let config = dac::Config {
                num_codebooks: 9,
                model_bitrate: 8,
                codebook_size: 1024,
                latent_dim: 1024,
                frame_rate: 86,
                sampling_rate: 44_100,
            };
            let model = dac::Model::new(&config, weights(false))?;
            Box::new(Dac { model, sound: tensor(44_100)?, frames: 0 })
        }
        "Mimi" => {
            let model = mimi::Model::new(mimi::Config::v0_1(Some(8)), weights(false))?;
            Box::new(Mimi { model, sound: tensor(24_000)?, codes: Vec::new() })
        }
        "Tessera" => {
            let model = Model::shipped()?;
            Box::new(Tessera { sound: sound(48_000), codes: Vec::new(), model })
        }
        _ => bail!("there is no codec {name}"),
    })
}

/// A tone that rises, with some noise.
fn sound(rate: usize) -> Vec<f32> {
    let mut noise = 1u32;
    (0..SECONDS * rate)
        .map(|n| {
            let t = n as f32 / rate as f32;
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = noise as f32 / u32::MAX as f32 - 0.5;
            0.3 * (std::f32::consts::TAU * (200.0 + 50.0 * t) * t).sin() + 0.05 * noise
        })
        .collect()
}

fn tensor(rate: usize) -> Result<Tensor> {
    let sound = sound(rate);
    let length = sound.len();
    Ok(Tensor::from_vec(sound, (1, 1, length), &Device::Cpu)?)
}

struct EnCodec {
    model: encodec::Model,
    sound: Tensor,
    codes: Option<Tensor>,
}

impl Codec for EnCodec {
    fn encode(&mut self) -> Result<()> {
        self.codes = Some(self.model.encode(&self.sound)?);
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        self.model.decode(self.codes.as_ref().context("nothing is coded")?)?;
        Ok(())
    }
}

struct Snac {
    model: snac::Model,
    sound: Tensor,
    codes: Vec<Tensor>,
}

impl Codec for Snac {
    fn encode(&mut self) -> Result<()> {
        self.codes = self.model.encode(&self.sound)?;
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        self.model.decode(&self.codes.iter().collect::<Vec<_>>())?;
        Ok(())
    }
}

/// candle has no search of DAC's codes: encoding is the network without it.
struct Dac {
    model: dac::Model,
    sound: Tensor,
    frames: usize,
}

impl Codec for Dac {
    fn encode(&mut self) -> Result<()> {
        self.frames = self.model.encoder.forward(&self.sound)?.dim(2)?;
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        let codes = Tensor::zeros((1, 9, self.frames), candle_core::DType::U32, &Device::Cpu)?;
        self.model.decode_codes(&codes)?;
        Ok(())
    }
}

/// In steps of 80 ms, as it is meant to run.
struct Mimi {
    model: mimi::Model,
    sound: Tensor,
    codes: Vec<StreamTensor>,
}

/// Samples of a step of Mimi.
const MIMI_STEP: usize = 1920;

impl Codec for Mimi {
    fn encode(&mut self) -> Result<()> {
        self.model.reset_state();
        self.codes.clear();
        for first in (0..self.sound.dim(2)? / MIMI_STEP).map(|step| step * MIMI_STEP) {
            let piece = self.sound.narrow(2, first, MIMI_STEP)?;
            self.codes.push(self.model.encode_step(&piece.into())?);
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        self.model.reset_state();
        for codes in &self.codes {
            self.model.decode_step(codes)?;
        }
        Ok(())
    }
}

/// In steps of 40 ms, as it is meant to run.
struct Tessera {
    model: Model,
    sound: Vec<f32>,
    codes: Vec<u16>,
}

impl Codec for Tessera {
    fn encode(&mut self) -> Result<()> {
        let levels = self.model.levels();
        let mut encoder = StreamEncoder::new(&self.model);
        let mut codes = vec![0; self.model.codes_per_step(levels)];
        self.codes.clear();
        for piece in self.sound.chunks(encoder.chunk_samples()) {
            let done = encoder.process_into(piece, levels, &mut codes)?;
            self.codes.extend_from_slice(&codes[..done.produced]);
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        let levels = self.model.levels();
        let mut decoder = StreamDecoder::new(&self.model);
        let mut samples = vec![0.0; decoder.chunk_samples()];
        for codes in self.codes.chunks_exact(self.model.codes_per_step(levels)) {
            decoder.process_into(codes, levels, &mut samples)?;
        }
        Ok(())
    }
}
