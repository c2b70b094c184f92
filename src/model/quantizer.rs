//! The multi-scale residual vector quantizer.

use candle_core::{D, DType, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::block::Linear;
use super::codebook::Codebook;
use super::ops;
use super::params::{Builder, standard_normal};
use crate::config::CodecConfig;

/// Vectors of a level that the diversity loss looks at in a step: enough for its estimate, and the
/// softmax over all codes stays cheap.
const DIVERSITY_VECTORS: usize = 256;
/// Sharpness of the softmax behind the diversity loss.
const DIVERSITY_SHARPNESS: f64 = 8.0;

/// How a latent chooses its code while training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Choice {
    /// The nearest code, gradients passed straight through (van den Oord et al. 2017).
    Nearest,
    /// The nearest code, gradients turned and scaled as the latent was to become it, so that they keep their angle
    /// to it (the rotation trick: Fifty et al. 2024).
    Rotated,
    /// A sample from the softmax of the distances (Jang et al. 2017; Baevski et al. 2020), hard
    /// forward, soft backward. Codebooks learn through it by gradient.
    Gumbel {
        /// Temperature of the softmax.
        temperature: f64,
        /// Temperature at the end of the run, to which it moves by the same factor at all times; where it is not
        /// given, the temperature stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        final_temperature: Option<f64>,
    },
}

impl Choice {
    /// Whether the nearest code is chosen, so that the vectors that fall to a code can move it.
    pub fn is_nearest(self) -> bool {
        matches!(self, Self::Nearest | Self::Rotated)
    }

    /// The choice as it is when the share `done` of a run is over.
    pub fn at(self, done: f64) -> Self {
        match self {
            Self::Gumbel { temperature, final_temperature: Some(last) } => {
                let temperature = temperature * (last / temperature).powf(done);
                Self::Gumbel { temperature, final_temperature: Some(last) }
            }
            other => other,
        }
    }
}

/// What passes from the encoder to the decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bottleneck {
    /// Everything: the latents themselves. The first stage of training.
    Wide,
    /// The levels' projections without quantisation. The second stage.
    Narrow,
    /// Codes.
    Quantized(Choice),
}

/// One level: pooling, codebook, unpooling.
#[derive(Debug, Clone)]
pub struct Level {
    stride: usize,
    down: Linear,
    up: Linear,
    /// The level's codes.
    pub codebook: Codebook,
    /// (vectors, codes), if any: how much closer than it is each code counts for each vector, in halves of
    /// squared distances.
    odds: Option<Tensor>,
}

/// All levels.
#[derive(Debug, Clone)]
pub struct Quantizer {
    /// Levels from coarse to fine.
    pub levels: Vec<Level>,
    dim: usize,
    normalize: bool,
}

/// What came out of the quantizer in training.
pub struct Quantized {
    /// (batch, frames, dim).
    pub latents: Tensor,
    /// Mean squared distance of latents from their codes, gradient into the encoder.
    pub commitment: Tensor,
    /// The same, gradient into the codes.
    pub codebook: Tensor,
    /// 1 less the normalised entropy of the mean softmax over codes, averaged over levels.
    pub diversity: Tensor,
    /// By level: the vectors (n, code_dim), without gradient, and their codes; empty unless quantised.
    pub assignments: Vec<(Tensor, Tensor)>,
}

impl Level {
    fn new(p: &mut Builder, index: usize, stride: usize, config: &CodecConfig) -> Result<Self> {
        let (wide, narrow) = (config.dim * stride, config.vq.code_dim);
        let name = format!("quantizer.{index}");
        let down = Linear::new(p, &format!("{name}.down"), wide, narrow, 1.0)?;
        let up = Linear::new(p, &format!("{name}.up"), narrow, wide, 1.0)?;
        let shape = (config.vq.codebook_size, narrow);
        let codes = p.start(&format!("{name}.codes"), shape, |rng, count| {
            let mut codes: Vec<f32> = (0..count).map(|_| standard_normal(rng)).collect();
            if config.vq.normalize {
                codes.chunks_exact_mut(narrow).for_each(super::codebook::unit);
            }
            codes
        })?;
        let codebook = Codebook::new(&codes, config.vq.normalize)?;
        Ok(Self { stride, down, up, codebook, odds: None })
    }

