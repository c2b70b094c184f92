//! Whole files: audio of any rate and channels to a `.tsr` and back, in bounded memory, each channel on a
//! core of its own. The bytes do not depend on the cores, unless codes are looked for (`encode_searching`).

mod channels;
mod ladder;
mod trims;
mod writer;

use std::io::{Read, Seek, Write};

use self::channels::{Decoders, Encoders};
pub use self::ladder::Ladder;
use self::trims::TrimFinder;
use self::writer::TokenWriter;
use crate::audio::{AudioError, AudioSource, AudioWarning, StreamResampler};
use crate::bitstream::{ContainerReader, Damage, Header, Item, ReadError, WriteError};
#[cfg(feature = "train")]
use crate::codec::{Codec, CodecError, Effort, SearchStream};
use crate::config::CodecConfig;
use crate::engine::{EngineError, Model, ModelError};
use crate::lines::{Kept, Selection};
use crate::prior::Prior;
use crate::threads::cores;
use crate::tokens::Tokens;

/// Source samples read at a time.
const BLOCK: usize = 1 << 14;
/// Steps encoded at a time: enough for threads to be worth their while.
const SEGMENT_STEPS: usize = 64;
/// Lost samples, of all channels together, that are made up whatever else a file holds: 23 minutes of one
/// channel at 48 kHz. A header alone, or chunks of a few bytes that claim to be hours apart, must not become
/// gigabytes of silence.
const MOST_MADE_UP: f64 = (1u64 << 26) as f64;
/// Steps that are made up for each intact one beyond that: an hour of which a minute is left keeps its length. And
/// the seconds that this may come to, unless as much is intact.
const MADE_UP_FOR_ONE: u64 = 64;
const LONGEST_MADE_UP: f64 = 4.0 * 3600.0;

/// A file that cannot be coded.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The audio cannot be read or written.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The codes cannot be those of the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The search for better codes failed.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Search(#[from] CodecError),
    /// The prior is that of another model.
    #[error(transparent)]
    Prior(#[from] ModelError),
    /// The tokens cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The number of levels asked for is not one of the model's.
    #[error("{asked} levels asked for, but the model has 1 to {most}")]
    Levels {
        /// Levels asked for.
        asked: usize,
        /// Levels of the model.
        most: usize,
    },
    /// The engine and the search are not given the same model.
    #[cfg(feature = "train")]
    #[error(
        "the engine has the model {engine}, but the search has {search}; load both from the same folder"
    )]
    TwoModels {
        /// Id of the engine's model.
        engine: String,
        /// Id of the search's.
        search: String,
    },
    /// The file was made with another model.
    #[error(
        "the file was encoded with the model {file}, but this is {model}; name the folder of the right \
         model with --model"
    )]
    WrongModel {
        /// Id in the file.
        file: String,
        /// Id of the model at hand.
        model: String,
    },
    /// The header contradicts the model it names.
    #[error("the file's header does not fit the model it names: its {0} is another one")]
    Contradiction(&'static str),
    /// Hours are lost, and next to nothing is intact.
    #[error(
        "{lost:.0} seconds or more of the file's sound are lost and {intact:.0} are there: that much is not made up"
    )]
    MostlyMissing {
        /// Seconds lost of those looked at.
        lost: f64,
        /// Seconds in intact chunks.
        intact: f64,
    },
}

/// What encoding did.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodeReport {
    /// Samples per channel read.
    pub samples: u64,
    /// Channels.
    pub channels: u16,
    /// Rate of the source in Hz.
    pub sample_rate: u32,
    /// Bytes written.
    pub bytes: u64,
    /// Length of the source in seconds.
    pub seconds: f64,
    /// Bits a second of the whole file, all channels, in thousands.
    pub kbps: f64,
    /// Levels stored.
    pub levels: usize,
    /// What was noticed about the source.
    pub warnings: Vec<AudioWarning>,
    /// Id of the prior that they are coded with, as 32 hexadecimal digits; `None` where they are packed
    /// plainly: there was no prior, or it does not make the file smaller.
    pub prior_id: Option<String>,
    /// Digest of the tokens made ([`ContainerWriter::token_digest`](crate::bitstream::ContainerWriter::token_digest)).
    pub token_digest: [u8; 32],
}

