//! The work of a step, cut into tasks, and tasks joined to units of about equal cost.

use std::ops::Range;

use super::kernels::WIDTH;
use super::matrix::Matrix;

/// A step is cut into about this many units: at 48 kHz and steps of 40 ms, one for every block of 30
/// samples.
const UNITS: u64 = 64;

/// What one step takes, in order. Costs are in multiply-adds of a matrix product.
#[derive(Debug)]
pub struct Schedule<T> {
    tasks: Box<[T]>,
    /// Where each unit ends in `tasks`, and what it costs.
    ends: Box<[usize]>,
    costs: Box<[u64]>,
}

impl<T: Clone> Schedule<T> {
    /// Units out of tasks and their costs; a task that `begins` something is the first of its unit.
    fn new(tasks: &[(T, u64)], begins: impl Fn(&T) -> bool) -> Self {
        let total: u64 = tasks.iter().map(|(_, cost)| *cost).sum();
        let target = total / UNITS;
        let (mut ends, mut costs) = (Vec::new(), Vec::new());
        let mut cost = 0;
        for (i, (task, more)) in tasks.iter().enumerate() {
            if cost > 0 && (cost + more > target || begins(task)) {
                ends.push(i);
                costs.push(cost);
                cost = 0;
            }
            cost += more;
        }
        ends.push(tasks.len());
        costs.push(cost);
        Self {
            tasks: tasks.iter().map(|(task, _)| task.clone()).collect(),
            ends: ends.into(),
            costs: costs.into(),
        }
    }

    /// From a function that gives the tasks of a step with their costs, each of which may cost about as
    /// much as it is told: the step whole, and in units, none of which goes on from before a task that `begins` something.
    pub fn whole_and_in_units(
        tasks: impl Fn(u64) -> Vec<(T, u64)>,
        begins: impl Fn(&T) -> bool,
    ) -> [Self; 2] {
        let whole = tasks(u64::MAX);
        let total: u64 = whole.iter().map(|(_, cost)| *cost).sum();
        [Self::new(&whole, &begins), Self::new(&tasks(total / UNITS), &begins)]
    }

    /// Units that end before the first task that is wanted.
    pub fn units_before(&self, wanted: impl Fn(&T) -> bool) -> usize {
        let first = self.tasks.iter().position(wanted).unwrap_or(self.tasks.len());
        self.ends.partition_point(|end| *end <= first)
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.ends.len()
    }

    /// The tasks of a unit.
    pub fn unit(&self, unit: usize) -> &[T] {
        let start = unit.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tasks[start..self.ends[unit]]
    }

    /// All tasks.
    pub fn tasks(&self) -> &[T] {
        &self.tasks
    }

    /// What each unit costs, as estimated.
    pub fn costs(&self) -> &[u64] {
        &self.costs
    }

    /// The largest unit's share of the whole cost, 0 to 1, as estimated.
    pub fn largest_share(&self) -> f64 {
        let largest = self.costs.iter().copied().max().unwrap_or(0);
        largest as f64 / self.costs.iter().sum::<u64>().max(1) as f64
    }
}

/// Cost of some panels of a product with `rows` rows.
pub fn product_cost(matrix: &Matrix, panels: usize, rows: usize) -> u64 {
    (panels * WIDTH * matrix.inputs() * rows) as u64
}

/// Cost of normalising `rows` rows of `dim`, and of other passes over them that are as long, as measured.
pub fn normalize_cost(dim: usize, rows: usize) -> u64 {
    (dim * rows * 60) as u64
}

/// The panels of a product with `rows` rows in parts that cost at most `most`, or are one panel.
pub fn split(matrix: &Matrix, rows: usize, most: u64) -> impl Iterator<Item = Range<usize>> {
    let panel = product_cost(matrix, 1, rows).max(1);
    let mut size = usize::try_from(most / panel).unwrap_or(usize::MAX).max(1);
    if size > 4 {
        // The kernels take four panels at a time.
        size -= size % 4;
    }
    let panels = matrix.panels();
    (0..panels)
        .step_by(size.min(panels).max(1))
        .map(move |first| first..first.saturating_add(size).min(panels))
}
