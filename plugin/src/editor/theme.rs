//! Colours, and how egui's own widgets look.

use egui::{Color32, CornerRadius, Stroke};

/// Behind everything.
pub const GROUND: Color32 = Color32::from_rgb(0x13, 0x14, 0x18);
/// Of panels.
pub const PANEL: Color32 = Color32::from_rgb(0x1b, 0x1d, 0x23);
/// Of what sound is drawn on.
pub const WELL: Color32 = Color32::from_rgb(0x0c, 0x0d, 0x10);
/// Of edges and tracks.
pub const LINE: Color32 = Color32::from_rgb(0x33, 0x36, 0x40);
/// Of what matters.
pub const TEXT: Color32 = Color32::from_rgb(0xe8, 0xe6, 0xe0);
/// Of what explains.
pub const FAINT: Color32 = Color32::from_rgb(0x8d, 0x90, 0x9c);
/// Of what is set.
pub const ACCENT: Color32 = Color32::from_rgb(0xf2, 0xa6, 0x5a);
/// Of what is frozen.
pub const ICE: Color32 = Color32::from_rgb(0x7f, 0xc8, 0xf0);
/// Of what is wrong.
pub const ALARM: Color32 = Color32::from_rgb(0xef, 0x5b, 0x5b);
/// Of what is well.
pub const WELL_BEING: Color32 = Color32::from_rgb(0x7b, 0xc4, 0x8a);

/// Dresses egui.
pub fn apply(context: &egui::Context) {
    context.all_styles_mut(|style| {
        style.spacing.item_spacing = egui::vec2(8.0, 6.0);
        style.interaction.selectable_labels = false;
        let visuals = &mut style.visuals;
        *visuals = egui::Visuals::dark();
        visuals.override_text_color = Some(TEXT);
        visuals.panel_fill = GROUND;
        visuals.window_fill = PANEL;
        visuals.window_stroke = Stroke::new(1.0, LINE);
        visuals.extreme_bg_color = WELL;
        visuals.selection.bg_fill = ACCENT.gamma_multiply(0.45);
        for widget in [
            &mut visuals.widgets.inactive,
            &mut visuals.widgets.hovered,
            &mut visuals.widgets.active,
            &mut visuals.widgets.open,
        ] {
            widget.corner_radius = CornerRadius::same(4);
            widget.bg_fill = PANEL;
            widget.weak_bg_fill = Color32::from_rgb(0x25, 0x28, 0x30);
            widget.bg_stroke = Stroke::new(1.0, LINE);
            widget.fg_stroke = Stroke::new(1.0, TEXT);
        }
        visuals.widgets.hovered.bg_stroke = Stroke::new(1.0, FAINT);
        visuals.widgets.hovered.weak_bg_fill = Color32::from_rgb(0x2d, 0x31, 0x3a);
    });
}

/// From black over violet and orange to white: how loud a place of a spectrogram is, 0 to 1.
pub fn heat(value: f32) -> Color32 {
    const STOPS: [[f32; 3]; 5] = [
        [12.0, 13.0, 16.0],
        [62.0, 32.0, 92.0],
        [176.0, 60.0, 92.0],
        [244.0, 152.0, 78.0],
        [252.0, 240.0, 200.0],
    ];
    let place = value.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let index = (place as usize).min(STOPS.len() - 2);
    let share = place - index as f32;
    let [r, g, b] = std::array::from_fn(|i| {
        (STOPS[index][i] + (STOPS[index + 1][i] - STOPS[index][i]) * share) as u8
    });
    Color32::from_rgb(r, g, b)
}
