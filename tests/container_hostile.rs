//! Broken `.tsr` files, one kind a row: what exactly is said about each, and that every chunk that is
//! intact is still given.

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use std::io::Cursor;
use tessera_codec::bitstream::{
    CHUNK_OVERHEAD, Chunk, ContainerReader, ContainerWriter, Damage, DamageReason, Header,
    HeaderError, Item, MAX_SAMPLES, ReadError,
};
use tessera_codec::tokens::{LayoutError, TokenLayout, Tokens};

#[path = "header_fields/mod.rs"]
mod at;

use at::with_crc;

/// Bytes of the header of the test file.
const HEADER: usize = 72;
/// Bytes of a full chunk of it: 4 steps, 2 channels, 5 + 2 * 3 bits.
const CHUNK: usize = CHUNK_OVERHEAD + 11;
/// Its chunks: nine full ones and one of 2 steps.
const CHUNKS: usize = 10;
const LAST: usize = CHUNK_OVERHEAD + 6;
/// Where its index begins, and its trailer.
const INDEX: usize = HEADER + 9 * CHUNK + LAST;
const TRAILER: usize = INDEX + 5;
const END: usize = TRAILER + 24;
const SAMPLES: u64 = 38 * 960;

fn test_header(samples: Option<u64>) -> Header {
    Header {
        model_id: [9; 16],
        source_rate: 48_000,
        channels: 2,
        samples,
        codec_rate: 48_000,
        hop: 480,
        pre_skip: 0,
        layout: TokenLayout { strides: vec![2, 1], codebook_sizes: vec![17, 8] },
        steps_per_chunk: 4,
        warm_up_steps: 3,
        prior_id: None,
    }
}

/// Tokens that differ from step to step, channel to channel and level to level.
fn tokens(header: &Header, steps: usize, seed: u64) -> Vec<Tokens> {
    let mut state = seed;
    let mut code = |size: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize % size) as u16
    };
    let layout = &header.layout;
    let level = |l: usize, code: &mut dyn FnMut(usize) -> u16| {
        (0..steps * layout.codes_per_step(l)).map(|_| code(layout.codebook_sizes[l])).collect()
    };
    (0..header.channels)
        .map(|_| Tokens { levels: (0..layout.levels()).map(|l| level(l, &mut code)).collect() })
        .collect()
}

fn write(header: &Header, samples: u64, tokens: &[Tokens]) -> Vec<u8> {
    let mut writer = ContainerWriter::new(Vec::new(), header.clone()).unwrap();
    writer.push_steps(tokens).unwrap();
    writer.finish(samples).unwrap()
}

/// The test file, 38 steps in ten chunks.
fn test_file(samples: Option<u64>) -> Vec<u8> {
    let header = test_header(samples);
    write(&header, SAMPLES, &tokens(&header, 38, 1))
}

fn read(bytes: &[u8]) -> Result<Vec<Item>, ReadError> {
    ContainerReader::open(Cursor::new(bytes))?.collect()
}

fn chunks(items: &[Item]) -> Vec<Chunk> {
    let chunk = |item: &Item| match item {
        Item::Chunk(chunk) => Some(chunk.clone()),
        Item::Damage(_) => None,
    };
    items.iter().filter_map(chunk).collect()
}

fn damages(items: &[Item]) -> Vec<Damage> {
    let damage = |item: &Item| match item {
        Item::Chunk(_) => None,
        Item::Damage(damage) => Some(damage.clone()),
    };
    items.iter().filter_map(damage).collect()
}

#[test]
fn the_test_file_is_laid_out_as_the_tests_assume() {
    let bytes = test_file(Some(SAMPLES));
    assert_eq!(bytes.len(), END);
    for n in 0..CHUNKS {
        assert_eq!(bytes[HEADER + n * CHUNK..][..5], [0xF5, 0xC3, 0, 0, n as u8]);
    }
    assert_eq!(bytes[INDEX..INDEX + 2], [0xF5, 0x3A]);
    let items = read(&bytes).unwrap();
    assert!(damages(&items).is_empty());
    assert_eq!(chunks(&items).len(), CHUNKS);
}

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

/// Damage as the tables give it: first chunk, chunks, offset, reason.
type Row = (usize, usize, usize, DamageReason);

