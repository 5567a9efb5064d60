//! A sealed segment's footer: which streams it holds and where. The file's last bytes.
//!
//! The body (stream records, index entries, labels) begins on a block; after it zeros; the
//! trailer is the last 128 bytes of the file.
//!
//! | at | bytes | field of the trailer |
//! |---|---|---|
//! | 0 | 4 | magic `CLFT` |
//! | 4 | 2 | format |
//! | 6 | 2 | shard |
//! | 8 | 8 | segment number |
//! | 16 | 4 | generation |
//! | 20 | 4 | where the body begins in the file |
//! | 24 | 4 | bytes of the body |
//! | 28 | 4 | stream records |
//! | 32 | 4 | index entries |
//! | 36 | 4 | bytes of labels |
//! | 40 | 4 | CRC32C of the body |
//! | 44 | 4 | where the blocks end |
//! | 48 | 8 | LSN of the first entry |
//! | 56 | 8 | LSN of the last entry |
//! | 64 | 8 | sequence of the last block |
//! | 72 | 4 | header checksum of the last block |
//! | 76 | 48 | zero |
//! | 124 | 4 | seeded (secret, number, 0xffff_ffff) CRC32C of 0..124 |
//!
//! | at | bytes | field of a stream record (in order of the streams) |
//! |---|---|---|
//! | 0 | 4 | stream |
//! | 4 | 4 | its first index entry |
//! | 8 | 4 | number of its index entries |
//! | 12 | 4 | where its label begins among the labels |
//! | 16 | 4 | bytes of its label |
//! | 20 | 4 | number of its batches |
//! | 24 | 8 | base offset of its first batch |
//! | 32 | 8 | its last offset |
//! | 40 | 8 | payload bytes of its batches |
//! | 48 | 8 | newest time of its batches |
//!
//! | at | bytes | field of an index entry |
//! |---|---|---|
//! | 0 | 8 | base offset of the stream's first batch in the block |
//! | 8 | 8 | newest time of the stream's batches in the segment before this block |
//! | 16 | 4 | where the block begins |
//! | 20 | 4 | length of the block |

use model::StreamId;

use super::{
    FORMAT, FormatError, check_start, check_version, i64_at, put_i64, put_u16, put_u32, put_u64,
    u16_at, u32_at, u64_at,
};
use crate::crc::{Seed, crc32c, seeded};

pub const MAGIC: u32 = u32::from_le_bytes(*b"CLFT");
pub const TRAILER_BYTES: usize = 128;
pub const STREAM_BYTES: usize = 56;
pub const INDEX_BYTES: usize = 24;
/// Stands for the place in the seed: the trailer's own depends on the file's length.
const SEED_OFFSET: u64 = 0xffff_ffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterTrailer {
    pub shard: u16,
    pub number: u64,
    pub generation: u32,
    pub body_offset: u32,
    pub body_bytes: u32,
    pub streams: u32,
    pub index_entries: u32,
    pub label_bytes: u32,
    pub body_crc: u32,
    pub data_end: u32,
    pub first_lsn: u64,
    pub last_lsn: u64,
    pub last_sequence: u64,
    pub last_crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    pub stream: StreamId,
    pub index_start: u32,
    pub index_entries: u32,
    pub label_start: u32,
    pub label_bytes: u32,
    pub batches: u32,
    pub first_offset: u64,
    pub last_offset: u64,
    pub bytes: u64,
    pub max_time_ms: i64,
}

/// Where batches of a stream are found: in this block or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub offset: u64,
    /// `i64::MIN` when there is none before.
    pub time_before_ms: i64,
    pub block: u32,
    pub block_bytes: u32,
}

impl FooterTrailer {
    pub fn encode(&self, secret: &[u8; 16], to: &mut [u8; TRAILER_BYTES]) {
        to.fill(0);
        put_u32(to, 0, MAGIC);
        put_u16(to, 4, FORMAT);
        put_u16(to, 6, self.shard);
        put_u64(to, 8, self.number);
        put_u32(to, 16, self.generation);
        put_u32(to, 20, self.body_offset);
        put_u32(to, 24, self.body_bytes);
        put_u32(to, 28, self.streams);
        put_u32(to, 32, self.index_entries);
        put_u32(to, 36, self.label_bytes);
        put_u32(to, 40, self.body_crc);
        put_u32(to, 44, self.data_end);
        put_u64(to, 48, self.first_lsn);
        put_u64(to, 56, self.last_lsn);
        put_u64(to, 64, self.last_sequence);
        put_u32(to, 72, self.last_crc);
        let seed = Seed { secret: *secret, number: self.number, offset: SEED_OFFSET };
        let crc = seeded(&seed, &to[..124]);
        put_u32(to, 124, crc);
    }

