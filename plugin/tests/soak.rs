//! The VST3 worked on for long: activated, set at random while it plays, given states, over and over. Nothing that
//! comes out may be bad or louder than the ceiling, and memory has to stay as it is.
//!
//! `TESSERA_PLUGIN_ROUNDS` says how often; docs/reliability.md has the long run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod vst3_host;

use std::time::Instant;

use vst3::Steinberg::Vst::ParamID;
use vst3_host::{Change, Instance, Setup, kOffline, kPrefetch, kRealtime, proper};

/// Numbers from 0 to 1 (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn draw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, below: usize) -> usize {
        (self.draw() * below as f64) as usize
    }
}

/// What is told by parameters of the sound's loudest sample.
#[derive(Debug, Clone, Copy)]
struct Bound {
    limited: bool,
    ceiling: f64,
}

impl Bound {
    fn of(instance: &Instance) -> Self {
        // The knob goes from -24 to 0 dB.
        let ceiling = 10f64.powf((instance.get("Ceiling") * 24.0 - 24.0) / 20.0);
        Self { limited: instance.get("Limiter") > 0.5, ceiling }
    }

    fn holds(self, sample: f32) -> bool {
        !self.limited || f64::from(sample.abs()) <= self.ceiling * 1.000_001
    }
}

struct Soak {
    random: Random,
    /// Plays on and on while its parameters and states change.
    steady: Instance,
    /// Is activated in every round, now and then in another way.
    restless: Instance,
    setup: Setup,
    params: Vec<(ParamID, String)>,
    /// States that came from the plugin.
    states: Vec<Vec<u8>>,
    /// Samples that were played, blocks, and blocks in which something could be heard.
    samples: usize,
    blocks: usize,
    heard: usize,
}

impl Soak {
    fn new() -> Self {
        let (mut steady, restless) = (Instance::new(), Instance::new());
        steady.start(Setup::at(48_000.0));
        Self {
            random: Random(0x7e55_e2a0),
            setup: Setup::at(48_000.0),
            params: steady.params(),
            states: vec![steady.save()],
            steady,
            restless,
            samples: 0,
            blocks: 0,
            heard: 0,
        }
    }

    /// A set of parameters in the middle of a block, a state, and an activation.
    fn round(&mut self, round: usize) {
        let samples = 400 + self.random.below(800);
        let at = self.random.below(samples);
        let changes = self.changes(at);
        let input = self.input(2, samples);
        let before = Bound::of(&self.steady);
        let mut out = vec![vec![f32::NAN; samples]; 2];
        self.steady.process(Some(&input), &mut out, &changes);
        let after = Bound::of(&self.steady);
        for (n, sample) in out.iter().flat_map(|channel| channel.iter().enumerate()) {
            let bound = if n < at { before } else { after };
            assert!(proper(*sample), "{sample}: {changes:?}");
            assert!(bound.holds(*sample), "{sample} in {bound:?}: {changes:?}");
        }
        self.samples += samples;
        self.blocks += 1;
        self.heard += usize::from(out.iter().flatten().any(|sample| sample.abs() > 1e-3));

        self.state(round);

        if round % 100 == 99 {
            self.restless = Instance::new();
        }
        if round % 20 == 19 {
            let rates = [44_100.0, 48_000.0, 88_200.0, 96_000.0, 192_000.0];
            self.setup.rate = rates[self.random.below(5)];
            self.setup.channels = 1 + self.random.below(2);
        }
        self.setup.mode = [kRealtime, kPrefetch, kOffline][self.random.below(3)] as i32;
        self.restless.start(self.setup);
        let samples = 1 + self.random.below(800);
        let input = self.input(self.setup.channels, samples);
        let out = self.restless.render(&input, &[64], &[]);
        assert!(
            out.iter().flatten().all(|sample| *sample == 0.0),
            "what was before a reset is heard"
        );
    }

    /// All parameters at random, at sample `at`.
    fn changes(&mut self, at: usize) -> Vec<Change> {
        // Bypass is not limited, and there is no folder to load a model from.
        let names = self.params.iter().filter(|(_, name)| name != "Bypass" && name != "Model");
        names
            .map(|(id, _)| {
                let value = match self.random.below(4) {
                    0 => 0.0,
                    1 => 1.0,
                    _ => self.random.draw(),
                };
                Change(*id, at, value)
            })
            .collect()
    }

    /// A tone with a few numbers in it that are none.
    fn input(&mut self, channels: usize, samples: usize) -> Vec<Vec<f32>> {
        let bad = [f32::NAN, f32::INFINITY, f32::MIN, 1e-40, -1e20];
        let pitch = self.random.draw() * 0.5;
        let mut sample = |n: usize| match self.random.below(200) {
            0 => bad[self.random.below(bad.len())],
            _ => (n as f64 * pitch).sin() as f32 * 0.8,
        };
        (0..channels).map(|_| (0..samples).map(&mut sample).collect()).collect()
    }

    /// Every other state comes to the instance that plays. Now and then there is a broken one.
    fn state(&mut self, round: usize) {
        self.states.push(self.steady.save());
        if self.states.len() > 20 {
            let oldest = self.random.below(20);
            self.states.swap_remove(oldest);
        }
        let state = &self.states[self.random.below(self.states.len())];
        let instance = if round.is_multiple_of(2) { &self.steady } else { &self.restless };
        if round % 4 < 2 {
            let before = instance.save();
            assert!(!instance.load(&state[..self.random.below(state.len())]));
            assert_eq!(instance.save(), before);
        }
        assert!(instance.load(state));
        assert_eq!(instance.save(), *state);
    }
}

/// Resident memory in kilobytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4
}

#[test]
fn many_activations_sets_and_states_take_no_more_memory() {
    let rounds: usize = std::env::var("TESSERA_PLUGIN_ROUNDS")
        .map_or(1000, |text| text.parse().expect("TESSERA_PLUGIN_ROUNDS is a number"));
    let begun = Instant::now();
    let mut soak = Soak::new();
    let mut before = 0;
    for round in 0..rounds {
        soak.round(round);
        if round + 1 == rounds.div_ceil(10) {
            before = resident();
        }
    }
    let after = resident();
    println!(
        "{rounds} activations, sets of parameters and states, {} samples, {:.0} s; resident {before} kB, then \
         {after} kB",
        soak.samples,
        begun.elapsed().as_secs_f64(),
    );
    assert!(soak.heard * 2 > soak.blocks, "{} of {} blocks are heard", soak.heard, soak.blocks);
    assert!(after < before + 2048, "memory grew from {before} kB to {after} kB");
}
