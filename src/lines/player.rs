//! Lines drawn into a decoded sound.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::{LEVEL_STEP, Line, Lines, SLOTS, SOFTEST};
use crate::math;

/// Half of the width that is taken out of the sound around a line, in Hz.
const HALF_WIDTH: f64 = 50.0;
/// A turn, where fractions of one are whole numbers.
const TURN: u64 = 1 << 28;

/// Draws the lines of a channel, step by step, with the same bits on every machine.
///
/// A line swells from nothing over the step that it first stands at the end of, goes from what it was at the end
/// of one step to what it is at the end of the next, and dies away over the step that it is missing from. What
/// the sound has within some 50 Hz of it goes as it comes.
#[derive(Debug, Clone)]
pub struct LinePlayer {
    plan: Arc<Plan>,
    /// At the end of the last step.
    lines: Lines,
    oscillators: [Oscillator; SLOTS],
    /// What is drawn in a step.
    drawn: Box<[f32]>,
    /// Steps before this one.
    steps: u64,
    /// Steps made up since the last that was not.
    made_up: u32,
}

#[derive(Debug)]
struct Plan {
    step: usize,
    /// Of each pitch: in turns of 2^28 in a sample, and the rotation that this is.
    speeds: Box<[(u64, Turn)]>,
    /// How fast the sound near a line is followed, 0 to 1.
    follow: f32,
}

/// A rotation, or a place on the circle.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    cos: f64,
    sin: f64,
}

impl Turn {
    fn of(fraction: u64) -> Self {
        let (cos, sin) = math::cos_sin_of_turn(fraction as usize, TURN as usize);
        Self { cos, sin }
    }

