//! The plugin's window: the tokens as a mosaic, spectrograms, meters, and every parameter.

mod knob;
mod meter;
mod mosaic;
mod spectrogram;
mod theme;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use egui::{Align, Align2, FontId, Frame, Layout, Margin, RichText, Sense, Ui, vec2};
use nice_plug::context::gui::GuiContext;
use nice_plug::editor::dpi::{LogicalSize, Size};
use nice_plug::prelude::*;
use nice_plug_egui::{
    EguiEditor, EguiEditorState, EguiNiceSettings, NiceEguiApp, RepaintNotifier, baseview,
    create_egui_editor,
};

use self::knob::{knob, list, switch};
use self::meter::Meter;
use self::mosaic::{Mosaic, Wish};
use self::spectrogram::Spectrogram;
use crate::Task;
use crate::exchange::Workshop;
use crate::models::{Choice, Models, Status};
use crate::monitor::Watch;
use crate::params::{LEVELS, TesseraParams};
use crate::presets::{self, PRESETS};

/// The window's size in points at first, and at the least.
const SIZE: [f32; 2] = [960.0, 640.0];
const LEAST: [f32; 2] = [900.0, 560.0];

/// Seconds between two pictures: what moves moves by steps of the codec, and more pictures than those would judder.
const FRAME: f32 = 0.04;

/// How long the framework waits before it looks whether something asks for a picture from outside the window, where each
/// picture asks for the next. Its usual 16 ms woke the window for nothing, and with X11 it never drew at all when that came
/// before the window was shown (see [`App::build`]); but a picture that the screen never had room for asks for none after it,
/// and then this is what the window goes on by.
const POLL: Duration = Duration::from_secs(5);

/// Seconds between two looks at what changes slowly.
const SLOW: f32 = 0.4;

/// What the editor stands on.
pub struct Parts {
    /// The knobs.
    pub params: Arc<TesseraParams>,
    /// Which model plays.
    pub models: Arc<Models>,
    /// Where lines are made.
    pub workshop: Arc<Workshop>,
    /// What the audio thread tells.
    pub watch: Watch,
    /// The window's size, and whether it is open.
    pub window: Arc<EguiEditorState>,
    /// Does work in the background.
    pub executor: Box<dyn Fn(Task) + Send>,
}

/// A window that is not open yet.
pub fn window() -> Arc<EguiEditorState> {
    EguiEditorState::from_size(Size::Logical(LogicalSize::new(SIZE[0], SIZE[1]).cast()), 1.0)
}

/// Makes the editor; its window comes and goes.
pub fn create(parts: Parts) -> Option<EguiEditor<App>> {
    let hint = ResizeHint::resizable().with_min_logical_size(LogicalSize::new(LEAST[0], LEAST[1]));
    let settings = EguiNiceSettings::new()
        .with_tile("Tessera")
        .with_resize_hint(hint)
        .with_repaint_poll_interval(POLL);
    let notifier = RepaintNotifier::new();
    create_egui_editor(parts.window.clone(), notifier.clone(), settings, App::new(parts, notifier))
}

/// The editor's state; lives as long as the plugin.
pub struct App {
    parts: Parts,
    gui: Option<GuiContext>,
    /// Whether the window that is open has had its first picture.
    drawn: bool,
    /// Asks for a picture if there is none until [`POLL`] is over.
    notifier: RepaintNotifier,
    mosaic: Mosaic,
    input: Spectrogram,
    output: Spectrogram,
    meters: [Meter; 2],
    /// Lowest gain of the limiter, falling back.
    reduction: f32,
    sound: Vec<[f32; 2]>,
    updated: Instant,
    slow: Slow,
    /// The folder as it is typed.
    folder: String,
}

/// What is looked at a few times a second.
#[derive(Default)]
struct Slow {
    updated: Option<Instant>,
    status: Status,
    preset: Option<usize>,
    load: f32,
    worst: f32,
}

impl App {
    fn new(parts: Parts, notifier: RepaintNotifier) -> Self {
        Self {
            parts,
            gui: None,
            drawn: false,
            notifier,
            mosaic: Mosaic::default(),
            input: Spectrogram::new(48_000.0),
            output: Spectrogram::new(48_000.0),
            meters: Default::default(),
            reduction: 0.0,
            sound: Vec::new(),
            updated: Instant::now(),
            slow: Slow::default(),
            folder: String::new(),
        }
    }

