//! Which model a command works with, and which prior.

use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::{Once, OnceLock};

use anyhow::{Context, Result, anyhow};
use tessera_codec::Shipped;
use tessera_codec::bitstream::{ContainerReader, Header};
#[cfg(feature = "train")]
use tessera_codec::codec::Codec;
use tessera_codec::engine::Model;
use tessera_codec::files;
use tessera_codec::prior::Prior;

use super::report;

/// The option that commands which code have in common.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// Folder of the model, as `tessera export` writes it, or the name of a shipped one: tessera-48k or
    /// tessera-live-48k. By default the shipped one that a file of tokens was made with, or else tessera-48k.
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
}

/// Where a model is.
#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Shipped(Shipped),
}

impl Place {
    /// A folder that is there, even if it is called like a shipped model, is meant.
    fn named(name: PathBuf) -> Self {
        match name.to_str().and_then(Shipped::from_name) {
            Some(shipped) if !name.exists() => Self::Shipped(shipped),
            _ => Self::Folder(name),
        }
    }

    fn load(&self) -> Result<Model> {
        Ok(match self {
            Self::Folder(folder) => Model::load(folder)?,
            Self::Shipped(shipped) => Model::load_shipped(*shipped)?,
        })
    }
}

impl ModelArgs {
    /// The model that is named, if one is.
    fn named(&self) -> Option<Place> {
        self.model.clone().map(Place::named)
    }

    /// The model that is named or else used by default.
    fn place(&self) -> Place {
        self.named().unwrap_or(Place::Shipped(Shipped::General))
    }

    /// Loads the model.
    pub fn load(&self) -> Result<Model> {
        self.place().load()
    }

    /// Loads the same model for work in batches.
    #[cfg(feature = "train")]
    pub fn load_codec(&self) -> Result<Codec> {
        Ok(match self.place() {
            Place::Folder(folder) => Codec::load(&folder)?,
            Place::Shipped(shipped) => Codec::load_shipped(shipped)?,
        })
    }

    /// The model's prior, not loaded yet.
    pub fn prior(&self) -> ModelPrior {
        ModelPrior::of(self.place())
    }

    /// The models for files of tokens.
    pub fn for_tokens(&self) -> TokenModels {
        TokenModels { named: self.named(), loaded: Default::default() }
    }
}

/// The models that files of tokens were made with, each loaded when it is first needed.
pub struct TokenModels {
    /// The one that is named, whatever the files say.
    named: Option<Place>,
    /// By their place among the shipped ones; the first where one is named.
    loaded: [OnceLock<Result<TokenModel, String>>; Shipped::ALL.len()],
}

/// A model and its prior.
pub struct TokenModel {
    pub model: Model,
    pub prior: ModelPrior,
}

impl TokenModels {
    /// The model for tokens of the model with that id. It may be another one: then no shipped one made them.
    pub fn with_id(&self, id: &[u8; 16]) -> Result<&TokenModel> {
        let (slot, place) = match &self.named {
            Some(place) => (0, place.clone()),
            None => {
                let shipped = Shipped::with_id(id).unwrap_or(Shipped::General);
                let slot = Shipped::ALL.iter().position(|one| *one == shipped).unwrap_or(0);
                (slot, Place::Shipped(shipped))
            }
        };
        let load = || {
            let model = place.load().map_err(|e| format!("{e:#}"))?;
            Ok(TokenModel { model, prior: ModelPrior::of(place.clone()) })
        };
        self.loaded[slot].get_or_init(load).as_ref().map_err(|error| anyhow!("{error}"))
    }
}

/// A model's prior, loaded when it is first needed: many a file needs none.
pub struct ModelPrior {
    /// Where the model is.
    place: Place,
    /// The prior, if the model has one, or why it cannot be loaded.
    loaded: OnceLock<Result<Option<Prior>, String>>,
    warned: Once,
}

impl ModelPrior {
    fn of(place: Place) -> Self {
        Self { place, loaded: OnceLock::new(), warned: Once::new() }
    }

    /// The prior, if the model has one.
    pub fn get(&self) -> Result<Option<&Prior>> {
        let load = || {
            let prior = match &self.place {
                Place::Folder(folder) => Prior::load_if_any(folder),
                Place::Shipped(shipped) => Prior::load_shipped(*shipped),
            };
            prior.context("the model's prior cannot be loaded").map_err(|e| format!("{e:#}"))
        };
        match self.loaded.get_or_init(load) {
            Ok(prior) => Ok(prior.as_ref()),
            Err(error) => Err(anyhow!("{error}")),
        }
    }

    /// The prior to decode a file with. One that cannot be loaded stops only files that need it: others lose
    /// no more than a better guess at what is damaged.
    pub fn to_decode(&self, header: &Header) -> Result<Option<&Prior>> {
        let prior = self.get();
        if header.prior_id.is_some() {
            return prior;
        }
        Ok(prior.unwrap_or_else(|error| {
            self.warned.call_once(|| {
                report::warn(&format!("{error:#}; where the file is damaged, sound is repeated"));
            });
            None
        }))
    }

    /// Gives `reader` the prior that its file was made with.
    pub fn attach<R: Read + Seek>(&self, reader: &mut ContainerReader<R>) -> Result<()> {
        if reader.header().prior_id.is_some() {
            files::attach(reader, self.get()?)?;
        }
        Ok(())
    }
}
