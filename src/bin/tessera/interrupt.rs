//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tessera_codec::audio::{AudioError, AudioInfo, AudioSource, AudioWarning};

/// What a shell reports of a program ended by Ctrl-C.
pub const EXIT_CODE: i32 = 130;

/// Whether an end was asked for.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. Once per process.
    pub fn listen() -> Result<Self> {
        let asked = Self::default();
        let flag = asked.0.clone();
        let handler = move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(EXIT_CODE);
            }
        };
        ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")?;
        Ok(asked)
    }

    /// Whether an end was asked for.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The error to stop with, if an end was asked for. Unwinding the ordinary way removes the
    /// temporary files.
    pub fn check(&self) -> io::Result<()> {
        match self.asked() {
            true => Err(io::Error::new(ErrorKind::Interrupted, "stopped before the end")),
            false => Ok(()),
        }
    }
}

/// A file that cannot be read any more when an end is asked for.
pub struct InterruptibleFile {
    /// The file itself.
    pub file: File,
    /// What to listen to.
    pub interrupt: Interrupt,
}

impl Read for InterruptibleFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not as `Interrupted`, at which readers try again.
        self.interrupt.check().map_err(io::Error::other)?;
        self.file.read(buffer)
    }
}

impl Seek for InterruptibleFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A source that fails when an end is asked for.
pub struct Interruptible {
    /// The source itself.
    pub source: Box<dyn AudioSource>,
    /// What to listen to.
    pub interrupt: Interrupt,
    /// Name of the source in the error.
    pub path: String,
}

impl AudioSource for Interruptible {
    fn info(&self) -> &AudioInfo {
        self.source.info()
    }

    fn read(&mut self, planar: &mut Vec<Vec<f32>>, max_frames: usize) -> Result<usize, AudioError> {
        self.interrupt
            .check()
            .map_err(|source| AudioError::Read { path: self.path.clone(), source })?;
        self.source.read(planar, max_frames)
    }

    fn warnings(&self) -> Vec<AudioWarning> {
        self.source.warnings()
    }
}
