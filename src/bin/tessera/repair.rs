//! `tessera repair`: a whole file of what is left of a damaged one.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tessera_codec::bitstream::{self, OutputFile, Overwrite};

use super::interrupt::{Interrupt, InterruptibleFile};
use super::{Outcome, encode, report};

/// Write what is intact of a damaged .tsr file as a file that is whole again.
///
/// What is lost is marked and keeps its time: decoding fades it out, and everything after it stays where
/// it was. The damaged file is left as it is. The exit code is 3 when audio is lost.
#[derive(clap::Args)]
pub struct Args {
    /// The damaged file (.tsr).
    input: PathBuf,
    /// The file to write (.tsr).
    output: PathBuf,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Outcome> {
    let (name, output) = (args.input.display().to_string(), args.output.display().to_string());
    let fail = || format!("cannot repair {name}");
    let file = File::open(&args.input).with_context(fail)?;
    if let (Ok(from), Ok(to)) = (args.input.canonicalize(), args.output.canonicalize())
        && from == to
    {
        bail!("{output} is the damaged file itself, which is worth keeping; choose another name");
    }
    // Before there is a temporary file, which only an orderly end removes.
    let interrupt = Interrupt::listen()?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let target = OutputFile::create(&args.output, overwrite).context(encode::hint(args.force))?;
    let source = InterruptibleFile { file, interrupt };
    let (target, done) = bitstream::repair(source, target).with_context(fail)?;
    target.commit()?;
    for damage in &done.damages {
        report::warn(&format!("{name}: {damage}"));
    }
    if done.samples_guessed {
        report::warn(&format!("{name}: its length is lost; {output} ends where its chunks do"));
    }
    let lost = done.lost_chunks > 0 || done.samples_guessed;
    if args.json {
        report::print_json(&json!({
            "input": name,
            "output": output,
            "kept_chunks": done.kept_chunks,
            "lost_chunks": done.lost_chunks,
            "lost_steps": done.lost_steps,
            "samples": done.samples,
            "samples_guessed": done.samples_guessed,
            "damage_count": done.damage_count,
            "damages": done.damages.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        report::print(&format!(
            "{output}: {} of {} chunks kept, {} marked as lost\n",
            done.kept_chunks,
            u64::from(done.kept_chunks) + u64::from(done.lost_chunks),
            done.lost_chunks,
        ))?;
    }
    Ok(if lost { Outcome::Damaged } else { Outcome::Done })
}
