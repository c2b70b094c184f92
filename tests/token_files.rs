//! Tokens as data: what is written comes back, and what was not written by us is an error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use tessera_codec::bitstream::Header;
use tessera_codec::lines::Kept;
use tessera_codec::token_files::{Format, TokenFile, TokenFileError};
use tessera_codec::tokens::{TokenLayout, Tokens};

fn header(layout: TokenLayout, channels: u16, rate: u32, samples: u64) -> Header {
    Header {
        model_id: *b"sixteen bytes id",
        source_rate: rate,
        channels,
        samples: Some(samples),
        codec_rate: 48_000,
        hop: 480,
        pre_skip: 1440,
        steps_per_chunk: Header::steps_per_second(48_000, 480, &layout, channels),
        warm_up_steps: 9,
        prior_id: None,
        lines: Kept::Nothing,
        layout,
    }
}

/// Codes that look random, within their codebooks.
fn file(header: &Header, seed: u64) -> TokenFile {
    let layout = &header.layout;
    let steps = header.steps(header.samples.unwrap()) as usize;
    let mut state = seed | 1;
    let mut code = |size: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) as usize % size) as u16
    };
    let mut level = |l| -> Vec<u16> {
        let count = steps * layout.codes_per_step(l);
        (0..count).map(|_| code(layout.codebook_sizes[l])).collect()
    };
    let channels = (0..header.channels)
        .map(|_| Tokens::of_codes((0..layout.levels()).map(&mut level).collect()));
    TokenFile::new(header.clone(), channels.collect()).unwrap()
}

fn small() -> TokenFile {
    let layout = TokenLayout { strides: vec![4, 2, 1], codebook_sizes: vec![1024, 1000, 65_536] };
    file(&header(layout, 2, 44_100, 3000), 5)
}

fn layouts() -> impl Strategy<Value = TokenLayout> {
    let strides = prop::collection::vec(prop::sample::select(vec![1usize, 2, 4]), 0..6);
    (strides, prop::collection::vec(2usize..=65_536, 6)).prop_map(|(mut strides, mut sizes)| {
        strides.insert(0, 4);
        sizes.truncate(strides.len());
        sizes.resize(strides.len(), 1024);
        TokenLayout { strides, codebook_sizes: sizes }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tokens_come_back_from_every_format(
        layout in layouts(), channels in 1u16..5, rate in 1u32..200_000, seconds in 0.0..0.4f64, seed: u64
    ) {
        let tokens = file(&header(layout, channels, rate, (seconds * f64::from(rate)) as u64), seed);
        for format in Format::ALL {
            let bytes = tokens.to_bytes(format).unwrap();
            prop_assert_eq!(&TokenFile::from_bytes(format, &bytes).unwrap(), &tokens);
        }
        // And from the container in between.
        let levels = tokens.header().layout.levels();
        prop_assert_eq!(&TokenFile::from_tsr(&mut tokens.to_tsr().unwrap(), levels).unwrap(), &tokens);
    }

    /// No panic, and tokens only if they are consistent: `TokenFile::new` is the only way to them.
    #[test]
    fn damage_is_an_error_or_another_file(at: prop::sample::Index, bit in 0u8..8, format in 0usize..3) {
        let format = Format::ALL[format];
        let mut bytes = small().to_bytes(format).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(tokens) = TokenFile::from_bytes(format, &bytes) {
            let again = TokenFile::new(tokens.header().clone(), tokens.channels().to_vec());
            prop_assert_eq!(again.unwrap(), tokens);
        }
    }

    #[test]
    fn noise_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in Format::ALL {
            prop_assert!(TokenFile::from_bytes(format, &bytes).is_err());
        }
    }
}

#[test]
fn every_cut_is_an_error() {
    for format in Format::ALL {
        let bytes = small().to_bytes(format).unwrap();
        for length in 0..bytes.len() {
            // Without its last line end a file of lines is whole.
            let whole = format == Format::Jsonl && length == bytes.len() - 1;
            let result = TokenFile::from_bytes(format, &bytes[..length]);
            assert_eq!(result.is_ok(), whole, "{format:?} cut to {length}");
        }
    }
}

#[test]
fn lines_hold_the_codes_step_by_step_from_coarse_to_fine() {
    let layout = TokenLayout { strides: vec![4, 2, 1], codebook_sizes: vec![64; 3] };
    let levels = vec![vec![1, 2], vec![11, 12, 13, 14], vec![21, 22, 23, 24, 25, 26, 27, 28]];
    // 1920 samples and the decoder's lag are two steps.
    let tokens =
        TokenFile::new(header(layout, 1, 48_000, 1920), vec![Tokens::of_codes(levels)]).unwrap();
    let text = String::from_utf8(tokens.to_bytes(Format::Jsonl).unwrap()).unwrap();
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let codes = serde_json::json!([1, 11, 12, 21, 22, 23, 24, 2, 13, 14, 25, 26, 27, 28]);
    assert_eq!(line["codes"], codes);
    assert_eq!(line["metadata"]["model_id"], "7369787465656e206279746573206964");
    assert_eq!(line["metadata"]["strides"], serde_json::json!([4, 2, 1]));
}

/// The text of a file of lines, changed.
fn changed(from: &str, to: &str) -> TokenFileError {
    let text = String::from_utf8(small().to_bytes(Format::Jsonl).unwrap()).unwrap();
    assert!(text.contains(from), "no {from} in {text}");
    TokenFile::from_bytes(Format::Jsonl, text.replace(from, to).as_bytes()).unwrap_err()
}

#[test]
fn absurd_claims_are_refused_before_memory_is_taken() {
    use TokenFileError::{Channels, Code, Damaged, Header, Length};
    let huge = "\"samples\":1000000000000";
    assert!(matches!(changed("\"samples\":3000", huge), Header(_) | Length { .. }));
    assert!(matches!(changed("\"samples\":3000", "\"samples\":9000"), Length { level: 1, .. }));
    assert!(matches!(changed("\"channels\":2", "\"channels\":3"), Channels { .. }));
    assert!(matches!(changed("\"channels\":2", "\"channels\":99"), Header(_)));
    assert!(matches!(changed("\"strides\":[4,2,1]", "\"strides\":[4,0,1]"), Header(_)));
    assert!(matches!(changed("\"hop\":480", "\"hop\":0"), Header(_)));
    assert!(matches!(changed("\"levels\":3", "\"levels\":2"), Damaged { .. }));
    assert!(matches!(changed("[1024,1000,", "[1024,2,"), Code { level: 2, size: 2, .. }));
    assert!(matches!(changed("\"version\":1", "\"version\":2"), Damaged { .. }));
    assert!(matches!(changed("73697874", "73"), Damaged { .. }));
    assert!(matches!(changed("\"codes\":[", "\"codes\":[65536,"), Damaged { .. }));
    assert!(matches!(changed("\"channel\":1", "\"channel\":0"), Damaged { .. }));
}

#[test]
fn names_say_the_format() {
    let folder = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let path = folder.path().join(format!("a.{}", format.extension().to_uppercase()));
        std::fs::write(&path, small().to_bytes(format).unwrap()).unwrap();
        assert_eq!(TokenFile::open(&path).unwrap(), small());
    }
    let unknown = TokenFile::open(&folder.path().join("a.bin"));
    assert!(matches!(unknown, Err(TokenFileError::UnknownFormat(_))));
    let missing = TokenFile::open(&folder.path().join("b.npz"));
    assert!(matches!(missing, Err(TokenFileError::Io { .. })));
}
