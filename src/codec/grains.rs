//! Which of the decoder's noises is most like the sound: analysis by synthesis, over the rows of a
//! [`Grain`].
//!
//! Rows are tried: the noise of one, under the envelope that the codes tell, is added to what is known of the decoded sound, and
//! the spectra of that and of the original are compared. Where all of them are loops, those whose own spectra are most like
//! the sound's are, and otherwise all. Over windows that tell partials apart it is what stands out of
//! a spectrum that counts, and over shorter ones the levels themselves, so that the noise swells and fades where the sound does.
//! All of that lies below 6 kHz, and is done at the lowest rate that has it.

use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::config::CodecConfig;
use crate::engine::CombShape;
use crate::fine_structure;
use crate::lines::{Comb, GRAIN_BANDS, GRAIN_EDGES, Grain, Lines, grain_bins};
use crate::loops::FRAMES;
use crate::model::ops::InverseStft;
use crate::synthesis::{self, Head};

/// Rows of a band.
const ROWS: usize = 256;
/// What of a spectrum's largest power is the least that counts, and what is silence in any.
const RANGE: f32 = 1e-8;
const SILENCE: f32 = 1e-12;
/// Neighbours that a bin stands out of, for the longest window and for that of half its length.
const AROUND: [usize; 2] = [fine_structure::AROUND, 17];
/// Weights of the squared distance of what stands out, in decades, as if both stood out as much, and of the distance of levels.
const FINE_WEIGHT: f32 = 0.5;
const LEVEL_WEIGHT: f32 = 0.3;
/// Loops that are tried.
const LOOPS_TRIED: usize = 30;
/// Times at which a loop's own spectrum is looked at.
const GLANCES: usize = 4;
/// What another row than the noise itself counts as further away, as a share of the noise's distance: a loop that is hardly nearer would be
/// heard to come round.
const LOOP: f32 = 0.06;
/// A row stays unless another one brings the distance down by this share of that of row 0, and by more where the sound is softer than it is
/// elsewhere: a row that stays is told in a bit, and another in nine. Of grains that may change in every step, and of others.
const STAYS: [f32; 2] = [0.03, 0.02];

/// Tries rows of a codec's noise on a channel's sound.
pub struct GrainSearch {
    bands: [Range<usize>; GRAIN_BANDS],
    comb: CombShape,
    frames_per_step: usize,
    /// How much lower the rate is.
    factor: usize,
    /// By which the decoder lags, at the codec's rate.
    lag: usize,
    /// At the lower rate.
    hop: usize,
    window: usize,
    shape: Vec<f32>,
    inverse: Arc<dyn Fft<f32>>,
    looks: [Look; 3],
    /// How the loops stand out in the bins of the longest look's bands, each of length 1, if all rows but the first are loops.
    reliefs: Vec<[Vec<f32>; GRAIN_BANDS]>,
}

/// Spectra of one length that are compared.
struct Look {
    /// Samples at the lower rate.
    size: usize,
    shape: Vec<f32>,
    forward: Arc<dyn Fft<f32>>,
    /// The same for the sound at the codec's rate.
    sound_shape: Vec<f32>,
    sound_forward: Arc<dyn Fft<f32>>,
    /// Bins by band, and all that are looked at.
    bands: [Range<usize>; GRAIN_BANDS],
    bins: Range<usize>,
    /// Neighbours that a bin stands out of; none where levels are compared.
    around: Option<usize>,
    /// Windows are as many hops apart.
    spacing: usize,
}

/// What frames are without the noise that is looked for, and how loud that is.
struct Frames {
    /// Of the first of them in the stream.
    first: u64,
    /// (frames, bins of all bands)
    gains: Vec<f32>,
    /// Samples at the lower rate, behind a margin.
    samples: Vec<f32>,
}

/// Two signals at a time, one in the real and one in the imaginary parts.
struct Pair {
    samples: Vec<Complex32>,
    spectrum: Vec<Complex32>,
    buffer: Vec<Complex32>,
    scratch: Vec<Complex32>,
    noise: [Vec<f32>; 2],
}

