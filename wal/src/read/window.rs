//! A moving range of one segment's file, read ahead of its reader, several reads at once.
//!
//! The range is made of parts, pieces of chunks, filled by reads of half a MiB. A part is used from
//! its begin up to the first read that has not ended; a block that lies across chunks is put
//! together in memory of its own.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use crate::buffer::{AlignedBuffer, Shared};
use crate::cache::{Chunks, Tail};
use crate::device::DeviceError;

/// One read, bytes.
const READ_BYTES: usize = 512 * 1024;
/// Read ahead at least once a reader goes from block to block, bytes.
const AHEAD_BYTES_SEQUENTIAL: u64 = 2 * 1024 * 1024;
/// A part's length is a multiple of this, or ends where the blocks end, bytes.
const PART_UNIT: u64 = 64 * 1024;
/// A part's length at most, unless one block needs more, bytes.
const PART_BYTES_MAX: u64 = 1024 * 1024;
/// A part up to this length has memory of its own when no begun chunk has room, bytes.
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
    /// The reads that have ended and that one before has not.
    slots: Vec<Option<AlignedBuffer>>,
    /// Reads that have not ended.
    missing: usize,
    /// The slot that `data` goes on with.
    next_slot: usize,
    /// The part's bytes from its begin on, as far as they are there.
    data: Option<Shared>,
}

/// Numbers of parts, each given once: clones count on together.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartNumbers(Rc<Cell<u64>>);

impl PartNumbers {
    fn take(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }
}

pub(crate) struct Window {
    parts: VecDeque<Part>,
    numbers: PartNumbers,
    /// Where the next part begins.
    planned: u64,
    ahead: u64,
    /// Of the last plan.
    last_offset: Option<u64>,
    /// What is left of the chunk that the last part was taken from.
    rest: AlignedBuffer,
    /// Memory that blocks across chunks are put together in.
    joint: AlignedBuffer,
}

impl Window {
    /// `ahead` is how far is read ahead at first; it grows as reading goes on.
    pub fn new(ahead: u64, numbers: PartNumbers) -> Self {
        Self {
            parts: VecDeque::new(),
            numbers,
            planned: 0,
            ahead,
            last_offset: None,
            rest: AlignedBuffer::zeroed(0),
            joint: AlignedBuffer::zeroed(0),
        }
    }

    /// How far is read ahead now, bytes.
    pub fn ahead(&self) -> u64 {
        self.ahead
    }

    /// Reads ahead so far from now on, whatever was learnt.
    pub fn set_ahead(&mut self, bytes: u64) {
        self.ahead = bytes;
    }

    /// How far is read ahead beyond `end`, to which all is planned already; 0 when it is not.
    pub fn ahead_beyond(&self, end: u64) -> u64 {
        let Some(offset) = self.last_offset.filter(|_| self.planned >= end) else { return 0 };
        self.ahead.saturating_sub(end.saturating_sub(offset))
    }

    /// Whether this part is one of the window's.
    pub fn has_part(&self, number: u64) -> bool {
        self.parts.iter().any(|part| part.number == number)
    }

