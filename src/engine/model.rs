//! A trained model's weights, checked and laid out for the engine.

use std::path::Path;
use std::sync::Arc;

use super::band_levels::BandLevels;
use super::block::Block;
use super::decoder::{DecodeTask, decode_schedule};
use super::encoder::{EncodeTask, encode_schedule};
use super::error::EngineError;
use super::kernels::{InstructionSet, Kernels};
use super::level::Level;
use super::matrix::Matrix;
use super::schedule::Schedule;
use super::synthesis::Synthesis;
use super::tensors::Tensors;
use crate::config::CodecConfig;
use crate::model_files::{self, ModelError, ModelFiles};
use crate::shipped::Shipped;
use crate::synthesis::{self, OwnNoise};
use crate::tokens::TokenLayout;

/// A trained model: weights that any number of streams on any threads share. Cloning it copies a
/// pointer.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) weights: Arc<Weights>,
    pub(super) kernels: Kernels,
}

/// Everything that belongs to the model and not to a stream.
#[derive(Debug)]
pub(super) struct Weights {
    pub config: CodecConfig,
    pub layout: TokenLayout,
    id: [u8; 16],
    pub band_levels: BandLevels,
    parameters: usize,
    pub analysis: Matrix,
    pub envelope: Matrix,
    pub encoder_blocks: Box<[Block]>,
    pub levels: Box<[Level]>,
    pub input: Matrix,
    pub decoder_blocks: Box<[Block]>,
    pub head: Matrix,
    pub synthesis: Synthesis,
    /// The work of a step in as few tasks as there can be, and in small units.
    pub encode: [Schedule<EncodeTask>; 2],
    pub decode: [Schedule<DecodeTask>; 2],
}

