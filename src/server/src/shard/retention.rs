//! Retention: now and then the oldest sealed segments are offered to the engine, stream by stream;
//! what it lets go becomes an entry, and once that is durable the log may recycle.

use std::collections::VecDeque;

use model::StreamId;
use shards::SegmentShare;

use super::{LogJournal, ShardHost};
use crate::bounds::{PRODUCER_IDLE_MS, RETENTION_STREAMS_PER_TURN};
use crate::clock::Clock;

/// Sealed segments looked at in one round.
const SEGMENTS_PER_ROUND: usize = 4;

#[derive(Debug)]
pub struct Retention {
    every_ns: u64,
    next_ns: u64,
    /// Shares still to be offered in this round.
    offers: VecDeque<(StreamId, SegmentShare)>,
    sealed_seen: u64,
}

impl Retention {
    pub fn new(every_ms: u64) -> Self {
        Self { every_ns: every_ms * 1_000_000, next_ns: 0, offers: VecDeque::new(), sealed_seen: 0 }
    }
}

impl ShardHost {
    /// Begins a round when it is time, or when a segment has been sealed since the last.
    pub(super) fn start_retention(&mut self, clock: &Clock) {
        if !self.retention.offers.is_empty() || self.failed.is_some() {
            return;
        }
        let newest = self.wal.sealed_segments().last().map_or(0, |segment| segment.number);
        if clock.now_ns() < self.retention.next_ns && newest == self.retention.sealed_seen {
            return;
        }
        self.retention.next_ns = clock.now_ns() + self.retention.every_ns;
        self.retention.sealed_seen = newest;
        let oldest: Vec<u64> =
            self.wal.sealed_segments().take(SEGMENTS_PER_ROUND).map(|s| s.number).collect();
        for number in oldest {
            for held in self.wal.segment_streams(number) {
                let share = SegmentShare {
                    first_offset: held.first_offset,
                    last_offset: held.last_offset,
                    max_time_ms: held.max_time_ms,
                    bytes: held.bytes,
                };
                self.retention.offers.push_back((held.stream, share));
            }
        }
        let mut journal = LogJournal(&mut self.wal);
        self.engine.expire_producers(clock.unix_ms(), PRODUCER_IDLE_MS, &mut journal);
    }

    /// Goes on with the round. Returns whether there is more.
    pub(super) fn step_retention(&mut self, clock: &Clock) -> bool {
        for _ in 0..RETENTION_STREAMS_PER_TURN {
            let Some((stream, share)) = self.retention.offers.pop_front() else { return false };
            let mut journal = LogJournal(&mut self.wal);
            // What it lets go comes back as an effect once it is durable.
            self.engine.advance_log_start(clock.unix_ms(), stream, share, &mut journal);
        }
        !self.retention.offers.is_empty()
    }
}
