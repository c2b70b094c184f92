//! What a trained model's weights lack that a configuration has, added so that the model stays what it is.
//!
//! Levels are not here: where they start depends on the sounds that are trained on.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use super::dataset::Dataset;
use super::loops;
use super::trainer::TrainError;
use crate::config::CodecConfig;
use crate::model::{Network, even_noise};
use crate::synthesis::{Head, LOOPS, NOISE, OwnNoise, noise_shape};

/// Adds to `weights`, by name, what `config` has and they have not: what leads bins, noise of the model's own, loops found in the
/// sounds of `dataset`, and blocks, whose random values are those of `seed`.
///
/// # Errors
/// A tensor has no dimensions, or the data or the device fails.
pub fn fit(
    config: &CodecConfig,
    seed: u64,
    dataset: &Dataset,
    weights: &mut BTreeMap<String, Tensor>,
) -> std::result::Result<(), TrainError> {
    lead_nowhere(config, weights)?;
    make_noise_even(config, weights)?;
    if lacks_loops(config, Some(weights)) {
        find_loops(config, seed, dataset, weights)?;
    }
    Ok(add_blocks(config, seed, weights)?)
}

/// Whether loops of `config` are to be found before a run begins, with these weights, by name, or with none.
pub fn lacks_loops(config: &CodecConfig, weights: Option<&BTreeMap<String, Tensor>>) -> bool {
    config.noise_loops > 0 && !weights.is_some_and(|weights| weights.contains_key(LOOPS))
}

/// Puts loops found in the sounds of `dataset` among `weights`, by name, which have the codec's own noise if there is any.
///
/// # Errors
/// The data or the device fails.
pub fn find_loops(
    config: &CodecConfig,
    seed: u64,
    dataset: &Dataset,
    weights: &mut BTreeMap<String, Tensor>,
) -> std::result::Result<(), TrainError> {
    let turns = match weights.get(NOISE) {
        Some(noise) => noise.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?,
        None => Vec::new(),
    };
    weights.insert(LOOPS.into(), loops::find(config, turns, dataset, seed)?);
    Ok(())
}

/// Adds what a head lacks that is to lead bins: zeros, which lead nowhere.
fn lead_nowhere(config: &CodecConfig, weights: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let head = Head::new(config, &OwnNoise::default());
    let (led, outputs) = (2 * head.led, head.outputs());
    for name in ["decoder.head.weight", "decoder.head.bias"] {
        if let Some(tensor) = weights.get_mut(name)
            && led > 0
            && tensor.dim(0)? + led == outputs
        {
            *tensor = tensor.pad_with_zeros(0, 0, led)?;
        }
    }
    Ok(())
}

/// Adds noise of its own to a codec that had white noise, where the configuration has some.
fn make_noise_even(config: &CodecConfig, weights: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let [frames, bins] = noise_shape(config);
    if frames > 0 && !weights.contains_key(NOISE) {
        let turns = Tensor::from_vec(even_noise::turns(config), (frames, bins), &Device::Cpu)?;
        weights.insert(NOISE.into(), turns);
    }
    Ok(())
}

/// Adds blocks that the configuration has and the weights have not. Their gains are zero, so that they change
/// nothing until they have learned something.
fn add_blocks(
    config: &CodecConfig,
    seed: u64,
    weights: &mut BTreeMap<String, Tensor>,
) -> Result<()> {
    let blocks = |part: &'static str, count| (0..count).map(move |i| format!("{part}.blocks.{i}."));
    let mut missing: Vec<String> = blocks("encoder", config.encoder_blocks)
        .chain(blocks("decoder", config.decoder_blocks))
        .collect();
    missing.retain(|block| !weights.keys().any(|name| name.starts_with(block)));
    if missing.is_empty() {
        return Ok(());
    }
    for (name, tensor) in Network::random(config, seed, &Device::Cpu)?.params.snapshot()? {
        if missing.iter().any(|block| name.starts_with(block)) {
            let is_gain = name.ends_with(".gain");
            weights.insert(name, if is_gain { tensor.zeros_like()? } else { tensor });
        }
    }
    Ok(())
}
