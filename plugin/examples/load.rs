//! What the plugin's audio thread takes: mean and worst block, for some instances in a row.
//!
//! ```sh
//! cargo run --release -p tessera-plugin --example load -- [seconds] [block] [instances] [rate]
//! ```
//!
//! Counts the thread's own CPU time, so that what else runs on the machine does not count (but for the
//! caches it takes). The first two seconds are left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use tessera_plugin::line::{BLOCK, Line};
use tessera_plugin::models::Loaded;
use tessera_plugin::processor::{CHANNELS, Controls, Processor, lookahead};
use tessera_plugin::resynthesis::{Observer, Settings, Step};
use tessera_plugin::tokens;

struct Nobody;

impl Observer for Nobody {
    fn step(&mut self, _step: &Step) {}
}

/// CPU time of this thread.
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let arguments: Vec<f32> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let argument = |place: usize, default: f32| arguments.get(place).copied().unwrap_or(default);
    let (seconds, block) = (argument(0, 60.0), argument(1, 64.0) as usize);
    let (instances, rate) = (argument(2, 1.0) as usize, argument(3, 48_000.0));

    let begun = Instant::now();
    let Ok(loaded) = Loaded::embedded() else { return };
    let make = || {
        let line = Line::new(&loaded, rate, CHANNELS, lookahead(rate))?;
        Some(Processor::new(Box::new(line), rate, CHANNELS))
    };
    let mut processors: Vec<Processor> = (0..instances).filter_map(|_| make()).collect();
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
            tokens: tokens::Settings::default(),
        },
    };
    println!("ready to play after {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);

    let block_time = block as f64 / f64::from(rate);
    let mut shares = Vec::new();
    let mut n = 0u32;
    for _ in 0..((seconds * rate) as usize / block) {
        let sound: Vec<[[f32; BLOCK]; CHANNELS]> = (0..block.div_ceil(BLOCK))
            .map(|_| {
                let (mut left, mut right) = ([0.0; BLOCK], [0.0; BLOCK]);
                for (left, right) in left.iter_mut().zip(&mut right) {
                    n = n.wrapping_add(1);
                    let noise =
                        (n.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5;
                    let tone = (n as f32 * 0.031).sin() * 0.3;
                    (*left, *right) = (tone + noise * 0.1, tone - noise * 0.1);
                }
                [left, right]
            })
            .collect();
        let start = now();
        for processor in &mut processors {
            let mut left = block;
            for piece in &sound {
                let mut piece = *piece;
                processor.process(&mut piece, left.min(BLOCK), &controls, &mut Nobody);
                left = left.saturating_sub(BLOCK);
            }
        }
        shares.push((now() - start).as_secs_f64() / block_time * 100.0);
    }
    shares.drain(..((2.0 * rate) as usize / block).min(shares.len() / 2));
    let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    shares.sort_by(f64::total_cmp);
    let at = |share: f64| {
        shares.get(((shares.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(0.0)
    };
    println!(
        "{instances} at {rate} Hz in blocks of {block}, {seconds} s: mean {mean:.2} %, median {:.2} %, \
         99.9 % of blocks under {:.2} %, worst {:.2} % of the block's time",
        at(0.5),
        at(0.999),
        at(1.0),
    );
}
