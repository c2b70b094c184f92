//! The command-line tool from outside: what it prints, how it exits, what it leaves behind.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../header_fields/mod.rs"]
mod at;
mod broken;
mod common;
#[cfg(target_os = "linux")]
mod faults;
mod files;
mod measuring;
#[cfg(target_os = "linux")]
mod memory;
mod prior;
mod repairing;
mod tokens;
mod training;
