//! The engine itself: what it holds, and how an entry is recorded. The other files of this
//! folder are its subjects.

mod apply;
mod carry;
mod commit;
mod consumers;
mod partitions;
mod produce;
mod produce_run;
mod reading;
mod replay;
mod retention;
mod snapshot;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::{BTreeMap, VecDeque};

use model::{
    Lsn, Offset, PartitionHandle, PartitionIndex, Rejection, ShardId, SpaceUse, StreamId, TopicId,
};

use crate::entry::Change;
use crate::journal::{Journal, admit};
use crate::partition::Partition;
use crate::readers::{ReaderId, Readers};
use crate::rejection;
use crate::stream_table::StreamTable;
use crate::topics::Topics;
use crate::undo::{Times, UndoChange, UndoLog};

pub use carry::{CarriedPartition, Counted};
pub use partitions::{PartitionRecord, TopicSpec};
pub use produce::Appended;
pub use produce_run::{AppendedRun, PlainBatch};
pub use reading::{Bounds, ReadVerdict, Subscribed};
pub use replay::ReplayError;
pub use retention::SegmentShare;
pub use snapshot::SnapshotCursor;

/// Producers and named consumers that one shard remembers, in all its partitions together: at
/// about 200 bytes each (a producer that others interrupt takes up to 1.6 KiB).
const REMEMBERED_MAX: usize = 1_000_000;

/// What the host chooses; it changes no outcome in the log.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// The most that one [`Effect::Read`] of a subscription asks for, bytes, so that many
    /// subscriptions take fair turns.
    pub read_bytes_max: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { read_bytes_max: 256 * 1024 }
    }
}

/// What the host is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read whole batches of `stream` from `offset` on, none at or past `end_offset`, and report
    /// by [`Engine::read_done`], [`Engine::read_trimmed`] or [`Engine::read_blocked`]. It could have
    /// been done since `due_ns`, as [`Engine::turn_begins`] told the time.
    Read {
        reader: ReaderId,
        stream: StreamId,
        offset: Offset,
        max_bytes: u32,
        end_offset: Offset,
        due_ns: u64,
    },
    /// The fetch's time is up and there is nothing to read: answer it with no batches, standing
    /// at `next_offset`. The reader is gone.
    FetchExpired { reader: ReaderId, stream: StreamId, next_offset: Offset },
    /// The reader is gone, for this reason.
    Ended { reader: ReaderId, rejection: Rejection },
    /// Committed: the stream holds nothing before `first_offset`. Tell the log.
    LogStart { stream: StreamId, first_offset: Offset },
    /// Committed: the stream does not exist any more. Tell the log.
    PartitionRemoved { stream: StreamId },
    /// Shard 0: [`Engine::topics`] or [`Engine::tombstones`] shows something new.
    TopicsChanged,
}

/// See the crate's documentation.
pub struct Engine {
    shard: ShardId,
    config: EngineConfig,

    // The fold of the log.
    streams: StreamTable,
    /// Partitions as decided: without those whose deletion is appended.
    places: BTreeMap<(TopicId, PartitionIndex), StreamId>,
    topics: Topics,
    counters: Counters,
    /// Producers and named consumers in all partitions; bounded by [`REMEMBERED_MAX`].
    remembered: usize,
    last_lsn: Lsn,

    // How far the fold is committed.
    committed_lsn: Lsn,
    /// What is after `committed_lsn`, batches alike counted.
    undo: UndoLog,

    // Of this process only.
    readers: Readers,
    notices: VecDeque<Effect>,
    producer_ids: topics::ProducerIdBlock,
    /// Where the next look for idle producers begins.
    expiry_next: StreamId,
    /// What fetches' deadlines are compared with: the latest [`Engine::tick`], in the host's clock of
    /// waits. Entries have another clock.
    clock_ms: i64,
    replay: replay::ReplayState,
    /// Kept for its allocation.
    scratch: Vec<u8>,
}

/// Numbers that only rise along the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counters {
    stream_next: StreamId,
    topic_next: TopicId,
    /// Producer ids below this may have been given out.
    producer_id_next: i64,
    /// The time of the last entry, Unix milliseconds.
    time_ms: i64,
}

