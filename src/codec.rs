//! A trained model at work: samples to tokens and back, in segments of bounded size.
//!
//! [`EncodeStream`] and [`DecodeStream`] take a signal of any length piece by piece. The network is
//! causal with a finite reach, so each segment is computed with just enough of what came before it,
//! and the result is that of the whole signal at once.

mod grains;
mod search;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::bitstream::{FileError, write_atomically};
use crate::config::CodecConfig;
use crate::model::Network;
use crate::model_files::{self, ModelFiles};
use crate::shipped::Shipped;
use crate::tokens::Tokens;

pub use self::search::{Effort, SearchStream};
pub use crate::model_files::{CONFIG_FILE, MAX_WEIGHTS_BYTES, ModelError, WEIGHTS_FILE};

/// Steps coded at a time: about two and a half seconds, which keeps matrices large and memory small.
const SEGMENT_STEPS: usize = 64;

/// A model that cannot be loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The model cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The network failed.
    #[error("the network failed: {0}")]
    Candle(#[from] candle_core::Error),
    /// A search was to stop ([`Effort::stop`]).
    #[error("stopped before the end")]
    Stopped,
}

/// A trained model, ready to code.
pub struct Codec {
    network: Network,
    id: [u8; 16],
    device: Device,
}

impl Codec {
    /// Loads the model in the folder `dir`.
    ///
    /// # Errors
    /// A file is missing, too large, damaged, or of another configuration.
    pub fn load(dir: &Path) -> Result<Self, CodecError> {
        Self::from_files(&ModelFiles::load(dir)?)
    }

    /// The shipped model for general use: embedded in the program, or in a build without the feature
    /// `embedded-model` found beside it.
    ///
    /// # Errors
    /// The model is not there or cannot be loaded.
    pub fn shipped() -> Result<Self, CodecError> {
        Self::load_shipped(Shipped::General)
    }

    /// A shipped model.
    ///
    /// # Errors
    /// The model is not there or cannot be loaded.
    pub fn load_shipped(shipped: Shipped) -> Result<Self, CodecError> {
        Self::from_files(&shipped.files()?)
    }

    /// A model from the contents of its two files; `path` names it in errors.
    ///
    /// # Errors
    /// The contents are damaged or do not fit together.
    pub fn from_bytes(config: &[u8], weights: &[u8], path: &Path) -> Result<Self, CodecError> {
        Self::from_files(&ModelFiles::new(config, weights.into(), path)?)
    }

    fn from_files(files: &ModelFiles) -> Result<Self, CodecError> {
        let device = Device::Cpu;
        let tensors = candle_core::safetensors::load_buffer(&files.weights.bytes, &device)
            .map_err(|e| files.weights.error(e))?
            .into_iter()
            .collect();
        let network = Network::constant(&files.config, &tensors, &device)
            .map_err(|e| files.weights.error(e))?;
        Ok(Self { network, id: files.id, device })
    }

    /// What the network looks like.
    pub fn config(&self) -> &CodecConfig {
        &self.network.config
    }

    /// Hash of configuration and weights: tokens are of use only to the model that made them.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The id in hexadecimal.
    pub fn id_hex(&self) -> String {
        model_files::id_hex(&self.id)
    }

    /// The codes of each level: (codebook, dimensions of a code).
    pub fn codebooks(&self) -> Vec<Tensor> {
        let levels = &self.network.quantizer.levels;
        levels.iter().map(|level| level.codebook.codes().as_detached_tensor()).collect()
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.network.params.count()
    }

    /// Begins coding `channels` channels at the codec's rate to the first `levels` levels.
    pub fn encoder(&self, channels: usize, levels: usize) -> EncodeStream<'_> {
        EncodeStream {
            codec: self,
            levels: levels.min(self.config().levels()),
            waiting: vec![Vec::new(); channels],
            context: 0,
        }
    }

    /// Begins decoding `channels` channels.
    pub fn decoder(&self, channels: usize) -> DecodeStream<'_> {
        DecodeStream { codec: self, history: vec![Tokens::default(); channels], steps: 0, done: 0 }
    }

    /// Steps before a segment that the encoder has to see again.
    fn encoder_context_steps(&self) -> usize {
        let config = self.config();
        let frames =
            config.encoder_blocks * (config.kernel - 1) + config.encoder_window() / config.hop - 1;
        frames.div_ceil(config.layout().frames_per_step())
    }
}

