//! What hosts can automate and what they save with a project.

use std::sync::Arc;

use nice_plug::prelude::*;

use crate::line::BLOCK;
use crate::models::{Choice, Models};
use crate::processor::Controls;
use crate::resynthesis;
use crate::tokens;

/// The most levels the plugin offers: those of the shipped model. With a model that has more, the last step
/// is all of them.
pub const LEVELS: i32 = 7;

/// Milliseconds in which a knob's new value is reached.
const SMOOTHING: f32 = 20.0;

/// Frames that a code can be held.
const LONGEST_SMEAR: i32 = 100;

/// How long smear holds a token when it follows the host's tempo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum Sync {
    /// As many frames as Smear says.
    #[id = "off"]
    #[name = "Off"]
    Off,
    /// A 64th note.
    #[id = "64th"]
    #[name = "1/64"]
    SixtyFourth,
    /// A 32nd note.
    #[id = "32nd"]
    #[name = "1/32"]
    ThirtySecond,
    /// A 16th note.
    #[id = "16th"]
    #[name = "1/16"]
    Sixteenth,
    /// An 8th note.
    #[id = "8th"]
    #[name = "1/8"]
    Eighth,
    /// A quarter note: a beat.
    #[id = "4th"]
    #[name = "1/4"]
    Quarter,
    /// A half note.
    #[id = "2nd"]
    #[name = "1/2"]
    Half,
    /// A whole note.
    #[id = "whole"]
    #[name = "1/1"]
    Whole,
}

impl Sync {
    /// Quarter notes, none for `Off`.
    fn beats(self) -> Option<f64> {
        match self {
            Self::Off => None,
            Self::SixtyFourth => Some(1.0 / 16.0),
            Self::ThirtySecond => Some(1.0 / 8.0),
            Self::Sixteenth => Some(1.0 / 4.0),
            Self::Eighth => Some(1.0 / 2.0),
            Self::Quarter => Some(1.0),
            Self::Half => Some(2.0),
            Self::Whole => Some(4.0),
        }
    }
}

/// The knobs.
#[derive(Params)]
pub struct TesseraParams {
    /// The host's bypass switch.
    #[id = "bypass"]
    pub bypass: BoolParam,
    /// Which model plays.
    #[id = "model"]
    pub model: EnumParam<Choice>,
    /// Levels that are decoded, which is the bit rate.
    #[id = "levels"]
    pub levels: IntParam,
    /// Whether lines are drawn beside the codes.
    #[id = "lines"]
    pub lines: BoolParam,
    /// Weight of the coarse scale.
    #[id = "coarse"]
    pub coarse: FloatParam,
    /// Weight of the middle scale.
    #[id = "middle"]
    pub middle: FloatParam,
    /// Weight of the fine scale.
    #[id = "fine"]
    pub fine: FloatParam,
    /// Holds the coarse scale.
    #[id = "freeze_coarse"]
    pub freeze_coarse: BoolParam,
    /// Holds the middle scale.
    #[id = "freeze_middle"]
    pub freeze_middle: BoolParam,
    /// Holds the fine scale.
    #[id = "freeze_fine"]
    pub freeze_fine: BoolParam,
    /// Frames that each token is held.
    #[id = "smear"]
    pub smear: IntParam,
    /// Note value that tokens are held instead.
    #[id = "smear_sync"]
    pub sync: EnumParam<Sync>,
    /// Probability that a token turns into a near neighbour.
    #[id = "mutate"]
    pub mutate: FloatParam,
    /// Probability that a token gives way to one of the recent past.
    #[id = "shuffle"]
    pub shuffle: FloatParam,
    /// Added to the number of every token.
    #[id = "shift"]
    pub shift: IntParam,
    /// Decides what chance brings.
    #[id = "seed"]
    pub seed: IntParam,
    /// Probability that a packet is lost.
    #[id = "loss"]
    pub loss: FloatParam,
    /// Stereo width of the codec's sound.
    #[id = "width"]
    pub width: FloatParam,
    /// Codec against input.
    #[id = "mix"]
    pub mix: FloatParam,
    /// Gain in front of the codec.
    #[id = "input"]
    pub input: FloatParam,
    /// Gain behind everything but the limiter.
    #[id = "output"]
    pub output: FloatParam,
    /// Whether the limiter is on.
    #[id = "limiter"]
    pub limiter: BoolParam,
    /// The limiter's highest sample.
    #[id = "ceiling"]
    pub ceiling: FloatParam,
    /// The folder that a model is loaded from.
    #[persist = "model"]
    pub models: Arc<Models>,
}

impl TesseraParams {
    /// All at their defaults: the codec at its best and nothing else.
    pub fn new(models: &Arc<Models>) -> Self {
        Self {
            bypass: BoolParam::new("Bypass", false).make_bypass(),
            model: EnumParam::new("Model", Choice::Embedded),
            levels: levels(models.clone()),
            lines: BoolParam::new("Lines", true),
            coarse: percent("Coarse", 1.0, 2.0),
            middle: percent("Middle", 1.0, 2.0),
            fine: percent("Fine", 1.0, 2.0),
            freeze_coarse: BoolParam::new("Freeze Coarse", false),
            freeze_middle: BoolParam::new("Freeze Middle", false),
            freeze_fine: BoolParam::new("Freeze Fine", false),
            smear: smear(),
            sync: EnumParam::new("Smear Sync", Sync::Off),
            mutate: percent("Mutate", 0.0, 1.0),
            shuffle: percent("Shuffle", 0.0, 1.0),
            shift: IntParam::new("Shift", 0, IntRange::Linear { min: -512, max: 512 })
                .with_unit(" codes"),
            seed: IntParam::new("Seed", 1, IntRange::Linear { min: 0, max: 999 }),
            loss: percent("Packet Loss", 0.0, 1.0),
            width: percent("Width", 1.0, 2.0).with_smoother(SmoothingStyle::Linear(SMOOTHING)),
            mix: percent("Mix", 1.0, 1.0).with_smoother(SmoothingStyle::Linear(SMOOTHING)),
            input: decibels("Input", 0.0, -24.0, 24.0),
            output: decibels("Output", 0.0, -24.0, 24.0),
            limiter: BoolParam::new("Limiter", true),
            ceiling: decibels("Ceiling", 0.0, -24.0, 0.0),
            models: models.clone(),
        }
    }

