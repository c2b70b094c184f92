//! The inverse STFT on the CPU: frame by frame, two at a time in one complex transform.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;
use rustfft::num_complex::Complex32;

use super::super::values;
use super::Plan;
use crate::harmonics::Excitation;
use crate::noise::Noise;
use crate::synthesis::{self, Head, HeadRow, MAX_LOG_MAGNITUDE, SOFT};

/// [`Noise::draw`] with the widest vectors there are.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn draw(noise: &Noise, frame: u64, a: &mut [f32], b: &mut [f32]) {
    noise.draw(frame, a, b);
}

/// The directions of the learned bins, noise and learned ones mixed, and their spectrum.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn learned_bins(
    row: &HeadRow,
    shares: &[f32],
    re: &mut [f32],
    im: &mut [f32],
    spectrum: [&mut [f32]; 2],
) {
    synthesis::direct(row, shares, re, im);
    let [out_re, out_im] = spectrum;
    for (k, log) in row.magnitudes.iter().enumerate() {
        (out_re[k], out_im[k]) = synthesis::cartesian(*log, re[k], im[k]);
    }
}

/// The bins above: noise, `re` and `im`, becomes directions, mixed with the excitation by voicing, and led; and
/// these the spectrum.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn bins_above(
    row: &HeadRow,
    log: &[f32],
    voicing: &[f32],
    excitation: &Excitation,
    re: &mut [f32],
    im: &mut [f32],
    spectrum: [&mut [f32]; 2],
) {
    synthesis::voice(voicing, excitation, re, im);
    synthesis::lead(row, re, im);
    let [out_re, out_im] = spectrum;
    for (k, log) in log.iter().enumerate() {
        let magnitude = synthesis::magnitude(*log);
        (out_re[k], out_im[k]) = (magnitude * re[k], magnitude * im[k]);
    }
}

/// The gradient of the learned bins' log magnitudes and directions, `[a, b]`, from that of the spectrum.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn learned_gradient(
    log_magnitude: &[f32],
    shares: &[f32],
    directions: [&[f32]; 2],
    d_spectrum: [&[f32]; 2],
    d_log: &mut [f32],
    d_directions: [&mut [f32]; 2],
) {
    let ([a, b], [d_re, d_im], [d_a, d_b]) = (directions, d_spectrum, d_directions);
    for k in 0..d_log.len() {
        let magnitude = synthesis::magnitude(log_magnitude[k]);
        let inverse = 1.0 / (a[k] * a[k] + b[k] * b[k] + SOFT).sqrt();
        let (u, v) = (a[k] * inverse, b[k] * inverse);
        let along = d_re[k] * u + d_im[k] * v;
        d_log[k] = if log_magnitude[k] < MAX_LOG_MAGNITUDE { magnitude * along } else { 0.0 };
        let gain = (1.0 - shares[k]) * magnitude * inverse;
        d_a[k] = gain * (d_re[k] - u * along);
        d_b[k] = gain * (d_im[k] - v * along);
    }
}

