//! The tokens a prior learns from, in memory: made once from a folder, kept in one file beside the run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::PriorTrainConfig;
use super::encode;
use crate::bitstream::write_atomically;
use crate::engine::Model;
use crate::token_files::Format;
use crate::train::dataset::{
    DatasetError, DatasetOptions, MAX_COUNTED_SECONDS, Rng, SourceFile, Weighted, fingerprint,
    is_audio, scan, single, split,
};

/// Name of the tokens in a run's folder.
pub const TOKENS_FILE: &str = "tokens.safetensors";
/// Changes whenever the meaning of the file does.
const FORMAT_VERSION: u32 = 1;
/// Steps that are validated with at most: 22 minutes of 25 steps a second.
const MAX_VALIDATION_STEPS: usize = 1 << 15;

/// A file's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Clip {
    /// Path below the folder.
    path: String,
    /// First-level subfolder.
    kind: String,
    /// First step and number of steps of each sequence: channels of a file of tokens, gains of audio.
    sequences: Vec<(usize, usize)>,
}

/// What the file of tokens says beside the codes.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    version: u32,
    /// Tells whether the tokens are those of a folder, a model and gains.
    key: String,
    clips: Vec<Clip>,
    skipped: Vec<(String, String)>,
}

/// What was found in the folder.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenReport {
    /// Usable files.
    pub files: usize,
    /// Of these, kept for validation.
    pub validation_files: usize,
    /// Files that cannot be used, and why; paths relative to the folder.
    pub skipped: Vec<(PathBuf, String)>,
    /// Steps of all sequences, validation included.
    pub steps: usize,
    /// Seconds by kind, validation included; gains and channels are not counted separately.
    pub seconds_by_kind: BTreeMap<String, f64>,
    /// Whether tokens from before were used.
    pub reused: bool,
}

/// Tokens, ready to be drawn from.
#[derive(Debug)]
pub struct TokenSet {
    /// Codes of a step.
    per_step: usize,
    /// Codes of all steps.
    codes: Vec<u16>,
    clips: Vec<Clip>,
    in_validation: Vec<bool>,
    kinds: Weighted,
    /// Clips of the training set by kind.
    by_kind: Vec<Weighted>,
}

/// Consecutive steps of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The codes of the step before, none at the beginning of a sequence.
    pub before: Option<&'a [u16]>,
    /// Codes by step.
    pub codes: &'a [u16],
}

