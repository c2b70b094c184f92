//! What the plugin is held against.

use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
use tessera_codec::lines::{LineFinder, LinePlayer, Selection};

/// The codec as a file is coded, with its first `levels` levels and the lines that are selected: encode, then decode,
/// with the lag taken out.
pub fn coded(model: &Model, sound: &[f32], levels: usize, selection: Selection) -> Vec<f32> {
    let (per_step, chunk) = (model.codes_per_step(levels), model.chunk_samples());
    let mut encoder = StreamEncoder::new(model);
    let mut codes = vec![0; (sound.len() / chunk + 3) * per_step];
    let done = encoder.process_into(sound, levels, &mut codes).unwrap();
    let rest = encoder.finish(levels, &mut codes[done.produced..]).unwrap();
    codes.truncate(done.produced + rest.produced);
    let mut out = vec![0.0; codes.len() / per_step * chunk];
    let mut lines = Vec::new();
    if let Some(mut finder) = LineFinder::of_codec(model.config(), selection) {
        finder.find(sound, &mut lines);
        finder.find(&vec![0.0; out.len() - sound.len()], &mut lines);
        assert!(lines.iter().any(|lines| lines.iter().count() > 0), "a sound with lines");
    }
    let mut decoder = StreamDecoder::new(model);
    decoder.process_with_lines(&codes, levels, &lines, &mut out).unwrap();
    let mut player = LinePlayer::new(model.config().sample_rate, chunk);
    for (lines, samples) in lines.iter().zip(out.chunks_exact_mut(chunk)) {
        player.play(lines, samples);
    }
    out[decoder.latency_samples()..][..sound.len()].to_vec()
}
