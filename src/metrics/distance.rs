//! The audio metrics over whole signals.

use std::sync::OnceLock;

use rustfft::FftPlanner;

use super::mel::MelBank;
use super::spectrum::Spectrum;
use super::{MetricError, fine, sdr};

/// The sample rate that the metrics assume, in Hz.
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples by which two signals may differ; the longer is cut to the shorter.
pub(super) const LENGTH_TOLERANCE: usize = SAMPLE_RATE as usize / 100;

/// Windows (samples) and bands of the mel distance.
const MEL_SCALES: [(usize, usize); 7] =
    [(32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)];
/// Windows (samples) of the STFT distance; each is among `MEL_SCALES` too and shares its spectra.
const STFT_SCALES: [usize; 2] = [2048, 512];
/// Magnitudes below count as this much before the logarithm.
const FLOOR: f64 = 1e-5;

/// The four figures of a pair of signals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// [`mel_distance`]; lower is better.
    pub mel: f64,
    /// [`stft_distance`]; lower is better.
    pub stft: f64,
    /// [`si_sdr`] in dB; higher is better.
    pub si_sdr: f64,
    /// [`fine_structure`], -1..=1; higher is better.
    pub fine: f64,
}

/// The transforms and filters of all metrics, planned once and usable from any thread.
///
/// The free functions share one; make your own only to free its memory (about 1 MB) afterwards.
pub struct Meter {
    mel: Vec<(Spectrum, MelBank)>,
    fine: Spectrum,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// Plans everything.
    pub fn new() -> Self {
        let mut planner = FftPlanner::new();
        let mel = MEL_SCALES
            .iter()
            .map(|&(size, bands)| (Spectrum::new(size, &mut planner), MelBank::new(size, bands)))
            .collect();
        Self { mel, fine: Spectrum::new(fine::WINDOW, &mut planner) }
    }

    fn shared() -> &'static Self {
        static METER: OnceLock<Meter> = OnceLock::new();
        METER.get_or_init(Self::new)
    }

    /// All four metrics of a mono signal at 48 kHz; faster than one by one, since spectra are shared.
    ///
    /// A 10 s clip takes well below a second. A difference in length of up to 10 ms is cut off.
    ///
    /// # Errors
    /// [`MetricError::LengthsDiffer`], [`MetricError::Empty`] or [`MetricError::NotFinite`].
    pub fn compare<S: Copy + Into<f64>>(
        &self,
        reference: &[S],
        decoded: &[S],
    ) -> Result<Scores, MetricError> {
        let (x, y) = pair(reference, decoded)?;
        let (mel, stft) = self.distances(&x, &y, true, true);
        let fine = fine::fine_structure(&self.fine, &x, &y);
        Ok(Scores { mel, stft, si_sdr: sdr::si_sdr(&x, &y), fine })
    }

    /// The mel and the STFT distance, either only if wanted (0 if not).
    fn distances(&self, x: &[f64], y: &[f64], want_mel: bool, want_stft: bool) -> (f64, f64) {
        let (mut mel, mut stft) = (0.0, 0.0);
        for (spectrum, bank) in &self.mel {
            let want_stft = want_stft && STFT_SCALES.contains(&spectrum.size());
            if !want_mel && !want_stft {
                continue;
            }
            let (mut frames, mut mel_sum, mut log_sum, mut linear_sum) = (0usize, 0.0, 0.0, 0.0);
            spectrum.for_each_frame(x, y, |x, y| {
                frames += 1;
                if want_mel {
                    mel_sum +=
                        bank.apply(x).zip(bank.apply(y)).map(|(a, b)| decades(a, b)).sum::<f64>();
                }
                if want_stft {
                    log_sum += x.iter().zip(y).map(|(&a, &b)| 2.0 * decades(a, b)).sum::<f64>();
                    linear_sum += x.iter().zip(y).map(|(a, b)| (a - b).abs()).sum::<f64>();
                }
            });
            mel += mel_sum / (frames * bank.len()) as f64;
            stft += (log_sum + linear_sum) / (frames * spectrum.bins()) as f64;
        }
        (mel, stft)
    }
}

/// How many powers of ten lie between two magnitudes, both at least [`FLOOR`].
fn decades(a: f64, b: f64) -> f64 {
    (a.max(FLOOR) / b.max(FLOOR)).log10().abs()
}

