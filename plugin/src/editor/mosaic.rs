//! The tokens as tiles: a row for each level, time from left to right, coloured by code.

use std::collections::VecDeque;

use egui::{
    Align2, Color32, ColorImage, FontId, Mesh, Pos2, Rect, Sense, Shape, Stroke, TextureHandle,
    TextureOptions, Ui, pos2, vec2,
};
use tessera_codec::engine::Model;

use super::theme;
use crate::resynthesis::Step;
use crate::tokens::{LONGEST_LOOP, REMEMBERED, Range, SCALES, scale};

/// Width of a step in points, and in texels of the picture: whole ones for the tiles of two and four to a step, too.
const STEP: f32 = 12.0;
const TEXELS: usize = STEP as usize;

/// Room for the names of the rows.
const LABELS: f32 = 88.0;

/// Steps from a drag to what plays: those on their way through the rings are not there yet.
const MARGIN: u64 = 4;

/// What a row looks like.
#[derive(Debug)]
struct Row {
    start: usize,
    count: usize,
    /// Codes a second.
    rate: f64,
    /// A colour for each code; codes that sound alike look alike.
    colours: Vec<Color32>,
}

impl Row {
    /// The texels of the row's tiles in a step, the last of each darker, which parts it from the next one.
    fn texels(&self, step: Option<&Step>) -> [Color32; TEXELS] {
        let tile = |x: usize| x * self.count / TEXELS;
        std::array::from_fn(|x| {
            let Some(step) = step else { return Color32::TRANSPARENT };
            let i = self.start + tile(x);
            let colour = match step.codes.get(i) {
                Some(code) if i < step.count => {
                    let colour =
                        self.colours.get(usize::from(*code)).copied().unwrap_or(theme::LINE);
                    if step.lost { colour.gamma_multiply(0.25) } else { colour }
                }
                _ => theme::PANEL,
            };
            // The narrower the tiles, the fainter.
            let gap = if self.count > 2 { 0.4 } else { 0.8 };
            let last = self.count <= TEXELS / 2 && tile(x + 1) != tile(x);
            if last { colour.lerp_to_gamma(theme::WELL, gap) } else { colour }
        })
    }
}

/// The tokens of the last seconds.
#[derive(Default)]
pub struct Mosaic {
    rows: Vec<Row>,
    steps: VecDeque<Step>,
    /// Steps under a drag.
    drag: Option<(u64, u64)>,
    picture: Picture,
}

/// The tiles as a texture of a row of texels for each level, in which step `n` stands at `n % REMEMBERED`. So the
/// thousands of tiles on the screen are a few rectangles, and a picture costs what is new in it.
#[derive(Default)]
struct Picture {
    texture: Option<TextureHandle>,
    /// The step after the last that is in it.
    next: u64,
}

/// What a click or a drag on the mosaic asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    /// Freeze a range in all scales.
    Hold(Range),
    /// Freeze a scale, or let it go.
    Toggle(usize),
}

impl Mosaic {
    /// Rows and colours for a model.
    pub fn set_model(&mut self, model: &Model) {
        let layout = model.layout();
        let config = model.config();
        let frames = f64::from(config.sample_rate) / config.hop as f64;
        let mut start = 0;
        self.rows = (0..layout.levels())
            .map(|level| {
                let count = layout.codes_per_step(level);
                start += count;
                Row {
                    start: start - count,
                    count,
                    rate: frames / layout.strides[level] as f64,
                    colours: colours(model, level, layout.codebook_sizes[level]),
                }
            })
            .collect();
        self.steps.clear();
        self.picture = Picture::default();
    }

    /// Lets go of what belongs to a window that was closed.
    pub fn close(&mut self) {
        self.picture = Picture::default();
    }

    /// Takes a step.
    pub fn push(&mut self, step: Step) {
        // After a reset numbers begin anew: what was before cannot be held any more.
        if self.steps.back().is_some_and(|last| step.number <= last.number) {
            self.steps.clear();
            self.drag = None;
            self.picture = Picture::default();
        }
        self.steps.push_back(step);
        while self.steps.len() > REMEMBERED {
            self.steps.pop_front();
        }
    }

