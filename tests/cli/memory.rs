//! Small files take little memory, whatever they claim.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tessera_codec::audio::WavFormat;
use tessera_codec::bitstream::Header;
use tessera_codec::engine::Model;
use tessera_codec::files;
use tessera_codec::prior::Prior;

use crate::at;
use crate::common::{Folder, model, tessera, tone};

/// What decoding a small file may take beside the model, in kilobytes.
const MOST_KB: u64 = 20_000;

/// Runs the tool until it has done everything but print its result, for which there is no room, and
/// gives the most memory it has taken, in kilobytes; then lets it end, and gives its exit code too.
fn peak_kb(args: &[&str]) -> (u64, Option<i32>) {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe holds.
    writer.write_all(&[0; 1 << 16]).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(args)
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Path::new("/proc").join(child.id().to_string());
    let begun = Instant::now();
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1).map(String::from)
        };
        peak = field("VmHWM:").and_then(|kb| kb.parse().ok()).unwrap_or(peak);
        let waits = std::fs::read_to_string(process.join("wchan")).unwrap_or_default();
        if waits.contains("pipe_write") || child.try_wait().unwrap().is_some() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{args:?} does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    let drained = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let code = child.wait().unwrap().code();
    drained.join().unwrap().unwrap();
    (peak, code)
}

/// Headers, of the model's own id, that promise much for a hundred bytes.
#[test]
fn small_files_that_promise_much() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 1, 480, WavFormat::Pcm16);
    let [wav, tsr, out] = ["a.wav", "a.tsr", "b.wav"].map(|name| folder.text(name));
    tessera(&["encode", &wav, &tsr, "--model", model()]).expect(0, &[]);
    let file = std::fs::read(&tsr).unwrap();
    let length = 80;
    let set = |fields: &[(usize, &[u8])]| {
        let put = |bytes: Vec<u8>, (offset, field): &(usize, &[u8])| {
            at::set(&bytes, length, *offset, field)
        };
        let mut bytes = fields.iter().fold(file[..length].to_vec(), put);
        bytes.resize(100, 0x5A);
        bytes
    };
    let rate = |hertz: u32| hertz.to_be_bytes();
    let samples = |count: u64| count.to_be_bytes();
    let many = |hertz| {
        let many = [0, 32];
        let (rate, samples) = (rate(hertz), samples(u64::from(hertz)));
        let fields: [(usize, &[u8]); 3] =
            [(at::CHANNELS, &many), (at::SOURCE_RATE, &rate), (at::SAMPLES, &samples)];
        set(&fields)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing after the header", set(&[])),
        ("2^60 samples", set(&[(at::SAMPLES, &samples(1 << 60))])),
        ("2^39 samples", set(&[(at::SAMPLES, &samples(1 << 39))])),
        ("65535 channels", set(&[(at::CHANNELS, &[255, 255])])),
        ("32 channels", set(&[(at::CHANNELS, &[0, 32]), (at::SAMPLES, &samples(9_600))])),
        ("32 channels at 44,101 Hz", many(44_101)),
        ("32 channels at 96,001 Hz", many(96_001)),
        ("32 channels at 767,999 Hz", many(767_999)),
        ("a sample a second", set(&[(at::SOURCE_RATE, &rate(1)), (at::SAMPLES, &samples(2))])),
        ("4 hours of pre-skip", set(&[(at::PRE_SKIP, &[0, 16, 0, 0])])),
    ];
    let (model_kb, code) = peak_kb(&["info", model(), "--json"]);
    assert_eq!(code, Some(0));
    let mut most = 0;
    for (name, bytes) in cases {
        assert_eq!(bytes.len(), 100);
        std::fs::write(&tsr, bytes).unwrap();
        let args = ["decode", &tsr, &out, "--model", model(), "--force", "--json"];
        let (decode_kb, code) = peak_kb(&args);
        assert!(matches!(code, Some(1 | 3)), "{name}: {code:?}");
        println!("{name}: {decode_kb} kB, exit code {}", code.unwrap_or(-1));
        most = most.max(decode_kb.saturating_sub(model_kb));
        assert!(decode_kb < model_kb + MOST_KB, "{name}: {decode_kb} kB, the model {model_kb} kB");
    }
    println!("at most {most} kB beside the model's {model_kb} kB");
}

/// The same with the shipped model and its prior: beside what the program takes that has loaded both.
#[test]
fn small_files_for_the_shipped_model() {
    let (model, prior) = (Model::shipped().unwrap(), Prior::shipped().unwrap().unwrap());
    let header = |rate, channels, levels| Header {
        samples: Some(u64::from(rate)),
        ..files::header_of(&model, rate, channels, levels)
    };
    let other = Header { model_id: [7; 16], ..header(48_000, 1, 7) };
    let with_prior = |header: Header| header.with_prior(prior.id(), 64);
    let cases = [
        ("another model's", other),
        ("a second of mono", header(48_000, 1, 7)),
        ("the same with the prior", with_prior(header(48_000, 1, 3))),
        ("32 channels", header(48_000, 32, 7)),
        ("32 channels at 44,101 Hz", header(44_101, 32, 7)),
        ("32 channels at 767,999 Hz", header(767_999, 32, 7)),
        ("the same with the prior", with_prior(header(767_999, 32, 3))),
    ];
    let folder = Folder::new();
    let [tsr, out] = ["a.tsr", "b.wav"].map(|name| folder.text(name));
    let mut model_kb = 0;
    for (name, header) in cases {
        let mut bytes = header.to_bytes().unwrap();
        assert!(bytes.len() <= 100);
        bytes.resize(100, 0x5A);
        std::fs::write(&tsr, bytes).unwrap();
        let (kb, code) = peak_kb(&["decode", &tsr, &out, "--force", "--json"]);
        println!("{name}: {kb} kB, exit code {}", code.unwrap_or(-1));
        if model_kb == 0 {
            assert_eq!(code, Some(1));
            model_kb = kb;
            continue;
        }
        assert_eq!(code, Some(3), "{name}");
        assert!(kb < model_kb + MOST_KB, "{name}: {kb} kB, the model {model_kb} kB");
    }
}
