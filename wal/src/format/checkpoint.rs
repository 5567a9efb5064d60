//! A checkpoint's file: header block, pieces, padding, trailer block.
//!
//! Header (64 bytes, the rest of the block zero):
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `CLCK` |
//! | 4 | 2 | format |
//! | 6 | 2 | shard |
//! | 8 | 8 | LSN of the last entry appended when it was begun |
//! | 16 | 44 | zero |
//! | 60 | 4 | seeded (secret, begin LSN, 0) CRC32C of 0..60 |
//!
//! Each piece: length u32, then its bytes. After the last piece zeros up to the block size.
//!
//! Trailer (64 bytes, the rest of the block zero), in the file's last block:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `CLCT` |
//! | 4 | 2 | format |
//! | 6 | 2 | shard |
//! | 8 | 8 | LSN at its begin |
//! | 16 | 8 | LSN at its end |
//! | 24 | 8 | bytes of all pieces with their lengths |
//! | 32 | 8 | number of pieces |
//! | 40 | 4 | CRC32C of the pieces with their lengths |
//! | 44 | 16 | zero |
//! | 60 | 4 | seeded (secret, begin LSN, 1) CRC32C of 0..60 |

use super::{
    FORMAT, FormatError, check_start, check_version, put_u16, put_u32, put_u64, u16_at, u32_at,
    u64_at,
};
use crate::crc::{Seed, seeded};

pub const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"CLCK");
pub const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"CLCT");
/// Length of header and of trailer, bytes.
pub const ENDS_BYTES: usize = 64;
/// Length of the number before each piece, bytes.
pub const PIECE_HEAD_BYTES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointHeader {
    pub shard: u16,
    pub start: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointTrailer {
    pub shard: u16,
    pub start: u64,
    pub end: u64,
    pub body_bytes: u64,
    pub pieces: u64,
    pub body_crc: u32,
}

impl CheckpointHeader {
    pub fn encode(&self, secret: &[u8; 16], to: &mut [u8]) {
        let to = &mut to[..ENDS_BYTES];
        to.fill(0);
        put_u32(to, 0, HEADER_MAGIC);
        put_u16(to, 4, FORMAT);
        put_u16(to, 6, self.shard);
        put_u64(to, 8, self.start);
        let crc = seeded(&Seed { secret: *secret, number: self.start, offset: 0 }, &to[..60]);
        put_u32(to, 60, crc);
    }

    /// # Errors
    /// Whatever is not the header of a checkpoint of this directory.
    pub fn parse(bytes: &[u8], secret: &[u8; 16]) -> Result<Self, FormatError> {
        let from = ends(bytes, HEADER_MAGIC, secret, 0)?;
        Ok(Self { shard: u16_at(from, 6), start: u64_at(from, 8) })
    }
}

impl CheckpointTrailer {
    pub fn encode(&self, secret: &[u8; 16], to: &mut [u8]) {
        let to = &mut to[..ENDS_BYTES];
        to.fill(0);
        put_u32(to, 0, TRAILER_MAGIC);
        put_u16(to, 4, FORMAT);
        put_u16(to, 6, self.shard);
        put_u64(to, 8, self.start);
        put_u64(to, 16, self.end);
        put_u64(to, 24, self.body_bytes);
        put_u64(to, 32, self.pieces);
        put_u32(to, 40, self.body_crc);
        let crc = seeded(&Seed { secret: *secret, number: self.start, offset: 1 }, &to[..60]);
        put_u32(to, 60, crc);
    }

    /// # Errors
    /// Whatever is not the trailer of a checkpoint of this directory.
    pub fn parse(bytes: &[u8], secret: &[u8; 16]) -> Result<Self, FormatError> {
        let from = ends(bytes, TRAILER_MAGIC, secret, 1)?;
        let trailer = Self {
            shard: u16_at(from, 6),
            start: u64_at(from, 8),
            end: u64_at(from, 16),
            body_bytes: u64_at(from, 24),
            pieces: u64_at(from, 32),
            body_crc: u32_at(from, 40),
        };
        if trailer.end < trailer.start {
            return Err(FormatError::Impossible("last LSN"));
        }
        Ok(trailer)
    }
}

fn ends<'a>(
    bytes: &'a [u8],
    magic: u32,
    secret: &[u8; 16],
    offset: u64,
) -> Result<&'a [u8], FormatError> {
    let from = bytes.get(..ENDS_BYTES).ok_or(FormatError::Short)?;
    check_start(from, magic)?;
    let seed = Seed { secret: *secret, number: u64_at(from, 8), offset };
    if seeded(&seed, &from[..60]) != u32_at(from, 60) {
        return Err(FormatError::Checksum);
    }
    check_version(from)?;
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hex;

    #[test]
    fn golden_bytes() {
        let header = CheckpointHeader { shard: 1, start: 2 };
        let mut bytes = [0xff; ENDS_BYTES];
        header.encode(&[5; 16], &mut bytes);
        assert_eq!(hex(&bytes[..16]), "434c434b010001000200000000000000");
        assert_eq!(CheckpointHeader::parse(&bytes, &[5; 16]), Ok(header));

        let trailer =
            CheckpointTrailer { shard: 1, start: 2, end: 3, body_bytes: 4, pieces: 5, body_crc: 6 };
        trailer.encode(&[5; 16], &mut bytes);
        assert_eq!(
            hex(&bytes[..44]),
            "434c43540100010002000000000000000300000000000000040000000000000005000000000000000600\
             0000"
        );
        assert_eq!(CheckpointTrailer::parse(&bytes, &[5; 16]), Ok(trailer));
        assert_eq!(CheckpointTrailer::parse(&bytes, &[6; 16]), Err(FormatError::Checksum));
        assert_eq!(CheckpointHeader::parse(&bytes, &[5; 16]), Err(FormatError::NoMagic));
    }
}
