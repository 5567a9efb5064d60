//! A received record: slices of the buffer it was received in.

use std::sync::Arc;

use bytes::Bytes;
use model::{Offset, TopicName};
use protocol::{Headers, RecordRef};

/// One record, as a consumer gets it. Key, value and headers are slices of the receive buffer
/// (or of the unpacked batch), which stays in memory while a record of it lives: keep what you
/// need, copied, when you keep it for long.
#[derive(Clone, Debug)]
pub struct Record {
    batch: Arc<OpenedBatch>,
    offset: Offset,
    timestamp_ms: i64,
    key: Option<Part>,
    value: Option<Part>,
    headers: Part,
    headers_count: u32,
}

/// What the records of a batch have in common.
#[derive(Debug)]
pub(crate) struct OpenedBatch {
    pub(crate) topic: TopicName,
    pub(crate) partition: u32,
    /// Uncompressed; at most [`SECTION_BYTES_MAX`].
    pub(crate) section: Bytes,
}

/// What places in a record section are counted up to.
pub(crate) const SECTION_BYTES_MAX: usize = u32::MAX as usize;

/// Where a part of a record lies in the record section, bytes.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: u32,
    length: u32,
}

impl Part {
    /// Of `part`, a slice of `section`.
    fn of(section: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr() - section.as_ptr().addr();
        Self { start: start as u32, length: part.len() as u32 }
    }

    fn range(self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }
}

impl Record {
    /// `record` is one of `batch`'s section.
    pub(crate) fn new(
        batch: &Arc<OpenedBatch>,
        (base_offset, base_timestamp_ms): (Offset, i64),
        record: RecordRef<'_>,
    ) -> Self {
        let section = &*batch.section;
        Self {
            batch: batch.clone(),
            offset: base_offset.saturating_add(record.offset_delta.into()),
            timestamp_ms: base_timestamp_ms.wrapping_add(record.timestamp_delta),
            key: record.key.map(|key| Part::of(section, key)),
            value: record.value.map(|value| Part::of(section, value)),
            headers: Part::of(section, record.headers.as_bytes()),
            headers_count: record.headers.len() as u32,
        }
    }

    pub fn topic(&self) -> &TopicName {
        &self.batch.topic
    }

    pub fn partition(&self) -> u32 {
        self.batch.partition
    }

    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The time its producer gave it, Unix milliseconds.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|part| &self.batch.section[part.range()])
    }

    pub fn value(&self) -> Option<&[u8]> {
        self.value.map(|part| &self.batch.section[part.range()])
    }

    /// The key as a reference-counted slice, for those who hand it on. Nothing is copied.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key.map(|part| self.batch.section.slice(part.range()))
    }

    /// The value as a reference-counted slice, for those who hand it on. Nothing is copied.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value.map(|part| self.batch.section.slice(part.range()))
    }

    /// Name and value of each header, in the producer's order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        // They were checked when the record was read.
        Headers::of(&self.batch.section[self.headers.range()], self.headers_count)
    }
}

/// Records go between threads.
const _: () = {
    const fn between_threads<T: Send + Sync>() {}
    between_threads::<Record>();
};