/// The gradient of the log magnitudes above, in place of `log`, of voicing, in its place, and of what leads,
/// `d_leads`, from that of the spectrum; `noise` and `excitation` are what was mixed.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn gradient_above(
    row: &HeadRow,
    log: &mut [f32],
    voicing: &mut [f32],
    excitation: &Excitation,
    noise: [&[f32]; 2],
    d_spectrum: [&[f32]; 2],
    d_leads: [&mut [f32]; 2],
) {
    let ([n_re, n_im], [d_re, d_im], [d_a, d_b]) = (noise, d_spectrum, d_leads);
    for (k, log) in log.iter_mut().enumerate() {
        let magnitude = synthesis::magnitude(*log);
        let with_noise = d_re[k] * n_re[k] + d_im[k] * n_im[k];
        let (mut along, mut to_base) = (with_noise, 1.0);
        let shares = voicing.get(k).map(|voicing| synthesis::shares_of(*voicing));
        let with_excitation = match shares {
            Some(_) => d_re[k] * excitation.re[k] + d_im[k] * excitation.im[k],
            None => 0.0,
        };
        if let Some((voiced, rest)) = shares {
            along = voiced * with_excitation + rest * with_noise;
        }
        if let (Some(a), Some(b)) = (row.lead_re.get(k), row.lead_im.get(k)) {
            let rest = 1.0 / (1.0 + a * a + b * b).sqrt();
            let led = rest * (along + d_re[k] * a + d_im[k] * b);
            d_a[k] = magnitude * rest * (d_re[k] - rest * a * led);
            d_b[k] = magnitude * rest * (d_im[k] - rest * b * led);
            (along, to_base) = (led, rest);
        }
        if let (Some((voiced, _)), Some(voicing)) = (shares, voicing.get_mut(k)) {
            // The derivatives of the logistic function v and of sqrt(1 - v^2) by voicing.
            let d_voiced = voiced * (1.0 - voiced);
            let d_rest = -voiced * voiced * ((1.0 - voiced) / (1.0 + voiced)).sqrt();
            *voicing = to_base * magnitude * (d_voiced * with_excitation + d_rest * with_noise);
        }
        *log = if *log < MAX_LOG_MAGNITUDE { magnitude * along } else { 0.0 };
    }
}

/// Room to work on frames.
struct Room {
    /// Noise, then directions, of all bins.
    re: Vec<f32>,
    im: Vec<f32>,
    /// The spectrum of the learned bins.
    low: [Vec<f32>; 2],
    /// Of the bins above: log magnitudes and voicing.
    log: Vec<f32>,
    voicing: Vec<f32>,
    excitation: Excitation,
}

impl Room {
    fn new(head: &Head) -> Self {
        Self {
            re: vec![0.0; head.bins()],
            im: vec![0.0; head.bins()],
            low: [vec![0.0; head.learned], vec![0.0; head.learned]],
            log: vec![0.0; head.envelope.bins()],
            voicing: vec![0.0; head.harmonics.bins().len()],
            excitation: Excitation::new(&head.harmonics),
        }
    }

    /// Everything of the frame numbered `number` up to the mixing of noise and excitation.
    fn prepare(&mut self, head: &Head, number: u64, row: &HeadRow) {
        draw(&head.noise, number, &mut self.re, &mut self.im);
        let (re, im) = (&mut self.re[..head.learned], &mut self.im[..head.learned]);
        let [low_re, low_im] = &mut self.low;
        learned_bins(row, head.noise.shares(), re, im, [low_re, low_im]);
        head.harmonics.excite(low_re, low_im, &mut self.excitation);
        head.harmonics.bands().expand(row.voicing, &mut self.voicing);
        head.envelope.expand(row.bands, &mut self.log);
    }

    /// The spectrum of what was prepared.
    fn spectrum(&mut self, row: &HeadRow, [re, im]: [&mut [f32]; 2]) {
        let learned = self.low[0].len();
        re[..learned].copy_from_slice(&self.low[0]);
        im[..learned].copy_from_slice(&self.low[1]);
        bins_above(
            row,
            &self.log,
            &self.voicing,
            &self.excitation,
            &mut self.re[learned..],
            &mut self.im[learned..],
            [&mut re[learned..], &mut im[learned..]],
        );
    }
}

impl Plan {
    /// Where frame `t` starts, and how many of its first samples fall before sample 0.
    fn place(&self, t: usize) -> (usize, usize) {
        let end = self.hop * (t + 1);
        (end.saturating_sub(self.window), self.window.saturating_sub(end))
    }

