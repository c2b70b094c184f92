//! Drawing codes from a prior's scores.

use crate::math;

/// How codes are drawn; every value is in its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    temperature: f32,
    top_p: f32,
    seed: u64,
}

impl Default for Sampling {
    /// What keeps the shipped model's prior from falling silent: silence is the likeliest thing to follow
    /// silence, and sharper settings seldom leave it again.
    fn default() -> Self {
        Self { temperature: 1.2, top_p: 0.99, seed: 0 }
    }
}

impl Sampling {
    /// What is rather likely than surprising: to go on for a moment unnoticed.
    pub const LIKELY: Self = Self { temperature: 0.8, top_p: 0.8, seed: 1 };

    /// Scores are divided by `temperature`, 0 to 10: below 1 likely codes become likelier, at 0 only the
    /// likeliest is drawn. Only the likeliest codes that together have the probability `top_p` are drawn
    /// (nucleus sampling, Holtzman et al. 2019); it is above 0, and 1 for all codes. The same `seed` draws the
    /// same codes, on any machine.
    ///
    /// # Errors
    /// Temperature or top-p is out of range.
    pub fn new(temperature: f32, top_p: f32, seed: u64) -> Result<Self, SamplingError> {
        if !(0.0..=10.0).contains(&temperature) {
            return Err(SamplingError::Temperature(temperature));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SamplingError::TopP(top_p));
        }
        Ok(Self { temperature, top_p, seed })
    }

    /// What scores are divided by.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// The probability of the codes that are drawn from.
    pub fn top_p(&self) -> f32 {
        self.top_p
    }

    /// What chance begins with.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// Values that are none of a [`Sampling`].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// Not a number from 0 to 10.
    #[error("the temperature is {0}, but must be 0 to 10")]
    Temperature(f32),
    /// Not a number above 0 and up to 1.
    #[error("top-p is {0}, but must be above 0 and at most 1")]
    TopP(f32),
}

/// Draws codes; nothing is allocated after it is made.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
    /// Codes, from the likeliest on.
    order: Vec<u16>,
    /// By code.
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler for codebooks of up to `codes` codes.
    pub fn new(sampling: Sampling, codes: usize) -> Self {
        Self {
            sampling,
            state: sampling.seed,
            order: Vec::with_capacity(codes),
            weights: Vec::with_capacity(codes),
        }
    }

    /// A code drawn by `scores`, logarithms of probabilities but for a constant; 0 without any.
    pub fn draw(&mut self, scores: &[f32]) -> u16 {
        self.order.clear();
        self.order.extend((0..=u16::MAX).take(scores.len()));
        // Codes of the same score stay in order, so that ties are drawn alike everywhere. Sorting in place
        // needs no memory.
        let score = |code: &u16| scores[usize::from(*code)];
        self.order.sort_unstable_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
        let Some(best) = self.order.first().copied() else { return 0 };
        let drawn = self.uniform();
        if self.sampling.temperature == 0.0 {
            return best;
        }
        let most = score(&best);
        let inverse = 1.0 / self.sampling.temperature;
        self.weights.clear();
        self.weights.extend(self.order.iter().map(|c| math::exp((score(c) - most) * inverse)));
        let all: f32 = self.weights.iter().sum();
        let mut kept = 0.0;
        let nucleus = self.weights.iter().take_while(|weight| {
            let wanted = kept < self.sampling.top_p * all;
            kept += **weight;
            wanted
        });
        let count = nucleus.count().max(1);
        let mut left = drawn * self.weights[..count].iter().sum::<f32>();
        let place = self.weights[..count].iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        self.order[place.unwrap_or(count - 1)]
    }

    /// From 0 on and below 1: SplitMix64 (Steele, Lea, Flood 2014).
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling, scores: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling, scores.len());
        let mut counts = vec![0; scores.len()];
        (0..20_000).for_each(|_| counts[usize::from(sampler.draw(scores))] += 1);
        counts
    }

    #[test]
    fn codes_are_drawn_as_often_as_they_are_likely() {
        let probabilities = [0.1f32, 0.6, 0.25, 0.05];
        // A constant makes no difference.
        let scores = probabilities.map(|p| p.ln() + 7.0);
        let all = Sampling { temperature: 1.0, top_p: 1.0, seed: 0 };
        for (count, p) in counts(all, &scores).iter().zip(probabilities) {
            assert!((*count as f32 / 20_000.0 - p).abs() < 0.012, "{count} of 20000 for {p}");
        }
        // 0.6 and 0.25 are the fewest that have 0.8.
        let nucleus = counts(Sampling { top_p: 0.8, ..all }, &scores);
        assert_eq!((nucleus[0], nucleus[3]), (0, 0));
        assert!((nucleus[1] as f32 / 20_000.0 - 0.6 / 0.85).abs() < 0.012, "{nucleus:?}");
        // Twice the logarithm is the square.
        let cold = counts(Sampling { temperature: 0.5, ..all }, &scores);
        assert!((cold[1] as f32 / 20_000.0 - 0.36 / 0.435).abs() < 0.012, "{cold:?}");
        assert_eq!(counts(Sampling { temperature: 0.0, ..all }, &scores), [0, 20_000, 0, 0]);
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let scores: Vec<f32> = (0..300).map(|i| (i as f32 * 0.7).sin()).collect();
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling { seed, ..Sampling::default() }, 300);
            (0..50).map(|_| sampler.draw(&scores)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn odd_scores_and_absurd_values() {
        let mut sampler = Sampler::new(Sampling::default(), 3);
        assert_eq!(sampler.draw(&[]), 0);
        assert_eq!(sampler.draw(&[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]), 1);
        assert!(sampler.draw(&[f32::NAN, f32::NAN, 0.0]) < 3);
        for temperature in [-1.0, 11.0, f32::NAN] {
            assert!(Sampling::new(temperature, 1.0, 0).is_err());
        }
        for top_p in [0.0, -0.5, 1.5, f32::NAN] {
            assert!(Sampling::new(1.0, top_p, 0).is_err());
        }
        for ours in [Sampling::default(), Sampling::LIKELY] {
            let Sampling { temperature, top_p, seed } = ours;
            assert_eq!(Sampling::new(temperature, top_p, seed), Ok(ours));
        }
    }
}
