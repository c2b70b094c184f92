//! Tessera as a CLAP and VST3 effect: a neural codec whose tokens can be played.
//!
//! The codec runs on the audio thread itself ([`resynthesis`]), free of allocation and spread evenly over
//! blocks, so that a render is the same offline and live, in blocks of any size. Around it lie rate
//! conversion ([`mod@line`]) and everything a mixing desk would have ([`processor`]). Models are loaded and
//! lines are made on other threads ([`mod@exchange`]).

pub mod dsp;
pub mod editor;
pub mod exchange;
pub mod line;
pub mod line_effects;
pub mod models;
pub mod monitor;
pub mod pace;
pub mod params;
pub mod presets;
pub mod processor;
pub mod resynthesis;
mod state;
pub mod tokens;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nice_plug::prelude::*;
use nice_plug_egui::{EguiEditor, EguiEditorState};

use crate::exchange::{Host, Shelf, Workshop, exchange};
use crate::line::BLOCK;
use crate::models::{Choice, Models};
use crate::monitor::{Feed, Watch, monitor};
use crate::params::TesseraParams;
use crate::processor::{CHANNELS, Processor};

/// Seconds for which something may be heard after the input has fallen silent, beside the latency.
const TAIL: f32 = 1.5;

/// The effect: one instance per track.
pub struct Tessera {
    params: Arc<TesseraParams>,
    models: Arc<Models>,
    workshop: Arc<Workshop>,
    shelf: Shelf,
    feed: Feed,
    /// For the editor, until there is one.
    watch: Option<Watch>,
    window: Arc<EguiEditorState>,
    processor: Option<Processor>,
    /// The model last asked for.
    wanted: (Choice, u64),
    live: bool,
}

impl Default for Tessera {
    fn default() -> Self {
        let models = Arc::new(Models::default());
        let params = Arc::new(TesseraParams::new(&models));
        let (workshop, shelf) = exchange(models.clone());
        let window = editor::window();
        let (feed, watch) = monitor(window.clone());
        Self {
            wanted: (params.model.value(), models.chosen()),
            params,
            models,
            workshop,
            shelf,
            feed,
            watch: Some(watch),
            window,
            processor: None,
            live: true,
        }
    }
}

/// What is done off the audio thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Load the model that is wanted.
    Load,
    /// Drop what the audio thread is done with.
    Clear,
}

const fn layout(channels: NonZeroU32, name: &'static str) -> AudioIOLayout {
    AudioIOLayout {
        main_input_channels: Some(channels),
        main_output_channels: Some(channels),
        names: PortNames { layout: Some(name), ..PortNames::const_default() },
        ..AudioIOLayout::const_default()
    }
}

impl Plugin for Tessera {
    const NAME: &'static str = "Tessera";
    const VENDOR: &'static str = "Tessera";
    const URL: &'static str = "";
    const EMAIL: &'static str = "";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    const AUDIO_IO_LAYOUTS: &'static [AudioIOLayout] =
        &[layout(new_nonzero_u32(2), "Stereo"), layout(new_nonzero_u32(1), "Mono")];

    // Automation acts on the same samples whatever the block size.
    const SAMPLE_ACCURATE_AUTOMATION: bool = true;

    type Editor = EguiEditor<editor::App>;
    type SysExMessage = ();
    type BackgroundTask = Task;

    fn params(&self) -> Arc<dyn Params> {
        self.params.clone()
    }

    fn task_executor(&mut self) -> TaskExecutor<Self> {
        let (workshop, params) = (self.workshop.clone(), self.params.clone());
        Box::new(move |task| match task {
            Task::Load => workshop.make(params.model.value()),
            Task::Clear => workshop.clear(),
        })
    }

    fn editor(&mut self, executor: AsyncExecutor<Self>) -> Option<Self::Editor> {
        editor::create(editor::Parts {
            params: self.params.clone(),
            models: self.models.clone(),
            workshop: self.workshop.clone(),
            watch: self.watch.take()?,
            window: self.window.clone(),
            executor: Box::new(move |task| executor.execute_background(task)),
        })
    }

    fn filter_state(state: &mut PluginState) {
        state::repair(state);
    }

