//! The manifest: which segments and checkpoints the log is made of. Two files take turns.
//!
//! | at | bytes | field of the header |
//! |---|---|---|
//! | 0 | 4 | magic `CLMF` |
//! | 4 | 2 | format |
//! | 6 | 2 | shard |
//! | 8 | 8 | number: one more at every writing; even ones go to `manifest-0`, odd to `manifest-1` |
//! | 16 | 4 | incarnation |
//! | 20 | 4 | block size of the directory, bytes |
//! | 24 | 8 | durable up to this LSN at least |
//! | 32 | 8 | the number the next new segment gets |
//! | 40 | 8 | how far beyond the log's end a write under way may reach, bytes |
//! | 48 | 16 | the newest checkpoint: LSN at its begin, LSN at its end; zeros without one |
//! | 64 | 16 | the older checkpoint, likewise |
//! | 80 | 4 | number of checkpoints: 0, 1, 2 |
//! | 84 | 4 | number of segments |
//! | 88 | 4 | CRC32C of the segment records |
//! | 92 | 32 | zero |
//! | 124 | 4 | seeded (secret, number, 0) CRC32C of 0..124 |
//!
//! Then a record of 64 bytes for each segment, in order of their numbers:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | number |
//! | 8 | 4 | generation |
//! | 12 | 1 | state: 1 pool, 2 active, 3 sealed, 4 dropped |
//! | 13 | 1 | bit 0: made of the reserve, and the reserve is not whole again; bit 1: sealed without a footer |
//! | 14 | 2 | zero |
//! | 16 | 8 | length of the file, bytes |
//! | 24 | 8 | LSN of the first entry; 0 in the pool |
//! | 32 | 8 | LSN of the last entry; 0 until sealed |
//! | 40 | 8 | sequence of the first block; 0 in the pool |
//! | 48 | 4 | header checksum of the block before the first |
//! | 52 | 4 | where the blocks end; 0 until sealed |
//! | 56 | 4 | bytes from the start that have been written at least once |
//! | 60 | 4 | zero |

use super::{
    FORMAT, FormatError, check_start, check_version, put_u16, put_u32, put_u64, u16_at, u32_at,
    u64_at,
};
use crate::crc::{Seed, crc32c, seeded};

pub const MAGIC: u32 = u32::from_le_bytes(*b"CLMF");
pub const HEADER_BYTES: usize = 128;
pub const RECORD_BYTES: usize = 64;

/// What a named segment is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentState {
    /// Ready; the log may have gone on into it since.
    Pool = 1,
    /// Being written; the log may have left it since.
    Active = 2,
    /// Full; its footer is written.
    Sealed = 3,
    /// Nothing in it is needed; the file is there or not.
    Dropped = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    pub number: u64,
    pub generation: u32,
    pub state: SegmentState,
    pub bytes: u64,
    pub first_lsn: u64,
    pub last_lsn: u64,
    pub first_sequence: u64,
    pub previous_crc: u32,
    pub data_end: u32,
    pub prepared_bytes: u32,
    /// Made of the reserve: on a full disk only for what lets it be got out of.
    pub from_reserve: bool,
    /// Sealed, and its footer could not be written or read: its blocks are read instead.
    pub footerless: bool,
}

/// A checkpoint's LSNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    pub start: u64,
    pub end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub shard: u16,
    pub number: u64,
    pub incarnation: u32,
    pub unit: u32,
    pub durable_lsn: u64,
    pub next_segment: u64,
    pub window_bytes: u64,
    /// The newest first; at most two.
    pub checkpoints: Vec<CheckpointRecord>,
    pub segments: Vec<SegmentRecord>,
}

impl Manifest {
    /// The slot that this number is written to.
    pub fn slot(number: u64) -> usize {
        (number % 2) as usize
    }

