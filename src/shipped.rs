//! The models that are shipped: embedded in the program, or in a build without the feature `embedded-model`
//! found beside it.

#[cfg(feature = "embedded-model")]
use std::path::Path;
#[cfg(not(feature = "embedded-model"))]
use std::path::PathBuf;

#[cfg(feature = "embedded-model")]
use crate::config::{CodecConfig, ConfigError};
#[cfg(not(feature = "embedded-model"))]
use crate::model_files::CONFIG_FILE;
use crate::model_files::{ModelError, ModelFiles, PriorFiles};

/// A model that is shipped with Tessera.
///
/// ```
/// # #[cfg(feature = "embedded-model")] {
/// use tessera_codec::Shipped;
/// use tessera_codec::engine::Model;
///
/// let live = Model::load_shipped(Shipped::Live)?;
/// assert_eq!(live.config().latency_samples(), 1200); // 25 ms
/// assert_eq!(Shipped::with_id(&live.id()), Some(Shipped::Live));
/// # }
/// # Ok::<(), tessera_codec::engine::ModelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shipped {
    /// `tessera-48k`: for everything that can wait 70 ms; with a prior.
    General,
    /// `tessera-live-48k`: 25 ms late when both ends stream, at more bits a second and coarser sound.
    Live,
}

/// The files of a shipped model as they are embedded.
#[cfg(feature = "embedded-model")]
struct Embedded {
    config: &'static [u8],
    weights: &'static [u8],
    /// Configuration and weights.
    prior: Option<(&'static [u8], &'static [u8])>,
}

#[cfg(feature = "embedded-model")]
const GENERAL: Embedded = Embedded {
    config: include_bytes!("../models/tessera-48k/config.json"),
    weights: include_bytes!("../models/tessera-48k/weights.safetensors"),
    prior: Some((
        include_bytes!("../models/tessera-48k/prior.json"),
        include_bytes!("../models/tessera-48k/prior.safetensors"),
    )),
};

#[cfg(feature = "embedded-model")]
const LIVE: Embedded = Embedded {
    config: include_bytes!("../models/tessera-live-48k/config.json"),
    weights: include_bytes!("../models/tessera-live-48k/weights.safetensors"),
    prior: None,
};

impl Shipped {
    /// All of them, the one that is used by default first.
    pub const ALL: [Self; 2] = [Self::General, Self::Live];

    /// Its name, which is its configuration's too.
    pub fn name(self) -> &'static str {
        match self {
            Self::General => "tessera-48k",
            Self::Live => "tessera-live-48k",
        }
    }

    /// The model of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shipped| shipped.name() == name)
    }

    /// The model with that id. To find out, the models' files are hashed.
    pub fn with_id(id: &[u8; 16]) -> Option<Self> {
        Self::ALL.into_iter().find(|shipped| shipped.files().is_ok_and(|files| files.id == *id))
    }

    /// Its place, relative to the binary or the repository.
    fn place(self) -> String {
        format!("models/{}", self.name())
    }
}

#[cfg(feature = "embedded-model")]
impl Shipped {
    fn embedded(self) -> &'static Embedded {
        match self {
            Self::General => &GENERAL,
            Self::Live => &LIVE,
        }
    }

    /// The files of the model.
    pub(crate) fn files(self) -> Result<ModelFiles<'static>, ModelError> {
        let Embedded { config, weights, .. } = self.embedded();
        ModelFiles::new(config, (*weights).into(), Path::new(&self.place()))
    }

    /// The files of its prior, where it has one.
    pub(crate) fn prior_files(self) -> Result<Option<PriorFiles<'static>>, ModelError> {
        let parse = |(config, weights): (&'static [u8], &'static [u8])| {
            PriorFiles::new(config, weights.into(), Path::new(&self.place()))
        };
        self.embedded().prior.map(parse).transpose()
    }

    /// Its configuration, without loading the weights.
    ///
    /// # Errors
    /// None with the models of a release.
    pub fn config(self) -> Result<CodecConfig, ConfigError> {
        CodecConfig::from_json(&String::from_utf8_lossy(self.embedded().config))
    }
}

#[cfg(not(feature = "embedded-model"))]
impl Shipped {
    /// The files of the model.
    pub(crate) fn files(self) -> Result<ModelFiles<'static>, ModelError> {
        ModelFiles::load(&self.folder()?)
    }

    /// The files of its prior, where it has one.
    pub(crate) fn prior_files(self) -> Result<Option<PriorFiles<'static>>, ModelError> {
        PriorFiles::load_if_any(&self.folder()?)
    }

    /// The model's folder: the first beside this program or above it.
    fn folder(self) -> Result<PathBuf, ModelError> {
        let place = self.place();
        let beside = std::env::current_exe().ok();
        let mut folders = beside.iter().flat_map(|exe| exe.ancestors().skip(1));
        folders
            .find_map(|folder| {
                Some(folder.join(&place)).filter(|folder| folder.join(CONFIG_FILE).is_file())
            })
            .ok_or(ModelError::NotFound(place))
    }
}

#[cfg(all(test, feature = "embedded-model"))]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_the_models_own() {
        for shipped in Shipped::ALL {
            assert_eq!(Shipped::from_name(shipped.name()), Some(shipped));
            assert_eq!(shipped.config().unwrap().name, shipped.name());
            assert_eq!(Shipped::with_id(&shipped.files().unwrap().id), Some(shipped));
        }
        assert_eq!(Shipped::from_name("another"), None);
        assert_eq!(Shipped::with_id(&[0; 16]), None);
    }
}
