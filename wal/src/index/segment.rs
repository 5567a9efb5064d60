//! The sparse index of one segment.
//!
//! A stream gets an index entry for a block when that block begins at least 64 KiB after the one
//! its last entry names. So a batch is found by reading at most 64 KiB and one block of log from
//! the entry before it.

use model::StreamId;
use smallvec::SmallVec;

use crate::format::entry::EntryRecord;
use crate::format::footer::{
    FooterBody, INDEX_BYTES, IndexEntry, STREAM_BYTES, StreamRecord, TRAILER_BYTES,
};
use crate::io::Map;
use crate::stats::StreamUse;

/// Least distance in the log between the blocks of two index entries of a stream.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 64 * 1024;

/// One stream in a segment.
#[derive(Clone, Debug)]
pub(crate) struct StreamIndex {
    pub first_offset: u64,
    pub last_offset: u64,
    pub bytes: u64,
    pub max_time_ms: i64,
    pub batches: u32,
    pub entries: SmallVec<[IndexEntry; 1]>,
}

/// Where a segment's batches are. Never empty of entries for a stream that is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentIndex {
    streams: Map<StreamId, StreamIndex>,
    index_entries: usize,
    label_bytes: usize,
}

/// Neighbouring batches of one stream in a block.
struct Run {
    stream: StreamId,
    first_offset: u64,
    last_offset: u64,
    bytes: u64,
    max_time_ms: i64,
    batches: u32,
}

impl SegmentIndex {
    /// Takes a block's entries in. `on_new` is told each stream that was not in the segment yet,
    /// with its first offset, and gives the length of its label.
    pub fn add_block(
        &mut self,
        block: u32,
        block_bytes: u32,
        records: impl Iterator<Item = EntryRecord>,
        mut on_new: impl FnMut(StreamId, u64) -> usize,
    ) {
        let mut run: Option<Run> = None;
        for record in records.filter(|record| record.head.is_batch()) {
            let head = &record.head;
            match &mut run {
                Some(run) if run.stream == head.stream => {
                    run.last_offset = run.last_offset.max(head.last_offset());
                    run.bytes += u64::from(record.payload_bytes);
                    run.max_time_ms = run.max_time_ms.max(head.time_ms);
                    run.batches += 1;
                }
                _ => {
                    let next = Run {
                        stream: head.stream,
                        first_offset: head.base_offset,
                        last_offset: head.last_offset(),
                        bytes: u64::from(record.payload_bytes),
                        max_time_ms: head.time_ms,
                        batches: 1,
                    };
                    if let Some(run) = run.replace(next) {
                        self.add_run(block, block_bytes, run, &mut on_new);
                    }
                }
            }
        }
        if let Some(run) = run {
            self.add_run(block, block_bytes, run, &mut on_new);
        }
    }

    fn add_run(
        &mut self,
        block: u32,
        block_bytes: u32,
        run: Run,
        on_new: &mut impl FnMut(StreamId, u64) -> usize,
    ) {
        let stream = self.streams.entry(run.stream).or_insert_with(|| {
            self.label_bytes += on_new(run.stream, run.first_offset);
            StreamIndex {
                first_offset: run.first_offset,
                last_offset: run.first_offset,
                bytes: 0,
                max_time_ms: i64::MIN,
                batches: 0,
                entries: SmallVec::new(),
            }
        });
        let due = stream
            .entries
            .last()
            .is_none_or(|e| u64::from(block) >= u64::from(e.block) + INDEX_INTERVAL_BYTES);
        if due {
            stream.entries.push(IndexEntry {
                offset: run.first_offset,
                time_before_ms: stream.max_time_ms,
                block,
                block_bytes,
            });
            self.index_entries += 1;
        }
        stream.last_offset = stream.last_offset.max(run.last_offset);
        stream.max_time_ms = stream.max_time_ms.max(run.max_time_ms);
        stream.bytes += run.bytes;
        stream.batches += run.batches;
    }

    pub fn get(&self, stream: StreamId) -> Option<&StreamIndex> {
        self.streams.get(&stream)
    }

    /// Bytes of the footer as it is now, without padding.
    pub fn footer_bytes(&self) -> usize {
        self.streams.len() * STREAM_BYTES
            + self.index_entries * INDEX_BYTES
            + self.label_bytes
            + TRAILER_BYTES
    }

