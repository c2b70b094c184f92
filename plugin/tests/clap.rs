//! The CLAP in a host: clack loads what cargo built, as a host does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::CString;
use std::io::Cursor;
use std::path::PathBuf;

use clack_extensions::latency::PluginLatency;
use clack_extensions::params::{ParamInfoBuffer, PluginParams};
use clack_extensions::state::PluginState;
use clack_host::events::event_types::ParamValueEvent;
use clack_host::prelude::*;

const ID: &std::ffi::CStr = c"org.tessera-codec.tessera";

fn entry() -> PluginEntry {
    let test = std::env::current_exe().unwrap();
    let name =
        format!("{}tessera_plugin{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let library: PathBuf = test.with_file_name(name);
    // SAFETY: this is our own plugin, built together with this test.
    unsafe { PluginEntry::load(&library) }.unwrap()
}

struct Instance {
    plugin: PluginInstance<()>,
}

impl Instance {
    fn new() -> Self {
        let info = HostInfo::new("Tessera's tests", "Tessera", "", "1").unwrap();
        let plugin = PluginInstance::<()>::new(|()| (), |()| (), &entry(), ID, &info).unwrap();
        Self { plugin }
    }

    fn extension<
        E: clack_host::extensions::Extension<
                ExtensionSide = clack_host::extensions::PluginExtensionSide,
            >,
    >(
        &self,
    ) -> E {
        self.plugin.plugin_shared_handle().get_extension().unwrap()
    }

    fn save(&mut self) -> Vec<u8> {
        let state: PluginState = self.extension();
        let mut bytes = Vec::new();
        state.save(&self.plugin.plugin_handle(), &mut bytes).unwrap();
        bytes
    }

    fn load(&mut self, bytes: &[u8]) -> bool {
        let state: PluginState = self.extension();
        state.load(&self.plugin.plugin_handle(), &mut Cursor::new(bytes)).is_ok()
    }

    /// Ids, ranges and names of the parameters.
    fn params(&mut self) -> Vec<(ClapId, f64, f64, String)> {
        let params: PluginParams = self.extension();
        let handle = self.plugin.plugin_handle();
        let mut buffer = ParamInfoBuffer::new();
        (0..params.count(&handle))
            .map(|index| {
                let info = params.get_info(&handle, index, &mut buffer).unwrap();
                let name = String::from_utf8_lossy(info.name).into_owned();
                (info.id, info.min_value, info.max_value, name)
            })
            .collect()
    }

    fn param(&mut self, name: &str) -> ClapId {
        self.params().into_iter().find(|(.., known)| known == name).unwrap().0
    }

    fn set(&mut self, name: &str, value: f64) {
        let id = self.param(name);
        let params: PluginParams = self.extension();
        let events = [ParamValueEvent::new(0, id, Pckn::match_all(), value)];
        let mut none = EventBuffer::new();
        let mut handle = self.plugin.inactive_plugin_handle().unwrap();
        params.flush(
            &mut handle,
            &InputEvents::from_buffer(&events),
            &mut OutputEvents::from_buffer(&mut none),
        );
    }

    /// Runs two channels through in blocks, with automation: parameter, sample, value. Gives what comes out
    /// and the latency.
    fn render(
        &mut self,
        sound: &[Vec<f32>; 2],
        rate: f64,
        blocks: &[usize],
        automation: &[(ClapId, usize, f64)],
    ) -> ([Vec<f32>; 2], usize) {
        let config = PluginAudioConfiguration {
            sample_rate: rate,
            min_frames_count: 1,
            max_frames_count: 16_384,
        };
        let latency: PluginLatency = self.extension();
        let stopped = self.plugin.activate(|(), ()| (), config).unwrap();
        let latency = latency.get(&self.plugin.plugin_handle()) as usize;
        let mut processor = stopped.start_processing().unwrap();
        let mut ports = [AudioPorts::with_capacity(2, 1), AudioPorts::with_capacity(2, 1)];
        let [input_ports, output_ports] = &mut ports;
        let mut out = [Vec::new(), Vec::new()];
        let mut at = 0;
        for size in blocks.iter().cycle() {
            let end = (at + size).min(sound[0].len());
            let events: Vec<ParamValueEvent> = automation
                .iter()
                .filter(|(_, time, _)| (at..end).contains(time))
                .map(|(id, time, value)| {
                    ParamValueEvent::new((time - at) as u32, *id, Pckn::match_all(), *value)
                })
                .collect();
            let mut input = sound.each_ref().map(|channel| channel[at..end].to_vec());
            let mut output = [vec![0.0f32; end - at], vec![0.0f32; end - at]];
            let input = input_ports.with_input_buffers([AudioPortBuffer {
                latency: 0,
                channels: AudioPortBufferType::f32_input_only(
                    input.iter_mut().map(InputChannel::variable),
                ),
            }]);
            let mut output_audio = output_ports.with_output_buffers([AudioPortBuffer {
                latency: 0,
                channels: AudioPortBufferType::f32_output_only(
                    output.iter_mut().map(Vec::as_mut_slice),
                ),
            }]);
            let mut none = EventBuffer::new();
            processor
                .process(
                    &input,
                    &mut output_audio,
                    &InputEvents::from_buffer(&events),
                    &mut OutputEvents::from_buffer(&mut none),
                    None,
                    None,
                )
                .unwrap();
            for (out, block) in out.iter_mut().zip(&output) {
                out.extend_from_slice(block);
            }
            at = end;
            if at == sound[0].len() {
                break;
            }
        }
        self.plugin.deactivate(processor.stop_processing());
        (out, latency)
    }
}

fn sound(samples: usize) -> [Vec<f32>; 2] {
    [220.0f32, 331.0].map(|pitch| {
        (0..samples)
            .map(|n| (n as f32 / 48_000.0 * pitch * std::f32::consts::TAU).sin() * 0.4)
            .collect()
    })
}

#[test]
fn states_come_back_byte_for_byte_and_broken_ones_change_nothing() {
    let mut first = Instance::new();
    first.set("Mutate", 0.25);
    first.set("Shift", 1.0);
    let saved = first.save();
    let mut second = Instance::new();
    assert_ne!(second.save(), saved);
    assert!(second.load(&saved));
    assert_eq!(second.save(), saved);
    let mut noise = saved.clone();
    noise.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 151 + 7) as u8);
    for broken in
        [&[][..], &saved[..1], &saved[..saved.len() / 2], &saved[..saved.len() - 1], &noise]
    {
        assert!(!second.load(broken), "{} bytes", broken.len());
        assert_eq!(second.save(), saved);
    }
}

