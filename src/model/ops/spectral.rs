//! The multi-resolution spectral loss: log-mel, STFT and phase-aware distances in one pass.
//!
//! The loss and its gradient in the samples are computed together, frame by frame, so that nothing but
//! the gradient has to be kept; autodiff sees one operation.

use std::f32::consts::{LN_10, PI};
use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};
use serde::{Deserialize, Serialize};

use super::values;
use crate::math;

/// Magnitudes below this are as good as silence to the logarithmic terms (as in the DAC paper).
const FLOOR: f32 = 1e-5;
/// Keeps the gradient of a magnitude finite at zero; 140 dB below full scale.
const TINY: f32 = 1e-14;
/// Power, relative to a full-scale tone, below which the compressed spectrum becomes linear, so that its
/// gradient stays bounded: 90 dB down.
const SOFT: f32 = 1e-9;
/// Sums run in this many interleaved lanes: vector code, and the same order on every machine.
const LANES: usize = 16;
/// Least mean magnitude that the complex distance is taken relative to: silence is not blown up.
const LEAST: f32 = 1e-3;

/// One STFT of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// Window (Hann) and FFT length in samples; even.
    pub window: usize,
    /// Samples between frames.
    pub hop: usize,
    /// Bands of the log-mel distance at this window; 0 for none.
    #[serde(default)]
    pub mel_bands: usize,
    /// Whether the STFT terms (`log`, `linear`, `complex`) are taken at this window.
    #[serde(default)]
    pub stft: bool,
    /// What this resolution counts for among the others.
    #[serde(default = "one")]
    pub gain: f64,
}

fn one() -> f64 {
    1.0
}

/// What each term counts for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpectralWeights {
    /// L1 of log10 mel magnitudes, summed over the resolutions that have bands (Kumar et al. 2023).
    pub mel: f64,
    /// L1 of log10 powers, summed over the STFT resolutions.
    pub log: f64,
    /// L1 of magnitudes, summed over the STFT resolutions.
    pub linear: f64,
    /// Distance of the compressed complex spectra, relative to the mean magnitude of the batch's
    /// targets, summed over the STFT resolutions: it sees phase.
    pub complex: f64,
    /// Power to which the complex term's magnitudes are compressed, 0..=1; 1 is plain.
    pub power: f64,
    /// Highest frequency of the complex term in Hz: at a few kbps the phase of anything above a few kHz
    /// cannot be coded, and asking for it only takes energy away.
    pub complex_top: f64,
}

impl Default for SpectralWeights {
    fn default() -> Self {
        Self { mel: 1.0, log: 0.0, linear: 0.0, complex: 1.0, power: 0.5, complex_top: 24_000.0 }
    }
}

/// The terms of a loss before weighting, as means over the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SpectralTerms {
    /// See [`SpectralWeights::mel`].
    pub mel: f64,
    /// See [`SpectralWeights::log`].
    pub log: f64,
    /// See [`SpectralWeights::linear`].
    pub linear: f64,
    /// See [`SpectralWeights::complex`].
    pub complex: f64,
}

impl SpectralTerms {
    /// The weighted sum.
    pub fn total(&self, weights: &SpectralWeights) -> f64 {
        self.mel * weights.mel
            + self.log * weights.log
            + self.linear * weights.linear
            + self.complex * weights.complex
    }

    /// Adds `gain` times another.
    pub fn add(&mut self, other: &Self, gain: f64) {
        self.mel += gain * other.mel;
        self.log += gain * other.log;
        self.linear += gain * other.linear;
        self.complex += gain * other.complex;
    }
}

/// A band of a mel filter bank: its first bin and its weights.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

