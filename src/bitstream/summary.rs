//! What there is to say about a file.

use super::damage::Damage;
use super::header::FORMAT_VERSION;
use super::reader::{ContainerReader, Item, ReadError, Stored};
use crate::tokens::TokenDigest;
use std::io::{Read, Seek};

/// The most damages a [`Summary`] lists; it counts them all.
pub(super) const MAX_LISTED: usize = 100;

/// What a file holds and how it is, from reading all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Version of the format.
    pub version: u16,
    /// The model id as 32 hexadecimal digits.
    pub model_id: String,
    /// The id of the prior that the tokens are coded with, as 32 hexadecimal digits; `None` where they are
    /// packed plainly.
    pub prior_id: Option<String>,
    /// The source's sample rate in Hz.
    pub source_rate: u32,
    /// The source's channels.
    pub channels: u16,
    /// Samples per channel at the source's rate; `None` when that is lost.
    pub samples: Option<u64>,
    /// Seconds of audio: of the samples, or of the steps found when those are not known.
    pub seconds: f64,
    /// The codec's sample rate in Hz.
    pub codec_rate: u32,
    /// Seconds of a step.
    pub step_seconds: f64,
    /// The levels, coarse to fine.
    pub levels: Vec<LevelSummary>,
    /// Lines at a time, in the mean of channels and intact steps; `None` where the file has none, or they are not
    /// looked at.
    pub lines: Option<f64>,
    /// Kilobits per second of the whole file, all channels; 0 for an empty one.
    pub kbps: f64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Whether there is an intact index.
    pub has_index: bool,
    /// Chunks that are intact.
    pub intact_chunks: u64,
    /// Chunks that are damaged or missing.
    pub damaged_chunks: u64,
    /// Everything found wrong, the first hundred.
    pub damages: Vec<Damage>,
    /// How many there are in all.
    pub damage_count: u64,
    /// Digest of the tokens of all intact chunks, of the levels that are read; `None` where they are coded
    /// with a prior that is not at hand ([`ContainerReader::set_coder`]): of such chunks only the checksums
    /// are looked at.
    pub token_digest: Option<[u8; 32]>,
}

/// One level of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelSummary {
    /// Frames a code covers.
    pub stride: usize,
    /// Codes of the codebook.
    pub codebook_size: usize,
    /// Codes per second and channel.
    pub codes_per_second: f64,
    /// Kilobits per second of its codes, all channels, when packed plainly.
    pub kbps: f64,
}

impl<R: Read + Seek> ContainerReader<R> {
    /// Reads the whole file, checks every chunk and goes back to the first.
    ///
    /// # Errors
    /// When the system refuses to give the bytes. Damage is no error but counted.
    pub fn summary(&mut self) -> Result<Summary, ReadError> {
        self.rewind();
        let (mut intact_chunks, mut damaged_chunks, mut damage_count) = (0, 0, 0);
        let mut steps = 0;
        let mut damages = Vec::new();
        let (mut lines, mut decoded_steps) = (0, 0);
        let mut digest = self.can_decode().then(TokenDigest::default);
        loop {
            let item = match &mut digest {
                Some(digest) => match self.next_item()? {
                    Some(Item::Chunk(chunk)) => {
                        digest.update(&self.header().layout, chunk.steps, &chunk.channels);
                        let all = chunk.channels.iter().flat_map(|tokens| &tokens.lines);
                        lines += all.map(|lines| lines.iter().count()).sum::<usize>();
                        decoded_steps += chunk.steps;
                        Some(Ok(chunk.steps))
                    }
                    Some(Item::Damage(damage)) => Some(Err(damage)),
                    None => None,
                },
                None => self.next_stored()?.map(|item| match item {
                    Stored::Chunk(_, steps) => Ok(steps.into()),
                    Stored::Damage(damage) => Err(damage),
                }),
            };
            match item {
                None => break,
                Some(Ok(count)) => {
                    intact_chunks += 1;
                    steps += count as u64;
                }
                Some(Err(damage)) => {
                    damaged_chunks += u64::from(damage.chunks);
                    steps += damage.steps;
                    damage_count += 1;
                    if damages.len() < MAX_LISTED {
                        damages.push(damage);
                    }
                }
            }
        }
        self.rewind();

        let header = self.header();
        let step_seconds = header.step_seconds();
        let seconds = match self.samples() {
            Some(samples) => samples as f64 / f64::from(header.source_rate),
            None => steps as f64 * step_seconds,
        };
        let layout = &header.layout;
        let level = |l: usize| {
            let codes_per_second = layout.codes_per_step(l) as f64 / step_seconds;
            let bits = f64::from(layout.bits_per_code(l)) * f64::from(header.channels);
            LevelSummary {
                stride: layout.strides[l],
                codebook_size: layout.codebook_sizes[l],
                codes_per_second,
                kbps: codes_per_second * bits / 1000.0,
            }
        };
        let file_bytes = self.file_bytes();
        let kbps = if seconds > 0.0 { file_bytes as f64 * 8.0 / seconds / 1000.0 } else { 0.0 };
        Ok(Summary {
            version: FORMAT_VERSION,
            model_id: header.model_id_hex(),
            prior_id: header.prior_id_hex(),
            source_rate: header.source_rate,
            channels: header.channels,
            samples: self.samples(),
            seconds,
            codec_rate: header.codec_rate,
            step_seconds,
            levels: (0..layout.levels()).map(level).collect(),
            lines: (header.lines.any() && decoded_steps > 0)
                .then(|| lines as f64 / (decoded_steps * usize::from(header.channels)) as f64),
            kbps,
            file_bytes,
            has_index: self.has_index(),
            intact_chunks,
            damaged_chunks,
            damages,
            damage_count,
            token_digest: digest.map(|digest| digest.value()),
        })
    }
}
