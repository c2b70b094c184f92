//! The codec between two rings, on a thread of its own.
//!
//! Not in a callback of the sound system: a step is computed at once when its 40 ms are complete, which
//! takes longer than a small block of a device lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rtrb::{Consumer, Producer};
use tessera_codec::audio::ElasticResampler;
use tessera_codec::engine::{ChannelDecoders, ChannelEncoders, Model, StreamEncoder};
use tessera_codec::lines::{LineFinder, LinePlayer, Lines};
use tessera_codec::tokens::Tokens;

use super::pace::Pacer;
use crate::device::Health;

/// Time between two looks at an empty ring.
const NAP: Duration = Duration::from_millis(1);

/// Frames taken from the ring at a time.
const TAKEN: usize = 1024;

/// What the codec did with some steps, for recording.
pub struct Part {
    /// By channel: tokens of whole steps, and their sound, which lags.
    pub tokens: Vec<Tokens>,
    pub sound: Vec<Vec<f32>>,
    /// Samples per channel that the encoder had taken in all.
    pub taken: u64,
}

/// What the worker tells while it runs.
#[derive(Debug, Default)]
pub struct Meters {
    /// Nanoseconds of work so far, and of the longest step.
    pub busy: AtomicU64,
    pub longest: AtomicU64,
    /// Frames left out, and frames of silence put in, to keep up with the output's clock.
    pub dropped: AtomicU64,
    pub inserted: AtomicU64,
    /// Frames in the output's queue on average when a step arrives.
    pub queued: AtomicU64,
    /// Share by which the output's clock is faster than the input's, in parts per 10^9, as measured.
    pub drift: std::sync::atomic::AtomicI64,
}

/// Everything the codec's thread has.
pub struct Worker {
    pub input: Consumer<f32>,
    pub output: Producer<f32>,
    pub output_health: Arc<Health>,
    pub from_device: ElasticResampler,
    pub to_device: ElasticResampler,
    pub pacer: Pacer,
    pub encoders: ChannelEncoders,
    pub decoders: ChannelDecoders,
    /// By channel; no finders where there are to be no lines.
    pub finders: Vec<LineFinder>,
    pub players: Vec<LinePlayer>,
    pub levels: usize,
    pub meters: Arc<Meters>,
    pub recording: Option<SyncSender<Part>>,
}

impl Worker {
    /// Works until `stop`; then gives the rest to the recording.
    pub fn run(mut self, model: &Model, stop: &AtomicBool) -> Result<()> {
        let channels = self.encoders.streams().len();
        let mut planar = vec![vec![0.0; TAKEN]; channels];
        let mut samples = Vec::new();
        let mut codes = vec![vec![0; model.codes_per_step(self.levels)]; channels];
        let mut taken = 0;
        while !stop.load(Ordering::Acquire) {
            let frames = self.take(&mut planar);
            if frames == 0 {
                thread::sleep(NAP);
                continue;
            }
            let begun = Instant::now();
            let block: Vec<&[f32]> = planar.iter().map(|channel| &channel[..frames]).collect();
            samples.iter_mut().for_each(Vec::clear);
            self.from_device.process(&block, &mut samples)?;
            let length = samples.first().map_or(0, Vec::len);
            let mut first = 0;
            while first < length {
                // No further than to the end of a step, so that what is found belongs to it.
                let missing =
                    self.encoders.streams().first().map_or(0, StreamEncoder::missing_samples);
                let end = length.min(first + missing.max(1));
                let rest: Vec<&[f32]> =
                    samples.iter().map(|channel| &channel[first..end]).collect();
                let done = self.encoders.process_into(&rest, self.levels, &mut codes)?;
                for (finder, samples) in self.finders.iter_mut().zip(rest) {
                    finder.fill(&samples[..done.consumed]);
                }
                first += done.consumed;
                taken += done.consumed as u64;
                if done.produced > 0 {
                    let (tokens, sound) = self.decode(model, &codes)?;
                    self.play(&sound)?;
                    self.record(Part { tokens, sound, taken })?;
                }
            }
            let worked = begun.elapsed().as_nanos() as u64;
            self.meters.busy.fetch_add(worked, Ordering::Relaxed);
            self.meters.longest.fetch_max(worked, Ordering::Relaxed);
        }
        self.finish(model, taken)
    }

