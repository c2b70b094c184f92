//! Writing WAV files.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};
use tempfile::NamedTempFile;

use super::source::{AudioError, check_shape};

/// Most bytes of audio in a file: the RIFF size is 32 bits and counts the header too.
pub(super) const MAX_DATA_BYTES: u64 = (u32::MAX - 1024) as u64;

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
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Pcm16 => 2,
            Self::Pcm24 => 3,
            Self::Float32 => 4,
        }
    }

    /// What hound calls it.
    pub(super) fn spec(self, sample_rate: u32, channels: u16) -> WavSpec {
        let (bits_per_sample, sample_format) = match self {
            Self::Pcm16 => (16, SampleFormat::Int),
            Self::Pcm24 => (24, SampleFormat::Int),
            Self::Float32 => (32, SampleFormat::Float),
        };
        WavSpec { channels, sample_rate, bits_per_sample, sample_format }
    }

    /// Appends a sample's bytes.
    pub(super) fn append(self, sample: f32, bytes: &mut Vec<u8>) {
        let sample = if sample.is_finite() { sample } else { 0.0 };
        match self {
            Self::Pcm16 => bytes.extend_from_slice(&to_pcm(sample, 15).to_le_bytes()[..2]),
            Self::Pcm24 => bytes.extend_from_slice(&to_pcm(sample, 23).to_le_bytes()[..3]),
            Self::Float32 => bytes.extend_from_slice(&sample.to_le_bytes()),
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
        // A file moved to the name of a device would take the device's place.
        if path.exists() && !path.is_file() {
            return Err(write_error(io::Error::other("it is not a file; choose another name")));
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
        let spec = format.spec(sample_rate, channels);
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
        let frames = check_block(planar, self.channels, || self.label())?;
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

/// Samples per channel of a block, which has to be of `channels` channels of one length.
pub(super) fn check_block<S: AsRef<[f32]>>(
    planar: &[S],
    channels: usize,
    label: impl FnOnce() -> String,
) -> Result<usize, AudioError> {
    let frames = planar.first().map_or(0, |c| c.as_ref().len());
    if planar.len() != channels || planar.iter().any(|c| c.as_ref().len() != frames) {
        return Err(AudioError::Block {
            path: label(),
            reason: format!("{channels} channels of equal length are expected"),
        });
    }
    Ok(frames)
}

pub(super) fn write_error(path: &Path, source: io::Error) -> AudioError {
    AudioError::Write { path: path.display().to_string(), source }
}

pub(super) fn io_error(error: hound::Error) -> io::Error {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::{WavSource, open, read_all};

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn samples_are_rounded_and_clipped() {
        assert_eq!(
            [0.0, 0.5, 1.0, 2.0, -1.0, -3.0].map(|s| to_pcm(s, 15)),
            [0, 16_384, 32_767, 32_767, -32_768, -32_768]
        );
        assert_eq!([0.5 / 32_768.0, 0.4 / 32_768.0].map(|s| to_pcm(s, 15)), [1, 0]);
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut sink = WavSink::create(&path, 48_000, 2, WavFormat::Pcm16, false).unwrap();
        sink.write(&[[0.1; 50], [0.2; 50]]).unwrap();
        drop(sink);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn nothing_is_overwritten_unless_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let create = |overwrite| WavSink::create(&path, 48_000, 1, WavFormat::Pcm16, overwrite);
        create(false).unwrap().finish().unwrap();
        assert!(matches!(create(false).err(), Some(AudioError::Exists { .. })));
        let mut sink = create(true).unwrap();
        sink.write(&[[0.5; 10]]).unwrap();
        sink.finish().unwrap();
        assert_eq!(open(&path).unwrap().info().frames, Some(10));
        // Taken while it was written.
        std::fs::remove_file(&path).unwrap();
        let sink = create(false).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(sink.finish().err(), Some(AudioError::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        assert_eq!(names(folder.path()), ["out.wav"]);
    }

    #[test]
    fn a_missing_folder_and_bad_blocks_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("out.wav");
        let error = WavSink::create(&path, 48_000, 1, WavFormat::Pcm16, false).err().unwrap();
        assert!(matches!(error, AudioError::Write { .. }), "{error}");
        assert!(error.to_string().contains("out.wav"), "{error}");
        let error =
            WavSink::create(folder.path(), 48_000, 1, WavFormat::Pcm16, true).err().unwrap();
        assert!(matches!(error, AudioError::Write { .. }), "{error}");
        #[cfg(unix)]
        {
            let device = WavSink::create("/dev/null".as_ref(), 48_000, 1, WavFormat::Pcm16, true);
            let error = device.err().unwrap().to_string();
            assert!(error.contains("/dev/null") && error.contains("not a file"), "{error}");
        }
        let path = folder.path().join("out.wav");
        let mut sink = WavSink::create(&path, 48_000, 2, WavFormat::Pcm16, false).unwrap();
        let error = sink.write(&[vec![0.0; 2], vec![0.0; 3]]).unwrap_err();
        assert!(matches!(error, AudioError::Block { .. }), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_file_as_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        WavSink::create(&path, 48_000, 1, WavFormat::Pcm16, false).unwrap().finish().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }

    proptest! {
        /// What is written is read back, by our reader and by hound's, which agree to the bit.
        #[test]
        fn files_are_read_back(
            channels in 1usize..=8,
            samples in prop::collection::vec(-1.2f32..1.2, 0..300),
            format in prop_oneof![
                Just(WavFormat::Pcm16), Just(WavFormat::Pcm24), Just(WavFormat::Float32)
            ],
            block in 1usize..80,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out.wav");
            let frames = samples.len() / channels;
            let planar: Vec<Vec<f32>> = (0..channels)
                .map(|c| (0..frames).map(|f| samples[f * channels + c]).collect())
                .collect();
            let mut sink =
                WavSink::create(&path, 22_050, channels as u16, format, false).unwrap();
            sink.write(&planar).unwrap();
            sink.finish().unwrap();

            let mut source = open(&path).unwrap();
            prop_assert_eq!(source.info().frames, Some(frames as u64));
            let mut read = vec![Vec::new(); channels];
            let mut part = Vec::new();
            while source.read(&mut part, block).unwrap() > 0 {
                prop_assert!(part[0].len() <= block);
                read.iter_mut().zip(&part).for_each(|(all, part)| all.extend_from_slice(part));
            }
            prop_assert!(source.warnings().is_empty());
            for (read, written) in read.iter().flatten().zip(planar.iter().flatten()) {
                let (tolerance, limit) = match format {
                    WavFormat::Pcm16 => (0.51 / 32_768.0, 1.0),
                    WavFormat::Pcm24 => (0.51 / 8_388_608.0 + 1e-7, 1.0),
                    WavFormat::Float32 => (0.0, 2.0),
                };
                let clipped = written.clamp(-limit, limit);
                // Full scale itself is one step out of reach.
                let tolerance = if clipped >= 0.9999 { 1.0 / 32_768.0 } else { tolerance };
                prop_assert!((read - clipped).abs() <= tolerance, "{} {}", read, written);
            }

            let mut hound = hound::WavReader::open(&path).unwrap();
            let expected: Vec<f32> = match hound.spec().sample_format {
                SampleFormat::Float => hound.samples::<f32>().map(|s| s.unwrap()).collect(),
                SampleFormat::Int => {
                    let scale = (1i64 << (hound.spec().bits_per_sample - 1)) as f32;
                    hound.samples::<i32>().map(|s| s.unwrap() as f32 / scale).collect()
                }
            };
            let file = std::fs::read(&path).unwrap();
            let mut ours = WavSource::new(file.as_slice(), "bytes".into(), None).unwrap();
            let ours = read_all(&mut ours, 1000).unwrap();
            let interleaved: Vec<f32> =
                (0..frames).flat_map(|f| ours.iter().map(move |c| c[f])).collect();
            prop_assert_eq!(interleaved, expected);
        }
    }
}
