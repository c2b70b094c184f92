//! Where a stream is in the work of a step.

use super::schedule::Schedule;

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
    /// Does the next `units` units of what is being computed, by `run`; whether it is done.
    pub fn advance<T: Clone>(
        &mut self,
        schedule: &Schedule<T>,
        units: usize,
        mut run: impl FnMut(&T, Work),
    ) -> bool {
        if let Self::Computing { work, unit } = *self {
            let end = unit.saturating_add(units).min(schedule.units());
            for task in (unit..end).flat_map(|unit| schedule.unit(unit)) {
                run(task, work);
            }
            *self = match end == schedule.units() {
                true => Self::Done(work),
                false => Self::Computing { work, unit: end },
            };
        }
        matches!(self, Self::Done(_))
    }

    /// Does all that is left of what is being computed, whole if nothing of it is done; what then waits.
    pub fn complete<T: Clone>(
        &mut self,
        [whole, in_units]: &[Schedule<T>; 2],
        mut run: impl FnMut(&T, Work),
    ) -> Option<Work> {
        if let Self::Computing { work, unit: 0 } = *self {
            whole.tasks().iter().for_each(|task| run(task, work));
            *self = Self::Done(work);
        }
        self.advance(in_units, usize::MAX, run);
        self.work()
    }
}
