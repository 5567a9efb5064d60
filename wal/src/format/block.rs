//! A block: one group commit. Header, payloads, entry table, zero padding.
//!
//! | at | bytes | field of the header |
//! |---|---|---|
//! | 0 | 4 | magic `CLBK` |
//! | 4 | 2 | format |
//! | 6 | 2 | flags, zero |
//! | 8 | 2 | shard |
//! | 10 | 2 | zero |
//! | 12 | 4 | generation: how often the segment has been used before |
//! | 16 | 8 | segment number |
//! | 24 | 4 | incarnation: raised at every opening of the log |
//! | 28 | 4 | entries in the table |
//! | 32 | 8 | sequence: 1 for a log's first block, then one more each |
//! | 40 | 8 | term, 0 |
//! | 48 | 8 | index: the sequence for now |
//! | 56 | 8 | LSN of the first entry (of the next one when there is none) |
//! | 64 | 8 | durable up to this LSN when the block was handed to the disk |
//! | 72 | 4 | bytes of all payloads |
//! | 76 | 4 | where the table begins: 128 + payload bytes |
//! | 80 | 4 | length of the block with padding |
//! | 84 | 4 | CRC32C of payloads and table |
//! | 88 | 4 | CRC32C of the table |
//! | 92 | 4 | header checksum of the block before; 0 for a log's first |
//! | 96 | 28 | zero |
//! | 124 | 4 | header checksum: seeded (secret, segment, place in the segment) CRC32C of 0..124 |

use bytes::Bytes;

use super::entry::{EntryRecord, RECORD_BYTES};
use super::{
    FORMAT, FormatError, check_start, check_version, put_u16, put_u32, put_u64, u16_at, u32_at,
    u64_at,
};
use crate::crc::{Seed, crc32c, seeded};

/// `CLBK`, read as a little-endian number.
pub const MAGIC: u32 = u32::from_le_bytes(*b"CLBK");
/// Length of a block's header, bytes.
pub const HEADER_BYTES: usize = 128;

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub shard: u16,
    pub generation: u32,
    pub segment: u64,
    pub incarnation: u32,
    pub entries: u32,
    pub sequence: u64,
    pub term: u64,
    pub index: u64,
    pub first_lsn: u64,
    pub durable_lsn: u64,
    pub payload_bytes: u32,
    /// The whole block with its padding.
    pub block_bytes: u32,
    pub body_crc: u32,
    pub table_crc: u32,
    pub previous_crc: u32,
}

/// The padded length of a block, bytes. `unit` is a power of two, which saves a division for every
/// entry.
#[inline]
pub fn padded_bytes(payload_bytes: usize, entries: usize, unit: usize) -> usize {
    debug_assert!(unit.is_power_of_two());
    (HEADER_BYTES + payload_bytes + entries * RECORD_BYTES + unit - 1) & !(unit - 1)
}

impl BlockHeader {
    /// Where the table begins in the block.
    pub fn table_offset(&self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }

    /// Where the table ends and the padding begins.
    pub fn body_end(&self) -> usize {
        self.table_offset() + self.entries as usize * RECORD_BYTES
    }

    /// The LSN of the last entry; of the last one before when the block has none.
    pub fn last_lsn(&self) -> u64 {
        self.first_lsn + u64::from(self.entries) - 1
    }

    /// Writes the header and returns its checksum, which the next block repeats.
    pub fn encode(&self, secret: &[u8; 16], offset: u64, to: &mut [u8]) -> u32 {
        let to = &mut to[..HEADER_BYTES];
        to.fill(0);
        put_u32(to, 0, MAGIC);
        put_u16(to, 4, FORMAT);
        put_u16(to, 8, self.shard);
        put_u32(to, 12, self.generation);
        put_u64(to, 16, self.segment);
        put_u32(to, 24, self.incarnation);
        put_u32(to, 28, self.entries);
        put_u64(to, 32, self.sequence);
        put_u64(to, 40, self.term);
        put_u64(to, 48, self.index);
        put_u64(to, 56, self.first_lsn);
        put_u64(to, 64, self.durable_lsn);
        put_u32(to, 72, self.payload_bytes);
        put_u32(to, 76, self.table_offset() as u32);
        put_u32(to, 80, self.block_bytes);
        put_u32(to, 84, self.body_crc);
        put_u32(to, 88, self.table_crc);
        put_u32(to, 92, self.previous_crc);
        let crc = seeded(&Seed { secret: *secret, number: self.segment, offset }, &to[..124]);
        put_u32(to, 124, crc);
        crc
    }

    /// Reads the header at `offset` of segment `segment`; with it its checksum.
    ///
    /// # Errors
    /// Whatever is not a header written for this very place, or whose lengths contradict each
    /// other. `unit` is the block size of the directory.
    pub fn parse(
        bytes: &[u8],
        secret: &[u8; 16],
        segment: u64,
        offset: u64,
        unit: usize,
    ) -> Result<(Self, u32), FormatError> {
        let from = bytes.get(..HEADER_BYTES).ok_or(FormatError::Short)?;
        check_start(from, MAGIC)?;
        let crc = u32_at(from, 124);
        if seeded(&Seed { secret: *secret, number: segment, offset }, &from[..124]) != crc {
            return Err(FormatError::Checksum);
        }
        check_version(from)?;
        let header = Self {
            shard: u16_at(from, 8),
            generation: u32_at(from, 12),
            segment: u64_at(from, 16),
            incarnation: u32_at(from, 24),
            entries: u32_at(from, 28),
            sequence: u64_at(from, 32),
            term: u64_at(from, 40),
            index: u64_at(from, 48),
            first_lsn: u64_at(from, 56),
            durable_lsn: u64_at(from, 64),
            payload_bytes: u32_at(from, 72),
            block_bytes: u32_at(from, 80),
            body_crc: u32_at(from, 84),
            table_crc: u32_at(from, 88),
            previous_crc: u32_at(from, 92),
        };
        header.check(u32_at(from, 76), segment, unit)?;
        Ok((header, crc))
    }

