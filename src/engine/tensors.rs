//! Tensors of a weights file, checked: every one that the configuration asks for is there, has the shape
//! it should have, and holds finite numbers.

use safetensors::{Dtype, SafeTensors};

use super::kernels::half;
use crate::model_files::{ModelError, WeightsFile};

/// The tensors of a file.
pub struct Tensors<'a> {
    tensors: SafeTensors<'a>,
    file: &'a WeightsFile<'a>,
}

/// The values of one tensor, in the order of the file.
pub struct Values<'a> {
    kind: Kind,
    bytes: &'a [u8],
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Half,
    Brain,
    Single,
}

impl<'a> Tensors<'a> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn new(file: &'a WeightsFile<'a>) -> Result<Self, ModelError> {
        let tensors = SafeTensors::deserialize(&file.bytes).map_err(|e| file.error(e))?;
        Ok(Self { tensors, file })
    }

    /// Values of all tensors together.
    pub fn values(&self) -> usize {
        let count = |view: &safetensors::tensor::TensorView| view.shape().iter().product::<usize>();
        self.tensors.iter().map(|(_, view)| count(&view)).sum()
    }

    /// The tensor `name`, which has to be of `shape`.
    ///
    /// # Errors
    /// It is missing, of another shape or type, or holds a value that is not finite.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Values<'a>, ModelError> {
        let fail = |reason: String| self.file.error(reason);
        let view = self
            .tensors
            .tensor(name)
            .map_err(|_| fail(format!("the tensor `{name}` is missing")))?;
        if view.shape() != shape {
            return Err(fail(format!(
                "the tensor `{name}` is {:?}, but the configuration makes it {shape:?}",
                view.shape()
            )));
        }
        let kind = match view.dtype() {
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::Brain,
            Dtype::F32 => Kind::Single,
            other => {
                return Err(fail(format!(
                    "the tensor `{name}` is of type {other:?}; F16, BF16 and F32 can be used"
                )));
            }
        };
        let values = Values { kind, bytes: view.data() };
        let expected = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if expected != Some(values.len()) {
            return Err(fail(format!("the tensor `{name}` is cut short")));
        }
        match (0..values.len()).find(|&i| !values.is_finite(i)) {
            None => Ok(values),
            Some(i) => Err(fail(format!("value {i} of the tensor `{name}` is not finite"))),
        }
    }
}

impl Values<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / if self.kind == Kind::Single { 4 } else { 2 }
    }

    /// Whether all of them are half precision.
    pub fn are_half(&self) -> bool {
        self.kind == Kind::Half
    }

    /// The bits of value `i`, when half precision.
    pub fn half(&self, i: usize) -> u16 {
        u16::from_le_bytes([self.bytes[2 * i], self.bytes[2 * i + 1]])
    }

    /// Value `i`.
    pub fn single(&self, i: usize) -> f32 {
        match self.kind {
            Kind::Half => half::to_f32(self.half(i)),
            Kind::Brain => f32::from_bits(u32::from(self.half(i)) << 16),
            Kind::Single => {
                let b = &self.bytes[4 * i..4 * i + 4];
                f32::from_le_bytes([b[0], b[1], b[2], b[3]])
            }
        }
    }

    /// All of them.
    pub fn to_vec(&self) -> Box<[f32]> {
        (0..self.len()).map(|i| self.single(i)).collect()
    }

    fn is_finite(&self, i: usize) -> bool {
        match self.kind {
            Kind::Half => half::is_finite(self.half(i)),
            Kind::Brain | Kind::Single => self.single(i).is_finite(),
        }
    }
}
