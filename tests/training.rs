//! Training through the public API: it learns, its quantizer matters, and it goes on exactly where it
//! was stopped.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use tessera_codec::audio::{WavFormat, WavSink};
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::model::Choice;
use tessera_codec::model::ops::{Precision, Resolution, SpectralWeights};
use tessera_codec::train::adversarial::{
    AdversarialConfig, Balance, DiscriminatorConfig, StftDiscriminatorConfig,
};
use tessera_codec::train::config::{Update, VqTraining};
use tessera_codec::train::dataset::{Dataset, DatasetOptions};
use tessera_codec::train::{Budget, StepReport, TrainConfig, Trainer, exportable};

/// A second of a chord with vibrato: something with partials to learn.
fn write_clip(path: &Path, base: f32) {
    let mut sink = WavSink::create(path, 48_000, 1, WavFormat::Pcm16, false).unwrap();
    let samples: Vec<f32> = (0..96_000)
        .map(|n| {
            let t = n as f32 / 48_000.0;
            let phase = 2.0 * std::f32::consts::PI * base * t + 0.8 * (12.0 * t).sin();
            0.2 * phase.sin() + 0.1 * (2.0 * phase).sin() + 0.07 * (3.01 * phase).sin()
        })
        .collect();
    sink.write(&[samples]).unwrap();
    sink.finish().unwrap();
}

fn dataset(folder: &Path, clips: usize) -> Arc<Dataset> {
    let audio = folder.join("audio/tones");
    std::fs::create_dir_all(&audio).unwrap();
    for i in 0..clips {
        write_clip(&audio.join(format!("{i}.wav")), 180.0 + 60.0 * i as f32);
    }
    let options = DatasetOptions { gain_db: (0.0, 0.0), ..Default::default() };
    let dataset =
        Dataset::open(&folder.join("audio"), &folder.join("cache"), &options, &mut |_| {});
    Arc::new(dataset.unwrap().0)
}

fn config() -> TrainConfig {
    TrainConfig {
        codec: CodecConfig {
            dim: 48,
            expansion: 2,
            encoder_blocks: 1,
            decoder_blocks: 1,
            vq: VqConfig { codebook_size: 64, ..Default::default() },
            ..Default::default()
        },
        batch: 4,
        seconds: 0.32,
        wide: 0.4,
        vq: VqTraining { level_dropout: 0.0, ..Default::default() },
        loss: SpectralWeights { complex_top: 3000.0, ..Default::default() },
        resolutions: vec![vec![
            Resolution { window: 2048, hop: 512, mel_bands: 80, stft: true, gain: 1.0 },
            Resolution { window: 512, hop: 128, mel_bands: 40, stft: true, gain: 1.0 },
        ]],
        ..Default::default()
    }
}

/// The steps of a run, or as many as `limit`.
fn run(trainer: &mut Trainer, limit: usize) -> Vec<StepReport> {
    let mut losses = Vec::new();
    while losses.len() < limit {
        match trainer.step().unwrap() {
            Some(report) => losses.push(report),
            None => break,
        }
    }
    losses
}

#[test]
fn two_hundred_steps_on_one_clip_bring_the_loss_down() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let mut config = config();
    config.optimizer.warm_up = 20;
    config.codec.vq.codebook_size = 256;
    let budget = Budget::Steps(200);
    // How far the phases and magnitudes that come out are from those that went in: the mean of the
    // first and of the last ten steps. Envelopes alone, which need next to no bits, do not help here.
    let distances = |config: &TrainConfig| {
        let trainer = Trainer::new(config, budget, dataset.clone(), 1, &Device::Cpu);
        let steps = run(&mut trainer.unwrap(), usize::MAX);
        let mean = |steps: &[StepReport]| {
            steps.iter().map(|s| s.terms.complex).sum::<f64>() / steps.len() as f64
        };
        (mean(&steps[..10]), mean(&steps[190..]))
    };
    let (start, end) = distances(&config);
    assert!(end < start / 5.0, "from {start} to {end}");

    // Broken on purpose: a quantizer of two codes a level passes too little, and the same run must not
    // get there.
    config.codec.vq.codebook_size = 2;
    let (_, broken) = distances(&config);
    assert!(broken > start / 5.0, "{broken} with a broken quantizer");
}

