//! The fuzzers' attacks as ordinary tests: on every seed, on every input that once broke something,
//! and on some thousand inputs made of the seeds, the same on every run.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "attacks/mod.rs"]
mod attacks;
mod support;

use attacks::Attack;
use safetensors::Dtype;
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::Model;
use tessera_codec::prior::{Prior, PriorConfig};
use tessera_codec::tokens::Tokens;

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

/// A model so small that the attack on its files has something to change everywhere.
fn tiny_model() -> Vec<u8> {
    let config = CodecConfig {
        hop: 16,
        analysis_window: 32,
        synthesis_window: 32,
        level_bands: 3,
        noise_band: [4000, 9000],
        noise_bands: 2,
        voiced_bands: 2,
        voiced_top: 12_000,
        led_top: 11_000,
        dim: 2,
        expansion: 1,
        kernel: 2,
        encoder_blocks: 1,
        decoder_blocks: 1,
        vq: VqConfig { strides: vec![2, 1], codebook_size: 4, code_dim: 2, normalize: false },
        ..CodecConfig::default()
    };
    let json = config.to_json().unwrap();
    let length = u16::try_from(json.len()).unwrap();
    let weights = support::weights(&config, 1, Dtype::F16);
    [&length.to_be_bytes()[..], json.as_bytes(), &weights].concat()
}

/// A prior for its tokens, as small.
fn tiny_prior(model: &Model) -> Vec<u8> {
    let config = PriorConfig {
        embedding: 1,
        dim: 2,
        blocks: 1,
        kernel: 2,
        expansion: 1,
        width: 2,
        steps: 8,
        ..support::default_prior(model)
    };
    let json = config.to_json().unwrap();
    let length = u16::try_from(json.len()).unwrap();
    let weights = support::prior_weights(&config, 2, 3.0, Dtype::F16);
    [&length.to_be_bytes()[..], json.as_bytes(), &weights].concat()
}

/// What the prior's coder makes of some chunks of tokens, as the attack on it reads them.
fn coded(prior: &Prior, levels: usize, channels: usize) -> Vec<u8> {
    let mut random = support::Random::new(levels as u32);
    let mut channel = |steps: usize| {
        let mut tokens = Tokens::new(levels);
        let count = steps * prior.codes_per_step(levels);
        let code = |draw: f32| ((draw + 1.0) * 1.99) as u16;
        let codes: Vec<u16> = (0..count).map(|_| code(random.draw())).collect();
        tokens.extend_steps(&codes, prior.layout());
        tokens
    };
    let steps = [8, 8, 1, 5];
    let mut chunk = |steps: usize| (0..channels).map(|_| channel(steps)).collect::<Vec<_>>();
    let chunks: Vec<_> = steps.into_iter().map(&mut chunk).collect();
    let coded = prior.coder(levels).unwrap().encode(&chunks);
    let mut bytes = vec![levels as u8 - 1, channels as u8 - 1];
    for (steps, coded) in steps.into_iter().zip(coded) {
        let coded = coded.unwrap();
        bytes.extend([steps as u8, u8::try_from(coded.len()).unwrap()]);
        bytes.extend(coded);
    }
    bytes
}

/// A seed that is refused at the door tests nothing behind it. After a change of a network,
/// `TESSERA_SEEDS=write cargo test --test fuzz_regressions` writes these anew.
#[test]
fn seeds_made_of_weights_are_those_of_today() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let check = |name: &str, bytes: &[u8]| {
        let path = seeds.join(name);
        if std::env::var("TESSERA_SEEDS").is_ok_and(|value| value == "write") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{} is of another network", path.display());
    };
    let bytes = tiny_model();
    check("model/tiny", &bytes);
    let (config, weights) = attacks::tiny::parts(&bytes).unwrap();
    let model = Model::from_bytes(config, weights, &seeds).unwrap();
    let bytes = tiny_prior(&model);
    check("prior/tiny", &bytes);
    let (config, weights) = attacks::tiny::parts(&bytes).unwrap();
    let prior = Prior::from_bytes(config, weights, &seeds).unwrap();
    check("entropy/mono", &coded(&prior, 2, 1));
    check("entropy/stereo", &coded(&prior, 2, 2));
    check("entropy/coarse-3", &coded(&prior, 1, 3));
}
