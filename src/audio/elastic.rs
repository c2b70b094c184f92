//! Converting sample rates between two clocks, with little delay.

use audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{
    Adjustable, Async, FixedAsync, Indexing, Resampler, SincInterpolationParameters,
    SincInterpolationType, WindowFunction,
};

use super::source::{AudioError, check_shape};

/// The most by which the ratio can be bent: far more than two clocks differ, and a pitch too little
/// changed to be heard.
const MAX_BEND: f64 = 0.002;

/// Input frames converted at a time.
const BLOCK: usize = 32;

/// Taps of the filter, at the lower of the two rates.
const TAPS: usize = 64;

/// Converts a live stream from one rate to another, by a ratio that can be bent while it runs so that
/// one device's clock follows another's.
///
/// The filter is shorter than that of [`StreamResampler`](super::StreamResampler), its delay is left in
/// the output, and what comes out depends on when the ratio was bent. Nothing is allocated by
/// [`process`](Self::process) but what `out` needs.
///
/// ```
/// use tessera_codec::audio::ElasticResampler;
///
/// let mut resampler = ElasticResampler::new(48_000, 48_000, 1)?;
/// resampler.bend(1e-3);
/// let mut out = Vec::new();
/// resampler.process(&[vec![0.5; 480_000]], &mut out)?;
/// assert!((480_400..480_560).contains(&out[0].len()));
/// # Ok::<(), tessera_codec::audio::AudioError>(())
/// ```
pub struct ElasticResampler {
    resampler: Async<f32>,
    input: Vec<Vec<f32>>,
    output: Vec<Vec<f32>>,
    filled: usize,
    rate_out: u32,
}

impl ElasticResampler {
    /// A converter from `from` to `to` Hz.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`], [`AudioError::Channels`].
    pub fn new(from: u32, to: u32, channels: usize) -> Result<Self, AudioError> {
        check_shape("the stream to convert", from, channels)?;
        check_shape("the converted stream", to, channels)?;
        let parameters = SincInterpolationParameters {
            sinc_len: TAPS * from.div_ceil(to).clamp(1, 16) as usize,
            f_cutoff: None,
            oversampling_factor: 128,
            interpolation: SincInterpolationType::Cubic,
            window: WindowFunction::BlackmanHarris2,
        };
        let ratio = f64::from(to) / f64::from(from);
        let bend = 1.0 + MAX_BEND;
        let resampler =
            Async::new_sinc(ratio, bend, &parameters, BLOCK, channels, FixedAsync::Input)
                .map_err(|error| failed(&error))?;
        Ok(Self {
            input: vec![vec![0.0; BLOCK]; channels],
            output: vec![vec![0.0; resampler.output_frames_max()]; channels],
            resampler,
            filled: 0,
            rate_out: to,
        })
    }

    /// Makes a little more output from the same input (above 0) or a little less (below 0): a share of it,
    /// which is limited to 0.002 either way.
    pub fn bend(&mut self, share: f64) {
        let share = if share.is_finite() { share.clamp(-MAX_BEND, MAX_BEND) } else { 0.0 };
        // Within the bounds it was made with, down as well: 1 / 1.002 is the lowest.
        let ratio = (1.0 + share).clamp(1.0 / (1.0 + MAX_BEND), 1.0 + MAX_BEND);
        let _ = self.resampler.set_resample_ratio_relative(ratio, true);
    }

    /// Seconds by which the output lags behind the input: the filter's delay and half of what is
    /// converted at a time.
    pub fn delay_seconds(&self) -> f64 {
        let half_block = BLOCK as f64 / 2.0 * self.resampler.resample_ratio();
        (self.resampler.output_delay() as f64 + half_block) / f64::from(self.rate_out)
    }

    /// Takes a block, a slice per channel of equal length, and appends what is ready to `out`, which
    /// gets a vector per channel.
    ///
    /// # Errors
    /// [`AudioError::Block`] if the block has another shape.
    pub fn process<S: AsRef<[f32]>>(
        &mut self,
        input: &[S],
        out: &mut Vec<Vec<f32>>,
    ) -> Result<(), AudioError> {
        let channels = self.input.len();
        let frames = input.first().map_or(0, |c| c.as_ref().len());
        if input.len() != channels || input.iter().any(|c| c.as_ref().len() != frames) {
            return Err(AudioError::Block {
                path: "rate conversion".into(),
                reason: format!("{channels} channels of equal length are expected"),
            });
        }
        out.resize_with(channels, Vec::new);
        let mut taken = 0;
        while taken < frames {
            let count = (BLOCK - self.filled).min(frames - taken);
            for (buffer, channel) in self.input.iter_mut().zip(input) {
                buffer[self.filled..self.filled + count]
                    .copy_from_slice(&channel.as_ref()[taken..taken + count]);
            }
            taken += count;
            self.filled += count;
            if self.filled == BLOCK {
                self.convert(out)?;
            }
        }
        Ok(())
    }

