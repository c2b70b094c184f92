//! An operation of one tensor whose gradient needs no more than its input.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{self, Arg};
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

    /// Threads, and arguments behind the tensors, of the CUDA kernels, which have the names of the operations
    /// with `_` for `-`.
    ///
    /// # Errors
    /// There are none.
    #[cfg(feature = "cuda")]
    fn cuda_arguments(&self, _count: usize) -> Result<(usize, Vec<Arg>)> {
        candle_core::bail!("`{}` has no CUDA kernel", Self::NAMES[0])
    }

    /// Runs on a tensor on a device with kernels.
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (device, count) = (x.device(), layout.shape().elem_count());
        let y = cuda::empty(device, count)?;
        let (threads, more) = self.0.cuda_arguments(count)?;
        let tensors = [cuda::memory::<f32>(x, layout)?, cuda::start(&y, 0)?];
        let args = [&tensors[..], &more].concat();
        cuda::launch(device, &K::NAMES[0].replace('-', "_"), threads, &args)?;
        Ok((y, layout.shape().clone()))
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (device, count) = (x.device(), x_layout.shape().elem_count());
        let dx = cuda::empty(device, count)?;
        let (threads, more) = self.0.cuda_arguments(count)?;
        let of = cuda::memory::<f32>;
        let tensors = [of(x, x_layout)?, of(grad, grad_layout)?, cuda::start(&dx, 0)?];
        let args = [&tensors[..], &more].concat();
        cuda::launch(device, &K::NAMES[1].replace('-', "_"), threads, &args)?;
        Ok((dx, x_layout.shape().clone()))
    }
}
