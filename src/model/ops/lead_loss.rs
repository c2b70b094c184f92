//! How far what leads the bins above the learned phases is from where these point in the sound.
//!
//! A distance of spectra sees what leads only through the noise that is mixed with it, and is the same for one that
//! knows nothing and one that points anywhere. Here each is held against the direction itself. The nearest to
//! directions that are uncertain is their mean, whose length is their coherence: a bin is led as far as the codes
//! tell where to, and no further.

use candle_core::{D, Result, Tensor};

use super::{InverseStft, Stft};

/// Energy under which a bin is silence and points nowhere: that of noise at -100 dB of full scale.
const SILENCE: f64 = 1e-10;

/// The mean square of the distance of what leads from the sound's directions.
pub struct LeadLoss {
    stft: Stft,
    /// Samples of a frame that are before its hop.
    overlap: usize,
    /// The first bin that is led, and how many are.
    bins: (usize, usize),
    /// The first of the head's outputs that lead.
    first: usize,
}

impl LeadLoss {
    /// For what `synthesis` makes samples from; none where it leads no bins.
    ///
    /// # Errors
    /// The transform cannot be planned.
    pub fn new(synthesis: &InverseStft) -> Result<Option<Self>> {
        let led = synthesis.led_bins();
        if led == 0 {
            return Ok(None);
        }
        let (window, hop) = synthesis.window_and_hop();
        Ok(Some(Self {
            stft: Stft::new(window, hop)?,
            overlap: window - hop,
            bins: (synthesis.learned_bins(), led),
            first: synthesis.first_lead(),
        }))
    }

