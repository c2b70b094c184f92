//! `tessera prior export`: a run's prior into the folder of its model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tessera_codec::engine::Model;
use tessera_codec::prior::network::save_prior;
use tessera_codec::prior::train::exportable;
use tessera_codec::prior::{PRIOR_CONFIG_FILE, PRIOR_WEIGHTS_FILE, PriorConfig};
use tessera_codec::train::checkpoint::CHECKPOINT;

use super::super::{Outcome, report};
use super::table::TABLE;

/// Write the prior of a run into its model's folder: configuration and weights in half precision.
///
/// The weights are those of the best validation, averaged over training steps. Prints what the prior
/// saves.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run.
    run: PathBuf,
    /// Folder of the model that the tokens were made with.
    model_dir: PathBuf,
    /// Replace a prior that is in the folder.
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args) -> Result<Outcome> {
    let prior = read_prior(&args.run)?;
    let model = Model::load(&args.model_dir)?;
    if model.id_hex() != prior.codec {
        bail!(
            "the prior in {} is for the model {}, but {} holds {}: a prior knows the tokens of its own \
             model alone",
            args.run.display(),
            prior.codec,
            args.model_dir.display(),
            model.id_hex()
        );
    }
    for name in [PRIOR_CONFIG_FILE, PRIOR_WEIGHTS_FILE] {
        let path = args.model_dir.join(name);
        if path.exists() && !args.force {
            bail!("{} exists already: --force replaces the prior", path.display());
        }
    }
    let (progress, weights) = exportable(&args.run.join(CHECKPOINT))?;
    save_prior(&args.model_dir, &prior, &weights)?;
    let bytes = std::fs::metadata(args.model_dir.join(PRIOR_WEIGHTS_FILE)).map_or(0, |m| m.len());
    report::print(&format!(
        "{}: the prior of step {} of {}, {}\n",
        args.model_dir.display(),
        progress.best.as_ref().map_or(progress.step, |best| best.step),
        progress.step,
        report::bytes(bytes)
    ))?;
    // Without validation files there is none.
    if let Ok(table) = std::fs::read_to_string(args.run.join(TABLE)) {
        report::print(&format!("\n{table}"))?;
    }
    Ok(Outcome::Done)
}

/// The network of a run.
pub fn read_prior(run: &Path) -> Result<PriorConfig> {
    let path = run.join(PRIOR_CONFIG_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}; is this the folder of a prior's run?", path.display())
    })?;
    PriorConfig::from_json(&text).with_context(|| path.display().to_string())
}
