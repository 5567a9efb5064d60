//! From block to block, and around what is not one.

use bytes::Bytes;
use model::Lsn;

use super::frame::Segment;
use super::{Gap, Lost, Salvage, Visit};
use crate::crc::crc32c;
use crate::device::{DeviceError, LogDevice};
use crate::format::block::{Block, BlockHeader, MAGIC};
use crate::format::{u32_at, u64_at};
use crate::verify::source::SourceFile;

/// Where the walk stands.
#[derive(Default)]
struct Walk {
    /// The entry that comes next; 0 before the first block.
    next_lsn: u64,
    incarnation: u32,
    sequence: u64,
    /// Where the next block should have been and was not.
    pending: Option<Pending>,
    /// The end was a torn tail: nothing after it counts.
    torn: bool,
    /// The furthest LSN that anything calls durable, once it had to be known.
    promised: Option<u64>,
}

struct Pending {
    /// Which of the segments.
    segment: usize,
    from: u64,
    what: String,
    /// It begins like the next block's header: no crash changes a part of one.
    header_changed: bool,
}

impl<D: LogDevice> Salvage<'_, D> {
    /// Gives every good entry and every gap of the blocks to `visit`, in order. One block is held
    /// at a time. Returns the last LSN that is accounted for.
    pub fn walk<V: Visit>(&mut self, visit: &mut V) -> Result<Lsn, V::Error> {
        let mut walk = Walk::default();
        for at in 0..self.segments.len() {
            if walk.torn {
                break;
            }
            self.enter(at, &mut walk, visit)?;
            self.walk_segment(at, &mut walk, visit)?;
            self.leave(at, &mut walk, visit)?;
        }
        self.end(&mut walk, visit)?;
        Ok(Lsn(walk.next_lsn.saturating_sub(1)))
    }

    /// What lies between a full segment and the next was recycled: no gap. Nor is what lies before
    /// the first segment; whether a checkpoint stands for it is for the caller to say.
    fn enter<V: Visit>(
        &mut self,
        at: usize,
        walk: &mut Walk,
        visit: &mut V,
    ) -> Result<(), V::Error> {
        let Some(first) = self.segments[at].first_lsn else { return Ok(()) };
        let recycled =
            at == 0 || (self.segments[at - 1].last_lsn.is_some() && self.manifest.is_some());
        if first > walk.next_lsn && recycled {
            if let Some(pending) = walk.pending.take() {
                self.tell(&pending, at, walk.next_lsn, Lost::Nothing, visit)?;
            }
            walk.next_lsn = first;
        }
        Ok(())
    }

    /// What a full segment should have held and did not.
    fn leave<V: Visit>(
        &mut self,
        at: usize,
        walk: &mut Walk,
        visit: &mut V,
    ) -> Result<(), V::Error> {
        let segment = &self.segments[at];
        let Some(last) = segment.last_lsn.filter(|last| *last >= walk.next_lsn) else {
            return Ok(());
        };
        if walk.torn {
            return Ok(());
        }
        let first = walk.next_lsn.max(segment.first_lsn.unwrap_or(1)).max(1);
        let pending = walk.pending.take().unwrap_or_else(|| Pending {
            segment: at,
            from: segment.data_end.unwrap_or(0),
            what: "its last entries are missing".to_owned(),
            header_changed: false,
        });
        let lost = Lost::Entries { first: Lsn(first), last: Lsn(last) };
        self.tell(&pending, at, u64::MAX, lost, visit)?;
        walk.next_lsn = last + 1;
        Ok(())
    }

    fn walk_segment<V: Visit>(
        &mut self,
        at: usize,
        walk: &mut Walk,
        visit: &mut V,
    ) -> Result<(), V::Error> {
        let unit = self.audit.unit as u64;
        let name = self.segments[at].name.clone();
        let file = self.audit.source.open(&name)?;
        let Some(mut file) = file.filter(|_| self.segments[at].exists) else {
            let what = "it is missing".to_owned();
            let pending = Pending { segment: at, from: 0, what, header_changed: false };
            walk.pending.get_or_insert(pending);
            return Ok(());
        };
        let end = self.segments[at].data_end.unwrap_or(file.bytes).min(file.bytes);
        let mut offset = unit;
        while offset < end && !walk.torn {
            match self.block_at(&mut file, offset, at, walk) {
                Ok(block) => {
                    let bytes = u64::from(block.header.block_bytes);
                    self.take(block, &mut file, offset, at, walk, visit)?;
                    offset += bytes;
                }
                Err((what, header_changed)) => {
                    let pending = Pending { segment: at, from: offset, what, header_changed };
                    walk.pending.get_or_insert(pending);
                    offset += unit;
                }
            }
        }
        Ok(self.audit.source.close(file)?)
    }

    /// The block at `offset`, if there is one that can come next, with whatever body.
    fn block_at(
        &mut self,
        file: &mut SourceFile,
        offset: u64,
        at: usize,
        walk: &Walk,
    ) -> Result<Block, (String, bool)> {
        let (unit, secret, shard) = (self.audit.unit, self.audit.secret, self.shard);
        let segment = &self.segments[at];
        let source = &mut self.audit.source;
        let Some(head) = source.read_if_can(file, offset, unit) else {
            return Err(("it cannot be read".to_owned(), false));
        };
        let parsed = BlockHeader::parse(head, &secret, segment.number, offset, unit);
        let (header, header_crc) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let changed = was_a_header(head, segment.number, walk.sequence + 1);
                return Err((format!("there is no block: {error}"), changed));
            }
        };
        let follows = header.shard == shard
            && segment.generation.is_none_or(|generation| generation == header.generation)
            && header.incarnation >= walk.incarnation
            && header.first_lsn >= walk.next_lsn
            && header.sequence > walk.sequence;
        if !follows {
            return Err(("the block does not follow the one before".to_owned(), false));
        }
        let bytes = source.read_if_can(file, offset, header.block_bytes as usize);
        let bytes = Bytes::copy_from_slice(bytes.unwrap_or_default());
        Ok(Block { header, header_crc, bytes })
    }

    /// Takes a block: what is missing before it, then its entries.
    fn take<V: Visit>(
        &mut self,
        block: Block,
        file: &mut SourceFile,
        offset: u64,
        at: usize,
        walk: &mut Walk,
        visit: &mut V,
    ) -> Result<(), V::Error> {
        let header = block.header;
        // Where the log began is not known; but something stood before this block.
        let unknown_begin = walk.next_lsn == 0 && walk.pending.is_some();
        let next_lsn = if unknown_begin { 1 } else { walk.next_lsn };
        let leaps = next_lsn > 0 && header.first_lsn > next_lsn;
        let bad = !block.table_is_good() || !block.body_is_good();
        let sealed = self.segments[at].last_lsn.is_some();
        let doubted = if leaps { next_lsn } else { header.first_lsn };
        if (leaps || (bad && !sealed)) && self.promised_from(file, at, offset, walk)? < doubted {
            walk.torn = true;
            return Ok(());
        }
        let pending = walk.pending.take();
        if leaps {
            let pending = pending.unwrap_or_else(|| Pending {
                segment: at,
                from: offset,
                what: "entries before this block are missing".to_owned(),
                header_changed: false,
            });
            let last = Lsn(header.first_lsn - 1);
            let lost = Lost::Entries { first: Lsn(next_lsn), last };
            self.tell(&pending, at, offset, lost, visit)?;
        } else if let Some(pending) = pending.filter(|p| p.segment == at) {
            self.tell(&pending, at, offset, Lost::Nothing, visit)?;
        }
        self.visit_entries(&block, offset, at, visit)?;
        walk.next_lsn = header.first_lsn + u64::from(header.entries);
        walk.incarnation = header.incarnation;
        walk.sequence = header.sequence;
        Ok(())
    }

    fn visit_entries<V: Visit>(
        &self,
        block: &Block,
        offset: u64,
        at: usize,
        visit: &mut V,
    ) -> Result<(), V::Error> {
        let header = &block.header;
        let file = &self.segments[at].name;
        let gap = |from: usize, to: usize, what: &str, lost| Gap {
            file: file.clone(),
            from: offset + from as u64,
            to: offset + to as u64,
            what: what.to_owned(),
            lost,
        };
        if !block.table_is_good() {
            let (from, to) = (header.table_offset(), header.block_bytes as usize);
            let lost = match header.entries {
                0 => Lost::Nothing,
                _ => Lost::Entries { first: Lsn(header.first_lsn), last: Lsn(header.last_lsn()) },
            };
            let what = "the entry table does not match its checksum";
            return visit.gap(&gap(from, to, what, lost));
        }
        let mut whole = true;
        for ((record, range), lsn) in block.entries().zip(header.first_lsn..) {
            let payload = block.bytes.get(range.clone()).unwrap_or_default();
            if payload.len() == range.len() && crc32c(payload) == record.payload_crc {
                visit.entry(Lsn(lsn), &record.head, payload)?;
            } else {
                whole = false;
                let lost = Lost::Payload { lsn: Lsn(lsn), head: record.head };
                let what = "an entry does not match its checksum";
                visit.gap(&gap(range.start, range.end, what, lost))?;
            }
        }
        if whole && !block.body_is_good() {
            let (from, to) = (header.body_end(), header.block_bytes as usize);
            let what = "the padding of a block is not zero";
            visit.gap(&gap(from, to, what, Lost::Nothing))?;
        }
        Ok(())
    }

    /// The furthest LSN that the frame or any block from here on calls durable.
    fn promised_from(
        &mut self,
        file: &mut SourceFile,
        at: usize,
        offset: u64,
        walk: &mut Walk,
    ) -> Result<u64, DeviceError> {
        if let Some(promised) = walk.promised {
            return Ok(promised);
        }
        let mut promised = self.promised.max(self.promised_in(file, at, offset, walk));
        for later in at + 1..self.segments.len() {
            let name = self.segments[later].name.clone();
            let Some(mut file) = self.audit.source.open(&name)? else { continue };
            let unit = self.audit.unit as u64;
            promised = promised.max(self.promised_in(&mut file, later, unit, walk));
            self.audit.source.close(file)?;
        }
        walk.promised = Some(promised);
        Ok(promised)
    }

    fn promised_in(&mut self, file: &mut SourceFile, at: usize, from: u64, walk: &Walk) -> u64 {
        let (unit, secret) = (self.audit.unit, self.audit.secret);
        let segment = &self.segments[at];
        let end = segment.data_end.unwrap_or(file.bytes).min(file.bytes);
        let mut promised = 0;
        let mut offset = from;
        while offset < end {
            let head = self.audit.source.read_if_can(file, offset, unit).unwrap_or_default();
            let parsed = BlockHeader::parse(head, &secret, segment.number, offset, unit);
            if let Ok((header, _)) = parsed
                && segment.generation.is_none_or(|generation| generation == header.generation)
                && header.incarnation >= walk.incarnation
            {
                promised = promised.max(header.durable_lsn);
            }
            offset += unit as u64;
        }
        promised
    }

    /// Nothing comes any more: is all there that was durable?
    fn end<V: Visit>(&mut self, walk: &mut Walk, visit: &mut V) -> Result<(), V::Error> {
        let promised = walk.promised.unwrap_or(0).max(self.promised);
        let changed = walk.pending.as_ref().is_some_and(|pending| pending.header_changed);
        if walk.torn || (promised < walk.next_lsn.max(1) && !changed) {
            return Ok(());
        }
        let first = Lsn(walk.next_lsn.max(1));
        let lost = Lost::End { first, promised: Lsn(promised) };
        match walk.pending.take() {
            Some(pending) => self.tell(&pending, self.segments.len(), u64::MAX, lost, visit),
            None => {
                let last = self.segments.last();
                let file = last.map_or("the log", |segment| segment.name.as_str()).to_owned();
                let from = last.map_or(0, |segment| segment.data_end.unwrap_or(0));
                let what = "the log ends before entries that were durable".to_owned();
                visit.gap(&Gap { file, from, to: from, what, lost })
            }
        }
    }

    /// Tells a gap that began at `pending` and ends at `offset` of segment `at`, or with its file.
    fn tell<V: Visit>(
        &self,
        pending: &Pending,
        at: usize,
        offset: u64,
        lost: Lost,
        visit: &mut V,
    ) -> Result<(), V::Error> {
        let segment: &Segment = &self.segments[pending.segment];
        let end = segment.data_end.unwrap_or(segment.bytes);
        let to = if pending.segment == at { offset.min(end) } else { end };
        let (file, what) = (segment.name.clone(), pending.what.clone());
        // Space after a segment's last block, in which nothing ever was, is no gap.
        if lost == Lost::Nothing && segment.exists && (pending.segment != at || to <= pending.from)
        {
            return Ok(());
        }
        visit.gap(&Gap { file, from: pending.from, to, what, lost })
    }
}

/// Whether bytes that are no header are that of the next block with some of them changed. Each of
/// the three is told by what the others say.
fn was_a_header(bytes: &[u8], number: u64, sequence: u64) -> bool {
    if bytes.len() < 40 {
        return false;
    }
    let signs =
        [u32_at(bytes, 0) == MAGIC, u64_at(bytes, 16) == number, u64_at(bytes, 32) == sequence];
    signs.into_iter().filter(|sign| *sign).count() >= 2
}
