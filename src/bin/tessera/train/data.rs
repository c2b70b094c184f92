//! Opening the training set, and saying what is in it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use tessera_codec::bitstream::write_atomically;
use tessera_codec::train::TrainConfig;
use tessera_codec::train::dataset::{BuildProgress, Dataset, DatasetOptions, DatasetReport};

use super::super::interrupt::{self, Interrupt};
use super::super::progress::Progress;
use super::super::report;
use super::session;

/// What a run was trained on, for the model card.
pub const DATA: &str = "data.json";

/// How the names of caches in the making begin.
const UNFINISHED: &str = ".dataset-";

pub fn open(folder: &Path, run: &Path, config: &TrainConfig, stop: &Interrupt) -> Result<Dataset> {
    let options = DatasetOptions {
        sample_rate: config.codec.sample_rate,
        kind_weights: config.kind_weights.clone(),
        synthetic: config.synthetic,
        ..Default::default()
    };
    let mut bar: Option<Progress> = None;
    let mut watch = |at: BuildProgress| {
        if stop.asked() {
            // There is nothing to save yet, and the decoders do not listen.
            remove_unfinished(run);
            std::process::exit(interrupt::EXIT_CODE);
        }
        let bar = bar.get_or_insert_with(|| {
            Progress::new(at.files as u64, "[{bar:40}] {percent:>3}%  {msg}  {eta} left")
        });
        let per_file = at.bytes_written as f64 / at.files_done.max(1) as f64;
        bar.update(at.files_done as u64, || {
            format!(
                "decoded {} of {} files, {} of about {} of cache",
                at.files_done,
                at.files,
                report::bytes(at.bytes_written),
                report::bytes((per_file * at.files as f64) as u64)
            )
        });
    };
    let (dataset, found) = Dataset::open(folder, run, &options, &mut watch)?;
    drop(bar);
    tell(folder, run, &found);
    write(folder, run, &found)?;
    Ok(dataset)
}

/// Removes what a decoding that is stopped leaves: up to gigabytes under a hidden name.
fn remove_unfinished(run: &Path) {
    for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // The program ends anyway; what cannot be removed stays.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn tell(folder: &Path, run: &Path, found: &DatasetReport) {
    session::warn_of_files(folder, "not used", &found.skipped);
    session::warn_of_files(folder, "used, but", &found.warnings);
    let hours = hours(found);
    let kinds: Vec<String> =
        hours.iter().map(|(kind, hours)| format!("{kind} {hours:.2} h")).collect();
    report::note(&format!(
        "{} files ({} of them for validation, {} unreadable): {}",
        found.files,
        found.validation_files,
        found.skipped.len(),
        kinds.join(", ")
    ));
    report::note(&format!(
        "the decoded audio takes {} in {}{}",
        report::bytes(found.cache_bytes),
        run.display(),
        if found.reused { ", from before" } else { "" }
    ));
    if found.validation_files == 0 {
        report::warn("a single file is all for training: there is no validation");
    }
}

fn hours(found: &DatasetReport) -> BTreeMap<&str, f64> {
    found.seconds_by_kind.iter().map(|(kind, s)| (kind.as_str(), s / 3600.0)).collect()
}

fn write(folder: &Path, run: &Path, found: &DatasetReport) -> Result<()> {
    let value = json!({
        "folder": folder.display().to_string(),
        "files": found.files,
        "validation_files": found.validation_files,
        "skipped": found.skipped.len(),
        "hours_by_kind": hours(found),
    });
    let text = serde_json::to_string_pretty(&value).context("cannot describe the data")?;
    Ok(write_atomically(&run.join(DATA), text.as_bytes())?)
}
