//! The metrics against figures that the project's Python scorer, `shared/eval/score.py`, computed for
//! the same signals (numpy 2.4.6, scipy 1.17.1).
//!
//! Both languages make the signals from the same formulas, 24011 samples in f64 at 48 kHz, t = n / 48000:
//!
//! - noise(seed): s <- (1664525 s + 1013904223) mod 2^32 from s = seed; each s gives s / 2^31 - 1
//! - tone(f): sum over k = 1..=20 of 0.2 / k sin(2 pi f k t)
//! - chirp(f): 0.5 sin(2 pi (f t + 8000 t^2))
//! - decay: exp(-8 t) noise(3)

use std::f64::consts::TAU;

use tessera_codec::metrics::{Meter, fine_structure, mel_distance, si_sdr, stft_distance};

const LEN: usize = 24_011;

fn noise(seed: u32) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) / 2f64.powi(31) - 1.0
    };
    (0..LEN).map(|_| next()).collect()
}

fn signal(f: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..LEN).map(|n| f(n as f64 / 48_000.0)).collect()
}

fn tone(hz: f64) -> Vec<f64> {
    signal(|t| (1..=20).map(f64::from).map(|k| 0.2 / k * (TAU * hz * k * t).sin()).sum())
}

fn chirp(hz: f64) -> Vec<f64> {
    signal(|t| 0.5 * (TAU * (hz * t + 8000.0 * t * t)).sin())
}

/// `gain_a * a + gain_b * b`
fn mix(gain_a: f64, a: &[f64], gain_b: f64, b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| gain_a * a + gain_b * b).collect()
}

fn scaled(gain: f64, a: &[f64]) -> Vec<f64> {
    a.iter().map(|a| gain * a).collect()
}

type Case = (&'static str, Vec<f64>, Vec<f64>, [f64; 4]);

/// Name, reference, decoded, and mel, STFT, SI-SDR and fine structure of score.py. Its fine structure
/// fails on a silent reference; ours is 0 there.
fn cases() -> Vec<Case> {
    let silence = vec![0.0; LEN];
    let envelope = signal(|t| (-8.0 * t).exp());
    let decay: Vec<f64> = envelope.iter().zip(noise(3)).map(|(e, s)| e * s).collect();
    let mut delayed = vec![0.0; 100];
    delayed.extend_from_slice(&decay[..LEN - 100]);
    vec![
        (
            "noise against other, softer noise",
            noise(1),
            scaled(0.5, &noise(2)),
            [2.30323515087, 14.6245112243, -48.3246843571, -0.0182144434053],
        ),
        (
            "tone with noise",
            tone(220.0),
            mix(0.5, &tone(220.0), 0.01, &noise(4)),
            [5.13779533514, 13.0433545508, 23.8102731635, 0.870568459612],
        ),
        (
            "tone a semitone off",
            tone(220.0),
            tone(233.0),
            [2.1290009447, 1.91298482496, -83.2570724362, 0.0742290341424],
        ),
        (
            "tone 20 dB louder",
            tone(220.0),
            mix(10.0, &tone(220.0), 0.01, &noise(6)),
            [8.21005963716, 25.862063535, 49.7662333844, 0.993485954182],
        ),
        (
            "chirp, 1 % off",
            chirp(100.0),
            chirp(101.0),
            [0.0621410924492, 0.0877053523278, -63.9922220777, 0.99337097077],
        ),
        (
            "decaying noise, delayed",
            decay,
            delayed,
            [0.992348445857, 1.78054342756, -45.2390196058, 0.849977703987],
        ),
        (
            "silence against noise",
            silence.clone(),
            scaled(0.001, &noise(5)),
            [4.16787219897, 11.7155400366, -98.9996838888, 0.0],
        ),
        (
            "noise against silence",
            scaled(0.001, &noise(5)),
            silence,
            [4.16787219897, 11.7155400366, 0.0, 0.0],
        ),
        ("noise against itself", noise(1), noise(1), [0.0, 0.0, 159.063528499, 1.0]),
        (
            "shorter than the windows",
            tone(220.0)[..700].to_vec(),
            tone(233.0)[..700].to_vec(),
            [1.13870860439, 1.4839368797, -4.77174653133, 0.101374231918],
        ),
    ]
}

/// Equal to 1e-6 relative, or absolute below 1.
fn assert_close(name: &str, metric: &str, ours: f64, theirs: f64) {
    let error = (ours - theirs).abs() / theirs.abs().max(1.0);
    assert!(error < 1e-6, "{name}: {metric} is {ours}, score.py says {theirs}");
}

#[test]
fn all_metrics_agree_with_the_scorer() {
    let meter = Meter::new();
    for (name, reference, decoded, [mel, stft, sdr, fine]) in cases() {
        let scores = meter.compare(&reference, &decoded).unwrap();
        assert_close(name, "mel", scores.mel, mel);
        assert_close(name, "stft", scores.stft, stft);
        assert_close(name, "si_sdr", scores.si_sdr, sdr);
        assert_close(name, "fine", scores.fine, fine);
    }
}

#[test]
fn one_metric_alone_is_the_same_as_among_all() {
    let (reference, decoded) = (tone(220.0), mix(0.5, &tone(220.0), 0.01, &noise(4)));
    let reference: Vec<f32> = reference.iter().map(|&s| s as f32).collect();
    let decoded: Vec<f32> = decoded.iter().map(|&s| s as f32).collect();
    let scores = Meter::new().compare(&reference, &decoded).unwrap();
    assert_eq!(mel_distance(&reference, &decoded).unwrap(), scores.mel);
    assert_eq!(stft_distance(&reference, &decoded).unwrap(), scores.stft);
    assert_eq!(si_sdr(&reference, &decoded).unwrap(), scores.si_sdr);
    assert_eq!(fine_structure(&reference, &decoded).unwrap(), scores.fine);
}
