//! Decoding the files into the cache.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tempfile::NamedTempFile;

use super::cache::{BLOCKS_PER_SECOND, CHUNK_FRAMES, Clip, Index, MAGIC, loudness_byte};
use super::scan::SourceFile;
use super::{BuildProgress, DatasetError};
use crate::audio::{self, StreamResampler, resampled_len};

/// A file at a lower rate holds no audio worth training on; its header is wrong, more likely, and
/// converting it would fill the disk.
const MIN_SAMPLE_RATE: u32 = 4_000;

/// Chunks between the decoders and the writer; with those in the making they bound the memory.
const CHUNKS_IN_FLIGHT: usize = 4;

/// What a decoding thread tells the writer.
enum Message {
    /// The next chunk of a file, interleaved.
    Chunk { file: usize, samples: Vec<i16> },
    /// The end of a file, or why it cannot be used.
    Done { file: usize, outcome: Result<Decoded, String> },
}

/// A file that was decoded to its end.
struct Decoded {
    channels: u16,
    frames: u64,
    /// Loudness by channel.
    loudness: Vec<Vec<u8>>,
    warnings: Vec<String>,
}

/// Decodes `files` into a cache at `path`.
pub(super) fn build(
    files: &[SourceFile],
    path: &Path,
    sample_rate: u32,
    progress: &mut dyn FnMut(BuildProgress),
) -> Result<(), DatasetError> {
    let mut write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new().prefix(".dataset-").tempfile_in(folder)?;
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 16));
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(CHUNKS_IN_FLIGHT);
            for _ in 0..threads {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || decode_files(files, sample_rate, next, &sender));
            }
            drop(sender);
            // Should the writer fail, the receiver goes, and the decoders stop at their next chunk.
            write_cache(files, sample_rate, &temporary, receiver, progress)
        })?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DatasetError::DiskFull {
            path: path.parent().unwrap_or(path).into(),
            needed_mib: estimate_bytes(files, sample_rate) >> 20,
        },
        _ => DatasetError::Cache { path: path.into(), source },
    })
}

/// What the cache of `files` takes, by their headers; files without a length count as MP3 of
/// 128 kbps.
fn estimate_bytes(files: &[SourceFile], sample_rate: u32) -> u64 {
    let bytes = files.iter().filter_map(|file| {
        let source = audio::open(&file.path).ok()?;
        let info = source.info();
        let frames = info.frames.unwrap_or(file.size / 16_000 * u64::from(info.sample_rate));
        let frames = resampled_len(frames, info.sample_rate, sample_rate);
        Some(frames.saturating_mul(u64::from(info.channels) * 2))
    });
    bytes.fold(0, u64::saturating_add)
}

fn write_cache(
    files: &[SourceFile],
    sample_rate: u32,
    temporary: &NamedTempFile,
    receiver: Receiver<Message>,
    progress: &mut dyn FnMut(BuildProgress),
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let mut position = 0u64;
    let mut chunks: Vec<Vec<u64>> = vec![Vec::new(); files.len()];
    let mut outcomes: Vec<Option<Result<Decoded, String>>> = files.iter().map(|_| None).collect();
    let mut files_done = 0;
    let mut bytes = Vec::new();
    for message in receiver {
        match message {
            Message::Chunk { file, samples } => {
                bytes.clear();
                bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
                out.write_all(&bytes)?;
                chunks[file].push(position);
                position += bytes.len() as u64;
            }
            Message::Done { file, outcome } => {
                outcomes[file] = Some(outcome);
                files_done += 1;
            }
        }
        progress(BuildProgress { files_done, files: files.len(), bytes_written: position });
    }

    let mut index =
        Index { sample_rate, clips: Vec::new(), skipped: Vec::new(), warnings: Vec::new() };
    let mut tables = Vec::new();
    for ((file, chunks), outcome) in files.iter().zip(chunks).zip(outcomes) {
        match outcome {
            Some(Ok(decoded)) => {
                index.clips.push(Clip {
                    path: file.name.clone(),
                    kind: file.kind.clone(),
                    channels: decoded.channels,
                    frames: decoded.frames,
                    chunks,
                    loudness: tables.len() as u64,
                });
                decoded.loudness.iter().for_each(|channel| tables.extend_from_slice(channel));
                let warnings = decoded.warnings.into_iter();
                index.warnings.extend(warnings.map(|warning| (file.name.clone(), warning)));
            }
            Some(Err(reason)) => index.skipped.push((file.name.clone(), reason)),
            None => {
                let reason = "its decoder stopped unexpectedly".to_owned();
                index.skipped.push((file.name.clone(), reason));
            }
        }
    }
    let index_at = position + tables.len() as u64;
    serde_json::to_writer(&mut tables, &index).map_err(io::Error::other)?;
    out.write_all(&tables)?;
    out.write_all(&position.to_le_bytes())?;
    out.write_all(&index_at.to_le_bytes())?;
    out.write_all(&(position + tables.len() as u64 - index_at).to_le_bytes())?;
    out.write_all(&crc32fast::hash(&tables).to_le_bytes())?;
    out.write_all(MAGIC)?;
    out.flush()
}

