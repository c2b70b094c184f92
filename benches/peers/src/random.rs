//! Weights for candle models: small random numbers, whatever is asked for.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::{SimpleBackend, VarBuilder};

/// A source of random weights.
struct Random {
    /// SNAC asks for a full convolution first and takes a depthwise one where there is none.
    depthwise: bool,
}

impl SimpleBackend for Random {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        let dims = s.dims();
        let square = matches!(dims, [a, b, taps] if a == b && *a > 1 && *taps > 1);
        if self.depthwise && square && name.ends_with("original1") {
            candle_core::bail!("{name} is depthwise");
        }
        // Small enough that nothing grows through a hundred layers.
        Tensor::randn(0f32, 0.05, s, dev)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("the shape of {name} is not known")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Weights for a model.
pub fn weights(depthwise: bool) -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Random { depthwise }), DType::F32, Device::Cpu)
}
