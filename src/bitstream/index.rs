//! The index and trailer that end a `.tsr` file: where each chunk begins, how many samples there are.

use super::chunk::{CHUNK_OVERHEAD, MAX_CHUNKS, MAX_PAYLOAD};
use super::varint;

/// The first two bytes of an index.
pub(super) const SYNC: [u8; 2] = [0xF5, 0x3A];
/// The last four bytes of a file.
pub(super) const END_MARK: [u8; 4] = *b"TSRE";
/// Bytes of the trailer: sample count, chunk count, length of index and trailer, CRC-32, end mark.
pub(super) const TRAILER_BYTES: usize = 24;
/// The longest index and trailer a reader takes in; without one it scans for the chunks.
pub(super) const MAX_INDEX_BYTES: usize = 1 << 20;

/// Chunks of the same size that follow one another; those of size 0 are not in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Number of the first of them.
    first: u32,
    /// Bytes of each.
    size: u32,
    /// Where the first begins in the file.
    offset: u64,
}

/// Where the chunks of a file begin.
///
/// Kept as runs of equal sizes: a bit-packed file of any length has two of them at most. Coded chunks are
/// mostly runs of their own: a day of them takes less than a megabyte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    runs: Vec<Run>,
    chunks: u32,
    /// Where the next chunk begins.
    end: u64,
}

impl Index {
    /// The index of a file whose first chunk begins at `start`.
    pub fn new(start: u64) -> Self {
        Self { runs: Vec::new(), chunks: 0, end: start }
    }

    /// Chunks there are.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Adds `count` chunks of `size` bytes; of 0 bytes when they are lost.
    pub fn push(&mut self, size: u32, count: u32) {
        if self.runs.last().is_none_or(|run| run.size != size) {
            self.runs.push(Run { first: self.chunks, size, offset: self.end });
        }
        self.chunks += count;
        self.end += u64::from(size) * u64::from(count);
    }

    /// Where chunk `number` begins; `None` when there is no such chunk.
    pub fn offset(&self, number: u32) -> Option<u64> {
        if number >= self.chunks {
            return None;
        }
        let run = self.runs[..self.runs.partition_point(|run| run.first <= number)].last()?;
        Some(run.offset + u64::from(number - run.first) * u64::from(run.size))
    }

    /// Whether chunks `first` to `number`, that one not included, are marked as lost.
    pub fn marks_lost(&self, first: u32, number: u32) -> bool {
        first < number && self.stored_from(first).unwrap_or(self.chunks) >= number
    }

    /// The first chunk from `number` on that is not marked as lost.
    pub fn stored_from(&self, number: u32) -> Option<u32> {
        let from = self.runs.partition_point(|run| run.first <= number).saturating_sub(1);
        let run = self.runs[from..].iter().find(|run| run.size > 0)?;
        Some(run.first.max(number)).filter(|&stored| stored < self.chunks)
    }

    /// The bytes of index and trailer. `header_crc` ties them to their file's header.
    pub fn to_bytes(&self, samples: u64, header_crc: [u8; 4]) -> Vec<u8> {
        let mut bytes = SYNC.to_vec();
        for (i, run) in self.runs.iter().enumerate() {
            let count = self.runs.get(i + 1).map_or(self.chunks, |next| next.first) - run.first;
            varint::write(&mut bytes, run.size << 1 | u32::from(count > 1));
            if count > 1 {
                varint::write(&mut bytes, count);
            }
        }
        let length = (bytes.len() + TRAILER_BYTES) as u32;
        bytes.extend(samples.to_be_bytes());
        bytes.extend(self.chunks.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(crc(&bytes, header_crc));
        bytes.extend(END_MARK);
        bytes
    }

    /// Reads index and trailer from `bytes`, exactly those of one, of a file whose first chunk begins
    /// at `start`; also gives the sample count. `None` when anything about them is wrong.
    pub fn parse(bytes: &[u8], start: u64, header_crc: [u8; 4]) -> Option<(Self, u64)> {
        let (mut entries, trailer) = bytes.split_last_chunk::<TRAILER_BYTES>()?;
        let (covered, end) = bytes.split_last_chunk::<8>()?;
        let [c0, c1, c2, c3, end_mark @ ..] = *end;
        if end_mark != END_MARK || crc(covered, header_crc) != [c0, c1, c2, c3] {
            return None;
        }
        let (samples, rest) = trailer.split_first_chunk()?;
        let chunks = u32::from_be_bytes(*rest.first_chunk()?);
        if length(trailer) != bytes.len() || chunks > MAX_CHUNKS {
            return None;
        }
        entries = entries.strip_prefix(&SYNC)?;
        let mut index = Self::new(start);
        while !entries.is_empty() {
            let entry = varint::read(&mut entries)?;
            let count = if entry & 1 == 1 { varint::read(&mut entries)? } else { 1 };
            let size = entry >> 1;
            let size_fits = size == 0
                || (CHUNK_OVERHEAD..=CHUNK_OVERHEAD + MAX_PAYLOAD).contains(&(size as usize));
            if !size_fits || !(1..=chunks - index.chunks).contains(&count) {
                return None;
            }
            index.push(size, count);
        }
        (index.chunks == chunks).then_some((index, u64::from_be_bytes(*samples)))
    }
}

/// Bytes of index and trailer, as the trailer says.
pub(super) fn length(trailer: &[u8; TRAILER_BYTES]) -> usize {
    u32::from_be_bytes([trailer[12], trailer[13], trailer[14], trailer[15]]) as usize
}

/// The CRC-32 over the header's CRC-32 and `bytes`. Taking the header in keeps the trailer of one
/// file from being believed at the end of another that it was appended to.
fn crc(bytes: &[u8], header_crc: [u8; 4]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header_crc);
    hasher.update(bytes);
    hasher.finalize().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CRC: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn bytes_as_documented() {
        let mut index = Index::new(80);
        (0..3600).for_each(|_| index.push(356, 1));
        index.push(26, 1);
        let bytes = index.to_bytes(5, CRC);
        assert_eq!(bytes.len(), 31);
        assert_eq!(bytes[..2], SYNC);
        assert_eq!(bytes[2..7], [0xC9, 0x05, 0x90, 0x1C, 52]); // 3600 times 356, then 26
        assert_eq!(bytes[7..15], 5u64.to_be_bytes());
        assert_eq!(bytes[15..19], 3601u32.to_be_bytes());
        assert_eq!(bytes[19..23], 31u32.to_be_bytes());
        assert_eq!(bytes[27..], *b"TSRE");
        assert_eq!(Index::parse(&bytes, 80, CRC), Some((index.clone(), 5)));
        assert_eq!(Index::parse(&bytes, 80, [0; 4]), None, "another file's trailer");
        assert_eq!(index.offset(0), Some(80));
        assert_eq!(index.offset(3600), Some(80 + 3600 * 356));
        assert_eq!(index.offset(3601), None);
    }

