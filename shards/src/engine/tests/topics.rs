//! Topics and partitions: life, limits, doing things twice.

use std::collections::HashSet;

use model::limits::PARTITIONS_MAX;
use model::{ErrorCode, Lsn, PartitionIndex, ShardId, TopicChange, TopicConfig};

use super::{Log, engine, name, spec};
use crate::{Effect, Engine, EngineConfig};

#[test]
fn a_topics_life() {
    let (mut engine, mut log) = (engine(), Log::new());
    let (orders, config) = (name("orders"), TopicConfig::default());
    let shards = [ShardId(1), ShardId(0)];
    let (id, lsn) = engine.create_topic(1, &orders, &config, &shards, &mut log).unwrap();
    assert_eq!(engine.topics().count(), 0, "not before it is committed");
    engine.commit(lsn);
    assert_eq!(engine.next_effect(), Some(Effect::TopicsChanged));
    let again = engine.create_topic(1, &orders, &config, &shards, &mut log).unwrap_err();
    assert_eq!(again.code, ErrorCode::TopicExists);

    let change = TopicChange { retention_ms: Some(Some(5)), ..TopicChange::default() };
    let (altered, _) = engine.alter_topic(1, &orders, &change, &mut log).unwrap();
    assert_eq!((altered.config_version, altered.config.retention_ms), (2, Some(5)));
    assert_eq!(engine.topics().next().unwrap().config_version, 1);
    let (same, _) = engine.alter_topic(1, &orders, &change, &mut log).unwrap();
    assert_eq!(same, altered);

    let (_, lsn) = engine.delete_topic(1, &orders, &mut log).unwrap();
    let (second, _) = engine.create_topic(1, &orders, &config, &shards, &mut log).unwrap();
    assert_ne!(second, id, "the name is free at once, the id never again");
    engine.commit(lsn);
    assert_eq!(engine.topics().count(), 0);
    let tombstone = engine.tombstones().next().unwrap();
    assert_eq!((tombstone.id, &tombstone.shards[..]), (id, &shards[..]));
    let lsn = engine.tombstone_cleared(1, id, &mut log).unwrap();
    engine.commit(lsn);
    assert_eq!(engine.tombstones().count(), 0);
    assert_eq!(engine.topics().next().unwrap().id, second);
    assert_eq!(engine.tombstone_cleared(1, id, &mut log), Ok(Lsn::ZERO), "once is enough");
}

#[test]
fn partitions_are_counted_until_the_tombstone_is_cleared() {
    let (mut engine, mut log) = (engine(), Log::new());
    let config = TopicConfig::default();
    let shards = vec![ShardId(0); PARTITIONS_MAX as usize];
    let (id, _) = engine.create_topic(1, &name("all"), &config, &shards, &mut log).unwrap();
    let one = [ShardId(0)];
    for _ in 0..2 {
        let refused = engine.create_topic(1, &name("one"), &config, &one, &mut log).unwrap_err();
        assert_eq!(refused.code, ErrorCode::LimitReached);
        let _ = engine.delete_topic(1, &name("all"), &mut log);
    }
    engine.tombstone_cleared(1, id, &mut log).unwrap();
    engine.create_topic(1, &name("one"), &config, &one, &mut log).unwrap();
    engine.truncate(Lsn(1));
    log.entries.truncate(1);
    let refused = engine.create_topic(1, &name("one"), &config, &one, &mut log).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LimitReached);
}

#[test]
fn creating_and_deleting_a_partition_twice_is_once() {
    let (mut engine, mut log) = (engine(), Log::new());
    let spec = spec(3, TopicConfig::default());
    let first = engine.create_partition(1, &spec, PartitionIndex(2), &mut log).unwrap();
    let again = engine.create_partition(1, &spec, PartitionIndex(2), &mut log).unwrap();
    assert_eq!(first, again);
    engine.commit(first.1);
    let later = engine.create_partition(1, &spec, PartitionIndex(2), &mut log).unwrap();
    assert_eq!(later, (first.0, Lsn::ZERO));
    assert_eq!(engine.label(first.0), Some(b"orders/2".to_vec()));
    let lsn = engine.delete_partition(1, spec.id, PartitionIndex(2), &mut log).unwrap();
    assert_eq!(engine.delete_partition(1, spec.id, PartitionIndex(2), &mut log), Ok(lsn));
    engine.commit(lsn);
    assert_eq!(engine.delete_partition(1, spec.id, PartitionIndex(2), &mut log), Ok(Lsn::ZERO));
    assert_eq!(log.entries.len(), 2);
}

#[test]
fn producer_ids_are_never_given_twice_also_after_a_crash() {
    let (mut engine, mut log) = (engine(), Log::new());
    let mut seen = HashSet::new();
    for _ in 0..3 {
        for _ in 0..1_500 {
            let (id, lsn) = engine.allocate_producer_id(1, &mut log).unwrap();
            assert!(id > 0 && lsn <= engine.last_lsn() && seen.insert(id));
        }
        engine = log.replayed();
    }
    assert_eq!(log.entries.len(), 6, "two blocks of a thousand each time");
}

#[test]
fn only_shard_0_keeps_topics() {
    let mut log = Log::new();
    let mut other = Engine::new(ShardId(1), EngineConfig::default());
    let (name, config) = (name("orders"), TopicConfig::default());
    let refused = other.create_topic(1, &name, &config, &[ShardId(1)], &mut log).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert!(other.allocate_producer_id(1, &mut log).is_err());
    assert!(other.delete_topic(1, &name, &mut log).is_err());
    assert!(log.entries.is_empty());
}
