//! Sound in place of steps that were lost.

use crate::engine::{EngineError, Model, Progress, StreamDecoder};
use crate::lines::Lines;
use crate::prior::{Generator, Prior, Sampling};

/// Seconds for which made-up sound keeps its loudness; the prior's guess gets worse with every step.
const HOLD: f64 = 0.2;
/// Seconds over which it then falls silent.
const FADE_OUT: f64 = 1.8;
/// Seconds over which sound rises after silence.
const FADE_IN: f64 = 0.02;

/// A decoder for a channel whose steps may be lost. What is missing is made up: the coarse codes of the last
/// step stay, which keep loudness and colour, and the prior draws fine ones for them; without a prior the whole
/// step is repeated. Within 0.2 s the spectrum's envelope turns into what it mostly was in the seconds before, since
/// nobody knows any better; from then on it fades, to silence at 2 s. The decoder's state goes on through it,
/// so that nothing clicks at either end.
///
/// Nothing is allocated after it is made.
///
/// ```
/// use tessera_codec::concealment::ConcealingDecoder;
/// use tessera_codec::engine::Model;
///
/// # #[cfg(feature = "embedded-model")] {
/// let model = Model::shipped()?;
/// let levels = 4;
/// let mut decoder = ConcealingDecoder::new(&model, None, levels, 1)?;
/// let mut samples = vec![0.0; model.chunk_samples()];
/// let codes = vec![7; model.codes_per_step(levels)];
/// for packet in [Some(&codes), None, Some(&codes)] {
///     if let Some(codes) = packet {
///         decoder.process_into(codes, &mut samples)?;
///     } else {
///         decoder.conceal(&mut samples)?;
///     }
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConcealingDecoder {
    decoder: StreamDecoder,
    levels: usize,
    guess: Guess,
    /// The last step's codes, and whether there was one.
    step: Box<[u16]>,
    /// Codes of a step that stay through made-up ones: those that cover more than a frame.
    kept: usize,
    heard: bool,
    /// Samples made up since the last that were not.
    made_up: u64,
    /// Gain of the next sample, 0 to 1.
    gain: f32,
    hold: u64,
    fall: f32,
    rise: f32,
}

/// Where made-up codes come from.
#[derive(Debug, Clone)]
enum Guess {
    Repeat,
    // Boxed: it is much larger than nothing.
    Prior(Box<Generator>),
}

impl ConcealingDecoder {
    /// A stream at its beginning, of `levels` levels, that decodes up to `batch` steps at once, as
    /// [`StreamDecoder::with_batch`].
    ///
    /// # Errors
    /// `levels` is not one of the model's or of the prior's.
    pub fn new(
        model: &Model,
        prior: Option<&Prior>,
        levels: usize,
        batch: usize,
    ) -> Result<Self, EngineError> {
        let most = model.levels();
        if !(1..=most).contains(&levels) {
            return Err(EngineError::Levels { given: levels, most });
        }
        let guess = match prior {
            Some(prior) => Guess::Prior(Box::new(Generator::new(prior, levels, Sampling::LIKELY)?)),
            None => Guess::Repeat,
        };
        let config = model.config();
        let frames = config.layout().frames_per_step();
        let coarse = config.vq.strides[..levels].iter().filter(|stride| **stride > 1);
        let kept = coarse.map(|stride| frames / stride).sum();
        let rate = f64::from(config.sample_rate);
        Ok(Self {
            decoder: StreamDecoder::with_batch(model, batch).with_colour(),
            levels,
            guess,
            step: vec![0; model.codes_per_step(levels)].into(),
            kept,
            heard: false,
            made_up: 0,
            gain: 1.0,
            hold: (HOLD * rate) as u64,
            fall: (1.0 / (FADE_OUT * rate)) as f32,
            rise: (1.0 / (FADE_IN * rate)) as f32,
        })
    }

    /// Takes codes that arrived: as [`StreamDecoder::process_into`].
    ///
    /// # Errors
    /// As [`StreamDecoder::process_into`].
    pub fn process_into(
        &mut self,
        codes: &[u16],
        samples: &mut [f32],
    ) -> Result<Progress, EngineError> {
        self.process_with_lines(codes, &[], samples)
    }

    /// Takes codes that arrived, and their lines: as [`StreamDecoder::process_with_lines`].
    ///
    /// # Errors
    /// As [`StreamDecoder::process_with_lines`].
    pub fn process_with_lines(
        &mut self,
        codes: &[u16],
        lines: &[Lines],
        samples: &mut [f32],
    ) -> Result<Progress, EngineError> {
        self.decoder.make_up(false);
        let done = self.decoder.process_with_lines(codes, self.levels, lines, samples)?;
        let taken = &codes[..done.consumed];
        if let Some(last) = taken.rchunks_exact(self.step.len()).next() {
            self.step.copy_from_slice(last);
            self.heard = true;
        }
        if let Guess::Prior(generator) = &mut self.guess {
            generator.listen(taken)?;
        }
        self.made_up = 0;
        self.fade(&mut samples[..done.produced], self.rise);
        Ok(done)
    }

