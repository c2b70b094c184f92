//! The prior in the engine: the network that its module describes, to the last bit on every instruction
//! set.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use support::{Random, default_prior, odd, prior, prior_weights, small_prior};
use tessera_codec::engine::{EngineError, InstructionSet, Model, ModelError};
use tessera_codec::prior::{Generator, Prior, PriorConfig, PriorState, Sampling};
use tessera_codec::tokens::Tokens;

fn model() -> Model {
    support::model(&odd(), 3, Dtype::F16)
}

/// Codes of `steps` steps with the first `levels` levels.
fn codes(config: &PriorConfig, seed: u32, levels: usize, steps: usize) -> Vec<u16> {
    let per_step = config.levels_of_codes().iter().filter(|level| **level < levels).count();
    let mut random = Random::new(seed);
    let mut code = || ((random.draw() + 1.0) / 2.0 * config.codebook_size as f32 * 0.999) as u16;
    (0..steps * per_step).map(|_| code()).collect()
}

/// The scores of every code, one code after another.
fn scores(state: &mut PriorState, codes: &[u16]) -> Vec<f32> {
    let mut all = Vec::new();
    for code in codes {
        all.extend_from_slice(state.scores());
        state.push(*code).unwrap();
    }
    all
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The network as its module describes it, in double precision and with no regard for time.
struct Reference {
    config: PriorConfig,
    tensors: HashMap<String, Vec<f64>>,
}

impl Reference {
    fn new(config: PriorConfig, file: &[u8]) -> Self {
        let single = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
        let tensors = SafeTensors::deserialize(file).unwrap();
        let tensors = tensors.iter().map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F32);
            (name.to_string(), view.data().chunks(4).map(single).collect())
        });
        Self { config, tensors: tensors.collect() }
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let rows = self.tensors[&format!("{name}.weight")].chunks(x.len());
        let bias = self.tensors.get(&format!("{name}.bias"));
        let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        rows.enumerate().map(|(i, row)| dot(row) + bias.map_or(0.0, |bias| bias[i])).collect()
    }

    /// `x + gain * narrow(gelu(widen(mixed)))`.
    fn feed(&self, name: &str, x: &[f64], mixed: &[f64]) -> Vec<f64> {
        let gelu = |v: f64| {
            v / (1.0
                + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v)).exp())
        };
        let hidden: Vec<f64> =
            self.linear(&format!("{name}.widen"), mixed).into_iter().map(gelu).collect();
        let narrow = self.linear(&format!("{name}.narrow"), &hidden);
        let gain = &self.tensors[&format!("{name}.gain")];
        x.iter().zip(narrow.iter().zip(gain)).map(|(x, (y, gain))| x + y * gain).collect()
    }

    fn embed(&self, level: usize, code: u16) -> &[f64] {
        let length = self.config.embedding;
        &self.tensors[&format!("embedding.{level}.weight")][usize::from(code) * length..][..length]
    }

    /// As [`scores`].
    fn scores(&self, codes: &[u16], levels: usize) -> Vec<f64> {
        let c = &self.config;
        let places: Vec<usize> =
            c.levels_of_codes().into_iter().filter(|level| *level < levels).collect();
        let inputs = c.codes_per_step() * c.embedding;
        let embed = |step: &[u16]| -> Vec<f64> {
            places
                .iter()
                .zip(step)
                .flat_map(|(level, code)| self.embed(*level, *code))
                .copied()
                .collect()
        };
        let mut steps: Vec<Vec<f64>> = vec![vec![0.0; inputs]];
        steps.extend(codes.chunks(places.len()).map(|step| {
            let mut step = embed(step);
            step.resize(inputs, 0.0);
            step
        }));
        let mut rows: Vec<Vec<f64>> = steps.iter().map(|x| self.linear("input", x)).collect();
        for b in 0..c.blocks {
            let name = format!("blocks.{b}");
            let weights = &self.tensors[&format!("{name}.depthwise.weight")];
            let mix = |t: usize| -> Vec<f64> {
                let mut sum = self.tensors[&format!("{name}.depthwise.bias")].clone();
                for tap in (0..c.kernel).filter(|tap| t + tap + 1 >= c.kernel) {
                    let row = &rows[t + tap + 1 - c.kernel];
                    for ((sum, x), w) in sum.iter_mut().zip(row).zip(&weights[tap * c.dim..]) {
                        *sum += x * w;
                    }
                }
                sum
            };
            rows =
                (0..rows.len()).map(|t| self.feed(&name, &rows[t], &normalize(&mix(t)))).collect();
        }
        let mut all = Vec::new();
        for (step, row) in codes.chunks(places.len()).zip(&rows) {
            let context = self.linear("context", &normalize(row));
            for (i, level) in places.iter().enumerate() {
                let mut h = context[i * c.width..][..c.width].to_vec();
                if i > 0 {
                    let past = self.linear(&format!("past.{i}"), &embed(&step[..i]));
                    h.iter_mut().zip(past).for_each(|(h, past)| *h += past);
                }
                let h = self.feed(&format!("hidden.{level}"), &h, &normalize(&h));
                all.extend(self.linear(&format!("head.{level}"), &normalize(&h)));
            }
        }
        all
    }
}