    /// Memory held, roughly, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.streams.len() * (size_of::<StreamIndex>() + 16) + self.index_entries * INDEX_BYTES
    }

    /// At most what a block's entries add to the footer. Looks every stream up: for a segment
    /// that is nearly full.
    pub fn growth_bytes(
        &self,
        records: impl Iterator<Item = EntryRecord>,
        label_bytes: impl Fn(StreamId) -> usize,
    ) -> usize {
        let mut new: Map<StreamId, ()> = Map::default();
        let mut bytes = 0;
        let mut last = None;
        for record in records.filter(|record| record.head.is_batch()) {
            let stream = record.head.stream;
            if last == Some(stream) {
                continue;
            }
            last = Some(stream);
            bytes += INDEX_BYTES;
            if !self.streams.contains_key(&stream) && new.insert(stream, ()).is_none() {
                bytes += STREAM_BYTES + label_bytes(stream);
            }
        }
        bytes
    }

    /// What each stream has in the segment, in order of the streams.
    pub fn uses(&self) -> Vec<StreamUse> {
        let mut uses: Vec<_> = self
            .streams
            .iter()
            .map(|(stream, index)| StreamUse {
                stream: *stream,
                first_offset: index.first_offset,
                last_offset: index.last_offset,
                max_time_ms: index.max_time_ms,
                bytes: index.bytes,
            })
            .collect();
        uses.sort_unstable_by_key(|one| one.stream);
        uses
    }

    /// The footer's body. `label` gives a stream's label.
    pub fn to_body<'a>(&self, label: impl Fn(StreamId) -> &'a [u8]) -> FooterBody {
        let mut order: Vec<_> = self.streams.iter().collect();
        order.sort_unstable_by_key(|(stream, _)| **stream);
        let mut body = FooterBody::default();
        for (stream, index) in order {
            let label = label(*stream);
            body.streams.push(StreamRecord {
                stream: *stream,
                index_start: body.index.len() as u32,
                index_entries: index.entries.len() as u32,
                label_start: body.labels.len() as u32,
                label_bytes: label.len() as u32,
                batches: index.batches,
                first_offset: index.first_offset,
                last_offset: index.last_offset,
                bytes: index.bytes,
                max_time_ms: index.max_time_ms,
            });
            body.index.extend_from_slice(&index.entries);
            body.labels.extend_from_slice(label);
        }
        body
    }

    /// The index that a footer holds.
    pub fn from_body(body: &FooterBody) -> Self {
        let mut index = Self {
            streams: Map::default(),
            index_entries: body.index.len(),
            label_bytes: body.labels.len(),
        };
        for record in &body.streams {
            let start = record.index_start as usize;
            let entries = &body.index[start..start + record.index_entries as usize];
            index.streams.insert(
                record.stream,
                StreamIndex {
                    first_offset: record.first_offset,
                    last_offset: record.last_offset,
                    bytes: record.bytes,
                    max_time_ms: record.max_time_ms,
                    batches: record.batches,
                    entries: SmallVec::from_slice(entries),
                },
            );
        }
        index
    }
}

impl StreamIndex {
    /// The entry whose blocks hold `offset`, if any do: the last one at or before it.
    pub fn at_offset(&self, offset: u64) -> &IndexEntry {
        let after = self.entries.partition_point(|e| e.offset <= offset);
        &self.entries[after.saturating_sub(1)]
    }

    /// The entry from which the first batch at or after `time_ms` is found, if there is one.
    pub fn at_time(&self, time_ms: i64) -> &IndexEntry {
        let after = self.entries.partition_point(|e| e.time_before_ms < time_ms);
        &self.entries[after.saturating_sub(1)]
    }

    /// Where this stream's next batch after a block may be: the next block when it lies within
    /// the interval of the block's entry, else that of the next entry.
    pub fn after_block(&self, block: u64, next_block: u64) -> Option<u64> {
        let after = self.entries.partition_point(|e| u64::from(e.block) <= block);
        let covered = match after.checked_sub(1) {
            Some(at) => u64::from(self.entries[at].block) + INDEX_INTERVAL_BYTES,
            None => 0,
        };
        if next_block < covered {
            return Some(next_block);
        }
        self.entries.get(after).map(|e| u64::from(e.block))
    }
}
