//! The engine through its public API: the same bits however it is used, and errors for what cannot be.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use proptest::prelude::*;
use safetensors::Dtype;
use support::{Random, decode, encode, model, noise, odd, weights};
#[cfg(feature = "embedded-model")]
use tessera_codec::Shipped;
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::{
    ChannelDecoders, ChannelEncoders, EngineError, InstructionSet, Model, ModelError,
    StreamDecoder, StreamEncoder,
};
#[cfg(feature = "embedded-model")]
use tessera_codec::lines::{Comb, Grain, Lines};

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|s| s.to_bits()).collect()
}

/// Codes of a sound given in pieces of the sizes that `next` says.
fn encode_in_pieces(
    model: &Model,
    batch: usize,
    sound: &[f32],
    levels: usize,
    next: &mut dyn FnMut() -> usize,
) -> Vec<u16> {
    let mut encoder = StreamEncoder::with_batch(model, batch);
    let per_step = model.codes_per_step(levels);
    let (mut all, mut rest) = (Vec::new(), sound);
    // A batch that waits for room, and the tail.
    let mut codes = vec![0; (batch + 4) * per_step];
    while !rest.is_empty() {
        let (piece, room) = (next().min(rest.len()), per_step * (1 + next() % 4));
        let done = encoder.process_into(&rest[..piece], levels, &mut codes[..room]).unwrap();
        all.extend_from_slice(&codes[..done.produced]);
        rest = &rest[done.consumed..];
    }
    let needed = encoder.steps_to_finish() * per_step;
    let done = encoder.finish(levels, &mut codes[..needed]).unwrap();
    assert_eq!(done.produced, needed);
    all.extend_from_slice(&codes[..done.produced]);
    all
}

/// Lines of some steps of which many have combs, and some grains.
#[cfg(feature = "embedded-model")]
fn combs(steps: usize) -> Vec<Lines> {
    let with = |step: usize| {
        let mut lines = Lines::NONE;
        let pitch = (40 + 7 * (step % 9)) as u8;
        lines.set_comb(Comb::new(pitch, [(step % 4) as u8, 2]).filter(|_| step % 7 < 5));
        let row = (step / 3 * 40) as u8;
        lines.set_grain(Grain::new([row, 0, 255 - row, 9]));
        lines
    };
    (0..steps).map(with).collect()
}

#[test]
#[cfg(feature = "embedded-model")]
fn combs_and_grains_are_the_same_however_steps_come() {
    let model = Model::shipped().unwrap();
    let (levels, chunk) = (5, model.chunk_samples());
    let codes = encode(&model, 1, &noise(3, 20 * chunk), levels);
    let per_step = model.codes_per_step(levels);
    let steps = codes.len() / per_step;
    let decoded = |batch: usize, piece: usize, lines: &[Lines]| {
        let mut decoder = StreamDecoder::with_batch(&model, batch);
        let mut samples = vec![0.0; steps * chunk];
        for first in (0..steps).step_by(piece) {
            let end = (first + piece).min(steps);
            let codes = &codes[first * per_step..end * per_step];
            let own = lines.get(first..end).unwrap_or_default();
            let room = &mut samples[first * chunk..end * chunk];
            let done = decoder.process_with_lines(codes, levels, own, room).unwrap();
            assert_eq!(done.consumed, codes.len());
        }
        bits(&samples)
    };
    let lines = combs(steps);
    let once = decoded(1, steps, &lines);
    for (batch, piece) in [(1, 1), (3, 5), (16, steps), (8, 7)] {
        assert!(decoded(batch, piece, &lines) == once, "{batch} at once, {piece} at a time");
    }
    let plain = decoded(4, steps, &[]);
    assert!(plain != once);
    assert!(decoded(4, steps, &vec![Lines::NONE; steps]) == plain, "none are none");
    assert!(plain[..steps * chunk] == bits(&decode(&model, 1, &codes, levels))[..steps * chunk]);
}

