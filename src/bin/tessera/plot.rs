//! `tessera plot`: spectrograms side by side.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tessera_codec::bitstream::{OutputFile, Overwrite};
use tessera_codec::plot::{Panel, draw_spectrograms};

use super::sound::Clip;
use super::{Outcome, encode};

/// Most clips in a picture; each takes a panel of half a megapixel.
const MAX_PANELS: usize = 64;

/// Draw spectrograms of one or more clips, with common axes and colours, as PNG.
#[derive(clap::Args)]
pub struct Args {
    /// The clips, and last the picture to write: A.wav [B.wav ...] OUT.png.
    #[arg(required = true, num_args = 2.., value_names = ["A.wav", "OUT.png"])]
    files: Vec<PathBuf>,
    /// Replace the picture if it exists.
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args) -> Result<Outcome> {
    let Some((output, inputs)) = args.files.split_last() else {
        bail!("name a clip and the picture to write");
    };
    // The last name given is written: it must not be a clip by mistake.
    let is_picture = output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    if !is_picture {
        bail!("the picture {} must be named .png", output.display());
    }
    if inputs.len() > MAX_PANELS {
        bail!("{} clips do not fit one picture; {MAX_PANELS} are the most", inputs.len());
    }
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let mut file = OutputFile::create(output, overwrite).context(encode::hint(args.force))?;
    let mut clips = Vec::with_capacity(inputs.len());
    for input in inputs {
        let clip = Clip::read(input)?;
        clips.push((input.display().to_string(), clip.mono(), clip.rate));
    }
    let panels: Vec<Panel<'_>> =
        clips.iter().map(|(title, samples, rate)| Panel { title, samples, rate: *rate }).collect();
    let drawn = draw_spectrograms(&panels).and_then(|canvas| canvas.encode());
    let picture = drawn.with_context(|| format!("cannot draw {}", output.display()))?;
    file.write_all(&picture).with_context(|| format!("cannot write {}", output.display()))?;
    file.commit()?;
    Ok(Outcome::Done)
}
