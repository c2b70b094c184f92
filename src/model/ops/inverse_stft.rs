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
use crate::bands::Bands;
use crate::math;
use crate::noise::Noise;
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
    noise: Noise,
    /// Bins, from the lowest, whose direction is not noise alone.
    learned: usize,
    /// Those above have log magnitudes in bands. Each bin left to itself would learn nothing but the
    /// energy around it, and keep the random differences from its neighbours that it began with: lines
    /// that stand still in the picture.
    envelope: Bands,
    /// Hann window, scaled so that overlapping windows sum to one, over the FFT's length.
    shape: Vec<f32>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

impl InverseStft {
    /// Plans the transform; `window` and `hop` in samples, `rate` in samples a second. Directions
    /// turn from learned at the first frequency of `noise_band` to nothing but noise at the second, in Hz;
    /// above that, magnitudes come in at most `noise_bands` bands.
    ///
    /// # Errors
    /// The window is odd or no multiple, at least 2, of the hop.
    pub fn new(
        window: usize,
        hop: usize,
        rate: u32,
        noise_band: [u32; 2],
        noise_bands: usize,
    ) -> std::result::Result<Self, InverseStftError> {
        if hop == 0 || !window.is_multiple_of(2) || !window.is_multiple_of(hop) || window < 2 * hop
        {
            return Err(InverseStftError { window, hop });
        }
        let mut planner = FftPlanner::new();
        let shape = synthesis::window_shape(window, hop);
        let (forward, inverse) =
            (planner.plan_fft_forward(window), planner.plan_fft_inverse(window));
        let shares = synthesis::noise_shares(window, rate, noise_band);
        let learned = synthesis::learned_bins(&shares);
        let width = f64::from(rate) / window as f64;
        let envelope = Bands::new(learned, shares.len() - learned, noise_bands, width);
        let noise = Noise::new(window, hop, shares);
        let plan = Plan { window, hop, noise, learned, envelope, shape, forward, inverse };
        Ok(Self { inner: Arc::new(plan) })
    }

    /// Bins of one frame: `window / 2 + 1`.
    pub fn bins(&self) -> usize {
        self.inner.window / 2 + 1
    }

    /// Bins, from the lowest, whose direction the head gives; above them it is noise alone.
    pub fn learned_bins(&self) -> usize {
        self.inner.learned
    }

    /// Log magnitudes of a frame: one for each learned bin, and one for each band above.
    pub fn magnitudes(&self) -> usize {
        self.inner.magnitudes()
    }

    /// Values that describe one frame: the log magnitudes, a real and an imaginary direction for each
    /// learned bin.
    pub fn inputs(&self) -> usize {
        self.inner.inputs()
    }

    /// Samples: `head` is (batch, frames, inputs), log magnitudes, then the real and the imaginary parts
    /// of the learned directions; `first_frames` has, for each item, the number of its first frame in
    /// its stream, which the noise is drawn by; gives (batch, frames * hop). The last `window - hop`
    /// samples still lack frames to come.
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn forward(&self, head: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
        let (batch, _, width) = head.dims3()?;
        if width != self.inputs() || first_frames.len() != batch {
            candle_core::bail!(
                "inverse STFT: {batch} items of {width} values a frame, but {} first frames and {} values",
                first_frames.len(),
                self.inputs()
            );
        }
        if head.device().is_cpu() {
            let op = Forward { plan: self.inner.clone(), first_frames: first_frames.into() };
            head.contiguous()?.apply_op1(op)
        } else {
            self.reference(head, first_frames)
        }
    }