/// Samples in, tokens out.
pub struct EncodeStream<'a> {
    codec: &'a Codec,
    levels: usize,
    /// By channel: the context, then samples not coded yet.
    waiting: Vec<Vec<f32>>,
    /// Samples at the front of `waiting` that are coded already.
    context: usize,
}

impl EncodeStream<'_> {
    /// Takes samples, one slice per channel and all of one length, and gives the tokens of the
    /// segments they complete, one `Tokens` per channel; often of no steps.
    ///
    /// # Errors
    /// Channels of different lengths, or the network fails.
    pub fn push<S: AsRef<[f32]>>(&mut self, samples: &[S]) -> Result<Vec<Tokens>, CodecError> {
        channels_expected(self.waiting.len(), samples)?;
        for (waiting, samples) in self.waiting.iter_mut().zip(samples) {
            waiting.extend_from_slice(samples.as_ref());
        }
        let mut tokens = vec![Tokens::new(self.levels); self.waiting.len()];
        let segment = SEGMENT_STEPS * self.codec.config().samples_per_step();
        while self.waiting.first().is_some_and(|w| w.len() - self.context >= segment) {
            self.code(segment, &mut tokens)?;
        }
        Ok(tokens)
    }

    /// Codes what is left, with silence up to `steps` more steps in all beyond those already given.
    ///
    /// # Errors
    /// The network fails.
    pub fn finish(mut self, steps: u64) -> Result<Vec<Tokens>, CodecError> {
        let mut tokens = vec![Tokens::new(self.levels); self.waiting.len()];
        let step = self.codec.config().samples_per_step();
        let mut left = steps;
        while left > 0 {
            let now = left.min(SEGMENT_STEPS as u64) as usize;
            let needed = self.context + now * step;
            for waiting in &mut self.waiting {
                if waiting.len() < needed {
                    waiting.resize(needed, 0.0);
                }
            }
            self.code(now * step, &mut tokens)?;
            left -= now as u64;
        }
        Ok(tokens)
    }

    /// Codes the first `samples` samples after the context and makes them context.
    fn code(&mut self, samples: usize, tokens: &mut [Tokens]) -> Result<(), CodecError> {
        let config = self.codec.config();
        let step = config.samples_per_step();
        let length = self.context + samples;
        let flat: Vec<f32> =
            self.waiting.iter().flat_map(|w| w[..length].iter().copied()).collect();
        let batch = Tensor::from_vec(flat, (self.waiting.len(), length), &self.codec.device)?;
        let latents = self.codec.network.encoder.forward(&batch)?.detach();
        let context_frames = self.context / config.hop;
        let latents = latents.narrow(1, context_frames, samples / config.hop)?.contiguous()?;
        let codes = self.codec.network.quantizer.encode(&latents, self.levels)?;
        append(tokens, &codes)?;
        self.context = length.min(self.codec.encoder_context_steps() * step);
        for waiting in &mut self.waiting {
            waiting.drain(..length - self.context);
        }
        Ok(())
    }
}

/// Tokens in, samples out.
pub struct DecodeStream<'a> {
    codec: &'a Codec,
    /// By channel: the last steps given, which the next ones depend on.
    history: Vec<Tokens>,
    /// Steps in `history`.
    steps: usize,
    /// Steps taken in all.
    done: u64,
}

