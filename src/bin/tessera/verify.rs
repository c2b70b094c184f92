//! `tessera verify`: whether a file of tokens is whole and can be decoded.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use tessera_codec::bitstream::{ContainerReader, DamageReason};
use tessera_codec::files;

use super::model::{ModelArgs, TokenModel};
use super::{Outcome, report};

/// Check a .tsr file: every checksum and code, the index, and that the model decodes it.
///
/// The exit code is 0 when the file is whole, 3 when it is damaged, and 1 when it cannot be read or is
/// another model's. Bytes after the end, where tags may stand, are no damage.
#[derive(clap::Args)]
pub struct Args {
    /// The file of tokens (.tsr).
    input: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Outcome> {
    let name = args.input.display().to_string();
    let fail = || format!("cannot verify {name}");
    let mut reader = ContainerReader::open_path(&args.input).with_context(fail)?;
    let models = args.model.for_tokens();
    let TokenModel { model, prior } = models.with_id(&reader.header().model_id)?;
    files::check(model, reader.header()).with_context(fail)?;
    prior.attach(&mut reader).with_context(fail)?;
    let found = reader.summary().with_context(fail)?;
    for damage in &found.damages {
        report::warn(&format!("{name}: {damage}"));
    }
    if found.damage_count > found.damages.len() as u64 {
        let more = found.damage_count - found.damages.len() as u64;
        report::warn(&format!("{name}: and {more} more"));
    }
    let tags = |d: &_| matches!(d, DamageReason::TrailingBytes { .. });
    let whole = found.damages.iter().all(|damage| tags(&damage.reason)) && found.samples.is_some();
    if args.json {
        report::print_json(&json!({
            "file": name,
            "whole": whole,
            "model": model.config().name,
            "model_id": found.model_id,
            "prior_id": found.prior_id,
            "samples": found.samples,
            "seconds": found.seconds,
            "has_index": found.has_index,
            "intact_chunks": found.intact_chunks,
            "damaged_chunks": found.damaged_chunks,
            "damage_count": found.damage_count,
            "damages": found.damages.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        let state = if whole { "whole" } else { "damaged" };
        report::print(&format!(
            "{name}: {state}, {} of {} chunks intact, {:.2} s, {}\n",
            found.intact_chunks,
            found.intact_chunks + found.damaged_chunks,
            found.seconds,
            if found.has_index { "index intact" } else { "no index" },
        ))?;
    }
    Ok(if whole { Outcome::Done } else { Outcome::Damaged })
}
