//! The channels of a file, each with a stream of its own, on as many threads as there are cores.
//!
//! The engine gives the same bits however its input is cut and on whatever thread it runs, so the number
//! of threads is a matter of speed alone.

use crate::concealment::ConcealingDecoder;
use crate::engine::{EngineError, Model, StreamEncoder};
use crate::lines::{LineFinder, LinePlayer, Lines, Selection};
use crate::prior::Prior;
use crate::threads::on_threads;
use crate::tokens::Tokens;

/// Steps computed at once: the weights are read once for all of them, and memory stays small.
const BATCH: usize = 32;
/// And by all channels of a decoder together, of which a file may claim many: each step at once takes room.
const DECODED: usize = 2 * BATCH;

/// Samples of some steps by channel, or why there are none.
pub type Decoded = Result<Vec<Vec<f32>>, EngineError>;

/// Steps that each decoder of so many computes at once; the samples do not depend on it.
pub fn decoded_at_once(channels: usize) -> usize {
    (DECODED / channels.max(1)).clamp(1, BATCH)
}

/// Threads beside this one, which has something else to do first.
fn helpers(threads: usize) -> usize {
    if threads > 1 { threads } else { 0 }
}

/// Encoders of all channels.
pub struct Encoders {
    model: Model,
    streams: Vec<(StreamEncoder, Option<LineFinder>)>,
    levels: usize,
    helpers: usize,
}

/// Decoders of all channels.
pub struct Decoders {
    model: Model,
    streams: Vec<(ConcealingDecoder, LinePlayer)>,
    helpers: usize,
}

impl Encoders {
    /// Streams at their beginning; `levels` is one of the model's. `lines` are looked for, if there may be any.
    pub fn new(
        model: &Model,
        channels: usize,
        levels: usize,
        lines: Selection,
        threads: usize,
    ) -> Self {
        let stream =
            (StreamEncoder::with_batch(model, BATCH), LineFinder::of_codec(model.config(), lines));
        let streams = vec![stream; channels];
        Self { model: model.clone(), streams, levels, helpers: helpers(threads) }
    }

    /// Takes samples, a vector for each channel, and gives the codes of all steps that are complete, while
    /// `meanwhile` runs on this thread.
    pub fn code<R>(
        &mut self,
        samples: &[Vec<f32>],
        meanwhile: impl FnOnce() -> R,
    ) -> (Result<Vec<Tokens>, EngineError>, R) {
        let (model, levels) = (&self.model, self.levels);
        let code = |(stream, finder): &mut (StreamEncoder, Option<LineFinder>),
                    samples: &Vec<f32>| {
            let mut tokens = Tokens::new(levels);
            if let Some(finder) = finder {
                finder.find(samples, &mut tokens.lines);
            }
            let mut codes = vec![0; BATCH * model.codes_per_step(levels)];
            let mut rest = samples.as_slice();
            loop {
                let done = stream.process_into(rest, levels, &mut codes)?;
                tokens.extend_steps(&codes[..done.produced], model.layout());
                rest = &rest[done.consumed..];
                if rest.is_empty() && done.produced == 0 {
                    return Ok(tokens);
                }
            }
        };
        on_threads(self.helpers, &mut self.streams, samples, code, meanwhile)
    }
}

impl Decoders {
    /// Streams of `levels` levels at their beginning; `prior` makes up what is lost.
    ///
    /// # Errors
    /// `levels` is not one of the model's or of the prior's.
    pub fn new(
        model: &Model,
        prior: Option<&Prior>,
        channels: usize,
        levels: usize,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let player = LinePlayer::new(model.config().sample_rate, model.chunk_samples());
        let decoder = ConcealingDecoder::new(model, prior, levels, decoded_at_once(channels))?;
        let streams = vec![(decoder, player); channels];
        Ok(Self { model: model.clone(), streams, helpers: helpers(threads) })
    }