impl DecodeStream<'_> {
    /// Takes the tokens of some steps, one `Tokens` per channel with one or more levels, and gives the
    /// samples that they complete. The output lags by [`lag`](Self::lag) samples in all: the first call
    /// gives that many fewer.
    ///
    /// # Errors
    /// Tokens of different shapes, codes outside the codebooks, or the network fails.
    pub fn push(&mut self, tokens: &[Tokens]) -> Result<Vec<Vec<f32>>, CodecError> {
        let mut out = vec![Vec::new(); self.history.len()];
        let layout = self.codec.config().layout();
        let levels = tokens.first().map_or(0, |t| t.levels.len());
        let fail = |reason: String| CodecError::Candle(candle_core::Error::Msg(reason));
        if tokens.len() != self.history.len() || levels == 0 || levels > layout.levels() {
            return Err(fail(format!(
                "tokens of {} channels and {levels} levels do not fit this stream",
                tokens.len()
            )));
        }
        let layout = layout.prefix(levels);
        let steps = tokens.first().and_then(|t| t.steps(&layout));
        let Some(steps) = steps.filter(|_| tokens.iter().all(|t| t.steps(&layout) == steps)) else {
            return Err(fail("the levels do not hold the same number of steps".into()));
        };
        let book = self.codec.config().vq.codebook_size;
        if tokens.iter().flat_map(|t| t.levels.iter().flatten()).any(|&c| usize::from(c) >= book) {
            return Err(fail(format!("a code is not in the codebook of {book}")));
        }
        for first in (0..steps).step_by(SEGMENT_STEPS) {
            let now = (steps - first).min(SEGMENT_STEPS);
            let slice = |t: &Tokens| {
                let levels = t.levels.iter().enumerate().map(|(l, codes)| {
                    let per_step = layout.codes_per_step(l);
                    codes[first * per_step..(first + now) * per_step].to_vec()
                });
                Tokens::of_codes(levels.collect::<Vec<_>>())
            };
            self.decode(&tokens.iter().map(slice).collect::<Vec<_>>(), now, &mut out)?;
        }
        Ok(out)
    }

    /// Samples by which the output lags behind the tokens: the overlap of the inverse STFT.
    pub fn lag(&self) -> usize {
        self.codec.config().lag_samples()
    }

    fn decode(
        &mut self,
        tokens: &[Tokens],
        steps: usize,
        out: &mut [Vec<f32>],
    ) -> Result<(), CodecError> {
        let config = self.codec.config();
        let layout = config.layout();
        let levels = tokens.first().map_or(0, |t| t.levels.len());
        let mut all = self.history.clone();
        for (all, tokens) in all.iter_mut().zip(tokens) {
            // A change in the number of levels counts for the steps remembered as well.
            all.levels.resize(levels, Vec::new());
            for (level, codes) in all.levels.iter_mut().enumerate() {
                codes.resize(self.steps * layout.codes_per_step(level), 0);
            }
            all.extend(tokens);
        }
        let codes = codes_of(&all, &self.codec.device)?;
        let latents = self.codec.network.quantizer.decode(&codes)?;
        // All channels share the noise: what is alike on them stays in the middle.
        let first = (self.done - self.steps as u64) * layout.frames_per_step() as u64;
        let first_frames = vec![first; all.len()];
        let samples = self.codec.network.decoder.forward(&latents, &first_frames)?.detach();
        let (step, lag) = (config.samples_per_step(), self.lag());
        // What earlier calls gave ends `lag` samples before the steps remembered do.
        let begin = (self.steps * step).saturating_sub(lag);
        let end = ((self.steps + steps) * step).saturating_sub(lag);
        for (out, row) in out.iter_mut().zip(samples.to_vec2::<f32>()?) {
            out.extend_from_slice(&row[begin..end.max(begin)]);
        }
        let keep = (self.steps + steps).min(config.warm_up_steps());
        let drop = self.steps + steps - keep;
        for tokens in &mut all {
            tokens.take_steps(drop, &layout);
        }
        (self.history, self.steps) = (all, keep);
        self.done += steps as u64;
        Ok(())
    }
}

/// Refuses samples of another number of channels, or channels of different lengths.
fn channels_expected<S: AsRef<[f32]>>(count: usize, samples: &[S]) -> Result<(), CodecError> {
    let length = samples.first().map_or(0, |s| s.as_ref().len());
    if samples.len() != count || samples.iter().any(|s| s.as_ref().len() != length) {
        return Err(CodecError::Candle(candle_core::Error::Msg(format!(
            "{count} channels of one length were expected"
        ))));
    }
    Ok(())
}

