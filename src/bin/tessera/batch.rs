//! Many files, each to a file of its own, several at the same time.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::interrupt::Interrupt;
use super::progress::Progress;
use super::sound::{self, Files};
use super::{Outcome, pipe, report};

/// Files left out that are named; all are counted.
const MAX_NAMED: usize = 20;

/// A file to be turned into another.
pub struct Job {
    pub input: PathBuf,
    pub output: PathBuf,
}

/// What became of a job that did not fail.
#[derive(Default)]
pub struct Done {
    /// Whether there was nothing left to do.
    pub kept: bool,
    /// Length of the sound in seconds.
    pub seconds: f64,
    /// Size of the output in the batch's units.
    pub size: u64,
    /// Whether a part of the sound is lost.
    pub damaged: bool,
    pub warnings: Vec<String>,
    /// What else there is to say, for machines.
    pub details: Map<String, Value>,
}

/// What a batch does, for people and machines.
pub struct Batch<'a> {
    pub interrupt: &'a Interrupt,
    /// What is done to sound: `encoded`.
    pub verb: &'static str,
    /// What the size of an output is counted in, as a field of the JSON.
    pub unit: &'static str,
    /// How people read such a size.
    pub size: fn(u64) -> String,
    /// Files of the folder that are nothing to this command, by name.
    pub skipped: Vec<String>,
}

impl Job {
    /// Makes the folder that the output goes into.
    pub fn make_folder(&self) -> Result<()> {
        match self.output.parent() {
            Some(folder) => std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display())),
            None => Ok(()),
        }
    }

    /// What is said when the output cannot be kept.
    pub fn is_there(&self) -> String {
        format!("{} is there already; --force replaces it", self.output.display())
    }
}

/// The files that are `wanted` in a folder to be worked on, and the others.
pub fn inputs(folder: &Path, wanted: fn(&Path) -> bool) -> Result<(Files, Files)> {
    if pipe::is_stdio(folder) || folder.is_file() {
        bail!(
            "--out takes a folder of files, and {} is none: name its output instead",
            folder.display()
        );
    }
    sound::partition(folder, wanted)
}

/// Refuses jobs of which two have the same output.
pub fn check_outputs(jobs: &[Job]) -> Result<()> {
    let mut taken: HashMap<&Path, &Path> = HashMap::new();
    for job in jobs {
        if let Some(other) = taken.insert(&job.output, &job.input) {
            bail!(
                "{} and {} would both become {}; give them an --out of their own",
                other.display(),
                job.input.display(),
                job.output.display()
            );
        }
    }
    Ok(())
}

