//! The prior: how likely the next code is after all codes before it (van den Oord et al. 2017 put one
//! behind their VQ-VAE). It squeezes tokens further, continues them, and invents new ones.
//!
//! Time runs over coarse steps; within a step the codes are predicted coarse to fine, each from all codes
//! before it:
//!
//! ```text
//! codes of the step before ─ embedding, input ─ blocks over steps ─ normalize ─ context ─┐ one row a code
//! codes before it in this step ─ embedding ─ past ──────────────────────────────────────(+)
//!                              h = h + gain * narrow(gelu(widen(normalize(h)))) ─ hidden of its level
//!                                                  logits = head of its level (normalize(h))
//! ```
//!
//! With `P` codes a step, `E` numbers an embedding, `dim` and `width` as in [`PriorConfig`], and linear
//! layers with `.weight` (outputs, inputs) and `.bias` (outputs), the tensors are, for each level `l`,
//! block `b`, and code `i` of a step (from 1: the first has no codes before it):
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `embedding.l.weight` | (codebook, E) | no bias |
//! | `input` | dim from P * E | embeddings of the step before; of levels left out, and before the first step, zero |
//! | `blocks.b.*` | | the codec's causal ConvNeXt block, over steps |
//! | `context` | P * width from dim | row `i` of `width` is for code `i` |
//! | `past.i` | width from i * E | no bias; embeddings of the codes before in this step |
//! | `hidden.l.widen`, `.narrow` | expansion * width from width, and back | |
//! | `hidden.l.gain` | (width) | |
//! | `head.l` | codebook from width | |
//!
//! `normalize` is the codec's: rows of mean zero and variance one, without weights. The network knows nothing
//! from before the first step of its chunk: blocks begin with zeros.

mod config;
mod entropy;
mod frequencies;
mod generator;
mod lockstep;
#[cfg(feature = "train")]
pub mod network;
mod sampler;
mod state;
#[cfg(feature = "train")]
pub mod train;
mod weights;

pub use crate::model_files::{PRIOR_CONFIG_FILE, PRIOR_WEIGHTS_FILE};
pub use config::PriorConfig;
pub use entropy::PriorCoder;
pub use generator::Generator;
pub use sampler::{Sampler, Sampling, SamplingError};
pub use state::PriorState;
pub use weights::Prior;
