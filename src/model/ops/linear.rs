//! A linear layer with bias whose weight gradient comes out contiguous.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::values;

/// `x wᵀ + b`: x is (..., inputs), w (outputs, inputs), b (outputs); gives (..., outputs).
///
/// # Errors
/// Shapes that do not fit together.
pub fn linear(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op3(w, b, Linear) } else { reference(x, w, b) }
}

fn reference(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = w.dims2()?;
    let mut dims = x.dims().to_vec();
    let rows = x.elem_count() / inputs;
    let y = x.reshape((rows, inputs))?.matmul(&w.t()?)?.broadcast_add(b)?;
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    y.reshape(dims)
}

struct Linear;

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
        let (outputs, inputs) = w_layout.shape().dims2()?;
        let mut dims = x_layout.dims().to_vec();
        if dims.last() != Some(&inputs) || b_layout.dims() != [outputs] {
            candle_core::bail!(
                "linear: x {dims:?}, w {:?} and b {:?} do not fit",
                w_layout.dims(),
                b_layout.dims()
            );
        }
        let (x, w, b) = (values(x, x_layout)?, values(w, w_layout)?, values(b, b_layout)?);
        let rows = x.len() / inputs;
        let mut y = Vec::with_capacity(rows * outputs);
        for _ in 0..rows {
            y.extend_from_slice(b);
        }
        let threads = candle_core::utils::get_num_threads();
        let parallelism =
            if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
        // SAFETY: y has rows x outputs values, x rows x inputs, w outputs x inputs, each contiguous in
        // rows; y was made here and overlaps neither.
        unsafe {
            gemm::gemm(
                rows,
                outputs,
                inputs,
                y.as_mut_ptr(),
                1,
                outputs as isize,
                true,
                x.as_ptr(),
                1,
                inputs as isize,
                w.as_ptr(),
                inputs as isize,
                1,
                1.0f32,
                1.0f32,
                false,
                false,
                false,
                parallelism,
            );
        }
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        Ok((CpuStorage::F32(y), Shape::from(dims)))
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
        let dx = if needs_x { Some(g2.matmul(w)?.reshape(x.shape())?) } else { None };
        let dw = g2.t()?.matmul(&x2)?;
        let ones = Tensor::ones((1, rows), x.dtype(), x.device())?;
        let db = ones.matmul(&g2)?.reshape(outputs)?;
        Ok((dx, Some(dw), Some(db)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn matches_candle_and_finite_differences() {
        let x = check::random(1, &[3, 5, 7]);
        let (w, b) = (check::random(2, &[4, 7]), check::random(3, &[4]));
        let y = linear(&x, &w, &b).unwrap();
        check::close(&y, &reference(&x, &w, &b).unwrap(), 1e-5);
        check::gradients(|t| linear(&t[0], &t[1], &t[2]), &[x, w, b], 2e-3);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (x, w, b) =
            (check::random(1, &[2, 6]), check::random(2, &[4, 7]), check::random(3, &[4]));
        assert!(linear(&x, &w, &b).is_err());
    }
}
