//! Payloads for the entropy decoder: any bytes, read with a prior.

use super::tiny;
use tessera_codec::bitstream::{Coded, PayloadCoder};
use tessera_codec::prior::{Prior, PriorCoder};
use tessera_codec::tokens::Tokens;

/// Steps and channels beyond these teach nothing new.
const MOST_STEPS: usize = 20;
const MOST_CHANNELS: usize = 3;
const MOST_CHUNKS: usize = 40;

/// A byte of levels, one of channels, and then chunks, each with a byte of steps and one of length before it.
pub fn attack(bytes: &[u8]) {
    decode(tiny::prior(), bytes);
}

/// Whatever the bytes are, they are refused, or are the tokens that they would be alone and on any number of
/// threads; those tokens are of the size that was asked for, are in their codebooks, and come back when they
/// are coded again.
pub fn decode(prior: &Prior, bytes: &[u8]) {
    let Some(([levels, channels], mut rest)) = bytes.split_first_chunk() else { return };
    let levels = 1 + usize::from(*levels) % prior.levels();
    let channels = 1 + usize::from(*channels) % MOST_CHANNELS;
    let mut chunks = Vec::new();
    while let Some(([steps, length], after)) = rest.split_first_chunk()
        && chunks.len() < MOST_CHUNKS
    {
        let (bytes, after) = after.split_at(after.len().min(usize::from(*length)));
        chunks.push(Coded { steps: usize::from(*steps) % (MOST_STEPS + 1), bytes });
        rest = after;
    }

    let layout = prior.layout().prefix(levels);
    let mut coder = PriorCoder::with_threads(prior, levels, 1).unwrap();
    let decoded = coder.decode(channels, &chunks);
    assert_eq!(decoded.len(), chunks.len());
    for (tokens, chunk) in decoded.iter().zip(&chunks) {
        let Some(tokens) = tokens else { continue };
        assert_eq!(tokens.len(), channels);
        for tokens in tokens {
            let steps = tokens.steps(&layout);
            assert!(steps == Some(chunk.steps), "{steps:?} of {}", chunk.steps);
            for (codes, &size) in tokens.levels.iter().zip(&layout.codebook_sizes) {
                assert!(codes.iter().all(|&code| usize::from(code) < size));
            }
        }
    }
    let mut threads = PriorCoder::with_threads(prior, levels, 3).unwrap();
    assert!(threads.decode(channels, &chunks) == decoded, "on three threads");
    for (together, chunk) in decoded.iter().zip(&chunks).take(3) {
        assert!(coder.decode(channels, &[*chunk])[0] == *together, "alone");
    }

    let whole: Vec<Vec<Tokens>> = decoded.into_iter().flatten().collect();
    let coded = coder.encode(&whole);
    let again: Vec<Coded> = whole
        .iter()
        .zip(&coded)
        .map(|(tokens, bytes)| {
            let steps = tokens[0].steps(&layout).unwrap();
            Coded { steps, bytes: bytes.as_ref().unwrap() }
        })
        .collect();
    let again = coder.decode(channels, &again);
    assert!(again.into_iter().flatten().eq(whole), "coded and decoded again");
}
