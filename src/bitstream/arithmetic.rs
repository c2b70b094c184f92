//! Arithmetic coding of decisions between two, in the middle of other bits (Witten, Neal and Cleary 1987).
//!
//! Decisions that nearly always fall the same way take a small part of a bit each. The coder is that of the paper with
//! registers of 16 bits; it ends with two bits of its own, and the reader knows then how many it has taken.

use super::bits::{BitReader, BitWriter};

const HALF: u32 = 0x8000;
const QUARTER: u32 = 0x4000;
const REGISTER_BITS: u32 = 16;

/// What is left of the numbers from 0 to 65535 after all decisions so far.
struct Interval {
    low: u32,
    high: u32,
}

/// What doubling an interval makes known: whether it is in the lower or the upper half of what there was, or in the middle.
enum Known {
    Bit(bool),
    Middle,
}

impl Interval {
    const ALL: Self = Self { low: 0, high: 0xFFFF };

    /// The last number of its part for `true`, which has `share` of 256 parts.
    fn last_of_true(&self, share: u8) -> u32 {
        // There are a quarter of all numbers in it at least, and of one part 64.
        self.low + (((self.high - self.low + 1) * u32::from(share.max(1))) >> 8) - 1
    }

    fn decide(&mut self, last_of_true: u32, yes: bool) {
        match yes {
            true => self.high = last_of_true,
            false => self.low = last_of_true + 1,
        }
    }

    /// Doubles it if it is small enough, `offset` being taken away from all numbers first.
    fn double(&mut self) -> Option<(Known, u32)> {
        let (known, offset) = match (self.low, self.high) {
            (_, ..HALF) => (Known::Bit(false), 0),
            (HALF.., _) => (Known::Bit(true), HALF),
            (QUARTER.., high) if high < HALF + QUARTER => (Known::Middle, QUARTER),
            _ => return None,
        };
        self.low = 2 * (self.low - offset);
        self.high = 2 * (self.high - offset) + 1;
        Some((known, offset))
    }
}

/// Writes decisions into bits.
pub struct Encoder<'a> {
    writer: &'a mut BitWriter,
    interval: Interval,
    /// Bits that are the opposite of the next one.
    pending: u32,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `writer`.
    pub fn new(writer: &'a mut BitWriter) -> Self {
        Self { writer, interval: Interval::ALL, pending: 0 }
    }

    /// Writes a decision that falls for `true` in `share` of 256 cases, 1 to 255.
    pub fn write(&mut self, yes: bool, share: u8) {
        self.interval.decide(self.interval.last_of_true(share), yes);
        while let Some((known, _)) = self.interval.double() {
            match known {
                Known::Bit(bit) => self.bit(bit),
                Known::Middle => self.pending += 1,
            }
        }
    }

    /// Writes what tells the decisions from all others, whatever bits follow.
    pub fn finish(mut self) {
        self.pending += 1;
        self.bit(self.interval.low >= QUARTER);
    }

    fn bit(&mut self, bit: bool) {
        self.writer.write(bit.into(), 1);
        for _ in 0..std::mem::take(&mut self.pending) {
            self.writer.write((!bit).into(), 1);
        }
    }
}

/// Reads them back.
pub struct Decoder<'a, 'b> {
    reader: &'a mut BitReader<'b>,
    /// The same, further on.
    ahead: BitReader<'b>,
    interval: Interval,
    number: u32,
    /// How often the interval was doubled.
    doubled: usize,
}

impl<'a, 'b> Decoder<'a, 'b> {
    /// A decoder of what `reader` comes to next.
    pub fn new(reader: &'a mut BitReader<'b>) -> Self {
        let mut ahead = reader.clone();
        let mut number = 0;
        for _ in 0..REGISTER_BITS {
            number = number << 1 | ahead.read(1).unwrap_or(0);
        }
        Self { reader, ahead, interval: Interval::ALL, number, doubled: 0 }
    }

    /// The next decision, which falls for `true` in `share` of 256 cases.
    pub fn read(&mut self, share: u8) -> bool {
        let last_of_true = self.interval.last_of_true(share);
        let yes = self.number <= last_of_true;
        self.interval.decide(last_of_true, yes);
        while let Some((_, offset)) = self.interval.double() {
            // Behind the end there is anything.
            self.number = 2 * (self.number - offset) + self.ahead.read(1).unwrap_or(0);
            self.doubled += 1;
        }
        yes
    }

    /// Leaves the reader behind the last bit of the decisions; `None` when they were cut.
    pub fn finish(self) -> Option<()> {
        let taken = self.doubled + 2;
        (taken <= self.reader.remaining()).then(|| self.reader.skip(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::super::bits::digits;
    use super::*;
    use proptest::prelude::*;

    fn coded(decisions: &[(bool, u8)], before: u32, behind: u32) -> Vec<u8> {
        let mut writer = BitWriter::new();
        writer.write(before, 5);
        let mut encoder = Encoder::new(&mut writer);
        decisions.iter().for_each(|(yes, share)| encoder.write(*yes, *share));
        encoder.finish();
        writer.write(behind, 7);
        writer.into_bytes()
    }

    proptest! {
        #[test]
        fn decisions_come_back_between_other_bits(
            decisions in proptest::collection::vec((any::<bool>(), 1u8..), 0..600),
            before in 0u32..32,
            behind in 0u32..128,
        ) {
            let bytes = coded(&decisions, before, behind);
            let mut reader = BitReader::new(&bytes);
            prop_assert_eq!(reader.read(5), Some(before));
            let mut decoder = Decoder::new(&mut reader);
            for (yes, share) in &decisions {
                prop_assert_eq!(decoder.read(*share), *yes);
            }
            prop_assert_eq!(decoder.finish(), Some(()));
            prop_assert_eq!(reader.read(7), Some(behind));
            prop_assert!(reader.remaining() < 8);
        }

        #[test]
        fn any_bits_are_decisions_or_cut(bytes in proptest::collection::vec(any::<u8>(), 0..40), shares in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = BitReader::new(&bytes);
            let mut decoder = Decoder::new(&mut reader);
            shares.iter().for_each(|share| { decoder.read(*share); });
            decoder.finish();
        }
    }

    #[test]
    fn what_is_likely_is_short() {
        // -log2(250 / 256) is 0.034.
        let likely = coded(&[(true, 250); 1000], 0, 0);
        assert!((5..8).contains(&likely.len()), "{} bytes", likely.len());
        // -log2(6 / 256) is 5.4.
        let unlikely = coded(&[(false, 250); 100], 0, 0);
        assert!((66..72).contains(&unlikely.len()), "{} bytes", unlikely.len());
    }

    #[test]
    fn bits_as_documented() {
        let mut writer = BitWriter::new();
        let mut encoder = Encoder::new(&mut writer);
        // 0 to 49151, then 0 to 24575 (a bit 0, and 0 to 49151 again), then 24576 to 49151 (the middle, of which it is
        // 16384 to 65535).
        for (yes, share) in [(true, 192), (true, 128), (false, 128)] {
            encoder.write(yes, share);
        }
        encoder.finish();
        digits::check(&writer.into_bytes(), "0 1 0 0");
    }

    #[test]
    fn decisions_that_are_cut_are_refused() {
        let bytes = coded(&[(false, 250); 100], 0, 0);
        let mut reader = BitReader::new(&bytes[..bytes.len() - 3]);
        reader.skip(5);
        let mut decoder = Decoder::new(&mut reader);
        (0..100).for_each(|_| {
            decoder.read(250);
        });
        assert_eq!(decoder.finish(), None);
    }
}
