//! Converting sample rates, streaming and in time with the input.

use audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{
    Async, Fft, FixedAsync, FixedSync, Indexing, Resampler, SincInterpolationParameters,
    SincInterpolationType, WindowFunction,
};

use super::source::{AudioError, check_shape};

/// Taps of the anti-aliasing filter, at the lower of the two rates: a transition band of about
/// 2.5 % of the bandwidth, with more than 120 dB of rejection.
const FILTER_TAPS: u64 = 1024;

/// Largest FFT block of all channels together; bounds memory and delay for rates with a small common
/// divisor. One channel counts as two, so that mono is converted as either side of stereo.
const MAX_FFT_BLOCK: u64 = 1 << 18;

/// Rates further apart than this are no audio; they get a simple conversion.
const MAX_FILTERED_RATIO: u64 = 256;

/// Taps of the interpolated filter for rates with a small common divisor.
const SINC_TAPS: usize = 256;

/// Input frames the interpolated filter takes at a time.
const SINC_BLOCK: usize = 512;

/// Zeros tried in front of the interpolated filter's input, fewer than this.
const SINC_LEADS: u64 = 4096;

/// Output frames a block of [`StreamResampler::block_frames`] makes, at most, and samples of all channels
/// together, of which a file may have many.
const BLOCK_FRAMES: u64 = 1 << 15;
const BLOCK_SAMPLES: u64 = 1 << 17;

