//! Partitions of this shard: create, alter, delete, list, describe. All idempotent, because
//! shard 0 asks again after a crash.

use model::limits::PARTITIONS_MAX;
use model::reply::PartitionStatus;
use model::{
    ConsumerName, ErrorCode, Lsn, Offset, PartitionIndex, Rejection, StreamId, TopicConfig,
    TopicId, TopicName,
};

use crate::engine::Engine;
use crate::entry::Change;
use crate::journal::Journal;
use crate::partition::Partition;
use crate::rejection;

/// What a partition is told of its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub id: TopicId,
    pub name: TopicName,
    pub config: TopicConfig,
    pub config_version: u32,
}

/// A committed partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    pub stream: StreamId,
    pub topic: TopicId,
    pub name: TopicName,
    pub index: PartitionIndex,
    pub config: TopicConfig,
    pub config_version: u32,
    pub first_offset: Offset,
    /// One past the newest committed offset.
    pub next_offset: Offset,
}

impl Engine {
    /// Creates partition `index` of a topic, or finds it. It exists once the log is committed
    /// up to the returned number (`Lsn::ZERO`: it is already).
    pub fn create_partition(
        &mut self,
        now_ms: i64,
        topic: &TopicSpec,
        index: PartitionIndex,
        journal: &mut impl Journal,
    ) -> Result<(StreamId, Lsn), Rejection> {
        let time_ms = self.stamp(now_ms);
        if let Some(&stream) = self.places.get(&(topic.id, index)) {
            let created = self.streams.get(stream).is_some_and(|p| p.shown.created);
            return Ok((stream, if created { Lsn::ZERO } else { self.last_lsn }));
        }
        if self.streams.len() >= PARTITIONS_MAX as usize {
            let message = format!(
                "this shard holds {PARTITIONS_MAX} partitions, the most there may be; delete \
                 topics that are not needed"
            );
            return Err(rejection::limit(message));
        }
        let stream = self.counters.stream_next;
        if stream.0 == u32::MAX {
            let message = "this shard has given out all its stream numbers".to_owned();
            return Err(rejection::limit(message));
        }
        let change = Change::PartitionCreated {
            topic: topic.id,
            name: topic.name.clone(),
            index,
            config: topic.config.clone(),
            config_version: topic.config_version,
        };
        let lsn = self.record(time_ms, stream, &change, journal)?;
        Ok((stream, lsn))
    }

    /// Gives a partition its topic's new settings; an older version than it has changes nothing.
    /// Wait for the returned number as for [`Engine::create_partition`].
    pub fn alter_partition(
        &mut self,
        now_ms: i64,
        topic: TopicId,
        index: PartitionIndex,
        config_version: u32,
        config: &TopicConfig,
        journal: &mut impl Journal,
    ) -> Result<Lsn, Rejection> {
        let time_ms = self.stamp(now_ms);
        let stream = self.places.get(&(topic, index)).copied();
        let Some((stream, partition)) = stream.and_then(|s| Some((s, self.streams.get(s)?))) else {
            let message = format!(
                "shard {} has no partition {index} of topic {topic}; fetch the metadata again",
                self.shard
            );
            return Err(Rejection::new(ErrorCode::UnknownPartition, message));
        };
        if config_version <= partition.config_version {
            return Ok(self.wait_for(partition.lsn));
        }
        let change = Change::PartitionAltered { config_version, config: config.clone() };
        self.record(time_ms, stream, &change, journal)
    }

    /// Deletes a partition and all it holds. One that is not there is deleted already.
    pub fn delete_partition(
        &mut self,
        now_ms: i64,
        topic: TopicId,
        index: PartitionIndex,
        journal: &mut impl Journal,
    ) -> Result<Lsn, Rejection> {
        let time_ms = self.stamp(now_ms);
        let Some(&stream) = self.places.get(&(topic, index)) else {
            // An earlier deletion may still be on its way to the disk.
            return Ok(self.wait_for(self.last_lsn));
        };
        self.record(time_ms, stream, &Change::PartitionDeleted, journal)
    }

    /// The committed partitions, in the order of their streams.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionRecord> {
        let shown = self.streams.range(StreamId(0)).filter(|(_, p)| p.shown.created);
        shown.map(|(stream, partition)| self.partition_record(stream, partition))
    }

    pub(super) fn partition_record(&self, stream: StreamId, p: &Partition) -> PartitionRecord {
        PartitionRecord {
            stream,
            topic: p.topic,
            name: p.name.clone(),
            index: p.index,
            config: p.config.clone(),
            config_version: p.config_version,
            first_offset: p.shown.first_offset,
            next_offset: p.shown.next_offset,
        }
    }

    /// This shard's committed partitions of a topic, in the order of their indices.
    pub fn describe(&self, topic: TopicId) -> Vec<PartitionStatus> {
        let range = (topic, PartitionIndex(0))..=(topic, PartitionIndex(u32::MAX));
        let streams = self.places.range(range).map(|(_, stream)| *stream);
        let shown = streams.filter_map(|s| self.streams.get(s)).filter(|p| p.shown.created);
        shown.map(|partition| self.status(partition)).collect()
    }

    /// The committed first offset; `None` when the stream does not exist (any more).
    pub fn log_start(&self, stream: StreamId) -> Option<Offset> {
        let partition = self.streams.get(stream).filter(|p| p.shown.created)?;
        Some(partition.shown.first_offset)
    }

    /// `name/partition`, which the log keeps so that a directory can be read without the server.
    pub fn label(&self, stream: StreamId) -> Option<Vec<u8>> {
        let partition = self.streams.get(stream)?;
        Some(format!("{}/{}", partition.name, partition.index).into_bytes())
    }

    fn status(&self, partition: &Partition) -> PartitionStatus {
        let consumers = partition.consumers.iter();
        let consumers: Vec<(ConsumerName, Offset)> =
            consumers.filter_map(|(name, c)| Some((name.clone(), c.shown?))).collect();
        PartitionStatus {
            index: partition.index,
            shard: self.shard,
            first_offset: partition.shown.first_offset,
            next_offset: partition.shown.next_offset,
            bytes: partition.shown.bytes,
            consumers,
        }
    }

    /// What is left to wait for of an entry appended earlier.
    pub(super) fn wait_for(&self, lsn: Lsn) -> Lsn {
        if lsn > self.committed_lsn { lsn } else { Lsn::ZERO }
    }
}
