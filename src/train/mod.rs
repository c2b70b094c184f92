//! Training.

#[cfg(feature = "runlog")]
pub mod log;
