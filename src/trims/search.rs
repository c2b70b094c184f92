//! Trims for what has been decoded: the best of all ways through some steps.

use std::ops::Range;

use super::bits::{TrimBits, loss};
use super::frames::{Frames, Room};
use super::{Errors, TRIMS, index, trim};
use crate::config::CodecConfig;
use crate::lines::{Lines, TRIM_BANDS, Trims};
use crate::math;

/// Chooses trims for the decoded sound of a codec. As what a trim costs depends on the one before, all ways through some steps are
/// looked at (Viterbi 1967).
pub struct TrimSearch {
    frames: Frames,
    bits: TrimBits,
    /// What a bit is worth, in dB squared.
    worth: f32,
}

/// Room to look at spectra in.
#[derive(Clone)]
pub struct TrimRoom(Room);

impl TrimSearch {
    /// For a codec; a bit is worth `worth` dB squared.
    pub fn new(config: &CodecConfig, worth: f32) -> Self {
        Self { frames: Frames::new(config), bits: TrimBits::new(), worth }
    }

    /// Room for it.
    pub fn room(&self) -> TrimRoom {
        TrimRoom(self.frames.room())
    }

    /// Samples from where a step's first frame begins to where its last one ends.
    pub fn span(&self) -> usize {
        self.frames.span()
    }

    /// Samples by which frames begin before the sound that they are of.
    pub fn lag(&self) -> usize {
        self.frames.lag()
    }

    /// Samples of a step.
    pub fn step(&self) -> usize {
        self.frames.step()
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
        let (frames, TrimRoom(room)) = (&self.frames, room);
        let hidden = self.of_lines(before, now);
        let seen = |bin: usize| !hidden.iter().any(|own| own.contains(&bin));
        let mut sums = [0.0; TRIM_BANDS];
        for place in 0..frames.per_step {
            let from = place * frames.hop;
            frames.transform(&sound[from..], &decoded[from..], room);
            for (sum, bins) in sums.iter_mut().zip(&frames.bands) {
                let [x, y] = frames.powers(bins.clone(), seen, room);
                // Samples may be absurd; what is decoded is not.
                *sum += if x.is_finite() { math::ln(x / y) } else { f32::NAN };
            }
        }
        std::array::from_fn(|band| {
            let left = frames.bands[band].clone().filter(|bin| seen(*bin)).count();
            frames.error(sums[band], frames.enough(band, left))
        })
    }

    /// Bins that belong to lines in a step that begins with the lines `before` and ends with those of `now`.
    fn of_lines(&self, before: &Lines, now: &Lines) -> Vec<Range<usize>> {
        let lines = before.iter().chain(now.iter());
        lines.filter_map(|line| self.frames.of_line(line)).collect()
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
        let unchanged = index(0);
        let mut below = vec![0i8; errors.len()];
        for band in 0..TRIM_BANDS {
            // The least cost of all ways to each trim, and where the one to it came from.
            let mut least = [f32::INFINITY; TRIMS];
            least[unchanged] = 0.0;
            let mut from = vec![[0usize; TRIMS]; errors.len()];
            for (step, errors) in errors.iter().enumerate() {
                let bits = self.bits.of(step == 0, below[step]);
                let mut next = [f32::INFINITY; TRIMS];
                for (is, next) in next.iter_mut().enumerate() {
                    for (was, cost) in least.iter().enumerate() {
                        let cost = cost + bits[was][is] * self.worth;
                        if cost < *next {
                            (*next, from[step][is]) = (cost, was);
                        }
                    }
                    *next += loss(band, errors[band], is);
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
