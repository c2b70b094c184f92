//! A file's tokens on their way into a container, with a prior where that makes it smaller.

use std::io::Write;

use crate::bitstream::{ContainerWriter, Header, WriteError};
use crate::files::FilesError;
use crate::prior::Prior;
use crate::tokens::Tokens;

/// Chunks up to which a file is held back, until it is known whether a prior makes it smaller: its id may
/// take more bytes than one or two chunks save. From three chunks on it pays even where the prior knows
/// nothing, as long as its chunks are twice as long as plain ones, of a second.
const HELD_CHUNKS: usize = 2;

/// Writes tokens as a [`ContainerWriter`] does.
pub enum TokenWriter<W: Write> {
    /// A short file so far.
    Held(Held<W>),
    /// A file whose header is written.
    Begun(ContainerWriter<W>),
}

/// The beginning of a file that may become either.
pub struct Held<W> {
    output: W,
    plain: Header,
    coded: Header,
    prior: Prior,
    tokens: Vec<Tokens>,
    steps: usize,
}

/// What a finished file is.
pub struct Written<W> {
    pub output: W,
    pub token_digest: [u8; 32],
    pub header: Header,
}

impl<W: Write> TokenWriter<W> {
    /// A file with `header`, which names no prior, or with that header but coded with `prior`.
    ///
    /// # Errors
    /// The header is invalid, or the output refuses it.
    pub fn new(output: W, header: Header, prior: Option<&Prior>) -> Result<Self, FilesError> {
        let Some(prior) = prior else {
            return Ok(Self::Begun(ContainerWriter::new(output, header)?));
        };
        // A prior's steps are 255 at most.
        let coded = header.clone().with_prior(prior.id(), prior.config().steps as u8);
        let tokens = vec![Tokens::new(header.layout.levels()); header.channels.into()];
        let (plain, prior) = (header, prior.clone());
        Ok(Self::Held(Held { output, plain, coded, prior, tokens, steps: 0 }))
    }

    /// As [`ContainerWriter::push_steps`].
    ///
    /// # Errors
    /// As [`ContainerWriter::push_steps`].
    pub fn push(self, channels: &[Tokens]) -> Result<Self, FilesError> {
        match self {
            Self::Begun(mut writer) => {
                writer.push_steps(channels)?;
                Ok(Self::Begun(writer))
            }
            Self::Held(mut held) => {
                held.tokens.iter_mut().zip(channels).for_each(|(all, more)| all.extend(more));
                held.steps +=
                    channels.first().and_then(|t| t.steps(&held.plain.layout)).unwrap_or(0);
                match held.steps > HELD_CHUNKS * usize::from(held.coded.steps_per_chunk) {
                    true => Ok(Self::Begun(held.begin()?)),
                    false => Ok(Self::Held(held)),
                }
            }
        }
    }

    /// As [`ContainerWriter::finish`].
    ///
    /// # Errors
    /// As [`ContainerWriter::finish`].
    pub fn finish(self, samples: u64) -> Result<Written<W>, FilesError> {
        match self {
            Self::Begun(writer) => {
                let (token_digest, header) = (writer.token_digest(), writer.header().clone());
                Ok(Written { output: writer.finish(samples)?, token_digest, header })
            }
            Self::Held(held) => held.finish(samples),
        }
    }
}

impl<W: Write> Held<W> {
    /// Writes what is held, coded with the prior.
    fn begin(self) -> Result<ContainerWriter<W>, FilesError> {
        let coder = self.prior.coder(self.coded.layout.levels())?;
        let mut writer = ContainerWriter::with_coder(self.output, self.coded, Some(coder))?;
        writer.push_steps(&self.tokens)?;
        Ok(writer)
    }

    /// Writes what is held in whichever way is shorter.
    fn finish(mut self, samples: u64) -> Result<Written<W>, FilesError> {
        let coder = self.prior.coder(self.coded.layout.levels())?;
        let written = |header: &Header, coder| -> Result<_, WriteError> {
            let mut writer = ContainerWriter::with_coder(Vec::new(), header.clone(), coder)?;
            writer.push_steps(&self.tokens)?;
            let token_digest = writer.token_digest();
            Ok((writer.finish(samples)?, token_digest))
        };
        let (plain, coded) = (written(&self.plain, None)?, written(&self.coded, Some(coder))?);
        let ((bytes, token_digest), header) = match coded.0.len() < plain.0.len() {
            true => (coded, self.coded),
            false => (plain, self.plain),
        };
        self.output.write_all(&bytes).and_then(|()| self.output.flush()).map_err(WriteError::Io)?;
        Ok(Written { output: self.output, token_digest, header })
    }
}
