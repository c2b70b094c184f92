//! What is wrong with a file that can still be read.

use std::fmt;

/// A stretch of a file that gave no tokens, or bytes that were passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Number of the first chunk lost; of the next one due when none is.
    pub first: u32,
    /// Chunks lost; 0 when only extra bytes or the index are damaged, or when a file of unknown
    /// length just ends.
    pub chunks: u32,
    /// Steps lost: what a decoder conceals to keep the timeline.
    pub steps: u64,
    /// Where in the file the trouble begins, in bytes.
    pub offset: u64,
    /// What the trouble is.
    pub reason: DamageReason,
}

/// Why there is a [`Damage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageReason {
    /// A chunk's CRC-32 does not match.
    Checksum,
    /// There is no sync word where a chunk was due.
    Sync,
    /// A sync word, but number, steps or length are not those of a chunk of this file.
    Head,
    /// A code beyond its codebook in an intact chunk: whoever wrote the file made a mistake.
    Code {
        /// The channel, from 0.
        channel: usize,
        /// The level, from 0.
        level: usize,
        /// The code.
        code: u16,
    },
    /// An intact chunk whose payload stands for no tokens: whoever wrote the file made a mistake.
    Coding,
    /// Chunks were left out: the one that follows has a later number.
    Missing,
    /// Chunks that were lost before the file was repaired: the index marks them.
    Marked,
    /// The file ends before its last chunk does. The chunks lost are known from the header; nothing
    /// vouches that they ever were, so a decoder need not conceal hours of them.
    Truncated,
    /// A chunk that came before already, or too late; it is passed over.
    OutOfOrder {
        /// Its number.
        number: u32,
    },
    /// Bytes between chunks that belong to none; they are passed over.
    Garbage {
        /// How many.
        bytes: u64,
    },
    /// Bytes after the end of the file proper; they are not looked at.
    TrailingBytes {
        /// How many.
        bytes: u64,
    },
    /// The index or the trailer is missing or broken: seeking takes longer, and nothing else is lost
    /// (but the sample count, where the header does not have it).
    Index,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.chunks) {
            (_, 0) => {}
            (first, 1) => write!(f, "chunk {first} ({} steps): ", self.steps)?,
            (first, chunks) => {
                let last = u64::from(first) + u64::from(chunks) - 1;
                write!(f, "chunks {first} to {last} ({} steps): ", self.steps)?;
            }
        }
        write!(f, "{} (byte {})", self.reason, self.offset)
    }
}

impl fmt::Display for DamageReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => f.write_str("the checksum does not match"),
            Self::Sync => f.write_str("no chunk begins where one should"),
            Self::Head => f.write_str("the head of the chunk is broken"),
            Self::Code { channel, level, code } => {
                write!(f, "code {code} of channel {channel}, level {level} is not in the codebook")
            }
            Self::Coding => f.write_str("its payload is intact but stands for no tokens"),
            Self::Missing => f.write_str("missing from the file"),
            Self::Marked => f.write_str("lost before the file was repaired"),
            Self::Truncated => f.write_str("the file ends early"),
            Self::OutOfOrder { number } => {
                write!(f, "chunk {number} repeated or out of order, passed over")
            }
            Self::Garbage { bytes } => write!(f, "{bytes} bytes between chunks, passed over"),
            Self::TrailingBytes { bytes } => write!(f, "{bytes} bytes after the end, ignored"),
            Self::Index => f.write_str("the index is missing or broken, no audio is lost by that"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_lost_where_and_why() {
        let damage = |chunks, steps, reason| {
            Damage { first: 3, chunks, steps, offset: 99, reason }.to_string()
        };
        assert_eq!(
            damage(2, 50, DamageReason::Missing),
            "chunks 3 to 4 (50 steps): missing from the file (byte 99)"
        );
        assert_eq!(
            damage(1, 7, DamageReason::Code { channel: 1, level: 2, code: 1001 }),
            "chunk 3 (7 steps): code 1001 of channel 1, level 2 is not in the codebook (byte 99)"
        );
        assert_eq!(
            damage(0, 0, DamageReason::TrailingBytes { bytes: 4 }),
            "4 bytes after the end, ignored (byte 99)"
        );
    }
}