struct Plan {
    resolution: Resolution,
    window: Vec<f32>,
    /// 1 / sum of the window: a full-scale tone has magnitude one half in the complex term.
    scale: f32,
    bands: Vec<Band>,
    /// Bins that the complex term looks at.
    complex_bins: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

/// The loss, planned for a set of resolutions.
#[derive(Clone)]
pub struct SpectralLoss {
    plans: Arc<Vec<Plan>>,
    weights: SpectralWeights,
}

/// Triangular bands on the mel scale with area normalisation, as score.py and librosa have them.
fn mel_bank(rate: u32, window: usize, bands: usize) -> Vec<Band> {
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

impl SpectralLoss {
    /// Plans the loss for signals of `rate` samples a second.
    ///
    /// # Errors
    /// A resolution with an odd or empty window or a hop of zero.
    pub fn new(rate: u32, resolutions: &[Resolution], weights: SpectralWeights) -> Result<Self> {
        let mut planner = FftPlanner::new();
        let mut plans = Vec::new();
        for &resolution in resolutions {
            let n = resolution.window;
            if n < 4 || n % 2 != 0 || resolution.hop == 0 || n > 1 << 16 {
                candle_core::bail!("spectral loss: window {n}, hop {} cannot be", resolution.hop);
            }
            let window: Vec<f32> =
                (0..n).map(|i| 0.5 - 0.5 * (2.0 * PI * i as f32 / n as f32).cos()).collect();
            plans.push(Plan {
                resolution,
                scale: 1.0 / window.iter().sum::<f32>(),
                window,
                bands: mel_bank(rate, n, resolution.mel_bands),
                complex_bins: ((weights.complex_top * n as f64 / f64::from(rate)) as usize + 1)
                    .min(n / 2 + 1),
                forward: planner.plan_fft_forward(n),
                inverse: planner.plan_fft_inverse(n),
            });
        }
        Ok(Self { plans: Arc::new(plans), weights })
    }

    /// Distance of `prediction` from `target`, both (batch, samples), as a scalar tensor through which
    /// gradients flow into `prediction`, and its terms. Frames that do not fit wholly are left out.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn forward(&self, prediction: &Tensor, target: &Tensor) -> Result<(Tensor, SpectralTerms)> {
        if prediction.dims() != target.dims() {
            candle_core::bail!(
                "spectral loss: prediction {:?} against target {:?}",
                prediction.dims(),
                target.dims()
            );
        }
        if !prediction.device().is_cpu() {
            return self.reference(prediction, target);
        }
        let terms = Arc::new(Mutex::new(SpectralTerms::default()));
        let op = Forward {
            loss: self.clone(),
            target: super::host(target)?,
            terms: terms.clone(),
            gradient: Mutex::new(Vec::new()),
        };
        let loss = prediction.contiguous()?.apply_op1(op)?;
        let terms = *lock(&terms);
        Ok((loss, terms))
    }

    /// The same out of candle's operations, with matrix products for the transforms.
    fn reference(&self, prediction: &Tensor, target: &Tensor) -> Result<(Tensor, SpectralTerms)> {
        let device = prediction.device();
        let w = &self.weights;
        let mut total = Tensor::zeros((), prediction.dtype(), device)?;
        let mut terms = SpectralTerms::default();
        let scalar = |t: &Tensor| -> Result<f64> {
            Ok(f64::from(t.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?))
        };
        for plan in self.plans.iter() {
            let (n, gain) = (plan.resolution.window, plan.resolution.gain);
            if prediction.dim(1)? < n {
                continue;
            }
            let (cosines, sines) = plan.basis(device)?;
            let spectrum = |x: &Tensor| -> Result<(Tensor, Tensor, Tensor)> {
                let frames = plan.frames(x)?;
                let (re, im) = (frames.matmul(&cosines)?, frames.matmul(&sines)?);
                let magnitude = ((re.sqr()? + im.sqr()?)? + f64::from(TINY))?.sqrt()?;
                Ok((re, im, magnitude))
            };
            let (xr, xi, xm) = spectrum(prediction)?;
            let (yr, yi, ym) = spectrum(&target.detach())?;
            let log10 = |t: &Tensor| t.maximum(f64::from(FLOOR))?.log()? / f64::from(LN_10);
            if plan.resolution.mel_bands > 0 {
                let bank = plan.dense_bank(device)?;
                let mel =
                    (log10(&xm.matmul(&bank)?)? - log10(&ym.matmul(&bank)?)?)?.abs()?.mean_all()?;
                terms.mel += gain * scalar(&mel)?;
                total = (total + (mel * (w.mel * gain))?)?;
            }
            if plan.resolution.stft {
                let log = ((log10(&xm)? - log10(&ym)?)?.abs()?.mean_all()? * 2.0)?;
                let linear = (&xm - &ym)?.abs()?.mean_all()?;
                let top = plan.complex_bins;
                let compress = |re: &Tensor, im: &Tensor| -> Result<(Tensor, Tensor)> {
                    let re = (re.narrow(1, 0, top)? * f64::from(plan.scale))?;
                    let im = (im.narrow(1, 0, top)? * f64::from(plan.scale))?;
                    let power = ((re.sqr()? + im.sqr()?)? + f64::from(SOFT))?;
                    let gain = (power.log()? * ((w.power - 1.0) / 2.0))?.exp()?;
                    Ok(((&re * &gain)?, (&im * &gain)?))
                };
                let ((ar, ai), (br, bi)) = (compress(&xr, &xi)?, compress(&yr, &yi)?);
                let distance =
                    (((ar - &br)?.sqr()? + (ai - &bi)?.sqr()?)? + f64::from(SOFT))?.sqrt()?;
                let size = (br.sqr()? + bi.sqr()?)?.sqrt()?.mean_all()?;
                let complex = (distance.mean_all()? / size.maximum(f64::from(LEAST))?)?;
                if w.log > 0.0 || w.linear > 0.0 {
                    terms.log += gain * scalar(&log)?;
                    terms.linear += gain * scalar(&linear)?;
                    let log = (log * (w.log * gain))?;
                    total = (total + log + (linear * (w.linear * gain))?)?;
                }
                if w.complex > 0.0 {
                    terms.complex += gain * scalar(&complex)?;
                    total = (total + (complex * (w.complex * gain))?)?;
                }
            }
        }
        Ok((total, terms))
    }
}

/// A lock that is only ever held for a copy cannot be poisoned in a way that matters.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Plan {
    fn frame_count(&self, samples: usize) -> usize {
        if samples < self.resolution.window {
            return 0;
        }
        (samples - self.resolution.window) / self.resolution.hop + 1
    }