/// Where one of the compared spectra is, and what the sound has there.
struct View {
    look: usize,
    /// Of its first sample.
    start: usize,
    floor: f32,
    sound: Vec<f32>,
}

impl GrainSearch {
    /// For a decoder; `None` where it has no noise that could be chosen.
    pub fn new(config: &CodecConfig, synthesis: &InverseStft) -> Option<Self> {
        let head = synthesis.head();
        let bands = grain_bins(config, head.learned, head.bins());
        let rate = f64::from(config.sample_rate);
        let fits = |factor: &usize| {
            config.synthesis_window.is_multiple_of(2 * factor)
                && config.hop.is_multiple_of(*factor)
                && rate / *factor as f64 >= 2.0 * GRAIN_EDGES[GRAIN_BANDS]
        };
        let factor = [8, 6, 4, 3, 2, 1].into_iter().find(fits)?;
        if bands.iter().any(Range::is_empty) {
            return None;
        }
        let mut planner = FftPlanner::new();
        let (hop, window) = (config.hop / factor, config.synthesis_window / factor);
        let shape = synthesis::window_shape(config.synthesis_window, config.hop);
        let longest = fine_structure::window(rate / factor as f64);
        let width = rate / config.synthesis_window as f64;
        let mut look = |size: usize, around: Option<usize>, spacing: usize| {
            let bin = |bin: usize| {
                let hz = bin as f64 * width;
                ((hz * (size * factor) as f64 / rate).ceil() as usize).min(size / 2)
            };
            let bands = bands.clone().map(|band| bin(band.start)..bin(band.end));
            let beside = around.unwrap_or(0) / 2;
            let bins = bands[0].start.saturating_sub(beside)
                ..(bands[GRAIN_BANDS - 1].end + beside).min(size / 2);
            Look {
                size,
                shape: fine_structure::hann(size),
                forward: planner.plan_fft_forward(size),
                sound_shape: fine_structure::hann(size * factor),
                sound_forward: planner.plan_fft_forward(size * factor),
                bands,
                bins,
                around,
                spacing,
            }
        };
        let looks = [
            look(longest, Some(AROUND[0]), 4),
            look(longest / 2, Some(AROUND[1]), 2),
            look(longest / 4, None, 1),
        ];
        let mut search = Self {
            comb: CombShape::new(config, head.learned, head.envelope.bins()),
            frames_per_step: config.layout().frames_per_step(),
            factor,
            lag: config.lag_samples(),
            hop,
            window,
            shape: shape.iter().step_by(factor).copied().collect(),
            inverse: planner.plan_fft_inverse(window),
            looks,
            bands,
            reliefs: Vec::new(),
        };
        if head.noise.loops() + 1 == ROWS {
            search.reliefs = search.reliefs_of_loops(head);
        }
        Some(search)
    }

