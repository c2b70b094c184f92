//! Weights of a linear layer, laid out in the order in which a product reads them.

use super::kernels::{HalfRow, SingleRow, WIDTH};
use super::tensors::{Tensors, Values};
use crate::model_files::ModelError;

/// A linear layer: weights and bias. Outputs are in panels of sixteen; a panel has one row of sixteen
/// weights for each input, so that a product reads it from front to back. Outputs that fill up the last
/// panel have weights of zero.
///
/// What is half precision in the file stays so: half the memory to stream, and converting is exact.
#[derive(Debug)]
pub struct Matrix {
    inputs: usize,
    outputs: usize,
    weights: Weights,
    bias: Box<[SingleRow]>,
}

/// Rows of panels, `panel * inputs + input`.
#[derive(Debug)]
pub enum Weights {
    /// Half precision.
    Half(Box<[HalfRow]>),
    /// Single precision.
    Single(Box<[SingleRow]>),
}

impl Matrix {
    /// `name.weight` (outputs, inputs) and `name.bias` (outputs).
    ///
    /// # Errors
    /// As [`Tensors::get`].
    pub fn load(
        tensors: &Tensors,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, ModelError> {
        Self::load_some(tensors, name, inputs, outputs, &(0..outputs).collect::<Vec<_>>())
    }

    /// The same with the outputs `chosen` alone, in that order.
    ///
    /// # Errors
    /// As [`Tensors::get`].
    pub fn load_some(
        tensors: &Tensors,
        name: &str,
        inputs: usize,
        outputs: usize,
        chosen: &[usize],
    ) -> Result<Self, ModelError> {
        let weights = tensors.get(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = tensors.get(&format!("{name}.bias"), &[outputs])?;
        Ok(Self::pack(&weights, inputs, chosen, |output| bias.single(output)))
    }

    /// Rows `chosen` of `values` (any number, inputs), with a bias for each.
    pub fn pack(
        values: &Values,
        inputs: usize,
        chosen: &[usize],
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let count = chosen.len().div_ceil(WIDTH) * inputs;
        let places = || {
            chosen.iter().enumerate().flat_map(move |(place, &output)| {
                (0..inputs).map(move |k| {
                    ((place / WIDTH) * inputs + k, place % WIDTH, output * inputs + k)
                })
            })
        };
        let weights = if values.are_half() {
            let mut rows = vec![HalfRow::default(); count];
            places().for_each(|(row, lane, from)| rows[row].0[lane] = values.half(from));
            Weights::Half(rows.into())
        } else {
            let mut rows = vec![SingleRow::default(); count];
            places().for_each(|(row, lane, from)| rows[row].0[lane] = values.single(from));
            Weights::Single(rows.into())
        };
        let mut biases = vec![SingleRow::default(); chosen.len().div_ceil(WIDTH)];
        for (place, &output) in chosen.iter().enumerate() {
            biases[place / WIDTH].0[place % WIDTH] = bias(output);
        }
        Self { inputs, outputs: chosen.len(), weights, bias: biases.into() }
    }

    /// Length of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of a row that comes out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Panels of sixteen outputs, the last one perhaps not full.
    pub fn panels(&self) -> usize {
        self.bias.len()
    }

    /// Rows of panels.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Bias of each panel.
    pub fn bias(&self) -> &[SingleRow] {
        &self.bias
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::Half(rows) => size_of_val(rows.as_ref()),
            Weights::Single(rows) => size_of_val(rows.as_ref()),
        };
        weights + size_of_val(self.bias.as_ref())
    }
}