    fn then(self, other: Self) -> Self {
        Self {
            cos: self.cos * other.cos - self.sin * other.sin,
            sin: self.cos * other.sin + self.sin * other.cos,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Oscillator {
    place: Turn,
    /// The sound near the line, turned back by the line's own turn, and smoothed.
    near: [f32; 2],
}

impl LinePlayer {
    /// For sound at `rate` Hz in steps of `step` samples.
    pub fn new(rate: u32, step: usize) -> Self {
        let rate = f64::from(rate.max(1));
        let speed = |hz: f64| {
            // Above half the rate nothing can be drawn: such lines stand still there.
            let fraction = ((hz / rate).min(0.5) * TURN as f64) as u64;
            (fraction, Turn::of(fraction))
        };
        let plan = Plan {
            step: step.max(1),
            speeds: super::frequencies().map(speed).collect(),
            follow: (TAU * HALF_WIDTH / rate).min(1.0) as f32,
        };
        Self {
            lines: Lines::NONE,
            oscillators: [Oscillator::default(); SLOTS],
            drawn: vec![0.0; plan.step].into(),
            steps: 0,
            made_up: 0,
            plan: plan.into(),
        }
    }

    /// Draws into the `samples` of a step, at whose end there are `lines`. What is beyond a step stays as it is.
    pub fn play(&mut self, lines: &Lines, samples: &mut [f32]) {
        (0..Self::UNITS).for_each(|unit| self.play_unit(unit, lines, samples));
    }

    /// Units of work that a step has.
    pub const UNITS: usize = SLOTS + 1;
    /// What each costs at most, in the measure of
    /// [`StreamDecoder::unit_costs`](crate::engine::StreamDecoder::unit_costs), as measured for steps of 1920 samples.
    pub const UNIT_COST: u64 = 190_000;

    /// Does one of the [`UNITS`](Self::UNITS) of what [`play`](Self::play) does, each in its turn, with the same lines
    /// and samples.
    pub fn play_unit(&mut self, unit: usize, lines: &Lines, samples: &mut [f32]) {
        match unit {
            0..SLOTS => self.clear_slot(unit, lines, samples),
            // After all of them: what one line takes out of the sound must not be another.
            SLOTS => {
                for (sample, drawn) in samples.iter_mut().zip(&self.drawn) {
                    *sample += drawn;
                }
                self.end_step();
            }
            _ => {}
        }
    }

    /// Makes room for the lines in the `samples` of a step, as [`play`](Self::play) does, and leaves them out.
    pub fn clear(&mut self, lines: &Lines, samples: &mut [f32]) {
        (0..SLOTS).for_each(|slot| self.clear_slot(slot, lines, samples));
        self.end_step();
    }

    fn clear_slot(&mut self, slot: usize, lines: &Lines, samples: &mut [f32]) {
        if slot == 0 {
            self.drawn.fill(0.0);
        }
        let (was, is) = (self.lines.slots()[slot], lines.slots()[slot]);
        // What cannot be the same line, which comes of damage and of effects alone, waits until that one has ended.
        let is = is.filter(|is| was.is_none_or(|was| was.may_become(*is)));
        self.play_slot(slot, is, samples);
        self.lines.set(slot, is);
    }

    fn end_step(&mut self) {
        self.made_up = 0;
        self.steps = self.steps.wrapping_add(1);
    }

    /// Draws into the `samples` of a step that was lost: lines stay where they are, and fade by 3 dB in every other step.
    pub fn make_up(&mut self, samples: &mut [f32]) {
        let mut lines = self.lines;
        if self.made_up % 2 == 1 {
            for (slot, line) in self.lines.slots().iter().enumerate() {
                let softer = line.and_then(|l| Line::new(l.pitch(), l.level().checked_sub(1)?));
                lines.set(slot, softer);
            }
        }
        let made_up = self.made_up.saturating_add(1);
        self.play(&lines, samples);
        self.made_up = made_up;
    }

    /// As if nothing had been drawn.
    pub fn reset(&mut self) {
        self.lines = Lines::NONE;
        (self.steps, self.made_up) = (0, 0);
    }

    /// As if `steps` steps had gone by without any lines.
    pub fn pass_over(&mut self, steps: u64) {
        if steps > 0 {
            self.lines = Lines::NONE;
            self.steps = self.steps.wrapping_add(steps);
        }
    }

    fn play_slot(&mut self, slot: usize, line: Option<Line>, samples: &mut [f32]) {
        let Self { plan, oscillators, drawn, .. } = self;
        let own = &mut oscillators[slot];
        let (from, to) = match (self.lines.slots()[slot], line) {
            (None, None) => return,
            (Some(from), to) => (from, to.unwrap_or(from)),
            (None, Some(to)) => {
                // Channels that hold the same tone agree about it, whenever each took notice.
                let turns = plan.speeds[usize::from(to.pitch())].0;
                let gone = self.steps.wrapping_mul(plan.step as u64);
                *own =
                    Oscillator { place: Turn::of(turns.wrapping_mul(gone) % TURN), near: [0.0; 2] };
                (to, to)
            }
        };
        let speed = |line: Line| &plan.speeds[usize::from(line.pitch())];
        let amplitude = |line: Line| {
            let db = SOFTEST + LEVEL_STEP * f32::from(line.level());
            math::exp(db * (std::f32::consts::LN_10 / 20.0))
        };
        let per_sample = 1.0 / plan.step as f32;
        let (was, is) = (self.lines.slots()[slot].is_some(), line.is_some());
        let begin = [if was { amplitude(from) } else { 0.0 }, f32::from(u8::from(was))];
        let end = [if is { amplitude(to) } else { 0.0 }, f32::from(u8::from(is))];
        let slopes = [(end[0] - begin[0]) * per_sample, (end[1] - begin[1]) * per_sample];
        // From one speed to the other at an even rate; the angle is small, and two terms of its series do.
        let faster =
            (speed(to).0 as f64 - speed(from).0 as f64) / TURN as f64 * TAU / plan.step as f64;
        let bend = Turn { cos: 1.0 - 0.5 * faster * faster, sin: faster };
        let (mut place, mut turn, mut near) = (own.place, speed(from).1, own.near);
        for (n, (sample, drawn)) in samples.iter_mut().zip(drawn).enumerate() {
            let [level, share] = [begin[0] + slopes[0] * n as f32, begin[1] + slopes[1] * n as f32];
            let (cos, sin) = (place.cos as f32, place.sin as f32);
            near[0] += plan.follow * (*sample * cos - near[0]);
            near[1] += plan.follow * (*sample * sin - near[1]);
            *sample -= 2.0 * share * (near[0] * cos + near[1] * sin);
            *drawn += level * cos;
            place = place.then(turn);
            turn = turn.then(bend);
        }
        // What rounding did to its length does not add up.
        let stretch = 1.5 - 0.5 * (place.cos * place.cos + place.sin * place.sin);
        own.place = Turn { cos: place.cos * stretch, sin: place.sin * stretch };
        own.near = near;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = 1920;

    fn one(pitch: u16, level: u8) -> Lines {
        let mut lines = Lines::NONE;
        lines.set(3, Line::new(pitch, level));
        lines
    }

    /// `steps` played into `sound`, a step each.
    fn played(steps: &[Lines], sound: &[f32]) -> Vec<f32> {
        let mut player = LinePlayer::new(48_000, STEP);
        let mut sound = sound.to_vec();
        for (lines, samples) in steps.iter().zip(sound.chunks_exact_mut(STEP)) {
            player.play(lines, samples);
        }
        sound
    }

    fn rms(sound: &[f32]) -> f32 {
        (sound.iter().map(|x| x * x).sum::<f32>() / sound.len() as f32).sqrt()
    }

    #[test]
    fn where_there_are_no_lines_no_bit_changes() {
        let sound: Vec<f32> = (0..4 * STEP).map(|n| (n as f32 * 0.11).sin() * 0.3).collect();
        assert_eq!(played(&[Lines::NONE; 4], &sound), sound);
        // A line that has ended leaves nothing behind.
        let steps = [one(200, 20), Lines::NONE, Lines::NONE, Lines::NONE];
        assert_eq!(played(&steps, &sound)[2 * STEP..], sound[2 * STEP..]);
    }

    #[test]
    fn a_line_swells_stays_and_dies_away() {
        let steps = [one(200, 20), one(200, 20), Lines::NONE];
        let out = played(&steps, &[0.0; 3 * STEP]);
        let amplitude = 10.0f32.powf(-30.0 / 20.0);
        let peak = |part: &[f32]| part.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        assert!(peak(&out[..100]) < 0.06 * amplitude);
        assert!((rms(&out[STEP..2 * STEP]) / amplitude - 0.5f32.sqrt()).abs() < 0.01);
        assert!(peak(&out[3 * STEP - 100..]) < 0.06 * amplitude);
        // 512 * 2^(200 / 128) Hz: 1512.4; a period has 31.7 samples.
        let crossings = out[STEP..2 * STEP].windows(2).filter(|two| two[0] * two[1] < 0.0).count();
        assert!((120..=122).contains(&crossings), "{crossings}");
    }

    #[test]
    fn units_draw_what_the_whole_draws_and_a_reset_forgets() {
        let mut both = one(200, 20);
        both.set(0, Line::new(420, 25));
        let steps = [both, one(205, 21), Lines::NONE];
        let sound: Vec<f32> = (0..3 * STEP).map(|n| (n as f32 * 0.2).sin() * 0.3).collect();
        let mut player = LinePlayer::new(48_000, STEP);
        for _ in 0..2 {
            let mut in_units = sound.clone();
            for (lines, samples) in steps.iter().zip(in_units.chunks_exact_mut(STEP)) {
                (0..LinePlayer::UNITS).for_each(|unit| player.play_unit(unit, lines, samples));
            }
            assert_eq!(in_units, played(&steps, &sound));
            player.play(&both, &mut in_units[..STEP]);
            player.reset();
        }
    }

    #[test]
    fn what_is_near_gives_way_and_what_is_not_stays() {
        let tone = |hz: f32| -> Vec<f32> {
            (0..6 * STEP).map(|n| (n as f32 * hz * (TAU as f32 / 48_000.0)).sin() * 0.3).collect()
        };
        // Level 0 is next to nothing: what is left is left of the sound.
        let left = |hz| rms(&played(&[one(200, 0); 6], &tone(hz))[3 * STEP..]) / rms(&tone(hz));
        assert!(left(1_512.0) < 0.02, "{}", left(1_512.0));
        assert!(left(1_530.0) < 0.4, "{}", left(1_530.0));
        assert!((left(2_000.0) - 1.0).abs() < 0.02, "{}", left(2_000.0));
        assert!((left(1_100.0) - 1.0).abs() < 0.02, "{}", left(1_100.0));
    }

    #[test]
    fn lines_beside_each_other_do_not_take_from_each_other() {
        let mut both = one(200, 20);
        both.set(5, Line::new(206, 20));
        let amplitude = 10.0f32.powf(-30.0 / 20.0);
        // Two sinusoids: their powers add up.
        let found = rms(&played(&[both; 26], &[0.0; 26 * STEP])[STEP..]);
        assert!((found / amplitude - 1.0).abs() < 0.05, "{}", found / amplitude);
    }

    #[test]
    fn a_line_glides_without_a_click() {
        let steps: Vec<_> = (0..20).map(|n| one(300 + 10 * (n % 2), 25)).collect();
        let out = played(&steps, &[0.0; 20 * STEP]);
        let amplitude = 10.0f32.powf(-15.0 / 20.0);
        // The steepest that a sinusoid of that amplitude and 2,745 Hz is.
        let steepest = amplitude * TAU as f32 * 2_745.0 / 48_000.0;
        let step = out.windows(2).fold(0.0f32, |most, two| most.max((two[1] - two[0]).abs()));
        assert!(step < 1.01 * steepest, "{step} {steepest}");
    }

    #[test]
    fn lost_steps_keep_their_lines_for_a_while() {
        let mut player = LinePlayer::new(48_000, STEP);
        let mut samples = vec![0.0; STEP];
        player.play(&one(200, 20), &mut samples);
        let mut heard = Vec::new();
        for _ in 0..60 {
            samples.fill(0.0);
            player.make_up(&mut samples);
            heard.push(rms(&samples));
        }
        assert!(heard.windows(2).all(|two| two[1] <= two[0] * 1.001), "it fades");
        assert!(heard[9] > 0.1 * heard[0], "not at once");
        assert_eq!(heard[59], 0.0, "to silence");
    }

    #[test]
    fn a_line_that_cannot_be_the_same_waits_for_the_end_of_the_other() {
        let steps = [one(200, 20), one(400, 20), one(400, 20), one(400, 20)];
        let ended = [one(200, 20), Lines::NONE, one(400, 20), one(400, 20)];
        let silence = [0.0; 4 * STEP];
        assert_eq!(played(&steps, &silence), played(&ended, &silence));
    }

    #[test]
    fn any_rate_and_step_will_do() {
        for (rate, step) in [(0, 0), (1, 1), (1_000, 7), (768_000, 30_720)] {
            let mut player = LinePlayer::new(rate, step);
            let mut samples = vec![0.1; step];
            for _ in 0..3 {
                player.play(&one(639, 31), &mut samples);
            }
            assert!(samples.iter().all(|x| x.is_finite()), "{rate} Hz, {step}");
        }
    }
}
