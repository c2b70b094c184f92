//! Validation of a run: figures, and spectrograms of originals against what comes back.

use std::path::Path;

use anyhow::{Context, Result};
use tessera_codec::bitstream::write_atomically;
use tessera_codec::metrics::CodebookStats;
use tessera_codec::plot::{Panel, draw_spectrograms};
use tessera_codec::train::{TrainConfig, Validation};

use super::monitor::Monitor;

/// Crops that are coded.
pub const CROPS: usize = 32;

/// The picture in the run's folder.
const PICTURE: &str = "validation.png";
/// Crops in the picture, each with its original.
const SHOWN: usize = 3;

/// Names of the figures, in order.
pub fn columns(levels: usize) -> Vec<String> {
    let terms = ["mel", "log", "linear", "complex"].map(|term| format!("validation/loss/{term}"));
    let usage = (0..levels).map(|l| format!("validation/usage/{l}"));
    let perplexity = (0..levels).map(|l| format!("validation/perplexity/{l}"));
    terms.into_iter().chain(usage).chain(perplexity).collect()
}

/// Logs the figures and the picture.
pub fn record(
    result: &Validation,
    step: u64,
    config: &TrainConfig,
    folder: &Path,
    monitor: &mut Monitor,
) -> Result<()> {
    let levels = config.codec.levels();
    let mut stats = CodebookStats::new(&config.codec.layout().codebook_sizes);
    for (level, codes) in result.codes.iter().enumerate() {
        stats.add(level, codes)?;
    }
    let terms = &result.terms;
    let mut values = vec![terms.mel, terms.log, terms.linear, terms.complex];
    let mut text =
        format!("step {step}: validation mel {:.3}, complex {:.3}", terms.mel, terms.complex);
    // Before there are codes there is nothing to count.
    if !result.codes.is_empty() {
        let found = stats.levels();
        values.extend(found.iter().map(|l| l.usage));
        values.extend(found.iter().map(|l| l.perplexity_share));
        let used: Vec<String> = found
            .iter()
            .map(|l| {
                format!("{} of {} ({:.0})", l.used, l.size.min(l.count as usize), l.perplexity)
            })
            .collect();
        text += &format!(", codes used of those possible (perplexity) {}", used.join(", "));
    }
    monitor.note(&text);
    let columns = columns(levels);
    let values: Vec<(&str, f64)> = columns.iter().map(String::as_str).zip(values).collect();
    monitor.scalars(step, &values)?;

    let pairs = result.originals.iter().zip(&result.decoded).take(SHOWN);
    let titled: Vec<(String, &Vec<f32>)> = pairs
        .enumerate()
        .flat_map(|(i, (original, decoded))| {
            let clip = i + 1;
            [(format!("{clip} original"), original), (format!("{clip} step {step}"), decoded)]
        })
        .collect();
    let panels: Vec<Panel<'_>> = titled
        .iter()
        .map(|(title, samples)| Panel { title, samples, rate: config.codec.sample_rate })
        .collect();
    let canvas = draw_spectrograms(&panels).context("cannot draw the validation")?;
    let png = canvas.encode().context("cannot draw the validation")?;
    write_atomically(&folder.join(PICTURE), &png)?;
    monitor.image(step, "validation", &canvas, &png)
}
