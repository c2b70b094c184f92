//! Unsigned integers in as few bytes as they need: seven bits a byte, the lowest first, the top bit
//! set on every byte but the last (LEB128).

/// Bytes of the longest encoding of a `u32`.
const MAX_BYTES: usize = 5;

/// Appends `value` to `bytes`.
pub(super) fn write(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a value off the front of `bytes`; `None` when they end first or it is beyond a `u32`.
pub(super) fn read(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u64;
    for i in 0..MAX_BYTES {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << (7 * i);
        if byte < 0x80 {
            return u32::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_encodings() {
        for (value, expected) in
            [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xAC, 2])]
        {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            assert_eq!(bytes, expected);
        }
        assert_eq!(read(&mut &[][..]), None);
        assert_eq!(read(&mut &[0x80][..]), None);
        assert_eq!(read(&mut &[0xFF, 0xFF, 0xFF, 0xFF, 0x1F][..]), None, "beyond 32 bits");
        assert_eq!(read(&mut &[0x80; 9][..]), None, "too long");
    }

    proptest! {
        #[test]
        fn round_trip(values in proptest::collection::vec(any::<u32>(), 0..50)) {
            let mut bytes = Vec::new();
            values.iter().for_each(|&v| write(&mut bytes, v));
            let mut rest = &bytes[..];
            for v in values {
                prop_assert_eq!(read(&mut rest), Some(v));
            }
            prop_assert!(rest.is_empty());
        }
    }
}