    /// What the codec is told; `tempo` in quarter notes a minute, `frames` a second.
    pub fn settings(&self, tempo: Option<f64>, frames: f64) -> resynthesis::Settings {
        let smear = match (self.sync.value().beats(), tempo) {
            (Some(beats), Some(tempo)) if tempo.is_finite() && tempo > 1.0 => {
                (beats * 60.0 / tempo * frames).clamp(1.0, 10_000.0) as f32
            }
            (Some(_), _) | (None, _) => self.smear.value().clamp(1, LONGEST_SMEAR) as f32,
        };
        let share = |param: &FloatParam| finite(param.value(), 0.0).clamp(0.0, 1.0);
        let weight = |param: &FloatParam| finite(param.value(), 1.0).clamp(0.0, 2.0);
        let levels = self.levels.value();
        resynthesis::Settings {
            levels: if levels >= LEVELS { usize::MAX } else { levels.max(1) as usize },
            gains: [weight(&self.coarse), weight(&self.middle), weight(&self.fine)],
            lines: self.lines.value(),
            tokens: tokens::Settings {
                freeze: [
                    self.freeze_coarse.value(),
                    self.freeze_middle.value(),
                    self.freeze_fine.value(),
                ],
                smear,
                mutate: share(&self.mutate),
                shuffle: share(&self.shuffle),
                shift: self.shift.value().clamp(-512, 512),
                loss: share(&self.loss),
                seed: self.seed.value().max(0) as u32,
            },
        }
    }

    /// What the next `frames` samples are made with; moves the smoothed values on.
    pub fn controls(&self, frames: usize, settings: resynthesis::Settings) -> Controls {
        let mut controls = Controls {
            input: [1.0; BLOCK],
            output: [1.0; BLOCK],
            mix: [1.0; BLOCK],
            width: [1.0; BLOCK],
            ceiling: self
                .limiter
                .value()
                .then(|| gain(finite(self.ceiling.value(), 0.0).clamp(-24.0, 0.0))),
            bypass: self.bypass.value(),
            settings,
        };
        let fill = |values: &mut [f32], param: &FloatParam, low: f32, high: f32, neutral: f32| {
            let moving = param.smoothed.is_smoothing();
            for value in values.iter_mut() {
                let now = if moving { param.smoothed.next() } else { param.value() };
                *value = finite(now, neutral).clamp(low, high);
            }
        };
        fill(&mut controls.input[..frames], &self.input, -24.0, 24.0, 0.0);
        fill(&mut controls.output[..frames], &self.output, -24.0, 24.0, 0.0);
        fill(&mut controls.mix[..frames], &self.mix, 0.0, 1.0, 1.0);
        fill(&mut controls.width[..frames], &self.width, 0.0, 2.0, 1.0);
        for values in [&mut controls.input, &mut controls.output] {
            let mut last = (0.0, 1.0);
            for value in &mut values[..frames] {
                if *value != last.0 {
                    last = (*value, gain(*value));
                }
                *value = last.1;
            }
        }
        controls
    }
}

/// Decibels to a factor; 0 gives exactly 1.
fn gain(decibels: f32) -> f32 {
    if decibels == 0.0 { 1.0 } else { 10f32.powf(decibels / 20.0) }
}

fn finite(value: f32, otherwise: f32) -> f32 {
    if value.is_finite() { value } else { otherwise }
}

/// A share from 0 to `max`, shown in percent.
fn percent(name: &str, default: f32, max: f32) -> FloatParam {
    FloatParam::new(name, default, FloatRange::Linear { min: 0.0, max })
        .with_unit(" %")
        .with_value_to_string(formatters::v2s_f32_percentage(1))
        .with_string_to_value(formatters::s2v_f32_percentage())
}

fn decibels(name: &str, default: f32, min: f32, max: f32) -> FloatParam {
    FloatParam::new(name, default, FloatRange::Linear { min, max })
        .with_smoother(SmoothingStyle::Linear(SMOOTHING))
        .with_unit(" dB")
        .with_value_to_string(formatters::v2s_f32_rounded(2))
}

fn levels(models: Arc<Models>) -> IntParam {
    IntParam::new("Levels", LEVELS, IntRange::Linear { min: 1, max: LEVELS })
        .with_value_to_string(Arc::new(move |levels| {
            let all = if levels >= LEVELS { usize::MAX } else { levels.max(1) as usize };
            format!("{levels} ({:.2} kbps)", f64::from(models.bits_per_second(all)) / 1000.0)
        }))
        .with_string_to_value(Arc::new(leading_number))
}

fn smear() -> IntParam {
    IntParam::new("Smear", 1, IntRange::Linear { min: 1, max: LONGEST_SMEAR })
        .with_value_to_string(Arc::new(|frames| {
            if frames == 1 { "Off".into() } else { format!("{frames} frames") }
        }))
        .with_string_to_value(Arc::new(|text| {
            if text.trim().eq_ignore_ascii_case("off") { Some(1) } else { leading_number(text) }
        }))
}

/// The whole number that a text begins with.
fn leading_number(text: &str) -> Option<i32> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
