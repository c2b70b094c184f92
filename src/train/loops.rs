//! The loops of a codec, found in the sounds that it is trained on.
//!
//! What stands out of the spectra of short excerpts is sorted into as many clusters as there are loops, by direction alone
//! (spherical k-means: Dhillon and Modha 2001). A cluster's centre says where a loop has partials and holes, and lines are looked
//! for that have them there at all times: in a sound that comes round so soon two lines of one bin beat, and what repeats
//! twelve times a second is heard. So the loss has, beside the distance from the centre, how much levels change with
//! time, in single bins and in bands.

use std::f32::consts::TAU;
use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::config::OptimizerConfig;
use super::dataset::Dataset;
use super::optimizer::AdamW;
use super::trainer::TrainError;
use crate::config::CodecConfig;
use crate::fine_structure;
use crate::lines::{GRAIN_BANDS, GRAIN_EDGES, grain_bins};
use crate::loops::{self, FRAMES};
use crate::model::{Codebook, Params};
use crate::synthesis::{self, Head, OwnNoise};

/// Excerpts of sound for each loop.
const EXCERPTS: usize = 384;
/// Those that are read at a time.
const BATCH: usize = 256;
/// Spectra of an excerpt, a quarter of their window apart, whose mean is taken.
const SPECTRA: usize = 8;
/// An excerpt softer than this amplitude is silence.
const SILENCE: f32 = 1e-3;
/// What of a spectrum's largest power is the least that counts.
const RANGE: f32 = 1e-8;
/// How far a loop's spectra stand out, as standard deviation in decades: as much as music's do.
const RELIEF: f32 = 0.25;
/// Steps of the descent, and its first and last rate.
const STEPS: usize = 600;
const RATES: [f64; 2] = [0.05, 0.002];
/// Weights of squared changes in time, in dB: of bands and of single bins.
const BAND_WEIGHT: f64 = 0.1;
const BIN_WEIGHT: f64 = 0.015;
/// Loops that are looked for together.
const TOGETHER: usize = 16;
/// Times at which a loop is looked at.
const TIMES: usize = 2 * FRAMES;
/// Decibels in a natural logarithm of power.
const DB: f64 = 10.0 / std::f64::consts::LN_10;

/// Lines of loops, of [`synthesis::loops_shape`], from the sounds of `dataset`; `turns` are the directions of the codec's own noise,
/// if it has any, which they are made as loud as.
///
/// # Errors
/// The data or the device fails.
pub fn find(
    config: &CodecConfig,
    turns: Vec<f32>,
    dataset: &Dataset,
    seed: u64,
) -> std::result::Result<Tensor, TrainError> {
    let sight = Sight::new(config);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x1005);
    let reliefs = sight.reliefs(dataset, seed, config.noise_loops * EXCERPTS)?;
    let mut parts = Vec::new();
    for (lines, bins) in loops::lines(config).into_iter().zip(&sight.bands) {
        // At a low rate the highest bands have none.
        if !lines.is_empty() && !bins.is_empty() {
            let centres = centres(&reliefs, &sight.bands, bins, config.noise_loops, &mut rng)?;
            let band = Band::new(config, sight.window, lines, bins.clone())?;
            parts.push(band.lines_like(&centres, &mut rng)?);
        }
    }
    let mut values = Tensor::cat(&parts, 1)?.flatten_all()?.to_vec1::<f32>()?;
    as_loud_as_noise(config, turns, &mut values);
    Ok(Tensor::from_vec(values, &synthesis::loops_shape(config), &Device::Cpu)?)
}

/// How excerpts are looked at.
struct Sight {
    window: usize,
    shape: Vec<f32>,
    forward: std::sync::Arc<dyn Fft<f32>>,
    /// Bins by band.
    bands: [Range<usize>; GRAIN_BANDS],
}

