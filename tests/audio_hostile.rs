//! Broken and odd audio files: each has exactly one outcome, and none is a panic or an allocation
//! by what a header claims.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use tessera_codec::audio::{
    self, AudioError, AudioSource, AudioWarning, SampleFormat, WavSource, read_all,
};

/// A WAV file to be spoilt.
#[derive(Clone)]
struct Wav {
    tag: u16,
    channels: u16,
    rate: u32,
    align: u16,
    bits: u16,
    /// What follows the 16 bytes of the format.
    extension: Vec<u8>,
    riff_size: Option<u32>,
    data_size: Option<u32>,
    before_data: Vec<u8>,
    data: Vec<u8>,
    after_data: Vec<u8>,
}

impl Wav {
    fn new(tag: u16, bits: u16, channels: u16, data: Vec<u8>) -> Self {
        Self {
            tag,
            channels,
            rate: 48_000,
            align: (bits / 8).wrapping_mul(channels),
            bits,
            extension: Vec::new(),
            riff_size: None,
            data_size: None,
            before_data: Vec::new(),
            data,
            after_data: Vec::new(),
        }
    }

    /// Eight frames of 16 bits on two channels.
    fn plain() -> Self {
        let samples = (0..16i16).flat_map(|n| (n * 1000).to_le_bytes());
        Self::new(1, 16, 2, samples.collect())
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = b"WAVEfmt ".to_vec();
        body.extend((16 + self.extension.len() as u32).to_le_bytes());
        body.extend(self.tag.to_le_bytes());
        body.extend(self.channels.to_le_bytes());
        body.extend(self.rate.to_le_bytes());
        body.extend(self.rate.wrapping_mul(u32::from(self.align)).to_le_bytes());
        body.extend(self.align.to_le_bytes());
        body.extend(self.bits.to_le_bytes());
        body.extend(&self.extension);
        body.extend(&self.before_data);
        body.extend(b"data");
        body.extend(self.data_size.unwrap_or(self.data.len() as u32).to_le_bytes());
        body.extend(&self.data);
        body.extend(&self.after_data);
        let mut file = b"RIFF".to_vec();
        file.extend(self.riff_size.unwrap_or(body.len() as u32).to_le_bytes());
        file.extend(body);
        file
    }
}

/// What follows the 16 bytes in the extended format.
fn extensible(valid_bits: u16, tag: u16) -> Vec<u8> {
    let mut extension = 22u16.to_le_bytes().to_vec();
    extension.extend(valid_bits.to_le_bytes());
    extension.extend(3u32.to_le_bytes());
    extension.extend(tag.to_le_bytes());
    extension.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]);
    extension
}

fn floats(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

/// What is expected of a file.
enum Expect {
    /// Channels by frames, warnings.
    Audio(usize, usize, Vec<AudioWarning>),
    /// The error's variant and a word of its message.
    Error(&'static str, &'static str),
}

fn variant(error: &AudioError) -> &'static str {
    match error {
        AudioError::Open { .. } => "Open",
        AudioError::NotAFile { .. } => "NotAFile",
        AudioError::Empty { .. } => "Empty",
        AudioError::NotAudio { .. } => "NotAudio",
        AudioError::Header { .. } => "Header",
        AudioError::Unsupported { .. } => "Unsupported",
        AudioError::SampleRate { .. } => "SampleRate",
        AudioError::Channels { .. } => "Channels",
        AudioError::Read { .. } => "Read",
        AudioError::Decode { .. } => "Decode",
        AudioError::Exists { .. } => "Exists",
        AudioError::Write { .. } => "Write",
        AudioError::TooLong { .. } => "TooLong",
        AudioError::Block { .. } => "Block",
    }
}

