//! `tessera live`: from a sound device through the codec to another one.

mod pace;
mod recorder;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use cpal::traits::StreamTrait;
use rtrb::RingBuffer;
use tessera_codec::audio::ElasticResampler;
use tessera_codec::engine::{ChannelDecoders, ChannelEncoders};
use tessera_codec::files::Encoding;
use tessera_codec::lines::{LineFinder, LinePlayer};

use self::pace::Pacer;
use self::recorder::Recorder;
use self::worker::{Meters, Part, Worker};
use super::device::{Device, Direction, Health, Quiet, Wanted};
use super::encode::LinesWanted;
use super::interrupt::Interrupt;
use super::model::ModelArgs;
use super::progress::StatusLine;
use super::{Outcome, levels, report};

/// Seconds of sound that the rings hold.
const RING_SECONDS: usize = 2;

/// Steps that may wait for the disk: some forty seconds.
const WAITING_STEPS: usize = 1000;

/// Seconds of sound that the output's queue has left when a step arrives, at least and at most; in
/// between it is two blocks of the device.
const QUEUE: [f64; 2] = [0.01, 0.2];

/// A device that gives or takes nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(3);

/// Play what is recorded, coded and decoded, until Ctrl-C.
///
/// The latency that is shown is that of the sound in the devices' and our own queues and of the codec.
#[derive(clap::Args)]
pub struct Args {
    /// Device to record from, by id, name or a part of the name; the default one otherwise.
    #[arg(long, value_name = "DEVICE")]
    input: Option<String>,
    /// Device to play on.
    #[arg(long, value_name = "DEVICE")]
    output: Option<String>,
    /// Rate that the devices are to run at; by default the codec's, or the nearest there is.
    #[arg(long, value_name = "HZ")]
    rate: Option<u32>,
    /// Frames of the devices' blocks; the system's choice by default.
    #[arg(long, value_name = "FRAMES")]
    buffer: Option<u32>,
    #[command(flatten)]
    model: ModelArgs,
    /// Levels to use, from 1 (coarsest); all by default.
    #[arg(long, value_name = "N")]
    levels: Option<usize>,
    /// Lines to draw beside the codes; as many as suit the levels by default.
    #[arg(long, value_enum, value_name = "HOW MANY")]
    lines: Option<LinesWanted>,
    /// Write what is heard to this WAV, at the codec's rate.
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// Write the tokens to this .tsr.
    #[arg(long, value_name = "TSR")]
    record_tokens: Option<PathBuf>,
    /// End after so many seconds.
    #[arg(long, value_name = "S", value_parser = super::encode::positive)]
    seconds: Option<f64>,
    /// Replace recordings that exist.
    #[arg(long)]
    force: bool,
}

/// What both streams and the codec tell.
struct Watch {
    input: Arc<Health>,
    output: Arc<Health>,
    meters: Arc<Meters>,
    rates: [u32; 2],
    /// Seconds that the codec and the rate conversions take by their nature.
    inherent: f64,
    began: Instant,
    /// Blocks seen of each device, and when there was a new one.
    seen: [(u64, Instant); 2],
}

