//! A delay line with a tap of any length.

/// Delays a channel by up to the number of samples it was made for.
#[derive(Debug, Clone)]
pub struct Delay {
    ring: Box<[f32]>,
    next: usize,
}

impl Delay {
    /// With room for delays of up to `longest` samples.
    pub fn new(longest: usize) -> Self {
        Self { ring: vec![0.0; longest + 1].into(), next: 0 }
    }

    /// The longest delay.
    pub fn longest(&self) -> usize {
        self.ring.len() - 1
    }

    /// Takes a sample.
    pub fn push(&mut self, sample: f32) {
        self.ring[self.next] = sample;
        self.next = if self.next + 1 == self.ring.len() { 0 } else { self.next + 1 };
    }

    /// The sample taken `delay` samples before the last; no more than [`longest`](Self::longest).
    pub fn tap(&self, delay: usize) -> f32 {
        let back = delay.min(self.longest()) + 1;
        let place =
            if self.next >= back { self.next - back } else { self.next + self.ring.len() - back };
        self.ring[place]
    }

    /// Back to silence.
    pub fn reset(&mut self) {
        self.ring.fill(0.0);
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_give_what_was_taken() {
        let mut delay = Delay::new(5);
        for n in 0..23 {
            delay.push(n as f32);
            for back in 0..=5usize {
                let expected = if n >= back { (n - back) as f32 } else { 0.0 };
                assert_eq!(delay.tap(back), expected);
            }
        }
        delay.reset();
        assert_eq!(delay.tap(3), 0.0);
    }
}
