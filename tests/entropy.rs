//! Tokens coded with a prior: back exactly as they were, on every instruction set, whatever happens to the
//! file.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::Cursor;
#[cfg(feature = "embedded-model")]
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use safetensors::Dtype;
use support::{Random, Signal, noise, odd, prior, small_prior};
#[cfg(feature = "embedded-model")]
use tessera_codec::Shipped;
#[cfg(feature = "embedded-model")]
use tessera_codec::audio;
use tessera_codec::bitstream::{
    Coded, CoderError, ContainerReader, ContainerWriter, Damage, DamageReason, Header, Item,
    PayloadCoder, ReadError, WriteError, repair,
};
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::{InstructionSet, Model};
use tessera_codec::files::{self, FilesError};
#[cfg(feature = "embedded-model")]
use tessera_codec::lines::Kept;
use tessera_codec::prior::{Prior, PriorCoder, PriorConfig, PriorState};
use tessera_codec::tokens::Tokens;

fn model() -> Model {
    support::model(&odd(), 3, Dtype::F16)
}

/// A prior so small that thousands of files are decoded in a moment, in chunks of six steps.
fn tiny_prior(model: &Model) -> Prior {
    let config = PriorConfig {
        embedding: 2,
        dim: 3,
        blocks: 1,
        kernel: 2,
        width: 4,
        steps: 6,
        ..small_prior(model)
    };
    prior(&config, 8, 2.0)
}

/// The header of a file of `steps` steps coded with `prior`.
fn header(model: &Model, prior: &Prior, channels: u16, levels: usize, steps: usize) -> Header {
    let header = files::header_of(model, 48_000, channels, levels);
    let samples = steps as u64 * header.step_samples() - u64::from(header.pre_skip);
    let samples = Some(samples);
    Header { samples, ..header }.with_prior(prior.id(), prior.config().steps as u8)
}

fn coder(prior: &Prior, levels: usize) -> Option<Box<dyn PayloadCoder>> {
    Some(prior.coder(levels).unwrap())
}

/// The file of some tokens, given to the writer in pieces of `piece` steps.
fn write(header: &Header, prior: &Prior, channels: &[Tokens], piece: usize) -> Vec<u8> {
    let coder = coder(prior, header.layout.levels());
    let mut writer = ContainerWriter::with_coder(Vec::new(), header.clone(), coder).unwrap();
    let steps = channels[0].steps(&header.layout).unwrap();
    for first in (0..steps).step_by(piece) {
        let end = (first + piece).min(steps);
        let part = |tokens: &Tokens| Tokens {
            levels: tokens
                .levels
                .iter()
                .enumerate()
                .map(|(level, codes)| {
                    let count = header.layout.codes_per_step(level);
                    codes[first * count..end * count].to_vec()
                })
                .collect(),
            lines: tokens.lines.get(first..end).unwrap_or_default().to_vec(),
        };
        writer.push_steps(&channels.iter().map(part).collect::<Vec<_>>()).unwrap();
    }
    writer.finish(header.samples.unwrap()).unwrap()
}

fn reader<'a>(bytes: &'a [u8], prior: &Prior) -> ContainerReader<Cursor<&'a [u8]>> {
    let mut reader = ContainerReader::open(Cursor::new(bytes)).unwrap();
    files::attach(&mut reader, Some(prior)).unwrap();
    reader
}

/// All tokens of an intact file that the prior has coded.
fn read(bytes: &[u8], prior: &Prior) -> Vec<Tokens> {
    all_of(reader(bytes, prior))
}

fn all_of(mut reader: ContainerReader<Cursor<&[u8]>>) -> Vec<Tokens> {
    let levels = reader.header().layout.levels();
    let mut all = vec![Tokens::new(levels); reader.header().channels.into()];
    for item in &mut reader {
        let Item::Chunk(chunk) = item.unwrap() else { panic!("damage") };
        all.iter_mut().zip(&chunk.channels).for_each(|(all, part)| all.extend(part));
    }
    all
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// One code again and again, as silence is.
    Constant,
    /// Codes as likely as each other.
    Random,
    /// What the prior itself finds likeliest.
    Expected,
    /// What it finds least likely.
    Unlikely,
}

