//! One block after the other: what it must say to follow, and what it holds.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Audit;
use super::source::SourceFile;
use crate::crc::crc32c;
use crate::device::{DeviceError, LogDevice};
use crate::format::block::{Block, BlockHeader, HEADER_BYTES};
use crate::format::entry::EntryRecord;
use crate::format::footer::StreamRecord;
use crate::format::manifest::{Manifest, SegmentRecord, SegmentState};

/// Where the walk through the log stands.
pub(super) struct Walk {
    pub(super) unit: usize,
    pub(super) shard: u16,
    /// What the next block must say; `None` before the first and after a gap.
    pub(super) follows: Option<Follows>,
    pub(super) next_lsn: u64,
    /// Of the last block walked.
    pub(super) last_lsn: u64,
    pub(super) incarnation: u32,
    /// The furthest LSN that anything calls durable.
    pub(super) promised: u64,
    /// No segment after this one continues the log.
    pub(super) ended: bool,
    /// Where the log ended.
    pub(super) end: (String, u64),
}

#[derive(Clone, Copy)]
pub(super) struct Follows {
    pub(super) sequence: u64,
    pub(super) previous_crc: u32,
}

/// What the blocks of a segment say of each stream, to compare with the footer.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) streams: BTreeMap<u32, StreamRecord>,
    /// (stream, block) -> base offset of the stream's first batch in the block.
    pub(super) places: BTreeMap<(u32, u32), u64>,
    pub(super) first_lsn: Option<u64>,
    pub(super) last_sequence: u64,
    pub(super) last_crc: u32,
}

impl Walk {
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self {
            unit: manifest.unit as usize,
            shard: manifest.shard,
            follows: None,
            next_lsn: 0,
            last_lsn: 0,
            incarnation: 0,
            promised: manifest.durable_lsn,
            ended: false,
            end: (String::new(), 0),
        }
    }

    /// Takes up at a segment whose predecessor was recycled or damaged.
    pub(super) fn take_up(&mut self, record: &SegmentRecord) {
        self.follows =
            Some(Follows { sequence: record.first_sequence, previous_crc: record.previous_crc });
        self.next_lsn = record.first_lsn;
    }
}

/// What a block's header contradicts, if anything.
pub(super) fn contradiction(
    header: &BlockHeader,
    record: &SegmentRecord,
    walk: &Walk,
) -> Option<String> {
    let follows = walk.follows.as_ref();
    if header.shard != walk.shard {
        return Some(format!("the block is of shard {}", header.shard));
    }
    if header.generation != record.generation {
        return Some(format!(
            "the block is of generation {}, the segment of {}",
            header.generation, record.generation
        ));
    }
    if header.incarnation < walk.incarnation {
        return Some("the block is older than the one before it".into());
    }
    if let Some(follows) = follows
        && (header.sequence != follows.sequence || header.previous_crc != follows.previous_crc)
    {
        return Some(format!(
            "the block does not follow block {}",
            follows.sequence.saturating_sub(1)
        ));
    }
    if follows.is_some() && header.first_lsn != walk.next_lsn {
        return Some(format!(
            "the block begins with entry {} instead of {}",
            header.first_lsn, walk.next_lsn
        ));
    }
    if header.durable_lsn >= header.first_lsn {
        return Some("the block calls itself durable".into());
    }
    None
}

