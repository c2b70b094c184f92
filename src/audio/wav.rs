//! Reading WAV files and streams.
//!
//! hound refuses much that occurs in practice (streamed WAVs without a length, cut files, chunks of
//! odd length, a wrong byte rate), reads 24 bits in a 32-bit container against the standard, and
//! goes through a call per sample. So the chunks are taken apart here; tests hold the result
//! against hound wherever hound can read it.

use std::io::{self, Read};

use super::source::{AudioError, AudioInfo, AudioSource, AudioWarning, SampleFormat, check_shape};

/// Bytes converted at a time; bounds the memory whatever the header claims.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// Largest `fmt ` chunk that is read; real ones have 16 to 40 bytes.
const MAX_FMT_BYTES: u32 = 4096;

/// A size in the header that stands for "unknown".
const STREAMED: u32 = u32::MAX;

/// A sample's representation, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    U8,
    I16,
    I24,
    /// 24 bits in the lower bytes of 32.
    I24In32,
    I32,
    F32,
    F64,
}

impl Encoding {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I16 => 2,
            Self::I24 => 3,
            Self::I24In32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn format(self) -> SampleFormat {
        match self {
            Self::U8 => SampleFormat::Int(8),
            Self::I16 => SampleFormat::Int(16),
            Self::I24 | Self::I24In32 => SampleFormat::Int(24),
            Self::I32 => SampleFormat::Int(32),
            Self::F32 => SampleFormat::Float(32),
            Self::F64 => SampleFormat::Float(64),
        }
    }

