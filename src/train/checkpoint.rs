//! A training run on disk: everything needed to go on as if it had never stopped.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bitstream::{FileError, write_atomically};

/// Name of the checkpoint in a run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// Name of the configuration in a run's folder.
pub const CONFIG: &str = "train.json";

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Writing failed; an older checkpoint is still there.
    #[error(transparent)]
    Write(#[from] FileError),
    /// Reading failed.
    #[error("cannot read the checkpoint {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is there but is no checkpoint of ours.
    #[error("{path} is not a checkpoint that can be continued: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps the optimizer counts, for its bias correction.
    pub optimizer_steps: u64,
    /// Seconds spent training, over all sessions.
    pub elapsed: f64,
    /// Stage of the bottleneck: 0 wide, 1 narrow, 2 quantised.
    pub stage: u8,
    /// Seed of the run.
    pub seed: u64,
    /// Steps that each discriminator has learned for; empty without an adversarial stage.
    #[serde(default)]
    pub discriminator_steps: Vec<u64>,
}

impl Progress {
    /// A run that has not begun, with the bottleneck's stage it begins in.
    pub fn start(stage: u8, seed: u64) -> Self {
        Self {
            step: 0,
            optimizer_steps: 0,
            elapsed: 0.0,
            stage,
            seed,
            discriminator_steps: Vec::new(),
        }
    }
}

/// Saves tensors and progress: [`Progress`], or another kind of run's.
///
/// # Errors
/// The folder cannot be written to, or the disk is full; an older checkpoint then stays.
pub fn save<P: Serialize>(
    path: &Path,
    progress: &P,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.into(), reason };
    let text = serde_json::to_string(progress).map_err(|e| damaged(e.to_string()))?;
    let metadata = HashMap::from([("progress".to_string(), text)]);
    let bytes =
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| damaged(e.to_string()))?;
    Ok(write_atomically(path, &bytes)?)
}

/// Loads what [`save`] wrote.
///
/// # Errors
/// The file is missing, unreadable or no checkpoint.
pub fn load<P: DeserializeOwned>(
    path: &Path,
) -> Result<(P, BTreeMap<String, Tensor>), CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.into(), reason };
    let bytes = std::fs::read(path)
        .map_err(|source| CheckpointError::Read { path: path.into(), source })?;
    let (_, metadata) =
        safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let text = metadata.metadata().as_ref().and_then(|m| m.get("progress"));
    let text = text.ok_or_else(|| damaged("it says nothing of its progress".into()))?;
    let progress = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| damaged(e.to_string()))?;
    Ok((progress, tensors.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            step: 7,
            optimizer_steps: 6,
            elapsed: 1.5,
            stage: 2,
            seed: 3,
            discriminator_steps: vec![2, 1],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CHECKPOINT);
        let tensors = BTreeMap::from([(
            "a".to_string(),
            Tensor::new(&[1.0f32, -2.5], &Device::Cpu).unwrap(),
        )]);
        save(&path, &progress(), &tensors).unwrap();
        let (found, loaded) = load::<Progress>(&path).unwrap();
        assert_eq!(found, progress());
        assert_eq!(loaded["a"].to_vec1::<f32>().unwrap(), [1.0, -2.5]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing left over");
    }

    #[test]
    fn a_cut_checkpoint_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CHECKPOINT);
        let tensors =
            BTreeMap::from([("a".to_string(), Tensor::new(&[1.0f32; 64], &Device::Cpu).unwrap())]);
        save(&path, &progress(), &tensors).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for end in [0, 4, 9, 60, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert!(
                matches!(load::<Progress>(&path), Err(CheckpointError::Damaged { .. })),
                "cut at {end}"
            );
        }
    }
}
