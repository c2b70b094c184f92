//! The network in candle: training, and coding in batches on any device candle has.

pub mod ops;
