//! What a stream of tokens keeps of its past, and how likely that makes each next code.

use super::Prior;
use super::lockstep::Lockstep;
use crate::engine::EngineError;
use crate::tokens::Tokens;

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
    /// One alone.
    stream: Lockstep,
}

impl PriorState {
    /// A stream of the first `levels` levels at its beginning.
    ///
    /// # Errors
    /// The prior does not have as many levels.
    pub fn new(prior: &Prior, levels: usize) -> Result<Self, EngineError> {
        Ok(Self { stream: Lockstep::new(prior, levels, 1)? })
    }

    /// As if no code had been given.
    pub fn reset(&mut self) {
        self.stream.reset(1);
    }

    /// The level of the next code.
    pub fn level(&self) -> usize {
        self.stream.level()
    }

    /// Whether the next code is the first of a step.
    pub fn begins_step(&self) -> bool {
        self.stream.begins_step()
    }

    /// The prior.
    pub fn prior(&self) -> &Prior {
        self.stream.prior()
    }

    /// A score for each code of the next one's codebook, given all codes before it: the logarithm of its
    /// probability, but for a constant.
    pub fn scores(&mut self) -> &[f32] {
        self.stream.scores()
    }

    /// Takes the next code.
    ///
    /// # Errors
    /// It is not in the codebook; nothing was taken.
    pub fn push(&mut self, code: u16) -> Result<(), EngineError> {
        self.stream.push(&[code])
    }
}

impl Prior {
    /// What [`PriorState::scores`] would be before each code of `tokens`, which begin where a chunk does and are chunks
    /// of as many steps as the prior remembers: by level, a row of scores for each code. Steps that are not whole
    /// are left out.
    ///
    /// # Errors
    /// The prior does not have as many levels, or a code is not in the codebook.
    pub fn scores_of(&self, tokens: &Tokens) -> Result<Vec<Vec<f32>>, EngineError> {
        let (levels, most) = (tokens.levels.len(), self.levels());
        if !(1..=most).contains(&levels) {
            return Err(EngineError::Levels { given: levels, most });
        }
        let mut codes = Vec::new();
        tokens.append_steps_to(&mut codes, self.layout());
        let size = self.config().codebook_size;
        let chunks: Vec<&[u16]> =
            codes.chunks(self.config().steps * self.codes_per_step(levels)).collect();
        let mut streams = Lockstep::new(self, levels, chunks.len().max(1))?;
        // By chunk and level.
        let mut scores = vec![vec![Vec::new(); levels]; chunks.len()];
        for place in 0..chunks.first().map_or(0, |chunk| chunk.len()) {
            let level = streams.level();
            let rows = streams.scores().chunks_exact(size);
            for ((scores, row), _) in
                scores.iter_mut().zip(rows).zip(&chunks).filter(|(_, chunk)| place < chunk.len())
            {
                scores[level].extend_from_slice(row);
            }
            // The last may end before the others, and nobody looks any more.
            let next: Vec<u16> =
                chunks.iter().map(|chunk| chunk.get(place).copied().unwrap_or(0)).collect();
            streams.push(&next)?;
        }
        let level = |level| scores.iter().flat_map(|chunk| &chunk[level]).copied().collect();
        Ok((0..levels).map(level).collect())
    }
}