/// Samples of codes given in pieces.
fn decode_in_pieces(
    model: &Model,
    batch: usize,
    codes: &[u16],
    levels: usize,
    next: &mut dyn FnMut() -> usize,
) -> Vec<f32> {
    let mut decoder = StreamDecoder::with_batch(model, batch);
    let (per_step, chunk) = (model.codes_per_step(levels), model.chunk_samples());
    let (mut all, mut rest) = (Vec::new(), codes);
    let mut samples = vec![0.0; 4 * chunk + decoder.latency_samples()];
    while !rest.is_empty() {
        let piece = (per_step * (1 + next() % 7)).min(rest.len());
        let room = chunk + next() % (3 * chunk);
        let done = decoder.process_into(&rest[..piece], levels, &mut samples[..room]).unwrap();
        all.extend_from_slice(&samples[..done.produced]);
        rest = &rest[done.consumed..];
    }
    let done = decoder.finish(&mut samples).unwrap();
    all.extend_from_slice(&samples[..done.produced]);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Pieces of 1 to 10,000 samples give the bits of the whole.
    #[test]
    fn pieces_give_the_bits_of_the_whole(
        seed in any::<u32>(),
        length in 0usize..30_000,
        sizes in prop::collection::vec(1usize..=10_000, 1..20),
        batch in 1usize..20,
        levels in 1usize..=4,
    ) {
        let model = model(&odd(), 1, Dtype::F16);
        let sound = noise(seed, length);
        let mut sizes = sizes.into_iter().cycle();
        let mut next = || sizes.next().unwrap();
        let codes = encode(&model, 1, &sound, levels);
        prop_assert_eq!(&encode_in_pieces(&model, batch, &sound, levels, &mut next), &codes);
        let samples = decode(&model, 1, &codes, levels);
        let pieces = decode_in_pieces(&model, batch, &codes, levels, &mut next);
        prop_assert_eq!(bits(&pieces), bits(&samples));
        // All that went in comes out, behind the lag.
        let lag = StreamDecoder::new(&model).latency_samples();
        if length > 0 {
            prop_assert!(samples.len() >= lag + length);
        }
    }

    /// Work in units gives the bits of whole steps.
    #[test]
    fn units_give_the_bits_of_whole_steps(
        seed in any::<u32>(),
        blocks in prop::collection::vec((1usize..64, 0usize..9), 1..9),
    ) {
        let model = model(&odd(), 2, Dtype::F16);
        let (chunk, per_step) = (model.chunk_samples(), model.codes_per_step(4));
        let sound = noise(seed, 20 * chunk);
        let mut blocks = blocks.into_iter().cycle();
        let mut encoder = StreamEncoder::new(&model);
        let mut decoder = StreamDecoder::new(&model);
        let (mut codes, mut samples) = (vec![0; per_step], vec![0.0; chunk]);
        let (mut all_codes, mut all_samples) = (Vec::new(), Vec::new());
        let mut rest = &sound[..];
        while all_samples.len() < 10 * chunk {
            let (size, units) = blocks.next().unwrap();
            let done = encoder.fill(&rest[..size.min(rest.len())]);
            rest = &rest[done.consumed..];
            if decoder.advance(1 + units) {
                prop_assert_eq!(decoder.take(&mut samples).unwrap(), chunk);
                all_samples.extend_from_slice(&samples);
            }
            // The next step's codes are taken once the decoder has done with those before.
            if all_codes.len() / per_step == all_samples.len() / chunk && encoder.advance(1 + units) {
                prop_assert_eq!(encoder.take(&mut codes).unwrap(), per_step);
                all_codes.extend_from_slice(&codes);
                decoder.begin(&codes, 4).unwrap();
            }
            if encoder.missing_samples() == 0 {
                let _ = encoder.begin(4);
            }
        }
        let expected = encode(&model, 1, &sound, 4);
        prop_assert_eq!(&all_codes[..], &expected[..all_codes.len()]);
        let expected = decode(&model, 1, &expected, 4);
        prop_assert_eq!(bits(&all_samples), bits(&expected[..all_samples.len()]));
    }
}

/// Configurations that reach every path of the kernels.
fn configurations() -> Vec<CodecConfig> {
    let wide = CodecConfig { dim: 80, expansion: 2, ..odd() };
    let normalized = CodecConfig {
        vq: VqConfig { strides: vec![6, 3, 2], codebook_size: 33, code_dim: 8, normalize: true },
        ..odd()
    };
    vec![odd(), wide, normalized]
}

