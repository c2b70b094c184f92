//! Playing with tokens: freeze, smear, shuffle, mutate, shift, and lost packets. What all this does to lines is
//! in [`line_effects`].
//!
//! Effects see the codes of a step at a time, after the encoder and before the decoder, and never make a code
//! that is not in its codebook. What is drawn by chance depends on the seed and on the number of the step
//! alone, so that every render is the same.

use std::sync::Arc;

use tessera_codec::engine::Model;
use tessera_codec::lines::{Lines, SLOTS};

use crate::line_effects::{self, LineEffects};

/// Scales that can be frozen and weighed on their own: coarse (level 0), middle (level 1), fine (the rest).
pub const SCALES: usize = 3;

/// The last of them, which lines belong to.
pub const FINE: usize = SCALES - 1;

/// Near neighbours that a code can turn into.
pub const NEAR: usize = 8;

/// Steps that are remembered, for freezing what has been and for shuffling.
pub const REMEMBERED: usize = 256;

/// The longest loop that can be frozen, in steps.
pub const LONGEST_LOOP: usize = 64;

/// How many steps back a shuffled code comes from at most.
const SHUFFLE_REACH: u64 = 16;

/// Steps that a range waits for a scale to be frozen: the switch may arrive a little later.
const RANGE_WAITS: u64 = 8;

/// Codebooks up to this size are searched whole for near neighbours; of larger ones, as many codes next
/// to each other in the order of their first value.
const SEARCHED: usize = 4096;

/// The scale of a level.
pub fn scale(level: usize) -> usize {
    level.min(FINE)
}

/// For each code of each level, the [`NEAR`] codes closest to it.
#[derive(Debug)]
pub struct Neighbours {
    /// By level, (codes, near), `near` being less than [`NEAR`] for tiny codebooks.
    levels: Vec<(usize, Vec<u16>)>,
}

impl Neighbours {
    /// Searches the codebooks of `model`.
    pub fn new(model: &Model) -> Self {
        let levels = model.layout().codebook_sizes.iter().enumerate();
        Self { levels: levels.map(|(level, &size)| Self::of_level(model, level, size)).collect() }
    }

    fn of_level(model: &Model, level: usize, size: usize) -> (usize, Vec<u16>) {
        let mut codes: Vec<(u16, &[f32])> = (0..size)
            .filter_map(|code| {
                let code = u16::try_from(code).ok()?;
                Some((code, model.code(level, code)?))
            })
            .collect();
        let near = NEAR.min(codes.len().saturating_sub(1));
        if codes.len() > SEARCHED {
            codes.sort_by(|(_, a), (_, b)| a[0].total_cmp(&b[0]));
        }
        let mut table = vec![0; codes.len() * near];
        let mut best: Vec<(f32, u16)> = Vec::with_capacity(NEAR + 1);
        for (place, (code, vector)) in codes.iter().enumerate() {
            let first =
                place.saturating_sub(SEARCHED / 2).min(codes.len().saturating_sub(SEARCHED));
            best.clear();
            for (other, candidate) in codes.iter().skip(first).take(SEARCHED) {
                if other == code {
                    continue;
                }
                let distance: f32 =
                    vector.iter().zip(*candidate).map(|(a, b)| (a - b) * (a - b)).sum();
                if best.len() == near && best.last().is_some_and(|(worst, _)| distance >= *worst) {
                    continue;
                }
                let place = best.partition_point(|(d, _)| *d <= distance);
                best.insert(place, (distance, *other));
                best.truncate(near);
            }
            for (slot, (_, other)) in
                table[usize::from(*code) * near..][..near].iter_mut().zip(&best)
            {
                *slot = *other;
            }
        }
        (near, table)
    }

    /// The neighbour of a code that the number `draw` picks; the code itself if it has none.
    fn pick(&self, level: usize, code: u16, draw: u64) -> u16 {
        let Some((near, table)) = self.levels.get(level).filter(|(near, _)| *near > 0) else {
            return code;
        };
        let place = usize::from(code) * near + (draw % *near as u64) as usize;
        table.get(place).copied().unwrap_or(code)
    }
}

