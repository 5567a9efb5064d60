//! How to take back an entry that is not committed, and what to reveal when it is.
//!
//! In the log's order: commit pops the oldest, truncation the newest. Batches alike that follow one
//! another are counted, so that a row of small messages costs no more than one. How many there are
//! is bounded by what the log lets wait.

use std::collections::VecDeque;

use model::{ConsumerName, Lsn, Offset, StreamId, TopicConfig, TopicId};

use crate::partition::Hole;
use crate::producer::{Producer, ProducerUndo, Producers};

/// What is not committed, oldest first. Batches whose producers do not number them are small; what else
/// there is lies apart, in the same order.
#[derive(Default)]
pub(crate) struct UndoLog {
    steps: VecDeque<Step>,
    changes: VecDeque<UndoChange>,
}

/// A batch and those alike right behind it, or an entry of another kind.
struct Step {
    /// The shard's time before the first of them.
    time_before_ms: i64,
    /// When all of them were appended.
    time_ms: i64,
    /// The partition's last entry before the first of them; each of the others follows the one
    /// before it.
    lsn_before: Lsn,
    stream: StreamId,
    /// Of each.
    records: u32,
    bytes: u32,
    /// 0: it is the next of the changes.
    count: u32,
}

const _: () = assert!(size_of::<Step>() <= 40, "at worst one for each message under way");

/// When an entry was appended, and the shard's time before that; Unix milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub before_ms: i64,
    pub own_ms: i64,
}

/// One entry taken from the log's end or start.
pub(crate) struct Undo {
    pub time_before_ms: i64,
    pub change: UndoChange,
}

/// What a batch did to its partition.
#[derive(Clone, Copy)]
pub(crate) struct BatchUndo {
    pub stream: StreamId,
    pub records: u32,
    pub bytes: u32,
    pub lsn_before: Lsn,
}

impl UndoLog {
    /// A batch has been appended as the entry `lsn`.
    #[inline]
    pub fn push_batch(&mut self, lsn: Lsn, times: Times, batch: BatchUndo) {
        if let Some(last) = self.steps.back_mut()
            && last.goes_on_with(lsn, times, &batch)
        {
            last.count += 1;
            return;
        }
        let BatchUndo { stream, records, bytes, lsn_before } = batch;
        let Times { before_ms: time_before_ms, own_ms: time_ms } = times;
        let step = Step { time_before_ms, time_ms, lsn_before, stream, records, bytes, count: 1 };
        self.steps.push_back(step);
    }

    pub fn push(&mut self, lsn: Lsn, times: Times, change: UndoChange) {
        if let UndoChange::Batch { batch, producer: ProducerUndo::None } = change {
            return self.push_batch(lsn, times, batch);
        }
        self.changes.push_back(change);
        self.steps.push_back(Step::of_change(times));
    }

    /// The oldest, when it is a batch, and how many there are of its like, itself counted: no more than
    /// there are after `committed` up to `upto`. What they did to their producers is committed with them.
    #[inline]
    pub fn pop_oldest_batches(&mut self, committed: Lsn, upto: Lsn) -> Option<(BatchUndo, u64)> {
        let first = self.steps.front_mut()?;
        let Some(batch) = first.oldest() else {
            let batch = self.pop_numbered_batch()?;
            self.steps.pop_front();
            return Some((batch, 1));
        };
        let most = upto.0 - committed.0;
        let count = most.min(u64::from(first.count));
        if count < u64::from(first.count) {
            first.count -= count as u32;
            first.lsn_before = Lsn(committed.0 + count);
            first.time_before_ms = first.time_ms;
        } else {
            self.steps.pop_front();
        }
        Some((batch, count))
    }

    /// From the changes alone.
    fn pop_numbered_batch(&mut self) -> Option<BatchUndo> {
        let UndoChange::Batch { batch, .. } = *self.changes.front()? else { return None };
        self.changes.pop_front();
        Some(batch)
    }

