//! Files other than plain WAV, made by hand so that their samples are known.
#![cfg(feature = "formats")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use tessera_codec::audio::{self, AudioError, AudioWarning, SampleFormat, read_all};

/// Two channels of 16 bits that differ everywhere.
fn samples(frames: usize) -> [Vec<i16>; 2] {
    let left = (0..frames).map(|n| (n as i32 * 7919 % 60_000 - 30_000) as i16).collect();
    let right = (0..frames).map(|n| (n as i32 * 104_729 % 50_000 - 25_000) as i16).collect();
    [left, right]
}

fn aiff(channels: &[Vec<i16>; 2]) -> Vec<u8> {
    let frames = channels[0].len();
    let mut body = b"AIFFCOMM\0\0\0\x12\0\x02".to_vec();
    body.extend((frames as u32).to_be_bytes());
    body.extend(16u16.to_be_bytes());
    // 44,100 Hz as an 80-bit float.
    body.extend([0x40, 0x0e, 0xac, 0x44, 0, 0, 0, 0, 0, 0]);
    body.extend(b"SSND");
    body.extend((frames as u32 * 4 + 8).to_be_bytes());
    body.extend([0; 8]);
    for frame in 0..frames {
        channels.iter().for_each(|channel| body.extend(channel[frame].to_be_bytes()));
    }
    [b"FORM".as_slice(), &(body.len() as u32).to_be_bytes(), &body].concat()
}

/// A checksum of `width` bits, as FLAC uses them.
fn crc(bytes: &[u8], polynomial: u32, width: u32) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << (width - 8), |crc, _| {
            let shifted = crc << 1 & ((1 << width) - 1);
            if crc >> (width - 1) & 1 == 1 { shifted ^ polynomial } else { shifted }
        })
    })
}

/// FLAC without compression: one frame of 192 samples after the other, at 48 kHz.
fn flac(channels: &[Vec<i16>; 2]) -> Vec<u8> {
    let frames = channels[0].len();
    assert!(frames.is_multiple_of(192) && frames / 192 < 128);
    let mut file = b"fLaC\x80\0\0\x22\0\xc0\0\xc0\0\0\0\0\0\0".to_vec();
    // 20 bits rate, 3 bits channels - 1, 5 bits depth - 1, 36 bits length; then no MD5.
    let packed = 48_000u64 << 44 | 1 << 41 | 15 << 36 | frames as u64;
    file.extend(packed.to_be_bytes());
    file.extend([0; 16]);
    for number in 0..frames / 192 {
        // 192 samples, rate and depth as above (48 kHz, 16 bits), two separate channels.
        let mut frame = vec![0xff, 0xf8, 0x1a, 0x18, number as u8];
        frame.push(crc(&frame, 0x07, 8) as u8);
        for channel in channels {
            frame.push(0x02);
            let samples = &channel[number * 192..(number + 1) * 192];
            samples.iter().for_each(|sample| frame.extend(sample.to_be_bytes()));
        }
        frame.extend((crc(&frame, 0x8005, 16) as u16).to_be_bytes());
        file.extend(frame);
    }
    file
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn check(path: &Path, rate: u32, expected: &[Vec<i16>; 2]) {
    let mut source = audio::open(path).unwrap();
    let info = source.info().clone();
    assert_eq!((info.sample_rate, info.channels), (rate, 2));
    assert_eq!(
        (info.frames, info.format),
        (Some(expected[0].len() as u64), SampleFormat::Compressed)
    );
    let mut read = [Vec::new(), Vec::new()];
    let mut block = Vec::new();
    // Blocks that fit neither packets nor the whole.
    while source.read(&mut block, 77).unwrap() > 0 {
        read.iter_mut().zip(&block).for_each(|(all, part)| all.extend_from_slice(part));
    }
    assert!(source.warnings().is_empty());
    for (read, expected) in read.iter().zip(expected) {
        let expected: Vec<f32> = expected.iter().map(|s| f32::from(*s) / 32_768.0).collect();
        assert_eq!(read, &expected);
    }
}

#[test]
fn aiff_and_flac_are_read_to_the_bit_whatever_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(192 * 20);
    check(&write(folder.path(), "a.aiff", &aiff(&samples)), 44_100, &samples);
    check(&write(folder.path(), "a.wav", &aiff(&samples)), 44_100, &samples);
    check(&write(folder.path(), "a.flac", &flac(&samples)), 48_000, &samples);
    check(&write(folder.path(), "no_extension", &flac(&samples)), 48_000, &samples);
}

#[test]
fn compressed_wavs_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes =
        b"RIFF\x38\0\0\0WAVEfmt \x12\0\0\0\x07\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0\0\0\
        fact\x04\0\0\0\x06\0\0\0data\x06\0\0\0"
            .to_vec();
    bytes.extend([0xff, 0xff, 0x80, 0x00, 0xff, 0xff]);
    let mut source = audio::open(&write(folder.path(), "mu-law.wav", &bytes)).unwrap();
    assert_eq!(source.info().sample_rate, 8_000);
    let read = read_all(source.as_mut(), 100).unwrap();
    assert_eq!(read[0].len(), 6);
    assert!(read[0][0].abs() < 1e-3 && read[0][2] > 0.9 && read[0][3] < -0.9, "{read:?}");
}

#[test]
fn damaged_files_are_errors_or_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(192 * 20);
    for (name, bytes) in [("a.flac", flac(&samples)), ("a.aiff", aiff(&samples))] {
        // Cut anywhere, and any byte changed: a result, never a panic or more than there was.
        for at in (0..bytes.len()).step_by(97).chain(0..80) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            for bytes in [&bytes[..at], &damaged] {
                let path = write(folder.path(), name, bytes);
                match audio::open(&path) {
                    Ok(mut source) => {
                        let _ = read_all(source.as_mut(), 1 << 20);
                    }
                    Err(error) => {
                        let message = error.to_string();
                        assert!(message.contains(name), "{message}");
                    }
                }
            }
        }
    }
    let mut broken = flac(&samples);
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let mut source = audio::open(&write(folder.path(), "a.flac", &broken)).unwrap();
    let read = read_all(source.as_mut(), 1 << 20).unwrap();
    assert!(read[0].len() < 192 * 20 && read[0].len() >= 192 * 18, "{}", read[0].len());
    assert!(matches!(source.warnings()[..], [AudioWarning::Damaged(_)] | []));

    let garbage: Vec<u8> =
        (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let error = audio::open(&write(folder.path(), "a.mp3", &garbage)).err();
    assert!(
        matches!(error, Some(AudioError::NotAudio { .. } | AudioError::Decode { .. })),
        "{error:?}"
    );
}
