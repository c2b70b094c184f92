use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::cache::CHUNK_FRAMES;
use super::*;
use crate::audio::{WavFormat, WavSink};

/// A folder of audio and one for the cache.
struct Folders {
    audio: TempDir,
    cache: TempDir,
}

impl Folders {
    fn new() -> Self {
        Self { audio: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    /// Writes a file of `channels` (a function of channel and frame).
    fn wav(&self, name: &str, rate: u32, frames: usize, channels: &[fn(usize) -> f32]) {
        let path = self.audio.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let count = channels.len() as u16;
        let mut sink = WavSink::create(&path, rate, count, WavFormat::Pcm16, true).unwrap();
        let planar: Vec<Vec<f32>> =
            channels.iter().map(|sample| (0..frames).map(sample).collect()).collect();
        sink.write(&planar).unwrap();
        sink.finish().unwrap();
    }

    fn text(&self, name: &str, text: &str) {
        std::fs::write(self.audio.path().join(name), text).unwrap();
    }

    fn open_with(
        &self,
        options: &DatasetOptions,
    ) -> Result<(Dataset, DatasetReport), DatasetError> {
        Dataset::open(self.audio.path(), self.cache.path(), options, &mut |_| {})
    }

    fn open(&self) -> (Dataset, DatasetReport) {
        self.open_with(&plain()).unwrap()
    }

    fn cache_file(&self) -> PathBuf {
        std::fs::read_dir(self.cache.path()).unwrap().next().unwrap().unwrap().path()
    }
}

/// No validation, no gain.
fn plain() -> DatasetOptions {
    DatasetOptions { validation_fraction: 0.0, gain_db: (0.0, 0.0), ..Default::default() }
}

fn tone(n: usize) -> f32 {
    (n as f32 * 0.1).sin() * 0.5
}

#[test]
fn folders_without_audio_are_errors_that_name_them() {
    let folders = Folders::new();
    let error = folders.open_with(&plain()).unwrap_err();
    assert!(matches!(error, DatasetError::NoAudio { .. }), "{error}");
    assert!(error.to_string().contains(folders.audio.path().to_str().unwrap()), "{error}");

    folders.text("readme.txt", "nothing to hear");
    assert!(matches!(folders.open_with(&plain()), Err(DatasetError::NoAudio { .. })));

    folders.text("song.wav", "nothing to hear");
    let error = folders.open_with(&plain()).unwrap_err();
    assert!(matches!(error, DatasetError::NoUsableAudio { count: 1, .. }), "{error}");
    assert!(error.to_string().contains("song.wav"), "{error}");

    let missing = folders.audio.path().join("missing");
    let error = Dataset::open(&missing, folders.cache.path(), &plain(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, DatasetError::Folder { .. }), "{error}");
}

#[test]
fn a_silent_folder_is_an_error() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 10_000, &[|_| 0.0]);
    let error = folders.open_with(&plain()).unwrap_err();
    assert!(error.to_string().contains("silent"), "{error}");
}

#[test]
fn the_report_tells_what_was_found() {
    let folders = Folders::new();
    folders.wav("music/a.wav", 48_000, 48_000, &[tone, tone]);
    folders.wav("music/deep/b.WAV", 24_000, 12_000, &[tone]);
    folders.wav("c.wav", 48_000, 24_000, &[tone]);
    folders.wav("speech/empty.wav", 48_000, 0, &[tone]);
    folders.wav("speech/slow.wav", 1, 10, &[tone]);
    folders.text("music/broken.flac", "not a FLAC");
    folders.text("music/notes.txt", "ignored");
    folders.text(".hidden.wav", "ignored");
    let (_, report) = folders.open();
    assert_eq!(report.files, 3);
    assert_eq!(report.seconds_by_kind, BTreeMap::from([(".".into(), 0.5), ("music".into(), 1.5)]));
    let skipped: Vec<&str> = report.skipped.iter().map(|(p, _)| p.to_str().unwrap()).collect();
    assert_eq!(skipped, ["music/broken.flac", "speech/empty.wav", "speech/slow.wav"]);
    assert!(report.skipped[0].1.contains("not an audio file"), "{:?}", report.skipped[0]);
    assert!(report.skipped[2].1.contains("1 Hz"), "{:?}", report.skipped[2]);
    assert!(!report.reused && report.cache_bytes > 2 * (96_000 + 24_000 + 24_000));
}

#[test]
fn cut_files_are_used_and_reported() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 48_000, &[tone]);
    let path = folders.audio.path().join("a.wav");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..50_000]).unwrap();
    let (_, report) = folders.open();
    assert_eq!((report.files, report.warnings.len()), (1, 1));
    assert!(report.warnings[0].1.contains("cut short"));
}

