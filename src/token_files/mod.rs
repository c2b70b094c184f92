//! Tokens as data for language models and other tools: `.npz`, `.safetensors` and `.jsonl`.
//!
//! Each format holds what a `.tsr` holds, without its checksums: the codes of every level and channel, and
//! what it takes to make sound of them again. `docs/tokens.md` describes the files.
//!
//! ```
//! use tessera_codec::bitstream::Header;
//! use tessera_codec::lines::Kept;
//! use tessera_codec::token_files::{Format, TokenFile};
//! use tessera_codec::tokens::{TokenLayout, Tokens};
//!
//! let layout = TokenLayout { strides: vec![2, 1], codebook_sizes: vec![1024, 1024] };
//! let header = Header {
//!     model_id: [0; 16],
//!     source_rate: 48_000,
//!     channels: 1,
//!     samples: Some(1920),
//!     codec_rate: 48_000,
//!     hop: 480,
//!     pre_skip: 0,
//!     steps_per_chunk: Header::steps_per_second(48_000, 480, &layout, 1),
//!     warm_up_steps: 10,
//!     prior_id: None,
//!     lines: Kept::Nothing,
//!     layout,
//! };
//! let tokens = Tokens::of_codes(vec![vec![7, 8], vec![1, 2, 3, 4]]);
//! let file = TokenFile::new(header, vec![tokens])?;
//! for format in Format::ALL {
//!     assert_eq!(TokenFile::from_bytes(format, &file.to_bytes(format)?)?, file);
//! }
//! # Ok::<(), tessera_codec::token_files::TokenFileError>(())
//! ```

mod arrays;
mod jsonl;
mod metadata;
mod npy;
mod npz;
mod safetensors;
mod zip;

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::bitstream::{ContainerReader, ContainerWriter, Header, HeaderError, Item};
use crate::bitstream::{ReadError, WriteError};
use crate::lines::{Kept, Lines};
use crate::tokens::Tokens;

/// The largest file that is read or written, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// How tokens are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// An uncompressed NumPy archive with an array for each level.
    Npz,
    /// A safetensors file with a tensor for each level.
    Safetensors,
    /// A line of JSON for each channel, with the codes of all levels in one sequence.
    Jsonl,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Npz, Self::Safetensors, Self::Jsonl];

    /// What names of files in this format end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Npz => "npz",
            Self::Safetensors => "safetensors",
            Self::Jsonl => "jsonl",
        }
    }

    /// The format that a file's name stands for.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        Self::ALL.into_iter().find(|f| f.extension().eq_ignore_ascii_case(extension))
    }
}

/// Why tokens cannot be read, or must not be written.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// The name does not say which format it is.
    #[error("{} is no file of tokens by its name: .npz, .safetensors and .jsonl are known", .0.display())]
    UnknownFormat(PathBuf),
    /// The system refused to give the bytes.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More bytes than are read or written.
    #[error("{bytes} bytes of tokens are more than the {MAX_FILE_BYTES} of a file: cut the audio")]
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The file is not in its format.
    #[error("not the {format} file of tokens that Tessera writes: {reason}")]
    Damaged {
        /// Name of the format.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What the file says about itself cannot be.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The file does not say how long the sound is.
    #[error("the number of samples is not known: the end of the file is lost")]
    UnknownLength,
    /// Another number of channels than the file says.
    #[error("there are tokens of {given} channels, but the file says {expected}")]
    Channels {
        /// Channels there are.
        given: usize,
        /// Channels there should be.
        expected: usize,
    },
    /// The levels do not hold the codes that so many samples have.
    #[error(
        "level {level} of channel {channel} has {given} codes, but {samples} samples make {expected}; \
         change both, or neither"
    )]
    Length {
        /// The channel, from 1.
        channel: usize,
        /// The level, from 1.
        level: usize,
        /// Codes there are.
        given: usize,
        /// Codes there should be.
        expected: u64,
        /// Samples of the source.
        samples: u64,
    },
    /// Lines that are not such as the rest says.
    #[error(
        "the lines of channel {channel} are not those of {steps} steps in which each goes no further than it can"
    )]
    Lines {
        /// The channel, from 1.
        channel: usize,
        /// Steps there are.
        steps: u64,
    },
    /// A code that is not in its codebook.
    #[error(
        "level {level} of channel {channel} has the code {code}, but its codebook has {size}; codes are \
         written without offsets"
    )]
    Code {
        /// The channel, from 1.
        channel: usize,
        /// The level, from 1.
        level: usize,
        /// The code.
        code: u16,
        /// Codes in the codebook.
        size: usize,
    },
    /// A `.tsr` file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A `.tsr` file is damaged: there are no tokens for a part of it.
    #[error("the file is damaged ({0}); decode it to audio, which makes up what is lost")]
    TsrDamaged(String),
    /// The tokens cannot be put into a `.tsr`.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl TokenFileError {
    fn damaged(format: Format, reason: impl Into<String>) -> Self {
        Self::Damaged { format: format.extension(), reason: reason.into() }
    }
}

/// The tokens of a piece of audio and what they mean: sound, and consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFile {
    header: Header,
    channels: Vec<Tokens>,
}

impl TokenFile {
    /// Tokens, one `Tokens` for each channel of `header`, which says how many samples they stand for.
    ///
    /// # Errors
    /// The header is absurd or does not know the number of samples, or the tokens are not the whole of
    /// what it describes, or a code is not in its codebook.
    pub fn new(header: Header, channels: Vec<Tokens>) -> Result<Self, TokenFileError> {
        header.validate()?;
        let samples = header.samples.ok_or(TokenFileError::UnknownLength)?;
        let expected = usize::from(header.channels);
        if channels.len() != expected {
            return Err(TokenFileError::Channels { given: channels.len(), expected });
        }
        for (channel, tokens) in (1..).zip(&channels) {
            check(&header, samples, channel, tokens)?;
        }
        // Whether they came out of a file made with a prior is a matter of the container alone.
        Ok(Self { header: Header { prior_id: None, ..header }, channels })
    }

