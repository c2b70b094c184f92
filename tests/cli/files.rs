//! encode, decode, info: what works, and mistakes in the command line.

use std::io::Write;
use std::process::{Command, Stdio};

use rustfft::FftPlanner;
use rustfft::num_complex::Complex;
use tessera_codec::audio::{self, WavFormat, WavSink};
use tessera_codec::bitstream::ContainerReader;
use tessera_codec::files;
use tessera_codec::metrics::mel_distance;
use tessera_codec::prior::Prior;
use tessera_codec::token_files::TokenFile;

use crate::common::{Folder, model, shape, tessera, tone};

#[test]
fn any_rate_channels_and_format_come_back_with_their_length() {
    let folder = Folder::new();
    let mut state = 20_240_807u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let usual = [8_000, 11_025, 22_050, 44_100, 48_000, 88_200, 96_000, 192_000];
    for case in 0..10 {
        // Every other rate is an odd one.
        let rate = match case % 2 {
            0 => usual[random(8) as usize],
            _ => 4_000 + random(100_000) as u32,
        };
        let channels = 1 + random(6) as u16;
        let frames = 1 + random(u64::from(rate)) as usize;
        let (format, name) =
            [(WavFormat::Pcm16, "s16"), (WavFormat::Pcm24, "s24"), (WavFormat::Float32, "f32")]
                [case % 3];
        let label = format!("{rate} Hz, {channels} channels, {frames} samples, {name}");
        let paths = [format!("{case}.wav"), format!("{case}.tsr"), format!("{case}.out.wav")];
        let [source, tokens, decoded] = paths.map(|name| folder.text(&name));
        tone(source.as_ref(), rate, channels, frames, format);
        let encoded =
            tessera(&["encode", &source, &tokens, "--model", model(), "--effort", "0", "--json"])
                .json();
        assert_eq!(encoded["samples"], frames, "{label}");
        assert_eq!(encoded["channels"], channels, "{label}");
        assert_eq!(encoded["bytes"], std::fs::metadata(&tokens).unwrap().len(), "{label}");
        let args = ["decode", &tokens, &decoded, "--model", model(), "--format", name, "--json"];
        let json = tessera(&args).json();
        assert_eq!(json["samples"], frames, "{label}");
        assert_eq!(json["concealed_seconds"], 0.0, "{label}");
        assert_eq!(shape(decoded.as_ref()), (rate, channels, frames), "{label}");
        let info = tessera(&["info", &decoded, "--json"]).json();
        let stored = ["16-bit integers", "24-bit integers", "32-bit floats"][case % 3];
        assert_eq!(info["format"], stored, "{label}");
    }
    assert_eq!(folder.names().len(), 30, "something is left over: {:?}", folder.names());
}

#[test]
fn what_comes_back_is_where_it_was() {
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/clip.wav");
    let mut source = audio::open(clip.as_ref()).unwrap();
    let planar = audio::read_all(source.as_mut(), 1 << 24).unwrap();
    let from = source.info().sample_rate;
    let start = planar[0].len() / 4;
    let part = &planar[0][start..start + 2 * from as usize];
    let folder = Folder::new();
    let cases = [
        (8_000, 1),
        (11_025, 2),
        (16_000, 3),
        (22_050, 1),
        (37_123, 2),
        (44_100, 2),
        (48_000, 1),
        (88_200, 1),
        (96_000, 6),
        (192_000, 1),
    ];
    for (rate, channels) in cases {
        let signal = audio::resample_all(part, from, rate).unwrap();
        let [wav, tsr, out] =
            ["wav", "tsr", "out.wav"].map(|end| folder.text(&format!("{rate}.{end}")));
        let mut sink =
            WavSink::create(wav.as_ref(), rate, channels, WavFormat::Pcm16, false).unwrap();
        sink.write(&vec![signal.clone(); channels.into()]).unwrap();
        sink.finish().unwrap();
        // With the shipped model: only a codec that has learned to keep phases can be held to this.
        tessera(&["encode", &wav, &tsr]).expect(0, &[]);
        tessera(&["decode", &tsr, &out]).expect(0, &[]);
        let mut decoded = audio::open(out.as_ref()).unwrap();
        for channel in audio::read_all(decoded.as_mut(), 1 << 24).unwrap() {
            let milliseconds = offset(&signal, &channel) * 1000.0 / f64::from(rate);
            println!("{rate} Hz: {milliseconds:.3} ms");
            assert!(milliseconds.abs() < 1.0, "{rate} Hz: {milliseconds} ms late");
        }
    }
}