    // Hosts call this many times, some twice a render: what is there and fits is kept.
    fn activate(
        &mut self,
        layout: &AudioIOLayout,
        config: &BufferConfig,
        context: &mut impl ActivateContext<Self>,
    ) -> bool {
        let channels = layout.main_output_channels.map_or(0, NonZeroU32::get) as usize;
        if !(1..=CHANNELS).contains(&channels) {
            return false;
        }
        let host = Host { rate: config.sample_rate, channels };
        self.wanted = (self.params.model.value(), self.models.chosen());
        // Lines on their way were made for what was.
        while let Some(line) = self.shelf.take() {
            self.shelf.put_back(line);
        }
        let present = self.processor.as_ref().map(Processor::line);
        match self.workshop.line_for(host, self.wanted.0, present) {
            Some(line) => self.processor = Some(Processor::new(line, host.rate, channels)),
            None if self.processor.as_ref().is_some_and(|p| p.suits(host.rate, channels)) => {}
            None => {
                self.processor = None;
                return false;
            }
        }
        let latency = self.processor.as_ref().map_or(0, Processor::latency) as u32;
        let meters = &self.feed.meters;
        meters.latency.store(latency, Ordering::Relaxed);
        meters.rate.store(host.rate, Ordering::Relaxed);
        meters.channels.store(channels as u32, Ordering::Relaxed);
        self.live = config.process_mode == ProcessMode::Realtime;
        context.set_latency_samples(latency);
        true
    }

    fn reset(&mut self) {
        if let Some(processor) = &mut self.processor {
            processor.reset();
        }
    }

    // Runs on the audio thread: nothing here may allocate, lock or wait.
    fn process(
        &mut self,
        buffer: &mut Buffer,
        _aux: &mut AuxiliaryBuffers,
        context: &mut impl ProcessContext<Self>,
    ) -> ProcessStatus {
        let begun = Instant::now();
        let samples = buffer.samples();
        let Some(processor) = &mut self.processor else {
            for channel in buffer.as_slice() {
                channel.fill(0.0);
            }
            return ProcessStatus::Normal;
        };
        let wanted = (self.params.model.value(), self.models.chosen());
        if wanted != self.wanted {
            self.wanted = wanted;
            context.execute_background(Task::Load);
        }
        while let Some(line) = self.shelf.take() {
            if let Some(line) = processor.replace(line) {
                self.shelf.put_back(line);
                context.execute_background(Task::Clear);
            }
        }
        while let Ok(range) = self.feed.holds.pop() {
            processor.hold(range);
        }
        let config = processor.line().loaded().model.config();
        let frames = f64::from(config.sample_rate) / config.hop as f64;
        let settings = self.params.settings(context.transport().tempo, frames);
        let watched = self.feed.is_watched();
        let channels = buffer.as_slice();
        for start in (0..samples).step_by(BLOCK) {
            let count = BLOCK.min(samples - start);
            let mut block = [[0.0; BLOCK]; CHANNELS];
            for (block, channel) in block.iter_mut().zip(channels.iter()) {
                block[..count].copy_from_slice(&channel[start..start + count]);
            }
            let controls = self.params.controls(count, settings);
            let levels = processor.process(&mut block, count, &controls, &mut self.feed);
            for (block, channel) in block.iter().zip(channels.iter_mut()) {
                channel[start..start + count].copy_from_slice(&block[..count]);
            }
            if watched {
                self.feed.levels(levels);
                for n in 0..count {
                    let (input, output) = processor.shown(&block, count, n);
                    self.feed.sound(input, output);
                }
            }
        }
        if let Some(line) = processor.replaced() {
            self.shelf.put_back(line);
            context.execute_background(Task::Clear);
            let latency = processor.latency() as u32;
            if self.feed.meters.latency.swap(latency, Ordering::Relaxed) != latency {
                context.set_latency_samples(latency);
            }
        }
        let rate = self.feed.meters.rate.load(Ordering::Relaxed);
        self.feed.took(begun.elapsed(), samples, rate, self.live);
        if settings.tokens.freeze.contains(&true) {
            ProcessStatus::KeepAlive
        } else {
            ProcessStatus::Tail(processor.latency() as u32 + (TAIL * rate) as u32)
        }
    }
}

impl ClapPlugin for Tessera {
    const CLAP_ID: &'static str = "org.tessera-codec.tessera";
    const CLAP_DESCRIPTION: Option<&'static str> = Some("Neural audio codec whose tokens you play");
    const CLAP_MANUAL_URL: Option<&'static str> = None;
    const CLAP_SUPPORT_URL: Option<&'static str> = None;
    const CLAP_FEATURES: &'static [ClapFeature] = &[
        ClapFeature::AudioEffect,
        ClapFeature::Stereo,
        ClapFeature::Mono,
        ClapFeature::Glitch,
        ClapFeature::Distortion,
    ];
}

impl Vst3Plugin for Tessera {
    const VST3_CLASS_ID: [u8; 16] = *b"TesseraCodecFx01";
    const VST3_SUBCATEGORIES: &'static [Vst3SubCategory] =
        &[Vst3SubCategory::Fx, Vst3SubCategory::Custom("Lo-Fi")];
}

// The entry points that hosts look up. The macros write undocumented public items.
#[allow(missing_docs)]
mod entry {
    use super::Tessera;
    use nice_plug::prelude::*;

    nice_export_clap!(Tessera);
    nice_export_vst3!(Tessera);
}

#[cfg(test)]
#[path = "../tests/coded/mod.rs"]
mod coded;
#[cfg(test)]
mod tests;
