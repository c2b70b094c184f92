//! Samples in, codes out.

use std::ops::Range;

use super::band_levels::{BandLevels, BandLevelsState};
use super::block::{Block, BlockState};
use super::error::{EngineError, check_room};
use super::kernels::{Kernels, Rows};
use super::level::{Level, SEARCHED};
use super::matrix::Matrix;
use super::model::{Model, Weights};
use super::schedule::{Schedule, product_cost, split};
use super::step::{Phase, Progress, Work};

/// A part of the encoder's work on a step.
#[derive(Debug, Clone)]
pub(super) enum EncodeTask {
    /// Of some frames, as many of them as there are.
    Levels(Range<usize>),
    Analysis(Range<usize>),
    Envelope,
    Mix(usize),
    Widen(usize, Range<usize>),
    Narrow(usize, Range<usize>),
    Normalize,
    Pool(usize),
    Search(usize),
    Subtract(usize),
}

/// The work of a step of `rows` frames: whole, and in units.
pub(super) fn encode_schedule(
    levels_of_bands: &BandLevels,
    analysis: &Matrix,
    envelope: &Matrix,
    blocks: &[Block],
    levels: &[Level],
    rows: usize,
) -> [Schedule<EncodeTask>; 2] {
    let dim = analysis.outputs();
    let tasks = |most: u64| {
        let mut tasks = Vec::new();
        if levels_of_bands.cost(rows) <= most {
            tasks.push((EncodeTask::Levels(0..usize::MAX), levels_of_bands.cost(rows)));
        } else {
            let one = |frame| (EncodeTask::Levels(frame..frame + 1), levels_of_bands.cost(1));
            tasks.extend((0..rows).map(one));
        }
        for panels in split(analysis, rows, most) {
            let cost = product_cost(analysis, panels.len(), rows);
            tasks.push((EncodeTask::Analysis(panels), cost));
        }
        tasks.push((EncodeTask::Envelope, product_cost(envelope, envelope.panels(), rows)));
        for (i, block) in blocks.iter().enumerate() {
            tasks.push((EncodeTask::Mix(i), block.mix_cost(rows)));
            for panels in split(&block.widen, rows, most) {
                let cost = product_cost(&block.widen, panels.len(), rows);
                tasks.push((EncodeTask::Widen(i, panels), cost));
            }
            for panels in split(&block.narrow, rows, most) {
                let cost = product_cost(&block.narrow, panels.len(), rows);
                tasks.push((EncodeTask::Narrow(i, panels), cost));
            }
        }
        tasks.push((EncodeTask::Normalize, super::schedule::normalize_cost(dim, rows)));
        for (i, level) in levels.iter().enumerate() {
            let [pool, search, unpool] = level.costs(rows);
            tasks.push((EncodeTask::Pool(i), pool));
            tasks.push((EncodeTask::Search(i), search));
            if i + 1 < levels.len() {
                tasks.push((EncodeTask::Subtract(i), unpool));
            }
        }
        tasks
    };
    Schedule::whole_and_in_units(tasks, |_| false)
}

/// Turns one channel of samples into codes, in pieces of any size.
///
/// Everything is allocated by [`new`](Self::new). From then on no call allocates, locks, makes a system
/// call or panics. The codes do not depend on how the samples are cut into calls.
///
/// ```
/// use tessera_codec::engine::{Model, StreamEncoder};
///
/// # #[cfg(feature = "embedded-model")] {
/// let model = Model::shipped()?;
/// let mut encoder = StreamEncoder::new(&model);
/// let levels = 3;
/// let mut codes = vec![0; 8 * model.codes_per_step(levels)];
/// let mut all = Vec::new();
/// let sound: Vec<f32> = (0..10_000).map(|n| (n as f32 * 0.03).sin() * 0.3).collect();
/// for piece in sound.chunks(441) {
///     let mut rest = piece;
///     while !rest.is_empty() {
///         let done = encoder.process_into(rest, levels, &mut codes)?;
///         all.extend_from_slice(&codes[..done.produced]);
///         rest = &rest[done.consumed..];
///     }
/// }
/// let tail = encoder.finish(levels, &mut codes)?;
/// all.extend_from_slice(&codes[..tail.produced]);
/// // 10,000 samples and the decoder's lag of 1440, in steps of 1920.
/// assert_eq!(all.len(), 6 * model.codes_per_step(levels));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct StreamEncoder {
    model: Model,
    /// Samples not coded yet, and how many there are.
    waiting: Box<[f32]>,
    filled: usize,
    /// Samples taken and steps begun since the start of the stream.
    taken: u64,
    begun: u64,
    phase: Phase,
    state: State,
}

