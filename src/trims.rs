//! Which trims are worth their bits: what is decoded is held against the original.
//!
//! A bit is spent where it brings levels closer by more than it is worth (entropy-constrained quantisation: Chou, Lookabaugh and
//! Gray 1989). Files are decoded first and their trims chosen afterwards, the best of all ways through some steps
//! ([`TrimSearch`]); live sound is held against what the decoder is about to make, step by step ([`TrimMeter`]).

mod bits;
mod frames;
mod meter;
mod search;

use crate::lines::{MOST_TRIMMED, TRIM_BANDS};

pub use meter::TrimMeter;
pub use search::{TrimRoom, TrimSearch};

/// By how many dB the sound of each band of a step is louder than the decoded one; `None` where there is next to nothing but lines.
pub type Errors = [Option<f32>; TRIM_BANDS];

/// The trims that there are.
const TRIMS: usize = 2 * MOST_TRIMMED as usize + 1;

/// Trim number `index`.
fn trim(index: usize) -> i8 {
    index as i8 - MOST_TRIMMED
}

/// The number of a trim.
fn index(trim: i8) -> usize {
    (trim + MOST_TRIMMED) as usize
}