/// By how many samples `b` comes after `a`: where their cross-correlation is greatest.
fn offset(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let n = (2 * a.len()).next_power_of_two();
    let mut planner = FftPlanner::<f64>::new();
    let spectrum = |x: &[f32]| {
        let mut z: Vec<Complex<f64>> = x.iter().map(|&v| f64::from(v).into()).collect();
        z.resize(n, Complex::default());
        z
    };
    let (mut a, mut b) = (spectrum(a), spectrum(b));
    let forward = planner.plan_fft_forward(n);
    forward.process(&mut a);
    forward.process(&mut b);
    let mut product: Vec<_> = a.iter().zip(&b).map(|(a, b)| a.conj() * b).collect();
    planner.plan_fft_inverse(n).process(&mut product);
    let peak = (0..n).max_by(|&i, &j| product[i].re.total_cmp(&product[j].re)).unwrap();
    if peak < n / 2 { peak as f64 } else { peak as f64 - n as f64 }
}

#[test]
fn levels_and_rates() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 2, 96_000, WavFormat::Pcm16);
    let wav = folder.text("a.wav");
    let encode = |name: &str, more: &[&str]| {
        let tsr = folder.text(name);
        tessera(&[&["encode", &wav, &tsr, "--model", model()], more].concat())
    };
    // 5 bits a code: 1375 bits a second for the four levels of one channel, without lines and the file's head.
    let mut before = 0;
    for kbps in ["2.5", "3.5", "9"] {
        let json = encode(&format!("{kbps}.tsr"), &["--kbps", kbps, "--json"]).json();
        let (levels, most) = (json["levels"].as_u64().unwrap(), kbps.parse::<f64>().unwrap());
        let taken = json["kbps"].as_f64().unwrap();
        assert_eq!(
            std::fs::read(folder.path(&format!("{kbps}.tsr"))).unwrap().len(),
            json["bytes"]
        );
        assert!(taken <= most && (taken > 0.7 * most || levels == 4), "{json}");
        assert!(levels >= before, "{json}");
        before = levels;
        tessera(&[
            "decode",
            &folder.text(&format!("{kbps}.tsr")),
            &folder.text(&format!("{kbps}.wav")),
            "--model",
            model(),
        ])
        .expect(0, &[]);
    }
    assert_eq!(before, 4);
    encode("low.tsr", &["--kbps", "0.1"]).expect(1, &["--kbps 0.1", "a.wav", "takes 0.8"]);
    assert!(!folder.path("low.tsr").exists());
    encode("none.tsr", &["--levels", "0"]).expect(1, &["--levels 0", "1 to 4"]);
    encode("five.tsr", &["--levels", "5"]).expect(1, &["--levels 5", "1 to 4"]);
    encode("two.tsr", &["--levels", "2"]).expect(0, &[]);
    let info = tessera(&["info", &folder.text("two.tsr"), "--json"]).json();
    assert_eq!(info["levels"].as_array().unwrap().len(), 2);
    assert_eq!((&info["samples"], &info["damage_count"]), (&96_000.into(), &0.into()));
    let decode = |levels: &str| {
        let out = folder.text(&format!("{levels}.wav"));
        let tsr = folder.text("two.tsr");
        tessera(&["decode", &tsr, &out, "--model", model(), "--levels", levels])
    };
    decode("1").expect(0, &[]);
    assert_eq!(shape(&folder.path("1.wav")), (48_000, 2, 96_000));
    decode("3").expect(1, &["two.tsr", "3 levels", "1 to 2"]);
    assert!(!folder.path("3.wav").exists());
}

/// The first seconds of the demo's clip, which has eight, at 48 kHz, as a WAV of floats.
fn excerpt(wav: &str, seconds: usize) -> Vec<f32> {
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/clip.wav");
    let mut source = audio::open(clip.as_ref()).unwrap();
    let rate = source.info().sample_rate;
    let planar = audio::read_all(source.as_mut(), 1 << 24).unwrap();
    let count = planar[0].len().min(seconds * rate as usize);
    let part = audio::resample_all(&planar[0][..count], rate, 48_000).unwrap();
    let mut sink = WavSink::create(wav.as_ref(), 48_000, 1, WavFormat::Float32, false).unwrap();
    sink.write(std::slice::from_ref(&part)).unwrap();
    sink.finish().unwrap();
    part
}

