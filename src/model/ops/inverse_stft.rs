//! From magnitude and phase to samples: an inverse STFT with overlap-add, as a layer.
//!
//! The phase comes as a direction, two numbers whose length does not matter, so that it depends on the
//! features before it without wrapping (Ai and Ling 2023, "APNet").

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::values;
use crate::math;
use crate::synthesis::{self, MAX_LOG_MAGNITUDE, SOFT};

/// An inverse STFT that cannot be built.
#[derive(Debug, thiserror::Error)]
#[error(
    "an inverse STFT needs an even window that is a multiple, at least 2, of the hop: window {window}, hop {hop}"
)]
pub struct InverseStftError {
    window: usize,
    hop: usize,
}

/// An inverse short-time Fourier transform with a Hann window.
///
/// Frame `t` covers the samples from `hop (t + 1) - window` to `hop (t + 1)`: a sample is complete
/// `window / hop - 1` frames after the frame that first holds it, and what would fall before sample 0
/// is left out.
#[derive(Clone)]
pub struct InverseStft {
    inner: Arc<Plan>,
}

struct Plan {
    window: usize,
    hop: usize,
    /// Share of noise in each bin's direction, 0..=1.
    noise: Vec<f32>,
    /// Hann window, scaled so that overlapping windows sum to one, over the FFT's length.
    shape: Vec<f32>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

impl InverseStft {
    /// Plans the transform; `window` and `hop` in samples, `rate` in samples a second. Directions
    /// turn from learned at the first frequency of `noise_band` to nothing but noise at the second, in Hz.
    ///
    /// # Errors
    /// The window is odd or no multiple, at least 2, of the hop.
    pub fn new(
        window: usize,
        hop: usize,
        rate: u32,
        noise_band: [u32; 2],
    ) -> std::result::Result<Self, InverseStftError> {
        if hop == 0 || !window.is_multiple_of(2) || !window.is_multiple_of(hop) || window < 2 * hop
        {
            return Err(InverseStftError { window, hop });
        }
        let mut planner = FftPlanner::new();
        let shape = synthesis::window_shape(window, hop);
        let (forward, inverse) =
            (planner.plan_fft_forward(window), planner.plan_fft_inverse(window));
        let noise = synthesis::noise_shares(window, rate, noise_band);
        Ok(Self { inner: Arc::new(Plan { window, hop, noise, shape, forward, inverse }) })
    }

    /// Bins of one frame: `window / 2 + 1`.
    pub fn bins(&self) -> usize {
        self.inner.window / 2 + 1
    }

    /// Values that describe one frame: a log magnitude, a real and an imaginary direction for each bin.
    pub fn inputs(&self) -> usize {
        3 * self.bins()
    }

    /// Samples: `head` is (batch, frames, 3 bins), log magnitudes, then the real and the imaginary parts
    /// of the directions; `first_frames` has, for each item, the number of its first frame in its stream,
    /// which the noise is drawn by; gives (batch, frames * hop). The last `window - hop` samples still lack frames to come.
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn forward(&self, head: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
        let bins = self.bins();
        let learned = (0..self.inputs()).map(|i| match i.checked_sub(bins) {
            None => 1.0,
            Some(direction) => 1.0 - self.inner.noise[direction % bins],
        });
        let learned = Tensor::from_iter(learned, head.device())?;
        let head = (head.broadcast_mul(&learned)? + self.noise(head, first_frames)?)?;
        if head.device().is_cpu() {
            head.contiguous()?.apply_op1(Forward(self.inner.clone()))
        } else {
            self.reference(&head)
        }
    }

    /// What is added to the head's output: nothing to log magnitudes, noise to directions.
    fn noise(&self, head: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
        let (batch, frames, width) = head.dims3()?;
        if width != self.inputs() || first_frames.len() != batch {
            candle_core::bail!(
                "inverse STFT: {batch} items of {width} values a frame, but {} first frames and {} values",
                first_frames.len(),
                self.inputs()
            );
        }
        let bins = self.bins();
        let mut noise = vec![0.0; batch * frames * width];
        for (item, &first) in noise.chunks_exact_mut((frames * width).max(1)).zip(first_frames) {
            item.par_chunks_exact_mut(width).enumerate().for_each(|(t, row)| {
                let (a, b) = row[bins..].split_at_mut(bins);
                draw(first.wrapping_add(t as u64), &self.inner.noise, a, b);
            });
        }
        Tensor::from_vec(noise, head.shape(), head.device())
    }