    /// Takes what the audio thread has sent.
    fn update(&mut self) {
        let seconds = self.updated.elapsed().as_secs_f32();
        self.updated = Instant::now();
        let watch = &mut self.parts.watch;
        let rate = watch.meters.rate.load(Ordering::Relaxed);
        if rate >= 1000.0 && rate != self.input.rate() {
            (self.input, self.output) = (Spectrogram::new(rate), Spectrogram::new(rate));
        }
        self.sound.clear();
        while let Ok(pair) = watch.sound.pop() {
            self.sound.push(pair);
        }
        self.input.push(self.sound.iter().map(|pair| pair[0]));
        self.output.push(self.sound.iter().map(|pair| pair[1]));
        while let Ok(step) = watch.steps.pop() {
            self.mosaic.push(step);
        }
        let meters = &watch.meters;
        self.meters[0].update(meters.input.swap(0.0, Ordering::Relaxed), seconds);
        self.meters[1].update(meters.output.swap(0.0, Ordering::Relaxed), seconds);
        let reduction = meters.reduction.swap(0.0, Ordering::Relaxed);
        self.reduction = reduction.max(self.reduction - seconds);

        let slow = &mut self.slow;
        if slow.updated.is_none_or(|updated| updated.elapsed().as_secs_f32() > SLOW) {
            slow.updated = Some(Instant::now());
            let status = self.parts.models.status();
            if status.id != slow.status.id
                && let Some(loaded) = self.parts.workshop.playing()
            {
                self.mosaic.set_model(&loaded.model);
            }
            slow.status = status;
            slow.preset = presets::current(&self.parts.params);
            slow.load = meters.load.load(Ordering::Relaxed);
            slow.worst = meters.worst.swap(0.0, Ordering::Relaxed);
        }
    }

