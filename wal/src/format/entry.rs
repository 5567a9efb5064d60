//! An entry's record in the table of its block.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind: the host's, not looked at |
//! | 1 | 1 | flags: bit 0 "frees space" |
//! | 2 | 2 | zero |
//! | 4 | 4 | stream; 0: none |
//! | 8 | 4 | payload bytes |
//! | 12 | 4 | CRC32C of the payload |
//! | 16 | 8 | base offset |
//! | 24 | 8 | time, Unix milliseconds, signed |
//! | 32 | 4 | records: offsets that the entry takes; 0: not a batch, readers pass over it |
//! | 36 | 4 | zero |

pub use model::EntryHead;
use model::StreamId;

use super::{i64_at, put_i64, put_u64, u32_at, u64_at};

/// Length of a record in the table, bytes.
pub const RECORD_BYTES: usize = 40;
/// Flag: the entry may be written when the disk is full, since it lets space be freed.
pub const FREES_SPACE: u8 = EntryHead::FLAG_FREES_SPACE;

/// One record of a block's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRecord {
    pub head: EntryHead,
    pub payload_bytes: u32,
    pub payload_crc: u32,
}

impl EntryRecord {
    /// The record's bytes.
    #[inline]
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let EntryHead { kind, flags, stream, base_offset, records, time_ms } = self.head;
        let mut bytes = [0; RECORD_BYTES];
        // Two fields at a time: what is written in smaller pieces than it is copied in is waited for.
        put_u64(&mut bytes, 0, pair(u32::from(kind) | u32::from(flags) << 8, stream.0));
        put_u64(&mut bytes, 8, pair(self.payload_bytes, self.payload_crc));
        put_u64(&mut bytes, 16, base_offset);
        put_i64(&mut bytes, 24, time_ms);
        put_u64(&mut bytes, 32, u64::from(records));
        bytes
    }

    /// Reads a record. The table's checksum says whether it is to be believed.
    #[inline]
    pub fn decode(from: &[u8; RECORD_BYTES]) -> Self {
        Self {
            head: EntryHead {
                kind: from[0],
                flags: from[1],
                stream: StreamId(u32_at(from, 4)),
                base_offset: u64_at(from, 16),
                time_ms: i64_at(from, 24),
                records: u32_at(from, 32),
            },
            payload_bytes: u32_at(from, 8),
            payload_crc: u32_at(from, 12),
        }
    }
}

#[inline]
fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hex;

    #[test]
    fn golden_bytes() {
        let record = EntryRecord {
            head: EntryHead {
                kind: 2,
                flags: FREES_SPACE,
                stream: StreamId(0x0102_0304),
                base_offset: 0x1112_1314_1516_1718,
                records: 0x2122_2324,
                time_ms: -2,
            },
            payload_bytes: 0x3132_3334,
            payload_crc: 0x4142_4344,
        };
        let bytes = record.to_bytes();
        assert_eq!(
            hex(&bytes),
            "0201000004030201343332314443424118171615141312\
             11feffffffffffffff2423222100000000"
        );
        assert_eq!(EntryRecord::decode(&bytes), record);
    }
}
