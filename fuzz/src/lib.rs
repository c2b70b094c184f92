//! What the fuzzers do is in `tests/attacks/` and `plugin/tests/attacks/`, where `cargo test` runs it as well.

#[path = "../../tests/attacks/mod.rs"]
pub mod attacks;
#[cfg(feature = "plugin")]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "../../plugin/tests/attacks/state.rs"]
pub mod state;
