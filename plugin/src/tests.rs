//! The plugin in the hands of a host that is played here.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use nice_plug::context::process::SendEventError;
use nice_plug::params::InternalParamMut;
use proptest::prelude::*;
use tessera_codec::Shipped;
use tessera_codec::engine::Model;
use tessera_codec::lines::Selection;

use super::coded::coded;
use super::*;

/// `Choice::Folder` as hosts say it: the second of three.
const FROM_FOLDER: f32 = 0.5;
/// `Choice::Live`.
const LOW_LATENCY: f32 = 1.0;

/// Both of the contexts a host hands over.
struct Host {
    latency: Cell<Option<u32>>,
    tasks: RefCell<Vec<Task>>,
    transport: Transport,
}

impl Host {
    fn new() -> Self {
        let transport = Transport::new(48_000.0);
        Self { latency: Cell::new(None), tasks: RefCell::default(), transport }
    }
}

impl ActivateContext<Tessera> for Host {
    fn plugin_api(&self) -> PluginApi {
        PluginApi::Clap
    }
    fn execute(&self, task: Task) {
        self.tasks.borrow_mut().push(task);
    }
    fn set_latency_samples(&self, samples: u32) {
        self.latency.set(Some(samples));
    }
    fn set_current_voice_capacity(&self, _capacity: u32) {}
}

impl ProcessContext<Tessera> for Host {
    fn plugin_api(&self) -> PluginApi {
        PluginApi::Clap
    }
    fn execute_background(&self, task: Task) {
        self.tasks.borrow_mut().push(task);
    }
    fn execute_gui(&self, _task: Task) {}
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

/// A plugin in its host.
struct Session {
    plugin: Tessera,
    host: Host,
    executor: TaskExecutor<Tessera>,
    channels: usize,
}

impl Session {
    fn new(rate: f32, channels: usize) -> Self {
        let mut plugin = Tessera::default();
        let executor = plugin.task_executor();
        let mut session = Self { plugin, host: Host::new(), executor, channels };
        assert!(session.activate(rate), "{rate} Hz");
        session
    }

    fn activate(&mut self, rate: f32) -> bool {
        let layout = &Tessera::AUDIO_IO_LAYOUTS[2 - self.channels];
        let config = BufferConfig {
            sample_rate: rate,
            min_buffer_size: None,
            max_buffer_size: 16_384,
            process_mode: ProcessMode::Realtime,
        };
        self.host.transport.sample_rate = rate;
        let active = self.plugin.activate(layout, &config, &mut self.host);
        self.plugin.reset();
        active
    }

    fn latency(&self) -> usize {
        self.host.latency.get().unwrap() as usize
    }

    /// Runs sound through in blocks of the given sizes, over and over, with background tasks between them.
    fn run(&mut self, sound: &[Vec<f32>], blocks: &[usize]) -> Vec<Vec<f32>> {
        let mut out = sound.to_vec();
        let mut at = 0;
        for size in blocks.iter().cycle() {
            let end = (at + size).min(sound[0].len());
            let mut buffer = Buffer::default();
            // SAFETY: the slices outlive the buffer and are of one length.
            unsafe {
                buffer.set_slices(end - at, |slices| {
                    *slices = out.iter_mut().map(|channel| &mut channel[at..end]).collect();
                });
            }
            let mut aux = AuxiliaryBuffers { inputs: &mut [], outputs: &mut [] };
            self.plugin.process(&mut buffer, &mut aux, &mut self.host);
            for task in self.host.tasks.take() {
                (self.executor)(task);
            }
            at = end;
            if at == sound[0].len() {
                return out;
            }
        }
        out
    }