    /// Draws the mosaic and gives what the user asks for.
    pub fn show(&mut self, ui: &mut Ui, height: f32, frozen: [bool; SCALES]) -> Option<Wish> {
        let (rect, response) =
            ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::click_and_drag());
        let painter = ui.painter_at(rect);
        painter.rect_filled(rect, 4.0, theme::WELL);
        // At a whole point on the right, so that all tiles look alike.
        let corner = pos2((rect.right() - 4.0).floor(), rect.bottom() - 4.0);
        let area = Rect::from_min_max(rect.min + vec2(LABELS, 4.0), corner);
        let band = area.height() / self.rows.len().max(1) as f32;
        let last = self.steps.back().map_or(0, |step| step.number);
        let left_of = |number: u64| area.right() - (last + 1 - number.min(last + 1)) as f32 * STEP;

        self.paint(ui);
        if let (Some(texture), Some(oldest)) = (&self.picture.texture, self.steps.front()) {
            let ring = REMEMBERED as u64;
            let mut tiles = Mesh::with_texture(texture.id());
            // From where the ring began anew to the newest step, and what is older up to there.
            let turn = last / ring * ring;
            for (from, to) in [(turn.max(oldest.number), last + 1), (oldest.number, turn)] {
                let (left, right) = (left_of(from).max(area.left()), left_of(to));
                if from >= to || right <= left {
                    continue;
                }
                let end = ((to - 1) % ring + 1) as f32;
                let u = |x: f32| (end - (right - x) / STEP) / REMEMBERED as f32;
                for index in 0..self.rows.len() {
                    let top = area.top() + band * index as f32;
                    let place =
                        Rect::from_min_max(pos2(left, top + 1.0), pos2(right, top + band - 1.0));
                    // The middle of the row's texels, so that no other row shows.
                    let v = (index as f32 + 0.5) / self.rows.len() as f32;
                    let uv = Rect::from_min_max(pos2(u(left), v), pos2(u(right), v));
                    tiles.add_rect_with_uv(place, uv, Color32::WHITE);
                }
            }
            painter.add(Shape::mesh(tiles));
        }
        self.labels(ui, rect, area, band, frozen);

