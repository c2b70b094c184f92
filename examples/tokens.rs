//! Audio to tokens and back, in memory.
//!
//!     cargo run --release --example tokens -- assets/clip.wav decoded.wav
//!
//! Prints the first tokens of each level and writes what they sound like.

use std::error::Error;
use std::path::Path;

use tessera_codec::audio::{self, WavFormat, WavSink, resample_all};
use tessera_codec::codec::Codec;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &arguments[..] else {
        return Err("usage: tokens IN.wav OUT.wav".into());
    };

    let codec = Codec::shipped()?;
    let config = codec.config();

    // Samples, one vector per channel, at the rate the codec works at.
    let mut source = audio::open(Path::new(input))?;
    let rate = source.info().sample_rate;
    let samples = audio::read_all(&mut *source, 10 * 60 * rate as usize)?
        .iter()
        .map(|channel| resample_all(channel, rate, config.sample_rate))
        .collect::<Result<Vec<_>, _>>()?;
    let (channels, length) = (samples.len(), samples[0].len());

    // Samples to tokens. The encoder may be pushed pieces of any size, here everything at once. The
    // decoder's output lags, so that enough steps are asked for to push out the last samples too.
    let mut encoder = codec.encoder(channels, config.levels());
    let mut decoder = codec.decoder(channels);
    let mut tokens = encoder.push(&samples)?;
    let layout = config.layout();
    let given = tokens[0].steps(&layout).unwrap_or(0);
    let steps = (length + decoder.lag()).div_ceil(config.samples_per_step());
    let rest = encoder.finish((steps - given) as u64)?;
    tokens.iter_mut().zip(&rest).for_each(|(tokens, rest)| tokens.extend(rest));

    for (level, codes) in tokens[0].levels.iter().enumerate() {
        let frames = config.sample_rate as usize / config.hop;
        let per_second = frames as f64 / layout.strides[level] as f64;
        let first = &codes[..codes.len().min(12)];
        println!("level {}: {per_second:5} tokens a second, first {first:?}", level + 1);
    }

    // Tokens to samples.
    let mut decoded = decoder.push(&tokens)?;
    decoded.iter_mut().for_each(|channel| channel.truncate(length));
    let path = Path::new(output);
    let mut sink =
        WavSink::create(path, config.sample_rate, channels as u16, WavFormat::Pcm16, false)?;
    sink.write(&decoded)?;
    sink.finish()?;
    Ok(())
}
