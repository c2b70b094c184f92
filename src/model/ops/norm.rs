//! Layer normalisation without scale and offset: the linear layer behind it has both.

use candle_core::{D, Result, Tensor};
use multiversion::multiversion;

#[cfg(feature = "cuda")]
use super::cuda::Arg;
use super::has_kernels;
use super::kernel::Kernel;
use crate::math::{NORM_EPSILON as EPSILON, moments, sum};

/// Rows given to a thread at a time.
const ROWS: usize = 64;

/// Brings each row of the last dimension to mean 0 and variance 1 (Ba et al. 2016).
///
/// # Errors
/// A tensor without dimensions.
pub fn normalize(x: &Tensor) -> Result<Tensor> {
    match has_kernels(x.device()) {
        true => Normalize { row: x.dim(D::Minus1)? }.apply(x),
        false => reference(x),
    }
}

fn reference(x: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + f64::from(EPSILON))?.sqrt()?)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward(x: &[f32], y: &mut [f32], c: usize) {
    for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
        let (mean, inverse) = moments(x);
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * inverse;
        }
    }
}

/// In place: `dx` holds the gradient of the output on entry.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: &[f32], dx: &mut [f32], c: usize) {
    for (x, g) in x.chunks_exact(c).zip(dx.chunks_exact_mut(c)) {
        let (mean, inverse) = moments(x);
        let n = c as f32;
        let g_mean = sum(g.iter().copied()) / n;
        let g_dot = sum(g.iter().zip(x).map(|(g, x)| g * (x - mean) * inverse)) / n;
        for (g, x) in g.iter_mut().zip(x) {
            *g = inverse * (*g - g_mean - (x - mean) * inverse * g_dot);
        }
    }
}

/// The operation on rows of `row` values.
#[derive(Clone)]
struct Normalize {
    row: usize,
}

impl Kernel for Normalize {
    const NAMES: [&'static str; 2] = ["normalize", "normalize-backward"];

    fn block(&self) -> usize {
        ROWS * self.row
    }

    fn forward(&self, x: &[f32], y: &mut [f32]) {
        forward(x, y, self.row);
    }

    fn backward(&self, x: &[f32], dx: &mut [f32]) {
        backward(x, dx, self.row);
    }

    #[cfg(feature = "cuda")]
    fn cuda_arguments(&self, count: usize) -> Result<(usize, Vec<Arg>)> {
        // A warp has a row.
        let rows = count / self.row.max(1);
        let numbers = vec![Arg::count(rows)?, Arg::count(self.row)?, Arg::Float(EPSILON)];
        Ok((32 * rows, numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn matches_candle_and_finite_differences() {
        let x = check::random(1, &[3, 4, 19]);
        check::close(&normalize(&x).unwrap(), &reference(&x).unwrap(), 1e-5);
        check::gradients(|t| normalize(&t[0]), &[x], 5e-3);
    }

    #[test]
    fn silence_stays_silent() {
        let x = Tensor::zeros((2, 8), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        assert_eq!(super::super::host(&normalize(&x).unwrap()).unwrap(), [0.0; 16]);
    }
}
