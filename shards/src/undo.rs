//! How to take back an entry that is not committed, and what to reveal when it is.
//!
//! One record per appended entry, in the log's order: commit pops the oldest, truncation the
//! newest. So their number is bounded by what the log lets wait.

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

struct Step {
    /// The shard's time before the entry.
    time_before_ms: i64,
    /// `None`: the next of the changes.
    batch: Option<BatchUndo>,
}

const _: () = assert!(size_of::<Step>() <= 40, "one for each message under way");

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
    #[inline]
    pub fn push_batch(&mut self, time_before_ms: i64, batch: BatchUndo) {
        self.steps.push_back(Step { time_before_ms, batch: Some(batch) });
    }

    pub fn push(&mut self, time_before_ms: i64, change: UndoChange) {
        if let UndoChange::Batch { batch, producer: ProducerUndo::None } = change {
            return self.push_batch(time_before_ms, batch);
        }
        self.changes.push_back(change);
        self.steps.push_back(Step { time_before_ms, batch: None });
    }

    /// The oldest, when it is a batch. What it did to its producer is committed with it.
    #[inline]
    pub fn pop_oldest_batch(&mut self) -> Option<BatchUndo> {
        let batch = match self.steps.front()?.batch {
            Some(batch) => batch,
            None => self.pop_numbered_batch()?,
        };
        self.steps.pop_front();
        Some(batch)
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

    pub fn pop_newest(&mut self) -> Option<Undo> {
        let Step { time_before_ms, batch } = self.steps.pop_back()?;
        let change = match batch {
            Some(batch) => UndoChange::Batch { batch, producer: ProducerUndo::None },
            None => self.changes.pop_back()?,
        };
        Some(Undo { time_before_ms, change })
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
