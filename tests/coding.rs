//! Whole files through the engine: lengths, damage, and what does not matter to the bytes.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Cursor;

use safetensors::Dtype;
use support::Signal;
use tessera_codec::bitstream::{ContainerReader, DamageReason, Header, Item};
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::{Model, StreamDecoder};
use tessera_codec::files::{DecodeReport, Encoding, FilesError, decode, decode_with, encode};
use tessera_codec::lines::Selection;
use tessera_codec::prior::Prior;

fn model() -> Model {
    let config = CodecConfig {
        dim: 8,
        encoder_blocks: 1,
        decoder_blocks: 1,
        vq: VqConfig { codebook_size: 32, ..VqConfig::default() },
        ..CodecConfig::default()
    };
    support::model(&config, 5, Dtype::F32)
}

fn decoded(model: &Model, bytes: &[u8]) -> (Vec<Vec<f32>>, DecodeReport) {
    decoded_with(model, None, bytes)
}

fn decoded_with(
    model: &Model,
    prior: Option<&Prior>,
    bytes: &[u8],
) -> (Vec<Vec<f32>>, DecodeReport) {
    let mut reader = ContainerReader::open(Cursor::new(bytes)).unwrap();
    let mut out = vec![Vec::new(); reader.header().channels.into()];
    let mut sink = |block: &[Vec<f32>]| {
        for (out, block) in out.iter_mut().zip(block) {
            out.extend_from_slice(block);
        }
        Ok(())
    };
    let report = decode_with(model, prior, &mut reader, &mut sink, &mut |_| {}).unwrap();
    (out, report)
}

#[test]
fn lengths_are_exact_at_any_rate() {
    let model = model();
    for (rate, channels, frames) in
        [(48_000, 1, 1), (44_100, 2, 30_011), (8_000, 3, 9_999), (96_000, 1, 77), (1, 1, 3)]
    {
        let mut source = Signal::tone(rate, channels, frames);
        let (bytes, report) = encode(&model, &mut source, 4, Vec::new(), &mut |_| {}).unwrap();
        assert_eq!((report.samples, report.bytes), (frames as u64, bytes.len() as u64));
        let (out, report) = decoded(&model, &bytes);
        assert_eq!(out.len(), usize::from(channels));
        assert!(out.iter().all(|c| c.len() == frames), "{rate} Hz");
        assert!(report.damages.is_empty());
        assert!(out.iter().flatten().all(|v| v.is_finite()));
    }
}

#[test]
fn nothing_in_gives_nothing_out() {
    let model = model();
    let mut source = Signal::tone(44_100, 2, 0);
    let (bytes, report) = encode(&model, &mut source, 1, Vec::new(), &mut |_| {}).unwrap();
    assert_eq!((report.samples, report.kbps), (0, 0.0));
    assert_eq!(decoded(&model, &bytes).1.samples, 0);
}

#[test]
fn a_lost_chunk_is_reported_faded_and_keeps_the_time() {
    let model = model();
    let mut source = Signal::tone(48_000, 2, 5 * 48_000);
    let (bytes, _) = encode(&model, &mut source, 4, Vec::new(), &mut |_| {}).unwrap();
    let (whole, _) = decoded(&model, &bytes);
    let mut damaged = bytes.clone();
    let middle = bytes.len() / 2;
    damaged[middle] ^= 0x10;
    let (out, report) = decoded(&model, &damaged);
    assert_eq!(report.damages.len(), 1);
    assert_eq!(report.damages[0].reason, DamageReason::Checksum);
    assert!((report.concealed_seconds - 1.0).abs() < 1e-9);
    assert_eq!(out[0].len(), whole[0].len());
    let lost = report.damages[0].first as usize * 48_000;
    // Unchanged before, ever softer in the gap, the same again well after it.
    assert_eq!(out[0][..lost - 1440], whole[0][..lost - 1440]);
    let power = |samples: &[f32]| samples.iter().map(|v| v * v).sum::<f32>() / samples.len() as f32;
    for c in &out {
        let (early, late) = (power(&c[lost..lost + 8000]), power(&c[lost + 38_000..lost + 46_000]));
        assert!(early > 0.0 && late > 0.0 && late < 0.8 * early, "{early} {late}");
    }
    let after = lost + 48_000 + 20_000;
    for (a, b) in out[1][after..].iter().zip(&whole[1][after..]) {
        assert!((a - b).abs() < 1e-5);
    }
}