    /// `out` is zero on entry.
    fn synthesize(&self, head: &[f32], number: u64, out: &mut [f32]) {
        let (n, bins, width) = (self.window, self.head.bins(), self.head.outputs());
        let frames = out.len() / self.hop;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.inverse.get_inplace_scratch_len()];
        let (mut re, mut im) = (vec![0.0; 2 * bins], vec![0.0; 2 * bins]);
        let mut room = Room::new(&self.head);
        for first in (0..frames).step_by(2) {
            // Two real frames in one complex transform: the second as the imaginary part.
            let pair = (frames - first).min(2);
            re.fill(0.0);
            im.fill(0.0);
            for i in 0..pair {
                let row = self.head.split(&head[(first + i) * width..][..width]);
                room.prepare(&self.head, number.wrapping_add((first + i) as u64), &row);
                let (re, im) = (&mut re[i * bins..][..bins], &mut im[i * bins..][..bins]);
                room.spectrum(&row, [re, im]);
            }
            for (i, part) in im.iter_mut().enumerate() {
                if i % bins == 0 || i % bins == bins - 1 {
                    *part = 0.0;
                }
            }
            for k in 0..bins {
                let (a, b) =
                    (Complex32::new(re[k], im[k]), Complex32::new(re[bins + k], im[bins + k]));
                buffer[k] = Complex32::new(a.re - b.im, a.im + b.re);
                buffer[(n - k) % n] = Complex32::new(a.re + b.im, b.re - a.im);
            }
            self.inverse.process_with_scratch(&mut buffer, &mut scratch);
            for i in 0..pair {
                let (start, skip) = self.place(first + i);
                let (shape, frame) = (&self.shape[skip..], &buffer[skip..]);
                for ((y, w), v) in out[start..].iter_mut().zip(shape).zip(frame) {
                    *y += w * if i == 0 { v.re } else { v.im };
                }
            }
        }
    }

    /// See [`InverseStft::but_noise`](super::InverseStft::but_noise).
    pub(super) fn but_noise(
        &self,
        head: &[f32],
        number: u64,
        bins: Range<usize>,
        shape: impl Fn(usize, &mut [f32]),
        mut each: impl FnMut([&[f32]; 2], &[f32]),
    ) {
        let learned = self.head.learned;
        let mut room = Room::new(&self.head);
        let mut parts = [vec![0.0; self.head.bins()], vec![0.0; self.head.bins()]];
        let mut gains = vec![0.0; bins.len()];
        for (frame, row) in head.chunks_exact(self.head.outputs().max(1)).enumerate() {
            let row = self.head.split(row);
            room.prepare(&self.head, number.wrapping_add(frame as u64), &row);
            shape(frame, &mut room.log);
            for (gain, above) in gains.iter_mut().zip(bins.start - learned..) {
                let voicing = room.voicing.get(above).copied();
                let rest = voicing.map_or(1.0, |voicing| synthesis::shares_of(voicing).1);
                *gain = rest * synthesis::magnitude(room.log[above]);
            }
            room.re[bins.clone()].fill(0.0);
            room.im[bins.clone()].fill(0.0);
            let [re, im] = &mut parts;
            room.spectrum(&row, [re, im]);
            each([re, im], &gains);
        }
    }

    fn backward(&self, head: &[f32], number: u64, grad: &[f32], out: &mut [f32]) {
        let (n, bins, width) = (self.window, self.head.bins(), self.head.outputs());
        let learned = self.head.learned;
        let frames = grad.len() / self.hop;
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.forward.get_inplace_scratch_len()];
        let (mut d_re, mut d_im) = (vec![0.0; 2 * bins], vec![0.0; 2 * bins]);
        let mut room = Room::new(&self.head);
        for first in (0..frames).step_by(2) {
            let pair = (frames - first).min(2);
            buffer.fill(Complex32::default());
            for i in 0..pair {
                let (start, skip) = self.place(first + i);
                let (shape, frame) = (&self.shape[skip..], &mut buffer[skip..]);
                for ((v, w), g) in frame.iter_mut().zip(shape).zip(&grad[start..]) {
                    if i == 0 { v.re = w * g } else { v.im = w * g }
                }
            }
            self.forward.process_with_scratch(&mut buffer, &mut scratch);
            for k in 0..bins {
                let (z, m) = (buffer[k], buffer[(n - k) % n].conj());
                // Every bin but the first and last stands for two; the halves of the split cancel that.
                let half = if k == 0 || k == n / 2 { 0.5 } else { 1.0 };
                let (a, b) = ((z + m) * half, (z - m) * half);
                d_re[k] = a.re;
                d_im[k] = a.im;
                d_re[bins + k] = b.im;
                d_im[bins + k] = -b.re;
            }
            for i in 0..pair {
                d_im[i * bins] = 0.0;
                d_im[i * bins + bins - 1] = 0.0;
                let row = self.head.split(&head[(first + i) * width..][..width]);
                room.prepare(&self.head, number.wrapping_add((first + i) as u64), &row);
                let (d_re, d_im) = (&d_re[i * bins..][..bins], &d_im[i * bins..][..bins]);
                let out = &mut out[(first + i) * width..][..width];
                let (d_own, out) = out.split_at_mut(learned);
                let (d_bands, out) = out.split_at_mut(self.head.envelope.count());
                let (d_a, out) = out.split_at_mut(learned);
                let (d_b, out) = out.split_at_mut(learned);
                let (d_voicing, out) = out.split_at_mut(self.head.harmonics.bands().count());
                let (lead_re, lead_im) = out.split_at_mut(self.head.led);
                learned_gradient(
                    row.magnitudes,
                    self.head.noise.shares(),
                    [&room.re, &room.im],
                    [d_re, d_im],
                    d_own,
                    [d_a, d_b],
                );
                gradient_above(
                    &row,
                    &mut room.log,
                    &mut room.voicing,
                    &room.excitation,
                    [&room.re[learned..], &room.im[learned..]],
                    [&d_re[learned..], &d_im[learned..]],
                    [lead_re, lead_im],
                );
                self.head.envelope.gather(&room.log, d_bands);
                self.head.harmonics.bands().gather(&room.voicing, d_voicing);
            }
        }
    }
}

