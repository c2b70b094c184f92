//! What both executors agree on about the inverse STFT: window, noise, and how a bin's three numbers
//! become a spectrum.

use crate::math;

/// Log magnitudes above this are cut: e^6 is about twenty times a full-scale tone.
pub const MAX_LOG_MAGNITUDE: f32 = 6.0;
/// Squared length under which a direction fades to none, which keeps its gradient finite.
pub const SOFT: f32 = 1e-4;

/// A periodic Hann window of `window` samples, scaled so that overlapping windows at `hop` sum to one
/// after an FFT that does not normalise, and spectra are at the scale of an orthonormal one.
pub fn window_shape(window: usize, hop: usize) -> Vec<f32> {
    // Periodic Hann windows at this hop sum to window / (2 hop).
    let scale = 2.0 * hop as f64 / (window as f64 * (window as f64).sqrt());
    (0..window).map(|n| (scale * (0.5 - 0.5 * math::cos_sin_of_turn(n, window).0)) as f32).collect()
}

/// The share of noise in each bin's direction, 0 to 1: none up to the first frequency of `band` in Hz,
/// nothing else from the second on; for `window / 2 + 1` bins at `rate` samples a second.
pub fn noise_shares(window: usize, rate: u32, band: [u32; 2]) -> Vec<f32> {
    let [from, to] = band.map(|f| f as f32);
    (0..=window / 2)
        .map(|bin| {
            let frequency = bin as f32 * rate as f32 / window as f32;
            ((frequency - from) / (to - from).max(1.0)).clamp(0.0, 1.0)
        })
        .collect()
}

/// Bins, from the lowest, whose direction is not noise alone.
pub fn learned_bins(shares: &[f32]) -> usize {
    shares.partition_point(|&share| share < 1.0)
}

/// One bin's spectrum, real and imaginary part, from its log magnitude and direction.
#[inline(always)]
pub fn cartesian(log_magnitude: f32, a: f32, b: f32) -> (f32, f32) {
    let magnitude = math::exp(log_magnitude.min(MAX_LOG_MAGNITUDE));
    let gain = magnitude / (a * a + b * b + SOFT).sqrt();
    (gain * a, gain * b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_windows_sum_to_one() {
        for (window, hop) in [(24, 6), (16, 8), (1920, 480)] {
            let shape = window_shape(window, hop);
            let unscaled = (window as f32).sqrt();
            for n in 0..hop {
                let sum: f32 = shape[n..].iter().step_by(hop).sum();
                assert!((sum * unscaled - 1.0).abs() < 1e-5, "{n}: {sum}");
            }
        }
    }

    #[test]
    fn noise_fades_in_over_its_band() {
        let shares = noise_shares(1920, 48_000, [1000, 1600]);
        assert_eq!(shares.len(), 961);
        assert!(shares[..=40].iter().all(|s| *s == 0.0));
        assert!((shares[52] - 0.5).abs() < 1e-6);
        assert!(shares[63] < 1.0 && shares[64..].iter().all(|s| *s == 1.0));
    }
}
