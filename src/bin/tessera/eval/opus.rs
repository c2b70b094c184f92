//! Opus, the codec that people would use instead, through its own tools.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tessera_codec::audio::{WavFormat, WavSink};

use crate::sound::Clip;

/// Rates in kbps a channel: from the lowest that Opus has up to where speech is good.
pub const RATES: [u32; 4] = [6, 8, 12, 16];

/// Opus can be told no less than this many channels by `opusenc`.
const MOST_CHANNELS: usize = 8;

/// Checks that both tools run.
pub fn check() -> Result<()> {
    for tool in ["opusenc", "opusdec"] {
        let runs = quiet(Command::new(tool).arg("--version")).is_ok();
        ensure!(
            runs,
            "--against opus needs the program {tool}, which does not run: install opus-tools"
        );
    }
    Ok(())
}

/// What Opus makes of a clip at `kbps` a channel: bytes of the file, and the sound at the clip's rate or
/// 48 kHz, with its rate.
pub fn code(clip: &Clip, kbps: u32) -> Result<(usize, Clip)> {
    let channels = clip.channels.len();
    if channels > MOST_CHANNELS {
        bail!("{channels} channels are more than Opus codes ({MOST_CHANNELS})");
    }
    let folder = tempfile::tempdir().context("cannot make a temporary folder for Opus")?;
    let path = |name: &str| folder.path().join(name);
    let (source, coded, decoded) = (path("source.wav"), path("coded.opus"), path("decoded.wav"));
    let mut sink = WavSink::create(&source, clip.rate, channels as u16, WavFormat::Pcm24, false)?;
    sink.write(&clip.channels)?;
    sink.finish()?;
    let total = (kbps as usize * channels).to_string();
    let mut encode = Command::new("opusenc");
    encode.args(["--quiet", "--comp", "10", "--discard-comments", "--padding", "0"]);
    quiet(encode.args(["--bitrate", &total]).arg(&source).arg(&coded))?;
    let rate = ["--quiet", "--float", "--rate", "48000"];
    quiet(Command::new("opusdec").args(rate).arg(&coded).arg(&decoded))?;
    let bytes = size(&coded)?;
    Ok((bytes, Clip::read(&decoded)?))
}

fn size(path: &Path) -> Result<usize> {
    let metadata = std::fs::metadata(path);
    let bytes = metadata.with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(usize::try_from(bytes)?)
}

/// Runs a tool; what it says is kept for the error.
fn quiet(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
