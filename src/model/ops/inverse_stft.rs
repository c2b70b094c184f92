//! From magnitude and phase to samples: an inverse STFT with overlap-add, as a layer.
//!
//! The phase comes as a direction, two numbers whose length does not matter, so that it depends on the
//! features before it without wrapping (Ai and Ling 2023, "APNet").

mod cpu;
#[cfg(feature = "cuda")]
mod gpu;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use rustfft::{Fft, FftPlanner};

use super::BandLevels;
use crate::bands::Bands;
use crate::config::CodecConfig;
use crate::harmonics;
use crate::synthesis::{self, Head, MAX_LOG_MAGNITUDE, OwnNoise, SOFT};

/// An inverse STFT that cannot be built.
#[derive(Debug, thiserror::Error)]
#[error(
    "an inverse STFT needs an even window that is a multiple, at least 2, of the hop: window {window}, hop {hop}"
)]
pub struct InverseStftError {
    window: usize,
    hop: usize,
}

/// An inverse short-time Fourier transform with a Hann window.
///
/// Frame `t` covers the samples from `hop (t + 1) - window` to `hop (t + 1)`: a sample is complete
/// `window / hop - 1` frames after the frame that first holds it, and what would fall before sample 0
/// is left out.
#[derive(Clone)]
pub struct InverseStft {
    inner: Arc<Plan>,
}

struct Plan {
    window: usize,
    hop: usize,
    rate: u32,
    head: Head,
    /// Hann window, scaled so that overlapping windows sum to one, over the FFT's length.
    shape: Vec<f32>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    #[cfg(feature = "cuda")]
    tables: super::cuda::Once<gpu::Tables>,
}

impl InverseStft {
    /// Plans the transform of a codec's decoder, with white noise.
    ///
    /// # Errors
    /// The window is odd or no multiple, at least 2, of the hop.
    pub fn new(config: &CodecConfig) -> std::result::Result<Self, InverseStftError> {
        Self::with_noise(config, &OwnNoise::default())
    }

