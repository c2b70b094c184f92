//! Reading a `.tsr` file, whole or damaged, in bounded memory.

use super::ahead::{Ahead, Found, Intact};
use super::chunk::{self, CHUNK_OVERHEAD, Chunk, ChunkHead, HEAD_BYTES};
use super::damage::{Damage, DamageReason};
use super::header::{Header, HeaderError};
use super::index::{self, Index};
use super::payload::{self, CoderError, PayloadCoder};
use super::window::Window;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use thiserror::Error;

/// How far before the end of the file the trailer is looked for: tags and the like may follow it.
const TRAILER_SEARCH: usize = 1 << 16;
/// How many end marks there are looked at, from the last: each may cost a checksum of a mebibyte.
const TRAILER_CANDIDATES: usize = 8;
/// Bytes scanned at a time for a sync word.
const SCAN_BYTES: usize = 4096;
/// How many bytes may be checksummed in a scan for each byte passed, and how many besides. Damage
/// costs about one; only a file made to do harm, full of heads of large chunks, costs more.
const SCAN_EFFORT: u64 = 8;
const SCAN_EFFORT_BESIDES: u64 = 1 << 20;

/// Why a file cannot be read at all, or not as asked.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused to give the bytes.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// The header is not that of a `.tsr` file that this version reads.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The file needs a prior, and this is not the one.
    #[error(transparent)]
    Coder(#[from] CoderError),
    /// A chunk beyond the last.
    #[error("there is no chunk {chunk}: the file has {chunks}")]
    NoSuchChunk {
        /// The chunk asked for, from 0.
        chunk: u32,
        /// Chunks of the file.
        chunks: u32,
    },
    /// No levels, or more than there are.
    #[error("{asked} levels asked for but the file has {stored}: ask for 1 to {stored}")]
    Levels {
        /// Levels asked for.
        asked: usize,
        /// Levels of the file.
        stored: usize,
    },
}

/// What comes next in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The next chunk.
    Chunk(Chunk),
    /// Something else: chunks that were lost, or bytes that were passed over.
    Damage(Damage),
}

/// What comes next in a file, with payloads as they are stored.
pub(super) enum Stored {
    /// All bytes of the next chunk, and its steps.
    Chunk(Vec<u8>, u8),
    /// As [`Item::Damage`].
    Damage(Damage),
}

/// What the index and trailer told.
#[derive(Debug)]
struct Trailer {
    index: Index,
    samples: u64,
    /// Where the index begins: the chunks end before.
    start: u64,
    /// Where the trailer ends.
    end: u64,
}

/// Gives the chunks of a file in order, and [`Damage`] in place of those that are lost.
///
/// As an iterator it keeps the timeline: the steps of the items add up to [`steps`](Self::steps)
/// (where that is known), whatever happened to the file. The chunks' tokens are exactly those written,
/// or they are not given: a CRC-32 vouches for each.
///
/// Memory: a quarter of a mebibyte for the bytes of the file and the chunk given (at most a mebibyte),
/// independent of the file's length and of what it claims; with a coder of payloads, as many chunks as it
/// takes at once. An index of a file made to do harm may take 32 MiB; that of a file a
/// [`super::ContainerWriter`] made takes some bytes, and with a prior some bytes for each chunk.
#[derive(Debug)]
pub struct ContainerReader<R> {
    window: Window<R>,
    header: Header,
    header_bytes: u64,
    /// Levels to give; the others are passed over.
    levels: usize,
    /// What the payloads are decoded with, where the header names one.
    coder: Option<Box<dyn PayloadCoder>>,
    /// What was found and not given yet.
    ahead: Ahead,
    trailer: Option<Trailer>,
    /// Samples per channel, from the header or the trailer.
    samples: Option<u64>,
    /// Steps of the file: from the sample count, or the end of a short chunk, which must be the last.
    total: Option<u64>,
    /// The next chunk to be found, and where.
    next: u32,
    position: u64,
    /// Whether all has been found, to the state of the end of the file, or reading failed.
    ended: bool,
}

