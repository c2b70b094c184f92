//! The prior's arithmetic, for several streams of tokens at once.

use super::Prior;
use crate::engine::EngineError;
use crate::engine::block::BlockState;
use crate::engine::kernels::{Kernels, Rows};
use crate::engine::matrix::Matrix;

/// Streams of tokens that know nothing of each other and take their codes at the same time, so that each
/// weight is read once for all of them. What a stream is given alone decides its scores, to the last bit.
///
/// Nothing is allocated after it is made.
#[derive(Debug, Clone)]
pub(super) struct Lockstep {
    prior: Prior,
    /// Streams of now.
    streams: usize,
    /// And at most.
    most: usize,
    /// Codes of a step that are given: those of the first levels.
    codes_per_step: usize,
    /// The next code's place in its step.
    place: usize,
    /// A row for each stream, as are all that follow: embeddings of the step's codes so far; behind them those
    /// of the step before, with zeros for levels left out.
    embeddings: Box<[f32]>,
    blocks: Box<[BlockState]>,
    /// (dim).
    mixed: Box<[f32]>,
    /// Hidden channels, of a block or within a step.
    hidden: Box<[f32]>,
    /// (dim), of the last block.
    out: Box<[f32]>,
    /// (codes of a step, width).
    context: Box<[f32]>,
    /// (width).
    row: Box<[f32]>,
    /// (width).
    part: Box<[f32]>,
    /// (codebook).
    scores: Box<[f32]>,
    /// Whether `context` is that of the step begun, and `scores` those of the next code.
    has_context: bool,
    has_scores: bool,
}

impl Lockstep {
    /// `most` streams of the first `levels` levels at their beginning.
    ///
    /// # Errors
    /// The prior does not have as many levels.
    pub fn new(prior: &Prior, levels: usize, most: usize) -> Result<Self, EngineError> {
        let stored = prior.levels();
        if !(1..=stored).contains(&levels) {
            return Err(EngineError::Levels { given: levels, most: stored });
        }
        let w = &*prior.weights;
        let c = &w.config;
        let rows = |n: usize| vec![0.0f32; most * n].into_boxed_slice();
        Ok(Self {
            streams: most,
            most,
            codes_per_step: prior.codes_per_step(levels),
            place: 0,
            embeddings: rows(w.input.inputs()),
            blocks: vec![BlockState::of_streams(c.dim, c.kernel, 1, most); c.blocks].into(),
            mixed: rows(c.dim),
            hidden: rows(c.expansion * c.dim.max(c.width)),
            out: rows(c.dim),
            context: rows(w.context.outputs()),
            row: rows(c.width),
            part: rows(c.width),
            scores: rows(c.codebook_size),
            has_context: false,
            has_scores: false,
            prior: prior.clone(),
        })
    }

    /// As if no code had been given, with `streams` streams: at most as many as it was made for.
    pub fn reset(&mut self, streams: usize) {
        self.streams = streams.min(self.most);
        self.blocks.iter_mut().for_each(|block| block.restart(self.streams));
        self.embeddings.fill(0.0);
        self.place = 0;
        self.has_context = false;
        self.has_scores = false;
    }

    /// The level of the next code.
    pub fn level(&self) -> usize {
        self.prior.weights.levels_of_codes[self.place]
    }

    /// Whether the next code is the first of a step.
    pub fn begins_step(&self) -> bool {
        self.place == 0
    }

    /// The prior.
    pub fn prior(&self) -> &Prior {
        &self.prior
    }

    /// For each stream a row of scores, one for each code of the next one's codebook.
    pub fn scores(&mut self) -> &[f32] {
        if !self.has_scores {
            self.listen();
            self.predict();
            self.has_scores = true;
        }
        &self.scores[..self.streams * self.prior.weights.config.codebook_size]
    }

