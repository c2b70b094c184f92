//! Pictures of audio and of training runs, as PNG: spectrograms and line charts.
//!
//! Everything is drawn by the small rasteriser [`Canvas`], without fonts or libraries of the system.
//! Files are written under a temporary name and renamed, so that a viewer never sees half a picture.
//!
//! ```
//! use tessera_codec::plot::{self, Panel};
//!
//! let tone: Vec<f32> = (0..24_000).map(|n| 0.5 * (n as f32 * 0.06).sin()).collect();
//! let half: Vec<f32> = tone.iter().map(|s| 0.5 * s).collect();
//! let folder = tempfile::tempdir()?;
//! let picture = folder.path().join("comparison.png");
//! plot::spectrograms(
//!     &[
//!         Panel { title: "original", samples: &tone, rate: 48_000 },
//!         Panel { title: "decoded", samples: &half, rate: 48_000 },
//!     ],
//!     &picture,
//! )?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod axis;
mod canvas;
mod chart;
mod colour;
mod spectrogram;

use std::path::Path;

pub use canvas::{Canvas, Font};
pub use chart::{LineChart, Series};
pub use colour::{Rgb, magma};
pub use spectrogram::{Panel, Spectrogram, draw_spectrograms};

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// There is nothing to draw.
    #[error("there is nothing to draw: give at least one clip that has samples")]
    Empty,
    /// A clip claims a sample rate of zero.
    #[error("the clip {title:?} has a sample rate of 0 Hz: give the rate of its file")]
    NoRate {
        /// The panel's title.
        title: String,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] crate::bitstream::FileError),
    /// The PNG encoder failed.
    #[error("cannot encode the picture as PNG: {0}")]
    Encode(#[from] png::EncodingError),
}

/// Draws spectrograms with common axes and levels (see [`draw_spectrograms`]) into a PNG file.
///
/// # Errors
/// [`PlotError::Empty`] without panels or samples, [`PlotError::NoRate`], or [`PlotError::Write`].
pub fn spectrograms(panels: &[Panel<'_>], path: &Path) -> Result<(), PlotError> {
    draw_spectrograms(panels)?.save(path)
}

/// Draws a chart into a PNG file of 900 x 480 pixels.
///
/// # Errors
/// [`PlotError::Write`] if the file cannot be written.
pub fn line_chart(chart: &LineChart, path: &Path) -> Result<(), PlotError> {
    chart.draw(900, 480).save(path)
}
