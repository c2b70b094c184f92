//! Which codes of the codebooks are used, and how evenly.

use std::collections::HashMap;

use super::MetricError;
use crate::tokens::Tokens;

/// Counts of every code of every level, gathered over any number of files.
///
/// ```
/// use tessera_codec::metrics::CodebookStats;
///
/// let mut stats = CodebookStats::new(&[4, 4]);
/// stats.add(0, &[0, 1, 0, 1])?; // one stream of level 0
/// stats.add(1, &[3, 3, 3, 3])?;
/// let levels = stats.levels();
/// assert_eq!((levels[0].usage, levels[0].perplexity), (0.5, 2.0));
/// assert_eq!((levels[1].usage, levels[1].entropy_bits), (0.25, 0.0));
/// # Ok::<(), tessera_codec::metrics::MetricError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CodebookStats {
    levels: Vec<Counts>,
}

#[derive(Debug, Clone, PartialEq)]
struct Counts {
    /// How often each code occurs; one entry per code of the codebook.
    codes: Vec<u64>,
    /// How often the second code follows the first within a stream.
    pairs: HashMap<(u16, u16), u64>,
}

/// What [`CodebookStats`] says about one level. All zero where no code was added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelStats {
    /// Codes counted.
    pub count: u64,
    /// Distinct codes among them.
    pub used: usize,
    /// Size of the codebook.
    pub size: usize,
    /// `used / size`, 0..=1.
    pub usage: f64,
    /// Entropy of the codes in bits, 0..=log2(size): what a coder without memory needs for each.
    pub entropy_bits: f64,
    /// `2^entropy_bits`, 1..=size: the size of a codebook, evenly used, of the same entropy.
    pub perplexity: f64,
    /// `perplexity / size`, 0..=1.
    pub perplexity_share: f64,
    /// Entropy in bits of a code when the one before it in its stream is known, `<= entropy_bits`
    /// but for the ends of streams. An underestimate unless `count` is far above `size²`, since most
    /// pairs are then seen too rarely.
    pub conditional_entropy_bits: f64,
}

impl CodebookStats {
    /// Empty counts for codebooks of the given sizes, coarse to fine.
    pub fn new(sizes: &[usize]) -> Self {
        let counts = |&size: &usize| Counts { codes: vec![0; size], pairs: HashMap::new() };
        Self { levels: sizes.iter().map(counts).collect() }
    }

    /// Counts a stream of one level: consecutive codes, in order of time.
    ///
    /// # Errors
    /// [`MetricError::LevelMismatch`] if there is no such level, [`MetricError::CodeOutOfRange`] if a
    /// code is not in its codebook. Nothing is counted then.
    pub fn add(&mut self, level: usize, codes: &[u16]) -> Result<(), MetricError> {
        self.check(level, codes)?;
        let counts = &mut self.levels[level];
        for &code in codes {
            counts.codes[usize::from(code)] += 1;
        }
        for pair in codes.windows(2) {
            *counts.pairs.entry((pair[0], pair[1])).or_insert(0) += 1;
        }
        Ok(())
    }

    /// Counts all levels of one channel. Tokens of fewer levels than there are codebooks are fine.
    ///
    /// # Errors
    /// As [`CodebookStats::add`]; nothing is counted then.
    pub fn add_tokens(&mut self, tokens: &Tokens) -> Result<(), MetricError> {
        for (level, codes) in tokens.levels.iter().enumerate() {
            self.check(level, codes)?;
        }
        for (level, codes) in tokens.levels.iter().enumerate() {
            self.add(level, codes)?;
        }
        Ok(())
    }

    /// Adds the counts of `other`, gathered elsewhere (another thread, another file).
    ///
    /// # Errors
    /// [`MetricError::LevelMismatch`] if `other` was made for other codebooks.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricError> {
        let size = |stats: &Self, level: usize| stats.levels.get(level).map(|l| l.codes.len());
        let levels = self.levels.len();
        for level in 0..levels.max(other.levels.len()) {
            if size(self, level) != size(other, level) {
                return Err(MetricError::LevelMismatch { level, levels });
            }
        }
        for (mine, theirs) in self.levels.iter_mut().zip(&other.levels) {
            mine.codes.iter_mut().zip(&theirs.codes).for_each(|(a, b)| *a += b);
            for (&pair, count) in &theirs.pairs {
                *mine.pairs.entry(pair).or_insert(0) += count;
            }
        }
        Ok(())
    }

    /// Forgets all counts, for the next interval of a training run.
    pub fn clear(&mut self) {
        for counts in &mut self.levels {
            counts.codes.fill(0);
            counts.pairs.clear();
        }
    }

    /// The figures of every level, coarse to fine.
    pub fn levels(&self) -> Vec<LevelStats> {
        self.levels.iter().map(Counts::stats).collect()
    }

    fn check(&self, level: usize, codes: &[u16]) -> Result<(), MetricError> {
        let levels = self.levels.len();
        let counts = self.levels.get(level).ok_or(MetricError::LevelMismatch { level, levels })?;
        let size = counts.codes.len();
        match codes.iter().find(|&&code| usize::from(code) >= size) {
            Some(&code) => Err(MetricError::CodeOutOfRange { level, code, size }),
            None => Ok(()),
        }
    }
}

