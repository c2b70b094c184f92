//! The prior of default size, with random weights: chunks of one channel coded and decoded, one alone and as many
//! as are coded together. Throughput is in samples: divided by 48,000 it is how many times real time.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{Random, default_prior, prior};
use tessera_codec::bitstream::Coded;
use tessera_codec::engine::{InstructionSet, Model};
use tessera_codec::prior::Prior;
use tessera_codec::tokens::Tokens;

/// A chunk of random codes.
fn chunk(prior: &Prior, levels: usize) -> Tokens {
    let mut random = Random::new(1);
    let steps = prior.config().steps;
    let codes: Vec<u16> = (0..steps * prior.codes_per_step(levels))
        .map(|_| ((random.draw() + 1.0) * 511.0) as u16)
        .collect();
    let mut tokens = Tokens::new(levels);
    tokens.extend_steps(&codes, prior.layout());
    tokens
}

fn coding(c: &mut Criterion) {
    let Ok(model) = Model::shipped() else { return };
    let best = prior(&default_prior(&model), 1, 1.0);
    let steps = best.config().steps;
    for set in [InstructionSet::Avx512, InstructionSet::Avx2] {
        let Ok(prior) = best.with_instruction_set(set) else { continue };
        let mut group = c.benchmark_group(format!("{set:?}"));
        group.sample_size(10);
        for levels in [1, 4] {
            let mut coder = prior.coder(levels).unwrap();
            for count in [1, coder.chunks_at_once()] {
                let samples = count * steps * model.chunk_samples();
                group.throughput(Throughput::Elements(samples as u64));
                let chunks = vec![vec![chunk(&prior, levels)]; count];
                let bytes: Vec<Vec<u8>> = coder.encode(&chunks).into_iter().flatten().collect();
                let coded: Vec<Coded> = bytes.iter().map(|bytes| Coded { steps, bytes }).collect();
                group.bench_function(format!("encode {levels}, {count} chunks"), |b| {
                    b.iter(|| coder.encode(&chunks));
                });
                group.bench_function(format!("decode {levels}, {count} chunks"), |b| {
                    b.iter(|| coder.decode(1, &coded));
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = coding
}
criterion_main!(benches);
