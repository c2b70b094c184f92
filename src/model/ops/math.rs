//! Elementary functions as polynomials without branches, so that loops over them become vector code.

use std::f32::consts::{LN_2, LOG2_E};

/// `e^x`, relative error below 3e-7 for -87 <= x <= 88, clamped to that range outside.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 * 2^23 rounds to the nearest integer in the low mantissa bits.
    let magic = 12_582_912.0f32;
    let shifted = x * LOG2_E + magic;
    let n = shifted - magic;
    // ln 2 in two parts: the first has few mantissa bits, so that n times it is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.666_666_6e-1 + r * (4.166_666e-2 + r * (8.333_337e-3 + r * 1.388_9e-3)))));
    let scale = f32::from_bits(((shifted.to_bits() << 23) as i32).wrapping_add(0x3f80_0000) as u32);
    p * scale
}

/// Natural logarithm of a positive, normal number, absolute error below 3e-7 near 1 and relative
/// error below 3e-7 elsewhere.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let x = x.max(f32::MIN_POSITIVE);
    let bits = x.to_bits();
    // Mantissa in [sqrt(1/2), sqrt(2)), exponent to match.
    let offset = bits.wrapping_sub(0x3f35_04f3);
    let e = (offset as i32) >> 23;
    let m = f32::from_bits((offset & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    // ln m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let p = 2.0
        * s
        * (1.0 + s2 * (0.333_333_33 + s2 * (0.2 + s2 * (0.142_857_14 + s2 * 0.111_111_11))));
    e as f32 * LN_2 + p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_ln_are_accurate() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "exp({x})");
            let y = exact as f32;
            if y.is_normal() {
                let error = (f64::from(ln(y)) - f64::from(y).ln()).abs();
                assert!(error < 4e-7 * f64::from(x).abs().max(1.0), "ln({y})");
            }
        }
        assert!(exp(-1e9) > 0.0 && exp(1e9).is_finite());
    }
}
