//! The plugin's window on a virtual screen: it opens, draws what it should, and closes.
//!
//! Without Xvfb, openbox and ImageMagick the test says so and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Ends a program when the test does, however it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Option<Running> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
        .map(Running)
}

/// A virtual screen that is ready, and its name: a number that was free, which it tells when it listens.
fn screen() -> (Running, String) {
    let mut server = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "1000x700x24"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(Running)
        .unwrap();
    let mut number = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut number).unwrap();
    assert!(!number.trim().is_empty(), "Xvfb has ended");
    (server, format!(":{}", number.trim()))
}

/// The pixels of the screen, or why there is no picture of it.
fn picture(display: &str, file: &Path) -> Result<Vec<u8>, String> {
    let taken = Command::new("import")
        .args(["-display", display, "-window", "root", "-depth", "8"])
        .arg(format!("ppm:{}", file.display()))
        .output()
        .map_err(|error| error.to_string())?;
    if !taken.status.success() {
        return Err(String::from_utf8_lossy(&taken.stderr).into_owned());
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let pixels = || {
        // P6, width, height, 255, and then the pixels.
        let mut words = bytes.splitn(4, |byte| byte.is_ascii_whitespace());
        let number = |word: Option<&[u8]>| std::str::from_utf8(word?).ok()?.parse::<usize>().ok();
        (words.next()? == b"P6").then_some(())?;
        let (width, height) = (number(words.next())?, number(words.next())?);
        Some(bytes.get(bytes.len().checked_sub(width * height * 3)?..)?.to_vec())
    };
    pixels().ok_or_else(|| format!("{} bytes that are no picture", bytes.len()))
}

/// Pixels near a colour of the theme.
fn count(pixels: &[u8], colour: [u8; 3]) -> usize {
    let near = |pixel: &[u8]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 6);
    pixels.chunks_exact(3).filter(|pixel| near(pixel)).count()
}

#[test]
fn the_window_shows_tokens_and_knobs() {
    let has = |program: &str| {
        Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if !(has("Xvfb") && has("openbox") && has("import")) {
        println!("skipped: Xvfb, openbox and ImageMagick are needed");
        return;
    }
    let (_screen, display) = screen();
    let _manager = start(Command::new("openbox").env("DISPLAY", &display));
    let mut tessera = start(
        Command::new(env!("CARGO_BIN_EXE_tessera-standalone"))
            .args(["--backend", "dummy"])
            .env("DISPLAY", &display)
            .env("LIBGL_ALWAYS_SOFTWARE", "1"),
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    // Panels, what is set, and text; and the tiles, which silence has, too, in many colours.
    let shown = |pixels: &[u8]| {
        let colours: std::collections::HashSet<[u8; 3]> = pixels
            .chunks_exact(3)
            .map(|pixel| [pixel[0] / 16, pixel[1] / 16, pixel[2] / 16])
            .collect();
        [
            count(pixels, [0x1b, 0x1d, 0x23]),
            count(pixels, [0xf2, 0xa6, 0x5a]),
            count(pixels, [0xe8, 0xe6, 0xe0]),
            colours.len(),
        ]
    };
    let complete =
        |shown: [usize; 4]| shown.iter().zip([40_000, 500, 500, 60]).all(|(n, least)| *n > least);
    // The first picture that is complete, and others after it: tiles move, also those of silence.
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 4 {
        let now = picture(&display, &folder.path().join("screen.ppm"));
        let what = match now {
            Ok(pixels) => {
                let shown = shown(&pixels);
                if complete(shown) {
                    seen.insert(pixels);
                }
                format!("panels, settings, text and colours: {shown:?}")
            }
            Err(error) => error,
        };
        assert!(tessera.0.try_wait().unwrap().is_none(), "the program has ended");
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "the window is not there, not complete or stands still: {} pictures; the last: {what}",
            seen.len()
        );
        sleep(Duration::from_millis(500));
    }
}
