//! The engine against the candle model: the same weights have to give the same codes and samples.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use candle_core::{Device, Tensor};
use support::noise;
#[cfg(feature = "embedded-model")]
use tessera_codec::Shipped;
use tessera_codec::audio;
use tessera_codec::codec::{Codec, save_model};
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
use tessera_codec::model::Network;
use tessera_codec::tokens::Tokens;

/// The most that the two may differ, of full scale.
const TOLERANCE: f32 = 1e-4;

/// A network of random weights with odd sizes, in a folder.
fn random_model(folder: &Path, seed: u64, config: &CodecConfig) -> (Codec, Model) {
    let network = Network::random(config, seed, &Device::Cpu).unwrap();
    save_model(folder, config, &network.params.snapshot().unwrap()).unwrap();
    (Codec::load(folder).unwrap(), Model::load(folder).unwrap())
}

/// Codes of the candle model as the engine orders them.
fn flatten(tokens: &Tokens, model: &Model, levels: usize) -> Vec<u16> {
    let layout = model.layout().prefix(levels);
    let steps = tokens.steps(&layout).unwrap();
    (0..steps)
        .flat_map(|step| {
            let layout = &layout;
            tokens.levels.iter().enumerate().flat_map(move |(level, codes)| {
                let n = layout.codes_per_step(level);
                codes[step * n..(step + 1) * n].iter().copied()
            })
        })
        .collect()
}

/// The share of codes that differ, and the largest difference of the samples that both make of the
/// candle model's codes.
fn compare(codec: &Codec, model: &Model, samples: &[f32], levels: usize) -> (f64, f32) {
    let mut encoder = StreamEncoder::with_batch(model, 16);
    let mut codes =
        vec![0; model.codes_per_step(levels) * (samples.len() / model.chunk_samples() + 3)];
    let done = encoder.process_into(samples, levels, &mut codes).unwrap();
    assert_eq!(done.consumed, samples.len());
    let tail = encoder.finish(levels, &mut codes[done.produced..]).unwrap();
    codes.truncate(done.produced + tail.produced);
    let steps = codes.len() / model.codes_per_step(levels);

    let mut reference = codec.encoder(1, levels);
    let mut tokens = reference.push(&[samples]).unwrap().remove(0);
    let given = tokens.steps(&model.layout().prefix(levels)).unwrap();
    tokens.extend(&reference.finish((steps - given) as u64).unwrap()[0]);
    let expected = flatten(&tokens, model, levels);
    assert_eq!(codes.len(), expected.len());
    let differing = codes.iter().zip(&expected).filter(|(a, b)| a != b).count();

    let mut decoder = StreamDecoder::with_batch(model, 16);
    let lag = decoder.latency_samples();
    let mut ours = vec![0.0; steps * model.chunk_samples()];
    let done = decoder.process_into(&expected, levels, &mut ours).unwrap();
    assert_eq!((done.consumed, done.produced), (expected.len(), ours.len()));
    let theirs = codec.decoder(1).push(&[tokens]).unwrap().remove(0);
    assert_eq!(ours.len() - lag, theirs.len());
    let largest = ours[lag..].iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (differing as f64 / codes.len() as f64, largest)
}

#[test]
fn random_models_agree() {
    let small = CodecConfig {
        hop: 48,
        analysis_window: 192,
        synthesis_window: 96,
        noise_frames: 20,
        led_top: 9000,
        dim: 20,
        encoder_blocks: 2,
        decoder_blocks: 1,
        vq: VqConfig { codebook_size: 70, code_dim: 5, ..VqConfig::default() },
        ..CodecConfig::default()
    };
    let other = CodecConfig {
        hop: 30,
        analysis_window: 30,
        synthesis_window: 120,
        noise_band: [20_000, 90_000],
        dim: 33,
        kernel: 1,
        expansion: 2,
        vq: VqConfig { strides: vec![6, 3, 2], codebook_size: 9, code_dim: 3, normalize: true },
        ..small.clone()
    };
    for (seed, config) in [(1, &small), (2, &other), (3, &small)] {
        let folder = tempfile::tempdir().unwrap();
        let (codec, model) = random_model(folder.path(), seed, config);
        assert_eq!(codec.id(), model.id());
        let samples = noise(seed as u32, 300 * config.hop + 7);
        for levels in 1..=config.levels() {
            let (differing, largest) = compare(&codec, &model, &samples, levels);
            assert!(largest <= TOLERANCE, "seed {seed}, {levels} levels: {largest}");
            assert!(differing <= 0.001, "seed {seed}, {levels} levels: {differing} of the codes");
        }
    }
}

