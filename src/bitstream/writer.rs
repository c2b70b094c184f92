//! Writing a `.tsr` file, from the first byte to the last, without seeking.

use super::chunk::{self, Chunk, MAX_CHUNKS};
use super::file::{FileError, OutputFile, Overwrite};
use super::header::{Header, HeaderError};
use super::index::Index;
use super::payload::{self, CoderError, PayloadCoder};
use crate::lines::Lines;
use crate::tokens::{TokenDigest, Tokens};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use thiserror::Error;

/// Why tokens cannot be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The destination refused the bytes; the writer cannot go on.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// The file cannot be created or completed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The header, or the final sample count, is out of range.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header names a prior, and this is not the one.
    #[error(transparent)]
    Coder(#[from] CoderError),
    /// Not one `Tokens` per channel of the header.
    #[error("tokens of {got} channels for a file of {expected}: pass one `Tokens` per channel")]
    ChannelCount {
        /// Channels of the header.
        expected: usize,
        /// `Tokens` given.
        got: usize,
    },
    /// Tokens that are no whole number of steps of the header's layout, or fewer or more steps than
    /// those of the first channel.
    #[error("the tokens of channel {channel} are not the same whole steps of the file's layout")]
    Shape {
        /// The channel, from 0.
        channel: usize,
    },
    /// Lines that are another one from a step to the next without having ended, or combs that the header does not have.
    #[error(
        "lines of channel {channel} go further in a step than a line can, or have combs that the header does not keep"
    )]
    Lines {
        /// The channel, from 0.
        channel: usize,
    },
    /// A code beyond its codebook.
    #[error("code {code} of channel {channel}, level {level} is not in a codebook of {size}")]
    Code {
        /// The channel, from 0.
        channel: usize,
        /// The level, from 0.
        level: usize,
        /// The code.
        code: u16,
        /// The codes that level has.
        size: usize,
    },
    /// More than [`MAX_CHUNKS`] chunks.
    #[error("more than {MAX_CHUNKS} chunks: begin another file, or put more steps into a chunk")]
    TooLong,
    /// Another sample count at the end than in the header.
    #[error("the header promised {promised} samples per channel but {got} were encoded")]
    SampleCount {
        /// Samples per channel in the header.
        promised: u64,
        /// Samples per channel given to [`ContainerWriter::finish`].
        got: u64,
    },
    /// Another number of steps than [`Header::steps`] asks for.
    #[error("{samples} samples need {needed} steps but {got} were written")]
    StepCount {
        /// Samples per channel.
        samples: u64,
        /// Steps for that many.
        needed: u64,
        /// Steps pushed.
        got: u64,
    },
}

/// Writes the tokens of a source to `W`, a chunk at a time, or with a coder of payloads several.
///
/// Memory: the steps pushed and not yet written, less than a chunk, and a few numbers; with a coder of
/// payloads less than as many chunks as it takes at once, and a few numbers for each chunk. Each chunk is one
/// `write_all`.
#[derive(Debug)]
pub struct ContainerWriter<W: Write> {
    output: W,
    header: Header,
    header_crc: [u8; 4],
    index: Index,
    coder: Option<Box<dyn PayloadCoder>>,
    /// Steps not written yet, by channel.
    pending: Vec<Tokens>,
    pending_steps: usize,
    /// Steps pushed so far.
    steps: u64,
    digest: TokenDigest,
}

impl ContainerWriter<OutputFile> {
    /// Begins a file at `path`. It appears there when `finish(samples)?.commit()?` has succeeded, and
    /// not at all when the writer is dropped before.
    ///
    /// # Errors
    /// As [`OutputFile::create`] and [`new`](Self::new).
    pub fn create(path: &Path, header: Header, overwrite: Overwrite) -> Result<Self, WriteError> {
        header.validate()?;
        Self::new(OutputFile::create(path, overwrite)?, header)
    }
}

impl<W: Write> ContainerWriter<W> {
    /// Writes the header to `output`.
    ///
    /// # Errors
    /// When the header is invalid or names a prior, or `output` refuses it.
    pub fn new(output: W, header: Header) -> Result<Self, WriteError> {
        Self::with_coder(output, header, None)
    }

    /// Writes the header to `output`; payloads are coded with `coder` if the header names its prior.
    ///
    /// # Errors
    /// When the header is invalid, or names a prior that is not the coder's, or `output` refuses it.
    pub fn with_coder(
        mut output: W,
        header: Header,
        coder: Option<Box<dyn PayloadCoder>>,
    ) -> Result<Self, WriteError> {
        let bytes = header.to_bytes()?;
        let coder = payload::choose(&header, coder)?;
        output.write_all(&bytes)?;
        let header_crc = bytes.last_chunk().copied().unwrap_or_default();
        let pending = vec![Tokens::new(header.layout.levels()); header.channels.into()];
        let index = Index::new(bytes.len() as u64);
        let digest = TokenDigest::default();
        Ok(Self {
            output,
            header,
            header_crc,
            index,
            coder,
            pending,
            pending_steps: 0,
            steps: 0,
            digest,
        })
    }

