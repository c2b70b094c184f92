//! The plugin's window with a sound going through it, over and over, as fast as it would be played: for
//! pictures, and for measuring what the window takes. There is nothing to hear.
//!
//! ```sh
//! cargo run --release -p tessera-plugin --features standalone --example window -- SOUND.wav
//! cargo run --release -p tessera-plugin --features standalone --example window -- SOUND.wav SECONDS
//! cargo run --release -p tessera-plugin --features standalone --example window -- SOUND.wav SECONDS closed
//! ```
//!
//! The second ends after so many seconds and says what CPU time they took: the audio thread's, that of the
//! threads with which Mesa draws where there is no GPU, and all the rest's, which is the window's. The third
//! does the same without a window. `docs/images/plugin.png` was made with the first, on a screen of
//! `Xvfb -screen 0 960x640x24`, with `import -window root`, in blocks of 1024: that machine paused all
//! programs for longer than 256 samples take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nice_plug::context::process::SendEventError;
use nice_plug::prelude::*;
use tessera_codec::audio;
use tessera_plugin::{Task, Tessera};

/// Seconds before measuring, in which the window opens.
const SETTLING: u64 = 5;

/// Samples of a block.
const BLOCK: &str = "256";

struct Fed {
    /// By channel; one that is missing sounds like the first.
    sound: Vec<Vec<f32>>,
    rate: u32,
    open: bool,
}

static FED: OnceLock<Fed> = OnceLock::new();

/// CPU time of the audio thread so far, in nanoseconds.
static AUDIO: AtomicU64 = AtomicU64::new(0);

/// Tessera, hearing what it is fed.
#[derive(Default)]
struct Listening {
    tessera: Tessera,
    at: usize,
}

/// A context for [`Listening`] as one for [`Tessera`].
struct Passed<'a, C>(&'a mut C);

impl<C: ActivateContext<Listening>> ActivateContext<Tessera> for Passed<'_, C> {
    fn plugin_api(&self) -> PluginApi {
        self.0.plugin_api()
    }
    fn execute(&self, task: Task) {
        self.0.execute(task);
    }
    fn set_latency_samples(&self, samples: u32) {
        self.0.set_latency_samples(samples);
    }
    fn set_current_voice_capacity(&self, capacity: u32) {
        self.0.set_current_voice_capacity(capacity);
    }
}

impl<C: ProcessContext<Listening>> ProcessContext<Tessera> for Passed<'_, C> {
    fn plugin_api(&self) -> PluginApi {
        self.0.plugin_api()
    }
    fn execute_background(&self, task: Task) {
        self.0.execute_background(task);
    }
    fn execute_gui(&self, task: Task) {
        self.0.execute_gui(task);
    }
    fn transport(&self) -> &Transport {
        self.0.transport()
    }
    fn next_event(&mut self) -> Option<PluginNoteEvent<Tessera>> {
        None
    }
    fn try_send_event(
        &mut self,
        event: PluginNoteEvent<Tessera>,
    ) -> Result<(), (PluginNoteEvent<Tessera>, SendEventError)> {
        Err((event, SendEventError::NoOutputBuffer))
    }
    fn set_latency_samples(&self, samples: u32) {
        self.0.set_latency_samples(samples);
    }
    fn request_restart(&self) {
        self.0.request_restart();
    }
    fn set_current_voice_capacity(&self, capacity: u32) {
        self.0.set_current_voice_capacity(capacity);
    }
}

impl Plugin for Listening {
    const NAME: &'static str = Tessera::NAME;
    const VENDOR: &'static str = Tessera::VENDOR;
    const URL: &'static str = Tessera::URL;
    const EMAIL: &'static str = Tessera::EMAIL;
    const VERSION: &'static str = Tessera::VERSION;
    const AUDIO_IO_LAYOUTS: &'static [AudioIOLayout] = Tessera::AUDIO_IO_LAYOUTS;
    const SAMPLE_ACCURATE_AUTOMATION: bool = Tessera::SAMPLE_ACCURATE_AUTOMATION;

