//! The command-line tool.

mod decode;
mod encode;
mod eval;
mod export;
mod info;
mod interrupt;
mod levels;
mod model;
mod plot;
mod progress;
mod repair;
mod report;
mod sound;
mod train;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A training step takes and gives back hundreds of megabytes; the system's allocator returns them to
/// the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A small neural audio codec: trains on your sounds, turns audio into tokens and back.
///
/// Exit codes: 0 all is well, 1 an error, 2 a mistake in the command line, 3 done, but the file is
/// damaged: decode made part of the audio up, repair marked it as lost, verify found it.
#[derive(Parser)]
#[command(name = "tessera", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Args),
    Export(export::Args),
    Encode(encode::Args),
    Decode(decode::Args),
    Info(info::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Eval(eval::Args),
    Plot(plot::Args),
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// As asked.
    Done,
    /// As asked, but the file is damaged: part of the audio is lost, or may be.
    Damaged,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => train::run(args),
        Command::Export(args) => export::run(args),
        Command::Encode(args) => encode::run(args),
        Command::Decode(args) => decode::run(args),
        Command::Info(args) => info::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Plot(args) => plot::run(args),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(3),
        Err(error) => {
            report::note(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}