    /// Calls `sink` with every sample of channel `channel` in `bytes`, whole frames of `align`.
    fn each(self, bytes: &[u8], align: usize, channel: usize, mut sink: impl FnMut(f32)) {
        let start = channel * self.bytes();
        let frames = bytes.chunks_exact(align).map(|frame| &frame[start..start + self.bytes()]);
        match self {
            Self::U8 => frames.for_each(|b| sink((f32::from(b[0]) - 128.0) / 128.0)),
            Self::I16 => {
                frames.for_each(|b| sink(f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0))
            }
            Self::I24 | Self::I24In32 => frames.for_each(|b| {
                let value = i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8;
                sink(value as f32 / 8_388_608.0);
            }),
            Self::I32 => frames.for_each(|b| {
                let value = i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                sink((f64::from(value) / 2_147_483_648.0) as f32);
            }),
            Self::F32 => {
                frames.for_each(|b| sink(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
            Self::F64 => frames.for_each(|b| {
                sink(f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32);
            }),
        }
    }
}

/// A WAV file or stream: integers of 8, 16, 24 and 32 bits, floats of 32 and 64, up to 32 channels.
///
/// A data chunk without a length (0 or 0xFFFFFFFF, as pipes write it) reaches to the end of the
/// stream; one that is cut short gives what is there and [`AudioWarning::Truncated`].
#[derive(Debug)]
pub struct WavSource<R> {
    reader: R,
    path: String,
    info: AudioInfo,
    encoding: Encoding,
    /// Bytes of the data chunk still to come; `None` if it reaches to the end of the stream.
    remaining: Option<u64>,
    bytes: Vec<u8>,
    ended: bool,
    truncated: bool,
    non_finite: u64,
}

impl<R: Read> WavSource<R> {
    /// Reads the header. `path` is what errors call the stream; `stream_len` its length in bytes,
    /// if known, bounds what [`AudioInfo::frames`] claims.
    ///
    /// # Errors
    /// [`AudioError::NotAudio`], [`AudioError::Header`], [`AudioError::Unsupported`],
    /// [`AudioError::SampleRate`], [`AudioError::Channels`], [`AudioError::Read`].
    pub fn new(reader: R, path: String, stream_len: Option<u64>) -> Result<Self, AudioError> {
        let mut chunks = ChunkReader { reader, path: &path, position: 0 };
        let riff_size = chunks.riff_header()?;
        let mut fmt = None;
        let data_size = loop {
            let (id, size) = chunks.chunk_header()?;
            match &id {
                b"fmt " => fmt = Some(chunks.fmt(size)?),
                b"data" => break size,
                _ => chunks
                    .skip(u64::from(size) + u64::from(size % 2), "a chunk before the audio")?,
            }
        };
        let Some(Fmt { channels, sample_rate, encoding }) = fmt else {
            return Err(chunks.damaged("the audio comes before its format (no 'fmt ' chunk)"));
        };
        let ChunkReader { reader, position, .. } = chunks;

        // An empty data chunk in a RIFF that goes on after it is just that; otherwise the writer
        // never came to fill in the length.
        let goes_on = riff_size != STREAMED && u64::from(riff_size) + 8 > position;
        let remaining = match data_size {
            STREAMED => None,
            0 if !goes_on => None,
            size => Some(u64::from(size)),
        };
        let align = (encoding.bytes() * usize::from(channels)) as u64;
        let there = stream_len.map(|len| len.saturating_sub(position));
        let frames = match (remaining, there) {
            (Some(claimed), Some(there)) => Some(claimed.min(there) / align),
            (Some(bytes), None) | (None, Some(bytes)) => Some(bytes / align),
            (None, None) => None,
        };
        let info = AudioInfo { sample_rate, channels, frames, format: encoding.format() };
        Ok(Self::of_samples(reader, path, info, encoding, remaining))
    }

    /// Samples without a header, to the end of the stream: those of all channels in turn, 32-bit floats,
    /// little-endian. `path` is what errors call the stream.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`], [`AudioError::Channels`].
    pub fn raw(reader: R, path: String, rate: u32, channels: u16) -> Result<Self, AudioError> {
        check_shape(&path, rate, usize::from(channels))?;
        let encoding = Encoding::F32;
        let info =
            AudioInfo { sample_rate: rate, channels, frames: None, format: encoding.format() };
        Ok(Self::of_samples(reader, path, info, encoding, None))
    }

    fn of_samples(
        reader: R,
        path: String,
        info: AudioInfo,
        encoding: Encoding,
        remaining: Option<u64>,
    ) -> Self {
        Self {
            reader,
            path,
            info,
            encoding,
            remaining,
            bytes: Vec::new(),
            ended: false,
            truncated: false,
            non_finite: 0,
        }
    }
}

impl<R: Read + Send> AudioSource for WavSource<R> {
    fn info(&self) -> &AudioInfo {
        &self.info
    }

    fn read(&mut self, planar: &mut Vec<Vec<f32>>, max_frames: usize) -> Result<usize, AudioError> {
        let channels = usize::from(self.info.channels);
        planar.resize_with(channels, Vec::new);
        planar.iter_mut().for_each(Vec::clear);
        if self.ended {
            return Ok(0);
        }
        let align = self.encoding.bytes() * channels;
        let wanted_frames = max_frames.clamp(1, MAX_BLOCK_BYTES / align);
        let mut wanted = wanted_frames * align;
        if let Some(remaining) = self.remaining {
            wanted = wanted.min(usize::try_from(remaining).unwrap_or(usize::MAX));
        }
        self.bytes.clear();
        self.reader
            .by_ref()
            .take(wanted as u64)
            .read_to_end(&mut self.bytes)
            .map_err(|source| AudioError::Read { path: self.path.clone(), source })?;
        let got = self.bytes.len();
        if let Some(remaining) = &mut self.remaining {
            *remaining -= got as u64;
        }
        let frames = got / align;
        let exhausted = self.remaining == Some(0);
        if got < wanted || frames == 0 || exhausted {
            self.ended = true;
            // A stream of unknown length may end anywhere, but not inside a frame.
            self.truncated = !exhausted && self.remaining.is_some() || !got.is_multiple_of(align);
        }
        let non_finite = &mut self.non_finite;
        for (channel, samples) in planar.iter_mut().enumerate() {
            samples.reserve(frames);
            self.encoding.each(&self.bytes[..frames * align], align, channel, |sample| {
                if sample.is_finite() {
                    samples.push(sample);
                } else {
                    *non_finite += 1;
                    samples.push(0.0);
                }
            });
        }
        Ok(frames)
    }

    fn warnings(&self) -> Vec<AudioWarning> {
        let mut warnings = Vec::new();
        if self.truncated {
            warnings.push(AudioWarning::Truncated);
        }
        if self.non_finite > 0 {
            warnings.push(AudioWarning::NonFinite(self.non_finite));
        }
        warnings
    }
}

/// What matters of a `fmt ` chunk.
struct Fmt {
    channels: u16,
    sample_rate: u32,
    encoding: Encoding,
}

/// Walks the chunks up to the audio.
struct ChunkReader<'a, R> {
    reader: R,
    path: &'a str,
    /// Bytes read so far.
    position: u64,
}

impl<R: Read> ChunkReader<'_, R> {
    fn damaged(&self, reason: impl Into<String>) -> AudioError {
        AudioError::Header { path: self.path.into(), reason: reason.into() }
    }

    fn unsupported(&self, reason: impl Into<String>) -> AudioError {
        AudioError::Unsupported { path: self.path.into(), reason: reason.into() }
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], AudioError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|source| self.ended(source, what))?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn ended(&self, source: io::Error, what: &str) -> AudioError {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            self.damaged(format!("it ends inside {what}"))
        } else {
            AudioError::Read { path: self.path.into(), source }
        }
    }

    fn skip(&mut self, count: u64, what: &str) -> Result<(), AudioError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(count), &mut io::sink())
            .map_err(|source| AudioError::Read { path: self.path.into(), source })?;
        self.position += skipped;
        if skipped < count {
            return Err(self.damaged(format!("it ends inside {what}")));
        }
        Ok(())
    }

    /// The size in the RIFF header.
    fn riff_header(&mut self) -> Result<u32, AudioError> {
        let [a, b, c, d] = self.bytes::<4>("the RIFF header")?;
        match &[a, b, c, d] {
            b"RIFF" => {}
            b"RIFX" => return Err(self.unsupported("it is a big-endian WAV (RIFX)")),
            b"RF64" | b"BW64" => {
                return Err(self.unsupported("it is a 64-bit WAV (RF64 or BW64)"));
            }
            _ => {
                return Err(AudioError::NotAudio {
                    path: self.path.into(),
                    reason: "it does not start with RIFF as a WAV file does".into(),
                });
            }
        }
        let size = u32::from_le_bytes(self.bytes("the RIFF header")?);
        if &self.bytes::<4>("the RIFF header")? != b"WAVE" {
            return Err(AudioError::NotAudio {
                path: self.path.into(),
                reason: "it is a RIFF file, but not a WAV".into(),
            });
        }
        Ok(size)
    }

    fn chunk_header(&mut self) -> Result<([u8; 4], u32), AudioError> {
        let id = self.bytes("its header: there is no 'data' chunk")?;
        let size = u32::from_le_bytes(self.bytes("its header: there is no 'data' chunk")?);
        Ok((id, size))
    }

    fn fmt(&mut self, size: u32) -> Result<Fmt, AudioError> {
        if !(16..=MAX_FMT_BYTES).contains(&size) {
            return Err(self.damaged(format!("its 'fmt ' chunk has {size} bytes")));
        }
        let chunk: [u8; 16] = self.bytes("the 'fmt ' chunk")?;
        let u16_at = |at: usize| u16::from_le_bytes([chunk[at], chunk[at + 1]]);
        let mut tag = u16_at(0);
        let channels = u16_at(2);
        let sample_rate = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
        let block_align = u16_at(12);
        let bits = u16_at(14);
        let mut rest = u64::from(size - 16);
        if tag == 0xFFFE {
            if rest < 24 {
                return Err(self.damaged("its extended 'fmt ' chunk is too short"));
            }
            // cbSize, valid bits and channel mask, then a GUID that starts with the format tag.
            // The valid bits lie at the top of the container, so its full width can be read.
            self.skip(8, "the 'fmt ' chunk")?;
            tag = u16::from_le_bytes(self.bytes("the 'fmt ' chunk")?);
            rest -= 10;
        }
        self.skip(rest + u64::from(size % 2), "the 'fmt ' chunk")?;

        check_shape(self.path, sample_rate, usize::from(channels))?;
        let container = block_align / channels;
        let encoding = match (tag, bits, container) {
            (1, 8, 1) => Encoding::U8,
            (1, 16, 2) => Encoding::I16,
            (1, 24, 3) => Encoding::I24,
            (1, 24, 4) => Encoding::I24In32,
            (1, 32, 4) => Encoding::I32,
            (3, 32, 4) => Encoding::F32,
            (3, 64, 8) => Encoding::F64,
            (1, 8 | 16 | 24 | 32, _) | (3, 32 | 64, _) => {
                return Err(self.damaged(format!(
                    "{bits}-bit samples on {channels} channels do not take {block_align} bytes"
                )));
            }
            (1 | 3, _, _) => {
                let kind = if tag == 1 { "integer" } else { "float" };
                return Err(self.unsupported(format!("it has {bits}-bit {kind} samples")));
            }
            _ => return Err(self.unsupported(format!("it is compressed (WAV format {tag:#06x})"))),
        };
        if block_align % channels != 0 {
            return Err(self.damaged(format!(
                "a block of {block_align} bytes does not divide by {channels} channels"
            )));
        }
        Ok(Fmt { channels, sample_rate, encoding })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that never ends, as a pipe from a running recording.
    struct Endless<'a>(&'a [u8]);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                buffer.fill(0x40);
                return Ok(buffer.len());
            }
            self.0.read(buffer)
        }
    }

    const STREAM_HEADER: &[u8] = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\
        \x80\xbb\0\0\0\x77\x01\0\x02\0\x10\0data\xff\xff\xff\xff";

    #[test]
    fn an_endless_stream_is_read_block_by_block() {
        let mut source = WavSource::new(Endless(STREAM_HEADER), "<stdin>".into(), None).unwrap();
        assert_eq!(source.info().frames, None);
        let mut block = Vec::new();
        for _ in 0..20 {
            assert_eq!(source.read(&mut block, 1000).unwrap(), 1000);
            assert_eq!(block, [[f32::from(0x4040i16) / 32_768.0; 1000]]);
        }
        // However much is asked for, a block stays small.
        assert_eq!(source.read(&mut block, usize::MAX).unwrap(), MAX_BLOCK_BYTES / 2);
        assert!(source.warnings().is_empty());
    }

    #[test]
    fn a_failing_reader_is_an_error_with_its_name() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the cable is out"))
            }
        }
        let reader = STREAM_HEADER.chain(Failing);
        let mut source = WavSource::new(reader, "tape.wav".into(), None).unwrap();
        let error = source.read(&mut Vec::new(), 10).unwrap_err();
        assert_eq!(error.to_string(), "cannot read tape.wav: the cable is out");
    }
}
