//! The trims of a file: what is coded is decoded, as it will be, and held against the original.
//!
//! A bit is spent where it brings levels closer by more than it is worth (entropy-constrained quantisation: Chou, Lookabaugh and
//! Gray 1989), and as what a trim costs depends on the one before, the best of all ways through a chunk is looked for (Viterbi
//! 1967). Chunks know nothing of one another, so each is decided by itself.

use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use crate::bitstream::TrimBefore;
use crate::engine::{EngineError, Model, StreamDecoder};
use crate::lines::{
    Lines, MOST_TRIMMED, TRIM_BANDS, TRIM_EDGES, TRIM_STEP, Trims, frequencies, trim_ranges,
};
use crate::math;
use crate::threads::on_threads;
use crate::tokens::Tokens;

/// Steps decoded at once.
const BATCH: usize = 32;
/// The power of a band below which it is silent, a sine of full scale having a half: -90 dB.
const SILENCE: f32 = 1e-9;
/// What squared errors weigh in bands that begin above as many Hz: what makes speech clear lies below.
const HIGH: f64 = 5_000.0;
const HIGH_WEIGHT: f32 = 0.55;
/// Hz to either side of a line that are its own, where the decoded sound gives way to it.
const OF_LINE: f64 = 75.0;
/// The trims that there are, and how far the one below may have changed for it to matter.
const TRIMS: usize = 2 * MOST_TRIMMED as usize + 1;
const BELOW: usize = 5;
/// 10 / ln 10
const DB_OF_LN: f32 = 4.342_945;

/// By how many dB the sound of each band of a step is louder than the decoded one; `None` where there is next to nothing but lines.
type Errors = [Option<f32>; TRIM_BANDS];

/// Finds trims for the tokens of all channels, behind what makes these.
pub struct TrimFinder {
    streams: Vec<Channel>,
    helpers: usize,
}

/// What is the same for all channels.
struct Look {
    hop: usize,
    frames_per_step: usize,
    shape: Box<[f32]>,
    fft: Arc<dyn Fft<f32>>,
    /// Bins by band.
    bands: [Range<usize>; TRIM_BANDS],
    /// Hz from one bin to the next, and of each pitch of a line.
    width: f64,
    pitches: Box<[f64]>,
    /// The sum of a silent band's bins.
    silence: f32,
    /// Steps of a chunk.
    chunk: usize,
    /// Bits of each trim after each other one, times what a bit is worth in dB squared; for the first step of a chunk and for
    /// the others, by what has become of the band below.
    costs: Box<[[[[f32; TRIMS]; TRIMS]; BELOW]; 2]>,
}

