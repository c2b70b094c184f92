//! Spectrograms whose partials can be seen.

use rustfft::{FftPlanner, num_complex::Complex};

use super::axis::{label, ticks};
use super::canvas::{Canvas, Font};
use super::colour::{INK, PAPER, SOFT_INK, magma};
use super::{PlotError, Rgb};

/// A clip to be drawn, mono.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// Full scale is ±1; values that are not finite count as 0.
    pub samples: &'a [f32],
    /// Samples per second.
    pub rate: u32,
}

/// Window in samples at 48 kHz; other rates get one of about the same duration.
const WINDOW: usize = 2048;
/// The transform is this much longer than the window (zeros), so that rows between bins are smooth.
const PADDING: usize = 2;
/// Levels below this many dB under the loudest are black.
const RANGE_DB: f32 = 90.0;
/// What stands for silence.
const SILENCE_DB: f32 = -200.0;

/// Plot area of a panel in pixels.
const WIDTH: usize = 900;
const HEIGHT: usize = 400;
/// Margins around a plot area: for the frequencies, the dB bar, the title and the times.
const LEFT: usize = 60;
const RIGHT: usize = 76;
const TOP: usize = 36;
const BOTTOM: usize = 40;

/// Levels over time and frequency, on the pixel grid of a picture.
///
/// The frequency axis is the mel scale `2595 log10(1 + f / 700)`: nearly even up to 1 kHz and
/// logarithmic above, which gives three quarters of the height to what lies below 8 kHz.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrogram {
    /// Columns, one after the other in time.
    pub width: usize,
    /// Rows, from the highest frequency down to 0 Hz.
    pub height: usize,
    /// `height` rows of `width` levels in dB; 0 is a sine of full scale, -200 silence.
    pub levels: Vec<f32>,
}

impl Spectrogram {
    /// The spectrogram of `samples` (mono, ±1) at `rate` Hz on `width` x `height` pixels that show
    /// `seconds` from the start and 0 Hz to `top_hz`. Rows above the Nyquist frequency and columns
    /// past the end are silent.
    ///
    /// Windows of 2048 samples (at 48 kHz); where a column lasts longer than a quarter of one it shows
    /// the loudest of several, so that no attack is missed.
    pub fn new(
        samples: &[f32],
        rate: u32,
        (width, height): (usize, usize),
        seconds: f64,
        top_hz: f64,
    ) -> Self {
        let mut levels = vec![SILENCE_DB; width * height];
        let rate = f64::from(rate.max(1));
        let size = ((WINDOW as f64 * rate / 48_000.0) as usize).next_power_of_two().max(64);
        let fft = FftPlanner::<f32>::new().plan_fft_forward(size * PADDING);
        let window: Vec<f32> = (0..size)
            .map(|i| 0.5 - 0.5 * (std::f32::consts::TAU * (i as f32 + 0.5) / size as f32).cos())
            .collect();
        // A sine of full scale comes out as 0 dB.
        let scale = 2.0 / window.iter().sum::<f32>();
        let hertz_per_bin = rate / (size * PADDING) as f64;
        let rows: Vec<Row> =
            (0..height).map(|row| Row::new(row, height, top_hz, hertz_per_bin)).collect();
        let bins = size * PADDING / 2 + 1;
        let mut buffer = vec![Complex::default(); size * PADDING];
        let mut scratch = vec![Complex::default(); fft.get_inplace_scratch_len()];
        let mut loudest = vec![0f32; bins];

        let column_samples = seconds * rate / width as f64;
        let windows = (column_samples / (size as f64 / 4.0)).ceil().max(1.0);
        for column in 0..width {
            loudest.fill(0.0);
            for part in 0..windows as usize {
                let centre = (column as f64 + (part as f64 + 0.5) / windows) * column_samples;
                if centre >= samples.len() as f64 {
                    break;
                }
                let start = centre as isize - (size / 2) as isize;
                buffer.fill(Complex::default());
                for (i, (slot, w)) in buffer.iter_mut().zip(&window).enumerate() {
                    let at = usize::try_from(start + i as isize).ok();
                    let sample = at.and_then(|at| samples.get(at)).copied().unwrap_or(0.0);
                    slot.re = if sample.is_finite() { sample * w * scale } else { 0.0 };
                }
                fft.process_with_scratch(&mut buffer, &mut scratch);
                for (loudest, bin) in loudest.iter_mut().zip(&buffer) {
                    *loudest = loudest.max(bin.norm_sqr());
                }
            }
            for (row, bins) in rows.iter().enumerate() {
                let power = bins.of(&loudest);
                levels[row * width + column] = (10.0 * power.log10()).max(SILENCE_DB);
            }
        }
        Self { width, height, levels }
    }

    /// The highest level in dB.
    pub fn peak(&self) -> f32 {
        self.levels.iter().copied().fold(SILENCE_DB, f32::max)
    }

