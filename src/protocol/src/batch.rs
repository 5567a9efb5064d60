//! Kafka's RecordBatch v2, as the broker sees it: a header of 61 big-endian bytes and a record
//! section it never opens.
//!
//! The format is that of Apache Kafka's protocol guide, "Record Batch". The broker rewrites base
//! offset and leader epoch, which lie outside the checksum, and nothing else.

use std::ops::Range;

use model::limits::BATCH_BYTES_MAX;
use model::{ErrorCode, Rejection};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bits of the attributes that name the codec.
const CODEC_MASK: u16 = 0x07;
/// A record has at least attributes, two deltas, two lengths and a header count.
const RECORD_BYTES_MIN: usize = 6;
/// Where the base offset lies (i64); outside the checksum.
pub const BASE_OFFSET: Range<usize> = 0..8;
/// Where the leader epoch lies (i32); outside the checksum.
pub const LEADER_EPOCH: Range<usize> = 12..16;
/// Where the CRC32C lies (u32).
pub const CRC: Range<usize> = 17..21;
/// Where the producer's id lies (i64); negative: its batches are not numbered.
pub const PRODUCER_ID: Range<usize> = 43..51;
/// The checksum covers everything from here to the end of the batch.
pub const CRC_FROM: usize = 21;

/// Bytes of a batch that its length field does not count: base offset and the field itself.
const UNCOUNTED_BYTES: u32 = 12;
const MAGIC: u8 = 2;
const CODEC_BITS: u16 = 0b111;
const CODEC_MAX: u16 = 4;

/// The header of a batch. Offsets and counts are unsigned: negative ones were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: u64,
    /// The whole batch, bytes: 12 more than the length field on the wire says.
    pub batch_length: u32,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: u16,
    pub last_offset_delta: u32,
    /// Unix milliseconds.
    pub base_timestamp: i64,
    /// Unix milliseconds.
    pub max_timestamp: i64,
    /// -1: the producer is not idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: u32,
}

impl BatchHeader {
    /// Reads a header and checks all that can be checked without the records: magic, length,
    /// attributes, counts and the producer's fields.
    #[inline]
    pub fn parse(bytes: &[u8; BATCH_HEADER_BYTES]) -> Result<Self, BatchError> {
        let magic = bytes[16];
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        let counted = u32::from_be_bytes(field(bytes, 8));
        let least = BATCH_HEADER_BYTES as u32 - UNCOUNTED_BYTES;
        if counted < least {
            return Err(BatchError::LengthField { counted });
        }
        if counted > BATCH_BYTES_MAX - UNCOUNTED_BYTES {
            let bytes = u64::from(counted) + u64::from(UNCOUNTED_BYTES);
            return Err(BatchError::TooLarge { bytes });
        }
        let header = Self {
            base_offset: u64::from_be_bytes(field(bytes, 0)),
            batch_length: counted + UNCOUNTED_BYTES,
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: u16::from_be_bytes(field(bytes, 21)),
            last_offset_delta: u32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            records_count: u32::from_be_bytes(field(bytes, 57)),
        };
        header.check_fields()?;
        Ok(header)
    }

    fn check_fields(&self) -> Result<(), BatchError> {
        let Self { attributes, records_count, last_offset_delta, .. } = *self;
        if attributes & CODEC_BITS > CODEC_MAX || attributes & !CODEC_BITS != 0 {
            return Err(BatchError::Attributes { attributes });
        }
        let counts_agree = last_offset_delta.checked_add(1) == Some(records_count);
        if !counts_agree || records_count == 0 || records_count > i32::MAX as u32 {
            return Err(BatchError::RecordCount { records_count, last_offset_delta });
        }
        let Self { producer_id, producer_epoch, base_sequence, .. } = *self;
        let known = producer_id >= 0 && producer_epoch >= 0 && base_sequence >= 0;
        if producer_id != -1 && !known {
            return Err(BatchError::Producer { producer_id, producer_epoch, base_sequence });
        }
        Ok(())
    }

    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.base_offset.to_be_bytes());
        put(8, &self.batch_length.saturating_sub(UNCOUNTED_BYTES).to_be_bytes());
        put(12, &self.leader_epoch.to_be_bytes());
        put(16, &[MAGIC]);
        put(17, &self.crc.to_be_bytes());
        put(21, &self.attributes.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.to_be_bytes());
        put(35, &self.max_timestamp.to_be_bytes());
        put(43, &self.producer_id.to_be_bytes());
        put(51, &self.producer_epoch.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.records_count.to_be_bytes());
        bytes
    }

    /// The offset after this batch's last record.
    pub fn next_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.records_count))
    }

    /// Whether the producer numbers its batches, so that repeats can be told.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }
}

