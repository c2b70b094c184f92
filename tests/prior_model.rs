//! The prior in candle and in the engine: the same network, within rounding.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use tessera_codec::prior::network::{Batch, Crop, PriorNetwork, save_prior};
use tessera_codec::prior::{PRIOR_WEIGHTS_FILE, Prior, PriorConfig, PriorState};

/// Small networks, and the default one.
fn configs() -> Vec<PriorConfig> {
    let default = PriorConfig::new("0f".repeat(16), vec![4, 2, 1, 1], 1024);
    let small = PriorConfig {
        codebook_size: 50,
        embedding: 5,
        dim: 19,
        blocks: 2,
        kernel: 3,
        width: 21,
        ..default.clone()
    };
    vec![PriorConfig { strides: vec![6, 3, 2], blocks: 0, ..small.clone() }, small, default]
}

#[test]
fn candle_and_the_engine_agree() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        let network = PriorNetwork::random(&config, 3, &Device::Cpu).unwrap();
        save_prior(folder.path(), &config, &network.params.snapshot().unwrap()).unwrap();
        // As it was saved, in half precision.
        let path = folder.path().join(PRIOR_WEIGHTS_FILE);
        let saved = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let tensors: BTreeMap<String, Tensor> = saved
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap()))
            .collect();
        let network = PriorNetwork::from_tensors(&config, &tensors, &Device::Cpu).unwrap();
        let prior = Prior::load(folder.path()).unwrap();

        let steps = 9;
        let per_step = config.codes_per_step();
        let codes: Vec<u16> = (0..steps * per_step)
            .map(|n| (n * n * 31 + n * 7) % config.codebook_size)
            .map(|code| code as u16)
            .collect();
        for levels in 1..=config.strides.len() {
            let batch = Batch::new(&config, &[Crop { codes: &codes, levels }]).unwrap();
            let expected: Vec<Option<Vec<Vec<f32>>>> = network
                .logits(&batch)
                .unwrap()
                .into_iter()
                .map(|logits| logits.map(|logits| logits.to_vec2().unwrap()))
                .collect();
            let mut rows: Vec<_> = expected.iter().map(|level| level.iter().flatten()).collect();
            let mut state = PriorState::new(&prior, levels).unwrap();
            let (mut difference, mut spread) = (0f32, 0f32);
            for step in codes.chunks(per_step) {
                for code in &step[..prior.codes_per_step(levels)] {
                    let row = rows[state.level()].next().unwrap();
                    for (found, expected) in state.scores().iter().zip(row) {
                        difference = difference.max((found - expected).abs());
                        spread = spread.max(expected.abs());
                    }
                    state.push(*code).unwrap();
                }
            }
            assert!(rows.iter_mut().all(|rows| rows.next().is_none()), "every row was compared");
            assert!(difference < 1e-4 * spread.max(1.0), "{levels}: {difference} of {spread}");
        }
    }
}
