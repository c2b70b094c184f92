//! Tessera: a small neural audio codec that turns 48 kHz audio into discrete multi-scale tokens and
//! back.
//!
//! samples → frames (100 Hz) → encoder → levels of tokens (25, 50, 100 Hz) → decoder → samples
//!
//! [`engine`] does that for live sound, with the same bits on every CPU; with the feature `train` the same
//! network runs in candle and can be trained.

pub mod audio;
pub mod bitstream;
pub mod concealment;
pub mod config;
pub mod engine;
pub mod files;
pub mod lines;
pub mod metrics;
pub mod plot;
pub mod prior;
pub mod token_files;
pub mod tokens;

mod bands;
#[cfg(feature = "train")]
mod fine_structure;
mod harmonics;
mod loops;
mod math;
mod model_files;
mod noise;
mod real_fft;
mod shipped;
mod synthesis;
mod threads;
mod trims;

pub use shipped::Shipped;

#[cfg(feature = "train")]
pub mod codec;
#[cfg(feature = "train")]
pub mod model;
#[cfg(any(feature = "dataset", feature = "runlog"))]
pub mod train;

// The README's example has to compile.
#[cfg(all(doctest, feature = "train"))]
#[doc = include_str!("../README.md")]
struct Readme;
