//! When the units of a step's work are due.

/// Shares a step's work out over the samples of the step that comes in meanwhile.
///
/// Units cost different amounts, and all instances in a host begin their steps together: a block on which
/// dear units meet would be dear for all of them. So each unit is due when the time has come for what was
/// spent up to its end.
#[derive(Debug)]
pub struct Pace {
    /// Samples that have to be there before each unit is done.
    due: Box<[usize]>,
}

impl Pace {
    /// For units that cost so much, one after the other, over `samples` samples.
    pub fn new(costs: impl Iterator<Item = u64>, samples: usize) -> Self {
        let mut spent = 0;
        let ends: Vec<u64> = costs
            .map(|cost| {
                spent += cost;
                spent
            })
            .collect();
        let total = u128::from(spent.max(1));
        // No more than `samples`, since no end is greater than the total.
        let due = |end: u64| (u128::from(end) * samples as u128).div_ceil(total) as usize;
        Self { due: ends.into_iter().map(due).collect() }
    }

    /// Whether there is a unit of that number and it is to be done when `filled` samples are there.
    pub fn is_due(&self, unit: usize, filled: usize) -> bool {
        self.due.get(unit).is_some_and(|due| *due <= filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dear_units_have_more_time() {
        let pace = Pace::new([10, 70, 0, 20].into_iter(), 50);
        let done = |filled| (0..5).take_while(|unit| pace.is_due(*unit, filled)).count();
        assert_eq!([0, 4, 5, 39, 40, 49, 50].map(done), [0, 0, 1, 1, 3, 3, 4]);
    }

    #[test]
    fn all_is_done_at_the_end_and_nothing_is_never_due() {
        let pace = Pace::new([u64::MAX / 2, u64::MAX / 2].into_iter(), usize::MAX);
        assert!(pace.is_due(1, usize::MAX));
        assert!(!pace.is_due(2, usize::MAX));
        assert!(!Pace::new(std::iter::empty(), 10).is_due(0, 10));
        assert!(Pace::new([0].into_iter(), 10).is_due(0, 0));
    }
}
