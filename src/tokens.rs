//! What the encoder makes and the decoder takes: one row of codebook indices per level.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::lines::{Grain, Kept, Lines, Trims};

/// The most levels a layout may have.
pub const MAX_LEVELS: usize = 16;
/// The largest stride a level may have, in frames.
pub const MAX_STRIDE: usize = 256;
/// The largest codebook: every code fits in a `u16`.
pub const MAX_CODEBOOK_SIZE: usize = 65_536;

/// The tokens of one channel.
///
/// Level `i` holds one code for every `strides[i]` frames, so a coarse *step* of `strides[0]` frames
/// (the largest stride; every other stride divides it) carries `strides[0] / strides[i]` codes of
/// level `i`. A prefix of the levels is a valid, coarser description of the same audio.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Codes by level, coarse to fine; `levels[i].len() == steps * strides[0] / strides[i]`.
    pub levels: Vec<Vec<u16>>,
    /// The lines at the end of each step; empty where a sound is described by its codes alone.
    pub lines: Vec<Lines>,
}

impl Tokens {
    /// Tokens of no steps, with `levels` empty levels.
    pub fn new(levels: usize) -> Self {
        Self::of_codes(vec![Vec::new(); levels])
    }

    /// Codes by level, without lines.
    pub fn of_codes(levels: Vec<Vec<u16>>) -> Self {
        Self { levels, lines: Vec::new() }
    }

    /// How many steps of `layout` these tokens are; `None` when the number of levels is another one
    /// or the levels do not all hold the same whole number of steps, or lines of another.
    ///
    /// ```
    /// use tessera_codec::tokens::{TokenLayout, Tokens};
    ///
    /// let layout = TokenLayout { strides: vec![2, 1], codebook_sizes: vec![1024, 1024] };
    /// let mut tokens = Tokens::of_codes(vec![vec![7, 8], vec![1, 2, 3, 4]]);
    /// assert_eq!(tokens.steps(&layout), Some(2));
    /// tokens.levels[1].pop();
    /// assert_eq!(tokens.steps(&layout), None);
    /// ```
    pub fn steps(&self, layout: &TokenLayout) -> Option<usize> {
        if self.levels.len() != layout.levels() {
            return None;
        }
        let steps = self.levels.first()?.len() / layout.codes_per_step(0);
        let whole =
            |(l, codes): (usize, &Vec<u16>)| codes.len() == steps * layout.codes_per_step(l);
        let lines = self.lines.is_empty() || self.lines.len() == steps;
        (lines && self.levels.iter().enumerate().all(whole)).then_some(steps)
    }

    /// Appends whole steps of codes as the engine gives them: those of a step stand together, level by
    /// level. `layout` has at least these levels.
    ///
    /// ```
    /// use tessera_codec::tokens::{TokenLayout, Tokens};
    ///
    /// let layout = TokenLayout { strides: vec![2, 1], codebook_sizes: vec![1024, 1024] };
    /// let mut tokens = Tokens::new(2);
    /// tokens.extend_steps(&[7, 1, 2, 8, 3, 4], &layout);
    /// assert_eq!(tokens.levels, [vec![7, 8], vec![1, 2, 3, 4]]);
    /// let mut codes = Vec::new();
    /// tokens.append_steps_to(&mut codes, &layout);
    /// assert_eq!(codes, [7, 1, 2, 8, 3, 4]);
    /// ```
    pub fn extend_steps(&mut self, codes: &[u16], layout: &TokenLayout) {
        let per_step: Vec<usize> =
            (0..self.levels.len()).map(|level| layout.codes_per_step(level)).collect();
        for mut step in codes.chunks_exact(per_step.iter().sum::<usize>().max(1)) {
            for (level, count) in self.levels.iter_mut().zip(&per_step) {
                let (now, rest) = step.split_at(*count);
                level.extend_from_slice(now);
                step = rest;
            }
        }
    }

    /// Appends the codes to `codes` as the engine takes them, the reverse of
    /// [`extend_steps`](Self::extend_steps). Codes of a step that is not whole are left out.
    pub fn append_steps_to(&self, codes: &mut Vec<u16>, layout: &TokenLayout) {
        let mut levels: Vec<_> = self
            .levels
            .iter()
            .enumerate()
            .map(|(level, codes)| codes.chunks_exact(layout.codes_per_step(level).max(1)))
            .collect();
        let steps = levels.iter().map(ExactSizeIterator::len).min().unwrap_or(0);
        for _ in 0..steps {
            for level in &mut levels {
                codes.extend_from_slice(level.next().unwrap_or_default());
            }
        }
    }

    /// Takes the first `steps` steps of `layout` away, or all if there are fewer, and gives them.
    pub fn take_steps(&mut self, steps: usize, layout: &TokenLayout) -> Self {
        let take = |(level, codes): (usize, &mut Vec<u16>)| {
            let count = steps * layout.codes_per_step(level);
            codes.drain(..count.min(codes.len())).collect()
        };
        let levels = self.levels.iter_mut().enumerate().map(take).collect();
        let lines = self.lines.drain(..steps.min(self.lines.len())).collect();
        Self { levels, lines }
    }