#[test]
fn instruction_sets_give_the_same_bits() {
    for (config, dtype) in configurations().into_iter().zip([Dtype::F16, Dtype::F32, Dtype::BF16]) {
        let model = model(&config, 3, dtype);
        let levels = model.levels();
        let sound = noise(3, 40 * model.chunk_samples());
        let plain = model.with_instruction_set(InstructionSet::Plain).unwrap();
        let codes = encode(&plain, 1, &sound, levels);
        let samples = bits(&decode(&plain, 1, &codes, levels));
        for set in InstructionSet::ALL {
            let Ok(model) = model.with_instruction_set(set) else {
                println!("{set:?} is not on this CPU");
                assert!(!set.is_available());
                continue;
            };
            assert_eq!(model.instruction_set(), set);
            for batch in [1, 3] {
                assert_eq!(encode(&model, batch, &sound, levels), codes, "{set:?}");
                assert_eq!(bits(&decode(&model, batch, &codes, levels)), samples, "{set:?}");
            }
        }
    }
}

#[cfg(feature = "embedded-model")]
#[test]
fn instruction_sets_give_the_same_bits_with_the_shipped_models() {
    for shipped in Shipped::ALL {
        let model = Model::load_shipped(shipped).unwrap();
        let sound = noise(4, 6 * model.chunk_samples());
        let plain = model.with_instruction_set(InstructionSet::Plain).unwrap();
        let codes = encode(&plain, 1, &sound, 4);
        let samples = bits(&decode(&plain, 1, &codes, 4));
        for set in InstructionSet::ALL {
            let Ok(model) = model.with_instruction_set(set) else { continue };
            for batch in [1, 7] {
                assert_eq!(encode(&model, batch, &sound, 4), codes, "{shipped:?}, {set:?}");
                let decoded = decode(&model, batch, &codes, 4);
                assert_eq!(bits(&decoded), samples, "{shipped:?}, {set:?}");
            }
        }
    }
}

/// In pieces as at once, and as late as it says.
#[cfg(feature = "embedded-model")]
#[test]
fn the_live_model_streams_in_25_ms() {
    let model = Model::load_shipped(Shipped::Live).unwrap();
    assert_eq!(model.config().latency_samples(), 25 * 48);
    assert_eq!(
        model.chunk_samples() + StreamDecoder::new(&model).latency_samples(),
        model.config().latency_samples()
    );
    let levels = model.levels();
    let sound = noise(6, 20 * model.chunk_samples() + 17);
    let codes = encode(&model, 4, &sound, levels);
    let mut sizes = [1, 4097, 333, 10_000, 64].into_iter().cycle();
    let mut next = || sizes.next().unwrap();
    assert_eq!(encode_in_pieces(&model, 1, &sound, levels, &mut next), codes);
    let samples = decode(&model, 4, &codes, levels);
    let in_pieces = decode_in_pieces(&model, 1, &codes, levels, &mut next);
    assert_eq!(bits(&in_pieces), bits(&samples));
}

/// The code of quiet and loud sounds, of silence, and of samples beyond full scale.
#[test]
fn any_finite_sound_gives_finite_samples() {
    let model = model(&odd(), 5, Dtype::F16);
    for scale in [0.0, 1e-38, 1.0, 1e10, f32::MAX] {
        let sound: Vec<f32> = noise(5, 3000).iter().map(|s| s * scale).collect();
        let codes = encode(&model, 1, &sound, 4);
        assert!(codes.iter().all(|c| *c < 50));
        assert!(decode(&model, 1, &codes, 4).iter().all(|s| s.is_finite()));
    }
}

#[test]
fn threads_give_the_same_bits() {
    let model = model(&odd(), 6, Dtype::F16);
    let sounds: Vec<Vec<f32>> = (0..4).map(|seed| noise(seed, 20_000)).collect();
    let work = |sound: &Vec<f32>| {
        let codes = encode(&model, 1, sound, 4);
        (bits(&decode(&model, 1, &codes, 4)), codes)
    };
    let one: Vec<_> = sounds.iter().map(work).collect();
    let many: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = sounds.iter().map(|s| scope.spawn(move || work(s))).collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    });
    assert!(one == many);
}

/// A weight is the same number in every type that holds it.
#[test]
fn types_of_weights_give_the_same_bits() {
    let sound = noise(7, 3000);
    let results: Vec<_> = [Dtype::F16, Dtype::F32, Dtype::BF16]
        .map(|dtype| {
            let model = model(&odd(), 7, dtype);
            let codes = encode(&model, 1, &sound, 4);
            (bits(&decode(&model, 1, &codes, 4)), codes)
        })
        .into();
    assert!(results[0] == results[1] && results[1] == results[2]);
}

