//! The codes of one level: where they come from, how they move, and what becomes of unused ones.

use candle_core::{Result, Tensor, Var};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::ops;

/// Decay of the running means of EMA codebooks (van den Oord et al. 2017, appendix).
const DECAY: f32 = 0.98;
/// Iterations of Lloyd's algorithm at the start.
const KMEANS_ITERATIONS: usize = 12;
/// Usage given to a code that was just put somewhere else, in vectors a step.
const FRESH_USAGE: f32 = 0.2;
/// Dead codes replaced in one step at most, so that the others can settle.
const RESTARTS_PER_STEP: usize = 20;

/// Codes (size, dim), and the running statistics that move them.
#[derive(Debug, Clone)]
pub struct Codebook {
    codes: Var,
    /// Running mean of the vectors a step that fell to each code.
    usage: Vec<f32>,
    /// Running mean of the sum of those vectors, (size, dim).
    sums: Vec<f32>,
    /// Steps since each code was last used.
    idle: Vec<f32>,
    normalize: bool,
}

/// State of a codebook beside its codes, for checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct CodebookState {
    /// Running mean of the vectors a step that fell to each code.
    pub usage: Vec<f32>,
    /// Running mean of the sum of those vectors.
    pub sums: Vec<f32>,
    /// Steps since each code was last used.
    pub idle: Vec<f32>,
}

impl Codebook {
    /// A codebook around `codes` (size, dim).
    ///
    /// # Errors
    /// The device fails.
    pub fn new(codes: &Tensor, normalize: bool) -> Result<Self> {
        let size = codes.dim(0)?;
        // As if each code had just had a vector where it is.
        let sums = ops::host(codes)?;
        let codes = Var::from_tensor(codes)?;
        Ok(Self { codes, usage: vec![1.0; size], sums, idle: vec![0.0; size], normalize })
    }

    /// The codes, (size, dim); a variable, for codebooks that learn by gradient.
    pub fn codes(&self) -> &Var {
        &self.codes
    }

    /// The nearest code of each vector: `vectors` is (n, dim), gives n indices.
    ///
    /// # Errors
    /// The device fails.
    pub fn nearest(&self, vectors: &Tensor) -> Result<Tensor> {
        let codes = self.codes.as_detached_tensor();
        ops::nearest(&vectors.detach(), &codes)
    }

    /// Puts the codes at the centres of `vectors` (n, dim) by k-means (Lloyd), from a random draw.
    ///
    /// # Errors
    /// No vectors, or the device fails.
    pub fn kmeans(&mut self, vectors: &Tensor, rng: &mut ChaCha8Rng) -> Result<()> {
        let (n, dim) = vectors.dims2()?;
        let size = self.usage.len();
        if n == 0 {
            candle_core::bail!("k-means needs at least one vector");
        }
        let data = ops::host(vectors)?;
        let pick = |rng: &mut ChaCha8Rng| {
            let i = rng.random_range(0..n);
            data[i * dim..][..dim].to_vec()
        };
        let mut codes: Vec<f32> = (0..size).flat_map(|_| pick(rng)).collect();
        let mut counts = vec![0usize; size];
        for _ in 0..KMEANS_ITERATIONS {
            let nearest = assign(&data, &codes, dim);
            let mut sums = vec![0.0f64; size * dim];
            counts.fill(0);
            for (vector, &code) in data.chunks_exact(dim).zip(&nearest) {
                counts[code as usize] += 1;
                for (s, v) in sums[code as usize * dim..][..dim].iter_mut().zip(vector) {
                    *s += f64::from(*v);
                }
            }
            for code in 0..size {
                let row = &mut codes[code * dim..][..dim];
                if counts[code] == 0 {
                    row.copy_from_slice(&pick(rng));
                } else {
                    for (c, s) in row.iter_mut().zip(&sums[code * dim..]) {
                        *c = (s / counts[code] as f64) as f32;
                    }
                }
                if self.normalize {
                    unit(row);
                }
            }
        }
        // As if steps of a vector a code had been seen.
        let per_vector = size as f32 / n as f32;
        for code in 0..size {
            self.usage[code] = (counts[code] as f32 * per_vector).max(FRESH_USAGE);
            for i in 0..dim {
                self.sums[code * dim + i] = codes[code * dim + i] * self.usage[code];
            }
        }
        self.idle.fill(0.0);
        self.codes.set(&Tensor::from_vec(codes, (size, dim), self.codes.device())?)
    }

