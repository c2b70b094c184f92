//! From files to sequences of codes.

use std::path::Path;

use crate::audio::{self, AudioError, StreamResampler};
use crate::engine::{EngineError, Model, StreamEncoder};
use crate::token_files::{TokenFile, TokenFileError};

/// Steps encoded at a time.
const BATCH_STEPS: usize = 64;

/// Why a file gives no tokens.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The audio cannot be read.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// They are of another model.
    #[error("the tokens are of the model {0}, not of this one")]
    OtherModel(String),
    /// They lack levels.
    #[error("the tokens have {0} levels, fewer than the model")]
    FewerLevels(usize),
    /// There are none.
    #[error("it holds no samples")]
    Empty,
}

/// The codes of a piece of audio with all levels, step by step, at each gain: gain `i` is that of channel
/// `i`, beginning again behind the last, so that more gains hear more channels at no further cost.
pub fn audio(model: &Model, path: &Path, gains_db: &[f64]) -> Result<Vec<Vec<u16>>, EncodeError> {
    let mut source = audio::open(path)?;
    let (rate, channels) = (source.info().sample_rate, usize::from(source.info().channels));
    let mut resampler = StreamResampler::new(rate, model.config().sample_rate, channels)?;
    let mut streams: Vec<Stream> =
        gains_db.iter().enumerate().map(|(i, db)| Stream::new(model, i % channels, *db)).collect();
    let (mut block, mut converted) = (Vec::new(), Vec::new());
    let block_frames = resampler.block_frames();
    loop {
        let frames = source.read(&mut block, block_frames)?;
        if frames == 0 {
            break;
        }
        resampler.process(&block, &mut converted)?;
        take(&mut streams, &mut converted)?;
    }
    resampler.finish(&mut converted)?;
    take(&mut streams, &mut converted)?;
    streams.into_iter().map(Stream::finish).collect()
}

fn take(streams: &mut [Stream], planar: &mut [Vec<f32>]) -> Result<(), EncodeError> {
    for stream in streams {
        let channel = stream.channel;
        stream.push(&planar[channel])?;
    }
    planar.iter_mut().for_each(Vec::clear);
    Ok(())
}

/// One channel at one gain on its way to codes.
struct Stream {
    encoder: StreamEncoder,
    channel: usize,
    gain: f32,
    samples: u64,
    scaled: Vec<f32>,
    room: Vec<u16>,
    codes: Vec<u16>,
}

impl Stream {
    fn new(model: &Model, channel: usize, gain_db: f64) -> Self {
        let room = BATCH_STEPS * model.codes_per_step(model.levels());
        Self {
            encoder: StreamEncoder::with_batch(model, BATCH_STEPS),
            channel,
            gain: 10f64.powf(gain_db / 20.0) as f32,
            samples: 0,
            scaled: Vec::new(),
            room: vec![0; room],
            codes: Vec::new(),
        }
    }

    fn push(&mut self, samples: &[f32]) -> Result<(), EngineError> {
        self.samples += samples.len() as u64;
        self.scaled.clear();
        self.scaled.extend(samples.iter().map(|sample| sample * self.gain));
        let (levels, mut taken) = (self.encoder.model().levels(), 0);
        while taken < self.scaled.len() {
            let done = self.encoder.process_into(&self.scaled[taken..], levels, &mut self.room)?;
            self.codes.extend_from_slice(&self.room[..done.produced]);
            taken += done.consumed;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u16>, EncodeError> {
        if self.samples == 0 {
            return Err(EncodeError::Empty);
        }
        let levels = self.encoder.model().levels();
        let per_step = self.encoder.model().codes_per_step(levels);
        self.room.resize(self.encoder.steps_to_finish() * per_step, 0);
        let done = self.encoder.finish(levels, &mut self.room)?;
        self.codes.extend_from_slice(&self.room[..done.produced]);
        Ok(self.codes)
    }
}

/// The codes in a file of tokens, step by step, a sequence for each channel.
pub fn tokens(model: &Model, path: &Path) -> Result<Vec<Vec<u16>>, EncodeError> {
    let file = TokenFile::open(path)?;
    let header = file.header();
    if header.model_id != model.id() {
        return Err(EncodeError::OtherModel(crate::model_files::id_hex(&header.model_id)));
    }
    if header.layout.levels() != model.levels() {
        return Err(EncodeError::FewerLevels(header.layout.levels()));
    }
    let flat = |tokens: &crate::tokens::Tokens| {
        let mut codes = Vec::new();
        tokens.append_steps_to(&mut codes, &header.layout);
        codes
    };
    let sequences: Vec<Vec<u16>> = file.channels().iter().map(flat).collect();
    match sequences.iter().all(Vec::is_empty) {
        true => Err(EncodeError::Empty),
        false => Ok(sequences),
    }
}
