//! Running the tool, and sounds to run it on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tessera_codec::audio::{WavFormat, WavSink};

/// What a run of the tool gave.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit code, and that stderr has all the words.
    #[track_caller]
    pub fn expect(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

/// A command of the tool.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn tessera(args: &[&str]) -> Ran {
    run(&mut command(args))
}

/// Runs the tool with bytes on its stdin.
pub fn piped(args: &[&str], input: &[u8]) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that refuses its input does not read it all.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Tones, another on each channel.
pub fn tones(rate: u32, channels: usize, frames: usize) -> Vec<Vec<f32>> {
    let sample = |c: usize, n: usize| {
        let hertz = 220.0 + 110.0 * c as f32;
        0.4 * (std::f32::consts::TAU * hertz * n as f32 / rate as f32).sin()
    };
    (0..channels).map(|c| (0..frames).map(|n| sample(c, n)).collect()).collect()
}

/// Writes a WAV.
pub fn write(path: &Path, rate: u32, planar: &[Vec<f32>], format: WavFormat) {
    let mut sink = WavSink::create(path, rate, planar.len() as u16, format, true).unwrap();
    sink.write(planar).unwrap();
    sink.finish().unwrap();
}

/// A folder for a test's files.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}
