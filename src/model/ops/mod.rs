//! Operations that candle lacks, or whose kernel or gradient is slow or wrong on the CPU.
//!
//! Each file holds one operation: its CPU kernel with a backward of its own, and the same thing made
//! of candle's operations, which runs on other devices and which the tests hold the kernel against. For
//! NVIDIA GPUs those that training spends its time in have kernels as well (`cuda`).

mod band_levels;
mod compress;
mod conv2d;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod depthwise;
mod descent;
mod envelope_loss;
#[cfg(feature = "cuda")]
mod explicit;
mod frames;
mod gelu;
mod inverse_stft;
mod kernel;
mod lead_loss;
mod leaky_relu;
mod linear;
mod nearest;
mod norm;
mod product;
mod residual;
mod spectral;
mod stft;

pub use band_levels::BandLevels;
pub use compress::Compress;
pub use conv2d::Conv2d;
pub use cross_entropy::cross_entropy;
pub use depthwise::depthwise_causal;
#[cfg(feature = "cuda")]
pub use descent::adamw_on_gpu;
pub use descent::norm;
pub use envelope_loss::EnvelopeLoss;
pub use frames::frames;
pub use gelu::gelu;
pub use inverse_stft::{InverseStft, InverseStftError};
pub use lead_loss::LeadLoss;
pub use leaky_relu::leaky_relu;
pub use linear::{Precision, linear};
pub use nearest::{closeness, nearest};
pub use norm::normalize;
pub use residual::scaled_residual;
pub use spectral::{Resolution, SpectralLoss, SpectralTerms, SpectralWeights, Terms};
pub use stft::Stft;

use candle_core::{CpuStorage, Device, Layout, Result, Tensor};

/// The values behind a contiguous f32 tensor.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("a kernel of ours was given a tensor that is not contiguous"),
    }
}

/// Whether kernels of ours run on a device; on others, operations are made of candle's.
fn has_kernels(device: &Device) -> bool {
    device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda())
}

/// A copy of a tensor's values on the host.
pub(crate) fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}

#[cfg(test)]
pub(crate) mod check {
    //! Finite differences against a backward.

    use candle_core::{Device, Result, Tensor, Var};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    pub fn random(seed: u64, shape: &[usize]) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn probe(f: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], weights: &Tensor) -> f64 {
        let y = f(inputs).unwrap().flatten_all().unwrap();
        let y: Vec<f32> = y.to_vec1().unwrap();
        let w: Vec<f32> = weights.to_vec1().unwrap();
        y.iter().zip(&w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// Holds the gradient of `sum(w * f(inputs))`, `w` random, against central differences in every
    /// input at a sample of places.
    pub fn gradients(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], tolerance: f64) {
        let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors).unwrap().flatten_all().unwrap();
        let weights = random(99, &[y.elem_count()]);
        let grads = (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        for (i, var) in vars.iter().enumerate() {
            let grad: Vec<f32> =
                grads.get(var).expect("no gradient").flatten_all().unwrap().to_vec1().unwrap();
            let base: Vec<f32> = inputs[i].flatten_all().unwrap().to_vec1().unwrap();
            let step = base.len().div_ceil(40);
            for place in (0..base.len()).step_by(step) {
                let h = 5e-3f32;
                let at = |d: f32| {
                    let mut moved = base.clone();
                    moved[place] += d;
                    let mut all = inputs.to_vec();
                    all[i] = Tensor::from_vec(moved, inputs[i].shape(), &Device::Cpu).unwrap();
                    probe(&f, &all, &weights)
                };
                let numeric = (at(h) - at(-h)) / f64::from(2.0 * h);
                let analytic = f64::from(grad[place]);
                assert!(
                    (numeric - analytic).abs() <= tolerance * (1.0 + numeric.abs()),
                    "input {i} at {place}: numeric {numeric}, analytic {analytic}"
                );
            }
        }
    }

    pub fn close(a: &Tensor, b: &Tensor, tolerance: f32) {
        assert_eq!(a.dims(), b.dims());
        let a: Vec<f32> = a.flatten_all().unwrap().to_vec1().unwrap();
        let b: Vec<f32> = b.flatten_all().unwrap().to_vec1().unwrap();
        for (i, (x, y)) in a.iter().zip(&b).enumerate() {
            assert!((x - y).abs() <= tolerance * (1.0 + y.abs()), "at {i}: {x} against {y}");
        }
    }
}
