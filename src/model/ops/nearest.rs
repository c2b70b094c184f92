//! The nearest of a set of codes.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::{self, Arg};

/// Negative squared distance up to a constant of the vector, largest where nearest: vectors (n, dim) and codes
/// (size, dim) to (n, size).
///
/// # Errors
/// Shapes that do not fit together.
pub fn closeness(vectors: &Tensor, codes: &Tensor) -> Result<Tensor> {
    let squares = (codes.sqr()?.sum(1)? * 0.5)?;
    vectors.matmul(&codes.t()?)?.broadcast_sub(&squares)
}

/// The nearest code of each vector: vectors (n, dim) and codes (size, dim) to n indices.
///
/// # Errors
/// Shapes that do not fit together.
pub fn nearest(vectors: &Tensor, codes: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if vectors.device().is_cuda() {
        return on_gpu(vectors, codes);
    }
    closeness(vectors, codes)?.argmax(1)
}

#[cfg(feature = "cuda")]
fn on_gpu(vectors: &Tensor, codes: &Tensor) -> Result<Tensor> {
    let ((n, width), (size, own)) = (vectors.dims2()?, codes.dims2()?);
    if own != width {
        candle_core::bail!("codes of {own} numbers for vectors of {width}");
    }
    let (vectors, codes) = (vectors.contiguous()?, codes.contiguous()?);
    let nearest = Tensor::zeros(n, candle_core::DType::U32, vectors.device())?;
    let args = [
        cuda::of(&vectors)?,
        cuda::of(&codes)?,
        cuda::of(&nearest)?,
        Arg::count(size)?,
        Arg::count(width)?,
        Arg::count(n)?,
    ];
    // A warp has a vector.
    cuda::launch(&cuda::device(&vectors)?, "nearest_code", 32 * n, &args)?;
    Ok(nearest)
}