impl ContainerReader<File> {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_path(path: &Path) -> Result<Self, ReadError> {
        Self::open(File::open(path)?)
    }
}

impl<R: Read + Seek> ContainerReader<R> {
    /// Reads the header, and index and trailer if they are there. Reads a few hundred kilobytes at a
    /// time, so a `BufReader` is of no use.
    ///
    /// # Errors
    /// [`ReadError::Header`] says what is wrong with the header; without it nothing can be read.
    /// Anything else wrong with the file is no error here but a [`Damage`] later.
    pub fn open(source: R) -> Result<Self, ReadError> {
        let mut window = Window::new(source)?;
        let bytes = window.get(0, Header::longest())?;
        let (header, length) = Header::parse(bytes)?;
        let header_crc = bytes[..length].last_chunk().copied().unwrap_or_default();
        let trailer = find_trailer(&mut window, &header, length as u64, header_crc)?;
        let samples = header.samples.or(trailer.as_ref().map(|t| t.samples));
        Ok(Self {
            total: samples.map(|samples| header.steps(samples)),
            levels: header.layout.levels(),
            coder: None,
            ahead: Ahead::default(),
            header_bytes: length as u64,
            position: length as u64,
            next: 0,
            ended: false,
            window,
            header,
            trailer,
            samples,
        })
    }

    /// The header of the file, with all the levels it has.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Samples per channel at the source's rate; `None` when the header does not know and the trailer
    /// is lost.
    pub fn samples(&self) -> Option<u64> {
        self.samples
    }

    /// Steps of the file; `None` while that is not known.
    pub fn steps(&self) -> Option<u64> {
        self.total
    }

    /// Chunks of the file; `None` while that is not known.
    pub fn chunks(&self) -> Option<u32> {
        let full = u64::from(self.header.steps_per_chunk);
        self.total.map(|total| u32::try_from(total.div_ceil(full)).unwrap_or(u32::MAX))
    }

    /// Whether the file has an intact index.
    pub fn has_index(&self) -> bool {
        self.trailer.is_some()
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.window.len()
    }

    /// Gives only the first `levels` levels from now on: a coarser description of the same audio.
    ///
    /// # Errors
    /// [`ReadError::Levels`] unless `levels` is 1 to the number of levels in the file.
    pub fn limit_levels(&mut self, levels: usize) -> Result<(), ReadError> {
        let stored = self.header.layout.levels();
        if !(1..=stored).contains(&levels) {
            return Err(ReadError::Levels { asked: levels, stored });
        }
        self.levels = levels;
        Ok(())
    }

    /// How many levels the chunks to come have: all of the file's, or as many as
    /// [`limit_levels`](Self::limit_levels) left.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Decodes payloads with `coder`, from the first chunk on. A file that names no prior needs none, and
    /// leaves it.
    ///
    /// # Errors
    /// The header names a prior, and this is not the one, or there is none.
    pub fn set_coder(&mut self, coder: Option<Box<dyn PayloadCoder>>) -> Result<(), CoderError> {
        self.coder = payload::choose(&self.header, coder)?;
        self.rewind();
        Ok(())
    }

    /// Reads at most `chunks` chunks at a time from now on, however many a coder of payloads would like to
    /// decode together: for who needs each as soon as it can be there.
    pub fn limit_ahead(&mut self, chunks: usize) {
        self.ahead.limit(chunks);
    }

    /// Whether chunks can be decoded: the header names no prior, or it is at hand.
    pub fn can_decode(&self) -> bool {
        self.header.prior_id.is_none() || self.coder.is_some()
    }

    /// Goes back to the first chunk.
    pub fn rewind(&mut self) {
        self.go_to(0, self.header_bytes);
    }

