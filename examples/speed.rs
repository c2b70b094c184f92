//! How fast the engine is on this machine: how many times real time on one core, and the slowest step.
//!
//!     cargo run --release --example speed -- [STEPS [MODEL_FOLDER]]
//!
//! Runs encoder and decoder of one channel, step by step, and prints one line for each instruction set
//! of this CPU. Other programs make the slowest step slower: run it on an idle machine. On Linux, what
//! counts for the other figures is the CPU's time for this program alone.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tessera_codec::engine::{InstructionSet, Model, StreamDecoder, StreamEncoder};

/// Steps in a turn.
const TURN: usize = 25;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let steps: usize = arguments.first().map_or(Ok(10_000), |a| a.parse())?;
    let model = match arguments.get(1) {
        Some(folder) => Model::load(Path::new(folder))?,
        None => Model::shipped()?,
    };
    let chunk = model.chunk_samples();
    let step = Duration::from_secs_f64(chunk as f64 / f64::from(model.config().sample_rate));
    let (encoder, decoder) = (StreamEncoder::new(&model), StreamDecoder::new(&model));
    println!(
        "{}: steps of {step:?}, {:.1} MB of weights, {:.0} + {:.0} kB a stream",
        model.config().name,
        model.bytes() as f64 / 1e6,
        encoder.bytes() as f64 / 1e3,
        decoder.bytes() as f64 / 1e3,
    );
    for (name, units, share) in [
        ("encoding", encoder.units(), encoder.largest_unit_share()),
        ("decoding", decoder.units(), decoder.largest_unit_share()),
    ] {
        println!("{name}: {units} units a step, the largest {:.1} % of it", 100.0 * share);
    }
    for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
        // Plain code is there for comparison, and slow.
        let steps = if set == InstructionSet::Plain { steps / 100 } else { steps };
        let model = model.with_instruction_set(set)?;
        measure(&model, steps.max(1), step)?;
        measure_batches(&model, steps.max(1), step)?;
    }
    Ok(())
}

/// Time this thread has had a core to itself, on Linux; the time of day elsewhere.
fn cpu_time(start: Instant) -> Duration {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// One step at a time, as live sound comes.
fn measure(model: &Model, steps: usize, step: Duration) -> Result<(), Box<dyn Error>> {
    let levels = model.levels();
    let (mut encoder, mut decoder) = (StreamEncoder::new(model), StreamDecoder::new(model));
    let mut codes = vec![0; model.codes_per_step(levels)];
    let mut samples = vec![0.0; model.chunk_samples()];
    let mut random = 1u32;
    let mut slowest = Duration::ZERO;
    let (begin, mut spent) = (Instant::now(), [Duration::ZERO; 2]);
    // Encoding and decoding by turns of a second, so that each has the CPU's counter to itself.
    for _ in 0..steps.div_ceil(TURN) {
        let start = cpu_time(begin);
        let mut times = [Duration::ZERO; TURN];
        let mut all = Vec::with_capacity(TURN * codes.len());
        for time in &mut times {
            for sample in &mut samples {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *sample = (random >> 8) as f32 / 16_777_216.0 - 0.5;
            }
            let start = Instant::now();
            encoder.process_into(&samples, levels, &mut codes)?;
            *time = start.elapsed();
            all.extend_from_slice(&codes);
        }
        let middle = cpu_time(begin);
        for (codes, time) in all.chunks_exact(codes.len()).zip(times) {
            let start = Instant::now();
            decoder.process_into(codes, levels, &mut samples)?;
            slowest = slowest.max(time + start.elapsed());
        }
        spent[0] += middle - start;
        spent[1] += cpu_time(begin) - middle;
    }
    let total = step * (steps.div_ceil(TURN) * TURN) as u32;
    let times = |spent: Duration| total.as_secs_f64() / spent.as_secs_f64();
    println!(
        "{:?}, step by step: encoding {:.1}x, decoding {:.1}x, both {:.1}x real time; slowest of {steps} \
         steps {:.2} ms, {:.1} % of its duration",
        model.instruction_set(),
        times(spent[0]),
        times(spent[1]),
        times(spent[0] + spent[1]),
        slowest.as_secs_f64() * 1e3,
        100.0 * slowest.as_secs_f64() / step.as_secs_f64(),
    );
    Ok(())
}

/// Many steps at once, as files are coded.
fn measure_batches(model: &Model, steps: usize, step: Duration) -> Result<(), Box<dyn Error>> {
    const BATCH: usize = 16;
    let levels = model.levels();
    let mut encoder = StreamEncoder::with_batch(model, BATCH);
    let mut decoder = StreamDecoder::with_batch(model, BATCH);
    let mut codes = vec![0; BATCH * model.codes_per_step(levels)];
    let mut samples: Vec<f32> =
        (0..BATCH * model.chunk_samples()).map(|n| (n as f32 * 0.01).sin()).collect();
    let rounds = steps.div_ceil(BATCH);
    let begin = Instant::now();
    let start = cpu_time(begin);
    for _ in 0..rounds {
        encoder.process_into(&samples, levels, &mut codes)?;
        decoder.process_into(&codes, levels, &mut samples)?;
    }
    let spent = cpu_time(begin) - start;
    let times = (step * (rounds * BATCH) as u32).as_secs_f64() / spent.as_secs_f64();
    println!("{:?}, {BATCH} steps at once: both {times:.1}x real time", model.instruction_set());
    Ok(())
}
