//! Crops made by arithmetic: tones, bands of noise, chords, sweeps, plain waveforms and clicks.
//!
//! Recordings hold next to nothing so bare. A codec that never heard a lone tone takes it for nothing at
//! all, and a synthesizer plays little else.

use std::f64::consts::TAU;
use std::ops::Range;

use super::draw::Rng;

/// Widths of bands of noise in octaves. Absolute differences ask for the median: of a line whose place the
/// codes do not tell yet, that is nothing, and nothing is learned. From bands to lines there is a way.
const WIDTHS: (f64, f64) = (0.003, 1.0);
/// Sines that make a band of noise.
const SINES: usize = 24;
/// Fundamentals of plain waveforms and chords in Hz.
const NOTES: (f64, f64) = (55.0, 1_760.0);
/// Bare tones in Hz: what is above would be in the noise of any recording.
const TONES: (f64, f64) = (60.0, 12_000.0);
/// Share of half the rate that partials come up to.
const TOP: f64 = 0.9;
/// Peak levels in dB below full scale.
const LEVELS: (f64, f64) = (-30.0, -3.0);
/// Background noise in dB below the peak. On a background of nothing, logarithmic losses count what leaks
/// around a tone that is not made perfectly for more than the tone, and the decoder learns silence.
const NOISE: (f64, f64) = (-55.0, -20.0);

/// A sine whose frequency may move steadily, by rotation.
struct Oscillator {
    at: (f64, f64),
    turn: (f64, f64),
    glide: (f64, f64),
}

fn rotated((a, b): (f64, f64), (c, d): (f64, f64)) -> (f64, f64) {
    (a * c - b * d, a * d + b * c)
}

impl Oscillator {
    /// From one frequency to another, both in turns a sample, in `samples` samples; begins at `phase` turns.
    fn new(from: f64, to: f64, samples: usize, phase: f64) -> Self {
        let cis = |turns: f64| ((TAU * turns).cos(), (TAU * turns).sin());
        let glide = (to - from) / samples.max(1) as f64;
        Self { at: cis(phase), turn: cis(from), glide: cis(glide) }
    }

    fn add_to(mut self, out: &mut [f64], gain: f64) {
        for out in out {
            *out += gain * self.at.1;
            self.at = rotated(self.at, self.turn);
            self.turn = rotated(self.turn, self.glide);
        }
    }
}

fn between(rng: &mut Rng, (low, high): (f64, f64)) -> f64 {
    low + (high - low) * rng.uniform()
}

fn amplitude(decibels: f64) -> f64 {
    10f64.powf(decibels / 20.0)
}

/// Evenly by octaves.
fn frequency(rng: &mut Rng, (low, high): (f64, f64)) -> f64 {
    low * (high / low).powf(rng.uniform())
}

/// Fills `out`, at `rate` samples a second, with a sound that `rng` draws; its peak lies from -30 to about -3 dBFS.
pub(super) fn fill(out: &mut [f32], rate: u32, rng: &mut Rng) {
    let mut sound = vec![0.0; out.len()];
    let rate = f64::from(rate);
    match rng.uniform() {
        ..0.25 => tones(&mut sound, rate, 1, TONES, rng),
        ..0.5 => band(&mut sound, rate, rng),
        ..0.6 => tones(&mut sound, rate, 2 + rng.below(4) as usize, NOTES, rng),
        ..0.7 => sweep(&mut sound, rate, rng),
        ..0.92 => waveform(&mut sound, rate, rng),
        _ => clicks(&mut sound, rate, rng),
    }
    let peak = sound.iter().fold(1e-9f64, |peak, s| peak.max(s.abs()));
    let gain = amplitude(between(rng, LEVELS)) / peak;
    let noise = peak * amplitude(between(rng, NOISE));
    for (out, sample) in out.iter_mut().zip(sound) {
        *out = (gain * (sample + noise * between(rng, (-1.0, 1.0)))) as f32;
    }
}

fn tones(out: &mut [f64], rate: f64, count: usize, range: (f64, f64), rng: &mut Rng) {
    let top = (range.0, range.1.min(TOP * rate / 2.0));
    for _ in 0..count {
        let turns = frequency(rng, top) / rate;
        let gain = between(rng, (0.3, 1.0));
        Oscillator::new(turns, turns, out.len(), rng.uniform()).add_to(out, gain);
    }
    shape(out, rate, rng);
}

