//! What both executors agree on about the inverse STFT: its window, what the decoder's head says of a frame,
//! and how that becomes a spectrum.

use std::ops::Range;

use crate::bands::Bands;
use crate::config::CodecConfig;
use crate::harmonics::{Excitation, Harmonics};
use crate::lines::{BandPowers, TRIM_BANDS, Trims, trim_ranges};
use crate::loops::{self, Loops};
use crate::math;
use crate::noise::{self, Noise};

/// Log magnitudes above this are cut: e^6 is about twenty times a full-scale tone.
pub const MAX_LOG_MAGNITUDE: f32 = 6.0;
/// Squared length under which a direction fades to none, which keeps its gradient finite.
pub const SOFT: f32 = 1e-4;

/// A periodic Hann window of `window` samples, scaled so that overlapping windows at `hop` sum to one
/// after an FFT that does not normalise, and spectra are at the scale of an orthonormal one.
pub fn window_shape(window: usize, hop: usize) -> Vec<f32> {
    // Periodic Hann windows at this hop sum to window / (2 hop).
    let scale = 2.0 * hop as f64 / (window as f64 * (window as f64).sqrt());
    (0..window).map(|n| (scale * math::hann(n, window)) as f32).collect()
}

/// The share of noise in each bin's direction, 0 to 1: none up to the first frequency of `band` in Hz,
/// nothing else from the second on; for `window / 2 + 1` bins at `rate` samples a second.
pub fn noise_shares(window: usize, rate: u32, band: [u32; 2]) -> Vec<f32> {
    let [from, to] = band.map(|f| f as f32);
    (0..=window / 2)
        .map(|bin| {
            let frequency = bin as f32 * rate as f32 / window as f32;
            ((frequency - from) / (to - from).max(1.0)).clamp(0.0, 1.0)
        })
        .collect()
}

/// Bins, from the lowest, whose direction is not noise alone.
pub fn learned_bins(shares: &[f32]) -> usize {
    shares.partition_point(|&share| share < 1.0)
}

/// Name of the tensor with the directions of a model's own noise, in turns.
pub const NOISE: &str = "decoder.noise";

/// The shape of those directions, (frames, bins with any noise): no frames for a codec with white noise.
pub fn noise_shape(config: &CodecConfig) -> [usize; 2] {
    let shares = noise_shares(config.synthesis_window, config.sample_rate, config.noise_band);
    [config.noise_frames, shares.len() - noise::first_bin(&shares)]
}

/// Name of the tensor with a model's own loops.
pub const LOOPS: &str = "decoder.loops";

/// The shape of those loops, (loops, lines, real and imaginary parts).
pub fn loops_shape(config: &CodecConfig) -> [usize; 3] {
    let lines = loops::lines(config).iter().map(Range::len).sum();
    [config.noise_loops, lines, 2]
}

/// What a model has of its own in the place of white noise.
#[derive(Debug, Default)]
pub struct OwnNoise {
    /// Directions in turns, of [`noise_shape`]; empty for white noise.
    pub turns: Vec<f32>,
    /// Lines of loops, of [`loops_shape`]; empty for none.
    pub loops: Vec<f32>,
}

/// What the decoder's head says of a frame, in this order: log magnitudes of the learned bins, then of bands
/// over those above; real parts, then imaginary parts of the learned bins' directions; voicing by band; real parts,
/// then imaginary parts of what leads the bins next to the learned ones.
pub struct Head {
    pub noise: Noise,
    /// Bins, from the lowest, whose direction is not noise alone.
    pub learned: usize,
    /// Those above have log magnitudes in bands. Each bin left to itself would learn nothing but the
    /// energy around it, and keep the random differences from its neighbours that it began with: lines
    /// that stand still in the picture.
    pub envelope: Bands,
    pub harmonics: Harmonics,
    /// Bins above the learned ones that are led.
    pub led: usize,
    /// Log magnitudes of the bands that are trimmed, and what the power of each counts in its band.
    trims: [Range<usize>; TRIM_BANDS],
    powers: Box<[f32]>,
}

