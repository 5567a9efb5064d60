//! One partition: batches in memory, and what is known of its producers.

use std::collections::HashMap;

use model::ErrorCode;
use protocol::batch::BASE_OFFSET;
use protocol::{BatchHeader, RecordIter, check_batch};

#[derive(Clone, Debug)]
pub struct Stored {
    pub header: BatchHeader,
    pub bytes: Vec<u8>,
}

#[derive(Default)]
pub struct Log {
    pub batches: Vec<Stored>,
    pub first: u64,
    pub next: u64,
    pub committed: HashMap<String, u64>,
    /// By id and epoch.
    producers: HashMap<(i64, i16), Vec<Numbered>>,
}

/// The first sequence, the records and the offset of a batch.
type Numbered = (i32, u32, u64);

impl Log {
    /// Appends a checked batch, or gives the offset of the one it repeats.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, ErrorCode> {
        let header = check_batch(&[bytes]).map_err(|error| error.code())?;
        if header.is_idempotent() {
            let known = self.producers.entry((header.producer_id, header.producer_epoch));
            let runs = known.or_default();
            let sequence = header.base_sequence;
            if let Some((_, _, base)) = runs.iter().find(|(first, ..)| *first == sequence) {
                return Ok(*base);
            }
            let expected = runs.last().map(|(first, count, _)| first + *count as i32);
            match expected {
                Some(expected) if expected != sequence => {
                    return Err(ErrorCode::OutOfOrderSequence);
                }
                None if sequence != 0 => return Err(ErrorCode::UnknownProducer),
                _ => runs.push((sequence, header.records_count, self.next)),
            }
        }
        let base = self.next;
        let mut bytes = bytes.to_vec();
        bytes[BASE_OFFSET].copy_from_slice(&base.to_be_bytes());
        let header = BatchHeader { base_offset: base, ..header };
        self.next = header.next_offset();
        self.batches.push(Stored { header, bytes });
        Ok(base)
    }

    pub fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// The batches that hold `offset` and what follows.
    pub fn from(&self, offset: u64) -> impl Iterator<Item = &Stored> {
        self.batches.iter().filter(move |stored| stored.header.next_offset() > offset)
    }

    /// Uncompressed values, as text.
    pub fn values(&self) -> Vec<String> {
        let records = self.batches.iter().flat_map(|stored| {
            RecordIter::new(&stored.header, &stored.bytes[61..]).map(Result::unwrap)
        });
        records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
    }
}