    /// The distance of `head` (batch, frames, inputs of the inverse STFT) from `samples` (batch, frames * hop), 0 to
    /// 4, with a gradient into `head`; 1 where nothing is led. Bins count as their magnitudes' square roots do, as in
    /// the compressed distance of spectra.
    ///
    /// # Errors
    /// Shapes that do not fit together.
    pub fn forward(&self, head: &Tensor, samples: &Tensor) -> Result<Tensor> {
        let (first, led) = self.bins;
        let padded = samples.detach().pad_with_zeros(1, self.overlap, 0)?;
        let spectra = self.stft.forward(&padded)?.narrow(2, first, led)?;
        let part = |part: usize| spectra.narrow(3, part, 1)?.squeeze(3)?.contiguous();
        let (re, im) = (part(0)?, part(1)?);
        let energy = ((re.sqr()? + im.sqr()?)? + SILENCE)?;
        let length = energy.sqrt()?;
        let weight = length.sqrt()?;
        let lead = |part: usize| head.narrow(2, self.first + part * led, led)?.contiguous();
        let (a, b) = (lead(0)?, lead(1)?);
        let rest = ((a.sqr()? + b.sqr()?)? + 1.0)?.sqrt()?.recip()?;
        let off = |lead: Tensor, sound: Tensor| ((lead * &rest)? - (sound / &length)?)?.sqr();
        let distance = (off(a, re)? + off(b, im)?)?;
        // Each item alike, however loud it is.
        let sum = |t: Tensor| t.sum(D::Minus1)?.sum(D::Minus1);
        sum((distance * &weight)?)?.div(&sum(weight)?)?.mean_all()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::{check, host};
    use super::*;
    use crate::config::CodecConfig;

    fn synthesis(led_top: u32) -> InverseStft {
        let config = CodecConfig {
            hop: 24,
            synthesis_window: 96,
            noise_band: [2000, 4000],
            noise_bands: 12,
            voiced_bands: 4,
            led_top,
            ..CodecConfig::default()
        };
        InverseStft::new(&config).unwrap()
    }

    /// A tone in the middle of the bins that are led, and a head that leads them by `lead` times where they point.
    fn tone_and_head(synthesis: &InverseStft, frames: usize, lead: f64) -> [Tensor; 2] {
        let tone = |n: usize| (std::f32::consts::TAU * 10.0 * n as f32 / 96.0).cos();
        let sound: Vec<f32> = (0..frames * 24).map(tone).collect();
        let sound = Tensor::from_vec(sound, (1, frames * 24), &Device::Cpu).unwrap();
        let loss = LeadLoss::new(synthesis).unwrap().unwrap();
        let padded = sound.pad_with_zeros(1, 72, 0).unwrap();
        let spectra = loss.stft.forward(&padded).unwrap();
        let (first, led) = loss.bins;
        let spectra = spectra.narrow(2, first, led).unwrap();
        let length = spectra.sqr().unwrap().sum_keepdim(3).unwrap().sqrt().unwrap();
        let directions = (spectra.broadcast_div(&length).unwrap() * lead).unwrap();
        let parts = [0, 1].map(|part| directions.narrow(3, part, 1).unwrap().squeeze(3).unwrap());
        let before =
            Tensor::zeros((1, frames, loss.first), parts[0].dtype(), &Device::Cpu).unwrap();
        let head = Tensor::cat(&[&before, &parts[0], &parts[1]], 2).unwrap();
        [sound, head]
    }

    #[test]
    fn knowing_more_is_nearer_and_being_wrong_is_worse_than_knowing_nothing() {
        let synthesis = synthesis(8000);
        let loss = LeadLoss::new(&synthesis).unwrap().unwrap();
        let of = |lead: f64| {
            let [sound, head] = tone_and_head(&synthesis, 20, lead);
            host(&loss.forward(&head, &sound).unwrap()).unwrap()[0]
        };
        assert!((of(0.0) - 1.0).abs() < 1e-2, "{}", of(0.0));
        assert!(of(1.0) < 0.2 && of(10.0) < 0.01, "{} {}", of(1.0), of(10.0));
        assert!(of(-1.0) > 2.0, "{}", of(-1.0));
    }

    /// What it asks for is what makes the sound.
    #[test]
    fn a_tone_that_is_led_comes_out_of_the_synthesis() {
        let synthesis = synthesis(8000);
        let frames = 40;
        let made = |lead: f64| {
            let [sound, head] = tone_and_head(&synthesis, frames, lead);
            // All magnitudes one.
            let log = head.narrow(2, 0, synthesis.magnitudes()).unwrap().zeros_like().unwrap();
            let rest = synthesis.inputs() - synthesis.magnitudes();
            let rest = head.narrow(2, synthesis.magnitudes(), rest).unwrap();
            let head = Tensor::cat(&[&log, &rest], 2).unwrap();
            let out = host(&synthesis.forward(&head, &[3]).unwrap()).unwrap();
            let sound = host(&sound).unwrap();
            // How much of the tone there is, away from the ends.
            let tone = out[96..864].iter().zip(&sound[96..864]);
            tone.map(|(out, sound)| out * sound).sum::<f32>() / 384.0
        };
        let (led, not) = (made(8.0), made(0.0));
        assert!(led > 0.1 && led > 4.0 * not.abs(), "{led} {not}");
    }

    #[test]
    fn gradient_is_the_slope() {
        let synthesis = synthesis(8000);
        let loss = LeadLoss::new(&synthesis).unwrap().unwrap();
        let samples = check::random(2, &[2, 5 * 24]);
        let head = check::random(1, &[2, 5, synthesis.inputs()]);
        check::gradients(|t| loss.forward(&t[0], &samples)? * 20.0, &[head], 2e-2);
    }

    #[test]
    fn silence_points_nowhere_and_nothing_led_is_no_loss() {
        assert!(LeadLoss::new(&synthesis(0)).unwrap().is_none());
        assert!(LeadLoss::new(&synthesis(2000)).unwrap().is_none());
        let synthesis = synthesis(8000);
        let loss = LeadLoss::new(&synthesis).unwrap().unwrap();
        let silence = Tensor::zeros((1, 120), candle_core::DType::F32, &Device::Cpu).unwrap();
        let head = silence.zeros_like().unwrap().narrow(1, 0, 1).unwrap();
        let head = head.broadcast_as((1, 5, synthesis.inputs())).unwrap().contiguous().unwrap();
        assert_eq!(host(&loss.forward(&head, &silence).unwrap()).unwrap(), [0.0]);
    }
}
