//! The project's own commands: `cargo xtask demo`, `test`, `page` and `bundle`.

mod bundle;
mod check;
mod demo;
mod page;
mod run;
mod system;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  demo      Code a real recording with the shipped model: WAVs to hear, a picture to see
  test      Everything that has to hold: format, lints, tests, documentation
  page      A web page with clips to hear and see, against Opus: page [CLIPS_DIR [OUT_DIR]]
  bundle    Build the plugin: target/bundled/Tessera.clap and Tessera.vst3

Each command installs the Debian packages it needs when they are missing.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["demo"] => demo::demo(),
        ["test"] => check::check(),
        ["page", ref arguments @ ..] => page::page(arguments),
        ["bundle"] => bundle::bundle(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("error: no such command: {}\n\n{HELP}", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