    /// Goes to chunk `number`: it is the next item, or else the [`Damage`] that it is part of is
    /// (damage of no chunks, bytes that stand before it, may come first).
    /// To decode from there as in the whole file, go [`Header::warm_up_chunks`] further back and drop
    /// the output of the chunks before.
    ///
    /// Looks where the index says, or where the chunk would be if all have the same size; scans the
    /// file from its start when neither helps.
    ///
    /// # Errors
    /// [`ReadError::NoSuchChunk`] when the file is known to have fewer chunks, and [`ReadError::Io`].
    pub fn seek_chunk(&mut self, number: u32) -> Result<(), ReadError> {
        if let Some(chunks) = self.chunks().filter(|&chunks| number >= chunks) {
            return Err(ReadError::NoSuchChunk { chunk: number, chunks });
        }
        let Some(before) = number.checked_sub(1) else {
            self.rewind();
            return Ok(());
        };
        // A chunk is due where it begins, a lost one where the next begins that is there, and either
        // just as surely where the one before it ends.
        let stored = self.trailer.as_ref().and_then(|trailer| trailer.index.stored_from(number));
        let position = match self.find_at_guess(stored.unwrap_or(number))? {
            Some((offset, _)) => offset,
            None => match self.find_at_guess(before)? {
                Some((offset, head)) => offset + head.chunk_bytes() as u64,
                None => self.scan_for(number)?,
            },
        };
        self.go_to(number, position);
        Ok(())
    }

    fn go_to(&mut self, number: u32, position: u64) {
        self.next = number;
        self.position = position;
        self.ended = false;
        self.ahead.clear();
    }

    /// Chunk `number` if it is where the index, or else the size of a full chunk, puts it.
    fn find_at_guess(&mut self, number: u32) -> io::Result<Option<(u64, ChunkHead)>> {
        let sizes = self.header.payload_bytes(self.header.steps_per_chunk.into());
        let guess = match &self.trailer {
            Some(trailer) => trailer.index.offset(number),
            None if sizes.start() < sizes.end() => None,
            None => {
                let full = (sizes.end() + CHUNK_OVERHEAD) as u64;
                Some(self.header_bytes + u64::from(number) * full)
            }
        };
        let Some(offset) = guess else { return Ok(None) };
        let found = self.probe(offset)?.ok().filter(|head| head.number == number);
        Ok(found.map(|head| (offset, head)))
    }

    /// Where chunk `number` is due: after the last chunk before it.
    fn scan_for(&mut self, number: u32) -> io::Result<u64> {
        let mut due = self.header_bytes;
        while let Some((offset, head)) = self.find_chunk(due)? {
            if head.number >= number {
                break;
            }
            due = offset + head.chunk_bytes() as u64;
        }
        Ok(due)
    }

    /// Steps of all chunks whose checksum holds, whatever their payload. Reads the whole file, decodes nothing,
    /// and leaves the reader where it is.
    ///
    /// # Errors
    /// When the system refuses to give the bytes.
    pub fn intact_steps(&mut self) -> Result<u64, ReadError> {
        let ahead = std::mem::take(&mut self.ahead);
        let place = (self.next, self.position, self.ended, self.total);
        self.go_to(0, self.header_bytes);
        let (mut steps, mut failed) = (0, None);
        while !self.ended && failed.is_none() {
            match self.advance() {
                Ok(Some(Found::Chunk(chunk))) => steps += u64::from(chunk.head.steps),
                Ok(Some(Found::Damage(_))) => {}
                Ok(None) => break,
                Err(error) => failed = Some(error),
            }
        }
        (self.next, self.position, self.ended, self.total) = place;
        self.ahead = ahead;
        failed.map_or(Ok(steps), |error| Err(error.into()))
    }