#[cfg(feature = "embedded-model")]
fn first_channel(path: &Path, seconds: usize) -> Vec<f32> {
    let mut source = audio::open(path).unwrap();
    let rate = source.info().sample_rate;
    let channels = audio::read_all(&mut *source, 3600 * rate as usize).unwrap();
    let mut samples = audio::resample_all(&channels[0], rate, 48_000).unwrap();
    samples.truncate(seconds * 48_000);
    samples
}

#[cfg(feature = "embedded-model")]
#[test]
fn the_shipped_models_agree() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/clip.wav");
    let samples = first_channel(&path, 4);
    for shipped in Shipped::ALL {
        let codec = Codec::load_shipped(shipped).unwrap();
        let model = Model::load_shipped(shipped).unwrap();
        let (differing, largest) = compare(&codec, &model, &samples, model.levels());
        let (name, percent) = (shipped.name(), 100.0 * differing);
        println!("{name}: {percent:.4} % of the codes differ, samples by {largest:e} at most");
        assert!(largest <= TOLERANCE, "{name}: {largest}");
        assert!(differing <= 0.001, "{name}: {differing}");
    }
}

/// Over a folder of one's own, and with another shipped model if TESSERA_MODEL names it:
/// `TESSERA_CLIPS=FOLDER cargo test --release --test engine_model -- --ignored --nocapture`.
#[cfg(feature = "embedded-model")]
#[test]
#[ignore = "needs a folder of audio named by TESSERA_CLIPS"]
fn a_shipped_model_agrees_on_a_folder() {
    let folder = std::env::var("TESSERA_CLIPS").unwrap();
    let shipped = std::env::var("TESSERA_MODEL")
        .map_or(Shipped::General, |name| Shipped::from_name(&name).unwrap());
    let codec = Codec::load_shipped(shipped).unwrap();
    let model = Model::load_shipped(shipped).unwrap();
    let (mut worst, mut share, mut files) = (0.0f32, 0.0, 0);
    let mut folders = vec![std::path::PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if audio::open(&path).is_ok() {
                let samples = first_channel(&path, 20);
                let (differing, largest) = compare(&codec, &model, &samples, model.levels());
                println!("{}: {differing:.6} {largest:e}", path.display());
                (worst, share, files) = (worst.max(largest), share + differing, files + 1);
            }
        }
    }
    share /= f64::from(files);
    println!("{files} files: {:.5} % of the codes differ, samples by {worst:e}", 100.0 * share);
    assert!(worst <= TOLERANCE && share <= 0.001);
}

/// Both have to put the same noise into the same frame when they begin in the middle.
#[test]
fn a_stream_can_be_entered_anywhere() {
    let config = CodecConfig {
        hop: 48,
        analysis_window: 96,
        synthesis_window: 192,
        dim: 16,
        ..CodecConfig::default()
    };
    let network = Network::random(&config, 4, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save_model(folder.path(), &config, &network.params.snapshot().unwrap()).unwrap();
    let model = Model::load(folder.path()).unwrap();
    let codes: Vec<u16> = (0..30 * 11).map(|i| (i * 37 % 1024) as u16).collect();
    let chunk = model.chunk_samples();
    let mut whole = vec![0.0; 30 * chunk];
    let mut decoder = StreamDecoder::new(&model);
    decoder.process_into(&codes, 4, &mut whole).unwrap();
    let mut late = vec![0.0; 15 * chunk];
    decoder.reset_at(15);
    decoder.process_into(&codes[15 * 11..], 4, &mut late).unwrap();
    assert_eq!(decoder.next_step(), 30);
    let warm = config.warm_up_steps() * chunk;
    assert_eq!(late[warm..], whole[15 * chunk + warm..]);
    assert_ne!(late[..chunk], whole[15 * chunk..16 * chunk]);

    // The candle decoder takes the frame's number as well.
    let network = Network::from_tensors(
        &config,
        &candle_core::safetensors::load(folder.path().join("weights.safetensors"), &Device::Cpu)
            .unwrap()
            .into_iter()
            .collect(),
        &Device::Cpu,
    )
    .unwrap();
    let per_level: Vec<Tensor> = (0..4)
        .map(|level| {
            let (n, before) = ([1, 2, 4, 4][level], [0, 1, 3, 7][level]);
            let codes: Vec<u32> = (15..30)
                .flat_map(|step| (0..n).map(move |i| step * 11 + before + i))
                .map(|i| codes[i].into())
                .collect();
            let count = codes.len();
            Tensor::from_vec(codes, (1, count), &Device::Cpu).unwrap()
        })
        .collect();
    let latents = network.quantizer.decode(&per_level).unwrap();
    let theirs: Vec<Vec<f32>> =
        network.decoder.forward(&latents, &[60]).unwrap().to_vec2().unwrap();
    let lag = decoder.latency_samples();
    for (a, b) in late[lag..].iter().zip(&theirs[0]) {
        assert!((a - b).abs() <= TOLERANCE, "{a} against {b}");
    }
}