/// Checks that `bytes` give exactly these damages and, of the test file's chunks, exactly those that
/// the damages do not name; and that the timeline is kept.
fn check(name: &str, bytes: &[u8], expected: &[Row]) {
    let items = read(bytes).unwrap();
    let rows: Vec<Row> = damages(&items)
        .iter()
        .map(|d| (d.first as usize, d.chunks as usize, d.offset as usize, d.reason))
        .collect();
    assert_eq!(rows, expected, "{name}");
    let lost = |n: &u32| expected.iter().any(|r| (r.0..r.0 + r.1).contains(&(*n as usize)));
    let mut intact = chunks(&read(&test_file(Some(SAMPLES))).unwrap());
    intact.retain(|chunk| !lost(&chunk.number));
    assert_eq!(chunks(&items), intact, "{name}");
    let steps = |item: &Item| match item {
        Item::Chunk(chunk) => chunk.steps as u64,
        Item::Damage(damage) => damage.steps,
    };
    assert_eq!(items.iter().map(steps).sum::<u64>(), 38, "{name}");
}

#[test]
fn damaged_files() {
    use DamageReason::*;
    let file = test_file(Some(SAMPLES));
    let chunk = |n: usize| HEADER + n * CHUNK;
    let cut = |len: usize| file[..len].to_vec();
    let flip = |byte: usize, mask: u8| {
        let mut bytes = file.clone();
        bytes[byte] ^= mask;
        bytes
    };
    // The parts of the file: header, chunks, index and trailer.
    let part = |n: usize| &file[chunk(n)..chunk(n) + if n == 9 { LAST } else { CHUNK }];
    let of = |order: &[usize]| {
        let mut bytes = cut(HEADER);
        order.iter().for_each(|&n| bytes.extend(part(n)));
        bytes.extend(&file[INDEX..]);
        bytes
    };
    let insert = |at: usize, garbage: &[u8]| [&file[..at], garbage, &file[at..]].concat();
    let erase = |from: usize, to: usize| {
        let mut bytes = file.clone();
        bytes[from..to].fill(0);
        bytes
    };
    let code_23 = {
        // The first code of level 0 takes the top five bits of the payload.
        let mut bytes = file.clone();
        bytes[chunk(2) + 8] |= 0b1011_1000;
        bytes[chunk(2) + 8] &= 0b1011_1111;
        let crc = crc32fast::hash(&bytes[chunk(2) + 2..chunk(3) - 4]).to_be_bytes();
        bytes[chunk(3) - 4..chunk(3)].copy_from_slice(&crc);
        bytes
    };

    let table: Vec<(&str, Vec<u8>, Vec<Row>)> = vec![
        ("intact", file.clone(), vec![]),
        ("sync word", flip(chunk(3), 1), vec![(3, 1, chunk(3), Sync)]),
        ("chunk number, still possible", flip(chunk(3) + 4, 1), vec![(3, 1, chunk(3), Checksum)]),
        ("chunk number, too high", flip(chunk(3) + 2, 1), vec![(3, 1, chunk(3), Head)]),
        ("steps of a chunk", flip(chunk(3) + 5, 1), vec![(3, 1, chunk(3), Head)]),
        ("length, high byte", flip(chunk(3) + 6, 128), vec![(3, 1, chunk(3), Head)]),
        ("length, low byte", flip(chunk(3) + 7, 1), vec![(3, 1, chunk(3), Head)]),
        ("payload", flip(chunk(3) + 9, 4), vec![(3, 1, chunk(3), Checksum)]),
        ("CRC", flip(chunk(4) - 1, 1), vec![(3, 1, chunk(3), Checksum)]),
        ("first chunk", flip(chunk(0) + 9, 4), vec![(0, 1, chunk(0), Checksum)]),
        ("last chunk", flip(chunk(9) + 9, 4), vec![(9, 1, chunk(9), Checksum)]),
        (
            "code beyond the codebook",
            code_23,
            vec![(2, 1, chunk(2), Code { channel: 0, level: 0, code: 23 })],
        ),
        ("index", flip(INDEX + 3, 1), vec![(10, 0, INDEX, Index)]),
        ("sync word of the index", flip(INDEX, 1), vec![(10, 0, INDEX, Index)]),
        ("trailer's sample count", flip(TRAILER + 7, 1), vec![(10, 0, INDEX, Index)]),
        ("trailer's length", flip(TRAILER + 12, 128), vec![(10, 0, INDEX, Index)]),
        ("trailer's CRC", flip(TRAILER + 17, 1), vec![(10, 0, INDEX, Index)]),
        ("end mark", flip(END - 1, 1), vec![(10, 0, INDEX, Index)]),
        (
            "duplicated",
            of(&[0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]),
            vec![(3, 0, chunk(3), OutOfOrder { number: 2 })],
        ),
        (
            "reordered",
            of(&[0, 2, 1, 3, 4, 5, 6, 7, 8, 9]),
            vec![(1, 1, chunk(1), Missing), (3, 0, chunk(2), OutOfOrder { number: 1 })],
        ),
        ("missing", of(&[0, 1, 2, 5, 6, 7, 8, 9]), vec![(3, 2, chunk(3), Missing)]),
        ("first missing", of(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), vec![(0, 1, HEADER, Missing)]),
        ("last missing", of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), vec![(9, 1, chunk(9), Missing)]),
        (
            "last twice",
            of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]),
            vec![(10, 0, INDEX, Garbage { bytes: LAST as u64 })],
        ),
        ("no chunks", of(&[]), vec![(0, 10, HEADER, Missing)]),
        ("garbage", insert(chunk(4), b"garbage"), vec![(4, 0, chunk(4), Garbage { bytes: 7 })]),
        (
            "half a chunk between",
            insert(chunk(4), &part(4)[..15]),
            vec![(4, 0, chunk(4), Garbage { bytes: 15 })],
        ),
        (
            "garbage before the index",
            insert(INDEX, &[0xF5; 9]),
            vec![(10, 0, INDEX, Garbage { bytes: 9 })],
        ),
        (
            "bytes after the end",
            insert(END, b"TAG and 100 more"),
            vec![(10, 0, END, TrailingBytes { bytes: 16 })],
        ),
        (
            "another file after the end",
            [&file[..], &test_file(None)].concat(),
            vec![(10, 0, END, TrailingBytes { bytes: END as u64 })],
        ),
        ("a block erased", erase(chunk(3) + 5, chunk(6) + 5), vec![(3, 4, chunk(3), Head)]),
        ("all chunks erased", erase(HEADER, INDEX), vec![(0, 10, HEADER, Sync)]),
        (
            "all but the header erased",
            erase(HEADER, END),
            vec![(0, 1, HEADER, Sync), (1, 9, END, Truncated)],
        ),
        ("cut after the header", cut(HEADER), vec![(0, 10, HEADER, Truncated)]),
        ("cut in a sync word", cut(chunk(5) + 1), vec![(5, 5, chunk(5), Truncated)]),
        ("cut in a head", cut(chunk(5) + 6), vec![(5, 5, chunk(5), Truncated)]),
        ("cut after a head", cut(chunk(5) + 8), vec![(5, 5, chunk(5), Truncated)]),
        ("cut in a payload", cut(chunk(5) + 12), vec![(5, 5, chunk(5), Truncated)]),
        ("cut in a CRC", cut(chunk(6) - 2), vec![(5, 5, chunk(5), Truncated)]),
        ("cut between chunks", cut(chunk(6)), vec![(6, 4, chunk(6), Truncated)]),
        ("cut before the index", cut(INDEX), vec![(10, 0, INDEX, Index)]),
        ("cut in the index", cut(INDEX + 3), vec![(10, 0, INDEX, Index)]),
        ("cut in the trailer", cut(END - 1), vec![(10, 0, INDEX, Index)]),
        (
            "damaged and cut",
            flip(chunk(4) + 9, 1)[..chunk(6) + 3].to_vec(),
            vec![(4, 1, chunk(4), Checksum), (6, 4, chunk(6), Truncated)],
        ),
    ];
    for (name, bytes, expected) in table {
        check(name, &bytes, &expected);
    }
}

