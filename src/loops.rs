//! Loops: what is heard in the place of the decoder's noise where a grain says so.
//!
//! Sounds stand out of their envelope in ways that come again: partials near each other or far apart, with the holes between
//! them, and one chord resembles another. A codebook of such spectra, found in many sounds (shape-gain vector quantisation:
//! Buzo, Gray, Gray and Markel 1980), tells more of a sound's fine structure in eight bits than any choice among noises does.
//! Each is kept as the lines of a sound that comes round after eight frames.

use std::collections::HashMap;
use std::ops::Range;

use rustfft::num_complex::Complex32;

use crate::config::CodecConfig;
use crate::lines::{GRAIN_BANDS, GRAIN_EDGES, grain_bins};
use crate::math;
use crate::noise;
use crate::synthesis;

/// Frames after which a loop comes round: 80 ms at a hop of 10 ms, which sets lines 12.5 Hz apart.
pub const FRAMES: usize = 8;
/// What a part of a direction is kept in; none is larger than 32.
const UNIT: f32 = 1.0 / 1024.0;
/// Bins from a line that its window still reaches: the main lobe of a Hann window.
const LOBE: f64 = 2.0;

/// The loops' lines by band, counted in multiples of their distance; none above half the sample rate.
pub fn lines(config: &CodecConfig) -> [Range<usize>; GRAIN_BANDS] {
    let width = width(config);
    let top = f64::from(config.sample_rate) / 2.0;
    let line = |hz: f64| (hz.min(top) / width).ceil() as usize;
    std::array::from_fn(|band| line(GRAIN_EDGES[band])..line(GRAIN_EDGES[band + 1]))
}

/// Hz from one line to the next.
pub fn width(config: &CodecConfig) -> f64 {
    f64::from(config.sample_rate) / (FRAMES * config.hop.max(1)) as f64
}

/// The spectra of loops in the frames of a decoder.
pub struct Loops {
    count: usize,
    bins: Range<usize>,
    /// (loops, frames, bins)
    re: Box<[i16]>,
    im: Box<[i16]>,
}

impl Loops {
    /// Loops whose lines are `values`, (loops, lines of all bands, 2): real and imaginary parts at the beginning of the stream. A
    /// line of amplitude 1 alone has a direction of length 1 in the bin that it is in.
    pub fn new(config: &CodecConfig, values: &[f32]) -> Self {
        let (bands, bins) = (lines(config), grain_bins(config, 0, config.synthesis_window / 2 + 1));
        let first = bands[0].start;
        let all = bands[GRAIN_BANDS - 1].end.saturating_sub(first);
        let count = values.len().checked_div(2 * all).unwrap_or(0);
        let range = bins[0].start..bins[GRAIN_BANDS - 1].end;
        let mut loops = Self {
            count,
            re: vec![0; count * FRAMES * range.len()].into(),
            im: vec![0; count * FRAMES * range.len()].into(),
            bins: range.clone(),
        };
        if count == 0 {
            return loops;
        }
        let turns: [Complex32; FRAMES] = std::array::from_fn(|n| turn(n, FRAMES));
        let mut lobe = Lobe::new(config);
        let mut near = Vec::new();
        for (bins, lines) in bins.into_iter().zip(bands) {
            for bin in bins {
                near.clear();
                near.extend(lines.clone().filter_map(|line| Some((line, lobe.at(bin, line)?))));
                for number in 0..count {
                    let values = &values[2 * number * all..][..2 * all];
                    for frame in 0..FRAMES {
                        let part = |(line, lobe): &(usize, Complex32)| {
                            let at = 2 * (line - first);
                            let value = Complex32::new(values[at], values[at + 1]);
                            value * turns[line * frame % FRAMES] * lobe
                        };
                        let z: Complex32 = near.iter().map(part).sum();
                        let place = loops.place(number, frame) + bin - range.start;
                        // What is absurd is cut.
                        loops.re[place] = (z.re / UNIT).round() as i16;
                        loops.im[place] = (z.im / UNIT).round() as i16;
                    }
                }
            }
        }
        loops
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The spectrum of loop `number` in frame number `frame` of a stream, in some of the bins, `gain` times as loud, and as much
    /// of it as each bin's share.
    #[inline(always)]
    pub fn draw(
        &self,
        number: usize,
        frame: u64,
        bins: Range<usize>,
        gain: f32,
        shares: &[f32],
        [re, im]: [&mut [f32]; 2],
    ) {
        let some = bins.start.max(self.bins.start)..bins.end.min(self.bins.end).min(shares.len());
        if some.is_empty() || number >= self.count {
            return;
        }
        let row = self.place(number, (frame % FRAMES as u64) as usize);
        let own = row + some.start - self.bins.start..row + some.end - self.bins.start;
        for (out, all) in [(re, &self.re), (im, &self.im)] {
            noise::put(
                &all[own.clone()],
                UNIT,
                &shares[some.clone()],
                gain,
                &mut out[some.clone()],
            );
        }
    }

    /// Where the spectrum of a loop's frame begins.
    fn place(&self, number: usize, frame: usize) -> usize {
        (number * FRAMES + frame) * self.bins.len()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.re) + size_of_val(&*self.im)
    }
}

/// `e^(2 pi i numerator / denominator)`
fn turn(numerator: usize, denominator: usize) -> Complex32 {
    let (cos, sin) = math::cos_sin_of_turn(numerator, denominator);
    Complex32::new(cos as f32, sin as f32)
}

/// What a line looks like in a bin near it, as the window has it: 1 in its own.
struct Lobe {
    hop: usize,
    shape: Vec<f32>,
    /// By the distance of bin and line, of which there are few.
    known: HashMap<i64, Complex32>,
}

