//! States that no host has saved: the attack on them, and the same bytes through the VST3's own interface.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "attacks/state.rs"]
mod state;
mod vst3_host;

use std::path::{Path, PathBuf};

use nice_plug::prelude::PluginState;
use vst3_host::{Instance, Setup};

/// Inputs made of the seeds.
const INPUTS: usize = 2000;

/// A linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// What numbers and texts of a state may be replaced by, half of them no JSON at all.
const VALUES: [&str; 16] = [
    "1e39",
    "-1e39",
    "NaN",
    "-1",
    "0",
    "2147483648",
    "-2147483649",
    "1e-46",
    "null",
    "\"\"",
    "true",
    "{}",
    "[]",
    "\"\\ud800\"",
    "\"\u{0}\"",
    "99999999999999999999999999",
];

fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/seeds/state");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// One to three changes: a value for another, bytes turned over, cut off, or moved.
fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(16) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let from = random.below(other.len());
                let to = other.len().min(from + 1 + random.below(60));
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            _ => {
                // What stands behind a colon, up to what ends it.
                let plain = |n: &usize| {
                    bytes[*n] == b':' && bytes[n + 1..].trim_ascii_start().first() != Some(&b'{')
                };
                let colons: Vec<usize> = (0..bytes.len()).filter(plain).collect();
                if colons.is_empty() {
                    continue;
                }
                let from = colons[random.below(colons.len())] + 1;
                let ends = |byte: &u8| matches!(byte, b',' | b'}');
                let to = bytes[from..].iter().position(ends).map_or(bytes.len(), |n| from + n);
                let value = VALUES[random.below(VALUES.len())];
                drop(bytes.splice(from..to, value.bytes()));
            }
        }
    }
}

/// Attacks with the bytes, and gives them to an instance: what it does not take changes nothing, and what it takes
/// it saves as a state that it takes again.
fn attack(instance: &Instance, bytes: &[u8]) -> bool {
    state::attack(bytes);
    let before = instance.save();
    let taken = instance.load(bytes);
    // The interface tells no empty state from the end of a stream.
    assert_eq!(taken, serde_json::from_slice::<PluginState>(bytes).is_ok());
    let after = instance.save();
    if !taken {
        assert_eq!(after, before);
        return false;
    }
    state::attack(&after);
    for (id, name) in instance.params() {
        let value = instance.get(&name);
        assert!((0.0..=1.0).contains(&value), "{name} ({id}) is at {value}");
    }
    true
}

#[test]
fn whatever_is_no_state_is_refused_and_every_state_is_one_afterwards() {
    let instance = Instance::new();
    let mut playing = Instance::new();
    playing.start(Setup::at(48_000.0));
    let seeds = seeds();
    for (path, bytes) in &seeds {
        assert!(attack(&instance, bytes), "{} is no state", path.display());
    }
    let mut random = Random(7);
    let mut taken = 0;
    for n in 0..INPUTS {
        let mut bytes = seeds[random.below(seeds.len())].1.clone();
        let other = &seeds[random.below(seeds.len())].1;
        change(&mut random, &mut bytes, other);
        let instance = if n % 2 == 0 { &instance } else { &playing };
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(instance, &bytes)));
        match result {
            Ok(was_taken) => taken += usize::from(was_taken),
            Err(_) => panic!("input {n} breaks it: {}", String::from_utf8_lossy(&bytes)),
        }
        if n % 100 == 99 {
            let sound = vec![vec![0.1; 600]; 2];
            let out = playing.render(&sound, &[128], &[]);
            assert!(out.iter().flatten().all(|sample| sample.is_finite()));
        }
    }
    assert!((INPUTS / 10..INPUTS * 9 / 10).contains(&taken), "{taken} of {INPUTS} were taken");
}

/// A seed has the parameters of today. After a change, `TESSERA_SEEDS=write cargo test -p tessera-plugin --test
/// states` writes it anew.
#[test]
fn the_seed_is_what_the_plugin_saves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/seeds/state/saved.json");
    let saved = Instance::new().save();
    if std::env::var("TESSERA_SEEDS").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &saved).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == saved, "{} is an old state", path.display());
}
