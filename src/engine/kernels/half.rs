//! Half precision (IEEE 754 binary16) to single, which is exact.

/// The value of a finite half-precision number.
#[inline(always)]
pub fn to_f32(half: u16) -> f32 {
    let half = u32::from(half);
    // Exponent and mantissa in their new place, with the old exponent's bias: 2^112 makes up for the
    // difference, for subnormal numbers as well.
    let magnitude = f32::from_bits((half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16)
}

/// Whether a half-precision number is neither infinite nor NaN.
pub fn is_finite(half: u16) -> bool {
    half & 0x7c00 != 0x7c00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_number_is_exact() {
        for half in (0..=u16::MAX).filter(|h| is_finite(*h)) {
            let (sign, exponent) = (f64::from(half >> 15), i32::from(half >> 10 & 31));
            let mantissa = f64::from(half & 0x3ff) / 1024.0;
            let value = match exponent {
                0 => mantissa * 2f64.powi(-14),
                _ => (1.0 + mantissa) * 2f64.powi(exponent - 15),
            };
            let expected = (1.0 - 2.0 * sign) * value;
            assert_eq!(f64::from(to_f32(half)), expected, "{half:#06x}");
            assert_eq!(to_f32(half).is_sign_negative(), half >> 15 == 1);
        }
    }
}
