//! Lines: steady tones above the learned phases, told by where they are instead of by codes.
//!
//! A few kbps pay for the phases of the lowest partials. What is above is noise under an envelope, or partials made
//! from those below, and a whistle, a bell or a flute's high notes have nothing below: of a tone's place within
//! a band the codes say nothing. So the few lines that stand out of a sound's spectrum are coded beside its codes as
//! what they are, a pitch and a level at the end of each step, and drawn into the decoded sound by an oscillator each,
//! with what the decoder made of them taken out (sinusoidal analysis and synthesis: McAulay and Quatieri 1986).
//!
//! The partials of a voice are too many for that, but one pitch tells them all: a [`Comb`]. [`CombFinder`] finds it, and
//! the engine's decoder shapes its noise by it.
//!
//! What noise is left need not be any noise either: a [`Grain`] says which, where codes are looked for by listening
//! ([`Codec::searching_encoder`](crate::codec::Codec::searching_encoder)). And where all that comes out too loud or too soft,
//! [`Trims`] put it right.
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

mod comb;
mod comb_finder;
mod finder;
mod grain;
mod player;
mod trims;

pub(crate) use comb::Teeth;
pub use comb::{
    COMB_BANDS, COMB_EDGES, COMB_LOWEST, COMB_PITCHES, COMB_PITCHES_PER_OCTAVE, Comb, STRENGTHS,
    STRONGEST,
};
pub use comb_finder::CombFinder;
pub use finder::{LineFinder, Selection};
pub(crate) use grain::grain_bins;
pub use grain::{GRAIN_BANDS, GRAIN_EDGES, Grain};
pub use player::LinePlayer;
pub(crate) use trims::trim_ranges;
pub use trims::{BandPowers, MOST_TRIMMED, TRIM_BANDS, TRIM_EDGES, TRIM_STEP, Trims};

/// The most lines at a time, beside a comb.
pub const SLOTS: usize = 8;
/// Numbers that the lines of a step are: one for each slot, one for the comb, and one for each band of the grain and of the trims.
pub const NUMBERS: usize = BUT_TRIMS + TRIM_BANDS;
/// Those that come before the trims'.
const BUT_TRIMS: usize = SLOTS + 1 + GRAIN_BANDS;
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
/// is the same line, which went from one to the other. And those of a comb, if there is one, the grain of what noise
/// there is between them, and the trims of all but those in slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Lines {
    slots: [Option<Line>; SLOTS],
    comb: Option<Comb>,
    grain: Grain,
    trims: Trims,
}

impl Lines {
    /// None at all.
    pub const NONE: Self =
        Self { slots: [None; SLOTS], comb: None, grain: Grain::NONE, trims: Trims::NONE };

    /// By slot.
    pub fn slots(&self) -> &[Option<Line>; SLOTS] {
        &self.slots
    }

    /// Puts `line`, or none, into `slot`, if there is one of that number.
    pub fn set(&mut self, slot: usize, line: Option<Line>) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = line;
        }
    }

    /// The comb.
    pub fn comb(&self) -> Option<Comb> {
        self.comb
    }

    /// Puts `comb`, or none, in its place.
    pub fn set_comb(&mut self, comb: Option<Comb>) {
        self.comb = comb;
    }

    /// The grain.
    pub fn grain(&self) -> Grain {
        self.grain
    }

    /// Puts `grain` in its place.
    pub fn set_grain(&mut self, grain: Grain) {
        self.grain = grain;
    }

    /// The trims.
    pub fn trims(&self) -> Trims {
        self.trims
    }

    /// Puts `trims` in their place.
    pub fn set_trims(&mut self, trims: Trims) {
        self.trims = trims;
    }

    /// All there are in slots.
    pub fn iter(&self) -> impl Iterator<Item = Line> {
        self.slots.iter().copied().flatten()
    }

    /// Whether `next` may follow: lines that stay in their slot are no further apart than a line can go.
    pub fn may_precede(&self, next: &Self) -> bool {
        let mut pairs = self.slots.iter().zip(&next.slots);
        pairs.all(|pair| !matches!(pair, (Some(now), Some(later)) if !now.may_become(*later)))
    }

    /// Whether each of them may follow the one before it.
    pub fn follow<'a>(lines: impl IntoIterator<Item = &'a Self>) -> bool {
        let mut before: Option<&Self> = None;
        lines
            .into_iter()
            .all(|now| before.replace(now).is_none_or(|before| before.may_precede(now)))
    }

    /// As numbers: for each slot 0, or `1 + 32 pitch + level`; then that of the comb, or 0; then the rows of the grain; then
    /// the trims, 0, 1, -1, 2, -2 and so on being 0, 1, 2, 3 and 4.
    ///
    /// ```
    /// use tessera_codec::lines::{Comb, Grain, Line, Lines, Trims};
    ///
    /// let mut lines = Lines::NONE;
    /// lines.set(2, Line::new(100, 20));
    /// lines.set_comb(Comb::new(50, [3, 1]));
    /// lines.set_grain(Grain::new([0, 5, 6, 7]));
    /// let mut trims = [0; 24];
    /// trims[1] = -2;
    /// lines.set_trims(Trims::new(trims).unwrap());
    /// let codes = lines.to_codes();
    /// assert_eq!(codes[..16], [0, 0, 3221, 0, 0, 0, 0, 0, 814, 0, 5, 6, 7, 0, 4, 0]);
    /// assert_eq!(Lines::from_codes(&lines.to_codes()), Some(lines));
    /// ```
    pub fn to_codes(&self) -> [u16; NUMBERS] {
        let mut codes = [0; NUMBERS];
        for (code, line) in codes.iter_mut().zip(&self.slots) {
            *code = line.map_or(0, |l| 1 + l.pitch * u16::from(LEVELS) + u16::from(l.level));
        }
        codes[SLOTS] = self.comb.map_or(0, Comb::to_code);
        codes[SLOTS + 1..BUT_TRIMS].copy_from_slice(&self.grain.rows().map(u16::from));
        codes[BUT_TRIMS..].copy_from_slice(&self.trims.to_codes());
        codes
    }

    /// The reverse of [`to_codes`](Self::to_codes), of the numbers of all slots, and the comb's, the grain's and the trims' if they
    /// are given; `None` where there is a number that none of them has, and when there are fewer or more numbers.
    pub fn from_codes(codes: &[u16]) -> Option<Self> {
        let (slots, rest) = codes.split_at_checked(SLOTS)?;
        let mut lines = Self::NONE;
        for (slot, &code) in lines.slots.iter_mut().zip(slots) {
            if let Some(code) = code.checked_sub(1) {
                let level = (code % u16::from(LEVELS)) as u8;
                *slot = Some(Line::new(code / u16::from(LEVELS), level)?);
            }
        }
        let Some((comb, rows)) = rest.split_first() else { return Some(lines) };
        if *comb > 0 {
            lines.comb = Some(Comb::from_code(*comb)?);
        }
        if rows.is_empty() {
            return Some(lines);
        }
        let (rows, trims) = rows.split_at_checked(GRAIN_BANDS)?;
        let mut own = [0; GRAIN_BANDS];
        for (row, number) in own.iter_mut().zip(rows) {
            *row = u8::try_from(*number).ok()?;
        }
        lines.grain = Grain::new(own);
        if !trims.is_empty() {
            lines.trims = Trims::from_codes(trims)?;
        }
        Some(lines)
    }
}