#[test]
fn every_way_of_quantising_trains() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 2);
    for (choice, update, normalize) in [
        (Choice::Nearest, Update::Ema, true),
        (Choice::Nearest, Update::Gradient, false),
        (Choice::Rotated, Update::Ema, false),
        (
            Choice::Gumbel { temperature: 1.0, final_temperature: Some(0.3) },
            Update::Gradient,
            false,
        ),
    ] {
        let mut config = config();
        config.vq.choice = choice;
        config.vq.update = update;
        config.codec.vq.normalize = normalize;
        config.vq.level_dropout = 0.5;
        config.narrow = 0.2;
        let mut trainer =
            Trainer::new(&config, Budget::Steps(24), dataset.clone(), 2, &Device::Cpu).unwrap();
        let steps = run(&mut trainer, usize::MAX);
        assert_eq!(steps.len(), 24);
        assert!(steps.iter().all(|s| s.loss.is_finite()), "{choice:?}: {steps:?}");
        let validation = trainer.validate(3).unwrap();
        assert_eq!(validation.codes.len(), 4);
        assert_eq!(validation.codes[0].len() * 4, validation.codes[3].len());
    }
}

#[test]
fn a_resumed_run_has_the_losses_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 3);
    let mut config = config();
    config.vq.level_dropout = 0.5;
    let budget = Budget::Steps(20);
    let mut whole = Trainer::new(&config, budget, dataset.clone(), 3, &Device::Cpu).unwrap();
    let losses_of = |steps: Vec<StepReport>| steps.iter().map(|s| s.loss).collect::<Vec<_>>();
    let expected = losses_of(run(&mut whole, usize::MAX));

    // Stopped in the first stage and again in the last.
    let checkpoint = folder.path().join("checkpoint.safetensors");
    let mut losses = Vec::new();
    let mut trainer = Trainer::new(&config, budget, dataset.clone(), 3, &Device::Cpu).unwrap();
    for stop in [5, 9, 6] {
        losses.extend(losses_of(run(&mut trainer, stop)));
        trainer.save(&checkpoint).unwrap();
        trainer =
            Trainer::resume(&config, budget, dataset.clone(), &checkpoint, &Device::Cpu).unwrap();
    }
    assert_eq!(losses, expected);
    assert!(trainer.step().unwrap().is_none());
}

/// Two small discriminators, one a step.
fn adversarial(start: f64) -> AdversarialConfig {
    let stft = |window| {
        DiscriminatorConfig::Stft(StftDiscriminatorConfig {
            window,
            hop: window / 2,
            channels: vec![6, 6],
            ..StftDiscriminatorConfig::default()
        })
    };
    AdversarialConfig {
        start,
        head_start: 2,
        discriminators: vec![stft(1024), stft(256)],
        ..AdversarialConfig::default()
    }
}

#[test]
fn an_adversarial_run_resumes_to_the_same_losses() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 3);
    let mut config = config();
    config.wide = 0.2;
    config.precision = Precision::Bf16;
    // Encoder and codes move as well: the case with the most state.
    config.adversarial = Some(AdversarialConfig { encoder_rate: 0.5, ..adversarial(0.4) });
    let budget = Budget::Steps(20);
    let mut whole = Trainer::new(&config, budget, dataset.clone(), 3, &Device::Cpu).unwrap();
    let values_of = |steps: Vec<StepReport>| -> Vec<_> {
        steps.iter().map(|s| (s.loss, s.gradient, s.adversarial)).collect()
    };
    let expected = values_of(run(&mut whole, usize::MAX));
    let begins = expected.iter().position(|s| s.2.is_some());
    assert_eq!(begins, Some(8), "{expected:?}");
    assert!(expected[19].2.unwrap().feature.is_some(), "{expected:?}");

    // Stopped before the stage, in the head start, and later.
    let checkpoint = folder.path().join("checkpoint.safetensors");
    let mut values = Vec::new();
    let mut trainer = Trainer::new(&config, budget, dataset.clone(), 3, &Device::Cpu).unwrap();
    for stop in [7, 4, 5, 4] {
        values.extend(values_of(run(&mut trainer, stop)));
        trainer.save(&checkpoint).unwrap();
        trainer =
            Trainer::resume(&config, budget, dataset.clone(), &checkpoint, &Device::Cpu).unwrap();
    }
    assert_eq!(values, expected);

    // A checkpoint of other discriminators is refused, not taken for a beginning.
    config.adversarial = Some(AdversarialConfig {
        discriminators: adversarial(0.4).discriminators[..1].to_vec(),
        ..adversarial(0.4)
    });
    let other = Trainer::resume(&config, budget, dataset, &checkpoint, &Device::Cpu);
    assert!(other.err().unwrap().to_string().contains("2 discriminators"));
}

