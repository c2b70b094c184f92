//! Codes in, samples out.

use std::ops::Range;

use super::block::{Block, BlockState};
use super::colour::Colour;
use super::encoder::MAX_BATCH;
use super::error::{EngineError, check_room};
use super::kernels::{Kernels, Rows};
use super::level::Level;
use super::matrix::Matrix;
use super::model::{Model, Weights};
use super::schedule::{Schedule, normalize_cost, product_cost, split};
use super::step::{Phase, Progress, Work};
use super::synthesis::{Grains, SynthesisState};
use crate::config::CodecConfig;
use crate::lines::{BandPowers, Comb, Lines, Trims};

/// A part of the decoder's work on a step.
#[derive(Debug, Clone)]
pub(super) enum DecodeTask {
    Add(usize),
    Input(Range<usize>),
    Mix(usize),
    Widen(usize, Range<usize>),
    Narrow(usize, Range<usize>),
    Normalize,
    Head(Range<usize>),
    /// The spectrum of one of the step's frames, by its place, in two parts.
    Learned(usize),
    Spectrum(usize),
    /// And what becomes of it.
    Transform(usize),
}

impl DecodeTask {
    /// Whether it is the first after the head is known.
    fn begins_synthesis(&self) -> bool {
        matches!(self, Self::Learned(0))
    }
}

/// The work of a step of `rows` frames: whole, and in units.
pub(super) fn decode_schedule(
    input: &Matrix,
    blocks: &[Block],
    levels: &[Level],
    head: &Matrix,
    config: &CodecConfig,
    rows: usize,
) -> [Schedule<DecodeTask>; 2] {
    let tasks = |most: u64| {
        let mut tasks = Vec::new();
        for (i, level) in levels.iter().enumerate() {
            let [_, _, unpool] = level.costs(rows);
            tasks.push((DecodeTask::Add(i), unpool));
        }
        for panels in split(input, rows, most) {
            let cost = product_cost(input, panels.len(), rows);
            tasks.push((DecodeTask::Input(panels), cost));
        }
        for (i, block) in blocks.iter().enumerate() {
            tasks.push((DecodeTask::Mix(i), block.mix_cost(rows)));
            for panels in split(&block.widen, rows, most) {
                let cost = product_cost(&block.widen, panels.len(), rows);
                tasks.push((DecodeTask::Widen(i, panels), cost));
            }
            for panels in split(&block.narrow, rows, most) {
                let cost = product_cost(&block.narrow, panels.len(), rows);
                tasks.push((DecodeTask::Narrow(i, panels), cost));
            }
        }
        tasks.push((DecodeTask::Normalize, normalize_cost(config.dim, rows)));
        for panels in split(head, rows, most) {
            let cost = product_cost(head, panels.len(), rows);
            tasks.push((DecodeTask::Head(panels), cost));
        }
        for place in 0..rows {
            let window = config.synthesis_window as u64;
            let excite = if config.voiced_bands > 0 { EXCITE_COST } else { 0 };
            tasks.push((DecodeTask::Learned(place), window * (LEARNED_COST + excite)));
            tasks.push((DecodeTask::Spectrum(place), window * SPECTRUM_COST));
            tasks.push((DecodeTask::Transform(place), window * TRANSFORM_COST));
        }
        tasks
    };
    Schedule::whole_and_in_units(tasks, DecodeTask::begins_synthesis)
}

/// Cost of a sample of a frame's noise and learned bins, in multiply-adds of a matrix product, as measured for
/// windows of 1920.
const LEARNED_COST: u64 = 5;
/// The same for what they excite: two FFTs, which are scalar code, of a quarter of the window.
const EXCITE_COST: u64 = 170;
/// The same for the bins above.
const SPECTRUM_COST: u64 = 74;
/// The same for the inverse FFT and overlap-add.
const TRANSFORM_COST: u64 = 160;

