//! The system's sound devices: finding one, and streams of samples to and from it through a ring.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Data, ErrorKind, FromSample, I24, SampleFormat, SizedSample, StreamConfig,
    SupportedBufferSize, SupportedStreamConfigRange, U24,
};
use rtrb::{Consumer, Producer};

/// Keeps the system's library from writing to stderr itself: what matters comes as an error.
pub struct Quiet {
    #[cfg(target_os = "linux")]
    _messages: Option<std::rc::Rc<std::cell::RefCell<alsa::Output>>>,
}

impl Quiet {
    /// On this thread, while it is held.
    pub fn hold() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            _messages: alsa::Output::local_error_handler().ok(),
        }
    }
}

/// Which way the sound goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Input,
    Output,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// What is asked of a device.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Samples a second.
    pub rate: u32,
    /// Whether another rate will not do.
    pub exactly: bool,
    /// Channels, more or fewer where there are not as many.
    pub channels: u16,
    /// Frames of a block; the system's choice by default.
    pub buffer: Option<u32>,
}

/// A device and how it will be used.
pub struct Device {
    device: cpal::Device,
    direction: Direction,
    pub name: String,
    pub config: StreamConfig,
    format: SampleFormat,
}

/// What the callbacks tell the rest of the program. Nothing in it waits, but for a failure.
#[derive(Debug, Default)]
pub struct Health {
    /// Blocks so far.
    pub blocks: AtomicU64,
    /// Frames of the last block.
    pub block_frames: AtomicU32,
    /// Frames that found no room, or that were not there when they were due.
    pub lost_frames: AtomicU64,
    /// Times that the device itself ran over or dry.
    pub xruns: AtomicU64,
    /// Nanoseconds between the device and the callback.
    pub delay: AtomicU64,
    /// Largest sample since it was last asked for, as bits of an f32.
    peak: AtomicU32,
    /// Whether frames are due.
    pub due: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Health {
    /// Why the device can no longer be used, if so.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The largest sample since the last call.
    pub fn take_peak(&self) -> f32 {
        f32::from_bits(self.peak.swap(0, Ordering::Relaxed))
    }

    fn block(&self, frames: usize, delay: Duration, peak: f32) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.block_frames.store(frames as u32, Ordering::Relaxed);
        self.delay.store(delay.as_nanos() as u64, Ordering::Relaxed);
        // Bits of floats that are not negative are in the order of the floats.
        self.peak.fetch_max(peak.to_bits(), Ordering::Relaxed);
    }

    fn error(&self, name: &str, error: &cpal::Error) {
        match error.kind() {
            ErrorKind::Xrun => {
                self.xruns.fetch_add(1, Ordering::Relaxed);
            }
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ => {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| format!("{name} is gone: {error}"));
            }
        }
    }
}

/// All devices of the system with their ids.
pub fn all() -> Result<Vec<(String, cpal::Device)>> {
    let devices = cpal::default_host().devices().context("cannot list the sound devices")?;
    Ok(devices
        .filter_map(|device| Some((device.id().ok()?.id().to_string(), device)))
        // ALSA's null is there without any sound card.
        .filter(|(id, _)| id != "null")
        .collect())
}

/// What a device is called by people.
pub fn description(device: &cpal::Device) -> String {
    device.description().map_or_else(|_| String::new(), |d| d.name().to_string())
}

/// How a device would be used, if it can be.
pub fn usable(
    device: &cpal::Device,
    direction: Direction,
    wanted: Wanted,
) -> Result<(StreamConfig, SampleFormat)> {
    let ranges: Vec<_> = match direction {
        Direction::Input => device.supported_input_configs()?.collect(),
        Direction::Output => device.supported_output_configs()?.collect(),
    };
    let Some((range, rate)) = choose(&ranges, wanted) else {
        bail!("it has no format that is understood");
    };
    if wanted.exactly && rate != wanted.rate {
        bail!("it does not run at {} Hz; the nearest is {rate} Hz", wanted.rate);
    }
    let buffer_size = match (wanted.buffer, *range.buffer_size()) {
        (Some(frames), SupportedBufferSize::Range { min, max })
            if !(min..=max).contains(&frames) =>
        {
            bail!("it has no blocks of {frames} frames; {min} to {max} work");
        }
        (Some(frames), _) => BufferSize::Fixed(frames),
        (None, _) => BufferSize::Default,
    };
    let config = StreamConfig { channels: range.channels(), sample_rate: rate, buffer_size };
    Ok((config, range.sample_format()))
}

