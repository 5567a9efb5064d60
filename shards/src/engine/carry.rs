//! What offline tools take out of one log and put into another, and how a fold goes on where
//! entries are gone. The server itself never calls this.

use model::{ConsumerName, Lsn, Offset, PartitionHandle, Rejection, StreamId, TopicId};

use crate::engine::{Engine, PartitionRecord, ReplayError};
use crate::entry::{Change, SkipCause};
use crate::journal::Journal;
use crate::producer::ProducerStates;
use crate::rejection;

/// A partition's state beside its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedPartition {
    pub record: PartitionRecord,
    /// In the order of the names.
    pub consumers: Vec<(ConsumerName, Offset)>,
    pub producers: ProducerStates,
    /// Offsets without records, each from the first up to before the second.
    pub holes: Vec<(Offset, Offset)>,
}

/// Numbers that were given out once and are not given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub stream_next: StreamId,
    pub topic_next: TopicId,
    pub producer_id_next: i64,
    /// The newest entry's time, Unix milliseconds.
    pub time_ms: i64,
}

impl Engine {
    /// Everything that is committed of a partition; `None` when there is none.
    pub fn carry(&self, stream: StreamId) -> Option<CarriedPartition> {
        let partition = self.streams.get(stream).filter(|p| p.shown.created)?;
        let record = self.partition_record(stream, partition);
        let consumers = partition.consumers.iter();
        Some(CarriedPartition {
            record,
            consumers: consumers.filter_map(|(name, c)| Some((name.clone(), c.shown?))).collect(),
            producers: partition.producers.states(),
            holes: partition.holes.clone(),
        })
    }

    pub fn counted(&self) -> Counted {
        Counted {
            stream_next: self.counters.stream_next,
            topic_next: self.counters.topic_next,
            producer_id_next: self.counters.producer_id_next,
            time_ms: self.counters.time_ms,
        }
    }

    /// Replay of a damaged log: the entries up to `lsn` are gone. What they said is not known;
    /// the next one applied is the one after.
    pub fn entries_lost(&mut self, lsn: Lsn) {
        self.last_lsn = self.last_lsn.max(lsn);
        self.committed_lsn = self.last_lsn;
    }

    /// Replay of a damaged log: puts in what an entry that is gone must have said. It counts as
    /// part of the last entry.
    ///
    /// # Errors
    /// When it does not fit either; nothing has changed then.
    pub fn amend(&mut self, stream: StreamId, change: &Change) -> Result<(), ReplayError> {
        let lsn = self.last_lsn;
        let undo = self.apply_change(lsn, stream, change).map_err(|misfit| {
            let head = change.head(stream, self.counters.time_ms);
            misfit.of(lsn, &head, &[])
        })?;
        self.reveal(undo, false);
        Ok(())
    }

    /// Moves a partition on to `to`; there will be no records with the offsets before it.
    pub fn skip_offsets(
        &mut self,
        now_ms: i64,
        partition: PartitionHandle,
        to: Offset,
        cause: SkipCause,
        journal: &mut impl Journal,
    ) -> Result<Lsn, Rejection> {
        let time_ms = self.stamp(now_ms);
        let from = self.decided(partition)?.next_offset;
        if to <= from {
            let message = format!("the partition ends at offset {from}; it can only go forward");
            return Err(rejection::invalid(&message));
        }
        let change = Change::OffsetsSkipped { from, to, cause };
        self.record(time_ms, partition.stream, &change, journal)
    }

    /// Where the partition's next batch goes; `None` when there is no such partition.
    pub fn next_offset(&self, stream: StreamId) -> Option<Offset> {
        self.streams.get(stream).map(|partition| partition.next_offset)
    }
}