/// Length of `frames` samples at `from` Hz after conversion to `to` Hz: `round(frames * to / from)`.
pub fn resampled_len(frames: u64, from: u32, to: u32) -> u64 {
    let from = u128::from(from.max(1));
    let frames = (u128::from(frames) * u128::from(to) + from / 2) / from;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// Converts one stream of one or more channels from one rate to another.
///
/// Output sample `n` lies at the time of input sample `n * from / to`: the filter's delay is taken
/// out. What comes out does not depend on the sizes of the blocks that go in. Equal rates pass the
/// samples through unchanged.
///
/// ```
/// use tessera_codec::audio::StreamResampler;
///
/// let mut resampler = StreamResampler::new(44_100, 48_000, 1)?;
/// let mut out = Vec::new();
/// for block in [vec![0.25; 1000], vec![0.25; 3410]] {
///     resampler.process(&[block], &mut out)?;
/// }
/// resampler.finish(&mut out)?;
/// assert_eq!(out[0].len(), 4800);
/// # Ok::<(), tessera_codec::audio::AudioError>(())
/// ```
pub struct StreamResampler {
    from: u32,
    to: u32,
    channels: usize,
    method: Method,
    /// Frames in so far.
    consumed: u64,
    /// Frames out so far.
    emitted: u64,
    /// Total length, where the caller set it.
    length: Option<u64>,
}

enum Method {
    Identity,
    Filter(Box<Filter>),
    Hold(Interpolator),
    Average(Averager),
}

impl StreamResampler {
    /// A converter from `from` to `to` Hz.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`] for a rate of 0 or above [`super::MAX_SAMPLE_RATE`],
    /// [`AudioError::Channels`] for none or more than [`super::MAX_CHANNELS`].
    pub fn new(from: u32, to: u32, channels: usize) -> Result<Self, AudioError> {
        check_shape("the stream to convert", from, channels)?;
        check_shape("the converted stream", to, channels)?;
        let divisor = gcd(from, to);
        let (low, high) = (u64::from(from.min(to) / divisor), u64::from(from.max(to) / divisor));
        // An even number of periods puts the filter's centre on a sample of either rate.
        let periods = FILTER_TAPS.div_ceil(low).next_multiple_of(2);
        let method = if from == to {
            Method::Identity
        } else if periods * high * channels.max(2) as u64 <= MAX_FFT_BLOCK {
            let block = periods as usize * (from / divisor) as usize;
            let fft = Fft::<f64>::new_custom(
                from as usize,
                to as usize,
                block,
                1,
                channels,
                WindowFunction::BlackmanHarris2,
                FixedSync::Input,
            );
            Method::Filter(Box::new(Filter::new(Box::new(fft.map_err(construction)?), channels)))
        } else if high.div_ceil(low) <= MAX_FILTERED_RATIO {
            Method::Filter(Box::new(sinc(from, to, channels)?))
        } else if from < to {
            Method::Hold(Interpolator { from, to, consumed: 0, next: 0, last: vec![0.0; channels] })
        } else {
            Method::Average(Averager {
                from,
                to,
                consumed: 0,
                sums: vec![0.0; channels],
                count: 0,
                bin: 0,
            })
        };
        Ok(Self { from, to, channels, method, consumed: 0, emitted: 0, length: None })
    }

    /// Sets the exact number of frames to give in all, instead of
    /// [`resampled_len`] of what went in: surplus is cut, what is missing is silence, which
    /// [`StreamResampler::finish`] appends at once; so a length from a file wants checking first.
    pub fn with_length(mut self, frames: u64) -> Self {
        self.length = Some(frames);
        self
    }

    /// Frames to pass to [`StreamResampler::process`] at most, so that the output of a call stays
    /// small (some ten thousand frames) however far the rates are apart.
    pub fn block_frames(&self) -> usize {
        let most = BLOCK_FRAMES.min(BLOCK_SAMPLES / self.channels as u64);
        (most * u64::from(self.from) / u64::from(self.to)).clamp(1, most) as usize
    }

    /// Frames given so far.
    pub fn frames_out(&self) -> u64 {
        self.emitted
    }

    /// Takes a block, a slice per channel of equal length, and appends what is ready to `out`,
    /// which gets a vector per channel.
    ///
    /// # Errors
    /// [`AudioError::Block`] if the block has another shape.
    pub fn process<S: AsRef<[f32]>>(
        &mut self,
        input: &[S],
        out: &mut Vec<Vec<f32>>,
    ) -> Result<(), AudioError> {
        let frames = input.first().map_or(0, |c| c.as_ref().len());
        if input.len() != self.channels || input.iter().any(|c| c.as_ref().len() != frames) {
            return Err(AudioError::Block {
                path: "rate conversion".into(),
                reason: format!("{} channels of equal length are expected", self.channels),
            });
        }
        out.resize_with(self.channels, Vec::new);
        let before = out.first().map_or(0, Vec::len);
        match &mut self.method {
            Method::Identity => {
                for (out, input) in out.iter_mut().zip(input) {
                    out.extend_from_slice(input.as_ref());
                }
            }
            Method::Filter(filter) => filter.process(input, frames, out)?,
            Method::Hold(hold) => hold.process(input, frames, out),
            Method::Average(average) => average.process(input, frames, out),
        }
        self.consumed += frames as u64;
        self.account(before, self.length.unwrap_or(u64::MAX), out);
        Ok(())
    }

    /// Ends the stream: appends the rest, so that all output together has the exact length.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn finish(mut self, out: &mut Vec<Vec<f32>>) -> Result<(), AudioError> {
        out.resize_with(self.channels, Vec::new);
        let total = self.length.unwrap_or(resampled_len(self.consumed, self.from, self.to));
        // Beyond this the filter only rings out; a longer length asked for is silence.
        let natural = resampled_len(self.consumed, self.from, self.to);
        while self.emitted < total.min(natural) {
            let before = out[0].len();
            match &mut self.method {
                Method::Filter(filter) => filter.flush(out)?,
                Method::Hold(hold) => hold.finish((natural - self.emitted) as usize, out),
                Method::Identity | Method::Average(_) => break,
            }
            self.account(before, total.min(natural), out);
        }
        let missing = (total - self.emitted) as usize;
        for channel in out.iter_mut() {
            channel.resize(channel.len() + missing, 0.0);
        }
        Ok(())
    }

    /// Counts what was appended since `before` and cuts what exceeds `total` frames in all.
    fn account(&mut self, before: usize, total: u64, out: &mut [Vec<f32>]) {
        let appended = out.first().map_or(0, Vec::len) - before;
        let keep = (total - self.emitted).min(appended as u64);
        self.emitted += keep;
        for channel in out {
            channel.truncate(before + keep as usize);
        }
    }
}

/// Converts a whole channel; for short signals.
///
/// # Errors
/// [`AudioError::SampleRate`] as [`StreamResampler::new`].
pub fn resample_all(input: &[f32], from: u32, to: u32) -> Result<Vec<f32>, AudioError> {
    let mut resampler = StreamResampler::new(from, to, 1)?;
    let mut out = Vec::new();
    resampler.process(&[input], &mut out)?;
    resampler.finish(&mut out)?;
    Ok(out.pop().unwrap_or_default())
}