    /// Reads the trailer from the last bytes of segment `number`, a file of `file_bytes`.
    ///
    /// # Errors
    /// Whatever is not the trailer of this segment, or whose lengths contradict each other.
    pub fn parse(
        last_bytes: &[u8],
        secret: &[u8; 16],
        number: u64,
        file_bytes: u64,
    ) -> Result<Self, FormatError> {
        let from = last_bytes.last_chunk::<TRAILER_BYTES>().ok_or(FormatError::Short)?;
        check_start(from, MAGIC)?;
        let seed = Seed { secret: *secret, number, offset: SEED_OFFSET };
        if seeded(&seed, &from[..124]) != u32_at(from, 124) {
            return Err(FormatError::Checksum);
        }
        check_version(from)?;
        let trailer = Self {
            shard: u16_at(from, 6),
            number: u64_at(from, 8),
            generation: u32_at(from, 16),
            body_offset: u32_at(from, 20),
            body_bytes: u32_at(from, 24),
            streams: u32_at(from, 28),
            index_entries: u32_at(from, 32),
            label_bytes: u32_at(from, 36),
            body_crc: u32_at(from, 40),
            data_end: u32_at(from, 44),
            first_lsn: u64_at(from, 48),
            last_lsn: u64_at(from, 56),
            last_sequence: u64_at(from, 64),
            last_crc: u32_at(from, 72),
        };
        trailer.check(file_bytes)?;
        Ok(trailer)
    }

    fn check(&self, file_bytes: u64) -> Result<(), FormatError> {
        let parts = u64::from(self.streams) * STREAM_BYTES as u64
            + u64::from(self.index_entries) * INDEX_BYTES as u64
            + u64::from(self.label_bytes);
        let end = u64::from(self.body_offset) + u64::from(self.body_bytes);
        if parts != u64::from(self.body_bytes) {
            return Err(FormatError::Impossible("length of the body"));
        }
        if self.data_end > self.body_offset || end + TRAILER_BYTES as u64 > file_bytes {
            return Err(FormatError::Impossible("place of the body"));
        }
        Ok(())
    }
}

/// A footer's body, read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FooterBody {
    pub streams: Vec<StreamRecord>,
    pub index: Vec<IndexEntry>,
    pub labels: Vec<u8>,
}

impl FooterBody {
    pub fn encoded_bytes(&self) -> usize {
        self.streams.len() * STREAM_BYTES + self.index.len() * INDEX_BYTES + self.labels.len()
    }

    /// Writes the body to the front of `to` and returns its checksum.
    pub fn encode(&self, to: &mut [u8]) -> u32 {
        let to = &mut to[..self.encoded_bytes()];
        let (streams, rest) = to.split_at_mut(self.streams.len() * STREAM_BYTES);
        let (index, labels) = rest.split_at_mut(self.index.len() * INDEX_BYTES);
        for (record, to) in self.streams.iter().zip(streams.as_chunks_mut::<STREAM_BYTES>().0) {
            record.encode(to);
        }
        for (entry, to) in self.index.iter().zip(index.as_chunks_mut::<INDEX_BYTES>().0) {
            entry.encode(to);
        }
        labels.copy_from_slice(&self.labels);
        crc32c(to)
    }

    /// Reads the body that a trailer describes.
    ///
    /// # Errors
    /// When the checksum does not match, or records point outside.
    pub fn parse(bytes: &[u8], trailer: &FooterTrailer) -> Result<Self, FormatError> {
        let from = bytes.get(..trailer.body_bytes as usize).ok_or(FormatError::Short)?;
        if crc32c(from) != trailer.body_crc {
            return Err(FormatError::Checksum);
        }
        let (streams, rest) = from.split_at(trailer.streams as usize * STREAM_BYTES);
        let (index, labels) = rest.split_at(trailer.index_entries as usize * INDEX_BYTES);
        let body = Self {
            streams: streams.as_chunks().0.iter().map(StreamRecord::decode).collect(),
            index: index.as_chunks().0.iter().map(IndexEntry::decode).collect(),
            labels: labels.to_vec(),
        };
        let inside = |r: &StreamRecord| {
            u64::from(r.index_start) + u64::from(r.index_entries) <= body.index.len() as u64
                && u64::from(r.label_start) + u64::from(r.label_bytes) <= body.labels.len() as u64
                && r.index_entries > 0
        };
        if !body.streams.iter().all(inside) {
            return Err(FormatError::Impossible("stream record"));
        }
        if !body.streams.is_sorted_by(|a, b| a.stream < b.stream) {
            return Err(FormatError::Impossible("order of streams"));
        }
        Ok(body)
    }