    /// The next chunk or damage; `None` at the end.
    ///
    /// # Errors
    /// When the system refuses to give the bytes; there is nothing after that. [`ReadError::Coder`] when
    /// the payloads need a coder and there is none ([`set_coder`](Self::set_coder)).
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        if let Some(prior) =
            self.header.prior_id_hex().filter(|_| !self.can_decode() && !self.ended)
        {
            self.ended = true;
            return Err(CoderError::Missing { prior }.into());
        }
        let chunk = match self.next_found()? {
            None => return Ok(None),
            Some(Found::Damage(damage)) => return Ok(Some(Item::Damage(damage))),
            Some(Found::Chunk(chunk)) => chunk,
        };
        let (number, steps) = (chunk.head.number, chunk.head.steps.into());
        Ok(Some(match chunk.decode(&self.header, self.levels) {
            Ok((channels, _)) => Item::Chunk(Chunk { number, steps, channels }),
            Err(damage) => Item::Damage(damage),
        }))
    }

    /// As [`next_item`](Self::next_item), without decoding payloads that need a coder.
    pub(super) fn next_stored(&mut self) -> io::Result<Option<Stored>> {
        let chunk = match self.next_found()? {
            None => return Ok(None),
            Some(Found::Damage(damage)) => return Ok(Some(Stored::Damage(damage))),
            Some(Found::Chunk(chunk)) => chunk,
        };
        let steps = chunk.head.steps;
        if !self.can_decode() {
            return Ok(Some(Stored::Chunk(chunk.bytes, steps)));
        }
        Ok(Some(match chunk.decode(&self.header, self.levels) {
            Ok((_, bytes)) => Stored::Chunk(bytes, steps),
            Err(damage) => Stored::Damage(damage),
        }))
    }

    fn next_found(&mut self) -> io::Result<Option<Found>> {
        if self.ahead.is_empty() {
            let most = self.coder.as_ref().map_or(1, |coder| coder.chunks_at_once());
            for _ in 0..self.ahead.next_count(most) {
                if self.ended {
                    break;
                }
                let found = self.advance();
                self.ended |= found.is_err();
                self.ahead.push(found.transpose());
            }
            self.ahead.decode(&self.header, self.coder.as_deref_mut());
        }
        self.ahead.pop()
    }

    fn advance(&mut self) -> io::Result<Option<Found>> {
        let left = self.chunks_end().saturating_sub(self.position);
        if self.all_chunks_passed() || left == 0 {
            return Ok(self.end().map(Found::Damage));
        }
        let head = match self.probe(self.position)? {
            Ok(head) => head,
            Err(reason) => return Ok(Some(Found::Damage(self.resynchronise(reason)?))),
        };
        if head.number > self.next {
            let reason = self.missing(head.number);
            let damage = self.lose_until(head.number, self.position, reason);
            return Ok(Some(Found::Damage(damage)));
        }
        let start = self.position;
        self.position += head.chunk_bytes() as u64;
        if head.number < self.next {
            let reason = DamageReason::OutOfOrder { number: head.number };
            return Ok(Some(Found::Damage(self.lose_until(self.next, start, reason))));
        }
        if self.total.is_none() && head.steps < self.header.steps_per_chunk {
            let full = u64::from(self.header.steps_per_chunk);
            self.total = Some(u64::from(head.number) * full + u64::from(head.steps));
        }
        let bytes = self.window.get(start, head.chunk_bytes())?.to_vec();
        // Whatever its payload turns out to be, the next chunk is due now.
        let if_bad = self.lose_until(self.next + 1, start, DamageReason::Coding);
        Ok(Some(Found::Chunk(Intact { head, bytes, tokens: None, if_bad })))
    }

    /// No chunk is where one is due, for the reason given: finds the next one.
    fn resynchronise(&mut self, reason: DamageReason) -> io::Result<Damage> {
        let start = self.position;
        if let Some((offset, head)) = self.find_chunk(start + 1)? {
            self.position = offset;
            return Ok(if head.number > self.next {
                self.lose_until(head.number, start, reason)
            } else {
                let reason = DamageReason::Garbage { bytes: offset - start };
                self.lose_until(self.next, start, reason)
            });
        }
        self.position = self.chunks_end();
        let only_cut = reason == DamageReason::Truncated;
        if let Some(chunks) = self.chunks().filter(|_| self.trailer.is_some() || only_cut) {
            self.ended = only_cut;
            return Ok(self.lose_until(chunks, start, reason));
        }
        // Without a trailer the file may have been cut as well: this chunk was here, damaged; of
        // those after it nothing is left.
        let damaged = self.damaged_head(start)?;
        if self.total.is_none() {
            let is_index = self.window.get(start, index::SYNC.len())? == index::SYNC;
            let Some(head) = damaged else {
                self.ended |= is_index;
                let reason = if is_index { DamageReason::Index } else { reason };
                return Ok(self.lose_until(self.next, start, reason));
            };
            let full = u64::from(self.header.steps_per_chunk);
            let end = u64::from(head.number) * full + u64::from(head.steps);
            if head.steps < self.header.steps_per_chunk {
                self.total = Some(end);
            }
        }
        Ok(self.lose_until(self.next + 1, start, reason))
    }

    /// The head at `offset` if it looks like that of the chunk due, although the chunk is damaged.
    fn damaged_head(&mut self, offset: u64) -> io::Result<Option<ChunkHead>> {
        let head = ChunkHead::parse(self.window.get(offset, HEAD_BYTES)?);
        Ok(head.filter(|h| h.number == self.next && h.is_plausible(&self.header, self.total)))
    }

    /// What is to be said at the end, one thing at a time; `None` when all is said.
    fn end(&mut self) -> Option<Damage> {
        let at = self.position;
        if let Some(chunks) = self.chunks().filter(|&chunks| self.next < chunks) {
            // A file cut here has no index either; that goes without saying.
            self.ended = self.trailer.is_none();
            let reason = if self.ended { DamageReason::Truncated } else { self.missing(chunks) };
            return Some(self.lose_until(chunks, at, reason));
        }
        let Some(trailer) = &self.trailer else {
            self.ended = true;
            let reason = match self.total {
                Some(_) => DamageReason::Index,
                None => DamageReason::Truncated,
            };
            return Some(self.lose_until(self.next, at, reason));
        };
        let (start, end) = (trailer.start, trailer.end);
        if at < start {
            self.position = start;
            let reason = DamageReason::Garbage { bytes: start - at };
            return Some(self.lose_until(self.next, at, reason));
        }
        self.ended = true;
        let bytes = self.window.len().saturating_sub(end);
        let reason = DamageReason::TrailingBytes { bytes };
        (bytes > 0).then(|| self.lose_until(self.next, end, reason))
    }

    /// Why the chunks from the one due up to, not including, `number` are not there.
    fn missing(&self, number: u32) -> DamageReason {
        match &self.trailer {
            Some(trailer) if trailer.index.marks_lost(self.next, number) => DamageReason::Marked,
            _ => DamageReason::Missing,
        }
    }

    /// Gives up all chunks from the one due up to, not including, `number`.
    fn lose_until(&mut self, number: u32, offset: u64, reason: DamageReason) -> Damage {
        let first = self.next;
        let full = u64::from(self.header.steps_per_chunk);
        let step = |n: u32| (u64::from(n) * full).min(self.total.unwrap_or(u64::MAX));
        let steps = step(number).saturating_sub(step(first));
        self.next = number;
        Damage { first, chunks: number - first, steps, offset, reason }
    }

    fn all_chunks_passed(&self) -> bool {
        self.chunks().is_some_and(|chunks| self.next >= chunks)
    }

    /// Where no chunk can be any more.
    fn chunks_end(&self) -> u64 {
        self.trailer.as_ref().map_or(self.window.len(), |trailer| trailer.start)
    }

    /// The head of the chunk at `offset`, if there is an intact one, or why there is none.
    fn probe(&mut self, offset: u64) -> io::Result<Result<ChunkHead, DamageReason>> {
        let left = self.chunks_end().saturating_sub(offset);
        let cut = |reason| {
            if self.trailer.is_none() { DamageReason::Truncated } else { reason }
        };
        if left < HEAD_BYTES as u64 {
            return Ok(Err(cut(DamageReason::Sync)));
        }
        let (no_head, no_end) = (cut(DamageReason::Sync), cut(DamageReason::Head));
        let bytes = self.window.get(offset, HEAD_BYTES)?;
        let head = match ChunkHead::parse(bytes) {
            Some(head) => head,
            None if bytes.len() < HEAD_BYTES => return Ok(Err(no_head)),
            None => return Ok(Err(DamageReason::Sync)),
        };
        if !head.is_plausible(&self.header, self.total) {
            return Ok(Err(DamageReason::Head));
        }
        if head.chunk_bytes() as u64 > left {
            return Ok(Err(no_end));
        }
        let bytes = self.window.get(offset, head.chunk_bytes())?;
        if bytes.len() < head.chunk_bytes() {
            return Ok(Err(no_end));
        }
        Ok(if chunk::crc_holds(bytes) { Ok(head) } else { Err(DamageReason::Checksum) })
    }

    /// The first intact chunk at or after `from`.
    ///
    /// Takes time in proportion to the bytes passed. In a sea of heads made to exceed that, chunks are
    /// passed over that a more patient reader would find.
    fn find_chunk(&mut self, from: u64) -> io::Result<Option<(u64, ChunkHead)>> {
        let mut at = from;
        let mut effort = 0;
        while at < self.chunks_end() {
            let bytes = self.window.get(at, SCAN_BYTES)?;
            if bytes.len() < CHUNK_OVERHEAD {
                break;
            }
            let Some(skip) = bytes.windows(SYNC_BYTES).position(|pair| pair == chunk::SYNC) else {
                // The last byte may be half a sync word.
                at += (bytes.len() - 1) as u64;
                continue;
            };
            at += skip as u64;
            let head = ChunkHead::parse(self.window.get(at, HEAD_BYTES)?);
            let head = head.filter(|head| head.is_plausible(&self.header, self.total));
            let cost = head.map_or(0, |head| head.chunk_bytes() as u64);
            if cost > 0 && effort + cost <= SCAN_EFFORT * (at - from) + SCAN_EFFORT_BESIDES {
                effort += cost;
                if let Ok(head) = self.probe(at)? {
                    return Ok(Some((at, head)));
                }
            }
            at += 1;
        }
        Ok(None)
    }
}

