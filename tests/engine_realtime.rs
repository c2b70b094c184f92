//! What an audio thread relies on: after construction the engine allocates nothing and makes no system
//! call. Each test streams five seconds; `TESSERA_SECONDS=60` makes it a minute.
#![cfg(feature = "embedded-model")]
#![allow(clippy::unwrap_used)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tessera_codec::Shipped;
use tessera_codec::engine::{
    ChannelDecoders, ChannelEncoders, Model, StreamDecoder, StreamEncoder,
};
use tessera_codec::lines::{Comb, Grain, LineFinder, LinePlayer, Lines, Selection};
use tessera_codec::prior::PriorState;

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Streams, and all that is needed to use them without allocating.
struct Session {
    encoder: StreamEncoder,
    decoder: StreamDecoder,
    encoders: ChannelEncoders,
    decoders: ChannelDecoders,
    samples: [Vec<f32>; 2],
    codes: [Vec<u16>; 2],
    sound: Vec<f32>,
    lines: Vec<Lines>,
    finder: LineFinder,
    player: LinePlayer,
    seconds: usize,
}

fn with_comb(comb: Option<Comb>) -> Lines {
    let mut lines = Lines::NONE;
    lines.set_comb(comb);
    lines.set_grain(Grain::new([comb.map_or(0, Comb::pitch), 7, 0, 99]));
    lines
}

impl Session {
    fn new(shipped: Shipped) -> Self {
        let model = Model::load_shipped(shipped).unwrap();
        let (chunk, codes) = (model.chunk_samples(), model.codes_per_step(4));
        let finder = LineFinder::new(48_000, chunk, model.config().lag_samples(), Selection::MANY)
            .with_trims(model.config());
        Self {
            encoder: StreamEncoder::with_batch(&model, 2),
            decoder: StreamDecoder::with_batch(&model, 2),
            encoders: ChannelEncoders::new(&model, 2, 1),
            decoders: ChannelDecoders::new(&model, 2, 1),
            samples: [vec![0.0; 6 * chunk], vec![0.0; 6 * chunk]],
            codes: [vec![0; 6 * codes], vec![0; 6 * codes]],
            sound: (0..5000)
                .map(|n| (n as f32 * 0.05).sin() * 0.4 + (n as f32 * 0.4).sin() * 0.1)
                .collect(),
            lines: [None, Comb::new(60, [3, 2])].map(with_comb).repeat(3),
            // A copy has as much room.
            finder: finder.clone(),
            player: LinePlayer::new(48_000, chunk),
            seconds: std::env::var("TESSERA_SECONDS").map_or(5, |s| s.parse().unwrap()),
        }
    }

    /// Streams with changing sizes and levels, in whole steps, in units and in two channels, with wrong
    /// calls, resets and ends in between; gives how many steps were decoded.
    fn run(&mut self) -> Option<usize> {
        let Self { encoder, decoder, encoders, decoders, samples, codes, sound, .. } = self;
        let (lines, seconds) = (&self.lines, &self.seconds);
        let (finder, player) = (&mut self.finder, &mut self.player);
        let [left, right] = samples;
        let (mut taken, mut steps, mut turn) = (0, 0, 0usize);
        let chunk = encoder.chunk_samples();
        while taken < *seconds * 48_000 {
            turn += 1;
            let (levels, size) = (1 + turn % 4, 1 + turn * 797 % sound.len());
            let per_step = encoder.model().codes_per_step(levels);
            sound[turn % size] = if turn.is_multiple_of(5) { f32::NAN } else { 0.1 };
            let done = encoder.process_into(&sound[..size], levels, &mut codes[0]).ok()?;
            taken += done.consumed;
            finder.select([Selection::FEW, Selection::NONE, Selection::MANY][turn / 8 % 3]);
            let mut rest = &sound[..size];
            while !rest.is_empty() {
                rest = &rest[finder.fill(rest)..];
                if finder.begin() {
                    while !finder.advance(1 + turn % 9) {}
                    let lines = finder.take()?;
                    let unit = |unit| player.play_unit(unit, &lines, &mut left[..chunk]);
                    (0..LinePlayer::UNITS).for_each(unit);
                }
            }
            let new = &codes[0][..done.produced];
            let out = decoder.process_with_lines(new, levels, lines, left).ok()?;
            steps += out.produced / chunk;
            if turn.is_multiple_of(3) {
                // A step in units.
                let missing = encoder.missing_samples();
                encoder.fill(&sound[..missing]);
                encoder.begin(levels).ok()?;
                while !encoder.advance(3) {}
                encoder.take(&mut codes[0]).ok()?;
                decoder.begin_with_lines(&codes[0][..per_step], levels, &lines[1]).ok()?;
                decoder.advance(decoder.units_to_trim());
                let trims = finder.trims(decoder.powers());
                decoder.trim(trims).ok()?;
                while !decoder.advance(3) {}
                decoder.take(left).ok()?;
                (taken, steps) = (taken + missing, steps + 1);
            }
            if turn.is_multiple_of(7) {
                let both = [&sound[..size], &sound[..size]];
                let done = encoders.process_into(&both, levels, codes).ok()?;
                let given = [&codes[0][..done.produced], &codes[1][..done.produced]];
                let mut out = [&mut left[..], &mut right[..]];
                decoders.process_into(&given, levels, &mut out).ok()?;
                decoders.reset_at(turn as u64);
            }
            if turn.is_multiple_of(11) {
                // Errors are values, and cost nothing either.
                encoder.process_into(sound, 9, &mut codes[0]).err()?;
                decoder.process_into(&[u16::MAX], 1, left).err()?;
                let done = encoder.finish(levels, &mut codes[0]).ok()?;
                decoder.process_into(&codes[0][..done.produced], levels, left).ok()?;
                decoder.finish(left).ok()?;
            }
            if turn.is_multiple_of(13) {
                finder.reset();
                player.reset();
                encoder.reset();
                decoder.reset();
                encoders.reset();
            }
        }
        Some(steps)
    }
}

