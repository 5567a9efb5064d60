//! What may be forgotten: old records and idle producers.

use model::{Lsn, Offset, Rejection, SpaceUse, StreamId};

use crate::engine::Engine;
use crate::entry::Change;
use crate::journal::Journal;
use crate::partition::Partition;

/// Partitions looked at by one call of [`Engine::expire_producers`].
const EXPIRY_PARTITIONS_PER_CALL: usize = 1_000;

/// What one stream has in one sealed segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentShare {
    pub first_offset: Offset,
    pub last_offset: Offset,
    /// The latest append time in it, Unix milliseconds.
    pub max_time_ms: i64,
    /// Payload bytes.
    pub bytes: u64,
}

impl Engine {
    /// Decides whether a stream's share of a segment has outlived its topic's retention, and
    /// then moves the log start past it. Shares are offered oldest first: one that does not begin
    /// where the stream now begins stays. `None` means it stays (or there is no room to say so).
    ///
    /// By age: all of it was appended longer ago than `retention_ms`. By size: without it the
    /// partition still holds `retention_bytes`. Nothing at or past the committed end is removed.
    pub fn advance_log_start(
        &mut self,
        now_ms: i64,
        stream: StreamId,
        share: SegmentShare,
        journal: &mut impl Journal,
    ) -> Option<Lsn> {
        let time_ms = self.stamp(now_ms);
        let partition = self.streams.get(stream).filter(|p| !p.deleted)?;
        // What follows a hole begins behind it.
        let offset = partition.behind_hole(share.last_offset.checked_add(1)?);
        let within = share.first_offset <= partition.behind_hole(partition.first_offset)
            && offset > partition.first_offset
            && offset <= partition.shown.next_offset;
        if !within || !outlived(partition, &share, time_ms) {
            return None;
        }
        let empties = offset == partition.next_offset;
        let bytes = if empties { partition.bytes } else { share.bytes.min(partition.bytes) };
        let change = Change::LogStartAdvanced { offset, bytes };
        self.record(time_ms, stream, &change, journal).ok()
    }

    /// Forgets producers that have appended nothing for `idle_ms`. Looks at the next thousand
    /// partitions only, so that it never takes long: call it again and again. How many
    /// producers were forgotten comes back.
    pub fn expire_producers(
        &mut self,
        now_ms: i64,
        idle_ms: u64,
        journal: &mut impl Journal,
    ) -> usize {
        let time_ms = self.stamp(now_ms);
        let before_ms = time_ms.saturating_sub(i64::try_from(idle_ms).unwrap_or(i64::MAX));
        let mut idle = Vec::new();
        let mut looked = 0;
        for (stream, partition) in
            self.streams.range(self.expiry_next).take(EXPIRY_PARTITIONS_PER_CALL)
        {
            looked += 1;
            self.expiry_next = StreamId(stream.0.saturating_add(1));
            let ids = partition.producers.idle_since(before_ms);
            if !ids.is_empty() && !partition.deleted {
                idle.push((stream, ids));
            }
        }
        if looked < EXPIRY_PARTITIONS_PER_CALL {
            self.expiry_next = StreamId(0);
        }
        let mut expired = 0;
        for (stream, ids) in idle {
            let count = ids.len();
            if self.record(time_ms, stream, &Change::ProducersExpired { ids }, journal).is_ok() {
                expired += count;
            }
        }
        expired
    }

    /// Appends an entry that changes nothing. The log tells two checkpoints apart by what lies
    /// between them, and on a full disk it takes two until space is free.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn mark(&mut self, now_ms: i64, journal: &mut impl Journal) -> Result<Lsn, Rejection> {
        let time_ms = self.stamp(now_ms);
        let change = Change::ProducerIdsAllocated { next: self.counters.producer_id_next };
        self.record_as(SpaceUse::Frees, time_ms, StreamId(0), &change, journal)
    }
}

fn outlived(partition: &Partition, share: &SegmentShare, now_ms: i64) -> bool {
    let age_ms = u64::try_from(now_ms.saturating_sub(share.max_time_ms)).unwrap_or(0);
    let too_old = partition.config.retention_ms.is_some_and(|limit| age_ms > limit);
    let left = partition.bytes.saturating_sub(share.bytes);
    let too_large = partition.config.retention_bytes.is_some_and(|limit| left >= limit);
    too_old || too_large
}
