//! Which pitch a sound has, and how much of it.

use std::sync::Arc;

use super::comb::{
    COMB_BANDS, COMB_EDGES, COMB_LOWEST, COMB_PITCHES, COMB_PITCHES_PER_OCTAVE, Comb, STRENGTHS,
    STRONGEST, hertz,
};
use crate::config::CodecConfig;
use crate::math;

/// Seconds that are compared with what was a period before them.
const WINDOW: f64 = 0.04;
/// Hz below which a pitch is looked for, and the rate that does for it.
const LOW: f64 = 2000.0;
const LOW_RATE: f64 = 12_000.0;
/// The least likeness a period later, -1 to 1, of a pitch.
const LEAST: f32 = 0.35;
/// How much more alike a sound is to be for a pitch that is an octave lower: after two periods it is what it was after one.
const OCTAVE: f32 = 0.06;
/// How much a pitch that is near to the last may have less.
const NEAR: f32 = 0.15;
/// And as near as this, in pitches.
const NEAR_PITCHES: f32 = 6.0;
/// How much more likely a pitch is that is the last one.
const SAME: f32 = 0.05;
/// A comb whose pitch is further from the last, in pitches, is another one.
const GOES_ON: u8 = 7;
/// A comb's strength stays while it is no further off than this.
const STAYS: f32 = 1.2;
/// Pitches that are looked at more closely, and how many to either side of each.
const CANDIDATES: usize = 3;
const AROUND: i32 = 2;
/// Of how alike a band is to itself, to the power 1.5, so much is its strength: weaker ones leave noise as even as it was.
const SHARE: f32 = 0.75;
/// The power of samples that are no sound.
const SILENCE: f32 = 1e-9;
/// Sums are taken in so many parts, so that loops become vector code.
const LANES: usize = 8;
/// Parts of a step's samples that are filtered, and of all periods that are tried, at a time.
const FILTERED: usize = 8;
const TRIED: usize = 6;

/// Finds the comb of a channel, step by step: the period after which the sound is most alike to itself, and how alike
/// it is above the learned phases (normalised cross-correlation: Talkin 1995).
///
/// It allocates nothing once it is made.
#[derive(Debug, Clone)]
pub struct CombFinder {
    plan: Arc<Plan>,
    low: Filtered<2>,
    bands: [Filtered<4>; COMB_BANDS],
    /// Samples since the last that was kept of the low band.
    skipped: usize,
    likeness: Box<[f32]>,
    candidates: [Option<(f32, i32)>; CANDIDATES],
    best: Option<Fit>,
    /// How strong a comb is to begin, as the sum of its strengths, and how much stronger for each line beside it.
    begins: u8,
    beside: u8,
    before: Option<Comb>,
}

/// What is done with a step's samples, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CombTask {
    /// Filters one of the step's parts.
    Filter(usize),
    /// Weighs the newest samples.
    Weigh,
    /// Tries one part of all periods at the low rate.
    Try(usize),
    /// Looks at one of those that did best more closely.
    Compare(usize),
    /// Says what it is.
    Choose,
}

impl CombTask {
    /// All of a step's, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        let filter = (0..FILTERED).map(Self::Filter);
        let compare = (0..CANDIDATES).map(Self::Compare);
        let tried = [Self::Weigh].into_iter().chain((0..TRIED).map(Self::Try));
        filter.chain(tried).chain(compare).chain([Self::Choose])
    }
}

/// A pitch, what speaks for it, and how alike each band is to itself a period later.
#[derive(Debug, Clone, Copy)]
struct Fit {
    score: f32,
    pitch: u8,
    likeness: [f32; COMB_BANDS],
}

#[derive(Debug)]
struct Plan {
    /// Samples of the low band's, of which each is one.
    every: usize,
    /// Shapes of the window at the low band's rate and at the full one.
    low_window: Box<[f32]>,
    window: Box<[f32]>,
    /// Periods in samples at the low band's rate that are looked at.
    shortest: usize,
    longest: usize,
    low_rate: f64,
    /// By pitch: samples of a period.
    periods: Box<[usize]>,
}

