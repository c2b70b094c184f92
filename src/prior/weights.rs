//! A trained prior's weights, checked and laid out for the engine.

use std::path::Path;
use std::sync::Arc;

use super::PriorConfig;
use crate::engine::block::Block;
use crate::engine::kernels::Kernels;
use crate::engine::matrix::Matrix;
use crate::engine::tensors::Tensors;
use crate::engine::{EngineError, InstructionSet, ModelError};
use crate::model_files::{PriorFiles, id_hex};
use crate::shipped::Shipped;
use crate::tokens::TokenLayout;

/// A trained prior: weights that any number of streams on any threads share. Cloning it copies a pointer.
///
/// [`PriorState`](super::PriorState) is what a stream keeps.
#[derive(Debug, Clone)]
pub struct Prior {
    pub(super) weights: Arc<Weights>,
    pub(super) kernels: Kernels,
}

/// Everything that belongs to the prior and not to a stream.
#[derive(Debug)]
pub(super) struct Weights {
    pub config: PriorConfig,
    layout: TokenLayout,
    id: [u8; 16],
    parameters: usize,
    /// Level of each code of a step.
    pub levels_of_codes: Box<[usize]>,
    /// By level, (codebook, embedding).
    pub embeddings: Box<[Box<[f32]>]>,
    pub input: Matrix,
    pub blocks: Box<[Block]>,
    pub context: Matrix,
    /// Of the codes of a step but the first.
    pub past: Box<[Matrix]>,
    /// By level.
    pub hidden: Box<[Hidden]>,
    /// By level.
    pub heads: Box<[Matrix]>,
}

/// The layer within a step.
#[derive(Debug)]
pub(super) struct Hidden {
    pub widen: Matrix,
    pub narrow: Matrix,
    pub gain: Box<[f32]>,
}

impl Prior {
    /// Loads the prior in the folder `dir`: `prior.json` and `prior.safetensors`.
    ///
    /// # Errors
    /// A file is missing, too large, damaged, or of another configuration.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        Self::from_files(&PriorFiles::load(dir)?)
    }

    /// As [`load`](Self::load), or nothing where the folder of a model has no prior.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_if_any(dir: &Path) -> Result<Option<Self>, ModelError> {
        PriorFiles::load_if_any(dir)?.as_ref().map(Self::from_files).transpose()
    }

    /// The prior of [`Model::shipped`](crate::engine::Model::shipped), if it has one.
    ///
    /// # Errors
    /// As [`load_shipped`](Self::load_shipped).
    pub fn shipped() -> Result<Option<Self>, ModelError> {
        Self::load_shipped(Shipped::General)
    }

    /// The prior of a shipped model, if it has one.
    ///
    /// # Errors
    /// It cannot be loaded, or is looked for beside the program and there is not even a model.
    pub fn load_shipped(shipped: Shipped) -> Result<Option<Self>, ModelError> {
        shipped.prior_files()?.as_ref().map(Self::from_files).transpose()
    }

    /// A prior from the contents of its two files; `path` names it in errors.
    ///
    /// # Errors
    /// The contents are damaged or do not fit together.
    pub fn from_bytes(config: &[u8], weights: &[u8], path: &Path) -> Result<Self, ModelError> {
        Self::from_files(&PriorFiles::new(config, weights.into(), path)?)
    }

    fn from_files(files: &PriorFiles) -> Result<Self, ModelError> {
        let config = files.config.clone();
        let tensors = Tensors::new(&files.weights)?;
        let PriorConfig { embedding, dim, width, expansion, codebook_size, .. } = config;
        let codes = config.codes_per_step();
        let levels = 0..config.strides.len();
        let embeddings = levels
            .clone()
            .map(|l| {
                let name = format!("embedding.{l}.weight");
                Ok(tensors.get(&name, &[codebook_size, embedding])?.to_vec())
            })
            .collect::<Result<_, ModelError>>()?;
        let input = Matrix::load(&tensors, "input", codes * embedding, dim)?;
        let blocks = (0..config.blocks)
            .map(|b| Block::load(&tensors, &format!("blocks.{b}"), dim, config.kernel, expansion))
            .collect::<Result<_, _>>()?;
        let context = Matrix::load(&tensors, "context", dim, codes * width)?;
        let outputs: Vec<usize> = (0..width).collect();
        let past = (1..codes)
            .map(|i| {
                let inputs = i * embedding;
                let values = tensors.get(&format!("past.{i}.weight"), &[width, inputs])?;
                Ok(Matrix::pack(&values, inputs, &outputs, |_| 0.0))
            })
            .collect::<Result<_, ModelError>>()?;
        let hidden = levels
            .clone()
            .map(|l| {
                let (name, wide) = (format!("hidden.{l}"), width * expansion);
                Ok(Hidden {
                    widen: Matrix::load(&tensors, &format!("{name}.widen"), width, wide)?,
                    narrow: Matrix::load(&tensors, &format!("{name}.narrow"), wide, width)?,
                    gain: tensors.get(&format!("{name}.gain"), &[width])?.to_vec(),
                })
            })
            .collect::<Result<_, ModelError>>()?;
        let heads = levels
            .map(|l| Matrix::load(&tensors, &format!("head.{l}"), width, codebook_size))
            .collect::<Result<_, _>>()?;
        let weights = Weights {
            layout: config.layout(),
            id: files.id,
            parameters: tensors.values(),
            levels_of_codes: config.levels_of_codes().into(),
            embeddings,
            input,
            blocks,
            context,
            past,
            hidden,
            heads,
            config,
        };
        Ok(Self { weights: Arc::new(weights), kernels: Kernels::best() })
    }

    /// The same prior, computed with another instruction set; the results are the same to the last bit.
    ///
    /// # Errors
    /// This CPU does not have it.
    pub fn with_instruction_set(&self, set: InstructionSet) -> Result<Self, EngineError> {
        let kernels = Kernels::new(set).ok_or(EngineError::Unavailable(set))?;
        Ok(Self { weights: self.weights.clone(), kernels })
    }

    /// What the network looks like.
    pub fn config(&self) -> &PriorConfig {
        &self.weights.config
    }

    /// How the tokens that it predicts are laid out.
    pub fn layout(&self) -> &TokenLayout {
        &self.weights.layout
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.weights.heads.len()
    }

    /// Codes of a step with the first `levels` levels.
    pub fn codes_per_step(&self, levels: usize) -> usize {
        self.weights.levels_of_codes.partition_point(|level| *level < levels)
    }

    /// Hash of configuration and weights: what was coded with a prior is decoded by no other.
    pub fn id(&self) -> [u8; 16] {
        self.weights.id
    }

    /// The id in hexadecimal.
    pub fn id_hex(&self) -> String {
        id_hex(&self.weights.id)
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.weights.parameters
    }

    /// Checks that it predicts the tokens of the codec with the id `codec`.
    ///
    /// # Errors
    /// [`ModelError::OtherCodec`].
    pub fn check_codec(&self, codec: [u8; 16]) -> Result<(), ModelError> {
        let (of, model) = (&self.weights.config.codec, id_hex(&codec));
        if of.eq_ignore_ascii_case(&model) {
            return Ok(());
        }
        Err(ModelError::OtherCodec { codec: of.clone(), model })
    }
}