    /// Moves the codes towards the means of the vectors that fell to them (exponential moving average),
    /// and, when `restart_after` steps passed without use, puts a code where a vector of this batch is.
    /// With `ema` false only the restart happens.
    ///
    /// # Errors
    /// The device fails.
    pub fn update(
        &mut self,
        vectors: &Tensor,
        indices: &[u32],
        ema: bool,
        restart_after: Option<usize>,
        rng: &mut ChaCha8Rng,
    ) -> Result<()> {
        let (n, dim) = vectors.dims2()?;
        let size = self.usage.len();
        let data = ops::host(vectors)?;
        let mut codes = ops::host(self.codes.as_tensor())?;
        let mut counts = vec![0.0f32; size];
        let mut sums = vec![0.0f32; size * dim];
        for (vector, &code) in data.chunks_exact(dim).zip(indices) {
            counts[code as usize] += 1.0;
            for (s, v) in sums[code as usize * dim..][..dim].iter_mut().zip(vector) {
                *s += v;
            }
        }
        for (code, &count) in counts.iter().enumerate() {
            self.usage[code] += (1.0 - DECAY) * (count - self.usage[code]);
            let row = code * dim..(code + 1) * dim;
            for (running, s) in self.sums[row.clone()].iter_mut().zip(&sums[row.clone()]) {
                *running += (1.0 - DECAY) * (s - *running);
            }
            if ema && self.usage[code] > 1e-3 {
                for (c, s) in codes[row.clone()].iter_mut().zip(&self.sums[row.clone()]) {
                    *c = s / self.usage[code];
                }
                if self.normalize {
                    unit(&mut codes[row]);
                }
            }
            self.idle[code] = if count > 0.0 { 0.0 } else { self.idle[code] + 1.0 };
        }
        if let Some(limit) = restart_after
            && n > 0
        {
            let dead: Vec<usize> = (0..size)
                .filter(|&c| self.idle[c] >= limit as f32)
                .take(RESTARTS_PER_STEP)
                .collect();
            for code in dead {
                let from = rng.random_range(0..n);
                let row = code * dim..(code + 1) * dim;
                codes[row.clone()].copy_from_slice(&data[from * dim..][..dim]);
                for (s, c) in self.sums[row.clone()].iter_mut().zip(&codes[row]) {
                    *s = c * FRESH_USAGE;
                }
                self.usage[code] = FRESH_USAGE;
                self.idle[code] = 0.0;
            }
        }
        self.codes.set(&Tensor::from_vec(codes, (size, dim), self.codes.device())?)
    }

    /// What a checkpoint keeps beside the codes.
    pub fn state(&self) -> CodebookState {
        CodebookState {
            usage: self.usage.clone(),
            sums: self.sums.clone(),
            idle: self.idle.clone(),
        }
    }

    /// Puts back what a checkpoint kept.
    ///
    /// # Errors
    /// The state belongs to a codebook of another size.
    pub fn set_state(&mut self, state: CodebookState) -> Result<()> {
        if state.usage.len() != self.usage.len()
            || state.sums.len() != self.sums.len()
            || state.idle.len() != self.idle.len()
        {
            candle_core::bail!("the state of a codebook of another size");
        }
        (self.usage, self.sums, self.idle) = (state.usage, state.sums, state.idle);
        Ok(())
    }
}