    /// The same out of candle's operations: a matrix product with the DFT.
    fn reference(&self, head: &Tensor) -> Result<Tensor> {
        let (window, hop) = (self.inner.window, self.inner.hop);
        let (batch, frames, _) = head.dims3()?;
        let bins = self.bins();
        let magnitude = head.narrow(2, 0, bins)?.minimum(f64::from(MAX_LOG_MAGNITUDE))?.exp()?;
        let (a, b) = (head.narrow(2, bins, bins)?, head.narrow(2, 2 * bins, bins)?);
        let length = ((a.sqr()? + b.sqr()?)? + f64::from(SOFT))?.sqrt()?;
        let gain = (magnitude / length)?;
        let (re, im) = ((&gain * a)?, (&gain * b)?);
        let (cosines, sines) = self.basis(head.device())?;
        let rows = (batch * frames, bins);
        let y = (re.reshape(rows)?.matmul(&cosines)? + im.reshape(rows)?.matmul(&sines)?)?;
        // Overlap-add: part j of frame t lands on hop t + j - (parts - 1).
        let parts = window / hop;
        let y = y.reshape((batch, frames, parts, hop))?;
        let mut sum = y.narrow(2, parts - 1, 1)?.squeeze(2)?;
        for j in 0..parts - 1 {
            let late = parts - 1 - j;
            if late >= frames {
                continue;
            }
            let part = y.narrow(2, j, 1)?.squeeze(2)?.narrow(1, late, frames - late)?;
            sum = (sum + part.pad_with_zeros(1, 0, late)?)?;
        }
        sum.reshape((batch, frames * hop))
    }

    fn basis(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let (window, bins) = (self.inner.window, self.bins());
        let mut cosines = Vec::with_capacity(bins * window);
        let mut sines = Vec::with_capacity(bins * window);
        for k in 0..bins {
            let edge = k == 0 || k == window / 2;
            let factor = if edge { 1.0 } else { 2.0 };
            for n in 0..window {
                let angle = 2.0 * std::f64::consts::PI * ((k * n) % window) as f64 / window as f64;
                let shape = factor * f64::from(self.inner.shape[n]);
                cosines.push((shape * angle.cos()) as f32);
                sines.push(if edge { 0.0 } else { (-shape * angle.sin()) as f32 });
            }
        }
        Ok((
            Tensor::from_vec(cosines, (bins, window), device)?,
            Tensor::from_vec(sines, (bins, window), device)?,
        ))
    }
}

/// [`synthesis::draw`] with the widest vectors there are.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn draw(frame: u64, size: &[f32], a: &mut [f32], b: &mut [f32]) {
    synthesis::draw(frame, size, a, b);
}

/// One frame's spectrum from log magnitudes and directions.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn to_cartesian(head: &[f32], re: &mut [f32], im: &mut [f32]) {
    let bins = re.len();
    let (log_magnitude, direction) = head.split_at(bins);
    let (a, b) = direction.split_at(bins);
    for k in 0..bins {
        (re[k], im[k]) = synthesis::cartesian(log_magnitude[k], a[k], b[k]);
    }
}

/// The gradient of log magnitude and direction from that of the spectrum.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn to_head_gradient(head: &[f32], d_re: &[f32], d_im: &[f32], out: &mut [f32]) {
    let bins = d_re.len();
    let (log_magnitude, direction) = head.split_at(bins);
    let (a, b) = direction.split_at(bins);
    let (d_log, d_direction) = out.split_at_mut(bins);
    let (d_a, d_b) = d_direction.split_at_mut(bins);
    for k in 0..bins {
        let magnitude = math::exp(log_magnitude[k].min(MAX_LOG_MAGNITUDE));
        let inverse = 1.0 / (a[k] * a[k] + b[k] * b[k] + SOFT).sqrt();
        let (u, v) = (a[k] * inverse, b[k] * inverse);
        let along = d_re[k] * u + d_im[k] * v;
        d_log[k] = if log_magnitude[k] < MAX_LOG_MAGNITUDE { magnitude * along } else { 0.0 };
        d_a[k] = magnitude * inverse * (d_re[k] - u * along);
        d_b[k] = magnitude * inverse * (d_im[k] - v * along);
    }
}

impl Plan {
    /// Where frame `t` starts, and how many of its first samples fall before sample 0.
    fn place(&self, t: usize) -> (usize, usize) {
        let end = self.hop * (t + 1);
        (end.saturating_sub(self.window), self.window.saturating_sub(end))
    }