/// What to do with a step's tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Whether each scale is held.
    pub freeze: [bool; SCALES],
    /// Frames that a code is held, 1 or more.
    pub smear: f32,
    /// Probability that a code turns into a near neighbour.
    pub mutate: f32,
    /// Probability that a code gives way to one of the recent past.
    pub shuffle: f32,
    /// Added to the number of every code, around the end of the codebook.
    pub shift: i32,
    /// Probability that a step is lost on the way.
    pub loss: f32,
    /// Decides what chance brings.
    pub seed: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            freeze: [false; SCALES],
            smear: 1.0,
            mutate: 0.0,
            shuffle: 0.0,
            shift: 0,
            loss: 0.0,
            seed: 0,
        }
    }
}

/// A run of steps that have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Number of the first step.
    pub first: u64,
    /// Steps, 1 to [`LONGEST_LOOP`].
    pub steps: usize,
}

/// What a frozen scale plays.
#[derive(Debug, Clone, Copy)]
enum Frozen {
    /// The loop's step that comes next, and how many it has.
    Loop { next: usize, steps: usize },
    /// The last code of each level, over and over.
    Drone,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    /// Where the level's codes begin in those of a step, and how many there are.
    start: usize,
    count: usize,
    /// Frames that a code covers.
    stride: usize,
    size: u32,
}

/// The effects' memory, for some channels that are treated alike.
#[derive(Debug)]
pub struct TokenEffects {
    levels: Box<[Level]>,
    per_step: usize,
    frames_per_step: usize,
    neighbours: Arc<Neighbours>,
    /// By channel, what was played: (REMEMBERED, per_step), step `n` at `n % REMEMBERED`.
    played: Box<[Box<[u16]>]>,
    /// By channel, the frozen loop: (LONGEST_LOOP, per_step). Scales have different levels, so that they share it.
    loops: Box<[Box<[u16]>]>,
    frozen: [Option<Frozen>; SCALES],
    /// What scales that are frozen next will play, and the step up to which that is remembered.
    range: Option<(Range, u64)>,
    /// By channel, what each level holds while smearing.
    held: Box<[Box<[u16]>]>,
    /// By level, the number of the smear's period.
    period: Box<[Option<u64>]>,
    /// By channel, what came through last.
    received: Box<[Box<[u16]>]>,
    lines: LineEffects,
    /// Steps lost in a row.
    lost: u32,
    step: u64,
}

impl TokenEffects {
    /// For `channels` channels of `model`.
    pub fn new(model: &Model, neighbours: Arc<Neighbours>, channels: usize) -> Self {
        let layout = model.layout();
        let mut start = 0;
        let levels: Box<[Level]> = (0..layout.levels())
            .map(|level| {
                let count = layout.codes_per_step(level);
                start += count;
                Level {
                    start: start - count,
                    count,
                    stride: layout.strides[level],
                    size: layout.codebook_sizes[level] as u32,
                }
            })
            .collect();
        let codes = |count: usize| -> Box<[Box<[u16]>]> {
            (0..channels).map(|_| vec![0; count].into()).collect()
        };
        Self {
            per_step: start,
            frames_per_step: layout.frames_per_step(),
            neighbours,
            played: codes(REMEMBERED * start),
            loops: codes(LONGEST_LOOP * start),
            frozen: [None; SCALES],
            range: None,
            held: codes(levels.len()),
            period: vec![None; levels.len()].into(),
            received: codes(start),
            lines: LineEffects::new(channels),
            lost: 0,
            step: 0,
            levels,
        }
    }

    /// Number of the next step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether a scale holds something, which sounds without any input.
    pub fn is_frozen(&self) -> bool {
        self.frozen.iter().any(Option::is_some)
    }