/// What is lost is guessed by the prior, the same every time; nothing else changes. A prior of another
/// model guesses nothing.
#[test]
fn the_prior_makes_up_what_is_lost() {
    let model = model();
    let prior = support::prior(&support::small_prior(&model), 3, 1.0);
    let mut source = Signal::tone(48_000, 1, 5 * 48_000);
    let (mut bytes, _) = encode(&model, &mut source, 4, Vec::new(), &mut |_| {}).unwrap();
    let whole = decoded_with(&model, Some(&prior), &bytes).0;
    assert_eq!(whole, decoded(&model, &bytes).0);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let (repeated, report) = decoded(&model, &bytes);
    let guessed = decoded_with(&model, Some(&prior), &bytes).0;
    assert_eq!(guessed, decoded_with(&model, Some(&prior), &bytes).0);
    let lost = report.damages[0].first as usize * 48_000;
    assert_eq!(guessed[0][..lost - 1440], repeated[0][..lost - 1440]);
    assert_ne!(guessed[0][lost..lost + 9600], repeated[0][lost..lost + 9600]);
    assert!(guessed[0][lost + 20_000..lost + 45_000].iter().any(|v| *v != 0.0));
    assert_eq!(guessed[0].len(), whole[0].len());
    let other = support::model(model.config(), 6, Dtype::F32);
    let wrong = support::prior(&support::small_prior(&other), 3, 1.0);
    assert_eq!(decoded_with(&model, Some(&wrong), &bytes).0, repeated);
}

#[test]
fn another_models_file_is_refused() {
    let model = model();
    let mut source = Signal::tone(48_000, 1, 1000);
    let (mut bytes, _) = encode(&model, &mut source, 4, Vec::new(), &mut |_| {}).unwrap();
    let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
    let header = Header { model_id: [7; 16], ..reader.header().clone() };
    let length = reader.header().to_bytes().unwrap().len();
    assert!(reader.next_item().unwrap().is_some());
    bytes.splice(..length, header.to_bytes().unwrap());
    let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
    let result = decode(&model, &mut reader, &mut |_| Ok(()), &mut |_| {});
    assert!(matches!(result, Err(FilesError::WrongModel { .. })));
}

#[test]
fn levels_beyond_the_models_are_refused() {
    let model = model();
    for asked in [0, 5] {
        let mut source = Signal::tone(48_000, 1, 10);
        let result = encode(&model, &mut source, asked, Vec::new(), &mut |_| {});
        assert!(matches!(result, Err(FilesError::Levels { .. })));
    }
}

#[test]
fn the_bytes_do_not_depend_on_how_the_source_is_read() {
    let model = model();
    for rate in [48_000, 44_100] {
        let coded = |most| {
            let mut source = Signal::tone(rate, 3, 200_001);
            source.most = most;
            encode(&model, &mut source, 3, Vec::new(), &mut |_| {}).unwrap().0
        };
        let whole = coded(usize::MAX);
        for most in [1000, 77_777] {
            assert!(coded(most) == whole, "{rate} Hz, {most} at a time");
        }
    }
}

/// A gap of a minute is silence, and the sound after it that of a stream that begins there.
#[test]
fn after_a_long_gap_the_stream_begins_anew() {
    let model = model();
    let seconds = 70;
    let mut source = Signal::tone(48_000, 1, seconds * 48_000);
    // Lines remember a little of what was there before them.
    let encoding = Encoding { lines: Some(Selection::NONE), ..Encoding::of_levels(4) };
    let (bytes, _) = encode(&model, &mut source, encoding, Vec::new(), &mut |_| {}).unwrap();
    let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
    let header = reader.header().clone();
    let (mut chunks, mut last) = (Vec::new(), 0);
    while let Some(Item::Chunk(chunk)) = reader.next_item().unwrap() {
        last = chunk.channels[0].levels[0].len();
        chunks.push(chunk.channels[0].clone());
    }
    assert!(chunks.len() > 65 && last > 0);
    // Chunks 3 to 62 are cut out: a chunk begins with its sync word and number.
    let at = |chunk: u8| {
        let head = [0xF5, 0xC3, 0, 0, chunk];
        bytes.windows(head.len()).position(|bytes| bytes == head).unwrap()
    };
    let cut = [&bytes[..at(3)], &bytes[at(63)..]].concat();

    let (out, report) = decoded(&model, &cut);
    assert_eq!((report.damages.len(), report.damages[0].first), (1, 3));
    assert!((report.concealed_seconds - 60.0).abs() < 1e-9);
    assert_eq!(out[0].len(), seconds * 48_000);
    let lag = header.pre_skip as usize;
    let (gap, end) = (3 * 48_000 - lag, 63 * 48_000 - lag);
    assert!(out[0][gap..gap + 4_800].iter().any(|v| *v != 0.0));
    // Silent after two seconds, give or take the rounding of the fade.
    assert!(out[0][gap + 97_000..end].iter().all(|v| *v == 0.0));

    let mut decoder = StreamDecoder::new(&model);
    decoder.reset_at(63 * u64::from(header.steps_per_chunk));
    let mut codes = Vec::new();
    chunks[63].append_steps_to(&mut codes, model.layout());
    let mut sound = vec![0.0; 48_000];
    assert_eq!(decoder.process_into(&codes, 4, &mut sound).unwrap().produced, 48_000);
    let faded = 970;
    assert!(out[0][end + faded..end + 48_000] == sound[faded..]);
    assert!(sound[faded..].iter().any(|v| v.abs() > 1e-4));
}
