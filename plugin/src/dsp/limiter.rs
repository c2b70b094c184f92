//! A look-ahead peak limiter.

/// Gains as fixed-point numbers: sums of them are exact, so that a gain of 1 stays exactly 1.
const ONE: u64 = 1 << 30;

/// Seconds in which the gain comes back after a peak.
const RELEASE: f64 = 0.12;

/// Holds the peaks of up to two channels under a ceiling, with one gain for all of them.
///
/// The gain that a peak needs is held over the look-ahead (a sliding minimum), released slowly, and
/// averaged over the look-ahead, so that it has arrived when the peak comes out and moves without a
/// corner. Below the ceiling samples pass bit for bit. What rounding leaves above the ceiling is cut.
#[derive(Debug, Clone)]
pub struct Limiter {
    lookahead: usize,
    channels: Box<[Box<[f32]>]>,
    place: usize,
    /// Gains needed, rising, each with the time at which it is forgotten.
    queue: Box<[(u64, u64)]>,
    head: usize,
    queued: usize,
    time: u64,
    /// What is left of the last peaks' reduction.
    held: u64,
    release: f64,
    /// Gains that are averaged, and their sum.
    gains: Box<[u64]>,
    sum: u64,
}

impl Limiter {
    /// A limiter that looks `lookahead` samples ahead, which is its delay.
    pub fn new(channels: usize, lookahead: usize, rate: f32) -> Self {
        let lookahead = lookahead.max(1);
        Self {
            lookahead,
            channels: vec![vec![0.0; lookahead].into(); channels].into(),
            place: 0,
            queue: vec![(0, 0); lookahead + 1].into(),
            head: 0,
            queued: 0,
            time: 0,
            held: ONE,
            release: 1.0 - (-1.0 / (RELEASE * f64::from(rate))).exp(),
            gains: vec![ONE; lookahead].into(),
            sum: ONE * lookahead as u64,
        }
    }

    /// Delay in samples.
    pub fn latency(&self) -> usize {
        self.lookahead
    }

    /// Puts a sample of each channel in and the one `latency` before out, under `ceiling` (above 0); with
    /// `None` only delays. Gives the gain. Samples must be finite.
    pub fn process(&mut self, frame: &mut [f32], ceiling: Option<f32>) -> f32 {
        let peak = frame.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        let needed = match ceiling {
            Some(ceiling) if peak > ceiling => {
                (f64::from(ceiling) / f64::from(peak) * ONE as f64) as u64
            }
            _ => ONE,
        };
        let lowest = self.lowest(needed);
        // Down at once, up slowly; the last of the way at once, so that it ends.
        let released = self.held + ((ONE - self.held) as f64 * self.release) as u64 + 1;
        self.held = lowest.min(released).min(ONE);
        self.sum = self.sum - self.gains[self.place] + self.held;
        self.gains[self.place] = self.held;
        let gain = self.sum as f64 / (ONE * self.lookahead as u64) as f64;
        for (channel, sample) in self.channels.iter_mut().zip(frame) {
            let delayed = std::mem::replace(&mut channel[self.place], *sample);
            *sample = match ceiling {
                Some(ceiling) if gain < 1.0 => {
                    ((f64::from(delayed) * gain) as f32).clamp(-ceiling, ceiling)
                }
                Some(ceiling) => delayed.clamp(-ceiling, ceiling),
                None => (f64::from(delayed) * gain) as f32,
            };
        }
        self.place = if self.place + 1 == self.lookahead { 0 } else { self.place + 1 };
        self.time += 1;
        gain as f32
    }

    /// The lowest gain needed by the samples inside and by this one.
    fn lowest(&mut self, needed: u64) -> u64 {
        let size = self.queue.len();
        while self.queued > 0 && self.queue[self.head].1 <= self.time {
            self.head = (self.head + 1) % size;
            self.queued -= 1;
        }
        while self.queued > 0 && self.queue[(self.head + self.queued - 1) % size].0 >= needed {
            self.queued -= 1;
        }
        self.queue[(self.head + self.queued) % size] = (needed, self.time + self.lookahead as u64);
        self.queued += 1;
        self.queue[self.head].0
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.fill(0.0));
        self.gains.fill(ONE);
        self.sum = ONE * self.lookahead as u64;
        (self.place, self.head, self.queued, self.time, self.held) = (0, 0, 0, 0, ONE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_under_the_ceiling_passes_bit_for_bit() {
        let mut limiter = Limiter::new(2, 72, 48_000.0);
        let sound: Vec<f32> = (0..5000).map(|n| (n as f32 * 0.37).sin() * 0.97).collect();
        for (n, sample) in sound.iter().enumerate() {
            let mut frame = [*sample, -sample];
            let gain = limiter.process(&mut frame, Some(0.98));
            let expected = if n >= 72 { sound[n - 72] } else { 0.0 };
            assert_eq!((frame, gain), ([expected, -expected], 1.0));
        }
    }

    #[test]
    fn the_gain_comes_back_to_one() {
        let mut limiter = Limiter::new(1, 72, 48_000.0);
        limiter.process(&mut [8.0], Some(1.0));
        let gains: Vec<f32> =
            (0..200_000).map(|_| limiter.process(&mut [0.1], Some(1.0))).collect();
        assert!(gains[71] < 0.13, "{}", gains[71]);
        assert!(gains[5000] > 0.5 && gains[5000] < 0.99);
        assert_eq!(gains[199_999], 1.0);
    }

    proptest! {
        #[test]
        fn nothing_exceeds_the_ceiling(
            sound in prop::collection::vec(prop_oneof![-1.0f32..1.0, -1e6f32..1e6, Just(f32::MAX)], 1..600),
            ceiling in 0.05f32..1.0,
            lookahead in 1usize..100,
        ) {
            let mut limiter = Limiter::new(2, lookahead, 44_100.0);
            for sample in sound {
                let mut frame = [sample, sample * 0.3];
                limiter.process(&mut frame, Some(ceiling));
                prop_assert!(frame.iter().all(|s| s.abs() <= ceiling));
            }
        }
    }
}
