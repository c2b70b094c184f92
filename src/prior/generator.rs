//! Codes out of nothing, or out of what came before.

use super::{Prior, PriorState, Sampler, Sampling};
use crate::engine::EngineError;

/// Continues a channel's tokens, step by step: the codes of a step, coarse to fine, each drawn given all
/// before it.
///
/// ```no_run
/// use std::path::Path;
/// use tessera_codec::engine::{Model, StreamDecoder};
/// use tessera_codec::prior::{Generator, Prior, Sampling};
///
/// let (model, prior) = (Model::load(Path::new("model"))?, Prior::load(Path::new("model"))?);
/// let levels = prior.levels();
/// let mut generator = Generator::new(&prior, levels, Sampling::default())?;
/// let mut decoder = StreamDecoder::new(&model);
/// let mut codes = vec![0; model.codes_per_step(levels)];
/// let mut samples = vec![0.0; model.chunk_samples()];
/// for _ in 0..100 {
///     generator.draw(&mut codes)?;
///     decoder.process_into(&codes, levels, &mut samples)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Generator {
    state: PriorState,
    sampler: Sampler,
    codes_per_step: usize,
}

impl Generator {
    /// A generator of the first `levels` levels, with nothing before.
    ///
    /// # Errors
    /// The prior does not have as many levels.
    pub fn new(prior: &Prior, levels: usize, sampling: Sampling) -> Result<Self, EngineError> {
        let state = PriorState::new(prior, levels)?;
        let sampler = Sampler::new(sampling, prior.config().codebook_size);
        Ok(Self { state, sampler, codes_per_step: prior.codes_per_step(levels) })
    }

    /// Takes whole steps as what came before.
    ///
    /// # Errors
    /// The last step is not whole, and nothing was taken; or a code is not in its codebook, and those
    /// before it were.
    pub fn listen(&mut self, codes: &[u16]) -> Result<(), EngineError> {
        self.check_steps(codes.len())?;
        codes.iter().try_for_each(|code| self.state.push(*code))
    }

    /// Draws the next steps into `codes`, which has the room of whole ones.
    ///
    /// # Errors
    /// The last one is not whole; nothing was drawn.
    pub fn draw(&mut self, codes: &mut [u16]) -> Result<(), EngineError> {
        self.draw_after(0, codes)
    }

    /// The same with the first `given` codes of each step taken as they are in `codes`: finer ones for
    /// coarse ones that are known.
    ///
    /// # Errors
    /// The last step is not whole, and nothing was drawn; or a given code is not in its codebook, and those
    /// before it were.
    pub fn draw_after(&mut self, given: usize, codes: &mut [u16]) -> Result<(), EngineError> {
        self.check_steps(codes.len())?;
        for step in codes.chunks_exact_mut(self.codes_per_step) {
            for (i, code) in step.iter_mut().enumerate() {
                if i >= given {
                    *code = self.sampler.draw(self.state.scores());
                }
                self.state.push(*code)?;
            }
        }
        Ok(())
    }

    /// Forgets what came before; what is drawn goes on.
    pub fn reset(&mut self) {
        self.state.reset();
    }

    fn check_steps(&self, given: usize) -> Result<(), EngineError> {
        let per_step = self.codes_per_step;
        match given.is_multiple_of(per_step) {
            true => Ok(()),
            false => Err(EngineError::PartialStep { given, per_step }),
        }
    }
}
