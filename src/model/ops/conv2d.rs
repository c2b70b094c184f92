//! Two-dimensional convolution over frames and bands, channels last.
//!
//! Patches are gathered a few frames at a time, so that they stay in the cache, and multiplied by the
//! kernel's matrix.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Threads, product};
use super::{Precision, linear, values};

/// Values of the patches that are gathered at a time: they fit a core's cache.
const PATCHES: usize = 1 << 16;

/// Kernel and stride of a convolution, each over (frames, bands). There are as many places as strides
/// begun: zeros surround the input, evenly on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Frames and bands that a place sees.
    pub kernel: [usize; 2],
    /// Frames and bands between places.
    pub stride: [usize; 2],
}

impl Conv2d {
    /// x (batch, frames, bands, inputs) to (batch, frames / stride, bands / stride, outputs), both
    /// rounded up; w (outputs, kernel frames * kernel bands * inputs), bias (outputs).
    ///
    /// # Errors
    /// Shapes that do not fit together.
    pub fn forward(
        self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        precision: Precision,
    ) -> Result<Tensor> {
        if self.kernel.contains(&0) || self.stride.contains(&0) {
            candle_core::bail!("convolution: {self:?}");
        }
        if x.device().is_cpu() && precision == Precision::F32 {
            x.contiguous()?.apply_op3(w, bias, Forward(self))
        } else {
            self.reference(x, w, bias, precision)
        }
    }

    /// The same with patches gathered by candle.
    fn reference(
        self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        precision: Precision,
    ) -> Result<Tensor> {
        let (batch, frames, bands, inputs) = x.dims4()?;
        let [times, places] = [self.places(0, frames), self.places(1, bands)];
        let [tall, wide] = self.kernel;
        let mut padded = x.clone();
        let mut rows = Vec::new();
        for (axis, size) in [frames, bands].into_iter().enumerate() {
            let (count, before) = (self.places(axis, size), self.before(axis, size));
            let end = (count.max(1) - 1) * self.stride[axis] + self.kernel[axis];
            let after = end.saturating_sub(before + size);
            padded = padded.pad_with_zeros(1 + axis, before, after)?;
            let at = |place: usize| {
                (0..self.kernel[axis]).map(move |tap| (place * self.stride[axis] + tap) as u32)
            };
            let index: Vec<u32> = (0..count).flat_map(at).collect();
            rows.push(Tensor::new(index, x.device())?);
        }
        let patches = padded
            .index_select(&rows[0], 1)?
            .index_select(&rows[1], 2)?
            .reshape(&[batch, times, tall, places, wide, inputs])?
            .permute([0, 1, 3, 2, 4, 5])?
            .reshape((batch, times, places, tall * wide * inputs))?;
        linear(&patches, w, bias, precision)
    }

    /// Places along an axis of some size.
    fn places(self, axis: usize, size: usize) -> usize {
        size.div_ceil(self.stride[axis])
    }

    /// Zeros before an axis of some size.
    fn before(self, axis: usize, size: usize) -> usize {
        let end = (self.places(axis, size).max(1) - 1) * self.stride[axis] + self.kernel[axis];
        end.saturating_sub(size) / 2
    }
}

/// One item of a batch as a kernel sees it.
#[derive(Clone, Copy)]
struct Item {
    conv: Conv2d,
    frames: usize,
    bands: usize,
    inputs: usize,
}

impl Item {
    fn new(conv: Conv2d, layout: &Layout) -> Result<(usize, Self)> {
        let (batch, frames, bands, inputs) = layout.shape().dims4()?;
        Ok((batch, Self { conv, frames, bands, inputs }))
    }

    fn times(self) -> usize {
        self.conv.places(0, self.frames)
    }

    fn places(self) -> usize {
        self.conv.places(1, self.bands)
    }

    /// Values of a patch.
    fn patch(self) -> usize {
        self.conv.kernel[0] * self.conv.kernel[1] * self.inputs
    }

    /// Frames of the output whose patches are gathered at a time.
    fn block(self) -> usize {
        (PATCHES / (self.places() * self.patch()).max(1)).max(1)
    }

    /// For each run of values that a patch of the output's frames `first..` shares with the input: where
    /// it is in the patches, where in the item, and its length.
    fn runs(self, first: usize, count: usize, mut each: impl FnMut(usize, usize, usize)) {
        let [tall, wide] = self.conv.kernel;
        let [down, along] = self.conv.stride;
        let (above, left) = (self.conv.before(0, self.frames), self.conv.before(1, self.bands));
        let (places, patch) = (self.places(), self.patch());
        for time in 0..count {
            for tap in 0..tall {
                let Some(frame) =
                    ((first + time) * down + tap).checked_sub(above).filter(|f| *f < self.frames)
                else {
                    continue;
                };
                for place in 0..places {
                    let start = place * along;
                    let skipped = left.saturating_sub(start);
                    let from = (start + skipped).saturating_sub(left);
                    let end = (start + wide).saturating_sub(left).min(self.bands);
                    if from < end {
                        let to =
                            (time * places + place) * patch + (tap * wide + skipped) * self.inputs;
                        each(
                            to,
                            (frame * self.bands + from) * self.inputs,
                            (end - from) * self.inputs,
                        );
                    }
                }
            }
        }
    }

