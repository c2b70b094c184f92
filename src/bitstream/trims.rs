//! The trims of a chunk in bits: see `docs/format.md`.
//!
//! What a trim becomes in the next step is a few decisions, whose likelihood depends on what it is and on what has become of that of
//! the band below, as counted in training audio: of trims that are 0, 99 of 100 stay it.

use super::arithmetic::{Decoder, Encoder};
use super::bits::{BitReader, BitWriter};
use crate::lines::{Lines, MOST_TRIMMED, TRIM_BANDS, Trims};

/// Bits of a trim that is told by itself.
const TRIM_BITS: u32 = 4;
/// The most bits of a step's trims, and those that say how all are told.
pub(super) const STEP_BITS: usize = TRIM_BANDS * TRIM_BITS as usize;
pub(crate) const KIND_BITS: usize = 2;

/// In how many of 256 cases a trim stays as it is: by its size, up to 3, or 4 for one of a chunk's first step, before which all are 0; and
/// by how much the one below has changed, in the trim's own direction, from -2 to 2. Where the trim is 0, the direction is that of
/// the one below.
const STAYS: [[u8; 5]; 5] = [
    [128, 128, 253, 215, 197],
    [161, 175, 248, 224, 181],
    [64, 136, 223, 167, 182],
    [42, 92, 211, 167, 114],
    [128, 128, 203, 139, 123],
];
/// And goes against its direction if it does not.
const AGAINST: [[u8; 5]; 5] = [
    [128, 128, 34, 44, 56],
    [233, 245, 216, 184, 133],
    [252, 255, 242, 206, 244],
    [255, 223, 231, 252, 222],
    [128, 128, 21, 29, 48],
];
/// And by one more than so many, up to 3, along and against its direction.
const FURTHER: [[u8; 3]; 2] = [[86, 33, 77], [145, 29, 84]];

/// What a trim is told after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    /// Whether the step is the first of its chunk.
    pub first: bool,
    /// The band's trim in the step before; 0 in the first.
    pub trim: i8,
    /// By how much the trim of the band below has changed.
    pub below: i8,
}

impl Before {
    /// Goes through the decisions that lead to `trim`: `decide` hears of each what it is and in how many of 256 cases it is `true`, and says
    /// what it is. Gives the trim that it came to.
    pub(crate) fn tell(self, trim: i8, mut decide: impl FnMut(bool, u8) -> bool) -> i8 {
        let direction = if (self.trim, self.below) < (0, 0) { -1 } else { 1 };
        let (size, below) = (self.trim * direction, (self.below * direction).clamp(-2, 2));
        let kind = if self.first { 4 } else { size.min(3) as usize };
        let column = (below + 2) as usize;
        let far = (trim - self.trim) * direction;
        if decide(far == 0, STAYS[kind][column]) {
            return self.trim;
        }
        // There is always room against it: the size is 0 or more.
        let against = size == MOST_TRIMMED || decide(far < 0, AGAINST[kind][column]);
        let room = if against { MOST_TRIMMED + size } else { MOST_TRIMMED - size };
        let mut steps = 1;
        while steps < room {
            let share = FURTHER[usize::from(against)][(steps as usize - 1).min(2)];
            if !decide(far.abs() > steps, share) {
                break;
            }
            steps += 1;
        }
        self.trim + direction * if against { -steps } else { steps }
    }
}

/// Writes the trims of a channel.
pub(super) fn write(writer: &mut BitWriter, lines: &[Lines]) {
    if lines.iter().all(|lines| lines.trims() == Trims::NONE) {
        return writer.write(0, 1);
    }
    let mut told = BitWriter::new();
    let mut encoder = Encoder::new(&mut told);
    each(lines.iter().map(|lines| lines.trims().bands()), |before, trim| {
        before.tell(trim, |yes, share| {
            encoder.write(yes, share);
            yes
        })
    });
    encoder.finish();
    // No trims that anybody would choose take as much.
    if told.bits() > STEP_BITS * lines.len() {
        writer.write(0b10, KIND_BITS as u32);
        for trim in lines.iter().flat_map(|lines| lines.trims().bands()) {
            writer.write((trim + MOST_TRIMMED) as u32, TRIM_BITS);
        }
        return;
    }
    writer.write(0b11, KIND_BITS as u32);
    writer.append(&told);
}

