//! The training set: a folder of audio, decoded once, from which batches of crops are drawn.
//!
//! [`Dataset::open`] brings every file of a folder to one sample rate and 16 bits in one cache
//! file, which is used again as long as the folder stays as it is. [`Dataset::batch`] is a pure
//! function of seed and step, so that a run can go on exactly where it stopped; crops are read from
//! the disk when they are needed, so that the memory does not grow with the hours.

mod build;
mod cache;
mod draw;
mod loader;
mod scan;
mod synthetic;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::audio::AudioError;
use cache::Cache;
use draw::Draw;

pub use loader::BatchLoader;

pub(crate) use draw::{MAX_COUNTED_SECONDS, Rng, Weighted};
pub(crate) use scan::{SourceFile, fingerprint, is_audio, scan, single};

/// Why there is no training set, or no batch.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// The folder cannot be listed.
    #[error("cannot read the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing with the name of an audio file.
    #[error(
        "no audio files in {}; put WAV, FLAC, OGG or MP3 files there, or name another folder",
        path.display()
    )]
    NoAudio {
        /// The folder.
        path: PathBuf,
    },
    /// There are audio files, but none that can be trained on.
    #[error(
        "none of the {} audio files in {} can be used; the first is {}: {reason}",
        count, path.display(), first.display()
    )]
    NoUsableAudio {
        /// The folder.
        path: PathBuf,
        /// How many files there are.
        count: usize,
        /// The first of them.
        first: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache does not fit on the disk.
    #[error(
        "the disk of {} is full: the decoded training set takes about {needed_mib} MiB; free space or \
         name another cache folder", path.display()
    )]
    DiskFull {
        /// The cache folder.
        path: PathBuf,
        /// What the cache needs in all, in MiB.
        needed_mib: u64,
    },
    /// The cache cannot be written or read.
    #[error("cannot use the cache in {}: {source}; delete it or name another folder", path.display())]
    Cache {
        /// The cache file or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An option is out of its range.
    #[error("the training set's option {option} is {value}; {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What works.
        expected: String,
    },
    /// There is just one file, which is trained on.
    #[error("there is no validation set, because {} holds a single usable file", path.display())]
    NoValidation {
        /// The folder.
        path: PathBuf,
    },
    /// The conversion to the training set's rate failed.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The loader's thread is gone.
    #[error("the thread that loads batches has ended; start the training again")]
    LoaderEnded,
}

/// How the training set is made and drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetOptions {
    /// Rate of the crops in Hz.
    pub sample_rate: u32,
    /// Share of the files that is kept for validation, 0..1. Above 0, at least one of two files is.
    pub validation_fraction: f64,
    /// How often a kind (first-level subfolder) is drawn, relative to the others; 1 if not named.
    pub kind_weights: BTreeMap<String, f64>,
    /// Share of the training crops that are made by arithmetic (tones, bands of noise, chords, sweeps,
    /// plain waveforms, clicks) instead of drawn from the folder, 0..=1.
    pub synthetic: f64,
    /// Range of the random gain in dB; it never takes a crop above full scale.
    pub gain_db: (f32, f32),
}

impl Default for DatasetOptions {
    fn default() -> Self {
        Self {
            sample_rate: 48_000,
            validation_fraction: 0.03,
            kind_weights: BTreeMap::new(),
            synthetic: 0.0,
            gain_db: (-12.0, 3.0),
        }
    }
}

/// How far the decoding has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildProgress {
    /// Files decoded or skipped.
    pub files_done: usize,
    /// Files in all.
    pub files: usize,
    /// Bytes written to the cache.
    pub bytes_written: u64,
}

/// What was found in the folder.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetReport {
    /// Usable files.
    pub files: usize,
    /// Of these, kept for validation.
    pub validation_files: usize,
    /// Audio files that cannot be used, and why; paths relative to the folder.
    pub skipped: Vec<(PathBuf, String)>,
    /// Files that are used, but not quite as they should be (cut short, NaN samples).
    pub warnings: Vec<(PathBuf, String)>,
    /// Seconds of audio by kind, validation included; channels are not counted separately.
    pub seconds_by_kind: BTreeMap<String, f64>,
    /// Size of the cache file.
    pub cache_bytes: u64,
    /// Whether a cache from before was used.
    pub reused: bool,
}

