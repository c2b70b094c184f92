//! Making a whole file of what is left of a damaged one.

use super::damage::Damage;
use super::header::{Header, HeaderError};
use super::index::Index;
use super::reader::{ContainerReader, ReadError, Stored};
use super::summary::MAX_LISTED;
use std::io::{self, Read, Seek, Write};
use thiserror::Error;

/// Why a file cannot be repaired.
#[derive(Debug, Error)]
pub enum RepairError {
    /// The damaged file cannot be read: without its header nobody knows what the tokens mean.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The destination refused the bytes.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// The length is lost with the trailer, and the steps found are not those of any length.
    #[error("the length of the audio is lost, and no length has the {steps} steps that were found")]
    Length {
        /// Steps found.
        steps: u64,
    },
}

/// What a repair kept, and what it could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Chunks kept, token for token.
    pub kept_chunks: u32,
    /// Chunks marked as lost.
    pub lost_chunks: u32,
    /// Steps of those.
    pub lost_steps: u64,
    /// Samples per channel at the source's rate, as the new file says.
    pub samples: u64,
    /// Whether that is a guess: the longest source that has the steps found.
    pub samples_guessed: bool,
    /// What was wrong, the first hundred.
    pub damages: Vec<Damage>,
    /// How many there were in all.
    pub damage_count: u64,
}

/// Writes the intact chunks of the damaged file `source` to `output` as a file that is whole again.
/// Chunks keep their number, and the index marks those that are lost, so that everything stays at its
/// time; bytes that belong to no chunk are left out. A file without damage is written as it is.
///
/// Memory: as [`ContainerReader`], and some bytes for each gap.
///
/// # Errors
/// The header is damaged, either file fails, or the length is lost for good.
pub fn repair<R: Read + Seek, W: Write>(
    source: R,
    mut output: W,
) -> Result<(W, Repair), RepairError> {
    let mut reader = ContainerReader::open(source)?;
    let header = reader.header().clone();
    let head = header.to_bytes().map_err(ReadError::Header)?;
    let header_crc = head.last_chunk().copied().unwrap_or_default();
    output.write_all(&head).map_err(RepairError::Write)?;

    let mut index = Index::new(head.len() as u64);
    let mut done = Repair {
        kept_chunks: 0,
        lost_chunks: 0,
        lost_steps: 0,
        samples: 0,
        samples_guessed: false,
        damages: Vec::new(),
        damage_count: 0,
    };
    let mut steps = 0;
    while let Some(item) = reader.next_stored().map_err(ReadError::Io)? {
        match item {
            Stored::Chunk(bytes, count) => {
                output.write_all(&bytes).map_err(RepairError::Write)?;
                index.push(bytes.len() as u32, 1);
                done.kept_chunks += 1;
                steps += u64::from(count);
            }
            Stored::Damage(damage) => {
                if damage.chunks > 0 {
                    index.push(0, damage.chunks);
                }
                done.lost_chunks += damage.chunks;
                done.lost_steps += damage.steps;
                steps += damage.steps;
                done.damage_count += 1;
                if done.damages.len() < MAX_LISTED {
                    done.damages.push(damage);
                }
            }
        }
    }
    done.samples_guessed = reader.samples().is_none();
    done.samples = match reader.samples() {
        Some(samples) => samples,
        None => longest(&header, steps).ok_or(RepairError::Length { steps })?,
    };
    let end = index.to_bytes(done.samples, header_crc);
    output.write_all(&end).and_then(|()| output.flush()).map_err(RepairError::Write)?;
    Ok((output, done))
}

/// The longest source, in samples per channel, that has exactly `steps` steps.
fn longest(header: &Header, steps: u64) -> Option<u64> {
    if steps == 0 {
        return Some(0);
    }
    let covered = u128::from(steps) * u128::from(header.step_samples());
    let codec_samples = covered.checked_sub(header.pre_skip.into())?;
    let samples = codec_samples * u128::from(header.source_rate) / u128::from(header.codec_rate);
    let samples = u64::try_from(samples).ok()?;
    let possible: Result<(), HeaderError> = header.validate_samples(samples);
    (possible.is_ok() && header.steps(samples) == steps).then_some(samples)
}

#[cfg(test)]
mod tests {
    use super::super::damage::DamageReason;
    use super::super::header::tests::header;
    use super::super::reader::Item;
    use super::super::writer::ContainerWriter;
    use super::*;
    use crate::tokens::{TokenLayout, Tokens};
    use std::io::Cursor;

    /// Ten chunks of 25 steps and one of 3, of two channels, and where each begins.
    fn file(samples: Option<u64>) -> (Vec<u8>, Vec<usize>) {
        let layout = TokenLayout { strides: vec![2, 1], codebook_sizes: vec![16, 5] };
        let source_rate = 48_000;
        let header = Header { layout, samples, source_rate, pre_skip: 0, ..header() };
        let mut writer = ContainerWriter::new(Vec::new(), header.clone()).unwrap();
        for n in 0..253u16 {
            let tokens = Tokens::of_codes(vec![vec![n % 16], vec![n % 5, n / 5 % 5]]);
            writer.push_steps(&[tokens.clone(), tokens]).unwrap();
        }
        let head = header.to_bytes().unwrap().len();
        (writer.finish(253 * 960 - 7).unwrap(), (0..12).map(|n| head + n * (12 + 63)).collect())
    }

