//! Trims: how much louder or softer bands are than the codes have them.

use std::ops::Range;

/// Bands that are trimmed.
pub const TRIM_BANDS: usize = 24;
/// Where they begin and the last one ends, in Hz: a little wider than the ear's own (equivalent rectangular bandwidths of Glasberg
/// and Moore 1990, each 1.1 of them).
pub const TRIM_EDGES: [f64; TRIM_BANDS + 1] = [
    900.0, 1050.0, 1200.0, 1400.0, 1600.0, 1825.0, 2100.0, 2400.0, 2725.0, 3100.0, 3525.0, 4000.0,
    4550.0, 5150.0, 5850.0, 6625.0, 7500.0, 8500.0, 9600.0, 10_850.0, 12_275.0, 13_875.0, 15_675.0,
    17_700.0, 20_000.0,
];
/// dB between two trims.
pub const TRIM_STEP: f32 = 3.0;
/// The largest trim, up or down: 18 dB.
pub const MOST_TRIMMED: i8 = 6;
/// The power of a frame of sound in each of these bands.
pub type BandPowers = [f32; TRIM_BANDS];
/// ln(10) / 20
const NEPERS_OF_DB: f32 = 0.115_129_255;

/// Corrections of the decoded sound's level in each of 24 bands from 0.9 to 20 kHz, for the frames of a step, in steps of 3 dB.
///
/// Above the learned phases the decoder tells an envelope and no more, and codes that tell everything at once tell that as well as
/// they can. What is wrong with it is cheap to tell by itself: where a band is off by some decibels for a while, one number
/// for many frames and bins puts that right. Scalable speech and audio coders send such gains beside their bands (ITU-T G.729.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Trims {
    bands: [i8; TRIM_BANDS],
}

impl Trims {
    /// Everything as the codes have it.
    pub const NONE: Self = Self { bands: [0; TRIM_BANDS] };

    /// Trims by band, each from -6 (18 dB softer) to 6; `None` for others.
    pub fn new(bands: [i8; TRIM_BANDS]) -> Option<Self> {
        let within = |trim: &i8| (-MOST_TRIMMED..=MOST_TRIMMED).contains(trim);
        bands.iter().all(within).then_some(Self { bands })
    }

    /// By band, each from -6 to 6.
    pub fn bands(self) -> [i8; TRIM_BANDS] {
        self.bands
    }

    /// As numbers from 0 to 12: 0, 1, -1, 2, -2 and so on are 0, 1, 2, 3 and 4.
    pub(super) fn to_codes(self) -> [u16; TRIM_BANDS] {
        let sign = |trim: i8| u16::from(trim > 0);
        self.bands.map(|trim| 2 * u16::from(trim.unsigned_abs()) - sign(trim))
    }

    /// The reverse of [`to_codes`](Self::to_codes).
    pub(super) fn from_codes(codes: &[u16]) -> Option<Self> {
        let mut bands = [0; TRIM_BANDS];
        if codes.len() != bands.len() {
            return None;
        }
        for (trim, code) in bands.iter_mut().zip(codes) {
            let size = i8::try_from(code.div_ceil(2)).ok()?;
            *trim = if code % 2 == 1 { size } else { -size };
        }
        Self::new(bands)
    }

    /// What is added to the log magnitudes, in nepers, of a band.
    pub(crate) fn nepers(self, band: usize) -> f32 {
        f32::from(self.bands[band]) * TRIM_STEP * NEPERS_OF_DB
    }
}

/// Which of so many values belong to each band: those from its lower edge on, below its upper one, where value number *n* is at
/// `hz(n)`, which rises.
pub(crate) fn trim_ranges(count: usize, hz: impl Fn(usize) -> f64) -> [Range<usize>; TRIM_BANDS] {
    let first = |edge: f64| (0..count).position(|n| hz(n) >= edge).unwrap_or(count);
    let edges = TRIM_EDGES.map(first);
    std::array::from_fn(|band| edges[band]..edges[band + 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_back(bands in proptest::array::uniform24(-MOST_TRIMMED..=MOST_TRIMMED)) {
            let trims = Trims::new(bands).unwrap();
            prop_assert_eq!(Trims::from_codes(&trims.to_codes()), Some(trims));
            prop_assert!(trims.to_codes().iter().all(|code| *code <= 12));
        }
    }

    #[test]
    fn numbers_that_no_trims_have() {
        let mut codes = [0; TRIM_BANDS];
        assert_eq!(Trims::from_codes(&codes), Some(Trims::NONE));
        codes[3] = 12;
        assert_eq!(Trims::from_codes(&codes).unwrap().bands()[3], -6);
        codes[3] = 13;
        assert_eq!(Trims::from_codes(&codes), None);
        codes[3] = u16::MAX;
        assert_eq!(Trims::from_codes(&codes), None);
        assert_eq!(Trims::from_codes(&codes[1..]), None);
        let mut bands = [0; TRIM_BANDS];
        bands[23] = -7;
        assert_eq!(Trims::new(bands), None);
    }

    #[test]
    fn a_step_is_three_decibels() {
        let mut bands = [0; TRIM_BANDS];
        (bands[0], bands[1]) = (2, -1);
        let trims = Trims::new(bands).unwrap();
        assert!((trims.nepers(0).exp() - 1.995_262).abs() < 1e-5);
        assert!((trims.nepers(1).exp() - 0.707_946).abs() < 1e-5);
        assert_eq!(trims.nepers(2), 0.0);
    }

    #[test]
    fn bands_are_where_they_are_said_to_be() {
        // 25 Hz a bin.
        let ranges = trim_ranges(961, |bin| bin as f64 * 25.0);
        assert_eq!(
            (ranges[0].clone(), ranges[1].clone(), ranges[23].clone()),
            (36..42, 42..48, 708..800)
        );
        let low = trim_ranges(100, |bin| bin as f64 * 25.0);
        assert_eq!((low[8].clone(), low[23].clone()), (100..100, 100..100));
    }
}
