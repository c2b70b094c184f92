//! What every reader of audio offers, and how a file finds its reader.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use thiserror::Error;

use super::wav::WavSource;

/// Most channels a file may have.
pub const MAX_CHANNELS: u16 = 32;

/// Highest sample rate a file may have, in Hz.
pub const MAX_SAMPLE_RATE: u32 = 768_000;

/// Why audio could not be read, converted or written. Every message names the file and says what
/// can be done about it.
#[derive(Debug, Error)]
pub enum AudioError {
    /// The file is not there or may not be read.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The path leads to a folder or a device.
    #[error("{path} is not a file; name a single audio file")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// The file has no bytes at all.
    #[error("{path} is empty (0 bytes); it was probably never written completely, export it again")]
    Empty {
        /// The file.
        path: String,
    },
    /// The contents are of no known audio format.
    #[error("{path} is not an audio file: {reason}; convert it to WAV")]
    NotAudio {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The header is damaged or contradicts itself.
    #[error("{path} has a damaged header: {reason}; export the file again")]
    Header {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A valid file of a kind that is not read here.
    #[error("{path} cannot be read: {reason}; convert it to a 16, 24 or 32-bit WAV")]
    Unsupported {
        /// The file.
        path: String,
        /// What is not supported.
        reason: String,
    },
    /// The sample rate is 0 or above [`MAX_SAMPLE_RATE`].
    #[error("{path} has a sample rate of {rate} Hz; rates from 1 to {MAX_SAMPLE_RATE} Hz work")]
    SampleRate {
        /// The file, or a description of the stream.
        path: String,
        /// The rate in Hz.
        rate: u32,
    },
    /// No channels, or more than [`MAX_CHANNELS`].
    #[error("{path} has {channels} channels; 1 to {MAX_CHANNELS} work, split the file")]
    Channels {
        /// The file, or a description of the stream.
        path: String,
        /// The channel count.
        channels: usize,
    },
    /// Reading failed in the middle of the file.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The audio itself cannot be decoded.
    #[error("cannot decode {path}: {reason}; the file is damaged, export it again")]
    Decode {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The output is there already.
    #[error("{path} exists already; choose another name or allow overwriting")]
    Exists {
        /// The file.
        path: String,
    },
    /// The output could not be written.
    #[error(
        "cannot write {path}: {source}; check that the folder exists, is writable and has space"
    )]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The output would not fit into a WAV file.
    #[error("{path} would exceed the 4 GiB a WAV file can hold; write a shorter piece or 16 bits")]
    TooLong {
        /// The file.
        path: String,
    },
    /// A block does not have the shape that was agreed on.
    #[error("a block for {path} has the wrong shape: {reason}")]
    Block {
        /// The file, or a description of the stream.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// How the samples are stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleFormat {
    /// Integers of so many bits.
    Int(u16),
    /// IEEE floats of so many bits.
    Float(u16),
    /// A compressed format, decoded.
    Compressed,
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioInfo {
    /// In Hz, 1..=[`MAX_SAMPLE_RATE`].
    pub sample_rate: u32,
    /// 1..=[`MAX_CHANNELS`].
    pub channels: u16,
    /// Samples per channel, if known in advance. It is what the header claims, no more than the
    /// file's size allows where that is known: a hint, not to be allocated by.
    pub frames: Option<u64>,
    /// How the samples are stored.
    pub format: SampleFormat,
}

/// Something a caller should tell the user; the audio was read all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioWarning {
    /// The file ends before its header says so.
    Truncated,
    /// So many samples were NaN or infinite and became 0.
    NonFinite(u64),
    /// So many packets could not be decoded and were left out.
    Damaged(u64),
}

impl std::fmt::Display for AudioWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => write!(f, "the file is cut short; what is there was read"),
            Self::NonFinite(n) => write!(f, "{n} samples were NaN or infinite and became silence"),
            Self::Damaged(n) => write!(f, "{n} damaged packets were left out"),
        }
    }
}

/// A stream of audio, read block by block in bounded memory.
pub trait AudioSource: Send {
    /// Rate, channels and, where known, the length.
    fn info(&self) -> &AudioInfo;

