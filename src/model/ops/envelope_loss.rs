//! How far the decoder's envelope is from that of the sound it is to make.
//!
//! Above the learned phases a sound is noise under an envelope. A distance of spectra sees the envelope only
//! through the noise that was drawn, whose own ups and downs are the larger part of what it measures, and
//! what it says about the envelope drowns in them. Here the two envelopes are held against each other with
//! no noise between.

use candle_core::{Device, Result, Tensor};

use super::{BandLevels, InverseStft};
use crate::bands;
use crate::synthesis::MAX_LOG_MAGNITUDE;

/// Natural logarithm of what is lost of the noise's energy where frames overlap: 3.1 dB (docs/training.md).
const LOST: f64 = 0.714;

/// Groups of bands, and frames, whose energies are summed before they are compared. In a band as narrow as
/// those of the head and in a single frame, the energy of anything that is noise is chance itself: no codes
/// can tell it, and the distance is the larger for it. What is summed over about a critical band and a tenth
/// of a second (there are 28 of them from 900 Hz to 24 kHz: Glasberg and Moore 1990) is the envelope that is
/// heard, and takes few bits.
const SCALES: [(usize, usize); 2] = [(56, 4), (28, 8)];

/// The mean distance of log magnitudes in the bands above the learned phases.
pub struct EnvelopeLoss {
    levels: BandLevels,
    /// The first of the head's outputs that is a band's.
    first: usize,
    scales: Vec<Scale>,
}

/// Energies to be summed.
struct Scale {
    /// (bands, groups): how much of a band's energy belongs to each group.
    groups: Tensor,
    frames: usize,
}

impl EnvelopeLoss {
    /// For what `synthesis` makes samples from, on a device.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(synthesis: &InverseStft, device: &Device) -> Result<Self> {
        let envelope = synthesis.envelope();
        let scale = |(count, frames)| {
            let groups = synthesis.envelope_groups(count);
            let mut values = Vec::with_capacity(envelope.count() * groups.count());
            for band in 0..envelope.count() {
                let mut own = vec![0.0; envelope.count()];
                own[band] = 1.0;
                let (mut bins, mut sums) = (vec![0.0; envelope.bins()], vec![0.0; groups.count()]);
                envelope.expand(&own, &mut bins);
                groups.gather(&bins, &mut sums);
                values.extend(sums);
            }
            let groups = Tensor::from_vec(values, (envelope.count(), groups.count()), device)?;
            // Means, so that silence is as soft at each scale.
            let groups = groups.broadcast_div(&groups.sum_keepdim(0)?)?;
            Ok(Scale { groups, frames })
        };
        Ok(Self {
            levels: synthesis.envelope_levels(),
            first: synthesis.learned_bins(),
            scales: SCALES.into_iter().map(scale).collect::<Result<_>>()?,
        })
    }

    /// The mean absolute distance, in decades of magnitude and averaged over single bands and the sums of
    /// several, of `head` (batch, frames, inputs of the inverse STFT) from `samples`
    /// (batch, frames * hop), with a gradient into `head`.
    ///
    /// # Errors
    /// Shapes that do not fit together.
    pub fn forward(&self, head: &Tensor, samples: &Tensor) -> Result<Tensor> {
        let levels = self.levels.forward(samples)?;
        // As `bands::level` has it.
        let wanted =
            levels.affine(1.0 / f64::from(bands::SCALE), -f64::from(bands::OFFSET))?.exp()?;
        let log = head.narrow(2, self.first, self.levels.count())?;
        let log = log.minimum(f64::from(MAX_LOG_MAGNITUDE))?;
        let found = (log.affine(2.0, -LOST)?.exp()? + f64::from(bands::FLOOR))?;
        let mut sum = distance(&found, &wanted)?;
        for scale in &self.scales {
            sum = (sum + distance(&scale.sums(&found)?, &scale.sums(&wanted)?)?)?;
        }
        sum / (1 + self.scales.len()) as f64
    }
}

impl Scale {
    /// Mean energies (batch, frames, groups) of those of bands (batch, frames, bands): of so many
    /// frames in a row.
    fn sums(&self, energies: &Tensor) -> Result<Tensor> {
        let groups = energies.contiguous()?.broadcast_matmul(&self.groups)?;
        let count = groups.dim(1)?;
        let frames = self.frames.min(count);
        let mut sum = groups.narrow(1, 0, count + 1 - frames)?;
        for first in 1..frames {
            sum = (sum + groups.narrow(1, first, count + 1 - frames)?)?;
        }
        sum / frames as f64
    }
}

/// The mean absolute distance in decades of magnitude of two tensors of energies.
fn distance(found: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    (found.log()? - wanted.log()?)?.abs()?.mean_all()? * (0.5 * std::f64::consts::LOG10_E)
}

#[cfg(test)]
mod tests {
    use super::super::{check, host};
    use super::*;
    use crate::config::CodecConfig;

    fn synthesis() -> InverseStft {
        let config = CodecConfig {
            hop: 24,
            synthesis_window: 96,
            noise_band: [4000, 8000],
            noise_bands: 12,
            voiced_bands: 4,
            ..CodecConfig::default()
        };
        InverseStft::new(&config).unwrap()
    }

    /// A head that says `log` of every band, and silence below.
    fn head(synthesis: &InverseStft, frames: usize, log: f32) -> Tensor {
        let learned = synthesis.learned_bins();
        let value = |i: usize| match i % synthesis.inputs() {
            i if i < learned => -12.0,
            i if i < synthesis.magnitudes() => log,
            i if i < synthesis.magnitudes() + 2 * learned => 0.1,
            _ => -9.0,
        };
        let count = frames * synthesis.inputs();
        let values: Vec<f32> = (0..count).map(value).collect();
        Tensor::from_vec(values, (1, frames, synthesis.inputs()), &Device::Cpu).unwrap()
    }

    #[test]
    fn what_the_decoder_makes_of_an_envelope_has_that_envelope() {
        let synthesis = synthesis();
        let loss = EnvelopeLoss::new(&synthesis, &Device::Cpu).unwrap();
        let frames = 400;
        let sound = synthesis.forward(&head(&synthesis, frames, -2.0), &[7]).unwrap();
        let distance = |log: f32| {
            let loss = loss.forward(&head(&synthesis, frames, log), &sound).unwrap();
            host(&loss).unwrap()[0]
        };
        // The noise's own ups and downs are left, and any other envelope is further away.
        let (same, louder, softer) = (distance(-2.0), distance(-1.5), distance(-2.5));
        assert!(same < 0.16, "{same}");
        assert!(louder > same + 0.06 && softer > same + 0.06, "{softer} {same} {louder}");
    }

    #[test]
    fn gradient_is_the_slope() {
        let synthesis = synthesis();
        let loss = EnvelopeLoss::new(&synthesis, &Device::Cpu).unwrap();
        let samples = check::random(2, &[2, 5 * 24]);
        let head = check::random(1, &[2, 5, synthesis.inputs()]);
        check::gradients(|t| loss.forward(&t[0], &samples)? * 20.0, &[head], 2e-2);
    }

    #[test]
    fn silence_is_as_good_as_any_other_silence() {
        let synthesis = synthesis();
        let loss = EnvelopeLoss::new(&synthesis, &Device::Cpu).unwrap();
        let silence = check::random(1, &[1, 5 * 24]).affine(0.0, 0.0).unwrap();
        for log in [-14.0, -30.0] {
            let found = loss.forward(&head(&synthesis, 5, log), &silence).unwrap();
            assert!(host(&found).unwrap()[0] < 1e-2, "{log}");
        }
    }
}
