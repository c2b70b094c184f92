//! Training: the data, and with the feature `train` the rest.

pub mod dataset;
