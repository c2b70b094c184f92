//! The two files of a model, and those of its prior: where they are, how large they may be, and the id
//! made of them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::{CodecConfig, ConfigError, MAX_CONFIG_BYTES};
use crate::prior::PriorConfig;

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
    #[error("{path} does not hold the weights its configuration describes: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The prior beside a model is that of another one.
    #[error(
        "the prior predicts the tokens of the model {codec}, but this is {model}: put the model's own prior \
         into its folder"
    )]
    OtherCodec {
        /// Id of the model that it was trained for.
        codec: String,
        /// Id of the model at hand.
        model: String,
    },
    /// There is no model where one is looked for by default.
    #[error(
        "no model found: looked for {0} beside this program; name a model's folder with --model"
    )]
    NotFound(String),
}

/// A configuration, read and checked, and the contents of the file of weights beside it.
pub(crate) struct Files<'a, C> {
    pub config: C,
    pub weights: WeightsFile<'a>,
    pub id: [u8; 16],
}

/// The files of a model.
pub(crate) type ModelFiles<'a> = Files<'a, CodecConfig>;

/// The files of a prior.
pub(crate) type PriorFiles<'a> = Files<'a, PriorConfig>;

/// The contents of a file of weights.
pub(crate) struct WeightsFile<'a> {
    pub bytes: Cow<'a, [u8]>,
    path: PathBuf,
}

impl ModelFiles<'static> {
    /// Reads the model in the folder `dir`.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let (config, weights) = read(dir, CONFIG_FILE, WEIGHTS_FILE)?;
        Self::new(&config, weights.into(), dir)
    }
}

impl<'a> ModelFiles<'a> {
    /// From the contents of the two files; `dir` names them in errors.
    pub fn new(config: &[u8], weights: Cow<'a, [u8]>, dir: &Path) -> Result<Self, ModelError> {
        let names = [CONFIG_FILE, WEIGHTS_FILE].map(|name| dir.join(name));
        Self::parse(config, weights, names, CodecConfig::from_json)
    }
}

impl PriorFiles<'static> {
    /// Reads the prior in the folder `dir`.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let (config, weights) = read(dir, PRIOR_CONFIG_FILE, PRIOR_WEIGHTS_FILE)?;
        Self::new(&config, weights.into(), dir)
    }

    /// The prior in the folder of a model, if it has one.
    pub fn load_if_any(dir: &Path) -> Result<Option<Self>, ModelError> {
        dir.join(PRIOR_CONFIG_FILE).exists().then(|| Self::load(dir)).transpose()
    }
}

impl<'a> PriorFiles<'a> {
    /// From the contents of the two files; `dir` names them in errors.
    pub fn new(config: &[u8], weights: Cow<'a, [u8]>, dir: &Path) -> Result<Self, ModelError> {
        let names = [PRIOR_CONFIG_FILE, PRIOR_WEIGHTS_FILE].map(|name| dir.join(name));
        Self::parse(config, weights, names, PriorConfig::from_json)
    }
}

impl<'a, C> Files<'a, C> {
    fn parse(
        config: &[u8],
        weights: Cow<'a, [u8]>,
        [config_path, path]: [PathBuf; 2],
        from_json: impl Fn(&str) -> Result<C, ConfigError>,
    ) -> Result<Self, ModelError> {
        let id = model_id(config, &weights);
        let config = from_json(&String::from_utf8_lossy(config))
            .map_err(|source| ModelError::Config { path: config_path, source })?;
        Ok(Self { config, weights: WeightsFile { bytes: weights, path }, id })
    }
}

impl WeightsFile<'_> {
    /// What is wrong with the weights.
    pub fn error(&self, reason: impl ToString) -> ModelError {
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

/// The contents of the files of a configuration and of weights.
fn read(dir: &Path, config: &str, weights: &str) -> Result<(Vec<u8>, Vec<u8>), ModelError> {
    let config = read_limited(&dir.join(config), MAX_CONFIG_BYTES)?;
    Ok((config, read_limited(&dir.join(weights), MAX_WEIGHTS_BYTES)?))
}

fn read_limited(path: &Path, most: u64) -> Result<Vec<u8>, ModelError> {
    let fail = |source| ModelError::Read { path: path.into(), source };
    let bytes = std::fs::metadata(path).map_err(fail)?.len();
    if bytes > most {
        return Err(ModelError::TooLarge { path: path.into(), bytes, most });
    }
    std::fs::read(path).map_err(fail)
}