fn check(name: &str, path: &Path, expect: Expect) {
    let outcome = audio::open(path).and_then(|mut source| {
        let whole = read_all(source.as_mut(), 1 << 20)?;
        assert_eq!(source.info().channels as usize, whole.len(), "{name}");
        let frames = whole.first().map_or(0, Vec::len);
        assert_eq!(source.info().frames.unwrap_or(frames as u64), frames as u64, "{name}");
        Ok((whole.len(), frames, source.warnings()))
    });
    match (outcome, expect) {
        (Ok(audio), Expect::Audio(channels, frames, warnings)) => {
            assert_eq!(audio, (channels, frames, warnings), "{name}");
        }
        (Err(error), Expect::Error(kind, word)) => {
            let message = error.to_string();
            assert_eq!(variant(&error), kind, "{name}: {message}");
            assert!(message.contains(word), "{name}: {message}");
            assert!(message.contains(&path.display().to_string()), "{name}: {message}");
        }
        (Ok(audio), Expect::Error(..)) => panic!("{name}: read as {audio:?}"),
        (Err(error), Expect::Audio(..)) => panic!("{name}: {error}"),
    }
}

#[test]
fn every_odd_file_has_its_outcome() {
    use AudioWarning::{NonFinite, Truncated};
    use Expect::{Audio, Error};

    let wav = Wav::plain;
    let list = |size: u32, bytes: &[u8]| [b"LIST".as_slice(), &size.to_le_bytes(), bytes].concat();
    let cases: Vec<(&str, Vec<u8>, Expect)> = vec![
        ("plain", wav().bytes(), Audio(2, 8, vec![])),
        ("empty file", vec![], Error("Empty", "0 bytes")),
        ("one byte", b"R".to_vec(), Error("NotAudio", "format")),
        ("RIFF alone", b"RIFF".to_vec(), Error("Header", "ends inside the RIFF header")),
        ("cut in the format", wav().bytes()[..30].to_vec(), Error("Header", "'fmt ' chunk")),
        ("cut before the data", wav().bytes()[..36].to_vec(), Error("Header", "no 'data' chunk")),
        ("cut data", wav().bytes()[..44 + 18].to_vec(), Audio(2, 4, vec![Truncated])),
        ("no data left", wav().bytes()[..44].to_vec(), Audio(2, 0, vec![Truncated])),
        (
            "text",
            b"This is a text file, whatever its name says.\n".to_vec(),
            Error("NotAudio", "not an audio file"),
        ),
        ("zeros", vec![0; 5000], Error("NotAudio", "not an audio file")),
        (
            "RIFF, but an AVI",
            [b"RIFF\x24\0\0\0AVI LIST".as_slice(), &[0; 40]].concat(),
            Error("NotAudio", "not a WAV"),
        ),
        ("RIFX", [b"RIFX".as_slice(), &wav().bytes()[4..]].concat(), Error("Unsupported", "RIFX")),
        ("RF64", [b"RF64".as_slice(), &wav().bytes()[4..]].concat(), Error("Unsupported", "RF64")),
        ("BW64", [b"BW64".as_slice(), &wav().bytes()[4..]].concat(), Error("Unsupported", "BW64")),
        ("no channels", wav().with(|w| w.channels = 0).bytes(), Error("Channels", "0 channels")),
        ("32 channels", Wav::new(1, 16, 32, vec![1; 128]).bytes(), Audio(32, 2, vec![])),
        ("33 channels", Wav::new(1, 16, 33, vec![1; 66]).bytes(), Error("Channels", "33 channels")),
        ("65535 channels", wav().with(|w| w.channels = 65_535).bytes(), Error("Channels", "65535")),
        ("rate 0", wav().with(|w| w.rate = 0).bytes(), Error("SampleRate", "0 Hz")),
        ("rate 1", wav().with(|w| w.rate = 1).bytes(), Audio(2, 8, vec![])),
        ("rate 768 kHz", wav().with(|w| w.rate = 768_000).bytes(), Audio(2, 8, vec![])),
        (
            "rate 768 kHz + 1",
            wav().with(|w| w.rate = 768_001).bytes(),
            Error("SampleRate", "768001"),
        ),
        (
            "rate absurd",
            wav().with(|w| w.rate = u32::MAX).bytes(),
            Error("SampleRate", "4294967295"),
        ),
        ("bits 0", wav().with(|w| w.bits = 0).bytes(), Error("Unsupported", "0-bit")),
        ("bits 7", wav().with(|w| w.bits = 7).bytes(), Error("Unsupported", "7-bit")),
        (
            "integers of 64 bits",
            Wav::new(1, 64, 1, vec![0; 64]).bytes(),
            Error("Unsupported", "64-bit"),
        ),
        (
            "floats of 16 bits",
            Wav::new(3, 16, 1, vec![0; 64]).bytes(),
            Error("Unsupported", "16-bit float"),
        ),
        ("floats of 64 bits", Wav::new(3, 64, 1, vec![0; 64]).bytes(), Audio(1, 8, vec![])),
        ("unknown format", wav().with(|w| w.tag = 0x1234).bytes(), Error("Unsupported", "0x1234")),
        (
            "block size 0",
            wav().with(|w| w.align = 0).bytes(),
            Error("Header", "do not take 0 bytes"),
        ),
        ("odd block size", wav().with(|w| w.align = 5).bytes(), Error("Header", "does not divide")),
        (
            "wrong block size",
            wav().with(|w| w.align = 12).bytes(),
            Error("Header", "do not take 12"),
        ),
        (
            "data size absurd",
            wav().with(|w| w.data_size = Some(0xFFFF_FFF0)).bytes(),
            Audio(2, 8, vec![Truncated]),
        ),
        (
            "data size unknown",
            wav().with(|w| w.data_size = Some(u32::MAX)).bytes(),
            Audio(2, 8, vec![]),
        ),
        (
            "a pipe's sizes",
            wav().with(|w| (w.riff_size, w.data_size) = (Some(u32::MAX), Some(u32::MAX))).bytes(),
            Audio(2, 8, vec![]),
        ),
        (
            "sizes never filled in",
            wav().with(|w| (w.riff_size, w.data_size) = (Some(0), Some(0))).bytes(),
            Audio(2, 8, vec![]),
        ),
        ("no samples", wav().with(|w| w.data.clear()).bytes(), Audio(2, 0, vec![])),
        (
            "no samples, but a chunk behind",
            wav().with(|w| (w.data, w.after_data) = (vec![], list(4, b"abcd"))).bytes(),
            Audio(2, 0, vec![]),
        ),
        (
            "half a frame too much",
            wav().with(|w| w.data.extend([1, 2])).bytes(),
            Audio(2, 8, vec![Truncated]),
        ),
        (
            "a chunk behind",
            wav().with(|w| w.after_data = list(4, b"abcd")).bytes(),
            Audio(2, 8, vec![]),
        ),
        (
            "a padded chunk before",
            wav().with(|w| w.before_data = list(3, b"abc\0")).bytes(),
            Audio(2, 8, vec![]),
        ),
        (
            "a chunk that claims 4 GiB",
            wav().with(|w| w.before_data = list(u32::MAX, b"abcd")).bytes(),
            Error("Header", "a chunk before the audio"),
        ),
        (
            "data before the format",
            [b"RIFF\x30\0\0\0WAVEdata\x04\0\0\0".as_slice(), &[0; 40]].concat(),
            Error("Header", "no 'fmt ' chunk"),
        ),
        (
            "a short format",
            [b"RIFF\x30\0\0\0WAVEfmt \x0e\0\0\0".as_slice(), &[1; 40]].concat(),
            Error("Header", "has 14 bytes"),
        ),
        (
            "a format of 4 GiB",
            [b"RIFF\x30\0\0\0WAVEfmt \xff\xff\xff\xff".as_slice(), &[1; 40]].concat(),
            Error("Header", "has 4294967295 bytes"),
        ),
        (
            "NaN and infinity",
            Wav::new(3, 32, 1, floats(&[0.5, f32::NAN, f32::INFINITY, -f32::INFINITY, 2.0]))
                .bytes(),
            Audio(1, 5, vec![NonFinite(3)]),
        ),
        (
            "8 bits",
            Wav::new(1, 8, 1, vec![0, 128, 255]).with(|w| w.after_data = vec![0]).bytes(),
            Audio(1, 3, vec![]),
        ),
        (
            "24 bits",
            Wav::new(1, 24, 1, vec![0, 0, 0x80, 0xff, 0xff, 0x7f]).bytes(),
            Audio(1, 2, vec![]),
        ),
        (
            "extended",
            wav().with(|w| (w.tag, w.extension) = (0xFFFE, extensible(16, 1))).bytes(),
            Audio(2, 8, vec![]),
        ),
        (
            "extended, 20 of 24 bits",
            Wav::new(0xFFFE, 24, 2, vec![9; 12]).with(|w| w.extension = extensible(20, 1)).bytes(),
            Audio(2, 2, vec![]),
        ),
        (
            "extended floats",
            Wav::new(0xFFFE, 32, 2, floats(&[0.5; 4]))
                .with(|w| w.extension = extensible(32, 3))
                .bytes(),
            Audio(2, 2, vec![]),
        ),
        (
            "extended of an unknown kind",
            wav().with(|w| (w.tag, w.extension) = (0xFFFE, extensible(16, 0x99))).bytes(),
            Error("Unsupported", "0x0099"),
        ),
        (
            "extended, but too short",
            wav().with(|w| (w.tag, w.extension) = (0xFFFE, vec![0, 0])).bytes(),
            Error("Header", "extended"),
        ),
        (
            "a format with an odd extension",
            wav().with(|w| w.extension = vec![0; 4]).bytes(),
            Audio(2, 8, vec![]),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, expect) in cases {
        let path = folder.path().join("file.wav");
        std::fs::write(&path, bytes).unwrap();
        check(name, &path, expect);
    }
    check("a folder", folder.path(), Error("NotAFile", "not a file"));
    check("nothing there", &folder.path().join("none.wav"), Error("Open", "cannot open"));
}

#[test]
fn values_are_scaled_to_full_scale() {
    let read = |wav: Wav| {
        let bytes = wav.bytes();
        let mut source = WavSource::new(bytes.as_slice(), "<stdin>".into(), None).unwrap();
        let format = source.info().format;
        (format, read_all(&mut source, 1000).unwrap())
    };
    let (format, samples) = read(Wav::new(1, 8, 1, vec![0, 128, 192]));
    assert_eq!((format, samples), (SampleFormat::Int(8), vec![vec![-1.0, 0.0, 0.5]]));
    let (_, samples) = read(Wav::new(1, 16, 2, vec![0, 0x80, 0, 0x40, 0, 0xc0, 1, 0]));
    assert_eq!(samples, [[-1.0, -0.5], [0.5, 1.0 / 32_768.0]]);
    let (_, samples) = read(Wav::new(1, 24, 1, vec![0, 0, 0x80, 0, 0, 0x40, 0xff, 0xff, 0xff]));
    assert_eq!(samples, [[-1.0, 0.5, -1.0 / 8_388_608.0]]);
    let in_four = |w: &mut Wav| w.align = 4;
    let (format, samples) = read(Wav::new(1, 24, 1, vec![0, 0, 0x40, 0]).with(in_four));
    assert_eq!((format, samples), (SampleFormat::Int(24), vec![vec![0.5]]));
    let (_, samples) = read(Wav::new(1, 32, 1, vec![0, 0, 0, 0x80, 0, 0, 0, 0x40]));
    assert_eq!(samples, [[-1.0, 0.5]]);
    let (_, samples) = read(Wav::new(3, 32, 1, floats(&[1.5, -0.25])));
    assert_eq!(samples, [[1.5, -0.25]]);
    let (format, samples) = read(Wav::new(3, 64, 1, 0.75f64.to_le_bytes().to_vec()));
    assert_eq!((format, samples), (SampleFormat::Float(64), vec![vec![0.75]]));
}

#[test]
fn any_bytes_give_a_result() {
    // Every byte of a header set to every extreme, and every length: errors and audio, no panics.
    let plain = Wav::plain().with(|w| (w.tag, w.extension) = (0xFFFE, extensible(16, 1))).bytes();
    for at in 0..plain.len() {
        for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
            let mut bytes = plain.clone();
            bytes[at] = value;
            if let Ok(mut source) = WavSource::new(bytes.as_slice(), "bytes".into(), None) {
                read_all(&mut source, 1000).unwrap();
            }
        }
        if let Ok(mut source) = WavSource::new(&plain[..at], "bytes".into(), None) {
            read_all(&mut source, 1000).unwrap();
        }
    }
}
