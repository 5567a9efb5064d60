//! CRC32C, plain, of a few bytes, seeded, and joined from parts.

mod few;
mod join;

pub use few::{START_BYTES, crc32c_of_start};
pub use join::{JOIN_BYTES_MIN, Joiner};

/// CRC32C (Castagnoli) of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// What a seeded checksum depends on beside the bytes: whose directory, which segment (or other
/// numbered file), which place in it.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    pub secret: [u8; 16],
    pub number: u64,
    pub offset: u64,
}

/// Longest text of a seeded checksum, bytes.
const SEEDED_BYTES_MAX: usize = 128;

/// CRC32C of secret, number, offset (both u64 little-endian) and then `bytes` (at most 128).
pub fn seeded(seed: &Seed, bytes: &[u8]) -> u32 {
    let mut text = [0u8; 32 + SEEDED_BYTES_MAX];
    text[..16].copy_from_slice(&seed.secret);
    text[16..24].copy_from_slice(&seed.number.to_le_bytes());
    text[24..32].copy_from_slice(&seed.offset.to_le_bytes());
    text[32..32 + bytes.len()].copy_from_slice(bytes);
    crc32c(&text[..32 + bytes.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn every_part_of_the_seed_counts() {
        let seed = Seed { secret: [7; 16], number: 1, offset: 2 };
        let base = seeded(&seed, b"header");
        assert_ne!(base, seeded(&Seed { secret: [8; 16], ..seed }, b"header"));
        assert_ne!(base, seeded(&Seed { number: 2, ..seed }, b"header"));
        assert_ne!(base, seeded(&Seed { offset: 3, ..seed }, b"header"));
        assert_ne!(base, seeded(&seed, b"headex"));
    }
}
