//! A WAV file.

use tessera_codec::audio::{AudioSource, AudioWarning, WavSource};

/// There is an error, or finite samples of a shape that was promised, the same however many are asked
/// for at a time, and no more than the bytes can hold.
pub fn attack(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let Some((info, whole, warnings)) = read(bytes, Some(length), 1 << 14) else { return };
    assert!((1..=32).contains(&info.channels) && info.sample_rate > 0);
    assert_eq!(info.frames, Some(whole[0].len() as u64), "the length is known");
    assert!(whole.len() * whole[0].len() <= bytes.len());
    let (_, pieces, same) = read(bytes, Some(length), 7).unwrap();
    assert_eq!((&pieces, &same), (&whole, &warnings));
    let (_, streamed, _) = read(bytes, None, 1000).unwrap();
    assert_eq!(streamed, whole, "as a stream of unknown length");
}

type Read = (tessera_codec::audio::AudioInfo, Vec<Vec<f32>>, Vec<AudioWarning>);

fn read(bytes: &[u8], length: Option<u64>, at_a_time: usize) -> Option<Read> {
    let mut source = WavSource::new(bytes, "bytes".into(), length).ok()?;
    let info = source.info().clone();
    let mut whole = vec![Vec::new(); info.channels.into()];
    let mut block = Vec::new();
    loop {
        let frames = source.read(&mut block, at_a_time).unwrap();
        assert!(frames <= at_a_time);
        assert_eq!(block.len(), whole.len());
        assert!(block.iter().all(|channel| channel.len() == frames));
        assert!(block.iter().flatten().all(|sample| sample.is_finite()));
        if frames == 0 {
            return Some((info, whole, source.warnings()));
        }
        whole.iter_mut().zip(&block).for_each(|(all, part)| all.extend_from_slice(part));
    }
}