#[test]
fn codes_that_are_looked_for_with_the_prior_take_fewer_bits() {
    let folder = Folder::new();
    let wav = folder.text("clip.wav");
    let part = excerpt(&wav, 8);
    let [with, without, plain, packed] =
        ["with.tsr", "without.tsr", "plain.tsr", "packed.tsr"].map(|name| folder.text(name));
    let encode = |tsr: &str, options: &[&str]| {
        let args = ["encode", &wav, tsr, "--levels", "4", "--lines", "none"];
        tessera(&[&args[..], options].concat()).expect(0, &[]);
    };
    encode(&with, &["--effort", "1"]);
    encode(&without, &["--effort", "1", "--entropy", "none"]);
    encode(&plain, &["--effort", "0"]);
    // The same codes, coded with the prior afterwards.
    let prior = Prior::shipped().unwrap().unwrap();
    let mut reader = ContainerReader::open_path(without.as_ref()).unwrap();
    let tokens = TokenFile::from_tsr(&mut reader, 4).unwrap();
    let (header, samples) = (reader.header().clone(), part.len() as u64);
    let bytes =
        files::write_tokens(header, Some(&prior), tokens.channels(), samples, Vec::new()).unwrap();
    std::fs::write(&packed, &bytes).unwrap();
    let figures = [&with, &packed, &plain].map(|tsr| {
        let out = format!("{tsr}.wav");
        tessera(&["decode", tsr, &out, "--format", "f32"]).expect(0, &[]);
        let mut decoded = audio::open(out.as_ref()).unwrap();
        let decoded = audio::read_all(decoded.as_mut(), 1 << 24).unwrap();
        (std::fs::metadata(tsr).unwrap().len(), mel_distance(&part, &decoded[0]).unwrap())
    });
    println!("bytes and mel distance with the prior, without, and not looked for: {figures:?}");
    let [(with, found), (without, _), (_, plain)] = figures;
    assert!((with as f64) < 0.97 * without as f64, "{figures:?}");
    assert!(found < plain, "{figures:?}");
}

#[test]
fn codes_are_looked_for_unasked_where_the_length_is_known() {
    let folder = Folder::new();
    let wav = folder.text("clip.wav");
    let part = excerpt(&wav, 2);
    let encode = |name: &str, options: &[&str]| {
        let tsr = folder.text(name);
        let args = ["encode", &wav, &tsr, "--levels", "2"];
        tessera(&[&args[..], options].concat()).expect(0, &[]);
        std::fs::read(tsr).unwrap()
    };
    let unasked = encode("unasked.tsr", &[]);
    let plain = encode("0.tsr", &["--effort", "0"]);
    assert_eq!(unasked, encode("1.tsr", &["--effort", "1"]));
    assert_ne!(unasked, plain);
    // Samples through a pipe may go on for ever.
    let piped = folder.text("piped.tsr");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["encode", "-", &piped, "--raw", "48000,1", "--levels", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = part.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read(piped).unwrap(), plain);
    // Of what is long no codes are looked for, and that is said.
    tone(&folder.path("long.wav"), 8_000, 1, 480_001, WavFormat::Pcm16);
    let effort = |name: &str, more: &[&str]| {
        let (wav, tsr) = (folder.text(name), folder.text("a.tsr"));
        let args = ["encode", &wav, &tsr, "--levels", "1", "--json", "--force"];
        let ran = tessera(&[&args[..], more].concat());
        let said = ran.stderr.contains("--effort 1");
        (ran.json()["effort"].as_u64().unwrap(), said)
    };
    assert_eq!(effort("clip.wav", &[]), (1, false));
    assert_eq!(effort("long.wav", &[]), (0, true));
    assert_eq!(effort("long.wav", &["--effort", "0"]), (0, false));
}

#[test]
fn effort_finds_codes_that_decode_to_something_closer() {
    let folder = Folder::new();
    let wav = folder.text("clip.wav");
    let part = excerpt(&wav, 2);
    let distances = ["0", "1"].map(|effort| {
        let [tsr, out] = ["tsr", "wav"].map(|end| folder.text(&format!("{effort}.{end}")));
        let args = ["encode", &wav, &tsr, "--effort", effort, "--levels", "4", "--lines", "none"];
        let packed = [&args[..], &["--entropy", "none", "--verify", "--json"]].concat();
        let bytes = tessera(&packed).json()["bytes"].as_u64().unwrap();
        tessera(&["decode", &tsr, &out, "--format", "f32"]).expect(0, &[]);
        let mut decoded = audio::open(out.as_ref()).unwrap();
        let decoded = audio::read_all(decoded.as_mut(), 1 << 24).unwrap();
        (bytes, mel_distance(&part, &decoded[0]).unwrap())
    });
    let [(size, plain), (other, found)] = distances;
    println!("mel distance {plain:.3}, found {found:.3}");
    assert_eq!(size, other);
    assert!(found < 0.98 * plain, "{plain} {found}");
    // A folder, as a file.
    let [from, to] = ["in", "out"].map(|name| folder.path(name));
    std::fs::create_dir(&from).unwrap();
    std::fs::copy(&wav, from.join("1.wav")).unwrap();
    let args = ["encode", from.to_str().unwrap(), "--out", to.to_str().unwrap(), "--effort", "1"];
    let rest = ["--levels", "4", "--lines", "none", "--entropy", "none"];
    tessera(&[&args[..], &rest].concat()).expect(0, &[]);
    assert_eq!(
        std::fs::read(to.join("1.wav.tsr")).unwrap(),
        std::fs::read(folder.path("1.tsr")).unwrap()
    );
}