    /// Windowed frames, (batch * frames, window).
    fn frames(&self, x: &Tensor) -> Result<Tensor> {
        let (n, hop) = (self.resolution.window, self.resolution.hop);
        let count = self.frame_count(x.dim(1)?);
        let window = Tensor::from_slice(&self.window, n, x.device())?;
        let frames = (0..count).map(|t| x.narrow(1, t * hop, n)).collect::<Result<Vec<_>>>()?;
        Tensor::stack(&frames, 1)?.broadcast_mul(&window)?.reshape(((), n))
    }

    fn basis(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let (n, bins) = (self.resolution.window, self.resolution.window / 2 + 1);
        let table: Vec<(f64, f64)> =
            (0..n).map(|i| (2.0 * std::f64::consts::PI * i as f64 / n as f64).sin_cos()).collect();
        let mut cosines = vec![0.0f32; n * bins];
        let mut sines = vec![0.0f32; n * bins];
        for i in 0..n {
            for k in 0..bins {
                let (s, c) = table[(i * k) % n];
                cosines[i * bins + k] = c as f32;
                sines[i * bins + k] = -s as f32;
            }
        }
        Ok((
            Tensor::from_vec(cosines, (n, bins), device)?,
            Tensor::from_vec(sines, (n, bins), device)?,
        ))
    }

    fn dense_bank(&self, device: &Device) -> Result<Tensor> {
        let (bins, bands) = (self.resolution.window / 2 + 1, self.bands.len());
        let mut bank = vec![0.0f32; bins * bands];
        for (column, band) in self.bands.iter().enumerate() {
            for (i, w) in band.weights.iter().enumerate() {
                bank[(band.first + i) * bands + column] = *w;
            }
        }
        Tensor::from_vec(bank, (bins, bands), device)
    }

