//! The payload of a chunk: codes packed plainly, or in the hands of a [`PayloadCoder`].

use std::fmt;

use super::bits::{BitReader, BitWriter};
use super::header::Header;
use super::lines;
use crate::lines::Lines;
use crate::model_files::id_hex;
use crate::tokens::{TokenLayout, Tokens};
use thiserror::Error;

/// First byte of a payload that may be coded: codes packed plainly follow.
const PACKED: u8 = 0;
/// First byte of a payload that may be coded: what a coder made follows.
const CODED: u8 = 1;

/// Codes the payloads of a file whose header names a prior. The container knows nothing more of it.
pub trait PayloadCoder: fmt::Debug + Send {
    /// What the header names it by.
    fn id(&self) -> [u8; 16];

    /// Whether it codes tokens of that layout.
    fn fits(&self, layout: &TokenLayout) -> bool;

    /// How many chunks are best given at once, at least 1: the container holds so many in memory.
    fn chunks_at_once(&self) -> usize;

    /// For each chunk, one `Tokens` for each channel, the bytes that stand for it; nothing where it cannot
    /// code them. What becomes of a chunk does not depend on the others.
    fn encode(&mut self, chunks: &[Vec<Tokens>]) -> Vec<Option<Vec<u8>>>;

    /// The tokens of each chunk, all of `channels` channels: exactly those that were encoded, or nothing when
    /// no tokens have these bytes. What becomes of a chunk does not depend on the others.
    fn decode(&mut self, channels: usize, chunks: &[Coded]) -> Vec<Option<Vec<Tokens>>>;
}

/// What a [`PayloadCoder`] made of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coded<'a> {
    /// Steps of the chunk.
    pub steps: usize,
    /// The bytes that it gave.
    pub bytes: &'a [u8],
}

/// Why a coder cannot be the one of a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CoderError {
    /// There is none, and the file needs one.
    #[error(
        "the tokens are coded with the prior {prior}, and there is no prior at hand: name the folder of a \
         model that holds it (prior.json and prior.safetensors) with --model"
    )]
    Missing {
        /// Id of the prior in the header.
        prior: String,
    },
    /// It is another one.
    #[error(
        "the tokens are coded with the prior {file}, but the model at hand has the prior {prior}: name the \
         folder of a model that holds the right one with --model"
    )]
    Wrong {
        /// Id in the header.
        file: String,
        /// Id of the prior at hand.
        prior: String,
    },
    /// The header names its id, but other tokens than it codes.
    #[error("the header does not fit the prior {prior} that it names: that has other levels")]
    Layout {
        /// Id of both.
        prior: String,
    },
}

/// The coder for files with this header: none for those that need none.
pub(super) fn choose(
    header: &Header,
    coder: Option<Box<dyn PayloadCoder>>,
) -> Result<Option<Box<dyn PayloadCoder>>, CoderError> {
    let Some(id) = header.prior_id else { return Ok(None) };
    let file = id_hex(&id);
    let coder = coder.ok_or(CoderError::Missing { prior: file.clone() })?;
    if coder.id() != id {
        return Err(CoderError::Wrong { file, prior: id_hex(&coder.id()) });
    }
    if !coder.fits(&header.layout) {
        return Err(CoderError::Layout { prior: file });
    }
    Ok(Some(coder))
}

/// Appends the tokens of all channels, each level's codes one after another.
pub(super) fn pack(header: &Header, channels: &[Tokens], bytes: Vec<u8>) -> Vec<u8> {
    let mut writer = BitWriter::append_to(bytes);
    for tokens in channels {
        for (level, codes) in tokens.levels.iter().enumerate() {
            let bits = header.layout.bits_per_code(level);
            codes.iter().for_each(|&code| writer.write(code.into(), bits));
        }
    }
    writer.into_bytes()
}

/// Appends the payload of a chunk of these tokens: lines, where the header has them, and codes; where it names a
/// prior, in whichever way is shorter, as packed codes or as `coded`, what its coder made of them.
pub(super) fn encode(
    header: &Header,
    channels: &[Tokens],
    coded: Option<Vec<u8>>,
    mut bytes: Vec<u8>,
) -> Vec<u8> {
    if header.lines.any() {
        let mut writer = BitWriter::append_to(bytes);
        channels.iter().for_each(|tokens| lines::write(&mut writer, header.lines, &tokens.lines));
        bytes = writer.into_bytes();
    }
    if header.prior_id.is_none() {
        return pack(header, channels, bytes);
    }
    let packed = pack(header, channels, Vec::new());
    match coded.filter(|coded| coded.len() < packed.len()) {
        Some(coded) => {
            bytes.push(CODED);
            bytes.extend(coded);
        }
        None => {
            bytes.push(PACKED);
            bytes.extend(packed);
        }
    }
    bytes
}