/// A clone goes on on its own, and a stream that was reset is like a new one.
#[test]
fn clones_and_resets() {
    let model = model(&odd(), 8, Dtype::F16);
    let (chunk, per_step) = (model.chunk_samples(), model.codes_per_step(4));
    let (first, second) = (noise(8, 5 * chunk + 11), noise(9, 5 * chunk));
    let mut codes = vec![0; 20 * per_step];
    let mut encoder = StreamEncoder::new(&model);
    encoder.process_into(&first, 4, &mut codes).unwrap();
    let mut clone = encoder.clone();
    let done = encoder.process_into(&second, 4, &mut codes).unwrap();
    let expected = codes[..done.produced].to_vec();
    encoder.reset();
    clone.process_into(&second, 4, &mut codes).unwrap();
    assert_eq!(codes[..done.produced], expected);

    let fresh = encode(&model, 1, &second, 4);
    let done = encoder.process_into(&second, 4, &mut codes).unwrap();
    assert_eq!(codes[..done.produced], fresh[..done.produced]);

    let mut decoder = StreamDecoder::new(&model);
    let mut samples = vec![0.0; 20 * chunk];
    let expected = decode(&model, 1, &fresh, 4);
    for _ in 0..2 {
        let done = decoder.process_into(&fresh, 4, &mut samples).unwrap();
        assert_eq!(bits(&samples[..done.produced]), bits(&expected[..done.produced]));
        decoder.reset();
    }
    // `finish` resets as well.
    for _ in 0..2 {
        let done = decoder.process_into(&fresh, 4, &mut samples).unwrap();
        decoder.finish(&mut samples[done.produced..]).unwrap();
        assert_eq!(bits(&samples[..expected.len()]), bits(&expected));
    }
}

/// The first levels' codes do not depend on how many follow, and may change with every step.
#[test]
fn levels_change_in_mid_stream() {
    let model = model(&odd(), 9, Dtype::F16);
    let chunk = model.chunk_samples();
    let sound = noise(10, 12 * chunk);
    let all = encode(&model, 1, &sound, 4);
    let mut encoder = StreamEncoder::new(&model);
    let mut decoder = StreamDecoder::new(&model);
    let (mut codes, mut samples) = (vec![0; 11], vec![0.0; chunk]);
    for (step, piece) in sound.chunks(chunk).enumerate() {
        let levels = 1 + step % 4;
        let done = encoder.process_into(piece, levels, &mut codes).unwrap();
        assert_eq!(done.produced, model.codes_per_step(levels));
        assert_eq!(codes[..done.produced], all[step * 11..][..done.produced]);
        let done = decoder.process_into(&codes[..done.produced], levels, &mut samples).unwrap();
        assert_eq!(done.produced, chunk);
    }
    // Steps of four levels that follow each other closely enough know nothing of the others before.
    let tail = encode(&model, 1, &sound, 4);
    let mut late = vec![0.0; 12 * chunk];
    decoder.process_into(&tail, 4, &mut late).unwrap();
    let mut fresh = StreamDecoder::new(&model);
    fresh.reset_at(12);
    let mut expected = vec![0.0; 12 * chunk];
    fresh.process_into(&tail, 4, &mut expected).unwrap();
    let warm = model.config().warm_up_steps() * chunk;
    assert_eq!(bits(&late[warm..]), bits(&expected[warm..]));
}

#[test]
fn samples_that_are_not_numbers_are_silence() {
    let model = model(&odd(), 10, Dtype::F16);
    let mut sound = noise(11, 2000);
    let mut spoilt = sound.clone();
    for (n, bad) in [(0, f32::NAN), (7, f32::INFINITY), (1500, f32::NEG_INFINITY)] {
        (sound[n], spoilt[n]) = (0.0, bad);
    }
    let mut codes = vec![0; 100 * 11];
    let mut encoder = StreamEncoder::new(&model);
    let done = encoder.process_into(&spoilt, 4, &mut codes).unwrap();
    assert_eq!((done.consumed, done.replaced), (2000, 3));
    assert_eq!(codes[..done.produced], encode(&model, 1, &sound, 4)[..done.produced]);
}

