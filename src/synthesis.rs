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

/// Log magnitudes over the bins that are noise: one value a band, lines between them. Each bin left to
/// itself would learn nothing but its band's energy, and keep the random differences from its neighbours
/// that it began with: lines that stand still in the picture.
#[derive(Debug)]
pub struct Envelope {
    /// By bin: the band at or below it, and how far it is on the way to the next, 0..=1.
    place: Vec<(usize, f32)>,
    bands: usize,
}

impl Envelope {
    /// At most `bands` bands over `bins` bins from the bin `first`, their distance growing with
    /// frequency as the mel scale has it; a bin is `width` Hz wide.
    pub fn new(first: usize, bins: usize, bands: usize, width: f64) -> Self {
        let bands = bands.clamp(2, bins.max(2)).min(bins);
        let mel = |bin: usize| math::ln_exact(1.0 + (first + bin) as f64 * width / 700.0);
        let last = bins.saturating_sub(1);
        // Where neighbouring bins lie further apart than bands would, each bin is a band of its own.
        let single = |bin: usize| {
            mel(bin + 1) - mel(bin) >= (mel(last) - mel(bin)) / (bands - 1 - bin) as f64
        };
        let own = (0..bands.saturating_sub(1)).take_while(|&bin| single(bin)).count();
        let place = (0..bins)
            .map(|bin| {
                if bin <= own || bands < 2 {
                    return (bin, 0.0);
                }
                let share = (mel(bin) - mel(own)) / (mel(last) - mel(own));
                let at = own as f64 + share * (bands - 1 - own) as f64;
                let band = (at as usize).min(bands - 2);
                (band, (at - band as f64) as f32)
            })
            .collect();
        Self { place, bands }
    }

    /// Number of bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.place)
    }

    /// Log magnitudes of all bins from those of the bands.
    pub fn expand(&self, values: &[f32], out: &mut [f32]) {
        for (out, &(band, way)) in out.iter_mut().zip(&self.place) {
            let next = values[(band + 1).min(self.bands - 1)];
            *out = values[band] + way * (next - values[band]);
        }
    }

    /// The transpose of [`Self::expand`]; `out` is zero on entry.
    pub fn gather(&self, grad: &[f32], out: &mut [f32]) {
        for (grad, &(band, way)) in grad.iter().zip(&self.place) {
            out[band] += (1.0 - way) * grad;
            out[(band + 1).min(self.bands - 1)] += way * grad;
        }
    }
}

/// The noise of one frame: two numbers a bin, evenly distributed over -1..1 times `size`, made from the
/// frame's number alone, so that a stream sounds the same wherever it is entered.
#[inline(always)]
pub fn draw(frame: u64, size: &[f32], a: &mut [f32], b: &mut [f32]) {
    let frame = (frame as u32 ^ (frame >> 32) as u32).wrapping_mul(0x9e37_79b1);
    for (bin, ((a, b), size)) in a.iter_mut().zip(b).zip(size).enumerate() {
        // The finaliser of MurmurHash3 (Appleby) over frame and bin.
        let mut h = frame ^ (bin as u32).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^= h >> 16;
        let scale = size / 32_768.0;
        *a = scale * (f32::from(h as u16) - 32_767.5);
        *b = scale * (f32::from((h >> 16) as u16) - 32_767.5);
    }
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
    fn bands_cover_the_bins_and_widen() {
        for (first, bins, bands) in
            [(64, 897, 128), (64, 897, 2000), (0, 5, 5), (3, 4, 2), (0, 1, 9), (0, 0, 9)]
        {
            let envelope = Envelope::new(first, bins, bands, 25.0);
            assert_eq!(envelope.bands, bands.min(bins));
            let at: Vec<f32> =
                envelope.place.iter().map(|&(band, way)| band as f32 + way).collect();
            assert_eq!(at.len(), bins);
            if let (Some(low), Some(high)) = (at.first(), at.last()) {
                assert_eq!((*low, *high), (0.0, (envelope.bands - 1) as f32));
            }
            for three in at.windows(3) {
                let (d, e) = (three[1] - three[0], three[2] - three[1]);
                assert!(d > 0.0 && d <= 1.0 && e <= d + 1e-4, "{three:?}");
            }
            // A straight line stays one where each bin is its own band, and no value is left out.
            let mut reached = vec![0.0; envelope.bands];
            envelope.gather(&vec![1.0; bins], &mut reached);
            assert!(reached.iter().all(|&sum| sum > 0.0), "{reached:?}");
            let mut flat = vec![0.0; bins];
            envelope.expand(&vec![2.5; envelope.bands], &mut flat);
            assert!(flat.iter().all(|&v| v == 2.5));
        }
    }

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
