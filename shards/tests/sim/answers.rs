//! Every question that can be asked of an engine, and what the plain model answers.

use corelane_shards::{Engine, TopicRecord};
use model::reply::PartitionStatus;
use model::{
    ConsumerName, ErrorCode, PartitionHandle, PartitionIndex, StartPosition, StreamId, TopicId,
};

use super::plain::{Plain, PlainPartition, PlainTopic};
use super::world::{SHARD, World};

impl World {
    pub fn ask_everything(&mut self) {
        check(&self.engine, &self.shown, &self.decided);
    }
}

/// `shown` is the fold of the committed log, `decided` that of all of it.
pub fn check(engine: &Engine, shown: &Plain, decided: &Plain) {
    check_topics(engine, shown);
    // A partition whose deletion is not committed still counts.
    if engine.partition_count() == decided.partitions.len() {
        let each = decided.partitions.values().map(|p| p.producers.len() + p.consumers.len());
        assert_eq!(engine.remembered(), each.sum::<usize>());
    }
    let listed: Vec<u32> = engine.partitions().map(|record| record.stream.0).collect();
    let expected: Vec<u32> = shown.partitions.keys().copied().collect();
    assert_eq!(listed, expected);
    for record in engine.partitions() {
        let partition = &shown.partitions[&record.stream.0];
        assert_eq!((record.topic, record.index.0), (partition.topic, partition.index));
        assert_eq!(record.name.as_str(), partition.name);
        assert_eq!((record.first_offset, record.next_offset), (partition.first, partition.next()));
        // Settings are used from the moment they are decided.
        let used = decided.partitions.get(&record.stream.0).unwrap_or(partition);
        if decided.partitions.contains_key(&record.stream.0) {
            assert_eq!(
                (&record.config, record.config_version),
                (&used.config, used.config_version)
            );
        }
        check_partition(engine, record.stream, partition);
    }
    for topic in 1..4 {
        check_description(engine, TopicId(topic), shown, decided);
    }
    for stream in 0..70 {
        let first = shown.partitions.get(&stream).map(|partition| partition.first);
        assert_eq!(engine.log_start(StreamId(stream)), first);
    }
}

fn check_partition(engine: &Engine, stream: StreamId, partition: &PlainPartition) {
    let handle = PartitionHandle { topic: partition.topic, stream, shard: SHARD };
    let bounds = engine.bounds(handle).unwrap();
    assert_eq!((bounds.first, bounds.next), (partition.first, partition.next()));
    for consumer in ["c0", "c1", "c2"] {
        let name = ConsumerName::parse(consumer).unwrap();
        let got = engine.committed_offset(handle, &name);
        match partition.consumers.get(consumer) {
            Some(offset) => assert_eq!(got.unwrap(), *offset),
            None => assert_eq!(got.unwrap_err().code, ErrorCode::NoCommittedOffset),
        }
    }
    let outside = StartPosition::Offset(partition.next() + 1);
    let refusal = engine.resolve(handle, &outside).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::OffsetOutOfRange);
    for bound in [partition.first, partition.next()] {
        assert!(refusal.message.contains(&bound.to_string()));
    }
    let stale = PartitionHandle { topic: TopicId(partition.topic.0 + 1), ..handle };
    assert_eq!(engine.bounds(stale).unwrap_err().code, ErrorCode::UnknownPartition);
}

fn check_topics(engine: &Engine, shown: &Plain) {
    let record = |(id, topic): (&u64, &PlainTopic)| TopicRecord {
        id: TopicId(*id),
        name: model::TopicName::parse(&topic.name).unwrap(),
        config: topic.config.clone(),
        config_version: topic.config_version,
        shards: topic.shards.as_slice().into(),
    };
    let of = |deleted: bool| {
        let topics = shown.topics.iter().filter(move |(_, topic)| topic.deleted == deleted);
        topics.map(record).collect::<Vec<_>>()
    };
    assert_eq!(engine.topics().collect::<Vec<_>>(), of(false));
    assert_eq!(engine.tombstones().collect::<Vec<_>>(), of(true));
}

fn check_description(engine: &Engine, topic: TopicId, shown: &Plain, decided: &Plain) {
    let left = shown.partitions.iter().filter(|(stream, partition)| {
        partition.topic == topic && decided.partitions.contains_key(stream)
    });
    let mut expected: Vec<PartitionStatus> = left
        .map(|(_, partition)| PartitionStatus {
            index: PartitionIndex(partition.index),
            shard: SHARD,
            first_offset: partition.first,
            next_offset: partition.next(),
            bytes: partition.bytes,
            consumers: consumers(partition),
        })
        .collect();
    expected.sort_by_key(|status| status.index);
    assert_eq!(engine.describe(topic), expected);
}

fn consumers(partition: &PlainPartition) -> Vec<(ConsumerName, u64)> {
    let all = partition.consumers.iter();
    all.map(|(name, offset)| (ConsumerName::parse(name).unwrap(), *offset)).collect()
}
