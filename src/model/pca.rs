//! Principal components, for starting the quantizer's projections.

use candle_core::{Result, Tensor};

/// Rounds of orthogonal iteration: the leading components of audio latents stand well apart.
const ROUNDS: usize = 30;

/// Least standard deviation that is brought to 1. Latents have unit variance; what is left of them at a
/// tenth of that is hardly heard, and blowing it up would let small drifts upset the codes.
const LEAST_DEVIATION: f64 = 0.1;

/// A projection onto principal components and back.
pub struct Principal {
    /// (components, inputs): what passes has mean 0 and unit variance overall.
    pub down: Tensor,
    /// (components).
    pub down_bias: Tensor,
    /// (inputs, components).
    pub up: Tensor,
    /// (inputs): the mean.
    pub up_bias: Tensor,
}

/// The leading `components` of the rows of `x` (n, inputs), by orthogonal iteration on the covariance.
///
/// # Errors
/// The device fails.
pub fn principal(x: &Tensor, components: usize) -> Result<Principal> {
    let (n, inputs) = x.dims2()?;
    let mean = x.mean_keepdim(0)?;
    let centred = x.broadcast_sub(&mean)?;
    let covariance = (centred.t()?.matmul(&centred)? / n as f64)?;
    // Any start that is not orthogonal to the answer will do; this one is the same every time.
    let start: Vec<f32> = (0..inputs * components)
        .map(|i| ((i as f32 * 12.9898).sin() * 43_758.547).fract())
        .collect();
    let mut basis = orthonormal(start, components);
    for _ in 0..ROUNDS {
        let v = Tensor::from_slice(&basis, (components, inputs), x.device())?;
        basis = orthonormal(super::ops::host(&v.matmul(&covariance)?)?, components);
    }
    let v = Tensor::from_vec(basis, (components, inputs), x.device())?;
    let variance = centred.matmul(&v.t()?)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
    let deviation = f64::from(variance).sqrt().max(LEAST_DEVIATION);
    let down = (&v / deviation)?;
    let down_bias = down.matmul(&mean.t()?)?.neg()?.flatten_all()?;
    Ok(Principal {
        down,
        down_bias,
        up: (v.t()?.contiguous()? * deviation)?,
        up_bias: mean.flatten_all()?,
    })
}

/// Gram and Schmidt over rows; a row that vanishes stays zero.
fn orthonormal(mut rows: Vec<f32>, count: usize) -> Vec<f32> {
    let width = rows.len() / count;
    for i in 0..count {
        let (done, rest) = rows.split_at_mut(i * width);
        let row = &mut rest[..width];
        for other in done.chunks_exact(width) {
            let dot: f64 = row.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            for (a, b) in row.iter_mut().zip(other) {
                *a -= dot as f32 * b;
            }
        }
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let scale = if length > 1e-20 { 1.0 / length } else { 0.0 };
        row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::{check, host};

    #[test]
    fn a_low_rank_signal_survives() {
        let hidden = check::random(1, &[300, 3]);
        let x = (hidden.matmul(&check::random(2, &[3, 20])).unwrap() + 0.7).unwrap();
        let p = principal(&x, 3).unwrap();
        let passed = x.matmul(&p.down.t().unwrap()).unwrap().broadcast_add(&p.down_bias).unwrap();
        let power: f32 = host(&passed).unwrap().iter().map(|v| v * v).sum::<f32>() / 900.0;
        assert!((power - 1.0).abs() < 0.02, "{power}");
        let back = passed.matmul(&p.up.t().unwrap()).unwrap().broadcast_add(&p.up_bias).unwrap();
        check::close(&back, &x, 1e-3);
    }
}
