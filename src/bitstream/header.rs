//! The header of a `.tsr` file: what the tokens mean and what the decoder has to give back.

use super::chunk::{MAX_CHUNKS, MAX_PAYLOAD};
use super::lines;
use crate::lines::Kept;
use crate::model_files::id_hex;
use crate::tokens::{LayoutError, MAX_LEVELS, TokenLayout};
use std::ops::RangeInclusive;
use thiserror::Error;

/// The first eight bytes of every `.tsr` file.
///
/// Like PNG's: a byte that is not ASCII, the name, and line ends that a transfer in text mode breaks.
pub const MAGIC: [u8; 8] = *b"\x89TSR\r\n\x1a\n";
/// The format version written, and the only one read.
pub const FORMAT_VERSION: u16 = 1;
/// The highest sample rate, of the source and of the codec, in Hz.
pub const MAX_RATE: u32 = 768_000;
/// The most channels a file holds.
pub const MAX_CHANNELS: u16 = 32;
/// The most samples per channel a file holds (265 days at 48 kHz).
pub const MAX_SAMPLES: u64 = 1 << 40;
/// The largest hop, in samples at the codec's rate.
pub const MAX_HOP: u32 = 65_536;
/// The largest pre-skip, in samples at the codec's rate.
pub const MAX_PRE_SKIP: u32 = 1 << 20;

/// Bytes of the header without its levels.
const FIXED_BYTES: usize = 64;
/// Bytes that describe a level.
const LEVEL_BYTES: usize = 4;
/// The longest header that this or a later version may have: a reader takes no more memory for it.
const MAX_HEADER_BYTES: usize = 1024;
/// Where magic, version and header length end. These, and a CRC-32 at the end, are the same in
/// every version.
const PREFIX_BYTES: usize = 12;
/// The sample count that stands for "not known when the header was written".
const UNKNOWN_SAMPLES: u64 = u64::MAX;
/// Bytes of a prior's id, behind the levels where the payload kind has one.
const PRIOR_BYTES: usize = 16;
/// Payload kind: codes packed plainly, most significant bit first.
const PAYLOAD_BIT_PACKED: u8 = 0;
/// Payload kind: what a prior's coder made, or packed codes where those are shorter.
const PAYLOAD_PRIOR: u8 = 1;
/// The flag of lines; the others are those of later versions.
const FLAG_LINES: u8 = 1;
const FLAG_COMBS: u8 = 2;
const FLAG_GRAINS: u8 = 3;
const FLAG_TRIMS: u8 = 4;

/// Why a header cannot be read, or must not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The file does not begin with [`MAGIC`].
    #[error(
        "not a .tsr file: it does not begin with the signature; check that it is the right file"
    )]
    NotTsr,
    /// The file ends inside the header.
    #[error("truncated header: the file has {have} of at least {need} bytes; copy it again")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be, as far as is known.
        need: usize,
    },
    /// The header's CRC-32 does not hold.
    #[error("header corrupted: its checksum does not match; copy the file again")]
    Corrupted,
    /// The header is intact but of another version of the format.
    #[error(
        "format version {0} is not supported (this program reads version {FORMAT_VERSION}): \
         the file was made by a newer version of Tessera; update it"
    )]
    UnsupportedVersion(u16),
    /// The header asks for something that this version does not know.
    #[error(
        "{feature} {value} is not supported: the file was made by a newer version of Tessera; \
         update it"
    )]
    UnsupportedFeature {
        /// "payload kind" or "flags".
        feature: &'static str,
        /// Its value.
        value: u8,
    },
    /// A value outside its range.
    #[error("absurd {field} {value} in the header: allowed are {min} to {max}")]
    Absurd {
        /// The field's name.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed, given the other fields.
        max: u64,
    },
    /// Levels that cannot be.
    #[error("absurd levels in the header: {0}")]
    Layout(#[from] LayoutError),
}