/// What decoding did.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeReport {
    /// Samples per channel given.
    pub samples: u64,
    /// What was wrong with the file.
    pub damages: Vec<Damage>,
    /// Seconds that had to be made up.
    pub concealed_seconds: f64,
}

/// Takes decoded blocks, a vector per channel.
pub type Sink<'a> = dyn FnMut(&[Vec<f32>]) -> Result<(), AudioError> + 'a;

/// Counts what passes through.
struct Counter<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// How a file is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Encoding {
    /// Levels to store, from the first.
    pub levels: usize,
    /// Lines to store beside their codes; `None` for as many as suit the codes' rate, and for none where the codec is so
    /// quick that lines would come late.
    pub lines: Option<Selection>,
    /// What a bit costs, 1 being what suits the codes' rate: trims, and the search for codes with a prior, spend the fewer bits the
    /// dearer they are. From a quarter to four; what is beyond counts as that.
    pub price: f32,
}

impl Encoding {
    /// With so many levels, and all else as it suits them.
    pub const fn of_levels(levels: usize) -> Self {
        Self { levels, lines: None, price: 1.0 }
    }

    /// Which lines are stored with a model of `config`.
    pub fn selection(self, config: &CodecConfig) -> Selection {
        let lines = self.lines.unwrap_or_else(|| Selection::suiting(config, self.levels));
        Selection { trim: lines.trim * self.price(), ..lines }
    }

    /// The price as it counts.
    fn price(self) -> f32 {
        // No number costs what others do.
        if self.price.is_nan() { 1.0 } else { self.price.clamp(0.25, 4.0) }
    }
}

impl From<usize> for Encoding {
    fn from(levels: usize) -> Self {
        Self::of_levels(levels)
    }
}

/// Codes all of `source` with the first `levels` levels into `output`; `progress` hears how many samples
/// per channel have been read. Memory does not depend on the source's length.
///
/// The header leaves the length open and the trailer has it, so that the bytes are those that a pipe of
/// unknown length would have become.
///
/// # Errors
/// The source cannot be read, the output cannot be written, or there are not that many levels.
pub fn encode<W: Write>(
    model: &Model,
    source: &mut dyn AudioSource,
    encoding: impl Into<Encoding>,
    output: W,
    progress: &mut dyn FnMut(u64),
) -> Result<(W, EncodeReport), FilesError> {
    encode_with(model, None, source, encoding, output, progress)
}

/// As [`encode`], with the tokens coded with the model's prior, if one is given, wherever that makes the file
/// smaller. The first five seconds or so are held back until that is known.
///
/// # Errors
/// As [`encode`], and when the prior is that of another model.
pub fn encode_with<W: Write>(
    model: &Model,
    prior: Option<&Prior>,
    source: &mut dyn AudioSource,
    encoding: impl Into<Encoding>,
    output: W,
    progress: &mut dyn FnMut(u64),
) -> Result<(W, EncodeReport), FilesError> {
    let task = Task::new(model, prior, encoding.into())?;
    let channels = usize::from(source.info().channels);
    let coder = Encoders::new(model, channels, task.levels, task.lines, cores());
    task.encode(coder, source, output, progress)
}

/// As [`encode_with`], with codes that are looked for: the same number of bits without a prior, and a decoded sound
/// that is closer to the original ([`Codec::searching_encoder`]). `progress` is ahead of what is coded by as much. `model` and
/// `codec` are one model, for the engine and for the search.
///
/// # Errors
/// As [`encode_with`], when model and codec are not the same, and when the search fails or was to stop.
#[cfg(feature = "train")]
#[expect(clippy::too_many_arguments)]
pub fn encode_searching<W: Write>(
    model: &Model,
    codec: &Codec,
    effort: Effort,
    prior: Option<&Prior>,
    source: &mut dyn AudioSource,
    encoding: impl Into<Encoding>,
    output: W,
    progress: &mut dyn FnMut(u64),
) -> Result<(W, EncodeReport), FilesError> {
    let task = Task::new(model, prior, encoding.into())?;
    if codec.id() != model.id() {
        return Err(FilesError::TwoModels { engine: model.id_hex(), search: codec.id_hex() });
    }
    let channels = usize::from(source.info().channels);
    let stream = codec
        .searching_encoder(channels, task.levels, task.lines, prior, effort)?
        .with_price(task.price);
    let coder = Searching(stream);
    task.encode(coder, source, output, progress)
}

