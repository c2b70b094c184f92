//! The causal ConvNeXt block: weights, and what a stream keeps of its past.

use std::ops::Range;

use super::kernels::{Kernels, Rows, WIDTH};
use super::matrix::Matrix;
use super::schedule::normalize_cost;
use super::tensors::Tensors;
use crate::model_files::ModelError;

/// Weights of one block.
#[derive(Debug)]
pub struct Block {
    depthwise: Box<[f32]>,
    depthwise_bias: Box<[f32]>,
    /// To the hidden channels.
    pub widen: Matrix,
    /// And back.
    pub narrow: Matrix,
    gain: Box<[f32]>,
}

/// Frames that a block still needs, and those it is given: (taps - 1 + frames, streams, channels).
///
/// Streams that go on together take turns, frame by frame. What a frame's convolution sees is then as many
/// frames further back as there are streams, and nothing else is different.
#[derive(Debug, Clone)]
pub struct BlockState {
    frames: Box<[f32]>,
    /// Numbers that are the past of one stream.
    reach: usize,
    streams: usize,
}

impl Block {
    /// The tensors under `name`, of a block of `dim` channels, with a convolution of `taps` rows and
    /// `expansion` times as many hidden channels.
    ///
    /// # Errors
    /// As [`Tensors::get`].
    pub fn load(
        tensors: &Tensors,
        name: &str,
        dim: usize,
        taps: usize,
        expansion: usize,
    ) -> Result<Self, ModelError> {
        let hidden = dim * expansion;
        let get = |part: &str, shape: &[usize]| {
            Ok::<_, ModelError>(tensors.get(&format!("{name}.{part}"), shape)?.to_vec())
        };
        Ok(Self {
            depthwise: get("depthwise.weight", &[taps, dim])?,
            depthwise_bias: get("depthwise.bias", &[dim])?,
            widen: Matrix::load(tensors, &format!("{name}.widen"), dim, hidden)?,
            narrow: Matrix::load(tensors, &format!("{name}.narrow"), hidden, dim)?,
            gain: get("gain", &[dim])?,
        })
    }

    /// Cost of [`mix`](Self::mix) for `rows` rows, in multiply-adds of a matrix product, as measured: the
    /// convolution loads and stores a number for each of its own.
    pub fn mix_cost(&self, rows: usize) -> u64 {
        (8 * self.depthwise.len() * rows) as u64 + normalize_cost(self.depthwise_bias.len(), rows)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let vectors = [&self.depthwise, &self.depthwise_bias, &self.gain];
        let vectors: usize = vectors.iter().map(|v| size_of_val(v.as_ref())).sum();
        vectors + self.widen.bytes() + self.narrow.bytes()
    }

    /// The first part, of all rows: convolution and normalisation, `mixed` is (rows, dim).
    pub fn mix(&self, kernels: Kernels, state: &BlockState, mixed: &mut [f32]) {
        let (x, step) = (&state.frames, state.streams);
        kernels.depthwise(x, step, &self.depthwise, &self.depthwise_bias, mixed);
        kernels.normalize(mixed, self.depthwise_bias.len());
    }

    /// Some panels of the hidden channels of `rows` rows.
    pub fn widen(
        &self,
        kernels: Kernels,
        panels: Range<usize>,
        mixed: &[f32],
        rows: usize,
        hidden: &mut [f32],
    ) {
        let x = Rows { values: mixed, stride: self.widen.inputs(), count: rows };
        kernels.product(&self.widen, panels.clone(), x, hidden);
        for row in hidden.chunks_exact_mut(self.widen.outputs()).take(rows) {
            kernels.gelu(&mut row[columns(&self.widen, &panels)]);
        }
    }

    /// Some panels of the outputs of `rows` rows; the last ones also make the frames of now those of the
    /// past.
    pub fn narrow(
        &self,
        kernels: Kernels,
        panels: Range<usize>,
        hidden: &[f32],
        rows: usize,
        state: &mut BlockState,
        out: &mut [f32],
    ) {
        let dim = self.narrow.outputs();
        let x = Rows { values: hidden, stride: self.narrow.inputs(), count: rows };
        kernels.product(&self.narrow, panels.clone(), x, out);
        let columns = columns(&self.narrow, &panels);
        let past = state.past();
        let inputs = state.frames[past..].chunks_exact(dim);
        for (out, x) in out.chunks_exact_mut(dim).zip(inputs).take(rows) {
            kernels.scaled_residual(
                &mut out[columns.clone()],
                &x[columns.clone()],
                &self.gain[columns.clone()],
            );
        }
        if panels.end == self.narrow.panels() {
            let end = past + rows * dim;
            state.frames.copy_within(end - past..end, 0);
        }
    }
}

/// The outputs that some panels of a matrix are.
pub fn columns(matrix: &Matrix, panels: &Range<usize>) -> Range<usize> {
    panels.start * WIDTH..(panels.end * WIDTH).min(matrix.outputs())
}

impl BlockState {
    /// Silence before a block of `dim` channels and `taps` rows of convolution, and room for `frames`
    /// frames.
    pub fn new(dim: usize, taps: usize, frames: usize) -> Self {
        Self::of_streams(dim, taps, frames, 1)
    }

    /// The same for `streams` streams that take turns, with room for `frames` frames of each.
    pub fn of_streams(dim: usize, taps: usize, frames: usize, streams: usize) -> Self {
        let reach = (taps - 1) * dim;
        Self { frames: vec![0.0; (reach + frames * dim) * streams].into(), reach, streams }
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.frames.fill(0.0);
    }

    /// As if nothing had been given, and for `streams` streams, no more than there is room for.
    pub fn restart(&mut self, streams: usize) {
        self.reset();
        self.streams = streams;
    }

    /// Where the frames of now go, (frames, dim).
    pub fn frames_mut(&mut self) -> &mut [f32] {
        let past = self.past();
        &mut self.frames[past..]
    }

    fn past(&self) -> usize {
        self.reach * self.streams
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.frames.as_ref())
    }
}