impl Model {
    /// Loads the model in the folder `dir`: `config.json` and `weights.safetensors`.
    ///
    /// # Errors
    /// A file is missing, too large, damaged, or of another configuration.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        Self::from_files(&ModelFiles::load(dir)?)
    }

    /// The shipped model for general use: embedded in the program, or in a build without the feature
    /// `embedded-model` found beside it.
    ///
    /// # Errors
    /// The model is not there or cannot be loaded.
    pub fn shipped() -> Result<Self, ModelError> {
        Self::load_shipped(Shipped::General)
    }

    /// A shipped model.
    ///
    /// # Errors
    /// The model is not there or cannot be loaded.
    pub fn load_shipped(shipped: Shipped) -> Result<Self, ModelError> {
        Self::from_files(&shipped.files()?)
    }

    /// A model from the contents of its two files; `path` names it in errors.
    ///
    /// # Errors
    /// The contents are damaged or do not fit together.
    pub fn from_bytes(config: &[u8], weights: &[u8], path: &Path) -> Result<Self, ModelError> {
        Self::from_files(&ModelFiles::new(config, weights.into(), path)?)
    }

    fn from_files(files: &ModelFiles) -> Result<Self, ModelError> {
        let config = files.config.clone();
        let tensors = Tensors::new(&files.weights)?;
        let (dim, taps, expansion) = (config.dim, config.kernel, config.expansion);
        let blocks = |half: &str, count: usize| {
            (0..count)
                .map(|i| format!("{half}.blocks.{i}"))
                .map(|name| Block::load(&tensors, &name, dim, taps, expansion))
                .collect::<Result<Box<[_]>, _>>()
        };
        let analysis = Matrix::load(&tensors, "encoder.analysis", config.analysis_window, dim)?;
        let band_levels = BandLevels::new(&config);
        let envelope = Matrix::load(&tensors, "encoder.envelope", band_levels.count(), dim)?;
        let encoder_blocks = blocks("encoder", config.encoder_blocks)?;
        let levels = (0..config.levels())
            .map(|i| Level::load(&tensors, i, &config))
            .collect::<Result<Box<[_]>, _>>()?;
        let input = Matrix::load(&tensors, "decoder.input", dim, dim)?;
        let decoder_blocks = blocks("decoder", config.decoder_blocks)?;
        let own = OwnNoise {
            turns: match synthesis::noise_shape(&config) {
                [0, _] => Vec::new(),
                shape => tensors.get(synthesis::NOISE, &shape)?.to_vec().into(),
            },
            loops: match synthesis::loops_shape(&config) {
                [0, ..] => Vec::new(),
                shape => tensors.get(synthesis::LOOPS, &shape)?.to_vec().into(),
            },
        };
        let synthesis = Synthesis::new(&config, &own);
        let head = Matrix::load(&tensors, "decoder.head", dim, synthesis.inputs())?;
        let rows = config.layout().frames_per_step();
        let encode =
            encode_schedule(&band_levels, &analysis, &envelope, &encoder_blocks, &levels, rows);
        let decode = decode_schedule(&input, &decoder_blocks, &levels, &head, &config, rows);
        let weights = Weights {
            layout: config.layout(),
            id: files.id,
            band_levels,
            parameters: tensors.values(),
            analysis,
            envelope,
            encoder_blocks,
            levels,
            input,
            decoder_blocks,
            head,
            synthesis,
            encode,
            decode,
            config,
        };
        let kernels = Kernels::best();
        Ok(Self { weights: Arc::new(weights), kernels })
    }

    /// The same model, computed with another instruction set; the results are the same to the last bit.
    ///
    /// # Errors
    /// This CPU does not have it.
    pub fn with_instruction_set(&self, set: InstructionSet) -> Result<Self, EngineError> {
        let kernels = Kernels::new(set).ok_or(EngineError::Unavailable(set))?;
        Ok(Self { weights: self.weights.clone(), kernels })
    }

    /// What this model is computed with: the fastest instruction set of this CPU, unless chosen.
    pub fn instruction_set(&self) -> InstructionSet {
        self.kernels.set()
    }

    /// What the network looks like.
    pub fn config(&self) -> &CodecConfig {
        &self.weights.config
    }

    /// How tokens are laid out.
    pub fn layout(&self) -> &TokenLayout {
        &self.weights.layout
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.weights.levels.len()
    }

    /// Hash of configuration and weights: tokens are of use only to the model that made them.
    pub fn id(&self) -> [u8; 16] {
        self.weights.id
    }

    /// The id in hexadecimal.
    pub fn id_hex(&self) -> String {
        model_files::id_hex(&self.weights.id)
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.weights.parameters
    }

    /// Samples of a step: what is coded at a time.
    pub fn chunk_samples(&self) -> usize {
        self.weights.config.hop * self.frames_per_step()
    }

    /// Codes of a step with the first `levels` levels. In slices of codes, those of a step stand
    /// together: first the codes of level 0 in the order of time, then those of level 1, and so on.
    pub fn codes_per_step(&self, levels: usize) -> usize {
        let layout = self.layout();
        (0..levels.min(layout.levels())).map(|level| layout.codes_per_step(level)).sum()
    }

    /// The vector that stands for a code in its codebook, before it is spread over frames and channels: codes
    /// with vectors close to each other sound alike. `None` if there is no such level or code.
    pub fn code(&self, level: usize, code: u16) -> Option<&[f32]> {
        self.weights.levels.get(level)?.code(code)
    }

    /// Bytes of memory that the weights take, once for all streams.
    pub fn bytes(&self) -> usize {
        let w = &*self.weights;
        let blocks = w.encoder_blocks.iter().chain(&w.decoder_blocks).map(Block::bytes);
        let matrices = [&w.analysis, &w.envelope, &w.input, &w.head].map(Matrix::bytes);
        blocks.chain(w.levels.iter().map(Level::bytes)).chain(matrices).sum::<usize>()
            + w.band_levels.bytes()
            + w.synthesis.bytes()
    }

    pub(super) fn frames_per_step(&self) -> usize {
        self.layout().frames_per_step()
    }

    /// An error unless `levels` is one of the model's.
    pub(super) fn check_levels(&self, levels: usize) -> Result<(), EngineError> {
        let most = self.levels();
        if (1..=most).contains(&levels) {
            Ok(())
        } else {
            Err(EngineError::Levels { given: levels, most })
        }
    }
}