    /// Length of the manifest, bytes, without padding.
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.segments.len() * RECORD_BYTES
    }

    /// Writes the manifest to the front of `to`, which must be long enough.
    pub fn encode(&self, secret: &[u8; 16], to: &mut [u8]) {
        let (head, records) = to[..self.encoded_bytes()].split_at_mut(HEADER_BYTES);
        records.fill(0);
        for (record, to) in self.segments.iter().zip(records.as_chunks_mut::<RECORD_BYTES>().0) {
            record.encode(to);
        }
        head.fill(0);
        put_u32(head, 0, MAGIC);
        put_u16(head, 4, FORMAT);
        put_u16(head, 6, self.shard);
        put_u64(head, 8, self.number);
        put_u32(head, 16, self.incarnation);
        put_u32(head, 20, self.unit);
        put_u64(head, 24, self.durable_lsn);
        put_u64(head, 32, self.next_segment);
        put_u64(head, 40, self.window_bytes);
        for (i, checkpoint) in self.checkpoints.iter().take(2).enumerate() {
            put_u64(head, 48 + 16 * i, checkpoint.start);
            put_u64(head, 56 + 16 * i, checkpoint.end);
        }
        put_u32(head, 80, self.checkpoints.len().min(2) as u32);
        put_u32(head, 84, self.segments.len() as u32);
        put_u32(head, 88, crc32c(records));
        let seed = Seed { secret: *secret, number: self.number, offset: 0 };
        let crc = seeded(&seed, &head[..124]);
        put_u32(head, 124, crc);
    }

    /// Reads a manifest from the front of `bytes`.
    ///
    /// # Errors
    /// Whatever is not a whole manifest of this directory.
    pub fn parse(bytes: &[u8], secret: &[u8; 16]) -> Result<Self, FormatError> {
        let head = bytes.get(..HEADER_BYTES).ok_or(FormatError::Short)?;
        check_start(head, MAGIC)?;
        let number = u64_at(head, 8);
        let seed = Seed { secret: *secret, number, offset: 0 };
        if seeded(&seed, &head[..124]) != u32_at(head, 124) {
            return Err(FormatError::Checksum);
        }
        check_version(head)?;
        let count = u32_at(head, 84) as usize;
        let records_bytes =
            count.checked_mul(RECORD_BYTES).ok_or(FormatError::Impossible("segment count"))?;
        let records = bytes[HEADER_BYTES..].get(..records_bytes).ok_or(FormatError::Short)?;
        if crc32c(records) != u32_at(head, 88) {
            return Err(FormatError::Checksum);
        }
        let (records, _) = records.as_chunks::<RECORD_BYTES>();
        let segments: Vec<_> =
            records.iter().map(SegmentRecord::decode).collect::<Result<_, _>>()?;
        if !segments.is_sorted_by(|a, b| a.number < b.number) {
            return Err(FormatError::Impossible("order of segments"));
        }
        let checkpoints = match u32_at(head, 80) {
            kept @ 0..=2 => (0..kept as usize)
                .map(|i| CheckpointRecord {
                    start: u64_at(head, 48 + 16 * i),
                    end: u64_at(head, 56 + 16 * i),
                })
                .collect(),
            _ => return Err(FormatError::Impossible("number of checkpoints")),
        };
        let unit = u32_at(head, 20);
        if !unit.is_power_of_two() || !(4096..=1 << 20).contains(&unit) {
            return Err(FormatError::Impossible("block size"));
        }
        Ok(Self {
            shard: u16_at(head, 6),
            number,
            incarnation: u32_at(head, 16),
            unit,
            durable_lsn: u64_at(head, 24),
            next_segment: u64_at(head, 32),
            window_bytes: u64_at(head, 40),
            checkpoints,
            segments,
        })
    }
}

