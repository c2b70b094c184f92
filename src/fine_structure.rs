//! What stands out of a spectrum's envelope: partials, and the holes between them.

use crate::math;

/// Neighbours that a bin of the longest window stands out of.
pub const AROUND: usize = 33;
/// Seconds of that window, or a little more.
const LONGEST: f64 = 0.064;
/// Decades of magnitude in a natural logarithm of power.
const DECADES: f32 = 0.5 * std::f32::consts::LOG10_E;

/// Samples of a window that tells partials apart, a power of two, at a rate in Hz.
pub fn window(rate: impl Into<f64>) -> usize {
    ((rate.into() * LONGEST) as usize).next_power_of_two().max(64)
}

/// A Hann window.
pub fn hann(size: usize) -> Vec<f32> {
    (0..size).map(|n| math::hann(n, size) as f32).collect()
}

/// Puts levels, in decades of magnitude, of powers that are no less than `floor`.
pub fn levels(powers: impl Iterator<Item = f32>, floor: f32, levels: &mut Vec<f32>) {
    levels.clear();
    levels.extend(powers.map(|power| DECADES * math::ln(power.max(floor))));
}

/// Makes of levels by how much they stand out of the mean of `around`, an odd number, of them; beyond the ends they go on as they
/// end.
pub fn stand_out(levels: &mut [f32], around: usize) {
    let (last, half) = (levels.len().saturating_sub(1) as isize, (around / 2) as isize);
    let at = |levels: &[f32], place: isize| levels[place.clamp(0, last) as usize];
    let mut sum: f32 = (-half - 1..half).map(|place| at(levels, place)).sum();
    let means: Vec<f32> = (0..=last)
        .map(|place| {
            sum += at(levels, place + half) - at(levels, place - half - 1);
            sum / around as f32
        })
        .collect();
    levels.iter_mut().zip(means).for_each(|(level, mean)| *level -= mean);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_stands_out_and_a_slope_does_not() {
        let mut levels: Vec<f32> = (0..100).map(|bin| 0.1 * bin as f32).collect();
        levels[50] += 3.0;
        stand_out(&mut levels, 5);
        for (bin, level) in levels.iter().enumerate().skip(2).take(96) {
            let expected = match bin {
                50 => 3.0 * 0.8,
                48..=52 => -3.0 * 0.2,
                _ => 0.0,
            };
            assert!((level - expected).abs() < 1e-4, "{bin}: {level}");
        }
        // Beyond the ends they go on as they end.
        assert!((levels[0] + 0.06).abs() < 1e-4 && (levels[99] - 0.06).abs() < 1e-4);
    }

    #[test]
    fn levels_are_decades_of_magnitude() {
        let mut found = vec![9.0];
        levels([1e-4, 1.0, 100.0].into_iter(), 1e-2, &mut found);
        assert!(found.iter().zip([-1.0, 0.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!((window(48_000u32), window(12_000u32), window(1u32)), (4096, 1024, 64));
    }
}
