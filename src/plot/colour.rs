//! Colours and the colour map of spectrograms.

/// Red, green and blue, 0..=255, sRGB.
pub type Rgb = [u8; 3];

pub(super) const PAPER: Rgb = [255, 255, 255];
pub(super) const INK: Rgb = [38, 38, 46];
pub(super) const SOFT_INK: Rgb = [96, 96, 108];
pub(super) const GRID: Rgb = [228, 229, 234];

/// Line colours that stay apart for colour-blind readers: Okabe and Ito, "Color Universal Design"
/// (2008), without the yellow, which is faint on white.
pub(super) const LINES: [Rgb; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [90, 90, 90],
];

/// Evenly spaced points of matplotlib's "magma" (van der Walt and Smith 2015, CC0).
const MAGMA: [Rgb; 10] = [
    [0, 0, 4],
    [24, 15, 62],
    [69, 16, 119],
    [114, 31, 129],
    [159, 47, 127],
    [205, 64, 113],
    [241, 96, 93],
    [253, 149, 103],
    [254, 201, 141],
    [252, 253, 191],
];

/// The colour map "magma", perceptually even from black (0) to pale yellow (1); clamped outside.
///
/// ```
/// assert_eq!(tessera_codec::plot::magma(0.0), [0, 0, 4]);
/// assert_eq!(tessera_codec::plot::magma(2.0), [252, 253, 191]);
/// ```
pub fn magma(value: f32) -> Rgb {
    let last = MAGMA.len() - 1;
    let place = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) * last as f32 };
    let below = (place as usize).min(last - 1);
    blend(MAGMA[below], MAGMA[below + 1], place - below as f32)
}

/// `under` with `over` laid on it; `alpha` 0 shows `under` alone, 1 `over` alone.
pub(super) fn blend(under: Rgb, over: Rgb, alpha: f32) -> Rgb {
    let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * alpha).round() as u8;
    [mix(under[0], over[0]), mix(under[1], over[1]), mix(under[2], over[2])]
}
