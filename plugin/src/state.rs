//! What is done to a saved state before it is taken over.

use std::collections::BTreeMap;
use std::sync::Arc;

use nice_plug::params::internals::ParamPtr;
use nice_plug::plugin::ParamValue;
use nice_plug::prelude::*;

use crate::models::{Models, Source};
use crate::params::TesseraParams;

/// Brings every value into its parameter's range and leaves out what is none: values written by hand, by a
/// broken disk or by a later version must not get further than this.
pub fn repair(state: &mut PluginState) {
    let params = TesseraParams::new(&Arc::new(Models::default()));
    let known: BTreeMap<String, ParamPtr> =
        params.param_map().into_iter().map(|(id, param, _)| (id, param)).collect();
    state.params.retain(|id, value| match (known.get(id), value) {
        // SAFETY: the pointers point into `params`, which lives to the end of this function.
        (Some(ParamPtr::FloatParam(param)), ParamValue::F32(value)) => unsafe {
            let param = &**param;
            *value = param.preview_plain(param.preview_normalized(*value).clamp(0.0, 1.0));
            value.is_finite()
        },
        // SAFETY: as above.
        (Some(ParamPtr::IntParam(param)), ParamValue::I32(value)) => unsafe {
            let param = &**param;
            *value = param.preview_plain(param.preview_normalized(*value).clamp(0.0, 1.0));
            true
        },
        (Some(ParamPtr::BoolParam(_)), ParamValue::Bool(_)) => true,
        // SAFETY: as above; the value that is set is that of `params` and nobody else's.
        (Some(ParamPtr::EnumParam(param)), ParamValue::String(name)) => unsafe {
            (**param).set_from_id(name)
        },
        _ => false,
    });
    for (id, param) in known {
        state.params.entry(id).or_insert_with(|| default(param));
    }
    state.fields.retain(|_, text| text.len() <= LONGEST_FIELD);
    let folder = state.fields.entry(FOLDER.into()).or_default();
    if serde_json::from_str::<Source>(folder).is_err() {
        *folder = serde_json::to_string(&Source::default()).unwrap_or_default();
    }
}

/// Field of the folder that a model is loaded from, as the parameters name it.
const FOLDER: &str = "model";

/// Longest field beside the parameters, in bytes: a path and an id.
const LONGEST_FIELD: usize = 64 * 1024;

/// A parameter's default: what is missing in a state must not stay as it happens to be.
fn default(param: ParamPtr) -> ParamValue {
    // SAFETY: the pointer points into the parameters that `repair` holds.
    unsafe {
        match param {
            ParamPtr::FloatParam(param) => ParamValue::F32((*param).default_plain_value()),
            ParamPtr::IntParam(param) => ParamValue::I32((*param).default_plain_value()),
            ParamPtr::BoolParam(param) => ParamValue::Bool((*param).default_plain_value()),
            ParamPtr::EnumParam(param) => match (*param).unmodulated_plain_id() {
                Some(id) => ParamValue::String(id.into()),
                None => ParamValue::I32((*param).default_plain_value()),
            },
        }
    }
}