/// Tokens of a kind, of one channel.
fn tokens(prior: &Prior, kind: Kind, seed: u32, levels: usize, steps: usize) -> Tokens {
    let size = prior.config().codebook_size as f32;
    let mut random = Random::new(seed);
    let mut state = PriorState::new(prior, levels).unwrap();
    let chosen = |scores: &[f32], sign: f32| {
        let best = scores.iter().enumerate().max_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)));
        best.unwrap().0 as u16
    };
    let mut codes = Vec::new();
    for step in 0..steps {
        if step % prior.config().steps == 0 {
            state.reset();
        }
        for _ in 0..prior.codes_per_step(levels) {
            let code = match kind {
                Kind::Constant => 7,
                Kind::Random => ((random.draw() + 1.0) / 2.0 * size * 0.999) as u16,
                Kind::Expected => chosen(state.scores(), 1.0),
                Kind::Unlikely => chosen(state.scores(), -1.0),
            };
            state.push(code).unwrap();
            codes.push(code);
        }
    }
    let mut tokens = Tokens::new(levels);
    tokens.extend_steps(&codes, prior.layout());
    tokens
}

const KINDS: [Kind; 4] = [Kind::Constant, Kind::Random, Kind::Expected, Kind::Unlikely];

#[test]
fn every_instruction_set_writes_the_same_bytes_and_reads_them() {
    let model = model();
    let best = prior(&small_prior(&model), 4, 2.0);
    let plain = best.with_instruction_set(InstructionSet::Plain).unwrap();
    for (kind, channels) in KINDS.into_iter().zip([1u16, 2, 3, 1]) {
        for levels in 1..=4 {
            // Two full chunks and a short one.
            let steps = 35;
            let header = header(&model, &best, channels, levels, steps);
            let made: Vec<Tokens> = (0..channels)
                .map(|channel| tokens(&best, kind, u32::from(channel) + 1, levels, steps))
                .collect();
            let expected = write(&header, &plain, &made, steps);
            assert_eq!(read(&expected, &plain), made, "{kind:?}, {levels} levels");
            for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
                let prior = best.with_instruction_set(set).unwrap();
                assert!(write(&header, &prior, &made, 1) == expected, "{kind:?} {set:?}");
                assert_eq!(read(&expected, &prior), made, "{kind:?} {set:?}");
            }
        }
    }
}

/// Writes with each instruction set, in pieces of a step and at once, and reads with each what the plain path
/// wrote.
#[cfg(feature = "embedded-model")]
fn comes_back(prior: &Prior, header: &Header, made: &[Tokens], name: &str) {
    let steps = made[0].steps(&header.layout).unwrap();
    let plain = prior.with_instruction_set(InstructionSet::Plain).unwrap();
    let expected = write(header, &plain, made, 1);
    for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
        let prior = prior.with_instruction_set(set).unwrap();
        assert!(write(header, &prior, made, steps) == expected, "{name}: {set:?}");
        assert_eq!(read(&expected, &prior), made, "{name}: {set:?}");
    }
}

/// The shipped model's tokens of the demo's clip, noise, silence, and tokens drawn at random.
#[cfg(feature = "embedded-model")]
#[test]
fn the_shipped_prior_codes_the_same_on_every_instruction_set() {
    let model = Model::shipped().unwrap();
    let prior = Prior::load_shipped(Shipped::General).unwrap().unwrap();
    let second = model.config().sample_rate as usize;
    let mut clip = audio::open(Path::new("assets/demo/clip.wav")).unwrap();
    let mut clip = audio::read_all(clip.as_mut(), 60 * second).unwrap().swap_remove(0);
    clip.truncate(3 * second / 2);
    let sounds =
        [("clip", clip), ("noise", noise(9, second / 2)), ("silence", vec![0.0; second / 2])];
    for (name, sound) in sounds {
        let mut source = Signal::new(48_000, vec![sound]);
        let levels = model.levels();
        let (bytes, _) =
            files::encode(&model, &mut source, levels, Vec::new(), &mut |_| {}).unwrap();
        let made = unpack(&bytes);
        let steps = made[0].steps(model.layout()).unwrap();
        let header = header(&model, &prior, 1, levels, steps).with_lines(Kept::All);
        comes_back(&prior, &header, &made, name);
    }
    let levels = model.levels();
    let made = [tokens(&prior, Kind::Random, 5, levels, 15)];
    comes_back(&prior, &header(&model, &prior, 1, levels, 15), &made, "random tokens");
}

