//! Checkpoints: the engine's state written beside the log in small slices, so that no publish
//! waits for one.

use ring::Ring;
use shards::SnapshotCursor;

use super::{LogJournal, ShardHost};
use crate::bounds::CHECKPOINT_SLICE_OBJECTS;
use crate::clock::Clock;

/// A checkpoint under way.
#[derive(Debug)]
pub struct CheckpointRun {
    cursor: SnapshotCursor,
    buffer: Vec<u8>,
}

impl ShardHost {
    pub(super) fn start_checkpoint(&mut self, ring: &mut Ring, clock: &Clock) {
        let idle = self.checkpoint.is_none() && !self.wal.checkpoint_under_way();
        if !idle || self.shutting_down {
            return;
        }
        if self.wal.wants_mark() {
            let mut journal = LogJournal(&mut self.wal);
            // Refused only when even the reserve has no place left.
            let _ = self.engine.mark(clock.unix_ms(), &mut journal);
        }
        if self.wal.checkpoint_due() {
            self.begin_checkpoint(ring);
        }
    }

    pub(super) fn begin_checkpoint(&mut self, ring: &mut Ring) {
        self.with_log(ring, |wal, device| wal.checkpoint_begin(device));
        self.checkpoint =
            Some(CheckpointRun { cursor: self.engine.snapshot(), buffer: Vec::new() });
    }

    /// Writes the next slice. Returns whether there are more.
    pub(super) fn step_checkpoint(&mut self, ring: &mut Ring) -> bool {
        if !self.wal.checkpoint_room() {
            // The disk is behind; its next completion brings another turn.
            return false;
        }
        let Some(mut run) = self.checkpoint.take() else { return false };
        run.buffer.clear();
        let more =
            self.engine.snapshot_slice(&mut run.cursor, CHECKPOINT_SLICE_OBJECTS, &mut run.buffer);
        self.with_log(ring, |wal, device| wal.checkpoint_push(device, &run.buffer));
        if more {
            self.checkpoint = Some(run);
        } else {
            self.with_log(ring, |wal, device| wal.checkpoint_finish(device));
        }
        more
    }
}