    /// Makes up a step: writes as many samples as one has, and gives their number.
    ///
    /// # Errors
    /// `samples` has no room for them.
    pub fn conceal(&mut self, samples: &mut [f32]) -> Result<usize, EngineError> {
        let count = self.decoder.chunk_samples();
        if samples.len() < count {
            return Err(EngineError::OutputTooSmall { given: samples.len(), needed: count });
        }
        let samples = &mut samples[..count];
        if !self.heard || self.gain <= 0.0 {
            // Silence need not be computed.
            self.gain = 0.0;
            self.pass_over(1);
            samples.fill(0.0);
            return Ok(count);
        }
        if let Guess::Prior(generator) = &mut self.guess {
            generator.draw_after(self.kept, &mut self.step)?;
        }
        self.decoder.make_up(true);
        self.decoder.process_into(&self.step, self.levels, samples)?;
        let held = self.hold.saturating_sub(self.made_up).min(count as u64);
        self.made_up += count as u64;
        self.fade(&mut samples[held as usize..], -self.fall);
        Ok(count)
    }

    /// Passes over `steps` lost steps that need no sound. What comes next fades in, in its place in the
    /// stream.
    pub fn pass_over(&mut self, steps: u64) {
        if steps == 0 {
            return;
        }
        self.decoder.reset_at(self.decoder.next_step().wrapping_add(steps));
        if let Guess::Prior(generator) = &mut self.guess {
            generator.reset();
        }
        self.gain = 0.0;
    }

    /// Whether steps made up from here on are silence.
    pub fn is_silent(&self) -> bool {
        !self.heard || self.gain <= 0.0
    }

    fn fade(&mut self, samples: &mut [f32], slope: f32) {
        if slope > 0.0 && self.gain >= 1.0 {
            return;
        }
        for sample in samples {
            *sample *= self.gain;
            self.gain = (self.gain + slope).clamp(0.0, 1.0);
        }
    }
}

#[cfg(all(test, feature = "embedded-model"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::StreamEncoder;

    fn coded(model: &Model, steps: usize) -> Vec<u16> {
        let sound: Vec<f32> = (0..steps * model.chunk_samples())
            .map(|n| 0.3 * (n as f32 * 0.02).sin() + 0.1 * (n as f32 * 0.11).sin())
            .collect();
        let mut codes = vec![0; steps * model.codes_per_step(4)];
        StreamEncoder::new(model).process_into(&sound, 4, &mut codes).unwrap();
        codes
    }

    /// Decodes with the steps that `lost` names made up.
    fn decode(model: &Model, codes: &[u16], lost: impl Fn(usize) -> bool) -> Vec<f32> {
        let mut decoder = ConcealingDecoder::new(model, None, 4, 1).unwrap();
        let mut all = Vec::new();
        let mut samples = vec![0.0; model.chunk_samples()];
        for (i, step) in codes.chunks_exact(model.codes_per_step(4)).enumerate() {
            match lost(i) {
                true => decoder.conceal(&mut samples).map(|_| ()).unwrap(),
                false => decoder.process_into(step, &mut samples).map(|_| ()).unwrap(),
            }
            all.extend_from_slice(&samples);
        }
        all
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32
    }

    #[test]
    fn without_losses_it_is_the_decoder() {
        let model = Model::shipped().unwrap();
        let codes = coded(&model, 8);
        let mut plain = vec![0.0; 8 * model.chunk_samples()];
        StreamDecoder::new(&model).process_into(&codes, 4, &mut plain).unwrap();
        assert_eq!(decode(&model, &codes, |_| false), plain);
    }

    #[test]
    fn a_gap_is_filled_then_fades_and_never_clicks() {
        let model = Model::shipped().unwrap();
        let chunk = model.chunk_samples();
        let codes = coded(&model, 80);
        let lost = |i| (10..70).contains(&i);
        let sound = decode(&model, &codes, lost);
        let step = |i: usize| &sound[i * chunk..(i + 1) * chunk];
        // 0.2 s are five steps, 2 s are fifty.
        assert!(power(step(12)) > 0.2 * power(step(8)));
        assert!(power(step(45)) < 0.2 * power(step(12)));
        assert!(power(step(61)) == 0.0 && power(step(69)) == 0.0);
        assert!(power(step(78)) > 0.5 * power(step(8)), "it is back");
        let jump =
            |samples: &[f32]| samples.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
        assert!(jump(&sound) <= 2.0 * jump(&sound[..9 * chunk]), "a click");
    }

    #[test]
    fn a_gap_after_a_loud_moment_is_filled_with_what_was_before_it() {
        let model = Model::shipped().unwrap();
        let (chunk, steps) = (model.chunk_samples(), 60);
        // Two seconds of a soft sound, at whose end it is loud for two steps.
        let sound: Vec<f32> = (0..steps * chunk)
            .map(|n| if n / chunk >= 48 { 0.5 } else { 0.02 } * (n as f32 * 0.03).sin())
            .collect();
        let mut codes = vec![0; steps * model.codes_per_step(4)];
        StreamEncoder::new(&model).process_into(&sound, 4, &mut codes).unwrap();
        let sound = decode(&model, &codes, |i| i >= 50);
        let step = |i: usize| power(&sound[i * chunk..(i + 1) * chunk]);
        assert!(step(56) < 0.05 * step(49), "{} {}", step(56), step(49));
        assert!(step(56) > 0.2 * step(40), "{} {}", step(56), step(40));
    }

    #[test]
    fn before_the_first_step_there_is_silence() {
        let model = Model::shipped().unwrap();
        let codes = coded(&model, 6);
        let sound = decode(&model, &codes, |i| i < 3);
        assert!(sound[..3 * model.chunk_samples()].iter().all(|x| *x == 0.0));
        let mut decoder = ConcealingDecoder::new(&model, None, 4, 1).unwrap();
        assert!(decoder.conceal(&mut [0.0; 3]).is_err());
        assert!(ConcealingDecoder::new(&model, None, model.levels() + 1, 1).is_err());
    }
}
