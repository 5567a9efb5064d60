//! From appended entries to durable blocks.
//!
//! Entries are copied once, into the chunk that becomes the block. A group is closed when it is
//! full or when the host commits; it goes to the disk as soon as fewer than `writes_in_flight`
//! blocks are under way, so that groups grow while the disk is busy.

mod group;
mod place;
mod pump;
mod slow;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub(crate) use group::{Group, OpenGroup};

use model::{Lsn, SpaceUse};

use crate::buffer::AlignedBuffer;
use crate::config::ENTRY_PAYLOAD_BYTES_MAX;
use crate::crc::{Joiner, START_BYTES};
use crate::device::DeviceError;
use crate::fold::EntryHead;
use crate::format::block;
use crate::wal::{Room, Wal};

/// With less than this left a chunk takes no new group, bytes.
const CHUNK_REST_MIN: usize = 64 * 1024;

/// A block under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub sequence: u64,
    pub segment: u64,
    pub offset: u64,
    pub last_lsn: u64,
    /// When it was handed to the disk.
    pub since_ns: u64,
    pub end: WriteEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    UnderWay,
    Done,
    Failed,
}

/// The log's end: open group, closed groups, blocks under way, and the numbers that go up.
pub(crate) struct Writer {
    pub unit: usize,
    pub group_bytes: usize,
    /// What is left of the chunk; the open group fills its front.
    pub rest: AlignedBuffer,
    pub open: OpenGroup,
    /// For the checksums of blocks, from those of their entries.
    pub joiner: Joiner,
    pub closed: VecDeque<Group>,
    /// Padded bytes of the closed groups.
    pub closed_bytes: u64,
    pub in_flight: VecDeque<InFlight>,
    pub next_lsn: u64,
    /// The last entry handed to the disk.
    pub submitted_lsn: u64,
    pub durable_lsn: u64,
    pub durable_sequence: u64,
    /// The next block's.
    pub sequence: u64,
    pub previous_crc: u32,
    /// What the last block handed to the disk says is durable.
    pub witnessed_lsn: u64,
    /// Where the next block goes in the active segment.
    pub position: u64,
    /// The open group is to be written as soon as may be.
    pub commit_wanted: bool,
    /// Since when nothing has been under way.
    pub idle_since_ns: Option<u64>,
    pub slowness: slow::Slowness,
    /// Blocks that may be handed to the disk; `None`: as many as there are.
    pub leave: Option<u32>,
}

impl Writer {
    /// Padded bytes not yet handed to the disk.
    pub fn waiting_bytes(&self) -> u64 {
        self.closed_bytes + self.open_bytes()
    }

    fn open_bytes(&self) -> u64 {
        if self.open.is_empty() { 0 } else { self.open.padded_bytes(0, 0, self.unit) as u64 }
    }

    pub fn has_waiting(&self) -> bool {
        !self.closed.is_empty() || !self.open.is_empty()
    }

    /// Closes the open group: its block gets its memory for good.
    pub fn close_group(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let padded = self.open.padded_bytes(0, 0, self.unit);
        let memory = self.rest.split_to(padded);
        self.closed_bytes += padded as u64;
        self.closed.push_back(self.open.close(memory));
        self.commit_wanted = false;
    }
}

impl Wal {
    /// Whether an entry of this size and use may be appended now.
    pub fn room(&self, payload_bytes: usize, space_use: SpaceUse) -> Room {
        if self.failure.is_some() {
            return Room::Failed;
        }
        let waiting = self.writer.waiting_bytes();
        if waiting >= self.config.backlog_bytes {
            return Room::Backlog;
        }
        if self.segments.disk_full && !self.fits_full_disk(payload_bytes, space_use) {
            return Room::DiskFull;
        }
        Room::Yes
    }

    /// Whether many small entries that take space may be appended one after the other now. On a full
    /// disk each of them has to be asked for.
    pub fn room_for_run(&self) -> Room {
        match self.room(0, SpaceUse::Grows) {
            Room::Yes if self.segments.disk_full => Room::DiskFull,
            room => room,
        }
    }

    /// Adds an entry to the open group; the pieces of `payload` are copied one after another.
    ///
    /// The entry is in memory when this returns. It goes to the disk after `commit`, and is
    /// durable when `durable_lsn` has reached its number.
    ///
    /// # Panics
    /// When the payload is larger than [`ENTRY_PAYLOAD_BYTES_MAX`] or than a segment can hold.
    pub fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn {
        self.append_covered(head, payload, 0, 0)
    }

    /// The same, where the CRC32C of the payload's last `covered_bytes` has been found to be `crc`:
    /// they need not be gone through again.
    pub fn append_covered(
        &mut self,
        head: &EntryHead,
        payload: &[&[u8]],
        covered_bytes: usize,
        crc: u32,
    ) -> Lsn {
        let bytes = payload.iter().map(|piece| piece.len()).sum();
        debug_assert!(covered_bytes <= bytes);
        self.make_room_in_group(bytes);
        let writer = &mut self.writer;
        let lsn = writer.next_lsn;
        writer.next_lsn += 1;
        let covered = (covered_bytes, crc);
        writer.open.add(&mut writer.rest, lsn, head, payload, bytes, covered);
        Lsn(lsn)
    }

