//! The frames whose bands are compared: those of the decoder's inverse STFT.

use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use crate::config::CodecConfig;
use crate::lines::{Line, TRIM_BANDS, frequencies, trim_ranges};
use crate::math;

/// The power of a band below which it is silent, a sine of full scale having a half: -90 dB.
const SILENCE: f32 = 1e-9;
/// Hz to either side of a line that are its own, where the decoded sound gives way to it.
const OF_LINE: f64 = 75.0;

/// Windows of the sound, two at a time.
pub(super) struct Frames {
    pub hop: usize,
    pub per_step: usize,
    shape: Box<[f32]>,
    fft: Arc<dyn Fft<f32>>,
    /// Bins by band.
    pub bands: [Range<usize>; TRIM_BANDS],
    /// Hz from one bin to the next, and of each pitch of a line.
    width: f64,
    pitches: Box<[f64]>,
    /// Of what [`powers`](Self::powers) gives: the power of a silent band, and how much it is for a bin of white noise of variance 1.
    pub silence: f32,
    pub scale: f32,
}

/// Room for two spectra.
#[derive(Clone)]
pub(super) struct Room {
    buffer: Box<[Complex32]>,
    scratch: Box<[Complex32]>,
}

impl Frames {
    /// Those of a codec.
    pub fn new(config: &CodecConfig) -> Self {
        let window = config.synthesis_window;
        let width = f64::from(config.sample_rate) / window as f64;
        let shape: Box<[f32]> = (0..window).map(|n| math::hann(n, window) as f32).collect();
        let power: f32 = shape.iter().map(|w| w * w).sum();
        Self {
            hop: config.hop,
            per_step: config.layout().frames_per_step(),
            fft: FftPlannerScalar::new().plan_fft_forward(window),
            bands: trim_ranges(window / 2, |bin| bin as f64 * width),
            width,
            pitches: frequencies().collect(),
            silence: SILENCE * power * window as f32,
            scale: 4.0 * power,
            shape,
        }
    }

    /// Room for two of them.
    pub fn room(&self) -> Room {
        Room {
            buffer: vec![Complex32::default(); self.shape.len()].into(),
            scratch: vec![Complex32::default(); self.fft.get_inplace_scratch_len()].into(),
        }
    }

    /// Samples of a frame.
    pub fn window(&self) -> usize {
        self.shape.len()
    }

    /// Samples from where a step's first frame begins to where its last one ends.
    pub fn span(&self) -> usize {
        (self.per_step - 1) * self.hop + self.window()
    }

    /// Samples by which frames begin before the sound that they are of.
    pub fn lag(&self) -> usize {
        self.window() - self.hop
    }

    /// Samples of a step.
    pub fn step(&self) -> usize {
        self.per_step * self.hop
    }

    /// Transforms two frames at once, one in the real, the other in the imaginary parts.
    pub fn transform(&self, one: &[f32], other: &[f32], room: &mut Room) {
        let both = one.iter().zip(other).zip(&self.shape);
        for (z, ((x, y), w)) in room.buffer.iter_mut().zip(both) {
            *z = Complex32::new(x * w, y * w);
        }
        self.fft.process_with_scratch(&mut room.buffer, &mut room.scratch);
    }

    /// The power of both in those of some bins that are `seen`, and of silence.
    pub fn powers(
        &self,
        bins: Range<usize>,
        seen: impl Fn(usize) -> bool,
        room: &Room,
    ) -> [f32; 2] {
        let buffer = &*room.buffer;
        let mut powers = [self.silence; 2];
        for bin in bins.filter(|bin| seen(*bin)) {
            let (z, mirrored) = (buffer[bin], buffer[buffer.len() - bin].conj());
            powers[0] += (z + mirrored).norm_sqr();
            powers[1] += (z - mirrored).norm_sqr();
        }
        powers
    }

    /// The bins that are a line's.
    pub fn of_line(&self, line: Line) -> Option<Range<usize>> {
        let hz = self.pitches.get(usize::from(line.pitch()))?;
        let [from, to] = [hz - OF_LINE, hz + OF_LINE].map(|hz| hz / self.width);
        Some(from.max(0.0).ceil() as usize..to as usize + 1)
    }

    /// A band's error, from the sum over a step's frames of the logarithms of how much more power there is in the sound; `known` says
    /// whether enough of the band is seen.
    pub fn error(&self, sum: f32, known: bool) -> Option<f32> {
        let db = sum * math::DB_OF_LN / self.per_step as f32;
        (known && db.is_finite()).then_some(db)
    }

    /// Whether so many bins of a band are enough to know it by.
    pub fn enough(&self, band: usize, seen: usize) -> bool {
        seen > 0 && 2 * seen >= self.bands[band].len()
    }
}
