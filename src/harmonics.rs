//! Partials above the learned phases, made from those below.
//!
//! A few kbps pay for the phases of the lowest partials alone. What is above them would be noise, and a
//! voice a whisper. But partials of one sound stand at the multiples of its pitch, and those below tell
//! it: bending the low band's waveform, here by taking its absolute value, makes all of them, as speech
//! coders that send only a baseband have long done (high-frequency regeneration: Makhoul and Berouti
//! 1979). The absolute value of a windowed sound is the windowed absolute value, so that frames that
//! agree with one another give excitations that agree, and no frame has to wait for another.

use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use crate::bands::Bands;
use crate::config::CodecConfig;
use crate::math;

/// A band's mean energy under which its excitation fades to none, in an orthonormal spectrum of samples
/// from -1 to 1.
pub const FLOOR: f32 = 1e-12;

/// How the low bins of a frame excite those above: tables and plans.
pub struct Harmonics {
    /// Bins that excite: those of learned direction, without any noise.
    low: Range<usize>,
    /// Bins that are excited.
    high: Range<usize>,
    /// Voicing is given, and the excitation made even, in these bands over `high`.
    bands: Bands,
    /// One over what each band weighs.
    weights: Box<[f32]>,
    /// `e^(2 pi i k / window)`, for the first quarter of the turn, which is half that of the transforms.
    turns: Box<[Complex32]>,
    /// A quarter of the window: half the rate will do for the low band, and real samples go in pairs.
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// To half of what an orthonormal spectrum of the window has.
    scale: f32,
}

/// Room to work in, and what came of the last frame.
#[derive(Debug, Clone)]
pub struct Excitation {
    /// Real and imaginary parts for the excited bins, of mean energy one in each band.
    pub re: Box<[f32]>,
    pub im: Box<[f32]>,
    power: Box<[f32]>,
    gains: Box<[f32]>,
    low: Box<[Complex32]>,
    buffer: Box<[Complex32]>,
    scratch: Box<[Complex32]>,
}

impl Harmonics {
    /// Of `config`, whose synthesis window is a multiple of 4 if it has `voiced_bands`; `low` are the bins
    /// without noise, `first` is the first that is nothing but noise.
    pub fn new(config: &CodecConfig, low: usize, first: usize) -> Self {
        let window = config.synthesis_window;
        let width = f64::from(config.sample_rate) / window as f64;
        // Half the rate has bins up to a quarter of the window.
        let top = ((f64::from(config.voiced_top) / width) as usize).min(window / 4);
        let bins = if config.voiced_bands == 0 { 0 } else { top.saturating_sub(first) };
        let bands = Bands::new(first, bins, config.voiced_bands, width);
        let mut weights = vec![0.0; bands.count()];
        bands.gather(&vec![1.0; bins], &mut weights);
        let turns = (0..window / 4).map(|k| {
            let (cos, sin) = math::cos_sin_of_turn(k, window / 2);
            Complex32::new(cos as f32, sin as f32)
        });
        let mut planner = FftPlannerScalar::new();
        let quarter = (window / 4).max(1);
        Self {
            low: 1..low.min(window / 4).max(1),
            high: first..first + bins,
            weights: weights.into_iter().map(|w| 1.0 / w).collect(),
            bands,
            turns: turns.collect(),
            forward: planner.plan_fft_forward(quarter),
            inverse: planner.plan_fft_inverse(quarter),
            scale: 1.0 / window as f32,
        }
    }

    /// Bins that excite.
    pub fn low(&self) -> Range<usize> {
        self.low.clone()
    }

    /// Bins that are excited.
    pub fn bins(&self) -> Range<usize> {
        self.high.clone()
    }

    /// Bands that voicing is given in: none for a codec without.
    pub fn bands(&self) -> &Bands {
        &self.bands
    }

    /// The excitation that a frame's spectrum, of which the low bins are looked at, makes for the bins
    /// above.
    pub fn excite(&self, re: &[f32], im: &[f32], out: &mut Excitation) {
        if self.high.is_empty() {
            return;
        }
        let half = self.turns.len();
        let Excitation { low, buffer, scratch, .. } = out;
        low.fill(Complex32::default());
        for k in self.low.clone() {
            low[k] = Complex32::new(re[k], im[k]);
        }
        // A real transform as a complex one of half its length: even samples are the real parts, odd ones
        // the imaginary parts.
        for (k, (z, turn)) in buffer.iter_mut().zip(&self.turns).enumerate() {
            let mirrored = low[half - k].conj();
            let odd = (low[k] - mirrored) * turn;
            *z = low[k] + mirrored + Complex32::new(-odd.im, odd.re);
        }
        self.inverse.process_with_scratch(buffer, scratch);
        for z in buffer.iter_mut() {
            *z = Complex32::new(z.re.abs(), z.im.abs());
        }
        self.forward.process_with_scratch(buffer, scratch);
        for (i, k) in self.high.clone().enumerate() {
            let (z, mirrored) = (buffer[k], buffer[half - k].conj());
            let odd = (z - mirrored) * self.turns[k].conj();
            out.re[i] = self.scale * (z.re + mirrored.re + odd.im);
            out.im[i] = self.scale * (z.im + mirrored.im - odd.re);
        }
        self.even_out(out);
    }