    fn repaired(bytes: &[u8]) -> (Vec<u8>, Repair) {
        repair(Cursor::new(bytes), Vec::new()).unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<Item> {
        ContainerReader::open(Cursor::new(bytes)).unwrap().map(|item| item.unwrap()).collect()
    }

    #[test]
    fn an_intact_file_is_written_as_it_is() {
        for samples in [None, Some(253 * 960 - 7)] {
            let (bytes, _) = file(samples);
            let (same, done) = repaired(&bytes);
            assert_eq!(same, bytes);
            assert_eq!((done.kept_chunks, done.lost_chunks, done.damage_count), (11, 0, 0));
            assert_eq!((done.samples, done.samples_guessed), (253 * 960 - 7, false));
        }
    }

    #[test]
    fn what_is_lost_is_marked_and_keeps_its_time() {
        let (mut bytes, at) = file(None);
        let whole = read(&bytes);
        bytes[at[3] + 20] ^= 1;
        bytes.drain(at[6] + 5..at[8] + 1);
        bytes.splice(at[1]..at[1], [0xF5; 9]);
        let (mended, done) = repaired(&bytes);
        assert_eq!((done.kept_chunks, done.lost_chunks, done.lost_steps), (7, 4, 100));
        assert_eq!((done.samples, done.samples_guessed), (253 * 960 - 7, false));
        let mut reader = ContainerReader::open(Cursor::new(&mended)).unwrap();
        assert!(reader.has_index());
        let items: Vec<Item> = reader.by_ref().map(|item| item.unwrap()).collect();
        let lost = |item: &Item| match item {
            Item::Damage(d) => Some((d.first, d.chunks, d.steps, d.reason)),
            Item::Chunk(_) => None,
        };
        let gaps: Vec<_> = items.iter().filter_map(lost).collect();
        assert_eq!(gaps, [(3, 1, 25, DamageReason::Marked), (6, 3, 75, DamageReason::Marked)]);
        let kept = |item: &&Item| matches!(item, Item::Chunk(_));
        let expected = whole
            .iter()
            .enumerate()
            .filter(|(n, _)| ![3, 6, 7, 8].contains(n))
            .map(|(_, item)| item);
        assert!(items.iter().filter(kept).eq(expected));
        // Seeking into a gap finds it and what follows, without reading what is before.
        for number in 0..11 {
            reader.seek_chunk(number).unwrap();
            let Some(item) = reader.next_item().unwrap() else { panic!("nothing at {number}") };
            match item {
                Item::Chunk(chunk) => assert_eq!(chunk.number, number),
                Item::Damage(damage) => {
                    assert_eq!((damage.first, damage.reason), (number, DamageReason::Marked));
                }
            }
        }
        // Once is enough.
        assert_eq!(repaired(&mended).0, mended);
    }

    #[test]
    fn a_lost_length_is_the_longest_that_fits() {
        let (bytes, at) = file(None);
        let (mended, done) = repaired(&bytes[..at[4] + 30]);
        assert_eq!((done.kept_chunks, done.lost_chunks), (4, 1));
        assert_eq!((done.samples, done.samples_guessed), (125 * 960, true));
        let reader = ContainerReader::open(Cursor::new(&mended)).unwrap();
        assert_eq!((reader.samples(), reader.chunks()), (Some(125 * 960), Some(5)));
        assert_eq!(repaired(&mended).0, mended);
        // The header alone is a file of nothing.
        let (empty, done) = repaired(&bytes[..at[0]]);
        assert_eq!((done.samples, done.samples_guessed, empty.len()), (0, true, at[0] + 26));
    }

    #[test]
    fn hours_that_only_the_header_promises_cost_nothing() {
        let (bytes, at) = file(Some(253 * 960 - 7));
        let mut header = Header::parse(&bytes).unwrap().0;
        header.samples = Some(1 << 38);
        let cut = [&header.to_bytes().unwrap()[..], &bytes[at[0]..at[2]]].concat();
        let (mended, done) = repaired(&cut);
        assert_eq!(done.kept_chunks, 2);
        assert_eq!(done.samples, 1 << 38);
        assert!(mended.len() < cut.len() + 40);
    }

    #[test]
    fn a_length_that_no_steps_fit_is_an_error() {
        // A sample a second: nothing takes one step.
        let (bytes, at) = file(None);
        let header = Header { source_rate: 1, ..Header::parse(&bytes).unwrap().0 };
        let cut = [&header.to_bytes().unwrap()[..], &bytes[at[0]..at[1]]].concat();
        let error = repair(Cursor::new(cut), Vec::new()).unwrap_err();
        assert!(matches!(error, RepairError::Length { steps: 25 }), "{error}");
    }

    #[test]
    fn a_file_without_its_header_and_a_full_disk_are_errors() {
        let (mut bytes, _) = file(None);
        let mut room = [0; 200];
        let error = repair(Cursor::new(&bytes), &mut room[..]).unwrap_err();
        assert!(matches!(error, RepairError::Write(_)), "{error}");
        bytes[20] ^= 1;
        let error = repair(Cursor::new(&bytes), Vec::new()).unwrap_err();
        assert!(matches!(error, RepairError::Read(ReadError::Header(_))), "{error}");
    }
}