/// What the power of a learned bin counts in a band that is trimmed, and more bins than one above. Directions up there are noise that
/// agrees from frame to frame; those of learned bins near it contradict one another, and overlapping frames lose about half of
/// their power (3.2 dB, as measured).
const LEARNED_POWER: f32 = 0.5;

/// A frame's outputs of the head.
pub struct HeadRow<'a> {
    pub magnitudes: &'a [f32],
    pub bands: &'a [f32],
    pub re: &'a [f32],
    pub im: &'a [f32],
    pub voicing: &'a [f32],
    /// What leads the bins next to the learned ones.
    pub lead_re: &'a [f32],
    pub lead_im: &'a [f32],
}

impl Head {
    /// The head of a codec.
    pub fn new(config: &CodecConfig, own: &OwnNoise) -> Self {
        let window = config.synthesis_window;
        let shares = noise_shares(window, config.sample_rate, config.noise_band);
        let learned = learned_bins(&shares);
        let width = f64::from(config.sample_rate) / window as f64;
        let envelope = Bands::new(learned, shares.len() - learned, config.noise_bands, width);
        let silent = noise::first_bin(&shares);
        let harmonics = Harmonics::new(config, silent, learned);
        let below = (f64::from(config.led_top) / width).ceil() as usize;
        let led = below.min(shares.len()).saturating_sub(learned);
        let bin = |magnitude: usize| match magnitude.checked_sub(learned) {
            None => magnitude,
            Some(band) => learned + envelope.bin_of(band),
        };
        let trims = trim_ranges(learned + envelope.count(), |n| bin(n) as f64 * width);
        let mut powers = vec![LEARNED_POWER; learned + envelope.count()];
        powers[learned..].fill(0.0);
        envelope.gather(&vec![1.0; envelope.bins()], &mut powers[learned..]);
        Self {
            noise: Noise::new(window, config.hop, shares, &own.turns)
                .with_loops(Loops::new(config, &own.loops)),
            learned,
            envelope,
            harmonics,
            led,
            trims,
            powers: powers.into(),
        }
    }

    /// Bins of a frame.
    pub fn bins(&self) -> usize {
        self.noise.shares().len()
    }

    /// Log magnitudes of a frame: one for each learned bin, and one for each band above.
    pub fn magnitudes(&self) -> usize {
        self.learned + self.envelope.count()
    }

    /// Outputs for a frame.
    pub fn outputs(&self) -> usize {
        self.first_lead() + 2 * self.led
    }

    /// The first of the outputs that lead.
    pub fn first_lead(&self) -> usize {
        self.magnitudes() + 2 * self.learned + self.harmonics.bands().count()
    }

    /// The parts of a frame's outputs.
    pub fn split<'a>(&self, outputs: &'a [f32]) -> HeadRow<'a> {
        let (magnitudes, rest) = outputs.split_at(self.learned);
        let (bands, rest) = rest.split_at(self.envelope.count());
        let (re, rest) = rest.split_at(self.learned);
        let (im, rest) = rest.split_at(self.learned);
        let (voicing, rest) = rest.split_at(self.harmonics.bands().count());
        let (lead_re, lead_im) = rest.split_at(self.led);
        HeadRow { magnitudes, bands, re, im, voicing, lead_re, lead_im }
    }

    /// Trims a frame's log magnitudes.
    pub fn trim(&self, trims: Trims, magnitudes: &mut [f32]) {
        for (band, own) in self.trims.iter().enumerate() {
            let more = trims.nepers(band);
            magnitudes[own.clone()].iter_mut().for_each(|log| *log += more);
        }
    }

    /// The power that a frame has in each band that is trimmed, by its log magnitudes: the sum of its bins', each of which has the samples'
    /// variance where the sound is white noise.
    pub fn powers(&self, magnitudes: &[f32]) -> BandPowers {
        self.trims.each_ref().map(|own| {
            let bins = magnitudes[own.clone()].iter().zip(&self.powers[own.clone()]);
            bins.fold(0.0, |sum, (log, count)| {
                sum + count * math::exp(2.0 * log.min(MAX_LOG_MAGNITUDE))
            })
        })
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.noise.bytes()
            + self.envelope.bytes()
            + self.harmonics.bytes()
            + size_of_val(&*self.powers)
    }
}

