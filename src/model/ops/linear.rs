//! A linear layer with bias whose weight gradient comes out contiguous.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::product::{Matrix, Threads, product};
use super::values;

/// Numbers that matrix products are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
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
    match (precision, x.device().is_cpu()) {
        (Precision::F32, true) => x.contiguous()?.apply_op3(w, b, Linear),
        (Precision::F32, false) => reference(x, w, b),
        (Precision::Bf16, true) => {
            let rounded = |t: &Tensor| t.to_dtype(DType::BF16)?.to_dtype(DType::F32);
            rounded(x)?.contiguous()?.apply_op3(&rounded(w)?, b, Linear)
        }
        (Precision::Bf16, false) => {
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
        let (x, w) = (Matrix::of_rows(x, inputs), Matrix::of_rows(w, inputs));
        product(&mut y, x, w.transposed(), true, Threads::All)?;
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
        if !w.track_op() {
            return Ok((dx, None, None));
        }
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