/// A filter and the newest of what came out of it.
#[derive(Debug, Clone)]
struct Filtered<const N: usize> {
    sections: [Section; N],
    kept: Box<[f32]>,
    /// The newest samples, weighted by the window, and their power.
    weighted: Box<[f32]>,
    power: f32,
}

/// Two poles and two zeros.
#[derive(Debug, Clone, Copy)]
struct Section {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Section {
    /// A low pass, or else a high pass, of two poles at `hz` (Butterworth).
    fn new(low: bool, hz: f64, rate: f64) -> Self {
        // The corner, kept below half the rate; in millionths of a turn.
        let turn = ((hz / rate).min(0.45) * 1e6) as usize;
        let (cos, sin) = math::cos_sin_of_turn(turn, 1_000_000);
        let alpha = sin * std::f64::consts::FRAC_1_SQRT_2;
        let norm = 1.0 / (1.0 + alpha);
        let (edge, sign) = if low { (1.0 - cos, 1.0) } else { (1.0 + cos, -1.0) };
        let edge = edge * norm;
        Self {
            b: [0.5 * edge, sign * edge, 0.5 * edge],
            a: [-2.0 * cos * norm, (1.0 - alpha) * norm],
            state: [0.0; 2],
        }
    }

    fn next(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.state[0];
        self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
        self.state[1] = self.b[2] * x - self.a[1] * y;
        y
    }
}

impl<const N: usize> Filtered<N> {
    /// Compares `window` samples with those up to `behind` before them.
    fn new(sections: [Section; N], window: usize, behind: usize) -> Self {
        let zeros = |n: usize| vec![0.0; n].into();
        Self { sections, kept: zeros(window + behind), weighted: zeros(window), power: SILENCE }
    }

    /// Filters `samples` and keeps the newest of all `every`th, of which the first is that after `skipped`.
    fn take(&mut self, samples: &[f32], every: usize, skipped: usize) {
        let count = (samples.len() + skipped) / every;
        let kept = self.kept.len();
        self.kept.copy_within(count.min(kept).., 0);
        let mut place = kept as isize - count as isize;
        let mut until = every - skipped;
        for x in samples {
            let y = self.sections.iter_mut().fold(f64::from(*x), |x, section| section.next(x));
            until -= 1;
            if until == 0 {
                if let Some(to) = usize::try_from(place).ok().and_then(|i| self.kept.get_mut(i)) {
                    *to = y as f32;
                }
                place += 1;
                until = every;
            }
        }
    }

    fn reset(&mut self) {
        self.kept.fill(0.0);
        self.sections.iter_mut().for_each(|section| section.state = [0.0; 2]);
    }

    /// Weighs the newest samples by `window`, for [`likeness`](Self::likeness).
    fn weigh(&mut self, window: &[f32]) {
        let begin = self.kept.len() - window.len();
        let mut power = [0.0f32; LANES];
        let chunks = window.chunks_exact(LANES).zip(self.kept[begin..].chunks_exact(LANES));
        for ((w, x), weighted) in chunks.zip(self.weighted.chunks_exact_mut(LANES)) {
            for i in 0..LANES {
                weighted[i] = w[i] * x[i];
                power[i] += weighted[i] * x[i];
            }
        }
        self.power = mean(power, window.len());
    }