fn field<const N: usize>(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

/// Why bytes are not a batch that can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("a batch ends early: {missing} more bytes were expected")]
    Short { missing: u64 },
    #[error("{bytes} bytes follow the last batch")]
    Trailing { bytes: u64 },
    #[error("a batch's length field says {counted}; at least 49 is needed")]
    LengthField { counted: u32 },
    #[error("a batch has {bytes} bytes; at most 8388608 are allowed: send smaller batches")]
    TooLarge { bytes: u64 },
    #[error("a batch has the magic byte {magic}; only 2 is stored")]
    Magic { magic: u8 },
    #[error(
        "a batch has the attributes {attributes:#06x}; only the codecs 0 to 4 are stored, and no \
         other bit may be set"
    )]
    Attributes { attributes: u16 },
    #[error(
        "a batch says it has {records_count} records and a last offset delta of \
         {last_offset_delta}; the delta must be one less than the count"
    )]
    RecordCount { records_count: u32, last_offset_delta: u32 },
    #[error(
        "a batch has producer id {producer_id}, epoch {producer_epoch} and sequence \
         {base_sequence}; all must be 0 or more, or the id -1"
    )]
    Producer { producer_id: i64, producer_epoch: i16, base_sequence: i32 },
    #[error("a batch's CRC32C is {found:#010x}, its header says {expected:#010x}")]
    Crc { expected: u32, found: u32 },
    #[error(
        "the lengths of a batch's records do not add up to the {expected} records it announces"
    )]
    Records { expected: u32 },
    #[error("{found} batches were sent, {expected} announced")]
    BatchCount { expected: u32, found: u32 },
}

impl BatchError {
    /// The code that a server answers with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Crc { .. } => ErrorCode::CorruptBatch,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Attributes { .. } | Self::Producer { .. } => ErrorCode::InvalidArgument,
            _ => ErrorCode::Malformed,
        }
    }
}

impl From<BatchError> for Rejection {
    fn from(error: BatchError) -> Self {
        Rejection::new(error.code(), error.to_string())
    }
}

/// Checks one batch that lies in one piece: header, length and checksum.
#[inline]
pub fn check_whole_batch(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let missing = BATCH_HEADER_BYTES.saturating_sub(bytes.len()) as u64;
    let header = BatchHeader::parse(bytes.first_chunk().ok_or(BatchError::Short { missing })?)?;
    let length = header.batch_length as usize;
    let missing = length.saturating_sub(bytes.len()) as u64;
    let (batch, rest) = bytes.split_at_checked(length).ok_or(BatchError::Short { missing })?;
    check_whole(&header, batch)?;
    match rest.len() {
        0 => Ok(header),
        bytes => Err(BatchError::Trailing { bytes: bytes as u64 }),
    }
}

/// Checks one batch that lies in `parts`, one after the other: header, length and checksum.
pub fn check_batch(parts: &[&[u8]]) -> Result<BatchHeader, BatchError> {
    if let [whole] = parts {
        return check_whole_batch(whole);
    }
    let mut cursor = PartsCursor::new(parts);
    let header = cursor.next_batch()?;
    match cursor.remaining {
        0 => Ok(header),
        bytes => Err(BatchError::Trailing { bytes: bytes as u64 }),
    }
}

/// One checked batch among several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSpan {
    pub header: BatchHeader,
    /// Its bytes, counted over all parts.
    pub range: Range<usize>,
}

/// Checks the batches that lie in `parts` one after the other and gives them in order, ending after
/// the first error. `count`: how many there must be; `None` takes any number.
pub fn split_batches<'a>(parts: &'a [&'a [u8]], count: Option<u32>) -> BatchSplit<'a> {
    BatchSplit { cursor: PartsCursor::new(parts), at: 0, found: 0, expected: count, done: false }
}

/// Batches one after the other; see [`split_batches`].
#[derive(Clone, Debug)]
pub struct BatchSplit<'a> {
    cursor: PartsCursor<'a>,
    at: usize,
    found: u32,
    expected: Option<u32>,
    done: bool,
}

impl BatchSplit<'_> {
    fn next_span(&mut self) -> Result<Option<BatchSpan>, BatchError> {
        let at_end = self.cursor.remaining == 0;
        match self.expected {
            Some(expected) if at_end && self.found < expected => {
                return Err(BatchError::BatchCount { expected, found: self.found });
            }
            Some(expected) if !at_end && self.found == expected => {
                return Err(BatchError::Trailing { bytes: self.cursor.remaining as u64 });
            }
            _ if at_end => return Ok(None),
            _ => {}
        }
        let header = self.cursor.next_batch()?;
        let start = self.at;
        self.at += header.batch_length as usize;
        self.found += 1;
        Ok(Some(BatchSpan { header, range: start..self.at }))
    }
}

impl Iterator for BatchSplit<'_> {
    type Item = Result<BatchSpan, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_span().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A place in bytes that lie in several slices.
#[derive(Clone, Debug)]
struct PartsCursor<'a> {
    /// What is left of the current part.
    current: &'a [u8],
    /// The parts after it.
    later: &'a [&'a [u8]],
    remaining: usize,
}

