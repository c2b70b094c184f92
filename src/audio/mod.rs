//! Audio in and out: files, sample-rate conversion.
//!
//! [`open`] gives any supported file as an [`AudioSource`], which hands out planar `f32` blocks in
//! bounded memory. [`WavSink`] writes WAV files, [`WavStream`] to pipes, [`StreamResampler`] converts rates.
//!
//! ```
//! use tessera_codec::audio::{self, WavFormat, WavSink};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("tone.wav");
//! let tone: Vec<f32> = (0..4800).map(|n| (n as f32 * 0.05).sin() * 0.5).collect();
//!
//! let mut sink = WavSink::create(&path, 48_000, 1, WavFormat::Pcm16, false)?;
//! sink.write(&[&tone])?;
//! sink.finish()?;
//!
//! let mut source = audio::open(&path)?;
//! assert_eq!(source.info().sample_rate, 48_000);
//! let mut block = Vec::new();
//! assert_eq!(source.read(&mut block, 1024)?, 1024);
//! assert_eq!(block[0].len(), 1024);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod elastic;
#[cfg(feature = "formats")]
mod formats;
mod resample;
mod source;
mod wav;
mod wav_sink;
mod wav_stream;

pub use elastic::ElasticResampler;
#[cfg(feature = "formats")]
pub use formats::SymphoniaSource;
pub use resample::{StreamResampler, resample_all, resampled_len};
pub use source::{
    AudioError, AudioInfo, AudioSource, AudioWarning, MAX_CHANNELS, MAX_SAMPLE_RATE, SampleFormat,
    open, read_all,
};
pub use wav::WavSource;
pub use wav_sink::{WavFormat, WavSink};
pub use wav_stream::WavStream;
