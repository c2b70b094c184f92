//! The grains of a chunk in bits: see `docs/format.md`.

use super::bits::{BitReader, BitWriter};
use crate::lines::{GRAIN_BANDS, Grain, Lines};

/// Bits of a row, and of a band whose row is another one.
const ROW_BITS: u32 = 8;
/// The most bits of a step's grain.
pub(super) const STEP_BITS: usize = GRAIN_BANDS * (1 + ROW_BITS as usize);
/// Bits of which period there is: the fewest that grains take.
pub(super) const LEAST_BITS: usize = 2;
/// The most bits that say how often grains change.
pub(super) const PERIOD_BITS: usize = LEAST_BITS + PERIODS[PERIODS.len() - 1].ilog2() as usize;
/// Steps that a grain stays for at least.
const PERIODS: [usize; 3] = [1, 2, 4];

/// Writes the grains of a channel.
pub(super) fn write(writer: &mut BitWriter, lines: &[Lines]) {
    let rows = |step: usize| lines[step].grain().rows();
    let changes = || (1..lines.len()).filter(|step| rows(*step) != rows(step - 1));
    let first = changes().next();
    if first.is_none() && lines.iter().all(|lines| lines.grain() == Grain::NONE) {
        writer.write(0, LEAST_BITS as u32);
        return;
    }
    let first = first.unwrap_or(0);
    // All grains change in every step: that is the first of the periods.
    let fits = |period: &usize| changes().all(|step| (step - first).is_multiple_of(*period));
    let choice = PERIODS.iter().rposition(fits).unwrap_or(0);
    let period = PERIODS[choice];
    writer.write(choice as u32 + 1, LEAST_BITS as u32);
    writer.write((first % period) as u32, period.ilog2());
    let mut before = Grain::NONE.rows();
    for step in (0..lines.len()).filter(|step| *step == 0 || step % period == first % period) {
        for (was, is) in before.iter_mut().zip(rows(step)) {
            writer.write((*was != is).into(), 1);
            if *was != is {
                writer.write(is.into(), ROW_BITS);
            }
            *was = is;
        }
    }
}

/// Reads the grains of a channel into its lines; `None` when no grains have these bits.
pub(super) fn read(reader: &mut BitReader, lines: &mut [Lines]) -> Option<()> {
    let Some(choice) = (reader.read(LEAST_BITS as u32)? as usize).checked_sub(1) else {
        return Some(());
    };
    let period = PERIODS[choice];
    let phase = reader.read(period.ilog2())? as usize;
    let mut rows = Grain::NONE.rows();
    for (step, lines) in lines.iter_mut().enumerate() {
        if step == 0 || step % period == phase {
            for row in &mut rows {
                if reader.read(1)? == 1 {
                    let new = reader.read(ROW_BITS)? as u8;
                    // What is as before is not told again.
                    (new != *row).then_some(())?;
                    *row = new;
                }
            }
        }
        lines.set_grain(Grain::new(rows));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::bits::digits;
    use super::*;
    use proptest::prelude::*;

    fn with_grains(rows: &[[u8; GRAIN_BANDS]]) -> Vec<Lines> {
        let with = |rows: &[u8; GRAIN_BANDS]| {
            let mut lines = Lines::NONE;
            lines.set_grain(Grain::new(*rows));
            lines
        };
        rows.iter().map(with).collect()
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
        fn what_is_written_is_read(
            every in 1usize..6,
            phase in 0usize..6,
            drawn in proptest::collection::vec(any::<([u8; GRAIN_BANDS], [bool; GRAIN_BANDS])>(), 0..255),
        ) {
            let mut rows = [0; GRAIN_BANDS];
            let all: Vec<_> = drawn.into_iter().enumerate().map(|(step, (new, changes))| {
                for band in (0..GRAIN_BANDS).filter(|_| step % every == phase % every) {
                    rows[band] = if changes[band] { new[band] } else { rows[band] };
                }
                rows
            }).collect();
            let lines = with_grains(&all);
            let bytes = bits(&lines);
            prop_assert!(bytes.len() * 8 <= PERIOD_BITS + STEP_BITS * lines.len() + 7);
            prop_assert_eq!(read_back(&bytes, lines.len()), Some(lines));
        }

        #[test]
        fn any_bits_are_grains_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), steps in 0usize..255) {
            if let Some(lines) = read_back(&bytes, steps) {
                let again = bits(&lines);
                prop_assert_eq!(read_back(&again, steps), Some(lines));
            }
        }
    }

    #[test]
    fn bits_as_documented() {
        let (a, b) = ([0, 255, 0, 3], [7, 255, 0, 3]);
        let lines = with_grains(&[a, a, a, b, b, b, b]);
        // Every four steps, from step 3 on; at first rows 0, 255, 0 and 3; then another one in the first band.
        let expected = "11 11 0 1 11111111 0 1 00000011 1 00000111 0 0 0";
        digits::check(&bits(&lines), expected);
        assert_eq!(read_back(&bits(&lines), 7), Some(lines));
        assert_eq!(bits(&with_grains(&[[0; 4]; 64])), [0]);
    }

    #[test]
    fn grains_that_stay_are_told_once() {
        let rows = |step: usize, period: usize| [(step / period) as u8 * 3 + 1, 0, 9, 200];
        for period in [1, 2, 4] {
            let all: Vec<_> = (0..64).map(|step| rows(step, period)).collect();
            let lines = with_grains(&all);
            let most = PERIOD_BITS + STEP_BITS + 12 * (64 / period);
            assert!(bits(&lines).len() * 8 <= most + 7, "{period}");
        }
    }

    #[test]
    fn bits_that_no_grains_have() {
        let refused = |bits: &str, steps| {
            let mut writer = BitWriter::new();
            digits::write(&mut writer, bits);
            read_back(&writer.into_bytes(), steps).is_none()
        };
        assert!(!refused("01 1 00000001 0 0 0", 1));
        assert!(refused("01 1 00000000 0 0 0", 1), "the row that there was");
        assert!(refused("01 1 00000001 0 0 0 1 00000001 0 0 0", 2), "the same again");
        assert!(refused("01 1 00000001", 2), "cut");
        assert!(read_back(&[], 0).is_none());
    }
}