    /// The header written.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Steps pushed so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Digest of the tokens pushed so far, to be compared with that of the tokens read back
    /// ([`Summary::token_digest`](super::Summary::token_digest)).
    pub fn token_digest(&self) -> [u8; 32] {
        self.digest.value()
    }

    /// Takes the tokens of the next steps, any number of them, one `Tokens` per channel, and writes
    /// the chunks that they complete, or as many of them as are coded at once.
    ///
    /// # Errors
    /// [`WriteError::ChannelCount`], [`WriteError::Shape`] and [`WriteError::Code`] when the tokens
    /// are not those of the header's layout, and [`WriteError::TooLong`]: nothing was taken then. After
    /// [`WriteError::Io`] the writer cannot go on.
    pub fn push_steps(&mut self, channels: &[Tokens]) -> Result<(), WriteError> {
        let steps = self.check(channels)?;
        let total = self.steps + steps as u64;
        if total > u64::from(MAX_CHUNKS) * u64::from(self.header.steps_per_chunk) {
            return Err(WriteError::TooLong);
        }
        for (pending, tokens) in self.pending.iter_mut().zip(channels) {
            pending.extend(tokens);
        }
        self.digest.update(&self.header.layout, steps, channels);
        self.pending_steps += steps;
        self.steps = total;
        let at_once = usize::from(self.header.steps_per_chunk) * self.chunks_at_once();
        self.write_chunks(self.pending_steps / at_once * at_once)
    }

    /// Writes the last chunk, the index and the trailer, flushes and gives the output back.
    /// `samples` is the source's length in samples per channel.
    ///
    /// # Errors
    /// [`WriteError::SampleCount`] when the header said another length, [`WriteError::StepCount`]
    /// when the steps pushed are not [`Header::steps`] of it, and when the output refuses the bytes.
    pub fn finish(mut self, samples: u64) -> Result<W, WriteError> {
        if let Some(promised) = self.header.samples.filter(|&promised| promised != samples) {
            return Err(WriteError::SampleCount { promised, got: samples });
        }
        self.header.validate_samples(samples)?;
        let needed = self.header.steps(samples);
        if self.steps != needed {
            return Err(WriteError::StepCount { samples, needed, got: self.steps });
        }
        self.write_chunks(self.pending_steps)?;
        self.output.write_all(&self.index.to_bytes(samples, self.header_crc))?;
        self.output.flush()?;
        Ok(self.output)
    }

    /// How many steps the tokens are, the same for all channels.
    fn check(&self, channels: &[Tokens]) -> Result<usize, WriteError> {
        let layout = &self.header.layout;
        let expected = usize::from(self.header.channels);
        if channels.len() != expected {
            return Err(WriteError::ChannelCount { expected, got: channels.len() });
        }
        let mut steps = None;
        for (channel, tokens) in channels.iter().enumerate() {
            let got = tokens.steps(layout).ok_or(WriteError::Shape { channel })?;
            if *steps.get_or_insert(got) != got {
                return Err(WriteError::Shape { channel });
            }
            self.check_lines(channel, got, tokens)?;
            for (level, codes) in tokens.levels.iter().enumerate() {
                let size = layout.codebook_sizes[level];
                if let Some(&code) = codes.iter().find(|&&code| usize::from(code) >= size) {
                    return Err(WriteError::Code { channel, level, code, size });
                }
            }
        }
        Ok(steps.unwrap_or_default())
    }

    /// Whether there are lines where the header says so, and they go no further than lines can.
    fn check_lines(&self, channel: usize, steps: usize, tokens: &Tokens) -> Result<(), WriteError> {
        if tokens.lines.len() != if self.header.lines.any() { steps } else { 0 } {
            return Err(WriteError::Shape { channel });
        }
        let before = self.pending.get(channel).and_then(|pending| pending.lines.last());
        let follow = Lines::follow(before.into_iter().chain(&tokens.lines));
        match follow && self.header.lines.is_all_of(&tokens.lines) {
            true => Ok(()),
            false => Err(WriteError::Lines { channel }),
        }
    }

    fn chunks_at_once(&self) -> usize {
        self.coder.as_ref().map_or(1, |coder| coder.chunks_at_once().max(1))
    }

    /// Writes the first `steps` pending steps: full chunks, but for the last one, when it is the file's.
    fn write_chunks(&mut self, steps: usize) -> Result<(), WriteError> {
        let full = usize::from(self.header.steps_per_chunk);
        let at_once = full * self.chunks_at_once();
        for first in (0..steps).step_by(at_once) {
            let end = (first + at_once).min(steps);
            let chunks: Vec<Vec<Tokens>> = (first..end)
                .step_by(full)
                .map(|first| self.part(first..(first + full).min(end)))
                .collect();
            let coded = self.coder.as_mut().map(|coder| coder.encode(&chunks));
            let mut coded = coded.unwrap_or_default().into_iter();
            for (first, channels) in (first..end).step_by(full).zip(chunks) {
                let (number, steps) = (self.index.chunks(), full.min(end - first));
                let chunk = Chunk { number, steps, channels };
                let bytes = chunk::encode(&self.header, &chunk, coded.next().flatten());
                self.output.write_all(&bytes)?;
                self.index.push(bytes.len() as u32, 1);
            }
        }
        if steps > 0 {
            self.pending = self.part(steps..self.pending_steps);
            self.pending_steps -= steps;
        }
        Ok(())
    }