    fn gather(self, x: &[f32], first: usize, count: usize, patches: &mut [f32]) {
        patches.fill(0.0);
        self.runs(first, count, |to, from, length| {
            patches[to..to + length].copy_from_slice(&x[from..from + length]);
        });
    }

    fn scatter(self, patches: &[f32], first: usize, count: usize, dx: &mut [f32]) {
        self.runs(first, count, |to, from, length| {
            let pairs = dx[from..from + length].iter_mut().zip(&patches[to..to + length]);
            pairs.for_each(|(d, p)| *d += p);
        });
    }

    fn forward(self, x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) -> Result<()> {
        let (row, patch) = (self.places() * bias.len(), self.patch());
        let mut patches = vec![0.0; self.block().min(self.times()) * self.places() * patch];
        for (block, y) in y.chunks_mut((self.block() * row).max(1)).enumerate() {
            let count = y.len() / row;
            let patches = &mut patches[..count * self.places() * patch];
            self.gather(x, block * self.block(), count, patches);
            y.chunks_exact_mut(bias.len()).for_each(|place| place.copy_from_slice(bias));
            let (p, w) = (Matrix::of_rows(patches, patch), Matrix::of_rows(w, patch));
            product(y, p, w.transposed(), true, Threads::One)?;
        }
        Ok(())
    }

    /// Adds to the gradients of the input (where it is not empty) and of kernel and bias (where these
    /// are not empty).
    fn backward(
        self,
        x: &[f32],
        w: &[f32],
        outputs: usize,
        grad: &[f32],
        dx: &mut [f32],
        dw: &mut [f32],
    ) -> Result<()> {
        let (row, patch) = (self.places() * outputs, self.patch());
        let mut patches = vec![0.0; self.block().min(self.times()) * self.places() * patch];
        for (block, grad) in grad.chunks((self.block() * row).max(1)).enumerate() {
            let (first, count) = (block * self.block(), grad.len() / row);
            let patches = &mut patches[..count * self.places() * patch];
            let g = Matrix::of_rows(grad, outputs);
            if !dw.is_empty() {
                self.gather(x, first, count, patches);
                let (dw, db) = dw.split_at_mut(outputs * patch);
                product(dw, g.transposed(), Matrix::of_rows(patches, patch), true, Threads::One)?;
                for place in grad.chunks_exact(outputs) {
                    db.iter_mut().zip(place).for_each(|(d, g)| *d += g);
                }
            }
            if !dx.is_empty() {
                product(patches, g, Matrix::of_rows(w, patch), false, Threads::One)?;
                self.scatter(patches, first, count, dx);
            }
        }
        Ok(())
    }
}

struct Forward(Conv2d);

impl CustomOp3 for Forward {
    fn name(&self) -> &'static str {
        "conv2d-channels-last"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, item) = Item::new(self.0, x_layout)?;
        let (outputs, patch) = w_layout.shape().dims2()?;
        if patch != item.patch() || bias_layout.dims() != [outputs] {
            candle_core::bail!(
                "convolution: x {:?}, w {:?} and bias {:?} do not fit",
                x_layout.dims(),
                w_layout.dims(),
                bias_layout.dims()
            );
        }
        let (x, w) = (values(x, x_layout)?, values(w, w_layout)?);
        let bias = values(bias, bias_layout)?;
        let shape = (batch, item.times(), item.places(), outputs);
        let mut y = vec![0.0; batch * item.times() * item.places() * outputs];
        y.par_chunks_mut((item.times() * item.places() * outputs).max(1))
            .zip(x.par_chunks((item.frames * item.bands * item.inputs).max(1)))
            .try_for_each(|(y, x)| item.forward(x, w, bias, y))?;
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (outputs, patch) = w.dims2()?;
        let (of_input, of_kernel) = (x.track_op(), w.track_op());
        let op = Backward { conv: self.0, w: super::host(w)?, outputs, of_input, of_kernel };
        let packed = x.apply_op2_no_bwd(&grad.contiguous()?, &op)?;
        let n = if of_input { x.elem_count() } else { 0 };
        let dx = match of_input {
            true => Some(packed.narrow(0, 0, n)?.reshape(x.shape())?),
            false => None,
        };
        if !of_kernel {
            return Ok((dx, None, None));
        }
        let dw = packed.narrow(0, n, outputs * patch)?.reshape((outputs, patch))?;
        let db = packed.narrow(0, n + outputs * patch, outputs)?;
        Ok((dx, Some(dw), Some(db)))
    }
}

