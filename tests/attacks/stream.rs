//! Streams of a model that are given any tokens, any number of levels, and any order of calls.

use super::draw::Draw;
use super::tiny;
use tessera_codec::concealment::ConcealingDecoder;
use tessera_codec::engine::{EngineError, StreamDecoder};

/// Calls beyond these teach nothing new.
const MOST_CALLS: usize = 64;

/// Each call is a byte that says what is called, and what that takes: a decoder does what it is told to or
/// says why not, and is then what it was; it never writes more than there is room for, or anything but finite
/// samples, and those that a fresh decoder of one step at a time gives. A decoder that makes up what is lost
/// takes the same calls.
pub fn attack(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let model = tiny::model();
    let chunk = model.chunk_samples();
    let mut decoder = StreamDecoder::with_batch(model, 1 + usize::from(draw.byte() % 5));
    let mut single = StreamDecoder::new(model);
    let levels = 1 + usize::from(draw.byte()) % model.levels();
    let prior = (draw.byte() % 2 == 0).then(tiny::prior);
    let mut concealing = ConcealingDecoder::new(model, prior, levels, 2).unwrap();

    for _ in 0..MOST_CALLS {
        if draw.0.is_empty() {
            return;
        }
        match draw.byte() % 8 {
            0..3 => {
                let levels = usize::from(draw.byte()) % (model.levels() + 2);
                let codes = draw.codes();
                let mut samples = vec![f32::NAN; usize::from(draw.byte()) * 3];
                let before = decoder.next_step();
                match decoder.process_into(&codes, levels, &mut samples) {
                    Ok(done) => {
                        let codes = &codes[..done.consumed];
                        let samples = &samples[..done.produced];
                        let steps = codes.len() / model.codes_per_step(levels);
                        assert_eq!(decoder.next_step(), before.wrapping_add(steps as u64));
                        assert!(samples.iter().all(|sample| sample.is_finite()));
                        let mut expected = vec![0.0; samples.len()];
                        let again = single.process_into(codes, levels, &mut expected);
                        // No codes and no room is nothing to do for the one and nothing to try for the other.
                        assert!(again.is_ok_and(|again| again == done) || samples.is_empty());
                        assert!(samples == expected, "another sound step by step");
                    }
                    Err(error) => {
                        refused(error, &codes, levels, samples.len());
                        assert_eq!(decoder.next_step(), before);
                    }
                }
            }
            3 => {
                let levels = usize::from(draw.byte()) % (model.levels() + 2);
                let codes = draw.codes();
                let mut samples = vec![f32::NAN; chunk];
                if let Err(error) = decoder.begin(&codes, levels) {
                    refused(error, &codes, levels, chunk);
                    assert!(decoder.take(&mut samples).is_err());
                    continue;
                }
                assert_eq!(decoder.begin(&codes, levels), Err(EngineError::Busy));
                while !decoder.advance(1 + usize::from(draw.byte())) {}
                assert_eq!(decoder.take(&mut samples), Ok(chunk));
                let mut expected = vec![0.0; chunk];
                single.process_into(&codes, levels, &mut expected).unwrap();
                assert!(samples == expected, "another sound unit by unit");
            }
            4 => {
                let codes = draw.codes();
                let mut samples = vec![f32::NAN; usize::from(draw.byte()) * 3];
                match concealing.process_into(&codes, &mut samples) {
                    Ok(done) => {
                        assert!(done.consumed <= codes.len() && done.produced <= samples.len());
                        assert!(samples[..done.produced].iter().all(|sample| sample.is_finite()));
                    }
                    Err(error) => refused(error, &codes, levels, samples.len()),
                }
            }
            5 => {
                let mut samples = vec![f32::NAN; chunk + usize::from(draw.byte())];
                for _ in 0..=draw.byte() % 4 {
                    assert_eq!(concealing.conceal(&mut samples), Ok(chunk));
                    assert!(samples[..chunk].iter().all(|sample| sample.is_finite()));
                }
                assert!(concealing.conceal(&mut samples[..chunk - 1]).is_err());
            }
            6 => {
                let step = u64::from_be_bytes([draw.byte(); 8]);
                decoder.reset_at(step);
                single.reset_at(step);
                concealing.pass_over(step);
            }
            _ => {
                let mut tail = vec![f32::NAN; decoder.latency_samples()];
                let done = decoder.finish(&mut tail).unwrap();
                assert_eq!((done.consumed, done.produced), (0, tail.len()));
                let mut expected = tail.clone();
                single.finish(&mut expected).unwrap();
                assert!(tail == expected && tail.iter().all(|sample| sample.is_finite()));
            }
        }
    }
}

/// An error is about what was wrong with the call.
fn refused(error: EngineError, codes: &[u16], levels: usize, room: usize) {
    let model = tiny::model();
    match error {
        EngineError::Levels { .. } => assert!(!(1..=model.levels()).contains(&levels)),
        EngineError::PartialStep { .. } => {
            assert_ne!(codes.len(), model.codes_per_step(levels));
        }
        EngineError::Code { code, place, size } => {
            assert!(codes[place] == code && usize::from(code) >= size);
        }
        EngineError::OutputTooSmall { .. } => assert!(room < model.chunk_samples()),
        error => panic!("{error}"),
    }
}

impl Draw<'_> {
    /// Up to 31 codes, of which a few are no codes.
    fn codes(&mut self) -> Vec<u16> {
        let count = self.byte() % 32;
        let code = |byte: u8| if byte < 0xF0 { u16::from(byte % 4) } else { u16::from(byte) << 8 };
        (0..count).map(|_| code(self.byte())).collect()
    }
}
