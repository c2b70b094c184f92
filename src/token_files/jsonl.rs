//! Tokens as lines of JSON, one for each channel, with all codes in one sequence, step by step and in each
//! step from coarse to fine.

use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::{Format, TokenFile, TokenFileError};
use crate::bitstream::MAX_CHANNELS;
use crate::tokens::Tokens;

/// A channel.
#[derive(Serialize, Deserialize)]
struct Line {
    metadata: Metadata,
    /// From 0.
    channel: u16,
    codes: Vec<u16>,
    /// Numbers of lines, step by step; not there where there are no lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lines: Vec<u16>,
}

pub fn write(file: &TokenFile) -> Result<Vec<u8>, TokenFileError> {
    let mut bytes = Vec::new();
    for (channel, tokens) in (0..).zip(&file.channels) {
        let mut codes = Vec::new();
        tokens.append_steps_to(&mut codes, &file.header.layout);
        let lines = super::arrays::numbers(file.header.lines, &tokens.lines).collect();
        let line = Line { metadata: Metadata::of(&file.header), channel, codes, lines };
        serde_json::to_writer(&mut bytes, &line)
            .map_err(|e| TokenFileError::damaged(Format::Jsonl, e.to_string()))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

pub fn read(bytes: &[u8]) -> Result<TokenFile, TokenFileError> {
    let fail = |reason: String| TokenFileError::damaged(Format::Jsonl, reason);
    let lines: Vec<&[u8]> = bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .take(usize::from(MAX_CHANNELS) + 1)
        .collect();
    let mut first: Option<Metadata> = None;
    let mut channels = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let at = |reason: String| fail(format!("line {}: {reason}", number + 1));
        let line: Line = serde_json::from_slice(line).map_err(|e| at(e.to_string()))?;
        if usize::from(line.channel) != number {
            let reason = format!("it is channel {}, not {number}", line.channel);
            return Err(at(reason + "; give the lines of one recording, in order"));
        }
        if first.get_or_insert_with(|| line.metadata.clone()) != &line.metadata {
            return Err(at("its metadata are not those of the first line".into()));
        }
        channels.push((line.codes, line.lines));
    }
    let header = first.ok_or_else(|| fail("it is empty".into()))?.header(Format::Jsonl)?;
    let layout = &header.layout;
    let per_step: usize = (0..layout.levels()).map(|level| layout.codes_per_step(level)).sum();
    let channels = channels.into_iter().enumerate().map(|(channel, (codes, lines))| {
        if !codes.len().is_multiple_of(per_step) {
            let count = codes.len();
            let reason = format!("{count} codes are no whole steps of {per_step}");
            return Err(fail(format!("line {}: {reason}", channel + 1)));
        }
        let mut tokens = Tokens::new(layout.levels());
        tokens.extend_steps(&codes, layout);
        tokens.lines = super::arrays::lines(header.lines, &lines)
            .ok_or_else(|| fail(format!("line {}: lines that there cannot be", channel + 1)))?;
        Ok(tokens)
    });
    let channels = channels.collect::<Result<_, _>>()?;
    TokenFile::new(header, channels)
}
