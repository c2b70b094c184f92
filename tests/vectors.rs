//! Conformance vectors: tokens and samples that the shipped models make of known sounds, the same on every
//! CPU, today and later. `tests/vectors/` has them, a file for each model.
//!
//! They are made once for a model, with `TESSERA_VECTORS=write cargo test --test vectors`. When this test
//! fails and the model is still the same, files that people have would decode differently.
#![cfg(feature = "embedded-model")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{decode, encode};
use tessera_codec::Shipped;
use tessera_codec::audio;
use tessera_codec::engine::{InstructionSet, Model};

/// The sounds by name, mono at 48 kHz. Those that are not recorded are made with integers alone.
fn sounds() -> Vec<(&'static str, Vec<f32>)> {
    let second = 48_000;
    let mut state = 1u32;
    let noise = (0..second / 4).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as i16) / 32_768.0
    });
    let square = (0..second / 4).map(|n| if n / 240 % 2 == 0 { 0.5 } else { -0.5 });
    let impulse = (0..second / 4).map(|n| if n == 5000 { 1.0 } else { 0.0 });
    let mut sounds = vec![
        ("silence", vec![0.0; second / 4]),
        ("impulse", impulse.collect()),
        ("square wave of 100 Hz", square.collect()),
        ("noise at full scale", noise.collect()),
    ];
    // Recorded at 44.1 kHz and taken as 48 kHz, so that no resampler has a part in it.
    let mut clip = audio::open(Path::new("assets/demo/clip.wav")).unwrap();
    let clip = audio::read_all(clip.as_mut(), 60 * second).unwrap().swap_remove(0);
    for (name, tenths) in [("choir", 2), ("piano", 18), ("guitar", 38), ("drums", 58)] {
        let start = tenths * second / 10;
        sounds.push((name, clip[start..start + 4 * second / 10].to_vec()));
    }
    sounds
}

/// SHA-256 of samples, as 32-bit floats from the lowest byte on.
fn digest(samples: &[f32]) -> String {
    let mut hash = Sha256::new();
    for sample in samples {
        hash.update(sample.to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The codes of the first `levels` alone.
fn prefix(model: &Model, codes: &[u16], levels: usize) -> Vec<u16> {
    let all = model.codes_per_step(model.config().levels());
    let some = model.codes_per_step(levels);
    codes.chunks_exact(all).flat_map(|step| step[..some].to_vec()).collect()
}

fn vectors(model: &Model) -> Value {
    let most = model.config().levels();
    let vectors: Vec<Value> = sounds()
        .iter()
        .map(|(name, sound)| {
            let codes = encode(model, 1, sound, most);
            let pcm: Vec<String> = (1..=most)
                .map(|levels| digest(&decode(model, 1, &prefix(model, &codes, levels), levels)))
                .collect();
            json!({ "sound": name, "samples": sound.len(), "codes": codes, "pcm_sha256": pcm })
        })
        .collect();
    json!({ "model_id": model.id_hex(), "vectors": vectors })
}

#[test]
fn the_shipped_models_make_the_same_bits_everywhere() {
    Shipped::ALL.into_iter().for_each(makes_the_same_bits_everywhere);
}

fn makes_the_same_bits_everywhere(shipped: Shipped) {
    let model = Model::load_shipped(shipped).unwrap();
    let file = format!("tests/vectors/{}.json", shipped.name());
    if std::env::var("TESSERA_VECTORS").is_ok_and(|value| value == "write") {
        let text = serde_json::to_string(&vectors(&model)).unwrap();
        std::fs::write(&file, text.replace("{\"codes\"", "\n{\"codes\"") + "\n").unwrap();
    }
    let known: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        known["model_id"],
        model.id_hex(),
        "another model is shipped: it needs vectors of its own (see tests/vectors.rs)"
    );
    for set in InstructionSet::ALL {
        let Ok(model) = model.with_instruction_set(set) else {
            eprintln!("not tested here: this CPU does not have {set:?}");
            continue;
        };
        let made = vectors(&model);
        let pairs = made["vectors"].as_array().unwrap().iter();
        let known = known["vectors"].as_array().unwrap();
        assert_eq!(pairs.len(), known.len());
        for (made, known) in pairs.zip(known) {
            assert_eq!(made, known, "{shipped:?}, {set:?}");
        }
    }
}
