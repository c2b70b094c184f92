//! `cargo xtask demo`: a real recording through the shipped model.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::run::{cargo, output, root, run, target};
use crate::system;

const MODEL: &str = "models/tessera-48k";
/// The recording, in a folder of its own so that it can be evaluated.
const CLIPS: &str = "assets/demo";
const CLIP: &str = "clip.wav";
/// Where everything goes, in the repository's folder.
const OUT: &str = "demo";
const PICTURE: &str = "spectrograms.png";

const LISTEN: &str = "\
What to listen for, from the most levels to the fewest:
  0.0 s  choir   Is it still voices, and do you hear the chord? Or breath under the same loudness?
  1.6 s  piano   The attack of each note, then whether the pitch stands or wavers.
  3.8 s  guitar  Harmonics: a few pure partials. Roughness on them is what codecs get wrong first.
  6.1 s  drums   Are strokes sharp, or smeared? Noise is easy to code: this should fare best.
In the picture, partials are horizontal lines: where they dissolve into speckle, so does the pitch.
The recording is one that the model was trained on; the README has figures for others.";

/// Codes the clip with few, more and all levels; writes sounds and a picture, prints the figures.
pub fn demo() -> Result<()> {
    system::packages()?;
    let root = root();
    let clip = root.join(CLIPS).join(CLIP);
    let model = root.join(MODEL);
    for path in [&clip, &model.join("weights.safetensors")] {
        ensure!(path.is_file(), "{} is missing: is this a whole clone?", path.display());
    }
    run(&mut cargo(&["build", "--release", "--package", "tessera-codec", "--bin", "tessera"]))?;
    let program =
        target()?.join("release").join(format!("tessera{}", std::env::consts::EXE_SUFFIX));
    let out = root.join(OUT);
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let tessera = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(&out);
        command
    };
    let with_model = |mut command: Command| {
        command.arg("--model").arg(&model);
        command
    };

    println!("\nMeasuring {CLIPS}/{CLIP} with every number of levels");
    let mut eval = with_model(tessera(&["eval", "--levels", "all", "--json"]));
    let figures = output(eval.arg(root.join(CLIPS)))?;
    let rows = rows(&figures).context("cannot understand what `tessera eval` printed")?;
    let most = rows.last().map_or(1, |row| row.levels);

    fs::copy(&clip, out.join("original.wav")).context("cannot copy the recording")?;
    let mut sounds = vec!["original.wav".to_owned()];
    let mut table = String::new();
    for row in rows.iter().filter(|row| [1, 4, most].contains(&row.levels)) {
        let levels = row.levels.to_string();
        let name = format!("{levels}-level{}", if row.levels == 1 { "" } else { "s" });
        let (coded, sound) = (format!("{name}.tsr"), format!("{name}.wav"));
        let mut encode =
            with_model(tessera(&["encode", "--force", "--levels", &levels, "original.wav"]));
        run(encode.arg(&coded))?;
        run(&mut with_model(tessera(&["decode", "--force", &coded, &sound])))?;
        table += &row.line(&sound);
        sounds.push(sound);
    }
    let sounds: Vec<&str> = sounds.iter().map(String::as_str).collect();
    run(&mut tessera(&[&["plot", "--force"], &sounds[..], &[PICTURE]].concat()))?;

    println!("\nfile           levels   kbps    mel   STFT   fine  SI-SDR\n{}", table.trim_end());
    println!("mel, STFT: distance from the original, lower is better");
    println!("fine: how well partials and pitch are kept, 1 is perfect, 0 is noise; SI-SDR in dB");
    println!("\n{LISTEN}");
    println!("\nSounds and picture ({PICTURE}) are in {}", shown(&out));
    Ok(())
}

/// What `tessera eval` found with one number of levels.
#[derive(Debug, PartialEq)]
struct Row {
    levels: u64,
    kbps: f64,
    mel: f64,
    stft: f64,
    fine: f64,
    si_sdr: f64,
}

impl Row {
    fn line(&self, sound: &str) -> String {
        let Self { levels, kbps, mel, stft, fine, si_sdr } = self;
        format!("{sound:14} {levels:6} {kbps:6.2} {mel:6.2} {stft:6.2} {fine:6.2} {si_sdr:7.1}\n")
    }
}

/// The rows of `tessera eval --levels all --json`, fewest levels first; `None` if they are not there.
fn rows(json: &str) -> Option<Vec<Row>> {
    let report: Value = serde_json::from_str(json).ok()?;
    let row = |result: &Value| {
        let figure = |name| result["summary"]["all"]["means"][name].as_f64();
        Some(Row {
            levels: result["levels"].as_u64()?,
            kbps: figure("kbps")?,
            mel: figure("mel")?,
            stft: figure("stft")?,
            fine: figure("fine")?,
            si_sdr: figure("sisdr")?,
        })
    };
    report["results"].as_array()?.iter().map(row).collect()
}

/// A path as it is best shown: relative to where the user is, if it lies there.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_are_read() {
        let json = r#"{"results": [{"levels": 2, "clips": {}, "summary": {"all": {"clips": 1,
            "means": {"kbps": 0.8, "mel": 1.5, "stft": 2.5, "fine": 0.2, "sisdr": -3.0}}}}]}"#;
        let row = Row { levels: 2, kbps: 0.8, mel: 1.5, stft: 2.5, fine: 0.2, si_sdr: -3.0 };
        assert_eq!(rows(json), Some(vec![row]));
        assert_eq!(rows("{}"), None);
        assert_eq!(rows(&json.replace("fine", "coarse")), None);
    }
}