#[test]
fn discriminators_before_their_stage_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 2);
    let losses = |config: &TrainConfig| -> Vec<f64> {
        let trainer = Trainer::new(config, Budget::Steps(16), dataset.clone(), 6, &Device::Cpu);
        run(&mut trainer.unwrap(), usize::MAX).iter().map(|s| s.loss).collect()
    };
    let without = losses(&config());
    let with = losses(&TrainConfig { adversarial: Some(adversarial(0.75)), ..config() });
    assert_eq!(without[..12], with[..12]);
    assert_ne!(without[13..], with[13..]);
}

/// The weights with which a run would go out now, by name.
fn exported(trainer: &Trainer, folder: &Path) -> BTreeMap<String, Tensor> {
    let checkpoint = folder.join("checkpoint.safetensors");
    trainer.save(&checkpoint).unwrap();
    exportable(&checkpoint).unwrap().1
}

/// The weights of a model after some steps of training.
fn trained(
    config: &TrainConfig,
    dataset: &Arc<Dataset>,
    steps: u64,
    folder: &Path,
) -> BTreeMap<String, Tensor> {
    let budget = Budget::Steps(steps);
    let trainer = Trainer::new(config, budget, dataset.clone(), 4, &Device::Cpu);
    let mut trainer = trainer.unwrap();
    run(&mut trainer, usize::MAX);
    exported(&trainer, folder)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_frozen_encoder_keeps_its_weights_and_codes() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let before = trained(&config(), &dataset, 10, folder.path());
    for (balance, encoder_rate) in [(Balance::Gradient, 0.0), (Balance::Fixed, 0.5)] {
        let stage = AdversarialConfig { balance, encoder_rate, ..adversarial(0.0) };
        let config = TrainConfig { adversarial: Some(stage), ..config() };
        let tuned = Trainer::fine_tune(
            &config,
            Budget::Steps(8),
            dataset.clone(),
            5,
            &before,
            &Device::Cpu,
        );
        let mut tuned = tuned.unwrap();
        let steps = run(&mut tuned, usize::MAX);
        let heard = steps[7].adversarial.unwrap();
        assert!(heard.adversarial.is_some_and(f64::is_finite), "{steps:?}");
        assert!(!steps[7].used.is_empty());
        let after = exported(&tuned, folder.path());
        for (name, tensor) in &before {
            let same = values(tensor) == values(&after[name]);
            let stays = encoder_rate == 0.0 && !name.starts_with("decoder.");
            // Biases before a normalisation and the like may well stay; matrices do not.
            assert!(if tensor.rank() > 1 { same == stays } else { same || !stays }, "{name}");
        }
        assert_eq!(before.len(), after.len(), "discriminators are not exported");
    }
}

#[test]
fn sixteen_bit_products_train_alike() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| {
        let mut config = TrainConfig { precision, wide: 1.0, ..config() };
        config.optimizer.warm_up = 10;
        let trainer = Trainer::new(&config, Budget::Steps(40), dataset.clone(), 7, &Device::Cpu);
        run(&mut trainer.unwrap(), usize::MAX)
    });
    let mel = |steps: &[StepReport]| steps[30..].iter().map(|s| s.terms.mel).sum::<f64>() / 10.0;
    let (a, b) = (mel(&exact), mel(&rounded));
    assert!(exact[0].loss != rounded[0].loss && (a - b).abs() < 0.15 * a, "{a} against {b}");
    assert!(b < rounded[0].terms.mel, "{b} from {}", rounded[0].terms.mel);
}

#[test]
fn a_model_is_trained_further_from_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let config = config();
    let first = Trainer::new(&config, Budget::Steps(60), dataset.clone(), 4, &Device::Cpu);
    let mut first = first.unwrap();
    let learned = run(&mut first, usize::MAX);
    let weights = exported(&first, folder.path());
    let further = Trainer::fine_tune(&config, Budget::Steps(4), dataset, 5, &weights, &Device::Cpu);
    let steps = run(&mut further.unwrap(), usize::MAX);
    assert_eq!(steps[0].stage, "quantised");
    // It starts about where the other ended, not where that began.
    let (begin, end) = (learned[0].terms.mel, learned[59].terms.mel);
    assert!(steps[3].terms.mel < 0.5 * (begin + end), "{} of {begin} {end}", steps[3].terms.mel);
}

