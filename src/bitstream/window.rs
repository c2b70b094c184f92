//! A bounded view of a file of any size.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes read at a time. More than a chunk has at most, so that scanning past many candidates does
/// not read the same bytes again and again.
const READ_AHEAD: usize = 1 << 18;

/// Gives slices of a file by their offset and keeps no more of it in memory than the largest slice
/// asked for, or a quarter of a mebibyte.
#[derive(Debug)]
pub(super) struct Window<R> {
    source: R,
    len: u64,
    /// Where in the file the buffer begins.
    start: u64,
    buffer: Vec<u8>,
}

impl<R: Read + Seek> Window<R> {
    /// A window on `source`, from its first byte to its last.
    pub fn new(mut source: R) -> io::Result<Self> {
        let len = source.seek(SeekFrom::End(0))?;
        Ok(Self { source, len, start: 0, buffer: Vec::new() })
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The `want` bytes at offset `at`, fewer only where the file ends.
    pub fn get(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let left = self.len.saturating_sub(at);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(want);
        let held = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let from = match held {
            Some(from) if from.saturating_add(want) <= self.buffer.len() => from,
            _ => {
                let ahead = usize::try_from(left).unwrap_or(usize::MAX).min(READ_AHEAD).max(want);
                self.fill(at, ahead)?;
                0
            }
        };
        Ok(&self.buffer[from..self.buffer.len().min(from + want)])
    }

    fn fill(&mut self, at: u64, count: usize) -> io::Result<()> {
        self.buffer.clear();
        self.start = at;
        self.source.seek(SeekFrom::Start(at))?;
        let read = (&mut self.source).take(count as u64).read_to_end(&mut self.buffer)?;
        if read < count {
            // Someone cut the file while it was read: it ends here.
            self.len = at + read as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn slices_are_those_of_the_file() {
        let file: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let mut window = Window::new(Cursor::new(&file)).unwrap();
        assert_eq!(window.len(), 1_000_000);
        for at in [0usize, 1, 262_100, 262_144, 262_145, 100, 999_000, 999_990, 999_999, 5] {
            for want in [0, 1, 100, 65_547] {
                let expected = &file[at..file.len().min(at + want)];
                assert_eq!(window.get(at as u64, want).unwrap(), expected, "{at} {want}");
                assert!(window.buffer.capacity() <= 2 * READ_AHEAD);
            }
        }
        assert!(window.get(1_000_000, 10).unwrap().is_empty());
        assert!(window.get(u64::MAX, 10).unwrap().is_empty());
    }

    #[test]
    fn a_file_cut_meanwhile_ends_there() {
        struct Shrunk(Cursor<Vec<u8>>);
        impl Read for Shrunk {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Seek for Shrunk {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                if to == SeekFrom::End(0) { Ok(1000) } else { self.0.seek(to) }
            }
        }
        let mut window = Window::new(Shrunk(Cursor::new(vec![1; 10]))).unwrap();
        assert_eq!(window.get(4, 100).unwrap(), [1; 6]);
        assert_eq!(window.len(), 10);
        assert!(window.get(10, 100).unwrap().is_empty());
    }
}
