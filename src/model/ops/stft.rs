//! The short-time Fourier transform as a layer: linear, its backward the adjoint.

use std::f32::consts::PI;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

#[cfg(feature = "cuda")]
use super::cuda;
#[cfg(feature = "cuda")]
use super::explicit::explicit;
use super::values;

/// Longest window, in samples.
const LONGEST: usize = 1 << 16;

/// A periodic Hann window of `n` samples.
pub fn hann(n: usize) -> Vec<f32> {
    (0..n).map(|i| 0.5 - 0.5 * (2.0 * PI * i as f32 / n as f32).cos()).collect()
}

/// A short-time Fourier transform. Frame `t` covers the samples from `hop t` to `hop t + window`; frames
/// that do not fit wholly are left out.
#[derive(Clone)]
pub struct Stft {
    plan: Arc<Plan>,
}

struct Plan {
    window: Vec<f32>,
    hop: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// On a GPU: the window, and the transform as a matrix.
    #[cfg(feature = "cuda")]
    tables: cuda::Once<[Tensor; 2]>,
}

impl Stft {
    /// Plans a transform with a Hann window, scaled so that white noise of deviation s has bins of root
    /// mean square s; `window` and `hop` in samples.
    ///
    /// # Errors
    /// The window is odd, below 4 or above 65536, or the hop is zero.
    pub fn new(window: usize, hop: usize) -> Result<Self> {
        let mut shape = hann(window);
        let scale = 1.0 / shape.iter().map(|w| w * w).sum::<f32>().sqrt();
        shape.iter_mut().for_each(|w| *w *= scale);
        Self::with_window(shape, hop)
    }

    /// Plans a transform with a window as it is.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_window(window: Vec<f32>, hop: usize) -> Result<Self> {
        let n = window.len();
        if n < 4 || !n.is_multiple_of(2) || hop == 0 || n > LONGEST {
            candle_core::bail!("STFT: window {n}, hop {hop} cannot be");
        }
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
        let plan = Plan {
            window,
            hop,
            forward,
            inverse,
            #[cfg(feature = "cuda")]
            tables: cuda::Once::new(),
        };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Frames of a signal.
    pub fn frames(&self, samples: usize) -> usize {
        self.plan.frames(samples)
    }

    /// Bins of a frame: `window / 2 + 1`.
    pub fn bins(&self) -> usize {
        self.plan.window.len() / 2 + 1
    }

    /// Signals (batch, samples) to spectra (batch, frames, bins, 2): real and imaginary parts.
    ///
    /// # Errors
    /// A tensor of another rank, or signals shorter than the window.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, samples) = x.dims2()?;
        if self.frames(samples) == 0 {
            let window = self.plan.window.len();
            candle_core::bail!("STFT: {samples} samples are shorter than the window, {window}");
        }
        if x.device().is_cpu() {
            return x.contiguous()?.apply_op1(Forward(self.plan.clone()));
        }
        let (batch, frames) = (x.dim(0)?, self.frames(samples));
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.plan.on_gpu(x);
        }
        let (re, im) = self.reference(x)?;
        Tensor::stack(&[re, im], 2)?.reshape((batch, frames, self.bins(), 2))
    }

    /// The same out of candle's operations, as matrix products with the DFT: real and imaginary parts,
    /// each (batch * frames, bins).
    pub(super) fn reference(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n, hop) = (self.plan.window.len(), self.plan.hop);
        let window = Tensor::from_slice(&self.plan.window, n, x.device())?;
        let frames = (0..self.frames(x.dim(1)?))
            .map(|t| x.narrow(1, t * hop, n))
            .collect::<Result<Vec<_>>>()?;
        let frames = Tensor::stack(&frames, 1)?.broadcast_mul(&window)?.reshape(((), n))?;
        let (cosines, sines) = self.basis(x.device())?;
        Ok((frames.matmul(&cosines)?, frames.matmul(&sines)?))
    }

    fn basis(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let (n, bins) = (self.plan.window.len(), self.bins());
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
}

impl Plan {
    #[cfg(feature = "cuda")]
    fn on_gpu(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        let (batch, samples) = x.dims2()?;
        let (n, bins, place) = (self.window.len(), self.window.len() / 2 + 1, x.device());
        let [window, basis] = self.tables.get(|| {
            let window = Tensor::from_slice(&self.window, n, place)?;
            Ok([window, cuda::analysis(n, 0, bins, place)?])
        })?;
        let frames = cuda::Frames { count: self.frames(samples), hop: self.hop, offset: 0 };
        // Real and imaginary parts side by side in the end, apart in the product.
        let shape = (batch, frames.count, 2, bins);
        let spectra = frames.of(&x.detach(), n, Some(window))?.matmul(basis)?.reshape(shape)?;
        let spectra = spectra.transpose(2, 3)?.contiguous()?;
        let (window, basis) = (window.clone(), basis.clone());
        explicit(x, spectra, move |grad| {
            let rows = (batch * frames.count, 2 * bins);
            let grad = grad.transpose(2, 3)?.contiguous()?.reshape(rows)?;
            frames.overlap(&grad.matmul(&basis.t()?)?, &window, batch, samples, None)
        })
    }

    fn frames(&self, samples: usize) -> usize {
        match samples.checked_sub(self.window.len()) {
            Some(rest) => rest / self.hop + 1,
            None => 0,
        }
    }

