//! `metrics.csv`: a step and one value per column in every row.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Column, LogError};
use crate::bitstream::write_atomically;

/// The table of a run, open for appending.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    file: BufWriter<File>,
    /// Without the step; empty until the header is written.
    columns: Vec<String>,
}

impl Table {
    /// Opens `path`: a new table, or the rows up to `resume_step` of the one that is there.
    pub(super) fn open(path: &Path, resume_step: Option<u64>) -> Result<Self, LogError> {
        let mut columns = Vec::new();
        let mut options = OpenOptions::new();
        match resume_step {
            None => options.write(true).create_new(true),
            Some(step) => {
                match fs::read_to_string(path) {
                    Ok(text) => {
                        let kept = keep(path, &text, step)?;
                        columns = header(path, &kept)?;
                        if kept.len() < text.len() {
                            write_atomically(path, kept.as_bytes())?;
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(LogError::io("read", path)(e)),
                }
                options.append(true).create(true)
            }
        };
        let file = options.open(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => LogError::Exists { path: path.to_path_buf() },
            _ => LogError::io("open", path)(e),
        })?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file), columns })
    }

    /// Writes the header, or checks that the one there has these columns.
    pub(super) fn declare(&mut self, columns: &[&str]) -> Result<(), LogError> {
        for (i, &column) in columns.iter().enumerate() {
            let bad = column.is_empty()
                || column == "step"
                || column.contains(|c: char| c == ',' || c == '"' || c.is_control())
                || columns[..i].contains(&column);
            if bad {
                return Err(LogError::BadColumn { column: column.to_owned() });
            }
        }
        if self.columns.is_empty() {
            // A header of no columns could not be told from none.
            if columns.is_empty() {
                return Ok(());
            }
            self.line(&format!("step,{}\n", columns.join(",")))?;
            self.columns = columns.iter().map(|&c| c.to_owned()).collect();
            return Ok(());
        }
        match columns.iter().find(|&&c| !self.columns.iter().any(|known| known == c)) {
            Some(&column) => Err(LogError::UnknownColumn {
                path: self.path.clone(),
                column: column.to_owned(),
                known: self.columns.join(", "),
            }),
            None => Ok(()),
        }
    }

    /// Appends a row; columns without a value stay empty.
    pub(super) fn append(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), LogError> {
        if values.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = values.iter().map(|v| v.0).collect();
        self.declare(&names)?;
        let mut row = step.to_string();
        for column in &self.columns {
            row.push(',');
            if let Some((_, value)) = values.iter().find(|v| v.0 == column) {
                // The shortest digits that read back as the same number.
                row += &value.to_string();
            }
        }
        row.push('\n');
        self.line(&row)
    }

    /// Hands what was appended to the system, for [`Table::read`].
    pub(super) fn flush_buffer(&mut self) -> Result<(), LogError> {
        self.file.flush().map_err(LogError::io("write", &self.path))
    }

    /// Brings what was appended onto the disk.
    pub(super) fn flush(&mut self) -> Result<(), LogError> {
        self.flush_buffer()?;
        self.file.get_ref().sync_data().map_err(LogError::io("write", &self.path))
    }

    /// All columns, from the file.
    pub(super) fn read(&self) -> Result<Vec<Column>, LogError> {
        let text = fs::read_to_string(&self.path).map_err(LogError::io("read", &self.path))?;
        let column = |name: &String| Column { name: name.clone(), points: Vec::new() };
        let mut columns: Vec<Column> = self.columns.iter().map(column).collect();
        for (i, line) in text.lines().enumerate().skip(1) {
            let (step, cells) = row(&self.path, i + 1, line)?;
            let wrong = |problem| malformed(&self.path, i + 1, problem);
            if cells.len() != columns.len() {
                return Err(wrong("has not as many cells as the header"));
            }
            for (column, cell) in columns.iter_mut().zip(cells).filter(|(_, c)| !c.is_empty()) {
                let value = cell.parse().map_err(|_| wrong("has a cell that is not a number"))?;
                column.points.push((step as f64, value));
            }
        }
        Ok(columns)
    }

    fn line(&mut self, line: &str) -> Result<(), LogError> {
        self.file.write_all(line.as_bytes()).map_err(LogError::io("write", &self.path))
    }
}

