//! How long something took, by several clocks.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// A moment.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    wall: Instant,
    cpu: Duration,
    preempted: i64,
    faults: i64,
}

/// What lies between two moments.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Time of day.
    pub wall: Duration,
    /// What this thread had of it.
    pub cpu: Duration,
    /// How often another thread was given the core.
    pub preempted: i64,
    /// How often memory was not there.
    pub faults: i64,
}

impl Mark {
    /// This moment.
    pub fn now() -> Self {
        let (preempted, faults) = interruptions();
        Self { preempted, faults, cpu: cpu_time(), wall: Instant::now() }
    }

    /// From this moment to now.
    pub fn to_now(self) -> Span {
        let (wall, cpu) = (self.wall.elapsed(), cpu_time() - self.cpu);
        let (preempted, faults) = interruptions();
        Span { wall, cpu, preempted: preempted - self.preempted, faults: faults - self.faults }
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How often this thread has lost the core to another, and met memory that was not there.
#[cfg(target_os = "linux")]
fn interruptions() -> (i64, i64) {
    // SAFETY: all of it may be zero, and the pointer is to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage
    };
    (usage.ru_nivcsw, usage.ru_minflt + usage.ru_majflt)
}

/// Not known for a thread elsewhere.
#[cfg(not(target_os = "linux"))]
fn interruptions() -> (i64, i64) {
    (0, 0)
}

/// A loop that only counts, and touches no memory.
#[derive(Debug, Clone, Copy)]
pub struct Counting(u64);

impl Counting {
    /// One that takes about so long on a core of its own.
    pub fn lasting(time: Duration) -> Self {
        const TRIED: u64 = 1_000_000;
        let best = (0..20).map(|_| Self(TRIED).run().wall).min().unwrap_or_default();
        Self((time.as_secs_f64() / best.as_secs_f64().max(1e-9) * TRIED as f64) as u64)
    }

    /// Counts.
    pub fn run(self) -> Span {
        let before = Mark::now();
        for n in 0..self.0 {
            black_box(n);
        }
        before.to_now()
    }
}
