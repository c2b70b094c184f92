//! What the plugin is held against.

use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
use tessera_codec::lines::{LineFinder, LinePlayer, Lines, Selection, Trims};

/// The codec as live sound is coded, with its first `levels` levels and what is selected beside them: encode, then decode, with the
/// lag taken out.
pub fn coded(model: &Model, sound: &[f32], levels: usize, selection: Selection) -> Vec<f32> {
    let (per_step, chunk) = (model.codes_per_step(levels), model.chunk_samples());
    let mut encoder = StreamEncoder::new(model);
    let mut codes = vec![0; (sound.len() / chunk + 3) * per_step];
    let done = encoder.process_into(sound, levels, &mut codes).unwrap();
    let rest = encoder.finish(levels, &mut codes[done.produced..]).unwrap();
    codes.truncate(done.produced + rest.produced);
    let mut out = vec![0.0; codes.len() / per_step * chunk];
    let mut finder = LineFinder::of_codec(model.config(), selection)
        .map(|finder| finder.with_trims(model.config()));
    let mut decoder = StreamDecoder::new(model);
    let mut player = LinePlayer::new(model.config().sample_rate, chunk);
    let (mut some, mut trimmed) = (false, false);
    let mut heard = sound.to_vec();
    heard.resize(out.len(), 0.0);
    let steps = heard.chunks_exact(chunk).zip(codes.chunks_exact(per_step));
    for ((heard, codes), made) in steps.zip(out.chunks_exact_mut(chunk)) {
        let mut found = Vec::new();
        finder.iter_mut().for_each(|finder| finder.find(heard, &mut found));
        let lines = found.pop().unwrap_or(Lines::NONE);
        decoder.begin_with_lines(codes, levels, &lines).unwrap();
        decoder.advance(decoder.units_to_trim());
        if let Some(finder) = &mut finder {
            let trims = finder.trims(decoder.powers());
            decoder.trim(trims).unwrap();
            trimmed |= trims != Trims::NONE;
        }
        decoder.advance(usize::MAX);
        decoder.take(made).unwrap();
        player.play(&lines, made);
        some |= lines.iter().count() > 0;
    }
    assert_eq!((some, trimmed), (finder.is_some(), finder.is_some()), "a sound with all of it");
    out[decoder.latency_samples()..][..sound.len()].to_vec()
}