/// Turns one channel of codes into samples.
///
/// Everything is allocated by [`new`](Self::new). From then on no call allocates, locks, makes a system
/// call or panics. The samples do not depend on how the codes are cut into calls.
///
/// The output lags: the first [`latency_samples`](Self::latency_samples) samples lie before the sound's
/// beginning, and [`finish`](Self::finish) gives as many that are still inside.
///
/// ```
/// use tessera_codec::engine::{Model, StreamDecoder};
///
/// # #[cfg(feature = "embedded-model")] {
/// let model = Model::shipped()?;
/// let mut decoder = StreamDecoder::new(&model);
/// let mut samples = vec![0.0; decoder.chunk_samples()];
/// let mut sound = Vec::new();
/// // Each step may have another number of levels.
/// for step in 0..4u16 {
///     let levels = 1 + usize::from(step);
///     let codes = vec![100 * step; model.codes_per_step(levels)];
///     let done = decoder.process_into(&codes, levels, &mut samples)?;
///     assert_eq!((done.consumed, done.produced), (codes.len(), samples.len()));
///     sound.extend_from_slice(&samples);
/// }
/// let tail = decoder.finish(&mut samples)?;
/// sound.extend_from_slice(&samples[..tail.produced]);
/// sound.drain(..decoder.latency_samples());
/// assert_eq!(sound.len(), 4 * decoder.chunk_samples());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    model: Model,
    /// Number of the next step in the stream.
    step: u64,
    phase: Phase,
    state: State,
    batch: usize,
}

/// What the network remembers and works on; frames are rows.
#[derive(Debug, Clone)]
struct State {
    /// By level, those of all steps at work.
    codes: Box<[Box<[u16]>]>,
    vectors: Box<[f32]>,
    part: Box<[f32]>,
    /// Factors on the levels' parts.
    gains: Box<[f32]>,
    latents: Box<[f32]>,
    blocks: Box<[BlockState]>,
    mixed: Box<[f32]>,
    hidden: Box<[f32]>,
    out: Box<[f32]>,
    head: Box<[f32]>,
    synthesis: SynthesisState,
    /// For streams in which steps are made up.
    colour: Option<Colour>,
    samples: Box<[f32]>,
    /// Number in the stream of the first frame at work.
    frame: u64,
    /// Steps at work, or those that were at work last.
    steps: usize,
    /// Lines at the end of these steps, behind those of the step before them; of interest are combs, grains and trims.
    lines: Box<[Lines]>,
}

impl StreamDecoder {
    /// A stream at its beginning that decodes one step at a time: the choice for live sound.
    pub fn new(model: &Model) -> Self {
        Self::with_batch(model, 1)
    }

    /// A stream that decodes up to `steps` steps (at least 1, at most 64) at once when it is given that
    /// many: faster for files, with the same samples.
    pub fn with_batch(model: &Model, steps: usize) -> Self {
        let batch = steps.clamp(1, MAX_BATCH);
        let w = &*model.weights;
        let frames = batch * model.frames_per_step();
        let dim = w.config.dim;
        let zeros = |n: usize| vec![0.0f32; n].into_boxed_slice();
        let block = BlockState::new(dim, w.config.kernel, frames);
        let state = State {
            codes: w.levels.iter().map(|l| vec![0; frames / l.stride].into()).collect(),
            vectors: zeros(frames * w.config.vq.code_dim),
            part: zeros(frames * dim),
            gains: vec![1.0; w.levels.len()].into(),
            latents: zeros(frames * dim),
            blocks: vec![block; w.decoder_blocks.len()].into(),
            mixed: zeros(frames * dim),
            hidden: zeros(frames * dim * w.config.expansion),
            out: zeros(frames * dim),
            head: zeros(frames * w.head.outputs()),
            synthesis: SynthesisState::new(&w.synthesis),
            colour: None,
            samples: zeros(batch * model.chunk_samples()),
            frame: 0,
            steps: 0,
            lines: vec![Lines::NONE; batch + 1].into(),
        };
        Self { model: model.clone(), step: 0, phase: Phase::Idle, state, batch }
    }

    /// The same stream, which from now on keeps in mind what it sounds like, for [`make_up`](Self::make_up).
    pub(crate) fn with_colour(mut self) -> Self {
        let weights = &self.model.weights;
        self.state.colour = Some(Colour::new(&weights.config, weights.synthesis.magnitudes()));
        self
    }