/// Bytes of a sync word.
const SYNC_BYTES: usize = chunk::SYNC.len();

impl<R: Read + Seek> Iterator for ContainerReader<R> {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item().transpose()
    }
}

/// The index and trailer of a file whose header ends at `start`: the last intact ones.
fn find_trailer<R: Read + Seek>(
    window: &mut Window<R>,
    header: &Header,
    start: u64,
    header_crc: [u8; 4],
) -> io::Result<Option<Trailer>> {
    let tail_start = window.len().saturating_sub(TRAILER_SEARCH as u64).max(start);
    let tail = window.get(tail_start, TRAILER_SEARCH)?.to_vec();
    let marks = (index::TRAILER_BYTES..=tail.len())
        .rev()
        .filter(|&end| tail[..end].ends_with(&index::END_MARK))
        .take(TRAILER_CANDIDATES);
    for end in marks {
        let Some(trailer) = tail[..end].last_chunk() else {
            continue;
        };
        let length = index::length(trailer);
        let end = tail_start + end as u64;
        if length > index::MAX_INDEX_BYTES || length as u64 > end - start {
            continue;
        }
        let index_start = end - length as u64;
        let parsed = Index::parse(window.get(index_start, length)?, start, header_crc);
        let Some((index, samples)) = parsed else {
            continue;
        };
        let agrees = header.validate_samples(samples).is_ok()
            && header.samples.is_none_or(|promised| promised == samples)
            && header.chunks(samples) == index.chunks();
        if agrees {
            return Ok(Some(Trailer { index, samples, start: index_start, end }));
        }
    }
    Ok(None)
}