/// Both signals as f64, checked and cut to the shorter.
fn pair<S: Copy + Into<f64>>(
    reference: &[S],
    decoded: &[S],
) -> Result<(Vec<f64>, Vec<f64>), MetricError> {
    if reference.len().abs_diff(decoded.len()) > LENGTH_TOLERANCE {
        let (reference, decoded) = (reference.len(), decoded.len());
        return Err(MetricError::LengthsDiffer { reference, decoded });
    }
    let len = reference.len().min(decoded.len());
    if len == 0 {
        return Err(MetricError::Empty);
    }
    let checked = |signal: &'static str, samples: &[S]| {
        let samples: Vec<f64> = samples[..len].iter().map(|&s| s.into()).collect();
        match samples.iter().position(|s| !s.is_finite()) {
            Some(index) => Err(MetricError::NotFinite { signal, index }),
            None => Ok(samples),
        }
    };
    Ok((checked("reference", reference)?, checked("decoded audio", decoded)?))
}

/// The multi-scale log-mel distance: mean absolute difference of log10 mel magnitudes, summed over
/// windows of 32, 64, ... 2048 samples with 5, 10, ... 320 bands. 0 is perfect; 1 to 4 is usual at a
/// few kbps. Mono, 48 kHz.
///
/// Source: the evaluation of the Descript Audio Codec, arXiv:2306.06546.
///
/// # Errors
/// As [`Meter::compare`].
///
/// ```
/// use tessera_codec::metrics::mel_distance;
/// let (soft, loud) = (vec![0.01f32; 4800], vec![0.1f32; 4800]);
/// assert!(mel_distance(&soft, &soft)? < 1e-12);
/// assert!(mel_distance(&soft, &loud)? > 0.1);
/// # Ok::<(), tessera_codec::metrics::MetricError>(())
/// ```
pub fn mel_distance<S: Copy + Into<f64>>(
    reference: &[S],
    decoded: &[S],
) -> Result<f64, MetricError> {
    let (x, y) = pair(reference, decoded)?;
    Ok(Meter::shared().distances(&x, &y, true, false).0)
}

/// The multi-scale STFT distance: mean absolute difference of log10 powers plus that of magnitudes,
/// summed over windows of 2048 and 512 samples. 0 is perfect. Mono, 48 kHz.
///
/// Source: the evaluation of the Descript Audio Codec, arXiv:2306.06546.
///
/// # Errors
/// As [`Meter::compare`].
pub fn stft_distance<S: Copy + Into<f64>>(
    reference: &[S],
    decoded: &[S],
) -> Result<f64, MetricError> {
    let (x, y) = pair(reference, decoded)?;
    Ok(Meter::shared().distances(&x, &y, false, true).1)
}

/// Scale-invariant signal-to-distortion ratio in dB, after the means are removed. Higher is better;
/// below 0 the decoded waveform has more foreign than reference in it. Any sample rate.
///
/// Source: Le Roux et al., "SDR - half-baked or well done?", arXiv:1811.02508.
///
/// # Errors
/// As [`Meter::compare`].
pub fn si_sdr<S: Copy + Into<f64>>(reference: &[S], decoded: &[S]) -> Result<f64, MetricError> {
    let (x, y) = pair(reference, decoded)?;
    Ok(sdr::si_sdr(&x, &y))
}

/// Correlation (-1..=1) of the fine structure of the spectra below 6 kHz, their envelopes removed,
/// averaged over frames with their level as weight. 1: every partial is in its place; 0: noise under
/// the right envelope, which the distances forgive. Mono, 48 kHz.
///
/// # Errors
/// As [`Meter::compare`].
pub fn fine_structure<S: Copy + Into<f64>>(
    reference: &[S],
    decoded: &[S],
) -> Result<f64, MetricError> {
    let (x, y) = pair(reference, decoded)?;
    Ok(fine::fine_structure(&Meter::shared().fine, &x, &y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfit_signals_are_refused() {
        let tone = vec![0.5f32; 2000];
        assert_eq!(
            mel_distance(&tone, &tone[..1000]),
            Err(MetricError::LengthsDiffer { reference: 2000, decoded: 1000 })
        );
        assert!(si_sdr(&tone, &tone[..1600]).is_ok());
        assert_eq!(stft_distance::<f32>(&[], &[]), Err(MetricError::Empty));
        let mut broken = tone.clone();
        broken[7] = f32::NAN;
        assert_eq!(
            fine_structure(&tone, &broken),
            Err(MetricError::NotFinite { signal: "decoded audio", index: 7 })
        );
    }

    #[test]
    fn one_sample_is_enough_not_to_fail() {
        let scores = Meter::new().compare(&[0.25f64], &[0.25]).unwrap();
        assert!(scores.mel < 1e-12 && scores.stft < 1e-12);
        assert!(scores.fine.is_finite() && scores.si_sdr.is_finite());
    }
}
