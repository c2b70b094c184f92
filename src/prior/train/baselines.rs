//! What a prior has to beat: the frequencies of the codes, and those after the code before.

use rayon::prelude::*;

use super::token_set::Piece;

/// Bits a code of the same tokens by level, as cheaper models would spend them.
#[derive(Debug, Clone, PartialEq)]
pub struct Baselines {
    /// By the frequencies of the codes in training, one added to each.
    pub unigram: Vec<f64>,
    /// By the frequencies after the level's code before, mixed with those of the unigram as by Witten and
    /// Bell (1991). It knows the code before the beginning of a chunk, which a prior does not.
    pub bigram: Vec<f64>,
}

/// The cross-entropies of the baselines, learned from `training`, on `validation`; of each step the codes
/// of `levels_of_codes`' levels.
pub fn baselines<'a>(
    training: impl Iterator<Item = &'a [u16]>,
    validation: &[Piece<'_>],
    levels_of_codes: &[usize],
    codebook_size: usize,
) -> Baselines {
    let sequences: Vec<&[u16]> = training.collect();
    let levels = levels_of_codes.iter().max().map_or(0, |last| last + 1);
    let one = |level: usize| {
        let place = Place::of(level, levels_of_codes);
        let frequencies = Frequencies::count(&sequences, &place, codebook_size);
        frequencies.bits(validation, &place)
    };
    let (unigram, bigram) = (0..levels).map(one).unzip();
    Baselines { unigram, bigram }
}

/// Where the codes of a level are in a step.
struct Place {
    per_step: usize,
    first: usize,
    codes: usize,
}

impl Place {
    fn of(level: usize, levels_of_codes: &[usize]) -> Self {
        Self {
            per_step: levels_of_codes.len(),
            first: levels_of_codes.iter().take_while(|l| **l < level).count(),
            codes: levels_of_codes.iter().filter(|l| **l == level).count(),
        }
    }

    fn codes<'a>(&self, steps: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
        let (first, codes) = (self.first, self.codes);
        steps.chunks_exact(self.per_step).flat_map(move |step| &step[first..first + codes]).copied()
    }
}

/// How often codes, and pairs of them, occur.
struct Frequencies {
    /// By code.
    codes: Vec<u64>,
    total: u64,
    /// Pairs in ascending order, each with its number: the code before in the upper half.
    pairs: Vec<(u32, u32)>,
    /// By code: the pairs it begins, and how many different ones.
    begun: Vec<(u64, u64)>,
}

impl Frequencies {
    fn count(sequences: &[&[u16]], place: &Place, size: usize) -> Self {
        let mut codes = vec![0u64; size];
        let mut all = Vec::new();
        for sequence in sequences {
            let mut before = None;
            for code in place.codes(sequence) {
                codes[usize::from(code)] += 1;
                all.extend(before.map(|before| pair(before, code)));
                before = Some(code);
            }
        }
        all.par_sort_unstable();
        let pairs: Vec<(u32, u32)> =
            all.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect();
        let mut begun = vec![(0, 0); size];
        for (pair, count) in &pairs {
            let (number, different) = &mut begun[(pair >> 16) as usize];
            *number += u64::from(*count);
            *different += 1;
        }
        Self { total: codes.iter().sum(), codes, pairs, begun }
    }

    fn unigram(&self, code: u16) -> f64 {
        (self.codes[usize::from(code)] + 1) as f64 / (self.total + self.codes.len() as u64) as f64
    }

    fn bigram(&self, before: u16, code: u16) -> f64 {
        let (number, different) = self.begun[usize::from(before)];
        let wanted = pair(before, code);
        let seen = match self.pairs.binary_search_by_key(&wanted, |(pair, _)| *pair) {
            Ok(at) => self.pairs[at].1,
            Err(_) => 0,
        };
        let rest = different.max(1) as f64;
        (f64::from(seen) + rest * self.unigram(code)) / (number as f64 + rest)
    }

    fn bits(&self, validation: &[Piece<'_>], place: &Place) -> (f64, f64) {
        let (mut unigram, mut bigram, mut count) = (0.0, 0.0, 0u64);
        for piece in validation {
            let mut before = piece.before.and_then(|step| place.codes(step).last());
            for code in place.codes(piece.codes) {
                unigram -= self.unigram(code).log2();
                bigram -= before
                    .map_or_else(|| self.unigram(code), |before| self.bigram(before, code))
                    .log2();
                before = Some(code);
                count += 1;
            }
        }
        let count = count.max(1) as f64;
        (unigram / count, bigram / count)
    }
}

fn pair(before: u16, code: u16) -> u32 {
    u32::from(before) << 16 | u32::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS_OF_CODES: [usize; 3] = [0, 1, 1];

    fn piece(codes: &[u16]) -> Piece<'_> {
        Piece { before: None, codes }
    }

    /// Level 0 alternates, level 1 is even odds of four codes that say nothing of each other.
    fn sequence(steps: u32) -> Vec<u16> {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 30) as u16
        };
        (0..steps).flat_map(|step| [(step % 2) as u16, random(), random()]).collect()
    }

    #[test]
    fn entropies_are_those_of_the_source() {
        let codes = sequence(20_000);
        let (learned, held_out) = codes.split_at(30_000);
        let found = baselines([learned].into_iter(), &[piece(held_out)], &LEVELS_OF_CODES, 4);
        assert!((found.unigram[0] - 1.0).abs() < 0.01, "{found:?}");
        assert!(found.bigram[0] < 0.01, "{found:?}");
        assert!((found.unigram[1] - 2.0).abs() < 0.01, "{found:?}");
        assert!((found.bigram[1] - 2.0).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn probabilities_add_up_to_one_and_what_was_never_seen_is_possible() {
        let codes = sequence(50);
        let place = Place::of(1, &LEVELS_OF_CODES);
        let frequencies = Frequencies::count(&[&codes], &place, 6);
        let sum: f64 = (0..6).map(|code| frequencies.unigram(code)).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        for before in 0..6 {
            let sum: f64 = (0..6).map(|code| frequencies.bigram(before, code)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "after {before}: {sum}");
        }
        assert!(frequencies.bigram(5, 5) > 0.0);
        let unseen = baselines([&codes[..]].into_iter(), &[piece(&[5, 5, 5])], &LEVELS_OF_CODES, 6);
        assert!(unseen.bigram.iter().chain(&unseen.unigram).all(|bits| bits.is_finite()));
    }
}
