//! A long run of the streaming library: random pieces, random levels, resets in the middle. What comes out
//! has to be what the same sound gives at once, and memory has to stay as it is.
//!
//! `TESSERA_SOAK_SECONDS` says how much audio; a minute without it. docs/reliability.md has the long runs.
#![cfg(feature = "embedded-model")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::Random;
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

/// Longest stretch between two resets, in steps.
const MOST_STEPS: usize = 250;

struct Soak {
    model: Model,
    random: Random,
    encoder: StreamEncoder,
    decoder: StreamDecoder,
    /// Of a stretch: samples that went in, codes of all levels, levels that each step is decoded with, and
    /// samples that came out.
    sound: Vec<f32>,
    codes: Vec<u16>,
    levels: Vec<usize>,
    samples: Vec<f32>,
    /// Room for one call.
    coded: Vec<u16>,
    chosen: Vec<u16>,
    decoded: Vec<f32>,
}

impl Soak {
    fn new(model: &Model) -> Self {
        let (levels, chunk) = (model.config().levels(), model.chunk_samples());
        let longest = (MOST_STEPS + 16) * chunk;
        let codes = (MOST_STEPS + 16) * model.codes_per_step(levels);
        Self {
            model: model.clone(),
            random: Random::new(1),
            encoder: StreamEncoder::new(model),
            decoder: StreamDecoder::new(model),
            sound: Vec::with_capacity(longest),
            codes: Vec::with_capacity(codes),
            levels: Vec::with_capacity(MOST_STEPS + 16),
            samples: Vec::with_capacity(longest),
            coded: vec![0; codes],
            chosen: Vec::with_capacity(codes),
            decoded: vec![0.0; longest],
        }
    }

    /// From 0 to `below` - 1.
    fn below(&mut self, below: usize) -> usize {
        ((self.random.draw() * 0.5 + 0.5) * below as f32) as usize % below
    }

    /// One stretch; gives its samples.
    fn stretch(&mut self) -> usize {
        let most = self.model.config().levels();
        let length = self.below(MOST_STEPS * self.model.chunk_samples()) + 1;
        self.sound.clear();
        // Tones and noise that swell and fade, and silence between them.
        let (pitch, swell) = (self.random.draw() * 0.2, self.random.draw() * 1e-3);
        for n in 0..length {
            let n = n as f32;
            let loud = (n * swell).sin().max(0.0);
            self.sound.push(loud * (0.4 * (n * pitch).sin() + 0.1 * self.random.draw()));
        }
        self.codes.clear();
        self.levels.clear();
        self.samples.clear();
        let mut at = 0;
        let mut levels = most;
        while at < length {
            if self.below(8) == 0 {
                levels = self.below(most) + 1;
            }
            let end = (at + self.below(10_000) + 1).min(length);
            let done =
                self.encoder.process_into(&self.sound[at..end], most, &mut self.coded).unwrap();
            at += done.consumed;
            self.decode(done.produced, levels);
        }
        if self.below(2) == 0 {
            let done = self.encoder.finish(most, &mut self.coded).unwrap();
            self.decode(done.produced, levels);
            let done = self.decoder.finish(&mut self.decoded).unwrap();
            self.samples.extend_from_slice(&self.decoded[..done.produced]);
        } else {
            self.encoder.reset();
            self.decoder.reset();
        }
        length
    }

    /// Decodes the first `levels` of the codes that were just made.
    fn decode(&mut self, produced: usize, levels: usize) {
        let all = self.model.codes_per_step(self.model.config().levels());
        let some = self.model.codes_per_step(levels);
        self.chosen.clear();
        for step in self.coded[..produced].chunks_exact(all) {
            self.chosen.extend_from_slice(&step[..some]);
            self.levels.push(levels);
        }
        self.codes.extend_from_slice(&self.coded[..produced]);
        let done = self.decoder.process_into(&self.chosen, levels, &mut self.decoded).unwrap();
        assert_eq!(done.consumed, self.chosen.len());
        self.samples.extend_from_slice(&self.decoded[..done.produced]);
    }

    /// The same stretch by streams of its own: the sound at once, the codes step by step.
    fn check(&mut self) {
        let most = self.model.config().levels();
        let all = self.model.codes_per_step(most);
        let mut encoder = StreamEncoder::with_batch(&self.model, 8);
        let done = encoder.process_into(&self.sound, most, &mut self.coded).unwrap();
        let tail = encoder.finish(most, &mut self.coded[done.produced..]).unwrap();
        let made = &self.coded[..done.produced + tail.produced];
        assert!(made.starts_with(&self.codes), "codes of pieces differ from those of the whole");
        let mut decoder = StreamDecoder::new(&self.model);
        let mut at = 0;
        for (step, &levels) in self.codes.chunks_exact(all).zip(&self.levels) {
            let codes = &step[..self.model.codes_per_step(levels)];
            let done = decoder.process_into(codes, levels, &mut self.decoded).unwrap();
            let same = self.decoded[..done.produced]
                .iter()
                .zip(&self.samples[at..])
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "samples of pieces differ from those of steps");
            at += done.produced;
        }
    }
}

/// Resident memory in kilobytes, where the system says.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4)
}

#[test]
fn a_long_run_stays_right_and_takes_no_more_memory() {
    let seconds: f64 = std::env::var("TESSERA_SOAK_SECONDS")
        .map_or(60.0, |text| text.parse().expect("TESSERA_SOAK_SECONDS is a number"));
    let model = Model::shipped().unwrap();
    let rate = f64::from(model.config().sample_rate);
    let mut soak = Soak::new(&model);
    let (mut done, mut stretches, mut before) = (0, 0, None);
    while (done as f64) < seconds * rate {
        done += soak.stretch();
        soak.check();
        stretches += 1;
        if stretches == 3 {
            before = resident();
        }
    }
    let after = resident();
    println!(
        "{stretches} stretches, {:.0} s; resident {before:?} kB, then {after:?} kB",
        done as f64 / rate
    );
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + 2048, "memory grew from {before} kB to {after} kB");
    }
}