/// A training set, ready to be drawn from; shared between threads.
#[derive(Debug)]
pub struct Dataset {
    folder: PathBuf,
    cache: Cache,
    training: Draw,
    validation: Draw,
    sample_rate: u32,
    synthetic: f64,
    gain_db: (f32, f32),
}

impl Dataset {
    /// Opens the audio files below `folder`, in a cache in `cache_dir` (both are folders; the latter
    /// is created). The first time, all files are decoded, on several threads.
    ///
    /// Kinds are the subfolders of `folder`; files directly in it are of kind `"."`. Files of other
    /// types are ignored, audio files that cannot be decoded are reported and left out.
    ///
    /// # Errors
    /// See [`DatasetError`]; each names the folder or option concerned.
    pub fn open(
        folder: &Path,
        cache_dir: &Path,
        options: &DatasetOptions,
        progress: &mut dyn FnMut(BuildProgress),
    ) -> Result<(Self, DatasetReport), DatasetError> {
        check(options)?;
        let files = scan(folder, is_audio)?;
        if files.is_empty() {
            return Err(DatasetError::NoAudio { path: folder.into() });
        }
        std::fs::create_dir_all(cache_dir)
            .map_err(|source| DatasetError::Cache { path: cache_dir.into(), source })?;
        let fingerprint = fingerprint(&files, options.sample_rate);
        let cache_path = cache_dir.join(format!("dataset-{fingerprint}.tscache"));
        let (cache, reused) = match Cache::open(&cache_path) {
            Some(cache) => (cache, true),
            None => {
                build::build(&files, &cache_path, options.sample_rate, progress)?;
                let cache = Cache::open(&cache_path).ok_or_else(|| DatasetError::Cache {
                    path: cache_path.clone(),
                    source: io::Error::other("what was written cannot be read back"),
                })?;
                (cache, false)
            }
        };
        let index = cache.index();
        if index.clips.is_empty() {
            let (first, reason) = index.skipped.first().cloned().unwrap_or_default();
            return Err(DatasetError::NoUsableAudio {
                path: folder.into(),
                count: files.len(),
                first: first.into(),
                reason,
            });
        }
        let clips: Vec<(&str, bool)> =
            index.clips.iter().map(|clip| (clip.path.as_str(), clip.frames > 0)).collect();
        let in_validation = split(&clips, options.validation_fraction);
        let training = Draw::new(&cache, options, |clip| !in_validation[clip])?;
        let validation = Draw::new(&cache, options, |clip| in_validation[clip])?;
        if training.is_empty() {
            return Err(DatasetError::NoUsableAudio {
                path: folder.into(),
                count: files.len(),
                first: index.clips.first().map(|c| c.path.clone().into()).unwrap_or_default(),
                reason: "all kinds of weight above 0 are silent or empty".into(),
            });
        }
        let mut seconds_by_kind = BTreeMap::new();
        for clip in &index.clips {
            *seconds_by_kind.entry(clip.kind.clone()).or_insert(0.0) +=
                clip.frames as f64 / f64::from(options.sample_rate);
        }
        let paths = |list: &[(String, String)]| {
            list.iter().map(|(path, reason)| (path.into(), reason.clone())).collect()
        };
        let report = DatasetReport {
            files: index.clips.len(),
            validation_files: in_validation.iter().filter(|v| **v).count(),
            skipped: paths(&index.skipped),
            warnings: paths(&index.warnings),
            seconds_by_kind,
            cache_bytes: cache.bytes(),
            reused,
        };
        let dataset = Self {
            folder: folder.into(),
            cache,
            training,
            validation,
            sample_rate: options.sample_rate,
            synthetic: options.synthetic,
            gain_db: options.gain_db,
        };
        Ok((dataset, report))
    }

    /// The batch of training step `step`: `batch` crops of `samples` samples, one after the other.
    ///
    /// Every crop is one channel of one file at a random gain; where the file is shorter, zeros
    /// surround it. A share of them is synthetic, if the options ask for it. The result depends on the arguments and the folder alone.
    ///
    /// # Errors
    /// [`DatasetError::Cache`] if the cache cannot be read any more, [`DatasetError::Option`] if
    /// `samples` is 0.
    pub fn batch(
        &self,
        seed: u64,
        step: u64,
        batch: usize,
        samples: usize,
    ) -> Result<Vec<f32>, DatasetError> {
        let rng = Rng::new(seed, step);
        self.crops(&self.training, rng, batch, samples, Some((self.synthetic, self.gain_db)))
    }

