//! What a file of tokens says about itself, as JSON: the same in every format.

use serde::{Deserialize, Serialize};

use super::{Format, TokenFileError};
use crate::bitstream::{Header, HeaderError};
use crate::lines::Kept;
use crate::tokens::TokenLayout;

/// What the JSON calls itself.
const NAME: &str = "tessera-tokens";
/// The version written, and the only one read.
const VERSION: u32 = 1;
/// The longest metadata that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 16;

/// The metadata as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    format: String,
    version: u32,
    model_id: String,
    source_rate: u32,
    channels: u16,
    samples: u64,
    codec_rate: u32,
    hop: u32,
    pre_skip: u32,
    warm_up_steps: u16,
    levels: usize,
    strides: Vec<usize>,
    codebook_sizes: Vec<usize>,
    /// Numbers of a step's lines; not there where there are no lines.
    #[serde(default, skip_serializing_if = "is_zero")]
    lines: usize,
}

fn is_zero(numbers: &usize) -> bool {
    *numbers == 0
}

impl Metadata {
    /// The metadata of a file.
    pub fn of(header: &Header) -> Self {
        Self {
            format: NAME.into(),
            version: VERSION,
            model_id: header.model_id_hex(),
            source_rate: header.source_rate,
            channels: header.channels,
            samples: header.samples.unwrap_or(0),
            codec_rate: header.codec_rate,
            hop: header.hop,
            pre_skip: header.pre_skip,
            warm_up_steps: header.warm_up_steps,
            levels: header.layout.levels(),
            strides: header.layout.strides.clone(),
            codebook_sizes: header.layout.codebook_sizes.clone(),
            lines: header.lines.numbers(),
        }
    }

    /// From JSON in a file of the format `format`.
    pub fn parse(format: Format, text: &str) -> Result<Self, TokenFileError> {
        if text.len() > MAX_BYTES {
            return Err(TokenFileError::damaged(format, "its metadata are too long"));
        }
        serde_json::from_str(text)
            .map_err(|e| TokenFileError::damaged(format, format!("its metadata: {e}")))
    }

    /// What was said, checked.
    pub fn header(self, format: Format) -> Result<Header, TokenFileError> {
        if self.format != NAME {
            let reason = format!("its metadata are not of the format {NAME}");
            return Err(TokenFileError::damaged(format, reason));
        }
        if self.version != VERSION {
            let reason = format!("it is of version {}, and {VERSION} is known", self.version);
            return Err(TokenFileError::damaged(format, reason));
        }
        let model_id = model_id(&self.model_id).ok_or_else(|| {
            TokenFileError::damaged(format, "the model_id is not 32 hexadecimal digits")
        })?;
        let layout = TokenLayout { strides: self.strides, codebook_sizes: self.codebook_sizes };
        layout.validate().map_err(HeaderError::from)?;
        if self.levels != layout.levels() {
            let reason = format!("{} levels but {} strides", self.levels, layout.levels());
            return Err(TokenFileError::damaged(format, reason));
        }
        let lines = Kept::of_numbers(self.lines).ok_or_else(|| {
            let numbers = Kept::EVERY.iter().filter(|kept| kept.any());
            let numbers: Vec<_> = numbers.map(|kept| kept.numbers().to_string()).collect();
            let numbers = numbers.join(", ");
            let reason =
                format!("lines of {} numbers, and there are {numbers} or none", self.lines);
            TokenFileError::damaged(format, reason)
        })?;
        let steps_per_chunk =
            Header::steps_per_second(self.codec_rate, self.hop, &layout, self.channels);
        let header = Header {
            model_id,
            source_rate: self.source_rate,
            channels: self.channels,
            samples: Some(self.samples),
            codec_rate: self.codec_rate,
            hop: self.hop,
            pre_skip: self.pre_skip,
            steps_per_chunk,
            warm_up_steps: self.warm_up_steps,
            prior_id: None,
            lines: Kept::Nothing,
            layout,
        }
        .with_lines(lines);
        header.validate()?;
        Ok(header)
    }
}

fn model_id(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(text, 16).ok()?.to_be_bytes())
}
