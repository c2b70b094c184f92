//! The decoder's noise: which way the bins of a frame point where the network does not say.
//!
//! Directions drawn for each bin and frame alone would contradict one another: frames overlap, and what
//! they have in common would cancel here and add up there, by 5 dB about the magnitudes that were asked
//! for. The directions of white noise's own STFT agree with one another, as those of any sound do
//! (consistency of spectrograms: Le Roux et al. 2008), and the magnitudes come out as they went in but for
//! 3 dB. Measured in docs/training.md.
//!
//! White noise itself is uneven: its energy in a band as narrow as the ear's is another one in every frame, which
//! no code knows of and nobody asked for. So a model can bring directions of its own, which were looked for until
//! they made a noise that is even in all bands and frames at once (low-noise noise: Pumplin 1985; Hartmann and Pumplin
//! 1988): see `model::even_noise`.

use std::ops::Range;

use rustfft::FftPlannerScalar;
use rustfft::num_complex::Complex32;

use crate::loops::Loops;
use crate::{math, synthesis};

/// Frames after which white noise comes round: about five seconds at a hop of 10 ms, too long to be heard
/// as a loop.
const FRAMES: usize = 512;

/// Directions that a model can tell apart in its own noise, in a turn.
const DIRECTIONS: usize = 1024;
/// What a part of a direction is kept in.
const UNIT: f32 = 1.0 / 127.0;
/// Frames of noise from one row to the next.
const ROW_FRAMES: u64 = 2;

/// Directions of noise for every frame of a stream, by the frame's number alone, so that a stream sounds
/// the same wherever it is entered.
pub struct Noise {
    /// How much of each bin's direction is noise, 0 to 1.
    shares: Box<[f32]>,
    /// The first bin with any.
    first: usize,
    frames: usize,
    /// (frames, bins from the first): parts of directions of length 127.
    re: Box<[i8]>,
    im: Box<[i8]>,
    /// What is heard in its place where a grain says so.
    loops: Option<Loops>,
}

impl Noise {
    /// Noise for the `window / 2 + 1` bins of `shares`, and frames of `window` samples at every `hop`: white noise, unless
    /// there are `turns`, (frames, bins with any noise), the directions of a model's own in turns.
    pub fn new(window: usize, hop: usize, shares: Vec<f32>, turns: &[f32]) -> Self {
        let first = first_bin(&shares);
        let bins = shares.len() - first;
        let directions = match turns.len().checked_div(bins) {
            None | Some(0) => white(window, hop, FRAMES, first),
            Some(frames) => {
                let circle: Vec<Complex32> = (0..DIRECTIONS)
                    .map(|k| {
                        let (cos, sin) = math::cos_sin_of_turn(k, DIRECTIONS);
                        Complex32::new(cos as f32, sin as f32)
                    })
                    .collect();
                let direction = |turn: &f32| {
                    let place = (turn.rem_euclid(1.0) * DIRECTIONS as f32).round();
                    circle[place as usize % DIRECTIONS]
                };
                turns[..frames * bins].iter().map(direction).collect()
            }
        };
        let parts = |part: fn(&Complex32) -> f32| {
            directions.iter().map(|z| (127.0 * part(z)).round() as i8).collect()
        };
        let (re, im) = (parts(|z| z.re), parts(|z| z.im));
        let frames = directions.len() / bins.max(1);
        Self { shares: shares.into(), first, frames, re, im, loops: None }
    }

    /// The same with loops among its rows.
    pub fn with_loops(self, loops: Loops) -> Self {
        Self { loops: Some(loops), ..self }
    }

    /// How much of each bin's direction is noise, 0 to 1.
    pub fn shares(&self) -> &[f32] {
        &self.shares
    }

    /// The noise of one frame: the parts of each bin's direction, of lengths from 0 to 1 as its share is.
    #[inline(always)]
    pub fn draw(&self, frame: u64, re: &mut [f32], im: &mut [f32]) {
        re[..self.first].fill(0.0);
        im[..self.first].fill(0.0);
        self.draw_bins(frame, self.first..self.shares.len(), 1.0, re, im);
    }

    /// The noise of one frame in some of the bins, `gain` times as loud, in place of what there is.
    #[inline(always)]
    fn draw_bins(&self, frame: u64, bins: Range<usize>, gain: f32, re: &mut [f32], im: &mut [f32]) {
        let some = bins.start.max(self.first)..bins.end.min(self.shares.len());
        if some.is_empty() {
            return;
        }
        let all = self.shares.len() - self.first;
        let row = (frame % self.frames.max(1) as u64) as usize * all;
        let own = row + some.start - self.first..row + some.end - self.first;
        for (out, all) in [(re, &self.re), (im, &self.im)] {
            put(&all[own.clone()], UNIT, &self.shares[some.clone()], gain, &mut out[some.clone()]);
        }
    }