    fn convert(&mut self, out: &mut [Vec<f32>]) -> Result<(), AudioError> {
        let channels = self.input.len();
        let room = self.output.first().map_or(0, Vec::len);
        let input = SequentialSliceOfVecs::new(&self.input, channels, BLOCK)
            .map_err(|error| failed(&error))?;
        let mut output = SequentialSliceOfVecs::new_mut(&mut self.output, channels, room)
            .map_err(|error| failed(&error))?;
        let (_, made) = self
            .resampler
            .process_into_buffer(&input, &mut output, Some(&Indexing::new()))
            .map_err(|error| failed(&error))?;
        self.filled = 0;
        for (out, output) in out.iter_mut().zip(&self.output) {
            out.extend_from_slice(&output[..made]);
        }
        Ok(())
    }
}

fn failed(error: &dyn std::fmt::Display) -> AudioError {
    AudioError::Block { path: "rate conversion".into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hertz: f64, rate: f64, frames: usize) -> Vec<f32> {
        (0..frames)
            .map(|n| (std::f64::consts::TAU * hertz * n as f64 / rate).sin() as f32)
            .collect()
    }

    /// The least-squares distance of `signal` from any sine of that frequency, relative to it.
    fn distance(signal: &[f32], hertz: f64, rate: f64) -> f64 {
        let (mut s, mut c, mut power) = (0.0, 0.0, 0.0);
        for (n, &v) in signal.iter().enumerate() {
            let phase = std::f64::consts::TAU * hertz * n as f64 / rate;
            s += f64::from(v) * phase.sin();
            c += f64::from(v) * phase.cos();
            power += f64::from(v * v);
        }
        let explained = 2.0 * (s * s + c * c) / signal.len() as f64;
        ((power - explained) / power).max(0.0).sqrt()
    }

    #[test]
    fn tones_come_through_at_any_rate() {
        for (from, to) in [(48_000, 48_000), (44_100, 48_000), (48_000, 44_100), (96_000, 48_000)] {
            let mut resampler = ElasticResampler::new(from, to, 2).unwrap();
            let input = tone(1000.0, from.into(), from as usize);
            let mut out = Vec::new();
            for piece in input.chunks(123) {
                resampler.process(&[piece, piece], &mut out).unwrap();
            }
            assert!(out[0] == out[1]);
            assert!(out[0].len().abs_diff(to as usize) < 100, "{} {}", from, out[0].len());
            // A whole number of periods, so that sine and cosine are orthogonal.
            let steady = &out[0][1000..1000 + to as usize / 100 * 90];
            let off = distance(steady, 1000.0, to.into());
            assert!(off < 2e-3, "{from} to {to}: {off}");
        }
    }

    #[test]
    fn bending_changes_the_length_by_that_share() {
        for share in [-0.01, -0.002, -1e-4, 0.0, 5e-4, 0.5, f64::NAN] {
            let mut resampler = ElasticResampler::new(48_000, 44_100, 1).unwrap();
            resampler.bend(share);
            let mut out = Vec::new();
            resampler.process(&[vec![0.1; 960_000]], &mut out).unwrap();
            let share = if share.is_nan() { 0.0 } else { share.clamp(-0.002, 0.002) };
            let expected = 882_000.0 * (1.0 + share);
            let off = out[0].len() as f64 - expected;
            assert!(off.abs() < 100.0, "{share}: {} for {expected}", out[0].len());
        }
    }

    #[test]
    fn blocks_of_another_shape_are_refused() {
        let mut resampler = ElasticResampler::new(48_000, 44_100, 2).unwrap();
        let mut out = Vec::new();
        assert!(resampler.process(&[vec![0.0; 5]], &mut out).is_err());
        assert!(resampler.process(&[vec![0.0; 5], vec![0.0; 6]], &mut out).is_err());
        assert!(ElasticResampler::new(0, 48_000, 2).is_err());
        assert!(ElasticResampler::new(48_000, 48_000, 0).is_err());
    }
}
