//! An encoder on one thread and a decoder on another, with a ring buffer of codes between them: the shape
//! of a call over a network. Neither thread allocates or locks while it streams.
//!
//!     cargo run --release --example two_threads -- [SECONDS]

use std::thread;

use rtrb::{Consumer, Producer, RingBuffer};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

/// Samples that the sound card brings at a time.
const BLOCK: usize = 256;
/// Steps that fit between the threads.
const STEPS: usize = 8;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let seconds: usize = std::env::args().nth(1).map_or(Ok(10), |a| a.parse())?;
    let model = Model::shipped()?;
    let levels = model.levels();
    let blocks = seconds * model.config().sample_rate as usize / BLOCK;
    let (codes_in, codes_out) = RingBuffer::new(STEPS * model.codes_per_step(levels));

    let encoder = StreamEncoder::new(&model);
    let decoder = StreamDecoder::new(&model);
    let sender = thread::spawn(move || send(encoder, levels, blocks, codes_in));
    let receiver = thread::spawn(move || receive(decoder, levels, codes_out));
    let sent = sender.join().map_err(|_| "the encoder's thread failed")??;
    let (samples, loudest) = receiver.join().map_err(|_| "the decoder's thread failed")??;
    println!("{sent} codes sent, {samples} samples received, the loudest {loudest:.3}");
    Ok(())
}

/// Codes a tone; gives the number of codes.
fn send(
    mut encoder: StreamEncoder,
    levels: usize,
    blocks: usize,
    mut ring: Producer<u16>,
) -> Result<usize, Error> {
    let mut block = [0.0; BLOCK];
    let mut codes = vec![0; 4 * encoder.model().codes_per_step(levels)];
    let mut sent = 0;
    for number in 0..=blocks {
        let done = if number < blocks {
            for (n, sample) in block.iter_mut().enumerate() {
                *sample = 0.3 * ((number * BLOCK + n) as f32 * 0.0576).sin();
            }
            encoder.process_into(&block, levels, &mut codes)?
        } else {
            encoder.finish(levels, &mut codes)?
        };
        for code in &codes[..done.produced] {
            // A live sender would drop what does not fit; this one waits, to show that nothing is lost.
            while ring.push(*code).is_err() {
                thread::yield_now();
            }
        }
        sent += done.produced;
    }
    Ok(sent)
}

/// Decodes until the sender is gone; gives the number of samples and the loudest.
fn receive(
    mut decoder: StreamDecoder,
    levels: usize,
    mut ring: Consumer<u16>,
) -> Result<(usize, f32), Error> {
    let mut codes = vec![0; decoder.model().codes_per_step(levels)];
    let mut samples = vec![0.0; decoder.chunk_samples()];
    let (mut received, mut loudest) = (0, 0.0f32);
    loop {
        // Asked first: what was sent before the sender went is still to be read.
        let gone = ring.is_abandoned();
        if ring.slots() >= codes.len() {
            for code in &mut codes {
                *code = ring.pop()?;
            }
            let done = decoder.process_into(&codes, levels, &mut samples)?;
            received += done.produced;
            loudest = samples.iter().fold(loudest, |most, s| most.max(s.abs()));
        } else if gone {
            return Ok((received, loudest));
        } else {
            thread::yield_now();
        }
    }
}
