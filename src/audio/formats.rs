//! Reading FLAC, Ogg Vorbis, MP3, AAC, ALAC, AIFF, CAF and Matroska through Symphonia.

use std::fs::File;
use std::io;
use std::path::Path;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::source::{AudioError, AudioInfo, AudioSource, AudioWarning, SampleFormat, check_shape};

/// Packets in a row that may fail before the file is given up.
const MAX_DAMAGED_RUN: u64 = 1000;

/// A compressed audio file; its first audio track. Encoder delay and padding are left out where the
/// format declares them.
pub struct SymphoniaSource {
    path: String,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    info: AudioInfo,
    /// Decoded frames not yet handed out, from `taken` on.
    pending: Vec<Vec<f32>>,
    taken: usize,
    ended: bool,
    truncated: bool,
    damaged: u64,
    non_finite: u64,
}

impl SymphoniaSource {
    /// Opens the file at `path`, which errors call `label`.
    ///
    /// # Errors
    /// [`AudioError::Open`], [`AudioError::NotAudio`], [`AudioError::Unsupported`],
    /// [`AudioError::Decode`], [`AudioError::SampleRate`], [`AudioError::Channels`].
    pub fn open(path: &Path, label: String) -> Result<Self, AudioError> {
        let file =
            File::open(path).map_err(|source| AudioError::Open { path: label.clone(), source })?;
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let format = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|error| match error {
                Error::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                    AudioError::Read { path: label.clone(), source }
                }
                // The search for a known format found none, or the file ended first.
                Error::IoError(_) | Error::Unsupported(_) => AudioError::NotAudio {
                    path: label.clone(),
                    reason: "its contents are of no format known here".into(),
                },
                other => AudioError::Decode { path: label.clone(), reason: other.to_string() },
            })?;
        let track = format.default_track(TrackType::Audio).ok_or_else(|| AudioError::NotAudio {
            path: label.clone(),
            reason: "it has no audio track of a known kind".into(),
        })?;
        let parameters = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(|| {
            AudioError::Unsupported {
                path: label.clone(),
                reason: "its audio track does not say how it is coded".into(),
            }
        })?;
        let (track_id, frames) = (track.id, track.num_frames);
        if let Some(rate) = parameters.sample_rate {
            check_shape(&label, rate, parameters.channels.as_ref().map_or(1, |c| c.count()))?;
        }
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|error| match error {
                Error::DecodeError(reason) => {
                    AudioError::Decode { path: label.clone(), reason: reason.into() }
                }
                other => AudioError::Unsupported { path: label.clone(), reason: other.to_string() },
            })?;
        let declared = parameters.sample_rate.zip(parameters.channels.as_ref().map(|c| c.count()));
        let mut source = Self {
            path: label,
            format,
            decoder,
            track: track_id,
            // The first packet decides; the header may be silent or wrong.
            info: AudioInfo {
                sample_rate: 0,
                channels: 0,
                frames,
                format: SampleFormat::Compressed,
            },
            pending: Vec::new(),
            taken: 0,
            ended: false,
            truncated: false,
            damaged: 0,
            non_finite: 0,
        };
        source.decode_next()?;
        if source.info.sample_rate == 0 {
            // Not one frame: an empty file if nothing failed, and if it says what it would hold.
            let (rate, channels) =
                declared.filter(|_| source.damaged == 0).ok_or_else(|| AudioError::Decode {
                    path: source.path.clone(),
                    reason: "it holds no audio that can be decoded".into(),
                })?;
            source.set_shape(rate, channels)?;
        }
        Ok(source)
    }

    fn set_shape(&mut self, rate: u32, channels: usize) -> Result<(), AudioError> {
        check_shape(&self.path, rate, channels)?;
        self.info.sample_rate = rate;
        self.info.channels = channels as u16;
        Ok(())
    }

    /// Decodes until there are pending frames or the end is reached.
    fn decode_next(&mut self) -> Result<(), AudioError> {
        self.taken = 0;
        self.pending.iter_mut().for_each(Vec::clear);
        let mut failed = 0;
        while !self.ended {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                // A chained stream starts a new piece of audio here; the first one was read.
                Ok(None) | Err(Error::ResetRequired) => {
                    self.ended = true;
                    return Ok(());
                }
                Err(Error::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(AudioError::Read { path: self.path.clone(), source: error });
                }
                Err(_) => {
                    self.ended = true;
                    self.truncated = true;
                    return Ok(());
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            let buffer = match self.decoder.decode(&packet) {
                Ok(buffer) => buffer,
                Err(_) => {
                    self.damaged += 1;
                    failed += 1;
                    if failed > MAX_DAMAGED_RUN {
                        return Err(AudioError::Decode {
                            path: self.path.clone(),
                            reason: format!("{failed} packets in a row cannot be decoded"),
                        });
                    }
                    continue;
                }
            };
            if buffer.frames() == 0 {
                continue;
            }
            let (rate, channels) = (buffer.spec().rate(), buffer.num_planes());
            buffer.copy_to_vecs_planar(&mut self.pending);
            if self.info.sample_rate == 0 {
                self.set_shape(rate, channels)?;
            }
            if (rate, channels) != (self.info.sample_rate, usize::from(self.info.channels)) {
                return Err(AudioError::Unsupported {
                    path: self.path.clone(),
                    reason: "its rate or channel count changes on the way".into(),
                });
            }
            for sample in self.pending.iter_mut().flatten().filter(|s| !s.is_finite()) {
                *sample = 0.0;
                self.non_finite += 1;
            }
            return Ok(());
        }
        Ok(())
    }
}

impl AudioSource for SymphoniaSource {
    fn info(&self) -> &AudioInfo {
        &self.info
    }

    fn read(&mut self, planar: &mut Vec<Vec<f32>>, max_frames: usize) -> Result<usize, AudioError> {
        let available = |source: &Self| source.pending.first().map_or(0, Vec::len) - source.taken;
        planar.resize_with(usize::from(self.info.channels), Vec::new);
        planar.iter_mut().for_each(Vec::clear);
        if available(self) == 0 {
            self.decode_next()?;
        }
        let frames = available(self).min(max_frames.max(1));
        for (to, from) in planar.iter_mut().zip(&self.pending) {
            to.extend_from_slice(&from[self.taken..self.taken + frames]);
        }
        self.taken += frames;
        Ok(frames)
    }

    fn warnings(&self) -> Vec<AudioWarning> {
        let mut warnings = Vec::new();
        if self.truncated {
            warnings.push(AudioWarning::Truncated);
        }
        if self.damaged > 0 {
            warnings.push(AudioWarning::Damaged(self.damaged));
        }
        if self.non_finite > 0 {
            warnings.push(AudioWarning::NonFinite(self.non_finite));
        }
        warnings
    }
}
