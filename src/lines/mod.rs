//! Lines: steady tones above the learned phases, told by where they are instead of by codes.
//!
//! A few kbps pay for the phases of the lowest partials. What is above is noise under an envelope, or partials made
//! from those below, and a whistle, a bell or a flute's high notes have nothing below: of a tone's place within
//! a band the codes say nothing. So the few lines that stand out of a sound's spectrum are coded beside its codes as
//! what they are, a pitch and a level at the end of each step, and drawn into the decoded sound by an oscillator each,
//! with what the decoder made of them taken out (sinusoidal analysis and synthesis: McAulay and Quatieri 1986).
//!
//! [`LineFinder`] looks at what is encoded, [`LinePlayer`] draws into what was decoded; neither knows of a
//! network, and both are of one channel and allocate nothing once they are made.
//!
//! ```
//! use tessera_codec::lines::{LineFinder, LinePlayer, Lines, Selection};
//!
//! // At 48 kHz, with steps of 40 ms and a decoder that lags by 30.
//! let mut finder = LineFinder::new(48_000, 1920, 1440, Selection::FEW);
//! let mut player = LinePlayer::new(48_000, 1920);
//! let tone: Vec<f32> = (0..19_200).map(|n| (n as f32 * 0.2).sin() * 0.25).collect(); // 1528 Hz
//! let (mut found, mut sound) = (Vec::new(), vec![0.0; 19_200]);
//! finder.find(&tone, &mut found);
//! for (step, lines) in sound.chunks_exact_mut(1920).zip(&found) {
//!     player.play(lines, step);
//! }
//! assert_eq!(found[9].iter().count(), 1);
//! let loudest = sound[9600..].iter().fold(0.0f32, |most, x| most.max(x.abs()));
//! assert!((loudest - 0.25).abs() < 0.05);
//! ```

mod finder;
mod player;

pub use finder::{LineFinder, Selection};
pub use player::LinePlayer;

/// The most lines at a time.
pub const SLOTS: usize = 8;
/// The lowest pitch, in Hz.
pub const LOWEST: f64 = 512.0;
/// Pitches of an octave: 9.4 cents lie between two.
pub const PITCHES_PER_OCTAVE: u16 = 128;
/// Pitches: five octaves, up to 16,295 Hz.
pub const PITCHES: u16 = 5 * PITCHES_PER_OCTAVE;
/// Levels: 3 dB lie between two.
pub const LEVELS: u8 = 32;
/// The amplitude of level 0, in dB of full scale.
pub const SOFTEST: f32 = -90.0;
/// dB between two levels.
pub const LEVEL_STEP: f32 = 3.0;
/// How far a line's pitch may go in a step.
pub const MOST_BENT: u16 = 10;
/// And its level.
pub const MOST_SWELLED: u8 = 7;

/// A tone of one pitch and level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Line {
    pitch: u16,
    level: u8,
}

impl Line {
    /// A line of pitch 0 to 639, `512 * 2^(pitch / 128)` Hz, and of level 0 to 31, an amplitude of
    /// `3 * level - 90` dB of full scale; `None` for others.
    pub fn new(pitch: u16, level: u8) -> Option<Self> {
        (pitch < PITCHES && level < LEVELS).then_some(Self { pitch, level })
    }

    /// Its pitch.
    pub fn pitch(self) -> u16 {
        self.pitch
    }

    /// Its level.
    pub fn level(self) -> u8 {
        self.level
    }

    /// Whether the same line may be this one at the end of a step and `next` at the end of the next.
    pub fn may_become(self, next: Self) -> bool {
        self.pitch.abs_diff(next.pitch) <= MOST_BENT
            && self.level.abs_diff(next.level) <= MOST_SWELLED
    }
}

/// The lines at the end of a step, in slots: what stands in a slot at the end of two steps that follow one another
/// is the same line, which went from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Lines([Option<Line>; SLOTS]);

impl Lines {
    /// None at all.
    pub const NONE: Self = Self([None; SLOTS]);

    /// By slot.
    pub fn slots(&self) -> &[Option<Line>; SLOTS] {
        &self.0
    }

