//! What happens around the tool goes wrong: it is killed, the disk is full, files change while they are
//! read, nobody reads what it prints. A file that was there stays or is replaced by a complete one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tessera_codec::audio::WavFormat;
use tessera_codec::train::TrainConfig;
use tessera_codec::train::checkpoint::{self, Progress};

use crate::common::{Folder, Ran, model, shape, tessera, text, tiny, tone};

/// Kills of each kind; `TESSERA_KILLS` sets another number.
const KILLS: u32 = 4;

fn kills() -> u32 {
    std::env::var("TESSERA_KILLS").ok().map_or(KILLS, |text| text.parse().unwrap())
}

/// A linear congruential generator (Knuth's MMIX), as a share of one.
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 31)
    }
}

fn spawn<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ended(child: Child) -> Ran {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Ran {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

fn send(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Waits until `there` says so, while the child goes on.
fn wait_until(child: &mut Child, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing happens");
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Names in a folder that a killed program may leave: those of its temporary files.
fn is_temporary(name: &str) -> bool {
    let kinds = [".part", ".wav.tmp"];
    name.starts_with('.')
        && (kinds.iter().any(|k| name.ends_with(k)) || name.starts_with(".dataset-"))
}

/// Runs a command to its end once, then again and again, killed at any moment; `intact` says of the
/// output whether it is what the whole run gave. Before every second run there is an old file.
fn killed(folder: &Folder, output: &str, args: &[&str], seed: u64) {
    let path = folder.path(output);
    let begun = Instant::now();
    tessera(args).expect(0, &[]);
    let (whole, lasts) = (fs::read(&path).unwrap(), begun.elapsed());
    let names = folder.names();
    let mut random = Random(seed);
    let (mut none, mut old, mut new) = (0, 0, 0);
    for n in 0..kills() {
        fs::remove_file(&path).unwrap();
        let before = (n % 2 == 1).then_some(&b"an old file"[..]);
        if let Some(bytes) = before {
            fs::write(&path, bytes).unwrap();
        }
        let mut child = spawn(args);
        std::thread::sleep(lasts.mul_f64(1.05 * random.share()));
        child.kill().unwrap();
        child.wait().unwrap();
        match (fs::read(&path).ok(), before) {
            (None, None) => none += 1,
            (Some(found), Some(before)) if found == before => old += 1,
            (Some(found), _) => {
                assert!(found == whole, "half a file after kill {n}");
                new += 1;
            }
            (None, Some(_)) => panic!("the old file is gone after kill {n}"),
        }
        for name in folder.names() {
            if !names.contains(&name) {
                assert!(is_temporary(&name), "{name} is left after kill {n}");
                fs::remove_file(folder.path(&name)).unwrap();
            }
        }
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
    }
    println!(
        "{}: {} kills: {none} no file, {old} the old one, {new} the new one",
        args[0],
        kills()
    );
}

#[test]
fn killed_while_coding() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 8_000, 1, 8_000 * 60, WavFormat::Pcm16);
    let [wav, tsr, out] = ["a.wav", "a.tsr", "b.wav"].map(|name| folder.text(name));
    killed(&folder, "a.tsr", &["encode", &wav, &tsr, "--model", model(), "--force", "--verify"], 1);
    tessera(&["encode", &wav, &tsr, "--model", model(), "--force"]).expect(0, &[]);
    killed(&folder, "b.wav", &["decode", &tsr, &out, "--model", model(), "--force"], 2);
}

/// The tensors of a checkpoint, by name: all that the rest of a run depends on.
fn tensors(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(run.join("checkpoint.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, tensor)| (name.to_string(), tensor.data().to_vec())).collect()
}

/// A run that is killed again and again, at any moment and while it writes its checkpoint, ends with the
/// very weights of one that went through.
#[test]
fn killed_while_training() {
    const STEPS: u64 = 600;
    let folder = Folder::new();
    for n in 0..3 {
        let path = folder.path(&format!("data/music/{n}.wav"));
        tone(&path, 48_000, 1, 48_000, WavFormat::Pcm16);
    }
    let mut config =
        TrainConfig { codec: tiny(), batch: 1, seconds: 0.16, ..TrainConfig::default() };
    config.resolutions.truncate(1);
    fs::write(folder.path("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    let [data, config] = ["data", "config.json"].map(|name| folder.text(name));
    let args = |name: &str| {
        let (run, steps) = (folder.text(name), STEPS.to_string());
        let mut args: Vec<String> =
            ["train", &data, "--out", &run, "--config", &config, "--steps", &steps]
                .map(String::from)
                .to_vec();
        match folder.path(name).join("checkpoint.safetensors").exists() {
            true => args.push("--resume".into()),
            // Killed before there was anything to go on with: it begins anew.
            false => drop(fs::remove_dir_all(&run)),
        }
        args
    };
    let begun = Instant::now();
    tessera(&args("whole")).expect(0, &["done: 600 steps"]);
    let lasts = begun.elapsed();

    let (run, mut random) = (folder.path("run"), Random(3));
    let checkpoint = run.join("checkpoint.safetensors");
    let (mut fresh, mut at) = (0, Vec::new());
    for n in 0..kills() {
        if checkpoint.exists() {
            let (progress, _) = checkpoint::load::<Progress>(&checkpoint).unwrap();
            at.push(progress.step);
            if progress.step == STEPS {
                fs::remove_dir_all(&run).unwrap();
            }
        }
        fresh += u32::from(!checkpoint.exists());
        if n % 3 == 1 && checkpoint.exists() {
            // Stopped in good order somewhere on the way, so that the next kill is of a run that goes on.
            let child = spawn(&args("run"));
            std::thread::sleep(lasts.mul_f64(0.3 + 0.4 * random.share()));
            send(&child, "-INT");
            assert!(ended(child).code.is_none_or(|code| code == 0), "it fails when it is stopped");
        }
        let mut child = spawn(&args("run"));
        std::thread::sleep(lasts.mul_f64(random.share()));
        if n % 3 != 0 {
            // It saves when it is asked to stop; so this kill comes while it does, or just before or after.
            send(&child, "-INT");
            std::thread::sleep(Duration::from_micros((random.share() * 300_000.0) as u64));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    tessera(&args("run")).expect(0, &["done: 600 steps"]);
    assert!(tensors(&run) == tensors(&folder.path("whole")), "other weights after {at:?}");
    println!("train: {} kills, {fresh} of new runs; then the checkpoints stood at {at:?}", kills());
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A small disk of its own, where that is allowed.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(folder: &Folder, bytes: u32) -> Option<Self> {
        let path = folder.path("disk");
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: mounting a small disk is not permitted here");
        }
        mounted.then_some(Self(path))
    }

    fn read_only(&self) {
        let remount = ["-o", "remount,ro"];
        assert!(Command::new("mount").args(remount).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn full_and_read_only_disks() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 2, 48_000 * 60, WavFormat::Pcm16);
    let [wav, tsr] = ["a.wav", "a.tsr"].map(|name| folder.text(name));
    tessera(&["encode", &wav, &tsr, "--model", model()]).expect(0, &[]);
    let Some(disk) = SmallDisk::new(&folder, 8192) else { return };
    let out = text(&disk.0.join("out"));
    let commands: [&[&str]; 4] = [
        &["encode", &wav, &out, "--model", model()],
        &["encode", &wav, &out, "--model", model(), "--verify"],
        &["decode", &tsr, &out, "--model", model()],
        &["repair", &tsr, &out],
    ];
    for command in commands {
        tessera(command).expect(1, &["out", "No space left"]);
        assert!(names(&disk.0).is_empty(), "{}: {:?}", command[0], names(&disk.0));
    }
    // A file that is there stays.
    fs::write(disk.0.join("out"), "mine").unwrap();
    for command in commands {
        tessera(&[command, &["--force"]].concat()).expect(1, &["out"]);
        assert_eq!(fs::read(disk.0.join("out")).unwrap(), b"mine");
        assert_eq!(names(&disk.0), ["out"]);
    }
    let data = folder.path("data");
    tone(&data.join("b.wav"), 48_000, 1, 48_000, WavFormat::Pcm16);
    let (data, run) = (text(&data), text(&disk.0.join("run")));
    tessera(&["train", &data, "--out", &run, "--steps", "1"]).expect(1, &["disk"]);
    disk.read_only();
    for command in commands {
        tessera(&[command, &["--force"]].concat()).expect(1, &["out", "Read-only file system"]);
    }
    tessera(&["train", &data, "--out", &run, "--steps", "1"]).expect(1, &["run"]);
    assert_eq!(fs::read(disk.0.join("out")).unwrap(), b"mine");
}

#[test]
fn places_that_cannot_be_written() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 1, 48_000, WavFormat::Pcm16);
    let [wav, tsr] = ["a.wav", "a.tsr"].map(|name| folder.text(name));
    tessera(&["encode", &wav, &tsr, "--model", model()]).expect(0, &[]);
    let below_a_file = folder.text("a.wav/out");
    for out in [below_a_file.as_str(), "/dev/full", "/dev/null", "/proc/out"] {
        for command in [
            &["encode", &wav, out, "--model", model(), "--force"][..],
            &["decode", &tsr, out, "--model", model(), "--force"],
            &["repair", &tsr, out, "--force"],
        ] {
            tessera(command).expect(1, &[out]);
        }
    }
    use std::os::unix::fs::FileTypeExt;
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(folder.names(), ["a.tsr", "a.wav"]);
}

/// A source that grows or shrinks while it is read: a file of what was there, complete in itself.
#[test]
fn a_source_that_changes_meanwhile() {
    let folder = Folder::new();
    let [wav, tsr, out] = ["a.wav", "a.tsr", "b.wav"].map(|name| folder.text(name));
    let seconds = 120;
    tone(wav.as_ref(), 8_000, 1, 8_000 * seconds, WavFormat::Pcm16);
    let size = fs::metadata(&wav).unwrap().len();
    let bytes = fs::read(&wav).unwrap();
    for new_size in [size / 2, 44, 0, size + 100_000] {
        fs::write(&wav, &bytes).unwrap();
        let mut child = spawn(&["encode", &wav, &tsr, "--model", model(), "--force", "--json"]);
        wait_until(&mut child, || folder.names().iter().any(|name| is_temporary(name)));
        File::options().write(true).open(&wav).unwrap().set_len(new_size).unwrap();
        let ran = ended(child);
        // It may have been cut before the first byte was read, which is an error, or after the last.
        assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.stderr);
        if ran.code == Some(0) {
            let samples: u64 = ran.json()["samples"].as_u64().unwrap();
            assert!(samples <= 8_000 * seconds as u64);
            tessera(&["verify", &tsr, "--model", model()]).expect(0, &[]);
        }
        assert!(!folder.names().iter().any(|name| is_temporary(name)));
    }
    fs::write(&wav, &bytes).unwrap();
    tessera(&["encode", &wav, &tsr, "--model", model(), "--force"]).expect(0, &[]);
    let whole = fs::read(&tsr).unwrap();
    for new_size in [whole.len() / 2, 80, 0] {
        fs::write(&tsr, &whole).unwrap();
        let mut child = spawn(&["decode", &tsr, &out, "--model", model(), "--force"]);
        wait_until(&mut child, || folder.names().iter().any(|name| is_temporary(name)));
        File::options().write(true).open(&tsr).unwrap().set_len(new_size as u64).unwrap();
        let ran = ended(child);
        assert!(matches!(ran.code, Some(0 | 3)), "{}", ran.stderr);
        assert_eq!(shape(out.as_ref()), (8_000, 1, 8_000 * seconds));
    }
}

#[test]
fn asked_to_stop() {
    let folder = Folder::new();
    let [wav, tsr, out] = ["a.wav", "a.tsr", "b.wav"].map(|name| folder.text(name));
    tone(wav.as_ref(), 8_000, 1, 8_000 * 120, WavFormat::Pcm16);
    tessera(&["encode", &wav, &tsr, "--model", model()]).expect(0, &[]);
    for signal in ["-INT", "-TERM"] {
        for (command, from, to) in [("encode", &wav, "c.tsr"), ("decode", &tsr, "b.wav")] {
            let to = folder.text(to);
            let mut child = spawn(&[command, from, &to, "--model", model()]);
            wait_until(&mut child, || folder.names().iter().any(|name| is_temporary(name)));
            send(&child, signal);
            ended(child).expect(1, &["stopped before the end"]);
            assert_eq!(folder.names(), ["a.tsr", "a.wav"], "{command} {signal}");
        }
    }
    assert!(!Path::new(&out).exists());
}

/// Whoever reads the output has gone, or it goes where there is no room.
#[test]
fn output_that_nobody_takes() {
    let folder = Folder::new();
    tone(&folder.path("ref/a.wav"), 48_000, 1, 24_000, WavFormat::Pcm16);
    let [wav, tsr, out] = ["ref/a.wav", "a.tsr", "b.wav"].map(|name| folder.text(name));
    let reference = folder.text("ref");
    let commands: [&[&str]; 7] = [
        &["encode", &wav, &tsr, "--model", model(), "--json", "--force"],
        &["decode", &tsr, &out, "--model", model(), "--json", "--force"],
        &["info", &tsr],
        &["verify", &tsr, "--model", model()],
        &["repair", &tsr, &out, "--force", "--json"],
        &["eval", &reference, "--model", model(), "--json"],
        &["--help"],
    ];
    for command in commands {
        let mut child = spawn(command);
        drop(child.stdout.take());
        ended(child).expect(0, &[]);
        // Not even the messages are read.
        let mut child = spawn(command);
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{command:?}");
    }
    for command in &commands[..6] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tessera"))
            .args(*command)
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{command:?}");
        assert!(stderr.contains("cannot write to stdout"), "{command:?}: {stderr}");
    }
}