#[test]
fn the_cache_is_used_until_something_changes() {
    let folders = Folders::new();
    folders.wav("a.wav", 44_100, 44_100, &[tone]);
    folders.wav("b.wav", 48_000, 48_000, &[tone]);
    let (first, report) = folders.open();
    assert!(!report.reused);
    let (second, again) = folders.open();
    assert_eq!(again, DatasetReport { reused: true, ..report });
    assert_eq!(first.batch(1, 2, 3, 999).unwrap(), second.batch(1, 2, 3, 999).unwrap());
    folders.wav("b.wav", 48_000, 48_001, &[tone]);
    assert!(!folders.open().1.reused);
    let at_24k = DatasetOptions { sample_rate: 24_000, ..plain() };
    assert!(!folders.open_with(&at_24k).unwrap().1.reused);
}

#[test]
fn a_damaged_cache_is_built_again() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 48_000, &[tone]);
    let whole = folders.open().0.batch(1, 1, 2, 500).unwrap();
    let path = folders.cache_file();
    let bytes = std::fs::read(&path).unwrap();
    for at in (96_000..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&path, damaged).unwrap();
        assert!(Cache::open(&path).is_none(), "byte {at}");
    }
    for len in [0, 10, 36, 96_000, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let (dataset, report) = folders.open();
        assert!(!report.reused);
        assert_eq!(dataset.batch(1, 1, 2, 500).unwrap(), whole);
    }
    let names = std::fs::read_dir(folders.cache.path()).unwrap().count();
    assert_eq!(names, 1, "no temporary files remain");
}

#[cfg(unix)]
#[test]
fn loops_of_links_end() {
    let folders = Folders::new();
    folders.wav("sub/a.wav", 48_000, 4_800, &[tone]);
    std::os::unix::fs::symlink(folders.audio.path(), folders.audio.path().join("sub/loop"))
        .unwrap();
    std::os::unix::fs::symlink("nowhere.wav", folders.audio.path().join("dangling.wav")).unwrap();
    assert_eq!(folders.open().1.files, 1);
}

#[test]
fn samples_are_those_of_the_files() {
    // Longer than a chunk, so that reads go across.
    let frames = CHUNK_FRAMES as usize + 50_000;
    let folders = Folders::new();
    folders.wav(
        "a.wav",
        48_000,
        frames,
        &[
            |n| ((n * 7 % 60_000) as f32 - 30_000.0) / 32_768.0,
            |n| ((n * 11 % 60_000) as f32 - 30_000.0) / 32_768.0,
        ],
    );
    let (dataset, _) = folders.open();
    for start in [0, 1, CHUNK_FRAMES as usize - 3, CHUNK_FRAMES as usize, frames - 9] {
        for (channel, factor) in [(0, 7), (1, 11)] {
            let mut samples = [0.0; 9];
            dataset.cache.read(0, channel, start as u64, &mut samples).unwrap();
            let expected: Vec<f32> = (start..start + 9)
                .map(|n| ((n * factor % 60_000) as f32 - 30_000.0) / 32_768.0)
                .collect();
            assert_eq!(&samples[..], &expected[..], "{start}");
        }
    }
}

#[test]
fn batches_depend_on_seed_and_step_alone() {
    let folders = Folders::new();
    for name in ["x/a.wav", "x/b.wav", "y/c.wav"] {
        folders.wav(name, 48_000, 50_000, &[tone, |n| -tone(n * 2)]);
    }
    let options = DatasetOptions { gain_db: (-12.0, 3.0), ..plain() };
    let (dataset, _) = folders.open_with(&options).unwrap();
    let batch = dataset.batch(3, 40, 4, 2_000).unwrap();
    assert_eq!(batch.len(), 8_000);
    assert_eq!(batch, dataset.batch(3, 40, 4, 2_000).unwrap());
    assert_ne!(batch, dataset.batch(3, 41, 4, 2_000).unwrap());
    assert_ne!(batch, dataset.batch(4, 40, 4, 2_000).unwrap());
    assert_eq!(batch[..2_000], dataset.batch(3, 40, 1, 2_000).unwrap()[..]);
    assert!(dataset.batch(1, 1, 0, 10).unwrap().is_empty());
    assert!(matches!(dataset.batch(1, 1, 1, 0), Err(DatasetError::Option { .. })));
}

#[test]
fn short_clips_lie_somewhere_between_zeros() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 100, &[|_| 0.25]);
    let (dataset, _) = folders.open();
    let batch = dataset.batch(1, 0, 20, 1_000).unwrap();
    let mut offsets = std::collections::BTreeSet::new();
    for crop in batch.chunks_exact(1_000) {
        let offset = crop.iter().position(|s| *s != 0.0).unwrap();
        assert_eq!(crop[offset..offset + 100], [0.25; 100]);
        assert!(crop.iter().filter(|s| **s != 0.0).count() == 100);
        offsets.insert(offset);
    }
    assert!(offsets.len() > 10);
}

