//! A `.tsr` file, header, chunks, index and all.

use std::io::Cursor;

use super::escapes::Escapes;
use tessera_codec::bitstream::{Chunk, ContainerReader, DamageReason, Item, repair};

/// As the bytes are, and once more with every checksum put right, since a fuzzer does not guess them.
pub fn attack(bytes: &[u8]) {
    read(bytes);
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    if mended != bytes {
        read(&mended);
    }
}

/// Whatever the bytes are, there is an error, or items that keep the timeline and hold codes of their
/// codebooks; seeking and reading fewer levels give parts of the same.
fn read(bytes: &[u8]) {
    let Ok(mut reader) = ContainerReader::open(Cursor::new(bytes)) else { return };
    let header = reader.header().clone();
    attach(&mut reader);
    let written = header.to_bytes().unwrap();
    assert_eq!(written, bytes[..written.len()], "a header can be written in one way only");
    let promised = reader.steps();
    let intact = reader.intact_steps().unwrap();
    let items: Vec<Item> = reader.by_ref().map(Result::unwrap).collect();
    assert!(items.len() <= 3 + bytes.len() / 6, "{} items", items.len());
    let mut due = 0;
    for item in &items {
        match item {
            Item::Chunk(chunk) => {
                assert_eq!(chunk.number, due);
                assert_eq!(chunk.channels.len(), usize::from(header.channels));
                for tokens in &chunk.channels {
                    assert_eq!(tokens.steps(&header.layout), Some(chunk.steps));
                    for (codes, &size) in tokens.levels.iter().zip(&header.layout.codebook_sizes) {
                        assert!(codes.iter().all(|&code| usize::from(code) < size));
                    }
                }
                due += 1;
            }
            Item::Damage(damage) => {
                assert_eq!(damage.first, due);
                assert!(damage.offset <= bytes.len() as u64);
                assert!(!damage.to_string().is_empty());
                due += damage.chunks;
            }
        }
    }
    if let Some(samples) = reader.samples() {
        assert_eq!(promised, Some(header.steps(samples)));
        assert_eq!(steps(&items), header.steps(samples));
        assert_eq!(reader.chunks(), Some(due));
    }
    assert_eq!(reader.next_item().unwrap(), None, "the end is the end");
    assert_eq!(reader.intact_steps().unwrap(), intact);
    let given: u64 = chunks(&items).map(|chunk| chunk.steps as u64).sum();
    assert!(intact == given || intact > given && items.iter().any(bad), "{intact}, not {given}");

    let summary = reader.summary().unwrap();
    assert_eq!(summary.intact_chunks + summary.damaged_chunks, u64::from(due));
    assert!(summary.seconds.is_finite() && summary.kbps.is_finite());
    repair_it(bytes, &items);
    if numbers_rise(bytes) {
        seek(&mut reader, &items, due);
    }
    fewer_levels(&mut reader, &items);
}

/// Gives the reader of a file that names a prior a coder of that name.
fn attach(reader: &mut ContainerReader<Cursor<&[u8]>>) {
    let header = reader.header();
    let Some(id) = header.prior_id else { return };
    let coder = Escapes { id, layout: header.layout.clone() };
    assert!(!reader.can_decode() && reader.next_item().is_err());
    reader.set_coder(Some(Box::new(coder))).unwrap();
}

fn chunks(items: &[Item]) -> impl Iterator<Item = &Chunk> {
    items.iter().filter_map(|item| match item {
        Item::Chunk(chunk) => Some(chunk),
        Item::Damage(_) => None,
    })
}

/// A repaired file has an index, the same chunks, the same steps, and nothing wrong but gaps that are
/// marked; repairing it again changes nothing.
fn repair_it(bytes: &[u8], items: &[Item]) {
    let Ok((mended, done)) = repair(Cursor::new(bytes), Vec::new()) else { return };
    let mut reader = ContainerReader::open(Cursor::new(&mended[..])).unwrap();
    assert!(reader.has_index());
    attach(&mut reader);
    let after: Vec<Item> = reader.by_ref().map(Result::unwrap).collect();
    assert!(chunks(&after).eq(chunks(items)));
    assert_eq!(steps(&after), steps(items));
    // Without the prior a chunk whose checksum holds is kept, whatever its payload.
    let unchecked = after.iter().filter(|item| bad(item)).count();
    assert!(unchecked == 0 || reader.header().prior_id.is_some());
    assert_eq!(done.kept_chunks as usize, chunks(items).count() + unchecked);
    for item in after.iter().filter(|item| !bad(item)) {
        let Item::Damage(damage) = item else { continue };
        assert_eq!(damage.reason, DamageReason::Marked);
    }
    let (again, _) = repair(Cursor::new(&mended), Vec::new()).unwrap();
    assert!(again == mended);
}

