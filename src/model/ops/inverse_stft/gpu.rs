//! The inverse STFT on NVIDIA GPUs: transforms as matrix products, and kernels for what lies between the head
//! and the spectrum.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor};

use super::super::cuda::{self, Arg, BandTable, Frames};
use super::super::explicit::explicit;
use super::Plan;

/// What a GPU keeps of a plan.
pub struct Tables {
    /// The share of noise in each learned bin's direction.
    shares: Tensor,
    /// (period, bins).
    noise: [Tensor; 2],
    envelope: BandTable,
    voices: BandTable,
    /// One over what each band of the excitation weighs.
    weights: Tensor,
    /// From the spectrum of the learned bins (2 learned) to half the rate's samples (window / 2), and from what
    /// they are bent to to the spectrum of the excited bins (2 excited).
    to_sound: Tensor,
    to_excitation: Tensor,
    /// From spectra (2 bins) to samples (window), and the window over these.
    basis: Tensor,
    shape: Tensor,
}

/// A matrix with these values, by row and column.
fn table(
    (rows, columns): (usize, usize),
    device: &Device,
    value: impl Fn(usize, usize) -> f64,
) -> Result<Tensor> {
    let mut values = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        values.extend((0..columns).map(|column| value(row, column) as f32));
    }
    Tensor::from_vec(values, (rows, columns), device)
}

impl Tables {
    fn new(plan: &Plan, device: &Device) -> Result<Self> {
        let (head, window) = (&plan.head, plan.window);
        let (bins, learned, period) = (head.bins(), head.learned, head.noise.period());
        let mut noise = [vec![0.0; period * bins], vec![0.0; period * bins]];
        for frame in 0..period {
            let [re, im] = &mut noise;
            let row = frame * bins..(frame + 1) * bins;
            head.noise.draw(frame as u64, &mut re[row.clone()], &mut im[row]);
        }
        let [re, im] = noise;
        let noise = |values| Tensor::from_vec(values, (period, bins), device);
        let harmonics = &head.harmonics;
        let (low, high) = (harmonics.low(), harmonics.bins());
        let samples = window / 2;
        let turn =
            |product: usize, length: usize| 2.0 * PI * (product % length) as f64 / length as f64;
        let to_sound = table((2 * learned, samples), device, |row, n| {
            let k = row % learned;
            match (low.contains(&k), row < learned) {
                (false, _) => 0.0,
                (true, true) => turn(k * n, samples).cos(),
                (true, false) => -turn(k * n, samples).sin(),
            }
        })?;
        let scale = 4.0 / window as f64;
        let excited = high.len();
        let to_excitation = match excited {
            // Nothing cannot be put on a device.
            0 => Tensor::zeros((1, 1), DType::F32, device)?,
            _ => table((samples, 2 * excited), device, |n, column| {
                let angle = turn((high.start + column % excited) * n, samples);
                scale * if column < excited { angle.cos() } else { -angle.sin() }
            })?,
        };
        let basis = table((2 * bins, window), device, |row, n| {
            let k = row % bins;
            let edge = k == 0 || k == window / 2;
            let angle = turn(k * n, window);
            match (row < bins, edge) {
                (true, true) => angle.cos(),
                (true, false) => 2.0 * angle.cos(),
                (false, true) => 0.0,
                (false, false) => -2.0 * angle.sin(),
            }
        })?;
        let mut weights = harmonics.weights().to_vec();
        weights.resize(weights.len().max(1), 0.0);
        Ok(Self {
            shares: Tensor::new(&head.noise.shares()[..learned.max(1)], device)?,
            noise: [noise(re)?, noise(im)?],
            envelope: BandTable::new(&head.envelope, device)?,
            voices: BandTable::new(harmonics.bands(), device)?,
            weights: Tensor::new(weights, device)?,
            to_sound,
            to_excitation,
            basis,
            shape: Tensor::from_slice(&plan.shape, window, device)?,
        })
    }
}

/// A batch's frames on the way to samples.
struct Batch {
    plan: std::sync::Arc<Plan>,
    head: Tensor,
    /// The number of each item's first frame, in the noise's period.
    firsts: Tensor,
    frames: Frames,
    items: usize,
    /// Spectra of the excitation (rows, 2 excited) and what each band of it has to be multiplied by.
    excitation: Option<(Tensor, Tensor)>,
}

/// Samples of a head, as [`super::InverseStft::forward`] has it.
pub fn forward(plan: &std::sync::Arc<Plan>, head: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
    let (items, count, _) = head.dims3()?;
    let place = head.device();
    let tables = plan.tables.get(|| Tables::new(plan, place))?;
    let period = plan.head.noise.period() as u64;
    let firsts: Vec<u32> = first_frames.iter().map(|first| (first % period) as u32).collect();
    let offset = plan.hop as isize - plan.window as isize;
    let mut batch = Batch {
        plan: plan.clone(),
        head: head.detach().contiguous()?,
        firsts: Tensor::new(firsts, place)?,
        frames: Frames { count, hop: plan.hop, offset },
        items,
        excitation: None,
    };
    let samples = batch.synthesize(tables)?;
    let head_width = head.dim(2)?;
    explicit(head, samples, move |grad| {
        let tables = batch.plan.tables.get(|| Tables::new(&batch.plan, grad.device()))?;
        batch.backward(tables, grad)?.reshape((batch.items, batch.frames.count, head_width))
    })
}

impl Batch {
    fn rows(&self) -> usize {
        self.items * self.frames.count
    }

