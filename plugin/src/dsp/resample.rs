//! Rate conversion between host and model, sample by sample, with exact time.
//!
//! Both directions are windowed-sinc interpolators. Positions are fractions of whole numbers, so that
//! nothing drifts, and a sample out is made at the very sample in that completes it, so that the delay is
//! the same for every block size.

use super::History;

/// Zero crossings of the kernel on each side, at the lower of the two rates.
const CROSSINGS: usize = 64;

/// The kernel's -6 dB point as a share of the lower rate; its stop band begins at half that rate.
const CUTOFF: f64 = 0.4755;

/// Of the Kaiser window: about 100 dB of rejection.
const BETA: f64 = 10.0;

/// Positions between two samples at which the kernel is tabulated, at the least and at the most; between
/// them it is interpolated.
const PHASES: [usize; 2] = [32, 512];

/// Steps of one stream over steps of another: a fraction of whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    num: u64,
    den: u64,
}

impl Ratio {
    /// Samples of a host that runs at `host` Hz for each sample of a model that runs at `model` Hz; exact.
    /// `None` for rates outside 1 Hz to 16 MHz.
    pub fn new(host: f32, model: u32) -> Option<Self> {
        if !(1.0..=16e6).contains(&host) || model == 0 {
            return None;
        }
        // Every f32 from 1 on is a whole number of 2^-23.
        let scale = 1u64 << 23;
        let (num, den) = ((f64::from(host) * scale as f64) as u64, scale * u64::from(model));
        let divisor = gcd(num, den);
        Some(Self { num: num / divisor, den: den / divisor })
    }

    /// Whether both rates are the same.
    pub fn is_one(self) -> bool {
        self.num == self.den
    }

    /// As a number.
    pub fn value(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// The other way round.
    pub fn inverse(self) -> Self {
        Self { num: self.den, den: self.num }
    }

    /// The first whole number from `count` times this on.
    pub fn times_rounded_up(self, count: usize) -> usize {
        (count as u128 * u128::from(self.num)).div_ceil(u128::from(self.den)) as usize
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A position in a stream: sample `whole` and a fraction `rest / den` of the way to the next.
#[derive(Debug, Clone, Copy)]
struct Position {
    whole: i64,
    rest: u64,
    step: Ratio,
}

impl Position {
    /// At `start - back * step`.
    fn new(start: usize, back: usize, step: Ratio) -> Self {
        let (num, den) = (i128::from(step.num), i128::from(step.den));
        let position = start as i128 * den - back as i128 * num;
        Self { whole: position.div_euclid(den) as i64, rest: position.rem_euclid(den) as u64, step }
    }

    fn advance(&mut self) {
        self.rest += self.step.num % self.step.den;
        self.whole += (self.step.num / self.step.den) as i64;
        if self.rest >= self.step.den {
            self.rest -= self.step.den;
            self.whole += 1;
        }
    }
}

/// A tabulated windowed sinc.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Samples of the input on each side.
    half: usize,
    phases: usize,
    /// (phases + 1, 2 half), each row with a sum of 1.
    rows: Box<[f32]>,
}

impl Kernel {
    /// For input that has `ratio` samples for each sample of the output.
    fn new(ratio: Ratio) -> Self {
        let stretch = ratio.value().max(1.0);
        let half = (CROSSINGS as f64 * stretch).ceil() as usize;
        let phases = (PHASES[1] as f64 / stretch) as usize;
        let phases = phases.max(PHASES[0]);
        let cutoff = CUTOFF / stretch;
        let mut rows = vec![0.0; (phases + 1) * 2 * half];
        let mut row = vec![0.0; 2 * half];
        for (phase, out) in rows.chunks_exact_mut(2 * half).enumerate() {
            let fraction = phase as f64 / phases as f64;
            for (j, tap) in row.iter_mut().enumerate() {
                let t = half as f64 - 1.0 - j as f64 + fraction;
                let x = 2.0 * cutoff * t;
                let sinc = if x == 0.0 {
                    1.0
                } else {
                    (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x)
                };
                let edge = 1.0 - (t / half as f64).powi(2);
                *tap = if edge > 0.0 { sinc * bessel_i0(BETA * edge.sqrt()) } else { 0.0 };
            }
            let sum: f64 = row.iter().sum();
            for (out, tap) in out.iter_mut().zip(&row) {
                *out = (tap / sum) as f32;
            }
        }
        Self { half, phases, rows: rows.into() }
    }

    /// Samples of the input on each side, which is the kernel's delay.
    fn half(&self) -> usize {
        self.half
    }

    /// The sample at `position`; `window` holds the `2 half` samples around it.
    fn apply(&self, window: &[f32], position: Position) -> f32 {
        let scaled = position.rest * self.phases as u64;
        let phase = (scaled / position.step.den) as usize;
        let fraction = (scaled % position.step.den) as f64 / position.step.den as f64;
        let taps = 2 * self.half;
        let (near, far) = self.rows[phase * taps..][..2 * taps].split_at(taps);
        let (near, far) = (dot(near, window), dot(far, window));
        near + (far - near) * fraction as f32
    }
}

/// In eight sums, whose order is fixed.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Modified Bessel function of the first kind, order 0, by its series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while term > sum * 1e-12 {
        term *= (x / (2.0 * n)) * (x / (2.0 * n));
        sum += term;
        n += 1.0;
    }
    sum
}

/// From the host's rate to the model's, one channel.
#[derive(Debug, Clone)]
pub struct ToModel {
    kernel: Kernel,
    past: History,
    taken: i64,
    next: Position,
    start: Position,
}

