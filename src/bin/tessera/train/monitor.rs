//! What a training run shows and writes down as it goes.

use anyhow::Result;
use tessera_codec::plot::Canvas;
use tessera_codec::train::log::RunLog;
use tessera_codec::train::{StepReport, TrainConfig, Trainer};

use super::session::Pace;

/// Steps in a row of the log, at least: their mean is logged.
const ROW_STEPS: u64 = 30;
/// What a row counts for in the smoothed usage that is judged.
const SMOOTHING: f64 = 0.1;
/// A fall of the smoothed usage of a level to this share of its best is worth a warning.
const FALL: f64 = 0.7;

/// Columns of the adversarial stage, which only a run with one has.
const ADVERSARIAL: [&str; 4] =
    ["loss/discriminator", "loss/adversarial", "loss/feature", "gradient/discriminator"];

/// Sums over the steps of a row.
#[derive(Default)]
struct Sums {
    steps: u64,
    loss: f64,
    mel: f64,
    complex: f64,
    envelope: f64,
    /// None where nothing is led.
    lead: Option<f64>,
    commitment: f64,
    diversity: f64,
    gradient: f64,
    /// By column of [`ADVERSARIAL`]: the sum and the steps that have the value.
    adversarial: [(f64, u64); 4],
    usage: Vec<f64>,
    /// Steps that used codes.
    coded: u64,
}

impl Sums {
    fn add(&mut self, step: &StepReport, possible: &[f64]) {
        self.steps += 1;
        self.loss += step.loss;
        self.mel += step.terms.mel;
        self.complex += step.terms.complex;
        self.envelope += step.envelope;
        if let Some(lead) = step.lead {
            *self.lead.get_or_insert_default() += lead;
        }
        self.commitment += step.commitment;
        self.diversity += step.diversity;
        self.gradient += step.gradient;
        if let Some(a) = &step.adversarial {
            let values = [Some(a.discriminator), a.adversarial, a.feature, a.gradient];
            for ((sum, steps), value) in self.adversarial.iter_mut().zip(values) {
                *sum += value.unwrap_or_default();
                *steps += u64::from(value.is_some());
            }
        }
        if !step.used.is_empty() {
            self.coded += 1;
            self.usage.resize(step.used.len(), 0.0);
            for ((sum, used), possible) in self.usage.iter_mut().zip(&step.used).zip(possible) {
                *sum += *used as f64 / possible;
            }
        }
    }

    /// Means of the adversarial stage's values, where there are any.
    fn adversarial(&self) -> [Option<f64>; 4] {
        self.adversarial.map(|(sum, steps)| (steps > 0).then(|| sum / steps as f64))
    }

    /// Mean share of the possible codes in use, by level; empty before there are codes.
    fn usage(&self) -> Vec<f64> {
        self.usage.iter().map(|sum| sum / self.coded.max(1) as f64).collect()
    }

    fn text(&self) -> String {
        let mean = |sum: f64| sum / self.steps.max(1) as f64;
        let mut text = format!(
            "loss {:.3} (mel {:.3}, complex {:.3}, envelope {:.3}",
            mean(self.loss),
            mean(self.mel),
            mean(self.complex),
            mean(self.envelope)
        );
        if let Some(lead) = self.lead {
            text += &format!(", lead {:.3}", mean(lead));
        }
        let usage: Vec<String> = self.usage().iter().map(|u| format!("{:.0}", u * 100.0)).collect();
        if !usage.is_empty() {
            text += &format!(
                ", commitment {:.3}, diversity {:.3}",
                mean(self.commitment),
                mean(self.diversity)
            );
        }
        let names = ["discriminator", "adversarial", "feature"];
        for (name, value) in names.iter().zip(self.adversarial()) {
            if let Some(value) = value {
                text += &format!(", {name} {value:.3}");
            }
        }
        text.push(')');
        if !usage.is_empty() {
            text += &format!(", codes in use {} %", usage.join("/"));
        }
        text
    }
}

/// Follows the codes in use of one level.
#[derive(Default, Clone)]
struct Watch {
    smoothed: Option<f64>,
    best: f64,
    low: bool,
}

impl Watch {
    /// Takes the usage of a row; what it is now and was at best when it has fallen far, told once for
    /// each fall.
    fn fall(&mut self, usage: f64) -> Option<(f64, f64)> {
        let smoothed = self.smoothed.map_or(usage, |s| s + SMOOTHING * (usage - s));
        self.smoothed = Some(smoothed);
        self.best = self.best.max(smoothed);
        let was_low = self.low;
        self.low = smoothed < FALL * self.best;
        (self.low && !was_low).then_some((smoothed, self.best))
    }
}

