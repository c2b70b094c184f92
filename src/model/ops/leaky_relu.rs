//! The leaky rectifier (Maas et al. 2013), the discriminators' activation.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

#[cfg(feature = "cuda")]
use super::cuda::Arg;
use super::has_kernels;
use super::kernel::Kernel;

/// Slope below zero.
const SLOPE: f32 = 0.1;

/// `x` above zero, a tenth of it below, element by element.
///
/// # Errors
/// None of its own.
pub fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    if has_kernels(x.device()) { LeakyRelu.apply(x) } else { reference(x) }
}

fn reference(x: &Tensor) -> Result<Tensor> {
    (x.relu()? * f64::from(1.0 - SLOPE))? + (x * f64::from(SLOPE))?
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x > 0.0 { x } else { SLOPE * x };
    }
}

/// In place: `dx` holds the gradient of the output on entry.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: &[f32], dx: &mut [f32]) {
    for (g, &x) in dx.iter_mut().zip(x) {
        *g *= if x > 0.0 { 1.0 } else { SLOPE };
    }
}

#[derive(Clone)]
struct LeakyRelu;

impl Kernel for LeakyRelu {
    const NAMES: [&'static str; 2] = ["leaky-relu", "leaky-relu-backward"];

    fn forward(&self, x: &[f32], y: &mut [f32]) {
        forward(x, y);
    }

    fn backward(&self, x: &[f32], dx: &mut [f32]) {
        backward(x, dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda_arguments(&self, count: usize) -> Result<(usize, Vec<Arg>)> {
        Ok((count, vec![Arg::count(count)?, Arg::Float(SLOPE)]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn matches_candle_and_finite_differences() {
        // No value within a difference of the bend.
        let x = check::random(1, &[4, 3, 11]);
        let x = (&x + (x.sign().unwrap() * 0.02).unwrap()).unwrap();
        check::close(&leaky_relu(&x).unwrap(), &reference(&x).unwrap(), 1e-6);
        check::gradients(|t| leaky_relu(&t[0]), std::slice::from_ref(&x), 2e-3);
        check::gradients(|t| reference(&t[0]), &[x], 2e-3);
    }
}