    /// How all loops stand out where all magnitudes are one.
    fn reliefs_of_loops(&self, head: &Head) -> Vec<[Vec<f32>; GRAIN_BANDS]> {
        let look = &self.looks[0];
        let mut pair = self.pair();
        let gains = vec![1.0; FRAMES * self.all().len()];
        let frames = Frames { first: 0, gains, samples: Vec::new() };
        let length = FRAMES * self.hop;
        let mut reliefs = Vec::with_capacity(ROWS);
        for row in (1..ROWS).step_by(2) {
            let grains = [row, row + 1].map(|row| Grain::new([row as u8; GRAIN_BANDS]));
            let mut sound = vec![Complex32::default(); length];
            for frame in 0..FRAMES {
                self.noise(head, &frames, (frame, frame), grains.map(|now| (now, now)), &mut pair);
                for (n, (z, w)) in pair.spectrum.iter().zip(&self.shape).enumerate() {
                    sound[(frame * self.hop + n) % length] += z * w;
                }
            }
            let mut means = [0, 1].map(|_| vec![0.0; look.bins.len()]);
            let mut levels = [Vec::new(), Vec::new()];
            for start in (0..length).step_by((length / GLANCES).max(1)) {
                let Pair { samples, buffer, scratch, .. } = &mut pair;
                samples.clear();
                samples.extend(sound.iter().cycle().skip(start).take(look.size));
                look.transform(samples, buffer, scratch);
                // What is around the bands is no hole.
                let power = buffer.iter().map(Complex32::norm_sqr).sum::<f32>();
                let scale = 0.25 * (self.factor * self.factor) as f32;
                let floor = 0.01 * scale * power / look.size as f32;
                look.levels(buffer, floor.max(SILENCE), self.factor, &mut levels);
                for (mean, levels) in means.iter_mut().zip(&levels) {
                    mean.iter_mut().zip(levels).for_each(|(mean, level)| *mean += level);
                }
            }
            reliefs.extend(means.iter().map(|mean| {
                std::array::from_fn(|band| {
                    let mut own = look.own(band, mean).to_vec();
                    let mean = own.iter().sum::<f32>() / own.len().max(1) as f32;
                    own.iter_mut().for_each(|level| *level -= mean);
                    let length = own.iter().map(|x| x * x).sum::<f32>().sqrt();
                    own.iter_mut().for_each(|level| *level /= length.max(f32::MIN_POSITIVE));
                    own
                })
            }));
        }
        // Row 256 is none.
        reliefs.truncate(ROWS - 1);
        reliefs
    }

    /// The rows that are worth trying for what `views` have of the sound: that of `before` first, then the noise itself.
    fn candidates(&self, views: &[View], before: Grain) -> Vec<Grain> {
        let mut tried = vec![before, Grain::NONE];
        if self.reliefs.is_empty() {
            tried.extend((1..=u8::MAX).map(|row| Grain::new([row; GRAIN_BANDS])));
            return tried;
        }
        let look = &self.looks[0];
        let nearest: [Vec<u8>; GRAIN_BANDS] = std::array::from_fn(|band| {
            let mut likeness = vec![0.0; self.reliefs.len()];
            for view in views.iter().filter(|view| view.look == 0) {
                let own = look.own(band, &view.sound);
                for (likeness, relief) in likeness.iter_mut().zip(&self.reliefs) {
                    *likeness += relief[band].iter().zip(own).map(|(a, b)| a * b).sum::<f32>();
                }
            }
            let mut rows: Vec<u8> = (1..=u8::MAX).collect();
            let of = |row: &u8| likeness[usize::from(*row) - 1];
            rows.sort_by(|a, b| of(b).total_cmp(&of(a)));
            rows.truncate(LOOPS_TRIED);
            rows
        });
        let row = |number: usize| Grain::new(std::array::from_fn(|band| nearest[band][number]));
        tried.extend((0..LOOPS_TRIED).map(row));
        tried
    }

    /// The grains of `steps` steps behind `known` ones, whose grains are none, each of which stays for `period` steps. `rows` are
    /// the decoder's head's, one for each frame, the first being number `first` of the stream; `lines` are those of all
    /// steps, known ones first, and `sound` begins where the first of them does. What comes behind the last step is
    /// looked at as far as there is any.
    pub fn find(
        &self,
        synthesis: &InverseStft,
        (first, rows): (u64, &[f32]),
        sound: &[f32],
        lines: &[Lines],
        (known, steps): (usize, usize),
        period: usize,
    ) -> Vec<Grain> {
        let count = rows.len() / synthesis.inputs().max(1);
        if count < (known + steps) * self.frames_per_step {
            return vec![Grain::NONE; steps];
        }
        let mut frames = self.frames(synthesis, first, rows, lines);
        let loudest = self.loudest(sound);
        let head = synthesis.head();
        let mut pair = self.pair();
        let mut grains = Vec::with_capacity(steps);
        let mut before = Grain::NONE;
        let stays = STAYS[usize::from(period > 1)];
        // Noise of frames that are decided; the last of them waits for what comes behind it.
        for frame in 0..known * self.frames_per_step {
            self.add(head, &mut frames, frame, (before, before), &mut pair);
        }
        for start in (0..steps).step_by(period.max(1)) {
            let own = period.max(1).min(steps - start);
            // The first frame still has the noise of the step before.
            let at = (known + start) * self.frames_per_step;
            let last = (at + own * self.frames_per_step).min(count.saturating_sub(1));
            let views = self.views(sound, &(at..last));
            let tried = self.candidates(&views, before);
            let costs = self.costs(head, &frames, &views, at..last, count, &tried, &mut pair);
            let softer = loudest / self.loudness(sound, at..last).max(f32::MIN_POSITIVE);
            let now = nearest(&tried, &costs, stays * softer);
            for frame in at..at + own * self.frames_per_step {
                // In the first step another one begins; in those behind it is the same.
                let grain = if frame < at + self.frames_per_step { before } else { now };
                self.add(head, &mut frames, frame, (grain, now), &mut pair);
            }
            grains.resize(grains.len() + own, now);
            before = now;
        }
        grains
    }

