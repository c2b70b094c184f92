//! Which model a command works with.

use std::path::PathBuf;

use anyhow::Result;
#[cfg(feature = "train")]
use tessera_codec::codec::Codec;
use tessera_codec::engine::Model;

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
}
