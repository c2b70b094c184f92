//! Peak meters.

use egui::{Align2, FontId, Rect, Sense, Ui, pos2, vec2};

use super::theme;

/// Decibels at a meter's foot.
const FLOOR: f32 = -60.0;

/// Decibels that a meter falls a second.
const FALL: f32 = 26.0;

/// A level that falls slowly, and the highest peak.
#[derive(Debug)]
pub struct Meter {
    level: f32,
    peak: f32,
}

impl Default for Meter {
    fn default() -> Self {
        Self { level: FLOOR, peak: FLOOR }
    }
}

impl Meter {
    /// Takes the highest sample since the last time, `seconds` ago.
    pub fn update(&mut self, sample: f32, seconds: f32) {
        let decibels = if sample > 0.0 { 20.0 * sample.log10() } else { FLOOR };
        self.level = decibels.clamp(FLOOR, 12.0).max(self.level - FALL * seconds).max(FLOOR);
        self.peak = self.peak.max(decibels);
    }

    /// A bar from the floor up, with a label under it; a click forgets the peak.
    pub fn show(&mut self, ui: &mut Ui, label: &str, height: f32) {
        let (rect, response) = ui.allocate_exact_size(vec2(30.0, height), Sense::click());
        if response.clicked() {
            self.peak = FLOOR;
        }
        let painter = ui.painter();
        let bar = Rect::from_min_max(rect.min + vec2(8.0, 14.0), rect.max - vec2(8.0, 14.0));
        painter.rect_filled(bar, 2.0, theme::WELL);
        let place =
            |decibels: f32| bar.bottom() - bar.height() * (decibels - FLOOR) / (6.0 - FLOOR);
        for (from, to, colour) in [
            (FLOOR, -12.0, theme::WELL_BEING),
            (-12.0, 0.0, theme::ACCENT),
            (0.0, 6.0, theme::ALARM),
        ] {
            let top = self.level.min(to);
            if top > from {
                let part = Rect::from_min_max(
                    pos2(bar.left(), place(top).max(bar.top())),
                    pos2(bar.right(), place(from)),
                );
                painter.rect_filled(part, 0.0, colour);
            }
        }
        let peak = if self.peak > FLOOR { format!("{:.1}", self.peak) } else { "-".into() };
        let colour = if self.peak > 0.0 { theme::ALARM } else { theme::FAINT };
        painter.text(
            rect.center_top(),
            Align2::CENTER_TOP,
            peak,
            FontId::proportional(10.0),
            colour,
        );
        painter.text(
            rect.center_bottom(),
            Align2::CENTER_BOTTOM,
            label,
            FontId::proportional(10.0),
            theme::FAINT,
        );
    }
}
