//! How loud each band of a signal is, frame by frame: what a linear analysis can only tell where it has
//! filters, and drowns in what is louder.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

#[cfg(feature = "cuda")]
use super::cuda::{self, Arg};
use super::{frames, values};
use crate::bands::{self, Bands};

/// Levels of bands in the newest samples of each frame. Nothing here is learned, and no gradient goes
/// through.
#[derive(Clone)]
pub struct BandLevels(Arc<Plan>);

struct Plan {
    window: usize,
    hop: usize,
    shape: Vec<f32>,
    bands: Bands,
    /// The bin that the bands begin with.
    first: usize,
    /// What each band's sum of energies counts for.
    gains: Vec<f32>,
    forward: Arc<dyn Fft<f32>>,
    /// On a GPU.
    #[cfg(feature = "cuda")]
    tables: cuda::Once<Tables>,
}

/// What a GPU keeps.
#[cfg(feature = "cuda")]
struct Tables {
    shape: Tensor,
    basis: Tensor,
    bands: cuda::BandTable,
    gains: Tensor,
}

impl std::fmt::Debug for BandLevels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BandLevels").field("bands", &self.0.bands.count()).finish_non_exhaustive()
    }
}

impl BandLevels {
    /// Levels of at most `count` bands in windows of `window` samples, an even number, at `rate` samples
    /// a second; a frame every `hop` samples.
    pub fn new(window: usize, hop: usize, rate: u32, count: usize) -> Self {
        let width = f64::from(rate) / window as f64;
        let bands = Bands::new(0, window / 2 + 1, count, width);
        let gains = vec![1.0; bands.count()];
        Self::planned(window, hop, bands, 0, gains)
    }

    /// Levels of the mean energy in `bands`, of which the first begins with the bin `first`.
    pub fn of_means(window: usize, hop: usize, bands: Bands, first: usize) -> Self {
        let mut gains = vec![0.0; bands.count()];
        bands.gather(&vec![1.0; bands.bins()], &mut gains);
        gains.iter_mut().for_each(|gain| *gain = 1.0 / *gain);
        Self::planned(window, hop, bands, first, gains)
    }

    fn planned(window: usize, hop: usize, bands: Bands, first: usize, gains: Vec<f32>) -> Self {
        Self(Arc::new(Plan {
            window,
            hop,
            shape: bands::level_shape(window),
            bands,
            first,
            gains,
            forward: FftPlanner::new().plan_fft_forward(window),
            #[cfg(feature = "cuda")]
            tables: cuda::Once::new(),
        }))
    }

    /// Number of bands.
    pub fn count(&self) -> usize {
        self.0.bands.count()
    }

    /// Samples (batch, frames * hop) to levels (batch, frames, bands). Frame `t` sees the last samples
    /// before `hop (t + 1)`; before the first sample there is silence.
    ///
    /// # Errors
    /// A number of samples that is no multiple of the hop.
    pub fn forward(&self, samples: &Tensor) -> Result<Tensor> {
        let samples = samples.detach();
        if samples.device().is_cpu() {
            return samples.contiguous()?.apply_op1_no_bwd(&Op(self.0.clone()));
        }
        #[cfg(feature = "cuda")]
        if samples.device().is_cuda() {
            return self.0.on_gpu(&samples);
        }
        // Far from any loss, and small: not worth a second way of computing it.
        let cpu = samples.to_device(&candle_core::Device::Cpu)?.contiguous()?;
        cpu.apply_op1_no_bwd(&Op(self.0.clone()))?.to_device(samples.device())
    }
}

impl Plan {
    #[cfg(feature = "cuda")]
    fn on_gpu(&self, samples: &Tensor) -> Result<Tensor> {
        let (batch, length) = samples.dims2()?;
        let (n, bins, count) = (self.window, self.bands.bins(), self.bands.count());
        let frames = cuda::Frames {
            count: frames::count(length, self.hop)?,
            hop: self.hop,
            offset: self.hop as isize - n as isize,
        };
        let place = samples.device();
        let tables = self.tables.get(|| {
            Ok(Tables {
                shape: Tensor::from_slice(&self.shape, n, place)?,
                basis: cuda::analysis(n, self.first, bins, place)?,
                bands: cuda::BandTable::new(&self.bands, place)?,
                gains: Tensor::from_slice(&self.gains, count, place)?,
            })
        })?;
        let spectra = frames.of(samples, n, Some(&tables.shape))?.matmul(&tables.basis)?;
        let device = cuda::device(samples)?;
        let total = batch * frames.count * count;
        let out = cuda::empty(&device, total)?;
        let [begin, way] = tables.bands.sums()?;
        let args = [
            cuda::of(&spectra)?,
            begin,
            way,
            cuda::of(&tables.gains)?,
            cuda::start(&out, 0)?,
            Arg::count(bins)?,
            Arg::count(count)?,
            Arg::count(total)?,
            Arg::Float(bands::FLOOR),
            Arg::Float(bands::OFFSET),
            Arg::Float(bands::SCALE),
        ];
        cuda::launch(&device, "band_levels", total, &args)?;
        Ok(cuda::tensor(out, (batch, frames.count, count)))
    }

