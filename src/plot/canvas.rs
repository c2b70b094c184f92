//! An RGB image and how to draw on it.

use crate::bitstream::write_atomically;
use std::path::Path;

use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};

use super::PlotError;
use super::colour::{Rgb, blend};

/// Pixels, row by row from the top. Whatever is drawn beyond the edges is cut off.
///
/// Positions are in pixels from the left and from the top; pixel `(x, y)` covers the square from
/// there to `(x + 1, y + 1)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

/// How large text is drawn: the font has cells of 8 x 8 pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Font {
    /// 8 pixels high, for the numbers at axes.
    Small,
    /// 16 pixels high with smoothed corners, for titles.
    Large,
}

impl Font {
    /// Width and height of a character in pixels.
    pub fn cell(self) -> i32 {
        match self {
            Self::Small => 8,
            Self::Large => 16,
        }
    }

    /// Width of a text in pixels.
    pub fn width(self, text: &str) -> i32 {
        let characters = i32::try_from(text.chars().count()).unwrap_or(i32::MAX);
        characters.saturating_mul(self.cell())
    }
}

impl Canvas {
    /// A canvas of `width` x `height` pixels in one colour.
    pub fn new(width: usize, height: usize, colour: Rgb) -> Self {
        Self { width, height, pixels: vec![colour; width * height] }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The colour at a place, or `None` beyond the edges.
    pub fn pixel(&self, x: i32, y: i32) -> Option<Rgb> {
        self.index(x, y).map(|i| self.pixels[i])
    }

    /// Sets a pixel.
    pub fn set(&mut self, x: i32, y: i32, colour: Rgb) {
        self.blend(x, y, colour, 1.0);
    }

    /// Lays a colour over a pixel; `alpha` 0..=1 says how much of it shows.
    pub fn blend(&mut self, x: i32, y: i32, colour: Rgb, alpha: f32) {
        if let Some(i) = self.index(x, y) {
            self.pixels[i] = blend(self.pixels[i], colour, alpha);
        }
    }

    /// Copies another canvas, its left upper pixel to `(x, y)`; what falls beyond the edges is left out.
    pub fn paste(&mut self, x: i32, y: i32, other: &Self) {
        for (row, pixels) in (0..).zip(other.pixels.chunks_exact(other.width.max(1))) {
            for (column, colour) in (0..).zip(pixels) {
                self.set(x + column, y + row, *colour);
            }
        }
    }

    /// Fills a rectangle whose left upper pixel is `(x, y)`.
    pub fn fill(&mut self, x: i32, y: i32, width: i32, height: i32, colour: Rgb) {
        let clamp = |v: i32, limit: usize| (v.max(0) as usize).min(limit);
        let columns = clamp(x, self.width)..clamp(x.saturating_add(width), self.width);
        for row in clamp(y, self.height)..clamp(y.saturating_add(height), self.height) {
            if !columns.is_empty() {
                self.pixels[row * self.width..][columns.clone()].fill(colour);
            }
        }
    }

    /// Draws the outline, one pixel wide, of a rectangle whose left upper pixel is `(x, y)`.
    pub fn outline(&mut self, x: i32, y: i32, width: i32, height: i32, colour: Rgb) {
        self.fill(x, y, width, 1, colour);
        self.fill(x, y + height - 1, width, 1, colour);
        self.fill(x, y, 1, height, colour);
        self.fill(x + width - 1, y, 1, height, colour);
    }

    /// Draws a line through `points` with smooth edges.
    ///
    /// `thickness` is in pixels, `alpha` 0..=1. Where the line crosses itself it is no darker.
    /// Points that are not finite break it.
    pub fn polyline(&mut self, points: &[(f64, f64)], thickness: f64, colour: Rgb, alpha: f32) {
        let mut coverage = vec![0f32; self.pixels.len()];
        let reach = thickness / 2.0 + 1.0;
        let mut segment = |a: (f64, f64), b: (f64, f64)| {
            let span = |a: f64, b: f64, limit: usize| {
                let from = (a.min(b) - reach).clamp(0.0, limit as f64) as usize;
                from..(a.max(b) + reach).clamp(0.0, limit as f64) as usize
            };
            for y in span(a.1, b.1, self.height) {
                for x in span(a.0, b.0, self.width) {
                    let away = distance((x as f64 + 0.5, y as f64 + 0.5), a, b);
                    let covered = (thickness / 2.0 + 0.5 - away).clamp(0.0, 1.0) as f32;
                    let slot = &mut coverage[y * self.width + x];
                    *slot = slot.max(covered);
                }
            }
        };
        let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
        for run in points.split(|p| !finite(p)) {
            match run {
                [] => {}
                // A lone point, between gaps, would be lost otherwise.
                [dot] => segment(*dot, *dot),
                _ => run.windows(2).for_each(|pair| segment(pair[0], pair[1])),
            }
        }
        for (pixel, covered) in self.pixels.iter_mut().zip(coverage) {
            if covered > 0.0 {
                *pixel = blend(*pixel, colour, alpha * covered);
            }
        }
    }

    /// Writes text whose left upper corner is `(x, y)`. Characters the font lacks become `?`.
    pub fn text(&mut self, x: i32, y: i32, text: &str, font: Font, colour: Rgb) {
        self.glyphs(text, font, |canvas, along, down, alpha| {
            canvas.blend(x + along, y + down, colour, alpha);
        });
    }

    /// Writes text that runs upwards from its left *lower* corner `(x, y)`; read from the right.
    pub fn text_upwards(&mut self, x: i32, y: i32, text: &str, font: Font, colour: Rgb) {
        self.glyphs(text, font, |canvas, along, down, alpha| {
            canvas.blend(x + down, y - along, colour, alpha);
        });
    }

    /// Calls `dot` with the place (along the text, down) and strength of every dot of a text.
    fn glyphs(&mut self, text: &str, font: Font, mut dot: impl FnMut(&mut Self, i32, i32, f32)) {
        for (i, character) in text.chars().enumerate() {
            let glyph = glyph(character);
            let lit = |x: i32, y: i32| {
                (0..8).contains(&x) && (0..8).contains(&y) && glyph[y as usize] >> x & 1 == 1
            };
            let start = i32::try_from(i).unwrap_or(i32::MAX).saturating_mul(font.cell());
            for y in 0..font.cell() {
                for x in 0..font.cell() {
                    let alpha = match font {
                        Font::Small => f32::from(u8::from(lit(x, y))),
                        Font::Large => smoothed(lit, x, y),
                    };
                    if alpha > 0.0 {
                        dot(self, start.saturating_add(x), y, alpha);
                    }
                }
            }
        }
    }

    /// The image as a PNG file (8 bits RGB).
    ///
    /// # Errors
    /// [`PlotError::Encode`] if the canvas has no pixels or too many for the format.
    pub fn encode(&self) -> Result<Vec<u8>, PlotError> {
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Writes the image into a PNG file, which is replaced as a whole or not at all.
    ///
    /// # Errors
    /// [`PlotError::Write`] with the path, or [`PlotError::Encode`].
    pub fn save(&self, path: &Path) -> Result<(), PlotError> {
        let bytes = self.encode()?;
        Ok(write_atomically(path, &bytes)?)
    }

    fn index(&self, x: i32, y: i32) -> Option<usize> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        (x < self.width && y < self.height).then(|| y * self.width + x)
    }
}

/// Rows of the character from the top; bit 0 is the leftmost dot.
fn glyph(character: char) -> [u8; 8] {
    let dash =
        if matches!(character, '\u{2013}' | '\u{2014}' | '\u{2212}') { '-' } else { character };
    BASIC_FONTS
        .get(dash)
        .or_else(|| LATIN_FONTS.get(dash))
        .or_else(|| GREEK_FONTS.get(dash))
        .or_else(|| BASIC_FONTS.get('?'))
        .unwrap_or([0; 8])
}

/// Strength of pixel `(x, y)` of a glyph drawn at twice its size. Where two lit dots meet at a corner,
/// the step between them is half filled, so that slopes look smooth.
fn smoothed(lit: impl Fn(i32, i32) -> bool, x: i32, y: i32) -> f32 {
    let (cell_x, cell_y) = (x / 2, y / 2);
    if lit(cell_x, cell_y) {
        return 1.0;
    }
    let (side_x, side_y) = (x % 2 * 2 - 1, y % 2 * 2 - 1);
    let beside = lit(cell_x + side_x, cell_y) && lit(cell_x, cell_y + side_y);
    if beside && !lit(cell_x + side_x, cell_y + side_y) { 0.5 } else { 0.0 }
}

/// Distance of `p` from the segment `a`-`b`.
fn distance(p: (f64, f64), a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length } else { 0.0 };
    let along = along.clamp(0.0, 1.0);
    (p.0 - a.0 - along * dx).hypot(p.1 - a.1 - along * dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Rgb = [255; 3];
    const BLACK: Rgb = [0; 3];

    #[test]
    fn a_canvas_is_pasted_where_it_fits() {
        let mut canvas = Canvas::new(4, 3, [0; 3]);
        canvas.paste(2, 1, &Canvas::new(5, 1, [9; 3]));
        canvas.paste(-1, 2, &Canvas::new(2, 2, [7; 3]));
        let seen: Vec<u8> = (0..12).map(|i| canvas.pixel(i % 4, i / 4).unwrap()[0]).collect();
        assert_eq!(seen, [0, 0, 0, 0, 0, 0, 9, 9, 7, 0, 0, 0]);
    }

    #[test]
    fn png_holds_the_pixels() {
        let mut canvas = Canvas::new(5, 3, WHITE);
        canvas.fill(-2, 1, 4, 100, [1, 2, 3]);
        canvas.set(9, 9, BLACK); // beyond the edge: nothing happens
        let bytes = canvas.encode().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (5, 3));
        assert_eq!(pixels, canvas.pixels.as_flattened());
        assert_eq!(canvas.pixel(1, 1), Some([1, 2, 3]));
        assert_eq!(canvas.pixel(2, 1), Some(WHITE));
        assert_eq!(canvas.pixel(5, 0), None);
    }