    /// Latents (batch, frames, dim) to vectors (batch, frames / stride, code_dim).
    fn pool(&self, latents: &Tensor, normalize: bool) -> Result<Tensor> {
        let (batch, frames, dim) = latents.dims3()?;
        let x = latents.reshape((batch, frames / self.stride, dim * self.stride))?;
        let x = self.down.forward(&x)?;
        if normalize { unit(&x) } else { Ok(x) }
    }

    /// The reverse of [`Self::pool`].
    fn unpool(&self, vectors: &Tensor, dim: usize) -> Result<Tensor> {
        let (batch, count, _) = vectors.dims3()?;
        self.up.forward(vectors)?.reshape((batch, count * self.stride, dim))
    }
}

/// Rows of length 1.
fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?)
}

impl Quantizer {
    pub(super) fn new(p: &mut Builder, config: &CodecConfig) -> Result<Self> {
        let levels = config
            .vq
            .strides
            .iter()
            .enumerate()
            .map(|(i, &stride)| Level::new(p, i, stride, config))
            .collect::<Result<_>>()?;
        Ok(Self { levels, dim: config.dim, normalize: config.vq.normalize })
    }

    /// The first `levels` levels alone.
    pub fn prefix(&self, levels: usize) -> Self {
        Self { levels: self.levels[..levels].to_vec(), ..*self }
    }

    /// The same for one item of as many frames as `odds` are for: by level, (codes, codebook), how likely
    /// each code is, as logarithms but for a constant. A likely code is chosen before a nearer one when its
    /// logarithm is larger by more than what half its squared distance is, divided by `weight`
    /// (entropy-constrained vector quantisation: Chou, Lookabaugh and Gray 1989).
    ///
    /// # Errors
    /// The device fails.
    pub fn with_odds(&self, odds: &[Tensor], weight: f64) -> Result<Self> {
        let level = |(level, odds): (&Level, &Tensor)| {
            Ok(Level { odds: Some((odds * weight)?), ..level.clone() })
        };
        let levels = self.levels.iter().zip(odds).map(level).collect::<Result<_>>()?;
        Ok(Self { levels, ..*self })
    }

