//! Which model a command works with, and which prior.

use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::{Once, OnceLock};

use anyhow::{Context, Result, anyhow};
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
    /// Folder of the model, as `tessera export` writes it; by default the model that is shipped.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

impl ModelArgs {
    /// Loads the model.
    pub fn load(&self) -> Result<Model> {
        Ok(match &self.model {
            Some(folder) => Model::load(folder)?,
            None => Model::shipped()?,
        })
    }

    /// Loads the same model for work in batches.
    #[cfg(feature = "train")]
    pub fn load_codec(&self) -> Result<Codec> {
        Ok(match &self.model {
            Some(folder) => Codec::load(folder)?,
            None => Codec::shipped()?,
        })
    }

    /// The model's prior, not loaded yet.
    pub fn prior(&self) -> ModelPrior {
        let (loaded, warned) = (OnceLock::new(), Once::new());
        ModelPrior { folder: self.model.clone(), loaded, warned }
    }
}

/// A model's prior, loaded when it is first needed: many a file needs none.
pub struct ModelPrior {
    /// The model's folder; `None` for the shipped one.
    folder: Option<PathBuf>,
    /// The prior, if the model has one, or why it cannot be loaded.
    loaded: OnceLock<Result<Option<Prior>, String>>,
    warned: Once,
}

impl ModelPrior {
    /// The prior, if the model has one.
    pub fn get(&self) -> Result<Option<&Prior>> {
        let load = || {
            let prior = match &self.folder {
                Some(folder) => Prior::load_if_any(folder),
                None => Prior::shipped(),
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
