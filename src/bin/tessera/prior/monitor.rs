//! What a prior's training shows and writes down as it goes.

use std::time::Instant;

use anyhow::Result;
use tessera_codec::prior::train::{Baselines, PriorStep, PriorTrainer, PriorValidation};
use tessera_codec::train::log::RunLog;

use super::super::progress::Progress;
use super::super::report;

/// Length of the bar, for a share of the budget.
const BAR: u64 = 1000;
/// Steps in a row of the log: their mean is logged.
const ROW_STEPS: u64 = 30;

/// Sums over the steps of a row.
#[derive(Default)]
struct Sums {
    steps: u64,
    loss: f64,
    gradient: f64,
    /// By level: the sum, and the steps that have the value.
    bits: Vec<(f64, u64)>,
}

impl Sums {
    fn add(&mut self, step: &PriorStep) {
        self.steps += 1;
        self.loss += step.loss;
        self.gradient += step.gradient;
        self.bits.resize(step.bits.len(), (0.0, 0));
        for ((sum, steps), bits) in self.bits.iter_mut().zip(&step.bits) {
            *sum += bits.unwrap_or_default();
            *steps += u64::from(bits.is_some());
        }
    }

    fn bits(&self) -> impl Iterator<Item = Option<f64>> {
        self.bits.iter().map(|(sum, steps)| (*steps > 0).then(|| sum / *steps as f64))
    }

    fn text(&self) -> String {
        let loss = self.loss / self.steps.max(1) as f64;
        format!("{loss:.3} bits a code ({})", list(self.bits().flatten()))
    }
}

/// Figures of all levels.
fn list(bits: impl Iterator<Item = f64>) -> String {
    bits.map(|bits| format!("{bits:.3}")).collect::<Vec<_>>().join(", ")
}

/// Keeps the log and the bar of a run.
pub struct Monitor {
    log: RunLog,
    progress: Progress,
    /// Columns of each level's bits, in training and in validation.
    names: Vec<String>,
    validation_names: Vec<String>,
    row: Sums,
    /// Step and learning rate of the last step.
    last: (u64, f64),
    /// The figures of the last row, for people.
    figures: String,
    /// Where this session began, for the speed and the time left.
    started: Instant,
    done_before: f64,
    token_steps: u64,
}

impl Monitor {
    pub fn new(mut log: RunLog, levels: usize, trainer: &PriorTrainer) -> Result<Self> {
        let names: Vec<String> = (0..levels).map(|l| format!("loss/{l}")).collect();
        let validation_names: Vec<String> =
            names.iter().map(|name| format!("validation/{name}")).collect();
        let mut columns = vec!["loss", "gradient", "rate"];
        columns.extend(names.iter().chain(&validation_names).map(String::as_str));
        columns.push("validation/bits_per_step");
        log.declare(&columns)?;
        Ok(Self {
            log,
            progress: Progress::new(BAR, "[{bar:40}] {percent:>3}%  {msg}"),
            names,
            validation_names,
            row: Sums::default(),
            last: (trainer.steps(), 0.0),
            figures: String::new(),
            started: Instant::now(),
            done_before: trainer.done(),
            token_steps: 0,
        })
    }

    /// Takes a step into account; whether a row of the log ends with it.
    pub fn step(&mut self, step: &PriorStep) -> Result<bool> {
        self.token_steps += step.token_steps as u64;
        self.last = (step.step, step.rate);
        self.row.add(step);
        let ends = step.step.is_multiple_of(ROW_STEPS);
        if ends || self.figures.is_empty() {
            self.figures = self.row.text();
        }
        if ends {
            self.finish_row()?;
        }
        self.show(step);
        Ok(ends)
    }

    /// Logs the means of the steps since the last row, if there were any.
    pub fn finish_row(&mut self) -> Result<()> {
        let row = std::mem::take(&mut self.row);
        if row.steps == 0 {
            return Ok(());
        }
        let (step, rate) = self.last;
        let mean = |sum: f64| sum / row.steps as f64;
        let mut values =
            vec![("loss", mean(row.loss)), ("gradient", mean(row.gradient)), ("rate", rate)];
        let bits = self.names.iter().map(String::as_str).zip(row.bits());
        values.extend(bits.filter_map(|(name, bits)| Some((name, bits?))));
        Ok(self.log.scalars(step, &values)?)
    }

    fn show(&mut self, step: &PriorStep) {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let speed = self.token_steps as f64 / seconds;
        let share = step.progress - self.done_before;
        let left = if share > 0.0 { (1.0 - step.progress) * seconds / share } else { 0.0 };
        let figures = &self.figures;
        self.progress.update((step.progress * BAR as f64) as u64, || {
            format!(
                "step {} {figures}, {speed:.0} steps of tokens a second, {} left",
                step.step,
                report::duration(left)
            )
        });
    }

    /// Logs a validation, and tells it.
    pub fn validation(
        &mut self,
        step: u64,
        found: &PriorValidation,
        baselines: &Baselines,
    ) -> Result<()> {
        let bits = found.all_levels();
        let per_step = found.bits_per_step(bits.len());
        let mut values = vec![("validation/bits_per_step", per_step)];
        values.extend(self.validation_names.iter().map(String::as_str).zip(bits.iter().copied()));
        self.note(&format!(
            "step {step}: validation {per_step:.2} bits a step; bits a code {} (bigram {}, unigram {})",
            list(bits.iter().copied()),
            list(baselines.bigram.iter().copied()),
            list(baselines.unigram.iter().copied())
        ));
        Ok(self.log.scalars(step, &values)?)
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        self.progress.note(text);
    }

    /// Brings the log onto the disk and draws its curves.
    pub fn flush(&mut self) -> Result<()> {
        self.log.flush()?;
        Ok(self.log.plot_curves()?)
    }
}