    /// Draws it with its left upper corner at `(x, y)`: `top_db` and above pale, 90 dB below black.
    pub fn draw(&self, canvas: &mut Canvas, x: i32, y: i32, top_db: f32) {
        for (row, levels) in self.levels.chunks_exact(self.width.max(1)).enumerate() {
            for (column, level) in levels.iter().enumerate() {
                let colour = magma(1.0 + (level - top_db) / RANGE_DB);
                canvas.set(x + column as i32, y + row as i32, colour);
            }
        }
    }
}

/// Which bins a row of pixels shows.
enum Row {
    /// The loudest bin of a range, where a row spans several.
    Loudest(std::ops::Range<usize>),
    /// A place between two bins, where bins are further apart than rows.
    Between(usize, f32),
}

impl Row {
    fn new(row: usize, height: usize, top_hz: f64, hertz_per_bin: f64) -> Self {
        let place = |from_top: f64| hertz(mel(top_hz) * (1.0 - from_top / height as f64));
        let high = place(row as f64) / hertz_per_bin;
        let low = place(row as f64 + 1.0) / hertz_per_bin;
        if high - low >= 2.0 {
            Self::Loudest(low.round() as usize..high.round() as usize)
        } else {
            let middle = (low + high) / 2.0;
            Self::Between(middle as usize, middle.fract() as f32)
        }
    }

    fn of(&self, powers: &[f32]) -> f32 {
        let bin = |i: usize| powers.get(i).copied().unwrap_or(0.0);
        match self {
            Self::Loudest(range) => range.clone().map(bin).fold(0.0, f32::max),
            Self::Between(below, part) => bin(*below) * (1.0 - part) + bin(below + 1) * part,
        }
    }
}

fn mel(hertz: f64) -> f64 {
    2595.0 * (1.0 + hertz / 700.0).log10()
}

fn hertz(mel: f64) -> f64 {
    700.0 * (10f64.powf(mel / 2595.0) - 1.0)
}

