//! A comb: lines at all multiples of a pitch, told by that pitch alone.

use crate::math;

/// Pitches of an octave: 25 cents lie between two.
pub const COMB_PITCHES_PER_OCTAVE: u8 = 48;
/// Pitches: three octaves, from [`COMB_LOWEST`] up to 493 Hz.
pub const COMB_PITCHES: u8 = 3 * COMB_PITCHES_PER_OCTAVE;
/// The lowest pitch, in Hz.
pub const COMB_LOWEST: f64 = 62.5;
/// Strengths, of which the first is none.
pub const STRENGTHS: u8 = 4;
/// Bands with strengths of their own.
pub const COMB_BANDS: usize = 2;
/// Where bands begin, the learned phases end, and the last band ends, in Hz.
pub const COMB_EDGES: [f64; COMB_BANDS + 1] = [900.0, 2400.0, 8000.0];
/// How alike a sound is to itself a period later, -1 to 1, with the largest strength.
pub const STRONGEST: f32 = 0.6;
/// A pitch that goes further than this in a step does not glide there.
const GLIDES: u8 = 12;

/// The partials of a pitched sound, above the learned phases: where they stand, and in each of two bands, divided at
/// 2.4 kHz, how far they stand out of what is between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Comb {
    pitch: u8,
    strengths: [u8; COMB_BANDS],
}

impl Comb {
    /// A comb of pitch 0 to 143, `62.5 * 2^(pitch / 48)` Hz, with strengths of 0 to 3, not both of them 0; `None`
    /// for others.
    pub fn new(pitch: u8, strengths: [u8; COMB_BANDS]) -> Option<Self> {
        let some = strengths.iter().any(|s| *s > 0) && strengths.iter().all(|s| *s < STRENGTHS);
        (pitch < COMB_PITCHES && some).then_some(Self { pitch, strengths })
    }

    /// Its pitch.
    pub fn pitch(self) -> u8 {
        self.pitch
    }

    /// Its strengths: below 2.4 kHz, and above.
    pub fn strengths(self) -> [u8; COMB_BANDS] {
        self.strengths
    }

    /// What there is on the way from the comb at the end of a step to that at the end of the next, `share` of it, 0 to 1,
    /// behind.
    pub(crate) fn between(before: Option<Self>, now: Option<Self>, share: f32) -> Option<Teeth> {
        let (from, to) = (before.or(now)?, now.or(before)?);
        let share_of = |comb: Option<Self>, band: usize| {
            f32::from(comb.map_or(0, |comb| comb.strengths[band]))
        };
        let strength = |band: usize| {
            let (from, to) = (share_of(before, band), share_of(now, band));
            (from + (to - from) * share) * (STRONGEST / f32::from(STRENGTHS - 1))
        };
        let (a, b) = (f32::from(from.pitch), f32::from(to.pitch));
        let pitch = match from.pitch.abs_diff(to.pitch) <= GLIDES {
            true => a + (b - a) * share,
            false if share < 0.5 => a,
            false => b,
        };
        Some(Teeth { hz: hertz(pitch), strengths: std::array::from_fn(strength) })
    }

    /// As a number, 1 or more: `1 + 16 pitch + 4 s + t`, where `s` and `t` are the strengths.
    pub fn to_code(self) -> u16 {
        1 + 16 * u16::from(self.pitch) + self.joined()
    }

    /// Both strengths as a number, 1 to 15: `4 s + t`.
    pub(crate) fn joined(self) -> u16 {
        let [low, high] = self.strengths.map(u16::from);
        4 * low + high
    }

    /// The reverse of [`to_code`](Self::to_code); `None` for a number that no comb has.
    pub fn from_code(code: u16) -> Option<Self> {
        let rest = code.checked_sub(1)?;
        let pitch = u8::try_from(rest / 16).ok()?;
        Self::new(pitch, [(rest / 4 % 4) as u8, (rest % 4) as u8])
    }
}

/// The frequency of a pitch, or between two, in Hz.
pub(super) fn hertz(pitch: f32) -> f64 {
    let octaves = pitch / f32::from(COMB_PITCHES_PER_OCTAVE);
    f64::from(math::exp(octaves * std::f32::consts::LN_2)) * COMB_LOWEST
}

/// A comb at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Teeth {
    /// From one to the next.
    pub hz: f64,
    /// By band, 0 to [`STRONGEST`].
    pub strengths: [f32; COMB_BANDS],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combs_swell_glide_and_die_away() {
        let comb = |pitch, strengths| Comb::new(pitch, strengths);
        let (a, b) = (comb(48, [3, 0]), comb(60, [1, 2]));
        let at = |from, to, share| Comb::between(from, to, share).unwrap();
        assert_eq!(Comb::between(None, None, 0.5), None);
        assert_eq!(at(None, a, 0.5), Teeth { hz: 125.0, strengths: [0.3, 0.0] });
        assert_eq!(at(a, None, 0.5), at(None, a, 0.5));
        let middle = at(a, b, 0.5);
        assert!((middle.hz / (62.5 * 2f64.powf(54.0 / 48.0)) - 1.0).abs() < 1e-6);
        assert!((middle.strengths[0] - 0.4).abs() < 1e-6);
        assert!((middle.strengths[1] - 0.2).abs() < 1e-6);
        let far = comb(61, [3, 0]);
        assert_eq!([at(a, far, 0.4).hz, at(far, a, 0.6).hz], [125.0; 2], "it jumps");
    }

    #[test]
    fn every_comb_has_a_number_and_no_other_number_has_one() {
        let combs: Vec<Comb> = (0..=u16::MAX).filter_map(Comb::from_code).collect();
        assert_eq!(combs.len(), 144 * 15);
        assert!(combs.iter().all(|comb| Comb::from_code(comb.to_code()) == Some(*comb)));
        assert_eq!(Comb::from_code(1), None, "of no strength");
        assert_eq!(Comb::new(144, [1, 1]), None);
        assert_eq!(Comb::new(0, [0, 4]), None);
    }
}
