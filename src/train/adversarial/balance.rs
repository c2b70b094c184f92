//! Sizes of gradients, by which losses of different kinds are weighed against each other.

use candle_core::{Result, Tensor};

/// Share of the past in the running mean of a gradient's size.
const KEEP: f64 = 0.98;

/// Running mean of a gradient's norm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Size {
    sum: f64,
    weight: f64,
}

impl Size {
    fn follow(&mut self, norm: f64) -> f64 {
        self.sum = KEEP * self.sum + (1.0 - KEEP) * norm;
        self.weight = KEEP * self.weight + (1.0 - KEEP);
        self.sum / self.weight
    }
}

/// Follows the sizes of the gradients of the spectral loss and of others at the decoder's output.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Balancer {
    spectral: Size,
    others: [Size; 2],
}

/// Norm of a gradient.
fn norm(gradient: &Tensor) -> Result<f64> {
    Ok(f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

impl Balancer {
    /// The spectral loss's gradient plus the others' brought to its size times their weights, sizes
    /// being running means. A gradient that is not finite passes and leaves the means alone.
    ///
    /// # Errors
    /// Gradients of different shapes.
    pub fn join(&mut self, spectral: &Tensor, others: [(&Tensor, f64); 2]) -> Result<Tensor> {
        let size = norm(spectral)?;
        let norms = [norm(others[0].0)?, norm(others[1].0)?];
        if !(size.is_finite() && norms.iter().all(|n| n.is_finite())) {
            return spectral + others[0].0 + others[1].0;
        }
        let measure = self.spectral.follow(size);
        let mut sum = spectral.clone();
        for ((mean, (gradient, weight)), norm) in self.others.iter_mut().zip(others).zip(norms) {
            let mean = mean.follow(norm);
            if weight > 0.0 && mean > 0.0 {
                sum = (sum + (gradient * (weight * measure / mean))?)?;
            }
        }
        Ok(sum)
    }

    /// Everything that has to be kept for a run to go on.
    pub fn state(&self) -> [f64; 6] {
        let [a, b] = self.others;
        [self.spectral.sum, self.spectral.weight, a.sum, a.weight, b.sum, b.weight]
    }

    /// Puts back what [`Self::state`] gave.
    pub fn set_state(&mut self, state: [f64; 6]) {
        let size = |i: usize| Size { sum: state[i], weight: state[i + 1] };
        (self.spectral, self.others) = (size(0), [size(2), size(4)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check;

    #[test]
    fn weights_are_shares_of_the_spectral_gradient() {
        let spectral = check::random(1, &[2, 50]);
        let (tiny, huge) = (check::random(2, &[2, 50]), check::random(3, &[2, 50]));
        let (tiny, huge) = ((tiny * 1e-4).unwrap(), (huge * 1e4).unwrap());
        let mut balancer = Balancer::default();
        let mut joined = None;
        for _ in 0..3 {
            joined = Some(balancer.join(&spectral, [(&tiny, 2.0), (&huge, 0.0)]).unwrap());
        }
        let added = (joined.unwrap() - &spectral).unwrap();
        let ratio = norm(&added).unwrap() / norm(&spectral).unwrap();
        assert!((ratio - 2.0).abs() < 1e-3, "{ratio}");
        let mut again = Balancer::default();
        again.set_state(balancer.state());
        assert_eq!(again, balancer);
    }

    #[test]
    fn what_is_not_finite_leaves_the_sizes_alone() {
        let (good, bad) = (check::random(1, &[4]), (check::random(2, &[4]) / 0.0).unwrap());
        let mut balancer = Balancer::default();
        balancer.join(&good, [(&good, 1.0), (&good, 1.0)]).unwrap();
        let before = balancer.state();
        let joined = balancer.join(&good, [(&bad, 1.0), (&good, 1.0)]).unwrap();
        assert!(!norm(&joined).unwrap().is_finite());
        assert_eq!(balancer.state(), before);
    }
}