impl ToModel {
    /// At the stream's beginning.
    pub fn new(ratio: Ratio) -> Self {
        let kernel = Kernel::new(ratio);
        let start = Position::new(0, 0, ratio);
        let past = History::new(2 * kernel.half() + 2);
        Self { kernel, past, taken: 0, next: start, start }
    }

    /// Delay in samples of the host.
    pub fn delay(&self) -> usize {
        self.kernel.half()
    }

    /// Takes a sample of the host, and gives `put` those of the model that it completes.
    pub fn push(&mut self, sample: f32, mut put: impl FnMut(f32)) {
        self.past.push(sample);
        self.taken += 1;
        let taps = 2 * self.kernel.half();
        while self.next.whole < self.taken {
            let window = self.past.window(self.next.whole + 1 - taps as i64, taps);
            put(self.kernel.apply(window, self.next));
            self.next.advance();
        }
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.past.reset();
        (self.taken, self.next) = (0, self.start);
    }
}

/// From the model's rate to the host's, one channel, behind a stage at the model's rate that delays by a
/// whole number of samples.
#[derive(Debug, Clone)]
pub struct ToHost {
    kernel: Kernel,
    past: History,
    next: Position,
    start: Position,
    delay: usize,
}

impl ToHost {
    /// At the stream's beginning. `ratio` is that of [`ToModel`], `stage` the delay of what lies between, in
    /// samples of the model, and `ahead` how many samples of the model may be pushed before those of the
    /// host that they complete are pulled.
    pub fn new(ratio: Ratio, stage: usize, ahead: usize) -> Self {
        let kernel = Kernel::new(ratio.inverse());
        // A whole number of the host's samples that covers the stage and the kernel.
        let delay = ratio.times_rounded_up(stage + kernel.half());
        let start = Position::new(stage, delay, ratio.inverse());
        let rounding = ratio.inverse().times_rounded_up(1);
        let past = History::new(2 * kernel.half() + ahead + 2 * rounding + 4);
        Self { kernel, past, next: start, start, delay }
    }

    /// Delay of the stage and of this together, in samples of the host.
    pub fn delay(&self) -> usize {
        self.delay
    }

    /// Takes a sample of the model.
    pub fn push(&mut self, sample: f32) {
        self.past.push(sample);
    }

    /// The host's next sample; call as often as [`ToModel::push`], afterwards.
    pub fn pull(&mut self) -> f32 {
        let half = self.kernel.half();
        let window = self.past.window(self.next.whole + 1 - half as i64, 2 * half);
        let sample = self.kernel.apply(window, self.next);
        self.next.advance();
        sample
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.past.reset();
        self.next = self.start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [f32; 14] = [
        1000.0, 7999.5, 8000.0, 22_050.0, 44_100.0, 44_100.5, 47_999.0, 48_001.0, 88_200.0,
        96_000.0, 123_456.78, 192_000.0, 384_000.0, 768_000.0,
    ];

    /// There and back again through a stage that delays, block by block.
    fn round_trip(rate: f32, stage: usize, sound: &[f32], block: usize) -> (usize, Vec<f32>) {
        let ratio = Ratio::new(rate, 48_000).unwrap();
        let mut to_model = ToModel::new(ratio);
        let ahead = ratio.inverse().times_rounded_up(block) + 2;
        let mut to_host = ToHost::new(ratio, stage, ahead);
        let mut line = vec![0.0; stage];
        let mut place = 0;
        let mut out = Vec::new();
        for block in sound.chunks(block) {
            for sample in block {
                to_model.push(*sample, |sample| {
                    to_host.push(std::mem::replace(&mut line[place], sample));
                    place = (place + 1) % stage;
                });
            }
            out.extend(block.iter().map(|_| to_host.pull()));
        }
        (to_model.delay() + to_host.delay(), out)
    }

    #[test]
    fn a_sine_comes_back_in_time_and_clean() {
        for rate in RATES {
            let frequency = f64::from(rate.min(48_000.0)) * 0.37;
            let sine = |n: usize| {
                (std::f64::consts::TAU * frequency * n as f64 / f64::from(rate)).sin() * 0.5
            };
            let frames = 6000.max((rate * 0.2) as usize);
            let sound: Vec<f32> = (0..frames).map(|n| sine(n) as f32).collect();
            let (delay, out) = round_trip(rate, 480, &sound, 64);
            assert_eq!(out.len(), sound.len());
            let worst = (2 * delay..out.len())
                .map(|n| (f64::from(out[n]) - sine(n - delay)).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-4, "{rate} Hz: {worst}");
        }
    }

    #[test]
    fn block_sizes_do_not_matter() {
        let sound: Vec<f32> = (0..4000).map(|n| ((n * n) as f32 * 0.01).sin()).collect();
        for rate in [1000.0, 44_100.0, 48_000.5, 96_000.0] {
            let whole = round_trip(rate, 100, &sound, 4000);
            for block in [1, 7, 64, 1000] {
                assert_eq!(round_trip(rate, 100, &sound, block), whole, "{rate} Hz in {block}");
            }
        }
    }

    #[test]
    fn nothing_drifts() {
        let ratio = Ratio::new(44_100.5, 48_000).unwrap();
        let mut position = Position::new(0, 0, ratio);
        for _ in 0..48_000 * 600 {
            position.advance();
        }
        // Ten minutes of the model are 600 times 44,100.5 samples of the host.
        assert_eq!((position.whole, position.rest), (26_460_300, 0));
    }

    #[test]
    fn impossible_rates_are_refused() {
        for rate in [0.0, -48_000.0, f32::NAN, f32::INFINITY, 1e9] {
            assert_eq!(Ratio::new(rate, 48_000), None);
        }
        assert!(Ratio::new(48_000.0, 48_000).unwrap().is_one());
        assert!(!Ratio::new(48_000.01, 48_000).unwrap().is_one());
    }
}
