//! A residual connection with a gain per channel (layer scale, Touvron et al. 2021).

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use multiversion::multiversion;
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{self, Arg};
use super::{has_kernels, values};

/// Rows given to a thread at a time.
const ROWS: usize = 64;

/// `x + h * gain`: x and h are (..., channels), gain (channels).
///
/// # Errors
/// Shapes that do not fit together.
pub fn scaled_residual(x: &Tensor, h: &Tensor, gain: &Tensor) -> Result<Tensor> {
    if has_kernels(x.device()) {
        x.contiguous()?.apply_op3(&h.contiguous()?, gain, Forward)
    } else {
        reference(x, h, gain)
    }
}

fn reference(x: &Tensor, h: &Tensor, gain: &Tensor) -> Result<Tensor> {
    x + h.broadcast_mul(gain)?
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(h: &[f32], grad: &[f32], gain: &[f32], dh: &mut [f32], dgain: &mut [f32]) {
    let c = gain.len();
    for ((h, g), dh) in h.chunks_exact(c).zip(grad.chunks_exact(c)).zip(dh.chunks_exact_mut(c)) {
        for i in 0..c {
            dh[i] = g[i] * gain[i];
            dgain[i] += g[i] * h[i];
        }
    }
}

struct Forward;

/// Refuses shapes that do not fit together.
fn channels(x: &Layout, h: &Layout, gain: &Layout) -> Result<usize> {
    let c = x.shape().dim(D::Minus1)?;
    if x.shape() != h.shape() || gain.dims() != [c] {
        candle_core::bail!(
            "residual: x {:?}, h {:?} and gain {:?} do not fit",
            x.dims(),
            h.dims(),
            gain.dims()
        );
    }
    Ok(c)
}

impl CustomOp3 for Forward {
    fn name(&self) -> &'static str {
        "scaled-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        h: &CpuStorage,
        h_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let c = channels(x_layout, h_layout, gain_layout)?;
        let (x, h) = (values(x, x_layout)?, values(h, h_layout)?);
        let gain = values(gain, gain_layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(ROWS * c)
            .zip(x.par_chunks(ROWS * c).zip(h.par_chunks(ROWS * c)))
            .for_each(|(y, (x, h))| {
                for ((y, x), h) in
                    y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(h.chunks_exact(c))
                {
                    for i in 0..c {
                        y[i] = x[i] + h[i] * gain[i];
                    }
                }
            });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        h: &CudaStorage,
        h_layout: &Layout,
        gain: &CudaStorage,
        gain_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let c = channels(x_layout, h_layout, gain_layout)?;
        let (device, count, of) = (x.device(), x_layout.shape().elem_count(), cuda::memory::<f32>);
        let y = cuda::empty(device, count)?;
        let args = [
            of(x, x_layout)?,
            of(h, h_layout)?,
            of(gain, gain_layout)?,
            cuda::start(&y, 0)?,
            Arg::count(c)?,
            Arg::count(count)?,
        ];
        cuda::launch(device, "scaled_residual", count, &args)?;
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        h: &Tensor,
        gain: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let packed = h.apply_op2_no_bwd(&grad.contiguous()?, &Backward { gain: gain.detach() })?;
        let n = h.elem_count();
        let dh = packed.narrow(0, 0, n)?.reshape(h.shape())?;
        let dgain = packed.narrow(0, n, gain.elem_count())?;
        Ok((Some(grad.clone()), Some(dh), Some(dgain)))
    }
}

/// Gradients of h and the gain, one after the other.
struct Backward {
    gain: Tensor,
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "scaled-residual-backward"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        h_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gain = super::host(&self.gain)?;
        let c = gain.len();
        let (h, grad) = (values(h, h_layout)?, values(grad, grad_layout)?);
        let mut out = vec![0.0; h.len() + c];
        let (dh, dgain) = out.split_at_mut(h.len());
        let partial: Vec<Vec<f32>> = dh
            .par_chunks_mut(ROWS * c)
            .zip(h.par_chunks(ROWS * c).zip(grad.par_chunks(ROWS * c)))
            .map(|(dh, (h, grad))| {
                let mut sum = vec![0.0; c];
                backward(h, grad, &gain, dh, &mut sum);
                sum
            })
            .collect();
        for sum in partial {
            dgain.iter_mut().zip(sum).for_each(|(total, part)| *total += part);
        }
        let length = out.len();
        Ok((CpuStorage::F32(out), Shape::from(length)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        h: &CudaStorage,
        h_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (device, c) = (h.device(), self.gain.dim(0)?);
        let count = h_layout.shape().elem_count();
        let out = cuda::zeros(device, count + c)?;
        let grad = cuda::memory::<f32>(grad, grad_layout)?;
        let (gains, dh) = (cuda::of(&self.gain)?, cuda::start(&out, 0)?);
        let args = [grad, gains, dh, Arg::count(c)?, Arg::count(count)?];
        cuda::launch(device, "times_gain", count, &args)?;
        let sums = [cuda::memory::<f32>(h, h_layout)?, grad, cuda::start(&out, count)?];
        cuda::column_sums(device, sums, count / c.max(1), c)?;
        Ok((out, Shape::from(count + c)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn matches_candle_and_finite_differences() {
        let (x, h) = (check::random(1, &[3, 70, 6]), check::random(2, &[3, 70, 6]));
        let gain = check::random(3, &[6]);
        check::close(
            &scaled_residual(&x, &h, &gain).unwrap(),
            &reference(&x, &h, &gain).unwrap(),
            1e-6,
        );
        check::gradients(|t| scaled_residual(&t[0], &t[1], &t[2]), &[x, h, gain], 2e-3);
    }
}
