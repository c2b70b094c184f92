//! Broken `.tsr` files, one kind a row: what exactly is said about each, and that every chunk that is
//! intact is still given.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../header_fields/mod.rs"]
mod at;
mod damage;
mod harm;
mod headers;

use std::io::Cursor;

use tessera_codec::bitstream::{
    CHUNK_OVERHEAD, Chunk, ContainerReader, ContainerWriter, Damage, Header, Item, ReadError,
};
use tessera_codec::lines::Kept;
use tessera_codec::tokens::{TokenLayout, Tokens};

/// Bytes of the header of the test file.
const HEADER: usize = 72;
/// Bytes of a full chunk of it: 4 steps, 2 channels, 5 + 2 * 3 bits.
const CHUNK: usize = CHUNK_OVERHEAD + 11;
/// Its chunks: nine full ones and one of 2 steps.
const CHUNKS: usize = 10;
const LAST: usize = CHUNK_OVERHEAD + 6;
/// Where its index begins, and its trailer.
const INDEX: usize = HEADER + 9 * CHUNK + LAST;
const TRAILER: usize = INDEX + 5;
const END: usize = TRAILER + 24;
const SAMPLES: u64 = 38 * 960;

fn test_header(samples: Option<u64>) -> Header {
    Header {
        model_id: [9; 16],
        source_rate: 48_000,
        channels: 2,
        samples,
        codec_rate: 48_000,
        hop: 480,
        pre_skip: 0,
        layout: TokenLayout { strides: vec![2, 1], codebook_sizes: vec![17, 8] },
        steps_per_chunk: 4,
        warm_up_steps: 3,
        prior_id: None,
        lines: Kept::Nothing,
    }
}

/// Tokens that differ from step to step, channel to channel and level to level.
fn tokens(header: &Header, steps: usize, seed: u64) -> Vec<Tokens> {
    let mut state = seed;
    let mut code = |size: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize % size) as u16
    };
    let layout = &header.layout;
    let level = |l: usize, code: &mut dyn FnMut(usize) -> u16| {
        (0..steps * layout.codes_per_step(l)).map(|_| code(layout.codebook_sizes[l])).collect()
    };
    (0..header.channels)
        .map(|_| {
            Tokens::of_codes((0..layout.levels()).map(|l| level(l, &mut code)).collect::<Vec<_>>())
        })
        .collect()
}

fn write(header: &Header, samples: u64, tokens: &[Tokens]) -> Vec<u8> {
    let mut writer = ContainerWriter::new(Vec::new(), header.clone()).unwrap();
    writer.push_steps(tokens).unwrap();
    writer.finish(samples).unwrap()
}

/// The test file, 38 steps in ten chunks.
fn test_file(samples: Option<u64>) -> Vec<u8> {
    let header = test_header(samples);
    write(&header, SAMPLES, &tokens(&header, 38, 1))
}

fn read(bytes: &[u8]) -> Result<Vec<Item>, ReadError> {
    ContainerReader::open(Cursor::new(bytes))?.collect()
}

fn chunks(items: &[Item]) -> Vec<Chunk> {
    let chunk = |item: &Item| match item {
        Item::Chunk(chunk) => Some(chunk.clone()),
        Item::Damage(_) => None,
    };
    items.iter().filter_map(chunk).collect()
}

fn damages(items: &[Item]) -> Vec<Damage> {
    let damage = |item: &Item| match item {
        Item::Chunk(_) => None,
        Item::Damage(damage) => Some(damage.clone()),
    };
    items.iter().filter_map(damage).collect()
}

#[test]
fn the_test_file_is_laid_out_as_the_tests_assume() {
    let bytes = test_file(Some(SAMPLES));
    assert_eq!(bytes.len(), END);
    for n in 0..CHUNKS {
        assert_eq!(bytes[HEADER + n * CHUNK..][..5], [0xF5, 0xC3, 0, 0, n as u8]);
    }
    assert_eq!(bytes[INDEX..INDEX + 2], [0xF5, 0x3A]);
    let items = read(&bytes).unwrap();
    assert!(damages(&items).is_empty());
    assert_eq!(chunks(&items).len(), CHUNKS);
}
