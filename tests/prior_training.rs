//! Training a prior through the public API: it learns, it goes on exactly where it was stopped, and its
//! tokens are those of the files.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use tessera_codec::audio::{WavFormat, WavSink};
use tessera_codec::codec::{Codec, save_model};
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::engine::Model;
use tessera_codec::files;
use tessera_codec::model::Network;
use tessera_codec::prior::PriorConfig;
use tessera_codec::prior::train::{
    NetworkShape, PriorTrainConfig, PriorTrainer, TokenReport, TokenSet, exportable,
};
use tessera_codec::token_files::{Format, TokenFile};
use tessera_codec::tokens::Tokens;
use tessera_codec::train::Budget;

const CODES: usize = 32;
const PER_STEP: usize = 11;

fn model(folder: &Path, seed: u64) -> Model {
    let config = CodecConfig {
        name: "tiny".into(),
        analysis_window: 960,
        synthesis_window: 960,
        dim: 8,
        encoder_blocks: 1,
        decoder_blocks: 1,
        vq: VqConfig { codebook_size: CODES, ..VqConfig::default() },
        ..CodecConfig::default()
    };
    let network = Network::random(&config, seed, &Device::Cpu).unwrap();
    save_model(folder, &config, &network.params.snapshot().unwrap()).unwrap();
    Model::load(folder).unwrap()
}

fn codebooks(folder: &Path) -> Vec<Tensor> {
    Codec::load(folder).unwrap().codebooks()
}

fn config() -> PriorTrainConfig {
    let mut config = PriorTrainConfig {
        network: NetworkShape {
            embedding: 8,
            dim: 32,
            blocks: 1,
            width: 32,
            steps: 32,
            ..NetworkShape::default()
        },
        batch: 4,
        ..PriorTrainConfig::default()
    };
    config.optimizer.learning_rate = 5e-3;
    config.optimizer.warm_up = 20;
    config.optimizer.average = 0.9;
    config.optimizer.weight_decay = 0.0;
    config
}

fn prior(config: &PriorTrainConfig, model: &Model) -> PriorConfig {
    config.network.prior(model.id_hex(), model.config())
}

/// A file of codes that follow from one another.
fn write_tokens(path: &Path, model: &Model, steps: usize, phase: usize) {
    let codes: Vec<u16> = (0..steps * PER_STEP)
        .map(|at| ((at / PER_STEP + phase) % 5 * 6 + at % PER_STEP * 3) % CODES)
        .map(|code| code as u16)
        .collect();
    let mut header = files::header_of(model, 48_000, 1, 4);
    header.pre_skip = 0;
    header.samples = Some((steps * model.config().samples_per_step()) as u64);
    let mut tokens = Tokens::new(4);
    tokens.extend_steps(&codes, &header.layout);
    let file = TokenFile::new(header, vec![tokens]).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, file.to_bytes(Format::Npz).unwrap()).unwrap();
}

fn open(
    data: &Path,
    run: &Path,
    model: &Model,
    config: &PriorTrainConfig,
) -> (Arc<TokenSet>, TokenReport) {
    std::fs::create_dir_all(run).unwrap();
    let (tokens, report) = TokenSet::open(data, run, model, config, &|_, _| {}).unwrap();
    (Arc::new(tokens), report)
}

fn periodic(folder: &Path, model: &Model) -> Arc<TokenSet> {
    for n in 0..8 {
        write_tokens(&folder.join(format!("data/kind/{n}.wav.npz")), model, 90 + n, n);
    }
    // A file that is shorter than a crop.
    write_tokens(&folder.join("data/kind/short.npz"), model, 7, 2);
    open(&folder.join("data"), &folder.join("run"), model, &config()).0
}

/// The bits a code of a run's steps.
fn run(trainer: &mut PriorTrainer, limit: usize) -> Vec<f64> {
    let mut losses = Vec::new();
    while losses.len() < limit {
        match trainer.step().unwrap() {
            Some(step) => losses.push(step.loss),
            None => break,
        }
    }
    losses
}

#[test]
fn a_tiny_network_learns_what_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), 1);
    let tokens = periodic(folder.path(), &model);
    let config = config();
    let mut trainer = PriorTrainer::new(
        &config,
        &prior(&config, &model),
        Budget::Steps(400),
        tokens,
        &codebooks(folder.path()),
        1,
        &Device::Cpu,
    )
    .unwrap();
    let losses = run(&mut trainer, usize::MAX);
    // At first nothing is known.
    assert!((losses[0] - (CODES as f64).log2()).abs() < 0.5, "{}", losses[0]);
    let validation = trainer.validate().unwrap().unwrap();
    assert_eq!(validation.codes_per_step, [1, 2, 4, 4]);
    // Five phases make the first step dear: 2.3 bits on its first code.
    for levels in 1..=4 {
        let codes: usize = validation.codes_per_step[..levels].iter().sum();
        let bits = validation.bits_per_step(levels) / codes as f64;
        assert!(bits < 0.1, "{bits} bits a code with {levels} levels: {validation:?}");
    }
    assert_eq!(trainer.best().unwrap().validation, validation);
}

