//! What effects on tokens do to the lines beside them.
//!
//! Lines are of the fine scale: they are frozen with it, and its weight is theirs. What else happens to a step's
//! codes happens to its lines as a whole: they are held, give way to those of another step, or are lost with it.
//! Pitches count as codes, which turn into near ones and are shifted around the end.

use tessera_codec::lines::{COMB_PITCHES, Comb, Line, Lines, PITCHES, SLOTS};

use crate::tokens::{LONGEST_LOOP, REMEMBERED, Range};

/// How far a pitch goes that turns into a near one: a third of a semitone or so.
const NEAR: u64 = 4;

/// The memory of the effects, for some channels that are treated alike.
#[derive(Debug)]
pub struct LineEffects {
    channels: Box<[Channel]>,
    /// Number of the smear's period.
    period: Option<u64>,
}

#[derive(Debug, Clone)]
struct Channel {
    /// What was played, step `n` at `n % REMEMBERED`.
    played: Box<[Lines]>,
    /// The frozen loop.
    frozen: Box<[Lines]>,
    /// What is held while smearing.
    held: Lines,
    /// What came through last.
    received: Lines,
}

impl LineEffects {
    /// For `channels` channels.
    pub fn new(channels: usize) -> Self {
        let channel = Channel {
            played: vec![Lines::NONE; REMEMBERED].into(),
            frozen: vec![Lines::NONE; LONGEST_LOOP].into(),
            held: Lines::NONE,
            received: Lines::NONE,
        };
        Self { channels: vec![channel; channels].into(), period: None }
    }

    /// Keeps the steps of `range` as the loop that is frozen.
    pub fn hold(&mut self, range: Range) {
        for channel in &mut self.channels {
            for (i, frozen) in channel.frozen.iter_mut().take(range.steps).enumerate() {
                *frozen = channel.played[place(range.first + i as u64)];
            }
        }
    }

    /// Keeps `lines` as what is frozen.
    pub fn capture(&mut self, lines: &[Lines]) {
        for (channel, lines) in self.channels.iter_mut().zip(lines) {
            channel.frozen[0] = *lines;
        }
    }

    /// Puts step `next` of what is frozen in the place of `lines`.
    pub fn freeze(&self, next: usize, lines: &mut [Lines]) {
        for (channel, lines) in self.channels.iter().zip(lines) {
            *lines = channel.frozen[next];
        }
    }

    /// Holds what there was when the smear's `period` began.
    pub fn smear(&mut self, period: u64, lines: &mut [Lines]) {
        let new = self.period.replace(period) != Some(period);
        for (channel, lines) in self.channels.iter_mut().zip(lines) {
            if new {
                channel.held = *lines;
            }
            *lines = channel.held;
        }
    }

    /// Puts those of step `step`, which is remembered, in the place of `lines`.
    pub fn shuffle(&self, step: u64, lines: &mut [Lines]) {
        for (channel, lines) in self.channels.iter().zip(lines) {
            *lines = channel.played[place(step)];
        }
    }

    /// Remembers what is played in step `step`.
    pub fn remember(&mut self, step: u64, lines: &[Lines]) {
        for (channel, lines) in self.channels.iter_mut().zip(lines) {
            channel.played[place(step)] = *lines;
        }
    }

    /// Holds what came last if the step is lost.
    pub fn lose(&mut self, lost: bool, lines: &mut [Lines]) {
        for (channel, lines) in self.channels.iter_mut().zip(lines) {
            if lost {
                *lines = channel.received;
            } else {
                channel.received = *lines;
            }
        }
    }

    /// As if nothing had been played.
    pub fn reset(&mut self) {
        for channel in &mut self.channels {
            channel.played.fill(Lines::NONE);
            channel.frozen.fill(Lines::NONE);
            (channel.held, channel.received) = (Lines::NONE, Lines::NONE);
        }
        self.period = None;
    }
}

fn place(step: u64) -> usize {
    (step % REMEMBERED as u64) as usize
}

/// Moves pitches, each by what `by` says of its slot; that of the comb is the slot [`SLOTS`].
fn moved(lines: &mut Lines, by: impl Fn(usize) -> i64) {
    let within = |pitch: u16, slot: usize, all: u16| {
        (i64::from(pitch) + by(slot)).rem_euclid(i64::from(all)) as u16
    };
    for slot in 0..SLOTS {
        if let Some(line) = lines.slots()[slot] {
            lines.set(slot, Line::new(within(line.pitch(), slot, PITCHES), line.level()));
        }
    }
    if let Some(comb) = lines.comb() {
        let pitch = within(u16::from(comb.pitch()), SLOTS, u16::from(COMB_PITCHES));
        lines.set_comb(Comb::new(pitch as u8, comb.strengths()));
    }
}

