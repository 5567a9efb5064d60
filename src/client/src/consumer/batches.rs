//! The batches of one frame, and the records in them, as slices.

use std::sync::Arc;

use bytes::Bytes;
use model::{Offset, TopicName};
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{BatchError, BatchHeader, Codec, RecordCursor, check_batch};

use crate::compression::{UnpackLimits, unpack};
use crate::error::{CompressionError, Error};
use crate::record::{OpenedBatch, Record, SECTION_BYTES_MAX};

/// Batches one after the other, read record by record.
pub(crate) struct Batches {
    topic: TopicName,
    partition: u32,
    limits: UnpackLimits,
    /// The offset after all of them, as the server says.
    next_offset: Offset,
    /// What has not been opened yet.
    rest: Bytes,
    current: Option<Current>,
}

struct Current {
    header: BatchHeader,
    batch: Arc<OpenedBatch>,
    cursor: RecordCursor,
}

impl Batches {
    pub(crate) fn new(
        (topic, partition): (TopicName, u32),
        batches: Bytes,
        next_offset: Offset,
        limits: UnpackLimits,
    ) -> Self {
        Self { topic, partition, limits, next_offset, rest: batches, current: None }
    }

    /// The next record at or after `position`; `None` at the end. Every batch's checksum is
    /// checked before its first record is given out.
    ///
    /// After an error the next call goes on behind the bad batch, where that can be found.
    pub(crate) fn next(&mut self, position: Offset) -> Option<Result<Record, Error>> {
        loop {
            if let Some(Current { header, batch, cursor }) = &mut self.current {
                let base = (header.base_offset, header.base_timestamp);
                match cursor.next(&batch.section) {
                    Some(Ok(record)) => {
                        if base.0.saturating_add(record.offset_delta.into()) < position {
                            continue;
                        }
                        return Some(Ok(Record::new(batch, base, record)));
                    }
                    Some(Err(source)) => {
                        let (partition, offset) = (self.partition, base.0);
                        let next_offset = header.next_offset();
                        self.current = None;
                        return Some(Err(Error::BadRecord {
                            partition,
                            offset,
                            next_offset,
                            source,
                        }));
                    }
                    None => self.current = None,
                }
            }
            if self.rest.is_empty() {
                return None;
            }
            match self.open_next(position) {
                Ok(()) => {}
                Err(error @ Error::BadBatch { .. }) => {
                    // Its length may be as wrong as the rest of it.
                    self.rest = Bytes::new();
                    return Some(Err(error));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn open_next(&mut self, position: Offset) -> Result<(), Error> {
        let partition = self.partition;
        let next_offset = self.next_offset.max(position.saturating_add(1));
        let bad = |offset, source| Error::BadBatch { partition, offset, next_offset, source };
        let header = match self.rest.first_chunk() {
            Some(bytes) => BatchHeader::parse(bytes).map_err(|error| bad(position, error))?,
            None => {
                let missing = (BATCH_HEADER_BYTES - self.rest.len()) as u64;
                return Err(bad(position, BatchError::Short { missing }));
            }
        };
        let length = header.batch_length as usize;
        if length > self.rest.len() {
            let missing = (length - self.rest.len()) as u64;
            return Err(bad(header.base_offset, BatchError::Short { missing }));
        }
        let batch = self.rest.split_to(length);
        if header.next_offset() <= position {
            return Ok(());
        }
        check_batch(&[&batch]).map_err(|error| bad(header.base_offset, error))?;
        let packed = batch.slice(BATCH_HEADER_BYTES..);
        let section = match Codec::of(&header) {
            Some(Codec::None) => Ok(packed),
            Some(codec) => unpack(codec, &packed, &self.limits).map(Bytes::from),
            None => Err(CompressionError::Unsupported(Codec::None)),
        };
        let section = section.map_err(|source| Error::BadCompression {
            partition,
            offset: header.base_offset,
            next_offset: header.next_offset(),
            source,
        })?;
        let batch = Arc::new(OpenedBatch { topic: self.topic.clone(), partition, section });
        self.current = Some(Current { header, batch, cursor: RecordCursor::new(&header) });
        Ok(())
    }
}

/// What [`read_batches`] found.
#[derive(Clone, Debug)]
pub struct ReadBatches {
    pub records: usize,
    /// Of the largest record section.
    pub unpacked_bytes_max: usize,
    /// What ended the reading early.
    pub error: Option<Error>,
}

/// Reads batches to their end or the first error, as a consumer does.
pub fn read_batches(bytes: &[u8], unpacked_bytes_max: usize) -> ReadBatches {
    let mut found = ReadBatches { records: 0, unpacked_bytes_max: 0, error: None };
    let Ok(topic) = TopicName::parse("topic") else { return found };
    let unpacked_bytes_max = unpacked_bytes_max.min(SECTION_BYTES_MAX);
    let limits = UnpackLimits { unpacked_bytes_max, ..UnpackLimits::default() };
    let mut batches = Batches::new((topic, 0), Bytes::copy_from_slice(bytes), 0, limits);
    while let Some(record) = batches.next(0) {
        match record {
            Ok(_) => found.records += 1,
            Err(error) => {
                found.error = Some(error);
                break;
            }
        }
        if let Some(Current { batch, header, .. }) = &batches.current
            && Codec::of(header) != Some(Codec::None)
        {
            found.unpacked_bytes_max = found.unpacked_bytes_max.max(batch.section.len());
        }
    }
    found
}
