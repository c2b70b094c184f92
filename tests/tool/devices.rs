//! Sound devices, as far as ALSA's plugins stand in for them: no test needs a sound card.

use std::process::Command;
use std::time::{Duration, Instant};

use tessera_codec::audio::{WavFormat, open, read_all};

use crate::common::{Folder, Ran, command, run, tessera, tones, write};

/// A command of the tool for which there are only the devices of `asoundrc`.
fn with_devices(folder: &Folder, asoundrc: &str, args: &[&str]) -> Command {
    std::fs::write(folder.path("asoundrc"), asoundrc).unwrap();
    let mut command = command(args);
    command.env("ALSA_CONFIG_PATH", folder.path("asoundrc"));
    command
}

/// An ALSA without any device.
const NONE: &str = "";

/// A device that takes everything and gives silence, both at once. It keeps no time.
const NULL: &str = "
    pcm.hollow { type null hint { show on description \"Hollow device\" } }
    pcm.!default { type null hint { show on description \"Default device\" } }
";

/// A device that writes down what is played.
fn to_file(folder: &Folder) -> String {
    let path = folder.text("played.raw");
    format!(
        "pcm.paper {{
            type file
            slave.pcm {{ type null }}
            file \"{path}\"
            format raw
            hint {{ show on description \"Paper device\" }}
        }}"
    )
}

/// The usual devices, and one to record from, which gives half a minute of hiss that swells and fades, as fast as it is asked for.
fn with_tape(folder: &Folder) -> String {
    let mut state = 1u32;
    let samples = (0..2 * 30 * 48_000).flat_map(|n| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let hiss = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        (hiss * (0.11 + 0.1 * (n as f32 * 1e-4).sin())).to_le_bytes()
    });
    std::fs::write(folder.path("tape.raw"), samples.collect::<Vec<u8>>()).unwrap();
    let path = folder.text("tape.raw");
    format!(
        "{NULL} pcm.tape {{
            type file
            slave.pcm {{ type null }}
            file \"/dev/null\"
            infile \"{path}\"
            format raw
            hint {{ show on description \"Tape device\" }}
        }}"
    )
}

/// Whether ALSA's plugins work here: without its shared data they may not.
fn skipped(ran: &Ran) -> bool {
    let missing = ran.code == Some(1) && ran.stderr.contains("no sound card");
    if missing {
        eprintln!("skipped: ALSA's null device cannot be opened here: {}", ran.stderr);
    }
    missing
}

#[test]
fn without_a_sound_card_that_is_said() {
    let folder = Folder::new();
    write(&folder.path("a.wav"), 8_000, &tones(8_000, 1, 800), WavFormat::Pcm16);
    let wav = folder.text("a.wav");
    for args in [&["devices"][..], &["live", "--seconds", "1"], &["play", &wav]] {
        let ran = run(&mut with_devices(&folder, NONE, args));
        ran.expect(1, &["no sound card"]);
        assert!(!ran.stderr.contains("ALSA lib"), "{}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    let args = ["play", &wav, "--device", "Nobody's"];
    run(&mut with_devices(&folder, NONE, &args)).expect(1, &["Nobody's", "tessera devices"]);
}

#[test]
fn devices_are_listed_and_found_by_a_part_of_their_name() {
    let folder = Folder::new();
    let ran = run(&mut with_devices(&folder, NULL, &["devices", "--json"]));
    if skipped(&ran) {
        return;
    }
    let list: serde_json::Value = serde_json::from_slice(&ran.expect(0, &[]).stdout).unwrap();
    let hollow = list.as_array().unwrap().iter().find(|d| d["id"] == "hollow").unwrap();
    assert_eq!(hollow["name"], "Hollow device");
    assert!(hollow["output"]["rate"].as_u64().unwrap() > 0);
    write(&folder.path("a.wav"), 8_000, &tones(8_000, 1, 8_000), WavFormat::Pcm16);
    for device in ["hollow", "Hollow device", "HOLLOW"] {
        let args = ["play", &folder.text("a.wav"), "--device", device];
        run(&mut with_devices(&folder, NULL, &args)).expect(0, &[device]);
    }
    let args = ["play", &folder.text("a.wav"), "--device", "device"];
    run(&mut with_devices(&folder, NULL, &args)).expect(1, &["2 output devices"]);
}

#[test]
fn a_file_is_played_to_its_end() {
    let folder = Folder::new();
    let sound = tones(48_000, 2, 24_000);
    write(&folder.path("a.wav"), 48_000, &sound, WavFormat::Float32);
    tessera(&["encode", &folder.text("a.wav"), &folder.text("a.tsr")]).expect(0, &[]);
    for name in ["a.wav", "a.tsr"] {
        let args = ["play", &folder.text(name), "--device", "paper"];
        let ran = run(&mut with_devices(&folder, &to_file(&folder), &args));
        if skipped(&ran) {
            return;
        }
        ran.expect(0, &["paper"]);
        let played = folder.read("played.raw");
        // Between what came in time there may be silence: the device waits for nobody.
        let loud = played.chunks_exact(4).filter(|sample| sample.iter().any(|b| *b != 0)).count();
        assert!(loud > 40_000, "{name}: {loud} samples of {}", played.len() / 4);
        std::fs::remove_file(folder.path("played.raw")).unwrap();
    }
}

#[test]
fn what_is_recorded_live_is_what_decoding_gives() {
    let folder = Folder::new();
    let (wav, tsr) = (folder.text("live.wav"), folder.text("live.tsr"));
    let (devices, seconds) = (with_tape(&folder), "1.5");
    let recorded = ["--record", &wav, "--record-tokens", &tsr];
    let args = [&["live", "--input", "tape", "--seconds", seconds][..], &recorded].concat();
    let begun = Instant::now();
    let ran = run(&mut with_devices(&folder, &devices, &args));
    if skipped(&ran) {
        return;
    }
    ran.expect(0, &["input", "output", "levels"]);
    assert!(begun.elapsed() > Duration::from_millis(1400));
    let line = String::from_utf8(ran.stdout).unwrap();
    for word in ["latency", "dropouts", "CPU", "slipped"] {
        assert!(line.contains(word), "{line}");
    }
    tessera(&["decode", &tsr, &folder.text("decoded.wav")]).expect(0, &[]);
    assert!(folder.read("decoded.wav") == folder.read("live.wav"));
    let mut source = open(&folder.path("live.wav")).unwrap();
    assert_eq!((source.info().sample_rate, source.info().channels), (48_000, 2));
    let heard = read_all(source.as_mut(), 1 << 28).unwrap();
    assert!(heard[0].iter().any(|sample| sample.abs() > 0.05), "the tape is heard");
    // Levels were put right: each step has 37 numbers, of which the last 24 are its trims (docs/tokens.md).
    tessera(&["tokens", &tsr, "--out", &folder.text("live.jsonl")]).expect(0, &[]);
    let tokens = String::from_utf8(folder.read("live.jsonl")).unwrap();
    let tokens: serde_json::Value = serde_json::from_str(tokens.lines().next().unwrap()).unwrap();
    let trims = tokens["lines"].as_array().unwrap().chunks(37).flat_map(|step| &step[13..]);
    assert!(trims.into_iter().any(|trim| *trim != 0), "there are trims");
    // Recordings are not replaced unasked, and that is said before anything runs.
    run(&mut with_devices(&folder, &devices, &args)).expect(1, &["live.wav", "--force"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_live_and_keeps_the_recording() {
    let folder = Folder::new();
    let tsr = folder.text("live.tsr");
    let args = ["live", "--record-tokens", &tsr];
    let probe = run(&mut with_devices(&folder, NULL, &["live", "--seconds", "0.1"]));
    if skipped(&probe) {
        return;
    }
    let mut child = with_devices(&folder, NULL, &args).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let info = tessera(&["info", &tsr, "--json"]);
    let info: serde_json::Value = serde_json::from_slice(&info.expect(0, &[]).stdout).unwrap();
    assert_eq!(info["damage_count"], 0);
}

#[test]
fn formats_that_a_device_does_not_have_are_named() {
    let folder = Folder::new();
    let fixed = "pcm.!default { type hw card 99 }";
    let ran = run(&mut with_devices(&folder, fixed, &["live", "--rate", "48000"]));
    ran.expect(1, &["no sound card"]);
    let probe = run(&mut with_devices(&folder, NULL, &["live", "--seconds", "0.1"]));
    if !skipped(&probe) {
        let args = ["live", "--levels", "9"];
        run(&mut with_devices(&folder, NULL, &args)).expect(1, &["--levels 9", "1 to 7"]);
        let args = ["live", "--buffer", "4000000000"];
        run(&mut with_devices(&folder, NULL, &args)).expect(1, &["4000000000"]);
    }
}
