//! Causal depthwise convolution over frames.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use multiversion::multiversion;
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{self, Arg};
use super::{has_kernels, values};

/// Taps of the CUDA kernels at most.
const CUDA_TAPS: usize = 16;

/// `y[b,t,c] = bias[c] + sum_j w[j,c] x[b, t-(K-1)+j, c]` with zeros before the first frame: x is
/// (batch, frames, channels), w (K, channels), bias (channels).
///
/// # Errors
/// Shapes that do not fit together.
pub fn depthwise_causal(x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let fits = x.device().is_cpu() || w.dim(0)? <= CUDA_TAPS;
    if has_kernels(x.device()) && fits {
        x.contiguous()?.apply_op3(w, bias, Forward)
    } else {
        reference(x, w, bias)
    }
}

fn reference(x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (_, frames, _) = x.dims3()?;
    let taps = w.dim(0)?;
    let padded = x.pad_with_zeros(1, taps - 1, 0)?;
    let mut y = bias.broadcast_as(x.shape())?;
    for j in 0..taps {
        y = (y + padded.narrow(1, j, frames)?.broadcast_mul(&w.narrow(0, j, 1)?)?)?;
    }
    Ok(y)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward(x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) {
    let c = bias.len();
    let taps = w.len() / c;
    for (t, row) in y.chunks_exact_mut(c).enumerate() {
        row.copy_from_slice(bias);
        for j in (taps - 1).saturating_sub(t)..taps {
            let from = &x[(t + j + 1 - taps) * c..][..c];
            for ((y, x), w) in row.iter_mut().zip(from).zip(&w[j * c..][..c]) {
                *y += w * x;
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: &[f32], w: &[f32], grad: &[f32], c: usize, dx: &mut [f32], dw: &mut [f32]) {
    let taps = w.len() / c;
    let frames = grad.len() / c;
    for t in 0..frames {
        let g = &grad[t * c..][..c];
        for j in (taps - 1).saturating_sub(t)..taps {
            let at = (t + j + 1 - taps) * c;
            let (from, to) = (&x[at..][..c], &mut dx[at..][..c]);
            let (w, dw) = (&w[j * c..][..c], &mut dw[j * c..][..c]);
            for i in 0..c {
                to[i] += w[i] * g[i];
                dw[i] += from[i] * g[i];
            }
        }
        let db = &mut dw[taps * c..][..c];
        for i in 0..c {
            db[i] += g[i];
        }
    }
}

struct Forward;

impl CustomOp3 for Forward {
    fn name(&self) -> &'static str {
        "depthwise-causal"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, frames, c) = x_layout.shape().dims3()?;
        if w_layout.shape().dims2()?.1 != c || bias_layout.dims() != [c] {
            candle_core::bail!("depthwise: {c} channels, but w is {:?}", w_layout.dims());
        }
        let (x, w) = (values(x, x_layout)?, values(w, w_layout)?);
        let bias = values(bias, bias_layout)?;
        let mut y = vec![0.0; batch * frames * c];
        y.par_chunks_mut((frames * c).max(1))
            .zip(x.par_chunks((frames * c).max(1)))
            .for_each(|(y, x)| forward(x, w, bias, y));
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (batch, frames, c) = x_layout.shape().dims3()?;
        let (taps, channels) = w_layout.shape().dims2()?;
        if channels != c || bias_layout.dims() != [c] {
            candle_core::bail!("depthwise: {c} channels, but w is {:?}", w_layout.dims());
        }
        let (device, count, of) = (x.device(), batch * frames * c, cuda::memory::<f32>);
        let y = cuda::empty(device, count)?;
        let args = [
            of(x, x_layout)?,
            of(w, w_layout)?,
            of(bias, bias_layout)?,
            cuda::start(&y, 0)?,
            Arg::count(frames)?,
            Arg::count(c)?,
            Arg::count(taps)?,
            Arg::count(count)?,
        ];
        cuda::launch(device, "depthwise", count, &args)?;
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (taps, c) = w.dims2()?;
        let packed = x.apply_op2_no_bwd(&grad.contiguous()?, &Backward { w: w.detach() })?;
        let n = x.elem_count();
        let dx = packed.narrow(0, 0, n)?.reshape(x.shape())?;
        let dw = packed.narrow(0, n, taps * c)?.reshape((taps, c))?;
        let db = packed.narrow(0, n + taps * c, c)?;
        Ok((Some(dx), Some(dw), Some(db)))
    }
}

/// Gradients of x, w and bias, one after the other.
struct Backward {
    w: Tensor,
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "depthwise-causal-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, frames, c) = x_layout.shape().dims3()?;
        let (x, grad) = (values(x, x_layout)?, values(grad, grad_layout)?);
        let w = super::host(&self.w)?;
        let mut out = vec![0.0; x.len() + w.len() + c];
        let (dx, rest) = out.split_at_mut(x.len());
        let item = (frames * c).max(1);
        let partial: Vec<Vec<f32>> = dx
            .par_chunks_mut(item)
            .zip(x.par_chunks(item).zip(grad.par_chunks(item)))
            .map(|(dx, (x, grad))| {
                let mut dw = vec![0.0; w.len() + c];
                backward(x, &w, grad, c, dx, &mut dw);
                dw
            })
            .collect();
        // Summed in the order of the batch: the same bits for any number of threads.
        for dw in partial {
            rest.iter_mut().zip(dw).for_each(|(sum, d)| *sum += d);
        }
        let length = out.len();
        Ok((CpuStorage::F32(out), Shape::from(length)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (batch, frames, c) = x_layout.shape().dims3()?;
        let (device, taps, rows) = (x.device(), self.w.dim(0)?, batch * frames);
        let count = rows * c;
        let length = count + (taps + 1) * c;
        let out = cuda::zeros(device, length)?;
        let grad = cuda::memory::<f32>(grad, grad_layout)?;
        let [frames, channels, taps] = [Arg::count(frames)?, Arg::count(c)?, Arg::count(taps)?];
        let (weights, dx) = (cuda::of(&self.w)?, cuda::start(&out, 0)?);
        let args = [weights, grad, dx, frames, channels, taps, Arg::count(count)?];
        cuda::launch(device, "depthwise_dx", count, &args)?;
        let threads = rows.div_ceil(cuda::ROWS) * c;
        let args = [
            cuda::memory::<f32>(x, x_layout)?,
            grad,
            cuda::start(&out, count)?,
            Arg::count(rows)?,
            frames,
            channels,
            taps,
            Arg::count(cuda::ROWS)?,
            Arg::count(threads)?,
        ];
        cuda::launch(device, "depthwise_dw", threads, &args)?;
        Ok((out, Shape::from(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn matches_candle_and_finite_differences() {
        let x = check::random(1, &[3, 9, 5]);
        let (w, b) = (check::random(2, &[4, 5]), check::random(3, &[5]));
        check::close(&depthwise_causal(&x, &w, &b).unwrap(), &reference(&x, &w, &b).unwrap(), 1e-5);
        check::gradients(|t| depthwise_causal(&t[0], &t[1], &t[2]), &[x, w, b], 2e-3);
    }

    #[test]
    fn fewer_frames_than_taps() {
        let x = check::random(1, &[2, 2, 3]);
        let (w, b) = (check::random(2, &[7, 3]), check::random(3, &[3]));
        check::close(&depthwise_causal(&x, &w, &b).unwrap(), &reference(&x, &w, &b).unwrap(), 1e-5);
        check::gradients(|t| depthwise_causal(&t[0], &t[1], &t[2]), &[x, w, b], 2e-3);
    }
}
