//! The engine: encoding, decoding and both, by the step as live sound comes, and by the second as files
//! are coded. Throughput is in samples: divided by 48,000 it is how many times real time.
//!
//! `cargo run --release --example speed` also looks for the slowest step.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tessera_codec::engine::{EngineError, InstructionSet, Model, StreamDecoder, StreamEncoder};

/// Something like a sound: a chirp.
fn sound(samples: usize) -> Vec<f32> {
    (0..samples).map(|n| (n as f32 * n as f32 * 1e-5).sin() * 0.4).collect()
}

/// Encoding, decoding and both of `steps` steps at a time.
fn measure(c: &mut Criterion, group: &str, model: &Model, steps: usize) -> Result<(), EngineError> {
    let levels = model.levels();
    let mut encoder = StreamEncoder::with_batch(model, steps);
    let mut decoder = StreamDecoder::with_batch(model, steps);
    let sound = sound(steps * model.chunk_samples());
    let mut codes = vec![0; steps * model.codes_per_step(levels)];
    let mut samples = vec![0.0; sound.len()];
    // Whatever could go wrong does so here.
    encoder.process_into(&sound, levels, &mut codes)?;
    decoder.process_into(&codes, levels, &mut samples)?;
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(sound.len() as u64));
    group.bench_function("encode", |b| {
        b.iter(|| encoder.process_into(&sound, levels, &mut codes));
    });
    group.bench_function("decode", |b| {
        b.iter(|| decoder.process_into(&codes, levels, &mut samples));
    });
    group.bench_function("both", |b| {
        b.iter(|| {
            encoder.process_into(&sound, levels, &mut codes)?;
            decoder.process_into(&codes, levels, &mut samples)
        });
    });
    group.finish();
    Ok(())
}

fn engine(c: &mut Criterion) {
    let Ok(best) = Model::shipped() else { return };
    let a_second = best.config().sample_rate as usize / best.chunk_samples();
    for set in InstructionSet::ALL {
        // Plain code is there to compare results with, not speed.
        if set == InstructionSet::Plain && best.instruction_set() != set {
            continue;
        }
        let Ok(model) = best.with_instruction_set(set) else { continue };
        for (name, steps) in [("step", 1), ("second", a_second)] {
            if let Err(error) = measure(c, &format!("{set:?}/{name}"), &model, steps) {
                eprintln!("{set:?}, a {name} at a time: {error}");
            }
        }
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
