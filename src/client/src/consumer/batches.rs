//! The batches of one frame, and the records in them, as slices.

use bytes::Bytes;
use model::{Offset, TopicName};
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{BatchError, BatchHeader, Codec, RecordCursor, check_batch};

use crate::compression::unpack;
use crate::error::{CompressionError, Error};
use crate::record::Record;

/// Batches one after the other, read record by record.
pub(crate) struct Batches {
    partition: u32,
    unpacked_bytes_max: usize,
    /// What has not been opened yet.
    rest: Bytes,
    current: Option<Current>,
}

struct Current {
    header: BatchHeader,
    section: Bytes,
    cursor: RecordCursor,
}

impl Batches {
    pub(crate) fn new(partition: u32, batches: Bytes, unpacked_bytes_max: usize) -> Self {
        Self { partition, unpacked_bytes_max, rest: batches, current: None }
    }

    /// The next record at or after `position`; `None` at the end. Every batch's checksum is
    /// checked before its first record is given out.
    pub(crate) fn next(
        &mut self,
        topic: &TopicName,
        position: Offset,
    ) -> Option<Result<Record, Error>> {
        loop {
            if let Some(Current { header, section, cursor }) = &mut self.current {
                let section = &*section;
                let base = (header.base_offset, header.base_timestamp);
                match cursor.next(section) {
                    Some(Ok(record)) => {
                        if base.0.saturating_add(record.offset_delta.into()) < position {
                            continue;
                        }
                        let place = (topic, self.partition);
                        return Some(Ok(Record::new(place, base, section, record)));
                    }
                    Some(Err(source)) => {
                        let (partition, offset) = (self.partition, base.0);
                        self.end();
                        return Some(Err(Error::BadRecord { partition, offset, source }));
                    }
                    None => self.current = None,
                }
            }
            if self.rest.is_empty() {
                return None;
            }
            if let Err(error) = self.open_next(position) {
                self.end();
                return Some(Err(error));
            }
        }
    }

    fn end(&mut self) {
        self.current = None;
        self.rest = Bytes::new();
    }

    fn open_next(&mut self, position: Offset) -> Result<(), Error> {
        let partition = self.partition;
        let bad = |offset, source| Error::BadBatch { partition, offset, source };
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
            Some(codec) => unpack(codec, &packed, self.unpacked_bytes_max).map(Bytes::from),
            None => Err(CompressionError::Unsupported(Codec::None)),
        };
        let section = section.map_err(|source| Error::BadCompression {
            partition,
            offset: header.base_offset,
            source,
        })?;
        self.current = Some(Current { header, section, cursor: RecordCursor::new(&header) });
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
    let mut batches = Batches::new(0, Bytes::copy_from_slice(bytes), unpacked_bytes_max);
    while let Some(record) = batches.next(&topic, 0) {
        match record {
            Ok(_) => found.records += 1,
            Err(error) => found.error = Some(error),
        }
        if let Some(Current { section, header, .. }) = &batches.current
            && Codec::of(header) != Some(Codec::None)
        {
            found.unpacked_bytes_max = found.unpacked_bytes_max.max(section.len());
        }
    }
    found
}