#[test]
fn a_resumed_run_has_the_losses_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), 1);
    let tokens = periodic(folder.path(), &model);
    let config = PriorTrainConfig { level_dropout: 0.5, ..config() };
    let prior = prior(&config, &model);
    let (budget, codebooks) = (Budget::Steps(14), codebooks(folder.path()));
    let new = || {
        PriorTrainer::new(&config, &prior, budget, tokens.clone(), &codebooks, 3, &Device::Cpu)
            .unwrap()
    };
    let mut whole = new();
    let mut expected = run(&mut whole, 9);
    whole.validate().unwrap();
    expected.extend(run(&mut whole, usize::MAX));

    let (checkpoint, end) = (folder.path().join("a"), folder.path().join("b"));
    let mut losses = Vec::new();
    let mut trainer = new();
    for stop in [4, 5] {
        losses.extend(run(&mut trainer, stop));
        if stop == 5 {
            trainer.validate().unwrap();
        }
        trainer.save(&checkpoint).unwrap();
        trainer = PriorTrainer::resume(
            &config,
            &prior,
            budget,
            tokens.clone(),
            &checkpoint,
            &Device::Cpu,
        )
        .unwrap();
    }
    losses.extend(run(&mut trainer, usize::MAX));
    assert_eq!(losses, expected);
    // The best weights as well came through: those of step 9, not the last.
    let weights = |trainer: &PriorTrainer| {
        trainer.save(&end).unwrap();
        let (progress, weights) = exportable(&end).unwrap();
        assert_eq!((progress.step, progress.best.unwrap().step), (14, 9));
        weights
            .into_iter()
            .map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap()))
            .collect::<Vec<(String, Vec<f32>)>>()
    };
    assert_eq!(weights(&trainer), weights(&whole));
}

fn write_audio(path: &Path, channels: usize, seconds: f32, hertz: f32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut sink = WavSink::create(path, 48_000, channels as u16, WavFormat::Pcm16, false).unwrap();
    let planar: Vec<Vec<f32>> = (0..channels)
        .map(|channel| {
            let hertz = hertz * (1.0 + channel as f32);
            let sample = |n: usize| {
                let t = n as f32 / 48_000.0;
                0.3 * (std::f32::consts::TAU * hertz * t * (1.0 + 0.3 * t)).sin()
            };
            (0..(seconds * 48_000.0) as usize).map(sample).collect()
        })
        .collect();
    sink.write(&planar).unwrap();
    sink.finish().unwrap();
}

#[test]
fn tokens_of_audio_are_those_of_its_files_and_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), 1);
    let data = folder.path().join("data");
    write_audio(&data.join("music/a.wav"), 2, 0.7, 220.0);
    write_audio(&data.join("music/b.wav"), 1, 1.3, 330.0);
    write_audio(&data.join("speech/c.wav"), 1, 0.9, 150.0);
    std::fs::write(data.join("speech/broken.wav"), "RIFF").unwrap();
    let config = PriorTrainConfig { gains_db: vec![0.0, 0.0], ..config() };
    let run = folder.path().join("run");
    let (tokens, report) = open(&data, &run, &model, &config);
    assert_eq!((report.files, report.validation_files, report.skipped.len()), (3, 1, 1));
    assert!(!report.reused);
    assert_eq!(report.seconds_by_kind.keys().collect::<Vec<_>>(), ["music", "speech"]);

    // What `tessera tokens` would make of the same files, the second gain hearing the second channel.
    let mut expected = Vec::new();
    for name in ["music/a.wav", "music/b.wav", "speech/c.wav"] {
        let mut source = tessera_codec::audio::open(&data.join(name)).unwrap();
        let (tsr, _) = files::encode(&model, source.as_mut(), 4, Vec::new(), &mut |_| {}).unwrap();
        let mut reader =
            tessera_codec::bitstream::ContainerReader::open(std::io::Cursor::new(tsr)).unwrap();
        let file = TokenFile::from_tsr(&mut reader, 4).unwrap();
        for gain in 0..2 {
            let tokens = &file.channels()[gain % file.channels().len()];
            let mut codes = Vec::new();
            tokens.append_steps_to(&mut codes, &file.header().layout);
            expected.push(codes);
        }
    }
    let mut found: Vec<Vec<u16>> = tokens.training().map(<[u16]>::to_vec).collect();
    let held_out = tokens.validation(1000);
    assert_eq!(held_out.len(), 1);
    assert!(held_out[0].before.is_none());
    assert_eq!(found.len(), 4);
    found.push(held_out[0].codes.to_vec());
    for codes in &found {
        assert!(expected.contains(codes));
    }

    let (again, report) = open(&data, &run, &model, &config);
    assert!(report.reused);
    assert_eq!(again.crops(5, 7, 6, 10), tokens.crops(5, 7, 6, 10));
    assert_ne!(tokens.crops(5, 8, 6, 10), tokens.crops(5, 7, 6, 10));
    // Other gains are other tokens, and so are those of a damaged file.
    let quieter = PriorTrainConfig { gains_db: vec![-6.0], ..config.clone() };
    assert!(!open(&data, &run, &model, &quieter).1.reused);
    assert!(!open(&data, &run, &model, &config).1.reused);
    let kept = run.join("tokens.safetensors");
    let bytes = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, &bytes[..bytes.len() / 2]).unwrap();
    assert!(!open(&data, &run, &model, &config).1.reused);
}

#[test]
fn tokens_of_another_model_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let (ours, theirs) = (model(&ours, 1), model(&theirs, 2));
    let data = folder.path().join("data");
    write_tokens(&data.join("a.npz"), &ours, 5, 0);
    write_tokens(&data.join("b.npz"), &theirs, 5, 0);
    let (_, report) = open(&data, &folder.path().join("run"), &ours, &config());
    assert_eq!((report.files, report.steps), (1, 5));
    assert!(report.skipped[0].1.contains(&theirs.id_hex()), "{:?}", report.skipped);
}