/// The magnitude of a logarithm, cut where it is absurd.
#[inline(always)]
pub fn magnitude(log: f32) -> f32 {
    math::exp(log.min(MAX_LOG_MAGNITUDE))
}

/// One learned bin's spectrum, real and imaginary part, from its log magnitude and direction.
#[inline(always)]
pub fn cartesian(log_magnitude: f32, a: f32, b: f32) -> (f32, f32) {
    let gain = magnitude(log_magnitude) / (a * a + b * b + SOFT).sqrt();
    (gain * a, gain * b)
}

/// The directions of the learned bins: those of the head added to the frame's noise, `re` and `im`, in whose
/// `shares` of each bin they have no part.
#[inline(always)]
pub fn direct(head: &HeadRow, shares: &[f32], re: &mut [f32], im: &mut [f32]) {
    for (out, head) in [(re, head.re), (im, head.im)] {
        for ((noise, head), share) in out.iter_mut().zip(head).zip(shares) {
            *noise += head * (1.0 - share);
        }
    }
}

/// Mixes the frame's noise, `re` and `im`, with its excitation as `voicing`, by bin, has it.
#[inline(always)]
pub fn voice(voicing: &[f32], excitation: &Excitation, re: &mut [f32], im: &mut [f32]) {
    let parts = excitation.re.iter().zip(&excitation.im);
    for (((re, im), (e_re, e_im)), voicing) in re.iter_mut().zip(im).zip(parts).zip(voicing) {
        let (voiced, rest) = shares_of(*voicing);
        (*re, *im) = (voiced * e_re + rest * *re, voiced * e_im + rest * *im);
    }
}

/// Leads the first of the bins above, `re` and `im`: each turns towards what the head says of it, the further the
/// larger that is. Where the head knows nothing, zero, the bin stays as it is; squares of both shares sum to one, so
/// that energy stays whatever it knows.
#[inline(always)]
pub fn lead(head: &HeadRow, re: &mut [f32], im: &mut [f32]) {
    for (((re, im), a), b) in re.iter_mut().zip(im).zip(head.lead_re).zip(head.lead_im) {
        let rest = 1.0 / (1.0 + a * a + b * b).sqrt();
        (*re, *im) = (rest * (*re + a), rest * (*im + b));
    }
}

/// How much of a bin is its excitation and how much is noise, from its voicing: squares sum to one.
#[inline(always)]
pub fn shares_of(voicing: f32) -> (f32, f32) {
    let voiced = 1.0 / (1.0 + math::exp(-voicing));
    (voiced, (1.0 - voiced * voiced).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_windows_sum_to_one() {
        for (window, hop) in [(24, 6), (16, 8), (1920, 480)] {
            let shape = window_shape(window, hop);
            let unscaled = (window as f32).sqrt();
            for n in 0..hop {
                let sum: f32 = shape[n..].iter().step_by(hop).sum();
                assert!((sum * unscaled - 1.0).abs() < 1e-5, "{n}: {sum}");
            }
        }
    }

    #[test]
    fn noise_fades_in_over_its_band() {
        let shares = noise_shares(1920, 48_000, [1000, 1600]);
        assert_eq!(shares.len(), 961);
        assert!(shares[..=40].iter().all(|s| *s == 0.0));
        assert!((shares[52] - 0.5).abs() < 1e-6);
        assert!(shares[63] < 1.0 && shares[64..].iter().all(|s| *s == 1.0));
    }
}
