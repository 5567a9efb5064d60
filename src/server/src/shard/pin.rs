//! The shard's log held still for a backup.

use model::{SegmentPoint, ShardPoint};
use ring::Ring;

use super::ShardHost;

/// The backup that the log's files are kept for.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldPin {
    backup: u64,
    /// There was no space already when it began.
    disk_was_full: bool,
}

impl ShardHost {
    /// Keeps the log's files for a backup, and says what they hold now. A backup of before, which
    /// is being given up elsewhere, loses its hold.
    pub fn pin_log(&mut self, backup: u64) -> ShardPoint {
        let disk_was_full = self.wal.stats().disk_full;
        self.pin = Some(HeldPin { backup, disk_was_full });
        let point = self.wal.pin();
        ShardPoint {
            shard: self.id,
            incarnation: point.incarnation,
            durable_lsn: point.durable_lsn,
            last_sequence: point.last_sequence,
            checkpoints: point.checkpoints,
            segments: (point.segments.iter())
                .map(|segment| SegmentPoint {
                    number: segment.number,
                    generation: segment.generation,
                    sealed: segment.sealed,
                    bytes: segment.bytes,
                    data_end: segment.data_end,
                })
                .collect(),
        }
    }

    /// Whether the files have been kept for this backup since it began.
    pub fn keeps_log(&self, backup: u64) -> bool {
        self.pin.is_some_and(|pin| pin.backup == backup) && self.wal.is_pinned()
    }

    /// Lets the log go on with its files, if they are kept for this backup. Returns whether they
    /// had been until now.
    pub fn unpin_log(&mut self, ring: &mut Ring, backup: u64) -> bool {
        let kept = self.keeps_log(backup);
        if self.pin.is_some_and(|pin| pin.backup == backup) {
            self.pin = None;
            self.with_log(ring, |wal, device| wal.unpin(device));
        }
        kept
    }

    /// The backup that has to give way: space ran out since it began, so that files kept for it,
    /// in whatever shard, may be wanted.
    pub fn backup_in_the_way(&self) -> Option<u64> {
        let pin = self.pin?;
        (!pin.disk_was_full && self.wal.stats().disk_full).then_some(pin.backup)
    }
}