    /// Appends the codes of `later`, level by level, and its lines; levels that only one of the two has are left
    /// as they are.
    pub fn extend(&mut self, later: &Self) {
        for (codes, more) in self.levels.iter_mut().zip(&later.levels) {
            codes.extend_from_slice(more);
        }
        self.lines.extend_from_slice(&later.lines);
    }
}

/// A SHA-256 of tokens in order of time, the same however they are cut into pieces: two streams of
/// tokens are the same when their digests are.
#[derive(Debug, Clone, Default)]
pub struct TokenDigest(Sha256);

impl TokenDigest {
    /// Takes the tokens of the next `steps` steps of `layout`, one `Tokens` per channel, all of that
    /// shape (see [`Tokens::steps`]).
    pub fn update(&mut self, layout: &TokenLayout, steps: usize, channels: &[Tokens]) {
        for step in 0..steps {
            for tokens in channels {
                for (level, codes) in tokens.levels.iter().enumerate() {
                    let count = layout.codes_per_step(level);
                    let codes = codes.iter().skip(step * count).take(count);
                    codes.for_each(|code| self.0.update(code.to_be_bytes()));
                }
                let Some(lines) = tokens.lines.get(step) else { continue };
                // A comb's number follows where there is one, a grain's and trims' where they are some: without, lines are what
                // they were before there were such.
                let kept = match lines.comb() {
                    _ if lines.trims() != Trims::NONE => Kept::All,
                    _ if lines.grain() != Grain::NONE => Kept::ButTrims,
                    Some(_) => Kept::SlotsAndComb,
                    None => Kept::Slots,
                };
                let codes = lines.to_codes().into_iter().take(kept.numbers());
                codes.for_each(|code| self.0.update(code.to_be_bytes()));
            }
        }
    }

    /// The digest of what was taken so far.
    pub fn value(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// How many codes each level has per step, and how large its codebook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLayout {
    /// Frames a code covers, by level, coarse to fine. The first is the largest.
    pub strides: Vec<usize>,
    /// Size of each level's codebook, 2..=65536.
    pub codebook_sizes: Vec<usize>,
}

/// Why a [`TokenLayout`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// No levels, or more than [`MAX_LEVELS`].
    #[error("{0} levels: a layout has 1 to {MAX_LEVELS}")]
    LevelCount(usize),
    /// Strides and codebook sizes do not describe the same number of levels.
    #[error("{strides} strides but {codebook_sizes} codebook sizes: give one of each per level")]
    LengthMismatch {
        /// Number of strides.
        strides: usize,
        /// Number of codebook sizes.
        codebook_sizes: usize,
    },
    /// A stride of 0 or above [`MAX_STRIDE`], or one that does not divide the first.
    #[error("stride {stride} of level {level}: strides are 1 to {MAX_STRIDE} and divide the first")]
    Stride {
        /// The level, from 0.
        level: usize,
        /// Its stride in frames.
        stride: usize,
    },
    /// A codebook of fewer than 2 or more than [`MAX_CODEBOOK_SIZE`] codes.
    #[error("codebook of {size} codes at level {level}: sizes are 2 to {MAX_CODEBOOK_SIZE}")]
    CodebookSize {
        /// The level, from 0.
        level: usize,
        /// Its number of codes.
        size: usize,
    },
}