    /// Takes the next code of each stream.
    ///
    /// # Errors
    /// One is not in the codebook; nothing was taken.
    pub fn push(&mut self, codes: &[u16]) -> Result<(), EngineError> {
        let w = self.prior.weights.clone();
        let size = w.config.codebook_size;
        if let Some(code) = codes.iter().copied().find(|code| usize::from(*code) >= size) {
            return Err(EngineError::Code { code, place: self.place, size });
        }
        // The codes before are about to be overwritten.
        self.listen();
        let length = w.config.embedding;
        let all = &w.embeddings[self.level()];
        for (row, code) in self.embeddings.chunks_exact_mut(w.input.inputs()).zip(codes) {
            let embedding = &all[usize::from(*code) * length..][..length];
            row[self.place * length..][..length].copy_from_slice(embedding);
        }
        self.has_scores = false;
        self.place += 1;
        if self.place == self.codes_per_step {
            self.place = 0;
            self.has_context = false;
        }
        Ok(())
    }

    /// At the begin of a step: what the steps before tell of it.
    fn listen(&mut self) {
        if self.has_context {
            return;
        }
        self.has_context = true;
        let w = &*self.prior.weights;
        let (kernels, streams) = (self.prior.kernels, self.streams);
        let mixed = &mut self.mixed[..streams * w.config.dim];
        let first = self.blocks.first_mut().map_or(&mut *self.out, BlockState::frames_mut);
        product(kernels, &w.input, &self.embeddings, w.input.inputs(), streams, first);
        for (i, block) in w.blocks.iter().enumerate() {
            let (now, later) = self.blocks[i..].split_at_mut(1);
            let out = later.first_mut().map_or(&mut *self.out, BlockState::frames_mut);
            block.mix(kernels, &now[0], mixed);
            block.widen(kernels, 0..block.widen.panels(), mixed, streams, &mut self.hidden);
            let panels = 0..block.narrow.panels();
            block.narrow(kernels, panels, &self.hidden, streams, &mut now[0], out);
        }
        kernels.normalize(&mut self.out[..streams * w.config.dim], w.config.dim);
        product(kernels, &w.context, &self.out, w.config.dim, streams, &mut self.context);
    }

    /// The scores of the next codes.
    fn predict(&mut self) {
        let w = &*self.prior.weights;
        let (kernels, streams) = (self.prior.kernels, self.streams);
        let width = w.config.width;
        let level = w.levels_of_codes[self.place];
        let row = &mut self.row[..streams * width];
        let part = &mut self.part[..streams * width];
        let contexts = self.context.chunks_exact(w.context.outputs());
        for (row, context) in row.chunks_exact_mut(width).zip(contexts) {
            row.copy_from_slice(&context[self.place * width..][..width]);
        }
        if let Some(past) = self.place.checked_sub(1).and_then(|before| w.past.get(before)) {
            product(kernels, past, &self.embeddings, w.input.inputs(), streams, part);
            kernels.add(row, part);
        }
        let layer = &w.hidden[level];
        let wide = layer.widen.outputs();
        part.copy_from_slice(row);
        kernels.normalize(part, width);
        product(kernels, &layer.widen, part, width, streams, &mut self.hidden);
        kernels.gelu(&mut self.hidden[..streams * wide]);
        product(kernels, &layer.narrow, &self.hidden, wide, streams, part);
        for (part, row) in part.chunks_exact_mut(width).zip(row.chunks_exact(width)) {
            kernels.scaled_residual(part, row, &layer.gain);
        }
        kernels.normalize(part, width);
        product(kernels, &w.heads[level], part, width, streams, &mut self.scores);
    }
}

/// A layer's outputs from rows of inputs, `stride` apart.
fn product(
    kernels: Kernels,
    matrix: &Matrix,
    values: &[f32],
    stride: usize,
    count: usize,
    out: &mut [f32],
) {
    kernels.product(matrix, 0..matrix.panels(), Rows { values, stride, count }, out);
}