impl Manifest {
    /// Whether all is as it should be beside the checksum that needs the directory's secret: so
    /// looks a manifest of another directory.
    pub fn is_whole_but_for_the_secret(bytes: &[u8]) -> bool {
        let Some(head) = bytes.get(..HEADER_BYTES) else { return false };
        let records_bytes = (u32_at(head, 84) as usize).checked_mul(RECORD_BYTES);
        let records = records_bytes.and_then(|length| bytes[HEADER_BYTES..].get(..length));
        check_start(head, MAGIC).is_ok()
            && check_version(head).is_ok()
            && head[92..124].iter().all(|byte| *byte == 0)
            && records.is_some_and(|records| crc32c(records) == u32_at(head, 88))
    }
}

impl SegmentRecord {
    fn encode(&self, to: &mut [u8; RECORD_BYTES]) {
        put_u64(to, 0, self.number);
        put_u32(to, 8, self.generation);
        to[12] = self.state as u8;
        to[13] = u8::from(self.from_reserve) | u8::from(self.footerless) << 1;
        put_u64(to, 16, self.bytes);
        put_u64(to, 24, self.first_lsn);
        put_u64(to, 32, self.last_lsn);
        put_u64(to, 40, self.first_sequence);
        put_u32(to, 48, self.previous_crc);
        put_u32(to, 52, self.data_end);
        put_u32(to, 56, self.prepared_bytes);
    }

    fn decode(from: &[u8; RECORD_BYTES]) -> Result<Self, FormatError> {
        let state = match from[12] {
            1 => SegmentState::Pool,
            2 => SegmentState::Active,
            3 => SegmentState::Sealed,
            4 => SegmentState::Dropped,
            _ => return Err(FormatError::Impossible("segment state")),
        };
        let record = Self {
            number: u64_at(from, 0),
            generation: u32_at(from, 8),
            state,
            bytes: u64_at(from, 16),
            first_lsn: u64_at(from, 24),
            last_lsn: u64_at(from, 32),
            first_sequence: u64_at(from, 40),
            previous_crc: u32_at(from, 48),
            data_end: u32_at(from, 52),
            prepared_bytes: u32_at(from, 56),
            from_reserve: from[13] & 1 != 0,
            footerless: from[13] & 2 != 0,
        };
        if from[13] > 3 {
            return Err(FormatError::Impossible("marks of a segment"));
        }
        if record.bytes > crate::config::SEGMENT_BYTES_MAX
            || u64::from(record.data_end) > record.bytes
        {
            return Err(FormatError::Impossible("segment length"));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hex;

    fn manifest() -> Manifest {
        Manifest {
            shard: 1,
            number: 2,
            incarnation: 3,
            unit: 4096,
            durable_lsn: 5,
            next_segment: 6,
            window_bytes: 7,
            checkpoints: vec![CheckpointRecord { start: 8, end: 9 }],
            segments: vec![SegmentRecord {
                number: 10,
                generation: 11,
                state: SegmentState::Sealed,
                bytes: 0x10000,
                first_lsn: 13,
                last_lsn: 14,
                first_sequence: 15,
                previous_crc: 16,
                data_end: 17,
                prepared_bytes: 18,
                from_reserve: false,
                footerless: false,
            }],
        }
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = vec![0xff; manifest().encoded_bytes()];
        manifest().encode(&[1; 16], &mut bytes);
        assert_eq!(
            hex(&bytes[..88]),
            "434c4d460100010002000000000000000300000000100000050000000000000006000000000000000700\
             000000000000080000000000000009000000000000000000000000000000000000000000000001000000\
             01000000"
        );
        assert_eq!(
            hex(&bytes[128..]),
            "0a000000000000000b0000000300000000000100000000000d000000000000000e000000000000000f00\
             000000000000100000001100000012000000\
             00000000"
        );
        assert_eq!(Manifest::parse(&bytes, &[1; 16]), Ok(manifest()));
    }

    #[test]
    fn any_change_is_seen() {
        let mut bytes = vec![0; manifest().encoded_bytes()];
        manifest().encode(&[1; 16], &mut bytes);
        assert!(Manifest::parse(&bytes, &[2; 16]).is_err());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::parse(&bytes, &[1; 16]).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert!(Manifest::parse(&bytes[..len], &[1; 16]).is_err());
        }
    }
}
