//! The multi-resolution spectral loss: log-mel, STFT and phase-aware distances in one pass.
//!
//! The loss and its gradient in the samples are computed together, frame by frame, so that nothing but
//! the gradient has to be kept; autodiff sees one operation.

#[cfg(feature = "cuda")]
mod cuda;
mod mel;
mod plan;
mod terms;

use std::f32::consts::LN_10;
use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use rustfft::FftPlanner;
use serde::{Deserialize, Serialize};

use super::{Stft, values};
use plan::Plan;
use terms::{FLOOR, SOFT, TINY};

/// Least mean magnitude that the complex distance is taken relative to: silence is not blown up.
const LEAST: f32 = 1e-3;

/// One STFT of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// Window (Hann) and FFT length in samples; even.
    pub window: usize,
    /// Samples between frames.
    pub hop: usize,
    /// Bands of the log-mel distance at this window; 0 for none.
    #[serde(default)]
    pub mel_bands: usize,
    /// Whether the STFT terms (`log`, `linear`, `complex`) are taken at this window.
    #[serde(default)]
    pub stft: bool,
    /// What this resolution counts for among the others.
    #[serde(default = "one")]
    pub gain: f64,
}

fn one() -> f64 {
    1.0
}

/// What each term counts for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpectralWeights {
    /// L1 of log10 mel magnitudes, summed over the resolutions that have bands (Kumar et al. 2023).
    pub mel: f64,
    /// L1 of log10 powers, summed over the STFT resolutions.
    pub log: f64,
    /// L1 of magnitudes, summed over the STFT resolutions.
    pub linear: f64,
    /// Distance of the compressed complex spectra, relative to the mean magnitude of the batch's
    /// targets, summed over the STFT resolutions: it sees phase.
    pub complex: f64,
    /// Power to which the complex term's magnitudes are compressed, 0..=1; 1 is plain.
    pub power: f64,
    /// Highest frequency of the complex term in Hz: at a few kbps the phase of anything above a few kHz
    /// cannot be coded, and asking for it only takes energy away.
    pub complex_top: f64,
}

impl Default for SpectralWeights {
    fn default() -> Self {
        Self { mel: 1.0, log: 0.0, linear: 0.0, complex: 1.0, power: 0.5, complex_top: 24_000.0 }
    }
}

/// The terms of a loss before weighting, as means over the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SpectralTerms {
    /// See [`SpectralWeights::mel`].
    pub mel: f64,
    /// See [`SpectralWeights::log`].
    pub log: f64,
    /// See [`SpectralWeights::linear`].
    pub linear: f64,
    /// See [`SpectralWeights::complex`].
    pub complex: f64,
}

impl SpectralTerms {
    /// The weighted sum.
    pub fn total(&self, weights: &SpectralWeights) -> f64 {
        self.mel * weights.mel
            + self.log * weights.log
            + self.linear * weights.linear
            + self.complex * weights.complex
    }

    /// Adds `gain` times another.
    pub fn add(&mut self, other: &Self, gain: f64) {
        self.mel += gain * other.mel;
        self.log += gain * other.log;
        self.linear += gain * other.linear;
        self.complex += gain * other.complex;
    }
}

/// A loss's terms, which may still be on their way from the device: asking for them waits for it.
#[derive(Debug, Clone)]
pub enum Terms {
    /// They are here.
    Known(SpectralTerms),
    /// Sums (resolutions, 4) on a device, and by resolution what they count for.
    OnDevice {
        /// Of mel, log, linear and complex distances.
        sums: Tensor,
        /// What each sum has to be multiplied by.
        shares: Vec<SpectralTerms>,
    },
}

