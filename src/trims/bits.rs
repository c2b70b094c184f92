//! What trims cost, and what being off costs.

use super::{TRIMS, trim};
use crate::bitstream::TrimBefore;
use crate::lines::{TRIM_EDGES, TRIM_STEP};
use crate::math;

/// What squared errors weigh in bands that begin above as many Hz: what makes speech clear lies below.
const HIGH: f64 = 5_000.0;
const HIGH_WEIGHT: f32 = 0.55;
/// How far the band below may have changed for it to matter.
const BELOW: i8 = 2;

/// Bits of each trim after each other one; for the first step of a chunk and for the others, by what has become of the band below.
pub(super) struct TrimBits(Box<[[[[f32; TRIMS]; TRIMS]; 2 * BELOW as usize + 1]; 2]>);

impl TrimBits {
    pub fn new() -> Self {
        let mut all = Box::new([[[[0.0; TRIMS]; TRIMS]; 2 * BELOW as usize + 1]; 2]);
        for (first, by_below) in all.iter_mut().enumerate() {
            for (below, by_trim) in (-BELOW..).zip(by_below) {
                for (was, next) in by_trim.iter_mut().enumerate() {
                    let before = TrimBefore { first: first == 1, trim: trim(was), below };
                    for (is, bits) in next.iter_mut().enumerate() {
                        before.tell(trim(is), |yes, share| {
                            let share = f32::from(share);
                            let share = if yes { share } else { 256.0 - share };
                            *bits -= math::ln(share / 256.0) * std::f32::consts::LOG2_E;
                            yes
                        });
                    }
                }
            }
        }
        Self(all)
    }

    /// Bits by trim, and by what it was in the step before, where the band below has changed by `below`.
    pub fn of(&self, first: bool, below: i8) -> &[[f32; TRIMS]; TRIMS] {
        &self.0[usize::from(first)][(below.clamp(-BELOW, BELOW) + BELOW) as usize]
    }
}

/// What it costs, in dB squared, that a band with this error is trimmed by number `index`: nothing where nobody hears it.
pub(super) fn loss(band: usize, error: Option<f32>, index: usize) -> f32 {
    let weight = if TRIM_EDGES[band] > HIGH { HIGH_WEIGHT } else { 1.0 };
    let off = error.map_or(0.0, |db| db - f32::from(trim(index)) * TRIM_STEP);
    weight * off * off
}