pub(super) struct Forward {
    pub plan: Arc<Plan>,
    pub first_frames: Arc<[u64]>,
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "inverse-stft"
    }

    fn cpu_fwd(&self, head: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, frames, width) = layout.shape().dims3()?;
        let samples = frames * self.plan.hop;
        let mut out = vec![0.0; batch * samples];
        out.par_chunks_mut(samples.max(1))
            .zip(values(head, layout)?.par_chunks((frames * width).max(1)))
            .zip(&self.first_frames[..])
            .for_each(|((out, head), &first)| self.plan.synthesize(head, first, out));
        Ok((CpuStorage::F32(out), Shape::from((batch, samples))))
    }

    fn bwd(&self, head: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = Backward { plan: self.plan.clone(), first_frames: self.first_frames.clone() };
        Ok(Some(head.apply_op2_no_bwd(&grad.contiguous()?, &op)?))
    }
}

struct Backward {
    plan: Arc<Plan>,
    first_frames: Arc<[u64]>,
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "inverse-stft-backward"
    }

    fn cpu_fwd(
        &self,
        head: &CpuStorage,
        head_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, frames, width) = head_layout.shape().dims3()?;
        let head = values(head, head_layout)?;
        let mut out = vec![0.0; head.len()];
        out.par_chunks_mut((frames * width).max(1))
            .zip(head.par_chunks((frames * width).max(1)))
            .zip(values(grad, grad_layout)?.par_chunks((frames * self.plan.hop).max(1)))
            .zip(&self.first_frames[..])
            .for_each(|(((out, head), grad), &first)| self.plan.backward(head, first, grad, out));
        Ok((CpuStorage::F32(out), head_layout.shape().clone()))
    }
}