impl Terms {
    /// The terms.
    ///
    /// # Errors
    /// The device fails.
    pub fn read(&self) -> Result<SpectralTerms> {
        match self {
            Self::Known(terms) => Ok(*terms),
            Self::OnDevice { sums, shares } => {
                let mut terms = SpectralTerms::default();
                for (sums, share) in sums.to_vec2::<f32>()?.iter().zip(shares) {
                    let [mel, log, linear, complex] = sums[..] else {
                        candle_core::bail!("spectral loss: a resolution has four sums");
                    };
                    terms.mel += f64::from(mel) * share.mel;
                    terms.log += f64::from(log) * share.log;
                    terms.linear += f64::from(linear) * share.linear;
                    terms.complex += f64::from(complex) * share.complex;
                }
                Ok(terms)
            }
        }
    }
}

/// The loss, planned for a set of resolutions.
#[derive(Clone)]
pub struct SpectralLoss {
    plans: Arc<Vec<Plan>>,
    weights: SpectralWeights,
}

impl SpectralLoss {
    /// Plans the loss for signals of `rate` samples a second.
    ///
    /// # Errors
    /// A resolution with an odd or empty window or a hop of zero.
    pub fn new(rate: u32, resolutions: &[Resolution], weights: SpectralWeights) -> Result<Self> {
        let mut planner = FftPlanner::new();
        let plan = |&resolution| Plan::new(rate, resolution, weights.complex_top, &mut planner);
        let plans = resolutions.iter().map(plan).collect::<Result<_>>()?;
        Ok(Self { plans: Arc::new(plans), weights })
    }

    /// Distance of `prediction` from `target`, both (batch, samples), as a scalar tensor through which
    /// gradients flow into `prediction`, and its terms. Frames that do not fit wholly are left out.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn forward(&self, prediction: &Tensor, target: &Tensor) -> Result<(Tensor, Terms)> {
        if prediction.dims() != target.dims() {
            candle_core::bail!(
                "spectral loss: prediction {:?} against target {:?}",
                prediction.dims(),
                target.dims()
            );
        }
        #[cfg(feature = "cuda")]
        if prediction.device().is_cuda() {
            return cuda::forward(self, prediction, target);
        }
        if !prediction.device().is_cpu() {
            let (loss, terms) = self.reference(prediction, target)?;
            return Ok((loss, Terms::Known(terms)));
        }
        let terms = Arc::new(Mutex::new(SpectralTerms::default()));
        let op = Forward {
            loss: self.clone(),
            target: super::host(target)?,
            terms: terms.clone(),
            gradient: Mutex::new(Vec::new()),
        };
        let loss = prediction.contiguous()?.apply_op1(op)?;
        let terms = *lock(&terms);
        Ok((loss, Terms::Known(terms)))
    }

    /// The same out of candle's operations, with matrix products for the transforms.
    fn reference(&self, prediction: &Tensor, target: &Tensor) -> Result<(Tensor, SpectralTerms)> {
        let device = prediction.device();
        let w = &self.weights;
        let mut total = Tensor::zeros((), prediction.dtype(), device)?;
        let mut terms = SpectralTerms::default();
        let scalar = |t: &Tensor| -> Result<f64> {
            Ok(f64::from(t.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?))
        };
        for plan in self.plans.iter() {
            let (n, gain) = (plan.resolution.window, plan.resolution.gain);
            if prediction.dim(1)? < n {
                continue;
            }
            let stft = Stft::with_window(plan.window.clone(), plan.resolution.hop)?;
            let spectrum = |x: &Tensor| -> Result<(Tensor, Tensor, Tensor)> {
                let (re, im) = stft.reference(x)?;
                let magnitude = ((re.sqr()? + im.sqr()?)? + f64::from(TINY))?.sqrt()?;
                Ok((re, im, magnitude))
            };
            let (xr, xi, xm) = spectrum(prediction)?;
            let (yr, yi, ym) = spectrum(&target.detach())?;
            let log10 = |t: &Tensor| t.maximum(f64::from(FLOOR))?.log()? / f64::from(LN_10);
            if plan.resolution.mel_bands > 0 {
                let bank = mel::matrix(&plan.bands, n, device)?;
                let mel =
                    (log10(&xm.matmul(&bank)?)? - log10(&ym.matmul(&bank)?)?)?.abs()?.mean_all()?;
                terms.mel += gain * scalar(&mel)?;
                total = (total + (mel * (w.mel * gain))?)?;
            }
            if plan.resolution.stft {
                let log = ((log10(&xm)? - log10(&ym)?)?.abs()?.mean_all()? * 2.0)?;
                let linear = (&xm - &ym)?.abs()?.mean_all()?;
                let top = plan.complex_bins;
                let compress = |re: &Tensor, im: &Tensor| -> Result<(Tensor, Tensor)> {
                    let re = (re.narrow(1, 0, top)? * f64::from(plan.scale))?;
                    let im = (im.narrow(1, 0, top)? * f64::from(plan.scale))?;
                    let power = ((re.sqr()? + im.sqr()?)? + f64::from(SOFT))?;
                    let gain = (power.log()? * ((w.power - 1.0) / 2.0))?.exp()?;
                    Ok(((&re * &gain)?, (&im * &gain)?))
                };
                let ((ar, ai), (br, bi)) = (compress(&xr, &xi)?, compress(&yr, &yi)?);
                let distance =
                    (((ar - &br)?.sqr()? + (ai - &bi)?.sqr()?)? + f64::from(SOFT))?.sqrt()?;
                let size = (br.sqr()? + bi.sqr()?)?.sqrt()?.mean_all()?;
                let complex = (distance.mean_all()? / size.maximum(f64::from(LEAST))?)?;
                if w.log > 0.0 || w.linear > 0.0 {
                    terms.log += gain * scalar(&log)?;
                    terms.linear += gain * scalar(&linear)?;
                    let log = (log * (w.log * gain))?;
                    total = (total + log + (linear * (w.linear * gain))?)?;
                }
                if w.complex > 0.0 {
                    terms.complex += gain * scalar(&complex)?;
                    total = (total + (complex * (w.complex * gain))?)?;
                }
            }
        }
        Ok((total, terms))
    }
}