    fn header(&mut self, ui: &mut Ui, gui: &GuiContext) {
        ui.horizontal(|ui| {
            ui.set_height(40.0);
            logo(ui);
            ui.label(RichText::new("TESSERA").size(20.0).strong());
            ui.add_space(12.0);
            self.presets(ui, gui);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| self.numbers(ui));
        });
    }

    fn presets(&mut self, ui: &mut Ui, gui: &GuiContext) {
        let current = self.slow.preset;
        let mut chosen = None;
        if ui.button("\u{2039}").clicked() {
            chosen = Some(current.map_or(0, |i| (i + PRESETS.len() - 1) % PRESETS.len()));
        }
        let text = current.map_or("Own setting", |i| PRESETS[i].name);
        egui::ComboBox::from_id_salt("presets").width(150.0).selected_text(text).show_ui(
            ui,
            |ui| {
                for (i, preset) in PRESETS.iter().enumerate() {
                    if ui
                        .selectable_label(current == Some(i), preset.name)
                        .on_hover_text(preset.about)
                        .clicked()
                    {
                        chosen = Some(i);
                    }
                }
            },
        );
        if ui.button("\u{203a}").clicked() {
            chosen = Some(current.map_or(0, |i| (i + 1) % PRESETS.len()));
        }
        if let Some(preset) = chosen.and_then(|i| PRESETS.get(i)) {
            for (param, value) in presets::values(&self.parts.params, preset) {
                // SAFETY: the pointers point into the parameters that this editor holds.
                unsafe {
                    gui.raw_begin_set_parameter(param);
                    gui.raw_set_parameter_normalized(param, value);
                    gui.raw_end_set_parameter(param);
                }
            }
            self.slow.updated = None;
        }
    }

    /// From right to left.
    fn numbers(&mut self, ui: &mut Ui) {
        let meters = &self.parts.watch.meters;
        let rate = meters.rate.load(Ordering::Relaxed);
        let latency = meters.latency.load(Ordering::Relaxed);
        let channels = meters.channels.load(Ordering::Relaxed).max(1);
        let dropouts = meters.dropouts.load(Ordering::Relaxed);
        let levels = self.parts.params.levels.unmodulated_plain_value();
        let levels = if levels >= LEVELS { usize::MAX } else { levels.max(1) as usize };
        let bits = self.parts.models.bits_per_second(levels) * channels;
        let load = format!("{:.0} %", self.slow.load * 100.0);
        let milliseconds = if rate > 0.0 { latency as f32 / rate * 1000.0 } else { 0.0 };
        let calm = if dropouts > 0 { theme::ALARM } else { theme::TEXT };
        number(ui, "dropouts", &dropouts.to_string(), calm)
            .on_hover_text("Blocks that took longer than they last");
        number(ui, "CPU", &load, theme::TEXT).on_hover_text(format!(
            "Share of the audio thread's time; at worst {:.0} % of a block",
            self.slow.worst * 100.0
        ));
        number(ui, "latency", &format!("{milliseconds:.0} ms"), theme::TEXT)
            .on_hover_text(format!("{latency} samples, which the host makes up for"));
        number(ui, "bit rate", &format!("{:.2} kbps", f64::from(bits) / 1000.0), theme::ACCENT)
            .on_hover_text("What the tokens of all channels would take to send");
    }

    fn picture(&mut self, ui: &mut Ui, gui: &GuiContext, height: f32) {
        let params = &self.parts.params;
        let switches = [&params.freeze_coarse, &params.freeze_middle, &params.freeze_fine];
        let frozen = switches.map(|switch| switch.unmodulated_plain_value());
        let setter = gui.param_setter();
        match self.mosaic.show(ui, height, frozen) {
            Some(Wish::Toggle(scale)) => {
                let now = frozen[scale];
                knob::set(&setter, switches[scale], if now { 0.0 } else { 1.0 });
            }
            // With the ring full, many drags wait already.
            Some(Wish::Hold(range)) if self.parts.watch.holds.push(range).is_ok() => {
                for (switch, on) in switches.iter().zip(frozen) {
                    if !on {
                        knob::set(&setter, *switch, 1.0);
                    }
                }
            }
            _ => {}
        }
    }

    fn sounds(&mut self, ui: &mut Ui, height: f32) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            let width = (ui.available_width() - 3.0 * 30.0 - 5.0 * 6.0) / 2.0;
            self.input.show(ui, "Input", vec2(width, height));
            self.output.show(ui, "Output", vec2(width, height));
            self.meters[0].show(ui, "in", height);
            self.meters[1].show(ui, "out", height);
            reduction(ui, self.reduction, height);
        });
    }

    fn controls(&mut self, ui: &mut Ui, gui: &GuiContext) {
        let setter = gui.param_setter();
        let p = self.parts.params.clone();
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing = vec2(6.0, 2.0);
            group(ui, "CODEC", |ui| {
                knob(ui, &setter, &p.levels, "Levels", "How many levels are decoded: the bit rate");
                knob(
                    ui,
                    &setter,
                    &p.coarse,
                    "Coarse",
                    "Weight of the coarse level: the outline of the sound",
                );
                knob(ui, &setter, &p.middle, "Middle", "Weight of the middle level");
                knob(ui, &setter, &p.fine, "Fine", "Weight of the fine levels: detail and attack");
                ui.vertical(|ui| {
                    ui.set_width(46.0);
                    ui.add_space(8.0);
                    let about = "Draws tones that stand out, and a voice's partials, beside the codes, \
                                 and puts levels right";
                    switch(ui, &setter, &p.lines, "Lines", theme::ACCENT, about);
                });
            });
            group(ui, "FREEZE", |ui| {
                ui.vertical(|ui| {
                    ui.set_width(62.0);
                    ui.spacing_mut().item_spacing.y = 5.0;
                    for (param, label) in [
                        (&p.freeze_coarse, "Coarse"),
                        (&p.freeze_middle, "Middle"),
                        (&p.freeze_fine, "Fine"),
                    ] {
                        switch(
                            ui,
                            &setter,
                            param,
                            label,
                            theme::ICE,
                            "Hold what this scale plays now",
                        );
                    }
                });
            });
            group(ui, "TOKENS", |ui| {
                knob(
                    ui,
                    &setter,
                    &p.smear,
                    "Smear",
                    "How long every token is held, in frames of 10 ms",
                );
                ui.vertical(|ui| {
                    ui.set_width(64.0);
                    list(
                        ui,
                        &setter,
                        &p.sync,
                        "Sync",
                        "A note value for Smear to follow the host's tempo",
                        54.0,
                    );
                });
                knob(ui, &setter, &p.mutate, "Mutate", "How many tokens turn into near neighbours");
                knob(
                    ui,
                    &setter,
                    &p.shuffle,
                    "Shuffle",
                    "How many tokens give way to ones of the last 0.6 s",
                );
                knob(
                    ui,
                    &setter,
                    &p.shift,
                    "Shift",
                    "Reads every token as the one so many places on",
                );
                knob(
                    ui,
                    &setter,
                    &p.seed,
                    "Seed",
                    "What chance brings; the same seed, the same render",
                );
            });
            group(ui, "LINE", |ui| {
                ui.set_min_width(ui.available_width());
                knob(ui, &setter, &p.loss, "Packet loss", "How many packets of 40 ms never arrive");
            });
        });
        ui.add_space(2.0);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing = vec2(6.0, 2.0);
            group(ui, "OUTPUT", |ui| {
                knob(ui, &setter, &p.input, "Input", "Gain in front of the codec");
                knob(ui, &setter, &p.width, "Width", "Stereo width of the codec's sound");
                knob(ui, &setter, &p.mix, "Mix", "Codec against input, in time with each other");
                knob(ui, &setter, &p.output, "Output", "Gain behind everything but the limiter");
                knob(ui, &setter, &p.ceiling, "Ceiling", "The limiter's highest sample");
                ui.vertical(|ui| {
                    ui.set_width(62.0);
                    ui.spacing_mut().item_spacing.y = 5.0;
                    ui.add_space(8.0);
                    switch(
                        ui,
                        &setter,
                        &p.limiter,
                        "Limiter",
                        theme::ACCENT,
                        "Keeps peaks under the ceiling",
                    );
                    switch(ui, &setter, &p.bypass, "Bypass", theme::ALARM, "The input, in time");
                });
            });
            group(ui, "MODEL", |ui| self.model(ui, gui));
        });
    }

    fn model(&mut self, ui: &mut Ui, gui: &GuiContext) {
        let params = self.parts.params.clone();
        let setter = gui.param_setter();
        ui.vertical(|ui| {
            let width = ui.available_width().max(150.0);
            ui.set_width(width);
            ui.spacing_mut().item_spacing = vec2(6.0, 4.0);
            ui.horizontal(|ui| {
                let now = params.model.unmodulated_plain_value();
                for (label, choice) in [
                    ("Built-in", Choice::Embedded),
                    ("Low latency", Choice::Live),
                    ("Folder", Choice::Folder),
                ] {
                    if ui.selectable_label(now == choice, label).clicked() && now != choice {
                        knob::set(&setter, &params.model, params.model.preview_normalized(choice));
                    }
                }
                let name = &self.slow.status.name;
                let id: String = self.slow.status.id.chars().take(8).collect();
                ui.label(RichText::new(format!("{name}  {id}")).size(11.0).color(theme::FAINT));
            });
            ui.horizontal(|ui| {
                let field = egui::TextEdit::singleline(&mut self.folder)
                    .hint_text("Folder with config.json and weights.safetensors")
                    .desired_width(width - 60.0);
                let entered =
                    ui.add(field).lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
                if (ui.button("Load").clicked() || entered) && !self.folder.trim().is_empty() {
                    self.parts.models.choose(PathBuf::from(self.folder.trim()));
                    let folder = Choice::Folder;
                    if params.model.unmodulated_plain_value() != folder {
                        knob::set(&setter, &params.model, params.model.preview_normalized(folder));
                    }
                    // The audio thread asks for it, too, but only while it runs.
                    (self.parts.executor)(Task::Load);
                }
            });
            let problem = self.slow.status.problem.as_deref().unwrap_or_default();
            ui.add(
                egui::Label::new(RichText::new(problem).size(10.0).color(theme::ALARM)).truncate(),
            )
            .on_hover_text(problem);
        });
    }
}

