//! ZIP archives without compression, in memory: what a `.npz` is.
//!
//! Format: PKWARE's APPNOTE 6.3, sections 4.3 and 4.4, without ZIP64 (a file is far below 4 GiB).

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
/// The longest comment at the end of an archive.
const MAX_COMMENT: usize = 65_535;
/// The most members that are looked at: tokens have a level each, and the metadata.
const MAX_MEMBERS: usize = 64;
/// The first day that ZIP knows, 1980-01-01: the same tokens give the same bytes.
const DATE: u16 = 1 << 5 | 1;

/// An archive of members by name. Together they are shorter than 4 GiB.
pub fn write(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in members {
        // Version 2.0, no flags, stored, midnight.
        let mut shared = Vec::new();
        for field in [20u16, 0, 0, 0, DATE] {
            shared.extend(field.to_le_bytes());
        }
        for field in [crc32fast::hash(data), data.len() as u32, data.len() as u32] {
            shared.extend(field.to_le_bytes());
        }
        shared.extend((name.len() as u16).to_le_bytes());
        shared.extend([0; 2]); // no extra field
        directory.extend(CENTRAL);
        directory.extend(20u16.to_le_bytes());
        directory.extend(&shared);
        directory.extend([0; 10]); // no comment, disk 0, no attributes
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        bytes.extend(LOCAL);
        bytes.extend(shared);
        bytes.extend(name.as_bytes());
        bytes.extend(data);
    }
    let start = bytes.len() as u32;
    let count = (members.len() as u16).to_le_bytes();
    bytes.extend(&directory);
    bytes.extend(END);
    bytes.extend([0; 4]); // disk 0
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]); // no comment
    bytes
}

/// The members of an archive by name, in its order, their checksums checked.
pub fn read(bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, String> {
    let cut = || "the archive is cut short or damaged".to_string();
    let last = bytes.len().checked_sub(END_BYTES).ok_or_else(cut)?;
    let end = (last.saturating_sub(MAX_COMMENT)..=last)
        .rev()
        .find(|&at| bytes[at..].starts_with(&END))
        .ok_or_else(cut)?;
    let count = u16_at(bytes, end + 10).ok_or_else(cut)?;
    if usize::from(count) > MAX_MEMBERS {
        return Err(format!("{count} members are more than tokens have"));
    }
    let mut at = u32_at(bytes, end + 16).ok_or_else(cut)?;
    let mut members = Vec::new();
    for _ in 0..count {
        let entry = bytes.get(at..).filter(|b| b.starts_with(&CENTRAL)).ok_or_else(cut)?;
        let field = |at| u16_at(entry, at).ok_or_else(cut);
        let long = |at| u32_at(entry, at).ok_or_else(cut);
        let [flags, method] = [field(8)?, field(10)?];
        let [crc, stored, size, local] = [long(16)?, long(20)?, long(24)?, long(42)?];
        let [name, extra, comment] = [field(28)?, field(30)?, field(32)?].map(usize::from);
        let name_bytes = entry.get(CENTRAL_BYTES..).and_then(|b| b.get(..name)).ok_or_else(cut)?;
        let name_text = std::str::from_utf8(name_bytes).map_err(|_| cut())?;
        if method != 0 || stored != size || flags & 1 != 0 {
            return Err(format!(
                "{name_text} is compressed or encrypted: save it with numpy.savez"
            ));
        }
        let head = bytes.get(local..).filter(|b| b.starts_with(&LOCAL)).ok_or_else(cut)?;
        let skip = LOCAL_BYTES
            + usize::from(u16_at(head, 26).ok_or_else(cut)?)
            + usize::from(u16_at(head, 28).ok_or_else(cut)?);
        let data = head.get(skip..).and_then(|b| b.get(..size)).ok_or_else(cut)?;
        if crc32fast::hash(data) as usize != crc {
            return Err(format!("the checksum of {name_text} does not match; copy it again"));
        }
        members.push((name_text, data));
        at += CENTRAL_BYTES + name + extra + comment;
    }
    Ok(members)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([field[0], field[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let low = u16_at(bytes, at)?;
    let high = u16_at(bytes, at.checked_add(2)?)?;
    usize::try_from(u32::from(high) << 16 | u32::from(low)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back_in_order() {
        let members = [
            ("b.npy".to_string(), vec![1, 2, 3]),
            ("a".into(), vec![]),
            ("c".into(), vec![9; 999]),
        ];
        let mut bytes = write(&members);
        for comment in [0, 7] {
            bytes.extend(vec![b' '; comment]);
            let back: Vec<_> =
                read(&bytes).unwrap().into_iter().map(|(n, d)| (n.into(), d.to_vec())).collect();
            assert_eq!(back, members);
        }
        assert_eq!(read(&write(&[])), Ok(vec![]));
    }

    #[test]
    fn cuts_and_flipped_bits_are_errors_or_harmless() {
        let members = [("a.npy".to_string(), vec![1, 2, 3]), ("b.npy".into(), vec![4; 40])];
        let bytes = write(&members);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Names and dates carry no checksum, the data do.
            for (_, data) in read(&flipped).unwrap_or_default() {
                assert!(members.iter().any(|(_, d)| d == data), "bit {bit}");
            }
        }
    }
}
