//! Damage of every kind, and the worst a reader can be given.

use std::io::Cursor;

use tessera_codec::bitstream::{
    CHUNK_OVERHEAD, ContainerReader, DamageReason, Header, Item, MAX_SAMPLES,
};
use tessera_codec::tokens::TokenLayout;

use super::{
    CHUNK, CHUNKS, END, HEADER, INDEX, LAST, SAMPLES, TRAILER, chunks, damages, read, test_file,
    test_header, tokens, write,
};

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

/// Counting what is there disturbs nobody who is reading.
#[test]
fn intact_steps_are_counted_from_anywhere() {
    let mut bytes = test_file(Some(SAMPLES));
    bytes[HEADER + 2 * CHUNK + 20] ^= 1;
    let whole = read(&bytes).unwrap();
    let intact: usize = chunks(&whole).iter().map(|chunk| chunk.steps).sum();
    let mut reader = ContainerReader::open(Cursor::new(&bytes[..])).unwrap();
    for item in &whole {
        assert_eq!(reader.intact_steps().unwrap(), intact as u64);
        assert_eq!(reader.next_item().unwrap().as_ref(), Some(item));
    }
    assert_eq!(reader.intact_steps().unwrap(), intact as u64);
    assert_eq!(reader.next_item().unwrap(), None);
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
