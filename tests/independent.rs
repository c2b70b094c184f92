//! A reader in another language that knows no more than docs/format.md reads what ours does.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::{Value, json};
use tessera_codec::bitstream::{ContainerReader, ContainerWriter, Header, Item, repair};
use tessera_codec::lines::{Kept, Lines};
use tessera_codec::tokens::{TokenLayout, Tokens};

mod lines_at_random;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/independent/read_tsr.py");

/// Runs the reader; `None`, with a line that says so, where there is no Python.
fn python(path: &Path) -> Option<Output> {
    match Command::new("python3").arg(SCRIPT).arg(path).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: python3 cannot be run here ({error})");
            None
        }
    }
}

/// What the other reader should print of a file.
fn expected(bytes: &[u8]) -> Value {
    let mut reader = ContainerReader::open(Cursor::new(bytes)).unwrap();
    let header = reader.header().clone();
    let mut chunks = Vec::new();
    for item in &mut reader {
        match item.unwrap() {
            Item::Chunk(chunk) => {
                let codes: Vec<_> = chunk.channels.iter().map(|tokens| &tokens.levels).collect();
                let count = header.lines.numbers();
                let numbers = |lines: &Lines| lines.to_codes()[..count].to_vec();
                let numbers = |t: &Tokens| t.lines.iter().map(numbers).collect::<Vec<_>>();
                let lines: Vec<_> = match header.lines.any() {
                    true => chunk.channels.iter().map(numbers).collect(),
                    false => Vec::new(),
                };
                chunks.push(json!({ "codes": codes, "lines": lines }));
            }
            Item::Damage(damage) => chunks.extend((0..damage.chunks).map(|_| Value::Null)),
        }
    }
    let header = json!({
        "source_rate": header.source_rate,
        "channels": header.channels,
        "samples": reader.samples(),
        "codec_rate": header.codec_rate,
        "hop": header.hop,
        "pre_skip": header.pre_skip,
        "steps_per_chunk": header.steps_per_chunk,
        "warm_up_steps": header.warm_up_steps,
        "lines": header.lines.numbers(),
        "model_id": header.model_id_hex(),
        "strides": header.layout.strides,
        "codebook_sizes": header.layout.codebook_sizes,
    });
    json!({ "header": header, "chunks": chunks })
}

/// Asserts that the other reader says the same; `false` where there is none.
fn agree(bytes: &[u8], path: &Path) -> bool {
    fs::write(path, bytes).unwrap();
    let Some(output) = python(path) else { return false };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found, expected(bytes), "{}", path.display());
    true
}

/// Files of any layout, known length or not.
fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let level = (prop_oneof![Just(1usize), Just(2), Just(6)], 2usize..=65_536);
    let levels = proptest::collection::vec(level, 1..5);
    (levels, 1u16..4, any::<bool>(), 0u64..200_000, 1u8..9, 8_000u32..96_000, any::<u64>())
        .prop_map(|(levels, channels, known, samples, steps_per_chunk, source_rate, seed)| {
            let (mut strides, sizes): (Vec<_>, Vec<_>) = levels.into_iter().unzip();
            strides[0] = 6;
            let header = Header {
                model_id: [seed as u8; 16],
                source_rate,
                channels,
                samples: known.then_some(samples),
                codec_rate: 24_000,
                hop: 240,
                pre_skip: 77,
                layout: TokenLayout { strides, codebook_sizes: sizes },
                steps_per_chunk,
                warm_up_steps: 5,
                prior_id: None,
                lines: Kept::Nothing,
            };
            let mut state = seed;
            let mut code = |size: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) as usize % size) as u16
            };
            let header = header.with_lines(Kept::EVERY[seed as usize % Kept::EVERY.len()]);
            let layout = &header.layout;
            let steps = header.steps(samples) as usize;
            let mut level = |l: usize| {
                let count = steps * layout.codes_per_step(l);
                (0..count).map(|_| code(layout.codebook_sizes[l])).collect()
            };
            let mut tokens: Vec<Tokens> = (0..channels)
                .map(|_| Tokens::of_codes((0..layout.levels()).map(&mut level).collect()))
                .collect();
            if header.lines.any() {
                for tokens in &mut tokens {
                    let number = || code(1 << 16).into();
                    tokens.lines =
                        lines_at_random::following(header.lines, Lines::NONE, steps, number);
                }
            }
            let mut writer = ContainerWriter::new(Vec::new(), header.clone()).unwrap();
            writer.push_steps(&tokens).unwrap();
            writer.finish(samples).unwrap()
        })
}

#[test]
fn files_of_the_shipped_model() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds/container");
    let mut seeds: Vec<PathBuf> =
        fs::read_dir(seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    for seed in seeds {
        let bytes = fs::read(seed).unwrap();
        // The other reader has no prior.
        if Header::parse(&bytes).unwrap().0.prior_id.is_some() {
            continue;
        }
        if !agree(&bytes, &folder.path().join("a.tsr")) {
            return;
        }
    }
}

#[test]
fn files_of_any_layout_and_repaired_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsr");
    let config = ProptestConfig {
        cases: 30,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let property = |(bytes, cut): (Vec<u8>, usize)| {
        if agree(&bytes, &path) {
            // With a piece missing, then repaired.
            let header = usize::from(u16::from_be_bytes([bytes[10], bytes[11]]));
            let at = header + cut % (bytes.len() - header);
            let end = bytes.len().min(at + 40);
            let broken = [&bytes[..at], &bytes[end..]].concat();
            if let Ok((mended, _)) = repair(Cursor::new(broken), Vec::new()) {
                agree(&mended, &path);
            }
        }
        Ok(())
    };
    TestRunner::new(config).run(&(any_file(), any::<usize>()), property).unwrap();
}

/// It does not believe just anything.
#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds/container/48k-mono.tsr");
    let bytes = fs::read(seed).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let path = folder.path().join("a.tsr");
        fs::write(&path, changed).unwrap();
        let Some(output) = python(&path) else { return };
        assert!(!output.status.success(), "byte {at}");
    }
}
