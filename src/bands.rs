//! Spectra in bands as the ear has them, for the encoder's view of loudness and for the noise that the
//! decoder makes.

use crate::math;

/// Energies below this are silence: a band of noise at about -100 dBFS.
pub const FLOOR: f32 = 1e-9;
/// A level is a natural logarithm of energy, plus this, times [`SCALE`]: usual levels lie between -1 and 1.
pub const OFFSET: f32 = 8.0;
/// See [`OFFSET`].
pub const SCALE: f32 = 0.25;

/// Bands over the bins of a spectrum, closer together at low frequencies. Between the values of two
/// neighbouring bands lie lines.
#[derive(Debug, Clone)]
pub struct Bands {
    /// By bin: the band at or below it, and how far it is on the way to the next, 0..=1.
    place: Vec<(usize, f32)>,
    count: usize,
}

impl Bands {
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
        Self { place, count: bands }
    }

    /// Number of bands.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of bins.
    pub fn bins(&self) -> usize {
        self.place.len()
    }

    /// The first bin that has the value of `band` or lies beyond it.
    pub fn bin_of(&self, band: usize) -> usize {
        self.place.partition_point(|&(own, way)| own < band && (own + 1 < band || way < 1.0))
    }

    /// By bin: the band at or below it, and how far it is on the way to the next.
    #[cfg(feature = "cuda")]
    pub fn place(&self) -> &[(usize, f32)] {
        &self.place
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.place)
    }

    /// Values of all bins from those of the bands.
    pub fn expand(&self, values: &[f32], out: &mut [f32]) {
        for (out, &(band, way)) in out.iter_mut().zip(&self.place) {
            let next = values[(band + 1).min(self.count - 1)];
            *out = values[band] + way * (next - values[band]);
        }
    }

    /// The sums over the bands of what bins have, shared out as their distances from the bands' middles
    /// tell: the transpose of [`Self::expand`]. `out` is zero on entry.
    pub fn gather(&self, values: &[f32], out: &mut [f32]) {
        for (value, &(band, way)) in values.iter().zip(&self.place) {
            out[band] += (1.0 - way) * value;
            out[(band + 1).min(self.count - 1)] += way * value;
        }
    }
}

/// The level of a band as the encoder takes it, from its energy in an orthonormal spectrum of samples
/// from -1 to 1: a logarithm, scaled so that usual levels lie between -1 and 1.
#[inline(always)]
pub fn level(energy: f32) -> f32 {
    SCALE * (math::ln(energy + FLOOR) + OFFSET)
}

/// A Hann window of `window` samples for energies: spectra behind it are orthonormal ones.
pub fn level_shape(window: usize) -> Vec<f32> {
    let scale = 1.0 / (window as f64).sqrt();
    (0..window).map(|n| (scale * math::hann(n, window)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_the_bins_and_widen() {
        for (first, bins, bands) in
            [(64, 897, 128), (64, 897, 2000), (0, 5, 5), (3, 4, 2), (0, 1, 9), (0, 0, 9)]
        {
            let all = Bands::new(first, bins, bands, 25.0);
            assert_eq!(all.count, bands.min(bins));
            let at: Vec<f32> = all.place.iter().map(|&(band, way)| band as f32 + way).collect();
            assert_eq!(at.len(), bins);
            if let (Some(low), Some(high)) = (at.first(), at.last()) {
                assert_eq!((*low, *high), (0.0, (all.count - 1) as f32));
            }
            for band in 0..all.count {
                let bin = all.bin_of(band);
                assert!(at[bin] >= band as f32 && (bin == 0 || at[bin - 1] < band as f32));
            }
            for three in at.windows(3) {
                let (d, e) = (three[1] - three[0], three[2] - three[1]);
                assert!(d > 0.0 && d <= 1.0 && e <= d + 1e-4, "{three:?}");
            }
            // A straight line stays one where each bin is its own band, and no value is left out.
            let mut reached = vec![0.0; all.count];
            all.gather(&vec![1.0; bins], &mut reached);
            assert!(reached.iter().all(|&sum| sum > 0.0), "{reached:?}");
            let mut flat = vec![0.0; bins];
            all.expand(&vec![2.5; all.count], &mut flat);
            assert!(flat.iter().all(|&v| v == 2.5));
        }
    }

    #[test]
    fn levels_are_of_a_size() {
        assert!((level(0.0) + 3.18).abs() < 0.01);
        assert!(level(1e-4).abs() < 0.4 && level(100.0) < 3.2);
    }
}
