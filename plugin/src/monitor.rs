//! From the audio thread to the editor and back, without locks.
//!
//! Nothing is sent while the editor is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use atomic_float::AtomicF32;
use nice_plug_egui::EguiEditorState;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::processor::Levels;
use crate::resynthesis::{Observer, Step};
use crate::tokens::Range;

/// Steps that can wait for the editor.
const STEPS: usize = 64;

/// Samples that can wait for the editor: a third of a second at 96 kHz.
const SOUND: usize = 1 << 15;

/// Samples over which the audio thread's load is measured at least, so that tiny blocks do not count alone.
const MEASURED: usize = 64;

/// Share of the old value that a peak keeps from one measurement to the next.
const LOAD_KEPT: f32 = 0.98;

/// Numbers of the audio thread that the editor shows. All are written by one thread and read by another, and
/// none belongs to another.
#[derive(Debug, Default)]
pub struct Meters {
    /// Highest sample since the editor last looked.
    pub input: AtomicF32,
    /// Highest sample since the editor last looked.
    pub output: AtomicF32,
    /// Reduction by the limiter since the editor last looked: 1 less its lowest gain.
    pub reduction: AtomicF32,
    /// Mean share of the blocks' time that is taken.
    pub load: AtomicF32,
    /// Largest share that a block took since the editor last looked.
    pub worst: AtomicF32,
    /// Blocks that took longer than they last.
    pub dropouts: AtomicU64,
    /// Delay in samples.
    pub latency: AtomicU32,
    /// The host's rate in Hz.
    pub rate: AtomicF32,
    /// Channels.
    pub channels: AtomicU32,
}

/// The audio thread's end.
#[derive(Debug)]
pub struct Feed {
    /// Numbers for the editor.
    pub meters: Arc<Meters>,
    window: Arc<EguiEditorState>,
    steps: Producer<Step>,
    sound: Producer<[f32; 2]>,
    /// Ranges of steps that the editor wants to hold.
    pub holds: Consumer<Range>,
    measured: Duration,
    samples: usize,
    load: f32,
}

/// The editor's end.
#[derive(Debug)]
pub struct Watch {
    /// Numbers of the audio thread.
    pub meters: Arc<Meters>,
    /// Tokens as they are played.
    pub steps: Consumer<Step>,
    /// Samples, the mean of the channels: as they came in, and as they go out at the same time.
    pub sound: Consumer<[f32; 2]>,
    /// Ranges of steps to hold.
    pub holds: Producer<Range>,
}

/// Both ends; `window` says whether there is anybody to see it.
pub fn monitor(window: Arc<EguiEditorState>) -> (Feed, Watch) {
    let meters = Arc::new(Meters::default());
    let (steps_in, steps) = RingBuffer::new(STEPS);
    let (sound_in, sound) = RingBuffer::new(SOUND);
    let (holds, holds_out) = RingBuffer::new(4);
    let feed = Feed {
        meters: meters.clone(),
        window,
        steps: steps_in,
        sound: sound_in,
        holds: holds_out,
        measured: Duration::ZERO,
        samples: 0,
        load: 0.0,
    };
    (feed, Watch { meters, steps, sound, holds })
}

impl Feed {
    /// Whether the editor is there to see.
    pub fn is_watched(&self) -> bool {
        self.window.is_open()
    }

    /// Shows a sample as it came in and as it goes out; lost if the editor is too slow.
    pub fn sound(&mut self, input: f32, output: f32) {
        let _ = self.sound.push([input, output]);
    }

    /// Shows the peaks of some samples.
    pub fn levels(&mut self, levels: Levels) {
        let raise = |meter: &AtomicF32, value: f32| {
            meter.fetch_max(value, Ordering::Relaxed);
        };
        raise(&self.meters.input, levels.input);
        raise(&self.meters.output, levels.output);
        raise(&self.meters.reduction, 1.0 - levels.gain);
    }

    /// Shows that `samples` samples at `rate` Hz took `time`; too long is a dropout if it was `live`.
    pub fn took(&mut self, time: Duration, samples: usize, rate: f32, live: bool) {
        self.measured += time;
        self.samples += samples;
        if self.samples < MEASURED {
            return;
        }
        let share = self.measured.as_secs_f32() * rate / self.samples as f32;
        self.load = self.load * LOAD_KEPT + share * (1.0 - LOAD_KEPT);
        self.meters.load.store(self.load, Ordering::Relaxed);
        self.meters.worst.fetch_max(share, Ordering::Relaxed);
        if live && share > 1.0 {
            self.meters.dropouts.fetch_add(1, Ordering::Relaxed);
        }
        (self.measured, self.samples) = (Duration::ZERO, 0);
    }
}

impl Observer for Feed {
    fn step(&mut self, step: &Step) {
        if self.is_watched() {
            let _ = self.steps.push(*step);
        }
    }
}