    /// The same with the codec's own noise.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn with_noise(
        config: &CodecConfig,
        own: &OwnNoise,
    ) -> std::result::Result<Self, InverseStftError> {
        let (window, hop) = (config.synthesis_window, config.hop);
        if hop == 0 || !window.is_multiple_of(2) || !window.is_multiple_of(hop) || window < 2 * hop
        {
            return Err(InverseStftError { window, hop });
        }
        let mut planner = FftPlanner::new();
        let shape = synthesis::window_shape(window, hop);
        let (forward, inverse) =
            (planner.plan_fft_forward(window), planner.plan_fft_inverse(window));
        let rate = config.sample_rate;
        let plan = Plan {
            window,
            hop,
            rate,
            head: Head::new(config, own),
            shape,
            forward,
            inverse,
            #[cfg(feature = "cuda")]
            tables: super::cuda::Once::new(),
        };
        Ok(Self { inner: Arc::new(plan) })
    }

    /// Bins of one frame: `window / 2 + 1`.
    pub fn bins(&self) -> usize {
        self.inner.window / 2 + 1
    }

    /// What the inputs of a frame mean.
    pub(crate) fn head(&self) -> &Head {
        &self.inner.head
    }

    /// Bins, from the lowest, whose direction the head gives; above them it is noise, or partials made
    /// from those below.
    pub fn learned_bins(&self) -> usize {
        self.inner.head.learned
    }

    /// Log magnitudes of a frame: one for each learned bin, and one for each band above.
    pub fn magnitudes(&self) -> usize {
        self.inner.head.magnitudes()
    }

    /// Bins above the learned ones that are led.
    pub(crate) fn led_bins(&self) -> usize {
        self.inner.head.led
    }

    /// The first of a frame's values that lead.
    pub(crate) fn first_lead(&self) -> usize {
        self.inner.head.first_lead()
    }

    /// The window, and the hop.
    pub(crate) fn window_and_hop(&self) -> (usize, usize) {
        (self.inner.window, self.inner.hop)
    }

    /// The levels that a sound itself has in the bands above the learned bins, in the frames that it would be
    /// made from.
    pub fn envelope_levels(&self) -> BandLevels {
        let Plan { window, hop, head, .. } = &*self.inner;
        BandLevels::of_means(*window, *hop, head.envelope.clone(), head.learned)
    }

    /// The bands above the learned bins that have a log magnitude.
    pub(crate) fn envelope(&self) -> &Bands {
        &self.inner.head.envelope
    }

    /// The same bins in at most `count` bands.
    pub(crate) fn envelope_groups(&self, count: usize) -> Bands {
        let Head { envelope, learned, .. } = &self.inner.head;
        let width = f64::from(self.inner.rate) / self.inner.window as f64;
        Bands::new(*learned, envelope.bins(), count, width)
    }

    /// Values that describe one frame: the log magnitudes, a real and an imaginary direction for each
    /// learned bin, the voicing of bands, and a real and an imaginary part for each bin that is led.
    pub fn inputs(&self) -> usize {
        self.inner.head.outputs()
    }

    /// Samples: `head` is (batch, frames, inputs), log magnitudes, then the real and the imaginary parts
    /// of the learned directions, then voicing, then what leads; `first_frames` has, for each item, the number of its first
    /// frame in its stream, which the noise is drawn by; gives (batch, frames * hop). The last
    /// `window - hop` samples still lack frames to come.
    ///
    /// What the low bins excite above them counts as given: no gradient comes back to them from there.
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn forward(&self, head: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
        let (batch, _, width) = head.dims3()?;
        if width != self.inputs() || first_frames.len() != batch {
            candle_core::bail!(
                "inverse STFT: {batch} items of {width} values a frame, but {} first frames and {} values",
                first_frames.len(),
                self.inputs()
            );
        }
        #[cfg(feature = "cuda")]
        if head.device().is_cuda() {
            return gpu::forward(&self.inner, head, first_frames);
        }
        if head.device().is_cpu() {
            let op = cpu::Forward { plan: self.inner.clone(), first_frames: first_frames.into() };
            head.contiguous()?.apply_op1(op)
        } else {
            self.reference(head, first_frames)
        }
    }

    /// Calls `each` with what each frame of one item, whose outputs of the head are `head` and whose first frame is `first`, is
    /// but for the noise of `bins`, all above the learned ones: the parts of its spectrum, and how loud the noise would be
    /// in each of `bins`. `shape` is given a frame's number in the item and the log magnitudes of the bins above the
    /// learned ones, to change them.
    pub(crate) fn but_noise(
        &self,
        head: &[f32],
        first: u64,
        bins: Range<usize>,
        shape: impl Fn(usize, &mut [f32]),
        each: impl FnMut([&[f32]; 2], &[f32]),
    ) {
        self.inner.but_noise(head, first, bins, shape, each);
    }

    /// The same out of candle's operations: a matrix product with the DFT.
    fn reference(&self, head: &Tensor, first_frames: &[u64]) -> Result<Tensor> {
        let (window, hop, learned) = (self.inner.window, self.inner.hop, self.learned_bins());
        let (batch, frames, _) = head.dims3()?;
        let bins = self.bins();
        let magnitudes = self.magnitudes();
        let device = head.device();
        let envelope = &self.inner.head.envelope;
        let expand = matrix(envelope.count(), envelope.bins(), device, |one, out| {
            envelope.expand(one, out)
        })?;
        let own = head.narrow(2, 0, learned)?;
        let above = head
            .narrow(2, learned, magnitudes - learned)?
            .contiguous()?
            .broadcast_matmul(&expand)?;
        let magnitude = |log: &Tensor| log.minimum(f64::from(MAX_LOG_MAGNITUDE))?.exp();
        let (re, im) = self.noise(frames, first_frames);
        let noise = |values| Tensor::from_vec(values, (batch, frames, bins), device);
        let (noise_re, noise_im) = (noise(re)?, noise(im)?);
        let share = self.inner.head.noise.shares()[..learned].iter().map(|share| 1.0 - share);
        let share = Tensor::from_iter(share, device)?;
        let direction = |part: usize, noise: &Tensor| {
            let values =
                head.narrow(2, magnitudes + part * learned, learned)?.broadcast_mul(&share)?;
            values + noise.narrow(2, 0, learned)?
        };
        let (a, b) = (direction(0, &noise_re)?, direction(1, &noise_im)?);
        let length = ((a.sqr()? + b.sqr()?)? + f64::from(SOFT))?.sqrt()?;
        let gain = (magnitude(&own)? / length)?;
        let (low_re, low_im) = ((&gain * a)?, (&gain * b)?);
        let (mut high_re, mut high_im) = (
            noise_re.narrow(2, learned, bins - learned)?,
            noise_im.narrow(2, learned, bins - learned)?,
        );
        let harmonics = &self.inner.head.harmonics;
        let excited = harmonics.bins().len();
        if excited > 0 {
            let bands = harmonics.bands();
            let expand = matrix(bands.count(), excited, device, |one, out| bands.expand(one, out))?;
            let voicing = head.narrow(2, magnitudes + 2 * learned, bands.count())?;
            let voiced = ((voicing.contiguous()?.broadcast_matmul(&expand)?.neg()?.exp()? + 1.0)?)
                .recip()?;
            let rest = voiced.sqr()?.affine(-1.0, 1.0)?.sqrt()?;
            let (e_re, e_im) = self.excitation(&low_re, &low_im)?;
            let mix = |excitation: &Tensor, noise: &Tensor| {
                let mixed = ((&voiced * excitation)? + (&rest * noise.narrow(2, 0, excited)?)?)?;
                Tensor::cat(&[&mixed, &noise.narrow(2, excited, bins - learned - excited)?], 2)
            };
            (high_re, high_im) = (mix(&e_re, &high_re)?, mix(&e_im, &high_im)?);
        }
        let led = self.inner.head.led;
        if led > 0 {
            let part = |part: usize| head.narrow(2, self.first_lead() + part * led, led);
            let (a, b) = (part(0)?, part(1)?);
            let rest = ((a.sqr()? + b.sqr()?)? + 1.0)?.sqrt()?.recip()?;
            let turn = |base: &Tensor, lead: &Tensor| {
                let led_bins = ((base.narrow(2, 0, led)? + lead)? * &rest)?;
                Tensor::cat(&[&led_bins, &base.narrow(2, led, bins - learned - led)?], 2)
            };
            (high_re, high_im) = (turn(&high_re, &a)?, turn(&high_im, &b)?);
        }
        let gain = magnitude(&above)?;
        let re = Tensor::cat(&[low_re, (&gain * high_re)?], 2)?;
        let im = Tensor::cat(&[low_im, (&gain * high_im)?], 2)?;
        let (cosines, sines) = self.basis(head.device())?;
        let rows = (batch * frames, bins);
        let y = (re.reshape(rows)?.matmul(&cosines)? + im.reshape(rows)?.matmul(&sines)?)?;
        // Overlap-add: part j of frame t lands on hop t + j - (parts - 1).
        let parts = window / hop;
        let y = y.reshape((batch, frames, parts, hop))?;
        let mut sum = y.narrow(2, parts - 1, 1)?.squeeze(2)?;
        for j in 0..parts - 1 {
            let late = parts - 1 - j;
            if late >= frames {
                continue;
            }
            let part = y.narrow(2, j, 1)?.squeeze(2)?.narrow(1, late, frames - late)?;
            sum = (sum + part.pad_with_zeros(1, 0, late)?)?;
        }
        sum.reshape((batch, frames * hop))
    }

    /// What the learned bins (batch, frames, learned) excite, as [`Harmonics::excite`] has it, again with the
    /// DFT as matrices.
    ///
    /// [`Harmonics::excite`]: crate::harmonics::Harmonics::excite
    fn excitation(&self, re: &Tensor, im: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, frames, learned) = re.dims3()?;
        let device = re.device();
        let harmonics = &self.inner.head.harmonics;
        let (low, high, bands) = (harmonics.low(), harmonics.bins(), harmonics.bands());
        let samples = self.inner.window / 2;
        let angle = |k: usize, n: usize| {
            2.0 * std::f64::consts::PI * ((k * n) % samples) as f64 / samples as f64
        };
        let table = |rows: usize, columns: usize, value: &dyn Fn(usize, usize) -> f64| {
            let values = (0..rows).flat_map(|r| (0..columns).map(move |c| value(r, c) as f32));
            Tensor::from_iter(values, device)?.reshape((rows, columns))
        };
        let wave = |part: fn(f64) -> f64| {
            table(learned, samples, &|k, n| if low.contains(&k) { part(angle(k, n)) } else { 0.0 })
        };
        let rows = |t: &Tensor| t.detach().reshape((batch * frames, learned));
        let sound = (rows(re)?.matmul(&wave(f64::cos)?)? - rows(im)?.matmul(&wave(f64::sin)?)?)?;
        let bent = sound.abs()?;
        let scale = 4.0 / self.inner.window as f64;
        let part = |part: fn(f64) -> f64| {
            bent.matmul(&table(samples, high.len(), &|n, i| {
                scale * part(angle(high.start + i, n))
            })?)
        };
        let (re, im) = (part(f64::cos)?, part(f64::sin)?.neg()?);
        let gather = matrix(high.len(), bands.count(), device, |one, out| {
            out.fill(0.0);
            bands.gather(one, out);
        })?
        .squeeze(0)?;
        let energy = (re.sqr()? + im.sqr()?)?.matmul(&gather)?;
        let energy = energy.broadcast_div(&gather.sum_keepdim(0)?)?;
        let gain = (energy + f64::from(harmonics::FLOOR))?.sqrt()?.recip()?;
        let expand = matrix(bands.count(), high.len(), device, |one, out| bands.expand(one, out))?
            .squeeze(0)?;
        let gain = gain.matmul(&expand)?;
        let shape = (batch, frames, high.len());
        Ok(((re * &gain)?.reshape(shape)?, (im * &gain)?.reshape(shape)?))
    }

    /// The noise in the real and the imaginary directions of all items, (batch, frames, bins) each.
    fn noise(&self, frames: usize, first_frames: &[u64]) -> (Vec<f32>, Vec<f32>) {
        let bins = self.bins();
        let size = first_frames.len() * frames * bins;
        let (mut re, mut im) = (vec![0.0; size], vec![0.0; size]);
        let numbers = first_frames
            .iter()
            .flat_map(|first| (0..frames).map(move |t| first.wrapping_add(t as u64)));
        for ((re, im), number) in
            re.chunks_exact_mut(bins).zip(im.chunks_exact_mut(bins)).zip(numbers)
        {
            cpu::draw(&self.inner.head.noise, number, re, im);
        }
        (re, im)
    }

    fn basis(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let (window, bins) = (self.inner.window, self.bins());
        let mut cosines = Vec::with_capacity(bins * window);
        let mut sines = Vec::with_capacity(bins * window);
        for k in 0..bins {
            let edge = k == 0 || k == window / 2;
            let factor = if edge { 1.0 } else { 2.0 };
            for n in 0..window {
                let angle = 2.0 * std::f64::consts::PI * ((k * n) % window) as f64 / window as f64;
                let shape = factor * f64::from(self.inner.shape[n]);
                cosines.push((shape * angle.cos()) as f32);
                sines.push(if edge { 0.0 } else { (-shape * angle.sin()) as f32 });
            }
        }
        Ok((
            Tensor::from_vec(cosines, (bins, window), device)?,
            Tensor::from_vec(sines, (bins, window), device)?,
        ))
    }
}