    /// Whether [`Dataset::validation_crops`] has anything to give.
    pub fn has_validation(&self) -> bool {
        !self.validation.is_empty()
    }

    /// `count` crops of `samples` samples from the validation files, one after the other, always
    /// the same; drawn as in training, but at their own level.
    ///
    /// # Errors
    /// [`DatasetError::NoValidation`]; otherwise as [`Dataset::batch`].
    pub fn validation_crops(&self, count: usize, samples: usize) -> Result<Vec<f32>, DatasetError> {
        if self.validation.is_empty() {
            return Err(DatasetError::NoValidation { path: self.folder.clone() });
        }
        self.crops(&self.validation, Rng::new(u64::MAX, u64::MAX), count, samples, None)
    }

    fn crops(
        &self,
        draw: &Draw,
        mut rng: Rng,
        count: usize,
        samples: usize,
        varied: Option<(f64, (f32, f32))>,
    ) -> Result<Vec<f32>, DatasetError> {
        if samples == 0 {
            return Err(DatasetError::Option {
                option: "samples",
                value: "0".into(),
                expected: "a crop has at least one sample".into(),
            });
        }
        let mut crops = vec![0.0; count * samples];
        for crop in crops.chunks_exact_mut(samples) {
            // Without a share to make, the numbers drawn are those of a set that cannot.
            if varied.is_some_and(|(share, _)| share > 0.0 && rng.uniform() < share) {
                synthetic::fill(crop, self.sample_rate, &mut rng);
                continue;
            }
            let place = draw.place(&self.cache, samples, &mut rng);
            let sounding = &mut crop[place.offset..place.offset + place.frames];
            self.cache.read(place.clip, place.channel, place.start, sounding)?;
            if let Some((_, (low, high))) = varied {
                let gain = 10f32.powf((low + (high - low) * rng.uniform() as f32) / 20.0);
                let peak = sounding.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
                let gain = if peak * gain > 1.0 { 1.0 / peak } else { gain };
                sounding.iter_mut().for_each(|sample| *sample = (*sample * gain).clamp(-1.0, 1.0));
            }
        }
        Ok(crops)
    }
}

fn check(options: &DatasetOptions) -> Result<(), DatasetError> {
    let error = |option, value: String, expected: &str| {
        Err(DatasetError::Option { option, value, expected: expected.into() })
    };
    if !(8_000..=192_000).contains(&options.sample_rate) {
        let value = options.sample_rate.to_string();
        return error("sample_rate", value, "8000 to 192000 Hz work");
    }
    if !(0.0..1.0).contains(&options.validation_fraction) {
        let value = options.validation_fraction.to_string();
        return error("validation_fraction", value, "it must be at least 0 and below 1");
    }
    if !(0.0..=1.0).contains(&options.synthetic) {
        return error("synthetic", options.synthetic.to_string(), "a share is from 0 to 1");
    }
    let (low, high) = options.gain_db;
    if !(-120.0..=120.0).contains(&low) || !(low..=120.0).contains(&high) {
        return error(
            "gain_db",
            format!("{low} to {high}"),
            "it goes from low to high, within ±120",
        );
    }
    for (kind, weight) in &options.kind_weights {
        if !(0.0..=1e9).contains(weight) {
            return error("kind_weights", format!("{kind}={weight}"), "weights go from 0 to 1e9");
        }
    }
    Ok(())
}

/// Which clips are kept for validation: a share of each kind, told by a hash of the path, so that
/// a file stays on its side when others come and go. Of each clip the path, and whether it holds anything.
pub(crate) fn split(clips: &[(&str, bool)], fraction: f64) -> Vec<bool> {
    let hashes: Vec<f64> = clips.iter().map(|(path, _)| scan::path_hash(path)).collect();
    let mut validation: Vec<bool> = hashes.iter().map(|hash| *hash < fraction).collect();
    let by_hash = |a: &usize, b: &usize| hashes[*a].total_cmp(&hashes[*b]);
    let usable = || (0..clips.len()).filter(|clip| clips[*clip].1);
    if fraction > 0.0 && usable().count() > 1 {
        if !usable().any(|clip| validation[clip]) {
            usable().min_by(by_hash).into_iter().for_each(|clip| validation[clip] = true);
        }
        if usable().all(|clip| validation[clip]) {
            usable().max_by(by_hash).into_iter().for_each(|clip| validation[clip] = false);
        }
    } else {
        validation.fill(false);
    }
    validation
}

#[cfg(test)]
mod tests;