/// What makes tokens of a file's samples at the codec's rate.
trait Coder {
    /// Takes samples, a vector for each channel, and gives the codes of steps that are complete, while `meanwhile`
    /// runs.
    fn code<R>(
        &mut self,
        samples: &[Vec<f32>],
        meanwhile: impl FnOnce() -> R,
    ) -> (Result<Vec<Tokens>, FilesError>, R);

    /// The codes that are left when all samples, of whole steps, were given.
    fn finish(self) -> Result<Vec<Tokens>, FilesError>;
}

impl Coder for Encoders {
    fn code<R>(
        &mut self,
        samples: &[Vec<f32>],
        meanwhile: impl FnOnce() -> R,
    ) -> (Result<Vec<Tokens>, FilesError>, R) {
        let (tokens, other) = Encoders::code(self, samples, meanwhile);
        (tokens.map_err(FilesError::from), other)
    }

    fn finish(self) -> Result<Vec<Tokens>, FilesError> {
        // Each step is given when its last sample comes.
        Ok(Vec::new())
    }
}

/// A search, which has the threads for itself.
#[cfg(feature = "train")]
struct Searching<'a>(SearchStream<'a>);

#[cfg(feature = "train")]
impl Coder for Searching<'_> {
    fn code<R>(
        &mut self,
        samples: &[Vec<f32>],
        meanwhile: impl FnOnce() -> R,
    ) -> (Result<Vec<Tokens>, FilesError>, R) {
        (self.0.push(samples).map_err(FilesError::from), meanwhile())
    }

    fn finish(self) -> Result<Vec<Tokens>, FilesError> {
        Ok(self.0.finish()?)
    }
}

/// What a file is encoded with.
struct Task<'a> {
    model: &'a Model,
    prior: Option<&'a Prior>,
    levels: usize,
    lines: Selection,
    #[cfg_attr(not(feature = "train"), expect(dead_code))]
    price: f32,
}

impl<'a> Task<'a> {
    /// Refuses levels that the model has not, and another model's prior.
    fn new(
        model: &'a Model,
        prior: Option<&'a Prior>,
        encoding: Encoding,
    ) -> Result<Self, FilesError> {
        let config = model.config();
        let levels = encoding.levels;
        if levels == 0 || levels > config.levels() {
            return Err(FilesError::Levels { asked: levels, most: config.levels() });
        }
        if let Some(prior) = prior {
            prior.check_codec(model.id())?;
        }
        Ok(Self {
            model,
            prior,
            levels,
            lines: encoding.selection(config),
            price: encoding.price(),
        })
    }

