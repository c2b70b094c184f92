//! What is said about many blocks.

use std::time::Duration;

use crate::clock::Span;

/// Worst blocks that are listed.
const LISTED: usize = 3;

/// One block.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// All instances' work.
    pub codec: Span,
    /// What was measured beside it.
    pub beside: Beside,
}

/// What tells whose doing it is when a block takes long.
#[derive(Debug, Clone, Copy)]
pub enum Beside {
    /// A loop that only counts, right after the block.
    Counting(Span),
    /// The time from when the block was due to when it was done.
    Due(Duration),
}

impl Beside {
    fn wall(&self) -> Duration {
        match self {
            Self::Counting(span) => span.wall,
            Self::Due(time) => *time,
        }
    }
}

/// All blocks.
pub struct Report {
    /// In their order.
    pub blocks: Vec<Block>,
    /// How long a block lasts.
    pub block_time: Duration,
    /// Blocks in a step of the model, or 1.
    pub places: usize,
    /// Blocks that came before these.
    pub skipped: usize,
}

impl Report {
    /// Prints everything.
    pub fn print(&self) {
        println!("                  mean  median    99 %  99.9 %   worst    over  longest backlog");
        self.line("CPU time", |block| block.codec.cpu);
        self.line("time of day", |block| block.codec.wall);
        let counted =
            matches!(self.blocks.first(), Some(Block { beside: Beside::Counting(_), .. }));
        self.line(if counted { "counting" } else { "since due" }, |block| block.beside.wall());
        self.places();
        self.worst("worst blocks by CPU time", |block| Some(block.codec), |span| span.cpu);
        self.worst("by the time of day", |block| Some(block.codec), |span| span.wall);
        if counted {
            let counting = |block: &Block| match block.beside {
                Beside::Counting(span) => Some(span),
                Beside::Due(_) => None,
            };
            self.worst("worst of counting by CPU time", counting, |span| span.cpu);
            self.worst("by the time of day", counting, |span| span.wall);
        }
    }

    fn share(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.block_time.as_secs_f64() * 100.0
    }

    fn line(&self, name: &str, time: impl Fn(&Block) -> Duration) {
        let in_order: Vec<f64> = self.blocks.iter().map(|block| self.share(time(block))).collect();
        let mean = in_order.iter().sum::<f64>() / in_order.len().max(1) as f64;
        let over = in_order.iter().filter(|share| **share > 100.0).count();
        // Of a host that begins each block when it is due, or when the one before is done.
        let (mut behind, mut longest) = (0.0f64, 0.0f64);
        for share in &in_order {
            behind = (behind + share - 100.0).max(0.0);
            longest = longest.max(behind);
        }
        let mut sorted = in_order;
        sorted.sort_by(f64::total_cmp);
        println!(
            "{name:14}{mean:8.2}{:8.2}{:8.2}{:8.2}{:8.2}{over:8}  {:.2} blocks",
            quantile(&sorted, 0.5),
            quantile(&sorted, 0.99),
            quantile(&sorted, 0.999),
            quantile(&sorted, 1.0),
            longest / 100.0,
        );
    }

    /// How evenly a step's work lies on its blocks: what happens by chance is not in a median.
    fn places(&self) {
        if self.places < 2 {
            return;
        }
        let medians: Vec<f64> = (0..self.places)
            .map(|place| {
                let first = (place + self.places - self.skipped % self.places) % self.places;
                let blocks = self.blocks.iter().skip(first).step_by(self.places);
                let mut shares: Vec<f64> = blocks.map(|b| self.share(b.codec.cpu)).collect();
                shares.sort_by(f64::total_cmp);
                quantile(&shares, 0.5)
            })
            .collect();
        let text: Vec<String> = medians.iter().map(|share| format!("{share:.1}")).collect();
        println!("median of CPU time by block of a step: {}", text.join(" "));
    }

    fn worst(
        &self,
        name: &str,
        of: impl Fn(&Block) -> Option<Span>,
        clock: impl Fn(&Span) -> Duration,
    ) {
        let spans = self.blocks.iter().enumerate();
        let mut spans: Vec<(usize, Span)> = spans.filter_map(|(n, b)| Some((n, of(b)?))).collect();
        spans.sort_by_key(|(_, span)| std::cmp::Reverse(clock(span)));
        println!("{name}:");
        for (n, span) in spans.into_iter().take(LISTED) {
            let place = n + self.skipped;
            println!(
                "  at {:7.3} s, block {:2} of its step: CPU time {:.2} %, time of day {:.2} %, \
                 preempted {}, page faults {}",
                place as f64 * self.block_time.as_secs_f64(),
                place % self.places,
                self.share(span.cpu),
                self.share(span.wall),
                span.preempted,
                span.faults,
            );
        }
    }
}

/// Of shares in order.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = ((sorted.len() as f64 - 1.0).max(0.0) * share) as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}
