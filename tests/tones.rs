//! What the shipped model makes of sounds so plain that any fault shows: tones keep pitch and level, silence
//! stays silent.
#![cfg(feature = "embedded-model")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::f64::consts::TAU;
use std::io::Cursor;
use std::path::Path;

use rustfft::num_complex::Complex;
use tessera_codec::audio;
use tessera_codec::bitstream::ContainerReader;
use tessera_codec::engine::Model;
use tessera_codec::files::{self, Encoding};
use tessera_codec::lines::Selection;
use tessera_codec::metrics::mel_distance;

use support::{Random, Signal};

mod support;

const RATE: f64 = 48_000.0;

/// The channels coded as a file, and decoded.
fn coded(model: &Model, encoding: impl Into<Encoding>, channels: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut source = Signal::new(RATE as u32, channels.to_vec());
    let (tsr, _) = files::encode(model, &mut source, encoding, Vec::new(), &mut |_| {}).unwrap();
    let mut reader = ContainerReader::open(Cursor::new(tsr)).unwrap();
    let mut out = vec![Vec::new(); channels.len()];
    let mut take = |block: &[Vec<f32>]| {
        out.iter_mut().zip(block).for_each(|(all, new)| all.extend_from_slice(new));
        Ok(())
    };
    files::decode(model, &mut reader, &mut take, &mut |_| {}).unwrap();
    out
}

fn tone(hertz: f64, amplitude: f64, samples: usize) -> Vec<f32> {
    (0..samples).map(|n| (amplitude * (TAU * hertz * n as f64 / RATE).sin()) as f32).collect()
}

/// How much there is of a frequency through a Hann window, in dB of the amplitude.
fn level(sound: &[f32], hertz: f64) -> f64 {
    let turn = |hertz: f64| Complex::from_polar(1.0, TAU * hertz / RATE);
    let (speeds, window_speed) = (turn(hertz), turn(RATE / sound.len() as f64));
    let (mut place, mut window) = (Complex::new(1.0, 0.0), Complex::new(1.0, 0.0));
    let mut sum: Complex<f64> = Complex::default();
    for sample in sound {
        sum += place * (0.5 - 0.5 * window.re) * f64::from(*sample);
        place *= speeds;
        window *= window_speed;
    }
    // The window's mean is a half.
    20.0 * (4.0 * sum.norm() / sound.len() as f64).log10()
}

/// The frequency within a tenth of a semitone of `hertz` that there is most of, in cents from it, and its level.
fn peak(sound: &[f32], hertz: f64) -> (f64, f64) {
    (-40..=40)
        .map(|quarters| f64::from(quarters) / 4.0)
        .map(|cents| (cents, level(sound, hertz * (cents / 1200.0).exp2())))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap()
}

#[test]
fn tones_keep_their_pitch_and_level() {
    let model = Model::shipped().unwrap();
    let low = [110.0, 220.0, 440.0, 600.0, 660.0, 700.0, 850.0, 880.0, 910.0];
    let high = [1_000.0, 1_234.5, 2_000.0, 4_000.0, 5_555.0, 8_000.0, 12_000.0, 16_000.0];
    for hertz in low.into_iter().chain(high) {
        for (levels, amplitude) in [(5, 0.25), (7, 0.1)] {
            let out = coded(&model, levels, &[tone(hertz, amplitude, 72_000)]);
            // Half a second, when the tone has become steady.
            let (cents, found) = peak(&out[0][36_000..60_000], hertz);
            let off = found - 20.0 * amplitude.log10();
            assert!(off.abs() < 3.0, "{hertz} Hz, {levels} levels: {off:.1} dB");
            assert!(cents.abs() <= 5.0, "{hertz} Hz, {levels} levels: {cents:.1} cents");
        }
    }
}

#[test]
fn a_tone_stays_where_it_is_between_two_channels() {
    // The second begins later, and is softer: what is drawn on both still agrees.
    let model = Model::shipped().unwrap();
    let left = tone(2_500.0, 0.3, 96_000);
    let right = (0..).zip(&left).map(|(n, x)| if n < 24_000 { 0.0 } else { x * 0.5 }).collect();
    let out = coded(&model, 5, &[left, right]);
    let (left, right) = (&out[0][48_000..90_000], &out[1][48_000..90_000]);
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let agreement = product(left, right) / (product(left, left) * product(right, right)).sqrt();
    assert!(agreement > 0.98, "{agreement}");
}