    /// What a stream is called.
    pub fn label(&self, record: &StreamRecord) -> &[u8] {
        let start = record.label_start as usize;
        self.labels.get(start..start + record.label_bytes as usize).unwrap_or_default()
    }
}

impl StreamRecord {
    fn encode(&self, to: &mut [u8; STREAM_BYTES]) {
        put_u32(to, 0, self.stream.0);
        put_u32(to, 4, self.index_start);
        put_u32(to, 8, self.index_entries);
        put_u32(to, 12, self.label_start);
        put_u32(to, 16, self.label_bytes);
        put_u32(to, 20, self.batches);
        put_u64(to, 24, self.first_offset);
        put_u64(to, 32, self.last_offset);
        put_u64(to, 40, self.bytes);
        put_i64(to, 48, self.max_time_ms);
    }

    fn decode(from: &[u8; STREAM_BYTES]) -> Self {
        Self {
            stream: StreamId(u32_at(from, 0)),
            index_start: u32_at(from, 4),
            index_entries: u32_at(from, 8),
            label_start: u32_at(from, 12),
            label_bytes: u32_at(from, 16),
            batches: u32_at(from, 20),
            first_offset: u64_at(from, 24),
            last_offset: u64_at(from, 32),
            bytes: u64_at(from, 40),
            max_time_ms: i64_at(from, 48),
        }
    }
}

impl IndexEntry {
    fn encode(&self, to: &mut [u8; INDEX_BYTES]) {
        put_u64(to, 0, self.offset);
        put_i64(to, 8, self.time_before_ms);
        put_u32(to, 16, self.block);
        put_u32(to, 20, self.block_bytes);
    }

    fn decode(from: &[u8; INDEX_BYTES]) -> Self {
        Self {
            offset: u64_at(from, 0),
            time_before_ms: i64_at(from, 8),
            block: u32_at(from, 16),
            block_bytes: u32_at(from, 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hex;

    fn body() -> FooterBody {
        FooterBody {
            streams: vec![StreamRecord {
                stream: StreamId(1),
                index_start: 0,
                index_entries: 1,
                label_start: 0,
                label_bytes: 2,
                batches: 3,
                first_offset: 4,
                last_offset: 5,
                bytes: 6,
                max_time_ms: 7,
            }],
            index: vec![IndexEntry {
                offset: 8,
                time_before_ms: i64::MIN,
                block: 4096,
                block_bytes: 8192,
            }],
            labels: b"ab".to_vec(),
        }
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = vec![0xff; body().encoded_bytes()];
        let crc = body().encode(&mut bytes);
        assert_eq!(
            hex(&bytes),
            "01000000000000000100000000000000020000000300000004000000000000000500000000000000\
             0600000000000000070000000000000008000000000000000000000000000080001000000020000\
             06162"
        );
        let trailer = FooterTrailer {
            shard: 1,
            number: 2,
            generation: 3,
            body_offset: 16384,
            body_bytes: bytes.len() as u32,
            streams: 1,
            index_entries: 1,
            label_bytes: 2,
            body_crc: crc,
            data_end: 12288,
            first_lsn: 4,
            last_lsn: 5,
            last_sequence: 6,
            last_crc: 7,
        };
        let mut last = [0xff; TRAILER_BYTES];
        trailer.encode(&[3; 16], &mut last);
        assert_eq!(
            hex(&last[..40]),
            "434c46540100010002000000000000000300000000400000520000000100000001000000\
             02000000"
        );
        assert_eq!(FooterTrailer::parse(&last, &[3; 16], 2, 1 << 20), Ok(trailer));
        assert_eq!(FooterBody::parse(&bytes, &trailer), Ok(body()));
        assert_eq!(body().label(&body().streams[0]), b"ab");
        bytes[60] ^= 1;
        assert_eq!(FooterBody::parse(&bytes, &trailer), Err(FormatError::Checksum));
    }
}
