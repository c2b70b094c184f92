//! A chunk: about a second of tokens of every channel, found by its sync word and vouched for by its
//! CRC-32.

use super::header::Header;
use super::payload;
use crate::tokens::Tokens;

/// The first two bytes of a chunk.
pub(super) const SYNC: [u8; 2] = [0xF5, 0xC3];
/// Bytes of a chunk before its payload: sync word, number, steps and payload length.
pub(super) const HEAD_BYTES: usize = 8;
/// Bytes of a chunk beside its payload: its head and a CRC-32.
pub const CHUNK_OVERHEAD: usize = HEAD_BYTES + 4;
/// The most bytes a payload may have: its length is 16 bits.
pub const MAX_PAYLOAD: usize = 65_535;
/// The most chunks a file may have: their number is 24 bits.
pub const MAX_CHUNKS: u32 = (1 << 24) - 1;

/// The tokens of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its place in the file, from 0; its first step is `number * header.steps_per_chunk`.
    pub number: u32,
    /// Steps it holds, 1..=255; fewer than `header.steps_per_chunk` only in the last chunk.
    pub steps: usize,
    /// Tokens by channel.
    pub channels: Vec<Tokens>,
}

/// What precedes a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkHead {
    /// The chunk's number.
    pub number: u32,
    /// Its steps.
    pub steps: u8,
    /// Bytes of its payload.
    pub length: u16,
}

impl ChunkHead {
    /// Bytes of the whole chunk.
    pub fn chunk_bytes(self) -> usize {
        CHUNK_OVERHEAD + usize::from(self.length)
    }

    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let [_, n2, n1, n0] = self.number.to_be_bytes();
        let [l1, l0] = self.length.to_be_bytes();
        [SYNC[0], SYNC[1], n2, n1, n0, self.steps, l1, l0]
    }

    /// The head at the start of `bytes`; `None` when they are too few or no sync word begins them.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [s0, s1, n2, n1, n0, steps, l1, l0] = *bytes.first_chunk()?;
        (SYNC == [s0, s1]).then_some(Self {
            number: u32::from_be_bytes([0, n2, n1, n0]),
            steps,
            length: u16::from_be_bytes([l1, l0]),
        })
    }

    /// Whether a file with this header, of `total` steps if that is known, can have such a chunk.
    pub fn is_plausible(self, header: &Header, total: Option<u64>) -> bool {
        let full = u64::from(header.steps_per_chunk);
        let first = u64::from(self.number) * full;
        let steps = u64::from(self.steps);
        let steps_fit = match total {
            Some(total) => steps > 0 && steps == total.saturating_sub(first).min(full),
            None => (1..=full).contains(&steps) && self.number < MAX_CHUNKS,
        };
        steps_fit && header.payload_bytes(self.steps.into()).contains(&self.length.into())
    }
}

/// Whether the CRC-32 that ends `chunk`, all bytes of one, holds. It covers all that is between the
/// sync word and itself.
pub(super) fn crc_holds(chunk: &[u8]) -> bool {
    let Some((content, crc)) = chunk.split_last_chunk::<4>() else {
        return false;
    };
    content.get(SYNC.len()..).is_some_and(|c| crc32fast::hash(c).to_be_bytes() == *crc)
}