/// What a `.tsr` file says about itself.
///
/// The codec cuts its samples into *steps* of `hop * layout.strides[0]` samples. A file of `n`
/// source samples has exactly [`steps`](Self::steps)`(n)` steps: enough that the decoder's output,
/// after `pre_skip` samples are dropped, covers the source. See `docs/format.md`.
///
/// ```
/// use tessera_codec::bitstream::Header;
/// use tessera_codec::lines::Kept;
/// use tessera_codec::tokens::TokenLayout;
///
/// let layout = TokenLayout { strides: vec![4, 2, 1, 1], codebook_sizes: vec![1024; 4] };
/// let header = Header {
///     model_id: [7; 16],
///     source_rate: 44_100,
///     channels: 2,
///     samples: Some(441_000),
///     codec_rate: 48_000,
///     hop: 480,
///     pre_skip: 480,
///     steps_per_chunk: Header::steps_per_second(48_000, 480, &layout, 2),
///     warm_up_steps: 10,
///     prior_id: None,
///     lines: Kept::Nothing,
///     layout,
/// };
/// header.validate()?;
/// assert_eq!(header.steps_per_chunk, 25);
/// assert_eq!(header.step_samples(), 1920); // 40 ms
/// assert_eq!(header.codec_samples(441_000), 480_000);
/// assert_eq!(header.steps(441_000), 251); // ten seconds and the pre-skip
/// # Ok::<(), tessera_codec::bitstream::HeaderError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Hash of the configuration and weights that made the tokens; only they can decode them.
    pub model_id: [u8; 16],
    /// The source's sample rate in Hz, 1..=768000: what decoding gives back.
    pub source_rate: u32,
    /// The source's channels, 1..=32.
    pub channels: u16,
    /// Samples per channel at the source's rate, at most [`MAX_SAMPLES`]; `None` when the length was
    /// not known at the start. The trailer then says it.
    pub samples: Option<u64>,
    /// The codec's sample rate in Hz, 1..=768000.
    pub codec_rate: u32,
    /// Samples of a frame at the codec's rate, 1..=65536.
    pub hop: u32,
    /// Samples at the codec's rate, 0..=2^20, that the decoder's output lags behind its input; they
    /// are dropped from the start of the output.
    pub pre_skip: u32,
    /// The levels stored.
    pub layout: TokenLayout,
    /// Steps of every chunk but the last, 1..=255; a chunk's payload stays below 64 KiB.
    pub steps_per_chunk: u8,
    /// Steps before a chunk that a decoder must take in, and whose output it drops, before that
    /// chunk decodes as in the whole file.
    pub warm_up_steps: u16,
    /// Hash of the prior that the payloads are coded with; `None` where codes are packed plainly.
    pub prior_id: Option<[u8; 16]>,
    /// The lines that the tokens have beside their codes.
    pub lines: Kept,
}

impl Header {
    /// The number of steps nearest to a second that a chunk can hold: the usual
    /// [`steps_per_chunk`](Self::steps_per_chunk). Files of many channels and levels get fewer, so
    /// that a payload stays below 64 KiB.
    pub fn steps_per_second(codec_rate: u32, hop: u32, layout: &TokenLayout, channels: u16) -> u8 {
        let step = (u64::from(hop) * layout.frames_per_step() as u64).max(1);
        let second = (u64::from(codec_rate) + step / 2) / step;
        let bits = (layout.bits_per_step(layout.levels()) * usize::from(channels)).max(1);
        let fits = (MAX_PAYLOAD * 8 / bits) as u64;
        second.min(fits).clamp(1, 255) as u8
    }

    /// The header of a file of the same tokens, coded with a prior in chunks of up to `steps` steps.
    pub fn with_prior(self, id: [u8; 16], steps: u8) -> Self {
        let header = Self { prior_id: Some(id), ..self };
        Self { steps_per_chunk: steps.min(header.most_steps()).max(1), ..header }
    }

