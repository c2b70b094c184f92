//! Knobs and switches for parameters.

use std::f32::consts::PI;

use egui::{Align2, FontId, Pos2, Response, Sense, Shape, Stroke, Ui, Vec2, pos2, vec2};
use nice_plug::prelude::*;

use super::theme;

/// Room that a knob takes.
pub const SIZE: Vec2 = vec2(66.0, 74.0);

/// Points of a drag from one end to the other.
const TRAVEL: f32 = 180.0;

/// A knob: drag up and down, with Shift finely; the wheel; double-click for the default.
pub fn knob<P: Param>(ui: &mut Ui, setter: &ParamSetter, param: &P, label: &str, hint: &str) {
    let (rect, response) = ui.allocate_exact_size(SIZE, Sense::click_and_drag());
    let response = response.on_hover_text(hint);
    turn(ui, setter, param, &response);
    if !ui.is_rect_visible(rect) {
        return;
    }
    let value = param.unmodulated_normalized_value();
    let default = param.default_normalized_value();
    let painter = ui.painter();
    let centre = pos2(rect.center().x, rect.top() + 32.0);
    let radius = 17.0;
    painter.text(
        rect.center_top() + vec2(0.0, 1.0),
        Align2::CENTER_TOP,
        label,
        FontId::proportional(11.0),
        theme::FAINT,
    );
    let centre = centre + vec2(0.0, 4.0);
    let lit = response.hovered() || response.dragged();
    painter.circle_filled(centre, radius - 4.0, if lit { theme::LINE } else { theme::WELL });
    arc(painter, centre, radius, 0.0, 1.0, Stroke::new(3.0, theme::LINE));
    // From where nothing is done: the default of what goes both ways, else the low end.
    let from = if (0.1..0.9).contains(&default) { default } else { 0.0 };
    arc(painter, centre, radius, from.min(value), from.max(value), Stroke::new(3.0, theme::ACCENT));
    let direction = Vec2::angled(angle(value));
    painter.line_segment(
        [centre + direction * 5.0, centre + direction * (radius - 5.0)],
        Stroke::new(2.0, theme::TEXT),
    );
    painter.text(
        rect.center_bottom() - vec2(0.0, 1.0),
        Align2::CENTER_BOTTOM,
        short(&param.normalized_value_to_string(value, true)),
        FontId::proportional(11.0),
        theme::TEXT,
    );
}

/// The text without what is in brackets, which has no room under a knob.
fn short(text: &str) -> &str {
    text.split(" (").next().unwrap_or(text)
}

fn angle(value: f32) -> f32 {
    PI * (0.75 + 1.5 * value)
}

fn arc(painter: &egui::Painter, centre: Pos2, radius: f32, from: f32, to: f32, stroke: Stroke) {
    if to - from < 1e-3 {
        return;
    }
    let pieces = (((to - from) * 40.0) as usize).max(2);
    let points = (0..=pieces)
        .map(|i| {
            let value = from + (to - from) * i as f32 / pieces as f32;
            centre + Vec2::angled(angle(value)) * radius
        })
        .collect();
    painter.add(Shape::line(points, stroke));
}

/// Lets a drag over `response` turn a parameter.
fn turn<P: Param>(ui: &Ui, setter: &ParamSetter, param: &P, response: &Response) {
    let held = response.id.with("held");
    if response.drag_started() {
        setter.begin_set_parameter(param);
        ui.data_mut(|data| data.insert_temp(held, param.unmodulated_normalized_value()));
    }
    if response.dragged() {
        let fine = if ui.input(|input| input.modifiers.shift) { 0.1 } else { 1.0 };
        let delta = response.drag_delta();
        let moved = (delta.x - delta.y) / TRAVEL * fine;
        // Kept apart from the parameter's value, which may only have a few steps.
        let value = ui.data_mut(|data| {
            let value = data.get_temp_mut_or(held, param.unmodulated_normalized_value());
            *value = (*value + moved).clamp(0.0, 1.0);
            *value
        });
        setter.set_parameter_normalized(param, value);
    }
    if response.drag_stopped() {
        setter.end_set_parameter(param);
    }
    if response.double_clicked() {
        set(setter, param, param.default_normalized_value());
    } else if response.hovered() {
        let wheel = ui.input(|input| input.smooth_scroll_delta().y);
        if wheel.abs() > 0.5 {
            let now = param.unmodulated_normalized_value();
            let step = if param.step_count().is_some() {
                let plain = param.preview_plain(now);
                let next = if wheel > 0.0 {
                    param.next_step(plain, false)
                } else {
                    param.previous_step(plain, false)
                };
                param.preview_normalized(next)
            } else {
                (now + wheel * 0.0005).clamp(0.0, 1.0)
            };
            set(setter, param, step);
        }
    }
}

/// Sets a parameter in one gesture.
pub fn set<P: Param>(setter: &ParamSetter, param: &P, normalized: f32) {
    setter.begin_set_parameter(param);
    setter.set_parameter_normalized(param, normalized);
    setter.end_set_parameter(param);
}

/// A switch with a label in it.
pub fn switch(
    ui: &mut Ui,
    setter: &ParamSetter,
    param: &BoolParam,
    label: &str,
    colour: egui::Color32,
    hint: &str,
) {
    let on = param.unmodulated_plain_value();
    let text =
        egui::RichText::new(label).size(11.0).color(if on { theme::GROUND } else { theme::FAINT });
    let fill = if on { colour } else { theme::WELL };
    let width = ui.available_width().min(58.0);
    let button = egui::Button::new(text).fill(fill).min_size(vec2(width, 20.0));
    if ui.add(button).on_hover_text(hint).clicked() {
        set(setter, param, if on { 0.0 } else { 1.0 });
    }
}

/// A list of a parameter's values.
pub fn list<P: Param>(
    ui: &mut Ui,
    setter: &ParamSetter,
    param: &P,
    label: &str,
    hint: &str,
    width: f32,
) {
    let now = param.unmodulated_normalized_value();
    let steps = param.step_count().unwrap_or(0);
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 3.0;
        ui.label(egui::RichText::new(label).size(11.0).color(theme::FAINT));
        egui::ComboBox::from_id_salt(param.name())
            .width(width)
            .selected_text(param.normalized_value_to_string(now, true))
            .show_ui(ui, |ui| {
                for step in 0..=steps {
                    let value = step as f32 / steps.max(1) as f32;
                    let text = param.normalized_value_to_string(value, true);
                    if ui.selectable_label((value - now).abs() < 1e-4, text).clicked() {
                        set(setter, param, value);
                    }
                }
            })
            .response
            .on_hover_text(hint);
    });
}
