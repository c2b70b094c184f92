//! A linear layer with bias whose weight gradient comes out contiguous.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
use super::cuda::{self, Arg};
use super::product::{Matrix, Threads, product};
use super::{has_kernels, values};

/// Numbers that matrix products are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// Factors with 11 bits of mantissa on NVIDIA GPUs that have such products, which are several times as fast
    /// there (TensorFloat-32); elsewhere as [`Self::F32`].
    Tf32,
    /// Factors of 16 bits with 8 bits of mantissa, in layers' products alone; parameters, their moments
    /// and everything else stay at 32 (mixed precision, Micikevicius et al. 2018). The CPU rounds the
    /// factors and multiplies at 32 bits, which gains no time there.
    Bf16,
}

/// `x wᵀ + b`: x is (..., inputs), w (outputs, inputs), b (outputs); gives (..., outputs).
///
/// # Errors
/// Shapes that do not fit together.
pub fn linear(x: &Tensor, w: &Tensor, b: &Tensor, precision: Precision) -> Result<Tensor> {
    match (precision, x.device()) {
        (Precision::Bf16, device) if device.is_cpu() => {
            let rounded = |t: &Tensor| t.to_dtype(DType::BF16)?.to_dtype(DType::F32);
            let own = Linear(Precision::F32);
            rounded(x)?.contiguous()?.apply_op3(&rounded(w)?, b, own)
        }
        // candle's product computes a gradient for the weights, wanted or not.
        (_, device) if has_kernels(device) || (device.is_cpu() && !w.track_op()) => {
            x.contiguous()?.apply_op3(&w.contiguous()?, &b.contiguous()?, Linear(precision))
        }
        (Precision::F32 | Precision::Tf32, _) => reference(x, w, b),
        (Precision::Bf16, _) => {
            let (x, w) = (x.to_dtype(DType::BF16)?, w.to_dtype(DType::BF16)?);
            reference(&x, &w, b)
        }
    }
}

/// The product at the factors' precision, the sum with the bias at the bias's.
fn reference(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = w.dims2()?;
    let mut dims = x.dims().to_vec();
    let rows = x.elem_count() / inputs;
    let y = x.reshape((rows, inputs))?.matmul(&w.t()?)?.to_dtype(b.dtype())?.broadcast_add(b)?;
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    y.reshape(dims)
}

/// By a precision: the CPU's products are of 32 bits, whatever it says.
struct Linear(Precision);

impl Linear {
    /// A product of matrices of f32.
    fn product(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        match self.0 {
            Precision::F32 => a.matmul(b),
            Precision::Tf32 => with_tf32(|| a.matmul(b)),
            Precision::Bf16 => {
                let (a, b) = (a.to_dtype(DType::BF16)?, b.to_dtype(DType::BF16)?);
                a.matmul(&b)?.to_dtype(DType::F32)
            }
        }
    }
}

/// Calls with candle's products of f32 tensors on CUDA devices as those of [`Precision::Tf32`].
#[cfg(feature = "cuda")]
fn with_tf32<T>(multiply: impl FnOnce() -> T) -> T {
    use candle_core::cuda::{gemm_reduced_precision_f32, set_gemm_reduced_precision_f32};
    let before = gemm_reduced_precision_f32();
    set_gemm_reduced_precision_f32(true);
    let product = multiply();
    set_gemm_reduced_precision_f32(before);
    product
}

/// Calls; there is no such device.
#[cfg(not(feature = "cuda"))]
fn with_tf32<T>(multiply: impl FnOnce() -> T) -> T {
    multiply()
}