/// The range that fits best, and the rate in it.
fn choose(
    ranges: &[SupportedStreamConfigRange],
    wanted: Wanted,
) -> Option<(&SupportedStreamConfigRange, u32)> {
    let format = |range: &SupportedStreamConfigRange| match range.sample_format() {
        SampleFormat::F32 => Some(3),
        SampleFormat::I32 | SampleFormat::I24 => Some(2),
        SampleFormat::I16 => Some(1),
        SampleFormat::DsdU8 | SampleFormat::DsdU16 | SampleFormat::DsdU32 => None,
        _ => Some(0),
    };
    // Enough channels, but not many more; then the nearest rate.
    let channels = |range: &SupportedStreamConfigRange| {
        let missing = wanted.channels.saturating_sub(range.channels());
        (missing, range.channels().saturating_sub(wanted.channels))
    };
    let rate = |range: &SupportedStreamConfigRange| {
        wanted.rate.clamp(range.min_sample_rate(), range.max_sample_rate())
    };
    ranges
        .iter()
        .filter_map(|range| Some((range, rate(range), format(range)?)))
        .filter(|(range, rate, _)| range.channels() > 0 && *rate > 0)
        .min_by_key(|(range, rate, format)| (rate.abs_diff(wanted.rate), channels(range), -format))
        .map(|(range, rate, _)| (range, rate))
}

impl Device {
    /// The device of that name, id or part of a name, or the default one, used as nearly as it can be to
    /// what is wanted.
    pub fn find(direction: Direction, name: Option<&str>, wanted: Wanted) -> Result<Self> {
        const HINT: &str = "`tessera devices` lists what there is";
        let host = cpal::default_host();
        let device = match (name, direction) {
            (Some(name), _) => named(direction, name)?,
            (None, Direction::Input) => {
                host.default_input_device().context("there is no sound card to record from")?
            }
            (None, Direction::Output) => {
                host.default_output_device().context("there is no sound card to play on")?
            }
        };
        let shown = name.map_or_else(|| format!("the default {direction} device"), str::to_string);
        let (config, format) = usable(&device, direction, wanted).map_err(|error| {
            // A default device there always is by name; with no card behind it, it cannot be opened.
            let said = match name.is_none() && error.is::<cpal::Error>() {
                true => format!("no sound card: {shown} cannot be used; {HINT}"),
                false => format!("cannot use {shown} as {direction}; {HINT}"),
            };
            error.context(said)
        })?;
        Ok(Self { device, direction, name: shown, config, format })
    }

    /// How it is used, for people.
    pub fn describe(&self) -> String {
        let StreamConfig { channels, sample_rate, .. } = self.config;
        format!("{}: {} ({channels} channels, {sample_rate} Hz)", self.direction, self.name)
    }

    /// Begins to record: the first `channels` channels of the device into the ring, frame by frame.
    pub fn record(
        &self,
        channels: usize,
        ring: Producer<f32>,
        health: Arc<Health>,
    ) -> Result<cpal::Stream> {
        let task = Task { channels, device_channels: self.config.channels.into(), health };
        self.begin(match self.format {
            SampleFormat::I8 => self.input::<i8>(task, ring),
            SampleFormat::I16 => self.input::<i16>(task, ring),
            SampleFormat::I24 => self.input::<I24>(task, ring),
            SampleFormat::I32 => self.input::<i32>(task, ring),
            SampleFormat::I64 => self.input::<i64>(task, ring),
            SampleFormat::U8 => self.input::<u8>(task, ring),
            SampleFormat::U16 => self.input::<u16>(task, ring),
            SampleFormat::U24 => self.input::<U24>(task, ring),
            SampleFormat::U32 => self.input::<u32>(task, ring),
            SampleFormat::U64 => self.input::<u64>(task, ring),
            SampleFormat::F64 => self.input::<f64>(task, ring),
            _ => self.input::<f32>(task, ring),
        })
    }

    /// Begins to play the ring's frames of `channels` channels: a single one on the first two channels of
    /// the device, others on one each. Where the ring runs dry there is silence.
    pub fn play(
        &self,
        channels: usize,
        ring: Consumer<f32>,
        health: Arc<Health>,
    ) -> Result<cpal::Stream> {
        let task = Task { channels, device_channels: self.config.channels.into(), health };
        self.begin(match self.format {
            SampleFormat::I8 => self.output::<i8>(task, ring),
            SampleFormat::I16 => self.output::<i16>(task, ring),
            SampleFormat::I24 => self.output::<I24>(task, ring),
            SampleFormat::I32 => self.output::<i32>(task, ring),
            SampleFormat::I64 => self.output::<i64>(task, ring),
            SampleFormat::U8 => self.output::<u8>(task, ring),
            SampleFormat::U16 => self.output::<u16>(task, ring),
            SampleFormat::U24 => self.output::<U24>(task, ring),
            SampleFormat::U32 => self.output::<u32>(task, ring),
            SampleFormat::U64 => self.output::<u64>(task, ring),
            SampleFormat::F64 => self.output::<f64>(task, ring),
            _ => self.output::<f32>(task, ring),
        })
    }

