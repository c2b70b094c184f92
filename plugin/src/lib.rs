//! Tessera as a CLAP and VST3 effect.
//!
//! This version loads in a host and passes audio through, bit for bit and without latency; the
//! codec takes its place in `process` once the allocation-free engine exists. There is no
//! editor yet: hosts show the parameters in their own view.

use std::num::NonZeroU32;
use std::sync::Arc;

use nice_plug::prelude::*;

/// What the host can automate and what it saves with a project.
#[derive(Params)]
pub struct TesseraParams {
    /// The host's bypass switch.
    #[id = "bypass"]
    pub bypass: BoolParam,
}

impl Default for TesseraParams {
    fn default() -> Self {
        Self { bypass: BoolParam::new("Bypass", false).make_bypass() }
    }
}

/// The effect: one instance per track.
#[derive(Default)]
pub struct Tessera {
    params: Arc<TesseraParams>,
}

impl Tessera {
    /// The delay that is reported to the host, in samples.
    pub const LATENCY: u32 = 0;
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

    type Editor = ();
    type SysExMessage = ();
    type BackgroundTask = ();

    fn params(&self) -> Arc<dyn Params> {
        self.params.clone()
    }

    // Hosts call this many times, some twice a render: it stays cheap and repeatable.
    fn activate(
        &mut self,
        _layout: &AudioIOLayout,
        _config: &BufferConfig,
        context: &mut impl ActivateContext<Self>,
    ) -> bool {
        context.set_latency_samples(Self::LATENCY);
        true
    }

    // Input and output share the buffer, so that passing through, bypassed or not, is to leave it
    // alone. Runs on the audio thread: nothing here may allocate, lock or wait.
    fn process(
        &mut self,
        _buffer: &mut Buffer,
        _aux: &mut AuxiliaryBuffers,
        _context: &mut impl ProcessContext<Self>,
    ) -> ProcessStatus {
        ProcessStatus::Normal
    }
}

impl ClapPlugin for Tessera {
    const CLAP_ID: &'static str = "org.tessera-codec.tessera";
    const CLAP_DESCRIPTION: Option<&'static str> = Some("Neural audio codec");
    const CLAP_MANUAL_URL: Option<&'static str> = None;
    const CLAP_SUPPORT_URL: Option<&'static str> = None;
    const CLAP_FEATURES: &'static [ClapFeature] =
        &[ClapFeature::AudioEffect, ClapFeature::Stereo, ClapFeature::Mono];
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
mod tests {
    use std::cell::Cell;

    use nice_plug::context::process::SendEventError;

    use super::*;

    /// Both of the contexts a host hands over; keeps the latency that it is told.
    struct Host {
        latency: Cell<Option<u32>>,
        transport: Transport,
    }

    impl Host {
        fn new() -> Self {
            Self { latency: Cell::new(None), transport: Transport::new(48_000.0) }
        }
    }

    impl ActivateContext<Tessera> for Host {
        fn plugin_api(&self) -> PluginApi {
            PluginApi::Clap
        }
        fn execute(&self, (): ()) {}
        fn set_latency_samples(&self, samples: u32) {
            self.latency.set(Some(samples));
        }
        fn set_current_voice_capacity(&self, _capacity: u32) {}
    }

    impl ProcessContext<Tessera> for Host {
        fn plugin_api(&self) -> PluginApi {
            PluginApi::Clap
        }
        fn execute_background(&self, (): ()) {}
        fn execute_gui(&self, (): ()) {}
        fn transport(&self) -> &Transport {
            &self.transport
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
            self.latency.set(Some(samples));
        }
        fn request_restart(&self) {}
        fn set_current_voice_capacity(&self, _capacity: u32) {}
    }

    /// Runs `blocks` through an activated instance, as a host does, and holds what comes out against what went in.
    fn run(plugin: &mut Tessera, layout: &AudioIOLayout, blocks: &[usize]) {
        let mut host = Host::new();
        let config = BufferConfig {
            sample_rate: 48_000.0,
            min_buffer_size: None,
            max_buffer_size: 16_384,
            process_mode: ProcessMode::Realtime,
        };
        assert!(plugin.activate(layout, &config, &mut host));
        plugin.reset();
        assert_eq!(host.latency.get(), Some(Tessera::LATENCY));
        let channels = layout.main_output_channels.map_or(0, NonZeroU32::get) as usize;
        let (mut input, mut output) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
        for &samples in blocks {
            let mut block: [Vec<f32>; 2] = std::array::from_fn(|channel| {
                let start = input[channel].len();
                (start..start + samples).map(|n| (n * (channel + 1)) as f32 * 1e-3).collect()
            });
            for (input, block) in input.iter_mut().zip(&block) {
                input.extend_from_slice(block);
            }
            let mut buffer = Buffer::default();
            // SAFETY: the slices outlive the buffer and all have `samples` samples.
            unsafe {
                buffer.set_slices(samples, |slices| {
                    *slices = block.iter_mut().take(channels).map(Vec::as_mut_slice).collect();
                });
            }
            let mut aux = AuxiliaryBuffers { inputs: &mut [], outputs: &mut [] };
            let status = plugin.process(&mut buffer, &mut aux, &mut host);
            assert_eq!(status, ProcessStatus::Normal);
            for (output, block) in output.iter_mut().zip(&block) {
                output.extend_from_slice(block);
            }
        }
        assert_eq!(output, input, "{channels} channels");
    }

    #[test]
    fn audio_passes_through_in_blocks_of_any_size() {
        for layout in Tessera::AUDIO_IO_LAYOUTS {
            let mut plugin = Tessera::default();
            for blocks in [&[1, 16_384, 0, 7][..], &[512; 4], &[]] {
                run(&mut plugin, layout, blocks);
            }
            plugin.deactivate();
        }
    }

    #[test]
    fn layouts_are_stereo_first_then_mono() {
        let channels = Tessera::AUDIO_IO_LAYOUTS.iter().map(|layout| {
            assert_eq!(layout.main_input_channels, layout.main_output_channels);
            layout.main_output_channels.map(NonZeroU32::get)
        });
        assert_eq!(channels.collect::<Vec<_>>(), [Some(2), Some(1)]);
    }

    #[test]
    fn hosts_see_one_bypass_switch() {
        let params = Tessera::default().params();
        let map = params.param_map();
        assert_eq!(map.iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(), ["bypass"]);
        let bypass = map[0].1;
        // SAFETY: `params` lives to the end of this function.
        unsafe {
            assert_eq!(bypass.name(), "Bypass");
            assert!(bypass.flags().contains(ParamFlags::BYPASS));
            assert_eq!(bypass.default_normalized_value(), 0.0);
        }
    }
}
