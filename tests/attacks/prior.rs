//! A prior's two files, and what is coded with whatever prior they make.

use std::path::Path;

use super::{entropy, tiny};
use tessera_codec::bitstream::PayloadCoder;
use tessera_codec::prior::{Generator, Prior, PriorCoder, PriorConfig, PriorState, Sampling};
use tessera_codec::tokens::Tokens;

/// The weights of the smallest prior there is, and more.
const MOST_WEIGHT_BYTES: usize = 1 << 15;

/// Two bytes of length, the configuration, the weights: they are refused, or make a prior whose coder brings
/// back whatever tokens it is given and takes any bytes, and that draws codes of its codebooks.
pub fn attack(bytes: &[u8]) {
    let Some((config, weights)) = tiny::parts(bytes) else { return };
    configuration(config);
    if weights.len() > MOST_WEIGHT_BYTES {
        return;
    }
    let Ok(prior) = Prior::from_bytes(config, weights, Path::new("bytes")) else { return };
    let levels = prior.levels();
    assert!(prior.coder(levels + 1).is_err() && prior.coder(0).is_err());
    let (layout, size) = (prior.layout().clone(), prior.config().codebook_size);
    let per_step = prior.codes_per_step(levels);

    let wild = |n: usize| u16::from_be_bytes([bytes[n * 7 % bytes.len()], bytes[n % bytes.len()]]);
    let mut state = PriorState::new(&prior, levels).unwrap();
    for code in (0..per_step).map(wild) {
        assert_eq!(state.scores().len(), size);
        assert_eq!(state.push(code).is_ok(), usize::from(code) < size);
    }
    let mut drawn = vec![0; 2 * per_step];
    Generator::new(&prior, levels, Sampling::default()).unwrap().draw(&mut drawn).unwrap();
    let tame = (0..2 * per_step).map(|n| (usize::from(wild(n)) % size) as u16).collect();
    let chunks = [drawn, tame].map(|codes| {
        let mut tokens = Tokens::new(levels);
        tokens.extend_steps(&codes, &layout);
        vec![tokens]
    });
    let mut coder = PriorCoder::with_threads(&prior, levels, 1).unwrap();
    let coded = coder.encode(&chunks);
    for (chunk, coded) in chunks.into_iter().zip(coded) {
        let coded = coded.unwrap();
        let coded = tessera_codec::bitstream::Coded { steps: 2, bytes: &coded };
        assert!(coder.decode(1, &[coded])[0].as_ref() == Some(&chunk), "not what was coded");
    }
    // Few enough bytes that they are not many steps.
    entropy::decode(&prior, &bytes[bytes.len().saturating_sub(20)..]);
}

/// A configuration is refused, or it is one that all later code can rely on and that stays what it is when
/// written and read again.
fn configuration(bytes: &[u8]) {
    let Ok(config) = PriorConfig::from_json(&String::from_utf8_lossy(bytes)) else { return };
    config.layout().validate().unwrap();
    assert!((1..=256).contains(&config.codes_per_step()));
    assert_eq!(config.levels_of_codes().len(), config.codes_per_step());
    assert!(u8::try_from(config.steps).is_ok());
    let json = config.to_json().unwrap();
    assert_eq!(PriorConfig::from_json(&json).unwrap(), config);
}
