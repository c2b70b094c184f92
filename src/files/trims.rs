//! The trims of a file: what is coded is decoded, as it will be, and held against the original. Chunks know nothing of one another, so
//! each is decided by itself.

use std::sync::Arc;

use super::channels::decoded_at_once;
use crate::engine::{EngineError, Model, StreamDecoder};
use crate::lines::Lines;
use crate::threads::on_threads;
use crate::tokens::Tokens;
use crate::trims::{Errors, TrimRoom, TrimSearch};

/// Steps that are decided together: a chunk of a file that the shipped prior has coded, and as many of any other file, so that all decode
/// to the same sound.
const CHUNK: usize = 64;

/// Finds trims for the tokens of all channels, behind what makes these.
pub struct TrimFinder {
    streams: Vec<Channel>,
    helpers: usize,
}

/// One channel.
#[derive(Clone)]
struct Channel {
    search: Arc<TrimSearch>,
    decoder: StreamDecoder,
    /// Steps without trims so far, and the lines of the step before them.
    waiting: Tokens,
    before: Lines,
    /// Errors of the first of them.
    errors: Vec<Errors>,
    /// The sound and the decoded sound, from where the first frame of the next step to be looked at begins.
    sound: Vec<f32>,
    decoded: Vec<f32>,
    room: TrimRoom,
}

impl TrimFinder {
    /// For so many channels; a bit is worth `worth` dB squared.
    pub fn new(model: &Model, channels: usize, worth: f32, threads: usize) -> Self {
        let search = Arc::new(TrimSearch::new(model.config(), worth));
        let channel = Channel {
            decoder: StreamDecoder::with_batch(model, decoded_at_once(channels)),
            waiting: Tokens::default(),
            before: Lines::NONE,
            errors: Vec::new(),
            // The first frames begin before the sound.
            sound: vec![0.0; search.lag()],
            decoded: Vec::new(),
            room: search.room(),
            search,
        };
        Self { streams: vec![channel; channels], helpers: threads.saturating_sub(1) }
    }

    /// Takes more of the sound, and the tokens of some of its steps, one of each for each channel; gives tokens of those steps whose trims
    /// are found.
    ///
    /// # Errors
    /// The tokens are not those of the model.
    pub fn push(
        &mut self,
        sound: &[Vec<f32>],
        tokens: &[Tokens],
    ) -> Result<Vec<Tokens>, EngineError> {
        let inputs: Vec<_> = sound.iter().zip(tokens).collect();
        let push = |channel: &mut Channel, (sound, tokens): &(&Vec<f32>, &Tokens)| {
            channel.sound.extend_from_slice(sound);
            channel.decode(tokens)?;
            Ok(channel.trimmed(channel.errors.len() / CHUNK * CHUNK))
        };
        on_threads(self.helpers, &mut self.streams, &inputs, push, || ()).0
    }

    /// Takes the last tokens, and gives those of all steps that are left.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self, tokens: &[Tokens]) -> Result<Vec<Tokens>, EngineError> {
        let finish = |channel: &mut Channel, tokens: &Tokens| {
            channel.decode(tokens)?;
            let mut tail = vec![0.0; channel.decoder.latency_samples()];
            channel.decoder.finish(&mut tail)?;
            channel.decoded.extend(tail);
            channel.measure();
            Ok(channel.trimmed(channel.errors.len()))
        };
        on_threads(self.helpers, &mut self.streams, tokens, finish, || ()).0
    }
}

impl Channel {
    /// Decodes the tokens of the next steps, which wait from now on, and looks at what is complete.
    fn decode(&mut self, tokens: &Tokens) -> Result<(), EngineError> {
        let levels = tokens.levels.len();
        let layout = self.decoder.model().layout().clone();
        let mut codes = Vec::new();
        tokens.append_steps_to(&mut codes, &layout);
        let per_step = self.decoder.model().codes_per_step(levels).max(1);
        let steps = codes.len() / per_step;
        if steps > 0 {
            let known = self.decoded.len();
            self.decoded.resize(known + steps * self.decoder.chunk_samples(), 0.0);
            let room = &mut self.decoded[known..];
            self.decoder.process_with_lines(&codes, levels, &tokens.lines, room)?;
        }
        if self.waiting.levels.is_empty() {
            self.waiting = Tokens::new(levels);
        }
        self.waiting.extend(tokens);
        self.measure();
        Ok(())
    }

    /// Looks at all steps of which both sounds are complete.
    fn measure(&mut self) {
        let mut begin = 0;
        while begin + self.search.span() <= self.sound.len().min(self.decoded.len()) {
            let step = self.errors.len();
            let lines = |step: usize| self.waiting.lines.get(step).copied().unwrap_or_default();
            let around = [step.checked_sub(1).map_or(self.before, lines), lines(step)];
            let (sound, decoded) = (&self.sound[begin..], &self.decoded[begin..]);
            let errors = self.search.errors(sound, decoded, around.each_ref(), &mut self.room);
            self.errors.push(errors);
            begin += self.search.step();
        }
        self.sound.drain(..begin);
        self.decoded.drain(..begin);
    }

    /// The tokens of the first `steps` steps, which have been looked at, with their trims.
    fn trimmed(&mut self, steps: usize) -> Tokens {
        let layout = self.decoder.model().layout().clone();
        let mut tokens = self.waiting.take_steps(steps, &layout);
        tokens.lines.resize(steps, Lines::NONE);
        let errors: Vec<Errors> = self.errors.drain(..steps).collect();
        for (lines, errors) in tokens.lines.chunks_mut(CHUNK).zip(errors.chunks(CHUNK)) {
            for (lines, trims) in lines.iter_mut().zip(self.search.decide(errors)) {
                lines.set_trims(trims);
            }
        }
        self.before = tokens.lines.last().copied().unwrap_or(self.before);
        tokens
    }
}