    /// What frames are without the noise of the bands.
    fn frames(&self, synthesis: &InverseStft, first: u64, rows: &[f32], lines: &[Lines]) -> Frames {
        let count = rows.len() / synthesis.inputs().max(1);
        let margin = self.looks[0].size;
        let all = self.all();
        let mut frames = Frames {
            first,
            gains: Vec::with_capacity(count * all.len()),
            samples: vec![0.0; 2 * margin + count * self.hop + self.window],
        };
        let mut pair = self.pair();
        let mut start = margin;
        let comb = |step: Option<usize>| lines.get(step?).and_then(Lines::comb);
        let shape = |frame: usize, magnitudes: &mut [f32]| {
            let (step, place) = (frame / self.frames_per_step, frame % self.frames_per_step);
            let share = (place + 1) as f32 / self.frames_per_step as f32;
            let (before, now) = (comb(step.checked_sub(1)), comb(Some(step)));
            if let Some(teeth) = Comb::between(before, now, share) {
                self.comb.shape(&teeth, magnitudes);
            }
        };
        synthesis.but_noise(rows, first, all, shape, |[re, im], gains| {
            pair.spectrum.fill(Complex32::default());
            for bin in 1..self.window / 2 {
                let z = Complex32::new(re[bin], im[bin]);
                (pair.spectrum[bin], pair.spectrum[self.window - bin]) = (z, z.conj());
            }
            pair.transform(self);
            self.overlap_add(&pair, &mut frames.samples[start..]);
            frames.gains.extend_from_slice(gains);
            start += self.hop;
        });
        frames
    }

    /// The bins of all bands.
    fn all(&self) -> Range<usize> {
        self.bands[0].start..self.bands[GRAIN_BANDS - 1].end
    }

    /// Room for signals.
    fn pair(&self) -> Pair {
        let transforms = self.looks.iter().map(|look| &look.forward).chain([&self.inverse]);
        let scratch = transforms.map(|fft| fft.get_inplace_scratch_len()).max().unwrap_or(0);
        let bins = self.bands[GRAIN_BANDS - 1].end;
        Pair {
            samples: Vec::new(),
            spectrum: vec![Complex32::default(); self.window],
            buffer: Vec::new(),
            scratch: vec![Complex32::default(); scratch],
            noise: [vec![0.0; bins], vec![0.0; bins]],
        }
    }

    /// The noise of a frame in all bands as two grains have it, each with that of the step before, transformed.
    fn noise(
        &self,
        head: &Head,
        frames: &Frames,
        (frame, place): (usize, usize),
        grains: [(Grain, Grain); 2],
        pair: &mut Pair,
    ) {
        let all = self.all();
        let gains = &frames.gains[frame * all.len()..][..all.len()];
        pair.spectrum.fill(Complex32::default());
        for (second, (before, now)) in grains.into_iter().enumerate() {
            let Pair { noise: [re, im], spectrum, .. } = &mut *pair;
            for (band, bins) in self.bands.iter().enumerate() {
                let (row, gain) = now.noise(before, place, band);
                let number = frames.first.wrapping_add(frame as u64);
                head.noise.draw_row(row, number, bins.clone(), gain, [re, im]);
            }
            for (bin, gain) in all.clone().zip(gains) {
                let z = Complex32::new(gain * re[bin], gain * im[bin]);
                // The second signal's spectrum is in it i times.
                let (z, mirrored) = match second {
                    0 => (z, z.conj()),
                    _ => (Complex32::new(-z.im, z.re), Complex32::new(z.im, z.re)),
                };
                spectrum[bin] += z;
                spectrum[self.window - bin] += mirrored;
            }
        }
        pair.transform(self);
    }

