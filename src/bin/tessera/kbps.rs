//! `--kbps`: the best file that takes no more than a rate.

use std::io::Seek;

use anyhow::{Context, Result, bail};
use tempfile::SpooledTempFile;
use tessera_codec::files::{EncodeReport, Encoding, Ladder};

use super::pipe;

/// What is shorter than so many seconds counts as if it lasted as long: the file's head, which any sound has, is not what a rate is asked
/// for.
const SHORTEST: f64 = 2.0;

/// The thousands of bits a second that a file of so many bytes and seconds counts as taking.
pub fn rate(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / seconds.max(SHORTEST) / 1000.0
}

/// The best file of at most `kbps`, all channels together, that `encode` writes with an encoding of `ladder`. It encodes the same sound,
/// called `name`, as often as it is asked to.
///
/// # Errors
/// That of `encode`, there is no room for what is tried, or no encoding takes so few bits.
pub fn fill(
    kbps: f64,
    channels: u16,
    ladder: &Ladder,
    name: &str,
    mut encode: impl FnMut(Encoding, SpooledTempFile) -> Result<(SpooledTempFile, EncodeReport)>,
) -> Result<(SpooledTempFile, EncodeReport)> {
    let channels = f64::from(channels.max(1));
    let mut least = f64::INFINITY;
    let best = ladder.climb(kbps / channels, |encoding| -> Result<_> {
        let (held, done) = encode(encoding, pipe::held())?;
        let rate = rate(done.bytes, done.seconds);
        least = least.min(rate);
        Ok((rate / channels, (held, done)))
    })?;
    let Some((mut held, done)) = best else {
        bail!(
            "--kbps {kbps}: the smallest file that the model makes of {name} takes {least:.2} kbps"
        );
    };
    held.rewind().context("cannot read back a temporary file")?;
    Ok((held, done))
}