/// One channel.
#[derive(Clone)]
struct Channel {
    look: Arc<Look>,
    decoder: StreamDecoder,
    /// Steps without trims so far, and the lines of the step before them.
    waiting: Tokens,
    before: Lines,
    /// Errors of the first of them.
    errors: Vec<Errors>,
    /// The sound and the decoded sound, from where the first frame of the next step to be looked at begins.
    sound: Vec<f32>,
    decoded: Vec<f32>,
    buffer: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl TrimFinder {
    /// For so many channels, in chunks of `chunk` steps; a bit is worth `worth` dB squared.
    pub fn new(model: &Model, channels: usize, chunk: usize, worth: f32, threads: usize) -> Self {
        let look = Arc::new(Look::new(model, chunk, worth));
        let window = look.shape.len();
        let lag = window - look.hop;
        let channel = Channel {
            decoder: StreamDecoder::with_batch(model, BATCH),
            waiting: Tokens::default(),
            before: Lines::NONE,
            errors: Vec::new(),
            // The first frames begin before the sound.
            sound: vec![0.0; lag],
            decoded: Vec::new(),
            buffer: vec![Complex32::default(); window],
            scratch: vec![Complex32::default(); look.fft.get_inplace_scratch_len()],
            look,
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
            Ok(channel.trimmed(channel.errors.len() / channel.look.chunk * channel.look.chunk))
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

impl Look {
    fn new(model: &Model, chunk: usize, worth: f32) -> Self {
        let config = model.config();
        let window = config.synthesis_window;
        let width = f64::from(config.sample_rate) / window as f64;
        let shape: Box<[f32]> = (0..window).map(|n| math::hann(n, window) as f32).collect();
        let power: f32 = shape.iter().map(|w| w * w).sum();
        let mut costs = Box::new([[[[0.0; TRIMS]; TRIMS]; BELOW]; 2]);
        for (first, below, was, is) in (0..2).flat_map(|first| {
            let own = move |n: usize| (first, n / TRIMS / TRIMS, n / TRIMS % TRIMS, n % TRIMS);
            (0..BELOW * TRIMS * TRIMS).map(own)
        }) {
            let before = TrimBefore { first: first == 1, trim: trim(was), below: below as i8 - 2 };
            let mut bits = 0.0;
            before.tell(trim(is), |yes, share| {
                let share = if yes { f32::from(share) } else { 256.0 - f32::from(share) };
                bits -= math::ln(share / 256.0) * std::f32::consts::LOG2_E;
                yes
            });
            costs[first][below][was][is] = bits * worth;
        }
        Self {
            hop: config.hop,
            frames_per_step: config.layout().frames_per_step(),
            fft: FftPlannerScalar::new().plan_fft_forward(window),
            bands: trim_ranges(window / 2, |bin| bin as f64 * width),
            width,
            pitches: frequencies().collect(),
            silence: SILENCE * power * window as f32,
            shape,
            chunk: chunk.max(1),
            costs,
        }
    }

    /// Whether a bin is a line's, for the bands' bins, of a step that begins with the lines `before` and ends with those of `now`.
    fn of_lines(&self, before: &Lines, now: &Lines) -> Vec<Range<usize>> {
        let lines = before.iter().chain(now.iter());
        lines
            .filter_map(|line| {
                let hz = self.pitches.get(usize::from(line.pitch()))?;
                let [from, to] = [hz - OF_LINE, hz + OF_LINE].map(|hz| hz / self.width);
                Some(from.max(0.0).ceil() as usize..to as usize + 1)
            })
            .collect()
    }

    /// The trims of a chunk's steps.
    fn decide(&self, errors: &[Errors]) -> Vec<Trims> {
        let mut steps = vec![[0usize; TRIM_BANDS]; errors.len()];
        let unchanged = usize::from(MOST_TRIMMED.unsigned_abs());
        let mut below = vec![0i8; errors.len()];
        for band in 0..TRIM_BANDS {
            let weight = if TRIM_EDGES[band] > HIGH { HIGH_WEIGHT } else { 1.0 };
            // The least cost of all ways to each trim, and where the one to it came from.
            let mut least = [f32::INFINITY; TRIMS];
            least[unchanged] = 0.0;
            let mut from = vec![[0usize; TRIMS]; errors.len()];
            for (step, errors) in errors.iter().enumerate() {
                let column = (below[step].clamp(-2, 2) + 2) as usize;
                let costs = &self.costs[usize::from(step == 0)][column];
                let mut next = [f32::INFINITY; TRIMS];
                for (is, next) in next.iter_mut().enumerate() {
                    for (was, cost) in least.iter().enumerate() {
                        let cost = cost + costs[was][is];
                        if cost < *next {
                            (*next, from[step][is]) = (cost, was);
                        }
                    }
                    let off = errors[band].map_or(0.0, |db| db - f32::from(trim(is)) * TRIM_STEP);
                    *next += weight * off * off;
                }
                least = next;
            }
            let best = least.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
            let mut is = best.map_or(unchanged, |(is, _)| is);
            for (step, from) in from.iter().enumerate().rev() {
                let was = from[is];
                steps[step][band] = is;
                below[step] = trim(is) - trim(was);
                is = was;
            }
        }
        let trims = |step: &[usize; TRIM_BANDS]| Trims::new(step.map(trim)).unwrap_or_default();
        steps.iter().map(trims).collect()
    }
}

/// Trim number `index`.
fn trim(index: usize) -> i8 {
    index as i8 - MOST_TRIMMED
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
        let (hop, frames) = (self.look.hop, self.look.frames_per_step);
        let span = (frames - 1) * hop + self.look.shape.len();
        let mut begin = 0;
        while begin + span <= self.sound.len().min(self.decoded.len()) {
            let step = self.errors.len();
            let lines = |step: usize| self.waiting.lines.get(step).copied().unwrap_or_default();
            let before = step.checked_sub(1).map_or(self.before, lines);
            let hidden = self.look.of_lines(&before, &lines(step));
            let errors = self.errors_at(begin, &hidden);
            self.errors.push(errors);
            begin += frames * hop;
        }
        self.sound.drain(..begin);
        self.decoded.drain(..begin);
    }

    /// The errors of a step whose first frame begins at a place of both sounds, in all bins but those that are hidden.
    fn errors_at(&mut self, begin: usize, hidden: &[Range<usize>]) -> Errors {
        let Self { look, sound, decoded, buffer, scratch, .. } = self;
        let seen = |bin: &usize| !hidden.iter().any(|own| own.contains(bin));
        let mut sums = [0.0; TRIM_BANDS];
        for place in 0..look.frames_per_step {
            let from = begin + place * look.hop;
            // One in the real, the other in the imaginary parts.
            let both = sound[from..].iter().zip(&decoded[from..]).zip(&look.shape);
            for (z, ((x, y), w)) in buffer.iter_mut().zip(both) {
                *z = Complex32::new(x * w, y * w);
            }
            look.fft.process_with_scratch(buffer, scratch);
            for (sum, bins) in sums.iter_mut().zip(&look.bands) {
                let [mut x, mut y] = [look.silence; 2];
                for bin in bins.clone().filter(seen) {
                    let (z, mirrored) = (buffer[bin], buffer[buffer.len() - bin].conj());
                    x += (z + mirrored).norm_sqr();
                    y += (z - mirrored).norm_sqr();
                }
                *sum += math::ln(x / y);
            }
        }
        std::array::from_fn(|band| {
            let bins = &look.bands[band];
            let left = bins.clone().filter(seen).count();
            let enough = left > 0 && 2 * left >= bins.len();
            enough.then(|| sums[band] * DB_OF_LN / look.frames_per_step as f32)
        })
    }

    /// The tokens of the first `steps` steps, which have been looked at, with their trims.
    fn trimmed(&mut self, steps: usize) -> Tokens {
        let layout = self.decoder.model().layout().clone();
        let mut tokens = self.waiting.take_steps(steps, &layout);
        tokens.lines.resize(steps, Lines::NONE);
        let errors: Vec<Errors> = self.errors.drain(..steps).collect();
        let chunk = self.look.chunk;
        for (lines, errors) in tokens.lines.chunks_mut(chunk).zip(errors.chunks(chunk)) {
            for (lines, trims) in lines.iter_mut().zip(self.look.decide(errors)) {
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
    use crate::lines::Line;

    const CHUNK: usize = 8;

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
        let mut finder = TrimFinder::new(model, 2, CHUNK, 4.0, threads);
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
            let look = Arc::new(Look::new(&model, CHUNK, 0.0));
            let mut finder = TrimFinder::new(&model, 1, CHUNK, 0.0, 1);
            let channel = &mut finder.streams[0];
            channel.look = look;
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
        let (sound, mut tokens, _) = noise(&model, 30).unwrap();
        let sound: Vec<f32> =
            sound.iter().enumerate().map(|(n, x)| x * (1.0 + (n / 9000 % 3) as f32)).collect();
        tokens.lines = vec![Lines::NONE; 30];
        tokens.lines[9].set(1, Line::new(300, 25));
        let once = found(&model, &sound, &tokens, 30, 1).unwrap();
        assert!(once.lines.iter().any(|lines| lines.trims() != Trims::NONE));
        assert_eq!(once.lines[9].slots()[1], Line::new(300, 25));
        for (pieces, threads) in [(1, 1), (7, 2), (3, 4)] {
            assert!(
                found(&model, &sound, &tokens, pieces, threads).unwrap() == once,
                "{pieces}, {threads}"
            );
        }
    }

    #[test]
    fn bits_are_spent_where_they_are_worth_it() {
        let model = Model::shipped().unwrap();
        let decide = |worth: f32, errors: &[Errors]| Look::new(&model, CHUNK, worth).decide(errors);
        let mut errors = vec![[Some(0.0); TRIM_BANDS]; CHUNK];
        for (step, errors) in errors.iter_mut().enumerate() {
            errors[5] = Some(if step < 4 { 1.0 } else { 7.0 });
            errors[9] = if step % 2 == 0 { Some(-10.0) } else { None };
        }
        let bands: Vec<_> = decide(4.0, &errors).iter().map(|trims| trims.bands()).collect();
        assert!(bands[..4].iter().all(|bands| bands[5] == 0));
        assert!(bands[4..].iter().all(|bands| bands[5] == 2));
        assert!(bands.iter().all(|bands| bands[9] == -3), "what nobody hears may stay");
        assert!(decide(1000.0, &errors).iter().all(|trims| *trims == Trims::NONE));
        assert!(decide(4.0, &[]).is_empty());
    }

    #[test]
    fn lines_are_not_of_their_bands() {
        let model = Model::shipped().unwrap();
        let look = Look::new(&model, CHUNK, 4.0);
        let mut lines = Lines::NONE;
        // 2048 Hz: bins of 25 Hz from 1973 to 2123 Hz.
        lines.set(0, Line::new(256, 20));
        assert_eq!(look.of_lines(&lines, &Lines::NONE).first(), Some(&(79..85)));
        assert_eq!(look.of_lines(&lines, &lines).len(), 2);
        assert!(look.of_lines(&Lines::NONE, &Lines::NONE).is_empty());
    }
}