    fn encode<W: Write>(
        &self,
        mut coder: impl Coder,
        source: &mut dyn AudioSource,
        output: W,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(W, EncodeReport), FilesError> {
        let info = source.info().clone();
        let config = self.model.config();
        let header = header_of(self.model, info.sample_rate, info.channels, self.levels)
            .with_lines(self.lines.kept());
        let output = Counter { inner: output, bytes: 0 };
        let mut writer = TokenWriter::new(output, header.clone(), self.prior)?;
        let channels = usize::from(info.channels);
        let resampler = StreamResampler::new(info.sample_rate, config.sample_rate, channels)?;
        let mut input = Input {
            segment: SEGMENT_STEPS * config.samples_per_step(),
            block: resampler.block_frames().min(BLOCK),
            resampler: Some(resampler),
            planar: Vec::new(),
            samples: 0,
            converted: 0,
            header,
            source,
            progress,
        };
        let mut trims = (self.lines.trim > 0.0)
            .then(|| TrimFinder::new(self.model, channels, self.lines.trim, cores()));
        let mut segment = input.next()?;
        while !segment.is_empty() {
            let (tokens, next) = coder.code(&segment, || input.next());
            let mut tokens = tokens?;
            if let Some(trims) = &mut trims {
                tokens = trims.push(&segment, &tokens)?;
            }
            writer = writer.push(&tokens)?;
            segment = next?;
        }
        let mut rest = coder.finish()?;
        if let Some(trims) = trims {
            rest.resize(channels, Tokens::new(self.levels));
            rest = trims.finish(&rest)?;
        }
        if !rest.is_empty() {
            writer = writer.push(&rest)?;
        }
        let samples = input.samples;
        let written = writer.finish(samples)?;
        let counter = written.output;
        let seconds = samples as f64 / f64::from(info.sample_rate);
        let report = EncodeReport {
            samples,
            channels: info.channels,
            sample_rate: info.sample_rate,
            bytes: counter.bytes,
            seconds,
            kbps: if samples == 0 { 0.0 } else { counter.bytes as f64 * 8.0 / seconds / 1000.0 },
            levels: self.levels,
            warnings: source.warnings(),
            prior_id: written.header.prior_id_hex(),
            token_digest: written.token_digest,
        };
        Ok((counter.inner, report))
    }
}

/// Writes a file of tokens that are there already, one `Tokens` for each channel of `header`, with the prior,
/// if one is given, wherever that makes the file smaller. With the tokens and the [header](header_of) of a
/// source of `samples` samples per channel, the bytes are those that [`encode_with`] writes.
///
/// # Errors
/// The tokens are not such as the header describes, the prior is that of another model, or the output cannot
/// be written.
pub fn write_tokens<W: Write>(
    header: Header,
    prior: Option<&Prior>,
    tokens: &[Tokens],
    samples: u64,
    output: W,
) -> Result<W, FilesError> {
    if let Some(prior) = prior {
        prior.check_codec(header.model_id)?;
    }
    Ok(TokenWriter::new(output, header, prior)?.push(tokens)?.finish(samples)?.output)
}

/// The header of a file of `model`'s tokens with the first `levels` levels, made from `channels` channels
/// at `source_rate` Hz. The length is left open.
pub fn header_of(model: &Model, source_rate: u32, channels: u16, levels: usize) -> Header {
    let config = model.config();
    let (rate, hop) = (config.sample_rate, config.hop as u32);
    let layout = config.layout().prefix(levels);
    Header {
        model_id: model.id(),
        source_rate,
        channels,
        samples: None,
        codec_rate: rate,
        hop,
        pre_skip: config.lag_samples() as u32,
        steps_per_chunk: Header::steps_per_second(rate, hop, &layout, channels),
        warm_up_steps: config.warm_up_steps() as u16,
        prior_id: None,
        lines: Kept::Nothing,
        layout,
    }
}

/// Reads and resamples.
struct Input<'a> {
    source: &'a mut dyn AudioSource,
    /// None when the source has ended.
    resampler: Option<StreamResampler>,
    header: Header,
    progress: &'a mut dyn FnMut(u64),
    /// Samples to give at a time, at the codec's rate.
    segment: usize,
    /// Samples to read at a time.
    block: usize,
    planar: Vec<Vec<f32>>,
    /// Samples per channel read, and given at the codec's rate.
    samples: u64,
    converted: u64,
}

impl Input<'_> {
    /// About a segment of samples at the codec's rate, by channel; with the last of them, silence up to the
    /// end of the last step of the file. Nothing after that.
    fn next(&mut self) -> Result<Vec<Vec<f32>>, FilesError> {
        let mut out: Vec<Vec<f32>> = Vec::new();
        while let Some(mut resampler) = self.resampler.take() {
            let frames = self.source.read(&mut self.planar, self.block)?;
            self.samples += frames as u64;
            if frames == 0 {
                resampler.finish(&mut out)?;
                let end = self.header.steps(self.samples) * self.header.step_samples();
                for channel in &mut out {
                    channel.resize((end - self.converted) as usize, 0.0);
                }
                break;
            }
            resampler.process(&self.planar, &mut out)?;
            self.resampler = Some(resampler);
            (self.progress)(self.samples);
            if out.first().is_some_and(|channel| channel.len() >= self.segment) {
                break;
            }
        }
        let given = out.first().map_or(0, Vec::len);
        self.converted += given as u64;
        Ok(if given == 0 { Vec::new() } else { out })
    }
}