/// Noise around a frequency, as wide as the octaves drawn.
fn band(out: &mut [f64], rate: f64, rng: &mut Rng) {
    let half = 2f64.powf(frequency(rng, WIDTHS) / 2.0);
    let middle = frequency(rng, (TONES.0, TONES.1.min(TOP * rate / 2.0 / half)));
    for _ in 0..SINES {
        let turns = frequency(rng, (middle / half, middle * half)) / rate;
        Oscillator::new(turns, turns, out.len(), rng.uniform()).add_to(out, 1.0);
    }
    shape(out, rate, rng);
}

fn sweep(out: &mut [f64], rate: f64, rng: &mut Rng) {
    let range = (TONES.0, TONES.1.min(TOP * rate / 2.0));
    let (from, to) = (frequency(rng, range), frequency(rng, range));
    Oscillator::new(from / rate, to / rate, out.len(), rng.uniform()).add_to(out, 1.0);
    shape(out, rate, rng);
}

/// A sawtooth, square or triangle without aliases.
fn waveform(out: &mut [f64], rate: f64, rng: &mut Rng) {
    let note = frequency(rng, NOTES) / rate;
    // Of each partial: the step to the next, and the power of its number that it is weaker by.
    let (step, power) = [(1, 1), (2, 1), (2, 2)][rng.below(3) as usize];
    let partials = (TOP * 0.5 / note) as usize;
    for partial in (1..=partials.max(1)).step_by(step) {
        let turns = note * partial as f64;
        let gain = (partial as f64).powi(-power);
        Oscillator::new(turns, turns, out.len(), 0.0).add_to(out, gain);
    }
    shape(out, rate, rng);
}

fn clicks(out: &mut [f64], rate: f64, rng: &mut Rng) {
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(out.len() as u64) as usize;
        let length = 1 + rng.below((rate / 10_000.0) as u64 + 1) as usize;
        let end = (at + length).min(out.len());
        out[at..end].fill(between(rng, (-1.0, 1.0)));
    }
}

/// Every other time, lets a note begin, die away and end within the crop.
fn shape(out: &mut [f64], rate: f64, rng: &mut Rng) {
    if rng.uniform() < 0.5 {
        return;
    }
    let Range { start, end } = {
        let (a, b) = (rng.below(out.len() as u64) as usize, rng.below(out.len() as u64) as usize);
        a.min(b) / 2..out.len() - (out.len() - a.max(b)) / 2
    };
    let attack = rate * between(rng, (0.001, 0.05));
    let decay = (-1.0 / (rate * frequency(rng, (0.05, 3.0)))).exp();
    let mut level = 1.0;
    for (i, out) in out.iter_mut().enumerate() {
        if !(start..end).contains(&i) {
            *out = 0.0;
            continue;
        }
        let edge = ((i - start + 1) as f64 / attack).min((end - i) as f64 / attack).min(1.0);
        *out *= level * edge;
        level *= decay;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_differ_and_keep_to_their_levels() {
        let mut before = Vec::new();
        for step in 0..200 {
            let mut out = vec![0.0; 4_800];
            fill(&mut out, 48_000, &mut Rng::new(1, step));
            let peak = out.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
            assert!((0.03..0.8).contains(&peak), "{step}: {peak}");
            assert_ne!(out, before);
            before = out;
        }
        let mut one = vec![0.0; 1];
        fill(&mut one, 8_000, &mut Rng::new(2, 3));
        assert!(one[0].is_finite());
    }

    #[test]
    fn an_oscillator_keeps_its_pitch_and_level_and_glides() {
        let mut out = vec![0.0; 48_000];
        Oscillator::new(0.01, 0.01, out.len(), 0.25).add_to(&mut out, 0.5);
        for (i, sample) in out.iter().enumerate() {
            let expected = 0.5 * (TAU * (0.25 + 0.01 * i as f64)).sin();
            assert!((sample - expected).abs() < 1e-9, "{i}");
        }
        let mut glide = vec![0.0; 1_000];
        Oscillator::new(0.01, 0.03, glide.len(), 0.0).add_to(&mut glide, 1.0);
        let crossings =
            |part: &[f64]| part.windows(2).filter(|w| w[0] <= 0.0 && w[1] > 0.0).count();
        assert!(crossings(&glide[..500]) < crossings(&glide[500..]));
    }

    #[test]
    fn a_note_begins_and_ends_in_silence() {
        let shaped = (0..40).map(|step| {
            let mut out = vec![1.0; 1_000];
            shape(&mut out, 8_000.0, &mut Rng::new(4, step));
            out
        });
        let (whole, notes): (Vec<_>, Vec<_>) =
            shaped.partition(|out| out.iter().all(|s| *s == 1.0));
        assert!(whole.len() > 5 && notes.len() > 5);
        for note in notes {
            assert!(note.iter().all(|s| (0.0..=1.0).contains(s)));
            assert!(note[0] < 0.2, "{}", note[0]);
        }
    }
}
