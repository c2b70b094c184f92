//! `tessera devices`: what sound can come from and go to.

use anyhow::{Result, bail};
use cpal::traits::DeviceTrait;
use serde_json::{Value, json};

use super::device::{self, Direction, Quiet, Wanted};
use super::{Outcome, report};

/// List the sound devices.
///
/// `play` and `live` take an id, a name, or a part of a name.
#[derive(clap::Args)]
pub struct Args {
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// What is asked for where nothing is known of the sound.
const WANTED: Wanted = Wanted { rate: 48_000, exactly: false, channels: 2, buffer: None };

pub fn run(args: Args) -> Result<Outcome> {
    let _quiet = Quiet::hold();
    let devices = device::all()?;
    let mut text = String::new();
    let mut list = Vec::new();
    for (id, device) in &devices {
        let uses = [Direction::Input, Direction::Output].map(|direction| {
            let has = match direction {
                Direction::Input => device.supports_input(),
                Direction::Output => device.supports_output(),
            };
            has.then(|| device::usable(device, direction, WANTED).ok()).flatten()
        });
        if uses.iter().all(Option::is_none) {
            continue;
        }
        let name = device::description(device);
        text += &format!("{id}\n    {name}\n");
        let mut entry = json!({ "id": id, "name": name, "input": null, "output": null });
        for (direction, usable) in ["input", "output"].into_iter().zip(uses) {
            if let Some((config, format)) = usable {
                let (channels, rate) = (config.channels, config.sample_rate);
                text += &format!("    {direction:6} {channels} channels, {rate} Hz, {format}\n");
                entry[direction] =
                    json!({ "channels": channels, "rate": rate, "format": format.to_string() });
            }
        }
        list.push(entry);
    }
    if list.is_empty() {
        bail!("no sound card was found, or this user may not use it");
    }
    match args.json {
        true => report::print_json(&Value::Array(list))?,
        false => report::print(&text)?,
    }
    Ok(Outcome::Done)
}
