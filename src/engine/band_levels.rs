//! How loud each band is, frame by frame: the encoder's second view of the samples.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use crate::bands::{self, Bands};
use crate::config::CodecConfig;
use crate::real_fft;

/// Tables and the plan of an FFT.
pub struct BandLevels {
    hop: usize,
    shape: Box<[f32]>,
    bands: Bands,
    turns: Box<[Complex32]>,
    /// Half as long as the window.
    forward: Arc<dyn Fft<f32>>,
}

impl std::fmt::Debug for BandLevels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BandLevels").field("bands", &self.bands.count()).finish_non_exhaustive()
    }
}

/// Room to work in; nothing is remembered.
#[derive(Debug, Clone)]
pub struct BandLevelsState {
    buffer: Box<[Complex32]>,
    scratch: Box<[Complex32]>,
    power: Box<[f32]>,
}

impl BandLevels {
    /// Plans the transform.
    pub fn new(config: &CodecConfig) -> Self {
        let window = config.level_window();
        let width = f64::from(config.sample_rate) / window as f64;
        Self {
            hop: config.hop,
            shape: bands::level_shape(window).into(),
            bands: Bands::new(0, window / 2 + 1, config.level_bands, width),
            turns: real_fft::turns(window).collect(),
            forward: FftPlannerScalar::new().plan_fft_forward(window / 2),
        }
    }

    /// Number of bands.
    pub fn count(&self) -> usize {
        self.bands.count()
    }

    /// Cost of `rows` frames, in multiply-adds of a matrix product, as measured: the FFT is scalar.
    pub fn cost(&self, rows: usize) -> u64 {
        (self.shape.len() * rows * 225) as u64
    }

    /// Levels of each frame in `out`, (frames, bands), from `samples` that begin a window less a hop
    /// before the first frame's newest hop.
    pub fn frames(&self, samples: &[f32], state: &mut BandLevelsState, out: &mut [f32]) {
        let BandLevelsState { buffer, scratch, power } = state;
        let half = buffer.len();
        for (t, out) in out.chunks_exact_mut(self.bands.count()).enumerate() {
            let samples = &samples[t * self.hop..][..self.shape.len()];
            real_fft::pack(samples, &self.shape, buffer);
            self.forward.process_with_scratch(buffer, scratch);
            for (bin, own) in power.iter_mut().zip(real_fft::powers(buffer, &self.turns)) {
                *bin = own;
            }
            let edge = buffer[0].re - buffer[0].im;
            power[half] = edge * edge;
            out.fill(0.0);
            self.bands.gather(power, out);
            for value in out {
                // Samples can be so absurd that a sum overflows: as silence, then.
                *value = bands::level(if value.is_finite() { *value } else { 0.0 });
            }
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.shape) + size_of_val(&*self.turns) + self.bands.bytes()
    }
}

impl BandLevelsState {
    /// Room for one frame.
    pub fn new(plan: &BandLevels) -> Self {
        let complex = |n: usize| vec![Complex32::default(); n].into_boxed_slice();
        Self {
            buffer: complex(plan.turns.len()),
            scratch: complex(plan.forward.get_inplace_scratch_len()),
            power: vec![0.0; plan.turns.len() + 1].into(),
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.buffer.as_ref())
            + size_of_val(self.scratch.as_ref())
            + size_of_val(self.power.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_that_of_the_samples() {
        let config = CodecConfig { hop: 48, level_bands: 9, ..CodecConfig::default() };
        let plan = BandLevels::new(&config);
        let mut state = BandLevelsState::new(&plan);
        let samples: Vec<f32> = (0..96).map(|n| ((n * n) as f32 * 0.37).sin()).collect();
        let mut out = vec![0.0; plan.count()];
        plan.frames(&samples, &mut state, &mut out);
        // Parseval: each bin but the outermost stands for two.
        let windowed: f32 = samples.iter().zip(&*plan.shape).map(|(x, w)| (x * w).powi(2)).sum();
        let power = &state.power;
        let all = power[0] + power[48] + 2.0 * power[1..48].iter().sum::<f32>();
        assert!((all / 96.0 - windowed).abs() < 1e-5 * windowed, "{all} {windowed}");
        let sums: f32 = out.iter().map(|level| (level * 4.0 - 8.0).exp()).sum();
        assert!((sums - power.iter().sum::<f32>()).abs() < 1e-3 * sums);
    }
}
