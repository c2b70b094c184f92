//! Scores turned into whole numbers that a range coder works with.

use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use std::borrow::Borrow;
use std::num::NonZero;

use crate::engine::kernels::Kernels;

/// Frequencies of all codes together are 2 to this power.
pub const PRECISION: usize = 24;

/// How often each code comes in 2^24 draws. Every code comes at least once, so that whatever the prior
/// thinks impossible can be coded all the same.
///
/// All sums are of whole numbers; the exponential function is our own, and everything else is exact or
/// correctly rounded: the same scores give the same frequencies on every machine.
#[derive(Debug, Clone)]
pub struct Frequencies {
    /// By code.
    counts: Box<[u32]>,
}

impl Frequencies {
    /// Of a codebook of `size` codes, 2 to 65,536.
    pub fn new(size: usize) -> Self {
        Self { counts: vec![0; size].into() }
    }

    /// Frequencies in proportion to the exponentials of the scores, one for each code.
    pub fn set(&mut self, scores: &[f32], kernels: Kernels) {
        let counts = &mut *self.counts;
        // Scores so absurd that none is a number tell nothing.
        let (most, likeliest) = kernels.argmax(scores).unwrap_or((0.0, 0));
        let sum = kernels.weigh(scores, most, counts);
        let all = 1u32 << PRECISION;
        // A frequency of 1 for each, and the rest shared out.
        let share = f64::from(all - counts.len() as u32) / sum.max(1) as f64;
        // The sum of all products is off by less than 1e-8 and each is rounded down: never too many.
        counts[likeliest] += all - kernels.share_out(counts, share);
    }

    /// The draws that `code` comes in; nothing where there is no such code.
    pub fn interval(&self, code: u16) -> Option<Interval> {
        let (before, count) = self.left_cumulative_and_probability(code)?;
        Some(Interval { before, count })
    }

    /// How often codes before `code` come.
    fn before(&self, code: usize) -> u32 {
        self.counts[..code].iter().sum()
    }
}

/// The draws of all that a code comes in: all that a range coder needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// How many there are before.
    before: u32,
    /// And how many these are.
    count: NonZero<u32>,
}

/// The model of symbols that say themselves how often they come.
#[derive(Debug, Clone, Copy)]
pub struct Intervals;

impl EntropyModel<PRECISION> for Intervals {
    type Symbol = Interval;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Intervals {
    fn left_cumulative_and_probability(
        &self,
        interval: impl Borrow<Interval>,
    ) -> Option<(u32, NonZero<u32>)> {
        let Interval { before, count } = *interval.borrow();
        Some((before, count))
    }
}

impl EntropyModel<PRECISION> for &Frequencies {
    type Symbol = u16;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for &Frequencies {
    fn left_cumulative_and_probability(
        &self,
        code: impl Borrow<u16>,
    ) -> Option<(u32, NonZero<u32>)> {
        let code = usize::from(*code.borrow());
        let count = NonZero::new(*self.counts.get(code)?)?;
        Some((self.before(code), count))
    }
}

impl DecoderModel<PRECISION> for &Frequencies {
    fn quantile_function(&self, quantile: u32) -> (u16, u32, NonZero<u32>) {
        /// Codes passed over at a time.
        const STRIDE: usize = 32;
        let (mut code, mut before) = (0, 0);
        for group in self.counts.chunks_exact(STRIDE) {
            let sum: u32 = group.iter().sum();
            if before + sum > quantile {
                break;
            }
            (code, before) = (code + STRIDE, before + sum);
        }
        // The last one takes what is beyond the sum: nothing is, as long as `quantile` is one.
        while code + 1 < self.counts.len() && before + self.counts[code] <= quantile {
            before += self.counts[code];
            code += 1;
        }
        let count =
            self.counts.get(code).copied().and_then(NonZero::new).unwrap_or(NonZero::<u32>::MIN);
        (code as u16, before, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::InstructionSet;
    use proptest::prelude::*;

    fn counts(scores: &[f32]) -> Vec<u32> {
        let mut frequencies = Frequencies::new(scores.len());
        frequencies.set(scores, Kernels::best());
        frequencies.counts.to_vec()
    }

    #[test]
    fn frequencies_are_those_of_the_scores() {
        let found = counts(&[0.0, 2f32.ln(), 5f32.ln(), -1e30]);
        let all = f64::from(1 << PRECISION);
        for (count, share) in found.iter().zip([0.125, 0.25, 0.625, 0.0]) {
            assert!((f64::from(*count) - share * all).abs() < 8.0, "{found:?}");
        }
        assert_eq!(found[3], 1);
        assert_eq!(counts(&[7.0; 4]), [1 << (PRECISION - 2); 4]);
    }

    #[test]
    fn absurd_scores_give_every_code_a_chance() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        for scores in [[nan; 3], [nan, 1.0, 2.0], [infinite, infinite, 1.0], [-infinite; 3]] {
            let found = counts(&scores);
            assert!(found.iter().all(|count| *count > 0), "{scores:?} {found:?}");
            assert_eq!(found.iter().sum::<u32>(), 1 << PRECISION, "{scores:?}");
        }
    }

    proptest! {
        #[test]
        fn every_place_has_its_code(
            scores in proptest::collection::vec(-30f32..30.0, 2..300),
            quantiles in proptest::collection::vec(0u32..1 << PRECISION, 20),
        ) {
            let mut frequencies = Frequencies::new(scores.len());
            frequencies.set(&scores, Kernels::best());
            prop_assert_eq!(frequencies.counts.iter().sum::<u32>(), 1 << PRECISION);
            for set in InstructionSet::ALL.into_iter().filter_map(Kernels::new) {
                let mut other = Frequencies::new(scores.len());
                other.set(&scores, set);
                prop_assert_eq!(&other.counts, &frequencies.counts);
            }
            let model = &frequencies;
            for quantile in quantiles.into_iter().chain([0, (1 << PRECISION) - 1]) {
                let (code, before, count) = model.quantile_function(quantile);
                prop_assert!((before..before + count.get()).contains(&quantile));
                prop_assert_eq!(model.left_cumulative_and_probability(code), Some((before, count)));
            }
            prop_assert_eq!(model.left_cumulative_and_probability(scores.len() as u16), None);
        }
    }
}
