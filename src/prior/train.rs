//! Training a prior: tokens from audio or from files of them, the loop, and what it is measured against.

mod baselines;
mod config;
mod encode;
mod token_set;
mod trainer;

pub use baselines::{Baselines, baselines};
pub use config::{NetworkShape, PriorTrainConfig};
pub use token_set::{TokenReport, TokenSet};
pub use trainer::{
    Best, PriorProgress, PriorStep, PriorTrainer, PriorValidation, exportable, load_progress,
};
