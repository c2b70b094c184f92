//! The cross-entropy of rows of logits against one code a row.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::values;
use crate::math::{exp, sum};

/// Rows given to a thread at a time.
const ROWS: usize = 32;
/// Interleaved partial maxima, so that the loop becomes vector code.
const LANES: usize = 16;

/// `-ln softmax(row)[target]` of every row, in nats: logits are (rows, codes), `targets` one code for
/// each row; gives (rows).
///
/// # Errors
/// Another number of targets than rows, or a target that is no code.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, codes) = logits.dims2()?;
    if targets.len() != rows || targets.iter().any(|target| *target as usize >= codes) {
        candle_core::bail!(
            "cross-entropy: {} targets for {rows} rows of {codes} logits, or one of them is no code",
            targets.len()
        );
    }
    if logits.device().is_cpu() {
        logits.contiguous()?.apply_op1(Forward(targets.into()))
    } else {
        reference(logits, targets)
    }
}

fn reference(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    logits.log_sum_exp(1)? - logits.gather(&targets, 1)?.squeeze(1)?
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward(x: &[f32], targets: &[u32], y: &mut [f32], codes: usize) {
    for ((x, target), y) in x.chunks_exact(codes).zip(targets).zip(y) {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for (i, x) in x.iter().enumerate() {
            let lane = &mut lanes[i % LANES];
            *lane = if *x > *lane { *x } else { *lane };
        }
        let most = lanes.iter().fold(f32::NEG_INFINITY, |most, lane| most.max(*lane));
        let total = sum(x.iter().map(|x| exp(x - most)));
        *y = total.ln() + (most - x[*target as usize]);
    }
}

/// The logarithm of a row's sum comes back from its loss, so that one pass is enough.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: &[f32], targets: &[u32], loss: &[f32], grad: &[f32], dx: &mut [f32], codes: usize) {
    let rows = x.chunks_exact(codes).zip(dx.chunks_exact_mut(codes));
    for (((x, dx), target), (loss, grad)) in rows.zip(targets).zip(loss.iter().zip(grad)) {
        let target = *target as usize;
        let log_sum = loss + x[target];
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = grad * exp(x - log_sum);
        }
        dx[target] -= grad;
    }
}

struct Forward(Arc<[u32]>);

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, codes) = layout.shape().dims2()?;
        let x = values(x, layout)?;
        let mut y = vec![0.0; rows];
        y.par_chunks_mut(ROWS)
            .zip(x.par_chunks(ROWS * codes).zip(self.0.par_chunks(ROWS)))
            .for_each(|(y, (x, targets))| forward(x, targets, y, codes));
        Ok((CpuStorage::F32(y), Shape::from(rows)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let backward = Backward(self.0.clone());
        Ok(Some(x.apply_op3_no_bwd(y, &grad.contiguous()?, &backward)?))
    }
}

struct Backward(Arc<[u32]>);

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "cross-entropy-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        loss: &CpuStorage,
        loss_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, codes) = x_layout.shape().dims2()?;
        let (x, loss) = (values(x, x_layout)?, values(loss, loss_layout)?);
        let grad = values(grad, grad_layout)?;
        let mut dx = vec![0.0; x.len()];
        let rows = self.0.par_chunks(ROWS).zip(loss.par_chunks(ROWS).zip(grad.par_chunks(ROWS)));
        dx.par_chunks_mut(ROWS * codes).zip(x.par_chunks(ROWS * codes)).zip(rows).for_each(
            |((dx, x), (targets, (loss, grad)))| backward(x, targets, loss, grad, dx, codes),
        );
        Ok((CpuStorage::F32(dx), x_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn inputs(rows: usize, codes: usize) -> (Tensor, Vec<u32>) {
        let logits = (check::random(1, &[rows, codes]) * 4.0).unwrap();
        (logits, (0..rows).map(|row| (row * 7 % codes) as u32).collect())
    }

    #[test]
    fn matches_candle_and_finite_differences() {
        // More rows than a thread gets at a time, and codes that do not fill the lanes.
        let (x, targets) = inputs(71, 19);
        let y = cross_entropy(&x, &targets).unwrap();
        check::close(&y, &reference(&x, &targets).unwrap(), 1e-5);
        check::gradients(|t| cross_entropy(&t[0], &targets), &[x], 5e-3);
    }

    #[test]
    fn even_odds_cost_the_logarithm_of_the_codes_and_certainty_nothing() {
        let even = Tensor::zeros((2, 8), candle_core::DType::F32, &candle_core::Device::Cpu);
        let y: Vec<f32> = cross_entropy(&even.unwrap(), &[0, 7]).unwrap().to_vec1().unwrap();
        assert!(y.iter().all(|nats| (nats - 8f32.ln()).abs() < 1e-6), "{y:?}");
        let sure = Tensor::new(&[[-60.0f32, 60.0]], &candle_core::Device::Cpu).unwrap();
        let cost = |target| {
            let y: Vec<f32> = cross_entropy(&sure, &[target]).unwrap().to_vec1().unwrap();
            y[0]
        };
        assert!(cost(1) == 0.0 && (cost(0) - 120.0).abs() < 1e-4);
    }

    #[test]
    fn targets_that_are_no_codes_are_refused() {
        let (x, mut targets) = inputs(5, 4);
        assert!(cross_entropy(&x, &targets[1..]).is_err());
        targets[2] = 4;
        assert!(cross_entropy(&x, &targets).is_err());
    }
}
