//! Correlation of the spectra's fine structure.

use super::distance::SAMPLE_RATE;
use super::spectrum::Spectrum;

/// Window in samples: 12 Hz between bins, enough to part the partials of a low voice.
pub(super) const WINDOW: usize = 4096;
/// Bins below 6 kHz: above, few sounds have partials that a listener would follow.
const TOP: usize = 6000 * WINDOW / SAMPLE_RATE as usize;
/// Bins over which the envelope is averaged.
const ENVELOPE: usize = 33;

/// The mean over frames, weighted by level, of the correlation between the two log spectra less their
/// envelopes. 0 when the reference is silent.
pub(super) fn fine_structure(spectrum: &Spectrum, x: &[f64], y: &[f64]) -> f64 {
    let (mut a, mut b) = (Detail::new(), Detail::new());
    let mut frames: Vec<(f64, f64)> = Vec::new();
    spectrum.for_each_frame(x, y, |x, y| {
        let (x, y) = (&x[..TOP], &y[..TOP]);
        let weight = dot(x, x).sqrt();
        let (a, b) = (a.of(x), b.of(y));
        frames.push((weight, dot(a, b) / (dot(a, a) * dot(b, b) + 1e-12).sqrt()));
    });
    // Frames more than 40 dB below the loudest say nothing about pitch.
    let threshold = frames.iter().fold(0.0, |max: f64, frame| max.max(frame.0)) * 1e-2;
    let (sum, weights) = frames
        .iter()
        .filter(|(weight, _)| *weight > threshold)
        .fold((0.0, 0.0), |(sum, weights), (weight, r)| (sum + weight * r, weights + weight));
    sum / (weights + 1e-12)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Takes the envelope off log spectra.
struct Detail {
    log: Vec<f64>,
    detail: Vec<f64>,
}

impl Detail {
    fn new() -> Self {
        Self { log: vec![0.0; TOP], detail: vec![0.0; TOP] }
    }

    /// The log spectrum of `magnitudes` (`TOP` of them) less its running mean, and without offset.
    fn of(&mut self, magnitudes: &[f64]) -> &[f64] {
        let loudest = magnitudes.iter().copied().fold(0.0, f64::max);
        let floor = loudest * 1e-4 + 1e-9;
        for (log, m) in self.log.iter_mut().zip(magnitudes) {
            *log = m.max(floor).log10();
        }
        // The running mean continues the first and last value outwards.
        let half = (ENVELOPE / 2) as isize;
        let at = |i: isize| self.log[i.clamp(0, TOP as isize - 1) as usize];
        let mut sum: f64 = (-half..=half).map(at).sum();
        for (i, detail) in self.detail.iter_mut().enumerate() {
            let i = i as isize;
            *detail = at(i) - sum / ENVELOPE as f64;
            sum += at(i + half + 1) - at(i - half);
        }
        let mean = self.detail.iter().sum::<f64>() / TOP as f64;
        self.detail.iter_mut().for_each(|d| *d -= mean);
        &self.detail
    }
}
