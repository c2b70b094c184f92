//! The combs of a chunk in bits: see `docs/format.md`.
//!
//! Prefix codes fitted to the training audio: of the combs that are there at the end of a step, 85 % are there at the
//! end of the next, half of them at the same pitch and two in three as strong.

use super::bits::{BitReader, BitWriter};
use super::lines::{read_next, write_next};
use crate::lines::{Comb, Lines};

/// A pitch's change by -7 to 7 in 15 symbols, a jump to any pitch, and the end of the comb.
const BENT: i32 = 7;
const JUMP: usize = 15;
const END: usize = 16;
/// Bits of a pitch.
const PITCH_BITS: u32 = 8;
/// Of what becomes of a pitch.
const PITCH: Prefix<17> = Prefix([8, 7, 6, 6, 5, 5, 4, 1, 4, 5, 6, 6, 7, 7, 8, 4, 3]);
/// Of what becomes of strengths: 0 when they stay, or `4 s + t`.
const STRENGTHS: Prefix<16> = Prefix([1, 8, 10, 10, 5, 5, 7, 9, 4, 5, 5, 6, 5, 4, 3, 4]);
/// Of the strengths of a comb that begins, which are not 0.
const FIRST_STRENGTHS: Prefix<16> = Prefix([0, 6, 6, 6, 6, 3, 4, 6, 3, 2, 4, 6, 4, 3, 4, 5]);
/// The most bits of a step's comb: a jump and other strengths, or an end and when the next begins.
pub(super) const STEP_BITS: usize = 22;

/// A prefix code by the lengths of its symbols' codes, 0 for a symbol that there cannot be. Shorter codes come first, and
/// those of a length in the order of the symbols (a canonical Huffman code).
struct Prefix<const N: usize>([u8; N]);

impl<const N: usize> Prefix<N> {
    fn write(&self, writer: &mut BitWriter, symbol: usize) {
        let mut code = 0u32;
        for length in 1..=self.0[symbol] {
            code <<= 1;
            let before = if length == self.0[symbol] { symbol } else { N };
            code += self.0[..before].iter().filter(|own| **own == length).count() as u32;
        }
        writer.write(code, self.0[symbol].into());
    }

    fn read(&self, reader: &mut BitReader) -> Option<usize> {
        let longest = self.0.iter().copied().max()?;
        let mut code = 0u32;
        for length in 1..=longest {
            code = code << 1 | reader.read(1)?;
            let mut own = self.0.iter().enumerate().filter(|(_, own)| **own == length);
            let count = self.0.iter().filter(|own| **own == length).count() as u32;
            if code < count {
                return own.nth(code as usize).map(|(symbol, _)| symbol);
            }
            code -= count;
        }
        None
    }
}

/// Writes the combs of a channel.
pub(super) fn write(writer: &mut BitWriter, lines: &[Lines]) {
    let next = |from: usize| {
        let rest = lines.get(from..).unwrap_or_default();
        rest.iter().position(|lines| lines.comb().is_some())
    };
    write_next(writer, next(0));
    let mut before: Option<Comb> = None;
    for (step, now) in lines.iter().map(Lines::comb).enumerate() {
        match (before, now) {
            (None, None) => {}
            (None, Some(now)) => {
                writer.write(now.pitch().into(), PITCH_BITS);
                FIRST_STRENGTHS.write(writer, joined(now));
            }
            (Some(_), None) => {
                PITCH.write(writer, END);
                write_next(writer, next(step + 1));
            }
            (Some(before), Some(now)) => {
                let bent = i32::from(now.pitch()) - i32::from(before.pitch());
                if bent.abs() <= BENT {
                    PITCH.write(writer, (bent + BENT) as usize);
                } else {
                    PITCH.write(writer, JUMP);
                    writer.write(now.pitch().into(), PITCH_BITS);
                }
                let same = now.strengths() == before.strengths();
                STRENGTHS.write(writer, if same { 0 } else { joined(now) });
            }
        }
        before = now;
    }
}

/// Reads the combs of a channel into its lines; `None` when no combs have these bits.
pub(super) fn read(reader: &mut BitReader, lines: &mut [Lines]) -> Option<()> {
    let mut next = read_next(reader, 0)?;
    let mut before: Option<Comb> = None;
    for (step, lines) in lines.iter_mut().enumerate() {
        let now = match before {
            None if next == Some(step) => {
                next = None;
                let pitch = reader.read(PITCH_BITS)?;
                Some(comb(pitch, FIRST_STRENGTHS.read(reader)?)?)
            }
            None => None,
            Some(before) => read_change(reader, before)?,
        };
        if before.is_some() && now.is_none() {
            next = read_next(reader, step + 1)?;
        }
        lines.set_comb(now);
        before = now;
    }
    // A comb that begins in a step that the chunk does not have.
    next.is_none().then_some(())
}

