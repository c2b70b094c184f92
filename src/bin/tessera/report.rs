//! Results to stdout, messages to stderr; neither is a reason to panic when nobody reads it any more.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use serde::Serialize;

/// Prints a result. A reader that has gone (`tessera info x | head -1`) has seen enough: no error.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// Prints a result for machines.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print_json_beside(false, value)
}

/// Prints a result to stderr where stdout carries audio or tokens.
pub fn print_beside(stdout_taken: bool, text: &str) -> Result<()> {
    match stdout_taken {
        true => note(text.trim_end()),
        false => print(text)?,
    }
    Ok(())
}

/// [`print_beside`], for machines.
pub fn print_json_beside(stdout_taken: bool, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot make JSON of the result")?;
    print_beside(stdout_taken, &(text + "\n"))
}

/// Prints a line to stderr. Where that is impossible there is nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Replaces the line of a terminal that the cursor is in.
#[cfg(feature = "live")]
pub fn rewrite(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
}

/// An error and its reasons, but for those that the message before has told already.
pub fn reasons(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for reason in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = reason;
        } else if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
    }
    text
}

/// Warns of something.
pub fn warn(text: &str) {
    note(&format!("warning: {text}"));
}

/// A length of time as people say it.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min", (whole + 30) / 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A size as people say it.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        ..1e3 => format!("{count} bytes"),
        ..1e6 => format!("{:.1} kB", count / 1e3),
        ..1e9 => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.1} GB", count / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        let cases = [(0.4, "0 s"), (119.2, "119 s"), (150.0, "3 min"), (9000.0, "2 h 30 min")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
        for (count, text) in
            [(12, "12 bytes"), (1234, "1.2 kB"), (5_600_000, "5.6 MB"), (3_694_909_165, "3.7 GB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
