//! Training: the data, and with the feature `train` the rest.

#[cfg(feature = "dataset")]
pub mod dataset;
#[cfg(feature = "runlog")]
pub mod log;

#[cfg(feature = "train")]
pub mod adversarial;
#[cfg(feature = "train")]
pub mod checkpoint;
#[cfg(feature = "train")]
pub mod config;
#[cfg(feature = "train")]
mod grow;
#[cfg(feature = "train")]
mod level_dropout;
#[cfg(feature = "train")]
mod loops;
#[cfg(feature = "train")]
mod optimizer;
#[cfg(feature = "train")]
mod trainer;

#[cfg(feature = "train")]
pub use config::TrainConfig;
#[cfg(feature = "train")]
pub use grow::lacks_loops;
#[cfg(feature = "train")]
pub use optimizer::{AdamW, learning_rate};
#[cfg(feature = "train")]
pub use trainer::{Budget, StepReport, TrainError, Trainer, Validation, exportable};

#[cfg(feature = "train")]
use {candle_core::Tensor, std::collections::BTreeMap};

/// The tensors whose names begin with a prefix, without it.
#[cfg(feature = "train")]
pub(crate) fn strip(tensors: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    tensors
        .iter()
        .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.clone())))
        .collect()
}
