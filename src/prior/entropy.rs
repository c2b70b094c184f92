//! Tokens in fewer bits: a range coder (Martin 1979) that is told by the prior how likely each code is.

use constriction::Queue;
use constriction::backends::BoundedReadWords;
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use constriction::stream::{Code, Decode, Encode};

use super::Prior;
use super::frequencies::{Frequencies, Interval, Intervals};
use super::lockstep::Lockstep;
use crate::bitstream::{Coded, PayloadCoder};
use crate::engine::EngineError;
use crate::threads::{cores, on_threads};
use crate::tokens::{TokenLayout, Tokens};

/// Bytes of a word of the range coder.
const WORD: usize = 4;
/// Chunks that are coded together: enough for several streams on each of a few threads, and no more than are
/// quickly read ahead.
const CHUNKS: usize = 16;
/// Streams in lockstep, of all threads together, at most: beyond, memory grows and speed does not.
const MOST: usize = 32;
/// And of one thread at least, where there are as many: a matrix product takes that many rows almost for the
/// price of one.
const LEAST: usize = 4;

/// Codes the payloads of chunks with a prior: each chunk for itself and each channel for itself, code by
/// code in the order in which the prior predicts them.
///
/// Chunks know nothing of each other, so that several go through the network in lockstep, and on several
/// threads; neither changes a bit. Decoding repeats every step of the encoder. That it gives the same bits on
/// every machine is what the engine and whole-numbered frequencies see to.
#[derive(Debug, Clone)]
pub struct PriorCoder {
    prior: Prior,
    levels: usize,
    /// One for each thread.
    groups: Vec<Group>,
}

/// What one thread takes in lockstep.
#[derive(Debug, Clone)]
struct Group {
    streams: Lockstep,
    frequencies: Frequencies,
}

impl PriorCoder {
    /// A coder of the first `levels` levels.
    ///
    /// # Errors
    /// The prior does not have as many levels.
    pub fn new(prior: &Prior, levels: usize) -> Result<Self, EngineError> {
        Self::with_threads(prior, levels, cores())
    }

    /// The same on `threads` threads.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_threads(prior: &Prior, levels: usize, threads: usize) -> Result<Self, EngineError> {
        let threads = threads.clamp(1, MOST / LEAST);
        let streams = Lockstep::new(prior, levels, MOST.div_ceil(threads))?;
        let group = Group { streams, frequencies: Frequencies::new(prior.config().codebook_size) };
        Ok(Self { prior: prior.clone(), levels, groups: vec![group; threads] })
    }

    /// Does `work` with the rows, shared out among the groups: gives what came of each, in order, or nothing
    /// when one group fails.
    fn spread<I: Sync, O: Send>(
        &mut self,
        rows: &[I],
        work: impl Fn(&mut Group, &[I]) -> Result<Vec<O>, EngineError> + Sync,
    ) -> Option<Vec<O>> {
        let threads = self.groups.len();
        let mut all = Vec::with_capacity(rows.len());
        for rows in rows.chunks(threads * MOST.div_ceil(threads)) {
            let parts: Vec<&[I]> = rows.chunks(rows.len().div_ceil(threads).max(LEAST)).collect();
            let work = |group: &mut Group, part: &&[I]| work(group, part);
            let done = on_threads(threads - 1, &mut self.groups, &parts, work, || ()).0;
            all.extend(done.ok()?.into_iter().flatten());
        }
        Some(all)
    }

    /// The payloads of so many chunks that not much is kept of them meanwhile.
    fn encode_some(&mut self, chunks: &[Vec<Tokens>]) -> Vec<Option<Vec<u8>>> {
        let layout = self.prior.layout().clone();
        let codes = |tokens: &Tokens| {
            let mut codes = Vec::new();
            tokens.append_steps_to(&mut codes, &layout);
            codes
        };
        let rows: Vec<Vec<u16>> = chunks.iter().flatten().map(codes).collect();
        let Some(intervals) = self.spread(&rows, Group::intervals) else {
            return vec![None; chunks.len()];
        };
        let mut channels = rows.iter().zip(&intervals);
        let encode = |chunk: &Vec<Tokens>| {
            let channels: Vec<_> = channels.by_ref().take(chunk.len()).collect();
            let mut encoder = RangeEncoder::<u32, u64>::new();
            for (codes, intervals) in channels {
                if intervals.len() < codes.len() {
                    return None;
                }
                encoder.encode_iid_symbols(intervals, Intervals).ok()?;
            }
            Some(finish(encoder))
        };
        chunks.iter().map(encode).collect()
    }
}