/// Tokens of a file whose codes are packed plainly.
#[cfg(feature = "embedded-model")]
fn unpack(bytes: &[u8]) -> Vec<Tokens> {
    all_of(ContainerReader::open(Cursor::new(bytes)).unwrap())
}

/// Over a folder of one's own: `TESSERA_CLIPS=FOLDER cargo test --release --test entropy -- --ignored
/// --nocapture`.
#[cfg(feature = "embedded-model")]
#[test]
#[ignore = "needs a folder of audio named by TESSERA_CLIPS"]
fn a_folder_comes_back_on_every_instruction_set() {
    let model = Model::shipped().unwrap();
    let prior = Prior::load_shipped(Shipped::General).unwrap().unwrap();
    let mut folders = vec![PathBuf::from(std::env::var("TESSERA_CLIPS").unwrap())];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(mut source) = audio::open(&path) else { continue };
            let levels = 1 + files % model.levels();
            for levels in [levels, model.levels()] {
                let channels = source.info().channels;
                let (bytes, _) =
                    files::encode(&model, source.as_mut(), levels, Vec::new(), &mut |_| {})
                        .unwrap();
                let made = unpack(&bytes);
                let layout = model.layout().prefix(levels);
                let steps = made[0].steps(&layout).unwrap();
                let header =
                    header(&model, &prior, channels, levels, steps).with_lines(Kept::SlotsAndComb);
                comes_back(&prior, &header, &made, &path.display().to_string());
                source = audio::open(&path).unwrap();
            }
            files += 1;
            println!("{}: {levels} and all levels", path.display());
        }
    }
    println!("{files} files came back");
    assert!(files > 0);
}

#[test]
fn what_the_prior_expects_takes_few_bytes_and_nothing_takes_more_than_plain_bits() {
    let model = model();
    let prior = prior(&small_prior(&model), 4, 3.0);
    for levels in 1..=4 {
        let header = header(&model, &prior, 1, levels, 160);
        let size = |kind| {
            let made = tokens(&prior, kind, 1, levels, 160);
            let bytes = write(&header, &prior, std::slice::from_ref(&made), 160);
            assert_eq!(read(&bytes, &prior), [made]);
            // Ten chunks; what is beside the payloads.
            bytes.len() - header.to_bytes().unwrap().len() - 10 * 12
        };
        let plain = 10 * (header.layout.bits_per_step(levels) * 16).div_ceil(8);
        let most = plain + 10 + 60;
        assert!(size(Kind::Expected) < plain * 4 / 5, "{levels}: {}", size(Kind::Expected));
        assert!(size(Kind::Random) <= most, "{levels}");
        assert!(size(Kind::Unlikely) <= most, "{levels}");
    }
}

/// A file of a sound with and without the prior.
fn both(model: &Model, prior: &Prior, sound: &[Vec<f32>], levels: usize) -> [Vec<u8>; 2] {
    [None, Some(prior)].map(|prior| {
        let mut source = Signal::new(48_000, sound.to_vec());
        let file =
            files::encode_with(model, prior, &mut source, levels, Vec::new(), &mut |_| {}).unwrap();
        assert_eq!(file.1.bytes, file.0.len() as u64);
        file.0
    })
}

#[test]
fn a_file_is_never_larger_and_decodes_to_the_same_sound() {
    let config = CodecConfig {
        dim: 8,
        encoder_blocks: 1,
        decoder_blocks: 1,
        vq: VqConfig { codebook_size: 32, ..VqConfig::default() },
        ..CodecConfig::default()
    };
    let model = support::model(&config, 5, Dtype::F16);
    let prior = prior(&PriorConfig { steps: 64, ..small_prior(&model) }, 4, 1.0);
    let mut coded_files = 0;
    for steps in [0, 1, 25, 26, 63, 64, 65, 75, 76, 127, 128, 129, 200] {
        // The last step is for the decoder's lag.
        let samples = steps * model.chunk_samples() - steps.min(1) * 1500;
        for levels in [1, 4] {
            for sound in [vec![noise(3, samples)], vec![vec![0.0; samples]]] {
                let [plain, coded] = both(&model, &prior, &sound, levels);
                let (large, limit) = (coded.len(), plain.len() + plain.len() / 100);
                assert!(large <= limit, "{samples} samples, {levels} levels: {large} of {limit}");
                coded_files += usize::from(Header::parse(&coded).unwrap().0.prior_id.is_some());
                let [plain, coded] = [plain, coded].map(|bytes| {
                    let mut reader = reader(&bytes, &prior);
                    let mut all = vec![Vec::new(); sound.len()];
                    let mut sink = |block: &[Vec<f32>]| {
                        all.iter_mut().zip(block).for_each(|(all, part)| all.extend(part));
                        Ok(())
                    };
                    let done = files::decode(&model, &mut reader, &mut sink, &mut |_| {}).unwrap();
                    assert!(done.damages.is_empty());
                    all.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
                });
                assert!(plain == coded, "{samples} samples, {levels} levels");
            }
        }
    }
    assert!(coded_files > 10, "{coded_files}");
}

