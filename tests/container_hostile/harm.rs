//! Files of any layout, and any harm to them.

use proptest::prelude::*;

use std::io::Cursor;

use tessera_codec::bitstream::{CHUNK_OVERHEAD, Chunk, ContainerReader, Header, Item};
use tessera_codec::tokens::{TokenLayout, Tokens};

use super::at::with_crc;
use super::{chunks, read, test_header, tokens, write};

/// A file of any layout, with its steps.
fn any_file() -> impl Strategy<Value = (Header, u64, Vec<Tokens>, Vec<u8>)> {
    let layout = (0u32..4, proptest::collection::vec((0u32..4, 2usize..=2000), 1..5)).prop_map(
        |(first, levels)| {
            let stride = |(i, level): (usize, &(u32, usize))| {
                1usize << if i == 0 { first } else { level.0.min(first) }
            };
            TokenLayout {
                strides: levels.iter().enumerate().map(stride).collect(),
                codebook_sizes: levels.iter().map(|level| level.1).collect(),
            }
        },
    );
    let rates = (prop_oneof![Just(48_000), 1000u32..768_000], 0u32..3000, 1u16..4);
    (layout, rates, 1u8..8, 0u64..40_000, any::<bool>(), any::<u64>()).prop_map(
        |(layout, (source_rate, pre_skip, channels), steps_per_chunk, samples, known, seed)| {
            let header = Header {
                layout,
                source_rate,
                pre_skip,
                channels,
                steps_per_chunk,
                samples: known.then_some(samples),
                codec_rate: 24_000,
                ..test_header(None)
            };
            let tokens = tokens(&header, header.steps(samples) as usize, seed);
            let bytes = write(&header, samples, &tokens);
            (header, samples, tokens, bytes)
        },
    )
}

/// What is done to a file.
#[derive(Debug, Clone)]
enum Harm {
    Flip(usize),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
}

fn any_harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => any::<usize>().prop_map(Harm::Flip),
        1 => any::<usize>().prop_map(Harm::Cut),
        1 => (any::<usize>(), proptest::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        1 => (any::<usize>(), 1usize..100).prop_map(|(at, count)| Harm::Remove(at, count)),
    ]
}

