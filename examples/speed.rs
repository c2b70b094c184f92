//! How fast the engine is on this machine: how many times real time on one core, the slowest step, and
//! the largest unit of a step.
//!
//!     cargo run --release --example speed -- [STEPS [MODEL_FOLDER]]
//!
//! Runs encoder and decoder of one channel with each instruction set of this CPU. On Linux the figures
//! are of the CPU's time for this program, so that others running beside it matter little; the slowest
//! step is also given in time of day, which means something on an idle machine only.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tessera_codec::engine::{InstructionSet, Model, StreamDecoder, StreamEncoder};

/// Steps at once where files are meant.
const BATCH: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let steps: usize = arguments.first().map_or(Ok(10_000), |a| a.parse())?;
    let model = match arguments.get(1) {
        Some(folder) => Model::load(Path::new(folder))?,
        None => Model::shipped()?,
    };
    let chunk = model.chunk_samples();
    let step = Duration::from_secs_f64(chunk as f64 / f64::from(model.config().sample_rate));
    println!(
        "{}: steps of {step:?}, {:.1} MB of weights, {:.0} + {:.0} kB a stream",
        model.config().name,
        model.bytes() as f64 / 1e6,
        StreamEncoder::new(&model).bytes() as f64 / 1e3,
        StreamDecoder::new(&model).bytes() as f64 / 1e3,
    );
    for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
        // Plain code is there for comparison, and slow.
        let steps = if set == InstructionSet::Plain { steps / 200 } else { steps }.max(1);
        let model = model.with_instruction_set(set)?;
        println!("{set:?}");
        measure_steps(&model, steps, step)?;
        measure_batches(&model, steps, step)?;
        measure_units(&model, steps.min(500))?;
    }
    Ok(())
}

/// Time that this thread has had the CPU.
#[cfg(target_os = "linux")]
fn cpu_time(_begin: Instant) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time of day, where the CPU's time is not known.
#[cfg(not(target_os = "linux"))]
fn cpu_time(begin: Instant) -> Duration {
    begin.elapsed()
}

/// Noise, so that nothing can be skipped.
fn noise(samples: &mut [f32], seed: &mut u32) {
    for sample in samples {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *sample = (*seed >> 8) as f32 / 16_777_216.0 - 0.5;
    }
}

/// One step at a time, as live sound comes.
fn measure_steps(model: &Model, steps: usize, step: Duration) -> Result<(), Box<dyn Error>> {
    let levels = model.levels();
    let (mut encoder, mut decoder) = (StreamEncoder::new(model), StreamDecoder::new(model));
    let mut codes = vec![0; model.codes_per_step(levels)];
    let mut samples = vec![0.0; model.chunk_samples()];
    let (mut seed, begin) = (1, Instant::now());
    let [mut encoding, mut decoding, mut slowest, mut slowest_of_day] = [Duration::ZERO; 4];
    for _ in 0..steps {
        noise(&mut samples, &mut seed);
        let (day, start) = (Instant::now(), cpu_time(begin));
        encoder.process_into(&samples, levels, &mut codes)?;
        let middle = cpu_time(begin);
        decoder.process_into(&codes, levels, &mut samples)?;
        let end = cpu_time(begin);
        encoding += middle - start;
        decoding += end - middle;
        slowest = slowest.max(end - start);
        slowest_of_day = slowest_of_day.max(day.elapsed());
    }
    let times = |spent: Duration| (step * steps as u32).as_secs_f64() / spent.as_secs_f64();
    let share = |spent: Duration| 100.0 * spent.as_secs_f64() / step.as_secs_f64();
    println!(
        "  step by step: encoding {:.1}x, decoding {:.1}x, both {:.1}x real time",
        times(encoding),
        times(decoding),
        times(encoding + decoding),
    );
    println!(
        "  slowest of {steps} steps: {:.2} ms or {:.1} % of its duration; by the time of day {:.2} ms, {:.1} %",
        slowest.as_secs_f64() * 1e3,
        share(slowest),
        slowest_of_day.as_secs_f64() * 1e3,
        share(slowest_of_day),
    );
    Ok(())
}

/// Many steps at once, as files are coded.
fn measure_batches(model: &Model, steps: usize, step: Duration) -> Result<(), Box<dyn Error>> {
    let levels = model.levels();
    let mut encoder = StreamEncoder::with_batch(model, BATCH);
    let mut decoder = StreamDecoder::with_batch(model, BATCH);
    let mut codes = vec![0; BATCH * model.codes_per_step(levels)];
    let mut samples = vec![0.0; BATCH * model.chunk_samples()];
    let (rounds, begin, mut spent) = (steps.div_ceil(BATCH), Instant::now(), Duration::ZERO);
    for _ in 0..rounds {
        noise(&mut samples, &mut 1);
        let start = cpu_time(begin);
        encoder.process_into(&samples, levels, &mut codes)?;
        decoder.process_into(&codes, levels, &mut samples)?;
        spent += cpu_time(begin) - start;
    }
    let times = (step * (rounds * BATCH) as u32).as_secs_f64() / spent.as_secs_f64();
    println!("  {BATCH} steps at once: both {times:.1}x real time");
    Ok(())
}

/// One unit at a time: the best time of each, and the largest one's share of them all.
fn measure_units(model: &Model, steps: usize) -> Result<(), Box<dyn Error>> {
    let levels = model.levels();
    let (mut encoder, mut decoder) = (StreamEncoder::new(model), StreamDecoder::new(model));
    let mut codes = vec![0; model.codes_per_step(levels)];
    let mut samples = vec![0.0; model.chunk_samples()];
    let mut encoding = vec![Duration::MAX; encoder.units()];
    let mut decoding = vec![Duration::MAX; decoder.units()];
    for _ in 0..steps {
        noise(&mut samples, &mut 1);
        encoder.fill(&samples);
        encoder.begin(levels)?;
        for best in &mut encoding {
            let start = Instant::now();
            encoder.advance(1);
            *best = start.elapsed().min(*best);
        }
        encoder.take(&mut codes)?;
        decoder.begin(&codes, levels)?;
        for best in &mut decoding {
            let start = Instant::now();
            decoder.advance(1);
            *best = start.elapsed().min(*best);
        }
        decoder.take(&mut samples)?;
    }
    for (name, best, estimate) in [
        ("encoding", encoding, encoder.largest_unit_share()),
        ("decoding", decoding, decoder.largest_unit_share()),
    ] {
        let all: Duration = best.iter().sum();
        let largest = best.iter().max().copied().unwrap_or_default();
        println!(
            "  {name} in {} units: the largest takes {:.1} us, {:.1} % of all (estimated: {:.1} %)",
            best.len(),
            largest.as_secs_f64() * 1e6,
            100.0 * largest.as_secs_f64() / all.as_secs_f64(),
            100.0 * estimate,
        );
    }
    Ok(())
}