/// Keeps the log and the bar of a run.
pub struct Monitor {
    log: RunLog,
    pace: Pace,
    /// Codes that a batch could use, by level: its vectors, or the codebook where that is smaller.
    possible: Vec<f64>,
    usage_names: Vec<String>,
    row_steps: u64,
    row: Sums,
    /// Step and learning rate of the last step.
    last: (u64, f64),
    watches: Vec<Watch>,
    /// The terms of the last row, for people.
    terms: String,
}

impl Monitor {
    pub fn new(mut log: RunLog, config: &TrainConfig, trainer: &Trainer) -> Result<Self> {
        let levels = config.codec.levels();
        let usage_names: Vec<String> = (0..levels).map(|l| format!("usage/{l}")).collect();
        let mut columns: Vec<String> = [
            "loss",
            "loss/mel",
            "loss/complex",
            "loss/envelope",
            "loss/commitment",
            "loss/diversity",
        ]
        .map(String::from)
        .into();
        columns.extend(["gradient", "rate"].map(String::from));
        if config.codec.led_top > 0 {
            columns.push("loss/lead".into());
        }
        if config.adversarial.is_some() {
            columns.extend(ADVERSARIAL.map(String::from));
        }
        columns.extend(usage_names.iter().cloned());
        columns.extend(super::validation::columns(levels));
        log.declare(&columns.iter().map(String::as_str).collect::<Vec<_>>())?;
        let frames = (config.batch * config.samples() / config.codec.hop) as f64;
        let size = config.codec.vq.codebook_size as f64;
        let strides = &config.codec.vq.strides;
        // The resolutions of the loss take turns: a row is whole turns, lest it flicker.
        let turns = config.resolutions.len().max(1) as u64;
        Ok(Self {
            log,
            pace: Pace::new(trainer.done()),
            possible: strides.iter().map(|s| (frames / *s as f64).min(size)).collect(),
            usage_names,
            row_steps: ROW_STEPS.div_ceil(turns) * turns,
            row: Sums::default(),
            last: (trainer.steps(), 0.0),
            watches: vec![Watch::default(); levels],
            terms: String::new(),
        })
    }

    /// Takes a step into account; whether a row of the log ends with it.
    pub fn step(&mut self, step: &StepReport) -> Result<bool> {
        self.last = (step.step, step.rate);
        self.row.add(step, &self.possible);
        let ends = step.step.is_multiple_of(self.row_steps);
        if ends || self.terms.is_empty() {
            self.terms = self.row.text();
        }
        if ends {
            self.finish_row()?;
        }
        let terms = &self.terms;
        self.pace.step(step.audio_seconds, step.progress, |speed| {
            format!("step {} {} {terms}, {speed:.1} s of audio a second", step.step, step.stage)
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
        let usage = row.usage();
        let mut values = vec![
            ("loss", mean(row.loss)),
            ("loss/mel", mean(row.mel)),
            ("loss/complex", mean(row.complex)),
            ("loss/envelope", mean(row.envelope)),
            ("loss/commitment", mean(row.commitment)),
            ("loss/diversity", mean(row.diversity)),
            ("gradient", mean(row.gradient)),
            ("rate", rate),
        ];
        values.extend(row.lead.map(|lead| ("loss/lead", mean(lead))));
        let adversarial = ADVERSARIAL.into_iter().zip(row.adversarial());
        values.extend(adversarial.filter_map(|(name, value)| Some((name, value?))));
        values.extend(self.usage_names.iter().map(String::as_str).zip(usage.iter().copied()));
        self.log.scalars(step, &values)?;
        for (level, (watch, usage)) in self.watches.iter_mut().zip(&usage).enumerate() {
            if let Some((now, best)) = watch.fall(*usage) {
                self.pace.warn(&format!(
                    "step {step}: level {} uses {:.0} % of the codes that a batch could use, after \
                     {:.0} % at best: its codebook may be collapsing; see usage.png",
                    level + 1,
                    now * 100.0,
                    best * 100.0
                ));
            }
        }
        Ok(())
    }

    /// Logs values besides those of the steps.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        Ok(self.log.scalars(step, values)?)
    }

    /// Logs a picture for TensorBoard.
    pub fn image(&mut self, step: u64, tag: &str, canvas: &Canvas, png: &[u8]) -> Result<()> {
        Ok(self.log.image(step, tag, png, canvas.width() as u32, canvas.height() as u32)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_of_usage_is_told_once() {
        let mut watch = Watch::default();
        let mut told = |usage, rows| (0..rows).filter(|_| watch.fall(usage).is_some()).count();
        assert_eq!(told(0.1, 30), 0);
        assert_eq!(told(0.8, 50), 0); // a rise is none
        assert_eq!(told(0.7, 50), 0); // nor is a little
        assert_eq!(told(0.2, 100), 1);
        assert_eq!(told(0.8, 50), 0); // back again,
        assert_eq!(told(0.1, 50), 1); // and down
    }
}
