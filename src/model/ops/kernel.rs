//! An operation of one tensor whose gradient needs no more than its input.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::values;

/// What an operation does on the CPU. The output has the input's shape.
pub trait Kernel: Clone + Send + Sync + 'static {
    /// Name of the operation and of its backward.
    const NAMES: [&'static str; 2];

    /// Values given to a thread at a time: whole rows, where the operation works on rows.
    fn block(&self) -> usize {
        1 << 14
    }

    /// The output `y` of `x`.
    fn forward(&self, x: &[f32], y: &mut [f32]);

    /// In place: `dx` holds the gradient of the output on entry, and that of `x` in the end.
    fn backward(&self, x: &[f32], dx: &mut [f32]);

    /// Runs on a tensor on the CPU.
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Forward(self))
    }
}

struct Forward<K>(K);

impl<K: Kernel> CustomOp1 for Forward<K> {
    fn name(&self) -> &'static str {
        K::NAMES[0]
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, layout)?;
        let mut y = vec![0.0; x.len()];
        let block = self.0.block().max(1);
        y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| self.0.forward(x, y));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &Backward(self.0.clone()))?))
    }
}

struct Backward<K>(K);

impl<K: Kernel> CustomOp2 for Backward<K> {
    fn name(&self) -> &'static str {
        K::NAMES[1]
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
        let block = self.0.block().max(1);
        dx.par_chunks_mut(block)
            .zip(x.par_chunks(block))
            .for_each(|(dx, x)| self.0.backward(x, dx));
        Ok((CpuStorage::F32(dx), x_layout.shape().clone()))
    }
}