#[test]
fn automation_and_blocks_are_exact_to_the_sample() {
    let sound = sound(20_000);
    let mut instance = Instance::new();
    let (mutate, mix) = (instance.param("Mutate"), instance.param("Mix"));
    let automation = [(mutate, 3_333, 0.7), (mix, 9_001, 0.3), (mutate, 12_000, 0.0)];
    // Once so that every render begins with what the last event of the one before left.
    let (_, latency) = instance.render(&sound, 48_000.0, &[512], &automation);
    assert_eq!(latency, 5352);
    let (first, _) = instance.render(&sound, 48_000.0, &[512], &automation);
    for blocks in [&[64][..], &[1, 1000, 13], &[16_384]] {
        let (other, _) = instance.render(&sound, 48_000.0, blocks, &automation);
        assert_eq!(other, first, "{blocks:?}");
    }
}

#[test]
fn rates_from_1_to_768_khz() {
    let sound = sound(6000);
    let mut instance = Instance::new();
    let mut last = 0;
    for rate in [1000.0, 11_025.0, 44_100.0, 48_000.0, 88_200.5, 192_000.0, 768_000.0] {
        let (out, latency) = instance.render(&sound, rate, &[480, 31], &[]);
        assert!(out.iter().flatten().all(|s| *s == 0.0 || s.is_normal()), "{rate} Hz");
        assert!(latency > last, "{rate} Hz: {latency}");
        last = latency;
    }
}

#[test]
fn every_parameter_has_text_for_its_range() {
    let mut instance = Instance::new();
    let params = instance.params();
    assert!(params.len() >= 20);
    let extension: PluginParams = instance.extension();
    let handle = instance.plugin.plugin_handle();
    for (id, min, max, name) in params {
        for share in [0.0, 0.3, 1.0] {
            let value = min + (max - min) * share;
            let mut buffer = [0; 128];
            let text = extension.value_to_text(&handle, id, value, &mut buffer).unwrap().to_vec();
            let back = extension.text_to_value(&handle, id, &CString::new(text).unwrap());
            let back = back.unwrap_or_else(|| panic!("{name}: no value for its own text"));
            assert!((min..=max).contains(&back), "{name}: {back}");
        }
    }
}