    /// `struct Shape` of the kernels.
    fn shape(&self) -> Result<Arg> {
        let head = &self.plan.head;
        let harmonics = &head.harmonics;
        let number = |n: usize| u32::try_from(n).map_err(candle_core::Error::wrap);
        Ok(Arg::Shape(cuda::Packed([
            number(self.frames.count)?,
            number(head.bins())?,
            number(head.learned)?,
            number(head.envelope.count())?,
            number(harmonics.bins().len())?,
            number(harmonics.bands().count())?,
            number(head.noise.period())?,
            number(head.led)?,
        ])))
    }

    /// What the kernels need to mix a bin: noise, excitation, and the bands' lines.
    fn mixing(&self, tables: &Tables) -> Result<[Arg; 9]> {
        let [re, im] = &tables.noise;
        let (excitation, gains) = match &self.excitation {
            Some((excitation, gains)) => (cuda::of(excitation)?, cuda::of(gains)?),
            None => (Arg::NULL, Arg::NULL),
        };
        let [band, way] = tables.envelope.lines()?;
        let [voice_band, voice_way] = tables.voices.lines()?;
        let firsts = cuda::of(&self.firsts)?;
        Ok([
            cuda::of(re)?,
            cuda::of(im)?,
            firsts,
            excitation,
            gains,
            band,
            way,
            voice_band,
            voice_way,
        ])
    }

    fn synthesize(&mut self, tables: &Tables) -> Result<Tensor> {
        let device = cuda::device(&self.head)?;
        let Plan { head, hop, .. } = &*self.plan.clone();
        let (rows, bins, learned) = (self.rows(), head.bins(), head.learned);
        let shape = self.shape()?;
        let low = cuda::empty(&device, rows * 2 * learned)?;
        let [re, im] = &tables.noise;
        let args = [
            cuda::of(&self.head)?,
            cuda::of(&tables.shares)?,
            cuda::of(re)?,
            cuda::of(im)?,
            cuda::of(&self.firsts)?,
            cuda::start(&low, 0)?,
            shape,
            Arg::count(rows * learned)?,
        ];
        cuda::launch(&device, "learned_spectrum", rows * learned, &args)?;
        let low = cuda::tensor(low, (rows, 2 * learned));
        let (excited, voices) = (head.harmonics.bins().len(), head.harmonics.bands().count());
        if excited > 0 {
            let sound = low.matmul(&tables.to_sound)?;
            let count = sound.elem_count();
            let args = [cuda::of(&sound)?, Arg::count(count)?];
            cuda::launch(&device, "absolute", count, &args)?;
            let excitation = sound.matmul(&tables.to_excitation)?;
            let gains = cuda::empty(&device, rows * voices)?;
            let [begin, way] = tables.voices.sums()?;
            let args = [
                cuda::of(&excitation)?,
                begin,
                way,
                cuda::of(&tables.weights)?,
                cuda::start(&gains, 0)?,
                Arg::count(excited)?,
                Arg::count(voices)?,
                Arg::count(rows * voices)?,
                Arg::Float(crate::harmonics::FLOOR),
            ];
            cuda::launch(&device, "excitation_gains", rows * voices, &args)?;
            self.excitation = Some((excitation, cuda::tensor(gains, (rows, voices))));
        }
        let spectrum = cuda::empty(&device, rows * 2 * bins)?;
        let sources = [cuda::of(&self.head)?, cuda::of(&low)?];
        let rest = [cuda::start(&spectrum, 0)?, shape, Arg::count(rows * bins)?];
        let args = [&sources[..], &self.mixing(tables)?, &rest].concat();
        cuda::launch(&device, "whole_spectrum", rows * bins, &args)?;
        let frames = cuda::tensor(spectrum, (rows, 2 * bins)).matmul(&tables.basis)?;
        let samples = self.frames.count * hop;
        self.frames.overlap(&frames, &tables.shape, self.items, samples, None)
    }

    /// The gradient of the head, (rows, width), from that of the samples.
    fn backward(&self, tables: &Tables, grad: &Tensor) -> Result<Tensor> {
        let device = cuda::device(grad)?;
        let Plan { head, window, .. } = &*self.plan;
        let (rows, bins, width) = (self.rows(), head.bins(), head.outputs());
        let (excited, above) = (head.harmonics.bins().len(), bins - head.learned);
        let frames = self.frames.of(grad, *window, Some(&tables.shape))?;
        let d_spectrum = frames.matmul(&tables.basis.t()?)?;
        let d_head = cuda::empty(&device, rows * width)?;
        let d_log = cuda::tensor(cuda::empty(&device, rows * above)?, (rows, above));
        let d_voicing = match excited {
            0 => None,
            _ => Some(cuda::tensor(cuda::empty(&device, rows * excited)?, (rows, excited))),
        };
        let sources = [cuda::of(&self.head)?, cuda::of(&tables.shares)?];
        let rest = [
            cuda::of(&d_spectrum)?,
            cuda::start(&d_head, 0)?,
            cuda::of(&d_log)?,
            d_voicing.as_ref().map_or(Ok(Arg::NULL), cuda::of)?,
            self.shape()?,
            Arg::count(rows * bins)?,
        ];
        let args = [&sources[..], &self.mixing(tables)?, &rest].concat();
        cuda::launch(&device, "spectrum_backward", rows * bins, &args)?;
        let out = cuda::start(&d_head, 0)?;
        tables.envelope.gather(&d_log, out, width, head.learned)?;
        if let Some(d_voicing) = &d_voicing {
            let first = head.magnitudes() + 2 * head.learned;
            tables.voices.gather(d_voicing, out, width, first)?;
        }
        Ok(cuda::tensor(d_head, (rows, width)))
    }
}