#[test]
fn the_bytes_do_not_depend_on_how_the_source_is_read() {
    let model = model();
    let prior = prior(&small_prior(&model), 4, 1.0);
    let sound = noise(5, 9000);
    let coded = |most| {
        let mut source = Signal::new(44_100, vec![sound.clone()]);
        source.most = most;
        files::encode_with(&model, Some(&prior), &mut source, 4, Vec::new(), &mut |_| {}).unwrap()
    };
    let (whole, report) = coded(usize::MAX);
    assert_eq!(report.prior_id, Some(prior.id_hex()));
    assert!(coded(1).0 == whole);
    assert!(coded(777).0 == whole);
}

#[test]
fn the_right_prior_is_asked_for() {
    let model = model();
    let right = tiny_prior(&model);
    let wrong = prior(&small_prior(&model), 5, 1.0);
    let header = header(&model, &right, 1, 2, 20);
    let made = tokens(&right, Kind::Random, 1, 2, 20);
    let bytes = write(&header, &right, &[made], 20);

    let mut reader = ContainerReader::open(Cursor::new(&bytes[..])).unwrap();
    assert!(!reader.can_decode());
    let error = reader.next_item().unwrap_err().to_string();
    assert!(error.contains(&right.id_hex()) && error.contains("--model"), "{error}");
    let error = files::attach(&mut reader, None).unwrap_err();
    let missing = CoderError::Missing { prior: right.id_hex() };
    assert!(matches!(&error, FilesError::Read(ReadError::Coder(e)) if *e == missing), "{error}");
    let error = files::attach(&mut reader, Some(&wrong)).unwrap_err().to_string();
    assert!(error.contains(&right.id_hex()) && error.contains(&wrong.id_hex()), "{error}");
    assert!(error.contains("--model"), "{error}");
    // The right one, but of other levels.
    let error = reader.set_coder(coder(&right, 3)).unwrap_err();
    assert_eq!(error, CoderError::Layout { prior: right.id_hex() });
    // Checksums can be looked at without it.
    let found = reader.summary().unwrap();
    assert_eq!((found.intact_chunks, found.damage_count), (4, 0));
    assert_eq!((found.prior_id, found.token_digest), (Some(right.id_hex()), None));
    files::attach(&mut reader, Some(&right)).unwrap();
    assert!(reader.summary().unwrap().token_digest.is_some());
    // A plain file needs none and takes any.
    let plain = ContainerWriter::new(
        Vec::new(),
        Header { samples: None, prior_id: None, ..header.clone() },
    );
    let plain = plain.unwrap().finish(0).unwrap();
    let mut reader = ContainerReader::open(Cursor::new(&plain[..])).unwrap();
    files::attach(&mut reader, Some(&wrong)).unwrap();
    assert!(reader.can_decode() && reader.next_item().unwrap().is_none());

    let new = |coder| ContainerWriter::with_coder(Vec::new(), header.clone(), coder).unwrap_err();
    assert!(matches!(new(None), WriteError::Coder(CoderError::Missing { .. })));
    assert!(matches!(new(coder(&wrong, 2)), WriteError::Coder(CoderError::Wrong { .. })));
    let other = support::model(&odd(), 9, Dtype::F16);
    let mut source = Signal::new(48_000, vec![vec![0.0; 100]]);
    let result = files::encode_with(&other, Some(&right), &mut source, 4, Vec::new(), &mut |_| {});
    assert!(matches!(result, Err(FilesError::Prior(_))));
}

