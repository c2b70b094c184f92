//! Settings that show what the plugin does.

use nice_plug::params::internals::ParamPtr;
use nice_plug::prelude::*;

use crate::params::TesseraParams;

/// A named setting. Parameters that it does not name get their default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is good for, in a line.
    pub about: &'static str,
    /// Parameters by id, and their plain values; those of lists by place, switches as 0 or 1.
    pub values: &'static [(&'static str, f32)],
}

/// All presets.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "Transparent",
        about: "All levels and lines, nothing else: the codec at its best",
        values: &[],
    },
    Preset {
        name: "1 kbps Radio",
        about: "Two levels, 0.75 kbps: voices from very far away",
        values: &[("levels", 2.0), ("lines", 0.0), ("width", 0.6), ("output", 1.5)],
    },
    Preset {
        name: "Coarse Ghost",
        about: "The coarse level alone: 25 tokens a second",
        values: &[("levels", 1.0), ("lines", 0.0)],
    },
    Preset {
        name: "Frozen Choir",
        about: "Holds the first sound it hears and lets it shimmer; freeze again for another",
        values: &[
            ("freeze_coarse", 1.0),
            ("freeze_middle", 1.0),
            ("freeze_fine", 1.0),
            ("mutate", 0.12),
            ("width", 1.3),
        ],
    },
    Preset {
        name: "Broken Mosaic",
        about: "Tiles out of order, some of the wrong colour",
        values: &[("shuffle", 0.45), ("mutate", 0.2), ("loss", 0.04)],
    },
    Preset {
        name: "Bad Line",
        about: "A third of the packets never arrive",
        values: &[("levels", 3.0), ("loss", 0.33)],
    },
    Preset {
        name: "Slow Tiles",
        about: "Every token lasts an eighth note",
        values: &[("smear", 24.0), ("smear_sync", 4.0)],
    },
    Preset {
        name: "Wrong Alphabet",
        about: "Every token read as another: rhythm without its sound",
        values: &[("shift", 137.0), ("mix", 0.8)],
    },
    Preset {
        name: "Held Breath",
        about: "The fine scale stands still while the rest moves on",
        values: &[("freeze_fine", 1.0), ("fine", 1.3)],
    },
    Preset {
        name: "Dust",
        about: "Near neighbours everywhere, under the dry sound",
        values: &[("mutate", 0.6), ("smear", 3.0), ("width", 1.6), ("mix", 0.45)],
    },
];

/// Every parameter that a preset sets, with its normalized value. Bypass and the model are nobody's business
/// but the user's.
pub fn values(params: &TesseraParams, preset: &Preset) -> Vec<(ParamPtr, f32)> {
    params
        .param_map()
        .into_iter()
        .filter(|(id, ..)| id != "bypass" && id != "model")
        .map(|(id, param, _)| {
            let named = preset.values.iter().find(|(name, _)| *name == id);
            // SAFETY: the pointer points into `params`.
            let value = unsafe {
                match named {
                    Some((_, plain)) => param.preview_normalized(*plain),
                    None => param.default_normalized_value(),
                }
            };
            (param, value)
        })
        .collect()
}

/// The preset whose values the parameters have.
pub fn current(params: &TesseraParams) -> Option<usize> {
    PRESETS.iter().position(|preset| {
        values(params, preset).into_iter().all(|(param, value)| {
            // SAFETY: the pointer points into `params`.
            let now = unsafe { param.unmodulated_normalized_value() };
            (now - value).abs() < 1e-4
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::Models;

    #[test]
    fn presets_name_parameters_and_values_that_exist() {
        let params = TesseraParams::new(&Arc::new(Models::default()));
        let map = params.param_map();
        for preset in PRESETS {
            for (id, plain) in preset.values {
                let param = map.iter().find(|(known, ..)| known == id).map(|(_, param, _)| *param);
                let param = param.unwrap_or_else(|| panic!("{}: no parameter {id}", preset.name));
                // SAFETY: `params` lives to the end of this function.
                let back = unsafe { param.preview_plain(param.preview_normalized(*plain)) };
                assert!((back - plain).abs() < 1e-3, "{}: {id} {plain} {back}", preset.name);
            }
        }
        assert_eq!(current(&params), Some(0));
        let names: std::collections::BTreeSet<_> =
            PRESETS.iter().map(|preset| preset.name).collect();
        assert_eq!(names.len(), PRESETS.len());
    }
}