    /// The oldest, which is no batch.
    pub fn pop_oldest_change(&mut self) -> Option<UndoChange> {
        self.steps.pop_front()?;
        self.changes.pop_front()
    }

    /// The newest, which is the entry `lsn`.
    pub fn pop_newest(&mut self, lsn: Lsn) -> Option<Undo> {
        let last = self.steps.back_mut()?;
        let (batch, time_before_ms) = (last.oldest(), last.time_before_ms);
        let plain = |batch| UndoChange::Batch { batch, producer: ProducerUndo::None };
        if let Some(batch) = batch
            && last.count > 1
        {
            last.count -= 1;
            // It follows another of its partition and time.
            let change = plain(BatchUndo { lsn_before: Lsn(lsn.0 - 1), ..batch });
            return Some(Undo { time_before_ms: last.time_ms, change });
        }
        self.steps.pop_back();
        let change = match batch {
            Some(batch) => plain(batch),
            None => self.changes.pop_back()?,
        };
        Some(Undo { time_before_ms, change })
    }
}

impl Step {
    /// What is taken from the changes.
    fn of_change(times: Times) -> Self {
        Self {
            time_before_ms: times.before_ms,
            time_ms: times.own_ms,
            lsn_before: Lsn::ZERO,
            stream: StreamId(0),
            records: 0,
            bytes: 0,
            count: 0,
        }
    }

    /// The first of the batches.
    #[inline]
    fn oldest(&self) -> Option<BatchUndo> {
        let Self { stream, records, bytes, lsn_before, .. } = *self;
        (self.count > 0).then_some(BatchUndo { stream, records, bytes, lsn_before })
    }

    /// Whether the entry after this step's last is a batch like it, right behind it.
    #[inline]
    fn goes_on_with(&self, lsn: Lsn, times: Times, next: &BatchUndo) -> bool {
        self.stream == next.stream
            && self.records == next.records
            && self.bytes == next.bytes
            && next.lsn_before.next() == lsn
            && self.time_ms == times.own_ms
            && times.before_ms == times.own_ms
            && self.count > 0
    }
}