impl TokenSet {
    /// The tokens of the audio below the folder `path`, or of the files of tokens there if there is no audio,
    /// or of the file of tokens `path`. They are kept in `run` (a folder, made if it is not there) and
    /// used again as long as the folder, the model and the gains stay as they are.
    ///
    /// Files are worked on in parallel; `progress` hears how many are done and how many there are. Which
    /// files are kept for validation is decided as in the codec's training.
    ///
    /// # Errors
    /// There is nothing to learn from, or the tokens cannot be written.
    pub fn open(
        path: &Path,
        run: &Path,
        model: &Model,
        config: &PriorTrainConfig,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(Self, TokenReport), DatasetError> {
        let (files, of_tokens) = find(path)?;
        let per_step = model.codes_per_step(model.levels());
        let rate = model.config().sample_rate;
        let key = format!(
            "{} {} {:?}",
            fingerprint(&files, rate),
            model.id_hex(),
            if of_tokens { &[][..] } else { &config.gains_db }
        );
        let kept = run.join(TOKENS_FILE);
        let (index, codes, reused) = match load(&kept, per_step).filter(|(i, _)| i.key == key) {
            Some((index, codes)) => (index, codes, true),
            None => {
                let gains = (!of_tokens).then_some(&config.gains_db[..]);
                let (clips, skipped, codes) = make(&files, model, gains, per_step, progress);
                let index = Index { version: FORMAT_VERSION, key, clips, skipped };
                save(&kept, &index, &codes, per_step)
                    .map_err(|source| DatasetError::Cache { path: kept, source })?;
                (index, codes, false)
            }
        };
        let Index { clips, skipped, .. } = index;
        if clips.is_empty() {
            let (first, reason) = skipped.first().cloned().unwrap_or_default();
            return Err(DatasetError::NoUsableAudio {
                path: path.into(),
                count: files.len(),
                first: first.into(),
                reason,
            });
        }
        let seconds_of = |clip: &Clip| {
            let steps = clip.sequences.first().map_or(0, |(_, steps)| *steps);
            (steps * model.config().samples_per_step()) as f64 / f64::from(rate)
        };
        let mut seconds_by_kind = BTreeMap::new();
        for clip in &clips {
            *seconds_by_kind.entry(clip.kind.clone()).or_insert(0.0) += seconds_of(clip);
        }
        let names: Vec<(&str, bool)> = clips.iter().map(|c| (c.path.as_str(), true)).collect();
        let in_validation = split(&names, DatasetOptions::default().validation_fraction);
        let report = TokenReport {
            files: clips.len(),
            validation_files: in_validation.iter().filter(|v| **v).count(),
            skipped: skipped.into_iter().map(|(path, reason)| (path.into(), reason)).collect(),
            steps: codes.len() / per_step,
            seconds_by_kind,
            reused,
        };
        let (kinds, by_kind) = weigh(&clips, &in_validation, &config.kind_weights, seconds_of)?;
        if by_kind.is_empty() {
            return Err(DatasetError::NoUsableAudio {
                path: path.into(),
                count: files.len(),
                first: clips[0].path.clone().into(),
                reason: "all kinds have weight 0".into(),
            });
        }
        Ok((Self { per_step, codes, clips, in_validation, kinds, by_kind }, report))
    }

    /// The crops of training step `step`: `count` pieces of `steps` steps, or of whole sequences where these
    /// are shorter. The result depends on the arguments and the tokens alone.
    pub fn crops(&self, seed: u64, step: u64, count: usize, steps: usize) -> Vec<&[u16]> {
        let mut rng = Rng::new(seed, step);
        let mut crop = || {
            let clip = &self.clips[self.by_kind[self.kinds.draw(&mut rng)].draw(&mut rng)];
            let sequence = rng.below(clip.sequences.len() as u64) as usize;
            let (first, length) = clip.sequences[sequence];
            let steps = steps.min(length);
            let start = first + rng.below((length - steps) as u64 + 1) as usize;
            self.at(start, steps)
        };
        (0..count).map(|_| crop()).collect()
    }

    /// All sequences of the training files.
    pub fn training(&self) -> impl Iterator<Item = &[u16]> {
        let clips = self.clips.iter().zip(&self.in_validation).filter(|(_, v)| !**v);
        let sequences = clips.flat_map(|(clip, _)| &clip.sequences);
        sequences.map(|(first, steps)| self.at(*first, *steps))
    }

    /// The validation files' first sequences in pieces of at most `steps` steps; of many pieces, some
    /// evenly spread.
    pub fn validation(&self, steps: usize) -> Vec<Piece<'_>> {
        let clips = self.clips.iter().zip(&self.in_validation).filter(|(_, v)| **v);
        let sequences = clips.filter_map(|(clip, _)| clip.sequences.first());
        let pieces: Vec<Piece<'_>> = sequences
            .flat_map(|&(first, length)| {
                (0..length).step_by(steps.max(1)).map(move |start| Piece {
                    before: (start > 0).then(|| self.at(first + start - 1, 1)),
                    codes: self.at(first + start, steps.min(length - start)),
                })
            })
            .collect();
        let most = (MAX_VALIDATION_STEPS / steps.max(1)).max(1);
        let take = pieces.len().min(most);
        (0..take).map(|i| pieces[i * pieces.len() / take]).collect()
    }

    /// Whether there are validation files.
    pub fn has_validation(&self) -> bool {
        self.in_validation.contains(&true)
    }

    fn at(&self, first: usize, steps: usize) -> &[u16] {
        &self.codes[first * self.per_step..(first + steps) * self.per_step]
    }
}

/// The files to make tokens of, and whether they hold tokens already.
fn find(path: &Path) -> Result<(Vec<SourceFile>, bool), DatasetError> {
    if path.is_file() && Format::of_path(path).is_some() {
        return Ok((vec![single(path)?], true));
    }
    let audio = scan(path, is_audio)?;
    if !audio.is_empty() {
        return Ok((audio, false));
    }
    let mut tokens = scan(path, |path| Format::of_path(path).is_some())?;
    if tokens.is_empty() {
        return Err(DatasetError::NoAudio { path: path.into() });
    }
    for file in &mut tokens {
        // The tokens of a.wav are in a.wav.npz, and are on the same side of the split.
        if let Some((name, _)) = file.name.rsplit_once('.') {
            file.name.truncate(name.len());
        }
    }
    Ok((tokens, true))
}