fn normalize(x: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    x.iter().map(|v| (v - mean) / (variance + 1e-5).sqrt()).collect()
}

#[test]
fn the_network_is_the_one_described() {
    let model = model();
    for (blocks, kernel) in [(2, 3), (0, 1), (1, 7)] {
        let config = PriorConfig { blocks, kernel, ..small_prior(&model) };
        let weights = prior_weights(&config, 5, 1.0, Dtype::F32);
        let json = config.to_json().unwrap();
        let prior = Prior::from_bytes(json.as_bytes(), &weights, Path::new("random")).unwrap();
        let reference = Reference::new(config.clone(), &weights);
        for levels in 1..=4 {
            let codes = codes(&config, 9, levels, 12);
            let found = scores(&mut PriorState::new(&prior, levels).unwrap(), &codes);
            let expected = reference.scores(&codes, levels);
            assert_eq!(found.len(), expected.len());
            let spread = expected.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
            assert!(spread > 0.5, "scores that say something: {spread}");
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let model = model();
    let full = PriorConfig { codebook_size: 1024, ..default_prior(&model) };
    for (config, steps) in [(small_prior(&model), 20), (full, 2)] {
        let prior = prior(&config, 4, 1.0);
        let codes = codes(&config, 2, 4, steps);
        let plain = prior.with_instruction_set(InstructionSet::Plain).unwrap();
        let expected = scores(&mut PriorState::new(&plain, 4).unwrap(), &codes);
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
            let prior = prior.with_instruction_set(set).unwrap();
            let found = scores(&mut PriorState::new(&prior, 4).unwrap(), &codes);
            assert!(bits(&found) == bits(&expected), "{set:?}");
        }
    }
}

#[test]
fn a_stream_knows_what_it_was_given_and_nothing_else() {
    let model = model();
    let config = small_prior(&model);
    let prior = prior(&config, 4, 1.0);
    let codes = codes(&config, 2, 3, 9);
    let mut state = PriorState::new(&prior, 3).unwrap();
    let expected = scores(&mut state, &codes);
    // After a reset it is as new; a copy goes on as the original does.
    state.reset();
    let (begin, end) = codes.split_at(codes.len() / 2 + 1);
    let mut found = scores(&mut state, begin);
    let mut copy = state.clone();
    scores(&mut state, begin);
    found.extend(scores(&mut copy, end));
    assert_eq!(bits(&found), bits(&expected));
    // Scores that nobody asks for, or twice, change nothing.
    copy.reset();
    begin.iter().for_each(|code| copy.push(*code).unwrap());
    assert_eq!(bits(copy.scores()), bits(&expected[begin.len() * config.codebook_size..][..50]));
    assert_eq!(bits(copy.scores()), bits(&expected[begin.len() * config.codebook_size..][..50]));
    // An absurd code is refused and leaves everything as it was.
    let size = config.codebook_size;
    assert!(matches!(copy.push(size as u16), Err(EngineError::Code { size: 50, .. })));
    assert_eq!(bits(&scores(&mut copy, end)), bits(&expected[begin.len() * size..]));
    for given in [0, 5] {
        let error = PriorState::new(&prior, given).unwrap_err();
        assert_eq!(error, EngineError::Levels { given, most: 4 });
    }
}

#[test]
fn scores_of_tokens_are_those_of_a_stream_that_forgets_between_chunks() {
    let model = model();
    let config = PriorConfig { steps: 4, ..small_prior(&model) };
    let prior = prior(&config, 4, 1.0);
    let (levels, size) = (3, config.codebook_size);
    let per_step = prior.codes_per_step(levels);
    // Two whole chunks, and a quarter of one.
    let codes = codes(&config, 7, levels, 9);
    let mut tokens = Tokens::new(levels);
    tokens.extend_steps(&codes, prior.layout());
    let mut expected = vec![Vec::new(); levels];
    for chunk in codes.chunks(4 * per_step) {
        let mut state = PriorState::new(&prior, levels).unwrap();
        for code in chunk {
            expected[state.level()].extend(bits(state.scores()));
            state.push(*code).unwrap();
        }
    }
    let found = prior.scores_of(&tokens).unwrap();
    let found: Vec<Vec<u32>> = found.iter().map(|level| bits(level)).collect();
    assert_eq!(found, expected);
    assert_eq!(found.iter().map(Vec::len).sum::<usize>(), codes.len() * size);
    assert_eq!(prior.scores_of(&Tokens::new(levels)).unwrap(), vec![Vec::<f32>::new(); levels]);
    tokens.levels[0][8] = u16::MAX;
    assert!(matches!(prior.scores_of(&tokens), Err(EngineError::Code { .. })));
    let levels = EngineError::Levels { given: 5, most: 4 };
    assert_eq!(prior.scores_of(&Tokens::new(5)).unwrap_err(), levels);
}

#[test]
fn fine_codes_are_drawn_for_given_coarse_ones() {
    let model = model();
    let config = small_prior(&model);
    let prior = prior(&config, 3, 1.0);
    let (levels, steps) = (prior.levels(), 20);
    let given = codes(&config, 5, levels, steps);
    let per_step = prior.codes_per_step(levels);
    let draw = |kept: usize| {
        let mut generator = Generator::new(&prior, levels, Sampling::default()).unwrap();
        let mut drawn = given.clone();
        generator.draw_after(kept, &mut drawn).unwrap();
        drawn
    };
    for kept in [0, 1, per_step - 1, per_step] {
        let drawn = draw(kept);
        let pairs = given.chunks(per_step).zip(drawn.chunks(per_step));
        pairs.for_each(|(given, drawn)| assert_eq!(given[..kept], drawn[..kept]));
        assert_eq!(kept == per_step, drawn == given);
    }
    assert_ne!(draw(0), draw(1));
    // A code that there is not is no code to go on from.
    let mut wrong = given.clone();
    wrong[per_step] = u16::MAX;
    let mut generator = Generator::new(&prior, levels, Sampling::default()).unwrap();
    assert!(generator.draw_after(1, &mut wrong).is_err());
}

#[test]
fn levels_and_steps_are_told() {
    let model = model();
    let prior = prior(&small_prior(&model), 1, 1.0);
    let mut state = PriorState::new(&prior, 2).unwrap();
    let mut told = Vec::new();
    for code in 0..6 {
        told.push((state.level(), state.begins_step()));
        state.push(code).unwrap();
    }
    assert_eq!(told[..3], [(0, true), (1, false), (1, false)]);
    assert_eq!(told[3..], told[..3]);
    assert_eq!([1, 2, 3, 4].map(|levels| prior.codes_per_step(levels)), [1, 3, 7, 11]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = model();
    let config = small_prior(&model);
    let weights = prior_weights(&config, 1, 1.0, Dtype::F16);
    let json = config.to_json().unwrap();
    let load = |json: &str, weights: &[u8]| {
        Prior::from_bytes(json.as_bytes(), weights, Path::new("somewhere"))
    };
    let good = load(&json, &weights).unwrap();
    assert_eq!(good.id(), load(&json, &weights).unwrap().id());
    good.check_codec(model.id()).unwrap();
    let error = good.check_codec([7; 16]).unwrap_err().to_string();
    assert!(error.contains(&"07".repeat(16)) && error.contains(&model.id_hex()), "{error}");
    for end in [0, 8, 200, weights.len() / 2, weights.len() - 1] {
        assert!(matches!(load(&json, &weights[..end]), Err(ModelError::Weights { .. })), "{end}");
    }
    for other in [
        PriorConfig { dim: 20, ..config.clone() },
        PriorConfig { blocks: 3, ..config.clone() },
        PriorConfig { embedding: 6, ..config.clone() },
        PriorConfig { width: 20, ..config.clone() },
        PriorConfig { kernel: 4, ..config.clone() },
        PriorConfig { codebook_size: 51, ..config.clone() },
        PriorConfig { strides: vec![4, 2, 1, 1, 1], ..config.clone() },
    ] {
        let error = load(&other.to_json().unwrap(), &weights).unwrap_err();
        assert!(matches!(error, ModelError::Weights { .. }), "{error}");
        assert!(error.to_string().contains("prior.safetensors"), "{error}");
    }
    let error = load("{\"codec\": 1e99}", &weights).unwrap_err();
    assert!(matches!(error, ModelError::Config { .. }), "{error}");
    assert!(error.to_string().contains("prior.json"), "{error}");
    // A folder has one or has none.
    let folder = tempfile::tempdir().unwrap();
    assert!(Prior::load_if_any(folder.path()).unwrap().is_none());
    std::fs::write(folder.path().join("prior.json"), &json).unwrap();
    assert!(matches!(Prior::load_if_any(folder.path()), Err(ModelError::Read { .. })));
    std::fs::write(folder.path().join("prior.safetensors"), &weights).unwrap();
    assert_eq!(Prior::load_if_any(folder.path()).unwrap().unwrap().id(), good.id());
}
