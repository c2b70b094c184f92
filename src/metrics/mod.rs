//! How close decoded audio is to its reference, and how well the codebooks are used.
//!
//! The four audio metrics take mono signals at 48 kHz, as slices of `f32` or `f64`, and are those of
//! the project's independent scorer (`shared/eval/score.py`), which in turn takes the mel and STFT
//! distances from the Descript Audio Codec (Kumar et al. 2023, arXiv:2306.06546) and SI-SDR from Le
//! Roux et al. 2019 (arXiv:1811.02508). No single one of them is to be trusted: noise under the right
//! spectral envelope scores well in both distances, and only [`fine_structure`] and [`si_sdr`] tell.
//!
//! | metric | unit | range | better |
//! |---|---|---|---|
//! | [`mel_distance`] | decades, summed over seven windows | 0.. | down |
//! | [`stft_distance`] | decades of power plus magnitude, summed over two windows | 0.. | down |
//! | [`si_sdr`] | dB | about -120..=+120 for audio near full scale | up |
//! | [`fine_structure`] | correlation | -1..=1 | up |
//!
//! Nothing is aligned in time or level: a codec has to return the audio where it was.
//!
//! ```
//! use tessera_codec::metrics::Meter;
//!
//! let reference: Vec<f32> = (0..48_000).map(|n| (n as f32 * 0.05).sin()).collect();
//! let decoded: Vec<f32> = reference.iter().map(|s| 0.9 * s).collect();
//! let scores = Meter::new().compare(&reference, &decoded)?;
//! assert!(scores.si_sdr > 80.0); // a change of level alone is forgiven ...
//! assert!(scores.mel > 0.1); // ... but not by the mel distance.
//! # Ok::<(), tessera_codec::metrics::MetricError>(())
//! ```

mod codebook;
mod distance;
mod fine;
mod mel;
mod sdr;
mod spectrum;

pub use codebook::{CodebookStats, LevelStats};
pub use distance::{
    Meter, SAMPLE_RATE, Scores, fine_structure, mel_distance, si_sdr, stft_distance,
};

/// Why a figure could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// The two signals differ by more than 10 ms.
    #[error(
        "the reference has {reference} samples and the decoded audio {decoded}; they may differ by \
         at most {} (10 ms): decode the whole file, without extra delay",
        distance::LENGTH_TOLERANCE
    )]
    LengthsDiffer {
        /// Samples of the reference.
        reference: usize,
        /// Samples of the decoded audio.
        decoded: usize,
    },
    /// At least one of the two signals has no samples.
    #[error("there are no samples to compare: give two clips that are not empty")]
    Empty,
    /// A sample is NaN or infinite.
    #[error("sample {index} of the {signal} is not a finite number: check what produced it")]
    NotFinite {
        /// `"reference"` or `"decoded audio"`.
        signal: &'static str,
        /// The first such sample.
        index: usize,
    },
    /// A token does not fit its codebook.
    #[error(
        "code {code} of level {level} is outside its codebook of {size} codes: the tokens belong to \
         another model"
    )]
    CodeOutOfRange {
        /// The level, from 0.
        level: usize,
        /// The code that is too large.
        code: u16,
        /// Size of the level's codebook.
        size: usize,
    },
    /// Tokens of a level for which there is no codebook, or statistics of other codebooks.
    #[error(
        "level {level} does not exist or its codebook is of another size; these statistics were set \
         up for {levels} levels"
    )]
    LevelMismatch {
        /// The level, from 0.
        level: usize,
        /// Levels the statistics were made for.
        levels: usize,
    },
}
