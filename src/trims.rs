//! Which trims are worth their bits: what is decoded is held against the original.
//!
//! A bit is spent where it brings levels closer by more than it is worth (entropy-constrained quantisation: Chou, Lookabaugh and
//! Gray 1989), and as what a trim costs depends on the one before, the best of all ways through some steps is looked for (Viterbi
//! 1967).

use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use crate::bitstream::TrimBefore;
use crate::config::CodecConfig;
use crate::lines::{
    Lines, MOST_TRIMMED, TRIM_BANDS, TRIM_EDGES, TRIM_STEP, Trims, frequencies, trim_ranges,
};
use crate::math;

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

/// By how many dB the sound of each band of a step is louder than the decoded one; `None` where there is next to nothing but lines.
pub type Errors = [Option<f32>; TRIM_BANDS];

/// Chooses trims for the decoded sound of a codec.
pub struct TrimSearch {
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
    /// Bits of each trim after each other one, times what a bit is worth in dB squared; for the first step of a chunk and for
    /// the others, by what has become of the band below.
    costs: Box<[[[[f32; TRIMS]; TRIMS]; BELOW]; 2]>,
}

/// Room to look at spectra in.
#[derive(Clone)]
pub struct TrimRoom {
    buffer: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl TrimSearch {
    /// For a codec; a bit is worth `worth` dB squared.
    pub fn new(config: &CodecConfig, worth: f32) -> Self {
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
            costs,
        }
    }

    /// Room for it.
    pub fn room(&self) -> TrimRoom {
        TrimRoom {
            buffer: vec![Complex32::default(); self.shape.len()],
            scratch: vec![Complex32::default(); self.fft.get_inplace_scratch_len()],
        }
    }

    /// Samples from where a step's first frame begins to where its last one ends.
    pub fn span(&self) -> usize {
        (self.frames_per_step - 1) * self.hop + self.shape.len()
    }

    /// Samples by which frames begin before the sound that they are of.
    pub fn lag(&self) -> usize {
        self.shape.len() - self.hop
    }

    /// Samples of a step.
    pub fn step(&self) -> usize {
        self.frames_per_step * self.hop
    }

    /// The errors of a step that begins with the lines `before` and ends with those of `now`. Both sounds begin where its
    /// first frame does, and have its [`span`](Self::span).
    pub fn errors(
        &self,
        sound: &[f32],
        decoded: &[f32],
        [before, now]: [&Lines; 2],
        room: &mut TrimRoom,
    ) -> Errors {
        let TrimRoom { buffer, scratch } = room;
        let hidden = self.of_lines(before, now);
        let seen = |bin: &usize| !hidden.iter().any(|own| own.contains(bin));
        let mut sums = [0.0; TRIM_BANDS];
        for place in 0..self.frames_per_step {
            let from = place * self.hop;
            // One in the real, the other in the imaginary parts.
            let both = sound[from..].iter().zip(&decoded[from..]).zip(&self.shape);
            for (z, ((x, y), w)) in buffer.iter_mut().zip(both) {
                *z = Complex32::new(x * w, y * w);
            }
            self.fft.process_with_scratch(buffer, scratch);
            for (sum, bins) in sums.iter_mut().zip(&self.bands) {
                let [mut x, mut y] = [self.silence; 2];
                for bin in bins.clone().filter(seen) {
                    let (z, mirrored) = (buffer[bin], buffer[buffer.len() - bin].conj());
                    x += (z + mirrored).norm_sqr();
                    y += (z - mirrored).norm_sqr();
                }
                // Samples may be absurd; what is decoded is not.
                *sum += if x.is_finite() { math::ln(x / y) } else { f32::NAN };
            }
        }
        std::array::from_fn(|band| {
            let bins = &self.bands[band];
            let left = bins.clone().filter(seen).count();
            let enough = left > 0 && 2 * left >= bins.len();
            let db = sums[band] * math::DB_OF_LN / self.frames_per_step as f32;
            (enough && db.is_finite()).then_some(db)
        })
    }

    /// Bins that belong to lines in a step that begins with the lines `before` and ends with those of `now`.
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

    /// The trims of all steps that are complete in a piece of sound and in what it was decoded to, with the lines of those that
    /// have any. Before and behind it is silence.
    #[cfg(feature = "train")]
    pub fn trims_of(&self, sound: &[f32], decoded: &[f32], lines: &[Lines]) -> Vec<Trims> {
        let late = |samples: &[f32]| {
            let mut all = vec![0.0; self.lag()];
            all.extend_from_slice(samples);
            all.resize(all.len().max(self.span()), 0.0);
            all
        };
        let (sound, decoded) = (late(sound), late(decoded));
        let steps = (sound.len().min(decoded.len()) - self.span()) / self.step() + 1;
        let of = |step: Option<usize>| lines.get(step?).copied();
        let mut room = self.room();
        let errors = |step: usize| {
            let from = step * self.step();
            let around = [step.checked_sub(1), Some(step)].map(|step| of(step).unwrap_or_default());
            self.errors(&sound[from..], &decoded[from..], around.each_ref(), &mut room)
        };
        self.decide(&(0..steps).map(errors).collect::<Vec<_>>())
    }

    /// The trims of steps that are told one after another, the first of them as that of a chunk.
    pub fn decide(&self, errors: &[Errors]) -> Vec<Trims> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Line;

    #[test]
    fn bits_are_spent_where_they_are_worth_it() {
        let decide = |worth: f32, errors: &[Errors]| {
            TrimSearch::new(&CodecConfig::default(), worth).decide(errors)
        };
        let mut errors = vec![[Some(0.0); TRIM_BANDS]; 8];
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
        let search = TrimSearch::new(&CodecConfig::default(), 4.0);
        let mut lines = Lines::NONE;
        // 2048 Hz: bins of 25 Hz from 1973 to 2123 Hz.
        lines.set(0, Line::new(256, 20));
        assert_eq!(search.of_lines(&lines, &Lines::NONE).first(), Some(&(79..85)));
        assert_eq!(search.of_lines(&lines, &lines).len(), 2);
        assert!(search.of_lines(&Lines::NONE, &Lines::NONE).is_empty());
    }

    #[test]
    fn absurd_samples_are_trimmed_by_nothing() {
        let search = TrimSearch::new(&CodecConfig::default(), 4.0);
        let decoded = vec![0.1; search.span()];
        for absurd in [f32::NAN, f32::INFINITY, 1e30] {
            let sound = vec![absurd; search.span()];
            let none = [&Lines::NONE; 2];
            let errors = search.errors(&sound, &decoded, none, &mut search.room());
            assert_eq!(search.decide(&[errors]), [Trims::NONE], "{absurd}");
        }
    }

    #[cfg(feature = "train")]
    #[test]
    fn pieces_of_any_length_have_trims() {
        let search = TrimSearch::new(&CodecConfig::default(), 4.0);
        let mut state = 1u32;
        let decoded: Vec<f32> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * 0.1
            })
            .collect();
        let sound: Vec<f32> = decoded.iter().map(|x| x * 0.5).collect();
        for (samples, steps) in [(0, 1), (1919, 1), (1920, 1), (3840, 2), (20_000, 10)] {
            let trims = search.trims_of(&sound[..samples], &decoded[..samples], &[]);
            assert_eq!(trims.len(), steps, "{samples} samples");
            let of_all =
                trims[..samples / 1920].iter().all(|trims| trims.bands() == [-2; TRIM_BANDS]);
            assert!(of_all, "{samples} samples");
        }
    }
}