#[test]
fn streaming_allocates_nothing() {
    for shipped in Shipped::ALL {
        let mut session = Session::new(shipped);
        let before = CALLS.with(Cell::get);
        let steps = session.run();
        let calls = CALLS.with(Cell::get) - before;
        assert_eq!(calls, 0, "{shipped:?}");
        assert!(steps.unwrap() > 20 * session.seconds);
        // The counter counts.
        drop(session);
        assert!(CALLS.with(Cell::get) > before);
    }
}

/// Under seccomp's strict mode the kernel kills whoever does anything but read, write and exit.
#[cfg(target_os = "linux")]
#[test]
fn streaming_makes_no_system_call() {
    Shipped::ALL.into_iter().for_each(stream_where_system_calls_kill);
}

#[cfg(target_os = "linux")]
fn stream_where_system_calls_kill(shipped: Shipped) {
    use std::io::Read;
    use std::os::fd::FromRawFd;

    const REFUSED: u8 = 1;
    let mut session = Session::new(shipped);
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for both ends.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child runs on this thread's copy alone and calls nothing but the engine and the system
    // calls below: nothing that another thread's lock could be needed for.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: plain system calls; `report` is 9 bytes. The raw `exit`, since the C library's would
        // call `exit_group`, which is not allowed.
        unsafe {
            let strict =
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT as libc::c_ulong);
            let steps = if strict == 0 { session.run().unwrap_or(0) } else { 0 };
            let mut report = [0; 9];
            report[..8].copy_from_slice(&steps.to_le_bytes());
            report[8] = if strict == 0 { 0 } else { REFUSED };
            libc::write(ends[1], report.as_ptr().cast(), 9);
            libc::syscall(libc::SYS_exit, 0);
        }
        unreachable!("the child has exited");
    }
    // SAFETY: both ends are ours and open; the one for writing is the child's alone from here on.
    let mut from_child = unsafe {
        libc::close(ends[1]);
        std::fs::File::from_raw_fd(ends[0])
    };
    let mut report = Vec::new();
    from_child.read_to_end(&mut report).unwrap();
    let mut status = 0;
    // SAFETY: `child` is our child and has not been waited for.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(
        libc::WIFEXITED(status) && report.len() == 9,
        "the child was killed: a system call was made (status {status:#x})"
    );
    if report[8] == REFUSED {
        println!("skipped: this kernel does not allow seccomp's strict mode");
        return;
    }
    let steps = usize::from_le_bytes(report[..8].try_into().unwrap());
    assert!(steps > 20 * session.seconds, "{steps}");
}

#[test]
fn a_prior_allocates_nothing_once_it_is_made() {
    let model = Model::shipped().unwrap();
    let prior = support::prior(&support::small_prior(&model), 1, 1.0);
    let mut state = PriorState::new(&prior, 4).unwrap();
    let before = CALLS.with(Cell::get);
    let mut sum = 0.0;
    for code in 0..300 {
        sum += state.scores().iter().sum::<f32>();
        let refused = state.push(u16::MAX);
        let taken = state.push(code);
        if refused.is_ok() || taken.is_err() {
            sum = f32::NAN;
        }
        if code == 150 {
            state.reset();
        }
    }
    let calls = CALLS.with(Cell::get) - before;
    assert_eq!(calls, 0);
    assert!(sum.is_finite());
}
