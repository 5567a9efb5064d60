//! A segment's own header: the first block of the file, 64 bytes and zeros.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `CLSG` |
//! | 4 | 2 | format |
//! | 6 | 2 | shard |
//! | 8 | 8 | segment number |
//! | 16 | 4 | generation: how often the file has been used before |
//! | 20 | 4 | block size of the directory, bytes |
//! | 24 | 8 | length of the file, bytes |
//! | 32 | 28 | zero |
//! | 60 | 4 | seeded (secret, number, 0) CRC32C of 0..60 |

use super::{
    FORMAT, FormatError, check_start, check_version, put_u16, put_u32, put_u64, u16_at, u32_at,
    u64_at,
};
use crate::crc::{Seed, seeded};

pub const MAGIC: u32 = u32::from_le_bytes(*b"CLSG");
/// Length of the structure, bytes; the rest of the first block is zero.
pub const HEADER_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub shard: u16,
    pub number: u64,
    pub generation: u32,
    pub unit: u32,
    pub bytes: u64,
}

impl SegmentHeader {
    pub fn encode(&self, secret: &[u8; 16], to: &mut [u8]) {
        let to = &mut to[..HEADER_BYTES];
        to.fill(0);
        put_u32(to, 0, MAGIC);
        put_u16(to, 4, FORMAT);
        put_u16(to, 6, self.shard);
        put_u64(to, 8, self.number);
        put_u32(to, 16, self.generation);
        put_u32(to, 20, self.unit);
        put_u64(to, 24, self.bytes);
        let crc = seeded(&Seed { secret: *secret, number: self.number, offset: 0 }, &to[..60]);
        put_u32(to, 60, crc);
    }

    /// Reads the header of segment `number`.
    ///
    /// # Errors
    /// Whatever is not the header of this very segment of this directory.
    pub fn parse(bytes: &[u8], secret: &[u8; 16], number: u64) -> Result<Self, FormatError> {
        let from = bytes.get(..HEADER_BYTES).ok_or(FormatError::Short)?;
        check_start(from, MAGIC)?;
        if seeded(&Seed { secret: *secret, number, offset: 0 }, &from[..60]) != u32_at(from, 60) {
            return Err(FormatError::Checksum);
        }
        check_version(from)?;
        Ok(Self {
            shard: u16_at(from, 6),
            number: u64_at(from, 8),
            generation: u32_at(from, 16),
            unit: u32_at(from, 20),
            bytes: u64_at(from, 24),
        })
    }
}

/// What a header says of itself, whosever file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub shard: u16,
    pub number: u64,
    /// Its checksum is made with this directory's secret.
    pub is_of_this_directory: bool,
}

impl Claim {
    /// `None` where there is no segment's header at all.
    pub fn read(bytes: &[u8], secret: &[u8; 16]) -> Option<Self> {
        let from = bytes.get(..HEADER_BYTES)?;
        check_start(from, MAGIC).ok()?;
        let number = u64_at(from, 8);
        Some(Self {
            shard: u16_at(from, 6),
            number,
            is_of_this_directory: SegmentHeader::parse(from, secret, number).is_ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hex;

    #[test]
    fn golden_bytes() {
        let header =
            SegmentHeader { shard: 1, number: 2, generation: 3, unit: 4096, bytes: 0x1000_0000 };
        let mut bytes = [0xff; HEADER_BYTES];
        header.encode(&[9; 16], &mut bytes);
        assert_eq!(
            hex(&bytes[..32]),
            "434c534701000100020000000000000003000000001000000000001000000000"
        );
        assert_eq!(SegmentHeader::parse(&bytes, &[9; 16], 2), Ok(header));
        assert_eq!(SegmentHeader::parse(&bytes, &[9; 16], 3), Err(FormatError::Checksum));
        let own = Claim { shard: 1, number: 2, is_of_this_directory: true };
        assert_eq!(Claim::read(&bytes, &[9; 16]), Some(own));
        let foreign = Claim { is_of_this_directory: false, ..own };
        assert_eq!(Claim::read(&bytes, &[8; 16]), Some(foreign));
        assert_eq!(Claim::read(&[0; HEADER_BYTES], &[9; 16]), None);
    }
}
