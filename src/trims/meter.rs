//! Trims for live sound, from what the decoder is about to make.
//!
//! What a step decodes to is complete only when later steps have been added to it, which is too late. But the decoder's head tells the
//! power of each of its frames before there are any samples, and where its directions agree from frame to frame, that is the
//! power that is heard: within 0.5 dB above 3.5 kHz, and 0.6 to 1.3 dB below (standard deviation over 40 ms, eight minutes
//! of the training data), where what trims put right is 2 to 4 dB.

use std::sync::Arc;

use super::bits::{TrimBits, loss};
use super::frames::{Frames, Room};
use super::{Errors, TRIMS, index, trim};
use crate::config::CodecConfig;
use crate::lines::{BandPowers, Lines, TRIM_BANDS, Trims};
use crate::math;

/// For how many steps a trim is likely to be right: what it brings is counted so often, and its bits once. With 2 a bit more or less
/// brings as much as in files, of which all steps are known.
const HORIZON: f32 = 2.0;

/// Hears a channel's levels, step by step, and chooses its trims. Allocates nothing once it is made.
#[derive(Clone)]
pub struct TrimMeter {
    frames: Arc<Frames>,
    bits: Arc<TrimBits>,
    /// What a bit is worth, in dB squared; 0 for no trims.
    worth: f32,
    /// All that the step's frames see.
    samples: Box<[f32]>,
    room: Room,
    /// Bins that are a line's, and the share of each band's bins that are not.
    hidden: Box<[bool]>,
    seen: BandPowers,
    /// By frame.
    heard: Box<[BandPowers]>,
    /// Trims of the step before, and of the one that was heard last.
    before: Trims,
    now: Trims,
}

impl TrimMeter {
    /// For a codec's steps.
    pub fn new(config: &CodecConfig, worth: f32) -> Self {
        let frames = Frames::new(config);
        Self {
            samples: vec![0.0; frames.span()].into(),
            room: frames.room(),
            hidden: vec![false; frames.window() / 2 + 1].into(),
            seen: [1.0; TRIM_BANDS],
            heard: vec![[0.0; TRIM_BANDS]; frames.per_step].into(),
            before: Trims::NONE,
            now: Trims::NONE,
            frames: Arc::new(frames),
            bits: Arc::new(TrimBits::new()),
            worth,
        }
    }

    /// What a bit is worth from the next step on.
    pub fn select(&mut self, worth: f32) {
        self.worth = worth;
    }

    /// As if nothing had been heard.
    pub fn reset(&mut self) {
        self.samples.fill(0.0);
        (self.before, self.now) = (Trims::NONE, Trims::NONE);
    }

    /// Units that a step's [`hear`](Self::hear) has.
    pub fn units(&self) -> usize {
        self.frames.per_step.div_ceil(2)
    }

    /// Hears two frames of a step, whose samples are `newest`, which begins with the lines `before` and ends with those of `now`.
    pub fn hear(&mut self, unit: usize, newest: &[f32], [before, now]: [&Lines; 2]) {
        if unit == 0 {
            (self.before, self.now) = (self.now, Trims::NONE);
            // Steps are no longer than what their frames see, unless the finder is of another codec.
            let newest = &newest[newest.len().saturating_sub(self.samples.len())..];
            self.samples.copy_within(newest.len().., 0);
            let old = self.samples.len() - newest.len();
            self.samples[old..].copy_from_slice(newest);
            self.hide(before, now);
        }
        if self.worth == 0.0 {
            return;
        }
        let frames = &self.frames;
        let first = 2 * unit;
        let second = (first + 1).min(frames.per_step - 1);
        let [one, other] = [first, second].map(|place| &self.samples[place * frames.hop..]);
        frames.transform(one, other, &mut self.room);
        for (band, bins) in frames.bands.iter().enumerate() {
            let powers = frames.powers(bins.clone(), |bin| !self.hidden[bin], &self.room);
            for (place, power) in [first, second].into_iter().zip(powers) {
                self.heard[place][band] = power / frames.scale;
            }
        }
    }

    /// Where lines are, and how much of each band is left.
    fn hide(&mut self, before: &Lines, now: &Lines) {
        self.hidden.fill(false);
        for line in before.iter().chain(now.iter()) {
            let own = self.frames.of_line(line).unwrap_or_default();
            let end = own.end.min(self.hidden.len());
            self.hidden[own.start.min(end)..end].fill(true);
        }
        for (band, (seen, bins)) in self.seen.iter_mut().zip(&self.frames.bands).enumerate() {
            let left = self.hidden[bins.clone()].iter().filter(|hidden| !**hidden).count();
            let enough = self.frames.enough(band, left);
            *seen = if enough { left as f32 / bins.len() as f32 } else { 0.0 };
        }
    }