/// Whether it is a chunk whose checksum holds, but not its payload.
fn bad(item: &Item) -> bool {
    matches!(item, Item::Damage(damage) if matches!(
        damage.reason, DamageReason::Coding | DamageReason::Code { .. }))
}

fn steps(items: &[Item]) -> u64 {
    let steps = |item: &Item| match item {
        Item::Chunk(chunk) => chunk.steps as u64,
        Item::Damage(damage) => damage.steps,
    };
    items.iter().map(steps).sum()
}

/// Whether the numbers of all that looks like chunks rise. Otherwise seeking may find what reading
/// passes over as repeated or out of order.
fn numbers_rise(bytes: &[u8]) -> bool {
    let heads = bytes.windows(5).filter(|head| head.starts_with(&[0xF5, 0xC3]));
    let numbers: Vec<&[u8]> = heads.map(|head| &head[2..]).collect();
    numbers.windows(2).all(|pair| pair[0] < pair[1])
}

/// Reading from the first, a middle and the last chunk gives what reading up to there gives.
fn seek(reader: &mut ContainerReader<Cursor<&[u8]>>, items: &[Item], chunk_count: u32) {
    for number in [0, chunk_count / 2, chunk_count.saturating_sub(1), chunk_count] {
        if reader.seek_chunk(number).is_err() {
            assert!(number >= chunk_count, "chunk {number} of {chunk_count} is there");
            continue;
        }
        let after: Vec<Item> = reader.by_ref().map(Result::unwrap).collect();
        let expected = chunks(items).filter(|chunk| chunk.number >= number);
        assert!(chunks(&after).eq(expected), "from chunk {number}");
    }
}

/// The first levels alone are the first levels. (A chunk may be refused for a code of a finer level
/// that nobody looks at then.)
fn fewer_levels(reader: &mut ContainerReader<Cursor<&[u8]>>, items: &[Item]) {
    reader.rewind();
    reader.limit_levels(1).unwrap();
    let coarse: Vec<Item> = reader.by_ref().map(Result::unwrap).collect();
    for chunk in chunks(items) {
        let other = chunks(&coarse).find(|other| other.number == chunk.number).unwrap();
        for (tokens, all) in other.channels.iter().zip(&chunk.channels) {
            assert_eq!(tokens.levels, all.levels[..1]);
        }
    }
}

/// Puts every checksum right: the header's, that of whatever looks like a chunk, the trailer's.
/// Written from docs/format.md, not with the reader's own code.
pub fn mend(bytes: &mut [u8]) {
    let Some(length) = bytes.get(10..12).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]])))
    else {
        return;
    };
    if length < 16 || bytes.len() < length {
        return;
    }
    put_crc(bytes, 0, length - 4);
    let mut at = length;
    while at + 12 <= bytes.len() {
        let end = at + 8 + usize::from(u16::from_be_bytes([bytes[at + 6], bytes[at + 7]]));
        if bytes[at..at + 2] == [0xF5, 0xC3] && end + 4 <= bytes.len() {
            put_crc(bytes, at + 2, end);
            at = end + 4;
        } else {
            at += 1;
        }
    }
    let Some(end) =
        bytes.windows(4).rposition(|mark| mark == b"TSRE").filter(|&e| e >= length + 20)
    else {
        return;
    };
    let field = [bytes[end - 8], bytes[end - 7], bytes[end - 6], bytes[end - 5]];
    let start = (end + 4).checked_sub(u32::from_be_bytes(field) as usize);
    if let Some(start) = start.filter(|&start| (length..end - 4).contains(&start)) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[length - 4..length]);
        hasher.update(&bytes[start..end - 4]);
        bytes[end - 4..end].copy_from_slice(&hasher.finalize().to_be_bytes());
    }
}

fn put_crc(bytes: &mut [u8], from: usize, to: usize) {
    let crc = crc32fast::hash(&bytes[from..to]).to_be_bytes();
    bytes[to..to + 4].copy_from_slice(&crc);
}
