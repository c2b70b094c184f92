//! Bits in bytes, the most significant bit first.

/// Packs values of 0 to 32 bits one after another, most significant bit first.
///
/// ```
/// use tessera_codec::bitstream::bits::{BitReader, BitWriter};
///
/// let mut writer = BitWriter::new();
/// writer.write(0b101, 3);
/// writer.write(0x3FF, 10);
/// let bytes = writer.into_bytes();
/// assert_eq!(bytes, [0b1011_1111, 0b1111_1000]); // zeros fill the last byte
///
/// let mut reader = BitReader::new(&bytes);
/// assert_eq!(reader.read(3), Some(0b101));
/// assert_eq!(reader.read(10), Some(0x3FF));
/// assert_eq!(reader.read(4), None); // three bits are left
/// ```
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// The bits that do not fill a byte yet, right-aligned.
    pending: u64,
    /// How many they are, 0..=7 between calls.
    pending_bits: u32,
}

impl BitWriter {
    /// A writer without bits.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer that appends to `bytes`, starting at a byte boundary.
    pub fn append_to(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Writes the lowest `bits` bits of `value`; higher bits of it are ignored, and no more than 32
    /// are written.
    pub fn write(&mut self, value: u32, bits: u32) {
        let bits = bits.min(32);
        let mask = (1u64 << bits) - 1;
        self.pending = (self.pending << bits) | (u64::from(value) & mask);
        self.pending_bits += bits;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.bytes.push((self.pending >> self.pending_bits) as u8);
        }
        self.pending &= (1 << self.pending_bits) - 1;
    }

    /// Bits so far, those of the bytes that it appends to included.
    pub fn bits(&self) -> usize {
        self.bytes.len() * 8 + self.pending_bits as usize
    }

    /// Writes all bits of another one.
    pub fn append(&mut self, other: &Self) {
        other.bytes.iter().for_each(|byte| self.write((*byte).into(), 8));
        self.write(other.pending as u32, other.pending_bits);
    }

    /// The bytes, the last one filled with zeros.
    pub fn into_bytes(mut self) -> Vec<u8> {
        if self.pending_bits > 0 {
            self.bytes.push((self.pending << (8 - self.pending_bits)) as u8);
        }
        self.bytes
    }
}

/// Reads back what a [`BitWriter`] wrote.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    position: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bits not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }

    /// The next `bits` bits, 0 to 32, right-aligned; `None`, and nothing consumed, when fewer are
    /// left or more than 32 are asked for.
    pub fn read(&mut self, bits: u32) -> Option<u32> {
        if bits > 32 || self.remaining() < bits as usize {
            return None;
        }
        let mut value = 0u64;
        let mut missing = bits;
        while missing > 0 {
            let used = (self.position % 8) as u32;
            let taken = missing.min(8 - used);
            let byte = u64::from(self.bytes[self.position / 8]);
            value = (value << taken) | ((byte >> (8 - used - taken)) & ((1 << taken) - 1));
            self.position += taken as usize;
            missing -= taken;
        }
        Some(value as u32)
    }

    /// Passes over `bits` bits, or all that are left when they are fewer.
    pub fn skip(&mut self, bits: usize) {
        self.position += bits.min(self.remaining());
    }
}

/// Bits as digits, for tests of what is documented; spaces and zeros at the end count for nothing.
#[cfg(test)]
pub mod digits {
    use super::BitWriter;

    /// Writes them.
    pub fn write(writer: &mut BitWriter, digits: &str) {
        digits.bytes().filter(|b| *b != b' ').for_each(|b| writer.write((b - b'0').into(), 1));
    }

    /// Whether bytes are these bits.
    #[track_caller]
    pub fn check(bytes: &[u8], expected: &str) {
        let written: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        assert_eq!(written.trim_end_matches('0'), expected.replace(' ', "").trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_bit_is_the_highest() {
        let mut writer = BitWriter::append_to(vec![0xAA]);
        writer.write(1, 1);
        assert_eq!(writer.into_bytes(), [0xAA, 0x80]);
    }

    #[test]
    fn extremes() {
        let mut writer = BitWriter::new();
        writer.write(u32::MAX, 0);
        writer.write(u32::MAX, 7);
        writer.write(0x8000_0001, 32);
        writer.write(u32::MAX, 99);
        let bytes = writer.into_bytes();
        assert_eq!(bytes.len(), 9);
        let mut reader = BitReader::new(&bytes);
        assert_eq!(reader.read(0), Some(0));
        assert_eq!(reader.read(7), Some(127));
        assert_eq!(reader.read(32), Some(0x8000_0001));
        assert_eq!(reader.read(33), None);
        assert_eq!(reader.read(32), Some(u32::MAX));
        assert_eq!(reader.remaining(), 1);
        reader.skip(2);
        assert_eq!((reader.remaining(), reader.read(1)), (0, None));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec((any::<u32>(), 0u32..=32), 0..200)) {
            let mut writer = BitWriter::new();
            for &(value, bits) in &values {
                writer.write(value, bits);
            }
            let bytes = writer.into_bytes();
            let total: usize = values.iter().map(|v| v.1 as usize).sum();
            prop_assert_eq!(bytes.len(), total.div_ceil(8));
            let mut reader = BitReader::new(&bytes);
            let mut skipping = BitReader::new(&bytes);
            for &(value, bits) in &values {
                let mask = ((1u64 << bits) - 1) as u32;
                prop_assert_eq!(reader.read(bits), Some(value & mask));
                skipping.skip(bits as usize);
                prop_assert_eq!(skipping.remaining(), reader.remaining());
            }
            prop_assert!(reader.remaining() < 8);
            prop_assert_eq!(reader.read(reader.remaining() as u32), Some(0));
        }
    }
}