    #[test]
    fn entries_that_cannot_be_are_refused() {
        // With a CRC that holds: what remains is that no entry is believed.
        let refused = |entries: &[u8], chunks: u32| {
            let mut bytes = [&SYNC[..], entries].concat();
            let length = (bytes.len() + TRAILER_BYTES) as u32;
            bytes.extend(0u64.to_be_bytes());
            bytes.extend(chunks.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(crc(&bytes, CRC));
            bytes.extend(END_MARK);
            Index::parse(&bytes, 80, CRC).is_none()
        };
        assert!(!refused(&[], 0));
        assert!(!refused(&[26], 1));
        assert!(refused(&[], 1), "too few chunks");
        assert!(refused(&[26, 26], 1), "too many chunks");
        assert!(refused(&[22], 1), "a chunk too small for its own head");
        assert!(refused(&[27, 0], 0), "none of them");
        assert!(refused(&[27, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F], 2), "2^32 - 1 of them");
        assert!(refused(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1], 1), "a chunk of gigabytes");
        assert!(refused(&[0x80], 1), "half a varint");
        assert!(refused(&[27, 0xFF, 0xFF, 0xFF, 0x0F], (1 << 25) - 1), "too many for any file");
    }

    #[test]
    fn lost_chunks_take_no_bytes() {
        let mut index = Index::new(80);
        for (size, count) in [(0, 2), (30, 3), (0, 1), (30, 1), (0, 4)] {
            index.push(size, count);
        }
        let bytes = index.to_bytes(5, CRC);
        assert_eq!(bytes[2..11], [1, 2, 61, 3, 0, 60, 1, 4, 0]);
        let (parsed, _) = Index::parse(&bytes, 80, CRC).unwrap();
        assert_eq!(parsed, index);
        assert_eq!([0, 2, 4, 5, 6].map(|n| index.offset(n).unwrap()), [80, 80, 140, 170, 170]);
        let stored: Vec<Option<u32>> = (0..11).map(|n| index.stored_from(n)).collect();
        assert_eq!(stored[..7], [2, 2, 2, 3, 4, 6, 6].map(Some));
        assert_eq!(stored[7..], [None; 4]);
        for (first, number, lost) in [
            (0, 2, true),
            (1, 2, true),
            (0, 3, false),
            (2, 3, false),
            (5, 6, true),
            (5, 7, false),
            (7, 11, true),
            (6, 11, false),
            (3, 3, false),
        ] {
            assert_eq!(index.marks_lost(first, number), lost, "{first} {number}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(sizes in proptest::collection::vec(12u32..20, 0..300), start in 68u64..128) {
            let mut index = Index::new(start);
            let mut offset = start;
            let mut offsets = Vec::new();
            for &size in &sizes {
                index.push(size, 1);
                offsets.push(offset);
                offset += u64::from(size);
            }
            let bytes = index.to_bytes(99, CRC);
            let (parsed, samples) = Index::parse(&bytes, start, CRC).unwrap();
            prop_assert_eq!(samples, 99);
            for (i, &offset) in offsets.iter().enumerate() {
                prop_assert_eq!(parsed.offset(i as u32), Some(offset));
            }
            prop_assert_eq!(parsed.offset(sizes.len() as u32), None);
            prop_assert_eq!(parsed, index);
        }
    }
}