#[test]
fn nothing_is_overwritten_unless_asked() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 1, 4_800, WavFormat::Pcm16);
    let [wav, tsr, out] = ["a.wav", "a.tsr", "out.wav"].map(|name| folder.text(name));
    let encode = ["encode", &wav, &tsr, "--model", model()];
    let decode = ["decode", &tsr, &out, "--model", model()];
    tessera(&encode).expect(0, &[]);
    tessera(&decode).expect(0, &[]);
    for (args, path) in [(encode, &tsr), (decode, &out)] {
        std::fs::write(path, "mine").unwrap();
        tessera(&args).expect(1, &[path, "exists already", "--force"]);
        assert_eq!(std::fs::read(path).unwrap(), b"mine");
        tessera(&[&args[..], &["--force"]].concat()).expect(0, &[]);
        assert_ne!(std::fs::read(path).unwrap(), b"mine");
    }
    // An input may be its own output, when that is allowed.
    tessera(&["encode", &wav, &wav, "--model", model()]).expect(1, &["exists already"]);
    assert_eq!(folder.names(), ["a.tsr", "a.wav", "out.wav"]);
}

#[test]
fn mistakes_in_the_command_line_exit_with_2() {
    let cases: [&[&str]; 17] = [
        &[],
        &["sing"],
        &["encode"],
        &["encode", "a.wav"],
        &["encode", "a.wav", "a.tsr", "--levels", "two"],
        &["encode", "a.wav", "a.tsr", "--levels", "1", "--kbps", "2"],
        &["encode", "a.wav", "a.tsr", "--kbps", "-1"],
        &["encode", "a.wav", "a.tsr", "--kbps", "nan"],
        &["encode", "a.wav", "a.tsr", "--effort", "11"],
        &["decode", "a.tsr", "a.wav", "--format", "u8"],
        &["info"],
        &["eval", ".", "--levels", "some"],
        &["plot", "a.wav"],
        &["train", "data", "--steps", "1"],
        &["train", "data", "--out", "run"],
        &["train", "data", "--out", "run", "--steps", "1", "--max-minutes", "1"],
        &["train", "data", "--out", "run", "--max-minutes", "0"],
    ];
    for args in cases {
        let ran = tessera(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("--help"), "{args:?}: {}", ran.stderr);
    }
    for args in [&["--help"][..], &["--version"], &["train", "--help"]] {
        assert_eq!(tessera(args).code, Some(0));
    }
}

#[test]
fn a_model_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 48_000, 1, 4_800, WavFormat::Pcm16);
    let encode = |model: &str| {
        tessera(&["encode", &folder.text("a.wav"), &folder.text("a.tsr"), "--model", model])
    };
    encode(&folder.text("none")).expect(1, &["none", "config.json"]);
    let broken = folder.path("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::copy(format!("{}/config.json", model()), broken.join("config.json")).unwrap();
    let folder_name = folder.text("broken");
    encode(&folder_name).expect(1, &["broken", "weights.safetensors"]);
    for weights in [&b""[..], b"not weights", &[0xFF; 64]] {
        std::fs::write(broken.join("weights.safetensors"), weights).unwrap();
        encode(&folder_name).expect(1, &["broken", "weights.safetensors"]);
        tessera(&["info", &folder_name]).expect(1, &["weights.safetensors"]);
    }
    std::fs::write(broken.join("config.json"), r#"{"hop": 0}"#).unwrap();
    encode(&folder_name).expect(1, &["config.json", "hop"]);
    assert_eq!(folder.names(), ["a.wav", "broken"]);
    let info = tessera(&["info", model(), "--json"]).json();
    assert_eq!((&info["kind"], &info["name"]), (&"model".into(), &"tiny".into()));
    assert_eq!(info["levels"].as_array().unwrap().len(), 4);
    tessera(&["info", &folder.text("")]).expect(1, &["no model"]);
}

/// A pager that ends early is no reason to complain.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["info", model(), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
}
