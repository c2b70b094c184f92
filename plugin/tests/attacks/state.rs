//! The plugin's saved state. As the library's attacks (`tests/attacks/`), it is run by the fuzzers in `fuzz/` and
//! by `cargo test`.

use std::sync::Arc;

use nice_plug::params::InternalParamMut;
use nice_plug::params::internals::ParamPtr;
use nice_plug::plugin::ParamValue;
use nice_plug::prelude::*;
use tessera_plugin::Tessera;
use tessera_plugin::models::{Models, Source};
use tessera_plugin::params::TesseraParams;

/// Longest field that is kept, in bytes.
const LONGEST_FIELD: usize = 64 * 1024;

/// Whatever a host hands over, it is refused as no state, or it becomes one that has a value in its range for every
/// parameter, nothing else, and fields that the plugin reads; saved and loaded again it is the same.
pub fn attack(bytes: &[u8]) {
    // As the wrappers for VST3 and CLAP do.
    let Ok(mut state) = serde_json::from_slice::<PluginState>(bytes) else { return };
    Tessera::filter_state(&mut state);
    let params = TesseraParams::new(&Arc::new(Models::default()));
    let map = params.param_map();
    assert_eq!(state.params.len(), map.len(), "{:?}", state.params.keys());
    for (id, param, _) in &map {
        // SAFETY: the pointers point into `params`, which lives to the end of this function.
        let normalized = unsafe {
            match (param, &state.params[id]) {
                (ParamPtr::FloatParam(p), ParamValue::F32(value)) => {
                    assert!(value.is_finite(), "{id} is {value}");
                    (**p)._internal_set_plain_value(*value);
                }
                (ParamPtr::IntParam(p), ParamValue::I32(value)) => {
                    (**p)._internal_set_plain_value(*value);
                    assert_eq!((**p).unmodulated_plain_value(), *value, "{id}");
                }
                (ParamPtr::BoolParam(p), ParamValue::Bool(value)) => {
                    (**p)._internal_set_plain_value(*value);
                }
                (ParamPtr::EnumParam(p), ParamValue::String(value)) => {
                    assert!((**p).set_from_id(value), "{id} is {value}");
                }
                (_, value) => panic!("{id} is {value:?}"),
            }
            param.unmodulated_normalized_value()
        };
        assert!((0.0..=1.0).contains(&normalized), "{id} is at {normalized}");
    }
    assert!(state.fields.values().all(|text| text.len() <= LONGEST_FIELD));
    params.deserialize_fields(&state.fields);
    for (name, text) in params.serialize_fields() {
        if name == "model" {
            // What else stands in a field is passed over, numbers that are none included.
            let read = |text: &str| serde_json::from_str::<Source>(text).unwrap();
            assert_eq!(read(&state.fields[&name]), read(&text));
        }
    }

    let mut again: PluginState =
        serde_json::from_slice(&serde_json::to_vec(&state).unwrap()).unwrap();
    Tessera::filter_state(&mut again);
    assert_eq!(again.fields, state.fields);
    for (id, value) in &state.params {
        match (value, &again.params[id]) {
            // Ranges that are no straight lines round a little on the way there and back.
            (ParamValue::F32(a), ParamValue::F32(b)) => {
                assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{id}: {a}, then {b}");
            }
            (a, b) => assert_eq!(format!("{a:?}"), format!("{b:?}"), "{id}"),
        }
    }
}
