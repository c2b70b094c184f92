//! The last samples of a stream, as slices.

/// Keeps the last `capacity` samples; any run of them is one slice, since everything is kept twice.
#[derive(Debug, Clone)]
pub struct History {
    samples: Box<[f32]>,
    capacity: usize,
    /// Samples pushed so far.
    count: i64,
}

impl History {
    /// Of silence.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { samples: vec![0.0; 2 * capacity].into(), capacity, count: 0 }
    }

    /// Appends a sample.
    pub fn push(&mut self, sample: f32) {
        let place = self.place(self.count);
        self.samples[place] = sample;
        self.samples[place + self.capacity] = sample;
        self.count += 1;
    }

    /// The `len` samples from number `first` of the stream on. They must be among the last `capacity` that
    /// were pushed; the stream is silent before number 0.
    pub fn window(&self, first: i64, len: usize) -> &[f32] {
        debug_assert!(
            first + self.capacity as i64 >= self.count && first + len as i64 <= self.count
        );
        let place = self.place(first);
        &self.samples[place..place + len]
    }

    /// Back to silence, at number 0.
    pub fn reset(&mut self) {
        self.samples.fill(0.0);
        self.count = 0;
    }

    fn place(&self, number: i64) -> usize {
        number.rem_euclid(self.capacity as i64) as usize
    }
}
