//! The records inside an uncompressed batch: writing them into a new batch, and reading them as
//! slices of the bytes they lie in. Compression is the client's: here it is a number.
//!
//! The format is that of Apache Kafka's protocol guide, "Record": lengths and deltas are zigzag
//! varints, -1 for an absent key or value.

use model::limits::BATCH_BYTES_MAX;

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, CRC, CRC_FROM, crc32c};
use crate::frame::TooLarge;

/// How the record section of a batch is compressed: bits 0 to 2 of its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    /// LZ4 frame format.
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// The codec of a batch; `None` for a number not given out.
    pub fn of(header: &BatchHeader) -> Option<Self> {
        match header.attributes & 0b111 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Who wrote a batch and its number, so that a repeat is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// The sequence number of the batch's first record in its partition.
    pub sequence: i32,
}

impl Producer {
    /// What stands in a batch that nobody has numbered.
    pub const NONE: Self = Self { id: -1, epoch: -1, sequence: -1 };
}

/// Gathers records into one batch.
///
/// ```
/// use corelane_protocol::{BatchBuilder, RecordIter, check_batch};
///
/// let mut builder = BatchBuilder::new();
/// builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), [])?;
/// let batch = builder.finish(None);
/// let header = check_batch(&[&batch])?;
/// let record = RecordIter::new(&header, &batch[61..]).next().unwrap()?;
/// assert_eq!((record.key, record.value), (Some(&b"key"[..]), Some(&b"value"[..])));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// The checksum is left for [`set_producer`].
    checksum_later: bool,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// With room for `bytes` of records.
    pub fn with_capacity(bytes: usize) -> Self {
        Self::in_buffer(Vec::with_capacity(BATCH_HEADER_BYTES + bytes))
    }

    /// With the memory of `buffer`; what is in it is dropped.
    pub fn in_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(BATCH_HEADER_BYTES, 0);
        Self { bytes: buffer, count: 0, base_timestamp: 0, max_timestamp: 0, checksum_later: false }
    }

    /// Adds a record. `timestamp_ms` is Unix milliseconds.
    ///
    /// Fails, and adds nothing, when the batch would pass [`BATCH_BYTES_MAX`].
    pub fn append<'h, H>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<(), TooLarge>
    where
        H: IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
        H::IntoIter: ExactSizeIterator + Clone,
    {
        let headers = headers.into_iter();
        let base_timestamp = if self.count == 0 { timestamp_ms } else { self.base_timestamp };
        let timestamp_delta = timestamp_ms.wrapping_sub(base_timestamp);
        let body_bytes = 1
            + varint_bytes(timestamp_delta)
            + varint_bytes(self.count.into())
            + field_bytes(key)
            + field_bytes(value)
            + varint_bytes(headers.len() as i64)
            + headers
                .clone()
                .map(|(name, value)| field_bytes(Some(name.as_bytes())) + field_bytes(value))
                .sum::<usize>();
        let (total, max) =
            (self.bytes.len() + varint_bytes(body_bytes as i64) + body_bytes, BATCH_BYTES_MAX);
        if total > max as usize {
            return Err(TooLarge { what: "the batch", bytes: total, max: max as usize });
        }

        self.bytes.reserve(total - self.bytes.len());
        put_varint(&mut self.bytes, body_bytes as i64);
        self.bytes.push(0);
        put_varint(&mut self.bytes, timestamp_delta);
        put_varint(&mut self.bytes, self.count.into());
        put_field(&mut self.bytes, key);
        put_field(&mut self.bytes, value);
        put_varint(&mut self.bytes, headers.len() as i64);
        for (name, value) in headers {
            put_field(&mut self.bytes, Some(name.as_bytes()));
            put_field(&mut self.bytes, value);
        }
        debug_assert_eq!(self.bytes.len(), total);

        self.max_timestamp =
            if self.count == 0 { timestamp_ms } else { self.max_timestamp.max(timestamp_ms) };
        self.base_timestamp = base_timestamp;
        self.count += 1;
        Ok(())
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the batch so far, header included.
    pub fn batch_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The record section so far, uncompressed.
    pub fn records(&self) -> &[u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// The batch will have no checksum when it is finished: [`set_producer`], which has to take it
    /// anew anyway, gives it one.
    #[must_use]
    pub fn checksum_later(mut self) -> Self {
        self.checksum_later = true;
        self
    }

    /// The batch. With no record in it there is none: the bytes are empty.
    pub fn finish(mut self, producer: Option<Producer>) -> Vec<u8> {
        if self.count == 0 {
            return Vec::new();
        }
        self.write_header(producer, Codec::None);
        self.bytes
    }

    /// The batch with `section`, which is [`Self::records`] compressed with `codec`, in place of
    /// the records.
    pub fn finish_compressed(
        mut self,
        producer: Option<Producer>,
        codec: Codec,
        section: &[u8],
    ) -> Vec<u8> {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.bytes.extend_from_slice(section);
        if self.count == 0 {
            return Vec::new();
        }
        self.write_header(producer, codec);
        self.bytes
    }

    fn write_header(&mut self, producer: Option<Producer>, codec: Codec) {
        let Producer { id, epoch, sequence } = producer.unwrap_or(Producer::NONE);
        let header = BatchHeader {
            base_offset: 0,
            batch_length: self.bytes.len() as u32,
            leader_epoch: -1,
            crc: 0,
            attributes: codec as u16,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: id,
            producer_epoch: epoch,
            base_sequence: sequence,
            records_count: self.count,
        };
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        if !self.checksum_later {
            write_crc(&mut self.bytes);
        }
    }
}

/// Gives a whole batch another producer, and its checksum with it. Bytes too short to be a batch
/// stay as they are.
pub fn set_producer(batch: &mut [u8], producer: Producer) {
    if batch.len() < BATCH_HEADER_BYTES {
        return;
    }
    batch[43..51].copy_from_slice(&producer.id.to_be_bytes());
    batch[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&producer.sequence.to_be_bytes());
    write_crc(batch);
}

fn write_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[CRC_FROM..]);
    batch[CRC].copy_from_slice(&crc.to_be_bytes());
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn field_bytes(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint_bytes(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn put_field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

/// One record, as slices of the section it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its offset is the batch's base offset plus this.
    pub offset_delta: u32,
    /// Its time is the batch's base timestamp plus this, milliseconds.
    pub timestamp_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// A record's headers, name and value: an iterator over slices, already checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Headers<'a> {
    /// The `count` headers that lie in `bytes`, which must be what [`Self::as_bytes`] gave of as many: of other bytes
    /// fewer may come than it says.
    pub fn of(bytes: &'a [u8], count: u32) -> Self {
        Self { bytes, count }
    }

    /// Where those that were not given out yet lie.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut reader = Reader { rest: self.bytes };
        let header = reader.header().ok()?;
        self.bytes = reader.rest;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Why a record section cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a number in a record runs over its size")]
    Varint,
    #[error("a record ends inside one of its fields")]
    Short,
    #[error("a length in a record is {length}")]
    Length { length: i64 },
    #[error("a record is {bytes} bytes longer than its fields")]
    Padding { bytes: usize },
    #[error("a header's name is not valid UTF-8")]
    HeaderName,
    #[error("record {index} has the offset delta {delta}, out of its place")]
    OffsetDelta { index: u32, delta: i64 },
    #[error("{bytes} bytes follow the last record")]
    Trailing { bytes: usize },
}

/// The records of a batch, in order; ends after the first error. Allocates nothing.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    cursor: RecordCursor,
    section: &'a [u8],
}

