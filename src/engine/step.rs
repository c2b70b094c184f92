//! Where a stream is in the work of a step.

/// What a call took and gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Values of the input that were taken: samples of an encoder, codes of a decoder.
    pub consumed: usize,
    /// Values that were written to the output: codes of an encoder, samples of a decoder.
    pub produced: usize,
    /// Samples that were NaN or infinite, and were taken as silence.
    pub replaced: usize,
}

/// Nothing to do, computing, or waiting to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// `unit` is the next unit of the fine schedule.
    Computing {
        work: Work,
        unit: usize,
    },
    Done(Work),
}

/// How much is computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub steps: usize,
    pub levels: usize,
}

impl Phase {
    /// What is being computed or waits.
    pub fn work(self) -> Option<Work> {
        match self {
            Self::Idle => None,
            Self::Computing { work, .. } | Self::Done(work) => Some(work),
        }
    }
}
