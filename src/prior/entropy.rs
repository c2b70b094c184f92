//! Tokens in fewer bits: a range coder (Martin 1979) that is told by the prior how likely each code is.

use constriction::Queue;
use constriction::backends::BoundedReadWords;
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use constriction::stream::{Code, Decode, Encode};

use super::frequencies::Frequencies;
use super::{Prior, PriorState};
use crate::bitstream::PayloadCoder;
use crate::engine::EngineError;
use crate::tokens::{TokenLayout, Tokens};

/// Bytes of a word of the range coder.
const WORD: usize = 4;

/// Codes the payloads of chunks with a prior: each chunk for itself and each channel for itself, code by
/// code in the order in which the prior predicts them.
///
/// Decoding repeats every step of the encoder. That it gives the same bits on every machine is what the
/// engine and whole-numbered frequencies see to.
#[derive(Debug, Clone)]
pub struct PriorCoder {
    state: PriorState,
    frequencies: Frequencies,
    levels: usize,
}

impl PriorCoder {
    /// A coder of the first `levels` levels.
    ///
    /// # Errors
    /// The prior does not have as many levels.
    pub fn new(prior: &Prior, levels: usize) -> Result<Self, EngineError> {
        let state = PriorState::new(prior, levels)?;
        let frequencies = Frequencies::new(prior.config().codebook_size);
        Ok(Self { state, frequencies, levels })
    }

    /// The frequencies of the next code.
    fn expect(&mut self) -> &Frequencies {
        let kernels = self.state.prior().kernels;
        self.frequencies.set(self.state.scores(), kernels);
        &self.frequencies
    }
}

impl Prior {
    /// What codes files of the first `levels` levels.
    ///
    /// # Errors
    /// The prior does not have as many levels.
    pub fn coder(&self, levels: usize) -> Result<Box<dyn PayloadCoder>, EngineError> {
        Ok(Box::new(PriorCoder::new(self, levels)?))
    }
}

impl PayloadCoder for PriorCoder {
    fn id(&self) -> [u8; 16] {
        self.state.prior().id()
    }

    fn fits(&self, layout: &TokenLayout) -> bool {
        *layout == self.state.prior().layout().prefix(self.levels)
    }

    fn encode(&mut self, channels: &[Tokens]) -> Option<Vec<u8>> {
        let mut encoder = RangeEncoder::<u32, u64>::new();
        let mut codes = Vec::new();
        for tokens in channels {
            self.state.reset();
            codes.clear();
            tokens.append_steps_to(&mut codes, self.state.prior().layout());
            for code in &codes {
                encoder.encode_symbol(*code, self.expect()).ok()?;
                self.state.push(*code).ok()?;
            }
        }
        Some(finish(encoder))
    }

    fn decode(&mut self, channels: usize, steps: usize, bytes: &[u8]) -> Option<Vec<Tokens>> {
        let words: Vec<u32> = bytes.chunks(WORD).map(word).collect();
        let mut decoder = RangeDecoder::<u32, u64, _>::from_compressed(words).ok()?;
        let per_step = self.state.prior().codes_per_step(self.levels);
        let mut codes = Vec::with_capacity(steps * per_step);
        let mut all = Vec::with_capacity(channels);
        for _ in 0..channels {
            self.state.reset();
            codes.clear();
            for _ in 0..steps * per_step {
                let code = decoder.decode_symbol(self.expect()).ok()?;
                self.state.push(code).ok()?;
                codes.push(code);
            }
            let mut tokens = Tokens::new(self.levels);
            tokens.extend_steps(&codes, self.state.prior().layout());
            all.push(tokens);
        }
        let (rest, ..) = decoder.into_raw_parts();
        BoundedReadWords::<u32, Queue>::is_exhausted(&rest).then_some(all)
    }
}

/// The first four bytes as a word; zeros stand for those that are missing.
fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; WORD];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u32::from_be_bytes(word)
}

/// The bytes of all that was coded, without the zeros at their end. Of the numbers that stand for the same
/// codes, it is one that ends in many.
fn finish(encoder: RangeEncoder<u32, u64>) -> Vec<u8> {
    let (lower, range) = (encoder.state().lower(), encoder.state().range().get());
    let mut words: Vec<u32> = encoder.into();
    // The last word is the top of a number in the range that is left, unless it is a zero put behind it.
    if let Some(last) = words.last_mut().filter(|last| **last != 0) {
        let rounded = |bits: u32| Some(last.checked_add((1 << bits) - 1)? >> bits << bits);
        let fits = |word: &u32| (u64::from(*word) << 32).wrapping_sub(lower) < range;
        let shortest = [24, 16, 8].into_iter().filter_map(rounded).find(fits);
        *last = shortest.unwrap_or(*last);
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}
