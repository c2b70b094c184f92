//! Running the tool, and what it is run on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use candle_core::Device;
use tempfile::TempDir;
use tessera_codec::audio::{self, WavFormat, WavSink};
use tessera_codec::codec::save_model;
use tessera_codec::config::{CodecConfig, VqConfig};
use tessera_codec::model::Network;

/// What a run of the tool gave.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The result as JSON, of a run that went well.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Asserts the exit code, and that stderr has all the words.
    #[track_caller]
    pub fn expect(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

pub fn tessera<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_tessera")).args(args).output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A network so small that it costs nothing.
pub fn tiny() -> CodecConfig {
    CodecConfig {
        name: "tiny".into(),
        analysis_window: 960,
        synthesis_window: 960,
        dim: 8,
        encoder_blocks: 1,
        decoder_blocks: 1,
        vq: VqConfig { codebook_size: 32, ..VqConfig::default() },
        ..CodecConfig::default()
    }
}

/// The folder of a model with random weights, the same for all tests.
pub fn model() -> &'static str {
    static MODEL: OnceLock<(TempDir, String)> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::random(&tiny(), 7, &Device::Cpu).unwrap();
        save_model(folder.path(), &tiny(), &network.params.snapshot().unwrap()).unwrap();
        let path = text(folder.path());
        (folder, path)
    };
    &MODEL.get_or_init(make).1
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().into()
}

/// Writes a few tones that move, another on each channel.
pub fn tone(path: &Path, rate: u32, channels: u16, frames: usize, format: WavFormat) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let planar: Vec<Vec<f32>> = (0..channels)
        .map(|c| {
            let hertz = 220.0 + 55.0 * f32::from(c);
            let sample = |n: usize| {
                let t = n as f32 / rate as f32;
                0.3 * (std::f32::consts::TAU * hertz * t * (1.0 + 0.2 * t)).sin()
            };
            (0..frames).map(sample).collect()
        })
        .collect();
    let mut sink = WavSink::create(path, rate, channels, format, false).unwrap();
    sink.write(&planar).unwrap();
    sink.finish().unwrap();
}

/// Rate, channels and samples of an audio file, counted.
pub fn shape(path: &Path) -> (u32, u16, usize) {
    let mut source = audio::open(path).unwrap();
    let planar = audio::read_all(source.as_mut(), 1 << 24).unwrap();
    assert!(planar.iter().flatten().all(|sample| sample.is_finite()));
    (source.info().sample_rate, source.info().channels, planar[0].len())
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
        text(&self.path(name))
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
