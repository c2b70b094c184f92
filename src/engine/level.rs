//! One level of the quantizer: pooling, codes, unpooling.

use super::kernels::{Kernels, Rows};
use super::matrix::Matrix;
use super::tensors::Tensors;
use crate::config::CodecConfig;
use crate::model_files::ModelError;

/// Rows that are compared with all codes at a time.
pub const SEARCHED: usize = 4;

/// Weights of one level.
#[derive(Debug)]
pub struct Level {
    /// Frames that a code covers.
    pub stride: usize,
    down: Matrix,
    up: Matrix,
    /// As a layer whose outputs are largest for the nearest code: the dot product with each code, less
    /// half its square.
    scores: Matrix,
    /// (codes, code_dim).
    codes: Box<[f32]>,
    normalize: bool,
}

impl Level {
    /// The tensors of level `index`.
    ///
    /// # Errors
    /// As [`Tensors::get`].
    pub fn load(tensors: &Tensors, index: usize, config: &CodecConfig) -> Result<Self, ModelError> {
        let stride = config.vq.strides[index];
        let (wide, narrow) = (config.dim * stride, config.vq.code_dim);
        let size = config.vq.codebook_size;
        let name = format!("quantizer.{index}");
        let values = tensors.get(&format!("{name}.codes"), &[size, narrow])?;
        let codes = values.to_vec();
        let half_square = |code: usize| {
            let row = &codes[code * narrow..][..narrow];
            -0.5 * row.iter().fold(0.0f32, |sum, v| v.mul_add(*v, sum))
        };
        let all: Vec<usize> = (0..size).collect();
        Ok(Self {
            stride,
            down: Matrix::load(tensors, &format!("{name}.down"), wide, narrow)?,
            up: Matrix::load(tensors, &format!("{name}.up"), narrow, wide)?,
            scores: Matrix::pack(&values, narrow, &all, half_square),
            codes,
            normalize: config.vq.normalize,
        })
    }

    /// Latents `(rows, dim)` to the vectors of their codes to be, `(rows / stride, code_dim)`.
    pub fn pool(&self, kernels: Kernels, latents: &[f32], rows: usize, vectors: &mut [f32]) {
        let count = rows / self.stride;
        let x = Rows { values: latents, stride: self.down.inputs(), count };
        kernels.product(&self.down, 0..self.down.panels(), x, vectors);
        if self.normalize {
            for row in vectors.chunks_exact_mut(self.down.outputs()).take(count) {
                let square = row.iter().fold(0.0f32, |sum, v| v.mul_add(*v, sum));
                let length = (square + 1e-12).sqrt();
                row.iter_mut().for_each(|v| *v /= length);
            }
        }
    }

    /// The nearest code of each vector, the first of equals, into `codes`; `scores` has room for
    /// [`SEARCHED`] times the codebook.
    pub fn search(&self, kernels: Kernels, vectors: &[f32], scores: &mut [f32], codes: &mut [u16]) {
        let (width, size) = (self.scores.inputs(), self.scores.outputs());
        for (vectors, codes) in vectors.chunks(SEARCHED * width).zip(codes.chunks_mut(SEARCHED)) {
            let x = Rows { values: vectors, stride: width, count: codes.len() };
            kernels.product(&self.scores, 0..self.scores.panels(), x, scores);
            for (scores, code) in scores.chunks_exact(size).zip(codes) {
                // Codes are at most 65536; weights so absurd that all scores are NaN give the first.
                *code = kernels.argmax(scores).map_or(0, |(_, place)| place as u16);
            }
        }
    }

    /// Codes to their vectors, `(codes, code_dim)`.
    pub fn look_up(&self, codes: &[u16], vectors: &mut [f32]) {
        let width = self.scores.inputs();
        for (code, vector) in codes.iter().zip(vectors.chunks_exact_mut(width)) {
            vector.copy_from_slice(&self.codes[usize::from(*code) * width..][..width]);
        }
    }

    /// Vectors `(rows / stride, code_dim)` to their part of the latents, `(rows, dim)`.
    pub fn unpool(&self, kernels: Kernels, vectors: &[f32], rows: usize, part: &mut [f32]) {
        let x = Rows { values: vectors, stride: self.up.inputs(), count: rows / self.stride };
        kernels.product(&self.up, 0..self.up.panels(), x, part);
    }

    /// The vector of a code; `None` beyond the codebook.
    pub fn code(&self, code: u16) -> Option<&[f32]> {
        self.codes.chunks_exact(self.scores.inputs()).nth(usize::from(code))
    }

    /// Cost of pooling, of searching, and of unpooling `rows` rows, in multiply-adds of a large matrix
    /// product: these are too small to be as fast. Pooling, with its few outputs, waits for one
    /// multiply-add after the other; the others have chains so short that reading and writing count.
    pub fn costs(&self, rows: usize) -> [u64; 3] {
        let count = rows / self.stride;
        let of = |m: &Matrix| super::schedule::product_cost(m, m.panels(), count);
        [3 * of(&self.down), 2 * of(&self.scores), 2 * of(&self.up)]
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.down.bytes() + self.up.bytes() + self.scores.bytes() + size_of_val(&*self.codes)
    }
}
