//! Keeping up with a device whose clock is not that of the other one.
//!
//! Sound reaches the output's queue in steps and leaves it evenly. How much is left in the queue when a
//! step arrives says whether the output is slower or faster than the input; the ratio of the rate
//! conversion is bent a little so that it stays what it should be.

/// Proportional and integral gain of the control, per second and per second squared: a difference is
/// halved in some ten seconds, without swinging.
const PROPORTIONAL: f64 = 0.1;
const INTEGRAL: f64 = PROPORTIONAL * PROPORTIONAL / 4.0;

/// The most that is bent, as a share: 3.5 cents.
const MOST: f64 = 0.002;

/// Seconds over which the queue's length is averaged: it jumps with every block of the device.
const AVERAGE: f64 = 1.0;

/// Seconds of sound too much in the queue beyond which some of it is dropped.
const TOO_MUCH: f64 = 0.06;

/// What to do with the next step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Share by which to make more output (above 0) or less.
    pub bend: f64,
    /// Frames of silence to put before it.
    pub silence: usize,
    /// Frames of it to leave out.
    pub drop: usize,
}

/// The control.
#[derive(Debug)]
pub struct Pacer {
    /// Frames that should be in the queue when a step arrives.
    target: f64,
    rate: f64,
    /// Seconds of a step.
    step: f64,
    /// Seconds too much in the queue, averaged.
    excess: f64,
    integral: f64,
    began: bool,
}

impl Pacer {
    /// For an output of `rate` frames a second that gets steps of `step` seconds and should have `target`
    /// frames left when one arrives.
    pub fn new(rate: u32, step: f64, target: usize) -> Self {
        Self {
            target: target as f64,
            rate: rate.into(),
            step,
            excess: 0.0,
            integral: 0.0,
            began: false,
        }
    }

    /// Frames in the queue on average, when a step arrives.
    pub fn queued(&self) -> f64 {
        (self.target + self.excess * self.rate).max(0.0)
    }

    /// A step arrives and finds `queued` frames.
    pub fn step(&mut self, queued: usize) -> Pace {
        if !self.began || queued == 0 {
            // The beginning, or the output ran dry: as much silence as should be there.
            self.began = true;
            self.excess = 0.0;
            return Pace { silence: self.target as usize, drop: 0, bend: self.integral };
        }
        let now = (queued as f64 - self.target) / self.rate;
        if now > TOO_MUCH {
            self.excess = 0.0;
            let drop = queued - self.target as usize;
            return Pace { drop, silence: 0, bend: self.integral };
        }
        self.excess += (now - self.excess) * (self.step / AVERAGE).min(1.0);
        self.integral = (self.integral - INTEGRAL * self.excess * self.step).clamp(-MOST, MOST);
        let bend = (self.integral - PROPORTIONAL * self.excess).clamp(-MOST, MOST);
        Pace { bend, silence: 0, drop: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of a run.
    struct Run {
        silences: usize,
        dropped: usize,
        /// Seconds off the target after the first third, at most, and the mean of what was bent.
        off: f64,
        bend: f64,
    }

    /// Steps of 40 ms into a queue that an output in blocks of `block` frames empties `drift` too fast.
    fn run(drift: f64, block: usize, seconds: usize) -> Run {
        let (rate, target) = (48_000.0, 960);
        let mut pacer = Pacer::new(48_000, 0.04, target);
        let (mut queue, mut due) = (0usize, 0.0f64);
        let mut run = Run { silences: 0, dropped: 0, off: 0.0, bend: 0.0 };
        let steps = seconds * 25;
        let settled = steps - steps * 2 / 3;
        let mut carry = 0.0;
        for step in 0..steps {
            let pace = pacer.step(queue);
            run.silences += usize::from(step > 0 && pace.silence > 0);
            carry += 1920.0 * (1.0 + pace.bend);
            let made = carry as usize;
            carry -= made as f64;
            run.dropped += pace.drop.min(made);
            queue += pace.silence + made.saturating_sub(pace.drop);
            due += rate * 0.04 * (1.0 + drift);
            while due >= block as f64 {
                due -= block as f64;
                queue = queue.saturating_sub(block);
            }
            if step >= settled {
                run.off = f64::max(run.off, (pacer.queued() - target as f64).abs() / rate);
                run.bend += pace.bend / (steps - settled) as f64;
            }
        }
        run
    }

    #[test]
    fn clocks_that_differ_are_followed_without_a_gap() {
        for block in [64, 480, 512] {
            for drift in [0.0, 1e-4, -1e-4, 5e-4, -5e-4] {
                let run = run(drift, block, 900);
                assert_eq!((run.silences, run.dropped), (0, 0), "{drift} {block}");
                // The queue is seen in whole blocks, which beat with the steps.
                let seen = block as f64 / 48_000.0;
                assert!(run.off < seen + 0.001, "{drift} {block}: {} s", run.off);
                assert!((run.bend - drift).abs() < 5e-5, "{drift} {block}: {}", run.bend);
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_slips_a_little_at_a_time() {
        let fast = run(0.01, 480, 120);
        assert!(fast.silences > 0 && fast.dropped == 0);
        let slow = run(-0.01, 480, 120);
        assert!(slow.dropped > 0 && slow.silences == 0);
        // Of 1 % some 0.2 are made up by bending.
        let slipped = slow.dropped as f64 / (120.0 * 48_000.0);
        assert!((0.004..0.011).contains(&slipped), "{slipped}");
    }

    #[test]
    fn an_empty_queue_is_filled_to_the_target() {
        let mut pacer = Pacer::new(48_000, 0.04, 700);
        assert_eq!(pacer.step(500), Pace { silence: 700, ..Pace::default() });
        assert_eq!(pacer.step(700).silence, 0);
        assert_eq!(pacer.step(0).silence, 700);
        assert_eq!(pacer.step(700 + 48_000).drop, 48_000);
    }
}