/// Refuses shapes that do not fit together; rows, inputs and outputs, and the shape of what comes out.
fn shapes(x: &Layout, w: &Layout, b: &Layout) -> Result<([usize; 3], Shape)> {
    let (outputs, inputs) = w.shape().dims2()?;
    let mut dims = x.dims().to_vec();
    if dims.last() != Some(&inputs) || b.dims() != [outputs] {
        candle_core::bail!("linear: x {dims:?}, w {:?} and b {:?} do not fit", w.dims(), b.dims());
    }
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    let rows = x.shape().elem_count() / inputs.max(1);
    Ok(([rows, inputs, outputs], Shape::from(dims)))
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ([rows, inputs, outputs], shape) = shapes(x_layout, w_layout, b_layout)?;
        let (x, w, b) = (values(x, x_layout)?, values(w, w_layout)?, values(b, b_layout)?);
        let mut y = Vec::with_capacity(rows * outputs);
        for _ in 0..rows {
            y.extend_from_slice(b);
        }
        let (x, w) = (Matrix::of_rows(x, inputs), Matrix::of_rows(w, inputs));
        product(&mut y, x, w.transposed(), true, Threads::All)?;
        Ok((CpuStorage::F32(y), shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let ([rows, inputs, outputs], shape) = shapes(x_layout, w_layout, b_layout)?;
        let device = x.device();
        let sizes = (1, rows, outputs, inputs);
        let x_rows = Layout::contiguous_with_offset((rows, inputs), x_layout.start_offset());
        let multiply = || x.matmul(w, sizes, &x_rows, &w_layout.transpose(0, 1)?);
        let y = match self.0 {
            Precision::F32 => multiply()?,
            Precision::Tf32 => with_tf32(multiply)?,
            Precision::Bf16 => {
                let (x, w) =
                    (x.to_dtype(&x_rows, DType::BF16)?, w.to_dtype(w_layout, DType::BF16)?);
                let (x_rows, w_rows) =
                    (Layout::contiguous((rows, inputs)), Layout::contiguous((outputs, inputs)));
                x.matmul(&w, sizes, &x_rows, &w_rows.transpose(0, 1)?)?
                    .to_dtype(&Layout::contiguous((rows, outputs)), DType::F32)?
            }
        };
        let args = [
            cuda::start(&y, 0)?,
            cuda::memory::<f32>(b, b_layout)?,
            Arg::count(outputs)?,
            Arg::count(rows * outputs)?,
        ];
        cuda::launch(device, "add_bias", rows * outputs, &args)?;
        Ok((y, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (outputs, inputs) = w.dims2()?;
        let rows = x.elem_count() / inputs;
        let x2 = x.reshape((rows, inputs))?;
        let g2 = grad.contiguous()?.reshape((rows, outputs))?;
        let needs_x = x.track_op();
        let dx = if needs_x { Some(self.product(&g2, w)?.reshape(x.shape())?) } else { None };
        if !w.track_op() {
            return Ok((dx, None, None));
        }
        let dw = self.product(&g2.t()?, &x2)?;
        let db = column_sums(&g2)?;
        Ok((dx, Some(dw), Some(db)))
    }
}

/// The sums of a matrix's columns.
fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let device = cuda::device(x)?;
        let sums = cuda::zeros(&device, columns)?;
        let args = [cuda::of(x)?, Arg::NULL, cuda::start(&sums, 0)?];
        cuda::column_sums(&device, args, rows, columns)?;
        return Ok(cuda::tensor(sums, columns));
    }
    let ones = Tensor::ones((1, rows), x.dtype(), x.device())?;
    ones.matmul(x)?.reshape(columns)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn inputs() -> [Tensor; 3] {
        [check::random(1, &[3, 5, 7]), check::random(2, &[4, 7]), check::random(3, &[4])]
    }

    #[test]
    fn matches_candle_and_finite_differences() {
        let all = inputs();
        let [x, w, b] = &all;
        let y = linear(x, w, b, Precision::F32).unwrap();
        check::close(&y, &reference(x, w, b).unwrap(), 1e-5);
        check::gradients(|t| linear(&t[0], &t[1], &t[2], Precision::F32), &all, 2e-3);
    }

    #[test]
    fn sixteen_bits_are_close_to_thirty_two() {
        let vars = inputs().map(|t| candle_core::Var::from_tensor(&t).unwrap());
        let [x, w, b] = &vars;
        let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| {
            let y = linear(x, w, b, precision).unwrap();
            let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let of = |v: &candle_core::Var| grads.get(v).unwrap().clone();
            [y, of(x), of(w), of(b)]
        });
        let mut differs = false;
        for (a, b) in exact.iter().zip(&rounded) {
            assert_eq!(b.dtype(), DType::F32);
            check::close(b, a, 3e-2);
            let distance = (a - b).unwrap().abs().unwrap().sum_all().unwrap();
            differs |= distance.to_scalar::<f32>().unwrap() > 0.0;
        }
        assert!(differs, "nothing was rounded");
    }

    #[test]
    fn weights_that_stay_get_no_gradient() {
        let [x, w, b] = inputs();
        let x = candle_core::Var::from_tensor(&x).unwrap();
        let y = linear(&x, &w, &b, Precision::F32).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&x).is_some() && grads.get(&w).is_none());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (x, w, b) =
            (check::random(1, &[2, 6]), check::random(2, &[4, 7]), check::random(3, &[4]));
        assert!(linear(&x, &w, &b, Precision::F32).is_err());
    }
}