/// Gradients of x, then of w and bias, one after the other; those that nobody needs are left out.
struct Backward {
    conv: Conv2d,
    w: Vec<f32>,
    outputs: usize,
    of_input: bool,
    of_kernel: bool,
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "conv2d-channels-last-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, item) = Item::new(self.conv, x_layout)?;
        let (x, grad) = (values(x, x_layout)?, values(grad, grad_layout)?);
        let size = item.frames * item.bands * item.inputs;
        let dw_size = if self.of_kernel { self.w.len() + self.outputs } else { 0 };
        let dx_size = if self.of_input { size } else { 0 };
        let parts: Vec<(Vec<f32>, Vec<f32>)> = x
            .par_chunks(size.max(1))
            .zip(grad.par_chunks((item.times() * item.places() * self.outputs).max(1)))
            .map(|(x, grad)| {
                let (mut dx, mut dw) = (vec![0.0; dx_size], vec![0.0; dw_size]);
                item.backward(x, &self.w, self.outputs, grad, &mut dx, &mut dw)?;
                Ok((dx, dw))
            })
            .collect::<Result<_>>()?;
        let mut out = Vec::with_capacity(batch * dx_size + dw_size);
        parts.iter().for_each(|(dx, _)| out.extend_from_slice(dx));
        // Summed in the order of the batch: the same bits for any number of threads.
        let mut sum = vec![0.0; dw_size];
        for (_, dw) in &parts {
            sum.iter_mut().zip(dw).for_each(|(sum, d)| *sum += d);
        }
        out.extend(sum);
        let length = out.len();
        Ok((CpuStorage::F32(out), Shape::from(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    const CASES: [(Conv2d, [usize; 3]); 5] = [
        (Conv2d { kernel: [3, 8], stride: [1, 4] }, [5, 17, 2]),
        (Conv2d { kernel: [3, 4], stride: [2, 2] }, [6, 9, 3]),
        (Conv2d { kernel: [5, 1], stride: [3, 1] }, [11, 2, 1]),
        (Conv2d { kernel: [1, 1], stride: [1, 1] }, [2, 3, 4]),
        (Conv2d { kernel: [3, 3], stride: [1, 1] }, [1, 1, 2]),
    ];

    fn inputs(conv: Conv2d, [frames, bands, inputs]: [usize; 3]) -> [Tensor; 3] {
        let patch = conv.kernel[0] * conv.kernel[1] * inputs;
        [
            check::random(1, &[3, frames, bands, inputs]),
            check::random(2, &[4, patch]),
            check::random(3, &[4]),
        ]
    }

    #[test]
    fn matches_candle_and_finite_differences() {
        for (conv, shape) in CASES {
            let all = inputs(conv, shape);
            let [x, w, b] = &all;
            let y = conv.forward(x, w, b, Precision::F32).unwrap();
            check::close(&y, &conv.reference(x, w, b, Precision::F32).unwrap(), 1e-5);
            check::gradients(|t| conv.forward(&t[0], &t[1], &t[2], Precision::F32), &all, 3e-3);
            check::gradients(|t| conv.reference(&t[0], &t[1], &t[2], Precision::F32), &all, 3e-3);
        }
    }

    #[test]
    fn many_blocks_are_as_one() {
        let conv = Conv2d { kernel: [3, 8], stride: [1, 4] };
        let all = inputs(conv, [60, 400, 2]);
        let item = Item { conv, frames: 60, bands: 400, inputs: 2 };
        assert!(item.block() < 60, "one block would prove nothing");
        let [x, w, b] = &all;
        let y = conv.forward(x, w, b, Precision::F32).unwrap();
        check::close(&y, &conv.reference(x, w, b, Precision::F32).unwrap(), 1e-5);
        check::gradients(|t| conv.forward(&t[0], &t[1], &t[2], Precision::F32), &all, 2e-2);
    }

    #[test]
    fn a_place_is_the_sum_under_its_kernel() {
        let conv = Conv2d { kernel: [3, 3], stride: [1, 2] };
        let x = Tensor::ones((2, 4, 6, 1), candle_core::DType::F32, &candle_core::Device::Cpu);
        let w = Tensor::ones((1, 9), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let b = Tensor::new(&[0.5f32], &candle_core::Device::Cpu).unwrap();
        let y = conv.forward(&x.unwrap(), &w, &b, Precision::F32).unwrap();
        assert_eq!(y.dims(), [2, 4, 3, 1]);
        let y: Vec<f32> = super::super::host(&y.get(1).unwrap()).unwrap();
        assert_eq!(y[..6], [6.5, 6.5, 4.5, 9.5, 9.5, 6.5]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let conv = Conv2d { kernel: [3, 3], stride: [1, 1] };
        let [x, w, b] = inputs(Conv2d { kernel: [3, 2], stride: [1, 1] }, [4, 4, 1]);
        assert!(conv.forward(&x, &w, &b, Precision::F32).is_err());
        let none = Conv2d { kernel: [3, 2], stride: [0, 1] };
        assert!(none.forward(&x, &w, &b, Precision::F32).is_err());
    }
}
