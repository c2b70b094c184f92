//! Headers that no file can have.

use tessera_codec::bitstream::{HeaderError, MAX_SAMPLES, ReadError};
use tessera_codec::tokens::LayoutError;

use super::at::{self, with_crc};
use super::{HEADER, SAMPLES, read, test_file};

#[test]
fn headers_that_cannot_be_read() {
    use HeaderError::*;
    let file = test_file(Some(SAMPLES));
    let cut = |len: usize| file[..len].to_vec();
    let set = |offset: usize, field: &[u8]| at::set(&file, HEADER, offset, field);
    let flip = |bit: usize| {
        let mut bytes = file.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    let absurd = |field, value, min, max| Absurd { field, value, min, max };
    let newer = |feature, value| UnsupportedFeature { feature, value };
    let short = {
        let mut bytes = set(at::LENGTH, &[0, 40]);
        bytes.truncate(40);
        with_crc(bytes, 40)
    };
    let fat = {
        // Four steps of 32 channels with 1 + 256 codes of 16 bits: more than a payload holds.
        let mut bytes = set(at::CHANNELS, &[0, 32]);
        bytes[at::STRIDE_0..at::STRIDE_0 + 8].copy_from_slice(&[1, 0, 255, 255, 0, 1, 255, 255]);
        with_crc(bytes, HEADER)
    };

    let table: Vec<(&str, Vec<u8>, HeaderError)> = vec![
        ("empty", cut(0), Truncated { have: 0, need: 68 }),
        ("3 bytes", cut(3), Truncated { have: 3, need: 68 }),
        ("magic only", cut(8), Truncated { have: 8, need: 68 }),
        ("half a header", cut(50), Truncated { have: 50, need: 72 }),
        ("all but a byte of it", cut(71), Truncated { have: 71, need: 72 }),
        ("wrong magic", b"RIFF\x24\0\0\0WAVEfmt ".to_vec(), NotTsr),
        ("3 other bytes", b"abc".to_vec(), NotTsr),
        (
            "line ends converted",
            file[..4].iter().chain(b"\n").chain(&file[6..]).copied().collect(),
            NotTsr,
        ),
        ("bit of the version", flip(at::VERSION * 8 + 8), Corrupted),
        ("bit of the length", flip(at::LENGTH * 8 + 9), Corrupted),
        ("bit of the model id", flip(12 * 8 + 3), Corrupted),
        ("bit of the channels", flip(at::CHANNELS * 8 + 15), Corrupted),
        ("bit of the CRC", flip(HEADER * 8 - 1), Corrupted),
        ("version 2", set(at::VERSION, &[0, 2]), UnsupportedVersion(2)),
        ("version 0", set(at::VERSION, &[0, 0]), UnsupportedVersion(0)),
        ("header of 40 bytes", short, absurd("header length", 40, 68, 68)),
        ("header length 0", set(at::LENGTH, &[0, 0]), Corrupted),
        ("header length 65535", set(at::LENGTH, &[255, 255]), Corrupted),
        (
            "source rate 0",
            set(at::SOURCE_RATE, &[0; 4]),
            absurd("source sample rate", 0, 1, 768_000),
        ),
        (
            "source rate 768001",
            set(at::SOURCE_RATE, &768_001u32.to_be_bytes()),
            absurd("source sample rate", 768_001, 1, 768_000),
        ),
        ("0 channels", set(at::CHANNELS, &[0, 0]), absurd("channel count", 0, 1, 32)),
        ("33 channels", set(at::CHANNELS, &[0, 33]), absurd("channel count", 33, 1, 32)),
        ("65535 channels", set(at::CHANNELS, &[255, 255]), absurd("channel count", 65_535, 1, 32)),
        (
            "2^60 samples",
            set(at::SAMPLES, &(1u64 << 60).to_be_bytes()),
            absurd("sample count", 1 << 60, 0, MAX_SAMPLES),
        ),
        (
            "more samples than chunks can hold",
            set(at::SAMPLES, &(1u64 << 37).to_be_bytes()),
            absurd("sample count", 1 << 37, 0, 16_777_215 * 4 * 960),
        ),
        ("codec rate 0", set(at::CODEC_RATE, &[0; 4]), absurd("codec sample rate", 0, 1, 768_000)),
        (
            "codec rate 2^32 - 1",
            set(at::CODEC_RATE, &[255; 4]),
            absurd("codec sample rate", u32::MAX.into(), 1, 768_000),
        ),
        ("hop 0", set(at::HOP, &[0; 4]), absurd("hop", 0, 1, 65_536)),
        ("hop 65537", set(at::HOP, &[0, 1, 0, 1]), absurd("hop", 65_537, 1, 65_536)),
        (
            "pre-skip 2^31",
            set(at::PRE_SKIP, &[128, 0, 0, 0]),
            absurd("pre-skip", 1 << 31, 0, 1 << 20),
        ),
        ("payload kind 2", set(at::PAYLOAD_KIND, &[2]), newer("payload kind", 2)),
        ("flags 128", set(at::FLAGS, &[128]), newer("flags", 128)),
        ("0 steps a chunk", set(at::STEPS_PER_CHUNK, &[0]), absurd("steps per chunk", 0, 1, 255)),
        ("chunks too large", fat, absurd("steps per chunk", 4, 1, 3)),
        ("0 levels", set(at::LEVELS, &[0]), Layout(LayoutError::LevelCount(0))),
        ("17 levels", set(at::LEVELS, &[17]), Layout(LayoutError::LevelCount(17))),
        ("3 levels in room for 2", set(at::LEVELS, &[3]), absurd("header length", 72, 76, 76)),
        (
            "stride 0",
            set(at::STRIDE_1, &[0, 0]),
            Layout(LayoutError::Stride { level: 1, stride: 0 }),
        ),
        (
            "stride 257",
            set(at::STRIDE_0, &[1, 1]),
            Layout(LayoutError::Stride { level: 0, stride: 257 }),
        ),
        (
            "strides 2 and 4",
            set(at::STRIDE_1, &[0, 4]),
            Layout(LayoutError::Stride { level: 1, stride: 4 }),
        ),
        (
            "a codebook of 1",
            set(at::CODEBOOK_1, &[0, 0]),
            Layout(LayoutError::CodebookSize { level: 1, size: 1 }),
        ),
    ];
    for (name, bytes, expected) in table {
        match read(&bytes) {
            Err(ReadError::Header(error)) => assert_eq!(error, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
