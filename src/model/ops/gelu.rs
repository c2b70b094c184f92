//! The Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016).

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::values;
use crate::math::{self, GELU_CUBIC as CUBIC, GELU_SCALE as SCALE};

/// Values given to a thread at a time.
const BLOCK: usize = 1 << 14;

/// `x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x³)))`, element by element.
///
/// # Errors
/// None of its own.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1(Forward) } else { x.gelu() }
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

struct Forward;

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| forward(x, y));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &Backward)?))
    }
}

struct Backward;

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "gelu-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values(x, x_layout)?;
        let mut dx = values(grad, grad_layout)?.to_vec();
        dx.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(dx, x)| backward(x, dx));
        Ok((CpuStorage::F32(dx), x_layout.shape().clone()))
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