        let step_at = |at: Pos2| {
            let back = ((area.right() - at.x) / STEP).max(0.0) as u64;
            last.saturating_sub(back)
        };
        let mut wish = None;
        if let Some(at) = response.interact_pointer_pos() {
            if response.drag_started() && area.contains(at) {
                self.drag = Some((step_at(at), step_at(at)));
            } else if response.dragged()
                && let Some((_, to)) = &mut self.drag
            {
                *to = step_at(at);
            } else if response.clicked() && at.x < area.left() {
                let row = ((at.y - area.top()) / band).max(0.0) as usize;
                wish = Some(Wish::Toggle(scale(row)));
            }
        }
        if let Some((from, to)) = self.drag {
            let (from, to) = (from.min(to), from.max(to));
            let shade = Rect::from_min_max(
                pos2(left_of(from).max(area.left()), area.top()),
                pos2(left_of(to) + STEP, area.bottom()),
            );
            painter.rect_filled(shade, 0.0, theme::ICE.gamma_multiply(0.25));
            painter.rect_stroke(shade, 0.0, Stroke::new(1.5, theme::ICE), egui::StrokeKind::Inside);
            if response.drag_stopped() {
                self.drag = None;
                let oldest = (last + MARGIN).saturating_sub(REMEMBERED as u64);
                let first = from.max(oldest).max(to.saturating_sub(LONGEST_LOOP as u64 - 1));
                wish = Some(Wish::Hold(Range { first, steps: (to + 1 - first.min(to)) as usize }));
            }
        }
        response.on_hover_text(
            "Drag over tiles to freeze them in a loop; click a row's name to hold it",
        );
        wish
    }

    /// Brings the steps into the texture that it lacks.
    fn paint(&mut self, ui: &Ui) {
        let (rows, picture) = (&self.rows, &mut self.picture);
        // Steps come before the rows where a model began to play just now.
        let (Some(last), false) = (self.steps.back(), rows.is_empty()) else { return };
        let first = picture.next.max((last.number + 1).saturating_sub(REMEMBERED as u64));
        picture.next = last.number + 1;
        let texture = picture.texture.get_or_insert_with(|| {
            let empty = ColorImage::filled([REMEMBERED * TEXELS, rows.len()], Color32::TRANSPARENT);
            ui.load_texture("mosaic", empty, TextureOptions::NEAREST)
        });
        let known = self.steps.partition_point(|step| step.number < first);
        let mut steps = self.steps.range(known..).peekable();
        for number in first..=last.number {
            // Steps may be missing where the window was too slow for them.
            let step = steps.next_if(|step| step.number == number);
            let colours = rows.iter().flat_map(|row| row.texels(step)).collect();
            let image = ColorImage::new([TEXELS, rows.len()], colours);
            let at = (number % REMEMBERED as u64) as usize * TEXELS;
            texture.set_partial([at, 0], image, TextureOptions::NEAREST);
        }
    }

    fn labels(&self, ui: &Ui, rect: Rect, area: Rect, band: f32, frozen: [bool; SCALES]) {
        let painter = ui.painter_at(rect);
        for (index, row) in self.rows.iter().enumerate() {
            let top = area.top() + band * index as f32;
            let held = frozen[scale(index)];
            let name = ["Coarse", "Middle", "Fine"][scale(index)];
            let colour = if held { theme::ICE } else { theme::TEXT };
            let middle = top + band / 2.0;
            painter.text(
                pos2(rect.left() + 8.0, middle),
                Align2::LEFT_CENTER,
                name,
                FontId::proportional(11.0),
                colour,
            );
            let rate = if held { "frozen".into() } else { format!("{:.0} / s", row.rate) };
            painter.text(
                pos2(area.left() - 8.0, middle),
                Align2::RIGHT_CENTER,
                rate,
                FontId::proportional(10.0),
                if held { theme::ICE } else { theme::FAINT },
            );
            if held {
                let edge = Rect::from_min_size(pos2(area.left(), top), vec2(area.width(), band))
                    .shrink(0.5);
                painter.rect_stroke(
                    edge,
                    2.0,
                    Stroke::new(1.0, theme::ICE),
                    egui::StrokeKind::Inside,
                );
            }
        }
    }
}

/// Colours from the three values of a codebook's vectors that differ most: lightness, and a hue from the
/// angle of the other two.
fn colours(model: &Model, level: usize, size: usize) -> Vec<Color32> {
    let vectors: Vec<&[f32]> =
        (0..size).filter_map(|code| model.code(level, u16::try_from(code).ok()?)).collect();
    let dim = vectors.first().map_or(0, |vector| vector.len());
    let count = vectors.len().max(1) as f32;
    let mut spreads: Vec<(usize, f32, f32)> = (0..dim)
        .map(|i| {
            let mean = vectors.iter().map(|v| v[i]).sum::<f32>() / count;
            let spread = vectors.iter().map(|v| (v[i] - mean).powi(2)).sum::<f32>() / count;
            (i, mean, spread.sqrt().max(1e-9))
        })
        .collect();
    spreads.sort_by(|a, b| b.2.total_cmp(&a.2));
    let value = |vector: &[f32], rank: usize| {
        spreads.get(rank).map_or(0.0, |(i, mean, spread)| (vector[*i] - mean) / spread)
    };
    vectors
        .iter()
        .map(|vector| {
            let (a, b, c) = (value(vector, 0), value(vector, 1), value(vector, 2));
            let hue = (b.atan2(a) / std::f32::consts::TAU + 0.5).rem_euclid(1.0);
            let light = 0.62 + 0.22 * (c * 0.8).tanh();
            let strong = 0.35 + 0.3 * (a.hypot(b) * 0.6).tanh();
            egui::ecolor::Hsva::new(hue, strong, light, 1.0).into()
        })
        .collect()
}
