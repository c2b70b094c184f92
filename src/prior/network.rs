//! The prior in candle, for training: the codes of whole crops at once.

use std::collections::BTreeMap;

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{PRIOR_CONFIG_FILE, PRIOR_WEIGHTS_FILE, PriorConfig};
use crate::bitstream::{FileError, write_atomically};
use crate::config::ConfigError;
use crate::model::ops::{self, Precision};
use crate::model::{Block, BlockShape, Builder, Linear, Params, standard_normal};
use crate::model_files::{ModelError, PriorFiles};

/// Deviation of what an embedding has of its own where it begins as its code.
const OWN_EMBEDDING: f64 = 0.3;
/// Deviation that a dimension of the codes makes in the logits at first.
const HEAD_START: f32 = 0.15;

/// The prior's network and its parameters.
pub struct PriorNetwork {
    /// What it was built from.
    pub config: PriorConfig,
    /// Everything the optimizer moves, by name.
    pub params: Params,
    input: Linear,
    blocks: Vec<Block>,
    context: Linear,
    /// By code of a step from the second on: (width, embeddings before it).
    past: Vec<Tensor>,
    levels: Vec<Level>,
}

/// What the codes of a level have in common.
struct Level {
    /// First of its codes in a step, and their number.
    first: usize,
    codes: usize,
    /// (codebook, embedding)
    embedding: Tensor,
    widen: Linear,
    narrow: Linear,
    gain: Tensor,
    head: Linear,
}