impl Group {
    /// Goes through streams of these numbers of codes in lockstep. `next` says what the next code of a
    /// stream is, whose frequencies it is told; a stream ends early where it says nothing.
    fn run(
        &mut self,
        mut lengths: Vec<usize>,
        mut next: impl FnMut(usize, &Frequencies) -> Option<u16>,
    ) -> Result<(), EngineError> {
        self.streams.reset(lengths.len());
        let kernels = self.streams.prior().kernels;
        let size = self.streams.prior().config().codebook_size;
        // A stream that has ended goes on with its last code, and nobody looks.
        let mut codes = vec![0; lengths.len()];
        for place in 0.. {
            if lengths.iter().all(|length| place >= *length) {
                break;
            }
            let scores = self.streams.scores().chunks_exact(size);
            for (row, (code, scores)) in codes.iter_mut().zip(scores).enumerate() {
                if place >= lengths[row] {
                    continue;
                }
                self.frequencies.set(scores, kernels);
                match next(row, &self.frequencies) {
                    Some(next) => *code = next,
                    None => lengths[row] = 0,
                }
            }
            self.streams.push(&codes)?;
        }
        Ok(())
    }

    /// Where in all draws each code of some streams is, up to one that is not in the codebook.
    fn intervals(&mut self, rows: &[Vec<u16>]) -> Result<Vec<Vec<Interval>>, EngineError> {
        let lengths = rows.iter().map(Vec::len).collect();
        let mut all: Vec<Vec<Interval>> = rows.iter().map(|_| Vec::new()).collect();
        self.run(lengths, |row, frequencies| {
            let code = rows[row][all[row].len()];
            all[row].push(frequencies.interval(code)?);
            Some(code)
        })?;
        Ok(all)
    }

    /// The tokens of chunks of `channels` channels, as far as they are tokens of anything.
    fn tokens(
        &mut self,
        channels: usize,
        levels: usize,
        chunks: &[Coded],
    ) -> Result<Vec<Option<Vec<Tokens>>>, EngineError> {
        let prior = self.streams.prior().clone();
        let per_step = prior.codes_per_step(levels);
        let mut readers: Vec<_> = chunks
            .iter()
            .map(|chunk| {
                let words: Vec<u32> = chunk.bytes.chunks(WORD).map(word).collect();
                RangeDecoder::<u32, u64, _>::from_compressed(words).ok()
            })
            .collect();
        let mut all: Vec<Vec<Tokens>> = chunks.iter().map(|_| Vec::new()).collect();
        for _ in 0..channels {
            let length = |(chunk, reader): (&Coded, &Option<_>)| {
                reader.as_ref().map_or(0, |_| chunk.steps * per_step)
            };
            let lengths = chunks.iter().zip(&readers).map(length).collect();
            let mut codes: Vec<Vec<u16>> = chunks.iter().map(|_| Vec::new()).collect();
            self.run(lengths, |row, frequencies| {
                let code = readers[row].as_mut()?.decode_symbol(frequencies).ok();
                match code {
                    Some(code) => codes[row].push(code),
                    None => readers[row] = None,
                }
                code
            })?;
            for (all, codes) in all.iter_mut().zip(&codes) {
                let mut tokens = Tokens::new(levels);
                tokens.extend_steps(codes, prior.layout());
                all.push(tokens);
            }
        }
        let whole = |(reader, tokens): (Option<RangeDecoder<_, _, _>>, _)| {
            let (rest, ..) = reader?.into_raw_parts();
            BoundedReadWords::<u32, Queue>::is_exhausted(&rest).then_some(tokens)
        };
        Ok(readers.into_iter().zip(all).map(whole).collect())
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
        self.prior.id()
    }

    fn fits(&self, layout: &TokenLayout) -> bool {
        *layout == self.prior.layout().prefix(self.levels)
    }

    fn chunks_at_once(&self) -> usize {
        CHUNKS
    }

    fn encode(&mut self, chunks: &[Vec<Tokens>]) -> Vec<Option<Vec<u8>>> {
        let channels = chunks.first().map_or(1, Vec::len).max(1);
        let some = (MOST / channels).max(1);
        chunks.chunks(some).flat_map(|chunks| self.encode_some(chunks)).collect()
    }

    fn decode(&mut self, channels: usize, chunks: &[Coded]) -> Vec<Option<Vec<Tokens>>> {
        let levels = self.levels;
        let decode = |group: &mut Group, chunks: &[Coded]| group.tokens(channels, levels, chunks);
        self.spread(chunks, decode).unwrap_or_else(|| vec![None; chunks.len()])
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
