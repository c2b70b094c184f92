//! A scrolling spectrogram with a logarithmic frequency axis.

use std::sync::Arc;

use egui::{
    Align2, Color32, ColorImage, FontId, Rect, Sense, TextureHandle, TextureOptions, Ui, pos2, vec2,
};
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::theme;

/// Seconds that a transform sees, and that lie between two of them.
const WINDOW: f32 = 0.05;
const STEP: f32 = 0.02;

/// Columns and rows of the picture.
const COLUMNS: usize = 200;
const ROWS: usize = 96;

/// Frequencies at the picture's foot and head.
const FREQUENCIES: [f32; 2] = [40.0, 16_000.0];

/// Decibels that are black and white.
const DECIBELS: [f32; 2] = [-92.0, -10.0];

/// The picture of one sound.
pub struct Spectrogram {
    rate: f32,
    fft: Arc<dyn Fft<f32>>,
    window: Vec<f32>,
    samples: Vec<f32>,
    buffer: Vec<Complex32>,
    scratch: Vec<Complex32>,
    step: usize,
    /// Columns that the texture lacks.
    fresh: Vec<[Color32; ROWS]>,
    texture: Option<TextureHandle>,
    /// The next column in the texture, which goes round.
    next: usize,
}

impl Spectrogram {
    /// Of a sound at `rate` Hz.
    pub fn new(rate: f32) -> Self {
        let rate = rate.clamp(1000.0, 1e6);
        let length = (WINDOW * rate) as usize;
        let fft = FftPlanner::new().plan_fft_forward(length);
        let window = (0..length)
            .map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / length as f32).cos())
            .collect();
        Self {
            rate,
            window,
            samples: Vec::with_capacity(2 * length),
            buffer: vec![Complex32::default(); length],
            scratch: vec![Complex32::default(); fft.get_inplace_scratch_len()],
            step: ((STEP * rate) as usize).max(1),
            fft,
            fresh: Vec::new(),
            texture: None,
            next: 0,
        }
    }

    /// The rate it was made for.
    pub fn rate(&self) -> f32 {
        self.rate
    }

    /// Takes samples.
    pub fn push(&mut self, samples: impl Iterator<Item = f32>) {
        self.samples.extend(samples);
        let length = self.window.len();
        let mut start = 0;
        while self.samples.len() >= start + length {
            for ((z, sample), weight) in
                self.buffer.iter_mut().zip(&self.samples[start..]).zip(&self.window)
            {
                *z = Complex32::new(sample * weight, 0.0);
            }
            self.fft.process_with_scratch(&mut self.buffer, &mut self.scratch);
            let column = self.column();
            self.fresh.push(column);
            start += self.step;
        }
        self.samples.drain(..start);
        let surplus = self.fresh.len().saturating_sub(COLUMNS);
        self.fresh.drain(..surplus);
    }

    /// Colours of the transform in the buffer, from the highest row down.
    fn column(&self) -> [Color32; ROWS] {
        let length = self.window.len() as f32;
        let bin = |share: f32| {
            let [low, high] = FREQUENCIES;
            low * (high / low).powf(share) * length / self.rate
        };
        std::array::from_fn(|row| {
            let row = (ROWS - 1 - row) as f32;
            let (from, to) = (bin(row / ROWS as f32), bin((row + 1.0) / ROWS as f32));
            if to >= length / 2.0 {
                return theme::heat(0.0);
            }
            // The loudest of several bins, or a place between two.
            let power = if to - from > 1.0 {
                let bins = &self.buffer[from as usize..=to as usize];
                bins.iter().map(|z| z.norm_sqr()).fold(0.0, f32::max)
            } else {
                let middle = (from + to) / 2.0;
                let (low, share) = (middle as usize, middle.fract());
                let (a, b) = (self.buffer[low].norm_sqr(), self.buffer[low + 1].norm_sqr());
                a + (b - a) * share
            };
            let decibels = 10.0 * (power / (length * length / 16.0) + 1e-12).log10();
            theme::heat((decibels - DECIBELS[0]) / (DECIBELS[1] - DECIBELS[0]))
        })
    }

    /// Draws the picture.
    pub fn show(&mut self, ui: &mut Ui, label: &str, size: egui::Vec2) {
        let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
        let texture = self.texture.get_or_insert_with(|| {
            let empty = ColorImage::filled([COLUMNS, ROWS], theme::heat(0.0));
            ui.load_texture(label, empty, TextureOptions::LINEAR)
        });
        for column in self.fresh.drain(..) {
            let image = ColorImage::new([1, ROWS], column.to_vec());
            texture.set_partial([self.next, 0], image, TextureOptions::LINEAR);
            self.next = (self.next + 1) % COLUMNS;
        }
        // The oldest column is the one that is overwritten next.
        let split = self.next as f32 / COLUMNS as f32;
        let painter = ui.painter_at(rect);
        painter.rect_filled(rect, 4.0, theme::heat(0.0));
        let at = rect.right() - rect.width() * split;
        // Half a texel away from the edges, so that nothing bleeds over the seam.
        let edge = 0.5 / COLUMNS as f32;
        let part = |left: f32, right: f32, u: [f32; 2]| {
            if right - left > 0.5 {
                let place = Rect::from_min_max(pos2(left, rect.top()), pos2(right, rect.bottom()));
                let uv = Rect::from_min_max(pos2(u[0] + edge, 0.0), pos2(u[1] - edge, 1.0));
                painter.image(texture.id(), place, uv, Color32::WHITE);
            }
        };
        part(rect.left(), at, [split, 1.0]);
        part(at, rect.right(), [0.0, split]);
        for hertz in [100.0f32, 1000.0, 10_000.0] {
            let [low, high] = FREQUENCIES;
            let y = rect.bottom() - rect.height() * (hertz / low).ln() / (high / low).ln();
            let line = [pos2(rect.left(), y), pos2(rect.right(), y)];
            painter.line_segment(line, egui::Stroke::new(0.5, theme::TEXT.gamma_multiply(0.12)));
            let text =
                if hertz < 1000.0 { "100 Hz".into() } else { format!("{} kHz", hertz / 1000.0) };
            note(&painter, pos2(rect.right() - 4.0, y - 1.0), Align2::RIGHT_BOTTOM, text, 9.0);
        }
        note(&painter, rect.left_top() + vec2(7.0, 5.0), Align2::LEFT_TOP, label.into(), 11.0);
    }
}

/// Text that can be read on dark and on bright places.
fn note(painter: &egui::Painter, at: egui::Pos2, anchor: Align2, text: String, size: f32) {
    let galley = painter.layout_no_wrap(text, FontId::proportional(size), theme::TEXT);
    let place = anchor.anchor_size(at, galley.size());
    painter.rect_filled(place.expand2(vec2(3.0, 0.0)), 3.0, theme::WELL.gamma_multiply(0.6));
    painter.galley(place.min, galley, theme::TEXT);
}
