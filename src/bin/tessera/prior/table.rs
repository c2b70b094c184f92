//! What a prior saves, as a section of a model card.

use std::fmt::Write as _;

use tessera_codec::prior::PriorConfig;
use tessera_codec::prior::train::{Baselines, Best};

/// The section's name in a run's folder.
pub const TABLE: &str = "prior.md";

/// What the best weights give, beside the baselines on the same tokens.
pub fn table(prior: &PriorConfig, best: &Best, baselines: &Baselines, parameters: usize) -> String {
    let validation = &best.validation;
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line("## Prior\n".into());
    line(format!(
        "{parameters} parameters; the weights of training step {}, whose validation was the best. Tokens of \
         the validation files, in chunks of {} steps of which each is predicted from itself alone.\n",
        best.step, prior.steps
    ));
    line("| level | bits a code: prior | bigram | unigram | packed | perplexity: prior | bigram | unigram |".into());
    line("|---|---|---|---|---|---|---|---|".into());
    let layout = prior.layout();
    let rows = validation.all_levels().iter().zip(baselines.bigram.iter().zip(&baselines.unigram));
    for (level, (prior, (bigram, unigram))) in rows.enumerate() {
        line(format!(
            "| {} | {prior:.3} | {bigram:.3} | {unigram:.3} | {} | {:.1} | {:.1} | {:.1} |",
            level + 1,
            layout.bits_per_code(level),
            prior.exp2(),
            bigram.exp2(),
            unigram.exp2()
        ));
    }
    line("\n| levels in use | bits a step: prior | packed | saved |".into());
    line("|---|---|---|---|".into());
    for levels in 1..=validation.bits.len() {
        let (bits, packed) = (validation.bits_per_step(levels), layout.bits_per_step(levels));
        let saved = 100.0 * (1.0 - bits / packed as f64);
        line(format!("| {levels} | {bits:.1} | {packed} | {saved:.1} % |"));
    }
    text
}
