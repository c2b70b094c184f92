//! Which lines stand out of a sound.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use super::comb_finder::CombTask;
use super::{
    BandPowers, CombFinder, Kept, LEVEL_STEP, LEVELS, LOWEST, Line, Lines, PITCHES,
    PITCHES_PER_OCTAVE, SLOTS, SOFTEST, Trims,
};
use crate::config::CodecConfig;
use crate::trims::TrimMeter;
use crate::{math, real_fft};

/// Seconds of the window that is looked through: a line is three bins of 17 Hz wide then.
const WINDOW: f64 = 0.06;
/// Hz to either side of a line in which the rest of the spectrum is what the line stands out of.
const AROUND: f64 = 400.0;
/// Bins to either side of a peak that are its own.
const OWN: usize = 3;
/// Where phases are learned, below this many Hz, only a bare tone is a line.
const LEARNED: f64 = 950.0;
/// How much a bare tone stands out, in dB, to begin and to go on. There is next to nothing around it.
const BARE: [f32; 2] = [60.0, 50.0];
/// Amplitudes in dB of full scale, and below the spectrum's largest, under which nothing is a line.
const FLOOR: f32 = -70.0;
const RANGE: f32 = 55.0;
/// Power of silence.
const SILENCE: f32 = 1e-12;
/// A line's level stays while it is no further off than this, in levels.
const STAYS: f32 = 0.8;
/// A line goes no further than this in a step, in Hz, up where partials may stand as close and a line could take its
/// neighbour for itself.
const FURTHEST: f32 = 60.0;
/// A line does not begin as near to another as this, in pitches.
const APART: f32 = 4.3;
/// 1 / ln 2
const OCTAVES_OF_LN: f32 = std::f32::consts::LOG2_E;

/// The window spreads a line: dB below it at `SPREAD` Hz from it, with some left to be sure, and an octave further.
/// Whatever is softer may be no line of its own.
const SPREAD: f64 = 40.0;
const SPREAD_BELOW: f32 = 26.0;
const SPREAD_FALLS: f32 = 18.0;
/// No further than this, in Hz.
const SPREADS_TO: f64 = 250.0;

/// Samples of the window at a rate in Hz: an even number.
fn window(rate: u32) -> usize {
    (((f64::from(rate) * WINDOW) as usize) & !1).max(8)
}

/// Which lines are worth their bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selection {
    /// Lines at a time, 0 to 8.
    pub most: usize,
    /// How far a line stands out of the mean of what is around it, in dB, to begin.
    pub begins: f32,
    /// And to go on.
    pub goes_on: f32,
    /// How strong a comb is to begin, as the sum of its strengths; 0 for no combs.
    pub comb: u8,
    /// And how much stronger it is to be, to begin and to go on, for each line that there is beside it.
    pub beside: u8,
    /// Steps that a grain stays for: 1, 2 or 4, or 0 for no grains. They are found only where codes are looked for.
    pub grain: u8,
    /// By how much a bit spent on trims has to bring the squared errors of levels down, in dB squared; 0 for no trims.
    pub trim: f32,
}

impl Selection {
    /// Those that stand out most: 0.1 kbps or so where there are any, as much again for grains, and somewhat more for trims.
    pub const FEW: Self =
        Self { most: 3, begins: 35.0, goes_on: 27.0, comb: 5, beside: 1, grain: 4, trim: 10.0 };
    /// None at all.
    pub const NONE: Self = Self { most: 0, comb: 0, grain: 0, trim: 0.0, ..Self::FEW };
    /// All that are worth drawing: up to 0.5 kbps, nearly as much again for grains, and half of it for trims.
    pub const MANY: Self =
        Self { most: SLOTS, begins: 20.0, goes_on: 13.0, comb: 3, beside: 0, grain: 1, trim: 3.0 };

    /// With few bits for codes a line costs what codes could have had: at the rates of five levels of the shipped
    /// model and below, in bits a second, only what stands out most is drawn.
    pub(crate) const LOW_RATE: f64 = 4000.0;
    /// Rates of the codes, in bits a second, beside which bits for trims are worth what few and many lines have them be. Beside fewer
    /// codes a bit can do more for these.
    const RATES: [f64; 2] = [3250.0, 5250.0];

