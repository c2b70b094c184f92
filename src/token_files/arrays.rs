//! Tokens as an array of channels x codes for each level, for the formats that hold arrays.

use super::{Format, TokenFile, TokenFileError};
use crate::bitstream::Header;
use crate::lines::{Kept, Lines};
use crate::tokens::Tokens;

/// Name of the metadata beside the arrays.
pub const METADATA: &str = "metadata";

/// Name of the array of a level, counted from 0; in names levels count from 1, as everywhere outside.
pub fn name(level: usize) -> String {
    format!("level_{}", level + 1)
}

/// Name of the array of lines.
pub const LINES: &str = "lines";

/// Channels, steps and numbers of the array of lines, where there is one.
pub fn lines_shape(file: &TokenFile) -> Option<[usize; 3]> {
    let steps = file.channels.first().map_or(0, |t| t.lines.len());
    let kept = file.header.lines;
    kept.any().then_some([file.channels.len(), steps, kept.numbers()])
}

/// Numbers of what is kept of lines, step by step.
pub fn numbers(kept: Kept, lines: &[Lines]) -> impl Iterator<Item = u16> {
    lines.iter().flat_map(move |lines| lines.to_codes().into_iter().take(kept.numbers()))
}

/// The lines as bytes: their numbers, 16 bits each, least significant byte first.
pub fn lines_bytes(file: &TokenFile) -> Vec<u8> {
    let channels = file.channels.iter();
    let numbers = channels.flat_map(|tokens| numbers(file.header.lines, &tokens.lines));
    numbers.flat_map(u16::to_le_bytes).collect()
}

/// The reverse of [`numbers`]; `None` when they are not of whole steps, or no lines have them.
pub fn lines(kept: Kept, codes: &[u16]) -> Option<Vec<Lines>> {
    let per_step = kept.numbers().max(1);
    let whole = codes.len().is_multiple_of(per_step) && (kept.any() || codes.is_empty());
    let lines = codes.chunks_exact(per_step).map(Lines::from_codes).collect::<Option<_>>()?;
    whole.then_some(lines)
}

/// Channels and codes of a level.
pub fn shape(file: &TokenFile, level: usize) -> [usize; 2] {
    [file.channels.len(), file.channels.first().map_or(0, |t| t.levels[level].len())]
}

/// The codes of a level as bytes: row by row, 16 bits each, least significant byte first.
pub fn bytes(file: &TokenFile, level: usize) -> Vec<u8> {
    let rows = file.channels.iter().flat_map(|tokens| &tokens.levels[level]);
    rows.flat_map(|code| code.to_le_bytes()).collect()
}

/// Puts tokens together from the arrays that `array` gives by name: their shape and bytes.
pub fn tokens<'a>(
    format: Format,
    header: Header,
    mut array: impl FnMut(&str) -> Result<(Vec<usize>, &'a [u8]), TokenFileError>,
) -> Result<TokenFile, TokenFileError> {
    let mut channels = vec![Tokens::default(); header.channels.into()];
    for level in 0..header.layout.levels() {
        let name = name(level);
        let rows = rows(format, &name, array(&name)?, channels.len(), &[])?;
        channels.iter_mut().zip(rows).for_each(|(tokens, codes)| tokens.levels.push(codes));
    }
    if header.lines.any() {
        let kept = header.lines;
        let rows = rows(format, LINES, array(LINES)?, channels.len(), &[kept.numbers()])?;
        for (tokens, codes) in channels.iter_mut().zip(rows) {
            tokens.lines = lines(kept, &codes).ok_or_else(|| {
                TokenFileError::damaged(format, format!("{LINES} has a number that no line has"))
            })?;
        }
    }
    TokenFile::new(header, channels)
}

/// The numbers of each channel in an array of channels x codes, each of `inner` numbers.
fn rows(
    format: Format,
    name: &str,
    (shape, bytes): (Vec<usize>, &[u8]),
    channels: usize,
    inner: &[usize],
) -> Result<Vec<Vec<u16>>, TokenFileError> {
    let size = shape.iter().try_fold(2usize, |size, n| size.checked_mul(*n));
    let fits = match &shape[..] {
        [rows, _, rest @ ..] => *rows == channels && rest == inner,
        _ => false,
    };
    if !fits || size != Some(bytes.len()) {
        let each: String = inner.iter().map(|n| format!(", {n}")).collect();
        let reason =
            format!("{name} has the shape {shape:?}, not [{channels} channels, codes{each}]");
        return Err(TokenFileError::damaged(format, reason));
    }
    let row = |row: &[u8]| row.as_chunks().0.iter().copied().map(u16::from_le_bytes).collect();
    let length = bytes.len() / channels.max(1);
    Ok((0..channels).map(|channel| row(&bytes[channel * length..][..length])).collect())
}