    /// Sum over frames and bins of the compressed magnitudes of a signal.
    fn size(&self, y: &[f32], power: f64) -> f64 {
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
    fn item(
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

/// Spectra of one frame of both signals, and room for the gradient of the prediction's magnitude.
struct Spectra {
    xr: Vec<f32>,
    xi: Vec<f32>,
    yr: Vec<f32>,
    yi: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
    d_magnitude: Vec<f32>,
}

impl Spectra {
    fn new(bins: usize) -> Self {
        let zeros = || vec![0.0; bins];
        Self {
            xr: zeros(),
            xi: zeros(),
            yr: zeros(),
            yi: zeros(),
            x: zeros(),
            y: zeros(),
            d_magnitude: zeros(),
        }
    }
}

struct StftWeights {
    log: f32,
    linear: f32,
    complex: f32,
    power: f32,
    scale: f32,
}

/// Separates the transform of `x + iy` into those of x and y, with magnitudes.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn split(buffer: &[Complex32], s: &mut Spectra) {
    let n = buffer.len();
    let bins = s.xr.len();
    for k in 0..bins {
        let (z, m) = (buffer[k], buffer[(n - k) % n]);
        s.xr[k] = 0.5 * (z.re + m.re);
        s.xi[k] = 0.5 * (z.im - m.im);
        s.yr[k] = 0.5 * (z.im + m.im);
        s.yi[k] = 0.5 * (m.re - z.re);
    }
    for (m, (re, im)) in s.x.iter_mut().zip(s.xr.iter().zip(&s.xi)) {
        *m = (re * re + im * im + TINY).sqrt();
    }
    for (m, (re, im)) in s.y.iter_mut().zip(s.yr.iter().zip(&s.yi)) {
        *m = (re * re + im * im + TINY).sqrt();
    }
}

/// Sum of the compressed magnitudes of both spectra of a pair.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn compressed(s: &Spectra, bins: usize, power: f32, scale: f32) -> f32 {
    let mut sum = [0.0f32; LANES];
    let exponent = (power - 1.0) / 2.0;
    for magnitudes in [&s.x, &s.y] {
        for (k, m) in magnitudes[..bins].iter().enumerate() {
            let m = m * scale;
            sum[k % LANES] += m * math::exp(exponent * math::ln(m * m + SOFT));
        }
    }
    sum.iter().sum()
}

/// The spectrum whose inverse transform holds one gradient frame in its real part, the other in its
/// imaginary part.
fn join(a: &(Vec<f32>, Vec<f32>), b: Option<&(Vec<f32>, Vec<f32>)>, buffer: &mut [Complex32]) {
    let n = buffer.len();
    let last = n / 2;
    for k in 0..=last {
        // The real part of a one-sided sum: halves on both sides, the ends alone.
        let half = if k == 0 || k == last { 1.0 } else { 0.5 };
        let keep = if k == 0 || k == last { 0.0 } else { half };
        let (ar, ai) = (a.0[k] * half, a.1[k] * keep);
        let (br, bi) = b.map_or((0.0, 0.0), |b| (b.0[k] * half, b.1[k] * keep));
        buffer[k] = Complex32::new(ar - bi, ai + br);
        if k != 0 && k != last {
            buffer[n - k] = Complex32::new(ar + bi, br - ai);
        }
    }
}

/// Sums of the log and linear distances over bins; adds their gradient.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn magnitude_terms(s: &Spectra, w: &StftWeights, gr: &mut [f32], gi: &mut [f32]) -> [f32; 2] {
    let mut sums = [[0.0f32; LANES]; 2];
    let bins = gr.len();
    let (xr, xi, gi) = (&s.xr[..bins], &s.xi[..bins], &mut gi[..bins]);
    let (x, y) = (&s.x[..bins], &s.y[..bins]);
    for k in 0..bins {
        let difference = math::ln(x[k].max(FLOOR)) - math::ln(y[k].max(FLOOR));
        sums[0][k % LANES] += difference.abs();
        sums[1][k % LANES] += (x[k] - y[k]).abs();
        let open = if x[k] > FLOOR { w.log / x[k] } else { 0.0 };
        let along = (open.copysign(difference) + w.linear.copysign(x[k] - y[k])) / x[k];
        gr[k] += along * xr[k];
        gi[k] += along * xi[k];
    }
    [sums[0].iter().sum(), sums[1].iter().sum()]
}