    /// Sets a parameter, as automation does.
    fn set(&self, id: &str, normalized: f32) {
        let map = self.plugin.params.param_map();
        let (_, param, _) = map.iter().find(|(known, ..)| known == id).unwrap();
        // SAFETY: the parameters live as long as the plugin.
        unsafe {
            match param {
                ParamPtr::FloatParam(p) => (**p)._internal_set_normalized_value(normalized),
                ParamPtr::IntParam(p) => (**p)._internal_set_normalized_value(normalized),
                ParamPtr::BoolParam(p) => (**p)._internal_set_normalized_value(normalized),
                ParamPtr::EnumParam(p) => (**p)._internal_set_normalized_value(normalized),
            };
            if let ParamPtr::FloatParam(p) = param {
                (**p)._internal_update_smoother(48_000.0, false);
            }
        }
    }
}

fn sound(channels: usize, samples: usize) -> Vec<Vec<f32>> {
    (0..channels)
        .map(|channel| {
            (0..samples)
                .map(|n| {
                    let t = n as f32 / 48_000.0 * (1.0 + channel as f32 * 0.3);
                    let high = (t * 14_000.0).sin() * 0.1;
                    (t * 1800.0).sin() * 0.3 + ((t * 400.0).sin() * 40.0).sin() * 0.2 + high
                })
                .collect()
        })
        .collect()
}

#[test]
fn at_its_defaults_it_is_the_codec_bit_for_bit_in_blocks_of_any_size() {
    for (channels, shipped, model, late) in [
        (2, Shipped::General, 0.0, 5280),
        (1, Shipped::General, 0.0, 5280),
        (2, Shipped::Live, LOW_LATENCY, 2160),
    ] {
        let sound = sound(channels, 24_000);
        let codec = Model::load_shipped(shipped).unwrap();
        let (levels, lines) =
            (codec.levels(), Selection::suiting(codec.config(), usize::MAX).live());
        let coded: Vec<Vec<f32>> =
            sound.iter().map(|channel| coded(&codec, channel, levels, lines)).collect();
        for blocks in [&[512][..], &[1, 1999, 64, 3, 8192], &[24_000]] {
            let mut session = Session::new(48_000.0, channels);
            session.set("model", model);
            assert!(session.activate(48_000.0));
            let out = session.run(&sound, blocks);
            let latency = session.latency();
            assert_eq!(latency, late + 72);
            for (out, coded) in out.iter().zip(&coded) {
                assert!(out[..latency].iter().all(|sample| *sample == 0.0));
                assert_eq!(out[latency..], coded[..24_000 - latency], "{shipped:?} {blocks:?}");
            }
        }
    }
}

#[test]
fn a_high_tone_comes_back_as_a_tone_unless_lines_are_off() {
    let rate = 44_100.0;
    let turn = |n: usize, hz: f32| f64::from(hz) * n as f64 / 44_100.0 * std::f64::consts::TAU;
    let tone = |n| (0.3 * turn(n, 3_000.0).sin()) as f32;
    let sound = vec![(0..88_200).map(tone).collect::<Vec<f32>>(); 2];
    // The most that there is within 6 cents of the tone, of the last half second, in dB of what came in.
    let level = |out: &[f32]| {
        let at = |cents: f32| {
            let hz = 3_000.0 * (cents / 1200.0).exp2();
            let [cos, sin] = [f64::cos, f64::sin].map(|shape| {
                let part = out.iter().enumerate().skip(out.len() - 22_050);
                part.map(|(n, x)| f64::from(*x) * shape(turn(n, hz))).sum::<f64>() / 11_025.0
            });
            20.0 * (cos.hypot(sin) / 0.3).log10()
        };
        (-12..=12).map(|half| at(half as f32 / 2.0)).fold(f64::MIN, f64::max)
    };
    let mut session = Session::new(rate, 2);
    let drawn = session.run(&sound, &[512]);
    assert!(drawn.iter().all(|out| level(out).abs() < 3.0), "{}", level(&drawn[0]));
    session.set("lines", 0.0);
    session.plugin.reset();
    let noise = session.run(&sound, &[512]);
    assert!(noise.iter().all(|out| level(out) < -20.0), "{}", level(&noise[0]));
}

#[test]
fn bypassed_and_dry_sound_is_the_input_in_time() {
    for rate in [48_000.0, 44_100.0, 7_999.5] {
        let sound = sound(2, 30_000);
        for (id, value) in [("bypass", 1.0), ("mix", 0.0)] {
            let mut session = Session::new(rate, 2);
            session.set(id, value);
            session.run(&self::sound(2, 2000), &[100]);
            session.plugin.reset();
            let out = session.run(&sound, &[480, 7]);
            let latency = session.latency();
            for (out, sound) in out.iter().zip(&sound) {
                assert_eq!(out[latency..], sound[..30_000 - latency], "{id} at {rate} Hz");
            }
        }
    }
}

#[test]
fn activating_again_and_reset_begin_anew() {
    let mut session = Session::new(48_000.0, 2);
    let sound = sound(2, 12_000);
    let first = session.run(&sound, &[500]);
    for _ in 0..100 {
        assert!(session.activate(48_000.0));
    }
    assert_eq!(session.run(&sound, &[333]), first);
    session.plugin.reset();
    assert_eq!(session.run(&sound, &[64]), first);
}

#[test]
fn every_rate_has_its_own_latency_and_the_same_sound_in_all_blocks() {
    let sound = sound(1, 16_000);
    for rate in
        [1000.0, 8000.0, 22_050.0, 44_100.0, 47_999.5, 88_200.0, 96_000.0, 192_000.0, 768_000.0]
    {
        let mut session = Session::new(rate, 1);
        let first = session.run(&sound, &[64]);
        let latency = session.latency();
        // The codec's 110 ms, the limiter's, and two filters of 64 samples of the lower rate.
        let seconds = latency as f32 / rate;
        let filters = if rate == 48_000.0 { 0.0 } else { 128.0 / rate.min(48_000.0) };
        assert!((seconds - 0.1115 - filters).abs() < 0.001 + 2.0 / rate, "{rate} Hz: {seconds} s");
        assert!(session.activate(rate));
        assert_eq!(session.run(&sound, &[1000, 13, 1]), first, "{rate} Hz");
        assert_eq!(session.latency(), latency);
    }
}

#[test]
fn absurd_rates_are_refused() {
    let mut session = Session::new(48_000.0, 2);
    for rate in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(!session.activate(rate));
        let out = session.run(&sound(2, 100), &[100]);
        assert!(out.iter().flatten().all(|sample| *sample == 0.0), "silent");
    }
    assert!(session.activate(44_100.0));
}