/// Which lines are kept beside codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kept {
    /// None.
    #[default]
    Nothing,
    /// Those in slots.
    Slots,
    /// Those in slots, and combs.
    SlotsAndComb,
    /// Those in slots, combs and grains.
    ButTrims,
    /// Those in slots, combs, grains and trims.
    All,
}

impl Kept {
    /// Each of them, from the least to all that there is.
    pub const EVERY: [Self; 5] =
        [Self::Nothing, Self::Slots, Self::SlotsAndComb, Self::ButTrims, Self::All];

    /// Whether there may be any lines.
    pub fn any(self) -> bool {
        self != Self::Nothing
    }

    /// Whether there may be combs.
    pub fn combs(self) -> bool {
        matches!(self, Self::SlotsAndComb | Self::ButTrims | Self::All)
    }

    /// Whether there may be grains.
    pub fn grains(self) -> bool {
        matches!(self, Self::ButTrims | Self::All)
    }

    /// Whether there may be trims.
    pub fn trims(self) -> bool {
        self == Self::All
    }

    /// Numbers of a step's lines.
    pub fn numbers(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Slots => SLOTS,
            Self::SlotsAndComb => SLOTS + 1,
            Self::ButTrims => BUT_TRIMS,
            Self::All => NUMBERS,
        }
    }

    /// Whether this is all that there is in `lines`.
    pub fn is_all_of(self, lines: &[Lines]) -> bool {
        if self == Self::Nothing {
            return lines.is_empty();
        }
        lines.iter().all(|lines| {
            (self.combs() || lines.comb.is_none())
                && (self.grains() || lines.grain == Grain::NONE)
                && (self.trims() || lines.trims == Trims::NONE)
        })
    }

    /// What has so many numbers.
    pub fn of_numbers(numbers: usize) -> Option<Self> {
        Self::EVERY.into_iter().find(|kept| kept.numbers() == numbers)
    }
}

/// Frequencies of all pitches in Hz, out of operations that are the same on every machine.
pub(crate) fn frequencies() -> impl Iterator<Item = f64> {
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
            lines.to_codes()[..=SLOTS].iter().for_each(|code| digest.update(code.to_be_bytes()));
            samples.iter().for_each(|x| digest.update(x.to_bits().to_be_bytes()));
        }
        assert!(found[30].iter().count() > 2 && found.iter().any(|lines| lines.comb().is_some()));
        let hex: String = digest.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "7a5978ffb22b1818");
    }

    #[test]
    fn numbers_that_no_line_has() {
        assert_eq!(Line::new(640, 0), None);
        assert_eq!(Line::new(0, 32), None);
        let mut codes = [0; NUMBERS];
        codes[7] = 640 * 32;
        let lines = Lines::from_codes(&codes).unwrap();
        assert_eq!(lines.slots()[7], Line::new(639, 31));
        assert_eq!(Lines::from_codes(&codes[..8]), Some(lines), "without a comb");
        assert_eq!(Lines::from_codes(&codes[..7]), None);
        assert_eq!(Lines::from_codes(&codes[..9]), Some(lines), "without a grain");
        assert_eq!(Lines::from_codes(&codes[..12]), None, "three of four bands");
        assert_eq!(Lines::from_codes(&codes[..13]), Some(lines), "without trims");
        assert_eq!(Lines::from_codes(&codes[..36]), None, "23 of 24 bands");
        codes[8] = 1;
        assert_eq!(Lines::from_codes(&codes), None);
        codes[8] = 0;
        codes[12] = 256;
        assert_eq!(Lines::from_codes(&codes), None);
        (codes[12], codes[13]) = (0, 13);
        assert_eq!(Lines::from_codes(&codes), None);
        codes[13] = 0;
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
