//! The command-line tool.

mod batch;
mod decode;
#[cfg(feature = "live")]
mod device;
#[cfg(feature = "live")]
mod devices;
mod effort;
mod encode;
mod entropy;
mod eval;
#[cfg(feature = "train")]
mod export;
mod generate;
mod info;
mod interrupt;
mod kbps;
mod levels;
#[cfg(feature = "live")]
mod live;
mod model;
mod pipe;
#[cfg(feature = "live")]
mod play;
mod plot;
#[cfg(feature = "train")]
mod prior;
mod progress;
mod repair;
mod report;
mod sound;
mod tokens;
#[cfg(feature = "train")]
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
/// damaged: decode made part of the audio up, repair marked it as lost, verify found it; 141 the reader of
/// a pipe went away.
#[derive(Parser)]
#[command(name = "tessera", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "train")]
    Train(train::Args),
    #[cfg(feature = "train")]
    Export(export::Args),
    #[cfg(feature = "train")]
    Prior(prior::Args),
    Encode(encode::Args),
    Decode(decode::Args),
    Info(info::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Eval(eval::Args),
    Plot(plot::Args),
    Tokens(tokens::Args),
    Generate(generate::Args),
    #[cfg(feature = "live")]
    Devices(devices::Args),
    #[cfg(feature = "live")]
    Play(play::Args),
    #[cfg(feature = "live")]
    Live(live::Args),
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
    let command = Cli::parse().command;
    #[cfg(feature = "train")]
    match &command {
        Command::Encode(args) => args.effort.one_thread_a_search(),
        Command::Eval(args) => args.effort.one_thread_a_search(),
        _ => {}
    }
    let result = match command {
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(args),
        #[cfg(feature = "train")]
        Command::Export(args) => export::run(args),
        #[cfg(feature = "train")]
        Command::Prior(args) => prior::run(args),
        Command::Encode(args) => encode::run(args),
        Command::Decode(args) => decode::run(args),
        Command::Info(args) => info::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Tokens(args) => tokens::run(args),
        Command::Generate(args) => generate::run(args),
        #[cfg(feature = "live")]
        Command::Devices(args) => devices::run(args),
        #[cfg(feature = "live")]
        Command::Play(args) => play::run(args),
        #[cfg(feature = "live")]
        Command::Live(args) => live::run(args),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(3),
        Err(error) if pipe::reader_is_gone(&error) => ExitCode::from(pipe::EXIT_CODE),
        Err(error) => {
            report::note(&format!("error: {}", report::reasons(&error)));
            ExitCode::from(1)
        }
    }
}
