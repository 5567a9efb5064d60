//! Keeping files as they are while a backup copies them: nothing that the log had when it was
//! pinned is recycled, removed or renamed until the pin is taken off.
//!
//! A pin yields to the log: when there is no space for a new segment and pinned files would give
//! some, the pin breaks, and what copies them has to begin again.

use model::Lsn;
use tracing::warn;

use super::State;
use crate::device::{Action, LogDevice};
use crate::format::manifest::CheckpointRecord;
use crate::format::names;
use crate::io::Purpose;
use crate::wal::Wal;

/// What a log was made of at one moment: the files, and how far each was durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPoint {
    /// The last entry that was durable; 0 when there was none.
    pub durable_lsn: Lsn,
    /// The last block that was durable; 0 when there was none.
    pub last_sequence: u64,
    pub incarnation: u32,
    /// (LSN at its begin, LSN at its end), the newest first, at most two.
    pub checkpoints: Vec<(u64, u64)>,
    /// Those with durable blocks, in order of their numbers.
    pub segments: Vec<PointSegment>,
}

/// A segment's part of a [`LogPoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointSegment {
    pub number: u64,
    pub generation: u32,
    /// Length of the file.
    pub bytes: u64,
    /// Where the durable blocks ended.
    pub data_end: u64,
    /// It was full and closed, and does not change any more.
    pub sealed: bool,
}

/// Whether a backup holds the log's files, and what waits for its end.
#[derive(Debug, Default)]
pub(crate) struct Pin {
    held: bool,
    /// Checkpoints that would be gone by now.
    checkpoints: Vec<CheckpointRecord>,
}

impl Pin {
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether this checkpoint's file stays until the pin is taken off.
    pub fn keeps(&mut self, old: CheckpointRecord) -> bool {
        if self.held {
            self.checkpoints.push(old);
        }
        self.held
    }
}

impl Wal {
    /// Pins the files and says what they hold at this moment. What was appended and is not durable
    /// yet is no part of it.
    pub fn pin(&mut self) -> LogPoint {
        self.pin.held = true;
        self.point()
    }

    /// Whether the files have been left alone since they were pinned.
    pub fn is_pinned(&self) -> bool {
        self.pin.held
    }

    /// Takes the pin off: what waited for that is done now or at the next tick.
    pub fn unpin<D: LogDevice>(&mut self, device: &mut D) {
        self.pin.held = false;
        self.segments.look_for_dropped = true;
        let gone = std::mem::take(&mut self.pin.checkpoints);
        for old in &gone {
            let name = names::checkpoint(old.end);
            self.io.submit(device, Purpose::Nothing, Action::Remove { name });
        }
        if !gone.is_empty() {
            self.io.submit(device, Purpose::Nothing, Action::SyncDirectory);
        }
    }

    /// There is no space: a pin that keeps some from being used again is broken.
    pub(crate) fn break_pin<D: LogDevice>(&mut self, device: &mut D) {
        let older = self.checkpoint.kept.get(1);
        let withholds = older.is_some_and(|older| self.segments.unneeded(older.start).count() > 0)
            || !self.pin.checkpoints.is_empty();
        if self.pin.held && withholds {
            warn!(
                shard = self.config.shard,
                "no space on the disk: the backup under way is given up, so that its files can be \
                 used again"
            );
            self.unpin(device);
        }
    }

    fn point(&self) -> LogPoint {
        // Where the first block not yet durable begins: nothing from there on belongs to it.
        let cut = self.writer.in_flight.front().map(|block| (block.segment, block.offset));
        let segments = self.segments.in_use().filter_map(|segment| {
            let data_end = match cut {
                Some((number, _)) if number < segment.number => return None,
                Some((number, offset)) if number == segment.number => offset,
                _ => segment.data_end,
            };
            // Only its own header is there.
            if data_end <= self.unit as u64 {
                return None;
            }
            Some(PointSegment {
                number: segment.number,
                generation: segment.generation,
                bytes: segment.bytes,
                data_end,
                sealed: segment.state == State::Sealed,
            })
        });
        LogPoint {
            durable_lsn: Lsn(self.writer.durable_lsn),
            last_sequence: self.writer.durable_sequence,
            incarnation: self.manifest.incarnation,
            checkpoints: self.checkpoint.kept.iter().map(|kept| (kept.start, kept.end)).collect(),
            segments: segments.collect(),
        }
    }
}