    /// The trims of the step that was heard, whose frames the decoder makes with these powers: the best for the step by itself.
    pub fn choose(&mut self, made: impl Iterator<Item = BandPowers>) -> Trims {
        self.now = if self.worth > 0.0 { self.next(&self.errors(made)) } else { Trims::NONE };
        self.now
    }

    fn errors(&self, made: impl Iterator<Item = BandPowers>) -> Errors {
        let silence = self.frames.silence / self.frames.scale;
        let mut sums = [0.0; TRIM_BANDS];
        for (heard, made) in self.heard.iter().zip(made) {
            for (band, sum) in sums.iter_mut().enumerate() {
                let ratio = heard[band] / (made[band] * self.seen[band] + silence);
                // Samples may be absurd.
                *sum += if ratio.is_finite() && ratio > 0.0 { math::ln(ratio) } else { f32::NAN };
            }
        }
        std::array::from_fn(|band| self.frames.error(sums[band], self.seen[band] > 0.0))
    }

    fn next(&self, errors: &Errors) -> Trims {
        let (mut bands, mut below) = (self.before.bands(), 0);
        for (band, now) in bands.iter_mut().enumerate() {
            let was = *now;
            let bits = &self.bits.of(false, below)[index(was)];
            let cost = |is: usize| HORIZON * loss(band, errors[band], is) + bits[is] * self.worth;
            let best = (0..TRIMS).min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
            *now = best.map_or(was, trim);
            below = *now - was;
        }
        Trims::new(bands).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Line;

    /// A meter that has heard some steps of noise, and the powers of the last one's frames.
    fn heard(worth: f32, lines: &Lines, steps: usize) -> TrimMeter {
        let mut meter = TrimMeter::new(&CodecConfig::default(), worth);
        let mut state = 1u32;
        for _ in 0..steps {
            let noise: Vec<f32> = (0..meter.frames.step())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * 0.2
                })
                .collect();
            (0..meter.units()).for_each(|unit| meter.hear(unit, &noise, [lines; 2]));
        }
        meter
    }

    fn times(heard: &[BandPowers], factor: f32) -> impl Iterator<Item = BandPowers> {
        heard.iter().map(move |powers| powers.map(|power| power * factor))
    }

    #[test]
    fn a_bin_of_noise_has_its_variance() {
        let meter = heard(1.0, &Lines::NONE, 3);
        // Uniform noise up to 0.2 has a variance of 0.04 / 3, which each of its bins has.
        for powers in &meter.heard {
            for (power, bins) in powers.iter().zip(&meter.frames.bands).skip(8) {
                let each = power / bins.len() as f32;
                assert!((each / (0.04 / 3.0)).ln().abs() < 1.0, "{each}");
            }
        }
    }

    #[test]
    fn what_will_be_too_soft_or_too_loud_is_put_right() {
        for (factor, trims) in [(1.0, 0), (0.25, 2), (0.5, 1), (8.0, -3), (1e-4, 6), (1e4, -6)] {
            let mut meter = heard(1.0, &Lines::NONE, 3);
            let made: Vec<_> = times(&meter.heard, factor).collect();
            let chosen = meter.choose(made.into_iter());
            assert_eq!(chosen.bands(), [trims; TRIM_BANDS], "{factor}");
        }
    }

    #[test]
    fn bits_have_to_be_worth_it() {
        let mut meter = heard(1000.0, &Lines::NONE, 3);
        let made: Vec<_> = times(&meter.heard, 0.5).collect();
        assert_eq!(meter.choose(made.iter().copied()), Trims::NONE);
        meter.select(0.0);
        assert_eq!(meter.choose(times(&made, 1e-4)), Trims::NONE, "none are wanted");
    }

    #[test]
    fn lines_are_not_of_their_bands() {
        let mut lines = Lines::NONE;
        // 2048 Hz: bins of 25 Hz from 1973 to 2123 Hz, three of them in the band from 2100 Hz on.
        lines.set(0, Line::new(256, 20));
        let meter = heard(1.0, &lines, 1);
        assert!((79..85).all(|bin| meter.hidden[bin]) && !meter.hidden[78] && !meter.hidden[85]);
        assert_eq!((meter.seen[6], meter.seen[7]), (11.0 / 12.0, 1.0));
        assert_eq!(meter.seen[5], 6.0 / 11.0);
    }

    #[test]
    fn absurd_samples_are_trimmed_by_nothing() {
        for absurd in [f32::NAN, f32::INFINITY, 1e30] {
            let mut meter = heard(1.0, &Lines::NONE, 1);
            let made: Vec<_> = meter.heard.to_vec();
            let samples = vec![absurd; meter.frames.step()];
            (0..meter.units()).for_each(|unit| meter.hear(unit, &samples, [&Lines::NONE; 2]));
            assert_eq!(meter.choose(made.into_iter()), Trims::NONE, "{absurd}");
        }
    }

    #[test]
    fn steps_of_another_length_are_heard() {
        for samples in [0, 7, 3360, 100_000] {
            let mut meter = heard(1.0, &Lines::NONE, 1);
            let tone: Vec<f32> = (0..samples).map(|n| (n as f32 * 0.3).sin()).collect();
            (0..meter.units()).for_each(|unit| meter.hear(unit, &tone, [&Lines::NONE; 2]));
            assert!(meter.heard.iter().flatten().all(|power| power.is_finite()), "{samples}");
        }
    }

    #[test]
    fn a_step_that_was_not_trimmed_is_not_gone_on_from() {
        let mut meter = heard(1.0, &Lines::NONE, 2);
        let made: Vec<_> = times(&meter.heard, 0.25).collect();
        meter.choose(made.into_iter());
        let silence = vec![0.0; meter.frames.step()];
        let hear = |meter: &mut TrimMeter| {
            (0..meter.units()).for_each(|unit| meter.hear(unit, &silence, [&Lines::NONE; 2]));
        };
        hear(&mut meter);
        assert_eq!(meter.before.bands(), [2; TRIM_BANDS]);
        hear(&mut meter);
        assert_eq!(meter.before, Trims::NONE);
    }

    /// How far the decoded levels of some steps of hiss that swells and fades are off, in dB (root of the mean square), with live trims
    /// of this worth.
    #[cfg(feature = "embedded-model")]
    fn off(worth: f32) -> f32 {
        use crate::engine::{Model, StreamDecoder, StreamEncoder};
        use crate::trims::TrimSearch;

        let model = Model::shipped().unwrap();
        let (chunk, steps) = (model.chunk_samples(), 40);
        let mut state = 1u32;
        let sound: Vec<f32> = (0..steps * chunk)
            .map(|n| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let hiss = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
                hiss * (0.11 + 0.1 * (n as f32 * 3e-4).sin())
            })
            .collect();
        let (mut encoder, mut decoder) = (StreamEncoder::new(&model), StreamDecoder::new(&model));
        let mut meter = TrimMeter::new(model.config(), worth);
        let mut codes = vec![0; model.codes_per_step(2)];
        let mut decoded = vec![0.0; sound.len()];
        for (sound, decoded) in sound.chunks(chunk).zip(decoded.chunks_mut(chunk)) {
            encoder.process_into(sound, 2, &mut codes).unwrap();
            (0..meter.units()).for_each(|unit| meter.hear(unit, sound, [&Lines::NONE; 2]));
            assert_eq!(decoder.powers().count(), 0, "nothing is known yet");
            assert!(decoder.trim(Trims::NONE).is_err());
            decoder.begin(&codes, 2).unwrap();
            decoder.advance(decoder.units_to_trim());
            let trims = meter.choose(decoder.powers());
            decoder.trim(trims).unwrap();
            decoder.advance(usize::MAX);
            assert!(decoder.trim(trims).is_err(), "too late");
            decoder.take(decoded).unwrap();
        }
        let search = TrimSearch::new(model.config(), 0.0);
        let mut late = vec![0.0; search.lag()];
        late.extend(sound);
        let mut room = search.room();
        let places = (8..steps - 2).map(|step| step * chunk);
        let errors = places.flat_map(|from| {
            search.errors(&late[from..], &decoded[from..], [&Lines::NONE; 2], &mut room)
        });
        let squares: Vec<f32> = errors.flatten().map(|db| db * db).collect();
        (squares.iter().sum::<f32>() / squares.len() as f32).sqrt()
    }

    #[cfg(feature = "embedded-model")]
    #[test]
    fn decoded_levels_come_closer() {
        let (without, with) = (off(0.0), off(0.1));
        assert!(with < 0.75 * without && with < 1.5, "{with} dB of {without} dB");
    }
}
