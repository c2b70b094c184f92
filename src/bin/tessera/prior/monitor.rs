//! What a prior's training shows and writes down as it goes.

use anyhow::Result;
use tessera_codec::prior::train::{Baselines, PriorStep, PriorTrainer, PriorValidation};
use tessera_codec::train::log::RunLog;

use super::super::train::session::Pace;

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
    pace: Pace,
    /// Columns of each level's bits, in training and in validation.
    names: Vec<String>,
    validation_names: Vec<String>,
    row: Sums,
    /// Step and learning rate of the last step.
    last: (u64, f64),
    /// The figures of the last row, for people.
    figures: String,
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
            pace: Pace::new(trainer.done()),
            names,
            validation_names,
            row: Sums::default(),
            last: (trainer.steps(), 0.0),
            figures: String::new(),
        })
    }

    /// Takes a step into account; whether a row of the log ends with it.
    pub fn step(&mut self, step: &PriorStep) -> Result<bool> {
        self.last = (step.step, step.rate);
        self.row.add(step);
        let ends = step.step.is_multiple_of(ROW_STEPS);
        if ends || self.figures.is_empty() {
            self.figures = self.row.text();
        }
        if ends {
            self.finish_row()?;
        }
        let figures = &self.figures;
        self.pace.step(step.token_steps as f64, step.progress, |speed| {
            format!("step {} {figures}, {speed:.0} steps of tokens a second", step.step)
        });
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
        self.pace.note(text);
    }

    /// Brings the log onto the disk and draws its curves.
    pub fn flush(&mut self) -> Result<()> {
        self.log.flush()?;
        Ok(self.log.plot_curves()?)
    }
}