impl Batch<'_> {
    /// Does all jobs, `one` at a time on each core, and says what became of them; `head` comes first in the
    /// JSON. A job that fails is named and stops no other.
    pub fn run(
        &self,
        jobs: &[Job],
        out: &Path,
        head: Option<Map<String, Value>>,
        one: impl Fn(&Job) -> Result<Done> + Sync,
    ) -> Result<Outcome> {
        for name in self.skipped.iter().take(MAX_NAMED) {
            report::note(&format!("skipped: {name}"));
        }
        if self.skipped.len() > MAX_NAMED {
            let more = self.skipped.len() - MAX_NAMED;
            report::note(&format!("skipped: {more} more, {} in all", self.skipped.len()));
        }
        let started = Instant::now();
        let results = self.all(jobs, started, &one);
        if self.interrupt.asked() {
            bail!("stopped before the end; the same command goes on from here");
        }
        let failed: Vec<String> = jobs
            .iter()
            .zip(&results)
            .filter(|(_, result)| result.is_err())
            .map(|(job, _)| job.input.display().to_string())
            .collect();
        let done = || results.iter().flatten();
        let new = || done().filter(|done| !done.kept);
        let (written, kept) = (new().count(), done().filter(|done| done.kept).count());
        let damaged = done().filter(|done| done.damaged).count();
        match head {
            Some(mut value) => {
                value.insert("written".into(), written.into());
                value.insert("kept".into(), kept.into());
                value.insert("failed".into(), failed.len().into());
                value.insert("skipped".into(), json!(self.skipped));
                let rows = jobs.iter().zip(&results).map(|(job, result)| self.row(job, result));
                value.insert("files".into(), rows.collect());
                report::print_json(&value)?;
            }
            None => {
                // Nothing added up is -0.
                let seconds = new().map(|done| done.seconds).sum::<f64>() + 0.0;
                let damaged = match damaged {
                    0 => String::new(),
                    count => format!("{count} of them damaged, "),
                };
                report::print(&format!(
                    "{}: {written} files written, {damaged}{kept} kept, {} left out; {} of audio, {}, \
                     {:.1}x real time\n",
                    out.display(),
                    failed.len(),
                    report::duration(seconds),
                    (self.size)(new().map(|done| done.size).sum()),
                    seconds / started.elapsed().as_secs_f64().max(1e-9),
                ))?;
            }
        }
        if !failed.is_empty() {
            bail!("{} of {} files were left out: {}", failed.len(), jobs.len(), failed.join(", "));
        }
        Ok(if damaged > 0 { Outcome::Damaged } else { Outcome::Done })
    }

    fn row(&self, job: &Job, result: &Result<Done>) -> Value {
        let mut row = Map::new();
        row.insert("input".into(), json!(job.input.display().to_string()));
        match result {
            Ok(done) => {
                row.insert("output".into(), json!(job.output.display().to_string()));
                row.insert("result".into(), json!(if done.kept { "kept" } else { "written" }));
                row.insert("seconds".into(), json!(done.seconds));
                row.insert(self.unit.into(), json!(done.size));
                row.extend(done.details.clone());
                row.insert("warnings".into(), json!(done.warnings));
            }
            Err(error) => {
                row.insert("result".into(), json!("failed"));
                row.insert("error".into(), json!(report::reasons(error)));
            }
        }
        row.into()
    }

    /// The results in the jobs' order; fewer of them when an end was asked for.
    fn all(
        &self,
        jobs: &[Job],
        started: Instant,
        one: &(impl Fn(&Job) -> Result<Done> + Sync),
    ) -> Vec<Result<Done>> {
        let template = "[{bar:40}] {pos}/{len}  {msg}  {eta} left";
        let progress = Mutex::new((Progress::new(jobs.len() as u64, template), 0usize, 0.0));
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut results = Vec::new();
            while let Some((at, job)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                jobs.get(at).map(|job| (at, job))
            } {
                if self.interrupt.asked() {
                    break;
                }
                let name = job.input.display().to_string();
                let result = one(job).with_context(|| name.clone());
                let mut shared = progress.lock().unwrap_or_else(PoisonError::into_inner);
                let (progress, count, seconds) = &mut *shared;
                *count += 1;
                match &result {
                    Ok(done) => {
                        *seconds += if done.kept { 0.0 } else { done.seconds };
                        for warning in &done.warnings {
                            progress.warn(&format!("{name}: {warning}"));
                        }
                    }
                    Err(error) if !self.interrupt.asked() => {
                        progress.warn(&format!("left out: {}", report::reasons(error)));
                    }
                    Err(_) => {}
                }
                let speed = *seconds / started.elapsed().as_secs_f64().max(1e-9);
                progress.update(*count as u64, || {
                    let length = report::duration(*seconds);
                    let verb = self.verb;
                    format!("{count} of {} files, {length} {verb}, {speed:.1}x", jobs.len())
                });
                results.push((at, result));
            }
            results
        };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let mut results = thread::scope(|scope| {
            let threads: Vec<_> = (1..cores.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
            let mut results = worker();
            for thread in threads {
                // A thread that panicked took its results along; the panic goes on here.
                match thread.join() {
                    Ok(more) => results.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            results
        });
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }
}
