//! Everything that is not a matrix product: plain Rust over slices, compiled once for each instruction
//! set. Rust never reorders or contracts floating-point operations, so that all of them give the same
//! bits; what is fused is written as `mul_add`.

use crate::engine::kernels::lanes::WIDTH;
use crate::harmonics::Excitation;
use crate::noise::Noise;
use crate::synthesis::HeadRow;
use crate::{math, synthesis};

/// The whole part of a number from 0 up to 2^32. Rust's own conversion takes any number, and so does not become
/// vector code.
#[inline(always)]
fn whole(value: f64) -> u32 {
    // From 2^52 on numbers are whole: what is added to it ends up in the lowest bits.
    (value.floor() + (1u64 << 52) as f64).to_bits() as u32
}

/// Causal depthwise convolution: row `t` of `out` from rows `t`, `t + step`, `t + 2 * step` and so on of `x`,
/// as many as there are taps, channel by channel; `weights` is (taps, channels), `bias` (channels).
#[inline(always)]
pub fn depthwise(x: &[f32], step: usize, weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let channels = bias.len();
    for (t, row) in out.chunks_exact_mut(channels).enumerate() {
        row.copy_from_slice(bias);
        let taps = weights.chunks_exact(channels).zip(x[t * channels..].chunks(step * channels));
        for (weights, x) in taps {
            for ((y, w), x) in row.iter_mut().zip(weights).zip(x) {
                *y = w.mul_add(*x, *y);
            }
        }
    }
}

/// Each row of `channels` numbers to mean 0 and variance 1, in place.
#[inline(always)]
pub fn normalize(x: &mut [f32], channels: usize) {
    for row in x.chunks_exact_mut(channels) {
        let (mean, inverse) = math::moments(row);
        row.iter_mut().for_each(|v| *v = (*v - mean) * inverse);
    }
}

/// The GELU of each number, in place.
#[inline(always)]
pub fn gelu(x: &mut [f32]) {
    x.iter_mut().for_each(|v| *v = math::gelu(*v));
}

/// `h = x + h * gain`.
#[inline(always)]
pub fn scaled_residual(h: &mut [f32], x: &[f32], gain: &[f32]) {
    for ((h, x), gain) in h.iter_mut().zip(x).zip(gain) {
        *h = x + *h * gain;
    }
}

/// `sum += part`.
#[inline(always)]
pub fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}

/// `rest -= part`.
#[inline(always)]
pub fn subtract(rest: &mut [f32], part: &[f32]) {
    rest.iter_mut().zip(part).for_each(|(rest, part)| *rest -= part);
}

/// The largest number and the first place where it is; nothing when all are NaN or there are none.
#[inline(always)]
pub fn argmax(x: &[f32]) -> Option<(f32, usize)> {
    let mut lanes = [f32::NEG_INFINITY; WIDTH];
    let mut blocks = x.chunks_exact(WIDTH);
    for block in &mut blocks {
        for (lane, v) in lanes.iter_mut().zip(block) {
            *lane = if *v > *lane { *v } else { *lane };
        }
    }
    let mut most = f32::NEG_INFINITY;
    for v in lanes.iter().chain(blocks.remainder()) {
        most = if *v > most { *v } else { most };
    }
    // A block is looked at whole, which is faster than to stop in it.
    let here = |block: &[f32]| block.iter().fold(false, |found, v| found | (*v == most));
    let block = x.chunks(WIDTH).position(here)? * WIDTH;
    let place = x[block..].iter().position(|v| *v == most)?;
    Some((most, block + place))
}

/// The exponential of each score less the largest, `most`, in parts of 2^30, and 0 for what is no number;
/// gives the sum.
#[inline(always)]
pub fn weigh(scores: &[f32], most: f32, weights: &mut [u32]) -> u64 {
    for (weight, score) in weights.iter_mut().zip(scores) {
        let value = math::exp(score - most) * (1u32 << 30) as f32;
        *weight = whole(f64::from(if value > 0.0 { value } else { 0.0 }));
    }
    weights.iter().map(|weight| u64::from(*weight)).sum()
}

/// One more than `share` times each number, rounded down, in place; gives the sum. Products are below 2^32.
#[inline(always)]
pub fn share_out(counts: &mut [u32], share: f64) -> u32 {
    counts.iter_mut().for_each(|count| *count = 1 + whole(f64::from(*count) * share));
    counts.iter().sum()
}

/// The spectrum of the learned bins from their log magnitudes and directions, which `re` and `im`, the
/// frame's noise, are mixed with; `shares` is the share of noise in each bin's direction.
#[inline(always)]
pub fn learned_bins(head: &HeadRow, shares: &[f32], re: &mut [f32], im: &mut [f32]) {
    synthesis::direct(head, shares, re, im);
    for ((re, im), log_magnitude) in re.iter_mut().zip(im).zip(head.magnitudes) {
        (*re, *im) = synthesis::cartesian(*log_magnitude, *re, *im);
    }
}

/// See [`synthesis::voice`].
#[inline(always)]
pub fn voice(voicing: &[f32], excitation: &Excitation, re: &mut [f32], im: &mut [f32]) {
    synthesis::voice(voicing, excitation, re, im);
}

/// See [`synthesis::lead`].
#[inline(always)]
pub fn lead(head: &HeadRow, re: &mut [f32], im: &mut [f32]) {
    synthesis::lead(head, re, im);
}

/// Gives the bins above the learned ones their magnitudes.
#[inline(always)]
pub fn amplify(log_magnitudes: &[f32], re: &mut [f32], im: &mut [f32]) {
    for ((re, im), log_magnitude) in re.iter_mut().zip(im).zip(log_magnitudes) {
        let magnitude = synthesis::magnitude(*log_magnitude);
        (*re, *im) = (magnitude * *re, magnitude * *im);
    }
}

/// The noise of a frame's directions.
#[inline(always)]
pub fn noise(noise: &Noise, frame: u64, a: &mut [f32], b: &mut [f32]) {
    noise.draw(frame, a, b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_largest_is_found() {
        let mut x = vec![0.0; 100];
        (x[40], x[41], x[99]) = (2.0, 2.0, 2.0);
        assert_eq!(argmax(&x), Some((2.0, 40)));
        x[98] = 3.0;
        assert_eq!(argmax(&x), Some((3.0, 98)));
        x[98] = f32::NAN;
        assert_eq!(argmax(&x), Some((2.0, 40)));
        assert_eq!(argmax(&[f32::NAN; 20]), None);
        assert_eq!(argmax(&[]), None);
    }
}