/// Adds codes, by level (channels, codes), to the channels' tokens.
fn append(tokens: &mut [Tokens], codes: &[Tensor]) -> candle_core::Result<()> {
    for (level, codes) in codes.iter().enumerate() {
        for (tokens, row) in tokens.iter_mut().zip(codes.to_vec2::<u32>()?) {
            // Codes are below the codebook's size, which is at most 65536.
            tokens.levels[level].extend(row.iter().map(|&c| c as u16));
        }
    }
    Ok(())
}

/// The codes of the channels' tokens, by level (channels, codes).
fn codes_of(tokens: &[Tokens], device: &Device) -> candle_core::Result<Vec<Tensor>> {
    let levels = tokens.first().map_or(0, |t| t.levels.len());
    let level = |level: usize| {
        let rows = || tokens.iter().map(|t| &t.levels[level]);
        let width = rows().next().map_or(0, Vec::len);
        let flat: Vec<u32> = rows().flatten().map(|&c| u32::from(c)).collect();
        Tensor::from_vec(flat, (tokens.len(), width), device)
    };
    (0..levels).map(level).collect()
}

/// The configuration and weights, by name, of the model in the folder `dir`: to train it on.
///
/// # Errors
/// As [`Codec::load`].
pub fn load_model(dir: &Path) -> Result<(CodecConfig, BTreeMap<String, Tensor>), CodecError> {
    let codec = Codec::load(dir)?;
    Ok((codec.config().clone(), codec.network.params.snapshot()?))
}