impl<'a> RecordIter<'a> {
    /// `section` is what follows the batch's header, uncompressed.
    pub fn new(header: &BatchHeader, section: &'a [u8]) -> Self {
        Self { cursor: RecordCursor::new(header), section }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.section)
    }
}

/// A place among the records of a batch that borrows nothing: for those who keep the section
/// beside it. Otherwise as [`RecordIter`].
#[derive(Clone, Debug)]
pub struct RecordCursor {
    /// Bytes of the section that were read.
    at: usize,
    index: u32,
    count: u32,
    /// The least delta that the next record may have.
    delta_min: i64,
    delta_max: i64,
    done: bool,
}

impl RecordCursor {
    /// Before the first record.
    pub fn new(header: &BatchHeader) -> Self {
        Self {
            at: 0,
            index: 0,
            count: header.records_count,
            delta_min: 0,
            delta_max: header.last_offset_delta.into(),
            done: false,
        }
    }

    /// The next record of `section`, which must be the same at every call.
    pub fn next<'a>(&mut self, section: &'a [u8]) -> Option<Result<RecordRef<'a>, RecordError>> {
        if self.done {
            return None;
        }
        let next = self.next_record(section).transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }

    fn next_record<'a>(&mut self, section: &'a [u8]) -> Result<Option<RecordRef<'a>>, RecordError> {
        let mut reader = Reader { rest: section.get(self.at..).unwrap_or_default() };
        if self.index == self.count {
            return match reader.rest.len() {
                0 => Ok(None),
                bytes => Err(RecordError::Trailing { bytes }),
            };
        }
        let length = reader.varint()?;
        let length = usize::try_from(length).map_err(|_| RecordError::Length { length })?;
        let mut body = Reader { rest: reader.take(length)? };
        body.take(1)?;
        let timestamp_delta = body.varint()?;
        let delta = body.varint()?;
        if delta < self.delta_min || delta > self.delta_max {
            return Err(RecordError::OffsetDelta { index: self.index, delta });
        }
        let (key, value) = (body.field()?, body.field()?);
        let headers = body.headers()?;
        self.at = section.len() - reader.rest.len();
        self.delta_min = delta + 1;
        self.index += 1;
        let offset_delta = delta as u32;
        Ok(Some(RecordRef { offset_delta, timestamp_delta, key, value, headers }))
    }
}

