//! The inverse STFT, frame by frame.

use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use super::comb::CombShape;
use super::kernels::Kernels;
use crate::config::CodecConfig;
use crate::harmonics::Excitation;
use crate::lines::{BandPowers, GRAIN_BANDS, Grain, Teeth, Trims, grain_bins};
use crate::math;
use crate::synthesis::{self, Head, OwnNoise};

/// What an inverse STFT needs to know: tables and the plan of its FFT.
pub struct Synthesis {
    hop: usize,
    head: Head,
    comb: CombShape,
    /// Bins of the bands that a grain is of.
    grains: [Range<usize>; GRAIN_BANDS],
    shape: Box<[f32]>,
    /// `e^(2 pi i k / window)` for the first half of the turn.
    turns: Box<[Complex32]>,
    /// Half as long as the window: the samples are real, and even ones go in the real, odd ones in the
    /// imaginary part. The scalar planner's, whose bits do not depend on the CPU.
    inverse: Arc<dyn Fft<f32>>,
}

impl std::fmt::Debug for Synthesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Synthesis").field("hop", &self.hop).finish_non_exhaustive()
    }
}

/// The grains that tell a frame's noise.
#[derive(Debug, Clone, Copy)]
pub struct Grains {
    /// Of the step before the frame's, and of its own.
    pub before: Grain,
    pub now: Grain,
    /// The frame's place in its step.
    pub place: usize,
}

/// One stream's overlap, and room to work in.
#[derive(Debug, Clone)]
pub struct SynthesisState {
    /// Samples that frames to come will still add to.
    overlap: Box<[f32]>,
    /// Log magnitudes of the bins above the learned ones.
    magnitudes: Box<[f32]>,
    voicing: Box<[f32]>,
    excitation: Excitation,
    re: Box<[f32]>,
    im: Box<[f32]>,
    buffer: Box<[Complex32]>,
    scratch: Box<[Complex32]>,
}

impl Synthesis {
    /// Plans the transform, with the codec's own noise.
    pub fn new(config: &CodecConfig, noise: &OwnNoise) -> Self {
        let window = config.synthesis_window;
        let turns = (0..window / 2).map(|k| {
            let (cos, sin) = math::cos_sin_of_turn(k, window);
            Complex32::new(cos as f32, sin as f32)
        });
        let head = Head::new(config, noise);
        Self {
            hop: config.hop,
            comb: CombShape::new(config, head.learned, head.envelope.bins()),
            grains: grain_bins(config, head.learned, head.bins()),
            head,
            shape: synthesis::window_shape(window, config.hop).into(),
            turns: turns.collect(),
            inverse: FftPlannerScalar::new().plan_fft_inverse(window / 2),
        }
    }

    /// Outputs of the head for a frame.
    pub fn inputs(&self) -> usize {
        self.head.outputs()
    }

    /// Log magnitudes among them, which come first.
    pub fn magnitudes(&self) -> usize {
        self.head.magnitudes()
    }

    /// Trims a frame's log magnitudes.
    pub fn trim(&self, trims: Trims, magnitudes: &mut [f32]) {
        self.head.trim(trims, magnitudes);
    }

    /// The power that a frame has in each band that is trimmed, from its log magnitudes.
    pub fn powers(&self, magnitudes: &[f32]) -> BandPowers {
        self.head.powers(magnitudes)
    }

    /// The first part of the spectrum of frame number `frame` of the stream, from its outputs of the head:
    /// noise as its grain tells, the learned bins, and what they excite. [`spectrum`](Self::spectrum) is the second;
    /// they are apart so that an audio thread can do one at a time.
    pub fn learned(
        &self,
        kernels: Kernels,
        frame: u64,
        head: &[f32],
        grain: Grains,
        state: &mut SynthesisState,
    ) {
        let SynthesisState { excitation, re, im, .. } = state;
        kernels.noise(&self.head.noise, frame, re, im);
        for (band, bins) in self.grains.iter().enumerate() {
            let (row, gain) = grain.now.noise(grain.before, grain.place, band);
            if (row, gain) != (0, 1.0) {
                self.head.noise.draw_row(row, frame, bins.clone(), gain, [re, im]);
            }
        }
        kernels.learned_bins(&self.head.split(head), self.head.noise.shares(), re, im);
        self.head.harmonics.excite(re, im, excitation);
    }