    /// Scales each band to a mean energy of one.
    fn even_out(&self, excitation: &mut Excitation) {
        let Excitation { re, im, power, gains, .. } = excitation;
        for ((power, re), im) in power.iter_mut().zip(&**re).zip(&**im) {
            *power = re * re + im * im;
        }
        gains.fill(0.0);
        self.bands.gather(power, gains);
        for (gain, weight) in gains.iter_mut().zip(&self.weights) {
            *gain = 1.0 / (*gain * weight + FLOOR).sqrt();
        }
        self.bands.expand(gains, power);
        for ((re, im), gain) in re.iter_mut().zip(im).zip(&**power) {
            (*re, *im) = (*re * gain, *im * gain);
        }
    }

    /// One over what each band weighs.
    #[cfg(feature = "cuda")]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bands.bytes() + size_of_val(&*self.weights) + size_of_val(&*self.turns)
    }
}

impl Excitation {
    /// Room for the frames of `harmonics`.
    pub fn new(harmonics: &Harmonics) -> Self {
        let bins = harmonics.high.len();
        // Without harmonics nothing is ever computed.
        let half = if bins == 0 { 0 } else { harmonics.turns.len() };
        let complex = |n: usize| vec![Complex32::default(); n].into();
        let scratch =
            [&harmonics.forward, &harmonics.inverse].map(|fft| fft.get_inplace_scratch_len());
        Self {
            re: vec![0.0; bins].into(),
            im: vec![0.0; bins].into(),
            power: vec![0.0; bins].into(),
            gains: vec![0.0; harmonics.bands.count()].into(),
            low: complex(half + 1),
            buffer: complex(half),
            scratch: complex(if bins == 0 { 0 } else { scratch[0].max(scratch[1]) }),
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let floats = [&self.re, &self.im, &self.power, &self.gains];
        let complex = [&self.low, &self.buffer, &self.scratch];
        floats.iter().map(|v| size_of_val(v.as_ref())).sum::<usize>()
            + complex.iter().map(|v| size_of_val(v.as_ref())).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(voiced_bands: usize) -> CodecConfig {
        CodecConfig { voiced_bands, ..CodecConfig::default() }
    }

    /// The spectrum of 40 ms of partials at the multiples of `pitch` below 900 Hz, behind a Hann window,
    /// computed one bin at a time.
    fn partials(pitch: f64, gain: f64) -> (Vec<f32>, Vec<f32>) {
        let (window, rate) = (1920, 48_000.0);
        let sound: Vec<f64> = (0..window)
            .map(|n| {
                let partials = (1..).map(|p| f64::from(p) * pitch).take_while(|f| *f < 800.0);
                let sum: f64 =
                    partials.map(|f| (std::f64::consts::TAU * f * n as f64 / rate).cos()).sum();
                let hann = math::hann(n, window);
                gain * hann * sum / (window as f64).sqrt()
            })
            .collect();
        let bin = |k: usize| {
            let turns = sound
                .iter()
                .enumerate()
                .map(|(n, x)| (x, math::cos_sin_of_turn(k * n % window, window)));
            turns.fold((0.0, 0.0), |(re, im), (x, (cos, sin))| (re + x * cos, im - x * sin))
        };
        (0..=window / 2)
            .map(|k| if k < 40 { bin(k) } else { (9.0, 9.0) })
            .map(|(a, b)| (a as f32, b as f32))
            .unzip()
    }

    #[test]
    fn low_partials_excite_their_multiples() {
        let harmonics = Harmonics::new(&config(12), 37, 40);
        assert_eq!(harmonics.bins(), 40..320);
        for pitch in [110.0, 150.0, 220.0] {
            let (re, im) = partials(pitch, 0.1);
            let mut out = Excitation::new(&harmonics);
            harmonics.excite(&re, &im, &mut out);
            let level = |f: f64| {
                let i = (f / 25.0).round() as usize - 40;
                out.re[i].hypot(out.im[i])
            };
            let multiples = (1..).map(|p| f64::from(p) * pitch).skip_while(|f| *f < 1100.0);
            for f in multiples.take_while(|f| *f < 3000.0) {
                let (on, between) = (level(f), level(f + pitch / 2.0));
                assert!(on > 0.1 && between < 0.3 * on, "{pitch} Hz, at {f}: {on} and {between}");
            }
        }
    }

    #[test]
    fn bands_are_even_whatever_the_level_and_silence_excites_nothing() {
        let harmonics = Harmonics::new(&config(12), 37, 40);
        let mut out = Excitation::new(&harmonics);
        let (re, im) = partials(140.0, 1e-2);
        harmonics.excite(&re, &im, &mut out);
        let mean = |x: &Excitation| {
            x.re.iter().zip(&x.im).map(|(re, im)| re * re + im * im).sum::<f32>()
                / x.re.len() as f32
        };
        assert!((mean(&out) - 1.0).abs() < 0.2, "{}", mean(&out));
        let before = out.clone();
        let (re, im) = partials(140.0, 1.0);
        harmonics.excite(&re, &im, &mut out);
        let parts = before.re.iter().zip(&out.re).chain(before.im.iter().zip(&out.im));
        parts.for_each(|(a, b)| assert!((a - b).abs() < 1e-2, "{a} {b}"));
        harmonics.excite(&vec![0.0; 961], &vec![0.0; 961], &mut out);
        assert_eq!(mean(&out), 0.0);
    }

    #[test]
    fn none_without_bands() {
        let harmonics = Harmonics::new(&config(0), 37, 40);
        assert_eq!((harmonics.bins().len(), harmonics.bands().count()), (0, 0));
        let mut out = Excitation::new(&harmonics);
        harmonics.excite(&[0.0; 961], &[0.0; 961], &mut out);
        assert!(out.re.is_empty());
    }
}
