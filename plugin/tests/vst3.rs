//! The VST3 through its own interfaces, as hosts call them and as they should not.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod vst3_host;

use vst3::Steinberg::Vst::IAudioProcessorTrait;
use vst3::Steinberg::Vst::{RestartFlags_, SpeakerArr, SymbolicSampleSizes_, kInfiniteTail};
use vst3::Steinberg::kResultOk;
use vst3_host::{
    Change, Instance, MONO, STEREO, Setup, class, kOffline, kPrefetch, kRealtime, proper, text,
};

const RATES: [f64; 5] = [44_100.0, 48_000.0, 88_200.0, 96_000.0, 192_000.0];

/// Something with pitch, noise and gaps, the same sound at every rate.
fn sound(channels: usize, samples: usize, rate: f64) -> Vec<Vec<f32>> {
    (0..channels)
        .map(|channel| {
            (0..samples)
                .map(|n| {
                    let t = n as f64 / rate;
                    // A voice that glides, in syllables of 60 ms.
                    let pitch = 180.0 * (1.0 + channel as f64 * 0.5);
                    let phase = (pitch * t + 90.0 * t * t) * std::f64::consts::TAU;
                    let tone = (1..6).map(|k| (phase * f64::from(k)).sin() / f64::from(k));
                    let syllable = (t / 0.06).fract();
                    let loud = if syllable < 0.7 { (syllable * 4.4).sin().max(0.0) } else { 0.0 };
                    (tone.sum::<f64>() * loud * 0.3) as f32
                })
                .collect()
        })
        .collect()
}

/// The shift of `out` against `sound`, up to `most` samples, with which they are most alike, by every `step`th sample.
fn shift(sound: &[f32], out: &[f32], most: usize, step: usize) -> usize {
    let alike = |by: usize| -> f32 {
        let pairs = sound.iter().zip(&out[by..]).step_by(step);
        pairs.map(|(a, b)| a * b).sum()
    };
    (0..most).max_by(|a, b| alike(*a).total_cmp(&alike(*b))).unwrap()
}

#[test]
fn the_factory_has_one_effect() {
    let info = class(0).unwrap();
    assert_eq!(text(&info.category), "Audio Module Class");
    assert_eq!(text(&info.name), "Tessera");
    assert!(class(1).is_none() && class(-1).is_none());
}

#[test]
fn buses_are_stereo_or_mono_and_samples_32_bit() {
    let instance = Instance::new();
    assert_eq!(instance.buses(), [1, 1]);
    assert_eq!(instance.arrangement(), [STEREO, STEREO]);
    for (input, output) in
        [(SpeakerArr::k51, SpeakerArr::k51), (MONO, STEREO), (STEREO, MONO), (0, 0)]
    {
        assert!(!instance.arrange(input, output), "{input:x} {output:x}");
        assert_eq!(instance.arrangement(), [STEREO, STEREO]);
    }
    assert!(instance.arrange(MONO, MONO));
    assert_eq!(instance.arrangement(), [MONO, MONO]);
    assert_eq!(instance.buses(), [1, 1]);
    for (size, taken) in
        [(SymbolicSampleSizes_::kSample32, true), (SymbolicSampleSizes_::kSample64, false)]
    {
        // SAFETY: nothing but a number is handed over.
        let result = unsafe { instance.processor.canProcessSampleSize(size as i32) };
        assert_eq!(result == kResultOk, taken);
    }
}

#[test]
fn the_latency_that_is_reported_is_measured_at_all_rates_and_in_all_blocks() {
    for rate in RATES {
        for channels in [2, 1] {
            let mut instance = Instance::new();
            let setup = Setup { channels, ..Setup::at(rate) };
            let samples = (rate * 0.34) as usize;
            let sound = sound(channels, samples, rate);
            instance.start(setup);
            let latency = instance.latency();
            let first = instance.render(&sound, &[480], &[]);
            assert!(first.iter().flatten().all(|sample| proper(*sample)));
            let part = samples - 2 * latency;
            for (sound, out) in sound.iter().zip(&first) {
                let measured = shift(&sound[..part], out, 2 * latency, rate as usize / 16_000);
                let off = measured as f64 - latency as f64;
                assert!(off.abs() < 0.000_1 * rate, "{rate} Hz: {measured}, not {latency}");
            }
            let blocks: &[usize] = if channels == 2 { &[1, 32, 64, 8192] } else { &[64] };
            for &block in blocks {
                instance.start(setup);
                assert_eq!(instance.latency(), latency);
                assert_eq!(instance.render(&sound, &[block], &[]), first, "{rate} Hz, {block}");
            }
            // The dry sound shows it to the sample.
            instance.stop();
            instance.set("Mix", 0.0);
            let mut impulse = vec![vec![0.0; latency + 200]; channels];
            impulse.iter_mut().for_each(|channel| channel[100] = 0.5);
            for &block in blocks {
                instance.start(setup);
                for channel in instance.render(&impulse, &[block], &[]) {
                    let heard = channel.iter().position(|sample| *sample != 0.0);
                    assert_eq!(heard, Some(latency + 100), "{rate} Hz, {block}");
                    assert_eq!(channel[latency + 100], 0.5);
                }
            }
        }
    }
}

