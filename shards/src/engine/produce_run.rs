//! Many publishes at once: small messages under way in numbers share what each would cost alone.

use model::limits::BATCH_BYTES_MAX;
use model::{EntryHead, Lsn, Offset, PartitionHandle, Rejection};
use protocol::batch::{BATCH_HEADER_BYTES, BatchHeader};

use crate::engine::Engine;
use crate::engine::produce::append_whole;
use crate::entry::{BatchFacts, kind};
use crate::journal::{Journal, admit_run};

/// A batch in one piece, checked, whose producer does not number its batches.
#[derive(Clone, Copy, Debug)]
pub struct PlainBatch<'a> {
    partition: PartitionHandle,
    records: u32,
    crc: u32,
    bytes: &'a [u8],
}

/// What is true of all batches of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedRun {
    /// Of the first; the others follow it one by one.
    pub first_lsn: Lsn,
    /// Append time, Unix milliseconds.
    pub time_ms: i64,
}

impl<'a> PlainBatch<'a> {
    /// `None` where the batch has to be taken alone: its producer numbers its batches, or the
    /// header cannot be true of these bytes.
    #[inline]
    pub fn new(partition: PartitionHandle, header: &BatchHeader, bytes: &'a [u8]) -> Option<Self> {
        let fits = (BATCH_HEADER_BYTES..=BATCH_BYTES_MAX as usize).contains(&bytes.len());
        let facts = BatchFacts::of(header, bytes.len()).filter(|_| fits)?;
        let BatchFacts { records, producer: None, .. } = facts else { return None };
        Some(Self { partition, records, crc: header.crc, bytes })
    }

    pub fn records(&self) -> u32 {
        self.records
    }
}

impl Engine {
    /// Appends all batches, in order, or none: after a refusal nothing is stored, and each may be
    /// tried alone by [`Engine::produce`], which says what is wrong with it. `offsets` is
    /// replaced by the base offset of each.
    pub fn produce_run<'b>(
        &mut self,
        now_ms: i64,
        batches: impl Iterator<Item = &'b PlainBatch<'b>> + Clone,
        offsets: &mut Vec<Offset>,
        journal: &mut impl Journal,
    ) -> Result<AppendedRun, Rejection> {
        // All are looked up before the first is written: partitions that lie cold in memory are
        // waited for together.
        for batch in batches.clone() {
            self.decided(batch.partition)?;
        }
        admit_run(journal)?;
        let run = AppendedRun { first_lsn: self.last_lsn.next(), time_ms: self.stamp(now_ms) };
        offsets.clear();
        for batch in batches {
            offsets.push(self.append_plain(run.time_ms, batch, journal));
        }
        Ok(run)
    }
    /// What [`Engine::produce`] does with a batch for which nothing can be decided any more. Returns
    /// its base offset.
    #[inline]
    fn append_plain(
        &mut self,
        time_ms: i64,
        batch: &PlainBatch<'_>,
        journal: &mut impl Journal,
    ) -> Offset {
        let stream = batch.partition.stream;
        let found = self.streams.get_mut(stream);
        let partition = found.expect("it was there before the first was written");
        let head = EntryHead {
            kind: kind::BATCH,
            flags: 0,
            stream,
            base_offset: partition.next_offset,
            records: batch.records,
            time_ms,
        };
        let (first, rest) = batch.bytes.split_first_chunk().expect("it is as long as its header");
        let lsn = append_whole(journal, &head, first, rest, batch.crc);
        assert_eq!(lsn, self.last_lsn.next(), "the log numbers entries unlike the engine");
        let undo = partition.append(lsn, stream, batch.records, batch.bytes.len() as u32);
        let time_before_ms = std::mem::replace(&mut self.counters.time_ms, time_ms);
        self.undo.push_batch(time_before_ms, undo);
        self.last_lsn = lsn;
        head.base_offset
    }
}
