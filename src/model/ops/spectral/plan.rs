//! One resolution of the loss: a signal's frames, forward and backward.

use std::f32::consts::LN_10;
use std::sync::Arc;

use candle_core::Result;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::super::stft::hann;
use super::mel::{self, Band};
use super::terms::{
    FLOOR, Spectra, StftWeights, complex_terms, compressed, join, magnitude_terms, split,
    through_magnitude,
};
use super::{Resolution, SpectralTerms, SpectralWeights};
use crate::math;

/// One resolution, planned.
pub struct Plan {
    /// What is planned.
    pub resolution: Resolution,
    /// The window.
    pub window: Vec<f32>,
    /// 1 / sum of the window: a full-scale tone has magnitude one half in the complex term.
    pub scale: f32,
    /// The mel bank; may be empty.
    pub bands: Vec<Band>,
    /// Bins that the complex term looks at.
    pub complex_bins: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// On a GPU.
    #[cfg(feature = "cuda")]
    pub tables: super::super::cuda::Once<super::cuda::Tables>,
}

impl Plan {
    /// Plans a resolution for signals of `rate` samples a second; the complex term ends at
    /// `complex_top` Hz.
    ///
    /// # Errors
    /// An odd or empty window or a hop of zero.
    pub fn new(
        rate: u32,
        resolution: Resolution,
        complex_top: f64,
        planner: &mut FftPlanner<f32>,
    ) -> Result<Self> {
        let n = resolution.window;
        if n < 4 || !n.is_multiple_of(2) || resolution.hop == 0 || n > 1 << 16 {
            candle_core::bail!("spectral loss: window {n}, hop {} cannot be", resolution.hop);
        }
        let window = hann(n);
        Ok(Self {
            resolution,
            scale: 1.0 / window.iter().sum::<f32>(),
            window,
            bands: mel::bank(rate, n, resolution.mel_bands),
            complex_bins: ((complex_top * n as f64 / f64::from(rate)) as usize + 1).min(n / 2 + 1),
            forward: planner.plan_fft_forward(n),
            inverse: planner.plan_fft_inverse(n),
            #[cfg(feature = "cuda")]
            tables: super::super::cuda::Once::new(),
        })
    }

    /// Frames that fit wholly into a signal.
    pub fn frame_count(&self, samples: usize) -> usize {
        if samples < self.resolution.window {
            return 0;
        }
        (samples - self.resolution.window) / self.resolution.hop + 1
    }