    /// The second part: the bins above, shaped by `teeth` if a comb is known, and all of them as
    /// [`transform`](Self::transform) takes them.
    pub fn spectrum(
        &self,
        kernels: Kernels,
        head: &[f32],
        teeth: Option<&Teeth>,
        state: &mut SynthesisState,
    ) {
        let SynthesisState { magnitudes, voicing, excitation, re, im, buffer, .. } = state;
        let half = buffer.len();
        let row = self.head.split(head);
        self.head.harmonics.bands().expand(row.voicing, voicing);
        let (above_re, above_im) = (&mut re[self.head.learned..], &mut im[self.head.learned..]);
        kernels.voice(voicing, excitation, above_re, above_im);
        kernels.lead(&row, above_re, above_im);
        self.head.envelope.expand(row.bands, magnitudes);
        if let Some(teeth) = teeth {
            self.comb.shape(teeth, magnitudes);
        }
        kernels.amplify(magnitudes, above_re, above_im);
        // Real samples have real outermost bins.
        (im[0], im[half]) = (0.0, 0.0);
        for (k, (z, turn)) in buffer.iter_mut().zip(&self.turns).enumerate() {
            let mirrored = half - k;
            let (sum_re, sum_im) = (re[k] + re[mirrored], im[k] - im[mirrored]);
            let (odd_re, odd_im) = (re[k] - re[mirrored], im[k] + im[mirrored]);
            let (odd_re, odd_im) =
                (odd_re * turn.re - odd_im * turn.im, odd_re * turn.im + odd_im * turn.re);
            *z = Complex32::new(sum_re - odd_im, sum_im + odd_re);
        }
    }

    /// The samples of the spectrum, added to the overlap; gives the `hop` samples that are complete now.
    pub fn transform(&self, state: &mut SynthesisState, out: &mut [f32]) {
        let SynthesisState { overlap, buffer, scratch, .. } = state;
        self.inverse.process_with_scratch(buffer, scratch);
        let pairs = overlap.chunks_exact_mut(2).zip(self.shape.chunks_exact(2));
        for ((y, w), z) in pairs.zip(buffer.iter()) {
            // Weights can be so absurd that a sum overflows: silence is better than what that gives.
            y[0] += if z.re.is_finite() { w[0] * z.re } else { 0.0 };
            y[1] += if z.im.is_finite() { w[1] * z.im } else { 0.0 };
        }
        out.copy_from_slice(&overlap[..self.hop]);
        let kept = overlap.len() - self.hop;
        overlap.copy_within(self.hop.., 0);
        overlap[kept..].fill(0.0);
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.head.bytes()
            + self.comb.bytes()
            + size_of_val(&*self.shape)
            + size_of_val(&*self.turns)
    }
}

impl SynthesisState {
    /// Silence.
    pub fn new(plan: &Synthesis) -> Self {
        let window = plan.shape.len();
        let zeros = |n: usize| vec![0.0; n].into();
        let complex = |n: usize| vec![Complex32::default(); n].into();
        Self {
            overlap: zeros(window),
            magnitudes: zeros(plan.head.envelope.bins()),
            voicing: zeros(plan.head.harmonics.bins().len()),
            excitation: Excitation::new(&plan.head.harmonics),
            re: zeros(plan.head.bins()),
            im: zeros(plan.head.bins()),
            buffer: complex(window / 2),
            scratch: complex(plan.inverse.get_inplace_scratch_len()),
        }
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.overlap.fill(0.0);
    }

    /// What is left when no more frames come: all but the last `hop` samples, which are zero.
    pub fn tail(&self, hop: usize) -> &[f32] {
        &self.overlap[..self.overlap.len() - hop]
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let floats = [&self.overlap, &self.magnitudes, &self.voicing, &self.re, &self.im];
        let complex = [&self.buffer, &self.scratch];
        floats.iter().map(|v| size_of_val(v.as_ref())).sum::<usize>()
            + complex.iter().map(|v| size_of_val(v.as_ref())).sum::<usize>()
            + self.excitation.bytes()
    }
}
