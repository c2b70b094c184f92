//! The command-line tool without its trainer: pipes and sound devices, with the shipped model.

#![cfg(all(feature = "tool", feature = "embedded-model"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[cfg(all(feature = "live", target_os = "linux"))]
mod devices;
mod folders;
mod generating;
mod models;
mod pipes;
mod prior;
#[path = "../support/mod.rs"]
mod support;