/// A file whose length was not known when it was begun has it in the trailer; without that, it goes
/// on as far as there are chunks.
#[test]
fn damaged_files_of_unknown_length() {
    use DamageReason::*;
    let file = test_file(None);
    let chunk = |n: usize| HEADER + n * CHUNK;
    let flip = |byte: usize| {
        let mut bytes = file.clone();
        bytes[byte] ^= 1;
        bytes
    };
    let whole_chunks = {
        // 36 steps: no short chunk shows where the end is.
        let header = test_header(None);
        write(&header, 36 * 960, &tokens(&header, 36, 1))
    };
    let table: Vec<(&str, Vec<u8>, usize, Vec<Row>)> = vec![
        ("intact", file.clone(), 38, vec![]),
        ("last chunk", flip(chunk(9) + 9), 38, vec![(9, 1, chunk(9), Checksum)]),
        ("index", flip(INDEX + 3), 38, vec![(10, 0, INDEX, Index)]),
        (
            "last chunk and no trailer",
            flip(chunk(9) + 9)[..INDEX].to_vec(),
            38,
            vec![(9, 1, chunk(9), Checksum), (10, 0, INDEX, Index)],
        ),
        (
            "head of the last chunk and no trailer",
            flip(chunk(9) + 5)[..INDEX].to_vec(),
            36,
            vec![(9, 0, chunk(9), Head), (9, 0, INDEX, Truncated)],
        ),
        ("cut between chunks", file[..chunk(6)].to_vec(), 24, vec![(6, 0, chunk(6), Truncated)]),
        (
            "cut in a payload",
            file[..chunk(6) + 12].to_vec(),
            28,
            vec![(6, 1, chunk(6), Truncated), (7, 0, chunk(6) + 12, Truncated)],
        ),
        (
            "whole chunks, cut in the trailer",
            whole_chunks[..whole_chunks.len() - 1].to_vec(),
            36,
            vec![(9, 0, chunk(9), Index)],
        ),
    ];
    for (name, bytes, steps, expected) in table {
        let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
        let items: Vec<Item> = (&mut reader).map(|item| item.unwrap()).collect();
        let rows: Vec<Row> = damages(&items)
            .iter()
            .map(|d| (d.first as usize, d.chunks as usize, d.offset as usize, d.reason))
            .collect();
        assert_eq!(rows, expected, "{name}");
        let read_steps = |item: &Item| match item {
            Item::Chunk(chunk) => chunk.steps as u64,
            Item::Damage(damage) => damage.steps,
        };
        assert_eq!(items.iter().map(read_steps).sum::<u64>(), steps as u64, "{name}");
    }
}