    type Editor = <Tessera as Plugin>::Editor;
    type SysExMessage = ();
    type BackgroundTask = Task;

    fn params(&self) -> Arc<dyn Params> {
        self.tessera.params()
    }

    fn task_executor(&mut self) -> TaskExecutor<Self> {
        self.tessera.task_executor()
    }

    fn editor(&mut self, executor: AsyncExecutor<Self>) -> Option<Self::Editor> {
        if !FED.get()?.open {
            return None;
        }
        let executor = Arc::new(executor);
        let gui = executor.clone();
        self.tessera.editor(AsyncExecutor::new(
            Arc::new(move |task| executor.execute_background(task)),
            Arc::new(move |task| gui.execute_gui(task)),
        ))
    }

    fn activate(
        &mut self,
        layout: &AudioIOLayout,
        config: &BufferConfig,
        context: &mut impl ActivateContext<Self>,
    ) -> bool {
        self.tessera.activate(layout, config, &mut Passed(context))
    }

    fn reset(&mut self) {
        self.tessera.reset();
    }

    fn process(
        &mut self,
        buffer: &mut Buffer,
        aux: &mut AuxiliaryBuffers,
        context: &mut impl ProcessContext<Self>,
    ) -> ProcessStatus {
        let samples = buffer.samples();
        if let Some(Fed { sound, .. }) = FED.get() {
            for (channel, block) in buffer.as_slice().iter_mut().enumerate() {
                let sound = sound.get(channel).unwrap_or(&sound[0]);
                for (n, sample) in block.iter_mut().enumerate() {
                    *sample = sound[(self.at + n) % sound.len()];
                }
            }
        }
        self.at += samples;
        let status = self.tessera.process(buffer, aux, &mut Passed(context));
        AUDIO.store(cpu_time(libc::CLOCK_THREAD_CPUTIME_ID).as_nanos() as u64, Ordering::Relaxed);
        status
    }
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of Mesa's drawing threads; none are known but on Linux.
fn drawing() -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of = |thread: &Path| {
        let name = std::fs::read_to_string(thread.join("comm")).ok()?;
        name.starts_with("llvmpipe").then_some(())?;
        let text = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
    };
    threads.filter_map(|thread| of(&thread.ok()?.path())).sum()
}

fn measure(seconds: u64) {
    let times = || {
        let all = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID);
        [all, Duration::from_nanos(AUDIO.load(Ordering::Relaxed)), drawing()]
    };
    std::thread::sleep(Duration::from_secs(SETTLING));
    let (begun, before) = (Instant::now(), times());
    std::thread::sleep(Duration::from_secs(seconds));
    let after = times();
    let wall = begun.elapsed().as_secs_f64();
    let [all, audio, drawing] =
        std::array::from_fn(|i| (after[i] - before[i]).as_secs_f64() / wall * 100.0);
    println!(
        "{wall:.0} s, in % of a core: audio thread {audio:.2}, drawing without a GPU {drawing:.2}, \
         all the rest {:.2}",
        all - audio - drawing,
    );
    std::process::exit(0);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().expect("the first argument is a WAV file");
    let seconds = arguments.get(1).map(|text| text.parse().expect("the second is a number"));
    let mut source = audio::open(Path::new(path)).unwrap();
    let rate = source.info().sample_rate;
    let sound = audio::read_all(&mut *source, 60 * rate as usize).unwrap();
    assert!(!sound[0].is_empty(), "{path} is empty");
    let fed = FED.get_or_init(|| Fed { sound, rate, open: arguments.len() < 3 });
    if let Some(seconds) = seconds {
        std::thread::spawn(move || measure(seconds));
    }
    let rate = fed.rate.to_string();
    let options =
        ["window", "--backend", "dummy", "--period-size", BLOCK, "--sample-rate", rate.as_str()];
    nice_export_standalone_with_args::<Listening, _>(options.map(String::from));
}