impl NiceEguiApp for App {
    fn build(
        &mut self,
        egui_ctx: egui::Context,
        nice_gui_ctx: GuiContext,
        _frame: &mut nice_plug_egui::Frame,
    ) -> Result<(), baseview::HandlerError> {
        // With X11, baseview 0.4 answers a request for a picture before the window is shown by asking the server for an
        // event it has not subscribed to yet, and waits for that for ever: a black window. So there are none until the
        // first picture, which comes with the window.
        egui_ctx.set_request_repaint_callback(|_| {});
        self.drawn = false;
        theme::apply(&egui_ctx);
        self.gui = Some(nice_gui_ctx);
        let rate = self.input.rate();
        // Textures belong to the window that was.
        self.mosaic.close();
        (self.input, self.output) = (Spectrogram::new(rate), Spectrogram::new(rate));
        self.slow = Slow::default();
        let source = &self.parts.models.source;
        let source = source.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.folder = source.path.display().to_string();
        Ok(())
    }

    fn ui(&mut self, ui: &mut Ui, window: &mut nice_plug_egui::Frame) {
        let Some(gui) = self.gui.clone() else { return };
        if !std::mem::replace(&mut self.drawn, true) {
            let waker = window.baseview_window().waker();
            // egui takes the second picture for granted and would not ask for it.
            waker.request_redraw();
            ui.ctx().set_request_repaint_callback(move |request| {
                waker.request_redraw_after(request.delay)
            });
        }
        self.update();
        let frame = Frame::new().fill(theme::GROUND).inner_margin(Margin::symmetric(12, 6));
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            self.header(ui, &gui);
            // What the controls leave, between mosaic and spectrograms.
            let room = (ui.available_height() - CONTROLS).max(160.0);
            self.picture(ui, &gui, room * 0.52);
            self.sounds(ui, room * 0.48 - 14.0);
            ui.add_space(2.0);
            self.controls(ui, &gui);
        });
        ui.request_repaint_after(Duration::from_secs_f32(FRAME));
        self.notifier.request_repaint();
    }
}