impl Engine {
    /// A shard with an empty log.
    pub fn new(shard: ShardId, config: EngineConfig) -> Engine {
        let counters = Counters {
            stream_next: StreamId(1),
            topic_next: TopicId(1),
            producer_id_next: 1,
            time_ms: 0,
        };
        Engine {
            shard,
            config,
            streams: StreamTable::default(),
            places: BTreeMap::new(),
            topics: Topics::default(),
            counters,
            remembered: 0,
            last_lsn: Lsn::ZERO,
            committed_lsn: Lsn::ZERO,
            undo: UndoLog::default(),
            readers: Readers::default(),
            notices: VecDeque::new(),
            producer_ids: topics::ProducerIdBlock::default(),
            expiry_next: StreamId(0),
            clock_ms: 0,
            replay: replay::ReplayState::default(),
            scratch: Vec::new(),
        }
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The newest entry, committed or not.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    pub fn committed_lsn(&self) -> Lsn {
        self.committed_lsn
    }

    /// Partitions of this shard, those whose creation or deletion is under way included.
    pub fn partition_count(&self) -> usize {
        self.streams.len()
    }

    /// Producers and named consumers remembered in all partitions.
    pub fn remembered(&self) -> usize {
        self.remembered
    }

    /// Refuses to remember one more producer or consumer than may be.
    fn expect_memory(&self) -> Result<(), Rejection> {
        if self.remembered < REMEMBERED_MAX {
            return Ok(());
        }
        let message = format!(
            "this shard remembers {REMEMBERED_MAX} producers and consumers, the most there may \
             be; use fewer names, or wait until idle producers are forgotten"
        );
        Err(rejection::limit(message))
    }

    /// Time of the newest entry; 0 before the first.
    pub fn newest_time_ms(&self) -> i64 {
        self.counters.time_ms
    }

    /// An entry's time: never before the one before it.
    fn stamp(&self, now_ms: i64) -> i64 {
        now_ms.max(self.counters.time_ms)
    }

    /// Asks for room, appends a change and applies it. After an error nothing has changed.
    fn record(
        &mut self,
        time_ms: i64,
        stream: StreamId,
        change: &Change,
        journal: &mut impl Journal,
    ) -> Result<Lsn, Rejection> {
        self.record_as(change.space_use(), time_ms, stream, change, journal)
    }

    fn record_as(
        &mut self,
        space_use: SpaceUse,
        time_ms: i64,
        stream: StreamId,
        change: &Change,
        journal: &mut impl Journal,
    ) -> Result<Lsn, Rejection> {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        change.encode(&mut payload);
        let admitted = admit(journal, payload.len(), space_use);
        if admitted.is_ok() {
            let head = change.head(stream, time_ms);
            let lsn = journal.append(&head, &[&payload]);
            self.expect_next(lsn);
            let undo = self.apply_change(lsn, stream, change);
            self.push_undo(lsn, time_ms, undo.expect("a decided change applies"));
        }
        self.scratch = payload;
        admitted.map(|()| self.last_lsn)
    }

    /// The log and the engine must number alike, or replay would be another history.
    fn expect_next(&self, lsn: Lsn) {
        assert_eq!(lsn, self.last_lsn.next(), "the log numbers entries unlike the engine");
    }

    #[inline]
    fn push_undo(&mut self, lsn: Lsn, time_ms: i64, change: UndoChange) {
        let before_ms = std::mem::replace(&mut self.counters.time_ms, time_ms);
        self.undo.push(lsn, Times { before_ms, own_ms: time_ms }, change);
        self.last_lsn = lsn;
    }

    /// The partition as decided: one whose deletion is appended is gone.
    fn decided(&self, handle: PartitionHandle) -> Result<&Partition, Rejection> {
        let found = self.streams.get(handle.stream).filter(|partition| {
            partition.topic == handle.topic && handle.shard == self.shard && !partition.deleted
        });
        found.ok_or_else(|| rejection::unknown_partition(handle))
    }

    /// The partition as commit has revealed it.
    fn revealed(&self, handle: PartitionHandle) -> Result<&Partition, Rejection> {
        let found = self.streams.get(handle.stream).filter(|partition| {
            partition.topic == handle.topic && handle.shard == self.shard && partition.shown.created
        });
        found.ok_or_else(|| rejection::unknown_partition(handle))
    }
}