/// What the network remembers and works on; frames are rows.
#[derive(Debug, Clone)]
struct State {
    /// Samples that the next frame still sees, then those of the steps at work.
    window: Box<[f32]>,
    past: usize,
    band_levels: BandLevelsState,
    /// Levels of bands, (frames, bands).
    levels: Box<[f32]>,
    blocks: Box<[BlockState]>,
    mixed: Box<[f32]>,
    hidden: Box<[f32]>,
    /// What the levels have not described yet, (frames, dim).
    rest: Box<[f32]>,
    part: Box<[f32]>,
    vectors: Box<[f32]>,
    scores: Box<[f32]>,
    /// By level, those of all steps at work.
    codes: Box<[Box<[u16]>]>,
}

impl StreamEncoder {
    /// A stream at its beginning that codes one step at a time: the choice for live sound.
    pub fn new(model: &Model) -> Self {
        Self::with_batch(model, 1)
    }

    /// A stream that codes up to `steps` steps (at least 1, at most 64) at once when it is given that many:
    /// faster for files, with the same codes.
    pub fn with_batch(model: &Model, steps: usize) -> Self {
        let steps = steps.clamp(1, MAX_BATCH);
        let w = &*model.weights;
        let (chunk, frames) = (model.chunk_samples(), steps * model.frames_per_step());
        let dim = w.config.dim;
        let past = w.config.encoder_window() - w.config.hop;
        let zeros = |n: usize| vec![0.0f32; n].into_boxed_slice();
        let block = BlockState::new(dim, w.config.kernel, frames);
        let state = State {
            window: zeros(past + steps * chunk),
            past,
            band_levels: BandLevelsState::new(&w.band_levels),
            levels: zeros(frames * w.band_levels.count()),
            blocks: vec![block; w.encoder_blocks.len()].into(),
            mixed: zeros(frames * dim),
            hidden: zeros(frames * dim * w.config.expansion),
            rest: zeros(frames * dim),
            part: zeros(frames * dim),
            vectors: zeros(frames * w.config.vq.code_dim),
            scores: zeros(SEARCHED * w.config.vq.codebook_size),
            codes: w.levels.iter().map(|l| vec![0; frames / l.stride].into()).collect(),
        };
        Self {
            model: model.clone(),
            waiting: zeros(steps * chunk),
            filled: 0,
            taken: 0,
            begun: 0,
            phase: Phase::Idle,
            state,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Samples of a step.
    pub fn chunk_samples(&self) -> usize {
        self.model.chunk_samples()
    }

    /// Samples that pass between a sample and its codes: a step has to be complete. The decoder's
    /// [`latency_samples`](super::StreamDecoder::latency_samples) comes on top.
    pub fn latency_samples(&self) -> usize {
        self.chunk_samples()
    }

    /// Takes samples at the model's rate, nominally -1 to 1, and writes the codes of the steps that they
    /// complete, with the first `levels` levels. Samples that are not finite are taken as silence and
    /// counted.
    ///
    /// All samples are taken unless `codes` is full before; call again with the rest then. A step begun
    /// by [`begin`](Self::begin) is finished first.
    ///
    /// # Errors
    /// `levels` is not one of the model's, or `codes` has no room for a step.
    pub fn process_into(
        &mut self,
        samples: &[f32],
        levels: usize,
        codes: &mut [u16],
    ) -> Result<Progress, EngineError> {
        self.model.check_levels(levels)?;
        check_room(codes.len(), self.waiting_codes().max(self.model.codes_per_step(levels)))?;
        let mut progress = Progress::default();
        loop {
            progress.produced += self.drain(&mut codes[progress.produced..]);
            if self.phase != Phase::Idle {
                return Ok(progress);
            }
            let more = self.fill(&samples[progress.consumed..]);
            progress.consumed += more.consumed;
            progress.replaced += more.replaced;
            let room = (codes.len() - progress.produced) / self.model.codes_per_step(levels);
            let steps = room.min(self.filled / self.chunk_samples());
            if steps == 0 {
                return Ok(progress);
            }
            self.start(Work { steps, levels });
        }
    }

    /// Codes what is left, with as much silence behind it as the decoder's lag asks for, so that a decoder
    /// given all codes gives all samples; then the stream is at its beginning again. `codes` needs room
    /// for [`steps_to_finish`](Self::steps_to_finish) steps.
    ///
    /// # Errors
    /// `levels` is not one of the model's, or `codes` is too small.
    pub fn finish(&mut self, levels: usize, codes: &mut [u16]) -> Result<Progress, EngineError> {
        self.model.check_levels(levels)?;
        let total = self.steps_in_all();
        let more = (total - self.begun) as usize * self.model.codes_per_step(levels);
        check_room(codes.len(), self.waiting_codes() + more)?;
        let mut progress = Progress::default();
        loop {
            progress.produced += self.drain(&mut codes[progress.produced..]);
            if self.begun == total {
                self.reset();
                return Ok(progress);
            }
            let batch = (self.waiting.len() / self.chunk_samples()) as u64;
            let steps = batch.min(total - self.begun) as usize;
            self.waiting[self.filled..].fill(0.0);
            self.filled = self.filled.max(steps * self.chunk_samples());
            self.start(Work { steps, levels });
        }
    }

    /// Steps whose codes [`finish`](Self::finish) would give now.
    pub fn steps_to_finish(&self) -> usize {
        (self.steps_in_all() - self.begun) as usize + self.phase.work().map_or(0, |w| w.steps)
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        (self.filled, self.taken, self.begun) = (0, 0, 0);
        self.phase = Phase::Idle;
        self.state.window.fill(0.0);
        self.state.blocks.iter_mut().for_each(BlockState::reset);
    }

    /// Takes samples up to the end of a chunk, without computing anything. For use with
    /// [`begin`](Self::begin); samples may be taken while a step is computed.
    pub fn fill(&mut self, samples: &[f32]) -> Progress {
        let count = samples.len().min(self.waiting.len() - self.filled);
        let mut progress = Progress { consumed: count, ..Progress::default() };
        for (to, from) in self.waiting[self.filled..].iter_mut().zip(&samples[..count]) {
            if from.is_finite() {
                *to = *from;
            } else {
                *to = 0.0;
                progress.replaced += 1;
            }
        }
        self.filled += count;
        self.taken += count as u64;
        progress
    }

    /// Samples that are missing until a chunk is full.
    pub fn missing_samples(&self) -> usize {
        self.chunk_samples().saturating_sub(self.filled)
    }

    /// Begins a step with the first `levels` levels, whose work [`advance`](Self::advance) then does in
    /// small units.
    ///
    /// # Errors
    /// `levels` is not one of the model's, the chunk is not full, or a step is being computed or has not
    /// been taken.
    pub fn begin(&mut self, levels: usize) -> Result<(), EngineError> {
        self.model.check_levels(levels)?;
        if self.phase != Phase::Idle {
            return Err(EngineError::Busy);
        }
        if self.missing_samples() > 0 {
            return Err(EngineError::NotReady("the chunk is not full"));
        }
        self.start(Work { steps: 1, levels });
        Ok(())
    }

    /// Does the next `units` units of the step that was begun; whether it is done.
    pub fn advance(&mut self, units: usize) -> bool {
        let Self { model, phase, state, .. } = self;
        let weights = &*model.weights;
        phase.advance(&weights.encode[1], units, |task, work| {
            state.run(weights, model.kernels, task, work);
        })
    }

    /// Units of work that a step has.
    pub fn units(&self) -> usize {
        self.model.weights.encode[1].units()
    }

    /// What each unit of a step costs, as estimated from its operations, in a measure that encoder and
    /// decoder share: for spreading a step's work evenly over time.
    pub fn unit_costs(&self) -> &[u64] {
        self.model.weights.encode[1].costs()
    }

    /// The largest unit's share of a step's work, 0 to 1, as estimated from its operations.
    pub fn largest_unit_share(&self) -> f64 {
        self.model.weights.encode[1].largest_share()
    }

    /// Writes the codes of the step that is done; gives how many.
    ///
    /// # Errors
    /// No step is done, or `codes` is too small.
    pub fn take(&mut self, codes: &mut [u16]) -> Result<usize, EngineError> {
        let Phase::Done(work) = self.phase else {
            return Err(EngineError::NotReady("no step is done"));
        };
        check_room(codes.len(), work.steps * self.model.codes_per_step(work.levels))?;
        Ok(self.drain(codes))
    }

    /// Bytes of memory that this stream takes beside the weights.
    pub fn bytes(&self) -> usize {
        let s = &self.state;
        let floats = [
            &self.waiting,
            &s.window,
            &s.levels,
            &s.mixed,
            &s.hidden,
            &s.rest,
            &s.part,
            &s.vectors,
            &s.scores,
        ];
        size_of_val(self)
            + floats.iter().map(|v| size_of_val(v.as_ref())).sum::<usize>()
            + s.band_levels.bytes()
            + s.blocks.iter().map(|b| b.bytes() + size_of_val(b)).sum::<usize>()
            + s.codes.iter().map(|c| size_of_val(c.as_ref()) + size_of_val(c)).sum::<usize>()
    }

    /// Steps that cover what was taken and the decoder's lag.
    fn steps_in_all(&self) -> u64 {
        if self.taken == 0 {
            return 0;
        }
        let config = &self.model.weights.config;
        let lag = config.lag_samples() as u64;
        (self.taken + lag).div_ceil(self.chunk_samples() as u64)
    }

    /// Codes of the step that is being computed or waits to be taken.
    fn waiting_codes(&self) -> usize {
        self.phase.work().map_or(0, |w| w.steps * self.model.codes_per_step(w.levels))
    }

    /// Moves the samples of some steps to where they are worked on.
    fn start(&mut self, work: Work) {
        let samples = work.steps * self.chunk_samples();
        let State { window, past, .. } = &mut self.state;
        window[*past..*past + samples].copy_from_slice(&self.waiting[..samples]);
        self.waiting.copy_within(samples..self.filled, 0);
        self.filled -= samples;
        self.begun += work.steps as u64;
        self.phase = Phase::Computing { work, unit: 0 };
    }

    /// Computes what was begun, and writes it if there is room; how many codes were written.
    fn drain(&mut self, codes: &mut [u16]) -> usize {
        let Self { model, phase, state, .. } = self;
        let weights = &*model.weights;
        let done = phase.complete(&weights.encode, |task, work| {
            state.run(weights, model.kernels, task, work);
        });
        let Some(work) = done else { return 0 };
        let count = work.steps * self.model.codes_per_step(work.levels);
        if codes.len() < count {
            return 0;
        }
        let mut to = &mut codes[..count];
        for step in 0..work.steps {
            for (level, all) in self.state.codes.iter().enumerate().take(work.levels) {
                let per_step = self.model.layout().codes_per_step(level);
                let (now, later) = to.split_at_mut(per_step);
                now.copy_from_slice(&all[step * per_step..][..per_step]);
                to = later;
            }
        }
        self.phase = Phase::Idle;
        count
    }
}

/// Steps that are computed at once at most.
pub(super) const MAX_BATCH: usize = 64;

impl State {
    fn run(&mut self, weights: &Weights, kernels: Kernels, task: &EncodeTask, work: Work) {
        let (config, dim) = (&weights.config, weights.config.dim);
        let rows = work.steps * weights.layout.frames_per_step();
        match task {
            EncodeTask::Levels(frames) => {
                let frames = frames.start.min(rows)..frames.end.min(rows);
                let start = self.past + (frames.start + 1) * config.hop - config.level_window();
                let bands = weights.band_levels.count();
                let out = &mut self.levels[frames.start * bands..frames.end * bands];
                weights.band_levels.frames(&self.window[start..], &mut self.band_levels, out);
            }
            EncodeTask::Analysis(panels) => {
                let Some(first) = self.blocks.first_mut() else { return };
                let start = self.past + config.hop - config.analysis_window;
                // Frames overlap: each is a window on the samples, without a copy.
                let x = Rows { values: &self.window[start..], stride: config.hop, count: rows };
                kernels.product(&weights.analysis, panels.clone(), x, first.frames_mut());
                if panels.end == weights.analysis.panels() {
                    let end = self.past + rows * config.hop;
                    self.window.copy_within(end - self.past..end, 0);
                }
            }
            EncodeTask::Envelope => {
                let Some(first) = self.blocks.first_mut() else { return };
                let stride = weights.envelope.inputs();
                let x = Rows { values: &self.levels, stride, count: rows };
                kernels.product(&weights.envelope, 0..weights.envelope.panels(), x, &mut self.part);
                kernels.add(&mut first.frames_mut()[..rows * dim], &self.part[..rows * dim]);
            }
            EncodeTask::Mix(i) => {
                weights.encoder_blocks[*i].mix(
                    kernels,
                    &self.blocks[*i],
                    &mut self.mixed[..rows * dim],
                );
            }
            EncodeTask::Widen(i, panels) => {
                let block = &weights.encoder_blocks[*i];
                block.widen(kernels, panels.clone(), &self.mixed, rows, &mut self.hidden);
            }
            EncodeTask::Narrow(i, panels) => {
                let block = &weights.encoder_blocks[*i];
                let (now, later) = self.blocks.split_at_mut(i + 1);
                let out = later.first_mut().map_or(&mut *self.rest, BlockState::frames_mut);
                block.narrow(kernels, panels.clone(), &self.hidden, rows, &mut now[*i], out);
            }
            EncodeTask::Normalize => kernels.normalize(&mut self.rest[..rows * dim], dim),
            EncodeTask::Pool(i) if *i < work.levels => {
                weights.levels[*i].pool(kernels, &self.rest, rows, &mut self.vectors);
            }
            EncodeTask::Search(i) if *i < work.levels => {
                let level = &weights.levels[*i];
                let codes = &mut self.codes[*i][..rows / level.stride];
                level.search(kernels, &self.vectors, &mut self.scores, codes);
            }
            EncodeTask::Subtract(i) if *i + 1 < work.levels => {
                let level = &weights.levels[*i];
                let codes = &self.codes[*i][..rows / level.stride];
                level.look_up(codes, &mut self.vectors);
                level.unpool(kernels, &self.vectors, rows, &mut self.part);
                kernels.subtract(&mut self.rest[..rows * dim], &self.part[..rows * dim]);
            }
            EncodeTask::Pool(_) | EncodeTask::Search(_) | EncodeTask::Subtract(_) => {}
        }
    }
}