#[test]
fn silence_ends_in_digital_silence() {
    let mut session = Session::new(44_100.0, 2);
    session.run(&sound(2, 20_000), &[512]);
    let silence = vec![vec![0.0; 100_000]; 2];
    let out = session.run(&silence, &[512]);
    let tail = session.latency() + (TAIL * 44_100.0) as usize;
    assert!(out[0][..tail / 2].iter().any(|sample| *sample != 0.0));
    assert!(out.iter().all(|channel| channel[tail..].iter().all(|sample| *sample == 0.0)));
}

/// A copy of the shipped model under another name: another id, the same sound.
fn renamed_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tessera-48k");
    let config = std::fs::read_to_string(shipped.join("config.json")).unwrap();
    let renamed = config.replace("\"tessera-48k\"", "\"another\"");
    assert_ne!(config, renamed);
    std::fs::write(folder.path().join("config.json"), renamed).unwrap();
    std::fs::copy(shipped.join("weights.safetensors"), folder.path().join("weights.safetensors"))
        .unwrap();
    folder
}

#[test]
fn a_model_is_swapped_without_a_gap() {
    let folder = renamed_model();
    let sound = sound(2, 72_000);
    let mut session = Session::new(48_000.0, 2);
    let before = session.run(&sound, &[512]);
    session.plugin.reset();
    let mut out =
        session.run(&sound.iter().map(|c| c[..19_200].to_vec()).collect::<Vec<_>>(), &[512]);
    session.plugin.models.choose(folder.path().into());
    session.set("model", FROM_FOLDER);
    let rest = session.run(&sound.iter().map(|c| c[19_200..].to_vec()).collect::<Vec<_>>(), &[512]);
    assert_eq!(session.plugin.models.status().name, "another");
    assert_eq!(session.plugin.models.status().problem, None);
    let line = session.plugin.processor.as_ref().unwrap().line();
    assert_eq!(line.loaded().model.config().name, "another");
    for ((out, rest), before) in out.iter_mut().zip(rest).zip(before) {
        out.extend(rest);
        // Same weights, but begun later: noise differs, the sound does not. No sample jumps.
        let jump = |s: &[f32]| s.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
        assert!(jump(out) < 2.0 * jump(&before), "{} {}", jump(out), jump(&before));
        let power = |s: &[f32]| s.iter().map(|s| s * s).sum::<f32>();
        for (out, before) in out.chunks(4800).zip(before.chunks(4800)).skip(2) {
            let ratio = power(out) / power(before);
            assert!((0.5..2.0).contains(&ratio), "{ratio}");
        }
    }
}

