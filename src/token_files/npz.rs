//! Tokens in a NumPy archive: `level_1`, `level_2` ... and `metadata`.

use super::metadata::Metadata;
use super::{Format, TokenFile, TokenFileError, arrays, npy, zip};

/// What NumPy appends to an array's name.
const SUFFIX: &str = ".npy";

pub fn write(file: &TokenFile) -> Vec<u8> {
    let text = serde_json::json!(Metadata::of(&file.header)).to_string();
    let mut members = vec![(arrays::METADATA.to_string() + SUFFIX, npy::write_string(&text))];
    for level in 0..file.header.layout.levels() {
        let array = npy::write(npy::U16, &arrays::shape(file, level), &arrays::bytes(file, level));
        members.push((arrays::name(level) + SUFFIX, array));
    }
    if let Some(shape) = arrays::lines_shape(file) {
        let array = npy::write(npy::U16, &shape, &arrays::lines_bytes(file));
        members.push((arrays::LINES.to_string() + SUFFIX, array));
    }
    zip::write(&members)
}

pub fn read(bytes: &[u8]) -> Result<TokenFile, TokenFileError> {
    let fail = |reason: String| TokenFileError::damaged(Format::Npz, reason);
    let members = zip::read(bytes).map_err(fail)?;
    let array = |name: &str| {
        let found = members.iter().find(|(n, _)| n.strip_suffix(SUFFIX) == Some(name));
        let (_, bytes) = found.ok_or_else(|| fail(format!("it has no {name}")))?;
        npy::read(bytes).map_err(fail)
    };
    let text = array(arrays::METADATA)?
        .string()
        .ok_or_else(|| fail(format!("{} is not a single string", arrays::METADATA)))?;
    let header = Metadata::parse(Format::Npz, &text)?.header(Format::Npz)?;
    arrays::tokens(Format::Npz, header, |name| {
        let array = array(name)?;
        if array.descr != npy::U16 {
            let reason = format!("{name} is of type {}, not {}", array.descr, npy::U16);
            return Err(fail(reason + ": save it as astype(\"<u2\")"));
        }
        Ok((array.shape, array.data))
    })
}