/// A prior that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SavePriorError {
    /// The configuration is not usable.
    #[error("the prior's configuration cannot be used: {0}")]
    Config(#[from] ConfigError),
    /// The weights do not fit the configuration.
    #[error("the prior's weights do not fit its configuration: {0}")]
    Weights(#[from] candle_core::Error),
    /// The weights are no file.
    #[error("the prior's weights cannot be put into a file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// The folder cannot be written to.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// Writes `prior.json` and `prior.safetensors`, in half precision, into the folder `dir`; files of the same
/// names are replaced.
///
/// # Errors
/// The tensors do not fit the configuration, or the folder cannot be written to.
pub fn save_prior(
    dir: &Path,
    config: &PriorConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> std::result::Result<(), SavePriorError> {
    // Whatever is saved can be loaded.
    config.check()?;
    let network = PriorNetwork::from_tensors(config, tensors, &Device::Cpu)?;
    let half = network
        .params
        .iter()
        .map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().to_dtype(DType::F16)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    write_atomically(&dir.join(PRIOR_WEIGHTS_FILE), &safetensors::serialize(&half, None)?)?;
    Ok(write_atomically(&dir.join(PRIOR_CONFIG_FILE), config.to_json()?.as_bytes())?)
}

/// The configuration and weights, by name, of the prior in the folder `dir`: to train it on.
///
/// # Errors
/// The files are missing, or hold no prior.
pub fn load_prior(
    dir: &Path,
) -> std::result::Result<(PriorConfig, BTreeMap<String, Tensor>), ModelError> {
    let PriorFiles { config, weights, .. } = PriorFiles::load(dir)?;
    let tensors = candle_core::safetensors::load_buffer(&weights.bytes, &Device::Cpu)
        .map_err(|e| weights.error(e))?;
    let full = tensors.into_iter().map(|(name, t)| Ok((name, t.to_dtype(DType::F32)?)));
    let network = full
        .collect::<Result<_>>()
        .and_then(|tensors| PriorNetwork::from_tensors(&config, &tensors, &Device::Cpu))
        .map_err(|e| weights.error(e))?;
    let snapshot = network.params.snapshot().map_err(|e| weights.error(e))?;
    Ok((config, snapshot))
}

/// Steps in a row, of one channel, as [`Batch`] takes them.
#[derive(Debug, Clone, Copy)]
pub struct Crop<'a> {
    /// Codes by step, those of a step coarse to fine.
    pub codes: &'a [u16],
    /// Levels in use, from 1: the codes of the others are as if they were not there.
    pub levels: usize,
}

/// Crops of any lengths and numbers of levels, side by side.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Crops.
    items: usize,
    /// Steps of the longest.
    steps: usize,
    /// (items, steps, codes of a step); the size of the codebook stands for no code.
    codes: Vec<u32>,
    /// The steps there are, by their place among items * steps; crops with more levels come first.
    rows: Vec<u32>,
    /// How many of `rows` use each level.
    rows_of_level: Vec<usize>,
    /// By level, the codes of the rows that use it.
    targets: Vec<Vec<u32>>,
}

impl Batch {
    /// Lines up crops for a network.
    ///
    /// # Errors
    /// A crop is not whole steps, has a code that is in no codebook, or has no levels or too many.
    pub fn new(config: &PriorConfig, crops: &[Crop<'_>]) -> Result<Self> {
        let (per_step, absent) = (config.codes_per_step(), config.codebook_size as u32);
        let levels_of_codes = config.levels_of_codes();
        let levels = config.strides.len();
        for crop in crops {
            let whole = crop.codes.len().is_multiple_of(per_step.max(1));
            let known = crop.codes.iter().all(|code| u32::from(*code) < absent);
            if !whole || !known || !(1..=levels).contains(&crop.levels) {
                candle_core::bail!("these are no tokens of the codec that the prior is for");
            }
        }
        // So that the rows of a level are the first of all.
        let mut crops = crops.to_vec();
        crops.sort_by_key(|crop| std::cmp::Reverse(crop.levels));
        let steps = crops.iter().map(|crop| crop.codes.len() / per_step).max().unwrap_or(0);
        let mut codes = vec![absent; crops.len() * steps * per_step];
        let mut rows = Vec::new();
        let mut rows_of_level = vec![0; levels];
        let mut targets = vec![Vec::new(); levels];
        for (item, crop) in crops.iter().enumerate() {
            for (step, given) in crop.codes.chunks_exact(per_step).enumerate() {
                let row = item * steps + step;
                rows.push(row as u32);
                rows_of_level[..crop.levels].iter_mut().for_each(|rows| *rows += 1);
                let to = &mut codes[row * per_step..][..per_step];
                for ((to, code), level) in to.iter_mut().zip(given).zip(&levels_of_codes) {
                    if *level < crop.levels {
                        *to = u32::from(*code);
                        targets[*level].push(*to);
                    }
                }
            }
        }
        Ok(Self { items: crops.len(), steps, codes, rows, rows_of_level, targets })
    }

    /// Codes to be predicted, by level.
    pub fn counts(&self) -> Vec<usize> {
        self.targets.iter().map(Vec::len).collect()
    }

    /// Steps there are.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}

impl PriorNetwork {
    /// A network with random weights, the same for the same seed.
    ///
    /// # Errors
    /// The configuration cannot be built, or the device fails.
    pub fn random(config: &PriorConfig, seed: u64, device: &Device) -> Result<Self> {
        let mut params = Params::new(device);
        let layers = Layers::new(&mut params.random(seed), config)?;
        Ok(layers.into_network(config, params))
    }

    /// A network with weights by name.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the configuration says.
    pub fn from_tensors(
        config: &PriorConfig,
        tensors: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let mut params = Params::new(device);
        let layers = Layers::new(&mut params.from(tensors), config)?;
        Ok(layers.into_network(config, params))
    }

    /// Begins with what the codec knows of its codes: `codebooks` are its codes by level, (codebook, any
    /// dimensions). Codes that are close there get embeddings and odds that are close, so that what is
    /// learned of one is learned of its neighbours.
    ///
    /// # Errors
    /// Codebooks of another number or size.
    pub fn start_from_codebooks(&self, codebooks: &[Tensor], seed: u64) -> Result<()> {
        if codebooks.len() != self.levels.len() {
            candle_core::bail!("{} codebooks for {} levels", codebooks.len(), self.levels.len());
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for (level, codes) in self.levels.iter().zip(codebooks) {
            level.start_from_codebook(codes, &mut rng)?;
        }
        Ok(())
    }

    /// Takes over the weights, by name, of a prior with fewer levels, the first of these: what it says of
    /// its levels stays the same. What they do not cover is left as it is, but for what the steps would
    /// hear of the levels that are new, which begins with nothing.
    ///
    /// # Errors
    /// Weights of another shape but for the number of levels.
    pub fn start_from_fewer_levels(&self, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in self.params.iter() {
            let Some(weight) = weights.get(name) else { continue };
            let weight = weight.to_device(var.device())?.to_dtype(var.dtype())?;
            let (rows, known) = (var.dim(0)?, weight.dim(0)?);
            let weight = match (var.dims(), weight.dims()) {
                (wide, narrow) if wide == narrow => weight,
                ([_, columns], [_, fewer]) if fewer < columns && known == rows => {
                    weight.pad_with_zeros(1, 0, columns - fewer)?
                }
                (more, fewer) if fewer[1..] == more[1..] && known < rows => {
                    Tensor::cat(&[&weight, &var.narrow(0, known, rows - known)?], 0)?
                }
                (wanted, found) => candle_core::bail!(
                    "the tensor `{name}` is {found:?}, but this prior's is {wanted:?}"
                ),
            };
            var.set(&weight.detach().contiguous()?)?;
        }
        Ok(())
    }

    /// The sum of the cross-entropies of a batch's codes in nats, by level; `None` for a level that no
    /// crop uses.
    ///
    /// # Errors
    /// The batch is of another configuration, or the device fails.
    pub fn losses(&self, batch: &Batch) -> Result<Vec<Option<Tensor>>> {
        let logits = self.logits(batch)?;
        let loss = |(logits, targets): (Option<Tensor>, &Vec<u32>)| {
            logits.map(|logits| ops::cross_entropy(&logits, targets)?.sum_all()).transpose()
        };
        logits.into_iter().zip(&batch.targets).map(loss).collect()
    }

    /// Logits by level, (codes, codebook), in the order of [`Batch`]'s targets: crops with more levels
    /// first, in the order of time; `None` for a level that no crop uses.
    ///
    /// # Errors
    /// The batch is of another configuration, or the device fails.
    pub fn logits(&self, batch: &Batch) -> Result<Vec<Option<Tensor>>> {
        let width = self.config.width;
        let embedded = self.embed(batch)?;
        let over_steps = self.over_steps(&embedded, batch)?;
        // Only the steps that are there are worth the codes within them.
        let there = |x: Tensor| match batch.rows.len() == batch.items * batch.steps {
            true => Ok(x),
            false => {
                let rows = Tensor::from_slice(&batch.rows[..], batch.rows.len(), x.device())?;
                x.index_select(&rows, 0)
            }
        };
        let all = batch.items * batch.steps;
        let embedded = there(embedded.reshape((all, ()))?)?;
        let over_steps = there(over_steps.reshape((all, ()))?)?;
        let one = |level: &Level, rows: usize| {
            if rows == 0 {
                return Ok(None);
            }
            let context = self.context.outputs(level.first * width, level.codes * width)?;
            let mut h = context.forward(&over_steps.narrow(0, 0, rows)?)?;
            // What every code of the level knows of the step: the last sees all but itself.
            let known = (level.first + level.codes - 1) * self.config.embedding;
            if known > 0 {
                let past = embedded.narrow(0, 0, rows)?.narrow(1, 0, known)?.contiguous()?;
                let weights = self.past_of(level, known)?;
                let none = Tensor::zeros(weights.dim(0)?, weights.dtype(), weights.device())?;
                h = (h + ops::linear(&past, &weights, &none, Precision::F32)?)?;
            }
            Ok(Some(level.logits(&h.reshape((rows * level.codes, width))?)?))
        };
        self.levels.iter().zip(&batch.rows_of_level).map(|(l, rows)| one(l, *rows)).collect()
    }

    /// The embeddings of all codes, those of a step side by side: (items, steps, codes * embedding).
    fn embed(&self, batch: &Batch) -> Result<Tensor> {
        let (all, per_step) = (batch.items * batch.steps, self.config.codes_per_step());
        let (size, length) = (self.config.codebook_size, self.config.embedding);
        let embed = |level: &Level| {
            let codes = batch.codes.chunks_exact(per_step);
            let codes: Vec<u32> = codes
                .flat_map(|step| &step[level.first..level.first + level.codes])
                .copied()
                .collect();
            let device = level.embedding.device();
            // The row behind the last stands for no code.
            let none = Tensor::zeros((1, length), level.embedding.dtype(), device)?;
            let table = Tensor::cat(&[&level.embedding, &none], 0)?;
            if codes.iter().any(|code| *code as usize > size) {
                candle_core::bail!("the batch has codes that the prior's codebook lacks");
            }
            let count = codes.len();
            let codes = Tensor::from_vec(codes, count, device)?;
            table.index_select(&codes, 0)?.reshape((batch.items, all / batch.items.max(1), ()))
        };
        let levels: Vec<Tensor> = self.levels.iter().map(embed).collect::<Result<_>>()?;
        Tensor::cat(&levels, 2)
    }

    /// What is known of the steps before each: (items, steps, dim).
    fn over_steps(&self, embedded: &Tensor, batch: &Batch) -> Result<Tensor> {
        let before = embedded.pad_with_zeros(1, 1, 0)?.narrow(1, 0, batch.steps)?;
        let mut x = self.input.forward(&before.contiguous()?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        ops::normalize(&x)
    }

    /// The weights `past` of a level's codes as one matrix: (codes * width, known), zero for what a code
    /// does not know.
    fn past_of(&self, level: &Level, known: usize) -> Result<Tensor> {
        let (width, embedding) = (self.config.width, self.config.embedding);
        let codes = level.first..level.first + level.codes;
        let rows: Vec<Tensor> = codes
            .map(|code| match code.checked_sub(1) {
                Some(at) => self.past[at].pad_with_zeros(1, 0, known - code * embedding),
                None => {
                    let like = &level.embedding;
                    Tensor::zeros((width, known), like.dtype(), like.device())
                }
            })
            .collect::<Result<_>>()?;
        Tensor::cat(&rows, 0)
    }
}

impl Level {
    fn start_from_codebook(&self, codes: &Tensor, rng: &mut ChaCha8Rng) -> Result<()> {
        let device = self.embedding.device();
        let codes = codes.to_device(device)?.to_dtype(DType::F32)?;
        let centred = codes.broadcast_sub(&codes.mean_keepdim(0)?)?;
        // One scale for all dimensions: distances stay in proportion.
        let deviation = centred.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?.max(1e-12);
        let codes = (centred / f64::from(deviation))?;
        let (dims, length) = (codes.dim(1)?, self.embedding.dim(1)?);
        let known = dims.min(length);
        let embedding = Var::from_tensor(&self.embedding)?;
        let own = (embedding.as_detached_tensor() * OWN_EMBEDDING)?;
        let rest = own.narrow(1, known, length - known)?;
        embedding.set(&Tensor::cat(&[&codes.narrow(1, 0, known)?.contiguous()?, &rest], 1)?)?;
        let width = self.head.inputs()?;
        let scale = HEAD_START / (width as f32).sqrt();
        let random = (0..dims * width).map(|_| scale * standard_normal(rng)).collect();
        let directions = Tensor::from_vec::<_, f32>(random, (dims, width), device)?;
        self.head.add_to_weights(&codes.matmul(&directions)?)
    }

    /// (rows, width) to (rows, codebook).
    fn logits(&self, h: &Tensor) -> Result<Tensor> {
        let hidden = ops::gelu(&self.widen.forward(&ops::normalize(h)?)?)?;
        let h = ops::scaled_residual(h, &self.narrow.forward(&hidden)?, &self.gain)?;
        self.head.forward(&ops::normalize(&h)?)
    }
}

/// The layers on their way into a network.
struct Layers {
    input: Linear,
    blocks: Vec<Block>,
    context: Linear,
    past: Vec<Tensor>,
    levels: Vec<Level>,
}

impl Layers {
    fn new(p: &mut Builder, config: &PriorConfig) -> Result<Self> {
        let PriorConfig { embedding, dim, width, expansion, kernel, .. } = *config;
        let per_step = config.codes_per_step();
        let levels_of_codes = config.levels_of_codes();
        let shape = BlockShape { dim, expansion, kernel };
        // The first step has zeros before it.
        let input = Linear::with_random_bias(p, "input", per_step * embedding, dim)?;
        let blocks = (0..config.blocks)
            .map(|b| Block::new(p, &format!("blocks.{b}"), shape))
            .collect::<Result<_>>()?;
        let context = Linear::new(p, "context", dim, per_step * width, 1.0)?;
        let past = (1..per_step)
            .map(|i| {
                let deviation = 1.0 / ((i * embedding) as f32).sqrt();
                p.normal(&format!("past.{i}.weight"), (width, i * embedding), deviation)
            })
            .collect::<Result<_>>()?;
        let level = |p: &mut Builder, l: usize| -> Result<Level> {
            let hidden = format!("hidden.{l}");
            let (size, wide) = (config.codebook_size, width * expansion);
            Ok(Level {
                first: levels_of_codes.iter().take_while(|level| **level < l).count(),
                codes: levels_of_codes.iter().filter(|level| **level == l).count(),
                embedding: p.normal(&format!("embedding.{l}.weight"), (size, embedding), 1.0)?,
                widen: Linear::new(p, &format!("{hidden}.widen"), width, wide, 1.0)?,
                narrow: Linear::new(p, &format!("{hidden}.narrow"), wide, width, 1.0)?,
                gain: p.constant(&format!("{hidden}.gain"), width, 0.1)?,
                // Small, so that at first all codes are about as likely.
                head: Linear::new(p, &format!("head.{l}"), width, size, 0.1)?,
            })
        };
        let levels = (0..config.strides.len()).map(|l| level(p, l)).collect::<Result<_>>()?;
        Ok(Self { input, blocks, context, past, levels })
    }

    fn into_network(self, config: &PriorConfig, params: Params) -> PriorNetwork {
        let Self { input, blocks, context, past, levels } = self;
        PriorNetwork { config: config.clone(), params, input, blocks, context, past, levels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PriorConfig {
        PriorConfig {
            embedding: 4,
            dim: 8,
            blocks: 2,
            kernel: 3,
            width: 6,
            ..PriorConfig::new("0123456789abcdef".repeat(2), vec![4, 2, 1, 1], 13)
        }
    }

    fn codes(config: &PriorConfig, steps: usize, seed: u32) -> Vec<u16> {
        let count = steps * config.codes_per_step();
        let code = |i: u32| (seed + i).wrapping_mul(2_654_435_761) >> 16;
        (0..count as u32).map(|i| (code(i) % config.codebook_size as u32) as u16).collect()
    }

    fn network() -> PriorNetwork {
        PriorNetwork::random(&config(), 3, &Device::Cpu).unwrap()
    }

    fn rows(logits: &Tensor) -> Vec<Vec<f32>> {
        logits.to_vec2().unwrap()
    }

    #[test]
    fn tensors_are_named_as_documented() {
        let network = network();
        let names: Vec<&str> = network.params.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "embedding.3.weight",
            "input.weight",
            "blocks.1.depthwise.weight",
            "context.bias",
            "past.10.weight",
            "hidden.0.widen.bias",
            "hidden.2.gain",
            "head.3.weight",
        ] {
            assert!(names.contains(&name), "no {name} in {names:?}");
        }
        assert!(!names.iter().any(|n| n.starts_with("past.0.") || n.ends_with("past.1.bias")));
        let shape = |name: &str| {
            let (_, var) = network.params.iter().find(|(n, _)| *n == name).unwrap();
            var.dims().to_vec()
        };
        assert_eq!(shape("input.weight"), [8, 44]);
        assert_eq!(shape("context.weight"), [66, 8]);
        assert_eq!(shape("past.10.weight"), [6, 40]);
    }

    /// Every code changes what comes after it, and nothing else.
    #[test]
    fn a_code_is_predicted_from_the_codes_before_it_alone() {
        let (config, network) = (config(), network());
        let per_step = config.codes_per_step();
        let levels_of_codes = config.levels_of_codes();
        let first: Vec<usize> = [0, 1, 3, 7].into();
        let steps = 4;
        let base = codes(&config, steps, 1);
        let logits = |codes: &[u16]| {
            let batch = Batch::new(&config, &[Crop { codes, levels: 4 }]).unwrap();
            let by_level = network.logits(&batch).unwrap();
            let by_level: Vec<_> = by_level.iter().map(|l| rows(l.as_ref().unwrap())).collect();
            // In the order of the codes.
            (0..steps * per_step)
                .map(|at| {
                    let (step, code) = (at / per_step, at % per_step);
                    let level = levels_of_codes[code];
                    let count = levels_of_codes.iter().filter(|l| **l == level).count();
                    by_level[level][step * count + code - first[level]].clone()
                })
                .collect::<Vec<_>>()
        };
        let before = logits(&base);
        for at in 0..base.len() {
            let mut changed = base.clone();
            changed[at] = (changed[at] + 5) % config.codebook_size as u16;
            let after = logits(&changed);
            assert_eq!(before[..=at], after[..=at], "code {at} changed what is before it");
            // All other codes of its step, and the whole next step, know of it.
            let end = ((at / per_step + 2) * per_step).min(base.len());
            for later in at + 1..end {
                assert_ne!(before[later], after[later], "code {at} does not reach {later}");
            }
        }
    }

    #[test]
    fn crops_do_not_see_each_other_nor_levels_left_out() {
        let (config, network) = (config(), network());
        let (long, short) = (codes(&config, 5, 1), codes(&config, 2, 900));
        let logits = |crops: &[Crop<'_>]| {
            let logits = network.logits(&Batch::new(&config, crops).unwrap()).unwrap();
            logits.into_iter().map(|l| l.map(|l| rows(&l)).unwrap_or_default()).collect::<Vec<_>>()
        };
        let (a, b) = (Crop { codes: &short, levels: 2 }, Crop { codes: &long, levels: 4 });
        let together = logits(&[a, b]);
        let (only_a, only_b) = (logits(&[a]), logits(&[b]));
        let close = |x: &[Vec<f32>], y: &[Vec<f32>]| {
            x.len() == y.len()
                && x.concat().iter().zip(y.concat()).all(|(x, y)| (x - y).abs() < 1e-5)
        };
        for level in 0..4 {
            // The crop with more levels comes first.
            let (first, second) = together[level].split_at(only_b[level].len());
            assert!(close(first, &only_b[level]), "level {level} of the long crop");
            assert!(close(second, &only_a[level]), "level {level} of the short crop");
        }
        assert_eq!(only_a[1].len(), 4);
        assert!(only_a[2].is_empty() && only_a[3].is_empty());
        // What the levels left out would have been makes no difference.
        let mut other = short.clone();
        for step in other.chunks_exact_mut(11) {
            step[3..].iter_mut().for_each(|code| *code = (*code + 1) % 13);
        }
        assert_eq!(logits(&[Crop { codes: &other, levels: 2 }]), only_a);
    }

    #[test]
    fn a_prior_of_fewer_levels_says_the_same_once_levels_are_added() {
        let (fewer, known) = (config(), network());
        let more = PriorConfig { strides: vec![4, 2, 1, 1, 2, 1], ..config() };
        let extended = PriorNetwork::random(&more, 8, &Device::Cpu).unwrap();
        extended.start_from_fewer_levels(&known.params.snapshot().unwrap()).unwrap();
        let codes = codes(&more, 4, 1);
        let first: Vec<u16> =
            codes.chunks(more.codes_per_step()).flat_map(|step| step[..11].to_vec()).collect();
        let batch = Batch::new(&fewer, &[Crop { codes: &first, levels: 4 }]).unwrap();
        let wanted = known.logits(&batch).unwrap();
        for levels in [4, 6] {
            let batch = Batch::new(&more, &[Crop { codes: &codes, levels }]).unwrap();
            let found = extended.logits(&batch).unwrap();
            for (wanted, found) in wanted.iter().zip(&found) {
                let (wanted, found) = (wanted.as_ref().unwrap(), found.as_ref().unwrap());
                let (wanted, found) = (rows(wanted).concat(), rows(found).concat());
                assert_eq!(wanted.len(), found.len());
                assert!(wanted.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-5), "{levels}");
            }
            assert_eq!(found[5].is_some(), levels == 6);
        }
        let wider =
            PriorNetwork::random(&PriorConfig { width: 7, ..more }, 8, &Device::Cpu).unwrap();
        let weights = known.params.snapshot().unwrap();
        assert!(wider.start_from_fewer_levels(&weights).is_err());
    }

    /// The gradient of every parameter against central differences, with several crops of different
    /// lengths and levels.
    #[test]
    fn gradients_are_those_of_the_loss() {
        let (config, network) = (config(), network());
        let (long, short) = (codes(&config, 3, 1), codes(&config, 2, 900));
        let crops = [Crop { codes: &short, levels: 2 }, Crop { codes: &long, levels: 4 }];
        let batch = Batch::new(&config, &crops).unwrap();
        let loss = || {
            let losses = network.losses(&batch).unwrap();
            losses.into_iter().flatten().reduce(|a, b| (a + b).unwrap()).unwrap()
        };
        let grads = loss().backward().unwrap();
        let value = || f64::from(loss().to_scalar::<f32>().unwrap());
        for (name, var) in network.params.iter() {
            let grad: Vec<f32> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let base: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
            let largest = (0..grad.len()).max_by(|a, b| grad[*a].abs().total_cmp(&grad[*b].abs()));
            for place in [largest.unwrap(), 0, base.len() / 2] {
                let at = |d: f32| {
                    let mut moved = base.clone();
                    moved[place] += d;
                    let moved = Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap();
                    Var::set(var, &moved).unwrap();
                    value()
                };
                let h = 1e-2;
                let numeric = (at(h) - at(-h)) / f64::from(2.0 * h);
                at(0.0);
                let analytic = f64::from(grad[place]);
                assert!(
                    (numeric - analytic).abs() <= 2e-2 * (1.0 + numeric.abs()),
                    "{name} at {place}: numeric {numeric}, analytic {analytic}"
                );
            }
        }
    }

    #[test]
    fn codes_that_are_close_begin_close() {
        let (config, network) = (config(), network());
        let codebooks: Vec<Tensor> = (0..4)
            .map(|level| {
                let mut codes = ops::host(&ops::check::random(level, &[13, 3])).unwrap();
                // The last is the first but for a little.
                let near: Vec<f32> = codes[..3].iter().map(|v| v + 1e-3).collect();
                codes[36..].copy_from_slice(&near);
                Tensor::from_vec(codes, (13, 3), &Device::Cpu).unwrap()
            })
            .collect();
        assert!(network.start_from_codebooks(&codebooks[1..], 1).is_err());
        network.start_from_codebooks(&codebooks, 1).unwrap();
        let codes = codes(&config, 3, 1);
        let batch = Batch::new(&config, &[Crop { codes: &codes, levels: 4 }]).unwrap();
        for logits in network.logits(&batch).unwrap().into_iter().flatten() {
            let (mut near, mut any) = (0.0, 0.0);
            for row in rows(&logits) {
                near += (row[0] - row[12]).powi(2);
                any += row[1..12].iter().map(|v| (row[0] - v).powi(2)).sum::<f32>() / 11.0;
            }
            assert!(near < any / 2.0, "{near} against {any}");
        }
        let embedding = rows(&network.levels[2].embedding);
        let distance = |a: usize, b: usize| {
            embedding[a]
                .iter()
                .zip(&embedding[b])
                .take(3)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f32>()
        };
        assert!(distance(0, 12) < 1e-4 && distance(0, 1) > 1e-2);
    }

    #[test]
    fn what_are_no_tokens_is_refused() {
        let config = config();
        let good = codes(&config, 2, 1);
        let mut bad = good.clone();
        bad[3] = 13;
        for (codes, levels) in [(&good[1..], 4), (&bad[..], 4), (&good[..], 0), (&good[..], 5)] {
            assert!(Batch::new(&config, &[Crop { codes, levels }]).is_err());
        }
    }
}
