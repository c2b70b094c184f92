//! The loss's terms over the bins of one frame, with their gradients, as vector code.

use multiversion::multiversion;
use rustfft::num_complex::Complex32;

use crate::math;

/// Magnitudes below this are as good as silence to the logarithmic terms (as in the DAC paper).
pub const FLOOR: f32 = 1e-5;
/// Keeps the gradient of a magnitude finite at zero; 140 dB below full scale.
pub const TINY: f32 = 1e-14;
/// Power, relative to a full-scale tone, below which the compressed spectrum becomes linear, so that its
/// gradient stays bounded: 90 dB down.
pub const SOFT: f32 = 1e-9;
/// Sums run in this many interleaved lanes: vector code, and the same order on every machine.
const LANES: usize = 16;

/// Spectra of one frame of both signals, and room for the gradient of the prediction's magnitude.
pub struct Spectra {
    pub xr: Vec<f32>,
    pub xi: Vec<f32>,
    pub yr: Vec<f32>,
    pub yi: Vec<f32>,
    pub x: Vec<f32>,
    pub y: Vec<f32>,
    pub d_magnitude: Vec<f32>,
}

impl Spectra {
    pub fn new(bins: usize) -> Self {
        let zeros = || vec![0.0; bins];
        Self {
            xr: zeros(),
            xi: zeros(),
            yr: zeros(),
            yi: zeros(),
            x: zeros(),
            y: zeros(),
            d_magnitude: zeros(),
        }
    }
}

/// What the STFT terms of a bin count for, shares included.
pub struct StftWeights {
    pub log: f32,
    pub linear: f32,
    pub complex: f32,
    pub power: f32,
    pub scale: f32,
}

/// Separates the transform of `x + iy` into those of x and y, with magnitudes.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn split(buffer: &[Complex32], s: &mut Spectra) {
    let n = buffer.len();
    let bins = s.xr.len();
    for k in 0..bins {
        let (z, m) = (buffer[k], buffer[(n - k) % n]);
        s.xr[k] = 0.5 * (z.re + m.re);
        s.xi[k] = 0.5 * (z.im - m.im);
        s.yr[k] = 0.5 * (z.im + m.im);
        s.yi[k] = 0.5 * (m.re - z.re);
    }
    for (m, (re, im)) in s.x.iter_mut().zip(s.xr.iter().zip(&s.xi)) {
        *m = (re * re + im * im + TINY).sqrt();
    }
    for (m, (re, im)) in s.y.iter_mut().zip(s.yr.iter().zip(&s.yi)) {
        *m = (re * re + im * im + TINY).sqrt();
    }
}

/// Sum of the compressed magnitudes of both spectra of a pair.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn compressed(s: &Spectra, bins: usize, power: f32, scale: f32) -> f32 {
    let mut sum = [0.0f32; LANES];
    let exponent = (power - 1.0) / 2.0;
    for magnitudes in [&s.x, &s.y] {
        for (k, m) in magnitudes[..bins].iter().enumerate() {
            let m = m * scale;
            sum[k % LANES] += m * math::exp(exponent * math::ln(m * m + SOFT));
        }
    }
    sum.iter().sum()
}

/// The spectrum whose inverse transform holds one gradient frame in its real part, the other in its
/// imaginary part.
pub fn join(a: &(Vec<f32>, Vec<f32>), b: Option<&(Vec<f32>, Vec<f32>)>, buffer: &mut [Complex32]) {
    let n = buffer.len();
    let last = n / 2;
    for k in 0..=last {
        // The real part of a one-sided sum: halves on both sides, the ends alone.
        let half = if k == 0 || k == last { 1.0 } else { 0.5 };
        let keep = if k == 0 || k == last { 0.0 } else { half };
        let (ar, ai) = (a.0[k] * half, a.1[k] * keep);
        let (br, bi) = b.map_or((0.0, 0.0), |b| (b.0[k] * half, b.1[k] * keep));
        buffer[k] = Complex32::new(ar - bi, ai + br);
        if k != 0 && k != last {
            buffer[n - k] = Complex32::new(ar + bi, br - ai);
        }
    }
}

/// Sums of the log and linear distances over bins; adds their gradient.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn magnitude_terms(s: &Spectra, w: &StftWeights, gr: &mut [f32], gi: &mut [f32]) -> [f32; 2] {
    let mut sums = [[0.0f32; LANES]; 2];
    let bins = gr.len();
    let (xr, xi, gi) = (&s.xr[..bins], &s.xi[..bins], &mut gi[..bins]);
    let (x, y) = (&s.x[..bins], &s.y[..bins]);
    for k in 0..bins {
        let difference = math::ln(x[k].max(FLOOR)) - math::ln(y[k].max(FLOOR));
        sums[0][k % LANES] += difference.abs();
        sums[1][k % LANES] += (x[k] - y[k]).abs();
        let open = if x[k] > FLOOR { w.log / x[k] } else { 0.0 };
        let along = (open.copysign(difference) + w.linear.copysign(x[k] - y[k])) / x[k];
        gr[k] += along * xr[k];
        gi[k] += along * xi[k];
    }
    [sums[0].iter().sum(), sums[1].iter().sum()]
}

/// Sum of the distances of the compressed complex spectra over as many bins as `gr` has; adds its
/// gradient.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn complex_terms(s: &Spectra, w: &StftWeights, gr: &mut [f32], gi: &mut [f32]) -> f32 {
    let mut sum = [0.0f32; LANES];
    let bins = gr.len();
    let exponent = (w.power - 1.0) / 2.0;
    let (xr, xi, gi) = (&s.xr[..bins], &s.xi[..bins], &mut gi[..bins]);
    let (yr, yi) = (&s.yr[..bins], &s.yi[..bins]);
    for k in 0..bins {
        let (ar, ai) = (xr[k] * w.scale, xi[k] * w.scale);
        let (br, bi) = (yr[k] * w.scale, yi[k] * w.scale);
        let a_power = ar * ar + ai * ai + SOFT;
        let a_gain = math::exp(exponent * math::ln(a_power));
        let b_gain = math::exp(exponent * math::ln(br * br + bi * bi + SOFT));
        let (dr, di) = (ar * a_gain - br * b_gain, ai * a_gain - bi * b_gain);
        let distance = (dr * dr + di * di + SOFT).sqrt();
        sum[k % LANES] += distance;
        let inverse = 1.0 / distance;
        let (ur, ui) = (dr * inverse, di * inverse);
        let radial = (w.power - 1.0) * a_gain / a_power * (ar * ur + ai * ui);
        gr[k] += w.complex * (a_gain * ur + radial * ar);
        gi[k] += w.complex * (a_gain * ui + radial * ai);
    }
    sum.iter().sum()
}

/// Adds to the spectrum's gradient what comes through the prediction's magnitudes.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn through_magnitude(s: &Spectra, gr: &mut [f32], gi: &mut [f32]) {
    for k in 0..gr.len() {
        let along = s.d_magnitude[k] / s.x[k];
        gr[k] += along * s.xr[k];
        gi[k] += along * s.xi[k];
    }
}