#[test]
fn channels_go_on_together() {
    let model = model(&odd(), 11, Dtype::F16);
    let chunk = model.chunk_samples();
    let sounds = [noise(12, 10 * chunk), noise(13, 10 * chunk), noise(14, 10 * chunk)];
    let mut encoders = ChannelEncoders::new(&model, 3, 2);
    let mut codes = vec![vec![0; 15 * 11]; 3];
    let done = encoders.process_into(&sounds, 4, &mut codes).unwrap();
    assert_eq!((done.consumed, done.produced), (10 * chunk, 10 * 11));
    let mut rest = vec![vec![0; 5 * 11]; 3];
    let tail = encoders.finish(4, &mut rest).unwrap();
    for (channel, sound) in sounds.iter().enumerate() {
        let expected = encode(&model, 1, sound, 4);
        assert_eq!(codes[channel][..done.produced], expected[..done.produced]);
        assert_eq!(rest[channel][..tail.produced], expected[done.produced..]);
    }
    let mut decoders = ChannelDecoders::new(&model, 3, 2);
    let mut samples = vec![vec![0.0; 15 * chunk]; 3];
    let given: Vec<&[u16]> = codes.iter().map(|c| &c[..done.produced]).collect();
    let out = decoders.process_into(&given, 4, &mut samples).unwrap();
    assert_eq!((out.consumed, out.produced), (done.produced, 10 * chunk));
    for (codes, samples) in given.iter().zip(&samples) {
        let expected = decode(&model, 1, codes, 4);
        assert_eq!(bits(&samples[..out.produced]), bits(&expected[..out.produced]));
    }

    let error = encoders.process_into(&sounds[..2], 4, &mut codes).unwrap_err();
    assert_eq!(error, EngineError::Channels { given: 2, expected: 3 });
    let uneven = [&sounds[0][..], &sounds[1][..5], &sounds[2][..]];
    let error = encoders.process_into(&uneven, 4, &mut codes).unwrap_err();
    assert_eq!(error, EngineError::ChannelLengths);
    // A bad code on the last channel leaves the first as it was.
    let mut bad = codes.clone();
    bad[2][3] = 50;
    let before = decoders.streams()[0].next_step();
    let error = decoders.process_into(&bad, 4, &mut samples).unwrap_err();
    assert_eq!(error, EngineError::Code { code: 50, place: 3, size: 50 });
    assert_eq!(decoders.streams()[0].next_step(), before);
}

#[test]
fn calls_that_cannot_be_are_refused_and_change_nothing() {
    let model = model(&odd(), 12, Dtype::F16);
    let chunk = model.chunk_samples();
    let sound = noise(15, 3 * chunk);
    let mut encoder = StreamEncoder::new(&model);
    let mut codes = vec![0; 10 * 11];
    for levels in [0, 5] {
        let error = EngineError::Levels { given: levels, most: 4 };
        assert_eq!(encoder.process_into(&sound, levels, &mut codes), Err(error));
        assert_eq!(encoder.begin(levels), Err(error));
    }
    let error = encoder.process_into(&sound, 4, &mut codes[..10]).unwrap_err();
    assert_eq!(error, EngineError::OutputTooSmall { given: 10, needed: 11 });
    assert!(matches!(encoder.begin(4), Err(EngineError::NotReady(_))));
    assert!(matches!(encoder.take(&mut codes), Err(EngineError::NotReady(_))));
    let done = encoder.process_into(&sound, 4, &mut codes).unwrap();
    assert_eq!(codes[..done.produced], encode(&model, 1, &sound, 4)[..done.produced]);
    encoder.fill(&sound);
    encoder.begin(4).unwrap();
    assert_eq!(encoder.begin(4), Err(EngineError::Busy));
    assert!(matches!(encoder.take(&mut codes), Err(EngineError::NotReady(_))));
    assert!(encoder.advance(usize::MAX));
    let error = encoder.take(&mut codes[..4]).unwrap_err();
    assert_eq!(error, EngineError::OutputTooSmall { given: 4, needed: 11 });
    let error = encoder.finish(1, &mut codes[..11]).unwrap_err();
    assert!(matches!(error, EngineError::OutputTooSmall { .. }));

    let mut decoder = StreamDecoder::new(&model);
    let mut samples = vec![0.0; chunk];
    let error = decoder.process_into(&[0; 10], 4, &mut samples).unwrap_err();
    assert_eq!(error, EngineError::PartialStep { given: 10, per_step: 11 });
    let error = decoder.process_into(&[0; 11], 4, &mut samples[1..]).unwrap_err();
    assert_eq!(error, EngineError::OutputTooSmall { given: chunk - 1, needed: chunk });
    let mut outside = [0; 11];
    outside[9] = 50;
    let error = decoder.process_into(&outside, 4, &mut samples).unwrap_err();
    assert_eq!(error, EngineError::Code { code: 50, place: 9, size: 50 });
    assert!(decoder.process_into(&[0; 11], 5, &mut samples).is_err());
    assert!(decoder.begin(&[0; 22], 4).is_err());
    assert_eq!(decoder.next_step(), 0);
    decoder.begin(&[0; 11], 4).unwrap();
    assert_eq!(decoder.begin(&[0; 11], 4), Err(EngineError::Busy));
    assert!(decoder.finish(&mut samples).is_err());
}