type Made = (Vec<Clip>, Vec<(String, String)>, Vec<u16>);

/// Turns files into sequences; `gains` for audio.
fn make(
    files: &[SourceFile],
    model: &Model,
    gains: Option<&[f64]>,
    per_step: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Made {
    let done = AtomicUsize::new(0);
    let one = |file: &SourceFile| {
        // A decoder of a library that panics on one file must not take the run with it.
        let encode = std::panic::AssertUnwindSafe(|| match gains {
            Some(gains) => encode::audio(model, &file.path, gains),
            None => encode::tokens(model, &file.path),
        });
        let result = match std::panic::catch_unwind(encode) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("its decoder failed; convert it to WAV".to_owned()),
        };
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, files.len());
        result
    };
    // One at a time, since files differ in length by far.
    let results: Vec<_> = files.par_iter().with_max_len(1).map(one).collect();
    let (mut clips, mut skipped, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    for (file, result) in files.iter().zip(results) {
        match result {
            Ok(sequences) => {
                let mut places = Vec::new();
                for sequence in sequences.into_iter().filter(|s| !s.is_empty()) {
                    places.push((codes.len() / per_step, sequence.len() / per_step));
                    codes.extend(sequence);
                }
                let (path, kind) = (file.name.clone(), file.kind.clone());
                clips.push(Clip { path, kind, sequences: places });
            }
            Err(reason) => skipped.push((file.name.clone(), reason)),
        }
    }
    (clips, skipped, codes)
}

/// Kinds count by their weights, clips of a kind by their length, as in the codec's training.
fn weigh(
    clips: &[Clip],
    in_validation: &[bool],
    weights: &BTreeMap<String, f64>,
    seconds_of: impl Fn(&Clip) -> f64,
) -> Result<(Weighted, Vec<Weighted>), DatasetError> {
    let mut found: BTreeMap<&str, Weighted> = BTreeMap::new();
    for (number, clip) in clips.iter().enumerate() {
        let kind = found.entry(&clip.kind).or_default();
        if !in_validation[number] {
            kind.push(number, seconds_of(clip).min(MAX_COUNTED_SECONDS));
        }
    }
    if let Some(unknown) = weights.keys().find(|kind| !found.contains_key(&kind[..])) {
        let kinds: Vec<&str> = found.into_keys().collect();
        return Err(DatasetError::Option {
            option: "kind_weights",
            value: unknown.clone(),
            expected: format!("the folder's kinds are {}", kinds.join(", ")),
        });
    }
    let (mut kinds, mut by_kind) = (Weighted::default(), Vec::new());
    for (kind, clips) in found {
        let weight = weights.get(kind).copied().unwrap_or(1.0);
        if !clips.is_empty() && weight > 0.0 {
            kinds.push(by_kind.len(), weight);
            by_kind.push(clips);
        }
    }
    Ok((kinds, by_kind))
}

fn save(path: &Path, index: &Index, codes: &[u16], per_step: usize) -> std::io::Result<()> {
    let other = |e: &dyn ToString| std::io::Error::other(e.to_string());
    let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
    let shape = vec![codes.len() / per_step, per_step];
    let view = TensorView::new(Dtype::U16, shape, &bytes).map_err(|e| other(&e))?;
    let text = serde_json::to_string(index)?;
    let metadata = HashMap::from([("index".to_owned(), text)]);
    let bytes = safetensors::serialize([("codes", view)], Some(metadata)).map_err(|e| other(&e))?;
    write_atomically(path, &bytes).map_err(|e| other(&e))
}

/// `None` if there are no tokens, or none that are intact.
fn load(path: &Path, per_step: usize) -> Option<(Index, Vec<u16>)> {
    let bytes = std::fs::read(path).ok()?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).ok()?;
    let index: Index = serde_json::from_str(metadata.metadata().as_ref()?.get("index")?).ok()?;
    let tensors = SafeTensors::deserialize(&bytes).ok()?;
    let view = tensors.tensor("codes").ok()?;
    if index.version != FORMAT_VERSION || view.dtype() != Dtype::U16 {
        return None;
    }
    let codes: Vec<u16> =
        view.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let steps = codes.len() / per_step;
    let inside = |(first, length): &(usize, usize)| {
        *length > 0 && first.checked_add(*length).is_some_and(|end| end <= steps)
    };
    let whole =
        index.clips.iter().all(|c| !c.sequences.is_empty() && c.sequences.iter().all(inside));
    whole.then_some((index, codes))
}