    /// Sum over frames and bins of the compressed magnitudes of a signal.
    pub fn size(&self, y: &[f32], power: f64) -> f64 {
        let frames = self.frame_count(y.len());
        let n = self.resolution.window;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.forward.get_inplace_scratch_len()];
        let mut spectra = Spectra::new(n / 2 + 1);
        let mut sum = 0.0;
        for first in (0..frames).step_by(2) {
            let a = &y[first * self.resolution.hop..][..n];
            // The second of an odd pair is silence, which adds what the softening makes of it: nothing.
            let b =
                if first + 1 < frames { &y[(first + 1) * self.resolution.hop..][..n] } else { &[] };
            for (i, (z, w)) in buffer.iter_mut().zip(&self.window).enumerate() {
                *z = Complex32::new(a[i] * w, b.get(i).map_or(0.0, |b| b * w));
            }
            self.forward.process_with_scratch(&mut buffer, &mut scratch);
            split(&buffer, &mut spectra);
            sum += f64::from(compressed(&spectra, self.complex_bins, power as f32, self.scale));
        }
        sum
    }

    /// Terms of one signal as means over its frames; adds the weighted gradient, times `share`, to
    /// `grad`. `size` is what the complex distance is relative to.
    pub fn item(
        &self,
        x: &[f32],
        y: &[f32],
        weights: &SpectralWeights,
        share: f32,
        size: f32,
        grad: &mut [f32],
    ) -> SpectralTerms {
        let (n, hop) = (self.resolution.window, self.resolution.hop);
        let (bins, frames) = (n / 2 + 1, self.frame_count(x.len()));
        let mut terms = SpectralTerms::default();
        if frames == 0 {
            return terms;
        }
        let mut buffer = vec![Complex32::default(); n];
        let scratch_len =
            self.forward.get_inplace_scratch_len().max(self.inverse.get_inplace_scratch_len());
        let mut scratch = vec![Complex32::default(); scratch_len];
        let mut spectra = Spectra::new(bins);
        // Gradients of two frames, which share an inverse transform.
        let mut pair =
            [(vec![0.0f32; bins], vec![0.0f32; bins]), (vec![0.0; bins], vec![0.0; bins])];
        let stft_share = share / (frames * bins) as f32;
        let complex_share = share / (frames * self.complex_bins) as f32;
        let stft_weights = StftWeights {
            log: weights.log as f32 * stft_share * 2.0 / LN_10,
            linear: weights.linear as f32 * stft_share,
            complex: weights.complex as f32 * complex_share * self.scale / size,
            power: weights.power as f32,
            scale: self.scale,
        };
        let mel_share =
            weights.mel as f32 * share / (frames * self.bands.len().max(1)) as f32 / LN_10;
        for first in (0..frames).step_by(2) {
            let count = (frames - first).min(2);
            for (i, (gr, gi)) in pair.iter_mut().enumerate().take(count) {
                let at = (first + i) * hop;
                for (((z, w), x), y) in
                    buffer.iter_mut().zip(&self.window).zip(&x[at..]).zip(&y[at..])
                {
                    *z = Complex32::new(x * w, y * w);
                }
                self.forward.process_with_scratch(&mut buffer, &mut scratch);
                split(&buffer, &mut spectra);
                gr.fill(0.0);
                gi.fill(0.0);
                if self.resolution.stft && (weights.log > 0.0 || weights.linear > 0.0) {
                    let [log, linear] = magnitude_terms(&spectra, &stft_weights, gr, gi);
                    terms.log += f64::from(log);
                    terms.linear += f64::from(linear);
                }
                if self.resolution.stft && weights.complex > 0.0 {
                    let top = self.complex_bins;
                    let (gr, gi) = (&mut gr[..top], &mut gi[..top]);
                    terms.complex += f64::from(complex_terms(&spectra, &stft_weights, gr, gi));
                }
                if !self.bands.is_empty() {
                    spectra.d_magnitude.fill(0.0);
                    terms.mel += f64::from(self.mel_terms(&mut spectra, mel_share));
                    through_magnitude(&spectra, gr, gi);
                }
            }
            let (a, b) = pair.split_at(1);
            join(&a[0], if count == 2 { Some(&b[0]) } else { None }, &mut buffer);
            self.inverse.process_with_scratch(&mut buffer, &mut scratch);
            for i in 0..count {
                let at = (first + i) * hop;
                for ((g, w), z) in grad[at..].iter_mut().zip(&self.window).zip(&buffer) {
                    *g += w * if i == 0 { z.re } else { z.im };
                }
            }
        }
        let stft = 1.0 / (frames * bins) as f64;
        SpectralTerms {
            mel: terms.mel / (frames * self.bands.len().max(1)) as f64,
            log: terms.log * stft * 2.0 / f64::from(LN_10),
            linear: terms.linear * stft,
            complex: terms.complex / (frames * self.complex_bins) as f64 / f64::from(size),
        }
    }

    /// Sum of the log-mel distances of a frame, its gradient into `d_magnitude`.
    fn mel_terms(&self, spectra: &mut Spectra, share: f32) -> f32 {
        let mut sum = 0.0;
        for band in &self.bands {
            let bins = band.first..band.first + band.weights.len();
            let (mut a, mut b) = (0.0f32, 0.0f32);
            for ((w, x), y) in
                band.weights.iter().zip(&spectra.x[bins.clone()]).zip(&spectra.y[bins.clone()])
            {
                a += w * x;
                b += w * y;
            }
            let difference = math::ln(a.max(FLOOR)) - math::ln(b.max(FLOOR));
            sum += difference.abs();
            if a > FLOOR {
                let g = share * difference.signum() / a;
                for (d, w) in spectra.d_magnitude[bins].iter_mut().zip(&band.weights) {
                    *d += g * w;
                }
            }
        }
        sum / LN_10
    }
}