/// What is wrong with a payload whose checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadPayload {
    /// A code that its codebook does not have.
    Code { channel: usize, level: usize, code: u16 },
    /// Bytes that nothing encodes to.
    Coding,
}

/// The lines of each channel in a payload, none where the header has none, and what is behind them.
fn split_lines<'a>(
    header: &Header,
    steps: usize,
    payload: &'a [u8],
) -> Option<(Vec<Vec<Lines>>, &'a [u8])> {
    let channels = usize::from(header.channels);
    if !header.lines.any() {
        return Some((vec![Vec::new(); channels], payload));
    }
    let mut reader = BitReader::new(payload);
    let lines = (0..channels)
        .map(|_| lines::read(&mut reader, header.lines, steps))
        .collect::<Option<_>>()?;
    // Zeros fill the last byte.
    let codes = payload.len() - reader.remaining() / 8;
    Some((lines, &payload[codes..]))
}

/// The part of the payload of a chunk of `steps` steps that is for the header's coder, if that is how it was made.
pub(super) fn coded<'a>(header: &Header, steps: usize, payload: &'a [u8]) -> Option<&'a [u8]> {
    header.prior_id?;
    match split_lines(header, steps, payload)?.1.split_first() {
        Some((&CODED, coded)) => Some(coded),
        _ => None,
    }
}

/// The tokens of the first `levels` levels in the payload of a chunk of `steps` steps, whose length is
/// possible; `tokens` are what the header's coder made of the part that is [coded].
pub(super) fn decode(
    header: &Header,
    levels: usize,
    steps: usize,
    payload: &[u8],
    tokens: Option<Vec<Tokens>>,
) -> Result<Vec<Tokens>, BadPayload> {
    let (lines, payload) = split_lines(header, steps, payload).ok_or(BadPayload::Coding)?;
    let mut channels = decode_codes(header, levels, steps, payload, tokens)?;
    channels.iter_mut().zip(lines).for_each(|(tokens, lines)| tokens.lines = lines);
    Ok(channels)
}

fn decode_codes(
    header: &Header,
    levels: usize,
    steps: usize,
    payload: &[u8],
    tokens: Option<Vec<Tokens>>,
) -> Result<Vec<Tokens>, BadPayload> {
    if header.prior_id.is_none() {
        return match payload.len() == header.packed_bytes(steps) {
            true => unpack(header, levels, steps, payload),
            false => Err(BadPayload::Coding),
        };
    }
    let stored = header.layout.levels();
    match payload.split_first() {
        Some((&PACKED, packed)) if packed.len() == header.packed_bytes(steps) => {
            unpack(header, levels, steps, packed)
        }
        Some((&CODED, _)) => {
            let mut channels = tokens
                .filter(|channels| channels.len() == usize::from(header.channels))
                .ok_or(BadPayload::Coding)?;
            let whole =
                |t: &Tokens| t.levels.len() == stored && t.steps(&header.layout) == Some(steps);
            if !channels.iter().all(whole) {
                return Err(BadPayload::Coding);
            }
            channels.iter_mut().for_each(|tokens| tokens.levels.truncate(levels));
            Ok(channels)
        }
        _ => Err(BadPayload::Coding),
    }
}

fn unpack(
    header: &Header,
    levels: usize,
    steps: usize,
    payload: &[u8],
) -> Result<Vec<Tokens>, BadPayload> {
    let layout = &header.layout;
    let skipped = (layout.bits_per_step(layout.levels()) - layout.bits_per_step(levels)) * steps;
    let mut reader = BitReader::new(payload);
    let mut channels = Vec::with_capacity(header.channels.into());
    for channel in 0..usize::from(header.channels) {
        let mut tokens = Tokens::new(levels);
        for (level, codes) in tokens.levels.iter_mut().enumerate() {
            let (count, bits) = (steps * layout.codes_per_step(level), layout.bits_per_code(level));
            codes.reserve_exact(count);
            for _ in 0..count {
                // A payload of that length has all the bits: none are missing here.
                let code = reader.read(bits).unwrap_or_default() as u16;
                if usize::from(code) >= layout.codebook_sizes[level] {
                    return Err(BadPayload::Code { channel, level, code });
                }
                codes.push(code);
            }
        }
        reader.skip(skipped);
        channels.push(tokens);
    }
    Ok(channels)
}
