//! Broken input, a file a row: the tool names the file and the reason, exits with the right code and
//! leaves nothing behind.

use std::path::Path;

use tessera_codec::audio::WavFormat;

use crate::at;
use crate::common::{Folder, model, shape, tessera, tone};

/// What becomes of a file.
#[derive(Clone, Copy)]
enum Expect {
    /// An error with these words.
    Error(&'static str),
    /// It is read all the same; with a warning of these words, if there are any.
    Read(&'static str),
}
use Expect::{Error, Read};

type Case = (&'static str, Vec<u8>, Expect);

/// A WAV of 16 bits, two channels, 48 kHz, 800 samples; the audio begins at byte 44.
fn wav() -> Vec<u8> {
    let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    bytes.extend(48_000u32.to_le_bytes());
    bytes.extend((48_000u32 * 4).to_le_bytes());
    bytes.extend([4, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend(3200u32.to_le_bytes());
    bytes.extend((0..1600i16).flat_map(|n| (n * 7).to_le_bytes()));
    let size = bytes.len() as u32 - 8;
    bytes[4..8].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// The WAV with bytes from `at` on replaced.
fn with(at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = wav();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn float(value: f32) -> Vec<u8> {
    let mut bytes = with(20, &[3, 0]);
    bytes[32..36].copy_from_slice(&[8, 0, 32, 0]);
    for sample in bytes[44..].chunks_exact_mut(4) {
        sample.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn wavs() -> Vec<Case> {
    let cut = |length: usize| wav()[..length].to_vec();
    let after = |start: &[u8]| [start, &noise(2000)].concat();
    vec![
        ("whole", wav(), Read("")),
        ("empty", vec![], Error("empty")),
        ("four bytes", cut(4), Error("")),
        ("no form", cut(8), Error("")),
        ("no chunks", cut(12), Error("")),
        ("half a format", cut(30), Error("")),
        ("no data chunk", cut(36), Error("")),
        ("half a data head", cut(42), Error("")),
        ("audio cut short", cut(1000), Read("cut short")),
        ("audio cut inside a sample", cut(1001), Read("cut short")),
        ("another form", with(8, b"AVI "), Error("")),
        ("format tag 0", with(20, &[0, 0]), Error("")),
        ("format tag of another codec", with(20, &[0x34, 0x12]), Error("")),
        ("no channels", with(22, &[0, 0]), Error("0 channels")),
        ("33 channels", with(22, &[33, 0]), Error("")),
        ("65535 channels", with(22, &[255, 255]), Error("")),
        ("no rate", with(24, &[0; 4]), Error("0 Hz")),
        ("absurd rate", with(24, &[255; 4]), Error("4294967295 Hz")),
        ("no alignment", with(32, &[0, 0]), Error("")),
        ("wrong alignment", with(32, &[3, 0]), Error("")),
        ("no bits", with(34, &[0, 0]), Error("")),
        ("7 bits", with(34, &[7, 0]), Error("")),
        ("64 bits", with(34, &[64, 0]), Error("")),
        ("format of 0 bytes", with(16, &[0; 4]), Error("")),
        ("format of 4 GiB", with(16, &[255; 4]), Error("")),
        ("float of 16 bits", with(20, &[3, 0]), Error("")),
        ("not a number", float(f32::NAN), Read("NaN or infinite")),
        ("infinite", float(f32::INFINITY), Read("NaN or infinite")),
        ("far too loud", float(1e30), Read("")),
        ("length far too large", with(40, &[0, 0, 0, 0x7F]), Read("cut short")),
        ("text", b"This is no audio at all.\n".repeat(20), Error("not an audio file")),
        ("zeros", vec![0; 4000], Error("not an audio file")),
        ("a picture", after(b"\x89PNG\r\n\x1a\n"), Error("")),
        ("a web page", b"<!DOCTYPE html><html></html>".repeat(9), Error("not an audio file")),
        ("FLAC in name only", after(b"fLaC"), Error("")),
        ("Ogg in name only", after(b"OggS\0\x02"), Error("")),
        ("MP3 tags, then nothing", b"ID3\x04\0\0\0\0\0\0".to_vec(), Error("")),
        ("RIFF and noise", after(b"RIFF"), Error("")),
        ("WAVE and noise", after(b"RIFF\x10\0\0\0WAVE"), Error("")),
        ("MP4 and noise", after(b"\0\0\0\x18ftypM4A "), Error("")),
    ]
}

#[test]
fn audio_files() {
    for (name, bytes, expect) in wavs() {
        let folder = Folder::new();
        let file = format!("{}.wav", name.replace(' ', "_"));
        std::fs::write(folder.path(&file), bytes).unwrap();
        let (input, out) = (folder.text(&file), folder.text("out.tsr"));
        let encoded = tessera(&["encode", &input, &out, "--model", model()]);
        let info = tessera(&["info", &input]);
        match expect {
            Error(words) => {
                for ran in [encoded, info] {
                    assert_eq!(ran.code, Some(1), "{name}: {}{}", ran.stdout, ran.stderr);
                    ran.expect(1, &[&file, words]);
                    assert!(ran.stdout.is_empty(), "{name}: {}", ran.stdout);
                }
                assert_eq!(folder.names(), [file], "{name} leaves something");
            }
            Read(words) => {
                assert_eq!(encoded.code, Some(0), "{name}: {}", encoded.stderr);
                let said = [file.as_str(), words];
                encoded.expect(0, if words.is_empty() { &[] } else { &said });
                info.expect(0, &[]);
                assert!(info.stdout.contains(words), "{name}: {}", info.stdout);
                assert_eq!(folder.names().len(), 2, "{name} leaves something");
            }
        }
    }
}

#[test]
fn paths_that_are_no_files() {
    let folder = Folder::new();
    let none = folder.text("none");
    let out = folder.text("out");
    std::fs::create_dir(folder.path("dir")).unwrap();
    let dir = folder.text("dir");
    tone(&folder.path("a.wav"), 48_000, 1, 480, WavFormat::Pcm16);
    let wav = folder.text("a.wav");
    for command in ["encode", "decode"] {
        let run = |input: &str, output: &str| {
            tessera(&[command, input, output, "--model", model(), "--force"])
        };
        run(&none, &out).expect(1, &["none"]);
        run(&dir, &out).expect(1, &["dir"]);
    }
    tessera(&["info", &none]).expect(1, &["none"]);
    tessera(&["encode", &wav, &dir, "--model", model(), "--force"]).expect(1, &["dir"]);
    let deep = folder.text("no/such/folder/a.tsr");
    tessera(&["encode", &wav, &deep, "--model", model()]).expect(1, &["no/such/folder/a.tsr"]);
    assert_eq!(folder.names(), ["a.wav", "dir"]);
}

/// Bytes of the header with four levels.
const HEADER: usize = 80;
/// Samples of the file below: ten seconds and a bit.
const SAMPLES: usize = 481_000;

/// A good file of two channels.
fn tsr() -> Vec<u8> {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 2, SAMPLES, WavFormat::Pcm16);
    let (wav, tsr) = (folder.text("a.wav"), folder.text("a.tsr"));
    tessera(&["encode", &wav, &tsr, "--model", model()]).expect(0, &[]);
    std::fs::read(tsr).unwrap()
}

#[test]
fn token_files_that_cannot_be_decoded() {
    let good = tsr();
    let cut = |length: usize| good[..length].to_vec();
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    // Written by someone who meant it: the checksum is right.
    let set = |offset: usize, field: &[u8]| at::set(&good, HEADER, offset, field);
    let mut text_mode = good.clone();
    text_mode.retain(|&byte| byte != b'\r');
    let seven_bit = good.iter().map(|byte| byte & 0x7F).collect();
    // The second says whether `info` can still sum the file up.
    let cases: Vec<(&str, Vec<u8>, &str, bool)> = vec![
        ("empty", vec![], "truncated header", false),
        ("one byte", cut(1), "truncated header", false),
        ("signature alone", cut(8), "truncated header", false),
        ("half a header", cut(40), "truncated header", false),
        ("all but the checksum", cut(HEADER - 1), "truncated header", false),
        ("no signature", flip(0), "not a .tsr file", false),
        ("through text mode", text_mode, "not a .tsr file", false),
        ("through seven bits", seven_bit, "not a .tsr file", false),
        ("a WAV", wav(), "not a .tsr file", false),
        ("noise", noise(5000), "not a .tsr file", false),
        ("a flipped bit in the length", flip(at::LENGTH), "corrupted", false),
        ("a flipped bit in the model", flip(at::MODEL), "corrupted", false),
        ("a flipped bit in the rate", flip(at::SOURCE_RATE), "corrupted", false),
        ("a flipped bit in the checksum", flip(HEADER - 1), "corrupted", false),
        ("version 2", set(at::VERSION, &[0, 2]), "version 2", false),
        ("another payload", set(at::PAYLOAD_KIND, &[9]), "payload kind 9", false),
        ("flags", set(at::FLAGS, &[5]), "flags 5", false),
        ("no channels", set(at::CHANNELS, &[0, 0]), "channel count 0", false),
        ("33 channels", set(at::CHANNELS, &[0, 33]), "channel count 33", false),
        ("no rate", set(at::SOURCE_RATE, &[0; 4]), "source sample rate 0", false),
        ("absurd rate", set(at::SOURCE_RATE, &[255; 4]), "source sample rate", false),
        ("no codec rate", set(at::CODEC_RATE, &[0; 4]), "codec sample rate", false),
        ("no hop", set(at::HOP, &[0; 4]), "hop 0", false),
        ("absurd hop", set(at::HOP, &[255; 4]), "hop", false),
        ("absurd pre-skip", set(at::PRE_SKIP, &[255; 4]), "pre-skip", false),
        ("absurd length", set(at::SAMPLES, &[0x7F; 8]), "sample count", false),
        ("no steps a chunk", set(at::STEPS_PER_CHUNK, &[0]), "steps per chunk", false),
        ("no levels", set(at::LEVELS, &[0]), "", false),
        ("17 levels", set(at::LEVELS, &[17]), "", false),
        ("stride 0", set(at::STRIDE_0, &[0, 0]), "stride 0", false),
        ("stride that does not divide", set(at::STRIDE_0, &[0, 5]), "stride", false),
        ("codebook of one", set(at::CODEBOOK_0, &[0, 0]), "codebook of 1", false),
        ("another model", set(at::MODEL, &[7; 16]), "--model", true),
        ("another layout", set(at::CODEBOOK_0, &[0, 15]), "layout of levels", true),
        ("another frame rate", set(at::CODEC_RATE, &[0, 0, 0xAC, 0x44]), "frame rate", true),
        ("another overlap", set(at::PRE_SKIP, &[0, 0, 0, 1]), "pre-skip", true),
    ];
    assert!(cases.len() + wavs().len() > 60);
    for (name, bytes, words, summed_up) in cases {
        let folder = Folder::new();
        let file = format!("{}.tsr", name.replace(' ', "_"));
        std::fs::write(folder.path(&file), bytes).unwrap();
        let (input, out) = (folder.text(&file), folder.text("out.wav"));
        let ran = tessera(&["decode", &input, &out, "--model", model()]);
        assert_eq!(ran.code, Some(1), "{name}: {}{}", ran.stdout, ran.stderr);
        ran.expect(1, &[&file, words]);
        assert_eq!(folder.names(), [&file[..]], "{name} leaves something");
        let info = tessera(&["info", &input]);
        assert_eq!(info.code, Some(i32::from(!summed_up)), "{name}: {}", info.stderr);
        if !summed_up {
            info.expect(1, &[&file, words]);
        }
    }
}

/// The longest sound that few bytes can promise: by a header, or by chunks that claim to be far apart.
#[test]
fn hours_that_are_lost_are_not_made_up() {
    let good = tsr();
    let four_hours = 48_000u64 * 3600 * 4;
    let promised = |to: usize| {
        let bytes = at::set(&good, HEADER, at::SAMPLES, &four_hours.to_be_bytes());
        bytes[..to].to_vec()
    };
    let second = good.windows(5).position(|bytes| bytes == [0xF5, 0xC3, 0, 0, 1]).unwrap();
    let renumbered = |number: u32| {
        let mut chunk = good[HEADER..second].to_vec();
        chunk[2..5].copy_from_slice(&number.to_be_bytes()[1..]);
        let end = chunk.len() - 4;
        let crc = crc32fast::hash(&chunk[2..end]).to_be_bytes();
        chunk[end..].copy_from_slice(&crc);
        chunk
    };
    let apart = (0..9).flat_map(|n| renumbered(n * 100_000));
    // Either gap alone would be made up.
    let gaps = [0, 41, 722].into_iter().flat_map(renumbered);
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("nothing after a header", promised(HEADER), "and 0 are there"),
        ("a chunk after a header", promised(second), "and 1 are there"),
        ("chunks days apart", good[..HEADER].iter().copied().chain(apart).collect(), "and 9 are"),
        ("many gaps", good[..HEADER].iter().copied().chain(gaps).collect(), "720 seconds or more"),
    ];
    for (name, bytes, words) in cases {
        let folder = Folder::new();
        let file = format!("{}.tsr", name.replace(' ', "_"));
        std::fs::write(folder.path(&file), bytes).unwrap();
        let (input, out) = (folder.text(&file), folder.text("out.wav"));
        let ran = tessera(&["decode", &input, &out, "--model", model()]);
        ran.expect(1, &[&file, "of the file's sound are lost", words]);
        assert_eq!(folder.names(), [&file[..]], "{name} leaves something");
    }
}

/// A reason that a message tells is not told again.
#[test]
fn reasons_are_told_once() {
    let folder = Folder::new();
    let ran =
        tessera(&["train", &folder.text("none"), "--out", &folder.text("run"), "--steps", "1"]);
    ran.expect(1, &["none: No such file or directory"]);
    assert_eq!(ran.stderr.matches("No such file").count(), 1, "{}", ran.stderr);
    std::fs::write(folder.path("text.wav"), "not a sound").unwrap();
    let ran = tessera(&["tokens", &folder.text("text.wav"), "--out", &folder.text("t.npz")]);
    assert!(ran.stdout.contains(" 0.0x real time"), "{}", ran.stdout);
}

#[test]
fn damaged_token_files_are_decoded_with_the_damage_named() {
    let good = tsr();
    // The places of the chunks, by their sync word and number.
    let chunk =
        |number: u8| good.windows(5).position(|bytes| bytes == [0xF5, 0xC3, 0, 0, number]).unwrap();
    let end = good.len();
    let change = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let without = |from: usize, to: usize| [&good[..from], &good[to..]].concat();
    let insert = |at: usize, new: &[u8]| [&good[..at], new, &good[at..]].concat();
    let zeroed = {
        let mut bytes = good.clone();
        bytes[chunk(4)..chunk(7)].fill(0);
        bytes
    };
    // Name, bytes, exit code, words, whether the length is known.
    let cases: Vec<(&str, Vec<u8>, i32, &str, bool)> = vec![
        ("whole", good.clone(), 0, "", true),
        ("a flipped bit at the start", change(chunk(0) + 20), 3, "chunk 0", true),
        ("a flipped bit in the middle", change(chunk(5) + 30), 3, "checksum", true),
        ("a flipped bit at the end", change(chunk(10) + 12), 3, "chunk 10", true),
        ("a flipped sync word", change(chunk(3)), 3, "chunk 3", true),
        ("a flipped number", change(chunk(3) + 4), 3, "chunk 3", true),
        ("a chunk left out", without(chunk(2), chunk(3)), 3, "missing", true),
        ("three chunks left out", without(chunk(2), chunk(5)), 3, "chunks 2 to 4", true),
        ("three chunks zeroed", zeroed, 3, "chunks 4 to 6", true),
        ("bytes between chunks", insert(chunk(6), &[1, 2, 3]), 0, "3 bytes between", true),
        ("a chunk twice", insert(chunk(6), &good[chunk(5)..chunk(6)]), 0, "out of order", true),
        ("bytes after the end", insert(end, b"tags"), 0, "4 bytes after", true),
        ("the trailer lost", good[..end - 8].to_vec(), 3, "", false),
        ("cut inside a chunk", good[..chunk(7) + 9].to_vec(), 3, "", false),
        ("cut between chunks", good[..chunk(7)].to_vec(), 3, "", false),
        ("the header alone", good[..HEADER].to_vec(), 3, "", false),
    ];
    for (name, bytes, code, words, length_known) in cases {
        let folder = Folder::new();
        let file = format!("{}.tsr", name.replace(' ', "_"));
        std::fs::write(folder.path(&file), bytes).unwrap();
        let (input, out) = (folder.text(&file), folder.text("out.wav"));
        let ran = tessera(&["decode", &input, &out, "--model", model(), "--json"]);
        assert_eq!(ran.code, Some(code), "{name}: {}{}", ran.stdout, ran.stderr);
        let said = [file.as_str(), words];
        ran.expect(code, if words.is_empty() { &[] } else { &said });
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let (rate, channels, samples) = shape(Path::new(&out));
        assert_eq!((rate, channels), (48_000, 2), "{name}");
        assert_eq!(json["samples"], samples, "{name}");
        if length_known {
            assert_eq!(samples, SAMPLES, "{name}");
            assert_eq!(json["concealed_seconds"].as_f64() > Some(0.0), code == 3, "{name}");
        }
        let info = tessera(&["info", &input, "--json"]).json();
        let damages = info["damage_count"].as_u64().unwrap();
        assert_eq!(damages > 0, name != "whole", "{name}: {info}");
        assert_eq!(folder.names().len(), 2, "{name} leaves something");
    }
}
