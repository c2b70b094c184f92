//! Streams an audio file through the codec in pieces of random sizes, as a network or a sound card might
//! bring them, and writes what comes out.
//!
//!     cargo run --release --example stream -- assets/demo/clip.wav decoded.wav [LEVELS]
//!
//! The sizes make no difference: run it twice and compare the two files.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use tessera_codec::audio::{self, WavFormat, WavSink, resample_all};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (input, output, levels) = match &arguments[..] {
        [input, output] => (input, output, None),
        [input, output, levels] => (input, output, Some(levels.parse()?)),
        _ => return Err("usage: stream IN.wav OUT.wav [LEVELS]".into()),
    };
    let model = Model::shipped()?;
    let levels = levels.unwrap_or(model.levels());
    let rate = model.config().sample_rate;

    let mut source = audio::open(Path::new(input))?;
    let source_rate = source.info().sample_rate;
    let channels = audio::read_all(&mut *source, 10 * 60 * source_rate as usize)?;
    let mut decoded = Vec::new();
    for channel in &channels {
        decoded.push(stream(&model, levels, &resample_all(channel, source_rate, rate)?)?);
    }

    let mut sink =
        WavSink::create(Path::new(output), rate, decoded.len() as u16, WavFormat::Pcm16, false)?;
    sink.write(&decoded)?;
    sink.finish()?;
    Ok(())
}

/// One channel through encoder and decoder; as many samples come back as go in.
fn stream(model: &Model, levels: usize, sound: &[f32]) -> Result<Vec<f32>, Box<dyn Error>> {
    // Everything is allocated here; the loop below could run on an audio thread, but for `decoded`.
    let mut encoder = StreamEncoder::new(model);
    let mut decoder = StreamDecoder::new(model);
    let mut codes = vec![0; 4 * model.codes_per_step(levels)];
    let mut samples = vec![0.0; 4 * model.chunk_samples()];
    let mut decoded = Vec::with_capacity(sound.len() + 8 * model.chunk_samples());
    let (random, mut rest, mut replaced) = (RandomState::new(), sound, 0);
    while !rest.is_empty() {
        let size = 1 + random.hash_one(rest.len()) as usize % 10_000;
        let piece = &rest[..size.min(rest.len())];
        // Codes of the steps that this piece completes: often none.
        let taken = encoder.process_into(piece, levels, &mut codes)?;
        rest = &rest[taken.consumed..];
        replaced += taken.replaced;
        let given = decoder.process_into(&codes[..taken.produced], levels, &mut samples)?;
        decoded.extend_from_slice(&samples[..given.produced]);
    }
    // The last step is filled up with silence, and enough follows to push all sound out of the decoder.
    let tail = encoder.finish(levels, &mut codes)?;
    let given = decoder.process_into(&codes[..tail.produced], levels, &mut samples)?;
    decoded.extend_from_slice(&samples[..given.produced]);
    if replaced > 0 {
        eprintln!("{replaced} samples were no numbers and are silence now");
    }
    // What comes before the first sample is the decoder's lag.
    decoded.drain(..decoder.latency_samples());
    decoded.truncate(sound.len());
    Ok(decoded)
}