impl Counts {
    fn stats(&self) -> LevelStats {
        let size = self.codes.len();
        let count: u64 = self.codes.iter().sum();
        let used = self.codes.iter().filter(|&&c| c > 0).count();
        let entropy_bits = entropy(self.codes.iter().copied());
        let perplexity = if count == 0 { 0.0 } else { entropy_bits.exp2() };
        // H(b | a) = H(a, b) - H(a), with a over the codes that have a successor. Counts in order, so
        // that the sum does not depend on the hash map's.
        let mut pairs: Vec<_> = self.pairs.iter().map(|(&pair, &count)| (pair, count)).collect();
        pairs.sort_unstable();
        let mut firsts = vec![0u64; size];
        for &((first, _), count) in &pairs {
            firsts[usize::from(first)] += count;
        }
        let joint = entropy(pairs.into_iter().map(|(_, count)| count));
        LevelStats {
            count,
            used,
            size,
            usage: share(used as f64, size),
            entropy_bits,
            perplexity,
            perplexity_share: share(perplexity, size),
            conditional_entropy_bits: (joint - entropy(firsts.into_iter())).max(0.0),
        }
    }
}

fn share(part: f64, size: usize) -> f64 {
    if size == 0 { 0.0 } else { part / size as f64 }
}

/// Entropy in bits of a distribution given by counts; 0 where there are none.
fn entropy(counts: impl Iterator<Item = u64> + Clone) -> f64 {
    let total: u64 = counts.clone().sum();
    let bits: f64 = counts
        .filter(|&count| count > 0)
        .map(|count| {
            let p = count as f64 / total as f64;
            -p * p.log2()
        })
        .sum();
    bits.max(0.0) // A single code gives -0.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_use_of_all_codes() {
        let mut stats = CodebookStats::new(&[8]);
        let codes: Vec<u16> = (0..800).map(|i| i % 8).collect();
        stats.add(0, &codes).unwrap();
        let level = stats.levels()[0];
        assert_eq!((level.count, level.used, level.usage), (800, 8, 1.0));
        assert!((level.entropy_bits - 3.0).abs() < 1e-12);
        assert!((level.perplexity - 8.0).abs() < 1e-9);
        assert!((level.perplexity_share - 1.0).abs() < 1e-9);
        // Each code determines the next.
        assert!(level.conditional_entropy_bits < 1e-9);
    }

    #[test]
    fn conditional_entropy_of_a_known_chain() {
        // After 0 comes 0 or 1 alike, after 1 always 0: 0 0 1 0 0 1 ... has H(next | 0) = 1 bit.
        let codes: Vec<u16> = (0..3001).map(|i| u16::from(i % 3 == 2)).collect();
        let mut stats = CodebookStats::new(&[2]);
        stats.add(0, &codes).unwrap();
        let level = stats.levels()[0];
        assert!((level.conditional_entropy_bits - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn merging_equals_counting_in_one_go() {
        let (a, b) = ([1u16, 2, 3, 1], [0u16, 3, 3]);
        let mut whole = CodebookStats::new(&[4]);
        whole.add(0, &a).unwrap();
        whole.add(0, &b).unwrap();
        let (mut left, mut right) = (CodebookStats::new(&[4]), CodebookStats::new(&[4]));
        left.add(0, &a).unwrap();
        right.add_tokens(&Tokens::of_codes(vec![b.to_vec()])).unwrap();
        left.merge(&right).unwrap();
        assert_eq!(left, whole);
        left.clear();
        assert_eq!(left, CodebookStats::new(&[4]));
    }

    #[test]
    fn foreign_tokens_are_refused_and_not_counted() {
        let mut stats = CodebookStats::new(&[4, 4]);
        let tokens = Tokens::of_codes(vec![vec![0, 1], vec![2, 4]]);
        assert_eq!(
            stats.add_tokens(&tokens),
            Err(MetricError::CodeOutOfRange { level: 1, code: 4, size: 4 })
        );
        assert_eq!(stats.levels()[0].count, 0);
        assert_eq!(stats.add(2, &[0]), Err(MetricError::LevelMismatch { level: 2, levels: 2 }));
        let other = CodebookStats::new(&[4]);
        assert_eq!(stats.merge(&other), Err(MetricError::LevelMismatch { level: 1, levels: 2 }));
    }

    #[test]
    fn no_codes_give_zeros() {
        let level = CodebookStats::new(&[1024]).levels()[0];
        assert_eq!((level.usage, level.perplexity, level.entropy_bits), (0.0, 0.0, 0.0));
    }
}
