//! Compression of complex spectra, so that quiet bands weigh among loud ones.

use candle_core::{D, Result, Tensor};
use multiversion::multiversion;

use super::kernel::Kernel;
use crate::math;

/// Power below which the compression becomes linear: 70 dB under noise of full scale.
const SOFT: f32 = 1e-7;

/// Raises magnitudes to a power; phases are kept in the first bins and dropped above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compress {
    /// The power, more than 0 and at most 1.
    pub power: f32,
    /// Bins, from the first, that keep their phase.
    pub complex_bins: usize,
}

impl Compress {
    /// Spectra (..., bins, 2) of real and imaginary parts to the same. Where the phase is dropped the
    /// real part is the compressed magnitude and the imaginary part zero.
    ///
    /// # Errors
    /// A last dimension other than 2.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if x.dim(D::Minus1)? != 2 || x.rank() < 2 {
            candle_core::bail!("compression: {:?} are no complex spectra", x.dims());
        }
        if x.device().is_cpu() {
            Frames { bins: x.dim(D::Minus2)?, compress: self }.apply(x)
        } else {
            self.reference(x)
        }
    }

    fn reference(self, x: &Tensor) -> Result<Tensor> {
        let bins = x.dim(D::Minus2)?;
        let kept = self.complex_bins.min(bins);
        let power = (x.sqr()?.sum_keepdim(D::Minus1)? + f64::from(SOFT))?;
        let raised = |exponent: f32| (power.log()? * f64::from(exponent))?.exp();
        let phased =
            x.broadcast_mul(&raised((self.power - 1.0) / 2.0)?)?.narrow(D::Minus2, 0, kept)?;
        if kept == bins {
            return Ok(phased);
        }
        let size = raised(self.power / 2.0)?.narrow(D::Minus2, kept, bins - kept)?;
        let size = Tensor::cat(&[&size, &size.zeros_like()?], D::Minus1)?;
        Tensor::cat(&[&phased, &size], D::Minus2)
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward(x: &[f32], y: &mut [f32], power: f32, complex_bins: usize) {
    let (x, phaseless_x) = x.split_at(2 * complex_bins);
    let (y, phaseless_y) = y.split_at_mut(2 * complex_bins);
    for (y, x) in y.chunks_exact_mut(2).zip(x.chunks_exact(2)) {
        let (re, im) = (x[0], x[1]);
        let gain = math::exp(0.5 * (power - 1.0) * math::ln(re * re + im * im + SOFT));
        y[0] = gain * re;
        y[1] = gain * im;
    }
    for (y, x) in phaseless_y.chunks_exact_mut(2).zip(phaseless_x.chunks_exact(2)) {
        y[0] = math::exp(0.5 * power * math::ln(x[0] * x[0] + x[1] * x[1] + SOFT));
        y[1] = 0.0;
    }
}

/// In place: `dx` holds the gradient of the output on entry.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: &[f32], dx: &mut [f32], power: f32, complex_bins: usize) {
    let (x, phaseless_x) = x.split_at(2 * complex_bins);
    let (dx, phaseless_dx) = dx.split_at_mut(2 * complex_bins);
    for (g, x) in dx.chunks_exact_mut(2).zip(x.chunks_exact(2)) {
        let (re, im) = (x[0], x[1]);
        let square = re * re + im * im + SOFT;
        let gain = math::exp(0.5 * (power - 1.0) * math::ln(square));
        let radial = (power - 1.0) * gain / square * (re * g[0] + im * g[1]);
        g[0] = gain * g[0] + radial * re;
        g[1] = gain * g[1] + radial * im;
    }
    for (g, x) in phaseless_dx.chunks_exact_mut(2).zip(phaseless_x.chunks_exact(2)) {
        let square = x[0] * x[0] + x[1] * x[1] + SOFT;
        let along = g[0] * power * math::exp((0.5 * power - 1.0) * math::ln(square));
        g[0] = along * x[0];
        g[1] = along * x[1];
    }
}

/// The compression of frames of `bins` bins.
#[derive(Clone)]
struct Frames {
    bins: usize,
    compress: Compress,
}

impl Frames {
    fn kept(&self) -> usize {
        self.compress.complex_bins.min(self.bins)
    }
}

impl Kernel for Frames {
    const NAMES: [&'static str; 2] = ["compress", "compress-backward"];

    fn block(&self) -> usize {
        2 * self.bins
    }

    fn forward(&self, x: &[f32], y: &mut [f32]) {
        forward(x, y, self.compress.power, self.kept());
    }

    fn backward(&self, x: &[f32], dx: &mut [f32]) {
        backward(x, dx, self.compress.power, self.kept());
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn matches_candle_and_finite_differences() {
        for (power, complex_bins) in [(0.3, 4), (0.5, 0), (1.0, 9), (0.3, 100)] {
            let op = Compress { power, complex_bins };
            let x = check::random(1, &[3, 4, 9, 2]);
            let x = (&x + (x.sign().unwrap() * 0.1).unwrap()).unwrap();
            check::close(&op.forward(&x).unwrap(), &op.reference(&x).unwrap(), 1e-5);
            check::gradients(|t| op.forward(&t[0]), std::slice::from_ref(&x), 5e-3);
            check::gradients(|t| op.reference(&t[0]), &[x], 5e-3);
        }
    }

    #[test]
    fn silence_has_a_finite_gradient() {
        let x = Tensor::zeros((2, 3, 2), candle_core::DType::F32, &candle_core::Device::Cpu);
        let x = candle_core::Var::from_tensor(&x.unwrap()).unwrap();
        let y = Compress { power: 0.3, complex_bins: 1 }.forward(&x).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        let grad = super::super::host(grads.get(&x).unwrap()).unwrap();
        assert!(grad.iter().all(|g| g.is_finite()), "{grad:?}");
    }
}
