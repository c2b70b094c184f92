//! Magnitude spectra of two signals at once.

use std::f64::consts::TAU;
use std::sync::Arc;

use rustfft::{Fft, FftPlanner, num_complex::Complex};

/// A Hann window of `size` samples with a hop of a quarter of it, planned once.
///
/// Frames are centred: frame `t` covers the samples around `t * hop`, and the signal is continued by
/// reflection at both ends, so there are `len / hop + 1` frames.
pub(super) struct Spectrum {
    size: usize,
    window: Vec<f64>,
    fft: Arc<dyn Fft<f64>>,
}

impl Spectrum {
    /// Plans windows of `size` samples; `size` is even and at least 4.
    pub(super) fn new(size: usize, planner: &mut FftPlanner<f64>) -> Self {
        // The periodic Hann window, as scipy.signal.get_window("hann", size) gives it.
        let window = (0..size).map(|i| 0.5 - 0.5 * (TAU * i as f64 / size as f64).cos()).collect();
        Self { size, window, fft: planner.plan_fft_forward(size) }
    }

    /// Samples in a window.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Bins of a magnitude spectrum, 0 Hz and the Nyquist frequency included.
    pub(super) fn bins(&self) -> usize {
        self.size / 2 + 1
    }

    /// Calls `frame` with the magnitudes (`bins` each) of both signals, frame by frame.
    ///
    /// `x` and `y` are of the same length, at least 1. One complex transform of `x + iy` yields both
    /// spectra; in f64 the leakage between them is 1e-16 of the louder, far below every floor that
    /// the metrics apply.
    pub(super) fn for_each_frame(
        &self,
        x: &[f64],
        y: &[f64],
        mut frame: impl FnMut(&[f64], &[f64]),
    ) {
        let (size, hop) = (self.size, self.size / 4);
        let mut buffer = vec![Complex::default(); size];
        let mut scratch = vec![Complex::default(); self.fft.get_inplace_scratch_len()];
        let (mut left, mut right) = (vec![0.0; self.bins()], vec![0.0; self.bins()]);
        for t in 0..=x.len() / hop {
            let start = (t * hop) as isize - (size / 2) as isize;
            match usize::try_from(start) {
                Ok(from) if from + size <= x.len() => {
                    let pairs = x[from..from + size].iter().zip(&y[from..from + size]);
                    for ((slot, (&a, &b)), &w) in buffer.iter_mut().zip(pairs).zip(&self.window) {
                        *slot = Complex::new(a * w, b * w);
                    }
                }
                _ => {
                    for (i, (slot, &w)) in buffer.iter_mut().zip(&self.window).enumerate() {
                        let at = reflect(start + i as isize, x.len());
                        *slot = Complex::new(x[at] * w, y[at] * w);
                    }
                }
            }
            self.fft.process_with_scratch(&mut buffer, &mut scratch);
            for k in 0..self.bins() {
                let (z, mirrored) = (buffer[k], buffer[(size - k) % size].conj());
                left[k] = 0.5 * (z + mirrored).norm_sqr().sqrt();
                right[k] = 0.5 * (z - mirrored).norm_sqr().sqrt();
            }
            frame(&left, &right);
        }
    }
}

/// The sample that stands at `index` when a signal of `len` samples is mirrored about its first and
/// last sample, as often as needed (numpy's `pad(mode="reflect")`).
fn reflect(index: isize, len: usize) -> usize {
    if len < 2 {
        return 0;
    }
    let last = len - 1;
    let at = index.rem_euclid(2 * last as isize) as usize;
    if at > last { 2 * last - at } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_repeats() {
        let at: Vec<usize> = (-5..8).map(|i| reflect(i, 3)).collect();
        // numpy.pad(numpy.arange(3), (5, 5), mode="reflect")
        assert_eq!(at, [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]);
        assert_eq!(reflect(-4, 1), 0);
    }

    #[test]
    fn both_spectra_come_out_of_one_transform() {
        let spectrum = Spectrum::new(64, &mut FftPlanner::new());
        let tone = |bin: f64, level: f64| -> Vec<f64> {
            (0..256).map(|n| level * (TAU * bin * n as f64 / 64.0).sin()).collect()
        };
        let mut frames = 0;
        spectrum.for_each_frame(&tone(5.0, 1.0), &tone(12.0, 1e-6), |x, y| {
            frames += 1;
            // Frames at the ends see the reflected tone, whose phase jumps.
            if (3..15).contains(&frames) {
                assert!((x[5] - 16.0).abs() < 1e-9, "{}", x[5]);
                assert!((y[12] - 16e-6).abs() < 1e-12, "{}", y[12]);
                assert!(x[12] < 1e-12 && y[5] < 1e-12);
            }
        });
        assert_eq!(frames, 256 / 16 + 1);
    }
}