    /// `out` is zero on entry.
    fn synthesize(&self, head: &[f32], out: &mut [f32]) {
        let (n, bins) = (self.window, self.window / 2 + 1);
        let frames = out.len() / self.hop;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.inverse.get_inplace_scratch_len()];
        let (mut re, mut im) = (vec![0.0; 2 * bins], vec![0.0; 2 * bins]);
        for first in (0..frames).step_by(2) {
            // Two real frames in one complex transform: the second as the imaginary part.
            let pair = (frames - first).min(2);
            re.fill(0.0);
            im.fill(0.0);
            for i in 0..pair {
                let row = &head[(first + i) * 3 * bins..][..3 * bins];
                to_cartesian(row, &mut re[i * bins..][..bins], &mut im[i * bins..][..bins]);
            }
            for (i, part) in im.iter_mut().enumerate() {
                if i % bins == 0 || i % bins == bins - 1 {
                    *part = 0.0;
                }
            }
            for k in 0..bins {
                let (a, b) =
                    (Complex32::new(re[k], im[k]), Complex32::new(re[bins + k], im[bins + k]));
                buffer[k] = Complex32::new(a.re - b.im, a.im + b.re);
                buffer[(n - k) % n] = Complex32::new(a.re + b.im, b.re - a.im);
            }
            self.inverse.process_with_scratch(&mut buffer, &mut scratch);
            for i in 0..pair {
                let (start, skip) = self.place(first + i);
                let (shape, frame) = (&self.shape[skip..], &buffer[skip..]);
                for ((y, w), v) in out[start..].iter_mut().zip(shape).zip(frame) {
                    *y += w * if i == 0 { v.re } else { v.im };
                }
            }
        }
    }

    fn backward(&self, head: &[f32], grad: &[f32], out: &mut [f32]) {
        let (n, bins) = (self.window, self.window / 2 + 1);
        let frames = grad.len() / self.hop;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.forward.get_inplace_scratch_len()];
        let (mut d_re, mut d_im) = (vec![0.0; 2 * bins], vec![0.0; 2 * bins]);
        for first in (0..frames).step_by(2) {
            let pair = (frames - first).min(2);
            buffer.fill(Complex32::default());
            for i in 0..pair {
                let (start, skip) = self.place(first + i);
                let (shape, frame) = (&self.shape[skip..], &mut buffer[skip..]);
                for ((v, w), g) in frame.iter_mut().zip(shape).zip(&grad[start..]) {
                    if i == 0 { v.re = w * g } else { v.im = w * g }
                }
            }
            self.forward.process_with_scratch(&mut buffer, &mut scratch);
            for k in 0..bins {
                let (z, m) = (buffer[k], buffer[(n - k) % n].conj());
                // Every bin but the first and last stands for two; the halves of the split cancel that.
                let half = if k == 0 || k == n / 2 { 0.5 } else { 1.0 };
                let (a, b) = ((z + m) * half, (z - m) * half);
                d_re[k] = a.re;
                d_im[k] = a.im;
                d_re[bins + k] = b.im;
                d_im[bins + k] = -b.re;
            }
            for i in 0..pair {
                d_im[i * bins] = 0.0;
                d_im[i * bins + bins - 1] = 0.0;
                let at = (first + i) * 3 * bins;
                to_head_gradient(
                    &head[at..][..3 * bins],
                    &d_re[i * bins..][..bins],
                    &d_im[i * bins..][..bins],
                    &mut out[at..][..3 * bins],
                );
            }
        }
    }
}

struct Forward(Arc<Plan>);

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "inverse-stft"
    }

    fn cpu_fwd(&self, head: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, frames, width) = layout.shape().dims3()?;
        let expected = 3 * (self.0.window / 2 + 1);
        if width != expected {
            candle_core::bail!("inverse STFT: {width} values a frame, not {expected}");
        }
        let samples = frames * self.0.hop;
        let mut out = vec![0.0; batch * samples];
        out.par_chunks_mut(samples.max(1))
            .zip(values(head, layout)?.par_chunks((frames * width).max(1)))
            .for_each(|(out, head)| self.0.synthesize(head, out));
        Ok((CpuStorage::F32(out), Shape::from((batch, samples))))
    }

    fn bwd(&self, head: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(head.apply_op2_no_bwd(&grad.contiguous()?, &Backward(self.0.clone()))?))
    }
}

