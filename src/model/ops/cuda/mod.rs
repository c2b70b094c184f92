//! Kernels of our own on NVIDIA GPUs: compiled by NVRTC when one is first needed, launched on tensors.
//!
//! A device's tensors are all used on the one stream that candle has for it, so that what is launched here
//! needs no other order than that of the calls.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::cuda_backend::{CudaDType, cudarc::driver::DeviceRepr};
use candle_core::op::BackpropOp;
use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Error, Layout, Result, Shape, Storage, Tensor,
};

use crate::bands::Bands;

const SOURCE: &str = include_str!("kernels.cu");
/// Threads of a block.
const BLOCK: u32 = 256;
/// Blocks at most: threads go on to further elements.
const MOST_BLOCKS: u32 = 1 << 15;
/// Rows that a thread sums up.
pub const ROWS: usize = 32;

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub enum Arg {
    /// Device memory, or null.
    Memory(u64),
    Unsigned(u32),
    Signed(i32),
    Float(f32),
    /// `struct Shape` of the kernels.
    Shape(Packed<[u32; 8]>),
    /// `struct Terms` of the kernels.
    Terms(Packed<[f32; 10]>),
    /// `struct Step` of the kernels.
    Step(Packed<[f32; 7]>),
}

impl Arg {
    /// No memory.
    pub const NULL: Self = Self::Memory(0);

    /// A length or an index.
    pub fn count(value: usize) -> Result<Self> {
        u32::try_from(value).map(Self::Unsigned).map_err(Error::wrap)
    }
}

/// A structure as kernels take it: the same numbers in the same order.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Packed<T>(pub T);
// SAFETY: arrays of 32-bit numbers have the layout of C structures of so many.
unsafe impl DeviceRepr for Packed<[u32; 8]> {}
// SAFETY: as above.
unsafe impl DeviceRepr for Packed<[f32; 7]> {}
// SAFETY: as above.
unsafe impl DeviceRepr for Packed<[f32; 10]> {}

/// The kernels as the driver takes them.
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let ptx = PTX.get_or_init(|| match compile_ptx(SOURCE) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(error) => Err(format!("NVRTC cannot compile the kernels: {error:?}")),
    });
    ptx.as_deref().map_err(|message| Error::Msg(message.clone()))
}

/// Runs a kernel with at least `threads` threads, or fewer that each do several elements' work.
pub fn launch(device: &CudaDevice, name: &str, threads: usize, args: &[Arg]) -> Result<()> {
    if threads == 0 {
        return Ok(());
    }
    let function = device.get_or_load_custom_func(name, "tessera", ptx()?)?;
    let blocks = threads.div_ceil(BLOCK as usize).min(MOST_BLOCKS as usize) as u32;
    let config =
        LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 };
    let mut builder = function.builder();
    for arg in args {
        match arg {
            Arg::Memory(address) => builder.arg(address),
            Arg::Unsigned(value) => builder.arg(value),
            Arg::Signed(value) => builder.arg(value),
            Arg::Float(value) => builder.arg(value),
            Arg::Shape(numbers) => builder.arg(numbers),
            Arg::Terms(numbers) => builder.arg(numbers),
            Arg::Step(numbers) => builder.arg(numbers),
        };
    }
    // SAFETY: each caller gives the arguments of the kernel's own signature, and memory of the sizes that
    // it reads and writes; all of it lives on the stream that the kernel is queued on.
    unsafe { builder.launch(config) }.map_err(Error::wrap)?;
    Ok(())
}

/// Where the values of a contiguous layout in a storage begin.
pub fn memory<T: CudaDType + DeviceRepr>(storage: &CudaStorage, layout: &Layout) -> Result<Arg> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        candle_core::bail!("a kernel of ours was given a tensor that is not contiguous");
    };
    let slice = storage.as_cuda_slice::<T>()?;
    let stream = storage.device().cuda_stream();
    let (address, _recorded) = slice.device_ptr(&stream);
    Ok(Arg::Memory(address + (start * size_of::<T>()) as u64))
}

/// The same of a tensor's f32 or u32 values.
pub fn of(tensor: &Tensor) -> Result<Arg> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, tensor.dtype()) {
        (Storage::Cuda(storage), DType::F32) => memory::<f32>(storage, layout),
        (Storage::Cuda(storage), DType::U32) => memory::<u32>(storage, layout),
        _ => candle_core::bail!("a kernel of ours was given a {:?} tensor", tensor.dtype()),
    }
}

/// The CUDA device of a tensor.
pub fn device(tensor: &Tensor) -> Result<CudaDevice> {
    Ok(tensor.device().as_cuda_device()?.clone())
}

/// Memory that a kernel is to fill, as a storage to be returned.
pub fn empty(device: &CudaDevice, count: usize) -> Result<CudaStorage> {
    // SAFETY: each caller has a kernel write all of it.
    let slice = unsafe { device.alloc::<f32>(count) }?;
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}

/// Zeros to add to.
pub fn zeros(device: &CudaDevice, count: usize) -> Result<CudaStorage> {
    Ok(CudaStorage::wrap_cuda_slice(device.alloc_zeros::<f32>(count)?, device.clone()))
}

/// A storage's first value.
pub fn start(storage: &CudaStorage, offset: usize) -> Result<Arg> {
    let layout = Layout::contiguous_with_offset(1, offset);
    memory::<f32>(storage, &layout)
}

/// A tensor that nothing is known of the making of.
pub fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// Sums over the rows of `a` (rows, c), times `b` if there is one, added to `out` (c).
pub fn column_sums(
    device: &CudaDevice,
    [a, b, out]: [Arg; 3],
    rows: usize,
    c: usize,
) -> Result<()> {
    let threads = rows.div_ceil(ROWS) * c;
    let counts = [Arg::count(rows)?, Arg::count(c)?, Arg::count(ROWS)?, Arg::count(threads)?];
    launch(device, "column_sums", threads, &[&[a, b, out], &counts[..]].concat())
}

