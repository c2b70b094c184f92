//! The Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016).

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::kernel::Kernel;
use crate::math::{self, GELU_CUBIC as CUBIC, GELU_SCALE as SCALE};

/// `x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x³)))`, element by element.
///
/// # Errors
/// None of its own.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { Gelu.apply(x) } else { x.gelu() }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = math::gelu(x);
    }
}

/// In place: `dx` holds the gradient of the output on entry.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: &[f32], dx: &mut [f32]) {
    for (g, &x) in dx.iter_mut().zip(x) {
        let s = 1.0 / (1.0 + math::exp(-SCALE * x * (1.0 + CUBIC * x * x)));
        *g *= s + x * s * (1.0 - s) * SCALE * (1.0 + 3.0 * CUBIC * x * x);
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
}
