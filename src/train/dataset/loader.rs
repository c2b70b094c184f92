//! Batches made ready in the background.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::{Dataset, DatasetError};
use crate::threads::cores;

/// Batches of each thread that wait for the trainer.
const PREFETCHED: usize = 4;
/// Threads at most: a GPU is fed by a few.
const MOST_THREADS: usize = 8;

type Batch = Result<Vec<f32>, DatasetError>;

/// Hands out the batches of consecutive steps, prepared ahead on threads of its own: one where there are few
/// cores, for the trainer's sake.
///
/// What it gives is what [`Dataset::batch`] gives for the same arguments. Dropping it ends the
/// threads.
#[derive(Debug)]
pub struct BatchLoader {
    /// Of each thread in turn; taken away first when dropped, so that none can wait for it.
    batches: Vec<Receiver<Batch>>,
    threads: Vec<JoinHandle<()>>,
    /// Whose turn it is.
    turn: usize,
}

impl BatchLoader {
    /// Starts with the batch of `first_step`; every batch has `batch` crops of `samples` samples.
    ///
    /// # Errors
    /// [`DatasetError::LoaderEnded`] if the system has no thread to give.
    pub fn new(
        dataset: Arc<Dataset>,
        seed: u64,
        first_step: u64,
        batch: usize,
        samples: usize,
    ) -> Result<Self, DatasetError> {
        let count = (cores() / 2).clamp(1, MOST_THREADS);
        let mut loader = Self { batches: Vec::new(), threads: Vec::new(), turn: 0 };
        for first in (first_step..).take(count) {
            let (sender, batches) = sync_channel(PREFETCHED);
            let dataset = dataset.clone();
            let thread = std::thread::Builder::new()
                .name("batch loader".into())
                .spawn(move || {
                    for step in (first..).step_by(count) {
                        let crops = dataset.batch(seed, step, batch, samples);
                        let failed = crops.is_err();
                        if sender.send(crops).is_err() || failed {
                            return;
                        }
                    }
                })
                .map_err(|_| DatasetError::LoaderEnded)?;
            loader.batches.push(batches);
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The next step's batch; waits until it is ready.
    ///
    /// # Errors
    /// As [`Dataset::batch`], after which there are no more: [`DatasetError::LoaderEnded`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Vec<f32>, DatasetError> {
        let batches = self.batches.get(self.turn).ok_or(DatasetError::LoaderEnded)?;
        self.turn = (self.turn + 1) % self.batches.len();
        batches.recv().map_err(|_| DatasetError::LoaderEnded)?
    }
}

impl Drop for BatchLoader {
    fn drop(&mut self) {
        self.batches.clear();
        for thread in self.threads.drain(..) {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
