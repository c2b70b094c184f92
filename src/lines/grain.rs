//! A grain: which of the decoder's noise is heard.

use crate::config::CodecConfig;

/// Bands with noise of their own.
pub const GRAIN_BANDS: usize = 4;
/// Where they begin and the last one ends, in Hz.
pub const GRAIN_EDGES: [f64; GRAIN_BANDS + 1] = [1000.0, 2000.0, 3250.0, 4500.0, 5900.0];
/// How much louder noise is in the two frames where another begins and the one before ends: they have nothing to do with one
/// another, and where they overlap they would be up to 3 dB softer together than each is alone.
pub(crate) const SEAM: f32 = 1.2;

/// The row of the decoder's noise in each of four bands, the bands' edges being 1, 2, 3.25, 4.5 and 5.9 kHz.
///
/// Above the learned phases a sound is noise under an envelope, and one noise is as good as another: unless they are compared
/// with the sound itself. Of 256 that the decoder knows, the one whose partials, beats and dips are most like the sound's is
/// chosen, as speech coders choose their excitation from a codebook (Schroeder and Atal 1985). Row 0 is the decoder's noise; the
/// first of the others are the model's own loops, and where it has fewer than 255 the rest are other places in its noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Grain {
    rows: [u8; GRAIN_BANDS],
}

impl Grain {
    /// The noise that is heard where nothing is chosen.
    pub const NONE: Self = Self { rows: [0; GRAIN_BANDS] };

    /// A grain of these rows, by band.
    pub fn new(rows: [u8; GRAIN_BANDS]) -> Self {
        Self { rows }
    }

    /// By band.
    pub fn rows(self) -> [u8; GRAIN_BANDS] {
        self.rows
    }

    /// The row that a band has in frame number `place`, from 0, of a step that is of this grain, after a step that was of
    /// grain `before`, and how loud. The first frame still has that of `before`.
    pub(crate) fn noise(self, before: Self, place: usize, band: usize) -> (u8, f32) {
        let (was, is) = (before.rows[band], self.rows[band]);
        let row = if place == 0 { was } else { is };
        let seam = was != is && place < 2;
        (row, if seam { SEAM } else { 1.0 })
    }
}

/// The bins of each band in a spectrum of `bins` bins of `config`'s synthesis window; none below the bin `first`.
pub(crate) fn grain_bins(
    config: &CodecConfig,
    first: usize,
    bins: usize,
) -> [std::ops::Range<usize>; GRAIN_BANDS] {
    let width = f64::from(config.sample_rate) / config.synthesis_window.max(1) as f64;
    let bin = |hz: f64| ((hz / width).ceil() as usize).clamp(first.min(bins), bins);
    std::array::from_fn(|band| bin(GRAIN_EDGES[band])..bin(GRAIN_EDGES[band + 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_noise_begins_in_the_second_frame() {
        let (before, now) = (Grain::new([1, 7, 0, 0]), Grain::new([200, 7, 0, 3]));
        let noise = |band| [0, 1, 2, 3].map(|place| now.noise(before, place, band));
        assert_eq!(noise(0), [(1, SEAM), (200, SEAM), (200, 1.0), (200, 1.0)]);
        assert_eq!(noise(1), [(7, 1.0); 4]);
        assert_eq!(noise(2), [(0, 1.0); 4]);
        assert_eq!(noise(3), [(0, SEAM), (3, SEAM), (3, 1.0), (3, 1.0)]);
    }

    #[test]
    fn bands_are_where_they_are_said_to_be() {
        let config = CodecConfig::default();
        // 25 Hz a bin.
        assert_eq!(grain_bins(&config, 40, 961), [40..80, 80..130, 130..180, 180..236]);
        assert_eq!(grain_bins(&config, 90, 961), [90..90, 90..130, 130..180, 180..236]);
        let low = CodecConfig { sample_rate: 8_000, ..config };
        assert_eq!(grain_bins(&low, 10, 961)[0].start, 240);
        assert!(grain_bins(&low, 10, 961)[3].is_empty() && grain_bins(&low, 10, 961)[3].end <= 961);
    }
}