    /// Moves to `offset` and plans reads so that `bytes` from there come, and what is read ahead;
    /// nothing at or after `end`. All are multiples of the block size. `ahead_max`: how far may be read
    /// ahead, bytes.
    pub fn plan(
        &mut self,
        offset: u64,
        bytes: u64,
        end: u64,
        ahead_max: u64,
        chunks: &mut Chunks,
        tail: &mut Tail,
    ) -> Vec<ReadOrder> {
        self.move_to(offset, bytes);
        let chunk = chunks.chunk_bytes() as u64;
        self.ahead = self.ahead.clamp(1, ahead_max.max(1));

        // Several parts ahead: the others are read while one is used.
        let step = (self.ahead / 2).clamp(1, chunk.min(PART_BYTES_MAX));
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

    /// Drops what lies before `offset`, or all after a jump, and learns how far to read ahead.
    fn move_to(&mut self, offset: u64, bytes: u64) {
        while self.parts.front().is_some_and(|part| part.to <= offset) {
            self.parts.pop_front();
        }
        let here = self.parts.front().is_some_and(|part| part.from <= offset);
        if !here {
            self.parts.clear();
        }
        let last = self.last_offset.replace(offset);
        if here || self.planned == offset {
            if last.is_some_and(|last| offset > last) {
                self.ahead = (self.ahead * 4).max(AHEAD_BYTES_SEQUENTIAL);
            }
        } else {
            self.planned = offset;
            if last.is_some() {
                self.ahead = self.ahead.min(bytes);
            }
        }
    }

    fn add_part(
        &mut self,
        to: u64,
        chunks: &mut Chunks,
        tail: &mut Tail,
        orders: &mut Vec<ReadOrder>,
    ) {
        let bytes = to - self.planned;
        let length = bytes as usize;
        let mut memory = if self.rest.len() < length && bytes <= SMALL_PART_BYTES {
            AlignedBuffer::zeroed(length)
        } else {
            if self.rest.len() < length {
                self.rest = AlignedBuffer::zeroed(0);
                self.rest = chunks.take(length, tail);
            }
            self.rest.split_to(length)
        };
        let number = self.numbers.take();
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
        self.parts.push_back(Part { number, from, to, slots, missing, next_slot: 0, data: None });
        self.planned = to;
    }

    /// A read has ended. Reads of parts that are not wanted any more are ignored.
    pub fn read_done(&mut self, part: u64, slot: u16, result: Result<AlignedBuffer, DeviceError>) {
        let Some(part) = self.parts.iter_mut().find(|p| p.number == part) else { return };
        part.missing = part.missing.saturating_sub(1);
        if let (Ok(buffer), Some(slot)) = (result, part.slots.get_mut(usize::from(slot))) {
            *slot = Some(buffer);
            part.grow();
        }
    }

    /// Whether nothing of the range is waited for any more, good or bad.
    pub fn has(&self, offset: u64, bytes: u64) -> bool {
        let end = offset + bytes;
        self.planned >= end && self.over(offset, end).all(|part| part.is_settled(end))
    }

    /// The bytes of a range that was planned.
    pub fn get(&mut self, offset: u64, bytes: u64, chunks: &mut Chunks, tail: &mut Tail) -> Got {
        if !self.has(offset, bytes) {
            return Got::Missing;
        }
        let end = offset + bytes;
        if let Some(bytes) = self.in_one_piece(offset, end) {
            return Got::Bytes(bytes);
        }
        if self.joint.len() < bytes as usize {
            self.joint = AlignedBuffer::zeroed(0);
            self.joint = chunks.take(bytes as usize, tail);
        }
        let mut joined = self.joint.split_to(bytes as usize);
        let mut at = offset;
        for part in self.over(offset, end) {
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

    /// A range that lies in one chunk.
    fn in_one_piece(&self, offset: u64, end: u64) -> Option<Bytes> {
        let mut parts = self.over(offset, end);
        let first = parts.next()?;
        let mut data = first.data.clone()?;
        for part in parts {
            if !data.join(part.data.clone()?) {
                return None;
            }
        }
        data.slice(offset.checked_sub(first.from)? as usize..(end - first.from) as usize)
    }

    /// The parts that touch a range.
    fn over(&self, offset: u64, end: u64) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.from < end && offset < part.to)
    }
}

impl Part {
    /// Takes on the reads that have ended and follow what is there. A short one ends the data.
    fn grow(&mut self) {
        while let Some(next) = self.slots.get_mut(self.next_slot).and_then(Option::take) {
            let next = next.share();
            match &mut self.data {
                None => self.data = Some(next),
                Some(data) => {
                    // Where a read was short nothing more fits on.
                    if !data.join(next) {
                        break;
                    }
                }
            }
            self.next_slot += 1;
        }
    }

    /// Whether all of the part before `end` is there, or will never be.
    fn is_settled(&self, end: u64) -> bool {
        let there = self.data.as_ref().map_or(0, |data| data.len() as u64);
        self.missing == 0 || self.from + there >= self.to.min(end)
    }
}