    /// The same of a payload that is the little-endian bytes of `start` and then `rest`, where the CRC32C of `rest` without its
    /// first `MORE` bytes (1 to 7) has been found to be `crc`: the way of small entries in numbers.
    pub fn append_joined<const MORE: usize>(
        &mut self,
        head: &EntryHead,
        start: u128,
        rest: &[u8],
        crc: u32,
    ) -> Lsn {
        self.make_room_in_group(START_BYTES + rest.len());
        let writer = &mut self.writer;
        let lsn = writer.next_lsn;
        writer.next_lsn += 1;
        writer.open.add_joined::<MORE>(&mut writer.rest, lsn, head, start, (rest, crc));
        Lsn(lsn)
    }

    #[inline]
    fn make_room_in_group(&mut self, payload_bytes: usize) {
        if !self.writer.open.has_room(payload_bytes) {
            self.start_group(payload_bytes);
        }
    }

    #[cold]
    fn start_group(&mut self, payload_bytes: usize) {
        let alone = block::padded_bytes(payload_bytes, 1, self.unit);
        assert!(
            payload_bytes <= ENTRY_PAYLOAD_BYTES_MAX
                && (alone + 2 * self.unit) as u64 <= self.config.segment_bytes,
            "an entry of {payload_bytes} bytes is too large for this log"
        );
        let writer = &mut self.writer;
        writer.close_group();
        if writer.rest.len() < alone.max(CHUNK_REST_MIN) {
            writer.rest = AlignedBuffer::zeroed(0);
            writer.rest = self.chunks.take(alone.max(CHUNK_REST_MIN), &mut self.tail);
        }
        // An entry larger than that is a group alone.
        writer.open.begin(writer.group_bytes.min(writer.rest.len()) & !(writer.unit - 1));
    }

    /// The last entry appended.
    pub fn appended_lsn(&self) -> Lsn {
        Lsn(self.writer.next_lsn - 1)
    }

    /// All entries up to this one are on the disk.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.writer.durable_lsn)
    }

    /// From now on every block of entries needs leave before it is written: someone counts the
    /// writes of the device. Witnesses and what is no block do not.
    pub fn ask_before_blocks(&mut self) {
        self.writer.leave = Some(0);
    }

    /// Whether a block would be handed to the disk now, had it leave.
    pub fn wants_leave(&self) -> bool {
        let writer = &self.writer;
        let due = !writer.closed.is_empty() || writer.commit_wanted && !writer.open.is_empty();
        writer.leave == Some(0)
            && due
            && self.failure.is_none()
            && writer.in_flight.len() < self.config.writes_in_flight as usize
    }

    /// One more block may be written; done by the next `commit`.
    pub fn give_leave(&mut self) {
        if let Some(leave) = &mut self.writer.leave {
            *leave += 1;
        }
    }

    /// Block writes under way.
    pub fn in_flight(&self) -> usize {
        self.writer.in_flight.iter().filter(|block| block.end == WriteEnd::UnderWay).count()
    }

    /// Drops the entries above `lsn` that are not yet handed to the disk, and returns the last
    /// entry the log then has. Entries in blocks under way stay: they may be on the disk already.
    pub fn truncate(&mut self, lsn: Lsn) -> Lsn {
        let keep = lsn.0.max(self.writer.submitted_lsn).min(self.writer.next_lsn - 1);
        let writer = &mut self.writer;
        let mut rest = VecDeque::new();
        for mut group in writer.closed.drain(..) {
            if group.first_lsn <= keep {
                group.truncate(keep, writer.unit);
                rest.push_back(group);
            }
        }
        writer.closed_bytes = rest.iter().map(|group| group.memory.len() as u64).sum();
        writer.closed = rest;
        writer.open.truncate(keep);
        writer.next_lsn = keep + 1;
        self.changes.retain(|(at, _)| at.0 <= keep);
        Lsn(keep)
    }

    /// The block's write has ended.
    pub(crate) fn block_written(&mut self, sequence: u64, result: Result<(), DeviceError>) {
        let Some(first) = self.writer.in_flight.front() else { return };
        let at = (sequence - first.sequence) as usize;
        let Some(block) = self.writer.in_flight.get_mut(at) else { return };
        let failed = result.err().map(|error| (block.segment, block.offset, error));
        block.end = if failed.is_some() { WriteEnd::Failed } else { WriteEnd::Done };
        while let Some(first) = self.writer.in_flight.front()
            && first.end == WriteEnd::Done
        {
            assert!(first.last_lsn >= self.writer.durable_lsn, "durability went back");
            self.writer.durable_lsn = first.last_lsn;
            self.writer.durable_sequence = first.sequence;
            self.writer.in_flight.pop_front();
        }
        if let Some((segment, offset, error)) = failed {
            self.fail(crate::format::names::segment(segment), offset, error);
        }
        self.apply_changes();
    }
}