    /// As many as suit the rate of the codes of the first `levels` levels, and none where the codec is so quick that
    /// lines would come late.
    pub fn suiting(config: &CodecConfig, levels: usize) -> Self {
        let rate = config.bits_per_second(levels.min(config.levels()));
        let (suiting, of_rate) = match rate {
            _ if !LineFinder::keeps_time(config) => return Self::NONE,
            rate if rate < Self::LOW_RATE => (Self::FEW, Self::RATES[0]),
            _ => (Self::MANY, Self::RATES[1]),
        };
        Self { trim: suiting.trim * (of_rate / rate.max(1.0)) as f32, ..suiting }
    }

    /// What of it can be found while the sound comes in: no grains, which are chosen by what they are heard to do.
    pub fn live(self) -> Self {
        Self { grain: 0, ..self }
    }

    /// What there may be.
    pub fn kept(&self) -> Kept {
        match (self.grain, self.comb, self.most) {
            _ if self.trim > 0.0 => Kept::All,
            (1.., ..) => Kept::ButTrims,
            (0, 1.., _) => Kept::SlotsAndComb,
            (0, 0, 1..) => Kept::Slots,
            (0, 0, 0) => Kept::Nothing,
        }
    }
}

/// A peak of a spectrum.
#[derive(Debug, Clone, Copy, Default)]
struct Peak {
    /// In pitches and levels, between those that have numbers.
    pitch: f32,
    level: f32,
    hz: f64,
    /// dB above what is around.
    above: f32,
    taken: bool,
}

impl Peak {
    fn line(&self) -> Option<Line> {
        let pitch = (self.pitch + 0.5).max(0.0) as u16;
        Line::new(
            pitch.min(PITCHES - 1),
            (self.level + 0.5).clamp(0.0, f32::from(LEVELS - 1)) as u8,
        )
    }
}

/// Finds the lines of a channel, step by step.
///
/// Those of a step are looked for where the decoder's output will end once it has that step, or as near to it
/// as the window allows, and with nothing but samples that were given by then.
#[derive(Clone)]
pub struct LineFinder {
    selection: Selection,
    step: usize,
    /// What the window sees, from here on, and what came after.
    samples: Box<[f32]>,
    seen: usize,
    /// The step that is coming in, and how many samples of it there are.
    waiting: Box<[f32]>,
    filled: usize,
    /// What there is to do with a step, what each of it costs, and how much is done of the step at work, if there is one.
    tasks: Arc<[Task]>,
    costs: Arc<[u64]>,
    done: Option<usize>,
    shape: Arc<[f32]>,
    forward: Arc<dyn Fft<f32>>,
    turns: Arc<[Complex32]>,
    /// Of a spectrum's power, so that a sinusoid has that of its amplitude.
    scale: f32,
    /// Hz of a bin.
    width: f64,
    /// How far below a line its own spread may be, by bins from it.
    spread: Arc<[f32]>,
    /// Bins in which lines may be.
    bins: std::ops::Range<usize>,
    buffer: Box<[Complex32]>,
    scratch: Box<[Complex32]>,
    /// Amplitudes in dB, and their sums from the first on.
    spectrum: Box<[f32]>,
    sums: Box<[f64]>,
    /// The spectrum's peaks, and how many of them there are: in a box, whose copies have room for as many.
    peaks: Box<[Peak]>,
    found: usize,
    comb: Option<CombFinder>,
    trims: Option<TrimMeter>,
    lines: Lines,
    /// Those at the end of the step before.
    before: Lines,
    /// Slots whose line has ended in this step.
    ended: [bool; SLOTS],
}

/// What is done with a step, one after the other.
#[derive(Debug, Clone, Copy)]
enum Task {
    /// The window's spectrum.
    Transform,
    /// Its amplitudes.
    Amplitudes,
    /// The peaks in it, and which of them are lines.
    Choose,
    /// The comb.
    Comb(CombTask),
    /// The levels that trims are chosen by.
    Hear(usize),
}

impl Task {
    /// In the measure of [`StreamEncoder::unit_costs`](crate::engine::StreamEncoder::unit_costs), as measured at 48 kHz
    /// with steps of 40 ms.
    fn cost(self) -> u64 {
        match self {
            Self::Transform => 550_000,
            Self::Amplitudes => 270_000,
            Self::Choose => 160_000,
            Self::Comb(CombTask::Filter(_)) => 104_000,
            Self::Comb(CombTask::Weigh) => 66_000,
            Self::Comb(CombTask::Try(_)) => 200_000,
            Self::Comb(CombTask::Compare(_)) => 380_000,
            Self::Comb(CombTask::Choose) => 1_500,
            Self::Hear(_) => 500_000,
        }
    }
}