#[test]
fn levels_are_added_to_a_trained_model() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let mut config = config();
    let before = trained(&config, &dataset, 40, folder.path());
    let added = config.codec.levels();
    config.codec.vq.strides.push(1);
    config.vq.level_dropout = 0.0;
    let tuned = Trainer::fine_tune(&config, Budget::Steps(4), dataset, 5, &before, &Device::Cpu);
    let mut tuned = tuned.unwrap();
    let begun = exported(&tuned, folder.path());
    for (name, tensor) in &before {
        assert_eq!(values(tensor), values(&begun[name]), "{name}");
    }
    assert_eq!(begun.len(), before.len() + 5, "two projections with biases, and codes");
    let steps = run(&mut tuned, usize::MAX);
    assert_eq!(steps[0].stage, "quantised");
    // The new codes lie where the residuals are: most vectors find one of their own.
    let codes =
        config.codec.vq.codebook_size.min(config.batch * config.samples() / config.codec.hop);
    assert!(steps[0].used[added] > codes / 4, "{:?} of {codes}", steps[0].used);
    // An averaged weight that had begun with the random values would still be near them.
    let after = exported(&tuned, folder.path());
    let name = format!("quantizer.{added}.down.weight");
    let (a, b) = (values(&begun[&name]), values(&after[&name]));
    let moved: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f32 = a.iter().map(|a| a.powi(2)).sum();
    assert!(moved < 0.05 * size, "{moved} of {size}");
}

#[test]
fn bins_are_led_in_a_trained_model_and_learn_where_to() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let mut config = config();
    let first = Trainer::new(&config, Budget::Steps(40), dataset.clone(), 4, &Device::Cpu);
    let mut first = first.unwrap();
    assert!(run(&mut first, usize::MAX).iter().all(|step| step.lead.is_none()));
    let before = exported(&first, folder.path());
    config.codec.led_top = 1400;
    config.vq.level_dropout = 0.0;
    config.lead = 5.0;
    let tuned = Trainer::fine_tune(&config, Budget::Steps(80), dataset, 5, &before, &Device::Cpu);
    let mut tuned = tuned.unwrap();
    let begun = exported(&tuned, folder.path());
    for (name, tensor) in &before {
        let begun = values(&begun[name]);
        let (same, added) = begun.split_at(tensor.elem_count());
        assert_eq!(values(tensor), same, "{name}");
        // Two values for each of the sixteen bins of 25 Hz between 1000 and 1400 Hz.
        let rows = if name.starts_with("decoder.head") { 32 } else { 0 };
        let width = if tensor.rank() == 2 { tensor.dim(1).unwrap() } else { 1 };
        assert!(added.len() == rows * width && added.iter().all(|v| *v == 0.0), "{name}");
    }
    let steps = run(&mut tuned, usize::MAX);
    let mean = |steps: &[StepReport]| {
        steps.iter().map(|s| s.lead.unwrap()).sum::<f64>() / steps.len() as f64
    };
    // Nothing known is a distance of one.
    assert!((steps[0].lead.unwrap() - 1.0).abs() < 0.05, "{:?}", steps[0].lead);
    assert!(mean(&steps[70..]) < 0.97, "{}", mean(&steps[70..]));
}

#[test]
fn noise_is_made_even_for_a_trained_model_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let mut config = config();
    let before = trained(&config, &dataset, 4, folder.path());
    assert!(!before.contains_key("decoder.noise"));
    config.codec.noise_frames = 8;
    let tuned = Trainer::fine_tune(&config, Budget::Steps(4), dataset, 5, &before, &Device::Cpu);
    let mut tuned = tuned.unwrap();
    let begun = exported(&tuned, folder.path());
    let noise = &begun["decoder.noise"];
    let shares = config.codec.synthesis_window / 2 + 1;
    let bins = noise.dim(1).unwrap();
    assert!(noise.dim(0).unwrap() == 8 && bins > 0 && bins < shares);
    assert!(values(noise).iter().all(|turn| (0.0..=1.0).contains(turn)));
    assert!(before.iter().all(|(name, tensor)| values(tensor) == values(&begun[name])));
    run(&mut tuned, usize::MAX);
    let after = exported(&tuned, folder.path());
    assert_eq!(values(noise), values(&after["decoder.noise"]));
    assert_ne!(values(&begun["decoder.head.bias"]), values(&after["decoder.head.bias"]));
}