/// The nearest code of each vector of `data`, both packed in rows of `dim`.
fn assign(data: &[f32], codes: &[f32], dim: usize) -> Vec<u32> {
    let squares: Vec<f32> =
        codes.chunks_exact(dim).map(|c| c.iter().map(|v| v * v).sum::<f32>() * 0.5).collect();
    data.par_chunks_exact(dim)
        .map(|vector| {
            let mut best = (f32::NEG_INFINITY, 0);
            for (i, (code, square)) in codes.chunks_exact(dim).zip(&squares).enumerate() {
                let score = code.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>() - square;
                if score > best.0 {
                    best = (score, i as u32);
                }
            }
            best.1
        })
        .collect()
}

pub(super) fn unit(row: &mut [f32]) {
    let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    row.iter_mut().for_each(|v| *v /= length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check;
    use candle_core::Device;
    use rand::SeedableRng;

    #[test]
    fn nearest_is_nearest() {
        let codes = check::random(1, &[37, 3]);
        let vectors = check::random(2, &[200, 3]);
        let book = Codebook::new(&codes, false).unwrap();
        let found: Vec<u32> = book.nearest(&vectors).unwrap().to_vec1().unwrap();
        let (c, v) = (ops::host(&codes).unwrap(), ops::host(&vectors).unwrap());
        for (vector, found) in v.chunks(3).zip(&found) {
            let distance =
                |i: usize| (0..3).map(|k| (vector[k] - c[i * 3 + k]).powi(2)).sum::<f32>();
            let best = (0..37).map(distance).fold(f32::INFINITY, f32::min);
            assert!(distance(*found as usize) <= best + 1e-6);
        }
        assert_eq!(assign(&v, &c, 3), found);
    }

    #[test]
    fn kmeans_finds_separate_clusters() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let centres = [[5.0f32, 0.0], [-5.0, 1.0], [0.0, 7.0], [2.0, -6.0]];
        let data: Vec<f32> = (0..400)
            .flat_map(|i| {
                let c = centres[i % 4];
                [c[0] + 0.1 * rng.random::<f32>(), c[1] + 0.1 * rng.random::<f32>()]
            })
            .collect();
        let vectors = Tensor::from_vec(data, (400, 2), &Device::Cpu).unwrap();
        let mut book = Codebook::new(&check::random(1, &[16, 2]), false).unwrap();
        book.kmeans(&vectors, &mut rng).unwrap();
        let codes = ops::host(book.codes().as_tensor()).unwrap();
        for centre in centres {
            let nearest = codes
                .chunks(2)
                .map(|c| (c[0] - centre[0]).powi(2) + (c[1] - centre[1]).powi(2))
                .fold(f32::INFINITY, f32::min);
            assert!(nearest < 0.05, "no code near {centre:?}");
        }
    }

    #[test]
    fn ema_moves_a_code_to_the_mean_of_its_vectors() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let codes = Tensor::new(&[[0.0f32, 1.0], [10.0, 10.0]], &Device::Cpu).unwrap();
        let mut book = Codebook::new(&codes, false).unwrap();
        let vectors = Tensor::new(&[[2.0f32, 3.0], [4.0, 3.0]], &Device::Cpu).unwrap();
        for _ in 0..600 {
            book.update(&vectors, &[0, 0], true, None, &mut rng).unwrap();
        }
        let moved = ops::host(book.codes().as_tensor()).unwrap();
        assert!((moved[0] - 3.0).abs() < 1e-3 && (moved[1] - 3.0).abs() < 1e-3, "{moved:?}");
    }

    #[test]
    fn dead_codes_restart_at_vectors() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let codes = Tensor::new(&[[0.0f32, 0.0], [100.0, 100.0]], &Device::Cpu).unwrap();
        let mut book = Codebook::new(&codes, false).unwrap();
        let vectors = Tensor::new(&[[1.0f32, 0.0]], &Device::Cpu).unwrap();
        for _ in 0..5 {
            book.update(&vectors, &[0], true, Some(5), &mut rng).unwrap();
        }
        let moved = ops::host(book.codes().as_tensor()).unwrap();
        assert_eq!(moved[2..], [1.0, 0.0]);
    }
}
