//! What the plugin's audio thread takes: mean and worst block, for some instances in a row.
//!
//! ```sh
//! cargo run --release -p tessera-plugin --example load -- [seconds] [block] [instances] [rate] [paced]
//! ```
//!
//! The instances begin together, as those of a session do, and each block is run by all of them before the
//! next one. Three times are given for each block: this thread's CPU time; the time of day, in which
//! another program may have had the core; and, between blocks, how long a loop takes that only counts, as
//! long as a block does. What the loop suffers, too, is the machine's doing. The first two seconds are
//! left out.
//!
//! With `paced`, blocks begin when they are due, as in a host, and the loop gives way to the time from when
//! a block was due to when it was done. On a machine that does other things as well, give the thread the
//! priority that hosts give theirs: `chrt -f 50 target/release/examples/load 60 64 16 48000 paced`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clock;
mod report;

use std::time::{Duration, Instant};

use clock::{Counting, Mark};
use report::{Beside, Block, Report};
use tessera_plugin::line::{BLOCK, Line};
use tessera_plugin::models::Loaded;
use tessera_plugin::processor::{CHANNELS, Controls, Processor, lookahead};
use tessera_plugin::resynthesis::{Observer, Settings, Step};
use tessera_plugin::tokens;

/// Seconds that are left out at the beginning.
const LEFT_OUT: f32 = 2.0;

struct Nobody;

impl Observer for Nobody {
    fn step(&mut self, _step: &Step) {}
}

/// A tone and noise, another one in each channel, in pieces that a processor takes.
#[derive(Default)]
struct Sound(u32);

impl Sound {
    fn fill(&mut self, pieces: &mut [[[f32; BLOCK]; CHANNELS]]) {
        for [left, right] in pieces {
            for (left, right) in left.iter_mut().zip(right) {
                self.0 = self.0.wrapping_add(1);
                let n = self.0;
                let noise = (n.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5;
                let tone = (n as f32 * 0.031).sin() * 0.3;
                (*left, *right) = (tone + noise * 0.1, tone - noise * 0.1);
            }
        }
    }
}

fn main() {
    let arguments: Vec<f32> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let argument = |place: usize, default: f32| arguments.get(place).copied().unwrap_or(default);
    let (seconds, block) = (argument(0, 60.0), (argument(1, 64.0) as usize).max(1));
    let (instances, rate) = (argument(2, 1.0) as usize, argument(3, 48_000.0));

    let begun = Instant::now();
    let loaded = Loaded::embedded().unwrap();
    let make = || {
        let line = Line::new(&loaded, rate, CHANNELS, lookahead(rate)).unwrap();
        Processor::new(Box::new(line), rate, CHANNELS)
    };
    let mut processors: Vec<Processor> = (0..instances).map(|_| make()).collect();
    let controls = Controls {
        input: [1.0; BLOCK],
        output: [1.0; BLOCK],
        mix: [1.0; BLOCK],
        width: [1.0; BLOCK],
        ceiling: Some(1.0),
        bypass: false,
        settings: Settings {
            levels: usize::MAX,
            gains: [1.0; 3],
            lines: true,
            tokens: tokens::Settings::default(),
        },
    };
    println!("ready to play after {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);

    let mut sound = Sound::default();
    let mut pieces = vec![[[0.0; BLOCK]; CHANNELS]; block.div_ceil(BLOCK)];
    let mut run = || {
        sound.fill(&mut pieces);
        let before = Mark::now();
        for processor in &mut processors {
            let mut left = block;
            for piece in &pieces {
                let mut piece = *piece;
                processor.process(&mut piece, left.min(BLOCK), &controls, &mut Nobody);
                left = left.saturating_sub(BLOCK);
            }
        }
        before.to_now()
    };
    let skipped = (LEFT_OUT * rate) as usize / block;
    let spent: Duration = (0..skipped).map(|_| run().wall).sum();
    let counting = Counting::lasting(spent / skipped.max(1) as u32);
    let blocks = ((seconds - LEFT_OUT).max(0.0) * rate) as usize / block;
    let block_time = Duration::from_secs_f64(block as f64 / f64::from(rate));
    let paced = std::env::args().any(|argument| argument == "paced");
    let mut all = Vec::with_capacity(blocks);
    let begun = Instant::now();
    for n in 0..blocks {
        all.push(if paced {
            let due = begun + block_time.mul_f64(n as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            Block { codec: run(), beside: Beside::Due(due.elapsed()) }
        } else {
            Block { codec: run(), beside: Beside::Counting(counting.run()) }
        });
    }
    // Blocks in a step of the model, if the host runs at its rate and its blocks fit.
    let (step, same) =
        (loaded.model.chunk_samples(), rate == loaded.model.config().sample_rate as f32);
    let places = if same && step.is_multiple_of(block) { step / block } else { 1 };
    println!(
        "{instances} at {rate} Hz in blocks of {block}, {:.0} s, in % of the block's time:",
        blocks as f32 * block as f32 / rate,
    );
    Report { blocks: all, block_time, places, skipped }.print();
}
