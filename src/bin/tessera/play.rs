//! `tessera play`: a file on a sound device.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rtrb::{Producer, RingBuffer};
use tessera_codec::audio::{self, AudioError, StreamResampler};
use tessera_codec::bitstream::ContainerReader;
use tessera_codec::files;

use super::device::{Device, Direction, Health, Quiet, Wanted};
use super::interrupt::Interrupt;
use super::model::{ModelArgs, TokenModel};
use super::progress::StatusLine;
use super::{Outcome, info, pipe, report};

/// Seconds of sound that are ready ahead.
const AHEAD: usize = 2;

/// Frames read at a time.
const BLOCK: usize = 4096;

/// A device that takes nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(3);

/// Play a .tsr or an audio file.
#[derive(clap::Args)]
pub struct Args {
    /// The file: .tsr, WAV, FLAC and others; `-` for a .tsr from stdin.
    input: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Device to play on, by id, name or a part of the name; the default one otherwise.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Use only the first levels of a .tsr.
    #[arg(long, value_name = "N")]
    levels: Option<usize>,
}

pub fn run(args: Args) -> Result<Outcome> {
    let _quiet = Quiet::hold();
    let interrupt = Interrupt::listen()?;
    let name = args.input.display().to_string();
    let device = args.device.as_deref();
    if pipe::is_stdio(&args.input) || info::is_tsr(&args.input)? {
        let mut reader = pipe::open_tokens(&args.input)
            .and_then(|source| Ok(ContainerReader::open(source)?))
            .with_context(|| format!("cannot play {name}"))?;
        if let Some(levels) = args.levels {
            reader.limit_levels(levels).with_context(|| format!("cannot play {name}"))?;
        }
        // Sound is due before many chunks are decoded.
        reader.limit_ahead(1);
        let models = args.model.for_tokens();
        let TokenModel { model, prior } = models.with_id(&reader.header().model_id)?;
        let prior = prior.to_decode(reader.header())?;
        let (rate, channels) = (reader.header().source_rate, reader.header().channels);
        let mut player = Player::open(device, rate, channels, reader.samples(), interrupt)?;
        let decoded = files::decode_with(
            model,
            prior,
            &mut reader,
            &mut |block| player.push(block),
            &mut |_| {},
        );
        let done = player.ended(decoded).with_context(|| format!("cannot play {name}"))?;
        let Some(done) = done else { return Ok(Outcome::Done) };
        player.finish()?;
        for damage in &done.damages {
            report::warn(&format!("{name}: {damage}"));
        }
        return Ok(match done.concealed_seconds > 0.0 {
            true => Outcome::Damaged,
            false => Outcome::Done,
        });
    }
    let mut source = audio::open(&args.input)?;
    let info = source.info().clone();
    let mut player = Player::open(device, info.sample_rate, info.channels, info.frames, interrupt)?;
    let mut block = Vec::new();
    let played = loop {
        match source.read(&mut block, BLOCK) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        if let Err(error) = player.push(&block) {
            break Err(error);
        }
    };
    if player.ended(played).with_context(|| format!("cannot play {name}"))?.is_some() {
        player.finish()?;
        for warning in source.warnings() {
            report::warn(&format!("{name}: {warning}"));
        }
    }
    Ok(Outcome::Done)
}

/// Sound on its way to a device.
pub struct Player {
    stream: cpal::Stream,
    ring: Producer<f32>,
    health: Arc<Health>,
    device: String,
    /// Channels of the ring.
    channels: usize,
    resampler: Option<StreamResampler>,
    interrupt: Interrupt,
    line: StatusLine,
    rate: u32,
    length: Option<u64>,
    given: u64,
    /// Blocks seen of the device, and when there was a new one.
    seen: (u64, Instant),
}

impl Player {
    /// A player of sound of that rate and number of channels.
    pub fn open(
        device: Option<&str>,
        rate: u32,
        channels: u16,
        length: Option<u64>,
        interrupt: Interrupt,
    ) -> Result<Self> {
        let wanted = Wanted { rate, exactly: false, channels: channels.max(2), buffer: None };
        let device = Device::find(Direction::Output, device, wanted)?;
        let out = usize::from(channels.min(device.config.channels));
        let to = device.config.sample_rate;
        let (ring, taken) = RingBuffer::new(AHEAD * to as usize * out);
        let health = Arc::<Health>::default();
        let stream = device.play(out, taken, health.clone())?;
        report::note(&device.describe());
        Ok(Self {
            stream,
            ring,
            health,
            device: device.name,
            channels: out,
            resampler: Some(StreamResampler::new(rate, to, out)?),
            interrupt,
            line: StatusLine::new(),
            rate,
            length,
            given: 0,
            seen: (0, Instant::now()),
        })
    }

