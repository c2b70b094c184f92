//! How codes become bytes.

use anyhow::{Result, bail};
use tessera_codec::prior::{PRIOR_CONFIG_FILE, PRIOR_WEIGHTS_FILE, Prior};

use super::model::ModelPrior;

/// The option that commands which write or measure .tsr files have in common.
#[derive(clap::Args)]
pub struct EntropyArgs {
    /// How codes become bytes: `prior` in fewer, `none` in plain bits; by default as the model has a prior.
    #[arg(long, value_enum)]
    entropy: Option<Entropy>,
}

/// How codes become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Entropy {
    /// By the model's prior, where that is shorter.
    Prior,
    /// Plainly.
    None,
}

impl EntropyArgs {
    /// The prior to code with.
    pub fn choose<'a>(&self, prior: &'a ModelPrior) -> Result<Option<&'a Prior>> {
        if self.entropy == Some(Entropy::None) {
            return Ok(None);
        }
        let prior = prior.get()?;
        if prior.is_none() && self.entropy == Some(Entropy::Prior) {
            bail!(
                "--entropy prior, but the model has no prior ({PRIOR_CONFIG_FILE} and {PRIOR_WEIGHTS_FILE} \
                 beside its weights); name a model that has one with --model, or leave --entropy out"
            );
        }
        Ok(prior)
    }
}
