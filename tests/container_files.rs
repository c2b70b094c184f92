//! `.tsr` files as programs use them: their rate, seeking, fewer levels, summaries, files on disk.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Cursor, Read, Seek, SeekFrom};
use tessera_codec::bitstream::{
    Chunk, ContainerReader, ContainerWriter, DamageReason, FileError, Header, Item, Overwrite,
    ReadError, WriteError,
};
use tessera_codec::lines::Kept;
use tessera_codec::tokens::{TokenLayout, Tokens};

/// The shipped model's layout: 25 steps a second, 2.75 kbps a channel.
fn header(channels: u16, samples: Option<u64>) -> Header {
    let layout = TokenLayout { strides: vec![4, 2, 1, 1], codebook_sizes: vec![1024; 4] };
    Header {
        model_id: [0xAB; 16],
        source_rate: 48_000,
        channels,
        samples,
        codec_rate: 48_000,
        hop: 480,
        pre_skip: 480,
        steps_per_chunk: Header::steps_per_second(48_000, 480, &layout, channels),
        warm_up_steps: 30,
        prior_id: None,
        lines: Kept::Nothing,
        layout,
    }
}

/// Step `step` of every channel; its codes say which it is.
fn step(header: &Header, step: u64) -> Vec<Tokens> {
    let layout = &header.layout;
    let code = |channel: u16, level: usize, i: usize| {
        (step as usize * 31 + usize::from(channel) * 7 + level * 3 + i)
            % layout.codebook_sizes[level]
    };
    let codes = |channel, level| {
        (0..layout.codes_per_step(level)).map(|i| code(channel, level, i) as u16).collect()
    };
    (0..header.channels)
        .map(|channel| Tokens::of_codes((0..layout.levels()).map(|l| codes(channel, l)).collect()))
        .collect()
}

fn write(header: &Header, samples: u64) -> Vec<u8> {
    let mut writer = ContainerWriter::new(Vec::new(), header.clone()).unwrap();
    for n in 0..header.steps(samples) {
        writer.push_steps(&step(header, n)).unwrap();
    }
    writer.finish(samples).unwrap()
}

fn expect(header: &Header, chunk: &Chunk) {
    let first = u64::from(chunk.number) * u64::from(header.steps_per_chunk);
    let mut expected = vec![Tokens::new(header.layout.levels()); header.channels.into()];
    for n in first..first + chunk.steps as u64 {
        expected.iter_mut().zip(step(header, n)).for_each(|(all, more)| all.extend(&more));
    }
    assert_eq!(chunk.channels, expected, "chunk {}", chunk.number);
}

#[test]
fn a_mono_file_stays_within_three_kbps() {
    for (seconds, most) in [(10, 3.0), (60, 2.88), (3600, 2.85)] {
        let header = header(1, Some(seconds * 48_000));
        let mut reader =
            ContainerReader::open(Cursor::new(write(&header, seconds * 48_000))).unwrap();
        let kbps = reader.summary().unwrap().kbps;
        assert!(kbps <= most, "{seconds} s: {kbps} kbps");
    }
}

#[test]
fn an_hour_of_32_channels_passes_through_a_small_window() {
    /// Counts the bytes asked for.
    struct Counting<R>(R, u64);
    impl<R: Read> Read for Counting<R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1 += read as u64;
            Ok(read)
        }
    }
    impl<R: Seek> Seek for Counting<R> {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }
    let samples = 3600 * 48_000;
    let header = header(32, Some(samples));
    let bytes = write(&header, samples);
    let mut source = Counting(Cursor::new(&bytes), 0);
    let mut reader = ContainerReader::open(&mut source).unwrap();
    assert_eq!(reader.chunks(), Some(3601));
    for number in [3600, 0, 1800] {
        reader.seek_chunk(number).unwrap();
        let Some(Item::Chunk(chunk)) = reader.next_item().unwrap() else { panic!("damage") };
        assert_eq!(chunk.number, number);
        expect(&header, &chunk);
    }
    drop(reader);
    assert!(source.1 < 2_000_000, "{} bytes read for three chunks", source.1);
}