    /// Has frozen scales play `range` in a loop: those that are frozen now, and those frozen next. Out of
    /// memory's reach it is left alone.
    pub fn hold(&mut self, range: Range) {
        let reach = self.step.saturating_sub(REMEMBERED as u64);
        let end = range.first.saturating_add(range.steps as u64);
        if (1..=LONGEST_LOOP).contains(&range.steps) && range.first >= reach && end <= self.step {
            self.range = Some((range, self.step + RANGE_WAITS));
            self.lines.hold(range);
            for (steps, channel) in self.loops.iter_mut().zip(&self.played) {
                for (i, step) in steps.chunks_exact_mut(self.per_step).take(range.steps).enumerate()
                {
                    let place = ((range.first + i as u64) % REMEMBERED as u64) as usize;
                    step.copy_from_slice(&channel[place * self.per_step..][..self.per_step]);
                }
            }
            for frozen in self.frozen.iter_mut().flatten() {
                *frozen = Frozen::Loop { next: 0, steps: range.steps };
            }
        }
    }

    /// Turns the codes of a step, a slice for each channel, and the lines at its end into what is to be decoded,
    /// and gives the gain that the step is to be faded to. `audible` says whether there is anything worth freezing.
    pub fn apply(
        &mut self,
        codes: &mut [Box<[u16]>],
        lines: &mut [Lines],
        settings: &Settings,
        audible: bool,
    ) -> f32 {
        self.freeze(codes, lines, settings, audible);
        self.smear(codes, lines, settings.smear);
        for (channel, codes) in codes.iter_mut().enumerate() {
            for (index, level) in self.levels.iter().enumerate() {
                let own = codes.iter_mut().enumerate().skip(level.start).take(level.count);
                for (i, code) in own {
                    *code = self.chance(settings, index, level, i, channel, *code);
                }
            }
        }
        self.chance_for_lines(settings, lines);
        self.lines.remember(self.step, lines);
        for (codes, played) in codes.iter().zip(&mut self.played) {
            let place = (self.step % REMEMBERED as u64) as usize;
            played[place * self.per_step..][..self.per_step].copy_from_slice(codes);
        }
        let gain = self.lose(codes, lines, settings);
        self.step += 1;
        gain
    }

    fn freeze(
        &mut self,
        codes: &mut [Box<[u16]>],
        lines: &mut [Lines],
        settings: &Settings,
        audible: bool,
    ) {
        for scale in 0..SCALES {
            if !settings.freeze[scale] {
                self.frozen[scale] = None;
            } else if self.frozen[scale].is_none() {
                self.frozen[scale] = match self.range {
                    Some((range, _)) => Some(Frozen::Loop { next: 0, steps: range.steps }),
                    None if audible => {
                        self.capture(codes, lines, scale);
                        Some(Frozen::Drone)
                    }
                    None => None,
                };
            }
            let Some(frozen) = &mut self.frozen[scale] else { continue };
            let next = match frozen {
                Frozen::Loop { next, steps } => {
                    let now = *next;
                    *next = (now + 1) % *steps;
                    now
                }
                Frozen::Drone => 0,
            };
            if scale == FINE {
                self.lines.freeze(next, lines);
            }
            let levels = self.levels.iter().enumerate();
            for (_, level) in levels.filter(|(i, _)| self::scale(*i) == scale) {
                let own = level.start..level.start + level.count;
                for (codes, steps) in codes.iter_mut().zip(&self.loops) {
                    let step = &steps[next * self.per_step..][..self.per_step];
                    codes[own.clone()].copy_from_slice(&step[own.clone()]);
                }
            }
        }
        if settings.freeze == [false; SCALES]
            && self.range.is_some_and(|(_, until)| self.step >= until)
        {
            self.range = None;
        }
    }

    /// Keeps the last code of each level of a scale: of what plays, or of what comes in at the very start.
    fn capture(&mut self, codes: &[Box<[u16]>], lines: &[Lines], scale: usize) {
        if scale == FINE {
            self.lines.capture(lines);
        }
        let levels = self.levels.iter().enumerate();
        for (_, level) in levels.filter(|(i, _)| self::scale(*i) == scale) {
            for (codes, steps) in codes.iter().zip(&mut self.loops) {
                let last = codes[level.start + level.count - 1];
                steps[level.start..level.start + level.count].fill(last);
            }
        }
    }

