//! How many levels a rate or a number stands for.

use anyhow::{Result, bail};
use tessera_codec::config::CodecConfig;

/// Checks a number of levels against those a model has.
pub fn within(asked: usize, config: &CodecConfig) -> Result<usize> {
    match (1..=config.levels()).contains(&asked) {
        true => Ok(asked),
        false => bail!(
            "--levels {asked}: the model {} has {} levels; ask for 1 to {}",
            config.name,
            config.levels(),
            config.levels()
        ),
    }
}

/// The most levels whose codes take at most `kbps` for all channels.
pub fn for_rate(kbps: f64, channels: u16, config: &CodecConfig) -> Result<usize> {
    let rate = |levels| config.bits_per_second(levels) * f64::from(channels) / 1000.0;
    match (1..=config.levels()).rev().find(|&levels| rate(levels) <= kbps) {
        Some(levels) => Ok(levels),
        None => bail!(
            "--kbps {kbps}: the lowest rate of the model {} for {channels} channels is {} kbps",
            config.name,
            rate(1)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_all_channels() {
        let config = CodecConfig::default(); // 0.25, 0.75, 1.75, 2.75 kbps
        for (kbps, channels, levels) in
            [(0.25, 1, 1), (1.0, 1, 2), (2.75, 1, 4), (64.0, 1, 4), (1.5, 2, 2), (5.49, 2, 3)]
        {
            assert_eq!(for_rate(kbps, channels, &config).unwrap(), levels, "{kbps} {channels}");
        }
        let error = for_rate(0.3, 2, &config).unwrap_err().to_string();
        assert!(error.contains("0.5 kbps"), "{error}");
        assert!(within(0, &config).is_err() && within(5, &config).is_err());
    }
}
