//! Work on as many threads as there are cores.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Does `work` with each state and its input on this thread and up to `helpers` others; before that, while
/// the others begin, `meanwhile` on this one. Gives the outputs in order, or the first error.
pub fn on_threads<S: Send, I: Sync, O: Send, E: Send, R>(
    helpers: usize,
    states: &mut [S],
    inputs: &[I],
    work: impl Fn(&mut S, &I) -> Result<O, E> + Sync,
    meanwhile: impl FnOnce() -> R,
) -> (Result<Vec<O>, E>, R) {
    let mut jobs: Vec<_> =
        states.iter_mut().zip(inputs).map(|(state, input)| (state, input, None)).collect();
    let helpers = helpers.min(jobs.len());
    let queue = Mutex::new(jobs.iter_mut());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        while let Some((state, input, output)) = next() {
            *output = Some(work(state, input));
        }
    };
    let other = thread::scope(|scope| {
        for _ in 0..helpers {
            // Where the system gives no thread, this one does the work.
            let _ = thread::Builder::new().spawn_scoped(scope, run);
        }
        let other = meanwhile();
        run();
        other
    });
    (jobs.into_iter().filter_map(|(_, _, output)| output).collect(), other)
}