    /// The header of a file of the same codes with lines beside them or without, in chunks that have room for them.
    pub fn with_lines(self, lines: Kept) -> Self {
        let header = Self { lines, ..self };
        Self { steps_per_chunk: header.steps_per_chunk.min(header.most_steps()).max(1), ..header }
    }

    /// The most steps, up to 255, that fit into a chunk whatever their tokens are; 0 if not even one.
    fn most_steps(&self) -> u8 {
        let fits = |steps: &usize| *self.payload_bytes(*steps).end() <= MAX_PAYLOAD;
        // As many as there are of those that fit: more steps never take fewer bytes.
        (1..=255).take_while(fits).count() as u8
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`HeaderError::Absurd`] or [`HeaderError::Layout`] name the first field that is out of it.
    pub fn validate(&self) -> Result<(), HeaderError> {
        within("source sample rate", self.source_rate.into(), 1, MAX_RATE.into())?;
        within("channel count", self.channels.into(), 1, MAX_CHANNELS.into())?;
        within("codec sample rate", self.codec_rate.into(), 1, MAX_RATE.into())?;
        within("hop", self.hop.into(), 1, MAX_HOP.into())?;
        within("pre-skip", self.pre_skip.into(), 0, MAX_PRE_SKIP.into())?;
        self.layout.validate()?;
        let step_bits = self.step_bits(self.layout.levels());
        let beside = self.coding_bytes() + self.lines_bytes(1).1;
        let most_bits = MAX_PAYLOAD.saturating_sub(beside) * 8;
        within("bits of a step of all channels", step_bits as u64, 1, most_bits as u64)?;
        within("steps per chunk", self.steps_per_chunk.into(), 1, self.most_steps().into())?;
        if let Some(samples) = self.samples {
            self.validate_samples(samples)?;
        }
        Ok(())
    }

    /// Checks a sample count: at most [`MAX_SAMPLES`], in at most [`MAX_CHUNKS`] chunks.
    pub(super) fn validate_samples(&self, samples: u64) -> Result<(), HeaderError> {
        within("sample count", samples, 0, MAX_SAMPLES)?;
        let most_steps = u128::from(MAX_CHUNKS) * u128::from(self.steps_per_chunk);
        if u128::from(self.steps(samples)) > most_steps {
            let most = most_steps * u128::from(self.step_samples());
            let most = most.saturating_sub(self.pre_skip.into()) * u128::from(self.source_rate)
                / u128::from(self.codec_rate);
            let max = u64::try_from(most).unwrap_or(MAX_SAMPLES).min(MAX_SAMPLES);
            return Err(HeaderError::Absurd { field: "sample count", value: samples, min: 0, max });
        }
        Ok(())
    }

    /// Samples of a step at the codec's rate.
    pub fn step_samples(&self) -> u64 {
        (u64::from(self.hop) * self.layout.frames_per_step() as u64).max(1)
    }

    /// Seconds of a step.
    pub fn step_seconds(&self) -> f64 {
        self.step_samples() as f64 / f64::from(self.codec_rate)
    }

    /// How many samples at the codec's rate stand for `samples` at the source's, rounded up.
    pub fn codec_samples(&self, samples: u64) -> u64 {
        let exact = u128::from(samples) * u128::from(self.codec_rate);
        u64::try_from(exact.div_ceil(u128::from(self.source_rate.max(1)))).unwrap_or(u64::MAX)
    }

    /// How many steps a file of `samples` source samples per channel has: those that cover
    /// [`codec_samples`](Self::codec_samples) and the pre-skip, and none for an empty source.
    pub fn steps(&self, samples: u64) -> u64 {
        if samples == 0 {
            return 0;
        }
        let covered = self.codec_samples(samples).saturating_add(self.pre_skip.into());
        covered.div_ceil(self.step_samples())
    }