    /// What a grain's row has in one frame, in some of the bins, `gain` times as loud, in place of what there is: row 0 is
    /// the noise itself, the first of the others are loops, and those behind them noise from other places.
    #[inline(always)]
    pub fn draw_row(
        &self,
        row: u8,
        frame: u64,
        bins: Range<usize>,
        gain: f32,
        [re, im]: [&mut [f32]; 2],
    ) {
        match (&self.loops, usize::from(row).checked_sub(1)) {
            (Some(loops), Some(number)) if number < loops.count() => {
                loops.draw(number, frame, bins, gain, &self.shares, [re, im]);
            }
            _ => {
                let frame = frame.wrapping_add(ROW_FRAMES * u64::from(row));
                self.draw_bins(frame, bins, gain, re, im);
            }
        }
    }

    /// How many of the rows are loops.
    #[cfg(feature = "train")]
    pub fn loops(&self) -> usize {
        self.loops.as_ref().map_or(0, Loops::count)
    }

    /// Frames after which the noise comes round.
    #[cfg(feature = "train")]
    pub fn period(&self) -> usize {
        self.frames
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let loops = self.loops.as_ref().map_or(0, Loops::bytes);
        size_of_val(&*self.shares) + self.re.len() + self.im.len() + loops
    }
}

/// Puts parts of directions, kept in a `unit`, into `out`, each as loud as its share of `gain`.
#[inline(always)]
pub fn put<T: Copy + Into<f32>>(
    parts: &[T],
    unit: f32,
    shares: &[f32],
    gain: f32,
    out: &mut [f32],
) {
    for (out, (part, share)) in out.iter_mut().zip(parts.iter().zip(shares)) {
        *out = gain * share * ((*part).into() * unit);
    }
}

/// The first bin that has any noise.
pub fn first_bin(shares: &[f32]) -> usize {
    shares.partition_point(|&share| share <= 0.0)
}

/// The directions of white noise, (frames, bins from `first`), as numbers of length 1.
pub fn white(window: usize, hop: usize, frames: usize, first: usize) -> Vec<Complex32> {
    let sound = sound(frames * hop);
    // Scaling it changes no direction.
    let shape = synthesis::window_shape(window, hop);
    // The scalar planner's bits do not depend on the CPU.
    let forward = FftPlannerScalar::new().plan_fft_forward(window);
    let mut buffer = vec![Complex32::default(); window];
    let mut scratch = vec![Complex32::default(); forward.get_inplace_scratch_len()];
    let mut directions = Vec::with_capacity(frames * (window / 2 + 1 - first));
    for frame in 0..frames {
        // The noise is a circle, so that its last frames agree with its first.
        let samples = sound.iter().cycle().skip(frame * hop);
        for ((z, x), w) in buffer.iter_mut().zip(samples).zip(&shape) {
            *z = Complex32::new(w * x, 0.0);
        }
        forward.process_with_scratch(&mut buffer, &mut scratch);
        for z in &buffer[first..=window / 2] {
            directions.push(z / (z.re * z.re + z.im * z.im).sqrt().max(f32::MIN_POSITIVE));
        }
    }
    directions
}

