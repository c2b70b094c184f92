//! The VST3 in real hosts, pedalboard and DawDreamer, driven by hosts.py.
//!
//! They come from PyPI into `target/host-tests`. Without python3 or a network the test says so and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};

const PACKAGES: [&str; 3] = ["pedalboard==0.9.26", "dawdreamer==0.9.0", "numpy"];

/// Two channels of something with pitch, noise and gaps.
fn sound(channel: usize) -> Vec<f32> {
    let mut seed = 7 + channel as u32;
    (0..24_000)
        .map(|n| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (seed >> 8) as f32 / (1 << 24) as f32 - 0.5;
            let t = n as f32 / 48_000.0;
            let envelope = if n % 12_000 < 9_000 { 0.4 } else { 0.01 };
            let pitch = 220.0 * (1.0 + channel as f32 * 0.5);
            envelope * ((t * pitch * std::f32::consts::TAU).sin() + noise * 0.5)
        })
        .collect()
}

fn coded(model: &Model, sound: &[f32]) -> Vec<f32> {
    let (mut encoder, mut decoder) = (StreamEncoder::new(model), StreamDecoder::new(model));
    let (levels, chunk) = (model.levels(), model.chunk_samples());
    let per_step = model.codes_per_step(levels);
    let mut codes = vec![0; (sound.len() / chunk + 3) * per_step];
    let done = encoder.process_into(sound, levels, &mut codes).unwrap();
    let rest = encoder.finish(levels, &mut codes[done.produced..]).unwrap();
    codes.truncate(done.produced + rest.produced);
    let mut out = vec![0.0; codes.len() / per_step * chunk];
    decoder.process_into(&codes, levels, &mut out).unwrap();
    out[decoder.latency_samples()..][..sound.len()].to_vec()
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
    let coded = sounds.iter().map(|sound| coded(&model, sound));
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
