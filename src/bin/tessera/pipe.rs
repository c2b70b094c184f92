//! `-` in the place of a file: stdin or stdout.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, IsTerminal, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use tempfile::SpooledTempFile;
use tessera_codec::audio::{self, AudioSource, WavSource};
use tessera_codec::bitstream::{OutputFile, Overwrite};

use super::encode::hint;

/// What stands for stdin and stdout.
pub const STDIO: &str = "-";

/// What a shell reports of a program whose reader went away.
pub const EXIT_CODE: u8 = 141;

/// A .tsr that has no name is kept in memory up to this size, and beyond it in a temporary file.
const IN_MEMORY: usize = 16 << 20;

/// A .tsr from a pipe may be this large: some 30 days of stereo.
const LARGEST: u64 = 1 << 30;

/// Whether a path stands for stdin or stdout.
pub fn is_stdio(path: &Path) -> bool {
    path == Path::new(STDIO)
}

/// Audio without a header: its rate and channels.
#[derive(Debug, Clone, Copy)]
pub struct Raw {
    rate: u32,
    channels: u16,
}

impl std::str::FromStr for Raw {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || "give rate and channels, as in 48000,2".to_string();
        let (rate, channels) = text.split_once(',').ok_or_else(fail)?;
        let (rate, channels) = (rate.trim().parse(), channels.trim().parse());
        Ok(Self { rate: rate.map_err(|_| fail())?, channels: channels.map_err(|_| fail())? })
    }
}

/// Opens audio: a file of any format, WAV from a pipe, or samples without a header from either.
pub fn open_audio(path: &Path, raw: Option<Raw>) -> Result<Box<dyn AudioSource>> {
    let name = path.display().to_string();
    Ok(match (is_stdio(path), raw) {
        (true, raw) => {
            let stdin = stdin("audio")?;
            match raw {
                Some(raw) => {
                    Box::new(WavSource::raw(stdin, "stdin".into(), raw.rate, raw.channels)?)
                }
                None => Box::new(
                    WavSource::new(stdin, "stdin".into(), None)
                        .context("only WAV, or --raw samples, can come from a pipe")?,
                ),
            }
        }
        (false, Some(raw)) => {
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            Box::new(WavSource::raw(BufReader::new(file), name, raw.rate, raw.channels)?)
        }
        (false, None) => audio::open(path)?,
    })
}

fn stdin(what: &str) -> Result<BufReader<io::Stdin>> {
    if io::stdin().is_terminal() {
        bail!("stdin is a terminal: pipe {what} into it, or name a file");
    }
    Ok(BufReader::with_capacity(1 << 16, io::stdin()))
}

/// What a .tsr is read from.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// Room for a .tsr that has no name.
pub fn held() -> SpooledTempFile {
    tempfile::spooled_tempfile(IN_MEMORY)
}

/// Opens a .tsr. What comes from a pipe is taken in whole first: its end says where things are.
pub fn open_tokens(path: &Path) -> Result<Box<dyn ReadSeek>> {
    if !is_stdio(path) {
        return Ok(Box::new(File::open(path)?));
    }
    let mut held = held();
    let copied = io::copy(&mut stdin("a .tsr")?.take(LARGEST + 1), &mut held)
        .context("cannot keep stdin in a temporary file")?;
    if copied > LARGEST {
        bail!("more than {} GiB came from stdin: name a file instead", LARGEST >> 30);
    }
    held.rewind()?;
    Ok(Box::new(held))
}

/// Bytes on their way to a file or to stdout.
pub enum Output {
    File(OutputFile),
    Stdout(BufWriter<io::Stdout>),
}

impl Output {
    /// Begins the output at `path`.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        if is_stdio(path) {
            if io::stdout().is_terminal() {
                bail!("stdout is a terminal: redirect it, or name a file");
            }
            return Ok(Self::Stdout(BufWriter::with_capacity(1 << 16, io::stdout())));
        }
        let overwrite = if force { Overwrite::Replace } else { Overwrite::Refuse };
        Ok(Self::File(OutputFile::create(path, overwrite).context(hint(force))?))
    }

    /// Gives a file its name, and a pipe the rest.
    pub fn commit(self) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.commit()?),
            Self::Stdout(mut stdout) => stdout.flush().context("cannot write to stdout"),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// Whether whoever read our output has had enough. That is theirs to decide: nothing is said.
pub fn reader_is_gone(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}