    /// Adds the noise of a frame to what is decided.
    fn add(
        &self,
        head: &Head,
        frames: &mut Frames,
        frame: usize,
        grain: (Grain, Grain),
        pair: &mut Pair,
    ) {
        let at = self.looks[0].size + frame * self.hop;
        self.noise(head, frames, (frame, frame % self.frames_per_step), [grain; 2], pair);
        self.overlap_add(pair, &mut frames.samples[at..]);
    }

    /// Adds the first of two frames that were transformed to the samples from where it begins.
    fn overlap_add(&self, pair: &Pair, samples: &mut [f32]) {
        for ((y, z), w) in samples.iter_mut().zip(&pair.spectrum).zip(&self.shape) {
            *y += w * z.re;
        }
    }

    /// How far the rows that are `tried`, of which the first is that of the step before, are from the sound in each band, if they
    /// are heard in the frames behind `own`'s first, up to and with its end, and a little longer if there are so many: `count` in
    /// all.
    #[expect(clippy::too_many_arguments, reason = "all of one search")]
    fn costs(
        &self,
        head: &Head,
        frames: &Frames,
        views: &[View],
        own: Range<usize>,
        count: usize,
        tried: &[Grain],
        pair: &mut Pair,
    ) -> Vec<[f32; GRAIN_BANDS]> {
        let before = tried.first().copied().unwrap_or(Grain::NONE);
        // As long as a frame overlaps with the last of them.
        let heard = own.start..(own.end + self.window / self.hop).min(count);
        // With a margin for the spectra on either side.
        let margin = self.looks[0].size;
        let from = own.start * self.hop;
        let to = 2 * margin + heard.end * self.hop + self.window;
        let to = to.min(frames.samples.len());
        let known = &frames.samples[from..to];
        let mut costs = vec![[0.0f32; GRAIN_BANDS]; tried.len()];
        let mut levels = [Vec::new(), Vec::new()];
        for (grains, costs) in tried.chunks(2).zip(costs.chunks_mut(2)) {
            let grains = [grains[0], grains[grains.len() - 1]];
            pair.samples.clear();
            pair.samples.extend(known.iter().map(|x| Complex32::new(*x, *x)));
            for frame in heard.clone() {
                // Another noise begins in the second frame, and stays.
                let place = frame - own.start;
                let pairs = grains.map(|now| if place < 2 { (before, now) } else { (now, now) });
                self.noise(head, frames, (frame, place), pairs, pair);
                let at = margin + frame * self.hop - from;
                let Pair { samples, spectrum, .. } = &mut *pair;
                let samples = samples[at..].iter_mut();
                for ((y, z), w) in samples.zip(spectrum.iter()).zip(&self.shape) {
                    *y += z * w;
                }
            }
            for view in views {
                let look = &self.looks[view.look];
                let Pair { samples, buffer, scratch, .. } = &mut *pair;
                let samples = samples.get(view.start - from..).unwrap_or_default();
                look.transform(samples, buffer, scratch);
                look.levels(buffer, view.floor, self.factor, &mut levels);
                for (levels, costs) in levels.iter().zip(&mut *costs) {
                    look.compare(levels, &view.sound, costs);
                }
            }
        }
        costs
    }