#[test]
fn a_tone_begins_and_ends_when_it_does() {
    let model = Model::shipped().unwrap();
    let mut sound = vec![0.0; 96_000];
    sound[24_000..60_000].copy_from_slice(&tone(1_500.0, 0.25, 36_000));
    let out = &coded(&model, 5, &[sound])[0];
    let loudness = |seconds: f64| level(&out[(seconds * RATE) as usize..][..960], 1_500.0) + 12.0;
    assert!(loudness(0.42) < -30.0 && loudness(1.35) < -30.0, "silence around it");
    assert!(loudness(0.58) > -3.0 && loudness(1.2) > -3.0, "and not within");
}

#[test]
fn a_voice_has_its_partials_where_they_are() {
    let model = Model::shipped().unwrap();
    // Pulses at a pitch that rises and falls between 190 and 210 Hz.
    let mut phase = 0.0;
    let voice: Vec<f32> = (0..120_000)
        .map(|n| {
            phase += (200.0 + 10.0 * (TAU * 0.8 * f64::from(n) / RATE).sin()) / RATE;
            let partial = |k: i32| (TAU * f64::from(k) * phase).cos() / f64::from(k).powf(0.8);
            (0.05 * (1..=25).map(partial).sum::<f64>()) as f32
        })
        .collect();
    // How much louder partials are than what is between them, from 1.1 to 2.3 kHz, in dB.
    let stand_out = |comb: u8| {
        let lines = Some(Selection { most: 0, comb, ..Selection::MANY });
        let out = coded(
            &model,
            Encoding { lines, ..Encoding::of_levels(5) },
            std::slice::from_ref(&voice),
        );
        let mut all = 0.0;
        for window in 5..20 {
            let (first, length) = (window * 4_800, 4_800);
            let middle = (first + length / 2) as f64 / RATE;
            let pitch = 200.0 + 10.0 * (TAU * 0.8 * middle).sin();
            let sound = &out[0][first..][..length];
            let near = |hertz: f64| {
                [-8.0, 0.0, 8.0].map(|by| level(sound, hertz + by)).iter().sum::<f64>()
            };
            let partials =
                (6..11).map(|k| near(f64::from(k) * pitch) - near((f64::from(k) + 0.5) * pitch));
            all += partials.sum::<f64>() / 3.0 / 5.0 / 15.0;
        }
        all
    };
    let (with, without) = (stand_out(3), stand_out(0));
    assert!(with > without + 5.0, "{with} dB with combs, {without} without");
}

#[test]
fn noise_has_no_lines() {
    let model = Model::shipped().unwrap();
    let mut random = Random::new(1);
    let noise = (0..96_000).map(|_| random.draw()).collect();
    let mut source = Signal::new(48_000, vec![noise]);
    let (tsr, _) = files::encode(&model, &mut source, 7, Vec::new(), &mut |_| {}).unwrap();
    let summary = ContainerReader::open(Cursor::new(tsr)).unwrap().summary().unwrap();
    assert!(summary.lines.unwrap() < 0.1, "{:?}", summary.lines);
}

#[test]
fn silence_stays_silent() {
    let model = Model::shipped().unwrap();
    let out = coded(&model, model.levels(), &[vec![0.0; 96_000]]);
    let loudest = out[0].iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    assert!(loudest < 1e-4, "{loudest}");
}

/// The demo's clip, the first channel at the codec's rate, a mel distance with trims and one without.
#[test]
fn trims_bring_what_is_decoded_closer() {
    let model = Model::shipped().unwrap();
    let mut clip = audio::open(Path::new("assets/demo/clip.wav")).unwrap();
    let clip = audio::read_all(clip.as_mut(), 60 * 48_000).unwrap().swap_remove(0);
    for levels in [4, 5, 7] {
        let suiting = Selection::suiting(model.config(), levels);
        assert!(suiting.trim > 0.0);
        let distance = |lines: Selection| {
            let encoding = Encoding { lines: Some(lines), ..Encoding::of_levels(levels) };
            let decoded = coded(&model, encoding, std::slice::from_ref(&clip)).swap_remove(0);
            mel_distance(&clip, &decoded).unwrap()
        };
        let (with, without) = (distance(suiting), distance(Selection { trim: 0.0, ..suiting }));
        assert!(with < 0.98 * without, "{levels} levels: {with} with trims, {without} without");
    }
}
