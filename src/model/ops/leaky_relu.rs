//! The leaky rectifier (Maas et al. 2013), the discriminators' activation.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::values;

/// Slope below zero.
const SLOPE: f32 = 0.1;
/// Values given to a thread at a time.
const BLOCK: usize = 1 << 14;

/// `x` above zero, a tenth of it below, element by element.
///
/// # Errors
/// None of its own.
pub fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1(Forward) } else { reference(x) }
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

struct Forward;

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "leaky-relu"
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
        "leaky-relu-backward"
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
        // No value within a difference of the bend.
        let x = check::random(1, &[4, 3, 11]);
        let x = (&x + (x.sign().unwrap() * 0.02).unwrap()).unwrap();
        check::close(&leaky_relu(&x).unwrap(), &reference(&x).unwrap(), 1e-6);
        check::gradients(|t| leaky_relu(&t[0]), std::slice::from_ref(&x), 2e-3);
        check::gradients(|t| reference(&t[0]), &[x], 2e-3);
    }
}
