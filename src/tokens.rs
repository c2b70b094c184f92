//! What the encoder makes and the decoder takes: one row of codebook indices per level.

/// The tokens of one channel.
///
/// Level `i` holds one code for every `strides[i]` frames, so a coarse *step* of `strides[0]` frames
/// (the largest stride; every other stride divides it) carries `strides[0] / strides[i]` codes of
/// level `i`. A prefix of the levels is a valid, coarser description of the same audio.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Codes by level, coarse to fine; `levels[i].len() == steps * strides[0] / strides[i]`.
    pub levels: Vec<Vec<u16>>,
}

/// How many codes each level has per step, and how large its codebook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLayout {
    /// Frames a code covers, by level, coarse to fine. The first is the largest.
    pub strides: Vec<usize>,
    /// Size of each level's codebook, 2..=65536.
    pub codebook_sizes: Vec<usize>,
}

impl TokenLayout {
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

    #[test]
    fn rates_follow_from_the_strides() {
        let layout =
            TokenLayout { strides: vec![4, 2, 1, 1], codebook_sizes: vec![1024, 1024, 1024, 1000] };
        assert_eq!(layout.frames_per_step(), 4);
        assert_eq!((0..4).map(|l| layout.codes_per_step(l)).collect::<Vec<_>>(), [1, 2, 4, 4]);
        assert_eq!((0..4).map(|l| layout.bits_per_code(l)).collect::<Vec<_>>(), [10; 4]);
        assert_eq!(layout.bits_per_step(4), 110); // 25 steps a second: 2.75 kbps
        assert_eq!(layout.prefix(2).bits_per_step(2), 30);
    }
}