/// Sum of the distances of the compressed complex spectra over as many bins as `gr` has; adds its
/// gradient.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn complex_terms(s: &Spectra, w: &StftWeights, gr: &mut [f32], gi: &mut [f32]) -> f32 {
    let mut sum = [0.0f32; LANES];
    let bins = gr.len();
    let exponent = (w.power - 1.0) / 2.0;
    let (xr, xi, gi) = (&s.xr[..bins], &s.xi[..bins], &mut gi[..bins]);
    let (yr, yi) = (&s.yr[..bins], &s.yi[..bins]);
    for k in 0..bins {
        let (ar, ai) = (xr[k] * w.scale, xi[k] * w.scale);
        let (br, bi) = (yr[k] * w.scale, yi[k] * w.scale);
        let a_power = ar * ar + ai * ai + SOFT;
        let a_gain = math::exp(exponent * math::ln(a_power));
        let b_gain = math::exp(exponent * math::ln(br * br + bi * bi + SOFT));
        let (dr, di) = (ar * a_gain - br * b_gain, ai * a_gain - bi * b_gain);
        let distance = (dr * dr + di * di + SOFT).sqrt();
        sum[k % LANES] += distance;
        let inverse = 1.0 / distance;
        let (ur, ui) = (dr * inverse, di * inverse);
        let radial = (w.power - 1.0) * a_gain / a_power * (ar * ur + ai * ui);
        gr[k] += w.complex * (a_gain * ur + radial * ar);
        gi[k] += w.complex * (a_gain * ui + radial * ai);
    }
    sum.iter().sum()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn through_magnitude(s: &Spectra, gr: &mut [f32], gi: &mut [f32]) {
    for k in 0..gr.len() {
        let along = s.d_magnitude[k] / s.x[k];
        gr[k] += along * s.xr[k];
        gi[k] += along * s.xi[k];
    }
}

