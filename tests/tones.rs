//! What the shipped model makes of sounds so plain that any fault shows: tones keep pitch and level, silence
//! stays silent.
#![cfg(feature = "embedded-model")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::f64::consts::TAU;

use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

const RATE: f64 = 48_000.0;
/// A tenth of a second.
const STRETCH: usize = 4_800;

/// Coded with all levels and decoded, in its place in time.
fn coded(model: &Model, sound: &[f32]) -> Vec<f32> {
    let levels = model.levels();
    let mut encoder = StreamEncoder::new(model);
    let steps = sound.len() / model.chunk_samples() + 3;
    let mut codes = vec![0; steps * model.codes_per_step(levels)];
    let done = encoder.process_into(sound, levels, &mut codes).unwrap();
    let rest = encoder.finish(levels, &mut codes[done.produced..]).unwrap();
    codes.truncate(done.produced + rest.produced);
    let mut decoder = StreamDecoder::new(model);
    let mut out = vec![0.0; steps * model.chunk_samples()];
    decoder.process_into(&codes, levels, &mut out).unwrap();
    out[decoder.latency_samples()..][..sound.len()].to_vec()
}

/// Amplitude and phase in turns of what `sound`, which begins at sample `from`, has of a frequency.
fn component(sound: &[f32], from: usize, hertz: f64) -> (f64, f64) {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in sound.iter().enumerate() {
        let angle = TAU * hertz * (from + n) as f64 / RATE;
        re += f64::from(*sample) * angle.cos();
        im -= f64::from(*sample) * angle.sin();
    }
    (2.0 * re.hypot(im) / sound.len() as f64, im.atan2(re) / TAU)
}

#[test]
fn tones_with_coded_phases_keep_their_pitch_and_level() {
    let model = Model::shipped().unwrap();
    // Tones next to the highest coded phase lose level: few codes are spent on them (docs/training.md).
    for (hertz, most) in [(110.0, 3.0), (220.0, 3.0), (440.0, 3.0), (880.0, 12.0)] {
        let tone: Vec<f32> =
            (0..96_000).map(|n| (0.25 * (TAU * hertz * n as f64 / RATE).sin()) as f32).collect();
        let out = coded(&model, &tone);
        // The second second, when the tone has become steady.
        let parts: Vec<(f64, f64)> = (10..20)
            .map(|i| i * STRETCH)
            .map(|from| component(&out[from..from + STRETCH], from, hertz))
            .collect();
        let level = parts.iter().map(|part| part.0).sum::<f64>() / parts.len() as f64;
        let decibels = 20.0 * (level / 0.25).log10();
        assert!(decibels.abs() < most, "{hertz} Hz: {decibels:.1} dB");
        // What the phase gains from one stretch to the next is what the pitch is off.
        let turns: f64 =
            parts.windows(2).map(|two| two[1].1 - two[0].1).map(|d| d - d.round()).sum();
        let off = turns / (parts.len() - 1) as f64 * RATE / STRETCH as f64;
        let cents = 1200.0 * (1.0 + off / hertz).log2();
        assert!(cents.abs() < 5.0, "{hertz} Hz: {cents:.1} cents");
    }
}

#[test]
fn silence_stays_silent() {
    let model = Model::shipped().unwrap();
    let out = coded(&model, &vec![0.0; 96_000]);
    let loudest = out.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    assert!(loudest < 1e-4, "{loudest}");
}