    /// Reads a file in the format that its name ends in.
    ///
    /// # Errors
    /// Says what is wrong with the name or the file. No more memory is taken than a few times the file's
    /// size, which is at most [`MAX_FILE_BYTES`].
    pub fn open(path: &Path) -> Result<Self, TokenFileError> {
        let format =
            Format::of_path(path).ok_or_else(|| TokenFileError::UnknownFormat(path.into()))?;
        let fail = |source| TokenFileError::Io { path: path.into(), source };
        let file = File::open(path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
        Self::from_bytes(format, &bytes)
    }

    /// Reads the contents of a file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(format: Format, bytes: &[u8]) -> Result<Self, TokenFileError> {
        check_size(bytes.len() as u64)?;
        match format {
            Format::Npz => npz::read(bytes),
            Format::Safetensors => safetensors::read(bytes),
            Format::Jsonl => jsonl::read(bytes),
        }
    }

    /// The contents of a file. The same tokens always give the same bytes.
    ///
    /// # Errors
    /// [`TokenFileError::TooLarge`].
    pub fn to_bytes(&self, format: Format) -> Result<Vec<u8>, TokenFileError> {
        // The lower limit of every format, so that no more is made than could be written.
        check_size(self.codes() * 2)?;
        let bytes = match format {
            Format::Npz => npz::write(self),
            Format::Safetensors => safetensors::write(self)?,
            Format::Jsonl => jsonl::write(self)?,
        };
        check_size(bytes.len() as u64)?;
        Ok(bytes)
    }

    /// The tokens of a `.tsr`, or those of its first levels if `reader` is limited to them.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or is too large.
    pub fn from_tsr<R: Read + Seek>(
        reader: &mut ContainerReader<R>,
        levels: usize,
    ) -> Result<Self, TokenFileError> {
        reader.limit_levels(levels)?;
        let header = reader.header().prefix(levels).map_err(HeaderError::from)?;
        let samples = reader.samples().ok_or(TokenFileError::UnknownLength)?;
        let mut channels = vec![Tokens::new(levels); header.channels.into()];
        let mut codes = 0;
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Damage(damage) => return Err(TokenFileError::TsrDamaged(damage.to_string())),
                Item::Chunk(chunk) => {
                    for (all, part) in channels.iter_mut().zip(&chunk.channels) {
                        all.extend(part);
                        codes += codes_of(part, header.lines);
                    }
                    check_size(codes * 2)?;
                }
            }
        }
        // What a chunk holds is a matter of the container alone.
        let steps_per_chunk = Header::steps_per_second(
            header.codec_rate,
            header.hop,
            &header.layout,
            header.channels,
        );
        let lines = header.lines;
        let header = Header { samples: Some(samples), steps_per_chunk, ..header };
        Self::new(header.with_lines(lines), channels)
    }

    /// A `.tsr` of these tokens, to be decoded.
    ///
    /// # Errors
    /// The container refuses them, which it does not for tokens that were accepted here.
    pub fn to_tsr(&self) -> Result<ContainerReader<Cursor<Vec<u8>>>, TokenFileError> {
        let samples = self.header.samples.ok_or(TokenFileError::UnknownLength)?;
        let mut writer = ContainerWriter::new(Vec::new(), self.header.clone())?;
        writer.push_steps(&self.channels)?;
        Ok(ContainerReader::open(Cursor::new(writer.finish(samples)?))?)
    }

    /// What the tokens mean; the number of samples is known.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The tokens by channel.
    pub fn channels(&self) -> &[Tokens] {
        &self.channels
    }

    /// Numbers in the file: codes of all channels and levels, and those of lines.
    pub fn codes(&self) -> u64 {
        self.channels.iter().map(|tokens| codes_of(tokens, self.header.lines)).sum()
    }
}

/// Numbers of a channel's tokens.
fn codes_of(tokens: &Tokens, kept: Kept) -> u64 {
    let levels = tokens.levels.iter().map(Vec::len).sum::<usize>();
    (levels + tokens.lines.len() * kept.numbers()) as u64
}

fn check_size(bytes: u64) -> Result<(), TokenFileError> {
    if bytes > MAX_FILE_BYTES { Err(TokenFileError::TooLarge { bytes }) } else { Ok(()) }
}

/// Checks the tokens of a channel against what the header says.
fn check(
    header: &Header,
    samples: u64,
    channel: usize,
    tokens: &Tokens,
) -> Result<(), TokenFileError> {
    let layout = &header.layout;
    let steps = header.steps(samples);
    let lines = &tokens.lines;
    let expected = if header.lines.any() { steps } else { 0 };
    let follow = Lines::follow(lines) && header.lines.is_all_of(lines);
    if lines.len() as u64 != expected || !follow {
        return Err(TokenFileError::Lines { channel, steps });
    }
    for level in 0..layout.levels() {
        let expected = steps.saturating_mul(layout.codes_per_step(level) as u64);
        let codes = tokens.levels.get(level).map_or(&[][..], Vec::as_slice);
        if codes.len() as u64 != expected || tokens.levels.len() != layout.levels() {
            let given = codes.len();
            let level = level + 1;
            return Err(TokenFileError::Length { channel, level, given, expected, samples });
        }
        let size = layout.codebook_sizes[level];
        if let Some(&code) = codes.iter().find(|&&code| usize::from(code) >= size) {
            return Err(TokenFileError::Code { channel, level: level + 1, code, size });
        }
    }
    Ok(())
}
