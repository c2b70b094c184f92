//! The lines of a chunk in bits: see `docs/format.md`.
//!
//! Prefix codes fitted to the training audio: of the lines that are there at the end of a step, 85 % are there at
//! the end of the next, half of them at the same pitch and nearly half at the same level.

use super::bits::{BitReader, BitWriter};
use super::{combs, grains, trims};
use crate::lines::{Kept, LEVELS, Line, Lines, MOST_BENT, MOST_SWELLED, PITCHES, SLOTS};

/// The most bits of a line that goes on, and of one that begins.
const GOES_ON_BITS: usize = 9 + 8;
const BEGINS_BITS: usize = 3 + 10 + LEVEL_BITS as usize + 1;
/// The most bits that say in which step lines begin next.
pub(super) const NEXT_BITS: usize = 1 + 16;
/// The most bits that the lines of a step of a channel take.
const STEP_BITS: usize = SLOTS * max(GOES_ON_BITS, BEGINS_BITS) + NEXT_BITS;
const SLOT_BITS: u32 = SLOTS.ilog2();
const LEVEL_BITS: u32 = LEVELS.ilog2();
/// Pitches below this have nine bits, the others ten.
const SHORT_PITCHES: u32 = 1024 - PITCHES as u32;

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Bytes that what is `kept` of the lines of `channels` channels and `steps` steps takes at least and at most.
pub(super) fn least_and_most_bytes(kept: Kept, channels: usize, steps: usize) -> (usize, usize) {
    let (mut least, mut most) = (0, 0);
    let parts = [
        (kept.any(), 1, NEXT_BITS, STEP_BITS),
        (kept.combs(), 1, NEXT_BITS, combs::STEP_BITS),
        (kept.grains(), grains::LEAST_BITS, grains::PERIOD_BITS, grains::STEP_BITS),
        (kept.trims(), 1, trims::KIND_BITS, trims::STEP_BITS),
    ];
    for (there, fewest, once, step) in parts {
        if there {
            least += fewest;
            most += once + step * steps;
        }
    }
    ((channels * least).div_ceil(8), (channels * most).div_ceil(8))
}

/// Writes what is `kept` of the lines of a channel, one [`Lines`] for each step. No line goes further in a step than it
/// can.
pub(super) fn write(writer: &mut BitWriter, kept: Kept, lines: &[Lines]) {
    if kept.any() {
        write_slots(writer, lines);
    }
    if kept.combs() {
        combs::write(writer, lines);
    }
    if kept.grains() {
        grains::write(writer, lines);
    }
    if kept.trims() {
        trims::write(writer, lines);
    }
}

/// Reads what is `kept` of the lines of a channel in a chunk of `steps` steps; `None` when no lines have these bits.
pub(super) fn read(reader: &mut BitReader, kept: Kept, steps: usize) -> Option<Vec<Lines>> {
    if !kept.any() {
        return Some(Vec::new());
    }
    let mut lines = read_slots(reader, steps)?;
    if kept.combs() {
        combs::read(reader, &mut lines)?;
    }
    if kept.grains() {
        grains::read(reader, &mut lines)?;
    }
    if kept.trims() {
        trims::read(reader, &mut lines)?;
    }
    Some(lines)
}

fn write_slots(writer: &mut BitWriter, lines: &[Lines]) {
    let before = |step: usize| step.checked_sub(1).map_or(Lines::NONE, |step| lines[step]);
    let begin = |step: &usize| begun(&before(*step), &lines[*step]).next().is_some();
    let next = |from: usize| (from..lines.len()).find(begin);
    write_next(writer, next(0));
    for (step, now) in lines.iter().enumerate() {
        let before = before(step);
        for (was, is) in before.slots().iter().zip(now.slots()) {
            if let Some(was) = was {
                write_change(writer, *was, *is);
            }
        }
        let mut begun = begun(&before, now).peekable();
        if begun.peek().is_none() {
            continue;
        }
        while let Some((slot, line)) = begun.next() {
            writer.write(slot as u32, SLOT_BITS);
            write_pitch(writer, line.pitch().into());
            writer.write(line.level().into(), LEVEL_BITS);
            writer.write(begun.peek().is_some().into(), 1);
        }
        write_next(writer, next(step + 1).map(|next| next - step - 1));
    }
}

fn read_slots(reader: &mut BitReader, steps: usize) -> Option<Vec<Lines>> {
    let mut all = Vec::with_capacity(steps);
    let mut before = Lines::NONE;
    let mut next = read_next(reader, 0)?;
    for step in 0..steps {
        let mut now = Lines::NONE;
        for (slot, was) in before.slots().iter().enumerate() {
            if let Some(was) = was {
                now.set(slot, read_change(reader, *was)?);
            }
        }
        if next == Some(step) {
            let mut least = 0;
            loop {
                let slot = reader.read(SLOT_BITS)? as usize;
                if slot < least || before.slots()[slot].is_some() {
                    return None;
                }
                let (pitch, level) = (read_pitch(reader)?, reader.read(LEVEL_BITS)?);
                now.set(slot, Some(Line::new(pitch as u16, level as u8)?));
                least = slot + 1;
                if reader.read(1)? == 0 {
                    break;
                }
            }
            next = read_next(reader, step + 1)?;
        }
        all.push(now);
        before = now;
    }
    // Lines that begin in a step that the chunk does not have.
    next.is_none().then_some(all)
}