/// Writes a model folder: `config.json` and `weights.safetensors` in half precision. The folder is
/// made if it is not there; files of the same names are replaced.
///
/// # Errors
/// The tensors do not fit the configuration, or the folder cannot be written to.
pub fn save_model(
    dir: &Path,
    config: &CodecConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), CodecError> {
    let weights_path = dir.join(WEIGHTS_FILE);
    let weights_error = |reason: String| ModelError::Weights { path: weights_path.clone(), reason };
    // Whatever is saved can be loaded.
    let network = Network::from_tensors(config, tensors, &Device::Cpu)
        .map_err(|e| weights_error(e.to_string()))?;
    let half = network
        .params
        .iter()
        .map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().to_dtype(DType::F16)?)))
        .collect::<candle_core::Result<BTreeMap<_, _>>>()?;
    let bytes = safetensors::serialize(&half, None).map_err(|e| weights_error(e.to_string()))?;
    let text = config
        .to_json()
        .map_err(|source| ModelError::Config { path: dir.join(CONFIG_FILE), source })?;
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Read { path: dir.into(), source })?;
    for (name, bytes) in [(WEIGHTS_FILE, bytes.as_slice()), (CONFIG_FILE, text.as_bytes())] {
        write_atomically(&dir.join(name), bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::{check, host};

    pub fn small() -> CodecConfig {
        CodecConfig {
            hop: 48,
            analysis_window: 192,
            synthesis_window: 192,
            dim: 16,
            encoder_blocks: 2,
            decoder_blocks: 2,
            vq: crate::config::VqConfig { codebook_size: 64, ..Default::default() },
            ..CodecConfig::default()
        }
    }

    pub fn codec(folder: &Path) -> Codec {
        let network = Network::random(&small(), 5, &Device::Cpu).unwrap();
        save_model(folder, &small(), &network.params.snapshot().unwrap()).unwrap();
        Codec::load(folder).unwrap()
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let step = codec.config().samples_per_step();
        let steps = 3 * SEGMENT_STEPS + 7;
        let signals: Vec<Vec<f32>> = (0..2)
            .map(|c| host(&(check::random(c, &[steps * step]) * 0.3).unwrap()).unwrap())
            .collect();

        // At once, through the network itself.
        let flat = Tensor::from_vec(signals.concat(), (2, steps * step), &Device::Cpu).unwrap();
        let latents = codec.network.encoder.forward(&flat).unwrap();
        let codes = codec.network.quantizer.encode(&latents, 4).unwrap();
        let latents = codec.network.quantizer.decode(&codes).unwrap();
        let whole = codec.network.decoder.forward(&latents, &[0, 0]);
        let whole: Vec<Vec<f32>> = whole.unwrap().to_vec2().unwrap();

        let mut encoder = codec.encoder(2, 4);
        let mut tokens = vec![Tokens::new(4); 2];
        for start in (0..steps * step).step_by(1111) {
            let end = (start + 1111).min(steps * step);
            let pieces: Vec<&[f32]> = signals.iter().map(|s| &s[start..end]).collect();
            for (all, new) in tokens.iter_mut().zip(encoder.push(&pieces).unwrap()) {
                all.extend(&new);
            }
        }
        let given = tokens[0].steps(&codec.config().layout()).unwrap();
        let rest = encoder.finish((steps - given) as u64).unwrap();
        for (all, new) in tokens.iter_mut().zip(&rest) {
            all.extend(new);
        }
        for (level, codes) in codes.iter().enumerate() {
            let rows: Vec<Vec<u32>> = codes.to_vec2().unwrap();
            for (row, tokens) in rows.iter().zip(&tokens) {
                let streamed: Vec<u32> = tokens.levels[level].iter().map(|&c| c.into()).collect();
                assert_eq!(row, &streamed, "level {level}");
            }
        }

        let mut decoder = codec.decoder(2);
        let mut out = vec![Vec::new(); 2];
        let layout = codec.config().layout();
        for first in (0..steps).step_by(5) {
            let now = (steps - first).min(5);
            let some: Vec<Tokens> = tokens
                .iter()
                .map(|t| {
                    let levels = (0..4).map(|l| {
                        let n = layout.codes_per_step(l);
                        t.levels[l][first * n..(first + now) * n].to_vec()
                    });
                    Tokens::of_codes(levels.collect())
                })
                .collect();
            for (out, new) in out.iter_mut().zip(decoder.push(&some).unwrap()) {
                out.extend(new);
            }
        }
        let lag = decoder.lag();
        for (out, whole) in out.iter().zip(&whole) {
            assert_eq!(out.len(), steps * step - lag);
            for (i, (a, b)) in out.iter().zip(whole).enumerate() {
                assert!((a - b).abs() < 1e-5, "at {i}: {a} against {b}");
            }
        }
    }

    #[test]
    fn the_id_is_that_of_config_and_weights() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (first, second) = (codec(a.path()), codec(b.path()));
        assert_eq!(first.id_hex(), second.id_hex());
        let named = CodecConfig { name: "other".into(), ..small() };
        let tensors = first.network.params.snapshot().unwrap();
        save_model(b.path(), &named, &tensors).unwrap();
        assert_ne!(Codec::load(b.path()).unwrap().id(), first.id());
    }

    #[test]
    fn models_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        codec(folder.path());
        let weights = folder.path().join(WEIGHTS_FILE);
        let bytes = std::fs::read(&weights).unwrap();
        for end in [0, 7, 100, bytes.len() / 2] {
            std::fs::write(&weights, &bytes[..end]).unwrap();
            assert!(matches!(
                Codec::load(folder.path()),
                Err(CodecError::Model(ModelError::Weights { .. }))
            ));
        }
        std::fs::write(&weights, &bytes).unwrap();
        let config = folder.path().join(CONFIG_FILE);
        let wider = CodecConfig { dim: 20, ..small() };
        std::fs::write(&config, wider.to_json().unwrap()).unwrap();
        let error = Codec::load(folder.path()).err().unwrap().to_string();
        assert!(error.contains("encoder.analysis"), "{error}");
        std::fs::write(&config, "{\"dim\": 1e99}").unwrap();
        assert!(matches!(
            Codec::load(folder.path()),
            Err(CodecError::Model(ModelError::Config { .. }))
        ));
        std::fs::remove_file(&config).unwrap();
        assert!(matches!(
            Codec::load(folder.path()),
            Err(CodecError::Model(ModelError::Read { .. }))
        ));
    }

    #[test]
    fn tokens_of_other_shapes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let mut decoder = codec.decoder(1);
        let good = Tokens::of_codes(vec![vec![1], vec![1; 2], vec![1; 4], vec![1; 4]]);
        assert!(decoder.push(&[good.clone(), good.clone()]).is_err());
        let mut short = good.clone();
        short.levels[3].pop();
        assert!(decoder.push(&[short]).is_err());
        let mut outside = good.clone();
        outside.levels[1][0] = 64;
        assert!(decoder.push(&[outside]).is_err());
        assert!(decoder.push(&[good]).is_ok());
    }
}