/// Windowed frames of signals: frame `t` begins at `hop t + offset`, and there is silence around a signal.
#[derive(Clone)]
pub struct Frames {
    /// Frames of each signal.
    pub count: usize,
    pub hop: usize,
    pub offset: isize,
}

impl Frames {
    fn arguments(&self, samples: usize, window: usize, n: usize) -> Result<[Arg; 6]> {
        Ok([
            Arg::count(samples)?,
            Arg::count(self.count)?,
            Arg::count(window)?,
            Arg::count(self.hop)?,
            Arg::Signed(i32::try_from(self.offset).map_err(Error::wrap)?),
            Arg::count(n)?,
        ])
    }

    /// Signals (batch, samples) in frames of `window` samples, shaped by `shape` if there is one:
    /// (batch * count, window).
    pub fn of(&self, x: &Tensor, window: usize, shape: Option<&Tensor>) -> Result<Tensor> {
        let (batch, samples) = x.dims2()?;
        let (device, x) = (device(x)?, x.contiguous()?);
        let rows = batch * self.count;
        let out = empty(&device, rows * window)?;
        let shape = shape.map_or(Ok(Arg::NULL), of)?;
        let args = [of(&x)?, shape, start(&out, 0)?];
        let counts = self.arguments(samples, window, rows * window)?;
        launch(&device, "frames", rows * window, &[&args[..], &counts].concat())?;
        Ok(tensor(out, (rows, window)))
    }

    /// The adjoint of [`Self::of`]: frames (batch * count, window) shaped and added up where they overlap,
    /// to signals (batch, samples); added to `sum` if there is one.
    pub fn overlap(
        &self,
        frames: &Tensor,
        shape: &Tensor,
        batch: usize,
        samples: usize,
        sum: Option<Tensor>,
    ) -> Result<Tensor> {
        let (_, window) = frames.dims2()?;
        let (device, frames) = (device(frames)?, frames.contiguous()?);
        let add = Arg::Unsigned(u32::from(sum.is_some()));
        let out = match sum {
            Some(sum) => sum,
            None => tensor(empty(&device, batch * samples)?, (batch, samples)),
        };
        let args = [of(&frames)?, of(shape)?, of(&out)?];
        let counts = self.arguments(samples, window, batch * samples)?;
        let args = [&args[..], &counts, &[add]].concat();
        launch(&device, "overlap_add", batch * samples, &args)?;
        Ok(out)
    }
}

/// [`Bands`] on a device.
pub struct BandTable {
    begin: Tensor,
    band: Tensor,
    way: Tensor,
    bins: usize,
    count: usize,
}

impl BandTable {
    pub fn new(bands: &Bands, device: &Device) -> Result<Self> {
        let (count, place) = (bands.count(), bands.place());
        let begin: Vec<u32> = (0..=count)
            .map(|band| place.partition_point(|(below, _)| *below < band) as u32)
            .collect();
        // Nothing cannot be put on a device.
        let padded = |bins: usize| bins.max(1);
        let mut band: Vec<u32> = place.iter().map(|(band, _)| *band as u32).collect();
        let mut way: Vec<f32> = place.iter().map(|(_, way)| *way).collect();
        band.resize(padded(band.len()), 0);
        way.resize(padded(way.len()), 0.0);
        Ok(Self {
            begin: Tensor::new(begin, device)?,
            band: Tensor::new(band, device)?,
            way: Tensor::new(way, device)?,
            bins: place.len(),
            count,
        })
    }

    /// By bin: its band, and the way to the next.
    pub fn lines(&self) -> Result<[Arg; 2]> {
        Ok([of(&self.band)?, of(&self.way)?])
    }

    /// By band: its first bin; and by bin the way to the next band.
    pub fn sums(&self) -> Result<[Arg; 2]> {
        Ok([of(&self.begin)?, of(&self.way)?])
    }

    /// Shares out the bins of rows of `values` to columns of rows of `width`, from `first` on.
    pub fn gather(&self, values: &Tensor, out: Arg, width: usize, first: usize) -> Result<()> {
        let (rows, _) = values.dims2()?;
        let threads = rows * self.count;
        let [begin, way] = self.sums()?;
        let args = [
            of(values)?,
            begin,
            way,
            out,
            Arg::count(self.bins)?,
            Arg::count(self.count)?,
            Arg::count(width)?,
            Arg::count(first)?,
            Arg::count(threads)?,
        ];
        launch(&device(values)?, "gather_bands", threads, &args)
    }
}

/// Real and imaginary parts of the bins from `first` on of windows of `n` real samples as one matrix
/// (n, 2 bins).
pub fn analysis(n: usize, first: usize, bins: usize, device: &Device) -> Result<Tensor> {
    let table: Vec<(f64, f64)> =
        (0..n).map(|i| (2.0 * std::f64::consts::PI * i as f64 / n as f64).sin_cos()).collect();
    let mut matrix = Vec::with_capacity(n * 2 * bins);
    for i in 0..n {
        matrix.extend((first..first + bins).map(|k| table[(i * k) % n].1 as f32));
        matrix.extend((first..first + bins).map(|k| -table[(i * k) % n].0 as f32));
    }
    Tensor::from_vec(matrix, (n, 2 * bins), device)
}

/// A value that is made once for the device that it is first asked for on.
pub struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value, by `make` the first time.
    pub fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        let value = make()?;
        Ok(self.0.get_or_init(|| value))
    }
}

#[cfg(test)]
mod tests;
