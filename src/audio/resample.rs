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

/// Largest FFT block; bounds memory and delay for rates with a small common divisor.
const MAX_FFT_BLOCK: u64 = 1 << 18;

/// Rates further apart than this are no audio; they get a simple conversion.
const MAX_FILTERED_RATIO: u64 = 256;

/// Taps of the interpolated filter for rates with a small common divisor.
const SINC_TAPS: usize = 256;

/// Output frames a block of [`StreamResampler::block_frames`] makes, at most.
const BLOCK_FRAMES: u64 = 1 << 15;

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
        } else if periods * high <= MAX_FFT_BLOCK {
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
            Method::Filter(Box::new(Filter::new(Box::new(sinc(from, to, channels)?), channels)))
        } else if from < to {
            Method::Hold(Interpolator { last: vec![0.0; channels] })
        } else {
            Method::Average(Averager { sums: vec![0.0; channels], count: 0, bin: 0 })
        };
        Ok(Self { from, to, channels, method, consumed: 0, emitted: 0, length: None })
    }

    /// Sets the exact number of frames to give in all, instead of
    /// [`resampled_len`] of what went in: surplus is cut, what is missing is silence.
    pub fn with_length(mut self, frames: u64) -> Self {
        self.length = Some(frames);
        self
    }

    /// Frames to pass to [`StreamResampler::process`] at most, so that the output of a call stays
    /// small (some ten thousand frames) however far the rates are apart.
    pub fn block_frames(&self) -> usize {
        (BLOCK_FRAMES * u64::from(self.from) / u64::from(self.to)).clamp(1, BLOCK_FRAMES) as usize
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
            Method::Hold(hold) => {
                hold.process(
                    input,
                    frames,
                    self.consumed,
                    (self.from, self.to),
                    before,
                    self.emitted,
                    out,
                );
            }
            Method::Average(average) => {
                average.process(input, frames, self.consumed, (self.from, self.to), out);
            }
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

/// For rates with a small common divisor (44,101 Hz to 48,000 Hz is no problem, 191,999 Hz is).
fn sinc(from: u32, to: u32, channels: usize) -> Result<Async<f64>, AudioError> {
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
    Async::new_sinc(ratio, 1.0, &parameters, 1024, channels, FixedAsync::Input)
        .map_err(construction)
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
    last: Vec<f32>,
}

impl Interpolator {
    /// `consumed` and `emitted` are the frames in and out before this block.
    #[allow(clippy::too_many_arguments)]
    fn process<S: AsRef<[f32]>>(
        &mut self,
        input: &[S],
        frames: usize,
        consumed: u64,
        (from, to): (u32, u32),
        before: usize,
        emitted: u64,
        out: &mut [Vec<f32>],
    ) {
        for frame in 0..frames {
            // The outputs between the sample before this one and this one.
            let position = consumed + frame as u64;
            let mut n = emitted + (out[0].len() - before) as u64;
            while n * u64::from(from) < position * u64::from(to) {
                let past = n * u64::from(from) - (position - 1) * u64::from(to);
                let weight = past as f32 / to as f32;
                for ((out, input), last) in out.iter_mut().zip(input).zip(&self.last) {
                    out.push(last + (input.as_ref()[frame] - last) * weight);
                }
                n += 1;
            }
            for (last, input) in self.last.iter_mut().zip(input) {
                *last = input.as_ref()[frame];
            }
        }
    }

    /// Holds the last sample.
    fn finish(&mut self, count: usize, out: &mut [Vec<f32>]) {
        for (out, last) in out.iter_mut().zip(&self.last) {
            out.resize(out.len() + count, *last);
        }
    }
}

/// Averages of the input samples nearest to each output sample, for absurdly low output rates.
struct Averager {
    sums: Vec<f64>,
    count: u64,
    /// The output sample that is being summed up.
    bin: u64,
}

impl Averager {
    fn process<S: AsRef<[f32]>>(
        &mut self,
        input: &[S],
        frames: usize,
        consumed: u64,
        (from, to): (u32, u32),
        out: &mut [Vec<f32>],
    ) {
        for frame in 0..frames {
            let bin = resampled_len(consumed + frame as u64, from, to);
            if bin != self.bin {
                self.emit(out);
                self.bin = bin;
            }
            for (sum, input) in self.sums.iter_mut().zip(input) {
                *sum += f64::from(input.as_ref()[frame]);
            }
            self.count += 1;
        }
        // The bin is complete when the next sample belongs to another; only then may the length
        // of the output include it.
        if frames > 0 && resampled_len(consumed + frames as u64, from, to) != self.bin {
            self.emit(out);
            self.bin += 1;
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