/// A header may claim any length that passes for one; the reader takes neither time nor memory for it.
#[test]
fn days_of_audio_in_no_bytes() {
    let header = Header { hop: 65_536, ..test_header(Some(MAX_SAMPLES)) };
    let bytes = header.to_bytes().unwrap();
    let items = read(&bytes).unwrap();
    let [Item::Damage(damage)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(damage.chunks, header.chunks(MAX_SAMPLES));
    assert_eq!(damage.steps, header.steps(MAX_SAMPLES));
    assert_eq!(damage.reason, DamageReason::Truncated);
}

/// The worst for a reader: heads that are possible, one after another, each to be checksummed.
#[test]
fn a_sea_of_heads_is_passed() {
    let mut bytes = test_file(Some(SAMPLES));
    let head = bytes[HEADER + CHUNK..][..8].to_vec();
    bytes.splice(HEADER + CHUNK..HEADER + CHUNK, head.repeat(100_000));
    let items = read(&bytes).unwrap();
    assert_eq!(chunks(&items).len(), CHUNKS);
    let [damage] = &damages(&items)[..] else { panic!("one damage") };
    assert_eq!(damage.reason, DamageReason::Garbage { bytes: 800_000 });
}

/// With large chunks each head would cost 25 KB of checksum, all of them 100 GB: the reader gives up
/// on some, and finds its way again soon after.
#[test]
fn a_sea_of_heads_of_large_chunks_takes_no_hours() {
    let layout = TokenLayout { strides: vec![4; 16], codebook_sizes: vec![65_536; 16] };
    let steps = Header::steps_per_second(48_000, 480, &layout, 32);
    let samples = 6 * u64::from(steps) * 1920;
    let header =
        Header { layout, channels: 32, steps_per_chunk: steps, ..test_header(Some(samples)) };
    let mut bytes = write(&header, samples, &tokens(&header, 6 * usize::from(steps), 1));
    let first = header.to_bytes().unwrap().len();
    let size = CHUNK_OVERHEAD + 25_600;
    let sea = bytes[first + size..][..8].repeat(4_000_000);
    bytes.splice(first + size..first + size, sea);
    let numbers: Vec<u32> = chunks(&read(&bytes).unwrap()).iter().map(|c| c.number).collect();
    assert_eq!(numbers[0], 0);
    assert!(numbers.ends_with(&[3, 4, 5]), "{numbers:?}");
}

/// A sync word is found wherever the slices that are scanned happen to end.
#[test]
fn garbage_of_every_length_is_passed() {
    let file = test_file(Some(SAMPLES));
    for length in 4080..4110 {
        let at = HEADER + 2 * CHUNK;
        let bytes = [&file[..at], &vec![0; length], &file[at..]].concat();
        let reason = DamageReason::Garbage { bytes: length as u64 };
        check("garbage", &bytes, &[(2, 0, at, reason)]);
    }
}

/// A file of any layout, with its steps.
fn any_file() -> impl Strategy<Value = (Header, u64, Vec<Tokens>, Vec<u8>)> {
    let layout = (0u32..4, proptest::collection::vec((0u32..4, 2usize..=2000), 1..5)).prop_map(
        |(first, levels)| {
            let stride = |(i, level): (usize, &(u32, usize))| {
                1usize << if i == 0 { first } else { level.0.min(first) }
            };
            TokenLayout {
                strides: levels.iter().enumerate().map(stride).collect(),
                codebook_sizes: levels.iter().map(|level| level.1).collect(),
            }
        },
    );
    let rates = (prop_oneof![Just(48_000), 1000u32..768_000], 0u32..3000, 1u16..4);
    (layout, rates, 1u8..8, 0u64..40_000, any::<bool>(), any::<u64>()).prop_map(
        |(layout, (source_rate, pre_skip, channels), steps_per_chunk, samples, known, seed)| {
            let header = Header {
                layout,
                source_rate,
                pre_skip,
                channels,
                steps_per_chunk,
                samples: known.then_some(samples),
                codec_rate: 24_000,
                ..test_header(None)
            };
            let tokens = tokens(&header, header.steps(samples) as usize, seed);
            let bytes = write(&header, samples, &tokens);
            (header, samples, tokens, bytes)
        },
    )
}

/// What is done to a file.
#[derive(Debug, Clone)]
enum Harm {
    Flip(usize),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
}

fn any_harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => any::<usize>().prop_map(Harm::Flip),
        1 => any::<usize>().prop_map(Harm::Cut),
        1 => (any::<usize>(), proptest::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        1 => (any::<usize>(), 1usize..100).prop_map(|(at, count)| Harm::Remove(at, count)),
    ]
}