/// Moves every pitch by `shift`, around the end.
pub fn shift(lines: &mut Lines, shift: i32) {
    moved(lines, |_| i64::from(shift));
}

/// Moves the pitches of some slots to near ones, as the number that `draw` draws for each says.
pub fn mutate(lines: &mut Lines, draw: impl Fn(usize) -> Option<u64>) {
    moved(lines, |slot| draw(slot).map_or(0, |draw| (draw % (2 * NEAR + 1)) as i64 - NEAR as i64));
}

/// Gives lines the weight `gain`, as near as levels allow.
pub fn weigh(lines: &mut Lines, gain: f32) {
    if gain == 1.0 {
        return;
    }
    if gain == 0.0 {
        *lines = Lines::NONE;
    }
    // Levels are 3 dB apart.
    let levels = (20.0 / 3.0 * gain.max(1e-6).log10()).round() as i32;
    for slot in 0..SLOTS {
        if let Some(line) = lines.slots()[slot] {
            let level = u8::try_from(i32::from(line.level()) + levels);
            let level = level.map(|level| level.min(tessera_codec::lines::LEVELS - 1));
            lines.set(slot, level.ok().and_then(|level| Line::new(line.pitch(), level)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(pitch: u16) -> Lines {
        let mut lines = Lines::NONE;
        lines.set(2, Line::new(pitch, 20));
        lines.set_comb(Comb::new((pitch % 144) as u8, [3, 1]));
        lines
    }

    #[test]
    fn pitches_go_round_the_end_and_come_back() {
        for by in [-900, -1, 0, 1, 137, 640] {
            let mut lines = some(630);
            shift(&mut lines, by);
            let pitch = lines.slots()[2].unwrap().pitch();
            assert_eq!(i32::from(pitch), (630 + by).rem_euclid(640));
            let comb = lines.comb().unwrap();
            assert_eq!(i32::from(comb.pitch()), (630 % 144 + by).rem_euclid(144));
            assert_eq!(comb.strengths(), [3, 1]);
            shift(&mut lines, -by);
            assert_eq!(lines, some(630), "by {by}");
        }
    }

    #[test]
    fn what_mutates_stays_near() {
        let mut pitches = std::collections::BTreeSet::new();
        for draw in 0..100 {
            let mut lines = some(300);
            mutate(&mut lines, |slot| (slot == 2).then_some(draw));
            pitches.insert(lines.slots()[2].unwrap().pitch());
            assert_eq!(lines.comb(), some(300).comb(), "another slot's draw");
        }
        assert_eq!(pitches.into_iter().collect::<Vec<_>>(), (296..=304).collect::<Vec<_>>());
    }

    #[test]
    fn weights_are_levels() {
        let weighed = |gain| {
            let mut lines = some(300);
            weigh(&mut lines, gain);
            lines.slots()[2].map(Line::level)
        };
        assert_eq!(
            [1.0, 0.5, 0.71, 2.0, 0.0, 1e6].map(weighed),
            [Some(20), Some(18), Some(19), Some(22), None, Some(31)]
        );
        let mut none = some(300);
        weigh(&mut none, 0.0);
        assert_eq!(none, Lines::NONE, "no comb either");
    }

    #[test]
    fn loops_smears_and_losses_are_those_of_their_steps() {
        let mut effects = LineEffects::new(1);
        let mut lines = [Lines::NONE];
        for step in 0..300 {
            lines[0] = some(step);
            effects.remember(u64::from(step), &lines);
        }
        effects.hold(Range { first: 280, steps: 2 });
        effects.freeze(1, &mut lines);
        assert_eq!(lines[0], some(281));
        effects.shuffle(250, &mut lines);
        assert_eq!(lines[0], some(250));
        for (period, held) in [(0, 1), (0, 1), (1, 3), (1, 3), (2, 5)] {
            lines[0] = some(held + u16::from(period == 0 && effects.period.is_some()));
            effects.smear(period, &mut lines);
            assert_eq!(lines[0], some(held));
        }
        effects.lose(false, &mut lines);
        lines[0] = some(99);
        effects.lose(true, &mut lines);
        assert_eq!(lines[0], some(5), "what came last");
        effects.reset();
        effects.shuffle(250, &mut lines);
        assert_eq!(lines[0], Lines::NONE);
    }
}
