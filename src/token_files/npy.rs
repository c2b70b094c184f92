//! NumPy's arrays in files, as far as tokens need them: matrices of `uint16` and a single string.
//!
//! Format: NumPy Enhancement Proposal 1, and `numpy.lib.format`.

const MAGIC: &[u8] = b"\x93NUMPY";
/// The data begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// Type of an element: little-endian 16-bit integers.
pub const U16: &str = "<u2";

/// An array: its header's type and shape, and its elements.
#[derive(Debug, PartialEq, Eq)]
pub struct Array<'a> {
    pub descr: String,
    pub shape: Vec<usize>,
    pub data: &'a [u8],
}

/// The file of an array whose elements' bytes are `data`, row by row.
pub fn write(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: String = match shape {
        [one] => format!("{one},"),
        more => more.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let before = MAGIC.len() + 4;
    let end = (before + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', end - before - header.len() - 1));
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]); // the version
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// A single string: four bytes a character.
pub fn write_string(text: &str) -> Vec<u8> {
    let data: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    write(&format!("<U{}", data.len() / 4), &[], &data)
}

/// Reads the file of an array.
pub fn read(bytes: &[u8]) -> Result<Array<'_>, String> {
    let cut = || "an array is cut short".to_string();
    let rest = bytes.strip_prefix(MAGIC).ok_or("a member is not a NumPy array")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err("an array of an unknown version of NumPy's format".into()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| "an array's header is no text")?;
    let value = |key: &str| {
        let (_, value) = header.split_once(&format!("'{key}':"))?;
        Some(value.trim_start())
    };
    let lacks = |key: &str| format!("an array's header has no readable {key}");
    let descr = value("descr")
        .and_then(|v| v.strip_prefix('\'')?.split_once('\''))
        .ok_or_else(|| lacks("descr"))?
        .0;
    if !value("fortran_order").ok_or_else(|| lacks("fortran_order"))?.starts_with("False") {
        return Err("an array is stored by columns: save numpy.ascontiguousarray of it".into());
    }
    let shape = value("shape")
        .and_then(|v| v.strip_prefix('(')?.split_once(')'))
        .ok_or_else(|| lacks("shape"))?
        .0;
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| lacks("shape")))
        .collect::<Result<_, _>>()?;
    Ok(Array { descr: descr.into(), shape, data })
}

impl Array<'_> {
    /// The string that the array holds alone.
    pub fn string(&self) -> Option<String> {
        let characters: usize = self.descr.strip_prefix("<U")?.parse().ok()?;
        let single = self.shape.is_empty() && characters.checked_mul(4) == Some(self.data.len());
        let text = || {
            let mut chars = self.data.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]);
            chars.try_fold(String::new(), |mut text, c| {
                text.push(char::from_u32(u32::from_le_bytes(c))?);
                Some(text)
            })
        };
        if single { text() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_strings_come_back() {
        for shape in [vec![2, 3], vec![6], vec![1, 6], vec![0, 6]] {
            let bytes = write(U16, &shape, &[1; 12]);
            assert_eq!((bytes.len() - 12) % ALIGNMENT, 0);
            let array = read(&bytes).unwrap();
            assert_eq!(array, Array { descr: U16.into(), shape, data: &[1; 12] });
            assert_eq!(array.string(), None);
        }
        for text in ["", "{\"a\": \"ä→𝄞\"}"] {
            assert_eq!(read(&write_string(text)).unwrap().string().as_deref(), Some(text));
        }
    }

    #[test]
    fn every_cut_of_a_header_is_an_error() {
        let bytes = write(U16, &[2, 3], &[]);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        let columns = String::from_utf8_lossy(&bytes[10..]).replace("False", "True ");
        let columns = [&bytes[..10], columns.as_bytes()].concat();
        assert!(read(&columns).unwrap_err().contains("columns"));
    }
}
