//! What an optimizer computes of whole gradients.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::{self, Arg};

/// The Euclidean norm of several tensors of one device together.
///
/// # Errors
/// The device fails.
pub fn norm<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
    let mut square = 0.0f64;
    #[cfg(feature = "cuda")]
    let mut on_gpu = None;
    for tensor in tensors {
        #[cfg(feature = "cuda")]
        if tensor.device().is_cuda() {
            let sum = match &on_gpu {
                Some(sum) => sum,
                None => on_gpu.insert(Tensor::zeros(1, candle_core::DType::F32, tensor.device())?),
            };
            let (device, tensor) = (cuda::device(tensor)?, tensor.contiguous()?);
            let count = tensor.elem_count();
            let args = [cuda::of(&tensor)?, cuda::of(sum)?, Arg::count(count)?];
            cuda::launch(&device, "square_sum", count, &args)?;
            continue;
        }
        square += f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    // One value to wait for, not one of each tensor.
    #[cfg(feature = "cuda")]
    if let Some(sum) = on_gpu {
        square += f64::from(sum.get(0)?.to_scalar::<f32>()?);
    }
    Ok(square.sqrt())
}

/// A step of AdamW on a GPU, in place of `state`: parameters, first and second moments, running mean. `step` is
/// `struct Step` of the kernels.
///
/// # Errors
/// The device fails.
#[cfg(feature = "cuda")]
pub fn adamw_on_gpu(state: [&Tensor; 4], grad: &Tensor, step: [f32; 7]) -> Result<()> {
    let count = grad.elem_count();
    if state.iter().any(|tensor| tensor.elem_count() != count) {
        candle_core::bail!("the gradient of a parameter has {count} values, its state has others");
    }
    let [p, first, second, average] = state;
    let args = [
        cuda::of(p)?,
        cuda::of(first)?,
        cuda::of(second)?,
        cuda::of(average)?,
        cuda::of(grad)?,
        Arg::count(count)?,
        Arg::Step(cuda::Packed(step)),
    ];
    cuda::launch(&cuda::device(grad)?, "adamw", count, &args)
}