    /// Spectra of one signal; two frames share a complex transform.
    fn analyse(&self, x: &[f32], out: &mut [f32]) {
        let n = self.window.len();
        let bins = n / 2 + 1;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.forward.get_inplace_scratch_len()];
        for (pair, out) in out.chunks_mut(4 * bins).enumerate() {
            let at = 2 * pair * self.hop;
            let (first, second) = out.split_at_mut(2 * bins);
            let a = &x[at..at + n];
            let b = if second.is_empty() { &[] } else { &x[at + self.hop..at + self.hop + n] };
            for (i, (z, w)) in buffer.iter_mut().zip(&self.window).enumerate() {
                *z = Complex32::new(w * a[i], b.get(i).map_or(0.0, |b| w * b));
            }
            self.forward.process_with_scratch(&mut buffer, &mut scratch);
            for (k, bin) in first.chunks_exact_mut(2).enumerate() {
                let (z, m) = (buffer[k], buffer[(n - k) % n]);
                bin[0] = 0.5 * (z.re + m.re);
                bin[1] = 0.5 * (z.im - m.im);
            }
            for (k, bin) in second.chunks_exact_mut(2).enumerate() {
                let (z, m) = (buffer[k], buffer[(n - k) % n]);
                bin[0] = 0.5 * (z.im + m.im);
                bin[1] = 0.5 * (m.re - z.re);
            }
        }
    }

    /// The adjoint of [`Self::analyse`]; adds to `dx`.
    fn adjoint(&self, grad: &[f32], dx: &mut [f32]) {
        let n = self.window.len();
        let bins = n / 2 + 1;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.inverse.get_inplace_scratch_len()];
        for (pair, grad) in grad.chunks(4 * bins).enumerate() {
            let at = 2 * pair * self.hop;
            let (first, second) = grad.split_at(2 * bins);
            for k in 0..bins {
                // Real parts of one-sided sums: halves on both sides; the ends stand alone and their
                // imaginary parts, always zero, pass nothing on.
                let end = k == 0 || k == n / 2;
                let half = if end { 1.0 } else { 0.5 };
                let part = |g: &[f32]| match g.get(2 * k..2 * k + 2) {
                    Some(bin) => (half * bin[0], if end { 0.0 } else { half * bin[1] }),
                    None => (0.0, 0.0),
                };
                let ((ar, ai), (br, bi)) = (part(first), part(second));
                buffer[k] = Complex32::new(ar - bi, ai + br);
                if !end {
                    buffer[n - k] = Complex32::new(ar + bi, br - ai);
                }
            }
            self.inverse.process_with_scratch(&mut buffer, &mut scratch);
            for ((d, w), z) in dx[at..].iter_mut().zip(&self.window).zip(&buffer) {
                *d += w * z.re;
            }
            if !second.is_empty() {
                for ((d, w), z) in dx[at + self.hop..].iter_mut().zip(&self.window).zip(&buffer) {
                    *d += w * z.im;
                }
            }
        }
    }
}

struct Forward(Arc<Plan>);

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "stft"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, samples) = layout.shape().dims2()?;
        let (frames, bins) = (self.0.frames(samples), self.0.window.len() / 2 + 1);
        let mut out = vec![0.0; batch * frames * bins * 2];
        out.par_chunks_mut((frames * bins * 2).max(1))
            .zip(values(x, layout)?.par_chunks(samples.max(1)))
            .for_each(|(out, x)| self.0.analyse(x, out));
        Ok((CpuStorage::F32(out), Shape::from((batch, frames, bins, 2))))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = Adjoint { plan: self.0.clone(), samples: x.dim(1)? };
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&op)?))
    }
}

struct Adjoint {
    plan: Arc<Plan>,
    samples: usize,
}

impl CustomOp1 for Adjoint {
    fn name(&self) -> &'static str {
        "stft-adjoint"
    }

    fn cpu_fwd(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, frames, bins, parts) = layout.shape().dims4()?;
        let mut dx = vec![0.0; batch * self.samples];
        dx.par_chunks_mut(self.samples.max(1))
            .zip(values(grad, layout)?.par_chunks((frames * bins * parts).max(1)))
            .for_each(|(dx, grad)| self.plan.adjoint(grad, dx));
        Ok((CpuStorage::F32(dx), Shape::from((batch, self.samples))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    /// As on a device without a kernel.
    fn by_products(stft: &Stft, x: &Tensor) -> Tensor {
        let (re, im) = stft.reference(x).unwrap();
        let shape = (x.dim(0).unwrap(), stft.frames(x.dim(1).unwrap()), stft.bins(), 2);
        Tensor::stack(&[re, im], 2).unwrap().reshape(shape).unwrap()
    }

    #[test]
    fn matches_the_dft_and_finite_differences() {
        // An odd and an even number of frames, and samples that no frame reaches.
        for (window, hop, samples) in [(16, 4, 36), (12, 5, 41), (8, 8, 8)] {
            let stft = Stft::new(window, hop).unwrap();
            let x = check::random(1, &[3, samples]);
            let y = stft.forward(&x).unwrap();
            check::close(&y, &by_products(&stft, &x), 1e-5);
            check::gradients(|t| stft.forward(&t[0]), &[x], 3e-3);
        }
    }

    #[test]
    fn noise_keeps_its_level() {
        let stft = Stft::new(64, 16).unwrap();
        let x = check::random(1, &[2, 4096]);
        let level = |t: &Tensor| t.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        let ratio = 2.0 * level(&stft.forward(&x).unwrap()) / level(&x);
        assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Stft::new(15, 4).is_err() && Stft::new(2, 1).is_err() && Stft::new(16, 0).is_err());
        let short = check::random(1, &[2, 15]);
        assert!(Stft::new(16, 4).unwrap().forward(&short).is_err());
    }
}
