//! The VST3 in real hosts, pedalboard and DawDreamer, driven by hosts.py.
//!
//! They come from PyPI into `target/host-tests`. Without python3 or a network the test says so and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod coded;

use std::path::{Path, PathBuf};
use std::process::Command;

use coded::coded;
use tessera_codec::engine::Model;
use tessera_codec::lines::Selection;

const PACKAGES: [&str; 3] = ["pedalboard==0.9.26", "dawdreamer==0.9.0", "numpy"];

/// Two channels of something with pitches, noise and gaps.
fn sound(channel: usize) -> Vec<f32> {
    let mut seed = 7 + channel as u32;
    (0..24_000)
        .map(|n| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (seed >> 8) as f32 / (1 << 24) as f32 - 0.5;
            let t = n as f32 / 48_000.0;
            let envelope = if n % 12_000 < 9_000 { 0.4 } else { 0.01 };
            let pitch = 220.0 * (1.0 + channel as f32 * 0.5);
            let tone = |hz: f32| (t * hz * std::f32::consts::TAU).sin();
            envelope * (tone(pitch) + 0.5 * tone(9.5 * pitch) + noise * 0.5)
        })
        .collect()
}

/// Folder that holds what cargo built, and the plugin in it.
fn built() -> (PathBuf, PathBuf) {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let name =
        format!("{}tessera_plugin{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    (profile.parent().unwrap().join("host-tests"), test.with_file_name(name))
}

/// Whether the interpreter has the packages, after trying to get them.
fn prepare(python: &Path, folder: &Path) -> bool {
    let has = || {
        Command::new(python)
            .args(["-c", "import pedalboard, dawdreamer"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if has() {
        return true;
    }
    let venv = Command::new("python3").args(["-m", "venv"]).arg(folder).output();
    if !venv.is_ok_and(|output| output.status.success()) {
        return false;
    }
    let pip =
        Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES).output();
    pip.is_ok_and(|output| output.status.success()) && has()
}

#[test]
fn pedalboard_and_dawdreamer() {
    let (folder, library) = built();
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        println!("skipped: the hosts are installed on Linux only");
        return;
    }
    let python = folder.join("bin/python");
    if !prepare(&python, &folder) {
        println!("skipped: python3 with venv, or PyPI, is not to be had; needed are {PACKAGES:?}");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let bundle = scratch.path().join("Tessera.vst3");
    let contents = bundle.join("Contents/x86_64-linux");
    std::fs::create_dir_all(&contents).unwrap();
    std::fs::copy(&library, contents.join("Tessera.so")).unwrap();
    let model = Model::shipped().unwrap();
    let sounds: Vec<Vec<f32>> = (0..2).map(sound).collect();
    let (levels, lines) = (model.levels(), Selection::suiting(model.config(), usize::MAX).live());
    let coded = sounds.iter().map(|sound| coded(&model, sound, levels, lines));
    let write = |name: &str, sounds: Vec<Vec<f32>>| {
        let bytes: Vec<u8> =
            sounds.concat().iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::fs::write(scratch.path().join(name), bytes).unwrap();
    };
    write("coded.f32", coded.collect());
    write("input.f32", sounds);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts.py");
    let output =
        Command::new(&python).arg(script).arg(&bundle).arg(scratch.path()).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}{stderr}");
    assert!(output.status.success(), "{stdout}{stderr}");
}
