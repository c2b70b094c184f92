//! The log of a training run: `metrics.csv`, a TensorBoard event file, and curves as PNG.
//!
//! A run that is interrupted and resumed leaves the same CSV as one that went through: on resume at
//! step S the rows after S are cut, and TensorBoard is told to forget its points after S.
//!
//! ```
//! use tessera_codec::train::log::RunLog;
//!
//! let folder = tempfile::tempdir()?;
//! let mut log = RunLog::open(folder.path(), None)?;
//! log.declare(&["loss/mel", "usage/0", "dev/mel"])?; // optional: columns that come later
//! log.scalars(10, &[("loss/mel", 2.5), ("usage/0", 0.125)])?;
//! log.scalars(20, &[("loss/mel", 2.0), ("usage/0", 0.25), ("dev/mel", 1.75)])?;
//! log.flush()?; // before the checkpoint of step 20 is written
//! log.plot_curves()?;
//!
//! let csv = std::fs::read_to_string(folder.path().join("metrics.csv"))?;
//! assert_eq!(csv, "step,loss/mel,usage/0,dev/mel\n10,2.5,0.125,\n20,2,0.25,1.75\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod event;
mod table;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::plot::{self, LineChart, PlotError, Series};
use event::Event;
use table::Table;

/// Why the log could not be opened, written or drawn.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file could not be replaced.
    #[error(transparent)]
    Write(#[from] crate::bitstream::FileError),
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}: {source}; check the folder, its permissions and free space")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A new run was to be logged where another one lies.
    #[error("{path} holds the log of another run: resume that run, or choose an empty folder")]
    Exists {
        /// The metrics.csv that is there.
        path: PathBuf,
    },
    /// A line of metrics.csv is not as this program writes it.
    #[error("line {line} of {path} {problem}: repair the line, or move the file away and resume")]
    Malformed {
        /// The metrics.csv.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A scalar has a name for which the table has no column.
    #[error(
        "{path} has no column {column:?} (it has: {known}): declare every column before the first row, \
         or resume with the program that began the run"
    )]
    UnknownColumn {
        /// The metrics.csv.
        path: PathBuf,
        /// The name.
        column: String,
        /// The names of the columns.
        known: String,
    },
    /// A name cannot be a column.
    #[error(
        "{column:?} cannot be a column's name: names are unique, not empty, not \"step\", and without \
         commas, quotes and control characters"
    )]
    BadColumn {
        /// The name.
        column: String,
    },
    /// A curve could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

impl LogError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

/// Writes the log of one run into a folder.
#[derive(Debug)]
pub struct RunLog {
    folder: PathBuf,
    table: Table,
    events: BufWriter<File>,
    events_path: PathBuf,
}

impl RunLog {
    /// Opens the log in `folder`, which is made if it is not there.
    ///
    /// With `resume_step` `None` a new run begins. With `Some(step)` the run goes on after `step`: the
    /// columns are read back from `metrics.csv` and its later rows are cut; without that file it
    /// begins anew. A last line that was cut short by a crash is dropped.
    ///
    /// # Errors
    /// [`LogError::Exists`] for a new run in a folder with a `metrics.csv`, [`LogError::Malformed`] if
    /// the one to go on with is damaged, [`LogError::Io`].
    pub fn open(folder: &Path, resume_step: Option<u64>) -> Result<Self, LogError> {
        fs::create_dir_all(folder).map_err(LogError::io("create the folder", folder))?;
        let table = Table::open(&folder.join("metrics.csv"), resume_step)?;
        let (events_path, events) = create_events(folder)?;
        let mut log = Self {
            folder: folder.to_path_buf(),
            table,
            events: BufWriter::new(events),
            events_path,
        };
        log.event(0, &Event::FileVersion)?;
        if let Some(step) = resume_step {
            log.event(step.saturating_add(1), &Event::SessionStart)?;
        }
        Ok(log)
    }

    /// Sets the columns before the first row, so that some may come later than others.
    ///
    /// Where there are columns already, on resume, it only checks that these are among them.
    ///
    /// # Errors
    /// [`LogError::UnknownColumn`], [`LogError::BadColumn`], [`LogError::Io`].
    pub fn declare(&mut self, columns: &[&str]) -> Result<(), LogError> {
        self.table.declare(columns)
    }

