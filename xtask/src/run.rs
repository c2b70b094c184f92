//! Running other programs, and where things are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

/// The repository's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).into()
}

/// Cargo's target folder: the one this program was built into.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let target = program.ancestors().nth(2).context("this program is not in a target folder")?;
    Ok(target.into())
}

/// Cargo, in the repository's folder.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Shows a command, runs it, and makes its failure an error.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    println!("\n$ {line}");
    let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs a command, says nothing unless it fails, and gives what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot run `{line}`"))?;
    let stderr = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "`{line}` failed: {status}\n{}", stderr.trim_end());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Whether a command can be run and succeeds; prints nothing.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A command as it would be typed in the repository's folder.
fn line(command: &Command) -> String {
    let root = root();
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let path = Path::new(word);
            let short = if Some(word) == std::env::var_os("CARGO").as_deref() {
                Path::new("cargo")
            } else {
                path.strip_prefix(&root).unwrap_or(path)
            };
            short.display().to_string()
        })
        .collect::<Vec<_>>()
        .join(" ")
}
