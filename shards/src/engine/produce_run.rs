//! Many publishes at once: small messages under way in numbers share what each would cost alone.

use model::limits::BATCH_BYTES_MAX;
use model::{EntryHead, Lsn, Offset, PartitionHandle, Rejection};
use protocol::batch::{BATCH_HEADER_BYTES, BatchHeader};

use crate::engine::Engine;
use crate::engine::produce::append_whole;
use crate::entry::{BatchFacts, kind};
use crate::journal::{Journal, admit_run};
use crate::undo::Times;

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
        let mut known = None;
        for batch in batches.clone() {
            if known != Some(batch.partition) {
                self.decided(batch.partition)?;
                known = Some(batch.partition);
            }
        }
        admit_run(journal)?;
        let run = AppendedRun { first_lsn: self.last_lsn.next(), time_ms: self.stamp(now_ms) };
        offsets.clear();
        let Self { streams, undo, counters, last_lsn, .. } = self;
        // Neighbours of one partition are appended to it in a row.
        let mut found = None;
        for batch in batches {
            let PlainBatch { partition: handle, records, crc, bytes } = *batch;
            if found.as_ref().is_none_or(|(of, _)| *of != handle) {
                found = streams.get_mut(handle.stream).map(|partition| (handle, partition));
            }
            let (_, partition) = found.as_mut().expect("it was there before the first was written");
            let (base_offset, stream) = (partition.next_offset, handle.stream);
            let time_ms = run.time_ms;
            let head =
                EntryHead { kind: kind::BATCH, flags: 0, stream, base_offset, records, time_ms };
            let (start, rest) = bytes.split_first_chunk().expect("as long as its header");
            let lsn = append_whole(journal, &head, start, rest, crc);
            assert_eq!(lsn, last_lsn.next(), "the log numbers entries unlike the engine");
            let one = partition.append(lsn, stream, records, bytes.len() as u32);
            let before_ms = std::mem::replace(&mut counters.time_ms, time_ms);
            undo.push_batch(lsn, Times { before_ms, own_ms: time_ms }, one);
            *last_lsn = lsn;
            offsets.push(base_offset);
        }
        Ok(run)
    }
}