    /// Frames of the input ring by channel, as many as there are.
    fn take(&mut self, planar: &mut [Vec<f32>]) -> usize {
        let frames = (self.input.slots() / planar.len().max(1)).min(TAKEN);
        for frame in 0..frames {
            for channel in planar.iter_mut() {
                channel[frame] = self.input.pop().unwrap_or(0.0);
            }
        }
        frames
    }

    /// Decodes a step of each channel, with what is found in its samples, all of which the finders have.
    fn decode(
        &mut self,
        model: &Model,
        codes: &[impl AsRef<[u16]>],
    ) -> Result<(Vec<Tokens>, Vec<Vec<f32>>)> {
        let mut all = (Vec::new(), Vec::new());
        let (mut finders, mut players) = (self.finders.iter_mut(), self.players.iter_mut());
        for (decoder, codes) in self.decoders.streams_mut().iter_mut().zip(codes) {
            let (codes, mut finder) = (codes.as_ref(), finders.next());
            let mut lines = finder.as_mut().and_then(|finder| {
                finder.begin();
                finder.advance(usize::MAX);
                finder.take()
            });
            let none = Lines::NONE;
            decoder.begin_with_lines(codes, self.levels, lines.as_ref().unwrap_or(&none))?;
            decoder.advance(decoder.units_to_trim());
            if let (Some(finder), Some(lines)) = (finder, &mut lines) {
                lines.set_trims(finder.trims(decoder.powers()));
                decoder.trim(lines.trims())?;
            }
            decoder.advance(usize::MAX);
            let mut sound = vec![0.0; model.chunk_samples()];
            decoder.take(&mut sound)?;
            if let (Some(player), Some(lines)) = (players.next(), &lines) {
                player.play(lines, &mut sound);
            }
            let mut tokens = Tokens::new(self.levels);
            tokens.extend_steps(codes, model.layout());
            tokens.lines.extend(lines);
            all.0.push(tokens);
            all.1.push(sound);
        }
        Ok(all)
    }

    /// Into the output's ring, at its pace.
    fn play(&mut self, sound: &[Vec<f32>]) -> Result<()> {
        let channels = sound.len().max(1);
        let capacity = self.output.buffer().capacity();
        let queued = (capacity - self.output.slots()) / channels;
        let pace = self.pacer.step(queued);
        self.to_device.bend(pace.bend);
        let mut frames = vec![vec![0.0; pace.silence]; channels];
        self.to_device.process(sound, &mut frames)?;
        let count = frames.first().map_or(0, Vec::len);
        let skip = pace.drop.min(count);
        let mut lost = 0;
        for frame in skip..count {
            if self.output.slots() < channels {
                lost += 1;
                continue;
            }
            for channel in &frames {
                let _ = self.output.push(channel[frame]);
            }
        }
        let meters = &self.meters;
        if self.output_health.due.swap(true, Ordering::AcqRel) {
            meters.inserted.fetch_add(pace.silence as u64, Ordering::Relaxed);
        }
        meters.dropped.fetch_add(skip as u64 + lost, Ordering::Relaxed);
        meters.queued.store(self.pacer.queued() as u64, Ordering::Relaxed);
        meters.drift.store((pace.bend * 1e9) as i64, Ordering::Relaxed);
        Ok(())
    }

    fn record(&mut self, part: Part) -> Result<()> {
        let Some(recording) = &self.recording else { return Ok(()) };
        match recording.try_send(part) {
            Err(TrySendError::Full(_)) => bail!("the disk is too slow for the recording"),
            // Whoever recorded has failed and says why.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// The steps that are still inside, which silence completes.
    fn finish(mut self, model: &Model, taken: u64) -> Result<()> {
        if self.recording.is_none() {
            return Ok(());
        }
        let channels = self.encoders.streams().len();
        let per_step = model.codes_per_step(self.levels);
        let steps = self.encoders.streams().first().map_or(0, |s| s.steps_to_finish());
        let mut codes = vec![vec![0; steps * per_step]; channels];
        self.encoders.finish(self.levels, &mut codes)?;
        let silence = vec![0.0; model.chunk_samples()];
        for step in 0..steps {
            for finder in &mut self.finders {
                finder.fill(&silence);
            }
            let own = step * per_step..(step + 1) * per_step;
            let codes: Vec<&[u16]> = codes.iter().map(|codes| &codes[own.clone()]).collect();
            let (tokens, sound) = self.decode(model, &codes)?;
            self.record(Part { tokens, sound, taken })?;
        }
        Ok(())
    }
}