    fn smear(&mut self, codes: &mut [Box<[u16]>], lines: &mut [Lines], frames: f32) {
        let frames = f64::from(frames).max(1.0);
        let first = self.step * self.frames_per_step as u64;
        // Lines are those at the end of their step.
        self.lines.smear(((first + self.frames_per_step as u64 - 1) as f64 / frames) as u64, lines);
        for (index, level) in self.levels.iter().enumerate() {
            for i in 0..level.count {
                let period = ((first + (i * level.stride) as u64) as f64 / frames) as u64;
                let new = self.period[index] != Some(period);
                self.period[index] = Some(period);
                for (codes, held) in codes.iter_mut().zip(&mut self.held) {
                    if new {
                        held[index] = codes[level.start + i];
                    }
                    codes[level.start + i] = held[index];
                }
            }
        }
    }

    /// Shuffles, mutates and shifts one code, which is number `i` of the step.
    fn chance(
        &self,
        settings: &Settings,
        index: usize,
        level: &Level,
        i: usize,
        channel: usize,
        code: u16,
    ) -> u16 {
        let mut code = code;
        if settings.shuffle > 0.0 && self.drawn(settings, Draw::Shuffle, i) < settings.shuffle {
            let draw = self.draw(settings, Draw::ShuffleFrom, i);
            let back = 1 + draw % SHUFFLE_REACH;
            if back <= self.step {
                let place = ((self.step - back) % REMEMBERED as u64) as usize;
                let from = level.start + (draw >> 32) as usize % level.count;
                code = self.played[channel][place * self.per_step + from];
            }
        }
        if settings.mutate > 0.0 && self.drawn(settings, Draw::Mutate, i) < settings.mutate {
            code = self.neighbours.pick(index, code, self.draw(settings, Draw::MutateTo, i));
        }
        let shifted =
            (i64::from(code) + i64::from(settings.shift)).rem_euclid(i64::from(level.size));
        shifted as u16
    }

    /// The same for a step's lines, which have the numbers behind those of its codes.
    fn chance_for_lines(&self, settings: &Settings, lines: &mut [Lines]) {
        let own = self.per_step;
        if settings.shuffle > 0.0 && self.drawn(settings, Draw::Shuffle, own) < settings.shuffle {
            let back = 1 + self.draw(settings, Draw::ShuffleFrom, own) % SHUFFLE_REACH;
            if back <= self.step {
                self.lines.shuffle(self.step - back, lines);
            }
        }
        if settings.mutate > 0.0 {
            let drawn = |slot: usize| {
                let mutates = self.drawn(settings, Draw::Mutate, own + slot) < settings.mutate;
                mutates.then(|| self.draw(settings, Draw::MutateTo, own + slot))
            };
            let drawn: [_; SLOTS + 1] = std::array::from_fn(drawn);
            lines.iter_mut().for_each(|lines| line_effects::mutate(lines, |slot| drawn[slot]));
        }
        if settings.shift != 0 {
            lines.iter_mut().for_each(|lines| line_effects::shift(lines, settings.shift));
        }
    }

    /// Loses the step now and then: what came last is held and fades.
    fn lose(&mut self, codes: &mut [Box<[u16]>], lines: &mut [Lines], settings: &Settings) -> f32 {
        let lost = settings.loss > 0.0 && self.drawn(settings, Draw::Loss, 0) < settings.loss;
        self.lines.lose(lost, lines);
        if lost {
            self.lost = self.lost.saturating_add(1);
            for (codes, received) in codes.iter_mut().zip(&self.received) {
                for level in &self.levels {
                    let last = received[level.start + level.count - 1];
                    codes[level.start..level.start + level.count].fill(last);
                }
            }
        } else {
            self.lost = 0;
            for (codes, received) in codes.iter().zip(&mut self.received) {
                received.copy_from_slice(codes);
            }
        }
        // The first lost step fades a little, so that single ones are hardly heard.
        match self.lost {
            0 => 1.0,
            1 => 0.7,
            2 => 0.25,
            _ => 0.0,
        }
    }

