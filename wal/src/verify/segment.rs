//! Blocks and footers of one segment after the other.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::source::SourceFile;
use super::{Audit, LogReport};
use crate::crc::crc32c;
use crate::device::{DeviceError, LogDevice};
use crate::format::block::{Block, BlockHeader, HEADER_BYTES};
use crate::format::entry::EntryRecord;
use crate::format::footer::StreamRecord;
use crate::format::manifest::{Manifest, SegmentRecord, SegmentState};
use crate::format::names;
use crate::format::segment::{self, SegmentHeader};

/// Where the walk through the log stands.
pub(super) struct Walk {
    pub(super) unit: usize,
    shard: u16,
    /// What the next block must say; `None` before the first and after a gap.
    follows: Option<Follows>,
    pub(super) next_lsn: u64,
    /// Of the last block walked.
    pub(super) last_lsn: u64,
    incarnation: u32,
    /// The furthest LSN that anything calls durable.
    pub(super) promised: u64,
    /// No segment after this one continues the log.
    pub(super) ended: bool,
    /// Where the log ended.
    pub(super) end: (String, u64),
}

#[derive(Clone, Copy)]
struct Follows {
    sequence: u64,
    previous_crc: u32,
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
    fn take_up(&mut self, record: &SegmentRecord) {
        self.follows =
            Some(Follows { sequence: record.first_sequence, previous_crc: record.previous_crc });
        self.next_lsn = record.first_lsn;
    }
}

