//! The command-line tool from outside: what it prints, how it exits, what it leaves behind.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod common;
mod files;
mod measuring;
mod training;