/// Points that the controls take.
const CONTROLS: f32 = 214.0;

/// A panel with a title.
fn group(ui: &mut Ui, title: &str, contents: impl FnOnce(&mut Ui)) {
    Frame::new().fill(theme::PANEL).corner_radius(5.0).inner_margin(Margin::symmetric(8, 5)).show(
        ui,
        |ui| {
            ui.vertical(|ui| {
                ui.label(RichText::new(title).size(10.0).color(theme::FAINT).strong());
                ui.horizontal_top(|ui| {
                    ui.set_height(knob::SIZE.y);
                    ui.spacing_mut().item_spacing.x = 2.0;
                    contents(ui);
                });
            });
        },
    );
}

/// A number with its name under it.
fn number(ui: &mut Ui, name: &str, value: &str, colour: egui::Color32) -> egui::Response {
    let (rect, response) = ui.allocate_exact_size(vec2(74.0, 36.0), Sense::hover());
    let painter = ui.painter();
    painter.text(
        rect.center_top() + vec2(0.0, 2.0),
        Align2::CENTER_TOP,
        value,
        FontId::proportional(15.0),
        colour,
    );
    painter.text(
        rect.center_bottom(),
        Align2::CENTER_BOTTOM,
        name,
        FontId::proportional(10.0),
        theme::FAINT,
    );
    response
}

/// The limiter's reduction, from the top down.
fn reduction(ui: &mut Ui, amount: f32, height: f32) {
    let (rect, response) = ui.allocate_exact_size(vec2(30.0, height), Sense::hover());
    let painter = ui.painter();
    let bar = egui::Rect::from_min_max(rect.min + vec2(8.0, 14.0), rect.max - vec2(8.0, 14.0));
    painter.rect_filled(bar, 2.0, theme::WELL);
    let decibels = -20.0 * (1.0 - amount).max(1e-3).log10();
    let depth = (decibels / 24.0).clamp(0.0, 1.0) * bar.height();
    painter.rect_filled(
        egui::Rect::from_min_size(bar.min, vec2(bar.width(), depth)),
        2.0,
        theme::ALARM,
    );
    painter.text(
        rect.center_bottom(),
        Align2::CENTER_BOTTOM,
        "lim",
        FontId::proportional(10.0),
        theme::FAINT,
    );
    response.on_hover_text("What the limiter takes off; 24 dB from top to bottom");
}

/// Nine tiles.
fn logo(ui: &mut Ui) {
    let (rect, _) = ui.allocate_exact_size(vec2(30.0, 30.0), Sense::hover());
    for i in 0..9 {
        let (x, y) = ((i % 3) as f32, (i / 3) as f32);
        let tile = egui::Rect::from_min_size(
            rect.min + vec2(x, y) * 10.0 + vec2(1.0, 1.0),
            vec2(8.5, 8.5),
        );
        let colour =
            [theme::ACCENT, theme::ICE, theme::WELL_BEING, theme::ALARM][(i * 5 + i / 2) % 4];
        ui.painter().rect_filled(
            tile,
            1.5,
            colour.gamma_multiply(0.55 + 0.05 * ((i * 7) % 9) as f32),
        );
    }
}
