//! The cache file: every clip as 16-bit samples, the loudness of its parts, and an index.
//!
//! ```text
//! chunks of interleaved 16-bit samples, CHUNK_FRAMES frames each, of several clips in any order
//! loudness bytes, clip by clip, channel by channel, one for every BLOCKS_PER_SECOND-th of a second
//! the index as JSON
//! trailer: loudness offset, index offset, index length (u64), CRC-32 of loudness and index, magic
//! ```
//!
//! All numbers are little-endian. The file gets its name when it is complete, so one that is there
//! is whole; the checks are against damage afterwards.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DatasetError;

/// Changes whenever the meaning of the file does.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Frames in every chunk of a clip but the last.
pub(super) const CHUNK_FRAMES: u64 = 1 << 18;

/// Loudness is measured over a tenth of a second.
pub(super) const BLOCKS_PER_SECOND: u32 = 10;

/// Last bytes of the file.
pub(super) const MAGIC: &[u8; 8] = b"TSRDATA1";

/// Length of the trailer.
pub(super) const TRAILER_BYTES: u64 = 36;

/// One audio file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Clip {
    /// Path below the folder.
    pub path: String,
    /// First-level subfolder.
    pub kind: String,
    pub channels: u16,
    /// Samples per channel.
    pub frames: u64,
    /// Where its chunks start in the file.
    pub chunks: Vec<u64>,
    /// Where its loudness starts among the loudness bytes.
    pub loudness: u64,
}

/// What the cache holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    pub sample_rate: u32,
    pub clips: Vec<Clip>,
    pub skipped: Vec<(String, String)>,
    pub warnings: Vec<(String, String)>,
}

/// A cache file, open for reading from any thread.
#[derive(Debug)]
pub(super) struct Cache {
    file: File,
    path: PathBuf,
    bytes: u64,
    index: Index,
    loudness: Vec<u8>,
}

impl Cache {
    /// `None` if there is no such file, or none that is intact.
    pub fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let bytes = file.metadata().ok()?.len();
        let trailer_at = bytes.checked_sub(TRAILER_BYTES)?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        read_at(&file, &mut trailer, trailer_at).ok()?;
        let u64_at = |at: usize| trailer[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let (loudness_at, index_at, index_len) = (u64_at(0)?, u64_at(8)?, u64_at(16)?);
        let crc = trailer[24..28].try_into().ok().map(u32::from_le_bytes)?;
        let whole = index_at.checked_add(index_len) == Some(trailer_at) && loudness_at <= index_at;
        if &trailer[28..] != MAGIC || !whole {
            return None;
        }
        // No more than the file holds.
        let mut tables = vec![0; usize::try_from(trailer_at - loudness_at).ok()?];
        read_at(&file, &mut tables, loudness_at).ok()?;
        if crc32fast::hash(&tables) != crc {
            return None;
        }
        let json = tables.split_off(usize::try_from(index_at - loudness_at).ok()?);
        let index: Index = serde_json::from_slice(&json).ok()?;
        let cache = Self { file, path: path.into(), bytes, index, loudness: tables };
        cache.index.clips.iter().all(|clip| cache.holds(clip, loudness_at)).then_some(cache)
    }

    /// Whether everything the index says of a clip lies inside the file.
    fn holds(&self, clip: &Clip, data_end: u64) -> bool {
        let frame_bytes = u64::from(clip.channels) * 2;
        let chunks_fit = clip.chunks.iter().enumerate().all(|(i, offset)| {
            let frames = clip.frames.saturating_sub(i as u64 * CHUNK_FRAMES).min(CHUNK_FRAMES);
            offset.checked_add(frames * frame_bytes).is_some_and(|end| end <= data_end)
        });
        let blocks = clip.blocks(self.index.sample_rate).checked_mul(u64::from(clip.channels));
        let loudness_end = blocks.and_then(|blocks| clip.loudness.checked_add(blocks));
        clip.channels > 0
            && self.index.sample_rate >= BLOCKS_PER_SECOND
            && clip.chunks.len() as u64 == clip.frames.div_ceil(CHUNK_FRAMES)
            && chunks_fit
            && loudness_end.is_some_and(|end| end <= self.loudness.len() as u64)
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Loudness of `channel` of a clip, a byte per block; see [`loudness_byte`].
    pub fn loudness(&self, clip: usize, channel: usize) -> &[u8] {
        let clip = &self.index.clips[clip];
        let blocks = clip.blocks(self.index.sample_rate) as usize;
        let start = clip.loudness as usize + channel * blocks;
        &self.loudness[start..start + blocks]
    }

    /// Fills `samples` from frame `start` of `channel` of a clip on; these frames must exist.
    pub fn read(
        &self,
        clip: usize,
        channel: usize,
        start: u64,
        samples: &mut [f32],
    ) -> Result<(), DatasetError> {
        let clip = &self.index.clips[clip];
        let frame_bytes = usize::from(clip.channels) * 2;
        let mut bytes = Vec::new();
        let mut done = 0;
        while done < samples.len() {
            let position = start + done as u64;
            let inside = position % CHUNK_FRAMES;
            let frames = ((CHUNK_FRAMES - inside) as usize).min(samples.len() - done);
            bytes.resize(frames * frame_bytes, 0);
            let chunk = clip.chunks[(position / CHUNK_FRAMES) as usize];
            read_at(&self.file, &mut bytes, chunk + inside * frame_bytes as u64)
                .map_err(|source| DatasetError::Cache { path: self.path.clone(), source })?;
            let frames_of_bytes = bytes.chunks_exact(frame_bytes);
            for (sample, frame) in samples[done..done + frames].iter_mut().zip(frames_of_bytes) {
                let value = i16::from_le_bytes([frame[channel * 2], frame[channel * 2 + 1]]);
                *sample = f32::from(value) / 32_768.0;
            }
            done += frames;
        }
        Ok(())
    }
}

impl Clip {
    /// Loudness blocks of a channel.
    pub fn blocks(&self, sample_rate: u32) -> u64 {
        self.frames.div_ceil(u64::from((sample_rate / BLOCKS_PER_SECOND).max(1)))
    }
}

/// A mean square (full scale is 1) in half decibels below full scale: 0 is full scale, 255 is
/// -127.5 dBFS and everything below.
pub(super) fn loudness_byte(mean_square: f64) -> u8 {
    if mean_square <= 0.0 {
        return u8::MAX;
    }
    (-20.0 * mean_square.log10()).round().clamp(0.0, 255.0) as u8
}

/// The mean square a byte stands for.
pub(super) fn mean_square(loudness: u8) -> f64 {
    10f64.powf(f64::from(loudness) / -20.0)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[count..];
        offset += count as u64;
    }
    Ok(())
}