/// Does the harm to what follows the first `spared` bytes.
fn harm(bytes: &mut Vec<u8>, spared: usize, harm: &Harm) {
    let spot = |at: usize| spared + at % (bytes.len() - spared).max(1);
    match harm {
        Harm::Flip(bit) => {
            let at = spot(bit / 8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Harm::Cut(at) => bytes.truncate(spot(*at)),
        Harm::Insert(at, garbage) => {
            let at = spot(*at).min(bytes.len());
            bytes.splice(at..at, garbage.iter().copied());
        }
        Harm::Remove(at, count) => {
            let at = spot(*at).min(bytes.len());
            bytes.drain(at..bytes.len().min(at + count));
        }
    }
}

/// The bytes of each chunk of an intact file, and of its header.
fn split(header: &Header, bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let header_bytes = header.to_bytes().unwrap().len();
    let mut chunks = Vec::new();
    let mut rest = &bytes[header_bytes..];
    while rest.starts_with(&[0xF5, 0xC3]) {
        let size = CHUNK_OVERHEAD + usize::from(u16::from_be_bytes([rest[6], rest[7]]));
        chunks.push(rest[..size].to_vec());
        rest = &rest[size..];
    }
    (chunks, header_bytes)
}

/// The same cases on every run.
fn cases(cases: u32) -> ProptestConfig {
    let rng_seed = proptest::test_runner::RngSeed::Fixed(1);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn what_is_written_is_read((header, samples, tokens, bytes) in any_file(), levels in 1usize..5) {
        let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
        prop_assert_eq!(reader.header(), &header);
        prop_assert_eq!(reader.samples(), Some(samples));
        prop_assert!(reader.has_index());
        let mut read = vec![Tokens::new(header.layout.levels()); header.channels.into()];
        let mut numbers = 0;
        for item in &mut reader {
            let Item::Chunk(chunk) = item.unwrap() else { panic!("damage in an intact file") };
            prop_assert_eq!(chunk.number, numbers);
            prop_assert_eq!(chunk.channels[0].steps(&header.layout), Some(chunk.steps));
            read.iter_mut().zip(&chunk.channels).for_each(|(all, more)| all.extend(more));
            numbers += 1;
        }
        prop_assert_eq!(&read, &tokens);
        prop_assert_eq!(reader.chunks(), Some(numbers));

        // The first levels alone are the same first levels.
        let levels = levels.min(header.layout.levels());
        reader.limit_levels(levels).unwrap();
        reader.rewind();
        let mut coarse = vec![Tokens::new(levels); header.channels.into()];
        for item in &mut reader {
            let Item::Chunk(chunk) = item.unwrap() else { panic!("damage in an intact file") };
            coarse.iter_mut().zip(&chunk.channels).for_each(|(all, more)| all.extend(more));
        }
        for (coarse, tokens) in coarse.iter().zip(&tokens) {
            prop_assert_eq!(&coarse.levels[..], &tokens.levels[..levels]);
        }
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    /// Whatever happens to a file after its header: nothing panics, every chunk whose bytes are all
    /// there is given exactly, no other is, and the timeline is kept.
    #[test]
    fn intact_chunks_survive_any_harm(
        (header, samples, _, bytes) in any_file(),
        harms in proptest::collection::vec(any_harm(), 1..5),
        seek in any::<u32>(),
    ) {
        let original = chunks(&read(&bytes).unwrap());
        let (parts, header_bytes) = split(&header, &bytes);
        prop_assert_eq!(parts.len(), original.len());
        let mut bytes = bytes;
        harms.iter().for_each(|h| harm(&mut bytes, header_bytes, h));
        let survives = |part: &Vec<u8>| bytes.windows(part.len()).any(|window| window == part);
        let intact: Vec<Chunk> = original
            .into_iter()
            .zip(&parts)
            .filter_map(|(chunk, part)| survives(part).then_some(chunk))
            .collect();

        let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
        let items: Vec<Item> = (&mut reader).map(|item| item.unwrap()).collect();
        prop_assert_eq!(chunks(&items), intact);

        let mut due = 0;
        let mut steps = 0;
        for item in &items {
            match item {
                Item::Chunk(chunk) => {
                    prop_assert_eq!(chunk.number, due);
                    due += 1;
                    steps += chunk.steps as u64;
                }
                Item::Damage(damage) => {
                    prop_assert_eq!(damage.first, due);
                    prop_assert!(damage.offset <= bytes.len() as u64);
                    due += damage.chunks;
                    steps += damage.steps;
                }
            }
        }
        if reader.samples().is_some() {
            prop_assert_eq!(reader.samples(), Some(samples));
            prop_assert_eq!(steps, header.steps(samples));
            prop_assert_eq!(reader.chunks(), Some(due));
        }

        // Seeking there gives what reading up to there gives.
        if due > 0 {
            let number = seek % due;
            reader.seek_chunk(number).unwrap();
            let after: Vec<Item> = (&mut reader).map(|item| item.unwrap()).collect();
            let expected: Vec<Chunk> =
                chunks(&items).into_iter().filter(|chunk| chunk.number >= number).collect();
            prop_assert_eq!(chunks(&after), expected);
        }
        let summary = reader.summary().unwrap();
        prop_assert_eq!(summary.intact_chunks + summary.damaged_chunks, u64::from(due));
    }

    /// The header is not spared: an error or a file, never a panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        (header, _, _, bytes) in any_file(),
        harms in proptest::collection::vec(any_harm(), 1..5),
        fix in any::<bool>(),
    ) {
        let mut bytes = bytes;
        harms.iter().for_each(|h| harm(&mut bytes, 0, h));
        let header_bytes = header.to_bytes().unwrap().len();
        if fix && bytes.len() >= header_bytes {
            bytes = with_crc(bytes, header_bytes);
        }
        if let Ok(mut reader) = ContainerReader::open(Cursor::new(&bytes)) {
            // A prior's name in the header, where there was none: nobody has it.
            if !reader.can_decode() {
                prop_assert!(reader.next_item().is_err() && reader.next_item().unwrap().is_none());
                return Ok(());
            }
            let mut items = 0;
            for item in &mut reader {
                item.unwrap();
                items += 1;
            }
            prop_assert!(items <= bytes.len());
            reader.summary().unwrap();
        }
    }
}
