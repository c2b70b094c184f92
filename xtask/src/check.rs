//! `cargo xtask test`: everything that has to hold before a change goes in.

use std::time::Instant;

use anyhow::Result;

use crate::run::{cargo, run, succeeds};
use crate::system;

/// The plugin's program of its own, and the end of every test in which the audio thread allocates.
const PLUGIN: &str = "tessera-plugin/standalone,tessera-plugin/assert_process_allocs";

/// Runs all checks, quick ones first; the first that fails ends it.
pub fn check() -> Result<()> {
    let start = Instant::now();
    system::test_packages()?;
    system::components()?;
    let deny = ["--", "-D", "warnings"];
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    let workspace = ["clippy", "--workspace", "--all-targets", "--features", PLUGIN];
    run(&mut cargo(&[&workspace[..], &deny].concat()))?;
    // The library without the trainer and the command line, as other programs embed it.
    let bare = ["clippy", "--package", "tessera-codec", "--no-default-features", "--all-targets"];
    run(&mut cargo(&[&bare[..], &deny].concat()))?;
    // The command line without the trainer.
    let tool = ["clippy", "--package", "tessera-codec", "--no-default-features", "--features"];
    run(&mut cargo(&[&tool[..], &["tool,live,embedded-model", "--all-targets"], &deny].concat()))?;
    run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    supply_chain()?;
    run(&mut cargo(&["test", "--workspace", "--features", PLUGIN]))?;
    println!("\nAll checks passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Licences, sources and double versions of all dependencies, by deny.toml. Advisories are left out: they
/// come from the network, and a new one is no fault of the change that is checked.
fn supply_chain() -> Result<()> {
    if !succeeds("cargo", &["deny", "--version"]) {
        println!("\nskipped: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))
}
