//! Which model a command works with.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tessera_codec::engine::Model;
use tessera_codec::prior::Prior;

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

    /// Loads the model and its prior.
    pub fn load_with_prior(&self) -> Result<(Model, Prior)> {
        let model = self.load()?;
        let prior = match &self.model {
            Some(folder) => Prior::load_if_any(folder)?,
            None => Prior::shipped()?,
        };
        let prior = prior.context(
            "this model has no prior: `tessera prior train` fits one, `tessera prior export` puts it into the model's folder",
        )?;
        ensure!(
            prior.config().codec == model.id_hex(),
            "the prior belongs to the model {}, but this is {}: export the prior of this model",
            prior.config().codec,
            model.id_hex()
        );
        Ok((model, prior))
    }
}