    /// The amplitude of the sound in `frames`.
    fn loudness(&self, sound: &[f32], frames: Range<usize>) -> f32 {
        let hop = self.hop * self.factor;
        let end = (frames.end * hop).min(sound.len());
        let own = &sound[(frames.start * hop).min(end)..end];
        (own.iter().map(|x| x * x).sum::<f32>() / own.len().max(1) as f32).sqrt()
    }

    /// The largest amplitude of a step of the sound.
    fn loudest(&self, sound: &[f32]) -> f32 {
        let steps = sound.len() / (self.hop * self.factor * self.frames_per_step).max(1);
        let step = |step: usize| step * self.frames_per_step..(step + 1) * self.frames_per_step;
        (0..steps).map(|n| self.loudness(sound, step(n))).fold(0.0, f32::max)
    }

    /// Where spectra are compared for the frames behind the first of `own`, up to and with its end, and those of the sound.
    fn views(&self, sound: &[f32], own: &Range<usize>) -> Vec<View> {
        let mut views = Vec::new();
        let margin = self.looks[0].size;
        let frames = own.len().max(1);
        for (number, look) in self.looks.iter().enumerate() {
            // In half hops behind the middle of the first frame; levels are compared where frames overlap, too.
            let (first, windows) = match look.around {
                Some(_) => (look.spacing as isize - 1, (frames / look.spacing).max(1)),
                None => (-4, frames + 3),
            };
            for window in 0..windows {
                let halves = first + 2 * (window * look.spacing) as isize;
                let middle = (own.start + 1) * self.hop + self.window / 2;
                let middle = middle as isize + halves * self.hop as isize / 2;
                let start = middle - look.size as isize / 2;
                // The sound begins where the decoder's lag ends.
                let from = start * self.factor as isize - self.lag as isize;
                let Some(start) = (margin as isize + start).try_into().ok() else { continue };
                let (floor, sound) = look.levels_of_sound(sound, from);
                views.push(View { look: number, start, floor, sound });
            }
        }
        views
    }
}

/// The nearest row of each band among those that were tried, unless that of the step before, the first, is not further away by
/// more than a share of `stays` of what the noise itself is, the second.
fn nearest(tried: &[Grain], costs: &[[f32; GRAIN_BANDS]], stays: f32) -> Grain {
    let best = |band: usize| {
        let row = |number: usize| tried[number].rows()[band];
        let cost = |number: &usize| {
            costs[*number][band] + if row(*number) == 0 { 0.0 } else { LOOP * costs[1][band] }
        };
        let least = (0..tried.len()).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(0);
        let stay = cost(&0) - stays * cost(&1) <= cost(&least);
        row(if stay { 0 } else { least })
    };
    Grain::new(std::array::from_fn(best))
}

impl Pair {
    /// The spectrum to samples.
    fn transform(&mut self, search: &GrainSearch) {
        search.inverse.process_with_scratch(&mut self.spectrum, &mut self.scratch);
    }
}

impl Look {
    /// The sound's levels where a window begins at sample `from`, which may lie outside, and the power that is the floor of both.
    fn levels_of_sound(&self, sound: &[f32], from: isize) -> (f32, Vec<f32>) {
        let sample = |n: usize| {
            let at = usize::try_from(from + n as isize).ok();
            at.and_then(|at| sound.get(at)).copied().unwrap_or(0.0)
        };
        let weighed = self.sound_shape.iter().enumerate();
        let mut buffer: Vec<Complex32> =
            weighed.map(|(n, w)| Complex32::new(w * sample(n), 0.0)).collect();
        self.sound_forward.process(&mut buffer);
        let powers: Vec<f32> = buffer[..self.size / 2].iter().map(Complex32::norm_sqr).collect();
        let largest = powers.iter().copied().fold(0.0, f32::max);
        let floor = (largest * RANGE).max(SILENCE);
        let mut levels = Vec::new();
        self.put_levels(powers[self.bins.clone()].iter().copied(), floor, &mut levels);
        (floor, levels)
    }