#[test]
fn crops_are_drawn_where_there_is_sound() {
    let folders = Folders::new();
    // A tenth of a second in a minute, on one of two channels.
    let sound = |n: usize| if (2_400_000..2_404_800).contains(&n) { tone(n) } else { 0.0 };
    folders.wav("a.wav", 48_000, 2_880_000, &[|_| 0.0, sound]);
    let (dataset, _) = folders.open();
    for crop in dataset.batch(1, 0, 50, 4_800).unwrap().chunks_exact(4_800) {
        assert!(crop.iter().any(|s| s.abs() > 0.1));
    }
}

#[test]
fn a_share_of_the_crops_is_synthetic_and_never_those_for_validation() {
    let folders = Folders::new();
    for name in ["a", "b", "c", "d"] {
        folders.wav(&format!("{name}.wav"), 48_000, 48_000, &[|_| 0.25]);
    }
    let options = |synthetic| DatasetOptions { synthetic, validation_fraction: 0.3, ..plain() };
    let (set, _) = folders.open_with(&options(0.25)).unwrap();
    let crops = set.batch(3, 4, 400, 160).unwrap();
    let flat = |crop: &&[f32]| crop.iter().all(|s| *s == crop[0]);
    let recorded = crops.chunks_exact(160).filter(flat).count();
    assert!((260..340).contains(&recorded), "{recorded}");
    let (all, _) = folders.open_with(&options(1.0)).unwrap();
    assert_eq!(all.batch(3, 4, 40, 160).unwrap().chunks_exact(160).filter(flat).count(), 0);
    let validation = all.validation_crops(20, 160).unwrap();
    assert_eq!(validation.chunks_exact(160).filter(flat).count(), 20);
}

#[test]
fn gain_never_clips() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 48_000, &[tone]);
    let plain_options = plain();
    let plain = folders.open().0.batch(1, 0, 10, 1_000).unwrap();
    let loud = DatasetOptions { gain_db: (40.0, 40.0), ..plain_options };
    let loud = folders.open_with(&loud).unwrap().0.batch(1, 0, 10, 1_000).unwrap();
    for (loud, plain) in loud.chunks_exact(1_000).zip(plain.chunks_exact(1_000)) {
        // Brought to full scale as a whole, not cut off there.
        let peak = plain.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        assert!(loud.iter().zip(plain).all(|(l, p)| (l - p / peak).abs() < 1e-6));
    }
}

#[test]
fn kinds_are_drawn_by_weight_and_files_by_length() {
    let folders = Folders::new();
    // Told apart by their level: a has one long and one short file, b a single short one.
    folders.wav("a/long.wav", 48_000, 96_000, &[|_| 0.1]);
    folders.wav("a/short.wav", 48_000, 24_000, &[|_| 0.2]);
    folders.wav("b/short.wav", 48_000, 4_800, &[|_| 0.4]);
    let shares = |weights: &[(&str, f64)]| {
        let kind_weights = weights.iter().map(|(kind, w)| ((*kind).to_owned(), *w)).collect();
        let (dataset, _) = folders.open_with(&DatasetOptions { kind_weights, ..plain() }).unwrap();
        let batch = dataset.batch(1, 0, 2_000, 1).unwrap();
        let share = |level: f32| {
            batch.iter().filter(|s| (**s - level).abs() < 0.01).count() as f64 / 2_000.0
        };
        [share(0.1), share(0.2), share(0.4)]
    };
    let near = |shares: [f64; 3], expected: [f64; 3]| {
        shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.05)
    };
    assert!(near(shares(&[]), [0.4, 0.1, 0.5]), "{:?}", shares(&[]));
    assert!(near(shares(&[("b", 3.0)]), [0.2, 0.05, 0.75]));
    assert_eq!(shares(&[("a", 0.0)]), [0.0, 0.0, 1.0]);
}