/// The bytes of a chunk whose tokens have been checked against the header; `coded` is what the coder made of
/// them, where the header names one.
pub(super) fn encode(header: &Header, chunk: &Chunk, coded: Option<Vec<u8>>) -> Vec<u8> {
    let (number, steps) = (chunk.number, chunk.steps as u8);
    let most = *header.payload_bytes(steps.into()).end();
    let mut bytes = Vec::with_capacity(CHUNK_OVERHEAD + most);
    bytes.extend([0; HEAD_BYTES]);
    let mut bytes = payload::encode(header, &chunk.channels, coded, bytes);
    let length = (bytes.len() - HEAD_BYTES) as u16;
    bytes[..HEAD_BYTES].copy_from_slice(&ChunkHead { number, steps, length }.to_bytes());
    bytes.extend(crc32fast::hash(&bytes[SYNC.len()..]).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::header::tests::header;
    use super::super::payload::BadPayload;
    use super::*;
    use crate::tokens::TokenLayout;

    fn small() -> Header {
        let layout = TokenLayout { strides: vec![2, 1], codebook_sizes: vec![16, 5] };
        Header { layout, samples: None, ..header() }
    }

    fn tokens(codes: [&[u16]; 2]) -> Tokens {
        Tokens::of_codes(codes.map(<[u16]>::to_vec).to_vec())
    }

    #[test]
    fn bytes_as_documented() {
        let header = small();
        let channels = vec![tokens([&[1, 2], &[1, 2, 3, 4]]), tokens([&[15, 0], &[4; 4]])];
        let chunk = Chunk { number: 0x010203, steps: 2, channels };
        let bytes = encode(&header, &chunk, None);
        assert_eq!(bytes[..8], [0xF5, 0xC3, 1, 2, 3, 2, 0, 5]);
        // 0001 0010 | 001 010 011 100 | 1111 0000 | 100 100 100 100 | 0000 0000
        let payload = [0b0001_0010, 0b0010_1001, 0b1100_1111, 0b0000_1001, 0b0010_0100];
        assert_eq!(bytes[8..13], payload);
        assert_eq!(bytes[13..], crc32fast::hash(&bytes[2..13]).to_be_bytes());
        assert!(crc_holds(&bytes));

        let head = ChunkHead::parse(&bytes).unwrap();
        assert_eq!(head, ChunkHead { number: 0x010203, steps: 2, length: 5 });
        assert_eq!(head.chunk_bytes(), bytes.len());
        assert!(head.is_plausible(&header, None));
        let decode = |levels| payload::decode(&header, levels, 2, &payload, None).unwrap();
        assert_eq!(decode(2), chunk.channels);
        assert_eq!(
            decode(1).iter().map(|t| &t.levels[0][..]).collect::<Vec<_>>(),
            [[1, 2], [15, 0]]
        );
    }

    #[test]
    fn codes_beyond_the_codebook_are_found() {
        let header = small();
        let channels = vec![tokens([&[1], &[0, 4]]), tokens([&[1], &[4, 6]])];
        let bytes = encode(&header, &Chunk { number: 0, steps: 1, channels }, None);
        let payload = &bytes[8..bytes.len() - 4];
        let bad = BadPayload::Code { channel: 1, level: 1, code: 6 };
        assert_eq!(payload::decode(&header, 2, 1, payload, None), Err(bad));
        let coarse = payload::decode(&header, 1, 1, payload, None);
        assert!(coarse.is_ok(), "level 1 is not looked at");
    }

    #[test]
    fn heads_that_cannot_be() {
        let header = small(); // 2 * 10 bits a step
        let head = |number, steps, length| ChunkHead { number, steps, length };
        assert!(head(0, 25, 63).is_plausible(&header, None));
        assert!(!head(0, 25, 62).is_plausible(&header, None));
        assert!(!head(0, 26, 65).is_plausible(&header, None));
        assert!(!head(0, 0, 0).is_plausible(&header, None));
        assert!(!head(MAX_CHUNKS, 25, 63).is_plausible(&header, None));
        assert!(head(3, 5, 13).is_plausible(&header, Some(80)));
        assert!(!head(3, 25, 63).is_plausible(&header, Some(80)), "the last chunk is shorter");
        assert!(!head(2, 5, 13).is_plausible(&header, Some(80)), "only the last is shorter");
        assert!(!head(4, 25, 63).is_plausible(&header, Some(80)));
        assert!(!head(4, 0, 0).is_plausible(&header, Some(80)));
        assert_eq!(ChunkHead::parse(&[0xF5, 0xC3, 0, 0]), None);
        assert!(!crc_holds(&[0; 5]) && !crc_holds(&[]));
    }
}