impl std::fmt::Debug for LineFinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineFinder").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl LineFinder {
    /// For samples at `rate` Hz in steps of `step` samples, at least 1, whose decoder lags by `lag` samples.
    pub fn new(rate: u32, step: usize, lag: usize, selection: Selection) -> Self {
        let window = window(rate);
        let comb =
            (selection.comb > 0).then(|| CombFinder::new(rate, [selection.comb, selection.beside]));
        let (rate, step) = (f64::from(rate.max(1)), step.max(1));
        let size = (window * 7 / 5).next_power_of_two();
        let width = rate / size as f64;
        let half = size / 2;
        let shape: Arc<[f32]> = (0..window).map(|n| math::hann(n, window) as f32).collect();
        let around = (AROUND / width) as usize;
        let highest = super::frequencies().last().unwrap_or(LOWEST).min(0.45 * rate);
        let first = ((LOWEST / width) as usize + 1).max(around);
        let end = ((highest / width) as usize).min((half + 1).saturating_sub(around + 1));
        let spread = |bins: usize| {
            let octaves = math::ln((bins as f64 * width / SPREAD).max(1.0) as f32) * OCTAVES_OF_LN;
            SPREAD_BELOW + SPREAD_FALLS * octaves
        };
        let forward = FftPlannerScalar::new().plan_fft_forward(half);
        let amplitude = shape.iter().map(|&w| f64::from(w)).sum::<f64>() / 2.0;
        // The window's middle is as far behind the newest sample as the decoder's output ends, or further.
        let span = window + lag.saturating_sub(window / 2);
        let kept = span.max(step);
        let lines = [Task::Transform, Task::Amplitudes, Task::Choose].into_iter();
        let tasks: Arc<[Task]> = lines.chain(CombTask::all().map(Task::Comb)).collect();
        let complex = |n: usize| vec![Complex32::default(); n].into_boxed_slice();
        Self {
            selection: Selection { most: selection.most.min(SLOTS), ..selection },
            step,
            samples: vec![0.0; kept].into(),
            seen: kept - span,
            waiting: vec![0.0; step].into(),
            filled: 0,
            costs: tasks.iter().map(|task| task.cost()).collect(),
            tasks,
            done: None,
            turns: real_fft::turns(size).collect(),
            scale: (1.0 / (amplitude * amplitude)) as f32,
            width,
            spread: (0..=(SPREADS_TO / width) as usize).map(spread).collect(),
            bins: first..end.max(first),
            buffer: complex(half),
            scratch: complex(forward.get_inplace_scratch_len()),
            spectrum: vec![0.0; half + 1].into(),
            sums: vec![0.0; half + 2].into(),
            // No two bins beside each other are peaks.
            peaks: vec![Peak::default(); half / 2 + 1].into(),
            found: 0,
            comb,
            trims: None,
            lines: Lines::NONE,
            before: Lines::NONE,
            ended: [false; SLOTS],
            forward,
            shape,
        }
    }

    /// For a codec's samples and steps; none where no lines are wanted.
    pub fn of_codec(config: &CodecConfig, selection: Selection) -> Option<Self> {
        let (rate, step, lag) =
            (config.sample_rate, config.samples_per_step(), config.lag_samples());
        selection.kept().any().then(|| Self::new(rate, step, lag, selection))
    }

    /// The same finder, for live sound, which hears the levels of a codec's steps as well: once a step is taken,
    /// [`trims`](Self::trims) are chosen by them.
    pub fn with_trims(mut self, config: &CodecConfig) -> Self {
        let meter = TrimMeter::new(config, self.selection.trim);
        let hear = (0..meter.units()).map(Task::Hear);
        self.tasks = self.tasks.iter().copied().chain(hear).collect();
        self.costs = self.tasks.iter().map(|task| task.cost()).collect();
        self.trims = Some(meter);
        self
    }

    /// Whether the lines of such a codec are where they were heard. Where the decoder lags by less than half of
    /// the window that they are looked for in, they come late, by up to 30 ms.
    pub fn keeps_time(config: &CodecConfig) -> bool {
        2 * config.lag_samples() >= window(config.sample_rate) && CombFinder::keeps_time(config)
    }

    /// Takes samples, and appends the lines of each step that they complete to `found`.
    pub fn find(&mut self, samples: &[f32], found: &mut Vec<Lines>) {
        let mut rest = samples;
        while !rest.is_empty() {
            rest = &rest[self.fill(rest)..];
            if self.begin() {
                self.advance(usize::MAX);
                found.extend(self.take());
            }
        }
    }

    /// Takes samples up to the end of a step, without looking at them, and gives how many. For use with
    /// [`begin`](Self::begin); samples may be taken while a step is looked at.
    pub fn fill(&mut self, samples: &[f32]) -> usize {
        let count = samples.len().min(self.step - self.filled);
        for (to, from) in self.waiting[self.filled..].iter_mut().zip(&samples[..count]) {
            *to = if from.is_finite() { from.clamp(-1e6, 1e6) } else { 0.0 };
        }
        self.filled += count;
        count
    }

    /// Begins to look at a step, which [`advance`](Self::advance) then does in small units; whether there is one that
    /// is complete, and none at work.
    pub fn begin(&mut self) -> bool {
        if self.filled < self.step || self.done.is_some() {
            return false;
        }
        self.samples.copy_within(self.step.., 0);
        let newest = self.samples.len() - self.step;
        self.samples[newest..].copy_from_slice(&self.waiting);
        self.before = self.lines;
        (self.filled, self.done) = (0, Some(0));
        true
    }

    /// Does the next `units` units of the step that was begun; whether it is done.
    pub fn advance(&mut self, units: usize) -> bool {
        let Some(done) = self.done else { return false };
        let end = done.saturating_add(units).min(self.tasks.len());
        for unit in done..end {
            self.run(self.tasks[unit]);
        }
        self.done = Some(end);
        end == self.tasks.len()
    }

    /// What each unit of a step costs, in the measure of
    /// [`StreamEncoder::unit_costs`](crate::engine::StreamEncoder::unit_costs).
    pub fn unit_costs(&self) -> &[u64] {
        &self.costs
    }

    /// The lines at the end of the step that is done, if one is.
    pub fn take(&mut self) -> Option<Lines> {
        self.done.take_if(|done| *done == self.tasks.len())?;
        let mut lines = self.lines;
        lines.set_comb(self.comb.as_ref().and_then(CombFinder::found));
        Some(lines)
    }

    /// The trims of the step that was [taken](Self::take) last, by the powers of its frames as its codes have them
    /// ([`StreamDecoder::powers`](crate::engine::StreamDecoder::powers)): none unless the finder is one
    /// [`with_trims`](Self::with_trims), and they are selected.
    pub fn trims(&mut self, made: impl Iterator<Item = BandPowers>) -> Trims {
        self.trims.as_mut().map_or(Trims::NONE, |meter| meter.choose(made))
    }

    /// Which lines are worth their bits from the next step on. Lines that there are go on to their end.
    pub fn select(&mut self, selection: Selection) {
        self.selection = Selection { most: selection.most.min(SLOTS), ..selection };
        if let Some(comb) = &mut self.comb {
            comb.select([selection.comb, selection.beside]);
        }
        if let Some(meter) = &mut self.trims {
            meter.select(selection.trim);
        }
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.samples.fill(0.0);
        (self.filled, self.done) = (0, None);
        self.comb.iter_mut().for_each(CombFinder::reset);
        self.trims.iter_mut().for_each(TrimMeter::reset);
        (self.lines, self.before) = (Lines::NONE, Lines::NONE);
    }

    fn run(&mut self, task: Task) {
        let lines = self.selection.most > 0 && !self.bins.is_empty();
        match task {
            Task::Transform if lines => self.transform(),
            Task::Amplitudes if lines => self.amplitudes(),
            Task::Choose if lines => {
                self.pick();
                self.go_on();
                self.begin_lines();
            }
            Task::Choose => self.lines = Lines::NONE,
            Task::Transform | Task::Amplitudes => {}
            Task::Comb(task) => {
                let newest = self.samples.len() - self.step;
                let beside = self.lines.iter().count();
                if let Some(comb) = &mut self.comb {
                    comb.run(task, &self.samples[newest..], beside);
                }
            }
            Task::Hear(unit) => {
                let newest = self.samples.len() - self.step;
                if let Some(meter) = &mut self.trims {
                    meter.hear(unit, &self.samples[newest..], [&self.before, &self.lines]);
                }
            }
        }
    }

    fn transform(&mut self) {
        let seen = &self.samples[self.seen..][..self.shape.len()];
        self.buffer.fill(Complex32::default());
        real_fft::pack(seen, &self.shape, &mut self.buffer);
        self.forward.process_with_scratch(&mut self.buffer, &mut self.scratch);
    }

    /// The amplitudes of the window's bins, in dB.
    fn amplitudes(&mut self) {
        let powers = real_fft::powers(&self.buffer, &self.turns);
        self.spectrum.iter_mut().zip(powers).for_each(|(bin, power)| *bin = power);
        // No line is near half the rate: the last bin counts as silent.
        if let Some(last) = self.spectrum.last_mut() {
            *last = 0.0;
        }
        // Apart from that, so that it becomes vector code.
        for bin in &mut self.spectrum {
            *bin = math::DB_OF_LN * math::ln(*bin * self.scale + SILENCE);
        }
    }

    /// Peaks that are good enough for a line to go on.
    fn pick(&mut self) {
        self.found = 0;
        let s = &*self.spectrum;
        let mut sum = 0.0;
        for (before, value) in self.sums.iter_mut().zip(s.iter().chain([&0.0])) {
            *before = sum;
            sum += f64::from(*value);
        }
        let largest = s.iter().copied().fold(f32::MIN, f32::max);
        let floor = FLOOR.max(largest - RANGE);
        let around = (AROUND / self.width) as usize;
        let lobe_bins = (2 * OWN + 1) as f64;
        for k in self.bins.clone() {
            let [below, here, above] = [s[k - 1], s[k], s[k + 1]];
            if here < floor || here <= below || here < above {
                continue;
            }
            let all = self.sums[k + around + 1] - self.sums[k - around];
            let lobe = self.sums[k + OWN + 1] - self.sums[k - OWN];
            let mean = (all - lobe) / ((2 * around + 1) as f64 - lobe_bins).max(1.0);
            let stands_out = here - mean as f32;
            // The top of a parabola through the three.
            let bend = below - 2.0 * here + above;
            let off = if bend < 0.0 { 0.5 * (below - above) / bend } else { 0.0 };
            let hz = (k as f64 + f64::from(off)) * self.width;
            if stands_out < if hz < LEARNED { BARE[1] } else { self.selection.goes_on } {
                continue;
            }
            let neighbours = |by: usize| [k.checked_sub(by), Some(k + by)].into_iter().flatten();
            let mut spread = self.spread.iter().enumerate();
            let own = spread.all(|(by, below)| {
                neighbours(by).all(|j| s.get(j).is_none_or(|louder| louder - here < *below))
            });
            if !own {
                continue;
            }
            let level = here - 0.25 * (below - above) * off;
            let octaves = math::ln((hz / LOWEST) as f32) * OCTAVES_OF_LN;
            let Some(place) = self.peaks.get_mut(self.found) else { return };
            *place = Peak {
                pitch: octaves * f32::from(PITCHES_PER_OCTAVE),
                level: (level - SOFTEST) / LEVEL_STEP,
                hz,
                above: stands_out,
                taken: false,
            };
            self.found += 1;
        }
    }

    /// Lines that are there go to the nearest peak, or end.
    fn go_on(&mut self) {
        self.ended = [false; SLOTS];
        for (slot, ended) in self.ended.iter_mut().enumerate() {
            let Some(line) = self.lines.slots()[slot] else { continue };
            let (pitch, level) = (f32::from(line.pitch()), f32::from(line.level()));
            let mut nearest: Option<(f32, usize, Line)> = None;
            let peaks = self.peaks[..self.found].iter().enumerate();
            for (i, peak) in peaks.filter(|(_, peak)| !peak.taken) {
                let off = (peak.pitch - pitch).abs();
                // An octave of so many pitches is ln 2 wide.
                let off_hz = off * peak.hz as f32 / (OCTAVES_OF_LN * f32::from(PITCHES_PER_OCTAVE));
                if off_hz > FURTHEST || nearest.is_some_and(|(least, ..)| off >= least) {
                    continue;
                }
                let Some(mut next) = peak.line() else { continue };
                if (peak.level - level).abs() <= STAYS {
                    next.level = line.level();
                }
                if line.may_become(next) {
                    nearest = Some((off, i, next));
                }
            }
            if let Some((_, i, _)) = nearest {
                self.peaks[i].taken = true;
            }
            *ended = nearest.is_none();
            self.lines.set(slot, nearest.map(|(.., next)| next));
        }
    }

    /// The loudest peaks that stand out begin lines, as long as there is room.
    fn begin_lines(&mut self) {
        for slot in 0..self.selection.most {
            // A slot's line has to be heard to its end.
            if self.lines.slots()[slot].is_some() || self.ended[slot] {
                continue;
            }
            let begins = self.selection.begins;
            let free = |peak: &&mut Peak| {
                let near = |line: Line| (peak.pitch - f32::from(line.pitch())).abs() < APART;
                !peak.taken
                    && peak.above >= if peak.hz < LEARNED { BARE[0] } else { begins }
                    && !self.lines.iter().any(near)
            };
            let louder = |a: &&mut Peak, b: &&mut Peak| a.level.total_cmp(&b.level);
            let peaks = self.peaks[..self.found].iter_mut();
            let Some(peak) = peaks.filter(free).max_by(louder) else { return };
            peak.taken = true;
            let line = peak.line();
            self.lines.set(slot, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn tone(hertz: f64, amplitude: f64, samples: usize) -> Vec<f32> {
        (0..samples).map(|n| (amplitude * (TAU * hertz * n as f64 / 48e3).sin()) as f32).collect()
    }

    fn found(sound: &[f32], selection: Selection) -> Vec<Lines> {
        let mut found = Vec::new();
        LineFinder::new(48_000, 1920, 1440, selection).find(sound, &mut found);
        found
    }

    #[test]
    fn two_tones_are_two_lines_and_their_spread_is_none() {
        let sound: Vec<f32> = tone(1_000.0, 0.355, 96_000)
            .iter()
            .zip(tone(1_300.0, 0.01, 96_000))
            .map(|(a, b)| a + b)
            .collect();
        let lines = found(&sound, Selection::MANY)[40];
        let lines: Vec<_> = lines.iter().map(|line| (line.pitch(), line.level())).collect();
        // 128 log2(1000 / 512), 128 log2(1300 / 512); -9 dB and -40 dB.
        assert_eq!(lines, [(124, 27), (172, 17)]);
    }

    #[test]
    fn how_the_samples_come_makes_no_difference() {
        let sound = tone(3_000.0, 0.2, 30_000);
        let whole = found(&sound, Selection::FEW);
        assert_eq!(whole.len(), 15);
        for piece in [1, 7, 1919, 1921, 5000] {
            let mut finder = LineFinder::new(48_000, 1920, 1440, Selection::FEW);
            let mut pieces = Vec::new();
            sound.chunks(piece).for_each(|piece| finder.find(piece, &mut pieces));
            assert_eq!(pieces, whole, "{piece} at a time");
            finder.reset();
            let mut again = Vec::new();
            finder.find(&sound, &mut again);
            assert_eq!(again, whole, "after a reset");
        }
    }

    #[test]
    fn a_slow_glide_is_one_line() {
        // From 2 to 2.5 kHz in two seconds.
        let mut phase = 0.0;
        let sound: Vec<f32> = (0..96_000)
            .map(|n| {
                phase += TAU * (2_000.0 + 500.0 * f64::from(n) / 96e3) / 48e3;
                (0.2 * f64::sin(phase)) as f32
            })
            .collect();
        let lines = found(&sound, Selection::FEW);
        let slots = lines[5].slots();
        let slot = slots.iter().position(Option::is_some).unwrap();
        let pitches: Vec<u16> =
            lines[5..48].iter().map(|lines| lines.slots()[slot].unwrap().pitch()).collect();
        assert!(pitches.windows(2).all(|two| two[0] <= two[1]), "{pitches:?}");
        assert!(lines.windows(2).all(|two| two[0].may_precede(&two[1])));
        assert!(lines[5..48].iter().all(|lines| lines.iter().count() == 1));
    }

    #[test]
    fn a_low_tone_is_left_to_the_codes_unless_it_is_bare() {
        let bare = tone(700.0, 0.2, 48_000);
        assert_eq!(found(&bare, Selection::FEW)[20].iter().count(), 1);
        let mut state = 1u32;
        let noisy: Vec<f32> = bare
            .iter()
            .map(|x| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                x + 0.1 * ((state >> 8) as f32 / 8_388_608.0 - 1.0)
            })
            .collect();
        assert_eq!(found(&noisy, Selection::FEW)[20].iter().count(), 0);
    }

    #[test]
    fn no_more_than_wanted_and_none_of_nothing() {
        let sound: Vec<f32> = (0..48_000)
            .map(|n| {
                let tones = (1..12).map(|k| (f64::from(n) * 0.13 * f64::from(k)).sin());
                (0.05 * tones.sum::<f64>()) as f32
            })
            .collect();
        let most = |selection| found(&sound, selection).iter().map(|l| l.iter().count()).max();
        assert_eq!(most(Selection::NONE), Some(0));
        assert_eq!(most(Selection::FEW), Some(3));
        assert_eq!(most(Selection::MANY), Some(8));
        assert_eq!(most(Selection { most: 99, ..Selection::MANY }), Some(8));
        for nothing in [0.0, f32::NAN, f32::INFINITY, 0.5, -1e30] {
            let lines = found(&[nothing; 20_000], Selection::MANY);
            assert!(lines.iter().all(|lines| *lines == Lines::NONE), "{nothing}");
        }
    }

    #[test]
    fn units_while_more_comes_in_find_what_the_whole_finds() {
        let mut state = 1u32;
        let sound: Vec<f32> = tone(3_000.0, 0.1, 19_200)
            .iter()
            .zip(1u32..)
            .map(|(x, n)| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let pulse = if n % 400 < 20 { 0.5 } else { 0.0 };
                x + pulse + 0.01 * ((state >> 8) as f32 / 8_388_608.0 - 1.0)
            })
            .collect();
        let whole = found(&sound, Selection::MANY);
        assert!(whole.iter().any(|l| l.comb().is_some() && l.iter().count() > 0), "{whole:?}");
        let mut finder = LineFinder::new(48_000, 1920, 1440, Selection::MANY);
        let mut lines = Vec::new();
        for (turn, part) in sound.chunks(100).enumerate() {
            let taken = finder.fill(part);
            finder.advance(1 + turn % 3);
            if taken < part.len() || finder.filled == 1920 {
                finder.advance(usize::MAX);
                lines.extend(finder.take());
                assert!(finder.begin() && !finder.begin(), "one step at a time");
                assert_eq!(finder.fill(&part[taken..]), part.len() - taken);
            }
        }
        assert!(finder.take().is_none(), "it is not done");
        assert!(finder.advance(usize::MAX));
        lines.extend(finder.take());
        assert_eq!(lines, whole);
    }

    #[test]
    fn a_selection_holds_from_the_next_step_on() {
        let sound = tone(3_000.0, 0.2, 1920);
        let mut finder = LineFinder::new(48_000, 1920, 1440, Selection::FEW);
        let counts = [Selection::FEW, Selection::MANY, Selection::NONE, Selection::FEW].map(|s| {
            let mut lines = Vec::new();
            finder.select(s);
            (0..4).for_each(|_| finder.find(&sound, &mut lines));
            assert!(s != Selection::NONE || lines == [Lines::NONE; 4]);
            lines[3].iter().count()
        });
        assert_eq!(counts, [1, 1, 0, 1]);
    }

    #[test]
    fn few_lines_suit_few_codes_and_none_suit_a_quick_codec() {
        let config = CodecConfig::default();
        let levels: Vec<Selection> =
            (1..=9).map(|levels| Selection::suiting(&config, levels)).collect();
        assert_eq!(Selection { trim: Selection::FEW.trim, ..levels[0] }, Selection::FEW);
        assert!(levels.windows(2).all(|pair| pair[1].trim <= pair[0].trim));
        let quick = CodecConfig { hop: 240, synthesis_window: 480, ..config };
        assert_eq!(Selection::suiting(&quick, 9), Selection::NONE);
    }

    #[test]
    fn a_quick_codec_has_no_time_for_lines() {
        let usual = CodecConfig::default();
        assert!(LineFinder::keeps_time(&usual));
        let quick = CodecConfig { hop: 240, synthesis_window: 480, ..usual };
        assert!(!LineFinder::keeps_time(&quick));
    }

    #[test]
    fn any_rate_step_and_lag_will_do() {
        for (rate, step, lag) in
            [(0, 0, 0), (1, 1, 1), (1_000, 40, 30), (8_000, 3, 900), (768_000, 999, 0)]
        {
            let mut finder = LineFinder::new(rate, step, lag, Selection::MANY);
            let mut lines = Vec::new();
            let sound: Vec<f32> = (0..3_000).map(|n| (n as f32).sin()).collect();
            finder.find(&sound, &mut lines);
            assert_eq!(lines.len(), 3_000 / step.max(1), "{rate} Hz");
        }
    }
}
