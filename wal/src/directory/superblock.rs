//! The bytes of `corelane.dir`, 4096, little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic, `CORELANE` |
//! | 8 | 4 | format |
//! | 12 | 2 | shards |
//! | 14 | 1 | 1: every shard has its log; 0: still being made |
//! | 15 | 1 | zero |
//! | 16 | 16 | secret id of the directory |
//! | 32 | 4 | block size, bytes |
//! | 36 | 4056 | zero |
//! | 4092 | 4 | CRC32C of all before |
//!
//! Magic, format and CRC keep their places in every later format.

use crate::crc::crc32c;

/// Length of the superblock, bytes.
pub const SUPERBLOCK_BYTES: usize = 4096;
/// The newest format of a data directory known here.
pub const DIRECTORY_FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"CORELANE";
const CRC_AT: usize = SUPERBLOCK_BYTES - 4;
const BLOCK_BYTES_MIN: u32 = 4096;
const BLOCK_BYTES_MAX: u32 = 64 * 1024;

/// What the superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    pub secret: [u8; 16],
    pub shards: u16,
    pub block_bytes: u32,
    pub finished: bool,
}

/// Why bytes are no superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    #[error("it has {0} bytes instead of {SUPERBLOCK_BYTES}")]
    Length(usize),
    #[error("it does not start with the magic bytes")]
    Magic,
    #[error("its checksum does not match")]
    Checksum,
    #[error("its format is {found}, newer than {known}")]
    Newer { found: u32, known: u32 },
    #[error("a field has an impossible value")]
    Field,
}

impl Superblock {
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&DIRECTORY_FORMAT.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.shards.to_le_bytes());
        bytes[14] = u8::from(self.finished);
        bytes[16..32].copy_from_slice(&self.secret);
        bytes[32..36].copy_from_slice(&self.block_bytes.to_le_bytes());
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// # Errors
    /// See [`SuperblockError`]; the first that applies, in its order.
    pub fn parse(bytes: &[u8]) -> Result<Self, SuperblockError> {
        let bytes: &[u8; SUPERBLOCK_BYTES] =
            bytes.try_into().map_err(|_| SuperblockError::Length(bytes.len()))?;
        if &bytes[0..8] != MAGIC {
            return Err(SuperblockError::Magic);
        }
        if u32_at(bytes, CRC_AT) != crc32c(&bytes[..CRC_AT]) {
            return Err(SuperblockError::Checksum);
        }
        let found = u32_at(bytes, 8);
        if found > DIRECTORY_FORMAT {
            return Err(SuperblockError::Newer { found, known: DIRECTORY_FORMAT });
        }
        let mut secret = [0; 16];
        secret.copy_from_slice(&bytes[16..32]);
        let superblock = Self {
            secret,
            shards: u16::from_le_bytes([bytes[12], bytes[13]]),
            block_bytes: u32_at(bytes, 32),
            finished: bytes[14] == 1,
        };
        superblock.check(found, bytes[14])
    }

    fn check(self, format: u32, finished: u8) -> Result<Self, SuperblockError> {
        let good = format == DIRECTORY_FORMAT
            && (1..=model::limits::SHARDS_MAX).contains(&self.shards)
            && finished <= 1
            && self.block_bytes.is_power_of_two()
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&self.block_bytes);
        if good { Ok(self) } else { Err(SuperblockError::Field) }
    }
}

fn u32_at(bytes: &[u8; SUPERBLOCK_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: Superblock =
        Superblock { secret: *b"0123456789abcdef", shards: 3, block_bytes: 4096, finished: true };

    #[test]
    fn the_bytes_are_these() {
        let bytes = GOLDEN.to_bytes();
        assert_eq!(bytes[..36], *b"CORELANE\x01\0\0\0\x03\0\x01\x000123456789abcdef\x00\x10\0\0");
        assert!(bytes[36..CRC_AT].iter().all(|b| *b == 0));
        assert_eq!(u32_at(&bytes, CRC_AT), 0x3cde_4011);
        assert_eq!(Superblock::parse(&bytes), Ok(GOLDEN));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let good = GOLDEN.to_bytes();
        for at in 0..SUPERBLOCK_BYTES {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert!(Superblock::parse(&bad).is_err(), "byte {at}");
        }
        assert_eq!(Superblock::parse(&good[1..]), Err(SuperblockError::Length(4095)));
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let mut bytes = GOLDEN.to_bytes();
        bytes[8] = 9;
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let newer = SuperblockError::Newer { found: 9, known: DIRECTORY_FORMAT };
        assert_eq!(Superblock::parse(&bytes), Err(newer));
    }
}