/// Reads the trims of a channel into its lines; `None` when no trims have these bits.
pub(super) fn read(reader: &mut BitReader, lines: &mut [Lines]) -> Option<()> {
    if reader.read(1)? == 0 {
        return Some(());
    }
    if reader.read(1)? == 0 {
        for lines in lines {
            let mut bands = [0; TRIM_BANDS];
            for trim in &mut bands {
                *trim = reader.read(TRIM_BITS)? as i8 - MOST_TRIMMED;
            }
            lines.set_trims(Trims::new(bands)?);
        }
        return Some(());
    }
    let mut decoder = Decoder::new(reader);
    let all = each(lines.iter().map(|_| [0; TRIM_BANDS]), |before, _| {
        before.tell(0, |_, share| decoder.read(share))
    });
    decoder.finish()?;
    for (lines, bands) in lines.iter_mut().zip(all) {
        lines.set_trims(Trims::new(bands)?);
    }
    Some(())
}

/// Calls `tell` for each trim of each step, with what it comes after, and gives what that says they are.
fn each(
    steps: impl Iterator<Item = [i8; TRIM_BANDS]>,
    mut tell: impl FnMut(Before, i8) -> i8,
) -> Vec<[i8; TRIM_BANDS]> {
    let mut all: Vec<[i8; TRIM_BANDS]> = Vec::new();
    for mut bands in steps {
        let last = all.last().copied();
        let mut below = 0;
        for (band, trim) in bands.iter_mut().enumerate() {
            let was = last.map_or(0, |last| last[band]);
            *trim = tell(Before { first: last.is_none(), trim: was, below }, *trim);
            below = *trim - was;
        }
        all.push(bands);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::bits::digits;
    use super::*;
    use proptest::prelude::*;

    fn with_trims(steps: &[[i8; TRIM_BANDS]]) -> Vec<Lines> {
        let with = |bands: &[i8; TRIM_BANDS]| {
            let mut lines = Lines::NONE;
            lines.set_trims(Trims::new(*bands).unwrap());
            lines
        };
        steps.iter().map(with).collect()
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

    fn any_trims(most: i8) -> impl Strategy<Value = Vec<[i8; TRIM_BANDS]>> {
        proptest::collection::vec(proptest::array::uniform24(-most..=most), 0..255)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(wild in any_trims(MOST_TRIMMED), tame in any_trims(1)) {
            for trims in [wild, tame] {
                let lines = with_trims(&trims);
                let bytes = bits(&lines);
                prop_assert!(bytes.len() * 8 <= KIND_BITS + STEP_BITS * lines.len() + 7);
                prop_assert_eq!(read_back(&bytes, lines.len()), Some(lines));
            }
        }

        #[test]
        fn any_bits_are_trims_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), steps in 0usize..255) {
            if let Some(lines) = read_back(&bytes, steps) {
                prop_assert_eq!(read_back(&bits(&lines), steps), Some(lines));
            }
        }

        #[test]
        fn every_change_can_be_told(first: bool, was in -MOST_TRIMMED..=MOST_TRIMMED, below in -12i8..=12, trim in -MOST_TRIMMED..=MOST_TRIMMED) {
            let before = Before { first, trim: was, below };
            let mut told = Vec::new();
            prop_assert_eq!(before.tell(trim, |yes, _| { told.push(yes); yes }), trim);
            let mut heard = told.iter();
            prop_assert_eq!(before.tell(0, |_, _| *heard.next().unwrap()), trim);
            prop_assert!(heard.next().is_none());
        }
    }

    #[test]
    fn trims_that_stay_take_next_to_nothing() {
        assert_eq!(bits(&[Lines::NONE; 64]), [0]);
        let mut bands = [0; TRIM_BANDS];
        (bands[3], bands[4], bands[20]) = (2, 2, -1);
        let all = bits(&with_trims(&[bands; 64]));
        assert!(all.len() < 18, "{} bytes", all.len());
    }

    #[test]
    fn bits_as_documented() {
        let mut bands = [0; TRIM_BANDS];
        bands[0] = 1;
        digits::check(&bits(&with_trims(&[bands])), "11 1101111110111");
        // 13 values that have nothing to do with one another take four bits each.
        let wild = |step: usize| std::array::from_fn(|band| ((band * 5 + step * 7) % 13) as i8 - 6);
        let steps: Vec<_> = (0..3).map(wild).collect();
        let digits: String =
            steps.iter().flatten().map(|trim| format!("{:04b}", trim + MOST_TRIMMED)).collect();
        digits::check(&bits(&with_trims(&steps)), &format!("10{digits}"));
    }

    #[test]
    fn bits_that_no_trims_have() {
        let refused = |bits: &str, steps| {
            let mut writer = BitWriter::new();
            digits::write(&mut writer, bits);
            read_back(&writer.into_bytes(), steps).is_none()
        };
        assert!(!refused(&format!("10 {}", "0110".repeat(24)), 1));
        assert!(refused(&format!("10 1101 {}", "0110".repeat(23)), 1), "seven steps up");
        assert!(refused(&format!("10 {}", "0110".repeat(23)), 1), "cut");
        assert!(refused("11 00000000", 64), "cut");
        assert!(read_back(&[], 0).is_none());
    }
}
