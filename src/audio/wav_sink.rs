//! Writing WAV files.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};
use tempfile::NamedTempFile;

use super::source::{AudioError, check_shape};

/// Most bytes of audio in a file: the RIFF size is 32 bits and counts the header too.
const MAX_DATA_BYTES: u64 = (u32::MAX - 1024) as u64;

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WavFormat {
    /// 16-bit integers, rounded and clipped to full scale.
    #[default]
    Pcm16,
    /// 24-bit integers, rounded and clipped to full scale.
    Pcm24,
    /// 32-bit floats, as they are.
    Float32,
}

impl WavFormat {
    fn bytes(self) -> u64 {
        match self {
            Self::Pcm16 => 2,
            Self::Pcm24 => 3,
            Self::Float32 => 4,
        }
    }
}

/// A WAV file in the making.
///
/// It is written under a temporary name in the folder of `path`; [`WavSink::finish`] gives it its
/// name. Dropped before, it leaves nothing behind.
pub struct WavSink {
    writer: WavWriter<BufWriter<File>>,
    temporary: NamedTempFile,
    path: PathBuf,
    channels: usize,
    format: WavFormat,
    overwrite: bool,
    written: u64,
}

impl WavSink {
    /// Starts a file of `channels` at `sample_rate` Hz.
    ///
    /// # Errors
    /// [`AudioError::Exists`] if the file is there and `overwrite` is false, [`AudioError::Write`],
    /// [`AudioError::SampleRate`], [`AudioError::Channels`].
    pub fn create(
        path: &Path,
        sample_rate: u32,
        channels: u16,
        format: WavFormat,
        overwrite: bool,
    ) -> Result<Self, AudioError> {
        let label = path.display().to_string();
        check_shape(&label, sample_rate, usize::from(channels))?;
        if path.exists() && !overwrite {
            return Err(AudioError::Exists { path: label });
        }
        let write_error = |source| AudioError::Write { path: label.clone(), source };
        if path.is_dir() {
            return Err(write_error(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tessera-").suffix(".wav.tmp");
        // Temporary files are private by default; this one becomes the user's.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(folder).map_err(write_error)?;
        let file = temporary.as_file().try_clone().map_err(write_error)?;
        let (bits_per_sample, sample_format) = match format {
            WavFormat::Pcm16 => (16, SampleFormat::Int),
            WavFormat::Pcm24 => (24, SampleFormat::Int),
            WavFormat::Float32 => (32, SampleFormat::Float),
        };
        let spec = WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        let writer = WavWriter::new(BufWriter::with_capacity(1 << 16, file), spec)
            .map_err(|error| write_error(io_error(error)))?;
        Ok(Self {
            writer,
            temporary,
            path: path.into(),
            channels: usize::from(channels),
            format,
            overwrite,
            written: 0,
        })
    }

    /// Appends a block: a slice per channel, all of the same length. Non-finite samples become 0.
    ///
    /// # Errors
    /// [`AudioError::Block`], [`AudioError::TooLong`], [`AudioError::Write`].
    pub fn write<S: AsRef<[f32]>>(&mut self, planar: &[S]) -> Result<(), AudioError> {
        let frames = planar.first().map_or(0, |c| c.as_ref().len());
        if planar.len() != self.channels || planar.iter().any(|c| c.as_ref().len() != frames) {
            return Err(AudioError::Block {
                path: self.label(),
                reason: format!("{} channels of equal length are expected", self.channels),
            });
        }
        self.written += frames as u64 * self.channels as u64 * self.format.bytes();
        if self.written > MAX_DATA_BYTES {
            return Err(AudioError::TooLong { path: self.label() });
        }
        for frame in 0..frames {
            for channel in planar {
                let sample = channel.as_ref()[frame];
                let sample = if sample.is_finite() { sample } else { 0.0 };
                let result = match self.format {
                    WavFormat::Pcm16 => self.writer.write_sample(to_pcm(sample, 15)),
                    WavFormat::Pcm24 => self.writer.write_sample(to_pcm(sample, 23)),
                    WavFormat::Float32 => self.writer.write_sample(sample),
                };
                result.map_err(|error| write_error(&self.path, io_error(error)))?;
            }
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`AudioError::Write`]; [`AudioError::Exists`] if the name was taken in the meantime.
    pub fn finish(self) -> Result<(), AudioError> {
        let Self { writer, temporary, path, overwrite, .. } = self;
        writer.finalize().map_err(|error| write_error(&path, io_error(error)))?;
        temporary.as_file().sync_all().map_err(|source| write_error(&path, source))?;
        let persisted =
            if overwrite { temporary.persist(&path) } else { temporary.persist_noclobber(&path) };
        match persisted {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(AudioError::Exists { path: path.display().to_string() })
            }
            Err(error) => Err(write_error(&path, error.error)),
        }
    }

    fn label(&self) -> String {
        self.path.display().to_string()
    }
}

fn write_error(path: &Path, source: io::Error) -> AudioError {
    AudioError::Write { path: path.display().to_string(), source }
}

fn io_error(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// Rounds to `bits` plus sign, clipped to full scale.
fn to_pcm(sample: f32, bits: u32) -> i32 {
    let scale = f64::from(1u32 << bits);
    (f64::from(sample) * scale).round().clamp(-scale, scale - 1.0) as i32
}