#[test]
fn bad_options_are_errors() {
    let folders = Folders::new();
    folders.wav("a/a.wav", 48_000, 4_800, &[tone]);
    let weights = |kind: &str, weight| BTreeMap::from([(kind.to_owned(), weight)]);
    for (option, options) in [
        ("sample_rate", DatasetOptions { sample_rate: 0, ..plain() }),
        ("validation_fraction", DatasetOptions { validation_fraction: 1.0, ..plain() }),
        ("validation_fraction", DatasetOptions { validation_fraction: f64::NAN, ..plain() }),
        ("gain_db", DatasetOptions { gain_db: (3.0, -3.0), ..plain() }),
        ("gain_db", DatasetOptions { gain_db: (f32::NAN, 0.0), ..plain() }),
        ("synthetic", DatasetOptions { synthetic: 1.5, ..plain() }),
        ("synthetic", DatasetOptions { synthetic: f64::NAN, ..plain() }),
        ("kind_weights", DatasetOptions { kind_weights: weights("a", -1.0), ..plain() }),
        ("kind_weights", DatasetOptions { kind_weights: weights("b", 1.0), ..plain() }),
    ] {
        let error = folders.open_with(&options).unwrap_err();
        assert!(error.to_string().contains(option), "{error}");
    }
    let none = DatasetOptions { kind_weights: weights("a", 0.0), ..plain() };
    assert!(matches!(folders.open_with(&none), Err(DatasetError::NoUsableAudio { .. })));
}

#[test]
fn validation_files_are_not_trained_on() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 9_600, &[|_| 0.1]);
    let some = DatasetOptions { validation_fraction: 0.03, ..plain() };
    let (dataset, report) = folders.open_with(&some).unwrap();
    assert_eq!(report.validation_files, 0);
    assert!(!dataset.has_validation());
    assert!(matches!(dataset.validation_crops(1, 1), Err(DatasetError::NoValidation { .. })));

    folders.wav("b.wav", 48_000, 9_600, &[|_| 0.2]);
    for fraction in [0.001, 0.999] {
        let options = DatasetOptions { validation_fraction: fraction, ..plain() };
        let (dataset, report) = folders.open_with(&options).unwrap();
        assert_eq!(report.validation_files, 1);
        let validation = dataset.validation_crops(9, 10).unwrap();
        assert_eq!(validation, dataset.validation_crops(9, 10).unwrap());
        assert!(validation.iter().all(|s| *s == validation[0]));
        let training = dataset.batch(1, 1, 9, 10).unwrap();
        assert!(training.iter().all(|s| *s == training[0] && *s != validation[0]));
    }
}

#[test]
fn progress_ends_with_all_files() {
    let folders = Folders::new();
    for name in ["a.wav", "b.wav", "c.wav"] {
        folders.wav(name, 48_000, 4_800, &[tone]);
    }
    let mut seen = Vec::new();
    let mut note = |progress| seen.push(progress);
    Dataset::open(folders.audio.path(), folders.cache.path(), &plain(), &mut note).unwrap();
    let last = BuildProgress { files_done: 3, files: 3, bytes_written: 3 * 9_600 };
    assert_eq!(seen.last(), Some(&last));
}

#[test]
fn the_loader_gives_the_batches_in_order() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 48_000, &[tone]);
    let dataset = Arc::new(folders.open().0);
    let mut loader = BatchLoader::new(dataset.clone(), 5, 100, 2, 300).unwrap();
    for step in 100..120 {
        assert_eq!(loader.next().unwrap(), dataset.batch(5, step, 2, 300).unwrap());
    }
    // With batches waiting, the thread ends all the same, and lets go of the data.
    drop(loader);
    assert_eq!(Arc::strong_count(&dataset), 1);

    let mut failing = BatchLoader::new(dataset, 5, 0, 2, 0).unwrap();
    assert!(matches!(failing.next(), Err(DatasetError::Option { .. })));
    assert!(matches!(failing.next(), Err(DatasetError::LoaderEnded)));
}

#[test]
fn an_unusable_cache_folder_is_an_error() {
    let folders = Folders::new();
    folders.wav("a.wav", 48_000, 4_800, &[tone]);
    let cache = folders.audio.path().join("a.wav");
    let calls = AtomicUsize::new(0);
    let error = Dataset::open(folders.audio.path(), &cache, &plain(), &mut |_| {
        calls.fetch_add(1, Ordering::Relaxed);
    });
    assert!(matches!(error, Err(DatasetError::Cache { .. })));
    assert_eq!(calls.into_inner(), 0, "found before anything is decoded");
}

proptest! {
    #[test]
    fn the_split_leaves_something_on_both_sides(
        names in prop::collection::btree_set("[a-z]{1,8}", 2..30),
        fraction in 0.0001f64..0.9999,
    ) {
        let clips: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), true)).collect();
        let validation = split(&clips, fraction);
        prop_assert!(validation.iter().any(|v| *v) && !validation.iter().all(|v| *v));
        // A file keeps its side when another comes; the last resort for few files aside.
        let more: Vec<(&str, bool)> = clips.iter().copied().chain([("new", true)]).collect();
        let changed = validation.iter().zip(split(&more, fraction)).filter(|(a, b)| *a != b);
        prop_assert!(changed.count() <= 1);
    }
}