    /// How many chunks a file of `samples` source samples per channel has.
    pub fn chunks(&self, samples: u64) -> u32 {
        let chunks = self.steps(samples).div_ceil(u64::from(self.steps_per_chunk.max(1)));
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }

    /// The chunk that holds the step from which source sample `sample` is decoded.
    pub fn chunk_of_sample(&self, sample: u64) -> u32 {
        let at = u128::from(sample) * u128::from(self.codec_rate)
            / u128::from(self.source_rate.max(1))
            + u128::from(self.pre_skip);
        let chunk = u128::from(self.step_samples()) * u128::from(self.steps_per_chunk.max(1));
        u32::try_from(at / chunk).unwrap_or(u32::MAX)
    }

    /// How many chunks before the one wanted a decoder begins at to be warmed up.
    pub fn warm_up_chunks(&self) -> u32 {
        u32::from(self.warm_up_steps).div_ceil(u32::from(self.steps_per_chunk.max(1)))
    }

    /// Bits of one step of all channels with the first `levels` levels.
    pub(super) fn step_bits(&self, levels: usize) -> usize {
        self.layout.bits_per_step(levels) * usize::from(self.channels)
    }

    /// Bytes of the codes of `steps` steps packed plainly.
    pub(super) fn packed_bytes(&self, steps: usize) -> usize {
        (self.step_bits(self.layout.levels()) * steps).div_ceil(8)
    }

    /// Bytes that the payload of a chunk of `steps` steps may have.
    pub(super) fn payload_bytes(&self, steps: usize) -> RangeInclusive<usize> {
        let packed = self.packed_bytes(steps);
        let (least, most) = self.lines_bytes(steps);
        match self.coding_bytes() {
            0 => least + packed..=most + packed,
            coding => least + coding..=most + coding + packed,
        }
    }

    /// Bytes that the lines of `steps` steps take at least and at most.
    fn lines_bytes(&self, steps: usize) -> (usize, usize) {
        lines::least_and_most_bytes(self.lines, self.channels.into(), steps)
    }

    /// Bytes of a payload that say how it is coded.
    fn coding_bytes(&self) -> usize {
        usize::from(self.prior_id.is_some())
    }

    /// The header of a file with only the first `levels` levels of this one.
    ///
    /// # Errors
    /// [`LayoutError::LevelCount`] when `levels` is 0 or more than there are.
    pub fn prefix(&self, levels: usize) -> Result<Self, LayoutError> {
        if !(1..=self.layout.levels()).contains(&levels) {
            return Err(LayoutError::LevelCount(levels));
        }
        Ok(Self { layout: self.layout.prefix(levels), ..self.clone() })
    }

    /// The model id as 32 hexadecimal digits.
    pub fn model_id_hex(&self) -> String {
        id_hex(&self.model_id)
    }

    /// The prior's id as 32 hexadecimal digits, where there is one.
    pub fn prior_id_hex(&self) -> Option<String> {
        self.prior_id.as_ref().map(id_hex)
    }