/// Gives `reader` what decodes its chunks if it was made with a prior: `prior`, that of the model.
///
/// # Errors
/// The file needs a prior, and this is not the one, or there is none.
pub fn attach<R: Read + Seek>(
    reader: &mut ContainerReader<R>,
    prior: Option<&Prior>,
) -> Result<(), FilesError> {
    let levels = reader.header().layout.levels();
    // With other levels than the prior's the coder does not fit, and the reader says so.
    let coder = prior.map(|prior| prior.coder(levels.min(prior.levels()))).transpose()?;
    Ok(reader.set_coder(coder).map_err(ReadError::from)?)
}

/// Decodes all of `reader` into `sink`, block by block at the source's rate, exactly as many samples as
/// were encoded; lost passages are made up, faded to silence, and reported. `progress` hears how many
/// samples per channel have been given.
///
/// # Errors
/// The file belongs to another model, cannot be read (also because its prior was not
/// [attached](attach)), or `sink` refuses.
pub fn decode<R: Read + Seek>(
    model: &Model,
    reader: &mut ContainerReader<R>,
    sink: &mut Sink,
    progress: &mut dyn FnMut(u64),
) -> Result<DecodeReport, FilesError> {
    decode_with(model, None, reader, sink, progress)
}

/// As [`decode`], with the model's prior, if one is given: it decodes files that were made with it, and makes
/// up what is lost of any file.
///
/// # Errors
/// As [`decode`], and when a file that was made with a prior was not made with this one.
pub fn decode_with<R: Read + Seek>(
    model: &Model,
    prior: Option<&Prior>,
    reader: &mut ContainerReader<R>,
    sink: &mut Sink,
    progress: &mut dyn FnMut(u64),
) -> Result<DecodeReport, FilesError> {
    if reader.header().prior_id.is_some() && prior.is_some() {
        attach(reader, prior)?;
    }
    // To make up what is lost, no prior is better than a wrong one, and none is needed.
    let prior = prior.filter(|prior| prior.check_codec(model.id()).is_ok());
    let header = reader.header().clone();
    check(model, &header)?;
    let channels = usize::from(header.channels);
    let mut output = Output {
        resampler: Some(StreamResampler::new(header.codec_rate, header.source_rate, channels)?),
        lag: header.pre_skip as usize,
        length: reader.samples(),
        given: 0,
        sink,
        progress,
    };
    let mut decoders = Decoders::new(model, prior, channels, reader.levels(), cores())?;
    let mut damages = Vec::new();
    let mut concealed_steps = 0;
    let mut intact = None;
    // What is decoded is resampled and handed on while the next chunk is decoded.
    let mut decoded = Vec::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Chunk(chunk) => {
                let (samples, pushed) = decoders.decode(&chunk.channels, || output.push(&decoded));
                pushed?;
                decoded = samples?;
            }
            Item::Damage(damage) => {
                concealed_steps += damage.steps;
                check_made_up(reader, concealed_steps, &mut intact)?;
                let mut left = damage.steps;
                while left > 0 {
                    let Some((samples, pushed)) = decoders.conceal(|| output.push(&decoded)) else {
                        break;
                    };
                    pushed?;
                    decoded = samples?;
                    left -= 1;
                }
                // The rest is silence: it need not be computed.
                decoders.skip(left);
                let silence = vec![vec![0.0; model.chunk_samples()]; channels];
                for _ in 0..left {
                    output.push(&decoded)?;
                    decoded.clone_from(&silence);
                }
                damages.push(damage);
            }
        }
    }
    output.push(&decoded)?;
    let samples = output.finish(&header)?;
    let concealed_seconds = concealed_steps as f64 * header.step_seconds();
    Ok(DecodeReport { samples, damages, concealed_seconds })
}

