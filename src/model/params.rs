//! Named parameters: made at random, read from a checkpoint, handed to the optimizer.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The parameters of a network by the name they have in `weights.safetensors`.
#[derive(Debug, Clone)]
pub struct Params {
    vars: BTreeMap<String, Var>,
    device: Device,
    /// Which of them layers get as values that no gradient is computed for, by name.
    held: fn(&str) -> bool,
}

/// Where a layer's parameters come from, under a prefix.
pub struct Builder<'a> {
    params: &'a mut Params,
    source: Source<'a>,
}

enum Source<'a> {
    Random(Box<ChaCha8Rng>),
    Tensors(&'a BTreeMap<String, Tensor>),
}

impl Params {
    /// No parameters yet.
    pub fn new(device: &Device) -> Self {
        Self::holding(device, |_| false)
    }

    /// No parameters yet; layers will get those whose names `held` accepts as constants, which no gradient is
    /// computed for.
    pub fn holding(device: &Device, held: fn(&str) -> bool) -> Self {
        Self { vars: BTreeMap::new(), device: device.clone(), held }
    }

    /// Fills with random values as each layer asks for them.
    pub fn random(&mut self, seed: u64) -> Builder<'_> {
        Builder { params: self, source: Source::Random(Box::new(ChaCha8Rng::seed_from_u64(seed))) }
    }

    /// Fills with what was read, checking shapes.
    pub fn from<'a>(&'a mut self, tensors: &'a BTreeMap<String, Tensor>) -> Builder<'a> {
        Builder { params: self, source: Source::Tensors(tensors) }
    }

    /// Names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.vars.iter()
    }

    /// Number of values in all.
    pub fn count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// Copies of all values.
    ///
    /// # Errors
    /// The device fails.
    pub fn snapshot(&self) -> Result<BTreeMap<String, Tensor>> {
        self.vars.iter().map(|(k, v)| Ok((k.clone(), v.as_detached_tensor().copy()?))).collect()
    }

    /// Sets all values from tensors of the same names.
    ///
    /// # Errors
    /// A name is missing or has another shape.
    pub fn restore(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.vars {
            match tensors.get(name) {
                Some(t) => var.set(&t.to_device(&self.device)?.to_dtype(var.dtype())?)?,
                None => candle_core::bail!("the parameter `{name}` is missing"),
            }
        }
        Ok(())
    }
}

impl Builder<'_> {
    /// Values made by `random` from the generator and their number.
    ///
    /// # Errors
    /// The parameter is missing from what was read, or has another shape.
    pub fn start<S: Into<Shape>>(
        &mut self,
        name: &str,
        shape: S,
        random: impl FnOnce(&mut ChaCha8Rng, usize) -> Vec<f32>,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let value = match &mut self.source {
            Source::Random(rng) => {
                let values = random(rng, shape.elem_count());
                Tensor::from_vec(values, shape, &self.params.device)?
            }
            Source::Tensors(tensors) => match tensors.get(name) {
                Some(t) if t.shape() == &shape => {
                    t.to_device(&self.params.device)?.to_dtype(DType::F32)?
                }
                Some(t) => candle_core::bail!(
                    "the tensor `{name}` is {:?}, but the configuration makes it {:?}",
                    t.dims(),
                    shape.dims()
                ),
                None => candle_core::bail!("the tensor `{name}` is missing"),
            },
        };
        let var = Var::from_tensor(&value)?;
        let held = (self.params.held)(name);
        let tensor = if held { var.as_detached_tensor() } else { var.as_tensor().clone() };
        self.params.vars.insert(name.into(), var);
        Ok(tensor)
    }

    /// Normally distributed values of a standard deviation.
    ///
    /// # Errors
    /// The parameter is missing from what was read, or has another shape.
    pub fn normal<S: Into<Shape>>(
        &mut self,
        name: &str,
        shape: S,
        deviation: f32,
    ) -> Result<Tensor> {
        self.start(name, shape, |rng, count| {
            (0..count).map(|_| deviation * standard_normal(rng)).collect()
        })
    }

    /// One value everywhere.
    ///
    /// # Errors
    /// The parameter is missing from what was read, or has another shape.
    pub fn constant<S: Into<Shape>>(&mut self, name: &str, shape: S, value: f32) -> Result<Tensor> {
        self.start(name, shape, |_, count| vec![value; count])
    }
}

/// A standard normal number (Box and Muller).
pub fn standard_normal(rng: &mut ChaCha8Rng) -> f32 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()) as f32
}