    /// The same out of candle's operations: a matrix product with the DFT.
    fn reference(&self, head: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
        let (window, hop, learned) = (self.inner.window, self.inner.hop, self.inner.learned);
        let (batch, frames, _) = head.dims3()?;
        let bins = self.bins();
        let magnitudes = self.magnitudes();
        let expand = self.expansion(head.device())?;
        let magnitude = head.narrow(2, 0, magnitudes)?.contiguous()?.broadcast_matmul(&expand)?;
        let magnitude = magnitude.minimum(f64::from(MAX_LOG_MAGNITUDE))?.exp()?;
        let share = self.inner.noise.shares()[..learned].iter().map(|share| 1.0 - share);
        let share = Tensor::from_iter(share, head.device())?;
        let direction = |part: usize, noise: Vec<f32>| {
            let noise = Tensor::from_vec(noise, (batch, frames, bins), head.device())?;
            let values =
                head.narrow(2, magnitudes + part * learned, learned)?.broadcast_mul(&share)?;
            values.pad_with_zeros(2, 0, bins - learned)? + noise
        };
        let (re, im) = self.noise(frames, first_frames);
        let (a, b) = (direction(0, re)?, direction(1, im)?);
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

    /// The noise in the real and the imaginary directions of all items, (batch, frames, bins) each.
    fn noise(&self, frames: usize, first_frames: &[u64]) -> (Vec<f32>, Vec<f32>) {
        let bins = self.bins();
        let size = first_frames.len() * frames * bins;
        let (mut re, mut im) = (vec![0.0; size], vec![0.0; size]);
        let numbers = first_frames
            .iter()
            .flat_map(|first| (0..frames).map(move |t| first.wrapping_add(t as u64)));
        for ((re, im), number) in
            re.chunks_exact_mut(bins).zip(im.chunks_exact_mut(bins)).zip(numbers)
        {
            draw(&self.inner.noise, number, re, im);
        }
        (re, im)
    }

    /// Log magnitudes of bins from those of a frame, as a matrix.
    fn expansion(&self, device: &Device) -> Result<Tensor> {
        let (magnitudes, bins) = (self.magnitudes(), self.bins());
        let mut matrix = vec![0.0; magnitudes * bins];
        for (row, weights) in matrix.chunks_exact_mut(bins).enumerate() {
            let mut one = vec![0.0; magnitudes];
            one[row] = 1.0;
            self.inner.log_magnitudes(&one, weights);
        }
        Tensor::from_vec(matrix, (1, magnitudes, bins), device)
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

/// [`Noise::draw`] with the widest vectors there are.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn draw(noise: &Noise, frame: u64, a: &mut [f32], b: &mut [f32]) {
    noise.draw(frame, a, b);
}

/// The directions of one frame, noise and learned ones mixed: `a` and `b` have all bins.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn mix(learned: &[f32], noise: &[f32], a: &mut [f32], b: &mut [f32]) {
    let (re, im) = learned.split_at(learned.len() / 2);
    for (to, from) in [(a, re), (b, im)] {
        for ((to, from), share) in to.iter_mut().zip(from).zip(noise) {
            *to += (1.0 - share) * from;
        }
    }
}

/// One frame's spectrum from log magnitudes and directions.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn to_cartesian(log_magnitude: &[f32], a: &[f32], b: &[f32], re: &mut [f32], im: &mut [f32]) {
    for k in 0..re.len() {
        (re[k], im[k]) = synthesis::cartesian(log_magnitude[k], a[k], b[k]);
    }
}

/// The gradient of log magnitudes from that of the spectrum, and in place of the directions `a` and `b`
/// the gradient of these.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn to_head_gradient(
    log_magnitude: &[f32],
    a: &mut [f32],
    b: &mut [f32],
    d_re: &[f32],
    d_im: &[f32],
    d_log: &mut [f32],
) {
    for k in 0..d_re.len() {
        let magnitude = math::exp(log_magnitude[k].min(MAX_LOG_MAGNITUDE));
        let inverse = 1.0 / (a[k] * a[k] + b[k] * b[k] + SOFT).sqrt();
        let (u, v) = (a[k] * inverse, b[k] * inverse);
        let along = d_re[k] * u + d_im[k] * v;
        d_log[k] = if log_magnitude[k] < MAX_LOG_MAGNITUDE { magnitude * along } else { 0.0 };
        a[k] = magnitude * inverse * (d_re[k] - u * along);
        b[k] = magnitude * inverse * (d_im[k] - v * along);
    }
}

impl Plan {
    fn magnitudes(&self) -> usize {
        self.learned + self.envelope.count()
    }

    fn inputs(&self) -> usize {
        self.magnitudes() + 2 * self.learned
    }

    /// The log magnitudes of all bins from a frame's row of the head.
    fn log_magnitudes(&self, row: &[f32], out: &mut [f32]) {
        let (own, noise) = out.split_at_mut(self.learned);
        own.copy_from_slice(&row[..self.learned]);
        self.envelope.expand(&row[self.learned..self.magnitudes()], noise);
    }

    /// The directions of the frame numbered `number` from its row of the head.
    fn directions(&self, number: u64, row: &[f32], a: &mut [f32], b: &mut [f32]) {
        draw(&self.noise, number, a, b);
        mix(&row[self.magnitudes()..], self.noise.shares(), a, b);
    }

    /// Where frame `t` starts, and how many of its first samples fall before sample 0.
    fn place(&self, t: usize) -> (usize, usize) {
        let end = self.hop * (t + 1);
        (end.saturating_sub(self.window), self.window.saturating_sub(end))
    }