pub fn run(args: Args) -> Result<Outcome> {
    let _quiet = Quiet::hold();
    let model = args.model.load()?;
    let levels = match args.levels {
        Some(asked) => levels::within(asked, model.config())?,
        None => model.levels(),
    };
    let rate = model.config().sample_rate;
    let wanted = Wanted {
        rate: args.rate.unwrap_or(rate),
        exactly: args.rate.is_some(),
        channels: 2,
        buffer: args.buffer,
    };
    let input = Device::find(Direction::Input, args.input.as_deref(), wanted)?;
    let output = Device::find(Direction::Output, args.output.as_deref(), wanted)?;
    let channels = input.config.channels.min(output.config.channels).clamp(1, 2);
    let (sound, tokens) = (args.record.as_deref(), args.record_tokens.as_deref());
    let lines = args.lines.map(LinesWanted::selection);
    let lines = Encoding { lines, ..Encoding::of_levels(levels) }.selection(model.config()).live();
    let (kept, force) = (lines.kept(), args.force);
    let mut recorder = Recorder::create(&model, levels, kept, channels, sound, tokens, force)?;
    let interrupt = Interrupt::listen()?;

    let count = usize::from(channels);
    let rates = [input.config.sample_rate, output.config.sample_rate];
    let ring = |rate: u32| RingBuffer::new(RING_SECONDS * rate as usize * count);
    let ((to_codec, from_input), (to_output, from_codec)) = (ring(rates[0]), ring(rates[1]));
    let (health_in, health_out) = (Arc::<Health>::default(), Arc::<Health>::default());
    let playing = output.play(count, from_codec, health_out.clone())?;
    let recording = input.record(count, to_codec, health_in.clone())?;

    let block = playing.buffer_size().ok().or(args.buffer).unwrap_or(0);
    let queue = (2.0 * f64::from(block) / f64::from(rates[1])).clamp(QUEUE[0], QUEUE[1]);
    let step = model.chunk_samples() as f64 / f64::from(rate);
    let from_device = ElasticResampler::new(rates[0], rate, count)?;
    let to_device = ElasticResampler::new(rate, rates[1], count)?;
    let (parts, received) = sync_channel(WAITING_STEPS);
    let meters = Arc::<Meters>::default();
    let conversions = from_device.delay_seconds() + to_device.delay_seconds();
    let watch = Watch {
        input: health_in,
        output: health_out.clone(),
        meters: meters.clone(),
        rates,
        inherent: model.config().latency_samples() as f64 / f64::from(rate) + conversions,
        began: Instant::now(),
        seen: [(0, Instant::now()); 2],
    };
    let worker = Worker {
        input: from_input,
        output: to_output,
        output_health: health_out,
        from_device,
        to_device,
        pacer: Pacer::new(rates[1], step, (queue * f64::from(rates[1])) as usize),
        encoders: ChannelEncoders::new(&model, count, 1),
        decoders: ChannelDecoders::new(&model, count, 1),
        finders: LineFinder::of_codec(model.config(), lines)
            .map_or(Vec::new(), |finder| vec![finder.with_trims(model.config()); count]),
        players: vec![LinePlayer::new(rate, model.chunk_samples()); count],
        levels,
        meters,
        recording: recorder.is_some().then_some(parts),
    };
    for device in [&input, &output] {
        report::note(&device.describe());
    }
    report::note(&format!(
        "model: {}, {levels} of {} levels, {:.2} kbps; Ctrl-C ends",
        model.config().name,
        model.levels(),
        model.config().bits_per_second(levels) * f64::from(channels) / 1000.0
    ));

    let stop = AtomicBool::new(false);
    let mut watch = watch;
    let (watched, worked) = thread::scope(|scope| {
        let worker = scope.spawn(|| worker.run(&model, &stop));
        let watched =
            watch.until_end(&args, &interrupt, &received, &mut recorder, || worker.is_finished());
        stop.store(true, Ordering::Release);
        (watched, worker.join())
    });
    drop((recording, playing));
    // Whatever happened, what was recorded is kept.
    let mut recorded = watched;
    if let Some(mut recorder) = recorder {
        let rest = received.try_iter().try_for_each(|part| recorder.write(&part));
        recorded = recorded.and(rest.and_then(|()| recorder.finish()));
    }
    worked.map_err(|_| anyhow!("the codec's thread ended early"))??;
    recorded?;
    report::print(&(watch.summary() + "\n"))?;
    Ok(Outcome::Done)
}