impl Sight {
    fn new(config: &CodecConfig) -> Self {
        let window = fine_structure::window(config.sample_rate);
        let width = f64::from(config.sample_rate) / window as f64;
        let bin = |hz: f64| ((hz / width).ceil() as usize).min(window / 2);
        Self {
            window,
            shape: fine_structure::hann(window),
            forward: FftPlanner::new().plan_fft_forward(window),
            bands: std::array::from_fn(|band| bin(GRAIN_EDGES[band])..bin(GRAIN_EDGES[band + 1])),
        }
    }

    /// What stands out of the spectra of up to `count` excerpts that are no silence, (excerpts, bins of all bands).
    fn reliefs(
        &self,
        dataset: &Dataset,
        seed: u64,
        count: usize,
    ) -> std::result::Result<Vec<f32>, TrainError> {
        let samples = self.window + (SPECTRA - 1) * self.window / 4;
        let mut reliefs = Vec::new();
        for step in 0..count.div_ceil(BATCH) {
            let crops = dataset.batch(seed, step as u64, BATCH.min(count), samples)?;
            let seen: Vec<Option<Vec<f32>>> =
                crops.par_chunks_exact(samples).map(|crop| self.relief(crop)).collect();
            reliefs.extend(seen.into_iter().flatten().flatten());
        }
        Ok(reliefs)
    }

    /// What stands out of an excerpt's spectra in the mean, in which they count by their amplitude, each band's less its own
    /// mean; `None` for silence.
    fn relief(&self, crop: &[f32]) -> Option<Vec<f32>> {
        let power = crop.iter().map(|x| x * x).sum::<f32>() / crop.len().max(1) as f32;
        if power < SILENCE * SILENCE {
            return None;
        }
        let all = self.bands[0].start..self.bands[GRAIN_BANDS - 1].end;
        let half = fine_structure::AROUND / 2;
        let seen = all.start.saturating_sub(half)..(all.end + half).min(self.window / 2);
        let mut mean = vec![0.0; all.len()];
        for samples in crop.windows(self.window).step_by(self.window / 4) {
            let mut buffer: Vec<Complex32> =
                samples.iter().zip(&self.shape).map(|(x, w)| Complex32::new(x * w, 0.0)).collect();
            self.forward.process(&mut buffer);
            let powers = buffer[..self.window / 2].iter().map(Complex32::norm_sqr);
            let floor = powers.clone().fold(0.0, f32::max) * RANGE;
            let mut levels = Vec::new();
            let some = powers.clone().take(seen.end).skip(seen.start);
            fine_structure::levels(some, floor, &mut levels);
            fine_structure::stand_out(&mut levels, fine_structure::AROUND);
            let own = levels[all.start - seen.start..].iter();
            let amplitude = powers.sum::<f32>().sqrt();
            mean.iter_mut().zip(own).for_each(|(mean, level)| *mean += amplitude * level);
        }
        for band in &self.bands {
            let own = &mut mean[band.start - all.start..band.end - all.start];
            let offset = own.iter().sum::<f32>() / own.len().max(1) as f32;
            own.iter_mut().for_each(|level| *level -= offset);
        }
        Some(mean)
    }
}

