//! Writing audio to where nothing can be written twice: pipes.

use std::io::{self, Cursor, Write};

use hound::WavWriter;

use super::source::{AudioError, check_shape};
use super::wav_sink::{MAX_DATA_BYTES, WavFormat, check_block, io_error, write_error};

/// What a header says of a length that is not known, or that its 32 bits cannot hold.
const STREAMED: u32 = u32::MAX;

/// Samples that go straight to a writer, after a WAV header or none.
///
/// With the length told beforehand the bytes are those of the file that [`WavSink`](super::WavSink)
/// writes; without it the header has the sizes that stand for "to the end of the stream".
///
/// ```
/// use tessera_codec::audio::{WavFormat, WavStream};
///
/// let mut stream = WavStream::new(Vec::new(), 48_000, 1, WavFormat::Pcm16, Some(2))?;
/// stream.write(&[[0.5f32, -0.5]])?;
/// let bytes = stream.finish()?;
/// assert_eq!(bytes[bytes.len() - 4..], [0x00, 0x40, 0x00, 0xC0]);
/// # Ok::<(), tessera_codec::audio::AudioError>(())
/// ```
#[derive(Debug)]
pub struct WavStream<W> {
    output: W,
    channels: usize,
    format: WavFormat,
    bytes: Vec<u8>,
}

/// Name of the stream in errors.
const NAME: &str = "the output stream";

impl<W: Write> WavStream<W> {
    /// Writes the header of `channels` at `sample_rate` Hz; `frames` is the length in samples per channel
    /// where it is certain.
    ///
    /// # Errors
    /// [`AudioError::Write`], [`AudioError::SampleRate`], [`AudioError::Channels`].
    pub fn new(
        mut output: W,
        sample_rate: u32,
        channels: u16,
        format: WavFormat,
        frames: Option<u64>,
    ) -> Result<Self, AudioError> {
        check_shape(NAME, sample_rate, usize::from(channels))?;
        let fail = |error| write_error(NAME.as_ref(), error);
        let mut header = Cursor::new(Vec::new());
        WavWriter::new(&mut header, format.spec(sample_rate, channels))
            .and_then(WavWriter::finalize)
            .map_err(|error| fail(io_error(error)))?;
        let mut header = header.into_inner();
        let bytes = frames
            .and_then(|frames| frames.checked_mul(u64::from(channels) * format.bytes()))
            .filter(|&bytes| bytes <= MAX_DATA_BYTES)
            .and_then(|bytes| u32::try_from(bytes).ok());
        // The size of the RIFF counts what follows it; that of the audio ends the header.
        let riff = bytes.map_or(STREAMED, |bytes| bytes + header.len() as u32 - 8);
        let end = header.len();
        header[4..8].copy_from_slice(&riff.to_le_bytes());
        header[end - 4..].copy_from_slice(&bytes.unwrap_or(STREAMED).to_le_bytes());
        output.write_all(&header).map_err(fail)?;
        Ok(Self { output, channels: usize::from(channels), format, bytes: Vec::new() })
    }

    /// Samples only: those of all channels in turn, 32-bit floats, little-endian.
    ///
    /// # Errors
    /// [`AudioError::Channels`].
    pub fn raw(output: W, channels: u16) -> Result<Self, AudioError> {
        check_shape(NAME, 1, usize::from(channels))?;
        let channels = usize::from(channels);
        Ok(Self { output, channels, format: WavFormat::Float32, bytes: Vec::new() })
    }

    /// Writes a block: a slice per channel, all of the same length. Non-finite samples become 0.
    ///
    /// # Errors
    /// [`AudioError::Block`], [`AudioError::Write`].
    pub fn write<S: AsRef<[f32]>>(&mut self, planar: &[S]) -> Result<(), AudioError> {
        let frames = check_block(planar, self.channels, || NAME.into())?;
        self.bytes.clear();
        for frame in 0..frames {
            for channel in planar {
                self.format.append(channel.as_ref()[frame], &mut self.bytes);
            }
        }
        self.output.write_all(&self.bytes).map_err(|error| write_error(NAME.as_ref(), error))
    }

    /// Makes sure that all has been handed on, and gives the output back.
    ///
    /// # Errors
    /// [`AudioError::Write`].
    pub fn finish(mut self) -> Result<W, AudioError> {
        let flushed: io::Result<()> = self.output.flush();
        flushed.map_err(|error| write_error(NAME.as_ref(), error))?;
        Ok(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{AudioSource, WavSink, WavSource, read_all};

    const FORMATS: [WavFormat; 3] = [WavFormat::Pcm16, WavFormat::Pcm24, WavFormat::Float32];

    fn sound(channels: usize) -> Vec<Vec<f32>> {
        let sample = |c: usize, n: usize| ((c + 2) as f32 * 0.1 * n as f32).sin() * 1.1;
        (0..channels).map(|c| (0..777).map(|n| sample(c, n)).collect()).collect()
    }

    #[test]
    fn the_bytes_are_those_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        for (i, format) in FORMATS.into_iter().enumerate() {
            for channels in [1, 2, 5] {
                let sound = sound(channels);
                let path = folder.path().join(format!("{i}-{channels}.wav"));
                let mut sink =
                    WavSink::create(&path, 44_100, channels as u16, format, false).unwrap();
                sink.write(&sound).unwrap();
                sink.finish().unwrap();
                let mut stream =
                    WavStream::new(Vec::new(), 44_100, channels as u16, format, Some(777)).unwrap();
                stream.write(&sound).unwrap();
                assert!(stream.finish().unwrap() == std::fs::read(&path).unwrap());
            }
        }
    }

    #[test]
    fn a_stream_of_unknown_length_is_read_to_its_end() {
        for frames in [None, Some(1 << 40)] {
            let mut stream =
                WavStream::new(Vec::new(), 8_000, 2, WavFormat::Float32, frames).unwrap();
            stream.write(&sound(2)).unwrap();
            let bytes = stream.finish().unwrap();
            let mut source = WavSource::new(bytes.as_slice(), "pipe".into(), None).unwrap();
            assert_eq!(source.info().frames, None);
            assert!(read_all(&mut source, 1000).unwrap() == sound(2));
            assert!(source.warnings().is_empty());
        }
    }

    #[test]
    fn raw_samples_are_read_back() {
        let mut stream = WavStream::raw(Vec::new(), 3).unwrap();
        stream.write(&sound(3)).unwrap();
        assert!(stream.write(&sound(2)).is_err());
        let mut bytes = stream.finish().unwrap();
        assert_eq!(bytes.len(), 3 * 777 * 4);
        let mut source = WavSource::raw(bytes.as_slice(), "pipe".into(), 8_000, 3).unwrap();
        assert!(read_all(&mut source, 1000).unwrap() == sound(3));
        assert!(source.warnings().is_empty());
        bytes.pop();
        let mut source = WavSource::raw(bytes.as_slice(), "pipe".into(), 8_000, 3).unwrap();
        assert_eq!(read_all(&mut source, 1000).unwrap()[2].len(), 776);
        assert_eq!(source.warnings().len(), 1);
        assert!(WavSource::raw(bytes.as_slice(), "pipe".into(), 0, 3).is_err());
        assert!(WavStream::raw(Vec::new(), 33).is_err());
    }
}