/// Decodes one file after the other until there are none or the writer has gone.
fn decode_files(
    files: &[SourceFile],
    sample_rate: u32,
    next: &AtomicUsize,
    sender: &SyncSender<Message>,
) {
    loop {
        let file = next.fetch_add(1, Ordering::Relaxed);
        let Some(source) = files.get(file) else {
            return;
        };
        let mut writer_gone = false;
        let mut sink = |samples| {
            writer_gone = sender.send(Message::Chunk { file, samples }).is_err();
            !writer_gone
        };
        // A decoder of a library that panics on one file must not take the run with it.
        let decode = std::panic::AssertUnwindSafe(|| decode(&source.path, sample_rate, &mut sink));
        let outcome = std::panic::catch_unwind(decode)
            .unwrap_or_else(|_| Err("its decoder failed; convert it to WAV".into()));
        if writer_gone || sender.send(Message::Done { file, outcome }).is_err() {
            return;
        }
    }
}

/// Decodes one file and hands its chunks to `sink`, until that returns false.
fn decode(
    path: &Path,
    sample_rate: u32,
    sink: &mut dyn FnMut(Vec<i16>) -> bool,
) -> Result<Decoded, String> {
    let mut source = audio::open(path).map_err(|error| error.to_string())?;
    let (rate, channels) = (source.info().sample_rate, source.info().channels);
    if rate < MIN_SAMPLE_RATE {
        return Err(format!("its sample rate is {rate} Hz; {MIN_SAMPLE_RATE} Hz are the least"));
    }
    let mut resampler = StreamResampler::new(rate, sample_rate, usize::from(channels))
        .map_err(|error| error.to_string())?;
    let mut packer = Packer::new(usize::from(channels), sample_rate);
    let (mut block, mut converted) = (Vec::new(), Vec::new());
    let block_frames = resampler.block_frames();
    let stopped = || Err("the cache could not be written".to_owned());
    loop {
        let frames = source.read(&mut block, block_frames).map_err(|error| error.to_string())?;
        if frames == 0 {
            break;
        }
        resampler.process(&block, &mut converted).map_err(|error| error.to_string())?;
        if !packer.pack(&mut converted, sink) {
            return stopped();
        }
    }
    resampler.finish(&mut converted).map_err(|error| error.to_string())?;
    if !packer.pack(&mut converted, sink) || !packer.finish(sink) {
        return stopped();
    }
    if packer.frames == 0 {
        return Err("it holds no samples".into());
    }
    let warnings = source.warnings().iter().map(ToString::to_string).collect();
    Ok(Decoded { channels, frames: packer.frames, loudness: packer.loudness, warnings })
}

/// Makes chunks of 16-bit samples and measures their loudness.
struct Packer {
    channels: usize,
    /// Frames in a loudness block.
    block: u64,
    chunk: Vec<i16>,
    /// Energy of the unfinished block, by channel.
    energy: Vec<f64>,
    frames: u64,
    loudness: Vec<Vec<u8>>,
}

impl Packer {
    fn new(channels: usize, sample_rate: u32) -> Self {
        Self {
            channels,
            block: u64::from(sample_rate / BLOCKS_PER_SECOND),
            chunk: Vec::new(),
            energy: vec![0.0; channels],
            frames: 0,
            loudness: vec![Vec::new(); channels],
        }
    }

    /// Takes the planar frames out of `planar`. False if the sink wants no more.
    fn pack(&mut self, planar: &mut [Vec<f32>], sink: &mut dyn FnMut(Vec<i16>) -> bool) -> bool {
        let chunk_samples = CHUNK_FRAMES as usize * self.channels;
        for frame in 0..planar.first().map_or(0, Vec::len) {
            for (channel, energy) in planar.iter().zip(&mut self.energy) {
                let sample = (channel[frame] * 32_768.0).round().clamp(-32_768.0, 32_767.0);
                self.chunk.push(sample as i16);
                *energy += f64::from(sample) * f64::from(sample);
            }
            self.frames += 1;
            if self.frames.is_multiple_of(self.block) {
                self.close_block(self.block);
            }
            if self.chunk.len() == chunk_samples && !sink(std::mem::take(&mut self.chunk)) {
                return false;
            }
        }
        planar.iter_mut().for_each(Vec::clear);
        true
    }

    fn finish(&mut self, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> bool {
        if !self.frames.is_multiple_of(self.block) {
            self.close_block(self.frames % self.block);
        }
        self.chunk.is_empty() || sink(std::mem::take(&mut self.chunk))
    }

    fn close_block(&mut self, frames: u64) {
        let full_scale = 32_768.0 * 32_768.0 * frames as f64;
        for (loudness, energy) in self.loudness.iter_mut().zip(&mut self.energy) {
            loudness.push(loudness_byte(*energy / full_scale));
            *energy = 0.0;
        }
    }
}