#[test]
fn offline_and_realtime_give_the_same_bits_in_any_order() {
    let sound = sound(2, 20_000, 48_000.0);
    let mut instance = Instance::new();
    for (name, value) in [("Mutate", 0.3), ("Shuffle", 0.2), ("Packet Loss", 0.1), ("Smear", 0.02)]
    {
        instance.set(name, value);
    }
    // The framework tells the plugin the mode of the time before; whatever it is told, nothing may come of it.
    let mut render = |mode, rate| {
        instance.start(Setup { mode: mode as i32, ..Setup::at(rate) });
        let out = instance.render(&sound, &[480, 31, 1024], &[]);
        (out, instance.latency())
    };
    for rate in [48_000.0, 44_100.0] {
        let first = render(kRealtime, rate);
        assert!(first.0.iter().flatten().any(|sample| sample.abs() > 0.05));
        for mode in [kOffline, kOffline, kRealtime, kPrefetch, kRealtime, kOffline] {
            assert!(render(mode, rate) == first, "{mode} at {rate} Hz");
        }
    }
}

#[test]
fn sound_may_lie_in_the_same_memory_and_automation_is_exact_to_the_sample() {
    let sound = sound(2, 16_000, 48_000.0);
    let mut instance = Instance::new();
    let (mutate, mix) = (instance.param("Mutate"), instance.param("Mix"));
    // Not in the order of time within a block.
    let automation = [
        Change(mix, 9_001, 0.3),
        Change(mutate, 3_333, 0.7),
        Change(mix, 9_002, 0.9),
        Change(mutate, 12_000, 0.0),
    ];
    let mut render = |blocks: &[usize]| {
        instance.start(Setup::at(48_000.0));
        instance.flush(&[Change(mix, 0, 1.0), Change(mutate, 0, 0.0)]);
        // Smoothed parameters begin where they are.
        instance.start(Setup::at(48_000.0));
        instance.render(&sound, blocks, &automation)
    };
    let first = render(&[512]);
    for blocks in [&[64][..], &[1, 1000, 13], &[8192]] {
        assert_eq!(render(blocks), first, "{blocks:?}");
    }
    instance.set("Mix", 1.0);
    assert_ne!(instance.get("Mix"), 1.0, "while sound runs, knobs come with the block");
    instance.flush(&[Change(mix, 0, 1.0)]);
    assert_eq!(instance.get("Mix"), 1.0);
    instance.start(Setup::at(48_000.0));
    let plain = instance.render(&sound, &[512], &[]);
    assert_ne!(plain, first);
    instance.start(Setup::at(48_000.0));
    let mut same = sound.clone();
    let mut at = 0;
    while at < 16_000 {
        let end = (at + 700).min(16_000);
        let mut block: Vec<Vec<f32>> =
            same.iter().map(|channel| channel[at..end].to_vec()).collect();
        instance.process(None, &mut block, &[]);
        for (same, block) in same.iter_mut().zip(block) {
            same[at..end].copy_from_slice(&block);
        }
        at = end;
    }
    assert_eq!(same, plain);
}