/// For rates with a small common divisor: 191,999 and 48,000 Hz, or 44,101 and 48,000 Hz in many channels.
fn sinc(from: u32, to: u32, channels: usize) -> Result<Filter, AudioError> {
    let decimation = from.div_ceil(to).max(1) as usize;
    let parameters = SincInterpolationParameters {
        sinc_len: SINC_TAPS * decimation,
        f_cutoff: None,
        // A filter stretched by the decimation is that much smoother.
        oversampling_factor: (256 / decimation).max(16),
        interpolation: SincInterpolationType::Cubic,
        window: WindowFunction::BlackmanHarris2,
    };
    let ratio = f64::from(to) / f64::from(from);
    let resampler =
        Async::new_sinc(ratio, 1.0, &parameters, SINC_BLOCK, channels, FixedAsync::Input)
            .map_err(construction)?;
    let mut filter = Filter::new(Box::new(resampler), channels);
    // The delay is half the filter less one output sample, hardly ever a whole number of those.
    // So zeros are put in front that make it one, or nearly.
    let half = (parameters.sinc_len / 2) as u64;
    let (from, to) = (u64::from(from), u64::from(to));
    let off = |lead: &u64| {
        let rest = (half + lead) * to % from;
        rest.min(from - rest)
    };
    let lead = (0..SINC_LEADS).min_by_key(off).unwrap_or(0);
    filter.delay = (((half + lead) * to + from / 2) / from).saturating_sub(1) as usize;
    let zeros = vec![0.0; lead as usize];
    // All that comes of them is within the delay, and dropped.
    filter.process(&vec![&zeros; channels], zeros.len(), &mut vec![Vec::new(); channels])?;
    Ok(filter)
}

fn construction(error: rubato::ResamplerConstructionError) -> AudioError {
    AudioError::Block { path: "rate conversion".into(), reason: error.to_string() }
}

/// A band-limiting resampler of rubato fed with blocks of its own size, so that its output does
/// not depend on the caller's. In f64: its filters are inexact in f32.
struct Filter {
    resampler: Box<dyn Resampler<f64>>,
    input: Vec<Vec<f64>>,
    output: Vec<Vec<f64>>,
    filled: usize,
    /// Frames of delay still to be dropped.
    delay: usize,
}

impl Filter {
    fn new(resampler: Box<dyn Resampler<f64>>, channels: usize) -> Self {
        let input = vec![vec![0.0; resampler.input_frames_max()]; channels];
        let output = vec![vec![0.0; resampler.output_frames_max()]; channels];
        let delay = resampler.output_delay();
        Self { resampler, input, output, filled: 0, delay }
    }

    fn process<S: AsRef<[f32]>>(
        &mut self,
        input: &[S],
        frames: usize,
        out: &mut [Vec<f32>],
    ) -> Result<(), AudioError> {
        let mut taken = 0;
        while taken < frames {
            let count = (self.resampler.input_frames_next() - self.filled).min(frames - taken);
            for (buffer, channel) in self.input.iter_mut().zip(input) {
                let samples = &channel.as_ref()[taken..taken + count];
                for (to, from) in buffer[self.filled..self.filled + count].iter_mut().zip(samples) {
                    *to = f64::from(*from);
                }
            }
            taken += count;
            self.filled += count;
            if self.filled == self.resampler.input_frames_next() {
                self.convert(out)?;
            }
        }
        Ok(())
    }

    /// Converts what is there, filled up with silence.
    fn flush(&mut self, out: &mut [Vec<f32>]) -> Result<(), AudioError> {
        for buffer in &mut self.input {
            buffer[self.filled..].fill(0.0);
        }
        self.convert(out)
    }

    fn convert(&mut self, out: &mut [Vec<f32>]) -> Result<(), AudioError> {
        let shape = |reason: String| AudioError::Block { path: "rate conversion".into(), reason };
        let (channels, frames_in) = (self.input.len(), self.resampler.input_frames_next());
        let frames_out = self.output[0].len();
        let input = SequentialSliceOfVecs::new(&self.input, channels, frames_in)
            .map_err(|error| shape(error.to_string()))?;
        let mut output = SequentialSliceOfVecs::new_mut(&mut self.output, channels, frames_out)
            .map_err(|error| shape(error.to_string()))?;
        let (_, made) = self
            .resampler
            .process_into_buffer(&input, &mut output, Some(&Indexing::new()))
            .map_err(|error| shape(error.to_string()))?;
        self.filled = 0;
        let dropped = self.delay.min(made);
        self.delay -= dropped;
        for (out, output) in out.iter_mut().zip(&self.output) {
            out.extend(output[dropped..made].iter().map(|sample| *sample as f32));
        }
        Ok(())
    }
}

/// Linear interpolation, for absurdly low input rates.
struct Interpolator {
    from: u32,
    to: u32,
    consumed: u64,
    /// The output frame that comes next.
    next: u64,
    last: Vec<f32>,
}