#[test]
fn seeking_in_whole_cut_and_damaged_files() {
    let samples = 20 * 48_000;
    for known in [Some(samples), None] {
        let header = header(2, known);
        let file = write(&header, samples);
        let head = header.to_bytes().unwrap().len();
        let size = 12 + 688;
        let intact = |bytes: &[u8], number: u32| {
            let mut reader = ContainerReader::open(Cursor::new(bytes)).unwrap();
            reader.seek_chunk(number).unwrap();
            // The bytes put in before chunk 3 may be told of first.
            let lost = |item: &Item| matches!(item, Item::Damage(damage) if damage.chunks == 0);
            match reader.map(|item| item.unwrap()).find(|item| !lost(item)) {
                Some(Item::Chunk(chunk)) => {
                    assert_eq!(chunk.number, number);
                    expect(&header, &chunk);
                }
                other => panic!("{number}: {other:?}"),
            }
        };
        for number in 0..21 {
            intact(&file, number);
        }
        // Without an index; with bytes put in so that the index is wrong; with both.
        let cut = &file[..head + 15 * size];
        let shifted = [&file[..head + 3 * size], b"hello", &file[head + 3 * size..]].concat();
        for number in 0..15 {
            intact(cut, number);
            intact(&shifted, number);
            intact(&shifted[..cut.len() + 5], number);
        }
        // To a damaged chunk: the damage comes first, then the chunk after it.
        let mut broken = file.clone();
        broken[head + 7 * size + 100] ^= 1;
        let mut reader = ContainerReader::open(Cursor::new(&broken)).unwrap();
        reader.seek_chunk(7).unwrap();
        let Some(Item::Damage(damage)) = reader.next_item().unwrap() else { panic!("no damage") };
        assert_eq!((damage.first, damage.chunks, damage.steps), (7, 1, 25));
        assert_eq!(damage.reason, DamageReason::Checksum);
        let Some(Item::Chunk(chunk)) = reader.next_item().unwrap() else { panic!("damage") };
        assert_eq!(chunk.number, 8);
        // Beyond the end.
        let error = reader.seek_chunk(21).unwrap_err();
        assert!(matches!(error, ReadError::NoSuchChunk { chunk: 21, chunks: 21 }));
    }
}

#[test]
fn levels_can_be_peeled_off_without_encoding_again() {
    let samples = 3 * 48_000;
    let header = header(2, Some(samples));
    let mut reader = ContainerReader::open(Cursor::new(write(&header, samples))).unwrap();
    assert!(matches!(reader.limit_levels(0), Err(ReadError::Levels { asked: 0, stored: 4 })));
    assert!(matches!(reader.limit_levels(5), Err(ReadError::Levels { asked: 5, stored: 4 })));
    reader.limit_levels(2).unwrap();
    let mut writer = ContainerWriter::new(Vec::new(), header.prefix(2).unwrap()).unwrap();
    for item in &mut reader {
        let Item::Chunk(chunk) = item.unwrap() else { panic!("damage") };
        writer.push_steps(&chunk.channels).unwrap();
    }
    let peeled = writer.finish(samples).unwrap();
    let mut reader = ContainerReader::open(Cursor::new(peeled)).unwrap();
    let summary = reader.summary().unwrap();
    assert_eq!((summary.levels.len(), summary.intact_chunks, summary.damage_count), (2, 4, 0));
    let Some(Item::Chunk(chunk)) = reader.next_item().unwrap() else { panic!("damage") };
    let full = step(&header, 0);
    assert_eq!(chunk.channels[1].levels[1][..2], full[1].levels[1]);
}

