//! Demo placeholder.
use anyhow::Result;
/// x
pub fn demo() -> Result<()> {
    Ok(())
}
