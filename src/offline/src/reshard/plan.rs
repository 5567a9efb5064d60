//! What goes where.

use std::collections::BTreeMap;

use model::{ShardId, StreamId, TopicId, TopicName};
use shards::{CarriedPartition, TopicRecord, place_partitions};

use super::compare::Tally;
use super::{MovedPartition, ReshardError};
use crate::opened::OpenedShard;

/// The new directory, before anything of it is written.
pub(super) struct Plan {
    pub topic_next: TopicId,
    pub producer_id_next: i64,
    /// With their new shards.
    pub topics: Vec<TopicRecord>,
    /// By the place each has in the old directory.
    pub partitions: BTreeMap<(ShardId, StreamId), Planned>,
}

/// One partition.
pub(super) struct Planned {
    /// As it was.
    pub carried: CarriedPartition,
    pub to: ShardId,
    /// In the new directory, once it is begun.
    pub stream: Option<StreamId>,
    /// Of the batches copied.
    pub tally: Tally,
}

impl Plan {
    pub fn new(sources: &[OpenedShard], shards: u16) -> Result<Self, ReshardError> {
        let first = &sources[0].engine;
        let mut topics = Vec::new();
        let mut places: BTreeMap<TopicId, Vec<ShardId>> = BTreeMap::new();
        for record in first.topics() {
            let partitions = u32::try_from(record.shards.len()).unwrap_or(u32::MAX);
            let placed = place_partitions(&record.name, partitions, shards);
            let placed = placed.map_err(|rejection| ReshardError::Placement {
                topic: record.name.clone(),
                reason: rejection.message,
            })?;
            places.insert(record.id, placed.clone());
            topics.push(TopicRecord { shards: placed.into(), ..record });
        }
        topics.sort_by_key(|topic| topic.id);
        let buried: Vec<TopicId> = first.tombstones().map(|topic| topic.id).collect();
        let mut partitions = BTreeMap::new();
        for source in sources {
            for record in source.engine.partitions() {
                let (topic, index) = (record.topic, record.index);
                if buried.contains(&topic) {
                    // Deleted; the old server had not come to it yet.
                    continue;
                }
                let orphan = || ReshardError::Orphan {
                    shard: source.shard,
                    topic: record.name.clone(),
                    partition: index,
                };
                let to = *places
                    .get(&topic)
                    .and_then(|placed| placed.get(index.0 as usize))
                    .ok_or_else(orphan)?;
                let carried = source.engine.carry(record.stream).ok_or_else(orphan)?;
                let planned = Planned { carried, to, stream: None, tally: Tally::default() };
                partitions.insert((source.shard, record.stream), planned);
            }
        }
        let counted = first.counted();
        let (topic_next, producer_id_next) = (counted.topic_next, counted.producer_id_next);
        Ok(Self { topic_next, producer_id_next, topics, partitions })
    }

    pub fn get_mut(&mut self, shard: ShardId, stream: StreamId) -> Option<&mut Planned> {
        self.partitions.get_mut(&(shard, stream))
    }

    /// What was done, in order of the topics' names.
    pub fn moved(&self) -> Vec<MovedPartition> {
        let mut moved: Vec<MovedPartition> = self
            .partitions
            .iter()
            .map(|((from, _), planned)| {
                let record = &planned.carried.record;
                MovedPartition {
                    topic: record.name.clone(),
                    index: record.index,
                    from: *from,
                    to: planned.to,
                    first_offset: record.first_offset,
                    next_offset: record.next_offset,
                    consumers: planned.carried.consumers.len(),
                    records: planned.tally.records,
                    checksum: planned.tally.checksum(),
                }
            })
            .collect();
        let key = |one: &MovedPartition| -> (TopicName, u32) { (one.topic.clone(), one.index.0) };
        moved.sort_by_key(key);
        moved
    }
}