/// The complete lines of `text` up to `step`: the header and the rows.
fn keep(path: &Path, text: &str, step: u64) -> Result<String, LogError> {
    // What follows the last line feed was cut short when the run broke off.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let columns = header(path, whole)?.len();
    let mut kept = String::with_capacity(whole.len());
    for (i, line) in whole.split_inclusive('\n').enumerate() {
        let wanted = match i {
            0 => true,
            _ => {
                let (at, cells) = row(path, i + 1, line.trim_end())?;
                if cells.len() != columns {
                    return Err(malformed(path, i + 1, "has not as many cells as the header"));
                }
                at <= step
            }
        };
        if wanted {
            kept += line;
        }
    }
    Ok(kept)
}

/// The columns of a table, none if it is empty.
fn header(path: &Path, text: &str) -> Result<Vec<String>, LogError> {
    match text.lines().next() {
        None => Ok(Vec::new()),
        Some(line) => match line.split_once(',') {
            Some(("step", columns)) => Ok(columns.split(',').map(str::to_owned).collect()),
            _ => Err(malformed(path, 1, "is not the header of a run's table")),
        },
    }
}

/// The step and the cells of a row.
fn row<'a>(path: &Path, line: usize, text: &'a str) -> Result<(u64, Vec<&'a str>), LogError> {
    let mut cells = text.split(',');
    match cells.next().map(str::parse) {
        Some(Ok(step)) => Ok((step, cells.collect())),
        _ => Err(malformed(path, line, "does not begin with a step")),
    }
}

fn malformed(path: &Path, line: usize, problem: &'static str) -> LogError {
    LogError::Malformed { path: path.to_path_buf(), line, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        (folder, path)
    }

    #[test]
    fn columns_are_fixed_by_the_first_row() {
        let (_folder, path) = temporary();
        let mut table = Table::open(&path, None).unwrap();
        table.append(1, &[("a", 0.1), ("b", f64::NAN)]).unwrap();
        table.append(2, &[("b", 1e-7)]).unwrap();
        let error = table.append(3, &[("c", 1.0)]).unwrap_err();
        assert!(matches!(&error, LogError::UnknownColumn { column, .. } if column == "c"));
        assert!(error.to_string().contains("a, b"), "{error}");
        for names in [["a", "a"], ["a", "x,y"], ["a", ""], ["a", "step"]] {
            let error = table.declare(&names).unwrap_err();
            assert!(matches!(error, LogError::BadColumn { .. }), "{names:?}");
        }
        table.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "step,a,b\n1,0.1,NaN\n2,,0.0000001\n");
        let columns = table.read().unwrap();
        assert_eq!(columns[0].points, [(1.0, 0.1)]);
        assert_eq!(columns[1].points[1], (2.0, 1e-7));
    }

    #[test]
    fn resuming_reads_the_header_back_and_refuses_damage() {
        let (_folder, path) = temporary();
        fs::write(&path, "step,a,b\n5,1,2\n6,1,2\n7,1").unwrap();
        let mut table = Table::open(&path, Some(5)).unwrap();
        table.append(6, &[("b", 3.0)]).unwrap();
        table.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "step,a,b\n5,1,2\n6,,3\n");

        for (text, bad_line) in [("hello\n", 1), ("step,a\n1,2\nx,3\n", 3), ("step,a\n1,2,3\n", 2)]
        {
            fs::write(&path, text).unwrap();
            let error = Table::open(&path, Some(9)).unwrap_err();
            assert!(
                matches!(error, LogError::Malformed { line, .. } if line == bad_line),
                "{text}"
            );
        }
        // A run that broke off before its first row.
        fs::write(&path, "").unwrap();
        assert!(Table::open(&path, Some(0)).unwrap().columns.is_empty());
    }
}