impl<D: LogDevice> Audit<'_, D> {
    /// Checks the block at `at` and counts it. Its padded length, or what is wrong with its header
    /// or its place; a bad body behind a good header is reported here and walked past.
    pub(super) fn block(
        &mut self,
        file: &mut SourceFile,
        at: u64,
        record: &SegmentRecord,
        walk: &mut Walk,
        seen: &mut Seen,
    ) -> Result<Result<u64, String>, DeviceError> {
        let head = self.source.read(file, at, walk.unit)?;
        let parsed = BlockHeader::parse(head, &self.secret, record.number, at, walk.unit);
        let (header, crc) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(format!("there is no block: {error}"))),
        };
        if let Some(what) = contradiction(&header, record, walk) {
            return Ok(Err(what));
        }
        let bytes = self.source.read(file, at, header.block_bytes as usize)?;
        let block = Block { header, header_crc: crc, bytes: Bytes::copy_from_slice(bytes) };
        if let Some((offset, what)) = bad_part(&block) {
            if record.state != SegmentState::Sealed {
                // At the log's end this is a torn block, unless something calls it durable.
                self.look_ahead(file, at, record.number, walk)?;
                if walk.promised < header.first_lsn {
                    return Ok(Err(what));
                }
            }
            self.damage(&file.name.clone(), at + offset as u64, what);
        } else {
            self.count(&block, at, &file.name, seen);
        }
        walk.follows = Some(Follows { sequence: header.sequence + 1, previous_crc: crc });
        walk.next_lsn = header.first_lsn + u64::from(header.entries);
        walk.last_lsn = walk.next_lsn - 1;
        walk.incarnation = header.incarnation;
        walk.promised = walk.promised.max(header.durable_lsn);
        self.report.incarnation = self.report.incarnation.max(header.incarnation);
        Ok(Ok(u64::from(header.block_bytes)))
    }

    fn count(&mut self, block: &Block, at: u64, file: &str, seen: &mut Seen) {
        let header = &block.header;
        let report = &mut self.report;
        report.blocks += 1;
        report.witnesses += u64::from(header.entries == 0);
        report.entries += u64::from(header.entries);
        report.payload_bytes += u64::from(header.payload_bytes);
        if header.entries > 0 && report.first_lsn == 0 {
            report.first_lsn = header.first_lsn;
        }
        seen.first_lsn.get_or_insert(header.first_lsn);
        seen.last_sequence = header.sequence;
        seen.last_crc = block.header_crc;
        let mut leaps = Vec::new();
        for (record, range) in block.entries() {
            let head = &record.head;
            if head.leaps() {
                self.streams.insert(head.stream.0, head.base_offset);
            }
            if !head.is_batch() {
                continue;
            }
            report.batches += 1;
            report.records += u64::from(head.records);
            let expected = self.streams.insert(head.stream.0, head.last_offset().wrapping_add(1));
            if let Some(expected) = expected
                && expected != head.base_offset
            {
                leaps.push((range.start, head.stream, expected, head.base_offset));
            }
            seen.add(&record, at as u32);
        }
        for (within, stream, expected, found) in leaps {
            let what = format!("stream {stream} goes from offset {expected} to {found}");
            self.damage(file, at + within as u64, what);
        }
    }
}

/// The first part of a block behind its header that does not match its checksum: where, and what.
fn bad_part(block: &Block) -> Option<(usize, String)> {
    let header = &block.header;
    if block.bytes.len() < header.block_bytes as usize {
        return Some((block.bytes.len(), "the file ends within a block".into()));
    }
    if !block.table_is_good() {
        return Some((header.table_offset(), "the entry table does not match its checksum".into()));
    }
    for ((record, range), lsn) in block.entries().zip(header.first_lsn..) {
        if crc32c(&block.bytes[range.clone()]) != record.payload_crc {
            let what = format!("entry {lsn} does not match its checksum");
            return Some((range.start, what));
        }
    }
    if let Some(within) = block.bytes[header.body_end()..].iter().position(|b| *b != 0) {
        return Some((header.body_end() + within, "the padding of a block is not zero".into()));
    }
    let body = crc32c(&block.bytes[HEADER_BYTES..header.body_end()]);
    (body != header.body_crc)
        .then(|| (HEADER_BYTES, "the block's body does not match its checksum".into()))
}

impl Seen {
    /// Nothing yet, behind the blocks walked so far.
    pub(super) fn after(walk: &Walk) -> Self {
        let mut seen = Self::default();
        if let Some(follows) = &walk.follows {
            seen.last_sequence = follows.sequence.saturating_sub(1);
            seen.last_crc = follows.previous_crc;
        }
        seen
    }

    fn add(&mut self, record: &EntryRecord, block: u32) {
        let head = &record.head;
        self.places.entry((head.stream.0, block)).or_insert(head.base_offset);
        let stream = self.streams.entry(head.stream.0).or_insert(StreamRecord {
            stream: head.stream,
            index_start: 0,
            index_entries: 0,
            label_start: 0,
            label_bytes: 0,
            batches: 0,
            first_offset: head.base_offset,
            last_offset: 0,
            bytes: 0,
            max_time_ms: i64::MIN,
        });
        stream.batches += 1;
        stream.last_offset = head.last_offset();
        stream.bytes += u64::from(record.payload_bytes);
        stream.max_time_ms = stream.max_time_ms.max(head.time_ms);
    }
}