struct Forward {
    loss: SpectralLoss,
    target: Vec<f32>,
    terms: Arc<Mutex<SpectralTerms>>,
    gradient: Mutex<Vec<f32>>,
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "spectral-loss"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, samples) = layout.shape().dims2()?;
        let x = values(x, layout)?;
        let mut gradient = vec![0.0; x.len()];
        let share = 1.0 / batch.max(1) as f32;
        let item = samples.max(1);
        // What each plan's complex distance is relative to: the mean over the whole batch.
        let sizes: Vec<f32> = self
            .loss
            .plans
            .iter()
            .map(|plan| {
                let power = self.loss.weights.power;
                if !plan.resolution.stft || self.loss.weights.complex == 0.0 {
                    return 1.0;
                }
                let sums: Vec<f64> =
                    self.target.par_chunks(item).map(|y| plan.size(y, power)).collect();
                let count = batch * plan.frame_count(samples) * plan.complex_bins;
                ((sums.iter().sum::<f64>() / count.max(1) as f64) as f32).max(LEAST)
            })
            .collect();
        let parts: Vec<SpectralTerms> = gradient
            .par_chunks_mut(item)
            .zip(x.par_chunks(item).zip(self.target.par_chunks(item)))
            .map(|(grad, (x, y))| {
                let mut terms = SpectralTerms::default();
                for (plan, &size) in self.loss.plans.iter().zip(&sizes) {
                    let gain = plan.resolution.gain;
                    let item_share = share * gain as f32;
                    let part = plan.item(x, y, &self.loss.weights, item_share, size, grad);
                    terms.add(&part, gain);
                }
                terms
            })
            .collect();
        let mut terms = SpectralTerms::default();
        parts.iter().for_each(|part| terms.add(part, 1.0 / batch.max(1) as f64));
        *lock(&self.terms) = terms;
        *lock(&self.gradient) = gradient;
        Ok((CpuStorage::F32(vec![terms.total(&self.loss.weights) as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let gradient = std::mem::take(&mut *lock(&self.gradient));
        let scale = f64::from(grad.to_scalar::<f32>()?);
        Ok(Some((Tensor::from_vec(gradient, x.shape(), x.device())? * scale)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn loss(weights: SpectralWeights) -> SpectralLoss {
        let resolutions = [
            Resolution { window: 32, hop: 8, mel_bands: 6, stft: true, gain: 1.0 },
            Resolution { window: 64, hop: 20, mel_bands: 0, stft: true, gain: 0.5 },
            Resolution { window: 16, hop: 4, mel_bands: 4, stft: false, gain: 2.0 },
        ];
        SpectralLoss::new(48_000, &resolutions, weights).unwrap()
    }

    const ONE_BY_ONE: [SpectralWeights; 5] = [
        SpectralWeights {
            mel: 1.0,
            log: 0.0,
            linear: 0.0,
            complex: 0.0,
            power: 1.0,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 0.0,
            log: 1.0,
            linear: 0.0,
            complex: 0.0,
            power: 1.0,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 0.0,
            log: 0.0,
            linear: 1.0,
            complex: 0.0,
            power: 1.0,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 0.0,
            log: 0.0,
            linear: 0.0,
            complex: 1.0,
            power: 0.4,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 1.0,
            log: 0.3,
            linear: 0.2,
            complex: 2.0,
            power: 0.5,
            complex_top: 15_000.0,
        },
    ];

    #[test]
    fn matches_candle_in_value_and_gradient() {
        for weights in ONE_BY_ONE {
            let loss = loss(weights);
            let x = candle_core::Var::from_tensor(&check::random(1, &[3, 150])).unwrap();
            let y = check::random(2, &[3, 150]);
            let (a, a_terms) = loss.forward(x.as_tensor(), &y).unwrap();
            let (b, b_terms) = loss.reference(x.as_tensor(), &y).unwrap();
            check::close(&a, &b, 1e-4);
            assert!((a_terms.total(&weights) - b_terms.total(&weights)).abs() < 1e-4);
            let a_grads = a.backward().unwrap();
            let b_grads = b.backward().unwrap();
            let (ga, gb) = (a_grads.get(&x).unwrap(), b_grads.get(&x).unwrap());
            check::close(&(ga * 100.0).unwrap(), &(gb * 100.0).unwrap(), 5e-3);
        }
    }

    #[test]
    fn gradient_is_the_slope() {
        let y = check::random(2, &[2, 150]);
        let weights = SpectralWeights {
            mel: 0.0,
            log: 0.0,
            linear: 0.0,
            complex: 50.0,
            power: 0.5,
            complex_top: 15_000.0,
        };
        let loss = loss(weights);
        check::gradients(|t| Ok(loss.forward(&t[0], &y)?.0), &[check::random(1, &[2, 150])], 2e-2);
    }

    #[test]
    fn equal_signals_have_no_distance() {
        let x = check::random(1, &[2, 150]);
        let (_, terms) = loss(SpectralWeights::default()).forward(&x, &x).unwrap();
        assert!(terms.mel < 1e-6 && terms.log < 1e-6 && terms.linear < 1e-6);
        assert!(terms.complex < 1e-3, "{terms:?}"); // two resolutions' softening
    }

    #[test]
    fn signals_shorter_than_every_window_are_zero() {
        let x = check::random(1, &[2, 8]);
        let (loss, _) = loss(SpectralWeights::default()).forward(&x, &x).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
    }
}
