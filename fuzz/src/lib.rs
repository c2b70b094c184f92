//! What the fuzzers do is in `tests/attacks/`, where `cargo test` runs it as well.

#[path = "../../tests/attacks/mod.rs"]
pub mod attacks;