#[test]
fn loops_are_found_for_new_and_trained_models_and_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let mut config = config();
    let before = trained(&config, &dataset, 4, folder.path());
    config.codec.noise_loops = 2;
    let budget = Budget::Steps(4);
    let mut new = Trainer::new(&config, budget, dataset.clone(), 5, &Device::Cpu).unwrap();
    run(&mut new, usize::MAX);
    let new = exported(&new, folder.path());
    let tuned = Trainer::fine_tune(&config, budget, dataset, 5, &before, &Device::Cpu);
    let mut tuned = tuned.unwrap();
    let begun = exported(&tuned, folder.path());
    let loops = &begun["decoder.loops"];
    assert_eq!(loops.dims(), [2, 392, 2]);
    // They come from the sounds, not from the network.
    assert_eq!(values(loops), values(&new["decoder.loops"]));
    assert!(before.iter().all(|(name, tensor)| values(tensor) == values(&begun[name])));
    run(&mut tuned, usize::MAX);
    let after = exported(&tuned, folder.path());
    assert_eq!(values(loops), values(&after["decoder.loops"]));
}

#[test]
fn an_encoder_learns_to_choose_for_a_decoder_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let before = trained(&config(), &dataset, 10, folder.path());
    let held = TrainConfig { hold_decoder: true, ..config() };
    let mut tuned =
        Trainer::fine_tune(&held, Budget::Steps(8), dataset.clone(), 5, &before, &Device::Cpu)
            .unwrap();
    let steps = run(&mut tuned, 4);
    assert!(steps.iter().all(|step| step.gradient > 0.0 && step.commitment > 0.0));
    let path = folder.path().join("checkpoint.safetensors");
    tuned.save(&path).unwrap();
    let resumed = Trainer::resume(&held, Budget::Steps(8), dataset.clone(), &path, &Device::Cpu);
    let mut resumed = resumed.unwrap();
    run(&mut resumed, usize::MAX);
    let after = exported(&resumed, folder.path());
    for (name, tensor) in &before {
        let stays =
            name.starts_with("decoder.") || name.contains(".up.") || name.contains(".codes");
        let same = values(tensor) == values(&after[name]);
        assert!(if tensor.rank() > 1 { same == stays } else { same || !stays }, "{name}");
    }
    // There has to be something to hold.
    let new = Trainer::new(&held, Budget::Steps(8), dataset.clone(), 5, &Device::Cpu);
    assert!(new.err().unwrap().to_string().contains("hold_decoder"));
    let mut more = held;
    more.codec.vq.strides.push(1);
    let grown = Trainer::fine_tune(&more, Budget::Steps(8), dataset, 5, &before, &Device::Cpu);
    assert!(grown.err().unwrap().to_string().contains("hold_decoder"));
}

#[test]
fn blocks_are_added_to_a_trained_model_and_change_nothing_at_first() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 1);
    let base = config();
    let before = trained(&base, &dataset, 10, folder.path());
    let mut larger = config();
    let (encoder, decoder) = (base.codec.encoder_blocks, base.codec.decoder_blocks);
    larger.codec.encoder_blocks += 2;
    larger.codec.decoder_blocks += 1;
    let [mut same, mut grown] = [&base, &larger].map(|config| {
        let budget = Budget::Steps(6);
        Trainer::fine_tune(config, budget, dataset.clone(), 5, &before, &Device::Cpu).unwrap()
    });
    let begun = exported(&grown, folder.path());
    assert!(before.iter().all(|(name, tensor)| values(tensor) == values(&begun[name])));
    assert_eq!(run(&mut same, 1)[0].loss, run(&mut grown, 1)[0].loss);
    run(&mut grown, usize::MAX);
    let after = exported(&grown, folder.path());
    for block in [
        format!("encoder.blocks.{encoder}"),
        format!("encoder.blocks.{}", encoder + 1),
        format!("decoder.blocks.{decoder}"),
    ] {
        let gain = format!("{block}.gain");
        assert!(values(&begun[&gain]).iter().all(|v| *v == 0.0), "{gain}");
        assert!(values(&after[&gain]).iter().any(|v| *v != 0.0), "{gain}");
        assert_ne!(
            values(&begun[&format!("{block}.widen.weight")]),
            values(&after[&format!("{block}.widen.weight")])
        );
    }
}
