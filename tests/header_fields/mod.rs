//! Where the fields of a header are, written from docs/format.md, and its checksum put right.

#![allow(dead_code, reason = "each program of tests uses some of them")]

pub const VERSION: usize = 8;
pub const LENGTH: usize = 10;
pub const MODEL: usize = 12;
pub const SOURCE_RATE: usize = 28;
pub const CHANNELS: usize = 32;
pub const SAMPLES: usize = 34;
pub const CODEC_RATE: usize = 42;
pub const HOP: usize = 46;
pub const PRE_SKIP: usize = 50;
pub const PAYLOAD_KIND: usize = 54;
pub const FLAGS: usize = 55;
pub const STEPS_PER_CHUNK: usize = 56;
pub const LEVELS: usize = 59;
pub const STRIDE_0: usize = 60;
pub const CODEBOOK_0: usize = 62;
pub const STRIDE_1: usize = 64;
pub const CODEBOOK_1: usize = 66;

/// The bytes of a file with a field of its header replaced and the checksum of the header, which has
/// `length` bytes, put right: as someone writes it who means it.
pub fn set(file: &[u8], length: usize, offset: usize, field: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    bytes[offset..offset + field.len()].copy_from_slice(field);
    with_crc(bytes, length)
}

/// The bytes of a file with the checksum of its header of `length` bytes put right.
pub fn with_crc(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes[..length - 4]).to_be_bytes();
    bytes[length - 4..length].copy_from_slice(&crc);
    bytes
}