/// What a block's header contradicts, if anything.
fn contradiction(header: &BlockHeader, record: &SegmentRecord, walk: &Walk) -> Option<String> {
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
        return Some(format!("the block does not follow block {}", follows.sequence - 1));
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
    /// A sealed segment: blocks up to its known end, nothing missing, and a footer.
    pub(super) fn sealed(
        &mut self,
        record: &SegmentRecord,
        walk: &mut Walk,
    ) -> Result<(), DeviceError> {
        let Some(mut file) = self.segment_file(record, walk)? else {
            walk.follows = None;
            walk.next_lsn = record.last_lsn + 1;
            return Ok(());
        };
        let unbroken = walk.follows.is_some_and(|follows| {
            follows.sequence == record.first_sequence && walk.next_lsn == record.first_lsn
        });
        if !unbroken {
            // A segment between was recycled: offsets may leap, and the manifest says how the
            // chain goes on.
            walk.take_up(record);
            self.streams.clear();
        }
        let mut seen = Seen::default();
        let mut at = walk.unit as u64;
        let mut whole = true;
        while at < u64::from(record.data_end) {
            match self.block(&mut file, at, record, walk, &mut seen)? {
                Ok(bytes) => at += bytes,
                Err(what) => {
                    whole = false;
                    self.damage(&file.name.clone(), at, what);
                    let end = u64::from(record.data_end);
                    at = self.next_block(&mut file, at, record, end, walk)?;
                }
            }
        }
        if whole {
            if walk.next_lsn != record.last_lsn + 1 {
                let what = format!("the segment should end with entry {}", record.last_lsn);
                self.damage(&file.name.clone(), at, what);
            }
            self.footer(&mut file, record, &seen)?;
        }
        self.source.close(file)
    }

    /// A segment that was in use or ready when the manifest was written: the log goes through it,
    /// ends in it, or never came there.
    pub(super) fn open_segment(
        &mut self,
        record: &SegmentRecord,
        next: Option<&SegmentRecord>,
        walk: &mut Walk,
    ) -> Result<(), DeviceError> {
        let Some(mut file) = self.segment_file(record, walk)? else { return Ok(()) };
        if record.state == SegmentState::Active
            && walk.follows.is_none_or(|follows| follows.sequence != record.first_sequence)
        {
            walk.take_up(record);
            self.streams.clear();
        }
        let mut seen = Seen::default();
        let mut at = walk.unit as u64;
        loop {
            let trouble = match self.block(&mut file, at, record, walk, &mut seen)? {
                Ok(bytes) => {
                    at += bytes;
                    continue;
                }
                Err(trouble) => trouble,
            };
            walk.end = (file.name.clone(), at);
            let goes_on = match next {
                Some(next) => self.continues_in(next, walk)?,
                None => false,
            };
            if goes_on {
                break;
            }
            if !self.tail_is_damaged(&mut file, at, record, walk, trouble)? {
                walk.ended = true;
                break;
            }
            let end = file.bytes;
            at = self.next_block(&mut file, at, record, end, walk)?;
            if at == end {
                break;
            }
        }
        self.source.close(file)
    }

    /// After the log's end nothing may call an entry durable that is not there.
    pub(super) fn after_the_end(
        &mut self,
        record: &SegmentRecord,
        walk: &mut Walk,
    ) -> Result<(), DeviceError> {
        let Some(mut file) = self.segment_file(record, walk)? else { return Ok(()) };
        self.look_ahead(&mut file, walk.unit as u64, record.number, walk)?;
        self.source.close(file)
    }

    /// Opens a named segment and checks its own header.
    fn segment_file(
        &mut self,
        record: &SegmentRecord,
        walk: &Walk,
    ) -> Result<Option<SourceFile>, DeviceError> {
        let name = names::segment(record.number);
        let Some(mut file) = self.source.open(&name)? else {
            self.damage(&name, 0, "the manifest names this segment, but it is missing");
            return Ok(None);
        };
        self.report.segments += 1;
        if file.bytes != record.bytes {
            let what = format!("it has {} bytes instead of {}", file.bytes, record.bytes);
            self.damage(&name, file.bytes.min(record.bytes), what);
        }
        let first = self.source.read(&mut file, 0, walk.unit)?;
        let padding_zero = first.iter().skip(segment::HEADER_BYTES).all(|b| *b == 0);
        match SegmentHeader::parse(first, &self.secret, record.number) {
            Ok(header) => {
                let good = header.generation == record.generation
                    && header.shard == walk.shard
                    && header.unit as usize == walk.unit
                    && header.bytes == record.bytes
                    && padding_zero;
                if !good {
                    self.damage(&name, 0, "the segment's header contradicts the manifest");
                }
            }
            Err(error) => self.damage(&name, 0, format!("the segment's header: {error}")),
        }
        Ok(Some(file))
    }

    /// Checks the block at `at` and counts it. Its padded length, or what is wrong with its header
    /// or its place; a bad body behind a good header is reported here and walked past.
    fn block(
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
            if !record.head.is_batch() {
                continue;
            }
            let head = &record.head;
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

    /// The place of the next block before `end` that can be made out after damage, from which the
    /// walk goes on; `end` when there is none.
    fn next_block(
        &mut self,
        file: &mut SourceFile,
        at: u64,
        record: &SegmentRecord,
        end: u64,
        walk: &mut Walk,
    ) -> Result<u64, DeviceError> {
        // Its offsets cannot be compared with what is lost.
        self.streams.clear();
        let mut from = at + walk.unit as u64;
        while let Some((offset, header)) = self.header_from(file, from, record.number, walk.unit)? {
            if offset >= end {
                break;
            }
            // What was cut once may still lie about; it repeats numbers that were walked.
            if header.first_lsn >= walk.next_lsn && header.incarnation >= walk.incarnation {
                let (sequence, previous_crc) = (header.sequence, header.previous_crc);
                walk.follows = Some(Follows { sequence, previous_crc });
                walk.next_lsn = header.first_lsn;
                return Ok(offset);
            }
            from = offset + walk.unit as u64;
        }
        walk.follows = None;
        // What is missing is said once.
        walk.next_lsn = match record.state {
            SegmentState::Sealed => record.last_lsn + 1,
            _ => walk.next_lsn.max(walk.promised + 1),
        };
        Ok(end)
    }

    /// The first good header at or after `from`.
    fn header_from(
        &mut self,
        file: &mut SourceFile,
        from: u64,
        number: u64,
        unit: usize,
    ) -> Result<Option<(u64, BlockHeader)>, DeviceError> {
        let mut at = from;
        while at + HEADER_BYTES as u64 <= file.bytes {
            let head = self.source.read(file, at, unit)?;
            if let Ok((header, _)) = BlockHeader::parse(head, &self.secret, number, at, unit) {
                return Ok(Some((at, header)));
            }
            at += unit as u64;
        }
        Ok(None)
    }

    /// Takes in what all headers from `from` on call durable; how many there are.
    fn look_ahead(
        &mut self,
        file: &mut SourceFile,
        from: u64,
        number: u64,
        walk: &mut Walk,
    ) -> Result<u64, DeviceError> {
        let (mut at, mut found) = (from, 0);
        while let Some((offset, header)) = self.header_from(file, at, number, walk.unit)? {
            walk.promised = walk.promised.max(header.durable_lsn);
            at = offset + walk.unit as u64;
            found += 1;
        }
        Ok(found)
    }

    /// Where a block of any kind begins in a segment that should hold none.
    pub(super) fn first_block_anywhere(
        &mut self,
        name: &str,
        number: u64,
        unit: usize,
    ) -> Result<Option<u64>, DeviceError> {
        let Some(mut file) = self.source.open(name)? else { return Ok(None) };
        let mut at = 0;
        let mut found = None;
        while found.is_none() && at < file.bytes {
            let head = self.source.read(&mut file, at, unit)?;
            found = BlockHeader::parse(head, &self.secret, number, at, unit).ok().map(|_| at);
            at += unit as u64;
        }
        self.source.close(file)?;
        Ok(found)
    }

    /// Whether the log goes on in the next segment's first block.
    fn continues_in(&mut self, next: &SegmentRecord, walk: &Walk) -> Result<bool, DeviceError> {
        let Some(mut file) = self.source.open(&names::segment(next.number))? else {
            return Ok(false);
        };
        let at = walk.unit as u64;
        let head = self.source.read(&mut file, at, walk.unit)?;
        let goes_on = BlockHeader::parse(head, &self.secret, next.number, at, walk.unit)
            .is_ok_and(|(header, _)| contradiction(&header, next, walk).is_none());
        self.source.close(file)?;
        Ok(goes_on)
    }

    /// No block follows at `at`. True when something calls entries durable that should be there;
    /// else the log ends by itself or in a torn write.
    fn tail_is_damaged(
        &mut self,
        file: &mut SourceFile,
        at: u64,
        record: &SegmentRecord,
        walk: &mut Walk,
        trouble: String,
    ) -> Result<bool, DeviceError> {
        let beyond = self.look_ahead(file, at, record.number, walk)?;
        let name = file.name.clone();
        let (next, promised) = (walk.next_lsn, walk.promised);
        if promised >= next && next > 0 {
            let what = format!("{trouble}; entries from {next} on were durable");
            self.damage(&name, at, what);
            return Ok(true);
        }
        if beyond > 0 {
            let what = format!(
                "the log ends here; {beyond} blocks after it were never acknowledged or were cut"
            );
            self.note(&name, at, what);
        }
        Ok(false)
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

impl LogReport {
    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{} segments, {} blocks, {} entries ({} to {}), {} batches with {} records in {} \
             streams, {} footers, {} checkpoints, {} bytes read",
            self.segments,
            self.blocks,
            self.entries,
            self.first_lsn,
            self.last_lsn,
            self.batches,
            self.records,
            self.streams,
            self.footers,
            self.checkpoints,
            self.bytes_read
        )
    }
}