/// Draws each panel's spectrogram with its title, time and frequency axes and a bar of levels.
///
/// All panels have the same axes and colours, so that they can be compared: time up to the longest
/// clip, frequency (mel scale) up to the highest Nyquist frequency, at most 24 kHz, and levels from the
/// loudest of all down by 90 dB. Up to three are stacked; more stand in two columns. A panel is
/// 1036 x 476 pixels, of which the spectrogram takes 900 x 400.
///
/// # Errors
/// [`PlotError::Empty`] without panels or samples, [`PlotError::NoRate`] for a rate of 0.
pub fn draw_spectrograms(panels: &[Panel<'_>]) -> Result<Canvas, PlotError> {
    if let Some(panel) = panels.iter().find(|panel| panel.rate == 0) {
        return Err(PlotError::NoRate { title: panel.title.to_owned() });
    }
    let length = |panel: &Panel<'_>| panel.samples.len() as f64 / f64::from(panel.rate);
    let seconds = panels.iter().map(length).fold(0.0, f64::max);
    if seconds <= 0.0 {
        return Err(PlotError::Empty);
    }
    let nyquist = panels.iter().map(|panel| panel.rate).max().unwrap_or(0) / 2;
    let top_hz = f64::from(nyquist.clamp(1, 24_000));
    let drawn: Vec<Spectrogram> = panels
        .iter()
        .map(|p| Spectrogram::new(p.samples, p.rate, (WIDTH, HEIGHT), seconds, top_hz))
        .collect();
    // Rounded up, so that the bar ends on a round number; silence alone stays black.
    let peak = drawn.iter().map(Spectrogram::peak).fold(SILENCE_DB, f32::max);
    let top_db = if peak > -120.0 { (peak / 10.0).ceil() * 10.0 } else { 0.0 };

    let columns = if panels.len() > 3 { 2 } else { 1 };
    let (wide, high) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
    let mut canvas = Canvas::new(columns * wide, panels.len().div_ceil(columns) * high, PAPER);
    for (i, (panel, spectrogram)) in panels.iter().zip(&drawn).enumerate() {
        let x = (i % columns * wide + LEFT) as i32;
        let y = (i / columns * high + TOP) as i32;
        spectrogram.draw(&mut canvas, x, y, top_db);
        frame(&mut canvas, x, y, panel.title, seconds, top_hz);
        level_bar(&mut canvas, x + WIDTH as i32 + 14, y, top_db);
    }
    Ok(canvas)
}

/// The title and the axes around a plot area whose left upper corner is `(x, y)`.
fn frame(canvas: &mut Canvas, x: i32, y: i32, title: &str, seconds: f64, top_hz: f64) {
    let (width, height) = (WIDTH as i32, HEIGHT as i32);
    canvas.outline(x - 1, y - 1, width + 2, height + 2, SOFT_INK);
    canvas.text(x, y - 24, &fitting(title, WIDTH / 16), Font::Large, INK);

    for tick in ticks(0.0, seconds, 9) {
        let at = x + (tick / seconds * f64::from(width - 1)).round() as i32;
        canvas.fill(at, y + height + 1, 1, 4, SOFT_INK);
        centred(canvas, at, y + height + 8, &label(tick), INK);
    }
    centred(canvas, x + width / 2, y + height + 22, "time (s)", SOFT_INK);

    let marks = [0.0, 250.0, 500.0, 1e3, 2e3, 3e3, 4e3, 6e3, 8e3, 12e3, 16e3, 20e3, 24e3];
    for mark in marks.into_iter().filter(|&mark| mark <= top_hz) {
        let up = mel(mark) / mel(top_hz) * f64::from(height - 1);
        let at = y + height - 1 - up.round() as i32;
        canvas.fill(x - 5, at, 4, 1, SOFT_INK);
        let text = if mark < 1e3 { label(mark) } else { format!("{}k", label(mark / 1e3)) };
        canvas.text(x - 8 - Font::Small.width(&text), at - 3, &text, Font::Small, INK);
    }
    let name = "frequency (Hz)";
    let from = y + height / 2 + Font::Small.width(name) / 2;
    canvas.text_upwards(x - 56, from, name, Font::Small, SOFT_INK);
}

/// The colours of the levels, with dB beside them.
fn level_bar(canvas: &mut Canvas, x: i32, y: i32, top_db: f32) {
    let height = HEIGHT as i32;
    for row in 0..height {
        canvas.fill(x, y + row, 14, 1, magma(1.0 - row as f32 / (height - 1) as f32));
    }
    canvas.outline(x - 1, y - 1, 16, height + 2, SOFT_INK);
    for below in (0..=RANGE_DB as i32).step_by(10) {
        let at = y + below * (height - 1) / RANGE_DB as i32;
        canvas.fill(x + 15, at, 4, 1, SOFT_INK);
        let text = label(f64::from(top_db) - f64::from(below));
        canvas.text(x + 22, at - 3, &text, Font::Small, INK);
    }
    canvas.text(x, y - 14, "dB", Font::Small, SOFT_INK);
}

fn centred(canvas: &mut Canvas, x: i32, y: i32, text: &str, colour: Rgb) {
    canvas.text(x - Font::Small.width(text) / 2, y, text, Font::Small, colour);
}

/// The text, or as much of it as `characters` allow and an ellipsis.
fn fitting(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let head: String = text.chars().take(characters.saturating_sub(3)).collect();
    head + "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, rate: u32) -> Vec<f32> {
        let step = std::f32::consts::TAU * hz / rate as f32;
        (0..rate as usize / 2).map(|n| (n as f32 * step).sin()).collect()
    }

    /// The row of the highest level in a column.
    fn loudest_row(s: &Spectrogram, column: usize) -> usize {
        let level = |row: usize| s.levels[row * s.width + column];
        (0..s.height).max_by(|&a, &b| level(a).total_cmp(&level(b))).unwrap()
    }

    #[test]
    fn a_tone_stands_at_its_frequency_and_level_at_every_rate() {
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000] {
            let s = Spectrogram::new(&tone(1000.0, rate), rate, (50, 400), 0.5, 24_000.0);
            let expected = 400.0 * (1.0 - mel(1000.0) / mel(24_000.0));
            assert!((loudest_row(&s, 25) as f64 - expected).abs() < 2.0, "{rate} Hz");
            assert!(s.peak().abs() < 0.5, "{rate} Hz: {} dB", s.peak());
        }
    }

    #[test]
    fn past_the_end_and_above_nyquist_it_is_silent() {
        let s = Spectrogram::new(&tone(1000.0, 16_000), 16_000, (50, 200), 1.0, 24_000.0);
        assert!((0..200).all(|row| s.levels[row * 50 + 40] == SILENCE_DB));
        assert_eq!(s.levels[25], SILENCE_DB);
    }

    #[test]
    fn a_click_is_not_missed_in_a_long_clip() {
        let mut samples = vec![0.0; 48_000 * 60];
        samples[1_234_567] = 1.0;
        let s = Spectrogram::new(&samples, 48_000, (100, 100), 60.0, 24_000.0);
        assert!(s.peak() > -70.0);
    }

    #[test]
    fn panels_are_arranged_and_odd_input_is_refused() {
        let samples = tone(440.0, 48_000);
        let panel = Panel { title: "a title", samples: &samples, rate: 48_000 };
        let one = draw_spectrograms(&[panel]).unwrap();
        assert_eq!((one.width(), one.height()), (1036, 476));
        let five = draw_spectrograms(&[panel; 5]).unwrap();
        assert_eq!((five.width(), five.height()), (2 * 1036, 3 * 476));
        assert!(matches!(draw_spectrograms(&[]), Err(PlotError::Empty)));
        let no_rate = Panel { rate: 0, ..panel };
        assert!(matches!(draw_spectrograms(&[no_rate]), Err(PlotError::NoRate { .. })));
        let not_finite = [f32::NAN; 100];
        draw_spectrograms(&[Panel { samples: &not_finite, ..panel }]).unwrap();
    }
}