    /// How alike the newest samples, weighted by `window`, are to those `period` before them, -1 to 1.
    fn likeness(&self, window: &[f32], period: usize) -> f32 {
        let begin = self.kept.len() - window.len();
        let Some(first) = begin.checked_sub(period) else { return 0.0 };
        let then = &self.kept[first..][..window.len()];
        let (mut both, mut power) = ([0.0f32; LANES], [0.0f32; LANES]);
        let chunks = window.chunks_exact(LANES).zip(self.weighted.chunks_exact(LANES));
        for ((w, x), y) in chunks.zip(then.chunks_exact(LANES)) {
            for i in 0..LANES {
                both[i] += x[i] * y[i];
                power[i] += w[i] * y[i] * y[i];
            }
        }
        let powers = self.power * mean(power, window.len());
        (mean(both, window.len()) - SILENCE) / powers.sqrt()
    }
}

/// The mean of `count` values whose sums are these, and what silence has.
fn mean(sums: [f32; LANES], count: usize) -> f32 {
    sums.iter().sum::<f32>() / count as f32 + SILENCE
}

impl CombFinder {
    /// For samples at `rate` Hz. A comb begins when the sum of its strengths is `begins` or more; where there
    /// are lines, each asks for as much more as `beside`, of one that goes on as well.
    pub fn new(rate: u32, [begins, beside]: [u8; 2]) -> Self {
        let rate = f64::from(rate.max(1));
        let every = ((rate / LOW_RATE + 0.5) as usize).max(1);
        let low_rate = rate / every as f64;
        let hann = |rate: f64| -> Box<[f32]> {
            let size = ((rate * WINDOW) as usize).max(LANES).next_multiple_of(LANES);
            let shape = |n: usize| 0.5 - 0.5 * math::cos_sin_of_turn(2 * n + 1, 2 * size).0;
            (0..size).map(|n| shape(n) as f32).collect()
        };
        let (low_window, window) = (hann(low_rate), hann(rate));
        let period = |pitch: u8| (rate / hertz(f32::from(pitch)) + 0.5) as usize;
        let periods: Box<[usize]> = (0..COMB_PITCHES).map(period).collect();
        let highest = hertz(f32::from(COMB_PITCHES - 1));
        let shortest = ((low_rate / highest) as usize).max(2);
        let longest = ((low_rate / COMB_LOWEST) as usize).max(shortest) + 1;
        let band = |band: usize| {
            let [from, to] = [COMB_EDGES[band], COMB_EDGES[band + 1]];
            let section = |i: usize| match i % 2 {
                0 => Section::new(false, from, rate),
                _ => Section::new(true, to, rate),
            };
            Filtered::new(std::array::from_fn(section), window.len(), periods[0])
        };
        let low = [Section::new(true, LOW, rate); 2];
        Self {
            low: Filtered::new(low, low_window.len(), longest + 1),
            bands: std::array::from_fn(band),
            skipped: 0,
            likeness: vec![0.0; longest + 2].into(),
            candidates: [None; CANDIDATES],
            best: None,
            begins,
            beside,
            before: None,
            plan: Plan { every, low_window, window, shortest, longest, low_rate, periods }.into(),
        }
    }

    /// Whether the combs of such a codec are where they were heard: the window's middle, which is 20 ms behind the
    /// newest sample, is to be that of the step's last frame.
    pub fn keeps_time(config: &CodecConfig) -> bool {
        2.0 * config.synthesis_window as f64 >= WINDOW * f64::from(config.sample_rate)
    }

    /// Takes the samples of a step, and gives the comb at its end, beside as many lines as `lines`.
    pub fn find(&mut self, samples: &[f32], lines: usize) -> Option<Comb> {
        CombTask::all().for_each(|task| self.run(task, samples, lines));
        self.found()
    }

    /// Does a part of [`find`](Self::find)'s work; all of it in its order with the same samples is the whole.
    pub(super) fn run(&mut self, task: CombTask, samples: &[f32], lines: usize) {
        match task {
            CombTask::Choose if self.begins == 0 => self.before = None,
            _ if self.begins == 0 => {}
            CombTask::Filter(part) => {
                let samples = &samples[part_of(samples.len(), part, FILTERED)];
                let every = self.plan.every;
                self.low.take(samples, every, self.skipped);
                self.skipped = (self.skipped + samples.len()) % every;
                self.bands.iter_mut().for_each(|band| band.take(samples, 1, 0));
            }
            CombTask::Weigh => {
                self.low.weigh(&self.plan.low_window);
                self.bands.iter_mut().for_each(|band| band.weigh(&self.plan.window));
            }
            CombTask::Try(part) => self.try_periods(part),
            CombTask::Compare(candidate) => {
                if candidate == 0 {
                    (self.candidates, self.best) = (self.candidates(), None);
                }
                self.compare(candidate);
            }
            CombTask::Choose => self.before = self.choose(lines),
        }
    }

    /// The comb at the end of the last step.
    pub(super) fn found(&self) -> Option<Comb> {
        self.before
    }