/// Does the harm to what follows the first `spared` bytes.
fn harm(bytes: &mut Vec<u8>, spared: usize, harm: &Harm) {
    let spot = |at: usize| spared + at % (bytes.len() - spared).max(1);
    match harm {
        Harm::Flip(bit) => {
            let at = spot(bit / 8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Harm::Cut(at) => bytes.truncate(spot(*at)),
        Harm::Insert(at, garbage) => {
            let at = spot(*at).min(bytes.len());
            bytes.splice(at..at, garbage.iter().copied());
        }
        Harm::Remove(at, count) => {
            let at = spot(*at).min(bytes.len());
            bytes.drain(at..bytes.len().min(at + count));
        }
    }
}

/// The bytes of each chunk of an intact file, and of its header.
fn split(header: &Header, bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let header_bytes = header.to_bytes().unwrap().len();
    let mut chunks = Vec::new();
    let mut rest = &bytes[header_bytes..];
    while rest.starts_with(&[0xF5, 0xC3]) {
        let size = CHUNK_OVERHEAD + usize::from(u16::from_be_bytes([rest[6], rest[7]]));
        chunks.push(rest[..size].to_vec());
        rest = &rest[size..];
    }
    (chunks, header_bytes)
}

/// The same cases on every run.
fn cases(cases: u32) -> ProptestConfig {
    let rng_seed = proptest::test_runner::RngSeed::Fixed(1);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn what_is_written_is_read((header, samples, tokens, bytes) in any_file(), levels in 1usize..5) {
        let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
        prop_assert_eq!(reader.header(), &header);
        prop_assert_eq!(reader.samples(), Some(samples));
        prop_assert!(reader.has_index());
        let mut read = vec![Tokens::new(header.layout.levels()); header.channels.into()];
        let mut numbers = 0;
        for item in &mut reader {
            let Item::Chunk(chunk) = item.unwrap() else { panic!("damage in an intact file") };
            prop_assert_eq!(chunk.number, numbers);
            prop_assert_eq!(chunk.channels[0].steps(&header.layout), Some(chunk.steps));
            read.iter_mut().zip(&chunk.channels).for_each(|(all, more)| all.extend(more));
            numbers += 1;
        }
        prop_assert_eq!(&read, &tokens);
        prop_assert_eq!(reader.chunks(), Some(numbers));

        // The first levels alone are the same first levels.
        let levels = levels.min(header.layout.levels());
        reader.limit_levels(levels).unwrap();
        reader.rewind();
        let mut coarse = vec![Tokens::new(levels); header.channels.into()];
        for item in &mut reader {
            let Item::Chunk(chunk) = item.unwrap() else { panic!("damage in an intact file") };
            coarse.iter_mut().zip(&chunk.channels).for_each(|(all, more)| all.extend(more));
        }
        for (coarse, tokens) in coarse.iter().zip(&tokens) {
            prop_assert_eq!(&coarse.levels[..], &tokens.levels[..levels]);
        }
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    /// Whatever happens to a file after its header: nothing panics, every chunk whose bytes are all
    /// there is given exactly, no other is, and the timeline is kept.
    #[test]
    fn intact_chunks_survive_any_harm(
        (header, samples, _, bytes) in any_file(),
        harms in proptest::collection::vec(any_harm(), 1..5),
        seek in any::<u32>(),
    ) {
        let original = chunks(&read(&bytes).unwrap());
        let (parts, header_bytes) = split(&header, &bytes);
        prop_assert_eq!(parts.len(), original.len());
        let mut bytes = bytes;
        harms.iter().for_each(|h| harm(&mut bytes, header_bytes, h));
        let survives = |part: &Vec<u8>| bytes.windows(part.len()).any(|window| window == part);
        let intact: Vec<Chunk> = original
            .into_iter()
            .zip(&parts)
            .filter_map(|(chunk, part)| survives(part).then_some(chunk))
            .collect();

        let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
        let items: Vec<Item> = (&mut reader).map(|item| item.unwrap()).collect();
        prop_assert_eq!(chunks(&items), intact);

        let mut due = 0;
        let mut steps = 0;
        for item in &items {
            match item {
                Item::Chunk(chunk) => {
                    prop_assert_eq!(chunk.number, due);
                    due += 1;
                    steps += chunk.steps as u64;
                }
                Item::Damage(damage) => {
                    prop_assert_eq!(damage.first, due);
                    prop_assert!(damage.offset <= bytes.len() as u64);
                    due += damage.chunks;
                    steps += damage.steps;
                }
            }
        }
        if reader.samples().is_some() {
            prop_assert_eq!(reader.samples(), Some(samples));
            prop_assert_eq!(steps, header.steps(samples));
            prop_assert_eq!(reader.chunks(), Some(due));
        }

        // Seeking there gives what reading up to there gives.
        if due > 0 {
            let number = seek % due;
            reader.seek_chunk(number).unwrap();
            let after: Vec<Item> = (&mut reader).map(|item| item.unwrap()).collect();
            let expected: Vec<Chunk> =
                chunks(&items).into_iter().filter(|chunk| chunk.number >= number).collect();
            prop_assert_eq!(chunks(&after), expected);
        }
        let summary = reader.summary().unwrap();
        prop_assert_eq!(summary.intact_chunks + summary.damaged_chunks, u64::from(due));
    }

    /// The header is not spared: an error or a file, never a panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        (header, _, _, bytes) in any_file(),
        harms in proptest::collection::vec(any_harm(), 1..5),
        fix in any::<bool>(),
    ) {
        let mut bytes = bytes;
        harms.iter().for_each(|h| harm(&mut bytes, 0, h));
        let header_bytes = header.to_bytes().unwrap().len();
        if fix && bytes.len() >= header_bytes {
            bytes = with_crc(bytes, header_bytes);
        }
        if let Ok(mut reader) = ContainerReader::open(Cursor::new(&bytes)) {
            // A prior's name in the header, where there was none: nobody has it.
            if !reader.can_decode() {
                prop_assert!(reader.next_item().is_err() && reader.next_item().unwrap().is_none());
                return Ok(());
            }
            let mut items = 0;
            for item in &mut reader {
                item.unwrap();
                items += 1;
            }
            prop_assert!(items <= bytes.len());
            reader.summary().unwrap();
        }
    }
}
