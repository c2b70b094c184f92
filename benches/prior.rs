//! The prior of default size, with random weights: a chunk of one channel coded and decoded. Throughput is in
//! samples: divided by 48,000 it is how many times real time.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{Random, default_prior, prior};
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
        group.throughput(Throughput::Elements((steps * model.chunk_samples()) as u64));
        group.sample_size(10);
        for levels in [1, 4] {
            let tokens = [chunk(&prior, levels)];
            let mut coder = prior.coder(levels).unwrap();
            let bytes = coder.encode(&tokens).unwrap();
            group.bench_function(format!("encode {levels}"), |b| b.iter(|| coder.encode(&tokens)));
            group.bench_function(format!("decode {levels}"), |b| {
                b.iter(|| coder.decode(1, steps, &bytes));
            });
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