    /// How strong combs are to be from the next step on: as in [`new`](Self::new), or 0 for none.
    pub(super) fn select(&mut self, [begins, beside]: [u8; 2]) {
        if self.begins == 0 && begins > 0 {
            // Nothing was listened to meanwhile.
            self.reset();
        }
        (self.begins, self.beside) = (begins, beside);
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.low.reset();
        self.bands.iter_mut().for_each(Filtered::reset);
        (self.skipped, self.before) = (0, None);
    }

    fn try_periods(&mut self, part: usize) {
        let plan = &*self.plan;
        // With one to either side, so that what is looked at may be a peak.
        let (first, end) = (plan.shortest - 1, (plan.longest + 2).min(self.likeness.len()));
        let part = part_of(end - first, part, TRIED);
        for period in first + part.start..first + part.end {
            self.likeness[period] = self.low.likeness(&plan.low_window, period);
        }
    }

    /// Looks at the pitches around a candidate.
    fn compare(&mut self, candidate: usize) {
        let plan = &*self.plan;
        let Some((score, pitch)) = self.candidates[candidate] else { return };
        for pitch in pitch - AROUND..=pitch + AROUND {
            let Ok(pitch) = u8::try_from(pitch) else { continue };
            let Some(&period) = plan.periods.get(usize::from(pitch)) else { continue };
            let likeness = self.bands.each_ref().map(|band| band.likeness(&plan.window, period));
            let stays = self.before.is_some_and(|before| before.pitch() == pitch);
            let stays = if stays { SAME } else { 0.0 };
            let score = score + likeness[0] + 0.5 * likeness[1] + stays;
            if self.best.is_none_or(|best| score > best.score) {
                self.best = Some(Fit { score, pitch, likeness });
            }
        }
    }

    fn choose(&self, lines: usize) -> Option<Comb> {
        let Fit { pitch, likeness, .. } = self.best?;
        let before = self.before.filter(|before| before.pitch().abs_diff(pitch) <= GOES_ON);
        let steps = f32::from(STRENGTHS - 1) / STRONGEST;
        let strengths = std::array::from_fn(|band| {
            let likeness = likeness[band].max(0.0);
            let exact = (SHARE * likeness * likeness.sqrt()).min(STRONGEST) * steps;
            match before.map(|before| before.strengths()[band]) {
                Some(before) if (exact - f32::from(before)).abs() <= STAYS => before,
                _ => (exact + 0.5) as u8,
            }
        });
        // One that takes the place of another costs as much as two that begin.
        let needed = match (before, self.before) {
            (Some(_), _) => 1,
            (None, None) => self.begins,
            (None, Some(_)) => self.begins.saturating_add(1),
        };
        let needed = usize::from(needed) + usize::from(self.beside) * lines;
        Comb::new(pitch, strengths).filter(|_| usize::from(strengths.iter().sum::<u8>()) >= needed)
    }