impl TokenLayout {
    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.strides.len()
    }

    /// Checks what the other methods rely on: 1 to 16 levels, strides of 1 to 256 frames that divide
    /// the first, codebooks of 2 to 65536 codes.
    ///
    /// # Errors
    /// Names the first level that breaks a rule.
    pub fn validate(&self) -> Result<(), LayoutError> {
        let (levels, sizes) = (self.strides.len(), self.codebook_sizes.len());
        if levels != sizes {
            return Err(LayoutError::LengthMismatch { strides: levels, codebook_sizes: sizes });
        }
        if !(1..=MAX_LEVELS).contains(&levels) {
            return Err(LayoutError::LevelCount(levels));
        }
        for (level, (&stride, &size)) in self.strides.iter().zip(&self.codebook_sizes).enumerate() {
            if !(1..=MAX_STRIDE).contains(&stride) || !self.frames_per_step().is_multiple_of(stride)
            {
                return Err(LayoutError::Stride { level, stride });
            }
            if !(2..=MAX_CODEBOOK_SIZE).contains(&size) {
                return Err(LayoutError::CodebookSize { level, size });
            }
        }
        Ok(())
    }

    /// Frames in a step: what the coarsest code covers.
    pub fn frames_per_step(&self) -> usize {
        self.strides.first().copied().unwrap_or(1)
    }

    /// Codes of `level` in one step.
    pub fn codes_per_step(&self, level: usize) -> usize {
        self.frames_per_step() / self.strides[level]
    }

    /// Bits of one code of `level` when packed plainly.
    pub fn bits_per_code(&self, level: usize) -> u32 {
        (self.codebook_sizes[level] - 1).max(1).ilog2() + 1
    }

    /// The layout of the first `levels` levels alone.
    pub fn prefix(&self, levels: usize) -> Self {
        Self {
            strides: self.strides[..levels].to_vec(),
            codebook_sizes: self.codebook_sizes[..levels].to_vec(),
        }
    }

    /// Bits of one step with the first `levels` levels.
    pub fn bits_per_step(&self, levels: usize) -> usize {
        (0..levels).map(|l| self.codes_per_step(l) * self.bits_per_code(l) as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Line;

    fn layout(strides: &[usize], codebook_sizes: &[usize]) -> TokenLayout {
        TokenLayout { strides: strides.to_vec(), codebook_sizes: codebook_sizes.to_vec() }
    }

    #[test]
    fn rates_follow_from_the_strides() {
        let layout = layout(&[4, 2, 1, 1], &[1024, 1024, 1024, 1000]);
        assert_eq!(layout.frames_per_step(), 4);
        assert_eq!((0..4).map(|l| layout.codes_per_step(l)).collect::<Vec<_>>(), [1, 2, 4, 4]);
        assert_eq!((0..4).map(|l| layout.bits_per_code(l)).collect::<Vec<_>>(), [10; 4]);
        assert_eq!(layout.bits_per_step(4), 110); // 25 steps a second: 2.75 kbps
        assert_eq!(layout.prefix(2).bits_per_step(2), 30);
    }

    #[test]
    fn bits_hold_the_largest_code() {
        for (size, bits) in [(2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11), (65_536, 16)] {
            assert_eq!(layout(&[1], &[size]).bits_per_code(0), bits, "codebook of {size}");
        }
    }

    #[test]
    fn layouts_that_cannot_be_are_named() {
        use LayoutError::*;
        assert_eq!(layout(&[4, 2, 1], &[1024, 2, 65_536]).validate(), Ok(()));
        assert_eq!(layout(&[256; 16], &[2; 16]).validate(), Ok(()));
        assert_eq!(layout(&[], &[]).validate(), Err(LevelCount(0)));
        assert_eq!(layout(&[1; 17], &[2; 17]).validate(), Err(LevelCount(17)));
        let mismatch = LengthMismatch { strides: 2, codebook_sizes: 1 };
        assert_eq!(layout(&[1, 1], &[2]).validate(), Err(mismatch));
        assert_eq!(layout(&[0], &[2]).validate(), Err(Stride { level: 0, stride: 0 }));
        assert_eq!(layout(&[257], &[2]).validate(), Err(Stride { level: 0, stride: 257 }));
        assert_eq!(layout(&[4, 3], &[2, 2]).validate(), Err(Stride { level: 1, stride: 3 }));
        assert_eq!(layout(&[2, 4], &[2, 2]).validate(), Err(Stride { level: 1, stride: 4 }));
        assert_eq!(layout(&[4], &[1]).validate(), Err(CodebookSize { level: 0, size: 1 }));
        let large = CodebookSize { level: 0, size: 65_537 };
        assert_eq!(layout(&[4], &[65_537]).validate(), Err(large));
    }

    #[test]
    fn a_digest_is_of_the_tokens_not_of_the_pieces() {
        let layout = layout(&[2, 1], &[16, 16]);
        let tokens = |codes: [u16; 6]| {
            let levels = vec![codes[..2].to_vec(), codes[2..].to_vec()];
            let line = |step: u16| {
                let mut lines = Lines::NONE;
                lines.set(step.into(), Line::new(codes[0] + step, 9));
                lines
            };
            Tokens { levels, lines: vec![line(0), line(1)] }
        };
        let (left, right) = (tokens([1, 2, 3, 4, 5, 6]), tokens([7, 8, 9, 10, 11, 12]));
        let mut whole = TokenDigest::default();
        whole.update(&layout, 2, &[left.clone(), right.clone()]);
        let mut pieces = TokenDigest::default();
        for step in 0..2 {
            let part = |t: &Tokens| {
                let fine = t.levels[1][2 * step..2 * step + 2].to_vec();
                Tokens { levels: vec![vec![t.levels[0][step]], fine], lines: vec![t.lines[step]] }
            };
            pieces.update(&layout, 1, &[part(&left), part(&right)]);
        }
        assert_eq!(whole.value(), pieces.value());
        let mut other = TokenDigest::default();
        other.update(&layout, 2, &[right, left.clone()]);
        assert_ne!(whole.value(), other.value());
        let mut bare = TokenDigest::default();
        bare.update(&layout, 2, &[Tokens::of_codes(left.levels), tokens([7, 8, 9, 10, 11, 12])]);
        assert_ne!(whole.value(), bare.value(), "without its lines");
    }

    #[test]
    fn tokens_join_by_level() {
        let layout = layout(&[2, 1], &[16, 16]);
        let mut tokens = Tokens::new(2);
        assert_eq!(tokens.steps(&layout), Some(0));
        tokens.extend(&Tokens::of_codes(vec![vec![1], vec![2, 3]]));
        tokens.extend(&Tokens::of_codes(vec![vec![4], vec![5, 6]]));
        assert_eq!(tokens.levels, [vec![1, 4], vec![2, 3, 5, 6]]);
        assert_eq!(tokens.steps(&layout), Some(2));
        assert_eq!(Tokens::new(1).steps(&layout), None);
    }
}