    fn levels(&self, samples: &[f32], out: &mut [f32]) {
        let (n, bins) = (self.window, self.bands.bins());
        let mut buffer = vec![Complex32::default(); n];
        let mut scratch = vec![Complex32::default(); self.forward.get_inplace_scratch_len()];
        let mut power = vec![0.0; bins];
        for (t, out) in out.chunks_exact_mut(self.bands.count()).enumerate() {
            let end = self.hop * (t + 1);
            let (start, skip) = (end.saturating_sub(n), n.saturating_sub(end));
            buffer.fill(Complex32::default());
            for ((z, w), x) in
                buffer[skip..].iter_mut().zip(&self.shape[skip..]).zip(&samples[start..end])
            {
                z.re = w * x;
            }
            self.forward.process_with_scratch(&mut buffer, &mut scratch);
            for (p, z) in power.iter_mut().zip(&buffer[self.first..]) {
                *p = z.norm_sqr();
            }
            out.fill(0.0);
            self.bands.gather(&power, out);
            for (v, gain) in out.iter_mut().zip(&self.gains) {
                *v = bands::level(*v * gain);
            }
        }
    }
}

struct Op(Arc<Plan>);

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "band-levels"
    }

    fn cpu_fwd(&self, samples: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, length) = layout.shape().dims2()?;
        let (frames, bands) = (frames::count(length, self.0.hop)?, self.0.bands.count());
        let mut out = vec![0.0; batch * frames * bands];
        out.par_chunks_mut((frames * bands).max(1))
            .zip(values(samples, layout)?.par_chunks(length.max(1)))
            .for_each(|(out, samples)| self.0.levels(samples, out));
        Ok((CpuStorage::F32(out), Shape::from((batch, frames, bands))))
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::super::{check, host};
    use super::*;

    #[test]
    fn levels_are_those_of_the_dft() {
        let (window, hop, count) = (48, 24, 9);
        let levels = BandLevels::new(window, hop, 48_000, count);
        let samples = check::random(3, &[2, 5 * hop]);
        let found = levels.forward(&samples).unwrap();
        assert_eq!(found.dims(), [2, 5, levels.count()]);
        let (found, samples) = (host(&found).unwrap(), host(&samples).unwrap());
        for (row, found) in found.chunks_exact(levels.count()).enumerate() {
            let (item, t) = (row / 5, row % 5);
            let mut power = Vec::new();
            for bin in 0..=window / 2 {
                let (mut re, mut im) = (0.0, 0.0);
                for n in 0..window {
                    let at = (t + 1) * hop + n;
                    let x = if at < window { 0.0 } else { samples[item * 5 * hop + at - window] };
                    let turn = 2.0 * PI * n as f64 / window as f64;
                    let x = f64::from(x) * (0.5 - 0.5 * turn.cos()) / (window as f64).sqrt();
                    re += x * (turn * bin as f64).cos();
                    im += x * (turn * bin as f64).sin();
                }
                power.push((re * re + im * im) as f32);
            }
            let mut expected = vec![0.0; levels.count()];
            levels.0.bands.gather(&power, &mut expected);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - bands::level(expected)).abs() < 1e-3, "{found} {expected}");
            }
        }
    }

    #[test]
    fn the_band_of_a_tone_is_the_loudest() {
        let levels = BandLevels::new(960, 480, 48_000, 64);
        let tone: Vec<f32> = (0..4800)
            .map(|n| (2.0 * PI * 15_000.0 * n as f64 / 48_000.0).sin() as f32 * 1e-3)
            .collect();
        let hum: Vec<f32> =
            (0..4800).map(|n| (2.0 * PI * 50.0 * n as f64 / 48_000.0).sin() as f32 * 0.5).collect();
        let both: Vec<f32> = tone.iter().zip(&hum).map(|(a, b)| a + b).collect();
        let of = |x: &[f32]| {
            let x = Tensor::from_slice(x, (1, 4800), &candle_core::Device::Cpu).unwrap();
            host(&levels.forward(&x).unwrap()).unwrap()[9 * 64..].to_vec()
        };
        let (with, without) = (of(&both), of(&hum));
        let rise: Vec<f32> = with.iter().zip(&without).map(|(a, b)| a - b).collect();
        let most = (0..64).max_by(|&i, &j| rise[i].total_cmp(&rise[j])).unwrap();
        // A quiet tone over a loud hum stands out in its own band.
        assert!(rise[most] > 1.0 && (50..60).contains(&most), "{most} {rise:?}");
    }
}