/// A linear map of `inputs` numbers to `outputs` as a matrix (1, inputs, outputs).
fn matrix(
    inputs: usize,
    outputs: usize,
    device: &Device,
    map: impl Fn(&[f32], &mut [f32]),
) -> Result<Tensor> {
    let mut matrix = vec![0.0; inputs * outputs];
    let mut one = vec![0.0; inputs];
    for (row, out) in matrix.chunks_exact_mut(outputs.max(1)).enumerate() {
        one[row] = 1.0;
        map(&one, out);
        one[row] = 0.0;
    }
    Tensor::from_vec(matrix, (1, inputs, outputs), device)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use std::f32::consts::PI;

    fn config(window: usize, hop: usize, noise_bands: usize, voiced_bands: usize) -> CodecConfig {
        CodecConfig {
            hop,
            synthesis_window: window,
            noise_band: [1000, 2500],
            noise_bands,
            voiced_bands,
            voiced_top: 12_000,
            ..CodecConfig::default()
        }
    }

    #[test]
    fn matches_the_dft_and_finite_differences() {
        for (window, hop, frames) in [(24, 6, 7), (16, 8, 6), (24, 6, 2)] {
            let stft = InverseStft::new(&config(window, hop, 4, 0)).unwrap();
            let head = (check::random(1, &[3, frames, stft.inputs()]) * 2.0).unwrap();
            let at = [0, 5, u64::MAX];
            let y = stft.forward(&head, &at).unwrap();
            check::close(&y, &stft.reference(&head, &at).unwrap(), 1e-4);
            check::gradients(|t| stft.reference(&t[0], &at), std::slice::from_ref(&head), 5e-3);
            check::gradients(|t| stft.forward(&t[0], &at), &[head], 5e-3);
        }
    }

    /// The values of `head` but for the learned bins', before and behind those, and what makes a head of them: the learned
    /// bins stay, since what they excite counts as given.
    fn all_but_learned(
        stft: &InverseStft,
        head: &Tensor,
    ) -> (impl Fn(&[Tensor]) -> Result<Tensor>, [Tensor; 2]) {
        let (learned, magnitudes, inputs) = (stft.learned_bins(), stft.magnitudes(), stft.inputs());
        let part = |first, count| head.narrow(2, first, count).unwrap();
        let behind = magnitudes + 2 * learned;
        let moved = [part(learned, magnitudes - learned), part(behind, inputs - behind)];
        let (low, directions) = (part(0, learned), part(magnitudes, 2 * learned));
        let all = move |t: &[Tensor]| Tensor::cat(&[&low, &t[0], &directions, &t[1]], 2);
        (all, moved)
    }

    #[test]
    fn voicing_matches_the_dft_and_finite_differences() {
        let stft = InverseStft::new(&config(96, 24, 5, 3)).unwrap();
        assert!(stft.inner.head.harmonics.bins().len() > 10);
        let head = (check::random(1, &[2, 3, stft.inputs()]) * 2.0).unwrap();
        let at = [0, 5];
        check::close(
            &stft.forward(&head, &at).unwrap(),
            &stft.reference(&head, &at).unwrap(),
            1e-4,
        );
        let (all, moved) = all_but_learned(&stft, &head);
        assert_eq!(moved.each_ref().map(|part| part.dim(2).unwrap()), [5, 3]);
        check::gradients(|t| stft.reference(&all(t)?, &at), &moved, 5e-3);
        check::gradients(|t| stft.forward(&all(t)?, &at), &moved, 5e-3);
    }

    #[test]
    fn what_leads_matches_the_dft_and_finite_differences() {
        // With and without partials in the bins that are led; all of those above in the last.
        for (voiced_bands, led_top) in [(0, 6000), (3, 6000), (3, 100_000)] {
            let config = CodecConfig { led_top, ..config(96, 24, 5, voiced_bands) };
            let stft = InverseStft::new(&config).unwrap();
            let led = stft.led_bins();
            assert!(led > 5 && stft.inputs() == stft.first_lead() + 2 * led);
            let head = (check::random(1, &[2, 3, stft.inputs()]) * 2.0).unwrap();
            let at = [0, 5];
            check::close(
                &stft.forward(&head, &at).unwrap(),
                &stft.reference(&head, &at).unwrap(),
                1e-4,
            );
            let (all, moved) = all_but_learned(&stft, &head);
            check::gradients(|t| stft.reference(&all(t)?, &at), &moved, 5e-3);
            check::gradients(|t| stft.forward(&all(t)?, &at), &moved, 5e-3);
        }
    }

    #[test]
    fn a_constant_tone_has_a_constant_level() {
        // Bin 4 of 64 at hop 16 returns to the same phase every frame.
        let (window, hop, frames) = (64, 16, 12);
        // So slow that the noise, which belongs to high frequencies, stays out.
        let config = CodecConfig { sample_rate: 1000, ..config(window, hop, 4, 0) };
        let stft = InverseStft::new(&config).unwrap();
        let (width, bins) = (stft.inputs(), stft.bins());
        let mut head = vec![-30.0f32; frames * width];
        for t in 0..frames {
            head[t * width + 4] = ((window as f32).sqrt() / 2.0).ln();
            head[t * width + bins + 4] = 3.0;
            head[t * width + 2 * bins + 4] = 0.0;
        }
        let head = Tensor::from_vec(head, (1, frames, width), &Device::Cpu).unwrap();
        let y = super::super::host(&stft.forward(&head, &[0]).unwrap()).unwrap();
        for (n, y) in y[..(frames - 3) * hop].iter().enumerate() {
            let expected = (2.0 * PI * 4.0 * n as f32 / window as f32).cos();
            assert!((y - expected).abs() < 1e-3, "at {n}: {y} against {expected}");
        }
    }

    #[test]
    fn windows_that_do_not_overlap_are_refused() {
        for (window, hop) in [(16, 16), (15, 5), (20, 8), (16, 0)] {
            assert!(InverseStft::new(&config(window, hop, 4, 0)).is_err());
        }
    }

    #[test]
    fn noise_belongs_to_the_frame() {
        let stft = InverseStft::new(&config(64, 16, 8, 0)).unwrap();
        let (all, _) = stft.noise(400, &[0]);
        let (later, other) = stft.noise(400, &[7]);
        assert_eq!(all[7 * stft.bins()..], later[..393 * stft.bins()]);
        assert_ne!(later, other);
    }
}