    #[test]
    fn a_line_covers_its_thickness() {
        let mut canvas = Canvas::new(20, 9, WHITE);
        canvas.polyline(&[(2.0, 4.5), (18.0, 4.5)], 1.0, BLACK, 1.0);
        assert_eq!(canvas.pixel(10, 4), Some(BLACK));
        assert_eq!(canvas.pixel(10, 2), Some(WHITE));
        // Neither a gap nor a point far outside is a trouble.
        canvas.polyline(&[(f64::NAN, 0.0), (1e9, -1e9), (3.0, 3.0)], 1.0, BLACK, 1.0);
    }

    #[test]
    fn text_is_drawn_in_every_direction() {
        let dark = |canvas: &Canvas| canvas.pixels.iter().filter(|&&p| p == BLACK).count();
        let (mut along, mut up) = (Canvas::new(40, 40, WHITE), Canvas::new(40, 40, WHITE));
        along.text(0, 10, "kHz", Font::Small, BLACK);
        up.text_upwards(10, 39, "kHz", Font::Small, BLACK);
        assert!(dark(&along) > 20);
        assert_eq!(dark(&along), dark(&up));
        assert_eq!(Font::Large.width("kHz"), 48);
    }

    #[test]
    fn saving_into_a_missing_folder_names_the_file() {
        let error = Canvas::new(1, 1, WHITE).save(Path::new("/nowhere/at/all.png")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all.png"), "{error}");
    }
}