    /// Puts `line`, or none, into `slot`, if there is one of that number.
    pub fn set(&mut self, slot: usize, line: Option<Line>) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = line;
        }
    }

    /// All there are.
    pub fn iter(&self) -> impl Iterator<Item = Line> {
        self.0.iter().copied().flatten()
    }

    /// Whether `next` may follow: lines that stay in their slot are no further apart than a line can go.
    pub fn may_precede(&self, next: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&next.0);
        pairs.all(|pair| !matches!(pair, (Some(now), Some(later)) if !now.may_become(*later)))
    }

    /// Whether each of them may follow the one before it.
    pub fn follow<'a>(lines: impl IntoIterator<Item = &'a Self>) -> bool {
        let mut before: Option<&Self> = None;
        lines
            .into_iter()
            .all(|now| before.replace(now).is_none_or(|before| before.may_precede(now)))
    }

    /// As numbers: for each slot 0, or `1 + 32 pitch + level`.
    ///
    /// ```
    /// use tessera_codec::lines::{Line, Lines};
    ///
    /// let mut lines = Lines::NONE;
    /// lines.set(2, Line::new(100, 20));
    /// assert_eq!(lines.to_codes(), [0, 0, 3221, 0, 0, 0, 0, 0]);
    /// assert_eq!(Lines::from_codes(&lines.to_codes()), Some(lines));
    /// ```
    pub fn to_codes(&self) -> [u16; SLOTS] {
        self.0.map(|line| {
            line.map_or(0, |line| 1 + line.pitch * u16::from(LEVELS) + u16::from(line.level))
        })
    }

    /// The reverse of [`to_codes`](Self::to_codes); `None` where there is a number that no line has.
    pub fn from_codes(codes: &[u16; SLOTS]) -> Option<Self> {
        let mut lines = Self::NONE;
        for (slot, &code) in lines.0.iter_mut().zip(codes) {
            if let Some(code) = code.checked_sub(1) {
                let level = (code % u16::from(LEVELS)) as u8;
                *slot = Some(Line::new(code / u16::from(LEVELS), level)?);
            }
        }
        Some(lines)
    }
}

/// Frequencies of all pitches in Hz, out of operations that are the same on every machine.
fn frequencies() -> impl Iterator<Item = f64> {
    // 2^(1/128)
    const RATIO: f64 = 1.005_429_901_112_802_7;
    (0..PITCHES).scan(LOWEST, |next, pitch| {
        // An octave is exactly that, whatever the products before it left.
        if pitch.is_multiple_of(PITCHES_PER_OCTAVE) {
            *next = LOWEST * f64::from(1u32 << (pitch / PITCHES_PER_OCTAVE));
        }
        let now = *next;
        *next *= RATIO;
        Some(now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pitches_are_even_on_a_scale_of_octaves() {
        for (pitch, hz) in frequencies().enumerate() {
            let exact = 512.0 * (pitch as f64 / 128.0).exp2();
            assert!((hz / exact - 1.0).abs() < 1e-12, "pitch {pitch}");
        }
        assert_eq!(frequencies().count(), 640);
    }

    #[test]
    fn the_same_bits_on_every_machine() {
        use sha2::{Digest, Sha256};

        // Two pulse waves and some noise, out of whole numbers.
        let mut state = 1u32;
        let sound: Vec<f32> = (0..96_000u32)
            .map(|n| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let pulse = |period| if n % period < period / 2 { 1i32 } else { -1 };
                let noise = (state >> 22) as i32 - 512;
                (2_000 * pulse(41) + 1_000 * pulse(29) + noise) as f32 / 16_384.0
            })
            .collect();
        let mut found = Vec::new();
        LineFinder::new(48_000, 1920, 1440, Selection::MANY).find(&sound, &mut found);
        let mut sound = sound;
        let mut player = LinePlayer::new(48_000, 1920);
        let mut digest = Sha256::new();
        for (lines, samples) in found.iter().zip(sound.chunks_exact_mut(1920)) {
            player.play(lines, samples);
            lines.to_codes().iter().for_each(|code| digest.update(code.to_be_bytes()));
            samples.iter().for_each(|x| digest.update(x.to_bits().to_be_bytes()));
        }
        assert!(found[30].iter().count() > 2);
        let hex: String = digest.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ea7445535a3f4503");
    }

    #[test]
    fn numbers_that_no_line_has() {
        assert_eq!(Line::new(640, 0), None);
        assert_eq!(Line::new(0, 32), None);
        let mut codes = [0; SLOTS];
        codes[7] = 640 * 32;
        let lines = Lines::from_codes(&codes).unwrap();
        assert_eq!(lines.slots()[7], Line::new(639, 31));
        codes[7] += 1;
        assert_eq!(Lines::from_codes(&codes), None);
    }

    #[test]
    fn a_line_goes_so_far_and_no_further() {
        let line = |pitch, level| Line::new(pitch, level).unwrap();
        assert!(line(100, 10).may_become(line(110, 17)));
        assert!(line(100, 10).may_become(line(90, 3)));
        assert!(!line(100, 10).may_become(line(111, 10)));
        assert!(!line(100, 10).may_become(line(100, 18)));
        let (mut before, mut after) = (Lines::NONE, Lines::NONE);
        before.set(0, Some(line(100, 10)));
        after.set(1, Some(line(300, 10)));
        assert!(before.may_precede(&after), "one ends, another begins");
        after.set(0, Some(line(111, 10)));
        assert!(!before.may_precede(&after));
    }
}