/// The lines that begin between one step and the next.
fn begun<'a>(before: &'a Lines, now: &'a Lines) -> impl Iterator<Item = (usize, Line)> + 'a {
    let slots = before.slots().iter().zip(now.slots()).enumerate();
    slots.filter_map(|(slot, (before, now))| match before {
        None => now.map(|line| (slot, line)),
        Some(_) => None,
    })
}

/// After how many more steps lines begin, if they do: an exponential Golomb code of order 1.
pub(super) fn write_next(writer: &mut BitWriter, gap: Option<usize>) {
    writer.write(gap.is_some().into(), 1);
    if let Some(gap) = gap {
        let value = gap as u32 + 2;
        writer.write(0, value.ilog2() - 1);
        writer.write(value, value.ilog2() + 1);
    }
}

/// The step in which lines begin next, counted from `from`; the outer `None` when that cannot be.
pub(super) fn read_next(reader: &mut BitReader, from: usize) -> Option<Option<usize>> {
    if reader.read(1)? == 0 {
        return Some(None);
    }
    let mut bits = 1;
    while reader.read(1)? == 0 {
        bits += 1;
        if bits > 8 {
            return None;
        }
    }
    let value = 1 << bits | reader.read(bits)? as usize;
    Some(Some(from + value - 2))
}

fn write_pitch(writer: &mut BitWriter, pitch: u32) {
    match pitch < SHORT_PITCHES {
        true => writer.write(pitch, 9),
        false => writer.write(pitch + SHORT_PITCHES, 10),
    }
}

fn read_pitch(reader: &mut BitReader) -> Option<u32> {
    let value = reader.read(9)?;
    match value < SHORT_PITCHES {
        true => Some(value),
        false => Some((value << 1 | reader.read(1)?) - SHORT_PITCHES),
    }
}

/// What has become of a line: by how much its pitch and level have changed, or that it has ended.
fn write_change(writer: &mut BitWriter, was: Line, is: Option<Line>) {
    let Some(is) = is else { return writer.write(0b110, 3) };
    let bent = i32::from(is.pitch()) - i32::from(was.pitch());
    let sign = u32::from(bent < 0);
    match bent.unsigned_abs() {
        0 => writer.write(0, 1),
        1 => writer.write(0b100 | sign, 3),
        2 => writer.write(0b11100 | sign, 5),
        3 => writer.write(0b11_1100 | sign, 6),
        far => {
            writer.write(0b1_1111, 5);
            writer.write(sign, 1);
            writer.write(far - 4, 3);
        }
    }
    match i32::from(is.level()) - i32::from(was.level()) {
        0 => writer.write(0, 1),
        -1 => writer.write(0b100, 3),
        -2 => writer.write(0b101, 3),
        1 => writer.write(0b1100, 4),
        2 => writer.write(0b1101, 4),
        -3 => writer.write(0b1_1100, 5),
        3 => writer.write(0b1_1101, 5),
        -4 => writer.write(0b1_1110, 5),
        far => {
            writer.write(0b1_1111, 5);
            // -7, -6, -5, 4, 5, 6, 7
            let far = if far < 0 { far + 7 } else { far - 1 };
            writer.write(far as u32, 3);
        }
    }
}

/// The line that `was` has become, if it has not ended; the outer `None` when that cannot be.
fn read_change(reader: &mut BitReader, was: Line) -> Option<Option<Line>> {
    let bent = match ones(reader, 5)? {
        0 => 0,
        1 => signed(reader, 1)?,
        2 => return Some(None),
        3 => signed(reader, 2)?,
        4 => signed(reader, 3)?,
        _ => {
            let sign = reader.read(1)?;
            let far = reader.read(3)? as i32 + 4;
            if sign == 1 { -far } else { far }
        }
    };
    let swelled = match ones(reader, 3)? {
        0 => 0,
        1 => -1 - reader.read(1)? as i32,
        2 => 1 + reader.read(1)? as i32,
        _ => match reader.read(2)? {
            0 => -3,
            1 => 3,
            2 => -4,
            _ => match reader.read(3)? as i32 {
                far @ ..3 => far - 7,
                far => far + 1,
            },
        },
    };
    let most = (i32::from(MOST_BENT), i32::from(MOST_SWELLED));
    if bent.abs() > most.0 || swelled.abs() > most.1 {
        return None;
    }
    let pitch = u16::try_from(i32::from(was.pitch()) + bent).ok()?;
    let level = u8::try_from(i32::from(was.level()) + swelled).ok()?;
    Line::new(pitch, level).map(Some)
}

