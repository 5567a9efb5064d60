//! Getting a block for a cursor: from the newest ones in memory, or from the disk.

use std::collections::hash_map::Entry;

use tracing::warn;

use super::readers::Cold;
use super::{CursorId, Got, ReadOrder};
use crate::buffer::AlignedBuffer;
use crate::device::{Action, DeviceError, FileId, LogDevice};
use crate::format::block::{Block, BlockHeader};
use crate::format::footer::{FooterBody, FooterTrailer};
use crate::index::SegmentIndex;
use crate::io::Purpose;
use crate::segments::{Segment, State};
use crate::wal::Wal;

/// What a fetch gives.
pub(crate) enum Fetched {
    /// `cold`: from the disk; its payloads are not checked yet.
    Block {
        block: Block,
        cold: bool,
    },
    Pending,
    /// The block is not on the disk yet.
    NotYet,
    Damaged {
        file: String,
        offset: u64,
    },
}

/// Whether a segment's index can be used.
pub(crate) enum IndexState {
    Here,
    Pending,
    Damaged { file: String, offset: u64 },
}

impl Wal {
    /// A cursor whose `Pending` read can go on. One may be named that has gone on already.
    pub fn take_ready(&mut self) -> Option<CursorId> {
        self.readers.ready.pop_front()
    }

