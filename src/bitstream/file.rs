//! A file that appears under its name only when it is complete.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use thiserror::Error;

/// What to do about a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave it and report [`FileError::Exists`].
    Refuse,
    /// Replace it, once the new one is complete.
    Replace,
}

/// Why a file cannot be created or completed.
#[derive(Debug, Error)]
pub enum FileError {
    /// There is a file of that name.
    #[error("{} exists already: choose another name or ask for it to be overwritten", .0.display())]
    Exists(PathBuf),
    /// The name is that of a folder or a device, or of nothing.
    #[error("{} is not the name of a file: choose another", .0.display())]
    NotAFile(PathBuf),
    /// The system refused.
    #[error("cannot write {}: {source}; check the folder and the space left", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file being written, under a temporary name in the folder where it is to be.
///
/// [`commit`](Self::commit) moves it to its name in one step, after its bytes are on the disk; dropped
/// before, it is removed. So a program stopped halfway, or a full disk, leaves what was there before.
///
/// ```
/// use std::io::Write;
/// use tessera_codec::bitstream::{FileError, OutputFile, Overwrite};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("take.tsr");
/// let mut file = OutputFile::create(&path, Overwrite::Refuse)?;
/// file.write_all(b"tokens")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"tokens");
/// assert!(matches!(OutputFile::create(&path, Overwrite::Refuse), Err(FileError::Exists(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    overwrite: Overwrite,
    file: BufWriter<NamedTempFile>,
}

impl OutputFile {
    /// Begins a file that is to be at `path`.
    ///
    /// # Errors
    /// [`FileError::Exists`] at once, not after an hour of encoding, when there is one and it is not
    /// to be replaced; [`FileError::NotAFile`] when a folder or a device is there;
    /// [`FileError::Io`] when the folder cannot be written to.
    pub fn create(path: &Path, overwrite: Overwrite) -> Result<Self, FileError> {
        let Some(name) = path.file_name() else {
            return Err(FileError::NotAFile(path.to_owned()));
        };
        match path.metadata() {
            Ok(there) if !there.is_file() => return Err(FileError::NotAFile(path.to_owned())),
            Ok(_) if overwrite == Overwrite::Refuse => {
                return Err(FileError::Exists(path.to_owned()));
            }
            _ => {}
        }
        let mut prefix = OsString::from(".");
        prefix.push(name);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        // A temporary file is its owner's alone by default; this one becomes an ordinary file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder_of(path)).map_err(|source| io_error(path, source))?;
        Ok(Self { path: path.to_owned(), overwrite, file: BufWriter::new(file) })
    }

    /// Makes sure of the bytes written so far and opens the file, still under its temporary name, for
    /// reading them back.
    ///
    /// # Errors
    /// [`FileError::Io`] when the system refuses.
    pub fn read_back(&mut self) -> Result<File, FileError> {
        let path = &self.path;
        self.file.flush().map_err(|source| io_error(path, source))?;
        let file = self.file.get_ref();
        file.as_file().sync_all().map_err(|source| io_error(path, source))?;
        file.reopen().map_err(|source| io_error(path, source))
    }

    /// Makes sure of the bytes and gives the file its name.
    ///
    /// # Errors
    /// [`FileError::Exists`] when a file of that name has come up meanwhile and is not to be replaced;
    /// [`FileError::Io`] when the system refuses. The temporary file is removed in either case.
    pub fn commit(self) -> Result<(), FileError> {
        let path = self.path;
        let file = self.file.into_inner().map_err(|e| io_error(&path, e.into_error()))?;
        file.as_file().sync_all().map_err(|source| io_error(&path, source))?;
        let moved = match self.overwrite {
            Overwrite::Refuse => file.persist_noclobber(&path),
            Overwrite::Replace => file.persist(&path),
        };
        match moved.map_err(|e| e.error) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FileError::Exists(path));
            }
            Err(e) => return Err(io_error(&path, e)),
        }
        // The new name is on the disk when the folder is. Only Unix lets a folder be opened.
        #[cfg(unix)]
        File::open(folder_of(&path))
            .and_then(|folder| folder.sync_all())
            .map_err(|source| io_error(&path, source))?;
        Ok(())
    }
}

/// Replaces the file at `path` by `bytes`: at any moment there is the old file or the new one.
///
/// # Errors
/// As [`OutputFile::create`] and [`OutputFile::commit`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = OutputFile::create(path, Overwrite::Replace)?;
    file.write_all(bytes).map_err(|source| io_error(path, source))?;
    file.commit()
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn io_error(path: &Path, source: io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsr");
        let mut file = OutputFile::create(&path, Overwrite::Refuse).unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        assert!(!path.exists());
        let mut back = Vec::new();
        std::io::Read::read_to_end(&mut file.read_back().unwrap(), &mut back).unwrap();
        assert_eq!(back, [1; 100_000]);
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_is_there_stays_until_the_new_file_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsr");
        fs::write(&path, "old").unwrap();
        let refused = OutputFile::create(&path, Overwrite::Refuse);
        assert!(matches!(refused, Err(FileError::Exists(p)) if p == path));
        let mut file = OutputFile::create(&path, Overwrite::Replace).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a.tsr"]);
    }

    #[test]
    fn a_file_that_comes_up_meanwhile_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsr");
        let file = OutputFile::create(&path, Overwrite::Refuse).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(matches!(file.commit(), Err(FileError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(folder.path()), ["a.tsr"]);
    }

    #[test]
    fn folders_devices_and_missing_folders() {
        let folder = tempfile::tempdir().unwrap();
        let create = |path: &Path| OutputFile::create(path, Overwrite::Replace).unwrap_err();
        assert!(matches!(create(folder.path()), FileError::NotAFile(_)));
        assert!(matches!(create(Path::new("/")), FileError::NotAFile(_)));
        assert!(matches!(create(Path::new("")), FileError::NotAFile(_)));
        assert!(matches!(create(&folder.path().join("no/a.tsr")), FileError::Io { .. }));
        #[cfg(unix)]
        assert!(matches!(create(Path::new("/dev/null")), FileError::NotAFile(_)));
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it_as_any_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("a.tsr"), folder.path().join("b"));
        OutputFile::create(&ours, Overwrite::Refuse).unwrap().commit().unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