/// How many ones come before a zero, which is taken, or `most`.
fn ones(reader: &mut BitReader, most: u32) -> Option<u32> {
    for count in 0..most {
        if reader.read(1)? == 0 {
            return Some(count);
        }
    }
    Some(most)
}

fn signed(reader: &mut BitReader, magnitude: i32) -> Option<i32> {
    Some(if reader.read(1)? == 1 { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::super::bits::digits;
    use super::*;
    use proptest::prelude::*;

    /// Lines as a finder may give them: in each step, a slot's line begins, ends or goes on.
    pub(crate) fn any_lines() -> impl Strategy<Value = Vec<Lines>> {
        let slot = (0u8..6, 0u16..PITCHES, 0u8..LEVELS, -10i32..=10, -7i32..=7);
        proptest::collection::vec(proptest::collection::vec(slot, SLOTS), 0..255).prop_map(
            |steps| {
                let mut before = Lines::NONE;
                let lines = steps.into_iter().map(|slots| {
                    let mut now = Lines::NONE;
                    for (slot, (dice, pitch, level, bent, swelled)) in slots.into_iter().enumerate()
                    {
                        now.set(
                            slot,
                            match before.slots()[slot] {
                                Some(_) if dice == 0 => None,
                                Some(was) => Line::new(
                                    (i32::from(was.pitch()) + bent).clamp(0, 639) as u16,
                                    (i32::from(was.level()) + swelled).clamp(0, 31) as u8,
                                ),
                                None if dice == 1 => Line::new(pitch, level),
                                None => None,
                            },
                        );
                    }
                    before = now;
                    now
                });
                lines.collect()
            },
        )
    }

    fn bits(lines: &[Lines]) -> Vec<u8> {
        let mut writer = BitWriter::new();
        write(&mut writer, Kept::Slots, lines);
        writer.into_bytes()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lines in any_lines()) {
            let bytes = bits(&lines);
            prop_assert!(bytes.len() <= least_and_most_bytes(Kept::Slots, 1, lines.len()).1);
            let mut reader = BitReader::new(&bytes);
            prop_assert_eq!(read(&mut reader, Kept::Slots, lines.len()), Some(lines));
            prop_assert!(reader.remaining() < 8);
        }

        #[test]
        fn any_bits_are_lines_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), steps in 0usize..255) {
            if let Some(lines) = read(&mut BitReader::new(&bytes), Kept::Slots, steps) {
                prop_assert_eq!(lines.len(), steps);
                prop_assert!(lines.windows(2).all(|pair| pair[0].may_precede(&pair[1])));
            }
        }
    }

    #[test]
    fn no_lines_are_one_bit() {
        assert_eq!(bits(&[Lines::NONE; 255]), [0]);
        assert_eq!(bits(&[]), [0]);
        assert_eq!(read(&mut BitReader::new(&[0]), Kept::Slots, 255), Some(vec![Lines::NONE; 255]));
        assert_eq!(least_and_most_bytes(Kept::Slots, 32, 255).0, 4);
    }

    #[test]
    fn bits_as_documented() {
        let mut lines = [Lines::NONE; 5];
        for (step, pitch, level) in [(1, 383, 20), (2, 382, 19), (3, 392, 23)] {
            lines[step].set(2, Line::new(pitch, level));
        }
        // Lines begin in step 1: 1 11. Slot 2, pitch 383, level 20, no more: 010 101111111 10100 0. No more begin: 0.
        // Step 2: -1 and -1: 101 100. Step 3: 10 and 4: 11111 0 110, 11111 011. Step 4: it ends: 110.
        let expected = "1 11 010 101111111 10100 0 0 101 100 11111 0 110 11111 011 110";
        let bytes = bits(&lines);
        digits::check(&bytes, expected);
        assert_eq!(read(&mut BitReader::new(&bytes), Kept::Slots, 5), Some(lines.to_vec()));
    }

    #[test]
    fn bits_that_no_lines_have() {
        let refused = |bits: &str, steps| {
            let mut writer = BitWriter::new();
            digits::write(&mut writer, bits);
            writer.write(0, 32);
            read(&mut BitReader::new(&writer.into_bytes()), Kept::Slots, steps).is_none()
        };
        let first = "1 10 000 000000101 01010 0";
        assert!(!refused(&format!("{first} 0"), 2));
        assert!(refused("1 11 000 000000101 01010 0 0", 1), "begins in a step that there is not");
        assert!(refused("1 00000000", 255), "a number of nine bits");
        assert!(refused("1 10 001 000000101 01010 1 001 000000101 01010 0 0", 1), "a slot twice");
        assert!(
            refused(&format!("{first} 1 10 0 000 000000101 01010 0 0"), 2),
            "one that has a line"
        );
        assert!(refused(&format!("{first} 0 11111 0 111 0"), 2), "eleven pitches further");
        assert!(refused(&format!("{first} 0 0 11111 111"), 2), "eight levels louder");
        assert!(refused(&format!("{first} 0 11111 1 010 0"), 2), "below the first pitch");
        assert!(read(&mut BitReader::new(&[]), Kept::Slots, 0).is_none());
    }
}
