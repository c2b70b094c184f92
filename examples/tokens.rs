//! Audio to tokens and back, in memory.
//!
//!     cargo run --release --example tokens -- assets/clip.wav decoded.wav
//!
//! Prints the first tokens of each level and writes what they sound like.

use std::error::Error;
use std::path::Path;

use tessera_codec::audio::{self, WavFormat, WavSink, resample_all};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
use tessera_codec::tokens::Tokens;

/// Steps coded at once: more are faster, and give the same tokens.
const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &arguments[..] else {
        return Err("usage: tokens IN.wav OUT.wav".into());
    };

    let model = Model::shipped()?;
    let (rate, levels) = (model.config().sample_rate, model.levels());

    let mut source = audio::open(Path::new(input))?;
    let source_rate = source.info().sample_rate;
    let mut decoded = Vec::new();
    for channel in audio::read_all(&mut *source, 10 * 60 * source_rate as usize)? {
        // Samples at the rate the codec works at.
        let samples = resample_all(&channel, source_rate, rate)?;

        // Samples to codes. The encoder may be given pieces of any size, here everything at once; at
        // the end it gives as many steps as the decoder, whose output lags, needs for the last sample.
        let mut encoder = StreamEncoder::with_batch(&model, BATCH);
        let most = samples.len() / encoder.chunk_samples() + 3;
        let mut codes = vec![0; most * model.codes_per_step(levels)];
        let done = encoder.process_into(&samples, levels, &mut codes)?;
        let tail = encoder.finish(levels, &mut codes[done.produced..])?;
        codes.truncate(done.produced + tail.produced);

        if decoded.is_empty() {
            let mut tokens = Tokens::new(levels);
            tokens.extend_steps(&codes, model.layout());
            print(&tokens, &model);
        }

        // Codes to samples.
        let mut decoder = StreamDecoder::with_batch(&model, BATCH);
        let steps = codes.len() / model.codes_per_step(levels);
        let mut sound = vec![0.0; steps * decoder.chunk_samples()];
        decoder.process_into(&codes, levels, &mut sound)?;
        sound.drain(..decoder.latency_samples());
        sound.truncate(samples.len());
        decoded.push(sound);
    }

    let channels = decoded.len() as u16;
    let mut sink = WavSink::create(Path::new(output), rate, channels, WavFormat::Pcm16, false)?;
    sink.write(&decoded)?;
    sink.finish()?;
    Ok(())
}

/// The first codes of each level.
fn print(tokens: &Tokens, model: &Model) {
    let config = model.config();
    for (level, codes) in tokens.levels.iter().enumerate() {
        let frames = config.sample_rate as f64 / config.hop as f64;
        let per_second = frames / model.layout().strides[level] as f64;
        let first = &codes[..codes.len().min(12)];
        println!("level {}: {per_second:5} tokens a second, first {first:?}", level + 1);
    }
}