impl Interpolator {
    fn process<S: AsRef<[f32]>>(&mut self, input: &[S], frames: usize, out: &mut [Vec<f32>]) {
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        for frame in 0..frames {
            // The outputs between the sample before this one and this one.
            while self.next * from < self.consumed * to {
                let past = self.next * from - (self.consumed - 1) * to;
                let weight = past as f32 / to as f32;
                for ((out, input), last) in out.iter_mut().zip(input).zip(&self.last) {
                    out.push(last + (input.as_ref()[frame] - last) * weight);
                }
                self.next += 1;
            }
            for (last, input) in self.last.iter_mut().zip(input) {
                *last = input.as_ref()[frame];
            }
            self.consumed += 1;
        }
    }

    /// Holds the last sample.
    fn finish(&self, count: usize, out: &mut [Vec<f32>]) {
        for (out, last) in out.iter_mut().zip(&self.last) {
            out.resize(out.len() + count, *last);
        }
    }
}

/// Averages of the input samples nearest to each output sample, for absurdly low output rates.
struct Averager {
    from: u32,
    to: u32,
    consumed: u64,
    sums: Vec<f64>,
    count: u64,
    /// The output frame that is being summed up.
    bin: u64,
}

impl Averager {
    fn process<S: AsRef<[f32]>>(&mut self, input: &[S], frames: usize, out: &mut [Vec<f32>]) {
        for frame in 0..frames {
            for (sum, input) in self.sums.iter_mut().zip(input) {
                *sum += f64::from(input.as_ref()[frame]);
            }
            self.count += 1;
            self.consumed += 1;
            let bin = resampled_len(self.consumed, self.from, self.to);
            if bin != self.bin {
                self.emit(out);
                self.bin = bin;
            }
        }
    }

