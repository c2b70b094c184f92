//! What was coded, on the disk: as a WAV of what was heard, and as tokens.

use std::path::Path;

use anyhow::{Context, Result};
use tessera_codec::audio::{WavFormat, WavSink};
use tessera_codec::bitstream::{ContainerWriter, OutputFile, Overwrite};
use tessera_codec::engine::Model;
use tessera_codec::files;
use tessera_codec::lines::Kept;

use super::worker::Part;
use crate::encode::hint;

/// Files being written. Both have the samples that the encoder took, at the codec's rate.
pub struct Recorder {
    sound: Option<WavSink>,
    tokens: Option<ContainerWriter<OutputFile>>,
    /// Samples of the decoder's lag that are still to come before the first, and samples written.
    lag: usize,
    written: u64,
    taken: u64,
}

impl Recorder {
    /// Begins the files; none where there is nothing to record.
    pub fn create(
        model: &Model,
        levels: usize,
        lines: Kept,
        channels: u16,
        sound: Option<&Path>,
        tokens: Option<&Path>,
        force: bool,
    ) -> Result<Option<Self>> {
        if sound.is_none() && tokens.is_none() {
            return Ok(None);
        }
        let config = model.config();
        let rate = config.sample_rate;
        let sound = sound
            .map(|path| WavSink::create(path, rate, channels, WavFormat::Pcm16, force))
            .transpose()
            .context(hint(force))?;
        let overwrite = if force { Overwrite::Replace } else { Overwrite::Refuse };
        let header = || files::header_of(model, rate, channels, levels).with_lines(lines);
        let tokens = tokens
            .map(|path| ContainerWriter::create(path, header(), overwrite))
            .transpose()
            .context(hint(force))?;
        Ok(Some(Self { sound, tokens, lag: config.lag_samples(), written: 0, taken: 0 }))
    }

    /// Appends some steps.
    pub fn write(&mut self, part: &Part) -> Result<()> {
        self.taken = part.taken;
        if let Some(tokens) = &mut self.tokens {
            tokens.push_steps(&part.tokens)?;
        }
        if let Some(sound) = &mut self.sound {
            let length = part.sound.first().map_or(0, Vec::len);
            let begin = self.lag.min(length);
            self.lag -= begin;
            // The last step reaches beyond the last sample.
            let left = usize::try_from(self.taken - self.written).unwrap_or(usize::MAX);
            let end = begin + (length - begin).min(left);
            let block: Vec<&[f32]> = part.sound.iter().map(|s| &s[begin..end]).collect();
            sound.write(&block)?;
            self.written += (end - begin) as u64;
        }
        Ok(())
    }

    /// Completes the files.
    pub fn finish(self) -> Result<()> {
        if let Some(sound) = self.sound {
            sound.finish()?;
        }
        if let Some(tokens) = self.tokens {
            tokens.finish(self.taken)?.commit()?;
        }
        Ok(())
    }
}
