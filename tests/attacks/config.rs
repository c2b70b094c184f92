//! A model's `config.json`.

use tessera_codec::config::CodecConfig;
use tessera_codec::tokens::MAX_LEVELS;

/// A configuration is refused, or it is one that all later code can rely on and that stays what it is
/// when written and read again.
pub fn attack(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(config) = CodecConfig::from_json(&text) else { return };
    let layout = config.layout();
    layout.validate().unwrap();
    assert!((1..=MAX_LEVELS).contains(&config.levels()));
    assert_eq!(config.samples_per_step(), config.hop * layout.frames_per_step());
    assert!(config.latency_samples() < 1 << 24);
    assert!(config.warm_up_steps() <= usize::from(u16::MAX));
    for levels in 1..=config.levels() {
        assert!(config.bits_per_second(levels) > 0.0);
    }
    let json = config.to_json().unwrap();
    let again = CodecConfig::from_json(&json).unwrap();
    assert_eq!(again, config);
    assert_eq!(again.to_json().unwrap(), json);
}