/// White noise from -1 to 1, the same every time.
fn sound(samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|n| {
            // The finaliser of MurmurHash3 (Appleby) over the sample's number.
            let mut h = (n as u32).wrapping_add(1).wrapping_mul(0x9e37_79b1);
            h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
            h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
            h ^= h >> 16;
            (f32::from((h >> 16) as u16) - 32_767.5) / 32_768.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CodecConfig;

    /// How far the magnitudes of the spectra of a sound made from `directions`, all of magnitude one, are
    /// spread about their mean.
    fn spread(noise: impl Fn(usize, &mut [f32], &mut [f32])) -> f32 {
        let (window, hop, frames) = (96, 24, 200);
        let bins = window / 2 + 1;
        let shape = synthesis::window_shape(window, hop);
        let mut planner = FftPlannerScalar::new();
        let (forward, inverse) =
            (planner.plan_fft_forward(window), planner.plan_fft_inverse(window));
        let (mut re, mut im) = (vec![0.0; bins], vec![0.0; bins]);
        let mut sound = vec![0.0; frames * hop + window];
        for t in 0..frames {
            noise(t, &mut re, &mut im);
            let mut z = vec![Complex32::default(); window];
            for k in 1..window / 2 {
                z[k] = Complex32::new(re[k], im[k]);
                z[window - k] = z[k].conj();
            }
            inverse.process(&mut z);
            for ((y, z), w) in sound[t * hop..].iter_mut().zip(&z).zip(&shape) {
                *y += w * z.re;
            }
        }
        let mut magnitudes = Vec::new();
        for t in 4..frames - 4 {
            let frame = sound[t * hop..].iter().zip(&shape);
            let mut z: Vec<_> = frame.map(|(x, w)| Complex32::new(x * w, 0.0)).collect();
            forward.process(&mut z);
            magnitudes.extend(z[4..window / 2 - 4].iter().map(|z| z.norm()));
        }
        let mean = magnitudes.iter().sum::<f32>() / magnitudes.len() as f32;
        let square = magnitudes.iter().map(|m| (m - mean).powi(2)).sum::<f32>();
        (square / magnitudes.len() as f32).sqrt() / mean
    }

    #[test]
    fn magnitudes_come_out_more_evenly_than_from_directions_drawn_alone() {
        let noise = Noise::new(96, 24, vec![1.0; 49], &[]);
        let even = spread(|t, re, im| noise.draw(t as u64, re, im));
        // 37 frames later is another frame for each bin: nothing agrees.
        let alone = spread(|t, re, im| noise.draw(37 * t as u64, re, im));
        assert!(even < 0.40 && alone > 0.44, "{even} {alone}");
    }

    #[test]
    fn a_models_own_directions_are_kept_and_come_round() {
        let shares: Vec<f32> = (0..9).map(|k| if k < 5 { 0.0 } else { 0.5 }).collect();
        // Three frames of four bins; whole turns count for nothing.
        let turns: Vec<f32> = (0..12).map(|i| i as f32 / 12.0 - (i % 3) as f32).collect();
        let noise = Noise::new(16, 4, shares, &turns);
        let (mut re, mut im) = (vec![9.0; 9], vec![9.0; 9]);
        for frame in 0..7 {
            noise.draw(frame, &mut re, &mut im);
            assert_eq!((&re[..5], &im[..5]), (&[0.0; 5][..], &[0.0; 5][..]));
            for k in 0..4 {
                let angle = std::f32::consts::TAU * turns[(frame as usize % 3) * 4 + k];
                let (a, b) = (re[5 + k] - 0.5 * angle.cos(), im[5 + k] - 0.5 * angle.sin());
                assert!(a.hypot(b) < 0.005, "frame {frame}, bin {k}");
            }
        }
    }

    #[test]
    fn rows_are_the_noise_then_loops_then_other_places() {
        let config = CodecConfig::default();
        let lines: usize = crate::loops::lines(&config).iter().map(Range::len).sum();
        let values: Vec<f32> = (0..2 * 2 * lines).map(|i| (i % 11) as f32 / 8.0 - 0.6).collect();
        let noise = Noise::new(1920, 480, vec![1.0; 961], &[]);
        let noise = noise.with_loops(Loops::new(&config, &values));
        let row = |row, frame| {
            let (mut re, mut im) = (vec![0.0; 961], vec![0.0; 961]);
            noise.draw_row(row, frame, 40..80, 1.0, [&mut re, &mut im]);
            re
        };
        let (mut re, mut im) = (vec![0.0; 961], vec![0.0; 961]);
        noise.draw(11, &mut re, &mut im);
        assert_eq!(row(0, 11)[40..80], re[40..80]);
        for number in 1..3 {
            assert_eq!(row(number, 11), row(number, 19), "a loop comes round");
            assert_ne!(row(number, 11), row(number, 12));
        }
        assert_ne!(row(1, 11), row(2, 11));
        // Two frames from one row to the next.
        assert_eq!(row(3, 11), row(0, 17));
        assert_eq!(row(255, 11), row(0, 11 + 510));
    }

    #[test]
    fn directions_are_as_long_as_shares_are_large_and_come_round() {
        let shares: Vec<f32> = (0..49).map(|k| (k as f32 - 8.0).clamp(0.0, 16.0) / 16.0).collect();
        let noise = Noise::new(96, 24, shares.clone(), &[]);
        let (mut re, mut im) = (vec![9.0; 49], vec![9.0; 49]);
        let mut sums = (0.0, 0.0);
        for frame in 0..FRAMES as u64 {
            noise.draw(frame, &mut re, &mut im);
            // The outermost bin is real: it has a sign.
            for k in 0..48 {
                let length = re[k].hypot(im[k]);
                assert!((length - shares[k]).abs() <= 0.006, "frame {frame}, bin {k}: {length}");
            }
            sums = (sums.0 + re[30], sums.1 + im[30]);
        }
        assert!(sums.0.abs() < 60.0 && sums.1.abs() < 60.0, "{sums:?}");
        let (mut again, mut other) = (re.clone(), im.clone());
        noise.draw(u64::MAX, &mut again, &mut other);
        assert_eq!((&again, &other), (&re, &im));
        noise.draw(FRAMES as u64 - 2, &mut again, &mut other);
        assert_ne!(again, re);
    }
}