    /// Logs values of a step: a row of the CSV and points in TensorBoard.
    ///
    /// The first row sets the columns unless [`RunLog::declare`] has; later rows may leave some out, in
    /// any order. So that a resumed run's CSV is the same, log nothing here that depends on the clock.
    ///
    /// # Errors
    /// [`LogError::UnknownColumn`], [`LogError::BadColumn`] (also for a name given twice),
    /// [`LogError::Io`].
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), LogError> {
        self.table.append(step, values)?;
        self.event(step, &Event::Scalars(values))
    }

    /// Logs a PNG image of `width` x `height` pixels, for TensorBoard only.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn image(
        &mut self,
        step: u64,
        tag: &str,
        png: &[u8],
        width: u32,
        height: u32,
    ) -> Result<(), LogError> {
        self.event(step, &Event::Image { tag, png, width, height })
    }

    /// Brings everything onto the disk. Call it *before* a checkpoint is written: a run that resumes
    /// from the checkpoint then finds all rows up to it.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.table.flush()?;
        self.events
            .flush()
            .and_then(|()| self.events.get_ref().sync_data())
            .map_err(LogError::io("write", &self.events_path))
    }

    /// Redraws `loss.png` and `usage.png` beside the CSV, from all its rows.
    ///
    /// A column belongs to a picture if one of the words of its name is "loss" or "usage", as in
    /// `loss/mel`, `train_loss` or `usage/0`. Losses have a logarithmic axis; usages are shares, 0..=1.
    /// A picture without columns is not drawn.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Malformed`], [`LogError::Plot`].
    pub fn plot_curves(&mut self) -> Result<(), LogError> {
        self.table.flush_buffer()?;
        let columns = self.table.read()?;
        let chart = |word: &str| LineChart {
            x_title: "step".into(),
            series: columns.iter().filter(|series| has_word(&series.name, word)).cloned().collect(),
            ..LineChart::default()
        };
        let loss = LineChart {
            title: "Loss".into(),
            y_title: "loss".into(),
            log_y: true,
            smooth: true,
            ..chart("loss")
        };
        let usage = LineChart {
            title: "Codes in use".into(),
            y_title: "share of the codebook".into(),
            y_range: Some((0.0, 1.0)),
            ..chart("usage")
        };
        for (chart, name) in [(loss, "loss.png"), (usage, "usage.png")] {
            if !chart.series.is_empty() {
                plot::line_chart(&chart, &self.folder.join(name))?;
            }
        }
        Ok(())
    }

    fn event(&mut self, step: u64, event: &Event<'_>) -> Result<(), LogError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = event::record(&event.encode(now.as_secs_f64(), step));
        self.events.write_all(&record).map_err(LogError::io("write", &self.events_path))
    }
}

/// A new event file whose name sorts after the older ones': TensorBoard reads them in that order.
fn create_events(folder: &Path) -> Result<(PathBuf, File), LogError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut number = 0u32;
    loop {
        let path = folder.join(format!("events.out.tfevents.{now:010}.tessera.{number:04}"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            // A run that was resumed within the same second.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && number < 9999 => number += 1,
            Err(e) => return Err(LogError::io("create", &path)(e)),
        }
    }
}

fn has_word(name: &str, word: &str) -> bool {
    name.split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
}

/// A column as points (step, value), without its empty cells.
type Column = Series;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(log: &mut RunLog, step: u64) {
        let step_f = step as f64;
        let values = [("loss/mel", 3.0 / step_f), ("usage/0", step_f / 100.0)];
        log.scalars(step, &values).unwrap();
    }

    fn csv(folder: &Path) -> String {
        fs::read_to_string(folder.join("metrics.csv")).unwrap()
    }

    #[test]
    fn a_resumed_run_leaves_the_same_table() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = RunLog::open(whole.path(), None).unwrap();
        (1..=40).for_each(|step| row(&mut log, step));
        log.flush().unwrap();

        let mut log = RunLog::open(parts.path(), None).unwrap();
        (1..=25).for_each(|step| row(&mut log, step)); // beyond the checkpoint of step 20
        log.flush().unwrap();
        drop(log);
        // The crash tears the last line.
        let torn = csv(parts.path());
        fs::write(parts.path().join("metrics.csv"), &torn[..torn.len() - 3]).unwrap();
        let mut log = RunLog::open(parts.path(), Some(20)).unwrap();
        (21..=40).for_each(|step| row(&mut log, step));
        log.flush().unwrap();
        assert_eq!(csv(parts.path()), csv(whole.path()));
    }

    #[test]
    fn a_new_run_does_not_overwrite_another() {
        let folder = tempfile::tempdir().unwrap();
        row(&mut RunLog::open(folder.path(), None).unwrap(), 1);
        assert!(matches!(RunLog::open(folder.path(), None), Err(LogError::Exists { .. })));
    }

    #[test]
    fn curves_are_drawn_for_the_columns_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(folder.path(), None).unwrap();
        log.plot_curves().unwrap(); // nothing yet
        log.scalars(1, &[("train_loss", 1.0), ("lossless", 1.0)]).unwrap();
        log.plot_curves().unwrap();
        assert!(folder.path().join("loss.png").exists());
        assert!(!folder.path().join("usage.png").exists());
    }

    #[test]
    fn the_event_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(folder.path(), Some(0)).unwrap();
        log.scalars(7, &[("loss/mel", 1.5), ("usage/0", 0.25)]).unwrap();
        log.image(300, "dev/spectrogram", b"not really a PNG", 900, 400).unwrap();
        log.flush().unwrap();
        let bytes = fs::read(&log.events_path).unwrap();
        let events = event::tests::parse(&bytes);
        let text: Vec<String> = events.iter().map(|e| format!("{e:?}")).collect();
        assert_eq!(
            text,
            [
                "step 0 version brain.Event:2",
                "step 1 session start",
                "step 7 loss/mel=1.5 usage/0=0.25",
                "step 300 dev/spectrogram=900x400 16 bytes",
            ]
        );
    }
}