/// A thousand streams share one copy of the weights and take less than a megabyte each.
#[cfg(feature = "embedded-model")]
#[test]
fn streams_are_small() {
    let model = Model::shipped().unwrap();
    let streams: Vec<_> =
        (0..1000).map(|_| (StreamEncoder::new(&model), StreamDecoder::new(&model))).collect();
    let bytes = streams.iter().map(|(e, d)| e.bytes() + d.bytes()).max().unwrap();
    println!("{bytes} bytes a pair of streams, {} of weights", model.bytes());
    assert!(bytes < 1_000_000);
    assert!(streams.iter().all(|(e, d)| {
        std::ptr::eq(e.model().config(), model.config())
            && std::ptr::eq(d.model().config(), model.config())
    }));
}

/// The units of a step are small enough to be spread over blocks of 32 samples.
#[cfg(feature = "embedded-model")]
#[test]
fn units_are_small() {
    for shipped in Shipped::ALL {
        let model = Model::load_shipped(shipped).unwrap();
        let (encoder, decoder) = (StreamEncoder::new(&model), StreamDecoder::new(&model));
        for (units, share) in [
            (encoder.units(), encoder.largest_unit_share()),
            (decoder.units(), decoder.largest_unit_share()),
        ] {
            assert!((60..120).contains(&units), "{shipped:?}: {units}");
            assert!(share < 0.025, "{shipped:?}: {share}");
        }
    }
}

/// Files that do not fit, whose sizes are absurd, or whose numbers are none.
#[test]
fn models_that_do_not_fit_are_refused() {
    let config = odd();
    let json = config.to_json().unwrap();
    let good = weights(&config, 1, Dtype::F32);
    let load = |config: &str, weights: &[u8]| {
        Model::from_bytes(config.as_bytes(), weights, Path::new("here"))
    };
    assert!(load(&json, &good).is_ok());
    for end in [0, 7, 100, good.len() / 2, good.len() - 1] {
        assert!(matches!(load(&json, &good[..end]), Err(ModelError::Weights { .. })), "{end}");
    }
    let text = |error: Result<Model, ModelError>| error.err().unwrap().to_string();
    let absurd = CodecConfig { dim: 4096, expansion: 16, kernel: 64, ..config.clone() };
    let error = text(load(&absurd.to_json().unwrap(), &good));
    assert!(error.contains("encoder.analysis.weight") && error.contains("here"), "{error}");
    let deeper = CodecConfig { decoder_blocks: 4, ..config.clone() };
    let error = text(load(&deeper.to_json().unwrap(), &good));
    assert!(error.contains("decoder.blocks.3") && error.contains("missing"), "{error}");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut spoilt = good.clone();
        let end = spoilt.len();
        spoilt[end - 4..].copy_from_slice(&bad.to_le_bytes());
        assert!(text(load(&json, &spoilt)).contains("not finite"));
    }
    assert!(matches!(load("{}, 3", &good), Err(ModelError::Config { .. })));
    assert!(matches!(Model::load(Path::new("/nowhere")), Err(ModelError::Read { .. })));
    // Any damage to the header is an error or harmless, never a panic.
    let mut random = Random::new(16);
    for _ in 0..300 {
        let mut spoilt = good.clone();
        let place = ((random.draw() + 1.0) * 1500.0) as usize;
        spoilt[place] ^= 1 << ((random.draw() + 1.0) * 3.9) as u32;
        let _ = load(&json, &spoilt);
    }
}
