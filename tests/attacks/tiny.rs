//! The smallest model and the smallest prior there are, from the seeds: what any tokens and any bytes are
//! given to.

use std::path::Path;
use std::sync::OnceLock;

use tessera_codec::engine::Model;
use tessera_codec::prior::Prior;

/// Two bytes of length, a configuration, weights: the two parts.
pub fn parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The seed of the attack on models.
pub fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let (config, weights) = parts(include_bytes!("../seeds/model/tiny")).unwrap();
        Model::from_bytes(config, weights, Path::new("tiny")).unwrap()
    })
}

/// The seed of the attack on priors: one for the tokens of [`model`].
pub fn prior() -> &'static Prior {
    static PRIOR: OnceLock<Prior> = OnceLock::new();
    PRIOR.get_or_init(|| {
        let (config, weights) = parts(include_bytes!("../seeds/prior/tiny")).unwrap();
        Prior::from_bytes(config, weights, Path::new("tiny")).unwrap()
    })
}