    /// Says whether the codes that follow are made up: then the colour of their sound turns into that of what
    /// was heard before.
    pub(crate) fn make_up(&mut self, made_up: bool) {
        if let Some(colour) = &mut self.state.colour {
            colour.make_up(made_up);
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Samples that a step gives.
    pub fn chunk_samples(&self) -> usize {
        self.model.chunk_samples()
    }

    /// Samples by which the output lags behind the codes: the overlap of the inverse STFT.
    pub fn latency_samples(&self) -> usize {
        let config = &self.model.weights.config;
        config.lag_samples()
    }

    /// Takes the codes of whole steps, each with `levels` levels, and writes their samples, at the model's
    /// rate. All are taken unless `samples` is full before; call again with the rest then. A step begun by
    /// [`begin`](Self::begin) is finished first.
    ///
    /// # Errors
    /// `levels` is not one of the model's, a code is not in its codebook, the codes are no whole number
    /// of steps, or `samples` has no room for a step.
    pub fn process_into(
        &mut self,
        codes: &[u16],
        levels: usize,
        samples: &mut [f32],
    ) -> Result<Progress, EngineError> {
        self.process_with_lines(codes, levels, &[], samples)
    }

    /// As [`process_into`](Self::process_into), with noise of the grains of `lines`, one for each step, that their combs
    /// shape, and with their trims; what stands in slots is for a [`LinePlayer`](crate::lines::LinePlayer). A step whose lines are
    /// missing has none of it.
    ///
    /// # Errors
    /// As [`process_into`](Self::process_into).
    pub fn process_with_lines(
        &mut self,
        codes: &[u16],
        levels: usize,
        lines: &[Lines],
        samples: &mut [f32],
    ) -> Result<Progress, EngineError> {
        self.check_codes(codes, levels)?;
        let per_step = self.model.codes_per_step(levels);
        check_room(samples.len(), self.chunk_samples())?;
        let mut progress = Progress::default();
        loop {
            progress.produced += self.drain(&mut samples[progress.produced..]);
            let left = (codes.len() - progress.consumed) / per_step;
            let room = (samples.len() - progress.produced) / self.chunk_samples();
            let steps = left.min(room).min(self.batch);
            if steps == 0 || self.phase != Phase::Idle {
                return Ok(progress);
            }
            let lines = lines.get(progress.consumed / per_step..).unwrap_or_default();
            self.start(&codes[progress.consumed..], lines, Work { steps, levels });
            progress.consumed += steps * per_step;
        }
    }

    /// Writes the [`latency_samples`](Self::latency_samples) samples that are still inside, which fade
    /// out where codes to come would have added to them; then the stream is at its beginning again. A
    /// step begun by [`begin`](Self::begin) is finished first and needs room as well.
    ///
    /// # Errors
    /// `samples` is too small.
    pub fn finish(&mut self, samples: &mut [f32]) -> Result<Progress, EngineError> {
        let waiting = self.phase.work().map_or(0, |w| w.steps * self.chunk_samples());
        check_room(samples.len(), waiting + self.latency_samples())?;
        let given = self.drain(samples);
        let tail = self.state.synthesis.tail(self.model.weights.config.hop);
        samples[given..given + tail.len()].copy_from_slice(tail);
        let progress = Progress { produced: given + tail.len(), ..Progress::default() };
        self.reset();
        Ok(progress)
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.reset_at(0);
    }

    /// As if nothing had been given, with step number `step` of the stream to come: for going on behind a
    /// gap, or from the middle of a file. The sound is that of the whole stream
    /// [`warm_up_steps`](crate::config::CodecConfig::warm_up_steps) later.
    pub fn reset_at(&mut self, step: u64) {
        self.step = step;
        self.phase = Phase::Idle;
        self.state.blocks.iter_mut().for_each(BlockState::reset);
        self.state.synthesis.reset();
        self.state.lines.fill(Lines::NONE);
        if let Some(colour) = &mut self.state.colour {
            colour.reset();
        }
    }

    /// Number of the next step in the stream.
    pub fn next_step(&self) -> u64 {
        self.step
    }

    /// Begins a step with `levels` levels, whose work [`advance`](Self::advance) then does in small
    /// units. `codes` are those of exactly one step.
    ///
    /// # Errors
    /// As [`process_into`](Self::process_into), or a step is being computed or has not been taken.
    pub fn begin(&mut self, codes: &[u16], levels: usize) -> Result<(), EngineError> {
        self.begin_with_lines(codes, levels, &Lines::NONE)
    }

    /// As [`begin`](Self::begin), with the comb, the grain and the trims of `lines`, as
    /// [`process_with_lines`](Self::process_with_lines) does it.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_with_lines(
        &mut self,
        codes: &[u16],
        levels: usize,
        lines: &Lines,
    ) -> Result<(), EngineError> {
        self.check_codes(codes, levels)?;
        let per_step = self.model.codes_per_step(levels);
        if codes.len() != per_step {
            return Err(EngineError::PartialStep { given: codes.len(), per_step });
        }
        if self.phase != Phase::Idle {
            return Err(EngineError::Busy);
        }
        self.start(codes, std::slice::from_ref(lines), Work { steps: 1, levels });
        Ok(())
    }

    /// Does the next `units` units of the step that was begun; whether it is done.
    pub fn advance(&mut self, units: usize) -> bool {
        let Self { model, phase, state, .. } = self;
        let weights = &*model.weights;
        phase.advance(&weights.decode[1], units, |task, work| {
            state.run(weights, model.kernels, task, work);
        })
    }

    /// Sets the factor on what `level` adds to the latents from the next step on, for effects: 1 (as it is at
    /// first) leaves every bit as it is, 0 silences the level. Stays through [`reset`](Self::reset). Of no
    /// effect if the model has no such level or the factor is not finite.
    pub fn set_gain(&mut self, level: usize, gain: f32) {
        if let Some(own) = self.state.gains.get_mut(level)
            && gain.is_finite()
        {
            *own = gain;
        }
    }

    /// Units of work that a step has.
    pub fn units(&self) -> usize {
        self.model.weights.decode[1].units()
    }

    /// Units of a step that was begun after which it is known what its frames will be like: their [`powers`](Self::powers), by which
    /// it can still be [trimmed](Self::trim).
    pub fn units_to_trim(&self) -> usize {
        self.model.weights.decode[1].units_before(DecodeTask::begins_synthesis)
    }

    /// The power of each band that can be trimmed in each frame of the step at work, as its codes have it: the sum of its bins', each of
    /// which has the samples' variance where the sound is white noise. No frames unless just
    /// [`units_to_trim`](Self::units_to_trim) units of a step are done.
    ///
    /// ```
    /// use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
    /// use tessera_codec::lines::{LineFinder, Lines, Selection};
    ///
    /// # #[cfg(feature = "embedded-model")] {
    /// let model = Model::shipped()?;
    /// let (mut encoder, mut decoder) = (StreamEncoder::new(&model), StreamDecoder::new(&model));
    /// let selection = Selection::suiting(model.config(), 4).live();
    /// let mut finder = LineFinder::new(48_000, 1920, 1440, selection).with_trims(model.config());
    /// let mut codes = vec![0; model.codes_per_step(4)];
    /// let (mut found, mut samples) = (Vec::new(), vec![0.0; 1920]);
    /// let hiss: Vec<f32> = (0..1920u32).map(|n| (n * n % 211) as f32 / 1000.0 - 0.1).collect();
    /// for _ in 0..10 {
    ///     encoder.process_into(&hiss, 4, &mut codes)?;
    ///     finder.find(&hiss, &mut found);
    ///     let mut lines = found.pop().unwrap_or(Lines::NONE);
    ///     decoder.begin_with_lines(&codes, 4, &lines)?;
    ///     decoder.advance(decoder.units_to_trim());
    ///     let trims = finder.trims(decoder.powers());
    ///     decoder.trim(trims)?;
    ///     lines.set_trims(trims); // to be sent with the codes
    ///     decoder.advance(usize::MAX);
    ///     decoder.take(&mut samples)?;
    /// }
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn powers(&self) -> impl Iterator<Item = BandPowers> {
        let (synthesis, width) = (&self.model.weights.synthesis, self.model.weights.head.outputs());
        let frames = if self.can_be_trimmed() { self.model.frames_per_step() } else { 0 };
        let heads = self.state.head.chunks_exact(width).take(frames);
        heads.map(|head| synthesis.powers(&head[..synthesis.magnitudes()]))
    }

    /// Sets the trims of the step at work, in place of those it was begun with.
    ///
    /// # Errors
    /// Fewer or more units of a step are done than [`units_to_trim`](Self::units_to_trim), or none is at work.
    pub fn trim(&mut self, trims: Trims) -> Result<(), EngineError> {
        if !self.can_be_trimmed() {
            return Err(EngineError::NotReady("no step has just come to where it can be trimmed"));
        }
        self.state.lines[1].set_trims(trims);
        Ok(())
    }

    fn can_be_trimmed(&self) -> bool {
        let units = self.units_to_trim();
        matches!(self.phase, Phase::Computing { work, unit } if work.steps == 1 && unit == units)
    }

    /// What each unit of a step costs, as estimated from its operations, in a measure that encoder and
    /// decoder share: for spreading a step's work evenly over time.
    pub fn unit_costs(&self) -> &[u64] {
        self.model.weights.decode[1].costs()
    }

    /// The largest unit's share of a step's work, 0 to 1, as estimated from its operations.
    pub fn largest_unit_share(&self) -> f64 {
        self.model.weights.decode[1].largest_share()
    }

    /// Writes the samples of the step that is done; gives how many.
    ///
    /// # Errors
    /// No step is done, or `samples` is too small.
    pub fn take(&mut self, samples: &mut [f32]) -> Result<usize, EngineError> {
        let Phase::Done(work) = self.phase else {
            return Err(EngineError::NotReady("no step is done"));
        };
        check_room(samples.len(), work.steps * self.chunk_samples())?;
        Ok(self.drain(samples))
    }

    /// Bytes of memory that this stream takes beside the weights.
    pub fn bytes(&self) -> usize {
        let s = &self.state;
        let floats =
            [&s.vectors, &s.part, &s.latents, &s.mixed, &s.hidden, &s.out, &s.head, &s.samples];
        size_of_val(self)
            + floats.iter().map(|v| size_of_val(v.as_ref())).sum::<usize>()
            + s.blocks.iter().map(|b| b.bytes() + size_of_val(b)).sum::<usize>()
            + s.codes.iter().map(|c| size_of_val(c.as_ref()) + size_of_val(c)).sum::<usize>()
            + s.synthesis.bytes()
            + size_of_val(&*s.lines)
            + s.colour.as_ref().map_or(0, Colour::bytes)
    }

    pub(super) fn check_codes(&self, codes: &[u16], levels: usize) -> Result<(), EngineError> {
        self.model.check_levels(levels)?;
        let per_step = self.model.codes_per_step(levels);
        if !codes.len().is_multiple_of(per_step) {
            return Err(EngineError::PartialStep { given: codes.len(), per_step });
        }
        let size = self.model.weights.config.vq.codebook_size;
        match codes.iter().position(|&code| usize::from(code) >= size) {
            Some(place) => Err(EngineError::Code { code: codes[place], place, size }),
            None => Ok(()),
        }
    }

    /// Sorts the codes of some steps by level, and puts their lines behind the last.
    fn start(&mut self, codes: &[u16], lines: &[Lines], work: Work) {
        let known = &mut self.state.lines;
        known[0] = known[self.state.steps];
        self.state.steps = work.steps;
        for (step, known) in known[1..=work.steps].iter_mut().enumerate() {
            *known = lines.get(step).copied().unwrap_or_default();
        }

        let mut rest = codes;
        for step in 0..work.steps {
            for (level, all) in self.state.codes.iter_mut().enumerate().take(work.levels) {
                let per_step = self.model.layout().codes_per_step(level);
                let (now, later) = rest.split_at(per_step);
                all[step * per_step..][..per_step].copy_from_slice(now);
                rest = later;
            }
        }
        self.state.frame = self.step.wrapping_mul(self.model.frames_per_step() as u64);
        self.step = self.step.wrapping_add(work.steps as u64);
        self.phase = Phase::Computing { work, unit: 0 };
    }

    /// Computes what was begun, and writes it if there is room; how many samples were written.
    fn drain(&mut self, samples: &mut [f32]) -> usize {
        let Self { model, phase, state, .. } = self;
        let weights = &*model.weights;
        let done = phase.complete(&weights.decode, |task, work| {
            state.run(weights, model.kernels, task, work);
        });
        let Some(work) = done else { return 0 };
        let count = work.steps * self.chunk_samples();
        if samples.len() < count {
            return 0;
        }
        samples[..count].copy_from_slice(&self.state.samples[..count]);
        self.phase = Phase::Idle;
        count
    }
}

impl State {
    fn run(&mut self, weights: &Weights, kernels: Kernels, task: &DecodeTask, work: Work) {
        let (config, dim) = (&weights.config, weights.config.dim);
        let rows = work.steps * weights.layout.frames_per_step();
        match task {
            DecodeTask::Add(i) if *i < work.levels => {
                let level = &weights.levels[*i];
                level.look_up(&self.codes[*i][..rows / level.stride], &mut self.vectors);
                let part = if *i == 0 { &mut self.latents } else { &mut self.part };
                level.unpool(kernels, &self.vectors, rows, part);
                let gain = self.gains[*i];
                if gain != 1.0 {
                    part[..rows * dim].iter_mut().for_each(|value| *value *= gain);
                }
                if *i > 0 {
                    kernels.add(&mut self.latents[..rows * dim], &self.part[..rows * dim]);
                }
            }
            DecodeTask::Add(_) => {}
            DecodeTask::Input(panels) => {
                let Some(first) = self.blocks.first_mut() else { return };
                let x = Rows { values: &self.latents, stride: dim, count: rows };
                kernels.product(&weights.input, panels.clone(), x, first.frames_mut());
            }
            DecodeTask::Mix(i) => {
                weights.decoder_blocks[*i].mix(
                    kernels,
                    &self.blocks[*i],
                    &mut self.mixed[..rows * dim],
                );
            }
            DecodeTask::Widen(i, panels) => {
                let block = &weights.decoder_blocks[*i];
                block.widen(kernels, panels.clone(), &self.mixed, rows, &mut self.hidden);
            }
            DecodeTask::Narrow(i, panels) => {
                let block = &weights.decoder_blocks[*i];
                let (now, later) = self.blocks.split_at_mut(i + 1);
                let out = later.first_mut().map_or(&mut *self.out, BlockState::frames_mut);
                block.narrow(kernels, panels.clone(), &self.hidden, rows, &mut now[*i], out);
            }
            DecodeTask::Normalize => kernels.normalize(&mut self.out[..rows * dim], dim),
            DecodeTask::Head(panels) => {
                let x = Rows { values: &self.out, stride: dim, count: rows };
                kernels.product(&weights.head, panels.clone(), x, &mut self.head);
            }
            // Several steps at once are never computed in units: then all is done in the last task.
            DecodeTask::Learned(place) if work.steps == 1 => {
                self.learned(weights, kernels, *place);
            }
            DecodeTask::Spectrum(place) if work.steps == 1 => {
                self.spectrum(weights, kernels, *place);
            }
            DecodeTask::Learned(_) | DecodeTask::Spectrum(_) => {}
            DecodeTask::Transform(place) => {
                // One frame at a time, in their order: each adds to what those before it left.
                for frame in place * work.steps..(place + 1) * work.steps {
                    if work.steps > 1 {
                        self.learned(weights, kernels, frame);
                        self.spectrum(weights, kernels, frame);
                    }
                    let samples = &mut self.samples[frame * config.hop..][..config.hop];
                    weights.synthesis.transform(&mut self.synthesis, samples);
                }
            }
        }
    }

