//! A moving range of one segment's file, read ahead of its reader, several reads at once.
//!
//! The range is made of parts, each one piece of memory filled by reads of half a MiB. A part is
//! used when it is whole; a block that lies across parts is put together in memory of its own.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffer::AlignedBuffer;
use crate::cache::{Chunks, Tail};
use crate::device::DeviceError;

/// One read, bytes.
const READ_BYTES: usize = 512 * 1024;
/// Read ahead at most, bytes.
const AHEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A part's length is a multiple of this, or ends where the blocks end, bytes.
const PART_UNIT: u64 = 64 * 1024;
/// A part up to this length has memory of its own, a longer one takes a chunk, bytes.
const SMALL_PART_BYTES: u64 = 256 * 1024;

/// A read to be submitted.
pub(crate) struct ReadOrder {
    pub part: u64,
    pub slot: u16,
    pub offset: u64,
    pub buffer: AlignedBuffer,
}

/// What the window has of a range.
pub(crate) enum Got {
    Bytes(Bytes),
    Missing,
    /// It could not be read.
    Failed,
}

struct Part {
    number: u64,
    from: u64,
    to: u64,
    slots: Vec<Option<AlignedBuffer>>,
    missing: usize,
    data: Option<Bytes>,
    failed: bool,
}

pub(crate) struct Window {
    parts: VecDeque<Part>,
    next_number: u64,
    /// Where the next part begins.
    planned: u64,
    ahead: u64,
    /// Of the last plan.
    last_offset: Option<u64>,
    /// Memory that blocks across parts are put together in.
    joint: AlignedBuffer,
}

impl Window {
    /// `ahead` is how far is read ahead at first; it doubles as reading goes on. `first_number`
    /// is above that of every part of an earlier window of the same reader.
    pub fn new(ahead: u64, first_number: u64) -> Self {
        Self {
            parts: VecDeque::new(),
            next_number: first_number,
            planned: 0,
            ahead,
            last_offset: None,
            joint: AlignedBuffer::zeroed(0),
        }
    }

    /// How far is read ahead now, bytes.
    pub fn ahead(&self) -> u64 {
        self.ahead
    }

    /// The number above that of every part so far.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Moves to `offset` and plans reads so that `bytes` from there come, and what is read ahead;
    /// nothing at or after `end`. All are multiples of the block size.
    pub fn plan(
        &mut self,
        offset: u64,
        bytes: u64,
        end: u64,
        chunks: &mut Chunks,
        tail: &mut Tail,
    ) -> Vec<ReadOrder> {
        while self.parts.front().is_some_and(|part| part.to <= offset) {
            self.parts.pop_front();
        }
        if self.parts.front().is_none_or(|part| offset < part.from) {
            self.parts.clear();
            if self.planned != offset {
                self.planned = offset;
                // A jump: what is read ahead starts small again.
                if self.last_offset.is_some() {
                    self.ahead = self.ahead.min(bytes);
                }
            }
        }
        let chunk = chunks.chunk_bytes() as u64;
        if self.last_offset.is_some_and(|last| offset > last) {
            self.ahead *= 2;
        }
        self.ahead = self.ahead.clamp(1, AHEAD_BYTES_MAX.min(2 * chunk));
        self.last_offset = Some(offset);

        // Two parts ahead: one is read while the other is used.
        let step = (self.ahead / 2).clamp(1, chunk);
        let needed = end.min(offset + bytes);
        let mut orders = Vec::new();
        while self.planned < needed
            || self.planned < end && self.planned - offset <= self.ahead - step
        {
            let want = needed.saturating_sub(self.planned).max(step).next_multiple_of(PART_UNIT);
            let to = end.min(self.planned + want.min(chunk));
            self.add_part(to, chunks, tail, &mut orders);
        }
        orders
    }

    fn add_part(
        &mut self,
        to: u64,
        chunks: &mut Chunks,
        tail: &mut Tail,
        orders: &mut Vec<ReadOrder>,
    ) {
        let bytes = to - self.planned;
        let mut memory = if bytes <= SMALL_PART_BYTES {
            AlignedBuffer::zeroed(bytes as usize)
        } else {
            chunks.take(bytes as usize, tail)
        };
        let mut memory = memory.split_to(bytes as usize);
        let number = self.next_number;
        self.next_number += 1;
        let mut offset = self.planned;
        let mut slots = Vec::new();
        while !memory.is_empty() {
            let buffer = memory.split_to(memory.len().min(READ_BYTES));
            let length = buffer.len() as u64;
            orders.push(ReadOrder { part: number, slot: slots.len() as u16, offset, buffer });
            slots.push(None);
            offset += length;
        }
        let missing = slots.len();
        let from = self.planned;
        self.parts.push_back(Part { number, from, to, slots, missing, data: None, failed: false });
        self.planned = to;
    }

    /// A read has ended. Reads of parts that are not wanted any more are ignored.
    pub fn read_done(&mut self, part: u64, slot: u16, result: Result<AlignedBuffer, DeviceError>) {
        let Some(part) = self.parts.iter_mut().find(|p| p.number == part) else { return };
        part.missing -= 1;
        match result {
            Ok(buffer) => {
                if let Some(slot) = part.slots.get_mut(usize::from(slot)) {
                    *slot = Some(buffer);
                }
            }
            Err(_) => part.failed = true,
        }
        if part.missing == 0 {
            part.complete();
        }
    }

    /// Whether every part that touches the range is there, good or bad.
    pub fn has(&self, offset: u64, bytes: u64) -> bool {
        self.planned >= offset + bytes
            && self
                .parts
                .iter()
                .filter(|part| part.from < offset + bytes && offset < part.to)
                .all(|part| part.missing == 0)
    }

    /// The bytes of a range that was planned.
    pub fn get(&mut self, offset: u64, bytes: u64, chunks: &mut Chunks, tail: &mut Tail) -> Got {
        if !self.has(offset, bytes) {
            return Got::Missing;
        }
        let end = offset + bytes;
        let over = |part: &&Part| part.from < end && offset < part.to;
        if self.parts.iter().filter(over).any(|part| part.failed) {
            return Got::Failed;
        }
        let whole = self.parts.iter().find(|part| part.from <= offset && end <= part.to);
        if let Some(part) = whole {
            let from = (offset - part.from) as usize;
            return match &part.data {
                Some(data) if from + bytes as usize <= data.len() => {
                    Got::Bytes(data.slice(from..from + bytes as usize))
                }
                _ => Got::Failed,
            };
        }
        if self.joint.len() < bytes as usize {
            self.joint = AlignedBuffer::zeroed(0);
            self.joint = chunks.take(bytes as usize, tail);
        }
        let mut joined = self.joint.split_to(bytes as usize);
        let mut at = offset;
        for part in self.parts.iter().filter(over) {
            let to = part.to.min(end);
            let range = (at - part.from) as usize..(to - part.from) as usize;
            let Some(data) = part.data.as_ref().and_then(|data| data.get(range)) else {
                return Got::Failed;
            };
            joined[(at - offset) as usize..(to - offset) as usize].copy_from_slice(data);
            at = to;
        }
        if at == end { Got::Bytes(joined.freeze()) } else { Got::Failed }
    }
}

impl Part {
    /// All reads have ended: their buffers become one again. A short one ends the part's data.
    fn complete(&mut self) {
        let mut slots = self.slots.drain(..).flatten();
        let Some(mut whole) = slots.next() else { return };
        for next in slots {
            if whole.join(next).is_err() {
                break;
            }
        }
        if !self.failed {
            self.data = Some(whole.freeze());
        }
    }
}
