//! Other neural codecs and Tessera on the same machine, in one run, on one thread each.
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml
//!
//! All code the same ten seconds with random weights (the time does not depend on their values), each in a
//! process of its own, so that its peak memory is its own. Prints a table in Markdown. Linux only: times
//! and memory are read from /proc.

mod codecs;
mod random;

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Seconds of audio that are coded.
const SECONDS: usize = 10;

/// Times each codec runs; the fastest counts.
const RUNS: usize = 3;

/// Ticks a second in /proc, the same on every Linux that matters.
const TICKS: f64 = 100.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => all(),
        ["one", name] => one(name),
        _ => bail!("usage: tessera-peers"),
    }
}

/// Seconds of processor time that this process has taken.
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in brackets may have spaces; after it, user and system time are fields 12 and 13.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
    Ok((ticks(11).context("no user time")? + ticks(12).context("no system time")?) / TICKS)
}

/// Most memory that this process has had, in megabytes.
fn peak_megabytes() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kibibytes.context("no peak memory")? * 1024.0 / 1e6)
}

/// Measures one codec and prints the figures as JSON.
fn one(name: &str) -> Result<()> {
    let mut codec = codecs::make(name)?;
    let (mut encode, mut decode) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..RUNS {
        let begin = processor_seconds()?;
        codec.encode()?;
        let middle = processor_seconds()?;
        codec.decode()?;
        encode = encode.min(middle - begin);
        decode = decode.min(processor_seconds()? - middle);
    }
    let share = 1.0 / SECONDS as f64;
    let figures = json!({
        "encode": encode * share,
        "decode": decode * share,
        "megabytes": peak_megabytes()?,
    });
    println!("{figures}");
    Ok(())
}

/// Measures each in a process of its own and prints the table.
fn all() -> Result<()> {
    let program = std::env::current_exe()?;
    let mut rows = Vec::new();
    for (name, about) in codecs::ALL {
        eprintln!("{name} ...");
        let output = Command::new(&program)
            .args(["one", name])
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} failed: {error}");
        let figures: Value = serde_json::from_slice(&output.stdout)?;
        let figure = |key: &str| figures[key].as_f64().unwrap_or(f64::NAN);
        rows.push((name, about, ["encode", "decode", "megabytes"].map(figure)));
    }
    let ours = rows.last().map_or(f64::NAN, |(_, _, [encode, decode, _])| encode + decode);
    println!("CPU seconds per second of audio, one thread, best of {RUNS} runs of {SECONDS} s:\n");
    println!("| codec | audio | latency | encode | decode | both, of Tessera's | peak memory |");
    println!("|---|---|---|---|---|---|---|");
    for (name, about, [encode, decode, megabytes]) in rows {
        println!(
            "| {name} | {} | {} | {encode:.4} | {decode:.4} | {:.1}x | {megabytes:.0} MB |",
            about.audio,
            about.latency,
            (encode + decode) / ours
        );
    }
    Ok(())
}