#[test]
fn chunks_are_found_and_first_levels_read() {
    let model = model();
    let prior = tiny_prior(&model);
    let header = header(&model, &prior, 2, 3, 40);
    let made = [1, 2].map(|seed| tokens(&prior, Kind::Random, seed, 3, 40));
    let bytes = write(&header, &prior, &made, 40);
    // With the index, and without it.
    for bytes in [&bytes[..], &bytes[..bytes.len() - 3]] {
        let mut reader = reader(bytes, &prior);
        assert_eq!(reader.has_index(), bytes.last() == Some(&b'E'));
        reader.limit_levels(2).unwrap();
        for number in [6, 0, 3, 5, 1] {
            reader.seek_chunk(number).unwrap();
            let Some(Item::Chunk(chunk)) = reader.next_item().unwrap() else { panic!("damage") };
            assert_eq!(chunk.number, number);
            for (found, made) in chunk.channels.iter().zip(&made) {
                assert_eq!(found.levels.len(), 2);
                let first = number as usize * 6;
                for (level, codes) in found.levels.iter().enumerate() {
                    let per_step = header.layout.codes_per_step(level);
                    assert_eq!(codes[..], made.levels[level][first * per_step..][..codes.len()]);
                    assert_eq!(codes.len(), chunk.steps * per_step);
                }
            }
        }
    }
}

#[test]
fn a_file_is_repaired_without_its_prior() {
    let model = model();
    let prior = tiny_prior(&model);
    let header = header(&model, &prior, 1, 4, 40);
    let made = [tokens(&prior, Kind::Random, 1, 4, 40)];
    let whole = write(&header, &prior, &made, 40);
    assert_eq!(repair(Cursor::new(&whole[..]), Vec::new()).unwrap().0, whole);
    let mut bytes = whole.clone();
    bytes[300] ^= 4;
    let (mended, done) = repair(Cursor::new(&bytes[..]), Vec::new()).unwrap();
    assert_eq!((done.kept_chunks, done.lost_chunks), (6, 1));
    let items =
        |bytes: &[u8]| -> Vec<Item> { reader(bytes, &prior).map(|item| item.unwrap()).collect() };
    for (whole, mended) in items(&whole).iter().zip(&items(&mended)) {
        match mended {
            Item::Chunk(_) => assert_eq!(mended, whole),
            Item::Damage(damage) => assert_eq!(damage.reason, DamageReason::Marked),
        }
    }
}

/// What is read of a file made of `whole` is what was written, or is reported as damage; whether any was.
fn harmless(bytes: &[u8], whole: &[Item], prior: &Prior) -> bool {
    let Ok(mut reader) = ContainerReader::open(Cursor::new(bytes)) else { return true };
    if files::attach(&mut reader, Some(prior)).is_err() {
        return true;
    }
    let mut damaged = false;
    let mut steps = 0;
    for item in reader {
        match item.unwrap() {
            Item::Chunk(chunk) => {
                assert_eq!(Some(&Item::Chunk(chunk.clone())), whole.get(chunk.number as usize));
                steps += chunk.steps as u64;
            }
            Item::Damage(Damage { steps: lost, .. }) => {
                damaged = true;
                steps += lost;
            }
        }
    }
    let written = |item: &Item| if let Item::Chunk(chunk) = item { chunk.steps as u64 } else { 0 };
    assert_eq!(steps, whole.iter().map(written).sum::<u64>(), "the timeline is kept");
    damaged
}

/// Trials of damage.
const TRIALS: u32 = 10_000;

#[test]
fn ten_thousand_damages_are_each_reported_and_confined() {
    let model = model();
    let prior = tiny_prior(&model);
    let header = header(&model, &prior, 2, 2, 27);
    let made = [Kind::Random, Kind::Expected].map(|kind| tokens(&prior, kind, 1, 2, 27));
    let bytes = write(&header, &prior, &made, 27);
    let whole: Vec<Item> = reader(&bytes, &prior).map(|item| item.unwrap()).collect();
    assert!(!harmless(&bytes, &whole, &prior));
    let mut random = Random::new(77);
    let mut below = |n: usize| ((random.draw() + 1.0) / 2.0 * 0.9999 * n as f32) as usize;
    for trial in 0..TRIALS {
        let mut broken = bytes.clone();
        let at = below(bytes.len());
        match trial % 4 {
            0 => broken.truncate(at),
            1 => drop(broken.drain(at..(at + 1 + below(40)).min(bytes.len()))),
            2 => (0..1 + below(4)).for_each(|_| {
                let at = below(bytes.len());
                broken[at] ^= 1 << below(8);
            }),
            _ => broken[at] ^= 1 << below(8),
        }
        if broken != bytes {
            assert!(harmless(&broken, &whole, &prior), "trial {trial}: nothing was noticed");
        }
    }
}