#[derive(Clone, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<i64, RecordError> {
        // Most numbers of a record have one byte or two.
        let (value, rest) = match self.rest {
            [a, rest @ ..] if *a < 0x80 => (u64::from(*a), rest),
            [a, b, rest @ ..] if *b < 0x80 => (u64::from(a & 0x7F) | u64::from(*b) << 7, rest),
            _ => return self.long_varint(),
        };
        self.rest = rest;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn long_varint(&mut self) -> Result<i64, RecordError> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            // The tenth byte holds the 64th bit and nothing more.
            if at == 9 && *byte > 1 {
                return Err(RecordError::Varint);
            }
            value |= u64::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(if self.rest.len() < 10 { RecordError::Short } else { RecordError::Varint })
    }

    fn field(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let bytes = usize::try_from(length).map_err(|_| RecordError::Length { length })?;
                self.take(bytes).map(Some)
            }
        }
    }

    fn header(&mut self) -> Result<(&'a str, Option<&'a [u8]>), RecordError> {
        let name = self.field()?.ok_or(RecordError::Length { length: -1 })?;
        let name = std::str::from_utf8(name).map_err(|_| RecordError::HeaderName)?;
        Ok((name, self.field()?))
    }

    /// The rest of a record: its headers, each checked, and nothing after them.
    fn headers(&mut self) -> Result<Headers<'a>, RecordError> {
        let length = self.varint()?;
        let count = u32::try_from(length).map_err(|_| RecordError::Length { length })?;
        let bytes = self.rest;
        for _ in 0..count {
            self.header()?;
        }
        match self.rest.len() {
            0 => Ok(Headers { bytes, count }),
            bytes => Err(RecordError::Padding { bytes }),
        }
    }
}

#[cfg(test)]
mod tests;
