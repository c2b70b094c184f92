//! The spectrum of real samples by a complex transform of half their number: even samples are the real parts, odd
//! ones the imaginary parts.

use rustfft::num_complex::Complex32;

use crate::math;

/// `e^(-2 pi i k / size)` for the first half of the turn, as [`powers`] takes them.
pub fn turns(size: usize) -> impl Iterator<Item = Complex32> {
    (0..size / 2).map(move |k| {
        let (cos, sin) = math::cos_sin_of_turn(k, size);
        Complex32::new(cos as f32, -sin as f32)
    })
}

/// Puts samples, weighted by a window's shape, where they are transformed. What is beyond them stays as it is.
pub fn pack(samples: &[f32], shape: &[f32], out: &mut [Complex32]) {
    let pairs = samples.chunks_exact(2).zip(shape.chunks_exact(2));
    for (z, (x, w)) in out.iter_mut().zip(pairs) {
        *z = Complex32::new(w[0] * x[0], w[1] * x[1]);
    }
}

/// The power of each bin but the last, that of half the rate, from what the transform made.
pub fn powers(transformed: &[Complex32], turns: &[Complex32]) -> impl Iterator<Item = f32> {
    let half = transformed.len();
    turns.iter().enumerate().map(move |(k, turn)| {
        let (z, mirrored) = (transformed[k], transformed[(half - k) % half]);
        let (even_re, even_im) = (z.re + mirrored.re, z.im - mirrored.im);
        let (odd_re, odd_im) = (z.im + mirrored.im, mirrored.re - z.re);
        let re = even_re + (odd_re * turn.re - odd_im * turn.im);
        let im = even_im + (odd_re * turn.im + odd_im * turn.re);
        0.25 * (re * re + im * im)
    })
}