    fn check(&self, table_offset: u32, segment: u64, unit: usize) -> Result<(), FormatError> {
        let payload = u64::from(self.payload_bytes);
        let body = HEADER_BYTES as u64 + payload + u64::from(self.entries) * RECORD_BYTES as u64;
        let padded = body.next_multiple_of(unit as u64);
        if self.segment != segment {
            return Err(FormatError::Impossible("segment number"));
        }
        if u64::from(table_offset) != HEADER_BYTES as u64 + payload {
            return Err(FormatError::Impossible("table offset"));
        }
        if padded != u64::from(self.block_bytes) {
            return Err(FormatError::Impossible("length"));
        }
        if self.first_lsn == 0 || self.first_lsn.checked_add(self.entries.into()).is_none() {
            return Err(FormatError::Impossible("first LSN"));
        }
        Ok(())
    }
}

/// A block whose header was parsed, with its bytes.
#[derive(Clone, Debug)]
pub struct Block {
    pub header: BlockHeader,
    /// The checksum that the next block repeats.
    pub header_crc: u32,
    /// The whole block.
    pub bytes: Bytes,
}

impl Block {
    /// Whether payloads and table match their checksum, every payload lies inside and the
    /// padding is zero.
    pub fn body_is_good(&self) -> bool {
        let end = self.header.body_end();
        self.bytes.len() == self.header.block_bytes as usize
            && crc32c(&self.bytes[HEADER_BYTES..end]) == self.header.body_crc
            && self.bytes[end..].iter().all(|b| *b == 0)
            && self.table_is_good()
    }

    /// Whether the table matches its checksum and describes exactly the payloads.
    pub fn table_is_good(&self) -> bool {
        if self.bytes.len() < self.header.body_end() {
            return false;
        }
        let table = &self.bytes[self.header.table_offset()..self.header.body_end()];
        let payloads: u64 = self.records().map(|record| u64::from(record.payload_bytes)).sum();
        crc32c(table) == self.header.table_crc && payloads == u64::from(self.header.payload_bytes)
    }

    /// The records of the table in order.
    pub fn records(&self) -> impl Iterator<Item = EntryRecord> + '_ {
        records(&self.header, &self.bytes)
    }

    /// Every entry's record with the range of its payload in the block. The table must be good.
    pub fn entries(&self) -> impl Iterator<Item = (EntryRecord, std::ops::Range<usize>)> + '_ {
        let mut at = HEADER_BYTES;
        self.records().map(move |record| {
            let start = at;
            at += record.payload_bytes as usize;
            (record, start..at)
        })
    }
}

/// The records of the table of a block's bytes.
pub fn records<'a>(
    header: &BlockHeader,
    bytes: &'a [u8],
) -> impl Iterator<Item = EntryRecord> + use<'a> {
    let (table, _) = bytes[header.table_offset()..header.body_end()].as_chunks::<RECORD_BYTES>();
    table.iter().map(EntryRecord::decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hex;

    const SECRET: [u8; 16] = *b"0123456789abcdef";

    fn header() -> BlockHeader {
        BlockHeader {
            shard: 3,
            generation: 4,
            segment: 5,
            incarnation: 6,
            entries: 2,
            sequence: 7,
            term: 0,
            index: 7,
            first_lsn: 8,
            durable_lsn: 9,
            payload_bytes: 100,
            block_bytes: 4096,
            body_crc: 0x0a0b_0c0d,
            table_crc: 0x1a1b_1c1d,
            previous_crc: 0x2a2b_2c2d,
        }
    }

    #[test]
    fn golden_header() {
        let mut bytes = [0xff; HEADER_BYTES];
        let crc = header().encode(&SECRET, 4096, &mut bytes);
        assert_eq!(
            hex(&bytes[..96]),
            "434c424b010000000300000004000000050000000000000006000000020000000700000000000000\
             00000000000000000700000000000000080000000000000009000000000000006400000\
             0e4000000001000000d0c0b0a1d1c1b1a2d2c2b2a"
        );
        assert_eq!(bytes[96..124], [0; 28]);
        assert_eq!(u32_at(&bytes, 124), crc);
        let parsed = BlockHeader::parse(&bytes, &SECRET, 5, 4096, 4096);
        assert_eq!(parsed, Ok((header(), crc)));
    }

    #[test]
    fn a_header_is_good_in_one_place_only() {
        let mut bytes = [0; HEADER_BYTES];
        header().encode(&SECRET, 4096, &mut bytes);
        let parse = |secret: &[u8; 16], segment, offset| {
            BlockHeader::parse(&bytes, secret, segment, offset, 4096).map(|_| ())
        };
        assert_eq!(parse(&SECRET, 5, 8192), Err(FormatError::Checksum));
        assert_eq!(parse(&SECRET, 6, 4096), Err(FormatError::Checksum));
        assert_eq!(parse(&[0; 16], 5, 4096), Err(FormatError::Checksum));
        assert_eq!(parse(&SECRET, 5, 4096), Ok(()));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut bytes = [0; HEADER_BYTES];
        header().encode(&SECRET, 0, &mut bytes);
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::parse(&bytes, &SECRET, 5, 0, 4096).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