    /// These pending steps.
    fn part(&self, steps: Range<usize>) -> Vec<Tokens> {
        let part = |tokens: &Tokens| {
            let levels = tokens.levels.iter().enumerate().map(|(level, codes)| {
                let per_step = self.header.layout.codes_per_step(level);
                codes[steps.start * per_step..steps.end * per_step].to_vec()
            });
            let lines = tokens.lines.get(steps.clone()).unwrap_or_default().to_vec();
            Tokens { levels: levels.collect(), lines }
        };
        self.pending.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::tests::header;
    use super::*;
    use crate::tokens::TokenLayout;

    fn small(samples: Option<u64>) -> Header {
        let layout = TokenLayout { strides: vec![2, 1], codebook_sizes: vec![16, 5] };
        Header { layout, samples, channels: 1, pre_skip: 0, source_rate: 48_000, ..header() }
    }

    fn steps(count: usize) -> Tokens {
        Tokens::of_codes(vec![vec![3; count], vec![4; 2 * count]])
    }

    #[test]
    fn the_same_bytes_however_the_steps_are_pushed() {
        let samples = 60 * 960;
        let write = |by: &[usize]| {
            let mut writer = ContainerWriter::new(Vec::new(), small(Some(samples))).unwrap();
            by.iter().for_each(|&n| writer.push_steps(&[steps(n)]).unwrap());
            assert_eq!(writer.steps(), 60);
            writer.finish(samples).unwrap()
        };
        let all = write(&[60]);
        assert_eq!(all, write(&[1; 60]));
        assert_eq!(all, write(&[0, 24, 2, 0, 34]));
        // 72 of header; 10 bits a step: chunks of 25, 25 and 10 steps; index and trailer.
        assert_eq!(all.len(), 72 + 2 * (12 + 32) + (12 + 13) + (2 + 3 + 24));
    }

    #[test]
    fn tokens_of_another_layout_are_refused_and_nothing_is_taken() {
        let header = Header { channels: 2, ..small(None) };
        let mut writer = ContainerWriter::new(Vec::new(), header).unwrap();
        let mut push = |channels: &[Tokens]| writer.push_steps(channels).unwrap_err();
        assert!(matches!(push(&[steps(1)]), WriteError::ChannelCount { expected: 2, got: 1 }));
        assert!(matches!(push(&[steps(1), steps(2)]), WriteError::Shape { channel: 1 }));
        let ragged = Tokens::of_codes(vec![vec![1], vec![1]]);
        assert!(matches!(push(&[ragged, steps(1)]), WriteError::Shape { channel: 0 }));
        let other = Tokens::new(3);
        assert!(matches!(push(&[other.clone(), other]), WriteError::Shape { channel: 0 }));
        let wild = Tokens::of_codes(vec![vec![3], vec![4, 5]]);
        assert!(matches!(
            push(&[steps(1), wild]),
            WriteError::Code { channel: 1, level: 1, code: 5, size: 5 }
        ));
        assert_eq!(writer.steps(), 0);
        writer.push_steps(&[steps(1), steps(1)]).unwrap();
        writer.finish(960).unwrap();
    }

    #[test]
    fn lengths_must_agree() {
        let written = |samples, count, finish| {
            let mut writer = ContainerWriter::new(Vec::new(), small(samples)).unwrap();
            writer.push_steps(&[steps(count)]).unwrap();
            writer.finish(finish)
        };
        assert!(written(None, 3, 2 * 960 + 1).is_ok());
        assert!(written(None, 0, 0).is_ok());
        assert!(matches!(
            written(None, 3, 2 * 960),
            Err(WriteError::StepCount { samples: 1920, needed: 2, got: 3 })
        ));
        assert!(matches!(
            written(Some(960), 1, 959),
            Err(WriteError::SampleCount { promised: 960, got: 959 })
        ));
        assert!(matches!(written(None, 3, u64::MAX), Err(WriteError::Header(_))));
        let mut absurd = small(None);
        absurd.channels = 0;
        assert!(matches!(
            ContainerWriter::new(Vec::new(), absurd),
            Err(WriteError::Header(HeaderError::Absurd { field: "channel count", .. }))
        ));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut room = [0; 100];
        let mut writer = ContainerWriter::new(&mut room[..], small(None)).unwrap();
        assert!(matches!(writer.push_steps(&[steps(25)]), Err(WriteError::Io(_))));
    }
}