    /// From 0 to below 1.
    fn drawn(&self, settings: &Settings, what: Draw, i: usize) -> f32 {
        (self.draw(settings, what, i) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number drawn for code `i` of this step, the same in every render (splitmix64).
    fn draw(&self, settings: &Settings, what: Draw, i: usize) -> u64 {
        let key = (u64::from(settings.seed) << 32) ^ ((what as u64) << 24) ^ i as u64;
        let mut z = key.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.step);
        for _ in 0..2 {
            z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
        }
        z
    }

    /// As if nothing had been played.
    pub fn reset(&mut self) {
        for channel in self
            .played
            .iter_mut()
            .chain(&mut self.loops)
            .chain(&mut self.held)
            .chain(&mut self.received)
        {
            channel.fill(0);
        }
        self.lines.reset();
        (self.frozen, self.range) = ([None; SCALES], None);
        self.period.fill(None);
        (self.lost, self.step) = (0, 0);
    }
}

/// What a number is drawn for.
#[derive(Debug, Clone, Copy)]
enum Draw {
    Shuffle = 1,
    ShuffleFrom,
    Mutate,
    MutateTo,
    Loss,
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use tessera_codec::lines::Line;

    use super::*;

    static MODEL: LazyLock<(Model, Arc<Neighbours>)> = LazyLock::new(|| {
        let model = Model::shipped().unwrap();
        let neighbours = Arc::new(Neighbours::new(&model));
        (model, neighbours)
    });

    fn effects(channels: usize) -> TokenEffects {
        TokenEffects::new(&MODEL.0, MODEL.1.clone(), channels)
    }

    /// Codes of step `step`: all different, level by level.
    fn step(step: usize) -> Vec<u16> {
        let count = MODEL.0.codes_per_step(MODEL.0.levels());
        (0..count).map(|i| ((step * count + i) * 7 % 1024) as u16).collect()
    }

    fn run(settings: &Settings, steps: usize) -> (Vec<Vec<u16>>, Vec<f32>) {
        let mut effects = effects(1);
        (0..steps)
            .map(|n| {
                let mut codes = [step(n).into_boxed_slice()];
                let gain = effects.apply(&mut codes, &mut [], settings, true);
                assert!(codes[0].iter().all(|code| *code < 1024));
                (codes[0].to_vec(), gain)
            })
            .unzip()
    }

    #[test]
    fn without_effects_tokens_pass() {
        let (codes, gains) = run(&Settings::default(), 20);
        assert_eq!(codes, (0..20).map(step).collect::<Vec<_>>());
        assert_eq!(gains, [1.0; 20]);
    }