    /// Takes a block of all channels of the source; waits until there is room.
    pub fn push(&mut self, block: &[Vec<f32>]) -> Result<(), AudioError> {
        self.given += block.first().map_or(0, Vec::len) as u64;
        let folded = fold(block, self.channels);
        let Some(resampler) = &mut self.resampler else { return Ok(()) };
        let most = resampler.block_frames().max(1);
        let mut converted = Vec::new();
        let frames = folded.first().map_or(0, Vec::len);
        for first in (0..frames).step_by(most) {
            let end = (first + most).min(frames);
            let part: Vec<&[f32]> = folded.iter().map(|c| &c[first..end]).collect();
            resampler.process(&part, &mut converted)?;
        }
        self.give(&converted)
    }

    fn give(&mut self, planar: &[Vec<f32>]) -> Result<(), AudioError> {
        let frames = planar.first().map_or(0, Vec::len);
        for frame in 0..frames {
            while self.ring.slots() < self.channels {
                // There is enough ahead: from now on silence is a gap.
                self.health.due.store(true, Ordering::Release);
                self.wait()?;
            }
            for channel in planar {
                let _ = self.ring.push(channel[frame]);
            }
        }
        Ok(())
    }

    /// A moment, after which there may be room; an error when there will be none.
    fn wait(&mut self) -> Result<(), AudioError> {
        let fail = |kind, text: String| {
            let source = io::Error::new(kind, text);
            Err(AudioError::Write { path: self.device.clone(), source })
        };
        if self.interrupt.asked() {
            return fail(ErrorKind::Interrupted, "stopped before the end".into());
        }
        if let Some(failure) = self.health.failure() {
            return fail(ErrorKind::NotConnected, failure);
        }
        let blocks = self.health.blocks.load(Ordering::Relaxed);
        if blocks != self.seen.0 {
            self.seen = (blocks, Instant::now());
        } else if self.seen.1.elapsed() > SILENT {
            return fail(ErrorKind::TimedOut, "the device has stopped".into());
        }
        thread::sleep(Duration::from_millis(5));
        let seconds = |frames: u64| frames as f64 / f64::from(self.rate);
        let (now, length) = (seconds(self.given), self.length.map(seconds));
        self.line.update(|| match length {
            Some(length) => format!("{now:.0} of {length:.0} s"),
            None => format!("{now:.0} s"),
        });
        Ok(())
    }

    /// What came of it; nothing when the user has ended it, which is no error.
    pub fn ended<T, E: Into<anyhow::Error>>(&self, result: Result<T, E>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.interrupt.asked() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Plays what is left.
    pub fn finish(mut self) -> Result<()> {
        let mut rest = Vec::new();
        if let Some(resampler) = self.resampler.take() {
            resampler.finish(&mut rest)?;
        }
        let played = self.give(&rest);
        if self.ended(played)?.is_none() {
            return Ok(());
        }
        // Nothing more is due once the ring is empty.
        self.health.due.store(false, Ordering::Release);
        while self.ring.slots() < self.ring.buffer().capacity() {
            let waited = self.wait();
            if self.ended(waited)?.is_none() {
                return Ok(());
            }
        }
        // What the device holds.
        let delay = Duration::from_nanos(self.health.delay.load(Ordering::Relaxed));
        thread::sleep(delay.min(Duration::from_secs(1)));
        drop(self.stream);
        let lost = self.health.lost_frames.load(Ordering::Relaxed);
        if lost > 0 {
            report::warn(&format!("{lost} frames came too late for {}", self.device));
        }
        Ok(())
    }
}

/// Channels folded to fewer: those beyond the last are mixed in from the first on.
fn fold(block: &[Vec<f32>], channels: usize) -> Vec<Vec<f32>> {
    let mut out = block[..channels.min(block.len())].to_vec();
    let gain = 1.0 / block.len().div_ceil(channels.max(1)).max(1) as f32;
    for (index, channel) in block.iter().enumerate().skip(channels) {
        let into = &mut out[index % channels];
        into.iter_mut().zip(channel).for_each(|(sum, sample)| *sum += sample);
    }
    if gain < 1.0 {
        out.iter_mut().flatten().for_each(|sample| *sample *= gain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_folded() {
        let block = [vec![1.0, 2.0], vec![0.5, 0.0], vec![1.0, 4.0]];
        assert_eq!(fold(&block, 3), block);
        assert_eq!(fold(&block, 2), [vec![1.0, 3.0], vec![0.25, 0.0]]);
        assert_eq!(fold(&block[..2], 1), [vec![0.75, 1.0]]);
        assert_eq!(fold(&block[..1], 1), [vec![1.0, 2.0]]);
    }
}