    /// Passes latents (batch, frames, dim) on as training needs them. `keep` (batch, levels) says with
    /// 1 and 0 which levels each item gets (level dropout); `rng` is for the Gumbel choice.
    ///
    /// # Errors
    /// A number of frames that is no multiple of the coarsest stride.
    pub fn train(
        &self,
        latents: &Tensor,
        bottleneck: Bottleneck,
        keep: Option<&Tensor>,
        diversity: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Quantized> {
        let zero = Tensor::zeros((), DType::F32, latents.device())?;
        let mut out = Quantized {
            latents: latents.clone(),
            commitment: zero.clone(),
            codebook: zero.clone(),
            diversity: zero,
            assignments: Vec::new(),
        };
        if bottleneck == Bottleneck::Wide {
            return Ok(out);
        }
        let mut residual = latents.clone();
        let mut sum: Option<Tensor> = None;
        for (i, level) in self.levels.iter().enumerate() {
            let vectors = level.pool(&residual, self.normalize)?;
            let passed = match bottleneck {
                Bottleneck::Quantized(choice) => {
                    let (code, chosen) = level.choose(&vectors, choice, rng)?;
                    let pull = (&vectors - chosen.detach())?.sqr()?.sum(D::Minus1)?.mean_all()?;
                    let push = (vectors.detach() - &chosen)?.sqr()?.sum(D::Minus1)?.mean_all()?;
                    out.commitment = (out.commitment + pull)?;
                    out.codebook = (out.codebook + push)?;
                    if diversity {
                        let lack = level.diversity(&vectors, self.normalize)?;
                        out.diversity = (out.diversity + (lack / self.levels.len() as f64)?)?;
                    }
                    let flat = vectors.detach().flatten(0, 1)?;
                    out.assignments.push((flat, code));
                    match choice {
                        Choice::Nearest => (&vectors + (chosen - &vectors)?.detach())?,
                        Choice::Rotated => rotate(&vectors, &chosen)?,
                        Choice::Gumbel { .. } => chosen,
                    }
                }
                _ => vectors,
            };
            let mut part = level.unpool(&passed, self.dim)?;
            // Narrow: the projections are linear, and the gradient is exact through the residual.
            // Quantised: each level answers for its own part alone.
            let taken = if bottleneck == Bottleneck::Narrow { part.clone() } else { part.detach() };
            residual = (residual - taken)?;
            if let Some(keep) = keep {
                part = part.broadcast_mul(&keep.narrow(1, i, 1)?.unsqueeze(2)?)?;
            }
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        if let Some(sum) = sum {
            out.latents = sum;
        }
        Ok(out)
    }

    /// The codes of latents (batch, frames, dim): by level, (batch, frames / stride) of u32.
    ///
    /// # Errors
    /// A number of frames that is no multiple of the coarsest stride.
    pub fn encode(&self, latents: &Tensor, levels: usize) -> Result<Vec<Tensor>> {
        let mut residual = latents.detach();
        let mut codes = Vec::with_capacity(levels);
        for level in self.levels.iter().take(levels) {
            let code = level.nearest(&level.pool(&residual, self.normalize)?)?;
            residual = (residual - level.unpool(&level.lookup(&code)?, self.dim)?)?.detach();
            codes.push(code);
        }
        Ok(codes)
    }

    /// Latents (batch, frames, dim) from the codes of the first levels.
    ///
    /// # Errors
    /// No levels, or numbers of codes that do not fit together.
    pub fn decode(&self, codes: &[Tensor]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (level, code) in self.levels.iter().zip(codes) {
            let part = level.unpool(&level.lookup(code)?, self.dim)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        match sum {
            Some(sum) => Ok(sum),
            None => candle_core::bail!("decoding needs the codes of at least one level"),
        }
    }

    /// Starts the projections as the principal components of what each level has to code, so that
    /// narrowing loses as little as it can, and what passes has unit variance.
    ///
    /// # Errors
    /// The device fails.
    pub fn start_projections(&self, latents: &Tensor) -> Result<()> {
        let mut residual = latents.detach();
        for level in &self.levels {
            level.start_projection(&residual)?;
            let passed = level.pool(&residual, self.normalize)?;
            residual = (residual - level.unpool(&passed, self.dim)?)?.detach();
        }
        Ok(())
    }

    /// Starts the codebooks by k-means on latents, level by level.
    ///
    /// # Errors
    /// The device fails.
    pub fn start_codebooks(&mut self, latents: &Tensor, rng: &mut ChaCha8Rng) -> Result<()> {
        self.start(0, latents, rng, |_, _| Ok(()))
    }

    /// Starts the levels from number `first` on, projections and codebooks, with what the codes of the
    /// levels before them leave: for levels that are added to a trained model.
    ///
    /// # Errors
    /// The device fails.
    pub fn start_levels(
        &mut self,
        first: usize,
        latents: &Tensor,
        rng: &mut ChaCha8Rng,
    ) -> Result<()> {
        self.start(first, latents, rng, Level::start_projection)
    }

    /// Starts the codebooks from number `first` on, each after what `project` does with the level and what is
    /// left for it.
    fn start(
        &mut self,
        first: usize,
        latents: &Tensor,
        rng: &mut ChaCha8Rng,
        project: impl Fn(&Level, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let mut residual = latents.detach();
        for (i, level) in self.levels.iter_mut().enumerate() {
            if i >= first {
                project(level, &residual)?;
                let vectors = level.pool(&residual, self.normalize)?.detach();
                level.codebook.kmeans(&vectors.flatten(0, 1)?, rng)?;
            }
            residual = level.rest(&residual, self.normalize)?;
        }
        Ok(())
    }
}

impl Level {
    /// Starts the projections as the principal components of `residual` (batch, frames, dim).
    fn start_projection(&self, residual: &Tensor) -> Result<()> {
        let (batch, frames, dim) = residual.dims3()?;
        let x = residual.reshape((batch * frames / self.stride, dim * self.stride))?;
        let basis = super::pca::principal(&x, self.codebook.codes().dim(1)?)?;
        self.down.set(&basis.down, &basis.down_bias)?;
        self.up.set(&basis.up, &basis.up_bias)
    }

    /// What the level's code leaves of `residual` (batch, frames, dim), without gradient.
    fn rest(&self, residual: &Tensor, normalize: bool) -> Result<Tensor> {
        let code = self.nearest(&self.pool(residual, normalize)?)?;
        let part = self.unpool(&self.lookup(&code)?, residual.dim(2)?)?;
        Ok((residual - part)?.detach())
    }

    /// The nearest code of each vector, as the odds have it: (n, code_dim) to (n).
    fn nearest_of(&self, vectors: &Tensor) -> Result<Tensor> {
        let Some(odds) = &self.odds else { return self.codebook.nearest(vectors) };
        let codes = self.codebook.codes().as_detached_tensor();
        (ops::closeness(&vectors.detach(), &codes)? + odds)?.argmax(1)
    }

    /// The nearest code of each vector: (batch, count, code_dim) to (batch, count).
    fn nearest(&self, vectors: &Tensor) -> Result<Tensor> {
        let (batch, count, _) = vectors.dims3()?;
        self.nearest_of(&vectors.flatten(0, 1)?)?.reshape((batch, count))
    }

    /// Vectors of codes: (batch, count) to (batch, count, code_dim).
    fn lookup(&self, code: &Tensor) -> Result<Tensor> {
        let (batch, count) = code.dims2()?;
        let codes = self.codebook.codes().as_detached_tensor();
        codes.index_select(&code.flatten_all()?, 0)?.reshape((batch, count, ()))
    }

    /// The code of each vector and the vector it stands for, with gradients into the codebook.
    fn choose(
        &self,
        vectors: &Tensor,
        choice: Choice,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Tensor, Tensor)> {
        let (batch, count, width) = vectors.dims3()?;
        let flat = vectors.reshape((batch * count, width))?;
        let codes = self.codebook.codes().as_tensor();
        match choice {
            Choice::Nearest | Choice::Rotated => {
                let code = self.nearest_of(&flat)?;
                let chosen = codes.index_select(&code, 0)?.reshape((batch, count, width))?;
                Ok((code, chosen))
            }
            Choice::Gumbel { temperature, .. } => {
                let scores = ops::closeness(&flat, codes)?;
                let noise: Vec<f32> = (0..scores.elem_count()).map(|_| gumbel(rng)).collect();
                let noise = Tensor::from_vec(noise, scores.shape(), scores.device())?;
                let soft = softmax(&((scores + noise)? / temperature)?)?;
                let code = soft.argmax(1)?;
                let hard = one_hot(&code, codes.dim(0)?)?;
                let weights = ((hard - &soft)?.detach() + &soft)?;
                Ok((code, weights.matmul(codes)?.reshape((batch, count, width))?))
            }
        }
    }

    /// 1 less the entropy of the batch's mean softmax over codes, as a share of the largest possible:
    /// 0 when all codes are wanted alike.
    fn diversity(&self, vectors: &Tensor, normalize: bool) -> Result<Tensor> {
        let (batch, count, width) = vectors.dims3()?;
        let total = batch * count;
        let step = total.div_ceil(DIVERSITY_VECTORS);
        let flat = vectors.reshape((total, width))?;
        let some: Vec<u32> = (0..total as u32).step_by(step).collect();
        let some = flat.index_select(&Tensor::new(some, flat.device())?, 0)?;
        let codes = self.codebook.codes().as_detached_tensor();
        let scores = ops::closeness(&some, &codes)?;
        let mut scores = (scores * DIVERSITY_SHARPNESS)?;
        if !normalize {
            // About their mean: an offset that all vectors share says nothing about how they differ.
            let centred = some.detach().broadcast_sub(&some.detach().mean_keepdim(0)?)?;
            let variance = centred.sqr()?.sum(1)?.mean_all()?;
            scores = scores.broadcast_div(&variance.maximum(1e-6)?)?;
        }
        let mean = softmax(&scores)?.mean(0)?;
        let entropy = (&mean * (&mean + 1e-9)?.log()?)?.sum_all()?.neg()?;
        (entropy / -(codes.dim(0)? as f64).ln())? + 1.0
    }
}

/// `chosen` in value; in its gradient `vectors` under the rotation and scaling that makes them `chosen`.
fn rotate(vectors: &Tensor, chosen: &Tensor) -> Result<Tensor> {
    let (v, chosen) = (vectors.detach(), chosen.detach());
    let length = |x: &Tensor| (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt();
    let scale = length(&chosen)?.div(&length(&v)?)?;
    let (from, to) = (unit(&v)?, unit(&chosen)?);
    let between = unit(&(&from + &to)?)?;
    let along = |axis: &Tensor| (vectors * axis)?.sum_keepdim(D::Minus1);
    // The mirror image in the plane across `between`, and back along `to`: a rotation.
    let mirrored = (vectors - (between.broadcast_mul(&along(&between)?)? * 2.0)?)?;
    let turned = (mirrored + (to.broadcast_mul(&along(&from)?)? * 2.0)?)?.broadcast_mul(&scale)?;
    &turned + (chosen - &turned)?.detach()
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(1)?.detach())?.exp()?;
    shifted.broadcast_div(&shifted.sum_keepdim(1)?)
}

fn one_hot(code: &Tensor, size: usize) -> Result<Tensor> {
    let range = Tensor::arange(0u32, size as u32, code.device())?;
    code.unsqueeze(1)?.broadcast_eq(&range.unsqueeze(0)?)?.to_dtype(DType::F32)
}

fn gumbel(rng: &mut ChaCha8Rng) -> f32 {
    use rand::RngExt;
    let u: f32 = rng.random::<f32>().clamp(1e-7, 1.0 - 1e-7);
    -(-u.ln()).ln()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn a_rotated_gradient_keeps_its_angle_and_is_scaled() {
        let device = Device::Cpu;
        let tensor = |values: &[f32]| Tensor::from_slice(values, (1, 2, 3), &device).unwrap();
        let vectors = Var::from_tensor(&tensor(&[1.0, -2.0, 0.5, 0.3, 0.2, 0.1])).unwrap();
        let chosen = tensor(&[0.8, -1.0, 1.5, -0.3, -0.2, 0.4]);
        let wanted = tensor(&[0.3, 0.7, -0.2, 1.0, -1.0, 2.0]);
        let passed = rotate(&vectors, &chosen).unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in values(&passed).iter().zip(values(&chosen)) {
            assert!((a - b).abs() < 1e-6);
        }
        let grads = (passed * &wanted).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = values(grads.get(&vectors).unwrap());
        let (vectors, chosen, wanted) = (values(&vectors), values(&chosen), values(&wanted));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let length = |a: &[f32]| dot(a, a).sqrt();
        for i in [0..3, 3..6] {
            let (g, v, c, w) =
                (&gradient[i.clone()], &vectors[i.clone()], &chosen[i.clone()], &wanted[i]);
            assert!(
                (dot(g, v) / length(g) / length(v) - dot(w, c) / length(w) / length(c)).abs()
                    < 1e-5
            );
            assert!((length(g) / length(w) - length(c) / length(v)).abs() < 1e-5);
        }
    }

    #[test]
    fn temperatures_fall_by_the_same_factor() {
        let choice = Choice::Gumbel { temperature: 2.0, final_temperature: Some(0.5) };
        let at = |done| match choice.at(done) {
            Choice::Gumbel { temperature, .. } => temperature,
            _ => f64::NAN,
        };
        for (done, expected) in [(0.0, 2.0), (0.5, 1.0), (1.0, 0.5)] {
            assert!((at(done) - expected).abs() < 1e-12);
        }
        let fixed = Choice::Gumbel { temperature: 1.5, final_temperature: None };
        assert_eq!(fixed.at(0.7), fixed);
        assert_eq!(Choice::Rotated.at(0.7), Choice::Rotated);
    }
}