    /// Takes the tokens of some steps, one `Tokens` for each channel, and gives as many steps of samples,
    /// while `meanwhile` runs on this thread. The sound lags behind them, see
    /// [`StreamDecoder::latency_samples`](crate::engine::StreamDecoder::latency_samples).
    pub fn decode<R>(&mut self, tokens: &[Tokens], meanwhile: impl FnOnce() -> R) -> (Decoded, R) {
        let model = &self.model;
        let chunk = model.chunk_samples();
        let decode = |(stream, player): &mut (ConcealingDecoder, LinePlayer), tokens: &Tokens| {
            let levels = tokens.levels.len();
            let mut codes = Vec::new();
            tokens.append_steps_to(&mut codes, model.layout());
            let steps = codes.len() / model.codes_per_step(levels).max(1);
            let mut samples = vec![0.0; steps * chunk];
            if steps > 0 {
                // There is room for all.
                stream.process_with_lines(&codes, &tokens.lines, &mut samples)?;
            }
            for (step, samples) in samples.chunks_exact_mut(chunk).enumerate() {
                player.play(tokens.lines.get(step).unwrap_or(&Lines::NONE), samples);
            }
            Ok(samples)
        };
        on_threads(self.helpers, &mut self.streams, tokens, decode, meanwhile)
    }

    /// Makes up a lost step, while `meanwhile` runs on this thread; nothing once that would be silence.
    pub fn conceal<R>(&mut self, meanwhile: impl FnOnce() -> R) -> Option<(Decoded, R)> {
        if self.streams.iter().all(|(stream, _)| stream.is_silent()) {
            return None;
        }
        let chunk = self.model.chunk_samples();
        let conceal = |(stream, player): &mut (ConcealingDecoder, LinePlayer), (): &()| {
            let mut samples = vec![0.0; chunk];
            stream.conceal(&mut samples)?;
            player.make_up(&mut samples);
            Ok(samples)
        };
        let inputs = vec![(); self.streams.len()];
        Some(on_threads(self.helpers, &mut self.streams, &inputs, conceal, meanwhile))
    }

    /// Passes over `steps` steps without computing them: what comes next begins anew, in its place in the
    /// stream. No steps are no break.
    pub fn skip(&mut self, steps: u64) {
        for (stream, player) in &mut self.streams {
            stream.pass_over(steps);
            player.pass_over(steps);
        }
    }
}

#[cfg(all(test, feature = "embedded-model"))]
mod tests {
    use super::*;

    fn sound(channels: usize, samples: usize) -> Vec<Vec<f32>> {
        let sample = |c: usize, n: usize| ((c + 1) as f32 * 0.03 * n as f32).sin() * 0.4;
        (0..channels).map(|c| (0..samples).map(|n| sample(c, n)).collect()).collect()
    }

    #[test]
    fn threads_and_pieces_change_no_bit() {
        let model = Model::shipped().unwrap();
        let samples = sound(3, 7 * model.chunk_samples());
        let coded = |threads, pieces: usize| {
            let mut encoders = Encoders::new(&model, 3, 4, Selection::MANY, threads);
            let mut decoders = Decoders::new(&model, None, 3, 4, threads).unwrap();
            let (mut tokens, mut sound) = (vec![Tokens::new(4); 3], vec![Vec::new(); 3]);
            for first in (0..samples[0].len()).step_by(pieces) {
                let last = (first + pieces).min(samples[0].len());
                let part: Vec<_> = samples.iter().map(|s| s[first..last].to_vec()).collect();
                let (new, on_this_thread) = encoders.code(&part, || 5);
                let new = new.unwrap();
                assert_eq!(on_this_thread, 5);
                tokens.iter_mut().zip(&new).for_each(|(all, new)| all.extend(new));
                let decoded = decoders.decode(&new, || ()).0.unwrap();
                sound.iter_mut().zip(&decoded).for_each(|(all, new)| all.extend_from_slice(new));
            }
            assert_eq!(sound[2].len(), samples[2].len());
            (tokens, sound.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let once = coded(1, samples[0].len());
        assert_eq!(once.0[0].steps(&model.layout().prefix(4)), Some(7));
        for (threads, pieces) in [(2, samples[0].len()), (1, 1000), (4, 5555)] {
            assert!(coded(threads, pieces) == once, "{threads} threads, {pieces} at a time");
        }
    }

    #[test]
    fn an_error_of_one_channel_is_that_of_all() {
        let model = Model::shipped().unwrap();
        let good = Tokens::of_codes(vec![vec![1]]);
        let bad = Tokens::of_codes(vec![vec![u16::MAX]]);
        let mut decoders = Decoders::new(&model, None, 2, 1, 2).unwrap();
        let result = decoders.decode(&[good, bad], || ()).0;
        assert!(matches!(result, Err(EngineError::Code { code: u16::MAX, .. })));
    }
}