struct Backward(Arc<Plan>);

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "inverse-stft-backward"
    }

    fn cpu_fwd(
        &self,
        head: &CpuStorage,
        head_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, frames, width) = head_layout.shape().dims3()?;
        let head = values(head, head_layout)?;
        let mut out = vec![0.0; head.len()];
        out.par_chunks_mut((frames * width).max(1))
            .zip(head.par_chunks((frames * width).max(1)))
            .zip(values(grad, grad_layout)?.par_chunks((frames * self.0.hop).max(1)))
            .for_each(|((out, head), grad)| self.0.backward(head, grad, out));
        Ok((CpuStorage::F32(out), head_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use std::f32::consts::PI;

    const BAND: [u32; 2] = [1000, 2500];

    #[test]
    fn matches_the_dft_and_finite_differences() {
        for (window, hop, frames) in [(24, 6, 7), (16, 8, 6), (24, 6, 2)] {
            let stft = InverseStft::new(window, hop, 48_000, BAND).unwrap();
            let head = (check::random(1, &[3, frames, stft.inputs()]) * 2.0).unwrap();
            let at = [0, 5, u64::MAX];
            let y = stft.forward(&head, &at).unwrap();
            let share = Tensor::new(stft.inner.noise.as_slice(), &Device::Cpu).unwrap();
            let learned = (1.0 - share).unwrap();
            let ones = learned.ones_like().unwrap();
            let learned = Tensor::cat(&[&ones, &learned, &learned], 0).unwrap();
            let noise = stft.noise(&head, &at).unwrap();
            let mixed = (head.broadcast_mul(&learned).unwrap() + noise).unwrap();
            check::close(&y, &stft.reference(&mixed).unwrap(), 1e-4);
            check::gradients(|t| stft.forward(&t[0], &at), &[head], 5e-3);
        }
    }

    #[test]
    fn a_constant_tone_has_a_constant_level() {
        // Bin 4 of 64 at hop 16 returns to the same phase every frame.
        let (window, hop, frames) = (64, 16, 12);
        // So slow that the noise, which belongs to high frequencies, stays out.
        let stft = InverseStft::new(window, hop, 1000, BAND).unwrap();
        let (width, bins) = (stft.inputs(), stft.bins());
        let mut head = vec![-30.0f32; frames * width];
        for t in 0..frames {
            head[t * width + 4] = ((window as f32).sqrt() / 2.0).ln();
            head[t * width + bins + 4] = 3.0;
            head[t * width + 2 * bins + 4] = 0.0;
        }
        let head = Tensor::from_vec(head, (1, frames, width), &Device::Cpu).unwrap();
        let y = super::super::host(&stft.forward(&head, &[0]).unwrap()).unwrap();
        for (n, y) in y[..(frames - 3) * hop].iter().enumerate() {
            let expected = (2.0 * PI * 4.0 * n as f32 / window as f32).cos();
            assert!((y - expected).abs() < 1e-3, "at {n}: {y} against {expected}");
        }
    }

    #[test]
    fn windows_that_do_not_overlap_are_refused() {
        for (window, hop) in [(16, 16), (15, 5), (20, 8), (16, 0)] {
            assert!(InverseStft::new(window, hop, 48_000, BAND).is_err());
        }
    }

    #[test]
    fn noise_is_even_bounded_and_belongs_to_the_frame() {
        let stft = InverseStft::new(64, 16, 48_000, BAND).unwrap();
        let head = Tensor::zeros((1, 400, stft.inputs()), candle_core::DType::F32, &Device::Cpu);
        let head = head.unwrap();
        let all = super::super::host(&stft.noise(&head, &[0]).unwrap()).unwrap();
        let later = super::super::host(&stft.noise(&head, &[7]).unwrap()).unwrap();
        let (width, bins) = (stft.inputs(), stft.bins());
        assert_eq!(all[7 * width..], later[..393 * width]);
        let high: Vec<f32> = (0..400)
            .flat_map(|t| all[t * width + bins + 10..t * width + 2 * bins].to_vec())
            .collect();
        let mean = high.iter().sum::<f32>() / high.len() as f32;
        let power = high.iter().map(|v| v * v).sum::<f32>() / high.len() as f32;
        assert!(mean.abs() < 0.03 && (power - 1.0 / 3.0).abs() < 0.02, "{mean} {power}");
        assert!(all.iter().all(|v| v.abs() <= 1.0));
        assert!((0..400).all(|t| all[t * width..t * width + bins].iter().all(|v| *v == 0.0)));
    }
}
