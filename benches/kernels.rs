//! Our kernels beside the same thing out of candle's operations, at the shapes of the default network:
//! eight crops of a second. What counts is the ratio of the two rows of a group, from one run.
#![allow(missing_docs)]

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use tessera_codec::model::ops::{self, Precision};

const BATCH: usize = 8;
const FRAMES: usize = 100;
const DIM: usize = 384;
const TAPS: usize = 7;

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu)
}

/// Times an operation's forward and backward pass; the input is a variable, as in training.
fn both_ways(
    c: &mut Criterion,
    group: &str,
    name: &str,
    x: &Tensor,
    f: impl Fn(&Tensor) -> Result<Tensor>,
) {
    let Ok(var) = candle_core::Var::from_tensor(x) else { return };
    c.benchmark_group(group).bench_function(name, |b| {
        b.iter(|| f(var.as_tensor()).and_then(|y| y.sum_all()?.backward()).map(drop))
    });
}

fn kernels(c: &mut Criterion) -> Result<()> {
    let x = random(&[BATCH, FRAMES, DIM])?;
    let (w, bias) = (random(&[TAPS, DIM])?, random(&[DIM])?);
    both_ways(c, "depthwise", "ours", &x, |x| ops::depthwise_causal(x, &w, &bias));
    both_ways(c, "depthwise", "candle", &x, |x| {
        let padded = x.pad_with_zeros(1, TAPS - 1, 0)?;
        let mut y = bias.broadcast_as(x.shape())?;
        for j in 0..TAPS {
            y = (y + padded.narrow(1, j, FRAMES)?.broadcast_mul(&w.narrow(0, j, 1)?)?)?;
        }
        Ok(y)
    });

    let wide = random(&[BATCH, FRAMES, 3 * DIM])?;
    both_ways(c, "gelu", "ours", &wide, ops::gelu);
    both_ways(c, "gelu", "candle", &wide, Tensor::gelu);

    // A variable: its gradient, which is left out otherwise, belongs to the work.
    let (w, bias) = (Var::from_tensor(&random(&[3 * DIM, DIM])?)?, random(&[3 * DIM])?);
    both_ways(c, "linear", "ours", &x, |x| ops::linear(x, &w, &bias, Precision::F32));
    both_ways(c, "linear", "candle", &x, |x| {
        x.reshape((BATCH * FRAMES, DIM))?.matmul(&w.t()?)?.broadcast_add(&bias)
    });

    both_ways(c, "normalize", "ours", &x, ops::normalize);
    both_ways(c, "normalize", "candle", &x, |x| {
        let centred = x.broadcast_sub(&x.mean_keepdim(2)?)?;
        centred.broadcast_div(&(centred.sqr()?.mean_keepdim(2)? + 1e-5)?.sqrt()?)
    });
    Ok(())
}

fn bench(c: &mut Criterion) {
    if let Err(error) = kernels(c) {
        eprintln!("cannot run: {error}");
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