#[cfg(all(test, feature = "embedded-model"))]
mod tests {
    use super::*;
    use crate::engine::StreamEncoder;
    use crate::lines::{Line, TRIM_BANDS, Trims};

    /// Noise, its tokens, and what they decode to, as late as they are.
    fn noise(model: &Model, steps: usize) -> Result<(Vec<f32>, Tokens, Vec<f32>), EngineError> {
        let mut state = 1u32;
        let sound: Vec<f32> = (0..steps * model.chunk_samples())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * 0.2
            })
            .collect();
        let mut codes = vec![0; steps * model.codes_per_step(4)];
        let mut encoder = StreamEncoder::with_batch(model, 16);
        let mut done = 0;
        for piece in sound.chunks(model.chunk_samples()) {
            done += encoder.process_into(piece, 4, &mut codes[done..])?.produced;
        }
        let mut tokens = Tokens::new(4);
        tokens.extend_steps(&codes, model.layout());
        let mut decoder = StreamDecoder::with_batch(model, 16);
        let mut decoded = vec![0.0; sound.len() + decoder.latency_samples()];
        let given = decoder.process_into(&codes, 4, &mut decoded)?.produced;
        decoder.finish(&mut decoded[given..])?;
        Ok((sound, tokens, decoded.split_off(decoder.latency_samples())))
    }

    fn found(
        model: &Model,
        sound: &[f32],
        tokens: &Tokens,
        pieces: usize,
        threads: usize,
    ) -> Result<Tokens, EngineError> {
        let mut finder = TrimFinder::new(model, 2, 4.0, threads);
        let (mut tokens, mut all) = (tokens.clone(), [Tokens::new(4), Tokens::new(4)]);
        let mut take = |new: Vec<Tokens>| {
            all.iter_mut().zip(&new).for_each(|(all, new)| all.extend(new));
        };
        for sound in sound.chunks(pieces * model.chunk_samples()) {
            let part = tokens.take_steps(pieces, model.layout());
            take(finder.push(&[sound.to_vec(), sound.to_vec()], &[part.clone(), part])?);
        }
        let none = Tokens::new(4);
        take(finder.finish(&[none.clone(), none])?);
        let [left, right] = all;
        assert!(left == right, "channels are trimmed alike");
        Ok(left)
    }

    #[test]
    fn what_is_too_soft_is_made_louder() {
        let model = Model::shipped().unwrap();
        let (_, tokens, decoded) = noise(&model, 20).unwrap();
        let louder: Vec<f32> = decoded.iter().map(|x| x * 1.995).collect();
        let trimmed = found(&model, &louder, &tokens, 20, 1).unwrap();
        assert_eq!(trimmed.levels, tokens.levels);
        assert_eq!(trimmed.lines.len(), 20);
        for (step, lines) in trimmed.lines.iter().enumerate() {
            assert_eq!(lines.trims().bands(), [2; TRIM_BANDS], "step {step}");
        }
        let same = found(&model, &decoded, &tokens, 20, 1).unwrap();
        assert!(same.lines.iter().all(|lines| lines.trims() == Trims::NONE));
    }

    #[test]
    fn trims_bring_levels_closer() {
        let model = Model::shipped().unwrap();
        let (sound, tokens, _) = noise(&model, 24).unwrap();
        let off = |tokens: &Tokens| {
            let mut finder = TrimFinder::new(&model, 1, 0.0, 1);
            let channel = &mut finder.streams[0];
            channel.sound.extend_from_slice(&sound);
            channel.decode(tokens).unwrap();
            let errors = channel.errors.iter().flatten().flatten();
            errors.map(|db| db * db).sum::<f32>() / channel.errors.len() as f32
        };
        // Half of all levels: the codes know of the others.
        let soft: Vec<Lines> = tokens.levels[0]
            .iter()
            .map(|_| {
                let mut lines = Lines::NONE;
                lines.set_trims(Trims::new([-2; TRIM_BANDS]).unwrap());
                lines
            })
            .collect();
        let softer = off(&Tokens { lines: soft, ..tokens.clone() });
        let (before, after) = (off(&tokens), off(&found(&model, &sound, &tokens, 24, 1).unwrap()));
        assert!(after <= before && before < softer, "{after}, {before}, {softer}");
    }

    #[test]
    fn pieces_and_threads_change_nothing() {
        let model = Model::shipped().unwrap();
        let (sound, mut tokens, _) = noise(&model, 70).unwrap();
        let sound: Vec<f32> =
            sound.iter().enumerate().map(|(n, x)| x * (1.0 + (n / 9000 % 3) as f32)).collect();
        tokens.lines = vec![Lines::NONE; 70];
        tokens.lines[9].set(1, Line::new(300, 25));
        let once = found(&model, &sound, &tokens, 70, 1).unwrap();
        assert!(once.lines.iter().any(|lines| lines.trims() != Trims::NONE));
        assert_eq!(once.lines[9].slots()[1], Line::new(300, 25));
        for (pieces, threads) in [(1, 1), (9, 2), (65, 4)] {
            assert!(
                found(&model, &sound, &tokens, pieces, threads).unwrap() == once,
                "{pieces}, {threads}"
            );
        }
    }
}
