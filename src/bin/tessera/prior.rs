//! `tessera prior`: the prior of a model, from tokens to a file beside the model's weights.

mod export;
mod monitor;
mod table;
mod train;

use anyhow::Result;

use super::Outcome;

/// Train a model's prior, which makes files smaller and can continue and invent sound.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Train(train::Args),
    Export(export::Args),
}

pub fn run(args: Args) -> Result<Outcome> {
    match args.command {
        Command::Train(args) => train::run(args),
        Command::Export(args) => export::run(args),
    }
}