    /// `out` is zero on entry.
    fn synthesize(&self, head: &[f32], number: u64, out: &mut [f32]) {
        let (n, bins, width) = (self.window, self.noise.shares().len(), self.inputs());
        let frames = out.len() / self.hop;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.inverse.get_inplace_scratch_len()];
        let (mut re, mut im) = (vec![0.0; 2 * bins], vec![0.0; 2 * bins]);
        let (mut log, mut a, mut b) = (vec![0.0; bins], vec![0.0; bins], vec![0.0; bins]);
        for first in (0..frames).step_by(2) {
            // Two real frames in one complex transform: the second as the imaginary part.
            let pair = (frames - first).min(2);
            re.fill(0.0);
            im.fill(0.0);
            for i in 0..pair {
                let row = &head[(first + i) * width..][..width];
                self.directions(number.wrapping_add((first + i) as u64), row, &mut a, &mut b);
                let (re, im) = (&mut re[i * bins..][..bins], &mut im[i * bins..][..bins]);
                self.log_magnitudes(row, &mut log);
                to_cartesian(&log, &a, &b, re, im);
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

    fn backward(&self, head: &[f32], number: u64, grad: &[f32], out: &mut [f32]) {
        let (n, bins, width) = (self.window, self.noise.shares().len(), self.inputs());
        let frames = grad.len() / self.hop;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.forward.get_inplace_scratch_len()];
        let (mut d_re, mut d_im) = (vec![0.0; 2 * bins], vec![0.0; 2 * bins]);
        let (mut a, mut b) = (vec![0.0; bins], vec![0.0; bins]);
        let (mut log, mut d_log) = (vec![0.0; bins], vec![0.0; bins]);
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
                let row = &head[(first + i) * width..][..width];
                let (d_magnitude, d_direction) =
                    out[(first + i) * width..][..width].split_at_mut(self.magnitudes());
                self.directions(number.wrapping_add((first + i) as u64), row, &mut a, &mut b);
                let (d_re, d_im) = (&d_re[i * bins..][..bins], &d_im[i * bins..][..bins]);
                self.log_magnitudes(row, &mut log);
                to_head_gradient(&log, &mut a, &mut b, d_re, d_im, &mut d_log);
                let (d_own, d_noise) = d_magnitude.split_at_mut(self.learned);
                d_own.copy_from_slice(&d_log[..self.learned]);
                self.envelope.gather(&d_log[self.learned..], d_noise);
                let (d_a, d_b) = d_direction.split_at_mut(self.learned);
                for (d, all) in [(d_a, &a), (d_b, &b)] {
                    for ((d, all), share) in d.iter_mut().zip(all).zip(self.noise.shares()) {
                        *d = (1.0 - share) * all;
                    }
                }
            }
        }
    }
}

struct Forward {
    plan: Arc<Plan>,
    first_frames: Arc<[u64]>,
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "inverse-stft"
    }

    fn cpu_fwd(&self, head: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, frames, width) = layout.shape().dims3()?;
        let samples = frames * self.plan.hop;
        let mut out = vec![0.0; batch * samples];
        out.par_chunks_mut(samples.max(1))
            .zip(values(head, layout)?.par_chunks((frames * width).max(1)))
            .zip(&self.first_frames[..])
            .for_each(|((out, head), &first)| self.plan.synthesize(head, first, out));
        Ok((CpuStorage::F32(out), Shape::from((batch, samples))))
    }

    fn bwd(&self, head: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = Backward { plan: self.plan.clone(), first_frames: self.first_frames.clone() };
        Ok(Some(head.apply_op2_no_bwd(&grad.contiguous()?, &op)?))
    }
}

struct Backward {
    plan: Arc<Plan>,
    first_frames: Arc<[u64]>,
}

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
            .zip(values(grad, grad_layout)?.par_chunks((frames * self.plan.hop).max(1)))
            .zip(&self.first_frames[..])
            .for_each(|(((out, head), grad), &first)| self.plan.backward(head, first, grad, out));
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
            let stft = InverseStft::new(window, hop, 48_000, BAND, 4).unwrap();
            let head = (check::random(1, &[3, frames, stft.inputs()]) * 2.0).unwrap();
            let at = [0, 5, u64::MAX];
            let y = stft.forward(&head, &at).unwrap();
            check::close(&y, &stft.reference(&head, &at).unwrap(), 1e-4);
            check::gradients(|t| stft.reference(&t[0], &at), std::slice::from_ref(&head), 5e-3);
            check::gradients(|t| stft.forward(&t[0], &at), &[head], 5e-3);
        }
    }

    #[test]
    fn a_constant_tone_has_a_constant_level() {
        // Bin 4 of 64 at hop 16 returns to the same phase every frame.
        let (window, hop, frames) = (64, 16, 12);
        // So slow that the noise, which belongs to high frequencies, stays out.
        let stft = InverseStft::new(window, hop, 1000, BAND, 4).unwrap();
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
            assert!(InverseStft::new(window, hop, 48_000, BAND, 4).is_err());
        }
    }

    #[test]
    fn noise_belongs_to_the_frame() {
        let stft = InverseStft::new(64, 16, 48_000, BAND, 8).unwrap();
        let (all, _) = stft.noise(400, &[0]);
        let (later, other) = stft.noise(400, &[7]);
        assert_eq!(all[7 * stft.bins()..], later[..393 * stft.bins()]);
        assert_ne!(later, other);
    }
}