#[test]
fn a_summary_says_what_the_file_is_and_how() {
    let samples = 10 * 48_000;
    let mut file = write(&header(2, None), samples);
    let bytes = file.len() as u64;
    file[1000] ^= 1;
    let mut reader = ContainerReader::open(Cursor::new(file)).unwrap();
    let summary = reader.summary().unwrap();
    assert_eq!(summary.model_id, "ab".repeat(16));
    assert_eq!((summary.version, summary.source_rate, summary.channels), (1, 48_000, 2));
    assert_eq!(
        (summary.samples, summary.seconds, summary.step_seconds),
        (Some(samples), 10.0, 0.04)
    );
    assert_eq!((summary.intact_chunks, summary.damaged_chunks, summary.damage_count), (10, 1, 1));
    assert_eq!(summary.damages[0].first, 1);
    assert_eq!((summary.file_bytes, summary.has_index), (bytes, true));
    assert!((summary.kbps - bytes as f64 * 8.0 / 10_000.0).abs() < 1e-9);
    let kbps: Vec<f64> = summary.levels.iter().map(|level| level.kbps).collect();
    for (kbps, expected) in kbps.iter().zip([0.5, 1.0, 2.0, 2.0]) {
        assert!((kbps - expected).abs() < 1e-9);
    }
    let rates: Vec<f64> = summary.levels.iter().map(|l| l.codes_per_second.round()).collect();
    assert_eq!(rates, [25.0, 50.0, 100.0, 100.0]);
    assert_eq!(summary, reader.summary().unwrap(), "as before: the reader went back");
}

#[test]
fn an_empty_source_is_a_file() {
    for samples in [Some(0), None] {
        let file = write(&header(1, samples), 0);
        assert_eq!(file.len(), 80 + 26);
        let mut reader = ContainerReader::open(Cursor::new(file)).unwrap();
        assert_eq!((reader.samples(), reader.chunks()), (Some(0), Some(0)));
        assert_eq!(reader.next_item().unwrap(), None);
        assert_eq!(reader.next_item().unwrap(), None);
        let summary = reader.summary().unwrap();
        assert_eq!((summary.seconds, summary.kbps, summary.intact_chunks), (0.0, 0.0, 0));
        assert!(matches!(
            reader.seek_chunk(0),
            Err(ReadError::NoSuchChunk { chunk: 0, chunks: 0 })
        ));
    }
}

#[test]
fn a_file_on_disk_appears_when_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsr");
    let header = header(1, Some(1920));
    let write = |overwrite| {
        let mut writer = ContainerWriter::create(&path, header.clone(), overwrite)?;
        writer.push_steps(&step(&header, 0))?;
        writer.push_steps(&step(&header, 1))?;
        assert!(overwrite == Overwrite::Replace || !path.exists());
        Ok::<(), WriteError>(writer.finish(1920)?.commit()?)
    };
    write(Overwrite::Refuse).unwrap();
    let error = write(Overwrite::Refuse).unwrap_err();
    assert!(matches!(error, WriteError::File(FileError::Exists(_))), "{error}");
    write(Overwrite::Replace).unwrap();
    let reader = ContainerReader::open_path(&path).unwrap();
    assert_eq!(reader.header(), &header);
    let items: Vec<_> = reader.map(|item| item.unwrap()).collect();
    let [Item::Chunk(chunk)] = &items[..] else { panic!("{items:?}") };
    expect(&header, chunk);

    // A writer given up, or one with too few steps, leaves the file as it was.
    let before = fs::read(&path).unwrap();
    let writer = ContainerWriter::create(&path, header.clone(), Overwrite::Replace).unwrap();
    assert!(matches!(writer.finish(1920), Err(WriteError::StepCount { needed: 2, got: 0, .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(ContainerReader::open_path(&folder.path().join("none.tsr")).is_err());
}

#[test]
fn a_failing_disk_is_an_error_once() {
    /// Cannot be read from 400,000 to 410,000.
    struct Failing(Cursor<Vec<u8>>);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if (400_000..410_000).contains(&self.0.position()) {
                return Err(std::io::Error::other("bad sector"));
            }
            let count = buffer.len().min(1000);
            self.0.read(&mut buffer[..count])
        }
    }
    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }
    let samples = 2000 * 48_000;
    let mut reader =
        ContainerReader::open(Failing(Cursor::new(write(&header(1, None), samples)))).unwrap();
    let items: Vec<_> = (&mut reader).collect();
    assert!(items.len() > 700, "{} items", items.len());
    let (last, before) = items.split_last().unwrap();
    assert!(matches!(last, Err(ReadError::Io(_))));
    assert!(before.iter().all(|item| matches!(item, Ok(Item::Chunk(_)))));
    // What is behind the bad sector can still be sought out.
    reader.seek_chunk(1500).unwrap();
    assert!(matches!(reader.next_item().unwrap(), Some(Item::Chunk(_))));
}
