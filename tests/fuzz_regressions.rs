//! The fuzzers' attacks as ordinary tests: on every seed, on every input that once broke something,
//! and on some thousand inputs made of the seeds, the same on every run.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "attacks/mod.rs"]
mod attacks;

use attacks::Attack;

/// Inputs made for each attack.
const INPUTS: usize = 4000;

/// A linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        // What lengths, counts and signs tend to break on.
        const EDGES: [u8; 8] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0xF5, 0xC3];
        match self.below(2) {
            0 => EDGES[self.below(EDGES.len())],
            _ => self.below(256) as u8,
        }
    }
}

/// The files in `tests/<kind>/<attack>`, by name.
fn files(kind: &str, attack: &Attack) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind).join(attack.name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// One to four changes of `bytes`, some with parts of `other`.
fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let (at, count) = (random.below(bytes.len() + 1), 1 + random.below(16));
        let end = bytes.len().min(at + count);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at..end].fill_with(|| random.byte()),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..at, (0..count).map(|_| random.byte()))),
            _ => {
                let from = random.below(other.len() + 1);
                let to = other.len().min(from + 1 + random.below(200));
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
        }
    }
}

fn expect(attack: &Attack, name: &str, bytes: &[u8]) {
    if catch_unwind(|| (attack.run)(bytes)).is_err() {
        let path = std::env::temp_dir().join(format!("tessera-{}-{name}", attack.name));
        fs::write(&path, bytes).unwrap();
        panic!("{}: {name} breaks it; the input is {}", attack.name, path.display());
    }
}

#[test]
fn seeds_and_regressions() {
    for attack in &attacks::ALL {
        assert!(!files("seeds", attack).is_empty(), "{} has no seeds", attack.name);
        for kind in ["seeds", "regressions"] {
            for (path, bytes) in files(kind, attack) {
                expect(attack, path.file_name().unwrap().to_str().unwrap(), &bytes);
            }
        }
        expect(attack, "nothing", &[]);
    }
}

#[test]
fn changed_seeds() {
    for attack in &attacks::ALL {
        let seeds = files("seeds", attack);
        let mut random = Random(7);
        for n in 0..INPUTS {
            let mut bytes = seeds[random.below(seeds.len())].1.clone();
            let other = &seeds[random.below(seeds.len())].1;
            change(&mut random, &mut bytes, other);
            expect(attack, &format!("input-{n}"), &bytes);
        }
    }
}
