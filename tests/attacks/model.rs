//! A model's two files, and the streams of whatever model they make.

use std::path::Path;

use super::tiny;
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

/// The weights of the smallest model there is, and more.
const MOST_WEIGHT_BYTES: usize = 1 << 16;

/// Two bytes of length, the configuration, the weights: they are refused, or make a model that takes any
/// samples and any codes. Codes beyond the codebooks are errors, and no call writes more than there is
/// room for.
pub fn attack(bytes: &[u8]) {
    let Some((config, weights)) = tiny::parts(bytes) else { return };
    if weights.len() > MOST_WEIGHT_BYTES {
        return;
    }
    let Ok(model) = Model::from_bytes(config, weights, Path::new("bytes")) else { return };
    let levels = model.levels();
    let per_step = model.codes_per_step(levels);

    let mut decoder = StreamDecoder::new(&model);
    let mut samples = vec![0.0; 2 * decoder.chunk_samples()];
    let wild: Vec<u16> = bytes.iter().rev().map(|&b| u16::from(b) * 257).take(per_step).collect();
    let done = decoder.process_into(&wild, levels, &mut samples);
    let size = usize::from(u16::MAX) + 1;
    let size = model.layout().codebook_sizes.iter().fold(size, |least, &s| least.min(s));
    if wild.len() != per_step || wild.iter().all(|&code| usize::from(code) < size) {
        assert_eq!(done.is_ok(), wild.len() == per_step);
    }
    let tame: Vec<u16> = wild.iter().map(|&code| (usize::from(code) % size) as u16).collect();
    for levels in 0..=levels + 1 {
        let codes = &tame[..model.codes_per_step(levels).min(tame.len())];
        if let Ok(done) = decoder.process_into(codes, levels, &mut samples) {
            assert!(done.consumed <= codes.len() && done.produced <= samples.len());
        }
    }

    let mut encoder = StreamEncoder::new(&model);
    let sound: Vec<f32> = (0..3 * encoder.chunk_samples())
        .map(|n| f32::from_bits(u32::from(bytes[n % bytes.len()]) << 24 | 0x00AB_CDEF))
        .collect();
    let mut codes = vec![0; 3 * per_step];
    let done = encoder.process_into(&sound, levels, &mut codes).unwrap();
    assert!(done.consumed <= sound.len() && done.produced <= codes.len());
    let mut at = 0;
    for step in codes[..done.produced].chunks(per_step) {
        at = 0;
        for level in 0..levels {
            let count = model.layout().codes_per_step(level);
            let size = model.layout().codebook_sizes[level];
            assert!(step[at..at + count].iter().all(|&code| usize::from(code) < size));
            at += count;
        }
    }
    assert!(at == per_step || done.produced == 0);
}
