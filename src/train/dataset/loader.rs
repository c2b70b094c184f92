//! Batches made ready in the background.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::{Dataset, DatasetError};

/// Batches that wait for the trainer.
const PREFETCHED: usize = 4;

/// Hands out the batches of consecutive steps, prepared ahead on a thread of its own.
///
/// What it gives is what [`Dataset::batch`] gives for the same arguments. Dropping it ends the
/// thread.
#[derive(Debug)]
pub struct BatchLoader {
    /// Taken away first when dropped, so that the thread cannot wait for it.
    batches: Option<Receiver<Result<Vec<f32>, DatasetError>>>,
    thread: Option<JoinHandle<()>>,
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
        let (sender, batches) = sync_channel(PREFETCHED);
        let thread = std::thread::Builder::new()
            .name("batch loader".into())
            .spawn(move || {
                for step in first_step.. {
                    let crops = dataset.batch(seed, step, batch, samples);
                    let failed = crops.is_err();
                    if sender.send(crops).is_err() || failed {
                        return;
                    }
                }
            })
            .map_err(|_| DatasetError::LoaderEnded)?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// The next step's batch; waits until it is ready.
    ///
    /// # Errors
    /// As [`Dataset::batch`], after which there are no more: [`DatasetError::LoaderEnded`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Vec<f32>, DatasetError> {
        let batches = self.batches.as_ref().ok_or(DatasetError::LoaderEnded)?;
        batches.recv().map_err(|_| DatasetError::LoaderEnded)?
    }
}

impl Drop for BatchLoader {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
