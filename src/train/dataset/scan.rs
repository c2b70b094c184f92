//! Finding the audio files of a folder.

use std::collections::HashSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::DatasetError;
use super::cache::FORMAT_VERSION;

/// Names of audio files end in one of these; other files are not looked at.
const EXTENSIONS: [&str; 17] = [
    "wav", "wave", "flac", "ogg", "oga", "mp3", "m4a", "aac", "mp4", "alac", "aif", "aiff", "aifc",
    "caf", "mka", "opus", "wma",
];

/// An audio file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the folder, with `/` between the parts.
    pub name: String,
    /// The first part of `name`, or `"."`.
    pub kind: String,
    /// In bytes.
    pub size: u64,
    /// Time of its last change in nanoseconds since 1970; 0 if unknown.
    pub modified: u128,
}

impl SourceFile {
    fn new(path: PathBuf, name: String, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            path,
            kind: name.split_once('/').map_or(".", |(kind, _)| kind).to_owned(),
            name,
            size: metadata.len(),
            modified: modified.map_or(0, |time| time.as_nanos()),
        }
    }
}

/// A file by itself, of kind `"."`.
///
/// # Errors
/// It is not there.
pub(crate) fn single(path: &Path) -> Result<SourceFile, DatasetError> {
    let metadata = std::fs::metadata(path)
        .map_err(|source| DatasetError::Folder { path: path.into(), source })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(SourceFile::new(path.into(), name, &metadata))
}

/// All files below `folder` that are wanted, sorted by name. Links are followed, each folder entered once.
pub(crate) fn scan(
    folder: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<SourceFile>, DatasetError> {
    let mut files = Vec::new();
    let mut entered = HashSet::new();
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        let folder_error = |source| DatasetError::Folder { path: path.clone(), source };
        if !entered.insert(path.canonicalize().map_err(folder_error)?) {
            continue;
        }
        let mut entries = std::fs::read_dir(&path)
            .map_err(folder_error)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(folder_error)?;
        // Which of two links to one folder counts must not depend on the file system.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
        for entry in entries {
            let file_name = entry.file_name();
            let file_name = file_name.to_string_lossy();
            // A dangling link is as good as nothing; hidden files are of no concern to the user.
            let Ok(metadata) = std::fs::metadata(entry.path()) else {
                continue;
            };
            if file_name.starts_with('.') {
                continue;
            }
            let name = if prefix.is_empty() {
                file_name.into_owned()
            } else {
                format!("{prefix}/{file_name}")
            };
            if metadata.is_dir() {
                folders.push((entry.path(), name));
            } else if metadata.is_file() && wanted(&entry.path()) {
                files.push(SourceFile::new(entry.path(), name, &metadata));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Whether a file has the name of audio.
pub(crate) fn is_audio(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Tells whether a cache belongs to these files: 32 hexadecimal digits.
pub(crate) fn fingerprint(files: &[SourceFile], sample_rate: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(FORMAT_VERSION.to_le_bytes());
    hash.update(sample_rate.to_le_bytes());
    for file in files {
        hash.update((file.name.len() as u64).to_le_bytes());
        hash.update(file.name.as_bytes());
        hash.update(file.size.to_le_bytes());
        hash.update(file.modified.to_le_bytes());
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number in 0..1 that depends on the name alone.
pub(super) fn path_hash(name: &str) -> f64 {
    let hash = Sha256::digest(name.as_bytes());
    let bits = hash[..8].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
