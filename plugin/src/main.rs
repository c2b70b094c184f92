//! Tessera as a program of its own, for JACK, ALSA, or no sound at all (`--backend dummy`).

use std::process::ExitCode;

use nice_plug::prelude::nice_export_standalone;
use tessera_plugin::Tessera;

fn main() -> ExitCode {
    if nice_export_standalone::<Tessera>() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
