//! What a stream of tokens keeps of its past, and how likely that makes each next code.

use super::Prior;
use crate::engine::EngineError;
use crate::engine::block::BlockState;
use crate::engine::kernels::{Kernels, Rows};
use crate::engine::matrix::Matrix;

/// The codes of one channel, one after another: steps in the order of time, the codes of a step coarse to
/// fine. Nothing is allocated after it is made, and the numbers are the same to the last bit with every
/// [`InstructionSet`](crate::engine::InstructionSet).
///
/// ```no_run
/// use std::path::Path;
/// use tessera_codec::prior::{Prior, PriorState};
///
/// let prior = Prior::load(Path::new("model"))?;
/// let mut state = PriorState::new(&prior, prior.levels())?;
/// for code in [7, 1, 2] {
///     let likeliest = state.scores().iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
///     println!("{:?} was the guess, and it is {code}", likeliest.map(|(code, _)| code));
///     state.push(code)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PriorState {
    prior: Prior,
    /// Codes of a step that are given: those of the first levels.
    codes_per_step: usize,
    /// The next code's place in its step.
    place: usize,
    /// Of the step's codes so far; behind them those of the step before, with zeros for levels left out.
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

impl PriorState {
    /// A stream of the first `levels` levels at its beginning.
    ///
    /// # Errors
    /// The prior does not have as many levels.
    pub fn new(prior: &Prior, levels: usize) -> Result<Self, EngineError> {
        let most = prior.levels();
        if !(1..=most).contains(&levels) {
            return Err(EngineError::Levels { given: levels, most });
        }
        let w = &*prior.weights;
        let c = &w.config;
        let zeros = |n: usize| vec![0.0f32; n].into_boxed_slice();
        Ok(Self {
            codes_per_step: prior.codes_per_step(levels),
            place: 0,
            embeddings: zeros(w.input.inputs()),
            blocks: vec![BlockState::new(c.dim, c.kernel, 1); c.blocks].into(),
            mixed: zeros(c.dim),
            hidden: zeros(c.expansion * c.dim.max(c.width)),
            out: zeros(c.dim),
            context: zeros(w.context.outputs()),
            row: zeros(c.width),
            part: zeros(c.width),
            scores: zeros(c.codebook_size),
            has_context: false,
            has_scores: false,
            prior: prior.clone(),
        })
    }

    /// As if no code had been given.
    pub fn reset(&mut self) {
        self.blocks.iter_mut().for_each(BlockState::reset);
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

    /// A score for each code of the next one's codebook, given all codes before it: the logarithm of its
    /// probability, but for a constant.
    pub fn scores(&mut self) -> &[f32] {
        if !self.has_scores {
            self.listen();
            self.predict();
            self.has_scores = true;
        }
        &self.scores
    }

    /// Takes the next code.
    ///
    /// # Errors
    /// It is not in the codebook; nothing was taken.
    pub fn push(&mut self, code: u16) -> Result<(), EngineError> {
        let size = self.scores.len();
        if usize::from(code) >= size {
            return Err(EngineError::Code { code, place: self.place, size });
        }
        // The codes before are about to be overwritten.
        self.listen();
        let length = self.prior.weights.config.embedding;
        let all = &self.prior.weights.embeddings[self.level()];
        let embedding = &all[usize::from(code) * length..][..length];
        self.embeddings[self.place * length..][..length].copy_from_slice(embedding);
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
        let kernels = self.prior.kernels;
        let first = self.blocks.first_mut().map_or(&mut *self.out, BlockState::frames_mut);
        product(kernels, &w.input, &self.embeddings, first);
        for (i, block) in w.blocks.iter().enumerate() {
            let (now, later) = self.blocks[i..].split_at_mut(1);
            let out = later.first_mut().map_or(&mut *self.out, BlockState::frames_mut);
            block.mix(kernels, &now[0], &mut self.mixed);
            block.widen(kernels, 0..block.widen.panels(), &self.mixed, 1, &mut self.hidden);
            let panels = 0..block.narrow.panels();
            block.narrow(kernels, panels, &self.hidden, 1, &mut now[0], out);
        }
        kernels.normalize(&mut self.out, w.config.dim);
        product(kernels, &w.context, &self.out, &mut self.context);
    }

    /// The scores of the next code.
    fn predict(&mut self) {
        let w = &*self.prior.weights;
        let kernels = self.prior.kernels;
        let width = w.config.width;
        let level = w.levels_of_codes[self.place];
        self.row.copy_from_slice(&self.context[self.place * width..][..width]);
        if let Some(past) = self.place.checked_sub(1).and_then(|before| w.past.get(before)) {
            product(kernels, past, &self.embeddings, &mut self.part);
            kernels.add(&mut self.row, &self.part);
        }
        let layer = &w.hidden[level];
        self.part.copy_from_slice(&self.row);
        kernels.normalize(&mut self.part, width);
        product(kernels, &layer.widen, &self.part, &mut self.hidden);
        kernels.gelu(&mut self.hidden[..layer.widen.outputs()]);
        product(kernels, &layer.narrow, &self.hidden, &mut self.part);
        kernels.scaled_residual(&mut self.part, &self.row, &layer.gain);
        kernels.normalize(&mut self.part, width);
        product(kernels, &w.heads[level], &self.part, &mut self.scores);
    }
}

/// A layer's outputs from one row of inputs.
fn product(kernels: Kernels, matrix: &Matrix, values: &[f32], out: &mut [f32]) {
    let x = Rows { values, stride: 0, count: 1 };
    kernels.product(matrix, 0..matrix.panels(), x, out);
}