    /// The most likely pitches, with what speaks for them.
    fn candidates(&self) -> [Option<(f32, i32)>; CANDIDATES] {
        let (plan, likeness) = (&*self.plan, &*self.likeness);
        let mut found = [None; CANDIDATES];
        for period in plan.shortest..=plan.longest.min(likeness.len() - 2) {
            let [below, here, above] =
                [likeness[period - 1], likeness[period], likeness[period + 1]];
            if here < LEAST || here < below || here <= above {
                continue;
            }
            // The top of a parabola through the three.
            let bend = below - 2.0 * here + above;
            let off = if bend < 0.0 { 0.5 * (below - above) / bend } else { 0.0 };
            let hz = plan.low_rate as f32 / (period as f32 + off);
            let octaves = math::ln(hz / COMB_LOWEST as f32) * std::f32::consts::LOG2_E;
            let pitch = octaves * f32::from(COMB_PITCHES_PER_OCTAVE);
            let near = |before: Comb| (f32::from(before.pitch()) - pitch).abs() < NEAR_PITCHES;
            let near = if self.before.is_some_and(near) { NEAR } else { 0.0 };
            let mut candidate = Some((here + OCTAVE * octaves + near, (pitch + 0.5) as i32));
            for place in &mut found {
                if place.map_or(f32::MIN, |(score, _)| score) < candidate.map_or(f32::MIN, |c| c.0)
                {
                    std::mem::swap(place, &mut candidate);
                }
            }
        }
        found
    }
}

/// One of `parts` about even parts of `all`.
fn part_of(all: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    all * part / parts..all * (part + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = 1920;

    /// Pulses at a pitch that may change, as a voice has them, with some noise.
    fn voice(hertz: impl Fn(f64) -> f64, noise: f32, seconds: f64) -> Vec<f32> {
        let (mut phase, mut state) = (0.0, 7u32);
        (0..(seconds * 48e3) as usize)
            .map(|n| {
                phase += hertz(n as f64 / 48e3) / 48e3;
                let turn = std::f64::consts::TAU * phase;
                let partials = (1..40).map(|k| (f64::from(k) * turn).cos() / f64::from(k).sqrt());
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let random = (state >> 9) as f32 / 4_194_304.0 - 1.0;
                0.05 * partials.sum::<f64>() as f32 + noise * random
            })
            .collect()
    }

    fn found(sound: &[f32]) -> Vec<Option<Comb>> {
        let mut finder = CombFinder::new(48_000, [2, 0]);
        sound.chunks_exact(STEP).map(|step| finder.find(step, 0)).collect()
    }

    #[test]
    fn a_voice_has_its_pitch_whatever_that_is() {
        for hz in [70.0, 110.0, 163.0, 220.0, 311.0, 450.0] {
            let combs = found(&voice(|_| hz, 0.0, 0.6));
            let expected = 48.0 * (hz / 62.5f64).log2();
            for comb in &combs[4..] {
                let comb = comb.unwrap();
                assert!((f64::from(comb.pitch()) - expected).abs() < 1.0, "{hz} Hz: {comb:?}");
                assert!(
                    comb.strengths().iter().all(|strength| *strength >= 2),
                    "{hz} Hz: {comb:?}"
                );
            }
        }
    }

    #[test]
    fn a_glide_is_followed() {
        let combs = found(&voice(|t| 120.0 * (t * 0.5).exp2(), 0.003, 2.0));
        // The middle of a step's window is 20 ms before its end.
        for (step, comb) in combs.iter().enumerate().skip(4) {
            let t = (step + 1) as f64 * 0.04 - 0.02;
            let expected = 48.0 * (120.0 * (t * 0.5).exp2() / 62.5).log2();
            let pitch = f64::from(comb.unwrap().pitch());
            assert!((pitch - expected).abs() < 1.2, "step {step}: {pitch} {expected}");
        }
    }

    #[test]
    fn noise_and_silence_have_none() {
        assert!(found(&voice(|_| 0.0, 0.2, 1.0)).iter().flatten().count() <= 1);
        assert_eq!(found(&[0.0; 20 * STEP]), [None; 20]);
        assert_eq!(found(&[0.7; 20 * STEP])[5..], [None; 15]);
    }

    #[test]
    fn noise_among_the_partials_makes_it_weaker() {
        let strength = |noise| {
            let combs = found(&voice(|_| 150.0, noise, 1.0));
            let all = combs[4..].iter().flatten();
            all.map(|comb| comb.strengths().map(u32::from).iter().sum::<u32>()).sum::<u32>()
        };
        let [clean, some, much] = [0.0, 0.15, 0.3].map(strength);
        assert!(clean > some && some > much, "{clean} {some} {much}");
    }

    #[test]
    fn it_begins_anew_after_a_reset() {
        let sound = voice(|_| 200.0, 0.01, 0.5);
        let mut finder = CombFinder::new(44_100, [2, 0]);
        let find = |finder: &mut CombFinder| -> Vec<_> {
            sound.chunks_exact(1_773).map(|step| finder.find(step, 0)).collect()
        };
        let first = find(&mut finder);
        finder.reset();
        assert_eq!(find(&mut finder), first);
    }

    #[test]
    fn any_rate_will_do() {
        for rate in [0, 1, 1_000, 8_000, 768_000] {
            let mut finder = CombFinder::new(rate, [2, 0]);
            for step in [0, 1, 100, 10_000] {
                finder.find(&vec![0.5; step], 0);
                finder.find(&vec![f32::MAX; step], 8);
            }
        }
    }
}