impl<'a> PartsCursor<'a> {
    fn new(parts: &'a [&'a [u8]]) -> Self {
        let remaining = parts.iter().map(|part| part.len()).sum();
        let (current, later) = match parts {
            [first, later @ ..] => (*first, later),
            [] => (&[][..], parts),
        };
        Self { current, later, remaining }
    }

    /// Checks the batch at this place and moves behind it.
    #[inline]
    fn next_batch(&mut self) -> Result<BatchHeader, BatchError> {
        let header = self.peek_header()?;
        let length = header.batch_length as usize;
        if length > self.remaining {
            return Err(BatchError::Short { missing: (length - self.remaining) as u64 });
        }
        if let Some((batch, rest)) = self.current.split_at_checked(length) {
            check_whole(&header, batch)?;
            self.current = rest;
            self.remaining -= length;
            return Ok(header);
        }
        let mut records = self.clone();
        let found = self.checksum(length);
        if found != header.crc {
            return Err(BatchError::Crc { expected: header.crc, found });
        }
        if header.attributes & CODEC_MASK == 0 {
            records.count_records(&header)?;
        }
        Ok(header)
    }

    /// Steps over the records of an uncompressed batch by their lengths: a count that lies would
    /// take offsets that no record has. What a compressed batch holds only its reader can know.
    fn count_records(&mut self, header: &BatchHeader) -> Result<(), BatchError> {
        let lie = BatchError::Records { expected: header.records_count };
        let mut left = header.batch_length as usize - BATCH_HEADER_BYTES;
        self.advance(BATCH_HEADER_BYTES, |_| {});
        for _ in 0..header.records_count {
            let (record, prefix) = self.record_length().ok_or(lie)?;
            let whole = record.checked_add(prefix).filter(|whole| *whole <= left).ok_or(lie)?;
            if record < RECORD_BYTES_MIN {
                return Err(lie);
            }
            self.advance(record, |_| {});
            left -= whole;
        }
        if left == 0 { Ok(()) } else { Err(lie) }
    }

    /// A record's length, and how many bytes said so: a zigzag varint of at most five bytes.
    fn record_length(&mut self) -> Option<(usize, usize)> {
        let mut value = 0u64;
        for at in 0..5 {
            if self.remaining == 0 {
                return None;
            }
            let mut byte = 0;
            self.advance(1, |piece| byte = piece[0]);
            value |= u64::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                // Zigzag: an odd value is negative.
                return (value & 1 == 0).then_some(((value >> 1) as usize, at + 1));
            }
        }
        None
    }

    fn peek_header(&mut self) -> Result<BatchHeader, BatchError> {
        if self.remaining < BATCH_HEADER_BYTES {
            let missing = (BATCH_HEADER_BYTES - self.remaining) as u64;
            return Err(BatchError::Short { missing });
        }
        if let Some(bytes) = self.current.first_chunk() {
            return BatchHeader::parse(bytes);
        }
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut filled = 0;
        self.clone().advance(BATCH_HEADER_BYTES, |piece| {
            bytes[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        });
        BatchHeader::parse(&bytes)
    }

    /// CRC32C of the next `length` bytes from [`CRC_FROM`] on; moves behind them.
    fn checksum(&mut self, length: usize) -> u32 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        self.advance(CRC_FROM, |_| {});
        self.advance(length - CRC_FROM, |piece| digest.update(piece));
        digest.finalize() as u32
    }

    /// Moves on by `bytes`, at most what remains, giving each piece passed over to `each`.
    fn advance(&mut self, mut bytes: usize, mut each: impl FnMut(&'a [u8])) {
        debug_assert!(bytes <= self.remaining);
        self.remaining -= bytes;
        while bytes > 0 {
            if self.current.is_empty() {
                let Some((next, later)) = self.later.split_first() else { return };
                (self.current, self.later) = (next, later);
                continue;
            }
            let (piece, rest) = self.current.split_at(bytes.min(self.current.len()));
            each(piece);
            self.current = rest;
            bytes -= piece.len();
        }
    }
}

/// Checks checksum and record count of a batch that lies in one piece, as most do.
#[inline]
fn check_whole(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let found = crc32c(&batch[CRC_FROM..]);
    if found != header.crc {
        return Err(BatchError::Crc { expected: header.crc, found });
    }
    if header.attributes & CODEC_MASK != 0 {
        return Ok(());
    }
    let mut rest = &batch[BATCH_HEADER_BYTES..];
    for _ in 0..header.records_count {
        let after = record_length(rest).filter(|(record, _)| *record >= RECORD_BYTES_MIN);
        let after = after.and_then(|(record, prefix)| rest[prefix..].get(record..));
        rest = after.ok_or(BatchError::Records { expected: header.records_count })?;
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(BatchError::Records { expected: header.records_count })
}

/// A record's length and how many bytes say so, as [`PartsCursor::record_length`].
#[inline]
fn record_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return (value & 1 == 0).then_some(((value >> 1) as usize, at + 1));
        }
    }
    None
}

/// CRC32C (Castagnoli), the checksum of batches.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests;