    /// The bytes of the header.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn to_bytes(&self) -> Result<Vec<u8>, HeaderError> {
        self.validate()?;
        let (kind, prior) = match &self.prior_id {
            None => (PAYLOAD_BIT_PACKED, &[][..]),
            Some(id) => (PAYLOAD_PRIOR, &id[..]),
        };
        let flags = match self.lines {
            Kept::Nothing => 0,
            Kept::Slots => FLAG_LINES,
            Kept::SlotsAndComb => FLAG_COMBS,
            Kept::ButTrims => FLAG_GRAINS,
            Kept::All => FLAG_TRIMS,
        };
        let length = FIXED_BYTES + LEVEL_BYTES * self.layout.levels() + prior.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_VERSION.to_be_bytes());
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend(self.model_id);
        bytes.extend(self.source_rate.to_be_bytes());
        bytes.extend(self.channels.to_be_bytes());
        bytes.extend(self.samples.unwrap_or(UNKNOWN_SAMPLES).to_be_bytes());
        bytes.extend(self.codec_rate.to_be_bytes());
        bytes.extend(self.hop.to_be_bytes());
        bytes.extend(self.pre_skip.to_be_bytes());
        bytes.extend([kind, flags]);
        bytes.push(self.steps_per_chunk);
        bytes.extend(self.warm_up_steps.to_be_bytes());
        bytes.push(self.layout.levels() as u8);
        for (&stride, &size) in self.layout.strides.iter().zip(&self.layout.codebook_sizes) {
            bytes.extend((stride as u16).to_be_bytes());
            bytes.extend(((size - 1) as u16).to_be_bytes());
        }
        bytes.extend(prior);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        Ok(bytes)
    }

    /// Reads a header from the first bytes of a file (1024 are always enough) and says how long it is.
    ///
    /// # Errors
    /// Says what is wrong with the header. Its CRC is checked before anything else is believed, so
    /// an unsupported version or an absurd value was really written, not caused by a flipped bit.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let shared = bytes.len().min(MAGIC.len());
        if bytes[..shared] != MAGIC[..shared] {
            return Err(HeaderError::NotTsr);
        }
        let mut fields = Fields(bytes.get(MAGIC.len()..).unwrap_or_default());
        let truncated = |need| HeaderError::Truncated { have: bytes.len(), need };
        let (version, length) = (fields.u16(), fields.u16());
        let (Some(version), Some(length)) = (version, length) else {
            return Err(truncated(FIXED_BYTES + LEVEL_BYTES));
        };
        let length = usize::from(length);
        if !(PREFIX_BYTES + 4..=MAX_HEADER_BYTES).contains(&length) {
            return Err(HeaderError::Corrupted);
        }
        let header = bytes.get(..length).ok_or_else(|| truncated(length))?;
        let (content, crc) = header.split_at(length - 4);
        if crc32fast::hash(content).to_be_bytes() != crc {
            return Err(HeaderError::Corrupted);
        }
        if version != FORMAT_VERSION {
            return Err(HeaderError::UnsupportedVersion(version));
        }
        let parsed = Self::parse_fields(&mut Fields(&content[PREFIX_BYTES..]), length)?;
        parsed.validate()?;
        Ok((parsed, length))
    }

    /// The fields between the length and the CRC-32 of a header of `length` bytes.
    fn parse_fields(fields: &mut Fields, length: usize) -> Result<Self, HeaderError> {
        // Whatever is missing from an intact header makes its length absurd.
        let short = || wrong_length(length, FIXED_BYTES + LEVEL_BYTES);
        let model_id = fields.take().ok_or_else(short)?;
        let source_rate = fields.u32().ok_or_else(short)?;
        let channels = fields.u16().ok_or_else(short)?;
        let samples = fields.take().map(u64::from_be_bytes).ok_or_else(short)?;
        let codec_rate = fields.u32().ok_or_else(short)?;
        let hop = fields.u32().ok_or_else(short)?;
        let pre_skip = fields.u32().ok_or_else(short)?;
        let kind = fields.u8().ok_or_else(short)?;
        let flags = fields.u8().ok_or_else(short)?;
        let steps_per_chunk = fields.u8().ok_or_else(short)?;
        let warm_up_steps = fields.u16().ok_or_else(short)?;
        let levels = usize::from(fields.u8().ok_or_else(short)?);
        for (feature, value, last_known) in
            [("payload kind", kind, PAYLOAD_PRIOR), ("flags", flags, FLAG_TRIMS)]
        {
            if value > last_known {
                return Err(HeaderError::UnsupportedFeature { feature, value });
            }
        }
        let prior_bytes = if kind == PAYLOAD_PRIOR { PRIOR_BYTES } else { 0 };
        if !(1..=MAX_LEVELS).contains(&levels) {
            return Err(LayoutError::LevelCount(levels).into());
        }
        let needed = FIXED_BYTES + LEVEL_BYTES * levels + prior_bytes;
        if length != needed {
            return Err(wrong_length(length, needed));
        }
        let (mut strides, mut codebook_sizes) = (Vec::new(), Vec::new());
        for _ in 0..levels {
            strides.push(fields.u16().ok_or_else(short)?.into());
            codebook_sizes.push(usize::from(fields.u16().ok_or_else(short)?) + 1);
        }
        let prior_id = match kind {
            PAYLOAD_PRIOR => Some(fields.take().ok_or_else(short)?),
            _ => None,
        };
        Ok(Self {
            model_id,
            source_rate,
            channels,
            samples: (samples != UNKNOWN_SAMPLES).then_some(samples),
            codec_rate,
            hop,
            pre_skip,
            layout: TokenLayout { strides, codebook_sizes },
            steps_per_chunk,
            warm_up_steps,
            prior_id,
            lines: match flags {
                FLAG_LINES => Kept::Slots,
                FLAG_COMBS => Kept::SlotsAndComb,
                FLAG_GRAINS => Kept::ButTrims,
                FLAG_TRIMS => Kept::All,
                _ => Kept::Nothing,
            },
        })
    }

    /// Bytes to read from a file to be sure of having all of its header.
    pub(super) const fn longest() -> usize {
        MAX_HEADER_BYTES
    }
}