#[test]
fn a_state_that_is_loaded_while_it_plays_brings_its_model() {
    let folder = renamed_model();
    let sound = sound(2, 24_000);
    let mut session = Session::new(48_000.0, 2);
    let state = session.plugin.params.serialize_fields();
    session.plugin.models.choose(folder.path().into());
    session.set("model", FROM_FOLDER);
    session.run(&sound, &[512]);
    assert_eq!(session.plugin.models.status().name, "another");
    // The parameter is the same in both; only the folder tells them apart.
    let with_model = session.plugin.params.serialize_fields();
    for (state, name) in [(&state, "tessera-48k"), (&with_model, "another")] {
        session.plugin.params.deserialize_fields(state);
        session.run(&sound, &[512]);
        assert_eq!(session.plugin.models.status().name, name);
        assert_eq!(session.plugin.params.serialize_fields(), *state);
    }
    // What is there already is not asked for again.
    let chosen = session.plugin.models.chosen();
    session.plugin.params.deserialize_fields(&with_model);
    assert_eq!(session.plugin.models.chosen(), chosen);
}

#[test]
fn a_bad_folder_changes_nothing_but_the_message() {
    let sound = sound(1, 12_000);
    let mut session = Session::new(48_000.0, 1);
    let before = session.run(&sound, &[512]);
    session.plugin.reset();
    session.plugin.models.choose(PathBuf::from("/nowhere"));
    session.set("model", FROM_FOLDER);
    assert_eq!(session.run(&sound, &[512]), before);
    assert!(session.plugin.models.status().problem.unwrap().contains("/nowhere"));
    // Saved like that and loaded again, the built-in model plays and the message is there.
    assert!(session.activate(48_000.0));
    assert_eq!(session.run(&sound, &[512]), before);
    assert!(session.plugin.models.status().problem.unwrap().contains("/nowhere"));
}

#[test]
fn states_are_repaired() {
    let params = Tessera::default().params;
    let text = r#"{"version": "9.9", "params": {
        "mix": {"f32": 7e30}, "input": {"f32": -1e30}, "levels": {"i32": 900}, "width": {"bool": true},
        "seed": {"i32": -5}, "smear_sync": {"string": "8th"}, "what": {"f32": 1.0},
        "model": {"string": "another"}
    }, "fields": {"model": "no folder"}}"#;
    let mut state: PluginState = serde_json::from_str(text).unwrap();
    Tessera::filter_state(&mut state);
    let json = serde_json::to_value(&state.params).unwrap();
    assert_eq!(json["mix"]["f32"], 1.0);
    assert_eq!(json["input"]["f32"], -24.0);
    assert_eq!(json["levels"]["i32"], crate::params::LEVELS);
    assert_eq!(json["seed"]["i32"], 0);
    assert_eq!(json["smear_sync"]["string"], "8th");
    assert_eq!(json["width"]["f32"], 1.0, "the default");
    assert_eq!(json.get("what"), None);
    assert_eq!(state.params.len(), params.param_map().len());
    // A name that is none, and a folder that cannot be read, are as good as missing.
    assert_eq!(json["model"]["string"], "embedded");
    let nowhere = serde_json::to_string(&crate::models::Source::default()).unwrap();
    assert_eq!(state.fields["model"], nowhere);
    let once = state.clone();
    Tessera::filter_state(&mut state);
    assert_eq!(serde_json::to_string(&state).unwrap(), serde_json::to_string(&once).unwrap());
}

