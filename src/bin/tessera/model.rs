//! Which model a command works with, and which prior.

use std::io::{Read, Seek};
use std::path::PathBuf;

use anyhow::{Context, Result};
use tessera_codec::bitstream::ContainerReader;
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

    /// Loads the model and its prior, which it has to have.
    pub fn load_with_prior(&self) -> Result<(Model, Prior)> {
        let model = self.load()?;
        let prior = self.prior()?.context(
            "this model has no prior: `tessera prior train` fits one, and `tessera prior export` puts it \
             into the model's folder",
        )?;
        prior.check_codec(model.id())?;
        Ok((model, prior))
    }

    /// Loads the model's prior, if it has one.
    pub fn prior(&self) -> Result<Option<Prior>> {
        let prior = match &self.model {
            Some(folder) => Prior::load_if_any(folder),
            None => Prior::shipped(),
        };
        prior.context("the model's prior cannot be loaded")
    }

    /// The prior to decode a file with. One that cannot be loaded stops only files that need it: others lose
    /// no more than a better guess at what is damaged.
    pub fn prior_for<R: Read + Seek>(&self, reader: &ContainerReader<R>) -> Result<Option<Prior>> {
        let prior = self.prior();
        if reader.header().prior_id.is_some() {
            return prior;
        }
        Ok(prior.unwrap_or_else(|error| {
            report::warn(&format!("{error:#}; where the file is damaged, sound is repeated"));
            None
        }))
    }

    /// Gives `reader` the prior that its file was made with.
    pub fn attach<R: Read + Seek>(&self, reader: &mut ContainerReader<R>) -> Result<()> {
        if reader.header().prior_id.is_some() {
            files::attach(reader, self.prior()?.as_ref())?;
        }
        Ok(())
    }
}
