//! Triangular mel filters.

use super::distance::SAMPLE_RATE;

/// `bands` triangles spaced evenly on O'Shaughnessy's mel scale (`2595 log10(1 + f / 700)`) from 0 Hz
/// to the Nyquist frequency, each of unit area in Hz (Slaney's normalisation).
pub(super) struct MelBank {
    /// Of every band the first bin that counts and the weights from there on.
    bands: Vec<(usize, Vec<f64>)>,
}

impl MelBank {
    /// Filters for the spectra of a window of `size` samples.
    pub(super) fn new(size: usize, bands: usize) -> Self {
        let nyquist = f64::from(SAMPLE_RATE) / 2.0;
        let top = 2595.0 * (1.0 + nyquist / 700.0).log10();
        let edge =
            |i: usize| 700.0 * (10f64.powf(top * i as f64 / (bands + 1) as f64 / 2595.0) - 1.0);
        let hertz = |bin: usize| nyquist * bin as f64 / (size / 2) as f64;
        let bands = (0..bands)
            .map(|band| {
                let (low, centre, high) = (edge(band), edge(band + 1), edge(band + 2));
                let weight = |bin: usize| {
                    let up = (hertz(bin) - low) / (centre - low);
                    let down = (high - hertz(bin)) / (high - centre);
                    up.min(down).max(0.0) * 2.0 / (high - low)
                };
                // A narrow band may lie between two bins and have no weights at all.
                let first = (0..=size / 2).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
                let weights = (first..=size / 2).map(weight).take_while(|&w| w > 0.0).collect();
                (first, weights)
            })
            .collect();
        Self { bands }
    }

    /// Number of bands.
    pub(super) fn len(&self) -> usize {
        self.bands.len()
    }

    /// The energy of each band of the magnitudes, low to high.
    pub(super) fn apply<'a>(&'a self, magnitudes: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.bands.iter().map(|(first, weights)| {
            magnitudes[*first..].iter().zip(weights).map(|(m, w)| m * w).sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_spectrum_gives_bands_of_equal_height() {
        // Unit area: bin spacing times the sum of the weights approaches 1 where bins are dense.
        let bank = MelBank::new(2048, 40);
        let spacing = 48_000.0 / 2048.0;
        let flat = vec![spacing; 1025];
        assert_eq!(bank.len(), 40);
        for (band, height) in bank.apply(&flat).enumerate().skip(8) {
            assert!((height - 1.0).abs() < 0.02, "band {band}: {height}");
        }
    }
}