    fn begin(&self, stream: Result<cpal::Stream, cpal::Error>) -> Result<cpal::Stream> {
        let fail = || format!("cannot start {} as {}", self.name, self.direction);
        let stream = stream.with_context(fail)?;
        stream.play().with_context(fail)?;
        Ok(stream)
    }

    fn input<T>(&self, task: Task, mut ring: Producer<f32>) -> Result<cpal::Stream, cpal::Error>
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        let (health, name) = (task.health.clone(), self.name.clone());
        self.device.build_input_stream_raw(
            self.config,
            self.format,
            move |data: &Data, info| {
                let time = info.timestamp();
                let delay = time.callback.saturating_duration_since(time.capture);
                if let Some(samples) = data.as_slice::<T>() {
                    task.take(samples, &mut ring, delay);
                }
            },
            move |error| health.error(&name, &error),
            None,
        )
    }

    fn output<T>(&self, task: Task, mut ring: Consumer<f32>) -> Result<cpal::Stream, cpal::Error>
    where
        T: SizedSample + FromSample<f32>,
    {
        let (health, name) = (task.health.clone(), self.name.clone());
        self.device.build_output_stream_raw(
            self.config,
            self.format,
            move |data: &mut Data, info| {
                let time = info.timestamp();
                let delay = time.playback.saturating_duration_since(time.callback);
                if let Some(samples) = data.as_slice_mut::<T>() {
                    task.give(samples, &mut ring, delay);
                }
            },
            move |error| health.error(&name, &error),
            None,
        )
    }
}

/// The device whose id or name that is, or the only one whose name has it as a part.
fn named(direction: Direction, name: &str) -> Result<cpal::Device> {
    let fits = |device: &cpal::Device| match direction {
        Direction::Input => device.supports_input(),
        Direction::Output => device.supports_output(),
    };
    let host = cpal::default_host();
    let by_id = format!("{}:{name}", host.id().to_string().to_lowercase());
    if let Some(device) = by_id.parse().ok().and_then(|id| host.device_by_id(&id)) {
        return Ok(device);
    }
    let part = name.to_lowercase();
    let mut found: Vec<_> = all()?
        .into_iter()
        .filter(|(id, device)| {
            fits(device) && (id == name || description(device).to_lowercase().contains(&part))
        })
        .collect();
    match (found.pop(), found.len()) {
        (Some((_, device)), 0) => Ok(device),
        (Some(_), more) => {
            bail!("{} {direction} devices are called {name:?}: give an id", more + 1)
        }
        (None, _) => {
            bail!("there is no {direction} device {name:?}; `tessera devices` lists what there is")
        }
    }
}

/// What a callback does.
struct Task {
    /// Channels of the ring.
    channels: usize,
    device_channels: usize,
    health: Arc<Health>,
}

impl Task {
    /// Samples of the device into the ring. No allocation, lock or system call.
    fn take<T>(&self, samples: &[T], ring: &mut Producer<f32>, delay: Duration)
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        let (mut peak, mut lost) = (0.0f32, 0);
        for frame in samples.chunks_exact(self.device_channels.max(1)) {
            if ring.slots() < self.channels {
                lost += 1;
                continue;
            }
            for channel in 0..self.channels {
                let sample = frame.get(channel).map_or(0.0, |s| s.to_sample::<f32>());
                peak = peak.max(sample.abs());
                let _ = ring.push(sample);
            }
        }
        self.health.lost_frames.fetch_add(lost, Ordering::Relaxed);
        self.health.block(samples.len() / self.device_channels.max(1), delay, peak);
    }

    /// Samples of the ring to the device. No allocation, lock or system call.
    fn give<T>(&self, samples: &mut [T], ring: &mut Consumer<f32>, delay: Duration)
    where
        T: SizedSample + FromSample<f32>,
    {
        let (mut peak, mut lost) = (0.0f32, 0);
        let due = self.health.due.load(Ordering::Acquire);
        for frame in samples.chunks_exact_mut(self.device_channels.max(1)) {
            frame.fill(T::EQUILIBRIUM);
            if ring.slots() < self.channels {
                lost += u64::from(due);
                continue;
            }
            for channel in 0..self.channels {
                let sample = ring.pop().unwrap_or(0.0);
                peak = peak.max(sample.abs());
                let value = T::from_sample(sample.clamp(-1.0, 1.0));
                if let Some(place) = frame.get_mut(channel) {
                    *place = value;
                }
                if let (1, Some(second)) = (self.channels, frame.get_mut(1)) {
                    *second = value;
                }
            }
        }
        self.health.lost_frames.fetch_add(lost, Ordering::Relaxed);
        self.health.block(samples.len() / self.device_channels.max(1), delay, peak);
    }
}