    fn learned(&mut self, weights: &Weights, kernels: Kernels, frame: usize) {
        let number = self.frame.wrapping_add(frame as u64);
        let width = weights.head.outputs();
        let per_step = weights.layout.frames_per_step();
        let head = &mut self.head[frame * width..][..width];
        let (step, place) = (frame / per_step, frame % per_step);
        let trims = self.lines[step + 1].trims();
        if trims != Trims::NONE {
            weights.synthesis.trim(trims, &mut head[..weights.synthesis.magnitudes()]);
        }
        if let Some(colour) = &mut self.colour {
            colour.tint(&mut head[..weights.synthesis.magnitudes()]);
        }
        let [before, now] = [self.lines[step], self.lines[step + 1]].map(|lines| lines.grain());
        let grains = Grains { before, now, place };
        weights.synthesis.learned(kernels, number, head, grains, &mut self.synthesis);
    }

    fn spectrum(&mut self, weights: &Weights, kernels: Kernels, frame: usize) {
        let width = weights.head.outputs();
        let head = &self.head[frame * width..][..width];
        let per_step = weights.layout.frames_per_step();
        let (step, place) = (frame / per_step, frame % per_step);
        let share = (place + 1) as f32 / per_step as f32;
        let teeth = Comb::between(self.lines[step].comb(), self.lines[step + 1].comb(), share);
        weights.synthesis.spectrum(kernels, head, teeth.as_ref(), &mut self.synthesis);
    }
}
