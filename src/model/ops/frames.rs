//! Overlapping frames of signals.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;

/// Frames of so many samples, one every `hop`.
///
/// # Errors
/// A number of samples that is no multiple of the hop.
pub(super) fn count(samples: usize, hop: usize) -> Result<usize> {
    if !samples.is_multiple_of(hop) {
        candle_core::bail!("{samples} samples are no multiple of the hop, {hop}");
    }
    Ok(samples / hop)
}

/// Samples (batch, frames * hop) in frames of `window` samples, a multiple of the hop: (batch, frames, window).
/// Frame `t` ends with the sample before `hop (t + 1)`; before the first sample there is silence.
///
/// # Errors
/// A number of samples that is no multiple of the hop.
pub fn frames(samples: &Tensor, window: usize, hop: usize) -> Result<Tensor> {
    let (batch, length) = samples.dims2()?;
    let (count, parts) = (count(length, hop)?, window / hop);
    #[cfg(feature = "cuda")]
    if samples.device().is_cuda() && !samples.track_op() {
        let frames = cuda::Frames { count, hop, offset: hop as isize - window as isize };
        return frames.of(samples, window, None)?.reshape((batch, count, window));
    }
    let hops = samples.reshape((batch, count, hop))?.pad_with_zeros(1, parts - 1, 0)?;
    let shifted = (0..parts).map(|j| hops.narrow(1, j, count)).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&shifted, 2)
}

#[cfg(test)]
mod tests {
    use super::super::host;
    use super::*;
    use candle_core::Device;

    #[test]
    fn frames_end_with_their_hop() {
        let samples = Tensor::arange(1f32, 7f32, &Device::Cpu).unwrap().reshape((1, 6)).unwrap();
        let found = frames(&samples, 4, 2).unwrap();
        assert_eq!(found.dims(), [1, 3, 4]);
        let expected = [0.0, 0.0, 1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(host(&found).unwrap(), expected);
        assert!(frames(&samples, 8, 4).is_err());
    }
}