#[cfg(test)]
mod tests {
    use rtrb::RingBuffer;

    use super::*;

    fn range(
        channels: u16,
        min: u32,
        max: u32,
        format: SampleFormat,
    ) -> SupportedStreamConfigRange {
        SupportedStreamConfigRange::new(channels, min, max, SupportedBufferSize::Unknown, format)
    }

    const WANTED: Wanted = Wanted { rate: 48_000, exactly: false, channels: 2, buffer: None };

    #[test]
    fn the_best_format_is_chosen() {
        use SampleFormat::{DsdU8, F32, I16, U8};
        let chosen = |ranges: &[SupportedStreamConfigRange]| {
            choose(ranges, WANTED).map(|(r, rate)| (r.channels(), rate, r.sample_format()))
        };
        let ranges = [
            range(1, 8_000, 192_000, F32),
            range(2, 44_100, 44_100, F32),
            range(2, 8_000, 96_000, I16),
            range(2, 8_000, 96_000, F32),
            range(6, 8_000, 96_000, F32),
            range(2, 48_000, 48_000, DsdU8),
        ];
        assert_eq!(chosen(&ranges), Some((2, 48_000, F32)));
        assert_eq!(chosen(&ranges[..3]), Some((2, 48_000, I16)));
        assert_eq!(chosen(&ranges[..2]), Some((1, 48_000, F32)));
        assert_eq!(chosen(&[range(6, 8_000, 96_000, U8)]), Some((6, 48_000, U8)));
        assert_eq!(chosen(&ranges[1..2]), Some((2, 44_100, F32)));
        assert_eq!(chosen(&ranges[5..]), None);
    }

    fn task(channels: usize, device_channels: usize) -> Task {
        Task { channels, device_channels, health: Arc::default() }
    }

    #[test]
    fn channels_find_their_place() {
        let (mut give, mut take) = RingBuffer::new(8);
        let three = task(2, 3);
        three.take(&[i16::MAX, i16::MIN, 5, 0, 16_384, 5], &mut give, Duration::from_millis(3));
        assert_eq!(three.health.take_peak(), 1.0);
        assert_eq!(three.health.take_peak(), 0.0);
        assert_eq!(three.health.delay.load(Ordering::Relaxed), 3_000_000);
        let mut out = [9.0f32; 8];
        let four = task(2, 4);
        four.give(&mut out, &mut take, Duration::ZERO);
        assert_eq!(out[1..], [-1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
        // One channel is heard on both sides, and all that a mono device has is its one.
        give.push(0.25).unwrap();
        give.push(0.5).unwrap();
        let mut out = [9.0f32; 3];
        task(1, 3).give(&mut out, &mut take, Duration::ZERO);
        assert_eq!(out, [0.25, 0.25, 0.0]);
        let mut out = [9i16; 1];
        task(1, 1).give(&mut out, &mut take, Duration::ZERO);
        assert_eq!(out, [16_384]);
    }

    #[test]
    fn frames_without_room_and_frames_missing_are_counted() {
        let (mut give, mut take) = RingBuffer::new(3);
        let input = task(2, 2);
        input.take(&[0.1f32, 0.2, 0.3, 0.4, 0.5, 0.6], &mut give, Duration::ZERO);
        assert_eq!(input.health.lost_frames.load(Ordering::Relaxed), 2);
        let output = task(2, 2);
        let mut out = [9u8; 6];
        output.give(&mut out, &mut take, Duration::ZERO);
        assert_eq!(out[2..], [128; 4]);
        // Nothing is missed before anything is due.
        assert_eq!(output.health.lost_frames.load(Ordering::Relaxed), 0);
        output.health.due.store(true, Ordering::Release);
        output.give(&mut out, &mut take, Duration::ZERO);
        assert_eq!(output.health.lost_frames.load(Ordering::Relaxed), 3);
        assert_eq!(output.health.blocks.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_lost_device_is_told_and_a_late_block_is_not_one() {
        let health = Health::default();
        health.error("card", &ErrorKind::Xrun.into());
        assert_eq!((health.xruns.load(Ordering::Relaxed), health.failure()), (1, None));
        health.error("card", &ErrorKind::DeviceNotAvailable.into());
        assert!(health.failure().unwrap().starts_with("card is gone: "));
    }
}
