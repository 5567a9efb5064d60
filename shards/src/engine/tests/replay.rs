//! Replay and checkpoints: what does not fit, damage, slices, reused names.

use model::{EntryHead, ErrorCode, Lsn, PartitionIndex, ShardId, StreamId, TopicConfig};

use super::{append, engine, with_partition};
use crate::entry::kind;
use crate::{Engine, EngineConfig, ReplayError};

fn head(kind: u8, stream: u32) -> EntryHead {
    EntryHead { kind, flags: 0, stream: StreamId(stream), base_offset: 0, records: 0, time_ms: 0 }
}

fn checkpoint(engine: &Engine) -> Vec<u8> {
    let (mut cursor, mut bytes) = (engine.snapshot(), Vec::new());
    while engine.snapshot_slice(&mut cursor, 1, &mut bytes) {}
    bytes
}

#[test]
fn a_log_that_does_not_fit_is_an_error() {
    let (mut live, mut log, to) = with_partition(TopicConfig::default());
    append(&mut live, &mut log, to, 2);
    let (batch_head, batch) = log.entries[1].clone();

    let (expected, found) = (Lsn(1), Lsn(2));
    let got = engine().apply(found, &batch_head, &batch);
    assert_eq!(got, Err(ReplayError::Gap { expected, found }));
    let (lsn, stream) = (Lsn(1), StreamId(1));
    let got = engine().apply(lsn, &batch_head, &batch);
    assert_eq!(got, Err(ReplayError::UnknownStream { lsn, stream }));
    let got = engine().apply(lsn, &head(99, 0), &[]);
    assert_eq!(got, Err(ReplayError::UnknownKind { lsn, kind: 99 }));
    let got = engine().apply(lsn, &head(kind::PARTITION_CREATED, 1), &[1, 2]);
    assert!(matches!(got, Err(ReplayError::Malformed { .. })));
    let got = engine().apply(lsn, &head(kind::TOPIC_DELETED, 0), &5u64.to_le_bytes());
    let topic = model::TopicId(5);
    assert_eq!(got, Err(ReplayError::UnknownTopic { lsn, topic }));

    let mut again = log.replayed();
    let got = again.apply(Lsn(3), &batch_head, &batch);
    assert_eq!(got, Err(ReplayError::Offset { lsn: Lsn(3), stream, expected: 2 }));
    let (created, payload) = &log.entries[0];
    assert_eq!(again.apply(Lsn(3), created, payload), Err(ReplayError::Exists { lsn: Lsn(3) }));
}

#[test]
fn a_cut_or_foreign_checkpoint_is_an_error_and_never_a_panic() {
    let (mut live, mut log, to) = with_partition(TopicConfig::default());
    append(&mut live, &mut log, to, 2);
    let bytes = checkpoint(&live);
    for cut in 0..bytes.len() {
        let mut engine = engine();
        let read = engine.load(&bytes[..cut]).and_then(|()| engine.loaded(Lsn(2), Lsn(2)));
        // The end of an object is as good as the end of the list.
        let complete = read.is_ok();
        assert!(!complete || engine.partition_count() == 0);
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let mut engine = engine();
            let _ = engine.load(&flipped).and_then(|()| engine.loaded(Lsn(2), Lsn(2)));
        }
    }
    let twice = [&bytes[..], &bytes[..]].concat();
    assert_eq!(engine().load(&twice), Err(ReplayError::CheckpointOrder));
    let mut other = Engine::new(ShardId(3), EngineConfig::default());
    let (found, expected) = (ShardId(0), ShardId(3));
    assert_eq!(other.load(&bytes), Err(ReplayError::CheckpointShard { found, expected }));
    assert!(engine().loaded(Lsn(0), Lsn(0)).is_err(), "a checkpoint has at least a head");
}

#[test]
fn a_slice_holds_no_more_objects_than_asked_for() {
    let (mut engine, mut log) = (engine(), super::Log::new());
    let spec = super::spec(3, TopicConfig::default());
    for index in 0..600 {
        engine.create_partition(1, &spec, PartitionIndex(index), &mut log).unwrap();
    }
    let (mut cursor, mut sizes) = (engine.snapshot(), Vec::new());
    loop {
        let mut slice = Vec::new();
        let more = engine.snapshot_slice(&mut cursor, 200, &mut slice);
        sizes.push(slice.len());
        if !more {
            break;
        }
    }
    assert_eq!(sizes.len(), 4, "a head and 600 partitions: {sizes:?}");
    assert!(sizes.iter().all(|bytes| *bytes <= 200 * 100));
}

#[test]
#[should_panic(expected = "cannot be taken back")]
fn what_is_committed_stays() {
    let (mut engine, _, _) = with_partition(TopicConfig::default());
    engine.truncate(Lsn(0));
}

#[test]
fn a_name_and_a_place_that_were_used_again_during_a_checkpoint_are_the_successors() {
    let (mut live, mut log) = (engine(), super::Log::new());
    let (spec, index) = (super::spec(3, TopicConfig::default()), PartitionIndex(0));
    let (orders, shards) = (super::name("orders"), [ShardId(0)]);
    // The checkpoint begins here; what it finds is what is left at the end.
    let (mut cursor, mut bytes) = (live.snapshot(), Vec::new());
    for round in 0..2 {
        let topic = live.create_topic(1, &orders, &spec.config, &shards, &mut log).unwrap().0;
        live.create_partition(1, &spec, index, &mut log).unwrap();
        if round == 0 {
            live.delete_topic(1, &orders, &mut log).unwrap();
            live.tombstone_cleared(1, topic, &mut log).unwrap();
            live.delete_partition(1, spec.id, index, &mut log).unwrap();
        }
    }
    while live.snapshot_slice(&mut cursor, 1, &mut bytes) {}
    let mut again = engine();
    again.load(&bytes).unwrap();
    again.loaded(Lsn(0), live.last_lsn()).unwrap();
    for (at, (head, payload)) in log.entries.iter().enumerate() {
        again.apply(Lsn(at as u64 + 1), head, payload).unwrap();
    }
    let taken = again.create_topic(1, &orders, &spec.config, &shards, &mut log).unwrap_err();
    assert_eq!(taken.code, ErrorCode::TopicExists);
    let found = again.create_partition(1, &spec, index, &mut log).unwrap();
    assert_eq!(found, (StreamId(2), Lsn::ZERO));
    assert_eq!(checkpoint(&again), checkpoint(&live));
}