/// A lock that is only ever held for a copy cannot be poisoned in a way that matters.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Forward {
    loss: SpectralLoss,
    target: Vec<f32>,
    terms: Arc<Mutex<SpectralTerms>>,
    gradient: Mutex<Vec<f32>>,
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "spectral-loss"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, samples) = layout.shape().dims2()?;
        let x = values(x, layout)?;
        let mut gradient = vec![0.0; x.len()];
        let share = 1.0 / batch.max(1) as f32;
        let item = samples.max(1);
        // What each plan's complex distance is relative to: the mean over the whole batch.
        let sizes: Vec<f32> = self
            .loss
            .plans
            .iter()
            .map(|plan| {
                let power = self.loss.weights.power;
                if !plan.resolution.stft || self.loss.weights.complex == 0.0 {
                    return 1.0;
                }
                let sums: Vec<f64> =
                    self.target.par_chunks(item).map(|y| plan.size(y, power)).collect();
                let count = batch * plan.frame_count(samples) * plan.complex_bins;
                ((sums.iter().sum::<f64>() / count.max(1) as f64) as f32).max(LEAST)
            })
            .collect();
        let parts: Vec<SpectralTerms> = gradient
            .par_chunks_mut(item)
            .zip(x.par_chunks(item).zip(self.target.par_chunks(item)))
            .map(|(grad, (x, y))| {
                let mut terms = SpectralTerms::default();
                for (plan, &size) in self.loss.plans.iter().zip(&sizes) {
                    let gain = plan.resolution.gain;
                    let item_share = share * gain as f32;
                    let part = plan.item(x, y, &self.loss.weights, item_share, size, grad);
                    terms.add(&part, gain);
                }
                terms
            })
            .collect();
        let mut terms = SpectralTerms::default();
        parts.iter().for_each(|part| terms.add(part, 1.0 / batch.max(1) as f64));
        *lock(&self.terms) = terms;
        *lock(&self.gradient) = gradient;
        Ok((CpuStorage::F32(vec![terms.total(&self.loss.weights) as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let gradient = std::mem::take(&mut *lock(&self.gradient));
        let scale = f64::from(grad.to_scalar::<f32>()?);
        Ok(Some((Tensor::from_vec(gradient, x.shape(), x.device())? * scale)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn loss(weights: SpectralWeights) -> SpectralLoss {
        let resolutions = [
            Resolution { window: 32, hop: 8, mel_bands: 6, stft: true, gain: 1.0 },
            Resolution { window: 64, hop: 20, mel_bands: 0, stft: true, gain: 0.5 },
            Resolution { window: 16, hop: 4, mel_bands: 4, stft: false, gain: 2.0 },
        ];
        SpectralLoss::new(48_000, &resolutions, weights).unwrap()
    }

    const ONE_BY_ONE: [SpectralWeights; 5] = [
        SpectralWeights {
            mel: 1.0,
            log: 0.0,
            linear: 0.0,
            complex: 0.0,
            power: 1.0,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 0.0,
            log: 1.0,
            linear: 0.0,
            complex: 0.0,
            power: 1.0,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 0.0,
            log: 0.0,
            linear: 1.0,
            complex: 0.0,
            power: 1.0,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 0.0,
            log: 0.0,
            linear: 0.0,
            complex: 1.0,
            power: 0.4,
            complex_top: 15_000.0,
        },
        SpectralWeights {
            mel: 1.0,
            log: 0.3,
            linear: 0.2,
            complex: 2.0,
            power: 0.5,
            complex_top: 15_000.0,
        },
    ];

    #[test]
    fn matches_candle_in_value_and_gradient() {
        for weights in ONE_BY_ONE {
            let loss = loss(weights);
            let x = candle_core::Var::from_tensor(&check::random(1, &[3, 150])).unwrap();
            let y = check::random(2, &[3, 150]);
            let (a, a_terms) = loss.forward(x.as_tensor(), &y).unwrap();
            let (b, b_terms) = loss.reference(x.as_tensor(), &y).unwrap();
            check::close(&a, &b, 1e-4);
            assert!(
                (a_terms.read().unwrap().total(&weights) - b_terms.total(&weights)).abs() < 1e-4
            );
            let a_grads = a.backward().unwrap();
            let b_grads = b.backward().unwrap();
            let (ga, gb) = (a_grads.get(&x).unwrap(), b_grads.get(&x).unwrap());
            check::close(&(ga * 100.0).unwrap(), &(gb * 100.0).unwrap(), 5e-3);
        }
    }

    #[test]
    fn gradient_is_the_slope() {
        let y = check::random(2, &[2, 150]);
        let weights = SpectralWeights {
            mel: 0.0,
            log: 0.0,
            linear: 0.0,
            complex: 50.0,
            power: 0.5,
            complex_top: 15_000.0,
        };
        let loss = loss(weights);
        check::gradients(|t| Ok(loss.forward(&t[0], &y)?.0), &[check::random(1, &[2, 150])], 2e-2);
    }

    #[test]
    fn equal_signals_have_no_distance() {
        let x = check::random(1, &[2, 150]);
        let (_, terms) = loss(SpectralWeights::default()).forward(&x, &x).unwrap();
        let terms = terms.read().unwrap();
        assert!(terms.mel < 1e-6 && terms.log < 1e-6 && terms.linear < 1e-6);
        assert!(terms.complex < 1e-3, "{terms:?}"); // two resolutions' softening
    }

    #[test]
    fn signals_shorter_than_every_window_are_zero() {
        let x = check::random(1, &[2, 8]);
        let (loss, _) = loss(SpectralWeights::default()).forward(&x, &x).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
    }
}
