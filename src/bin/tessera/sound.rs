//! Clips that are looked at as a whole: for pictures and figures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tessera_codec::audio::{self, AudioError};

use super::report;

/// The longest clip that is read into memory.
const MAX_SECONDS: u64 = 20 * 60;

/// Names of audio files end in one of these.
const EXTENSIONS: [&str; 14] = [
    "wav", "wave", "flac", "ogg", "oga", "mp3", "m4a", "aac", "mp4", "aif", "aiff", "aifc", "caf",
    "mka",
];

/// A clip in memory.
pub struct Clip {
    /// Samples by channel.
    pub channels: Vec<Vec<f32>>,
    /// Samples per second.
    pub rate: u32,
}

impl Clip {
    /// Reads a file, warning of what is odd about it.
    pub fn read(path: &Path) -> Result<Self> {
        let mut source = audio::open(path)?;
        let info = source.info().clone();
        let most = MAX_SECONDS * u64::from(info.sample_rate);
        let channels =
            audio::read_all(source.as_mut(), usize::try_from(most).unwrap_or(usize::MAX)).map_err(
                |error| match error {
                    AudioError::Unsupported { .. } => anyhow::anyhow!(
                        "{} is longer than {} minutes; cut it into pieces",
                        path.display(),
                        MAX_SECONDS / 60
                    ),
                    other => other.into(),
                },
            )?;
        for warning in source.warnings() {
            report::warn(&format!("{}: {warning}", path.display()));
        }
        Ok(Self { channels, rate: info.sample_rate })
    }

    /// The mean of the channels.
    pub fn mono(&self) -> Vec<f32> {
        mono(&self.channels)
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.channels.first().map_or(0, Vec::len) as f64 / f64::from(self.rate)
    }
}

/// The mean of channels of one length.
pub fn mono(channels: &[Vec<f32>]) -> Vec<f32> {
    let Some((first, others)) = channels.split_first() else { return Vec::new() };
    let mut sum = first.clone();
    for channel in others {
        sum.iter_mut().zip(channel).for_each(|(sum, sample)| *sum += sample);
    }
    let gain = 1.0 / channels.len() as f32;
    sum.iter_mut().for_each(|sample| *sample *= gain);
    sum
}

/// Files by name.
pub type Files = Vec<(String, PathBuf)>;

/// All audio files below a folder with their names relative to it, `/` between the parts, sorted.
/// Hidden files and folders are left out.
pub fn list(folder: &Path) -> Result<Files> {
    list_where(folder, is_audio)
}

/// As [`list`], of the files whose path is `wanted`.
pub fn list_where(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Files> {
    let (found, _) = partition(folder, wanted)?;
    if found.is_empty() {
        bail!("{}", no_audio(folder));
    }
    Ok(found)
}

/// What is said of a folder without audio.
pub fn no_audio(folder: &Path) -> String {
    format!("no audio files in {}; name a folder with WAV, FLAC, OGG or MP3", folder.display())
}

/// All files below a folder, named as by [`list`]: those whose path is `wanted`, and the others.
pub fn partition(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<(Files, Files)> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        let fail = || format!("cannot read the folder {}", path.display());
        for entry in std::fs::read_dir(&path).with_context(fail)? {
            let entry = entry.with_context(fail)?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if file_name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{file_name}");
            // Not through links: they may lead in circles.
            let kind = entry.file_type().with_context(fail)?;
            if kind.is_dir() {
                folders.push((entry.path(), name + "/"));
            } else if entry.path().is_file() {
                let list = if wanted(&entry.path()) { &mut found } else { &mut others };
                list.push((name, entry.path()));
            }
        }
    }
    found.sort();
    others.sort();
    Ok((found, others))
}

/// Whether a file is audio by its name.
pub fn is_audio(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Whether a file holds tokens by its name.
pub fn is_tsr(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsr"))
}

/// Whether a file is a WAV by its name.
pub fn is_wav(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("wav"))
}
