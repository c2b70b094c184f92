//! A session of training: steps, validations and checkpoints, until the budget is spent or Ctrl-C.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tessera_codec::bitstream::write_atomically;
use tessera_codec::train::checkpoint::CONFIG;
use tessera_codec::train::log::RunLog;

use super::super::interrupt::Interrupt;
use super::super::progress::Progress;
use super::super::{Outcome, report};

/// Length of the bar, for a share of the budget.
const BAR: u64 = 1000;
/// Files that are named; all are counted.
const MAX_NAMED: usize = 20;

/// A run while it trains: its trainer, and whoever watches over it.
pub trait Run {
    /// Time between checkpoints, each after a validation.
    const SAVE_EVERY: Duration;

    /// A step, noted; `None` when the budget is spent.
    fn step(&mut self) -> Result<Option<Stepped>>;

    /// Logs the steps since the last row.
    fn finish_row(&mut self) -> Result<()>;

    /// Validates, if there is something to validate with.
    fn validate(&mut self) -> Result<()>;

    /// Writes log and checkpoint.
    fn save(&mut self) -> Result<()>;

    /// Steps done.
    fn steps(&self) -> u64;

    /// Seconds spent training so far.
    fn elapsed(&self) -> f64;

    /// A line that stays.
    fn note(&self, text: &str);
}

/// What is to be known of a step.
pub struct Stepped {
    /// Steps done, this one included.
    pub step: u64,
    /// Whether a row of the log ended with it.
    pub row_ended: bool,
}

/// Trains to the end of the budget; `next` says what can be done with the run then.
pub fn train<R: Run>(run: &mut R, interrupt: &Interrupt, next: &str) -> Result<Outcome> {
    let mut saved = Instant::now();
    while let Some(done) = run.step()? {
        if interrupt.asked() {
            run.save()?;
            run.note(&format!("stopped at step {}; go on with --resume", done.step));
            return Ok(Outcome::Done);
        }
        // At the end of a row, so that a resumed run's rows are those of one that went through.
        if saved.elapsed() >= R::SAVE_EVERY && done.row_ended {
            run.validate()?;
            run.save()?;
            saved = Instant::now();
        }
    }
    run.finish_row()?;
    run.validate()?;
    run.save()?;
    let time = report::duration(run.elapsed());
    run.note(&format!("done: {} steps in {time}; {next}", run.steps()));
    Ok(Outcome::Done)
}

/// Begins the log of a new run, after its configuration and the files that `more` names.
pub fn begin_log(
    folder: &Path,
    config: &impl Serialize,
    more: &[(&str, String)],
) -> Result<RunLog> {
    let text = serde_json::to_string_pretty(config).context("cannot write the configuration")?;
    write_atomically(&folder.join(CONFIG), text.as_bytes())?;
    for (name, text) in more {
        write_atomically(&folder.join(name), text.as_bytes())?;
    }
    Ok(RunLog::open(folder, None)?)
}

/// How fast a session trains, on a bar.
pub struct Pace {
    bar: Progress,
    /// Where this session began.
    started: Instant,
    done_before: f64,
    /// What was trained on since, in the units that people are told.
    amount: f64,
}

impl Pace {
    /// Begins at `done`, the share of the budget that is spent.
    pub fn new(done: f64) -> Self {
        Self {
            bar: Progress::new(BAR, "[{bar:40}] {percent:>3}%  {msg}"),
            started: Instant::now(),
            done_before: done,
            amount: 0.0,
        }
    }

    /// Shows a step on `amount` more that ends at the share `done` of the budget; `text` is given the amount
    /// a second.
    pub fn step(&mut self, amount: f64, done: f64, text: impl FnOnce(f64) -> String) {
        self.amount += amount;
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let (speed, left) = (self.amount / seconds, time_left(self.done_before, done, seconds));
        self.bar.update((done * BAR as f64) as u64, || {
            format!("{}, {} left", text(speed), report::duration(left))
        });
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        self.bar.note(text);
    }

    /// A warning that stays.
    pub fn warn(&self, text: &str) {
        self.bar.warn(text);
    }
}

/// Seconds that are left when going from the share `before` of the budget to `done` took `seconds`.
fn time_left(before: f64, done: f64, seconds: f64) -> f64 {
    let share = done - before;
    if share > 0.0 { (1.0 - done) * seconds / share } else { 0.0 }
}

/// Warns of files of `folder` that something is wrong with; `what` says what became of them.
pub fn warn_of_files(folder: &Path, what: &str, files: &[(PathBuf, String)]) {
    for (path, reason) in files.iter().take(MAX_NAMED) {
        let path = folder.join(path).display().to_string();
        // Most reasons name the file themselves.
        match reason.contains(&path) {
            true => report::warn(&format!("{what}: {reason}")),
            false => report::warn(&format!("{what}: {path}: {reason}")),
        }
    }
    if files.len() > MAX_NAMED {
        let more = files.len() - MAX_NAMED;
        report::warn(&format!("{what}: {more} more files, {} in all", files.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_judged_by_this_session_alone() {
        assert_eq!(time_left(0.0, 0.25, 10.0), 30.0);
        assert_eq!(time_left(0.5, 0.75, 10.0), 10.0);
        assert_eq!(time_left(0.5, 1.0, 10.0), 0.0);
        // Nothing is known yet.
        assert_eq!(time_left(0.5, 0.5, 10.0), 0.0);
    }

    /// A run of three steps that writes down what is done with it.
    struct Told {
        left: u64,
        log: std::cell::RefCell<Vec<String>>,
    }

    impl Told {
        fn tell(&self, what: &str) {
            self.log.borrow_mut().push(what.into());
        }
    }

    impl Run for Told {
        const SAVE_EVERY: Duration = Duration::ZERO;

        fn step(&mut self) -> Result<Option<Stepped>> {
            let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
            self.left = left;
            self.tell("step");
            Ok(Some(Stepped { step: self.steps(), row_ended: left == 1 }))
        }

        fn finish_row(&mut self) -> Result<()> {
            self.tell("row");
            Ok(())
        }

        fn validate(&mut self) -> Result<()> {
            self.tell("validate");
            Ok(())
        }

        fn save(&mut self) -> Result<()> {
            self.tell("save");
            Ok(())
        }

        fn steps(&self) -> u64 {
            3 - self.left
        }

        fn elapsed(&self) -> f64 {
            90.0
        }

        fn note(&self, text: &str) {
            self.tell(text);
        }
    }

    #[test]
    fn a_checkpoint_is_at_the_end_of_a_row_and_of_the_run() {
        let mut run = Told { left: 3, log: Vec::new().into() };
        train(&mut run, &Interrupt::default(), "use it").unwrap();
        let told = run.log.into_inner();
        let expected = [
            "step",
            "step",
            "validate",
            "save",
            "step",
            "row",
            "validate",
            "save",
            "done: 3 steps in 90 s; use it",
        ];
        assert_eq!(told, expected);
    }
}