#[test]
fn states_come_back_byte_for_byte_and_broken_ones_change_nothing() {
    let mut first = Instance::new();
    for (name, value) in [("Mutate", 0.25), ("Shift", 1.0), ("Output", 0.4), ("Smear Sync", 0.5)] {
        first.set(name, value);
    }
    let saved = first.save();
    let mut second = Instance::new();
    let fresh = second.save();
    assert_ne!(fresh, saved);
    assert!(second.load(&saved));
    assert_eq!(second.save(), saved);
    let mut noise = saved.clone();
    noise.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 151 + 7) as u8);
    let broken: [&[u8]; 6] =
        [&[], &saved[..1], &saved[..saved.len() / 2], &saved[..saved.len() - 1], &noise, b"[]"];
    let sound = sound(2, 8_000, 48_000.0);
    first.start(Setup::at(48_000.0));
    let expected = first.render(&sound, &[333], &[]);
    for running in [false, true] {
        if running {
            second.start(Setup::at(48_000.0));
        }
        for broken in broken {
            assert!(!second.load(broken), "{} bytes", broken.len());
            assert_eq!(second.save(), saved);
        }
        // Hosts write something of their own before the state.
        let behind = [b"header".as_slice(), &fresh].concat();
        assert!(second.load_from(&behind, 6));
        assert_eq!(second.save(), fresh);
        assert!(second.load(&saved));
        assert_eq!(second.save(), saved);
    }
    assert_eq!(second.render(&sound, &[333], &[]), expected, "what was loaded while it ran");
    assert_eq!(second.save(), saved, "sound changes no parameter");
}

#[test]
fn silence_is_digital_after_the_tail_that_is_reported() {
    for rate in [44_100.0, 48_000.0] {
        let mut instance = Instance::new();
        instance.start(Setup::at(rate));
        instance.render(&sound(2, 16_000, rate), &[512], &[]);
        let tail = instance.tail() as usize;
        assert!((rate as usize..4 * rate as usize).contains(&tail), "{tail}");
        let out = instance.render(&vec![vec![0.0; tail + 30_000]; 2], &[512], &[]);
        assert!(out[0][..tail / 2].iter().any(|sample| *sample != 0.0));
        for channel in &out {
            assert!(channel[tail..].iter().all(|sample| sample.to_bits() << 1 == 0), "{rate} Hz");
        }
        let freeze = instance.param("Freeze Coarse");
        instance.flush(&[Change(freeze, 0, 1.0)]);
        instance.render(&vec![vec![0.0; 512]; 2], &[512], &[]);
        assert_eq!(instance.tail(), kInfiniteTail);
    }
}

#[test]
fn no_input_makes_bad_samples() {
    let bad = [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        1e-40,
        -1e-45,
        1e20,
    ];
    for (rate, channels) in RATES.into_iter().zip([2, 1, 1, 2, 2]) {
        let mut instance = Instance::new();
        instance.set("Output", 1.0);
        instance.start(Setup { channels, ..Setup::at(rate) });
        let mut mixed = sound(channels, (rate * 0.3) as usize, rate);
        for channel in &mut mixed {
            for (n, sample) in channel.iter_mut().enumerate().filter(|(n, _)| n % 5 == 0) {
                *sample = bad[n / 5 % bad.len()];
            }
        }
        let ceiling = instance.param("Ceiling");
        let limiter = instance.param("Limiter");
        let out = instance.render(&mixed, &[480, 1], &[Change(ceiling, 0, 0.5)]);
        let highest = 10f32.powf(-12.0 / 20.0) * 1.000_001;
        assert!(out.iter().flatten().all(|s| proper(*s) && s.abs() <= highest), "{rate} Hz");
        assert!(out.iter().flatten().any(|s| s.abs() > 0.1 * highest));
        let out = instance.render(&mixed, &[480, 1], &[Change(limiter, 0, 0.0)]);
        assert!(out.iter().flatten().all(|sample| proper(*sample)), "{rate} Hz");
        // Of one kind alone, and then sound again.
        for value in bad {
            let all = vec![vec![value; 2_000]; channels];
            let out = instance.render(&all, &[512], &[]);
            assert!(out.iter().flatten().all(|sample| proper(*sample)), "{value} at {rate} Hz");
        }
        let clean = sound(channels, (rate * 0.4) as usize, rate);
        let out = instance.render(&clean, &[512], &[Change(limiter, 0, 1.0)]);
        assert!(out.iter().flatten().all(|s| proper(*s) && s.abs() <= highest));
        let last = &out[0][out[0].len() - (rate * 0.2) as usize..];
        assert!(last.iter().any(|s| s.abs() > 0.01), "{rate} Hz: it has not recovered");
    }
}

#[test]
fn a_latency_that_changes_is_told_to_the_host() {
    let mut instance = Instance::new();
    instance.start(Setup::at(48_000.0));
    let told = |instance: &Instance| instance.handler.restarts.take();
    assert_eq!(told(&instance), [RestartFlags_::kLatencyChanged]);
    instance.start(Setup::at(48_000.0));
    assert_eq!(told(&instance), []);
    instance.start(Setup::at(96_000.0));
    assert_eq!(told(&instance), [RestartFlags_::kLatencyChanged]);
}
