//! What both executors compute element by element: polynomials without branches, so that loops over
//! them become vector code, and with the same bits on every machine.

use std::f32::consts::LOG2_E;

/// 2 sqrt(2 / pi): the tanh form of the GELU is x times the logistic function of this times a cubic.
pub const GELU_SCALE: f32 = 1.595_769;
/// Weight of the cubic term in the GELU.
pub const GELU_CUBIC: f32 = 0.044_715;
/// Keeps silence from being blown up by a normalisation.
pub const NORM_EPSILON: f32 = 1e-5;
/// Interleaved partial sums: vector code, and the same order on every machine.
const LANES: usize = 16;

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

/// Decibels of a neper of power: 10 / ln 10.
pub const DB_OF_LN: f32 = 4.342_945;

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
    e as f32 * std::f32::consts::LN_2 + p
}

/// The Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016):
/// `x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x³)))`.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x / (1.0 + exp(-GELU_SCALE * x * (1.0 + GELU_CUBIC * x * x)))
}

/// The sum of some values, in interleaved lanes.
#[inline(always)]
pub fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (i, v) in values.enumerate() {
        lanes[i % LANES] += v;
    }
    lanes.iter().sum()
}

/// Mean and inverse standard deviation of a row.
#[inline(always)]
pub fn moments(x: &[f32]) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x.iter().copied()) / n;
    let variance = sum(x.iter().map(|v| (v - mean) * (v - mean))) / n;
    (mean, 1.0 / (variance + NORM_EPSILON).sqrt())
}

/// A periodic Hann window of `size` samples at sample `n`, the same bits on every machine.
pub fn hann(n: usize, size: usize) -> f64 {
    0.5 - 0.5 * cos_sin_of_turn(n, size).0
}

/// Cosine and sine of `2 pi numerator / denominator`, `denominator` not 0, correct to the last bits of
/// a double by additions and multiplications alone: the platform's own differ from each other.
pub fn cos_sin_of_turn(numerator: usize, denominator: usize) -> (f64, f64) {
    let n = numerator % denominator;
    // The nearest quarter turn, and what is left beyond it: -1/8 to 1/8 of a turn.
    let quarter = (8 * n + denominator) / (2 * denominator);
    let left = 4.0 * n as f64 - quarter as f64 * denominator as f64;
    let angle = left / (4 * denominator) as f64 * std::f64::consts::TAU;
    let square = angle * angle;
    // Taylor's series; the first term left out is below 1e-17.
    let series = |first: u32, start: f64| {
        let (mut sum, mut term) = (0.0, start);
        for i in 0..9u32 {
            sum += term;
            let k = first + 2 * i;
            term *= -square / f64::from((k + 1) * (k + 2));
        }
        sum
    };
    let (cos, sin) = (series(0, 1.0), series(1, angle));
    match quarter % 4 {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    }
}

/// The natural logarithm of a number from 1 to 2^60, out of operations that are the same on every machine.
pub fn ln_exact(mut x: f64) -> f64 {
    let mut halvings = 0;
    while x >= 1.5 && halvings < 60 {
        x *= 0.5;
        halvings += 1;
    }
    // ln x = 2 artanh((x - 1) / (x + 1)), whose series converges fast near 1.
    let t = (x - 1.0) / (x + 1.0);
    let series = (0..16).rev().fold(0.0, |sum, n| sum * t * t + 1.0 / f64::from(2 * n + 1));
    f64::from(halvings) * std::f64::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_accurate() {
        for denominator in [1, 2, 3, 7, 960, 1920] {
            for numerator in 0..2 * denominator {
                let (cos, sin) = cos_sin_of_turn(numerator, denominator);
                let angle = std::f64::consts::TAU * numerator as f64 / denominator as f64;
                assert!((cos - angle.cos()).abs() < 4e-15, "{numerator}/{denominator}");
                assert!((sin - angle.sin()).abs() < 4e-15, "{numerator}/{denominator}");
            }
        }
    }

    #[test]
    fn moments_are_those_of_the_row() {
        let x: Vec<f32> = (0..37).map(|i| (i * i % 11) as f32).collect();
        let mean = x.iter().sum::<f32>() / 37.0;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 37.0;
        let (found, inverse) = moments(&x);
        assert!((found - mean).abs() < 1e-5);
        assert!((inverse * variance.sqrt() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn exp_is_accurate() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "exp({x})");
        }
        assert!(exp(-1e9) > 0.0 && exp(1e9).is_finite());
    }

    #[cfg(feature = "train")]
    #[test]
    fn ln_is_accurate() {
        for i in -8700..8800 {
            let x = f64::from(i) / 100.0;
            let y = x.exp() as f32;
            if y.is_normal() {
                let error = (f64::from(ln(y)) - f64::from(y).ln()).abs();
                assert!(error < 4e-7 * x.abs().max(1.0), "ln({y})");
            }
        }
    }

    #[test]
    fn logarithms_are_right() {
        for x in [1.0f64, 1.2, 1.4999, 1.5, 2.0, 7.3, 35.0, 1e6, 1e15] {
            assert!((ln_exact(x) - x.ln()).abs() < 1e-14 * x.ln().max(1.0), "{x}");
        }
    }
}