    /// Replaces `planar` by the next block: one vector per channel, each of the returned length,
    /// at most `max_frames` (which must not be 0). 0 is returned at the end and only there.
    /// Samples are finite; full scale is ±1, floats may exceed it.
    fn read(&mut self, planar: &mut Vec<Vec<f32>>, max_frames: usize) -> Result<usize, AudioError>;

    /// What was noticed so far; complete after the last block.
    fn warnings(&self) -> Vec<AudioWarning>;
}

/// Opens an audio file, told by its contents, not its name.
///
/// WAV always works; FLAC, Ogg Vorbis, MP3, AAC, ALAC, AIFF, CAF and Matroska need the feature
/// `formats`.
///
/// ```
/// let error = tessera_codec::audio::open("missing.wav".as_ref()).err().unwrap();
/// assert!(error.to_string().starts_with("cannot open missing.wav"));
/// ```
pub fn open(path: &Path) -> Result<Box<dyn AudioSource>, AudioError> {
    let label = path.display().to_string();
    let open_error = |source| AudioError::Open { path: label.clone(), source };
    let metadata = std::fs::metadata(path).map_err(open_error)?;
    if !metadata.is_file() {
        return Err(AudioError::NotAFile { path: label });
    }
    if metadata.len() == 0 {
        return Err(AudioError::Empty { path: label });
    }
    let mut file = File::open(path).map_err(open_error)?;
    let mut magic = Vec::with_capacity(12);
    let read_error = |source| AudioError::Read { path: label.clone(), source };
    file.by_ref().take(12).read_to_end(&mut magic).map_err(read_error)?;
    file.rewind().map_err(read_error)?;

    let riff = [b"RIFF", b"RIFX", b"RF64", b"BW64"].iter().any(|m| magic.starts_with(&m[..]));
    if !riff {
        return open_other(path, label);
    }
    match WavSource::new(BufReader::new(file), label.clone(), Some(metadata.len())) {
        Ok(source) => Ok(Box::new(source)),
        // Compressed WAVs (ADPCM, A-law, ...) are a matter for the other reader. Should it fail
        // too, ours is the better explanation.
        Err(error @ AudioError::Unsupported { .. }) => open_other(path, label).map_err(|_| error),
        Err(error) => Err(error),
    }
}

#[cfg(feature = "formats")]
fn open_other(path: &Path, label: String) -> Result<Box<dyn AudioSource>, AudioError> {
    Ok(Box::new(super::formats::SymphoniaSource::open(path, label)?))
}

#[cfg(not(feature = "formats"))]
fn open_other(_path: &Path, label: String) -> Result<Box<dyn AudioSource>, AudioError> {
    Err(AudioError::NotAudio {
        path: label,
        reason: "it is no WAV file, and this build reads no other format".into(),
    })
}

/// Reads a whole source, one vector per channel; for short files.
///
/// # Errors
/// As [`AudioSource::read`]; [`AudioError::Unsupported`] if there are more than `max_frames`.
pub fn read_all(
    source: &mut dyn AudioSource,
    max_frames: usize,
) -> Result<Vec<Vec<f32>>, AudioError> {
    let mut whole = vec![Vec::new(); usize::from(source.info().channels)];
    let mut block = Vec::new();
    loop {
        let frames = source.read(&mut block, 1 << 14)?;
        if frames == 0 {
            return Ok(whole);
        }
        if whole[0].len() + frames > max_frames {
            return Err(AudioError::Unsupported {
                path: "the source".into(),
                reason: format!("it is longer than {max_frames} samples"),
            });
        }
        for (channel, part) in whole.iter_mut().zip(&block) {
            channel.extend_from_slice(part);
        }
    }
}

/// Checks what a header says.
pub(super) fn check_shape(path: &str, rate: u32, channels: usize) -> Result<(), AudioError> {
    if rate == 0 || rate > MAX_SAMPLE_RATE {
        return Err(AudioError::SampleRate { path: path.into(), rate });
    }
    if channels == 0 || channels > usize::from(MAX_CHANNELS) {
        return Err(AudioError::Channels { path: path.into(), channels });
    }
    Ok(())
}
