//! `cargo xtask page`: a page to listen to, clip by clip, against Opus.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::{cargo, output, root, run, succeeds, target};
use crate::system;

/// Clips when no folder is named, in the repository's folder.
const CLIPS: &str = "assets/demo";
/// Where everything goes, in the repository's folder.
const OUT: &str = "page";
/// Opus at so many kbps, where `opusenc` is installed: the codec people would use instead.
const OPUS: [u32; 4] = [6, 8, 12, 16];
/// The most clips on a page: each costs some twenty megabytes of sound a minute.
const MOST_CLIPS: usize = 200;

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;background:#111;color:#ddd}
h1{font-size:1.6rem}h2{font-size:1.1rem;margin:2.5rem 0 .5rem}p{max-width:46rem}
audio{width:100%}img{width:100%;display:block;margin-top:.5rem}
button{font:inherit;margin:.2rem .3rem .2rem 0;padding:.3rem .7rem;border:1px solid #555;border-radius:.4rem;background:#222;color:#ddd;cursor:pointer}
button[aria-pressed=true]{background:#e8a33d;border-color:#e8a33d;color:#111}
small{color:#999;display:block}";

/// Another version of a clip goes on where the last one was, so that the ear can compare.
const SCRIPT: &str = "\
document.querySelectorAll('section').forEach(section => {
  const audio = section.querySelector('audio'), picture = section.querySelector('img');
  const buttons = section.querySelectorAll('button'), about = section.querySelector('small');
  buttons.forEach(button => button.addEventListener('click', () => {
    const time = audio.currentTime, playing = !audio.paused;
    audio.src = button.dataset.sound;
    audio.addEventListener('loadedmetadata', () => {
      audio.currentTime = time;
      if (playing) audio.play();
    }, { once: true });
    picture.src = button.dataset.picture;
    about.textContent = button.dataset.about;
    buttons.forEach(other => other.setAttribute('aria-pressed', other === button));
  }));
});
document.documentElement.dataset.ready = document.querySelectorAll('section').length;";

/// One way a clip can be heard.
struct Version {
    label: String,
    /// What is said of it when it is chosen.
    about: String,
    /// Relative to the page.
    sound: String,
    picture: String,
}

/// A clip and all its versions, the original first.
struct Clip {
    name: String,
    versions: Vec<Version>,
}

/// Codes every clip of the folder named by `arguments` at every number of levels, with Opus beside, and
/// writes the page.
pub fn page(arguments: &[&str]) -> Result<()> {
    let (clips, out) = match arguments {
        [] => (root().join(CLIPS), root().join(OUT)),
        [clips] => (PathBuf::from(clips), root().join(OUT)),
        [clips, out] => (PathBuf::from(clips), PathBuf::from(out)),
        _ => bail!("usage: cargo xtask page [CLIPS_DIR [OUT_DIR]]"),
    };
    ensure!(clips.is_dir(), "{} is not a folder of clips", clips.display());
    system::packages()?;
    run(&mut cargo(&["build", "--release", "--package", "tessera-codec", "--bin", "tessera"]))?;
    let program =
        target()?.join("release").join(format!("tessera{}", std::env::consts::EXE_SUFFIX));
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;

    println!("\nCoding {} with every number of levels", clips.display());
    let coded = out.join("tessera");
    let mut eval = Command::new(&program);
    eval.args(["eval", "--levels", "all", "--json", "--force", "--out"]).arg(&coded).arg(&clips);
    let report: Value = serde_json::from_str(&output(&mut eval)?)
        .context("cannot understand what `tessera eval` printed")?;
    let results = report["results"].as_array().context("`tessera eval` gave no results")?;
    let names: Vec<&String> = results
        .last()
        .and_then(|r| r["clips"].as_object())
        .into_iter()
        .flat_map(|c| c.keys())
        .collect();
    ensure!(
        (1..=MOST_CLIPS).contains(&names.len()),
        "{} holds {} clips; a page takes 1 to {MOST_CLIPS}",
        clips.display(),
        names.len()
    );
    let opus = succeeds("opusenc", &["--version"]) && succeeds("opusdec", &["--version"]);
    if !opus {
        println!(
            "opusenc and opusdec (in Debian: opus-tools) are not installed: no Opus to compare with"
        );
    }

    let mut shown = Vec::new();
    for (number, &name) in names.iter().enumerate() {
        println!("{} of {}: {name}", number + 1, names.len());
        let picture = |sound: &str| -> Result<String> {
            let picture = format!("{sound}.png");
            let mut plot = Command::new(&program);
            plot.args(["plot", "--force", sound, &picture]).current_dir(&out);
            output(&mut plot).map(|_| picture)
        };
        let mut versions = Vec::new();
        let original = format!("original/{name}");
        let source = clips.join(name);
        make_folder_of(&out.join(&original))?;
        fs::copy(&source, out.join(&original))
            .with_context(|| format!("cannot copy {}", source.display()))?;
        let about = "The recording as it was".to_owned();
        let label = "original".to_owned();
        versions.push(Version { label, about, picture: picture(&original)?, sound: original });
        for result in results {
            let levels = result["levels"].as_u64().context("a result without levels")?;
            let clip = &result["clips"][name];
            let figure = |key: &str| clip["figures"][key].as_f64().unwrap_or(f64::NAN);
            let sound = format!(
                "tessera/levels-{levels}/{}",
                Path::new(name).with_extension("wav").display()
            );
            let about = format!(
                "Tessera, {:.2} kbps; mel distance {:.2}, fine structure {:.2}, SI-SDR {:.1} dB",
                figure("kbps"),
                figure("mel"),
                figure("fine"),
                figure("sisdr")
            );
            let label = format!("{levels} level{}", if levels == 1 { "" } else { "s" });
            versions.push(Version { label, about, picture: picture(&sound)?, sound });
        }
        for kbps in OPUS.into_iter().filter(|_| opus) {
            let sound = format!("opus-{kbps}/{}", Path::new(name).with_extension("wav").display());
            let bytes = code_with_opus(&source, &out.join(&sound), kbps)?;
            let about = format!("Opus, asked for {kbps} kbps, mono; {bytes} bytes");
            let label = format!("Opus {kbps}");
            versions.push(Version { label, about, picture: picture(&sound)?, sound });
        }
        shown.push(Clip { name: name.clone(), versions });
    }
    let index = out.join("index.html");
    fs::write(&index, html(&shown)).with_context(|| format!("cannot write {}", index.display()))?;
    println!("\nOpen {} in a browser", index.display());
    Ok(())
}

fn make_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Writes what Opus makes of a clip; gives the size of the coded file.
fn code_with_opus(source: &Path, sound: &Path, kbps: u32) -> Result<u64> {
    make_folder_of(sound)?;
    let coded = sound.with_extension("opus");
    let mut encode = Command::new("opusenc");
    encode.args(["--quiet", "--comp", "10", "--downmix-mono", "--discard-comments"]);
    encode.args(["--padding", "0", "--bitrate", &kbps.to_string()]).arg(source).arg(&coded);
    output(&mut encode)?;
    output(Command::new("opusdec").args(["--quiet", "--rate", "48000"]).arg(&coded).arg(sound))?;
    Ok(fs::metadata(&coded).with_context(|| format!("cannot read {}", coded.display()))?.len())
}

/// Text as HTML shows it, in attributes too.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}

/// A path as an address: what has a meaning there is spelt out.
fn address(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"/-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

fn html(clips: &[Clip]) -> String {
    let mut sections = String::new();
    for clip in clips {
        let buttons: String = clip
            .versions
            .iter()
            .enumerate()
            .map(|(i, v)| {
                format!(
                    "<button aria-pressed=\"{}\" data-sound=\"{}\" data-picture=\"{}\" data-about=\"{}\">{}</button>",
                    i == 0, address(&v.sound), address(&v.picture), escaped(&v.about), escaped(&v.label)
                )
            })
            .collect();
        let first = clip.versions.first();
        let (sound, picture, about) = first.map_or_else(Default::default, |v| {
            (address(&v.sound), address(&v.picture), escaped(&v.about))
        });
        let name = escaped(&clip.name);
        sections += &format!(
            "<section><h2>{name}</h2>{buttons}<small>{about}</small>\
             <audio controls preload=\"none\" src=\"{sound}\"></audio>\
             <img src=\"{picture}\" alt=\"Spectrogram of {name}\" loading=\"lazy\"></section>\n"
        );
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Tessera: listen</title>\
         <style>{STYLE}</style></head><body><h1>Tessera: listen</h1>\
         <p>Each clip as it was, from fewest to most levels, and as Opus codes it where that was installed. \
         Choosing another version goes on at the same moment. Every channel is coded by itself; kbps count \
         headers.</p>\n{sections}<script>{SCRIPT}</script></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clips() -> Vec<Clip> {
        let version = |label: &str, sound: &str| Version {
            label: label.into(),
            about: format!("about {label}"),
            sound: sound.into(),
            picture: format!("{sound}.png"),
        };
        ["one", "<two> & \"three\""]
            .map(|name| Clip {
                name: name.into(),
                versions: vec![version("original", "a b.wav"), version("1 level", "c#d.wav")],
            })
            .into()
    }

    #[test]
    fn names_do_not_break_the_page() {
        let page = html(&clips());
        assert!(page.contains("&lt;two&gt; &amp; &quot;three&quot;"));
        assert!(page.contains("data-sound=\"c%23d.wav\"") && page.contains("src=\"a%20b.wav\""));
        assert_eq!(page.matches("<section>").count(), 2);
        assert_eq!(page.matches("aria-pressed=\"true\"").count(), 2);
    }

    #[test]
    fn a_browser_runs_the_page() {
        let Some(browser) = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|browser| succeeds(browser, &["--version"]))
        else {
            println!("skipped: no Chromium here to open the page in");
            return;
        };
        let folder = std::env::temp_dir().join(format!("tessera-page-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("index.html");
        fs::write(&file, html(&clips())).unwrap();
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let mut command = Command::new(browser);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", &profile]);
        let dom = output(command.arg(format!("file://{}", file.display())));
        fs::remove_dir_all(&folder).unwrap();
        // The script's last line says how many clips it has wired up.
        assert!(dom.unwrap().contains("data-ready=\"2\""));
    }
}
