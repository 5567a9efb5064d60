//! Retention: now and then the oldest sealed segments are offered to the engine, stream by stream;
//! what it lets go becomes an entry, and once that is durable the log may recycle.

use std::collections::VecDeque;

use model::StreamId;
use shards::SegmentShare;

use super::{LogJournal, ShardHost};
use crate::bounds::{PRODUCER_IDLE_MS, RETENTION_STREAMS_PER_TURN};
use crate::clock::Clock;

/// Sealed segments looked at in one round: the oldest, and as many of the others in turn, since the
/// oldest may be held by a topic that lets nothing go.
const OLDEST_PER_ROUND: usize = 2;
const OTHERS_PER_ROUND: usize = 6;

#[derive(Debug)]
pub struct Retention {
    every_ns: u64,
    next_ns: u64,
    /// Shares still to be offered in this round.
    offers: VecDeque<(StreamId, SegmentShare)>,
    sealed_seen: u64,
    /// Where the next round goes on among the others.
    others_from: u64,
}

impl Retention {
    pub fn new(every_ms: u64) -> Self {
        Self {
            every_ns: every_ms * 1_000_000,
            next_ns: 0,
            offers: VecDeque::new(),
            sealed_seen: 0,
            others_from: 0,
        }
    }
}

impl ShardHost {
    /// Begins a round when it is time, or when a segment has been sealed since the last.
    pub(super) fn start_retention(&mut self, clock: &Clock) {
        if !self.retention.offers.is_empty() || self.failed.is_some() {
            return;
        }
        let newest = self.wal.sealed_segments().last().map_or(0, |segment| segment.number);
        let timely = clock.now_ns() >= self.retention.next_ns;
        if !timely && newest == self.retention.sealed_seen {
            return;
        }
        self.retention.sealed_seen = newest;
        if timely {
            self.retention.next_ns = clock.now_ns() + self.retention.every_ns;
        }
        for number in self.segments_of_round(timely) {
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
        if timely {
            let mut journal = LogJournal(&mut self.wal);
            self.engine.expire_producers(clock.unix_ms(), PRODUCER_IDLE_MS, &mut journal);
        }
    }

    /// The oldest segments, and in the timely rounds some of the others.
    fn segments_of_round(&mut self, timely: bool) -> Vec<u64> {
        let sealed = self.wal.sealed_segments().map(|segment| segment.number);
        let mut numbers: Vec<u64> = sealed.collect();
        let others = numbers.split_off(numbers.len().min(OLDEST_PER_ROUND));
        if !timely {
            return numbers;
        }
        let from = others.partition_point(|number| *number < self.retention.others_from);
        let from = if from == others.len() { 0 } else { from };
        let turn = others[from..].iter().take(OTHERS_PER_ROUND);
        numbers.extend(turn);
        self.retention.others_from = numbers.last().map_or(0, |last| last + 1);
        numbers
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