/// Checks that `lost` steps are few enough to be made up; `intact` is the number of those that are not lost,
/// once it was asked for, since counting them takes reading the file.
fn check_made_up<R: Read + Seek>(
    reader: &mut ContainerReader<R>,
    lost: u64,
    intact: &mut Option<u64>,
) -> Result<(), FilesError> {
    let header = reader.header();
    let (step, channels) = (header.step_seconds(), f64::from(header.channels));
    // Silence has to go through the resampler too.
    let rate = f64::from(header.source_rate.max(header.codec_rate));
    if lost as f64 * step * rate * channels <= MOST_MADE_UP {
        return Ok(());
    }
    let intact = match *intact {
        Some(intact) => intact,
        None => *intact.insert(reader.intact_steps()?),
    };
    let kept =
        lost <= intact.saturating_mul(MADE_UP_FOR_ONE) && lost as f64 * step <= LONGEST_MADE_UP;
    if lost <= intact || kept {
        return Ok(());
    }
    Err(FilesError::MostlyMissing { lost: lost as f64 * step, intact: intact as f64 * step })
}

/// Checks that a file is one of the model's: that decoding it fails for nothing but damage.
///
/// # Errors
/// [`FilesError::WrongModel`] and [`FilesError::Contradiction`].
pub fn check(model: &Model, header: &Header) -> Result<(), FilesError> {
    if header.model_id != model.id() {
        return Err(FilesError::WrongModel { file: header.model_id_hex(), model: model.id_hex() });
    }
    let config = model.config();
    let layout = config.layout();
    let levels = header.layout.levels();
    if levels > layout.levels() || header.layout != layout.prefix(levels) {
        return Err(FilesError::Contradiction("layout of levels"));
    }
    if header.codec_rate != config.sample_rate || header.hop as usize != config.hop {
        return Err(FilesError::Contradiction("frame rate"));
    }
    if header.pre_skip as usize != config.lag_samples() {
        return Err(FilesError::Contradiction("pre-skip"));
    }
    Ok(())
}

/// Resamples and hands on.
struct Output<'a> {
    resampler: Option<StreamResampler>,
    /// Samples before the first: the decoder's lag.
    lag: usize,
    /// Samples per channel to give in all, where known.
    length: Option<u64>,
    given: u64,
    sink: &'a mut Sink<'a>,
    progress: &'a mut dyn FnMut(u64),
}

impl Output<'_> {
    fn push(&mut self, samples: &[Vec<f32>]) -> Result<(), FilesError> {
        let frames = samples.first().map_or(0, Vec::len);
        let Some(resampler) = &mut self.resampler else { return Ok(()) };
        let block = resampler.block_frames().max(1);
        let begin = self.lag.min(frames);
        self.lag -= begin;
        for first in (begin..frames).step_by(block) {
            let last = (first + block).min(frames);
            let part: Vec<&[f32]> = samples.iter().map(|s| &s[first..last]).collect();
            let mut converted = Vec::new();
            resampler.process(&part, &mut converted)?;
            Self::give(self.length, &mut self.given, &mut converted, self.sink)?;
        }
        (self.progress)(self.given);
        Ok(())
    }

    fn give(
        length: Option<u64>,
        given: &mut u64,
        converted: &mut [Vec<f32>],
        sink: &mut Sink,
    ) -> Result<(), AudioError> {
        let frames = converted.first().map_or(0, Vec::len) as u64;
        let keep = frames.min(length.unwrap_or(u64::MAX) - *given);
        converted.iter_mut().for_each(|c| c.truncate(keep as usize));
        *given += keep;
        if keep > 0 { sink(converted) } else { Ok(()) }
    }

    /// The rest, and silence where even the steps made up do not reach the end (a file of unknown
    /// length that was cut ends where it was cut).
    fn finish(mut self, header: &Header) -> Result<u64, FilesError> {
        if let Some(resampler) = self.resampler.take() {
            let mut converted = Vec::new();
            resampler.finish(&mut converted)?;
            Self::give(self.length, &mut self.given, &mut converted, self.sink)?;
        }
        let block = BLOCK / usize::from(header.channels.max(1));
        let silence = vec![vec![0.0; block]; header.channels.into()];
        while let Some(missing) = self.length.map(|l| l - self.given).filter(|&m| m > 0) {
            let now = missing.min(block as u64);
            let part: Vec<Vec<f32>> = silence.iter().map(|s| s[..now as usize].to_vec()).collect();
            (self.sink)(&part)?;
            self.given += now;
        }
        Ok(self.given)
    }
}