/// `Ok` when `value` is in `min..=max`.
fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), HeaderError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(HeaderError::Absurd { field, value, min, max })
}

/// The error for an intact header of `length` bytes whose fields need `need`.
fn wrong_length(length: usize, need: usize) -> HeaderError {
    let need = need as u64;
    HeaderError::Absurd { field: "header length", value: length as u64, min: need, max: need }
}

/// Big-endian fields taken off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Ten seconds of stereo at 44.1 kHz in the shipped model's layout.
    pub(in super::super) fn header() -> Header {
        Header {
            model_id: *b"0123456789abcdef",
            source_rate: 44_100,
            channels: 2,
            samples: Some(441_000),
            codec_rate: 48_000,
            hop: 480,
            pre_skip: 480,
            layout: TokenLayout {
                strides: vec![4, 2, 1, 1],
                codebook_sizes: vec![1024, 1024, 1024, 1000],
            },
            steps_per_chunk: 25,
            warm_up_steps: 10,
            prior_id: None,
            lines: Kept::Nothing,
        }
    }

    #[test]
    fn round_trip() {
        for (samples, prior_id, length) in [
            (Some(441_000), None, 80),
            (Some(0), None, 80),
            (Some(MAX_SAMPLES / 4), None, 80),
            (None, None, 80),
            (None, Some([9; 16]), 96),
        ] {
            let header = Header { samples, prior_id, ..header() };
            let mut bytes = header.to_bytes().unwrap();
            assert_eq!(bytes.len(), length);
            bytes.extend([1, 2, 3]); // what follows the header is not looked at
            assert_eq!(Header::parse(&bytes), Ok((header, length)));
        }
    }

    #[test]
    fn every_cut_is_a_truncated_header() {
        let bytes = header().to_bytes().unwrap();
        for have in 0..bytes.len() {
            let need = if have < PREFIX_BYTES { 68 } else { 80 };
            assert_eq!(
                Header::parse(&bytes[..have]),
                Err(HeaderError::Truncated { have, need }),
                "cut at {have}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header().to_bytes().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            let error = Header::parse(&flipped).unwrap_err();
            match bit / 8 {
                0..8 => assert_eq!(error, HeaderError::NotTsr),
                // A longer length may also run past the end of the bytes.
                10..12 => assert!(
                    matches!(error, HeaderError::Corrupted | HeaderError::Truncated { .. }),
                    "{error:?}"
                ),
                _ => assert_eq!(error, HeaderError::Corrupted, "bit {bit}"),
            }
        }
    }

    #[test]
    fn times() {
        let header = header();
        assert_eq!(header.steps(0), 0);
        assert_eq!(header.steps(1), 1);
        assert_eq!(header.codec_samples(1), 2);
        // 1440 samples at 48 kHz and the pre-skip of 480 fill a step exactly.
        assert_eq!(header.steps(1323), 1);
        assert_eq!(header.steps(1324), 2);
        assert_eq!((header.steps(441_000), header.chunks(441_000)), (251, 11));
        assert_eq!(header.chunk_of_sample(0), 0);
        assert_eq!(header.chunk_of_sample(43_658), 0);
        assert_eq!(header.chunk_of_sample(43_659), 1);
        assert_eq!(header.chunk_of_sample(440_999), 10);
        assert_eq!(header.warm_up_chunks(), 1);
        assert_eq!(header.payload_bytes(25), 688..=688);
        let coded = header.clone().with_prior([1; 16], 64);
        assert_eq!((coded.steps_per_chunk, coded.payload_bytes(25)), (64, 1..=689));
        assert_eq!(header.model_id_hex(), "30313233343536373839616263646566");
    }

    #[test]
    fn a_chunk_is_about_a_second_and_never_too_large() {
        let steps = |rate, hop, layout: &TokenLayout, channels| {
            let steps_per_chunk = Header::steps_per_second(rate, hop, layout, channels);
            let samples = None;
            let layout = layout.clone();
            Header {
                codec_rate: rate,
                hop,
                layout,
                channels,
                steps_per_chunk,
                samples,
                ..header()
            }
            .validate()
            .unwrap();
            steps_per_chunk
        };
        let layout = header().layout;
        assert_eq!(steps(48_000, 480, &layout, 1), 25);
        assert_eq!(steps(48_000, 240, &layout, 32), 50);
        assert_eq!(steps(48_000, 1, &layout, 1), 255);
        assert_eq!(steps(8, 480, &layout, 1), 1);
        let full = TokenLayout { strides: vec![4; 16], codebook_sizes: vec![65_536; 16] };
        assert_eq!(steps(48_000, 480, &full, 32), 25);
        let wide = TokenLayout { strides: vec![16, 1, 1], codebook_sizes: vec![65_536; 3] };
        assert_eq!(steps(48_000, 60, &wide, 32), 31);
        // A byte of each payload says how it is coded.
        let eight_bits = TokenLayout { strides: vec![1], codebook_sizes: vec![256] };
        let wide = TokenLayout { strides: vec![255, 1], codebook_sizes: vec![2, 256] };
        for (layout, channels) in [(eight_bits, 1), (wide, 32)] {
            let coded = Header { layout, channels, ..header() }.with_prior([0; 16], 255);
            coded.validate().unwrap();
            let more = coded.steps_per_chunk.checked_add(1);
            assert!(more.is_none_or(|steps| {
                Header { steps_per_chunk: steps, ..coded.clone() }.validate().is_err()
            }));
        }
    }

    #[test]
    fn a_step_that_no_payload_holds_is_refused() {
        let layout =
            TokenLayout { strides: vec![256, 1, 1, 1, 1], codebook_sizes: vec![65_536; 5] };
        let header = Header { layout, channels: 32, steps_per_chunk: 1, ..header() };
        let field = "bits of a step of all channels";
        let error = HeaderError::Absurd { field, value: 524_800, min: 1, max: 524_280 };
        assert_eq!(header.validate(), Err(error));
        assert_eq!(Header { channels: 31, ..header }.validate(), Ok(()));
    }

    #[test]
    fn a_prefix_keeps_everything_else() {
        let header = header();
        let prefix = header.prefix(2).unwrap();
        assert_eq!(prefix.layout, header.layout.prefix(2));
        assert_eq!(Header { layout: header.layout.clone(), ..prefix }, header);
        assert_eq!(header.prefix(0), Err(LayoutError::LevelCount(0)));
        assert_eq!(header.prefix(5), Err(LayoutError::LevelCount(5)));
    }
}