    /// The spectrum of two signals, where a window begins with the first of their samples.
    fn transform(
        &self,
        samples: &[Complex32],
        buffer: &mut Vec<Complex32>,
        scratch: &mut [Complex32],
    ) {
        buffer.clear();
        buffer.extend(samples.iter().zip(&self.shape).map(|(z, w)| z * w));
        buffer.resize(self.size, Complex32::default());
        self.forward.process_with_scratch(buffer, scratch);
    }

    /// The levels of two signals from their spectrum.
    fn levels(&self, buffer: &[Complex32], floor: f32, factor: usize, levels: &mut [Vec<f32>; 2]) {
        // Fewer samples have as much less power.
        let scale = 0.25 * (factor * factor) as f32;
        for (second, levels) in levels.iter_mut().enumerate() {
            let powers = self.bins.clone().map(|bin| {
                let (z, mirrored) = (buffer[bin], buffer[(self.size - bin) % self.size].conj());
                let own = if second == 0 { z + mirrored } else { z - mirrored };
                scale * own.norm_sqr()
            });
            self.put_levels(powers, floor, levels);
        }
    }

    /// Levels in decades, or how far they stand out.
    fn put_levels(&self, powers: impl Iterator<Item = f32>, floor: f32, levels: &mut Vec<f32>) {
        fine_structure::levels(powers, floor, levels);
        if let Some(around) = self.around {
            fine_structure::stand_out(levels, around);
        }
    }

