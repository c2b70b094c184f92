//! Several channels with the same weights and a state each.

use super::error::EngineError;
use super::model::Model;
use super::step::Progress;
use super::{StreamDecoder, StreamEncoder};
use crate::lines::Lines;

/// Encoders of several channels that go on together.
///
/// ```
/// use tessera_codec::engine::{ChannelEncoders, Model};
///
/// # #[cfg(feature = "embedded-model")] {
/// let model = Model::shipped()?;
/// let mut encoders = ChannelEncoders::new(&model, 2, 1);
/// let mut codes = vec![vec![0; model.codes_per_step(4)]; 2];
/// let sound = [[0.1; 2000], [-0.1; 2000]];
/// let done = encoders.process_into(&sound, 4, &mut codes)?;
/// assert_eq!((done.consumed, done.produced), (2000, 11));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChannelEncoders {
    streams: Box<[StreamEncoder]>,
}

/// Decoders of several channels that go on together. All draw the same noise, so that what is alike on
/// two channels stays in the middle.
#[derive(Debug, Clone)]
pub struct ChannelDecoders {
    streams: Box<[StreamDecoder]>,
}

impl ChannelEncoders {
    /// `channels` streams that code up to `batch` steps at once, see [`StreamEncoder::with_batch`].
    pub fn new(model: &Model, channels: usize, batch: usize) -> Self {
        Self { streams: vec![StreamEncoder::with_batch(model, batch); channels].into() }
    }

    /// As [`StreamEncoder::process_into`], with a slice for each channel; the counts are those of one
    /// channel, but for `replaced`, which is that of all.
    ///
    /// # Errors
    /// Another number of channels, channels of different lengths, or an error of a stream.
    pub fn process_into<S: AsRef<[f32]>, C: AsMut<[u16]>>(
        &mut self,
        samples: &[S],
        levels: usize,
        codes: &mut [C],
    ) -> Result<Progress, EngineError> {
        check(self.streams.len(), samples, codes)?;
        each(&mut self.streams, codes, |stream, channel, codes| {
            stream.process_into(samples[channel].as_ref(), levels, codes.as_mut())
        })
    }

    /// As [`StreamEncoder::finish`], with a slice for each channel.
    ///
    /// # Errors
    /// Another number of channels, slices of different lengths, or an error of a stream.
    pub fn finish<C: AsMut<[u16]>>(
        &mut self,
        levels: usize,
        codes: &mut [C],
    ) -> Result<Progress, EngineError> {
        check_outputs(self.streams.len(), codes)?;
        each(&mut self.streams, codes, |stream, _, codes| stream.finish(levels, codes.as_mut()))
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.streams.iter_mut().for_each(StreamEncoder::reset);
    }

    /// The channels' streams.
    pub fn streams(&self) -> &[StreamEncoder] {
        &self.streams
    }

    /// The channels' streams, one by one: for threads of their own, or work in units.
    pub fn streams_mut(&mut self) -> &mut [StreamEncoder] {
        &mut self.streams
    }
}

impl ChannelDecoders {
    /// `channels` streams that decode up to `batch` steps at once, see [`StreamDecoder::with_batch`].
    pub fn new(model: &Model, channels: usize, batch: usize) -> Self {
        Self { streams: vec![StreamDecoder::with_batch(model, batch); channels].into() }
    }

    /// As [`StreamDecoder::process_into`], with a slice for each channel; the counts are those of one
    /// channel.
    ///
    /// # Errors
    /// Another number of channels, channels of different lengths, or an error of a stream.
    pub fn process_into<C: AsRef<[u16]>, S: AsMut<[f32]>>(
        &mut self,
        codes: &[C],
        levels: usize,
        samples: &mut [S],
    ) -> Result<Progress, EngineError> {
        self.process_with_lines(codes, levels, &[] as &[&[Lines]], samples)
    }

    /// As [`StreamDecoder::process_with_lines`], with a slice for each channel; channels whose lines are missing have
    /// no combs.
    ///
    /// # Errors
    /// As [`process_into`](Self::process_into).
    pub fn process_with_lines<C: AsRef<[u16]>, L: AsRef<[Lines]>, S: AsMut<[f32]>>(
        &mut self,
        codes: &[C],
        levels: usize,
        lines: &[L],
        samples: &mut [S],
    ) -> Result<Progress, EngineError> {
        check(self.streams.len(), codes, samples)?;
        // No stream may go on when another cannot.
        for (stream, codes) in self.streams.iter().zip(codes) {
            stream.check_codes(codes.as_ref(), levels)?;
        }
        each(&mut self.streams, samples, |stream, channel, samples| {
            let lines = lines.get(channel).map_or(&[][..], AsRef::as_ref);
            stream.process_with_lines(codes[channel].as_ref(), levels, lines, samples.as_mut())
        })
    }

    /// As [`StreamDecoder::finish`], with a slice for each channel.
    ///
    /// # Errors
    /// Another number of channels, slices of different lengths, or an error of a stream.
    pub fn finish<S: AsMut<[f32]>>(&mut self, samples: &mut [S]) -> Result<Progress, EngineError> {
        check_outputs(self.streams.len(), samples)?;
        each(&mut self.streams, samples, |stream, _, samples| stream.finish(samples.as_mut()))
    }

    /// As [`StreamDecoder::reset_at`].
    pub fn reset_at(&mut self, step: u64) {
        self.streams.iter_mut().for_each(|stream| stream.reset_at(step));
    }

    /// The channels' streams.
    pub fn streams(&self) -> &[StreamDecoder] {
        &self.streams
    }

    /// The channels' streams, one by one: for threads of their own, or work in units.
    pub fn streams_mut(&mut self) -> &mut [StreamDecoder] {
        &mut self.streams
    }
}

/// Does the same to every channel. Lengths have been found equal, so that all take and give the same.
fn each<S, O>(
    streams: &mut [S],
    outputs: &mut [O],
    mut process: impl FnMut(&mut S, usize, &mut O) -> Result<Progress, EngineError>,
) -> Result<Progress, EngineError> {
    let mut all = Progress::default();
    for (channel, (stream, output)) in streams.iter_mut().zip(outputs).enumerate() {
        let one = process(stream, channel, output)?;
        all = Progress { replaced: all.replaced + one.replaced, ..one };
    }
    Ok(all)
}

fn check<I, T: AsRef<[I]>, O, U: AsMut<[O]>>(
    expected: usize,
    inputs: &[T],
    outputs: &mut [U],
) -> Result<(), EngineError> {
    check_outputs(expected, outputs)?;
    let length = inputs.first().map_or(0, |i| i.as_ref().len());
    if inputs.len() != expected {
        return Err(EngineError::Channels { given: inputs.len(), expected });
    }
    match inputs.iter().all(|i| i.as_ref().len() == length) {
        true => Ok(()),
        false => Err(EngineError::ChannelLengths),
    }
}

fn check_outputs<O, U: AsMut<[O]>>(expected: usize, outputs: &mut [U]) -> Result<(), EngineError> {
    if outputs.len() != expected {
        return Err(EngineError::Channels { given: outputs.len(), expected });
    }
    let length = outputs.first_mut().map_or(0, |o| o.as_mut().len());
    match outputs.iter_mut().all(|o| o.as_mut().len() == length) {
        true => Ok(()),
        false => Err(EngineError::ChannelLengths),
    }
}
