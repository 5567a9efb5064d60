//! A small directory with every kind of entry, several segments, a checkpoint and a torn end.

use std::path::Path;

use model::{
    AckLevel, ConsumerName, PartitionIndex, ShardId, StreamId, TopicConfig, TopicId, TopicName,
};
use protocol::Producer;
use shards::entry::{Change, SkipCause};
use wal::directory;

use crate::shard::{SECRET, Shard};

/// What in the text says that a batch is not kept: of a deleted partition, before a log's start.
pub const GONE: &[&str] = &["kind: 1, flags: 0, stream: StreamId(3)", "base_offset: 0, records: 5"];

pub fn write(path: &Path) {
    let mut directory = directory::create(path, 2, SECRET).unwrap();
    let block_bytes = directory.block_bytes();
    let mut shard = Shard::create(&directory.shard_path(0), 0, block_bytes);
    write_topics(&mut shard);
    shard.stop();
    let mut shard = Shard::create(&directory.shard_path(1), 1, block_bytes);
    write_partitions(&mut shard);
    shard.stop();
    directory.finish().unwrap();
}

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn config(retention_ms: Option<u64>) -> TopicConfig {
    TopicConfig { retention_ms, retention_bytes: Some(1 << 40), ack: AckLevel::Memory }
}

fn write_topics(shard: &mut Shard) {
    let created = |id: u64, text: &str| Change::TopicCreated {
        id: TopicId(id),
        name: name(text),
        config: config(None),
        shards: vec![ShardId(1), ShardId(1)],
    };
    shard.change(0, &created(1, "orders"));
    shard.change(0, &created(2, "audit.log"));
    shard.change(0, &created(3, "deleted"));
    shard.change(0, &created(4, "cleared"));
    let config = config(Some(u64::MAX));
    shard.change(0, &Change::TopicAltered { id: TopicId(1), config_version: 2, config });
    shard.change(0, &Change::TopicDeleted { id: TopicId(3) });
    shard.change(0, &Change::TopicDeleted { id: TopicId(4) });
    shard.change(0, &Change::TombstoneCleared { id: TopicId(4) });
    shard.change(0, &Change::ProducerIdsAllocated { next: 3_001 });
}

fn write_partitions(shard: &mut Shard) {
    let created = |topic: u64, text: &str, index: u32| Change::PartitionCreated {
        topic: TopicId(topic),
        name: name(text),
        index: PartitionIndex(index),
        config: config(None),
        config_version: 1,
    };
    shard.change(1, &created(1, "orders", 0));
    shard.change(2, &created(1, "orders", 1));
    shard.change(3, &created(3, "deleted", 0));
    shard.change(4, &created(2, "audit.log", 0));
    shard.change(5, &created(2, "audit.log", 1));
    let altered = config(Some(u64::MAX));
    shard.change(1, &Change::PartitionAltered { config_version: 2, config: altered.clone() });
    shard.change(2, &Change::PartitionAltered { config_version: 2, config: altered });
    shard.batch(3, 0, 7, None);
    shard.change(3, &Change::PartitionDeleted);
    shard.batch(1, 0, 5, None);
    let mut offset = 5;
    for at in 0..40 {
        let producer = Producer { id: 2_000 + at % 3, epoch: 1, sequence: (at / 3 * 4) as i32 };
        shard.batch(1, offset, 4, Some(producer));
        offset += 4;
        if at == 20 {
            shard.change(
                1,
                &Change::OffsetsSkipped { from: offset, to: offset + 100, cause: SkipCause::Lost },
            );
            offset += 100;
            shard.checkpoint();
        }
    }
    let bytes = shard.first_batch_bytes;
    shard.change(1, &Change::LogStartAdvanced { offset: 5, bytes });
    shard.change(1, &Change::ProducersExpired { ids: vec![2_001] });
    let consumer = ConsumerName::parse("mill").unwrap();
    shard.change(1, &Change::OffsetCommitted { consumer, offset: 77 });
    let producers = shard.engine.carry(StreamId(1)).unwrap().producers;
    shard.change(2, &Change::ProducersRestored { replaces: true, producers });
    shard.batch(4, 0, 1, None);
}
