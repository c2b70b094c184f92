//! What is done to everything that reads bytes from strangers: a function for each reader, which takes
//! any bytes and panics when a promise is broken.
//!
//! They have no features in common with the rest of the tests, since two programs run them: the
//! fuzzers in `fuzz/`, for as long as one likes, and `tests/fuzz_regressions.rs`, a few thousand
//! seeded inputs on every `cargo test`.

#![allow(clippy::unwrap_used, clippy::panic)]

pub mod config;
pub mod container;
mod draw;
pub mod entropy;
mod escapes;
#[path = "../lines_at_random/mod.rs"]
mod lines_at_random;
pub mod model;
pub mod payload;
pub mod prior;
pub mod stream;
pub mod tiny;
pub mod wav;

/// An attack: its name, which is also that of its folders of seeds and regressions, and what it does
/// with the bytes.
pub struct Attack {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// All attacks.
pub const ALL: [Attack; 8] = [
    Attack { name: "container", run: container::attack },
    Attack { name: "payload", run: payload::attack },
    Attack { name: "wav", run: wav::attack },
    Attack { name: "config", run: config::attack },
    Attack { name: "model", run: model::attack },
    Attack { name: "prior", run: prior::attack },
    Attack { name: "entropy", run: entropy::attack },
    Attack { name: "stream", run: stream::attack },
];