/// `lsn_before` is the changed object's own.
pub(crate) enum UndoChange {
    Batch {
        batch: BatchUndo,
        producer: ProducerUndo,
    },
    PartitionCreated {
        stream: StreamId,
    },
    PartitionAltered {
        stream: StreamId,
        lsn_before: Lsn,
        before: Box<(u32, TopicConfig)>,
    },
    PartitionDeleted {
        stream: StreamId,
        lsn_before: Lsn,
    },
    TopicCreated {
        id: TopicId,
    },
    TopicAltered {
        id: TopicId,
        lsn_before: Lsn,
        /// Before, after.
        configs: Box<[(u32, TopicConfig); 2]>,
    },
    TopicDeleted {
        id: TopicId,
        lsn_before: Lsn,
    },
    TombstoneCleared {
        id: TopicId,
        lsn_before: Lsn,
    },
    OffsetCommitted {
        stream: StreamId,
        lsn_before: Lsn,
        consumer: ConsumerName,
        before: Option<Offset>,
        after: Offset,
    },
    LogStartAdvanced {
        stream: StreamId,
        lsn_before: Lsn,
        before: Offset,
        after: Offset,
        bytes: u64,
        /// Those that lay before the new start.
        holes: Vec<Hole>,
    },
    OffsetsSkipped {
        stream: StreamId,
        lsn_before: Lsn,
        hole: Hole,
    },
    ProducersRestored {
        stream: StreamId,
        lsn_before: Lsn,
        before: Box<Producers>,
    },
    ProducersExpired {
        stream: StreamId,
        lsn_before: Lsn,
        producers: Vec<Producer>,
    },
    ProducerIdsAllocated {
        before: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 3;

    /// The entries 10 to 19, each with its time: plain batches of the stream, records and bytes named.
    fn log(entries: [(i64, u32, u32, u32); 10]) -> UndoLog {
        let mut log = UndoLog::default();
        let mut lsn_before = [Lsn(1); 8];
        let mut before_ms = START_MS;
        for (lsn, (own_ms, stream, records, bytes)) in (10..).map(Lsn).zip(entries) {
            let lsn_before = std::mem::replace(&mut lsn_before[stream as usize], lsn);
            let batch = BatchUndo { stream: StreamId(stream), records, bytes, lsn_before };
            log.push_batch(lsn, Times { before_ms, own_ms }, batch);
            before_ms = own_ms;
        }
        log
    }

    fn newest(log: &mut UndoLog, lsn: u64) -> (i64, u32, u32, u32, u64) {
        let Undo { time_before_ms, change } = log.pop_newest(Lsn(lsn)).unwrap();
        let UndoChange::Batch { batch, producer: ProducerUndo::None } = change else { panic!() };
        let BatchUndo { stream, records, bytes, lsn_before } = batch;
        (time_before_ms, stream.0, records, bytes, lsn_before.0)
    }

    const MIXED: [(i64, u32, u32, u32); 10] = [
        (5, 1, 1, 100),
        (5, 1, 1, 100),
        (5, 1, 1, 100),
        (5, 2, 1, 100), // another partition
        (5, 1, 1, 100), // the first again, not right behind its last
        (5, 1, 1, 101), // other bytes
        (5, 1, 2, 101), // other records
        (6, 1, 2, 101), // a later time
        (6, 1, 2, 101),
        (6, 1, 2, 101),
    ];

    #[test]
    fn each_of_many_alike_is_taken_back_as_if_it_were_alone() {
        let mut all = log(MIXED);
        assert_eq!(all.steps.len(), 6, "three alike, four alone, three alike");
        let expected = [
            (6, 1, 2, 101, 18),
            (6, 1, 2, 101, 17),
            (5, 1, 2, 101, 16),
            (5, 1, 2, 101, 15),
            (5, 1, 1, 101, 14),
            (5, 1, 1, 100, 12),
            (5, 2, 1, 100, 1),
            (5, 1, 1, 100, 11),
            (5, 1, 1, 100, 10),
            (START_MS, 1, 1, 100, 1),
        ];
        for (lsn, expected) in (10..20).rev().zip(expected) {
            assert_eq!(newest(&mut all, lsn), expected, "entry {lsn}");
        }
        assert!(all.pop_newest(Lsn(9)).is_none());
    }

    #[test]
    fn what_of_many_alike_is_committed_is_not_taken_back() {
        let mut all = log(MIXED);
        let pop = |all: &mut UndoLog, committed, upto| {
            let (batch, count) = all.pop_oldest_batches(Lsn(committed), Lsn(upto)).unwrap();
            (batch.stream.0, batch.bytes, batch.lsn_before.0, count)
        };
        assert_eq!(pop(&mut all, 9, 11), (1, 100, 1, 2));
        for lsn in (13..20).rev() {
            newest(&mut all, lsn);
        }
        assert_eq!(newest(&mut all, 12), (5, 1, 1, 100, 11));
        assert!(all.pop_oldest_batches(Lsn(11), Lsn(12)).is_none());

        let mut all = log(MIXED);
        assert_eq!(pop(&mut all, 9, 10), (1, 100, 1, 1));
        assert_eq!(pop(&mut all, 10, 11), (1, 100, 10, 1));
        assert_eq!(pop(&mut all, 11, 19), (1, 100, 11, 1));
        assert_eq!(pop(&mut all, 12, 19), (2, 100, 1, 1));
        let counts: Vec<u64> =
            [13, 14, 15, 16].map(|committed| pop(&mut all, committed, 30).3).to_vec();
        assert_eq!(counts, [1, 1, 1, 3]);
    }
}