impl Watch {
    /// Until Ctrl-C, the time is up, or something fails; meanwhile shows the status and writes the
    /// recording.
    fn until_end(
        &mut self,
        args: &Args,
        interrupt: &Interrupt,
        parts: &Receiver<Part>,
        recorder: &mut Option<Recorder>,
        worker_ended: impl Fn() -> bool,
    ) -> Result<()> {
        let mut line = StatusLine::new();
        let end = args.seconds.map(Duration::from_secs_f64);
        while !interrupt.asked() && end.is_none_or(|end| self.began.elapsed() < end) {
            match (parts.recv_timeout(Duration::from_millis(50)), &mut *recorder) {
                (Ok(part), Some(recorder)) => {
                    recorder.write(&part).context("the recording failed")?;
                }
                // Nothing is recorded: the time is still to pass.
                (Err(RecvTimeoutError::Disconnected), _) => {
                    thread::sleep(Duration::from_millis(50));
                }
                _ => {}
            }
            self.check()?;
            if worker_ended() {
                return Ok(());
            }
            line.update(|| self.status());
        }
        Ok(())
    }

    /// An error when a device is gone.
    fn check(&mut self) -> Result<()> {
        let devices = [("input", &self.input), ("output", &self.output)];
        for ((name, health), seen) in devices.into_iter().zip(&mut self.seen) {
            if let Some(failure) = health.failure() {
                bail!("the {name} device {failure}");
            }
            let blocks = health.blocks.load(Ordering::Relaxed);
            if blocks != seen.0 {
                *seen = (blocks, Instant::now());
            } else if seen.1.elapsed() > SILENT {
                bail!("the {name} device has stopped: nothing for {} s", SILENT.as_secs());
            }
        }
        Ok(())
    }

    /// Seconds from the microphone to the loudspeaker: in the devices, in our queue, and in the codec.
    fn latency(&self) -> [f64; 3] {
        let device = |health: &Health, rate: u32| {
            let reported = health.delay.load(Ordering::Relaxed) as f64 / 1e9;
            let block = f64::from(health.block_frames.load(Ordering::Relaxed)) / f64::from(rate);
            reported.max(block)
        };
        let devices = device(&self.input, self.rates[0]) + device(&self.output, self.rates[1]);
        let queue = self.meters.queued.load(Ordering::Relaxed) as f64 / f64::from(self.rates[1]);
        let work = self.meters.longest.load(Ordering::Relaxed) as f64 / 1e9;
        [devices, queue, self.inherent + work]
    }

    /// Share of a core that the codec takes.
    fn load(&self) -> f64 {
        let busy = self.meters.busy.load(Ordering::Relaxed) as f64 / 1e9;
        busy / self.began.elapsed().as_secs_f64().max(1e-9)
    }

    /// Frames lost and times that a device ran over or dry.
    fn losses(&self) -> String {
        let lost = |health: &Health| health.lost_frames.load(Ordering::Relaxed);
        let xruns = |health: &Health| health.xruns.load(Ordering::Relaxed);
        format!(
            "dropouts: {} frames in, {} out, {} xruns",
            lost(&self.input),
            lost(&self.output),
            xruns(&self.input) + xruns(&self.output)
        )
    }

    /// How far the clocks are apart.
    fn clocks(&self) -> String {
        let meters = &self.meters;
        format!(
            "clocks {:+.0} ppm, slipped {} frames",
            meters.drift.load(Ordering::Relaxed) as f64 / 1000.0,
            meters.dropped.load(Ordering::Relaxed) + meters.inserted.load(Ordering::Relaxed)
        )
    }

    fn latency_text(&self) -> String {
        let [devices, queue, codec] = self.latency().map(|seconds| seconds * 1000.0);
        let all = devices + queue + codec;
        format!("latency {all:.0} ms (devices {devices:.0}, queue {queue:.0}, codec {codec:.0})")
    }

    fn status(&self) -> String {
        let decibels = |peak: f32| 20.0 * peak.max(1e-5).log10();
        format!(
            "in {:4.0} dB, out {:4.0} dB | CPU {:.1} % | {} | {} | {}",
            decibels(self.input.take_peak()),
            decibels(self.output.take_peak()),
            self.load() * 100.0,
            self.losses(),
            self.latency_text(),
            self.clocks()
        )
    }

    fn summary(&self) -> String {
        format!(
            "{:.1} s, CPU {:.1} %, {}, {}, {}",
            self.began.elapsed().as_secs_f64(),
            self.load() * 100.0,
            self.losses(),
            self.latency_text(),
            self.clocks()
        )
    }
}