#[test]
fn a_bad_payload_among_good_ones_is_damage_alone() {
    let model = model();
    let prior = tiny_prior(&model);
    let header = header(&model, &prior, 2, 3, 6 * 40 + 2);
    let made = [1, 2].map(|seed| tokens(&prior, Kind::Expected, seed, 3, 6 * 40 + 2));
    let mut bytes = write(&header, &prior, &made, 50);
    let read = |bytes: &[u8], ahead: usize| -> Vec<Item> {
        let mut reader = reader(bytes, &prior);
        reader.limit_ahead(ahead);
        reader.map(|item| item.unwrap()).collect()
    };
    let whole = read(&bytes, usize::MAX);
    assert_eq!(whole.len(), 41);
    // Payloads of no kind, and other codes behind an intact checksum.
    let mut at = header.to_bytes().unwrap().len();
    let mut bad = Vec::new();
    for number in 0..41 {
        let end = at + 8 + usize::from(u16::from_be_bytes([bytes[at + 6], bytes[at + 7]]));
        match number % 9 {
            4 => bytes[at + 8] = 3,
            5 => bytes[at + 9..end].fill(0xFF),
            _ => {}
        }
        let crc = crc32fast::hash(&bytes[at + 2..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        if number % 9 == 4 || number % 9 == 5 {
            bad.push(number);
        }
        at = end + 4;
    }
    let damaged = read(&bytes, usize::MAX);
    assert_eq!(damaged.len(), 41);
    for (number, (item, before)) in damaged.iter().zip(&whole).enumerate() {
        match item {
            // Codes that nobody wrote may be codes all the same.
            Item::Chunk(_) => assert!(item == before || number % 9 == 5),
            Item::Damage(damage) => {
                assert!(bad.contains(&number), "{damage}");
                let steps = if number == 40 { 2 } else { 6 };
                assert_eq!((damage.first, damage.chunks, damage.steps), (number as u32, 1, steps));
                assert_eq!(damage.reason, DamageReason::Coding);
            }
        }
        assert!(number % 9 != 4 || matches!(item, Item::Damage(_)));
    }
    for ahead in [0, 1, 3, 7] {
        assert_eq!(read(&bytes, ahead), damaged, "{ahead} at a time");
    }
    // What is given is what is asked for when it is given, not when it was read.
    let mut reader = reader(&bytes, &prior);
    for (place, item) in damaged.iter().enumerate() {
        let levels = 1 + place % 3;
        reader.limit_levels(levels).unwrap();
        match (reader.next_item().unwrap(), item) {
            (Some(Item::Chunk(found)), Item::Chunk(whole)) => {
                for (found, whole) in found.channels.iter().zip(&whole.channels) {
                    assert_eq!(found.levels, whole.levels[..levels]);
                }
            }
            (found, item) => assert_eq!(found.as_ref(), Some(item)),
        }
    }
}

proptest! {
    /// Neither the chunks that are coded together nor the threads make a difference, and bad payloads none to
    /// others.
    #[test]
    fn chunks_together_are_chunks_alone(
        kinds in prop::collection::vec((0usize..4, 1usize..=6, any::<u32>()), 0..50),
        harms in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<u8>()), 0..20),
        channels in 1usize..4,
        levels in 1usize..=4,
        threads in 0usize..12,
    ) {
        let model = model();
        let best = tiny_prior(&model);
        let chunk = |&(kind, steps, seed): &(usize, usize, u32)| -> Vec<Tokens> {
            let channel = |c| tokens(&best, KINDS[kind], seed.wrapping_add(c), levels, steps);
            (0..channels as u32).map(channel).collect()
        };
        let chunks: Vec<Vec<Tokens>> = kinds.iter().map(chunk).collect();
        let mut alone = PriorCoder::with_threads(&best, levels, 1).unwrap();
        let mut encode = |chunk| alone.encode(std::slice::from_ref(chunk)).remove(0).unwrap();
        let mut payloads: Vec<Vec<u8>> = chunks.iter().map(&mut encode).collect();
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
            let prior = best.with_instruction_set(set).unwrap();
            let mut together = PriorCoder::with_threads(&prior, levels, threads).unwrap();
            let found: Option<Vec<_>> = together.encode(&chunks).into_iter().collect();
            prop_assert_eq!(found.as_ref(), Some(&payloads), "{:?}", set);
        }
        for (place, harm, byte) in harms {
            if payloads.is_empty() {
                break;
            }
            let payload = place.get_mut(&mut payloads);
            match harm {
                0 => payload.truncate(usize::from(byte) % (payload.len() + 1)),
                1 => payload.push(byte),
                _ => payload.iter_mut().for_each(|value| *value ^= byte),
            }
        }
        let coded: Vec<Coded> = kinds
            .iter()
            .zip(&payloads)
            .map(|((_, steps, _), bytes)| Coded { steps: *steps, bytes })
            .collect();
        let mut decode = |chunk| alone.decode(channels, std::slice::from_ref(chunk)).remove(0);
        let expected: Vec<Option<Vec<Tokens>>> = coded.iter().map(&mut decode).collect();
        let mut together = PriorCoder::with_threads(&best, levels, threads).unwrap();
        prop_assert_eq!(together.decode(channels, &coded), expected);
    }

    /// Payloads that nobody wrote: tokens of the codebook or nothing, at once.
    #[test]
    fn any_bytes_are_tokens_or_none(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        channels in 1usize..4,
        steps in 0usize..7,
        levels in 1usize..=4,
    ) {
        let model = model();
        let prior = tiny_prior(&model);
        let mut coder = prior.coder(levels).unwrap();
        let mut decode = |bytes: &[u8]| coder.decode(channels, &[Coded { steps, bytes }]).remove(0);
        let Some(tokens) = decode(&bytes) else { return Ok(()) };
        prop_assert_eq!(tokens.len(), channels);
        let layout = prior.layout().prefix(levels);
        for tokens in &tokens {
            prop_assert_eq!(tokens.steps(&layout), Some(steps));
            prop_assert!(tokens.levels.iter().flatten().all(|code| *code < 50));
        }
        // And those tokens have bytes of their own.
        let again = prior.coder(levels).unwrap().encode(std::slice::from_ref(&tokens)).remove(0);
        prop_assert_eq!(decode(&again.unwrap()), Some(tokens));
    }

    /// Chunks whose checksums hold and whose payloads are anything.
    #[test]
    fn payloads_that_stand_for_nothing_are_damage(
        payload in prop::collection::vec(any::<u8>(), 1..27),
        first in 0u8..4,
    ) {
        let model = model();
        let prior = tiny_prior(&model);
        let header = header(&model, &prior, 1, 4, 3);
        let mut payload = payload;
        payload[0] = first;
        let mut bytes = header.to_bytes().unwrap();
        let mut chunk = vec![0, 0, 0, 3, 0, payload.len() as u8];
        chunk.extend(&payload);
        bytes.extend([0xF5, 0xC3]);
        bytes.extend(&chunk);
        bytes.extend(crc32fast::hash(&chunk).to_be_bytes());
        match reader(&bytes, &prior).next_item().unwrap() {
            Some(Item::Chunk(chunk)) => {
                let codes = chunk.channels[0].levels.iter().flatten();
                prop_assert_eq!(codes.clone().count(), 33);
                prop_assert!(codes.clone().all(|code| *code < 50));
                // Packed codes are of one length.
                prop_assert!(first == 1 || (first == 0 && payload.len() == 26));
            }
            Some(Item::Damage(damage)) => {
                prop_assert_eq!((damage.chunks, damage.steps), (1, 3));
                let reason = damage.reason;
                let bad = matches!(reason, DamageReason::Coding | DamageReason::Code { .. });
                prop_assert!(bad, "{reason}");
            }
            None => prop_assert!(false, "a chunk is there"),
        }
    }
}