#[test]
fn parameters_have_names_texts_and_values_that_fit() {
    let params = Tessera::default().params;
    for (id, param, _) in params.param_map() {
        // SAFETY: `params` lives to the end of this function.
        unsafe {
            assert!(!param.name().is_empty());
            for step in 0..=20 {
                let value = param.preview_normalized(param.preview_plain(step as f32 / 20.0));
                let text = param.normalized_value_to_string(value, true);
                let back = param.string_to_normalized_value(&text);
                let back = back.unwrap_or_else(|| panic!("{id}: {text:?} is no value"));
                let again = param.normalized_value_to_string(back, true);
                assert_eq!(again, text, "{id}");
                let near = param.step_count().is_some() || (back - value).abs() < 0.01;
                assert!(near, "{id}: {text:?}");
            }
            // Switches take any text as "off".
            if param.step_count() != Some(1) {
                assert_eq!(param.string_to_normalized_value("what?"), None, "{id}");
            }
        }
    }
    let levels = &params.levels;
    let texts = [0.0, 0.2, 0.5, 1.0].map(|value| levels.normalized_value_to_string(value, true));
    assert_eq!(texts, ["1 (0.25 kbps)", "2 (0.75 kbps)", "4 (2.75 kbps)", "7 (5.25 kbps)"]);
}

/// What hosts are not supposed to send, and do.
fn hostile() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -1.0f32..1.0,
        1 => Just(0.0),
        1 => prop_oneof![
            Just(f32::NAN), Just(f32::INFINITY), Just(f32::MAX), Just(-f32::MAX), Just(1e-40), Just(1e20)
        ],
    ]
}

/// Sets of parameters that are tried: few in every test run, 10,000 with the environment variable
/// `TESSERA_PARAMETER_SETS`.
fn sets() -> u32 {
    std::env::var("TESSERA_PARAMETER_SETS").ok().and_then(|sets| sets.parse().ok()).unwrap_or(24)
}

#[test]
fn nothing_makes_bad_samples_or_passes_the_limiter() {
    let ids: Vec<String> =
        Tessera::default().params.param_map().into_iter().map(|(id, ..)| id).collect();
    let session = RefCell::new(Session::new(48_000.0, 2));
    let values =
        prop::collection::vec(prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..=1.0], ids.len());
    let strategy = (values, prop::collection::vec(hostile(), 64), 1usize..600);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(sets()));
    runner
        .run(&strategy, |(values, pattern, block)| {
            let mut session = session.borrow_mut();
            for (id, value) in ids.iter().zip(&values) {
                // Bypass is not limited, and the folder is empty.
                if id != "bypass" && id != "model" {
                    session.set(id, *value);
                }
            }
            // Once with what the limiter has inside from before, then for certain.
            let input: Vec<Vec<f32>> = (0..2)
                .map(|c| pattern.iter().cycle().skip(c).take(6000).copied().collect())
                .collect();
            let out = session.run(&input, &[block]);
            for sample in out.iter().flatten() {
                prop_assert!(*sample == 0.0 || sample.is_normal(), "{sample}");
            }
            let params = session.plugin.params.clone();
            if params.limiter.value() {
                let ceiling = 10f32.powf(params.ceiling.value() / 20.0) * 1.000_001;
                prop_assert!(out.iter().flatten().all(|sample| sample.abs() <= ceiling));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn effects_render_the_same_every_time() {
    let sound = sound(2, 48_000);
    let render = |blocks: &[usize]| {
        let mut session = Session::new(44_100.0, 2);
        for (id, value) in [("mutate", 0.4), ("shuffle", 0.3), ("loss", 0.2), ("smear", 0.05)] {
            session.set(id, value);
        }
        session.run(&sound, blocks)
    };
    let first = render(&[512]);
    assert_eq!(first, render(&[1024, 33]));
    let plain = Session::new(44_100.0, 2).run(&sound, &[512]);
    assert_ne!(first, plain);
}
