//! How to take back an entry that is not committed, and what to reveal when it is.
//!
//! One record per appended entry, in the log's order: commit pops the oldest, truncation the
//! newest. So their number is bounded by what the log lets wait.

use model::{ConsumerName, Lsn, Offset, StreamId, TopicConfig, TopicId};

use crate::partition::Hole;
use crate::producer::{Producer, ProducerUndo, Producers};

pub(crate) struct Undo {
    /// The shard's time before the entry.
    pub time_before_ms: i64,
    pub change: UndoChange,
}

/// `lsn_before` is the changed object's own.
pub(crate) enum UndoChange {
    Batch {
        stream: StreamId,
        records: u32,
        bytes: u32,
        lsn_before: Lsn,
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