    /// The block at `offset` of a segment in use; `bytes` is its length as far as it is known.
    pub(crate) fn fetch<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: CursorId,
        segment: u64,
        offset: u64,
        bytes: u64,
    ) -> Fetched {
        if let Some(block) = self.tail.find(segment, offset) {
            return Fetched::Block { block: block.clone(), cold: false };
        }
        let Some(found) = self.segments.all.get(&segment) else { return Fetched::NotYet };
        let end = self.readable_end(found);
        if offset >= end {
            return Fetched::NotYet;
        }
        let (file, name) = (found.file, found.name());
        if !self.readers.claim(cursor, segment, file, bytes) {
            return Fetched::Pending;
        }
        let damaged = Fetched::Damaged { file: name, offset };
        let bytes = bytes.clamp(self.unit as u64, end - offset);
        let header = match self.cold_bytes(device, cursor, offset, bytes, self.unit as u64, end) {
            Got::Bytes(bytes) => bytes,
            Got::Missing => return Fetched::Pending,
            Got::Failed => return damaged,
        };
        if let Some((at, block)) = self.readers.cold.get(&cursor).and_then(|c| c.last.as_ref())
            && *at == offset
        {
            return Fetched::Block { block: block.clone(), cold: true };
        }
        let secret = &self.config.secret;
        let parsed = BlockHeader::parse(&header, secret, segment, offset, self.unit);
        let Ok((header, header_crc)) = parsed else { return damaged };
        let bytes = u64::from(header.block_bytes);
        if offset + bytes > end {
            return damaged;
        }
        let bytes = match self.cold_bytes(device, cursor, offset, bytes, bytes, end) {
            Got::Bytes(bytes) => bytes,
            Got::Missing => return Fetched::Pending,
            Got::Failed => return damaged,
        };
        let block = Block { header, header_crc, bytes };
        if !block.table_is_good() {
            return damaged;
        }
        if let Some(cold) = self.readers.cold.get_mut(&cursor) {
            cold.last = Some((offset, block.clone()));
            cold.told = false;
        }
        Fetched::Block { block, cold: true }
    }

    /// `bytes` from `offset` through the cursor's window, for which `plan` bytes are read.
    fn cold_bytes<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: CursorId,
        offset: u64,
        plan: u64,
        bytes: u64,
        end: u64,
    ) -> Got {
        let ahead_max = self.readers.ahead_max(self.chunks.chunk_bytes());
        let Some(cold) = self.readers.cold.get_mut(&cursor) else { return Got::Missing };
        // What is in memory need not be read.
        let in_memory = self.tail.first_in(cold.segment).filter(|first| *first >= offset + plan);
        let end = in_memory.unwrap_or(end).min(end);
        let (chunks, tail) = (&mut self.chunks, &mut self.tail);
        let orders = cold.window.plan(offset, plan, end, ahead_max, chunks, tail);
        let got = cold.window.get(offset, bytes, &mut self.chunks, &mut self.tail);
        cold.awaited = matches!(got, Got::Missing).then_some((offset, plan));
        let file = cold.file;
        self.submit_reads(device, cursor, file, orders);
        got
    }

    pub(super) fn submit_reads<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: CursorId,
        file: FileId,
        orders: Vec<ReadOrder>,
    ) {
        for ReadOrder { part, slot, offset, buffer } in orders {
            self.stats.cold_bytes_read += buffer.len() as u64;
            let purpose = Purpose::ColdRead { cursor, part, slot, file };
            self.io.submit(device, purpose, Action::Read { file, offset, buffer });
        }
    }

    pub(crate) fn cold_read_done(
        &mut self,
        cursor: CursorId,
        part: u64,
        slot: u16,
        result: Result<AlignedBuffer, DeviceError>,
    ) {
        if let Err(error) = &result {
            warn!(shard = self.config.shard, %error, "reading the log failed");
        }
        let Some(cold) = self.readers.cold.get_mut(&cursor) else { return };
        if let Some(next) = cold.next.as_mut().filter(|next| next.window.has_part(part)) {
            next.window.read_done(part, slot, result);
            return;
        }
        cold.window.read_done(part, slot, result);
        if let Some((offset, bytes)) = cold.awaited
            && cold.window.has(offset, bytes)
        {
            cold.awaited = None;
            cold.told = true;
            self.readers.tell(cursor);
        }
    }

    /// After a step of a reader: its window, or one it was offered and did not need, goes to who
    /// waits for one.
    pub(crate) fn share_window(&mut self, cursor: CursorId) {
        let readers = &mut self.readers;
        readers.decline(cursor);
        let Some(cold) = readers.cold.get_mut(&cursor) else { return };
        cold.told = false;
        if cold.awaited.is_none() && !readers.queue.is_empty() {
            readers.release(cursor);
        }
    }

    /// The cursor is not read on for now, however ready it is: its window counts as idle, and goes to
    /// who waits for one, as does one that it was offered.
    pub fn rest(&mut self, cursor: CursorId) {
        if let Some(cold) = self.readers.cold.get_mut(&cursor) {
            cold.awaited = None;
        }
        self.share_window(cursor);
    }

    /// No one reads this segment any more.
    pub(crate) fn forget_windows(&mut self, segment: u64) {
        for cold in self.readers.cold.values_mut() {
            cold.next.take_if(|next| next.segment == segment);
        }
        let on_it =
            |(cursor, cold): (&CursorId, &Cold)| (cold.segment == segment).then_some(*cursor);
        let cursors: Vec<_> = self.readers.cold.iter().filter_map(on_it).collect();
        for cursor in cursors {
            let told = self.readers.cold.get(&cursor).is_some_and(|c| c.awaited.is_some());
            self.readers.release(cursor);
            if told {
                self.readers.tell(cursor);
            }
        }
        self.readers.bad_footers.remove(&segment);
    }

    /// Up to where a segment's blocks are on the disk.
    pub(crate) fn readable_end(&self, segment: &Segment) -> u64 {
        if segment.state == State::Sealed {
            return segment.data_end;
        }
        let mut under_way = self.writer.in_flight.iter();
        let first = under_way.find(|block| block.segment == segment.number);
        first.map_or(segment.data_end, |block| block.offset)
    }

    /// Makes sure that a segment's index is in memory.
    pub(crate) fn need_index<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: CursorId,
        segment: u64,
    ) -> IndexState {
        let state = self.load_index(device, segment);
        if let IndexState::Pending = state {
            self.readers.footer_waits.entry(segment).or_default().push(cursor);
        }
        state
    }

    /// As [`Self::need_index`], and nobody is told.
    pub(super) fn load_index<D: LogDevice>(&mut self, device: &mut D, segment: u64) -> IndexState {
        if self.indexes.get(segment).is_some() {
            return IndexState::Here;
        }
        let found = self.segments.all.get(&segment);
        let Some((found, place)) = found.and_then(|s| Some((s, s.footer?))) else {
            return IndexState::Damaged { file: crate::format::names::segment(segment), offset: 0 };
        };
        if self.readers.bad_footers.contains_key(&segment) {
            return IndexState::Damaged { file: found.name(), offset: place.body_offset };
        }
        if let Entry::Vacant(first) = self.readers.footer_waits.entry(segment) {
            first.insert(Vec::new());
            let buffer = AlignedBuffer::zeroed(place.bytes as usize);
            let action = Action::Read { file: found.file, offset: place.body_offset, buffer };
            self.io.submit(device, Purpose::FooterRead { segment }, action);
        }
        IndexState::Pending
    }

    pub(crate) fn footer_read(&mut self, number: u64, result: Result<AlignedBuffer, DeviceError>) {
        if let Some(segment) = self.segments.all.get(&number) {
            let secret = &self.config.secret;
            let index = result.ok().and_then(|bytes| {
                let trailer = FooterTrailer::parse(&bytes, secret, number, segment.bytes).ok()?;
                FooterBody::parse(&bytes, &trailer).ok()
            });
            match index {
                Some(body) => self.indexes.insert(number, SegmentIndex::from_body(&body)),
                None => {
                    warn!(shard = self.config.shard, number, "a segment's footer is damaged");
                    self.readers.bad_footers.insert(number, ());
                }
            }
        }
        for cursor in self.readers.footer_waits.remove(&number).unwrap_or_default() {
            self.readers.tell(cursor);
        }
    }
}