impl Lobe {
    fn new(config: &CodecConfig) -> Self {
        let shape = synthesis::window_shape(config.synthesis_window, config.hop);
        let sum: f64 = shape.iter().map(|w| f64::from(*w)).sum();
        let shape = shape.iter().map(|w| (f64::from(*w) / sum) as f32).collect();
        Self { hop: config.hop, shape, known: HashMap::new() }
    }

    /// `None` for a bin too far away.
    fn at(&mut self, bin: usize, line: usize) -> Option<Complex32> {
        let (window, period) = (self.shape.len(), FRAMES * self.hop);
        // In bins, times the loop's length.
        let distance = (period * bin) as i64 - (window * line) as i64;
        if distance.unsigned_abs() as f64 >= LOBE * period as f64 {
            return None;
        }
        let shape = &self.shape;
        Some(*self.known.entry(distance).or_insert_with(|| {
            let whole = window * period;
            let step = distance.rem_euclid(whole as i64) as usize;
            let (mut re, mut im) = (0.0, 0.0);
            for (n, w) in shape.iter().enumerate() {
                let (cos, sin) = math::cos_sin_of_turn(n * step % whole, whole);
                re += f64::from(*w) * cos;
                im -= f64::from(*w) * sin;
            }
            Complex32::new(re as f32, im as f32)
        }))
    }
}

#[cfg(test)]
mod tests {
    use rustfft::FftPlanner;

    use super::*;

    /// The spectra of a loop are those of its sound.
    #[test]
    fn spectra_are_those_of_a_sound_that_comes_round() {
        let config = CodecConfig::default();
        let (bands, window, period) = (lines(&config), 1920, 8 * 480);
        assert_eq!(bands, [80..160, 160..260, 260..360, 360..472]);
        let all = 472 - 80;
        // Lines far from the bands' edges, of the second of two loops.
        let mut values = vec![0.0; 2 * 2 * all];
        let mut sound = vec![0.0f32; period + window];
        for (i, line) in (86..154).step_by(3).chain([200, 201, 430]).enumerate() {
            let (length, angle) = (0.3 + 0.1 * (i % 7) as f32, 1.7 * i as f32);
            let at = 2 * (all + line - 80);
            (values[at], values[at + 1]) = (length * angle.cos(), length * angle.sin());
            for (n, x) in sound.iter_mut().enumerate() {
                let turn = (line * n % period) as f32 / period as f32;
                *x += length * (std::f32::consts::TAU * turn + angle).cos();
            }
        }
        let loops = Loops::new(&config, &values);
        assert_eq!(loops.count(), 2);
        let shape = synthesis::window_shape(window, 480);
        let sum: f32 = shape.iter().sum();
        let forward = FftPlanner::<f32>::new().plan_fft_forward(window);
        let shares = vec![1.0; 961];
        for frame in 0..8 {
            let mut expected: Vec<Complex32> = sound[frame * 480..][..window]
                .iter()
                .zip(&shape)
                .map(|(x, w)| Complex32::new(x * w * 2.0 / sum, 0.0))
                .collect();
            forward.process(&mut expected);
            let (mut re, mut im) = (vec![7.0; 961], vec![7.0; 961]);
            // Frames long after are the same.
            let later = frame as u64 + 8 * 1_000_003;
            loops.draw(1, later, 0..961, 1.0, &shares, [&mut re, &mut im]);
            assert_eq!((re[39], im[236]), (7.0, 7.0));
            for bin in 40..236 {
                let off = (re[bin] - expected[bin].re).hypot(im[bin] - expected[bin].im);
                // What the window has beyond its main lobe is left out.
                assert!(off < 0.03, "frame {frame}, bin {bin}: {off}");
            }
        }
    }

    #[test]
    fn bands_shares_and_gains_are_kept() {
        let config = CodecConfig::default();
        // A line below 2 kHz, a twentieth of a bin from the second band.
        let mut values = vec![0.0; 2 * (472 - 80)];
        values[2 * (159 - 80)] = 1.0;
        let loops = Loops::new(&config, &values);
        let mut shares = vec![1.0; 961];
        shares[79] = 0.5;
        let (mut re, mut im) = (vec![0.0; 961], vec![0.0; 961]);
        loops.draw(0, 3, 78..90, 2.0, &shares, [&mut re, &mut im]);
        let length = |bin: usize| re[bin].hypot(im[bin]);
        assert!(length(78) > 0.3 && length(79) > 0.6 && length(79) < 1.0);
        assert!((0..961).all(|bin| (78..80).contains(&bin) || length(bin) == 0.0));
        // There is no other loop, and none where nothing is asked for.
        loops.draw(1, 0, 0..961, 1.0, &shares, [&mut re, &mut im]);
        loops.draw(0, 0, 300..400, 1.0, &shares, [&mut re, &mut im]);
        assert_eq!(re[100], 0.0);
        assert_eq!(Loops::new(&config, &[]).count(), 0);
    }

    #[test]
    fn any_rate_and_hop_will_do() {
        for (sample_rate, hop, window) in [(8_000, 80, 320), (48_000, 1, 2), (1, 480, 1920)] {
            let config =
                CodecConfig { sample_rate, hop, synthesis_window: window, ..Default::default() };
            let all: usize = lines(&config).iter().map(Range::len).sum();
            let loops = Loops::new(&config, &vec![1e9; 2 * all]);
            assert_eq!(loops.count(), usize::from(all > 0), "{sample_rate} Hz");
            let (mut re, mut im) = (vec![0.0; window / 2 + 1], vec![0.0; window / 2 + 1]);
            let shares = vec![1.0; window / 2 + 1];
            loops.draw(0, u64::MAX, 0..usize::MAX, 1.0, &shares, [&mut re, &mut im]);
            assert!(re.iter().all(|re| re.abs() <= 32.0));
        }
    }
}
