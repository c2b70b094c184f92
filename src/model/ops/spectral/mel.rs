//! The mel filter bank.

use candle_core::{Device, Result, Tensor};

/// A band of a mel filter bank: its first bin and its weights.
pub struct Band {
    /// Index of the first bin.
    pub first: usize,
    /// Weights of the bins from there on.
    pub weights: Vec<f32>,
}

/// Triangular bands on the mel scale with area normalisation, as score.py and librosa have them.
pub fn bank(rate: u32, window: usize, bands: usize) -> Vec<Band> {
    let nyquist = f64::from(rate) / 2.0;
    let top = 2595.0 * (1.0 + nyquist / 700.0).log10();
    let edge = |i: usize| 700.0 * (10f64.powf(top * i as f64 / (bands + 1) as f64 / 2595.0) - 1.0);
    (0..bands)
        .map(|band| {
            let (low, centre, high) = (edge(band), edge(band + 1), edge(band + 2));
            let weight = |bin: usize| {
                let f = nyquist * bin as f64 / (window / 2) as f64;
                let tent = ((f - low) / (centre - low)).min((high - f) / (high - centre));
                (tent.max(0.0) * 2.0 / (high - low)) as f32
            };
            let bins = 0..window / 2 + 1;
            let first = bins.clone().find(|&b| weight(b) > 0.0).unwrap_or(0);
            let weights = bins.skip(first).map(weight).take_while(|&w| w > 0.0).collect();
            Band { first, weights }
        })
        .collect()
}

/// The bank as a matrix (bins, bands), for a window's spectra.
///
/// # Errors
/// The device fails.
pub fn matrix(bank: &[Band], window: usize, device: &Device) -> Result<Tensor> {
    let (bins, bands) = (window / 2 + 1, bank.len());
    let mut matrix = vec![0.0f32; bins * bands];
    for (column, band) in bank.iter().enumerate() {
        for (i, w) in band.weights.iter().enumerate() {
            matrix[(band.first + i) * bands + column] = *w;
        }
    }
    Tensor::from_vec(matrix, (bins, bands), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_rise_and_have_even_areas() {
        let bank = bank(48_000, 2048, 40);
        assert_eq!(bank.len(), 40);
        assert!(bank.windows(2).all(|pair| pair[0].first <= pair[1].first));
        // Area normalisation: the weights of any band, times the bins' width in Hz, sum to one.
        for band in &bank[10..] {
            let area = band.weights.iter().sum::<f32>() * 48_000.0 / 2048.0;
            assert!((area - 1.0).abs() < 0.1, "{area}");
        }
    }
}