/// What `before` has become; the outer `None` when that cannot be.
fn read_change(reader: &mut BitReader, before: Comb) -> Option<Option<Comb>> {
    let pitch = match PITCH.read(reader)? {
        END => return Some(None),
        JUMP => {
            let pitch = reader.read(PITCH_BITS)?;
            if before.pitch().abs_diff(u8::try_from(pitch).ok()?) <= BENT as u8 {
                return None;
            }
            pitch
        }
        bent => u32::try_from(i32::from(before.pitch()) + bent as i32 - BENT).ok()?,
    };
    let strengths = match STRENGTHS.read(reader)? {
        0 => joined(before),
        new if new == joined(before) => return None,
        new => new,
    };
    comb(pitch, strengths).map(Some)
}

/// A comb by its pitch, below 256, and both its strengths.
fn comb(pitch: u32, joined: usize) -> Option<Comb> {
    Comb::from_code(u16::try_from(1 + 16 * pitch).ok()? + joined as u16)
}

/// Both strengths as a symbol.
fn joined(comb: Comb) -> usize {
    comb.joined().into()
}

#[cfg(test)]
mod tests {
    use super::super::bits::digits;
    use super::super::lines::NEXT_BITS;
    use super::*;
    use proptest::prelude::*;

    fn with_combs(combs: &[Option<Comb>]) -> Vec<Lines> {
        let with = |comb: &Option<Comb>| {
            let mut lines = Lines::NONE;
            lines.set_comb(*comb);
            lines
        };
        combs.iter().map(with).collect()
    }

    fn bits(lines: &[Lines]) -> Vec<u8> {
        let mut writer = BitWriter::new();
        write(&mut writer, lines);
        writer.into_bytes()
    }

    fn read_back(bytes: &[u8], steps: usize) -> Option<Vec<Lines>> {
        let mut lines = vec![Lines::NONE; steps];
        read(&mut BitReader::new(bytes), &mut lines).map(|()| lines)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(combs in proptest::collection::vec((0u8..3, 0u8..144, 0u8..20, 1u16..16), 0..255)) {
            let mut last = 0u8;
            let combs: Vec<_> = combs.into_iter().map(|(kind, any, near, strengths)| {
                last = if kind == 0 { any } else { (last + near).saturating_sub(10).min(143) };
                Comb::new(last, [(strengths / 4) as u8, (strengths % 4) as u8]).filter(|_| kind < 2)
            }).collect();
            let lines = with_combs(&combs);
            let bytes = bits(&lines);
            prop_assert!(bytes.len() * 8 <= NEXT_BITS + STEP_BITS * lines.len() + 7);
            prop_assert_eq!(read_back(&bytes, lines.len()), Some(lines));
        }

        #[test]
        fn any_bits_are_combs_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), steps in 0usize..255) {
            if let Some(lines) = read_back(&bytes, steps) {
                let again = bits(&lines);
                prop_assert_eq!(read_back(&again, steps), Some(lines));
            }
        }
    }

    #[test]
    fn codes_are_whole() {
        // The lengths of a prefix code that leaves nothing unused (Kraft's sum is one).
        let share = |length: &u8| if *length > 0 { 0.5f64.powi((*length).into()) } else { 0.0 };
        let sum = |lengths: &[u8]| lengths.iter().map(share).sum::<f64>();
        assert_eq!(sum(&PITCH.0), 1.0);
        assert_eq!(sum(&STRENGTHS.0), 1.0);
        assert_eq!(sum(&FIRST_STRENGTHS.0), 1.0);
    }

    #[test]
    fn bits_as_documented() {
        let comb = |pitch, strengths| Comb::new(pitch, strengths);
        let combs = [
            None,
            comb(50, [2, 1]),
            comb(50, [2, 1]),
            comb(49, [3, 2]),
            comb(90, [3, 2]),
            None,
            None,
        ];
        let lines = with_combs(&combs);
        // A comb begins in step 1: 1 11. Pitch 50, strengths 9: 00110010 00. The same: 0 0. One lower, 14: 1010 100.
        // Jump to 90: 1100 01011010, the same: 0. It ends, and there is no more: 100 0.
        let expected = "1 11 00110010 00 0 0 1010 100 1100 01011010 0 100 0";
        digits::check(&bits(&lines), expected);
        assert_eq!(read_back(&bits(&lines), combs.len()), Some(lines));
    }

    #[test]
    fn bits_that_no_combs_have() {
        let refused = |bits: &str, steps| {
            let mut writer = BitWriter::new();
            digits::write(&mut writer, bits);
            writer.write(0, 32);
            read_back(&writer.into_bytes(), steps).is_none()
        };
        assert!(!refused("1 10 00110010 00", 2));
        assert!(refused("1 11 00110010 00", 1), "begins in a step that there is not");
        assert!(refused("1 10 10010000 00", 2), "no such pitch");
        assert!(refused("1 10 00000000 00 1010", 2), "below the first");
        assert!(refused("1 10 00110010 00 1100 00110011", 2), "a jump that is none");
        assert!(refused("1 10 00110010 00 0 11100", 2), "other strengths that are the same");
        assert!(read_back(&[], 0).is_none());
    }
}