    /// Those of the levels that are a band's.
    fn own<'a>(&self, band: usize, levels: &'a [f32]) -> &'a [f32] {
        let Range { start, end } = self.bands[band].clone();
        &levels[start - self.bins.start..end - self.bins.start]
    }

    /// Adds the distance of both by band.
    fn compare(&self, levels: &[f32], sound: &[f32], costs: &mut [f32; GRAIN_BANDS]) {
        for (band, cost) in costs.iter_mut().enumerate() {
            let (own, sound) = (self.own(band, levels), self.own(band, sound));
            let sum = |term: fn((&f32, &f32)) -> f32| own.iter().zip(sound).map(term).sum::<f32>();
            *cost += match self.around {
                // As if both stood out as much: what is flat is not nearer for that.
                Some(_) => {
                    let (of_own, of_sound) = (sum(|(a, _)| a * a), sum(|(_, b)| b * b));
                    let gain = (of_sound / of_own.max(f32::MIN_POSITIVE)).sqrt();
                    2.0 * FINE_WEIGHT * (of_sound - gain * sum(|(a, b)| a * b))
                }
                None => LEVEL_WEIGHT * sum(|(a, b)| (a - b).abs()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::codec::{Codec, save_model};
    use crate::engine::{Model, StreamDecoder};
    use crate::model::Network;
    use crate::tokens::Tokens;

    /// Of the usual frames, but small.
    fn config() -> CodecConfig {
        let vq = crate::config::VqConfig { codebook_size: 64, ..Default::default() };
        CodecConfig { dim: 16, encoder_blocks: 1, decoder_blocks: 1, vq, ..CodecConfig::default() }
    }

    /// Both executors of a model at random.
    fn model(config: &CodecConfig) -> (Codec, Model) {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::random(config, 5, &Device::Cpu).unwrap();
        save_model(folder.path(), config, &network.params.snapshot().unwrap()).unwrap();
        (Codec::load(folder.path()).unwrap(), Model::load(folder.path()).unwrap())
    }

    /// Some codes of all levels, and what the head says of them.
    fn codes(codec: &Codec, steps: usize) -> (Tokens, Vec<f32>) {
        let layout = codec.config().layout();
        let code = |level: usize, place: usize| (place * (7 + level) + place / 5) as u16 % 64;
        let level = |level: usize| {
            (0..steps * layout.codes_per_step(level)).map(|place| code(level, place)).collect()
        };
        let tokens = Tokens::of_codes((0..layout.levels()).map(level).collect());
        let tensors: Vec<Tensor> = tokens
            .levels
            .iter()
            .map(|codes| {
                let codes: Vec<u32> = codes.iter().map(|code| u32::from(*code)).collect();
                Tensor::new(codes, &Device::Cpu).unwrap().unsqueeze(0).unwrap()
            })
            .collect();
        let latents = codec.network.quantizer.decode(&tensors).unwrap();
        let rows = codec.network.decoder.describe(&latents).unwrap();
        (tokens, rows.flatten_all().unwrap().to_vec1().unwrap())
    }

    fn with_grains(grains: &[Grain]) -> Vec<Lines> {
        let with = |(step, grain): (usize, &Grain)| {
            let mut lines = Lines::NONE;
            lines.set_grain(*grain);
            lines.set_comb(Comb::new(60 + step as u8, [2, 1]).filter(|_| step % 5 > 2));
            lines
        };
        grains.iter().enumerate().map(with).collect()
    }

    /// The sound of codes, where it was.
    fn decoded(model: &Model, tokens: &Tokens, lines: &[Lines]) -> Vec<f32> {
        let mut decoder = StreamDecoder::with_batch(model, 3);
        let mut codes = Vec::new();
        tokens.append_steps_to(&mut codes, model.layout());
        let mut sound = vec![0.0; lines.len() * model.chunk_samples() + decoder.latency_samples()];
        let levels = tokens.levels.len();
        let done = decoder.process_with_lines(&codes, levels, lines, &mut sound).unwrap();
        let rest = decoder.finish(&mut sound[done.produced..]).unwrap();
        assert_eq!(done.produced + rest.produced, sound.len());
        sound.drain(..decoder.latency_samples());
        sound
    }

    #[test]
    fn the_noise_that_a_sound_was_made_with_is_found() {
        for (loops, period) in [(0, 4), (0, 2), (255, 4), (255, 2)] {
            let (codec, model) = model(&CodecConfig { noise_loops: loops, ..config() });
            let synthesis = codec.network.decoder.synthesis();
            let search = GrainSearch::new(codec.config(), synthesis).unwrap();
            assert_eq!((search.factor, search.hop, search.looks[0].size), (4, 120, 1024));
            let steps = 12;
            let (tokens, rows) = codes(&codec, steps);
            let rows_of = |step: usize| {
                let block = (step / period) as u8;
                [3 + 50 * block, 200 - 10 * block, 77, block * 31]
            };
            let grains: Vec<Grain> = (0..steps).map(|step| Grain::new(rows_of(step))).collect();
            let lines = with_grains(&grains);
            let sound = decoded(&model, &tokens, &lines);
            let found = search.find(synthesis, (0, &rows), &sound, &lines, (0, steps), period);
            assert_eq!(found, grains, "{loops} loops, {period} steps each");
        }
    }

    #[test]
    fn known_steps_have_none_and_a_sound_without_any_keeps_to_it() {
        let (codec, model) = model(&config());
        let synthesis = codec.network.decoder.synthesis();
        let search = GrainSearch::new(codec.config(), synthesis).unwrap();
        let (tokens, rows) = codes(&codec, 11);
        let lines = with_grains(&[Grain::NONE; 11]);
        let sound = decoded(&model, &tokens, &lines);
        // Two known, and three that are not full.
        let found = search.find(synthesis, (0, &rows), &sound, &lines, (2, 7), 4);
        assert_eq!(found, [Grain::NONE; 7]);
        assert_eq!(search.find(synthesis, (0, &rows), &sound, &lines, (2, 0), 4), []);
        // Silence is as far from all of them.
        assert_eq!(search.find(synthesis, (0, &rows), &[], &lines, (0, 3), 1).len(), 3);
        assert_eq!(search.find(synthesis, (0, &[]), &sound, &lines, (0, 3), 1).len(), 3);
    }

    #[test]
    fn a_codec_whose_noise_is_elsewhere_has_no_grains() {
        let low = CodecConfig { sample_rate: 8_000, ..config() };
        assert!(GrainSearch::new(&low, &InverseStft::new(&low).unwrap()).is_none());
        let learned = CodecConfig { noise_band: [7_000, 8_000], ..config() };
        assert!(GrainSearch::new(&learned, &InverseStft::new(&learned).unwrap()).is_none());
    }
}
