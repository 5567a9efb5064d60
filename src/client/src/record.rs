//! A received record: slices of the buffer it was received in.

use std::ops::Range;

use bytes::Bytes;
use model::{Offset, TopicName};
use protocol::{Headers, RecordRef};

/// Where a header's name and value lie.
pub(crate) type HeaderRange = (Range<usize>, Option<Range<usize>>);

/// One record, as a consumer gets it. Key, value and headers are slices of the receive buffer
/// (or of the unpacked batch), which stays in memory while a record of it lives: keep what you
/// need, copied, when you keep it for long.
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) topic: TopicName,
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
    pub(crate) timestamp_ms: i64,
    /// The record section of the batch.
    pub(crate) section: Bytes,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Option<Range<usize>>,
    /// Each name and value.
    pub(crate) headers: Box<[HeaderRange]>,
}

impl Record {
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The time its producer gave it, Unix milliseconds.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.key.clone().map(|range| &self.section[range])
    }

    pub fn value(&self) -> Option<&[u8]> {
        self.value.clone().map(|range| &self.section[range])
    }

    /// The key as a reference-counted slice, for those who hand it on. Nothing is copied.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key.clone().map(|range| self.section.slice(range))
    }

    /// The value as a reference-counted slice, for those who hand it on. Nothing is copied.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value.clone().map(|range| self.section.slice(range))
    }

    /// Name and value of each header, in the producer's order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| {
            // The name was checked when the record was read.
            let name = std::str::from_utf8(&self.section[name.clone()]).unwrap_or_default();
            (name, value.clone().map(|range| &self.section[range]))
        })
    }
}

/// Where `part`, a slice of `section`, lies in it.
pub(crate) fn range_in(section: &Bytes, part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - section.as_ptr().addr();
    start..start + part.len()
}

/// The ranges of a record's headers.
pub(crate) fn header_ranges(section: &Bytes, headers: Headers<'_>) -> Box<[HeaderRange]> {
    headers
        .map(|(name, value)| {
            (range_in(section, name.as_bytes()), value.map(|value| range_in(section, value)))
        })
        .collect()
}

impl Record {
    pub(crate) fn new(
        (topic, partition): (&TopicName, u32),
        (base_offset, base_timestamp_ms): (Offset, i64),
        section: &Bytes,
        record: RecordRef<'_>,
    ) -> Self {
        Self {
            topic: topic.clone(),
            partition,
            offset: base_offset.saturating_add(record.offset_delta.into()),
            timestamp_ms: base_timestamp_ms.wrapping_add(record.timestamp_delta),
            section: section.clone(),
            key: record.key.map(|key| range_in(section, key)),
            value: record.value.map(|value| range_in(section, value)),
            headers: header_ranges(section, record.headers),
        }
    }
}