/// The centres of clusters of what stands out in the bins `own` of all `bands`, (loops, bins), as far as loops shall stand out.
fn centres(
    reliefs: &[f32],
    bands: &[Range<usize>],
    own: &Range<usize>,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Tensor> {
    let first = bands.iter().map(|band| band.start).min().unwrap_or(0);
    let all = bands.iter().map(Range::len).sum::<usize>();
    let mut vectors: Vec<f32> = Vec::with_capacity(reliefs.len() / all.max(1) * own.len());
    for relief in reliefs.chunks_exact(all) {
        let own = &relief[own.start - first..own.end - first];
        let length = own.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        vectors.extend(own.iter().map(|x| x / length));
    }
    if vectors.is_empty() {
        candle_core::bail!("no loops can be found where there is nothing but silence");
    }
    let shape = (vectors.len() / own.len(), own.len());
    let vectors = Tensor::from_vec(vectors, shape, &Device::Cpu)?;
    let none = Tensor::zeros((count, own.len()), vectors.dtype(), &Device::Cpu)?;
    let mut codebook = Codebook::new(&none, true)?;
    codebook.kmeans(&vectors, rng)?;
    // Unit vectors without a mean.
    codebook.codes().as_detached_tensor() * (f64::from(RELIEF) * (own.len() as f64).sqrt())
}

/// How loops are looked at in one band.
struct Band {
    /// Hz of bins and lines.
    bins: Vec<f32>,
    lines: Vec<f32>,
    /// Cosines and sines of what lines have turned by at each time, (times, lines).
    turns: [Tensor; 2],
    /// From lines to bins of the longest window, and from its logarithms to what stands out.
    spectrum: Tensor,
    relief: Tensor,
    /// The same for the window of half that length.
    bins_between: Tensor,
    /// Energies of bands in shorter windows: from lines to bins, and from bins to bands.
    bands: Vec<[Tensor; 2]>,
}

impl Band {
    fn new(
        config: &CodecConfig,
        window: usize,
        lines: Range<usize>,
        bins: Range<usize>,
    ) -> Result<Self> {
        let device = Device::Cpu;
        let (rate, width) = (f64::from(config.sample_rate), loops::width(config));
        let hz: Vec<f64> = lines.clone().map(|line| line as f64 * width).collect();
        let (low, high) = (lines.start as f64 * width, lines.end as f64 * width);
        let of_lines = |window: usize, bins: &[f64]| {
            let values = hz.iter().flat_map(|line| {
                bins.iter().map(move |bin| hann_lobe((bin - line) * window as f64 / rate) as f32)
            });
            Tensor::from_iter(values, &device)?.reshape((hz.len(), bins.len()))
        };
        let between = |window: usize, margin: f64| -> Vec<f64> {
            let width = rate / window as f64;
            let count = ((high - low) / width - 2.0 * margin).max(1.0) as usize;
            (0..count).map(|n| low + (n as f64 + margin) * width).collect()
        };
        let own: Vec<f64> = bins.map(|bin| bin as f64 * rate / window as f64).collect();
        let turn = |function: fn(f32) -> f32| {
            let values = (0..TIMES).flat_map(|time| {
                let turn = move |line| (time * line % TIMES) as f32 / TIMES as f32;
                lines.clone().map(move |line| function(TAU * turn(line)))
            });
            Tensor::from_iter(values, &device)?.reshape((TIMES, hz.len()))
        };
        let bands = [(window / 2, 6), (window / 4, 3), (window / 8, 1)]
            .into_iter()
            .map(|(window, count)| {
                let bins = between(window, 0.5);
                let of = |bin: usize, band: usize| bin * count / bins.len() == band;
                let values = (0..bins.len())
                    .flat_map(|bin| (0..count).map(move |band| f32::from(u8::from(of(bin, band)))));
                let bands = Tensor::from_iter(values, &device)?.reshape((bins.len(), count))?;
                Ok([of_lines(window, &bins)?, bands])
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            turns: [turn(f32::cos)?, turn(f32::sin)?],
            spectrum: of_lines(window, &own)?,
            relief: relief(own.len())?,
            bins_between: of_lines(window / 2, &between(window / 2, 0.5))?,
            bands,
            bins: own.iter().map(|hz| *hz as f32).collect(),
            lines: hz.iter().map(|hz| *hz as f32).collect(),
        })
    }

    /// Lines whose spectra stand out like `centres`, (loops, bins): (loops, lines, 2).
    fn lines_like(&self, centres: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let count = centres.dim(0)?;
        let starts: Vec<usize> = (0..count).step_by(TOGETHER).collect();
        let seeds: Vec<u64> = starts.iter().map(|_| rng.random()).collect();
        let parts: Vec<Tensor> = starts
            .par_iter()
            .zip(seeds)
            .map(|(start, seed)| {
                let own = centres.narrow(0, *start, TOGETHER.min(count - start))?;
                self.descend(&own, &mut ChaCha8Rng::seed_from_u64(seed))
            })
            .collect::<Result<_>>()?;
        Tensor::cat(&parts, 0)
    }

    /// As [`lines_like`](Self::lines_like), for some of them.
    fn descend(&self, centres: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let count = centres.dim(0)?;
        let mut params = Params::new(&Device::Cpu);
        let mut start = Vec::new();
        for centre in centres.to_vec2::<f32>()? {
            // Lines as loud as the spectrum shall be there, at any phase.
            for line in &self.lines {
                let above = self.bins.partition_point(|bin| bin < line).min(centre.len() - 1);
                let length = 10f32.powf(1.2 * centre[above]);
                let angle = TAU * rng.random::<f32>();
                start.push((length * angle.cos(), length * angle.sin()));
            }
        }
        let shape = (count, self.lines.len());
        let mut builder = params.random(0);
        let re = builder.start("re", shape, |_, _| start.iter().map(|(re, _)| *re).collect())?;
        let im = builder.start("im", shape, |_, _| start.iter().map(|(_, im)| *im).collect())?;
        let config = OptimizerConfig {
            beta1: 0.9,
            beta2: 0.999,
            weight_decay: 0.0,
            clip: 1e9,
            ..Default::default()
        };
        let mut optimizer = AdamW::new(&params, &config, |_| true)?;
        for step in 0..STEPS {
            let loss = self.loss(&re, &im, centres)?;
            let share = 0.5 + 0.5 * (std::f64::consts::PI * step as f64 / STEPS as f64).cos();
            let rate = RATES[1] + (RATES[0] - RATES[1]) * share;
            optimizer.step(&loss.backward()?, |_| rate)?;
        }
        Tensor::stack(&[re.detach(), im.detach()], 2)
    }

    /// How far loops' spectra are from what they shall be, and how much they change with time: their sum.
    fn loss(&self, re: &Tensor, im: &Tensor, centres: &Tensor) -> Result<Tensor> {
        let [cos, sin] = &self.turns;
        let (re, im) = (re.unsqueeze(1)?, im.unsqueeze(1)?);
        let turned_re = (re.broadcast_mul(cos)? - im.broadcast_mul(sin)?)?;
        let turned_im = (re.broadcast_mul(sin)? + im.broadcast_mul(cos)?)?;
        let (loops, times, lines) = turned_re.dims3()?;
        let turned = [turned_re, turned_im].map(|part| part.reshape((loops * times, lines)));
        let [turned_re, turned_im] = turned;
        let (turned_re, turned_im) = (turned_re?, turned_im?);
        let powers =
            |matrix: &Tensor| turned_re.matmul(matrix)?.sqr()? + turned_im.matmul(matrix)?.sqr()?;
        // What lies far below the mean counts as if it lay there.
        let log = |powers: Tensor, floor: f64| {
            let floor = (powers.detach().mean_keepdim(1)? * floor)?;
            powers.broadcast_add(&floor)?.log()
        };
        let changes = |logs: Tensor| {
            let logs = (logs.reshape((loops, times, ()))? * DB)?;
            let off = logs.broadcast_sub(&logs.mean_keepdim(1)?)?;
            off.sqr()?.mean((1, 2))?.sum_all()
        };
        let spectrum = (log(powers(&self.spectrum)?, 1e-6)? * (0.05 * DB))?;
        let relief = spectrum.matmul(&self.relief)?.reshape((loops, times, ()))?;
        let off = relief.broadcast_sub(&centres.unsqueeze(1)?)?;
        let mut loss = (off.sqr()?.mean((1, 2))?.sum_all()? / f64::from(RELIEF * RELIEF))?;
        let single = changes(log(powers(&self.bins_between)?, 1e-3)?)?;
        loss = (loss + single * BIN_WEIGHT)?;
        for [bins, bands] in &self.bands {
            let energies = changes(log(powers(bins)?.matmul(bands)?, 1e-6)?)?;
            loss = (loss + energies * (BAND_WEIGHT / self.bands.len() as f64))?;
        }
        Ok(loss)
    }
}

/// What a Hann window makes of a line, in bins from it, 1 in its own.
fn hann_lobe(bins: f64) -> f64 {
    let sinc = |x: f64| {
        let angle = std::f64::consts::PI * x;
        if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
    };
    sinc(bins) + 0.5 * (sinc(bins - 1.0) + sinc(bins + 1.0))
}

/// The matrix from levels of so many bins to how far they stand out of what is around them, less the mean of that.
fn relief(bins: usize) -> Result<Tensor> {
    let mut values = vec![0.0f32; bins * bins];
    for (bin, row) in values.chunks_exact_mut(bins.max(1)).enumerate() {
        row[bin] = 1.0;
        // What a single level does to all.
        fine_structure::stand_out(row, fine_structure::AROUND);
        let mean = row.iter().sum::<f32>() / bins as f32;
        row.iter_mut().for_each(|value| *value -= mean);
    }
    Tensor::from_vec(values, (bins, bins), &Device::Cpu)
}

/// Makes loops, of [`synthesis::loops_shape`], as loud in each band as the noise whose place they take.
fn as_loud_as_noise(config: &CodecConfig, turns: Vec<f32>, values: &mut [f32]) {
    let head = Head::new(config, &OwnNoise { turns, loops: values.to_vec() });
    let lines = loops::lines(config);
    let all: usize = lines.iter().map(Range::len).sum();
    let inverse = FftPlanner::new().plan_fft_inverse(config.synthesis_window);
    let power = |row: u8, bins: &Range<usize>, frames: usize| {
        power(config, &head, &*inverse, row, bins, frames)
    };
    let bands = grain_bins(config, 0, head.bins());
    for (band, bins) in lines.iter().zip(bands) {
        let first = band.start - lines[0].start;
        let noise = power(0, &bins, head.noise.period());
        for (number, values) in values.chunks_exact_mut(2 * all).enumerate() {
            let own = power(number as u8 + 1, &bins, FRAMES);
            let gain = if own > 0.0 { (noise / own).sqrt() } else { 0.0 };
            for value in &mut values[2 * first..2 * (first + band.len())] {
                *value *= gain;
            }
        }
    }
}

/// The power of a row's sound in some bins where all magnitudes are one, over frames after which it comes round.
fn power(
    config: &CodecConfig,
    head: &Head,
    inverse: &dyn Fft<f32>,
    row: u8,
    bins: &Range<usize>,
    frames: usize,
) -> f32 {
    let (window, hop) = (config.synthesis_window, config.hop);
    let shape = synthesis::window_shape(window, hop);
    let (mut re, mut im) = (vec![0.0; head.bins()], vec![0.0; head.bins()]);
    let mut sound = vec![0.0f32; frames * hop];
    let length = sound.len().max(1);
    for frame in 0..frames {
        head.noise.draw_row(row, frame as u64, bins.clone(), 1.0, [&mut re, &mut im]);
        let mut z = vec![Complex32::default(); window];
        for bin in bins.clone() {
            z[bin] += Complex32::new(re[bin], im[bin]);
            z[(window - bin) % window] += Complex32::new(re[bin], -im[bin]);
        }
        inverse.process(&mut z);
        for (n, (z, w)) in z.iter().zip(&shape).enumerate() {
            sound[(frame * hop + n) % length] += w * z.re;
        }
    }
    sound.iter().map(|x| x * x).sum::<f32>() / length as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CodecConfig {
        CodecConfig {
            sample_rate: 12_000,
            hop: 120,
            analysis_window: 480,
            synthesis_window: 480,
            noise_loops: 2,
            ..CodecConfig::default()
        }
    }

    fn correlation(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn a_loops_sound_stands_out_where_it_shall() {
        let config = config();
        let sight = Sight::new(&config);
        let (lines, bins) = (loops::lines(&config)[1].clone(), sight.bands[1].clone());
        let band = Band::new(&config, sight.window, lines.clone(), bins.clone()).unwrap();
        // Partials 90 and 210 Hz apart.
        let width = 12_000.0 / sight.window as f32;
        let wave = |bin: usize, period: f32| (TAU * bin as f32 * width / period).cos();
        let centre = |period: f32| bins.clone().map(move |bin| 0.35 * wave(bin, period));
        let centres: Vec<f32> = centre(90.0).chain(centre(210.0)).collect();
        let shape = (2, bins.len());
        let centres = Tensor::from_vec(centres, shape, &Device::Cpu).unwrap();
        let found = band.lines_like(&centres, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        assert_eq!(found.dims(), [2, lines.len(), 2]);
        let period = FRAMES * config.hop;
        for (number, centre) in centres.to_vec2::<f32>().unwrap().iter().enumerate() {
            let values = found.get(number).unwrap().to_vec2::<f32>().unwrap();
            let sample = |n: usize| {
                let line = |(line, value): (usize, &Vec<f32>)| {
                    let angle = TAU * (line * n % period) as f32 / period as f32;
                    value[0] * angle.cos() - value[1] * angle.sin()
                };
                lines.clone().zip(&values).map(line).sum::<f32>()
            };
            let once: Vec<f32> = (0..period).map(|n| 0.01 * sample(n)).collect();
            // Wherever it is looked at, not in the mean alone.
            for start in (0..period).step_by(period / 5) {
                let crop: Vec<f32> =
                    once.iter().cycle().skip(start).take(sight.window).copied().collect();
                let relief = sight.relief(&crop).unwrap();
                // Far enough from what is silence here, and would be other bands.
                let half = fine_structure::AROUND / 2;
                let own = &relief[bins.start - sight.bands[0].start..][..bins.len()];
                let inner = half..bins.len() - half;
                let likeness = correlation(&own[inner.clone()], &centre[inner]);
                assert!(likeness > 0.6, "loop {number} from {start}: {likeness}");
            }
        }
    }

    #[test]
    fn what_stands_out_alike_is_one_cluster() {
        let bands = [10..30, 30..40, 40..50, 50..60];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shape =
            |kind: usize, bin: usize| if (bin / (kind + 1)).is_multiple_of(2) { 1.0 } else { -1.0 };
        let reliefs: Vec<f32> = (0..60)
            .flat_map(|n| (0..50).map(move |bin| (1.0 + n as f32) * shape(n % 2, bin)))
            .collect();
        let found = centres(&reliefs, &bands, &bands[0], 2, &mut rng).unwrap();
        let mut found = found.to_vec2::<f32>().unwrap();
        found.sort_by(|a, b| b[1].total_cmp(&a[1]));
        for (kind, row) in [(1, &found[0]), (0, &found[1])] {
            let expected: Vec<f32> = (0..20).map(|bin| RELIEF * shape(kind, bin)).collect();
            let off = row.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3, "{row:?}");
        }
        assert!(centres(&[], &bands, &bands[0], 2, &mut rng).is_err());
    }

    #[test]
    fn loops_are_as_loud_as_noise() {
        let config = config();
        let [count, all, _] = synthesis::loops_shape(&config);
        let mut values: Vec<f32> =
            (0..2 * count * all).map(|i| ((i * i) % 17) as f32 / 4.0 - 2.0).collect();
        // A loop without lines in a band stays so.
        values[..2 * loops::lines(&config)[0].len()].fill(0.0);
        as_loud_as_noise(&config, Vec::new(), &mut values);
        let head = Head::new(&config, &OwnNoise { turns: Vec::new(), loops: values });
        for (number, bins) in grain_bins(&config, 0, head.bins()).iter().enumerate() {
            let inverse = FftPlanner::new().plan_fft_inverse(config.synthesis_window);
            let of = |row: u8, frames: usize| power(&config, &head, &*inverse, row, bins, frames);
            let noise = of(0, head.noise.period());
            for row in 1..3 {
                let expected = if (row, number) == (1, 0) { 0.0 } else { noise };
                let own = of(row, FRAMES);
                assert!((own - expected).abs() < 0.02 * noise, "row {row}: {own}, {noise}");
            }
        }
    }

    #[test]
    fn silence_has_no_loops() {
        let sight = Sight::new(&config());
        assert!(sight.relief(&vec![1e-5; sight.window]).is_none());
        assert!(sight.relief(&[]).is_none());
    }
}
