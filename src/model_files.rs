//! The two files of a model: where they are, how large they may be, and the id made of them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::{CodecConfig, ConfigError, MAX_CONFIG_BYTES};

/// Name of the configuration in a model folder.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the weights in a model folder.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// Name of the prior's configuration in a model folder.
pub const PRIOR_CONFIG_FILE: &str = "prior.json";
/// Name of the prior's weights in a model folder.
pub const PRIOR_WEIGHTS_FILE: &str = "prior.safetensors";
/// Largest file of weights that is read, in bytes.
pub const MAX_WEIGHTS_BYTES: u64 = 1 << 30;
/// Name and place of the model that is shipped, relative to the binary or the repository.
pub const SHIPPED_MODEL: &str = "models/tessera-48k";

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the model cannot be read.
    #[error("cannot read the model's {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file of the model is larger than any model.
    #[error("{path} has {bytes} bytes; a model's has {most} at most")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// The configuration is not usable.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ConfigError,
    },
    /// The weights are damaged or belong to another configuration.
    #[error("{path} does not hold the weights its config.json describes: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// There is no model where one is looked for by default.
    #[error(
        "no model found: looked for {0} beside this program; name a model's folder with --model"
    )]
    NotFound(String),
}

/// The contents of a model's files, with the configuration read and checked.
pub(crate) struct ModelFiles<'a> {
    pub config: CodecConfig,
    pub weights: Cow<'a, [u8]>,
    pub id: [u8; 16],
    path: PathBuf,
}

impl ModelFiles<'static> {
    /// Reads the model in the folder `dir`.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let config = read_limited(&dir.join(CONFIG_FILE), MAX_CONFIG_BYTES)?;
        let weights = read_limited(&dir.join(WEIGHTS_FILE), MAX_WEIGHTS_BYTES)?;
        Self::new(&config, weights.into(), dir)
    }

    /// The model shipped with Tessera: embedded in the program, or in a build without the feature
    /// `embedded-model` found beside it.
    #[cfg(feature = "embedded-model")]
    pub fn shipped() -> Result<Self, ModelError> {
        let config = include_bytes!("../models/tessera-48k/config.json");
        let weights = include_bytes!("../models/tessera-48k/weights.safetensors");
        Self::new(config, weights.into(), Path::new(SHIPPED_MODEL))
    }

    /// The model shipped with Tessera: embedded in the program, or in a build without the feature
    /// `embedded-model` found beside it.
    #[cfg(not(feature = "embedded-model"))]
    pub fn shipped() -> Result<Self, ModelError> {
        let beside = std::env::current_exe().ok();
        let folder = beside
            .iter()
            .flat_map(|exe| exe.ancestors().skip(1))
            .map(|folder| folder.join(SHIPPED_MODEL))
            .find(|folder| folder.join(CONFIG_FILE).is_file());
        match folder {
            Some(folder) => Self::load(&folder),
            None => Err(ModelError::NotFound(SHIPPED_MODEL.into())),
        }
    }
}

impl<'a> ModelFiles<'a> {
    /// From the contents of the two files; `dir` names them in errors.
    pub fn new(config: &[u8], weights: Cow<'a, [u8]>, dir: &Path) -> Result<Self, ModelError> {
        let id = model_id(config, &weights);
        let config = CodecConfig::from_json(&String::from_utf8_lossy(config))
            .map_err(|source| ModelError::Config { path: dir.join(CONFIG_FILE), source })?;
        Ok(Self { config, weights, id, path: dir.join(WEIGHTS_FILE) })
    }

    /// What is wrong with the weights.
    pub fn weights_error(&self, reason: impl ToString) -> ModelError {
        ModelError::Weights { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// A model's id in hexadecimal.
pub(crate) fn id_hex(id: &[u8; 16]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

fn model_id(config: &[u8], weights: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update((config.len() as u64).to_le_bytes());
    hash.update(config);
    hash.update(weights);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

fn read_limited(path: &Path, most: u64) -> Result<Vec<u8>, ModelError> {
    let fail = |source| ModelError::Read { path: path.into(), source };
    let bytes = std::fs::metadata(path).map_err(fail)?.len();
    if bytes > most {
        return Err(ModelError::TooLarge { path: path.into(), bytes, most });
    }
    std::fs::read(path).map_err(fail)
}
