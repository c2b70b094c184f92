//! The codec on the CPU, for audio threads and for files: exact, streaming, and free of allocation.
//!
//! [`Model`] holds the weights, which any number of streams share; [`StreamEncoder`] and
//! [`StreamDecoder`] hold the state of one channel. After they are made, nothing allocates, locks, makes
//! a system call or panics.
//!
//! The engine reads the same files as the candle model and gives the same results within rounding. It
//! gives them to the last bit for every way of cutting the input into calls, on any number of threads,
//! and with every [`InstructionSet`]: each output of a matrix product is one chain of fused
//! multiply-adds in a fixed order, vectors run across outputs, and everything else is made of IEEE
//! operations that are the same everywhere. (That holds in Rust's floating-point environment; a host
//! that has subnormal numbers flushed to zero may see the last bits of near-silence differ.)
//!
//! A step can also be computed in small units of about equal cost, for an audio thread that has a share
//! of its block's time to give and no more:
//!
//! ```
//! use tessera_codec::engine::{Model, StreamEncoder};
//!
//! # #[cfg(feature = "embedded-model")] {
//! let model = Model::shipped()?;
//! let mut encoder = StreamEncoder::new(&model);
//! let mut codes = vec![0; model.codes_per_step(4)];
//! let mut steps = 0;
//! // Blocks of 64 samples; a step is 30 of them, and is computed while the next one comes in.
//! let units_per_block = encoder.units().div_ceil(encoder.chunk_samples() / 64);
//! for block in std::iter::repeat_n([0.1f32; 64], 100) {
//!     encoder.fill(&block);
//!     if encoder.advance(units_per_block) {
//!         steps += encoder.take(&mut codes)? / codes.len();
//!     }
//!     if encoder.missing_samples() == 0 {
//!         encoder.begin(4)?;
//!     }
//! }
//! assert_eq!(steps, 2);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod band_levels;
pub(crate) mod block;
mod channels;
mod colour;
mod comb;
mod decoder;
mod encoder;
mod error;
pub(crate) mod kernels;
mod level;
pub(crate) mod matrix;
mod model;
mod schedule;
mod step;
mod synthesis;
pub(crate) mod tensors;

pub use crate::model_files::{CONFIG_FILE, ModelError, WEIGHTS_FILE};
pub use channels::{ChannelDecoders, ChannelEncoders};
#[cfg(feature = "train")]
pub(crate) use comb::CombShape;
pub use decoder::StreamDecoder;
pub use encoder::StreamEncoder;
pub use error::EngineError;
pub use kernels::InstructionSet;
pub use model::Model;
pub use step::Progress;