    #[test]
    fn neighbours_are_the_nearest_codes() {
        let (model, neighbours) = &*MODEL;
        for (level, code) in [(0, 0u16), (1, 511), (3, 1023)] {
            let distance = |other: u16| -> f32 {
                let (a, b) = (model.code(level, code).unwrap(), model.code(level, other).unwrap());
                a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
            };
            let mut others: Vec<u16> = (0..1024).filter(|other| *other != code).collect();
            others.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
            let picked: Vec<u16> =
                (0..NEAR as u64).map(|draw| neighbours.pick(level, code, draw)).collect();
            assert_eq!(
                picked.iter().map(|c| distance(*c)).collect::<Vec<_>>(),
                others[..NEAR].iter().map(|c| distance(*c)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_frozen_scale_holds_its_last_code_and_the_others_go_on() {
        let mut effects = effects(2);
        let mut settings = Settings::default();
        let mut frozen = Vec::new();
        for n in 0..12 {
            settings.freeze = [false, false, n >= 5];
            let mut codes = [step(n).into_boxed_slice(), step(n + 50).into_boxed_slice()];
            effects.apply(&mut codes, &mut [], &settings, true);
            assert_eq!(codes[0][..3], step(n)[..3], "coarse and middle");
            match n {
                0..5 => assert_eq!(*codes[0], step(n)),
                5 => frozen = codes.map(|c| c[3..].to_vec()).to_vec(),
                _ => assert_eq!(codes.map(|c| c[3..].to_vec()).to_vec(), frozen),
            }
        }
        let last = step(5);
        let (layout, mut end) = (MODEL.0.layout(), 3);
        let held = (2..layout.levels()).flat_map(|level| {
            let count = layout.codes_per_step(level);
            end += count;
            vec![last[end - 1]; count]
        });
        assert_eq!(frozen[0], held.collect::<Vec<_>>());
        settings.freeze = [false; 3];
        let mut codes = [step(12).into_boxed_slice(), step(62).into_boxed_slice()];
        effects.apply(&mut codes, &mut [], &settings, true);
        assert_eq!(*codes[0], step(12));
    }

    #[test]
    fn silence_is_not_frozen() {
        let mut effects = effects(1);
        let settings = Settings { freeze: [true; 3], ..Settings::default() };
        for n in 0..4 {
            let mut codes = [step(n).into_boxed_slice()];
            effects.apply(&mut codes, &mut [], &settings, false);
            assert_eq!(*codes[0], step(n));
            assert!(!effects.is_frozen());
        }
    }

    #[test]
    fn a_range_is_played_in_a_loop() {
        let mut effects = effects(1);
        let mut settings = Settings::default();
        let play = |effects: &mut TokenEffects, n: usize, settings: &Settings| {
            let mut codes = [step(n).into_boxed_slice()];
            effects.apply(&mut codes, &mut [], settings, true);
            codes[0].to_vec()
        };
        for n in 0..300 {
            play(&mut effects, n, &settings);
        }
        // What is forgotten or has not been is not there to be held.
        for (first, steps) in [(10, 3), (299, 2), (250, 0), (200, 65)] {
            effects.hold(Range { first, steps });
        }
        effects.hold(Range { first: 280, steps: 3 });
        settings.freeze = [true; 3];
        for n in 0..9 {
            assert_eq!(play(&mut effects, 300 + n, &settings), step(280 + n % 3));
        }
        effects.hold(Range { first: 290, steps: 1 });
        assert_eq!(play(&mut effects, 0, &settings), step(290));
    }

    #[test]
    fn smear_holds_codes_for_as_many_frames() {
        let (codes, _) = run(&Settings { smear: 8.0, ..Settings::default() }, 8);
        for (n, codes) in codes.iter().enumerate() {
            let from = n / 2 * 2;
            assert_eq!(codes[0], step(from)[0]);
            assert_eq!(codes[3..7], [step(from)[3]; 4]);
        }
        // Two and a half frames: 0, 2.5, 5, 7.5.
        let (codes, _) = run(&Settings { smear: 2.5, ..Settings::default() }, 2);
        let fine: Vec<u16> = codes.iter().flat_map(|c| c[3..7].to_vec()).collect();
        let source: Vec<u16> = (0..2).flat_map(|n| step(n)[3..7].to_vec()).collect();
        let expected = [0, 0, 0, 3, 3, 5, 5, 5].map(|i| source[i]);
        assert_eq!(fine, expected);
    }

    #[test]
    fn chance_repeats_with_its_seed_and_is_as_likely_as_asked() {
        for settings in [
            Settings { mutate: 0.3, seed: 7, ..Settings::default() },
            Settings { shuffle: 0.3, seed: 7, ..Settings::default() },
        ] {
            let (codes, _) = run(&settings, 400);
            assert_eq!(codes, run(&settings, 400).0);
            assert_ne!(codes, run(&Settings { seed: 8, ..settings }, 400).0);
            let changed: usize = codes
                .iter()
                .enumerate()
                .map(|(n, codes)| codes.iter().zip(step(n)).filter(|(a, b)| **a != *b).count())
                .sum();
            let share = changed as f32 / (400 * step(0).len()) as f32;
            assert!((0.26..0.34).contains(&share), "{share}");
        }
    }

    #[test]
    fn shift_goes_round_the_codebook() {
        for shift in [-1024, -500, -1, 1, 1023] {
            let (codes, _) = run(&Settings { shift, ..Settings::default() }, 3);
            for (n, codes) in codes.iter().enumerate() {
                let shifted = |code: u16| (i32::from(code) + shift).rem_euclid(1024) as u16;
                assert_eq!(*codes, step(n).into_iter().map(shifted).collect::<Vec<_>>());
            }
        }
    }

    /// Lines of step `step`.
    fn lines(step: usize) -> Lines {
        let mut lines = Lines::NONE;
        lines.set(step % SLOTS, Line::new(100 + step as u16, 20));
        lines
    }

    /// What becomes of the lines of `steps` steps; none are lost.
    fn played(settings: impl Fn(usize) -> Settings, steps: usize) -> Vec<Lines> {
        let mut effects = effects(1);
        let play = |n| {
            let (mut codes, mut lines) = ([step(n).into_boxed_slice()], [lines(n)]);
            effects.apply(&mut codes, &mut lines, &settings(n), true);
            lines[0]
        };
        (0..steps).map(play).collect()
    }

    #[test]
    fn lines_go_with_the_codes_of_their_step() {
        let all: Vec<Lines> = (0..400).map(lines).collect();
        assert_eq!(played(|_| Settings::default(), 20), all[..20]);
        let frozen = |scale: usize| {
            played(
                move |n| {
                    let mut settings = Settings::default();
                    settings.freeze[scale] = n >= 5;
                    settings
                },
                9,
            )
        };
        assert_eq!(frozen(0), all[..9], "the coarse scale has no lines");
        assert_eq!(frozen(FINE)[5..], [all[5]; 4]);
        // Eight frames are two steps.
        let smeared = played(|_| Settings { smear: 8.0, ..Settings::default() }, 6);
        assert_eq!(smeared, [0, 0, 2, 2, 4, 4].map(lines));
        let lossy = Settings { loss: 0.5, seed: 3, ..Settings::default() };
        let (codes, _) = run(&lossy, 200);
        let mut received = Lines::NONE;
        for (n, heard) in played(|_| lossy, 200).into_iter().enumerate() {
            received = if codes[n] == step(n) { all[n] } else { received };
            assert_eq!(heard, received);
        }
    }

    #[test]
    fn chance_is_as_likely_for_lines_as_for_codes() {
        for settings in [
            Settings { mutate: 0.3, seed: 7, ..Settings::default() },
            Settings { shuffle: 0.3, seed: 7, ..Settings::default() },
        ] {
            let heard = played(|_| settings, 400);
            assert_eq!(heard, played(|_| settings, 400), "the same in every render");
            let changed = heard.iter().enumerate().filter(|(n, l)| **l != lines(*n)).count();
            assert!((80..160).contains(&changed), "{changed} of 400");
        }
    }

    #[test]
    fn lost_steps_hold_and_fade_and_come_back() {
        let (codes, gains) = run(&Settings { loss: 0.5, seed: 3, ..Settings::default() }, 200);
        let lost = (0..200).filter(|n| codes[*n] != step(*n)).count();
        assert!((70..130).contains(&lost), "{lost}");
        let mut before = 1.0;
        for (n, (codes, gain)) in codes.iter().zip(&gains).enumerate() {
            let expected = match (before, *codes == step(n)) {
                (_, true) => 1.0,
                (1.0, false) => 0.7,
                (0.7, false) => 0.25,
                _ => 0.0,
            };
            assert_eq!(*gain, expected);
            before = *gain;
        }
        let (_, gains) = run(&Settings { loss: 1.0, ..Settings::default() }, 5);
        assert_eq!(gains, [0.7, 0.25, 0.0, 0.0, 0.0]);
    }
}
