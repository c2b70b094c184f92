//! The Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016).

use candle_core::{Result, Tensor};
use multiversion::multiversion;

#[cfg(feature = "cuda")]
use super::cuda::Arg;
use super::has_kernels;
use super::kernel::Kernel;
use crate::math::{self, GELU_CUBIC as CUBIC, GELU_SCALE as SCALE};

/// `x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x³)))`, element by element.
///
/// # Errors
/// None of its own.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if has_kernels(x.device()) { Gelu.apply(x) } else { x.gelu() }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = math::gelu(x);
    }
}

/// Slopes below this are none: far on the negative side they fall to where numbers are subnormal, and
/// a matrix product with those takes a hundred times as long.
const FLAT: f32 = 1e-12;

/// In place: `dx` holds the gradient of the output on entry.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: &[f32], dx: &mut [f32]) {
    for (g, &x) in dx.iter_mut().zip(x) {
        let s = 1.0 / (1.0 + math::exp(-SCALE * x * (1.0 + CUBIC * x * x)));
        let slope = s + x * s * (1.0 - s) * SCALE * (1.0 + 3.0 * CUBIC * x * x);
        *g = if slope.abs() < FLAT { 0.0 } else { *g * slope };
    }
}

#[derive(Clone)]
struct Gelu;

impl Kernel for Gelu {
    const NAMES: [&'static str; 2] = ["gelu", "gelu-backward"];

    fn forward(&self, x: &[f32], y: &mut [f32]) {
        forward(x, y);
    }

    fn backward(&self, x: &[f32], dx: &mut [f32]) {
        backward(x, dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda_arguments(&self, count: usize) -> Result<(usize, Vec<Arg>)> {
        Ok((count, vec![Arg::count(count)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn matches_candle_and_finite_differences() {
        let x = (check::random(1, &[4, 3, 11]) * 4.0).unwrap();
        check::close(&gelu(&x).unwrap(), &x.gelu().unwrap(), 1e-5);
        check::gradients(|t| gelu(&t[0]), &[x], 2e-3);
    }

    #[test]
    fn far_from_zero_gradients_are_normal_numbers_or_none() {
        let x: Vec<f32> = (-4000..4000).map(|n| n as f32 * 0.01).collect();
        for gradient in [1e-20, 1.0, -1e20] {
            let mut dx = vec![gradient; x.len()];
            backward(&x, &mut dx);
            assert!(dx.iter().all(|g| *g == 0.0 || g.is_normal()), "{gradient}");
            assert!(dx[7000..].iter().all(|g| (g / gradient - 1.0).abs() < 1e-6), "{gradient}");
        }
    }
}