    fn emit(&mut self, out: &mut [Vec<f32>]) {
        for (out, sum) in out.iter_mut().zip(&mut self.sums) {
            out.push((*sum / self.count.max(1) as f64) as f32);
            *sum = 0.0;
        }
        self.count = 0;
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use proptest::prelude::*;

    use super::*;

    fn sine(hertz: f64, rate: u32, frames: usize) -> Vec<f32> {
        (0..frames).map(|n| (2.0 * PI * hertz * n as f64 / f64::from(rate)).sin() as f32).collect()
    }

    /// Signal to noise ratio in dB of a converted sine against the sine itself, without the edges.
    fn sine_snr(hertz: f64, from: u32, to: u32, frames: usize) -> f64 {
        let out = resample_all(&sine(hertz, from, frames), from, to).unwrap();
        let ideal = sine(hertz, to, out.len());
        let edge = out.len() / 4;
        let inner = edge..out.len() - edge;
        let signal: f64 = ideal[inner.clone()].iter().map(|s| f64::from(*s).powi(2)).sum();
        let pairs = out[inner.clone()].iter().zip(&ideal[inner]);
        let noise: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn the_passband_is_transparent_and_in_time() {
        for (hertz, from, to) in [
            (997.0, 44_100, 48_000),
            (15_000.0, 44_100, 48_000),
            (997.0, 48_000, 44_100),
            (18_000.0, 48_000, 44_100),
            (997.0, 96_000, 48_000),
            (997.0, 22_050, 48_000),
            (997.0, 8_000, 48_000),
            (997.0, 11_025, 48_000),
            (997.0, 768_000, 48_000),
            (997.0, 44_101, 48_000),
        ] {
            let snr = sine_snr(hertz, from, to, 2 * from as usize);
            assert!(snr > 110.0, "{hertz} Hz from {from} to {to} Hz: {snr:.1} dB");
        }
    }

    #[test]
    fn rates_without_a_common_divisor_are_good_too() {
        for (hertz, from, to) in
            [(997.0, 191_999, 48_000), (997.0, 48_000, 383_993), (997.0, 767_999, 48_000)]
        {
            let snr = sine_snr(hertz, from, to, from as usize);
            assert!(snr > 60.0, "{hertz} Hz from {from} to {to} Hz: {snr:.1} dB");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_removed() {
        let out = resample_all(&sine(23_000.0, 48_000, 48_000), 48_000, 44_100).unwrap();
        let peak = out[4410..39_690].iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        assert!(peak < 1e-5, "{peak}");
    }

    #[test]
    fn a_click_stays_where_it_is() {
        for (from, to) in [
            (44_100, 48_000),
            (48_000, 44_100),
            (8_000, 48_000),
            (48_000, 8_000),
            (96_000, 48_000),
            (191_999, 48_000),
            (48_000, 383_993),
            (16_000, 48_000),
            (44_101, 48_000),
        ] {
            let at = from as usize / 3;
            let mut input = vec![0.0; from as usize];
            input[at] = 1.0;
            let out = resample_all(&input, from, to).unwrap();
            // The centre of its energy, as a click between two samples has two peaks.
            let energy: f64 = out.iter().map(|s| f64::from(*s).powi(2)).sum();
            let centre = out.iter().enumerate().map(|(n, s)| n as f64 * f64::from(*s).powi(2));
            let centre = centre.sum::<f64>() / energy / f64::from(to);
            let error = (centre - at as f64 / f64::from(from)).abs();
            assert!(error < 0.1e-3, "from {from} to {to} Hz: {:.3} ms", error * 1e3);
        }
    }

    #[test]
    fn absurd_rates_give_the_right_length() {
        for (from, to, frames) in [
            (1, 48_000, 5),
            (48_000, 1, 100_000),
            (48_000, 1, 10),
            (1, 768_000, 2),
            (768_000, 1, 768_001),
            (7, 48_000, 50),
            (768_000, 999, 100_000),
        ] {
            let out = resample_all(&vec![0.5; frames], from, to).unwrap();
            assert_eq!(out.len() as u64, resampled_len(frames as u64, from, to), "{from} {to}");
            assert!(out.iter().all(|s| (*s - 0.5).abs() < 1e-3), "{from} to {to}");
        }
    }

    #[test]
    fn mono_is_converted_as_a_side_of_stereo() {
        // 93,547 Hz in one channel would just fit an FFT block, in two it does not.
        for from in [44_100, 93_547, 191_999] {
            let side = sine(997.0, from, 3_000);
            let mut resampler = StreamResampler::new(from, 48_000, 2).unwrap();
            let mut out = Vec::new();
            resampler.process(&[&side, &side], &mut out).unwrap();
            resampler.finish(&mut out).unwrap();
            assert_eq!(out, vec![resample_all(&side, from, 48_000).unwrap(); 2], "{from} Hz");
        }
    }

    #[test]
    fn a_given_length_is_kept() {
        for (length, frames) in
            [(0, 100), (50, 100), (109, 100), (5_000, 100), (7, 0), (900, 44_100)]
        {
            let mut resampler =
                StreamResampler::new(44_100, 48_000, 2).unwrap().with_length(length);
            let mut out = Vec::new();
            resampler.process(&vec![vec![0.1; frames]; 2], &mut out).unwrap();
            resampler.finish(&mut out).unwrap();
            assert_eq!(out.iter().map(|c| c.len() as u64).collect::<Vec<_>>(), [length; 2]);
        }
    }

    #[test]
    fn bad_rates_and_shapes_are_errors() {
        let error = |from, to, channels| StreamResampler::new(from, to, channels).err().unwrap();
        assert!(matches!(error(0, 48_000, 1), AudioError::SampleRate { rate: 0, .. }));
        assert!(matches!(error(48_000, 768_001, 1), AudioError::SampleRate { .. }));
        assert!(matches!(error(48_000, 44_100, 0), AudioError::Channels { .. }));
        assert!(matches!(error(48_000, 44_100, 33), AudioError::Channels { .. }));
        let mut resampler = StreamResampler::new(44_100, 48_000, 2).unwrap();
        let uneven = [vec![0.0; 3], vec![0.0; 4]];
        let error = resampler.process(&uneven, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, AudioError::Block { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn block_sizes_do_not_matter(
            from in prop_oneof![
                Just(44_100u32), Just(48_000), Just(8_000), Just(3), Just(191_999), 1u32..=768_000
            ],
            to in prop_oneof![Just(48_000u32), Just(44_100), Just(100), Just(383_993)],
            sizes in prop::collection::vec(0usize..700, 1..8),
        ) {
            let frames: usize = sizes.iter().sum();
            // Two channels, one the other upside down, so that a mix-up shows.
            let left: Vec<f32> = (0..frames).map(|n| ((n * n) as f32 * 0.01).sin()).collect();
            let right: Vec<f32> = left.iter().map(|s| -s).collect();
            let mut resampler = StreamResampler::new(from, to, 2).unwrap();
            let mut out = Vec::new();
            let mut at = 0;
            for size in sizes {
                let block = [&left[at..at + size], &right[at..at + size]];
                resampler.process(&block, &mut out).unwrap();
                at += size;
            }
            resampler.finish(&mut out).unwrap();
            prop_assert_eq!(out[0].len() as u64, resampled_len(frames as u64, from, to));
            prop_assert!(out[0].iter().zip(&out[1]).all(|(l, r)| *l == -*r));
            prop_assert_eq!(&out[0], &resample_all(&left, from, to).unwrap());
            if from == to {
                prop_assert_eq!(&out[0], &left);
            }
        }
    }
}
