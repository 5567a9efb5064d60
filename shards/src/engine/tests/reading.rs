//! Reading: credit, turns, waiting fetches, and how readers end.

use model::limits::CREDIT_BYTES_MAX;
use model::{ErrorCode, PartitionIndex, StartPosition, TopicConfig, TopicId};

use super::{append, with_partition};
use crate::{Effect, ReadVerdict, ReaderId};

const ONE: ReaderId = ReaderId(1);
const TWO: ReaderId = ReaderId(2);

#[test]
fn nothing_is_read_before_it_is_committed_or_without_credit() {
    let (mut engine, mut log, from) = with_partition(TopicConfig::default());
    engine.subscribe(ONE, from, &StartPosition::First).unwrap();
    engine.add_credit(ONE, 150);
    let lsn = append(&mut engine, &mut log, from, 4).lsn;
    assert_eq!(engine.next_effect(), None);
    engine.commit(lsn);
    let stream = from.stream;
    let read = |offset, max_bytes, end_offset| Effect::Read {
        reader: ONE,
        stream,
        offset,
        max_bytes,
        end_offset,
        due_ns: 0,
    };
    assert_eq!(engine.next_effect(), Some(read(0, 150, 4)));
    assert_eq!(engine.next_effect(), None, "one read at a time");
    // One batch larger than the credit goes through, and then no more.
    assert_eq!(engine.read_done(ONE, 4, 200), ReadVerdict::Reply);
    let lsn = append(&mut engine, &mut log, from, 1).lsn;
    engine.commit(lsn);
    engine.add_credit(ONE, 50);
    assert_eq!(engine.next_effect(), None);
    engine.add_credit(ONE, 1);
    assert_eq!(engine.next_effect(), Some(read(4, 1, 5)));
}

/// The queue is never empty, and yet each read is due since what it is for has come.
#[test]
fn a_read_is_due_since_there_is_something_for_it() {
    let (mut engine, mut log, from) = with_partition(TopicConfig::default());
    for reader in 1..=10 {
        engine.subscribe(ReaderId(reader), from, &StartPosition::Next).unwrap();
        engine.add_credit(ReaderId(reader), u64::MAX);
    }
    let next = |engine: &mut crate::Engine| {
        let Some(Effect::Read { reader, end_offset, due_ns, .. }) = engine.next_effect() else {
            panic!("there is always one")
        };
        engine.read_done(reader, end_offset, 100);
        (reader.0, due_ns)
    };
    for turn in 1..=20 {
        engine.turn_begins(turn * 100);
        let lsn = append(&mut engine, &mut log, from, 1).lsn;
        engine.commit(lsn);
        // Half of them each turn: those who have waited since the one before.
        let readers = if turn % 2 == 1 { 1..=5 } else { 6..=10 };
        let due_ns = (turn - 1).max(1) * 100;
        let expected: Vec<_> = readers.map(|reader| (reader, due_ns)).collect();
        let taken: Vec<_> = (0..5).map(|_| next(&mut engine)).collect();
        assert_eq!(taken, expected, "turn {turn}");
    }
}

#[test]
fn turns_are_fair() {
    let (mut engine, mut log, from) = with_partition(TopicConfig::default());
    for reader in [ONE, TWO] {
        engine.subscribe(reader, from, &StartPosition::First).unwrap();
        engine.add_credit(reader, u64::MAX);
    }
    for _ in 0..3 {
        let lsn = append(&mut engine, &mut log, from, 1).lsn;
        engine.commit(lsn);
    }
    let mut order = Vec::new();
    while let Some(Effect::Read { reader, offset, max_bytes, .. }) = engine.next_effect() {
        assert_eq!(max_bytes, 1_000, "credit is far more than one turn");
        engine.read_done(reader, offset + 1, 100);
        order.push((reader.0, offset));
    }
    assert_eq!(order, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)]);
    const { assert!(CREDIT_BYTES_MAX < i64::MAX as u64 / 2) };
}

#[test]
fn a_fetch_waits_for_its_bytes_then_for_its_time() {
    let (mut engine, mut log, from) = with_partition(TopicConfig::default());
    engine.fetch(ONE, from, 0, 250, 1_000, 100).unwrap();
    for next in 1..=3 {
        let lsn = append(&mut engine, &mut log, from, 1).lsn;
        engine.commit(lsn);
        assert_eq!(engine.next_effect().is_some(), next == 3);
    }
    assert_eq!(engine.read_done(ONE, 3, 300), ReadVerdict::Reply);
    assert_eq!(engine.read_done(ONE, 3, 300), ReadVerdict::Gone);

    engine.fetch(ONE, from, 2, 250, 1_000, 100).unwrap();
    engine.fetch(TWO, from, 3, 250, 1_000, 90).unwrap();
    assert!(matches!(engine.next_effect(), Some(Effect::Read { reader: ONE, offset: 2, .. })));
    assert_eq!(engine.read_done(ONE, 3, 100), ReadVerdict::Wait);
    assert_eq!(engine.next_deadline_ms(), Some(90));
    // The time of entries is another clock's.
    engine.allocate_producer_id(1_000_000, &mut log).unwrap();
    assert_eq!(engine.next_effect(), None);
    engine.tick(99);
    let stream = from.stream;
    let expired = Effect::FetchExpired { reader: TWO, stream, next_offset: 3 };
    assert_eq!(engine.next_effect(), Some(expired));
    engine.tick(100);
    assert!(matches!(engine.next_effect(), Some(Effect::Read { reader: ONE, .. })));
    assert_eq!(engine.read_done(ONE, 3, 100), ReadVerdict::Reply);
    assert_eq!(engine.next_deadline_ms(), None);
}

#[test]
fn a_fetch_that_cannot_hold_more_is_answered() {
    let (mut engine, mut log, from) = with_partition(TopicConfig::default());
    for _ in 0..3 {
        let lsn = append(&mut engine, &mut log, from, 1).lsn;
        engine.commit(lsn);
    }
    engine.fetch(ONE, from, 0, 150, 150, 1_000).unwrap();
    assert!(matches!(engine.next_effect(), Some(Effect::Read { max_bytes: 150, .. })));
    assert_eq!(engine.read_done(ONE, 1, 100), ReadVerdict::Reply, "two batches are over its limit");
}

#[test]
fn a_fetch_without_a_minimum_or_time_is_answered_at_once() {
    let (mut engine, _, from) = with_partition(TopicConfig::default());
    engine.fetch(ONE, from, 0, 0, 100, 1_000).unwrap();
    engine.fetch(TWO, from, 0, 1, 100, 0).unwrap();
    for reader in [ONE, TWO] {
        let expired = Effect::FetchExpired { reader, stream: from.stream, next_offset: 0 };
        assert_eq!(engine.next_effect(), Some(expired));
    }
}

#[test]
fn readers_end_when_their_partition_does() {
    let (mut engine, mut log, from) = with_partition(TopicConfig::default());
    let lsn = append(&mut engine, &mut log, from, 1).lsn;
    engine.commit(lsn);
    engine.subscribe(ONE, from, &StartPosition::First).unwrap();
    engine.add_credit(ONE, 10);
    engine.fetch(TWO, from, 1, 10, 10, 1_000).unwrap();
    assert!(matches!(engine.next_effect(), Some(Effect::Read { reader: ONE, .. })));
    let lsn = engine.delete_partition(3, TopicId(7), PartitionIndex(0), &mut log).unwrap();
    assert_eq!(engine.next_effect(), None, "not before the deletion is committed");
    assert!(engine.bounds(from).is_ok());
    engine.commit(lsn);
    for reader in [TWO, ONE] {
        let Some(Effect::Ended { reader: ended, rejection }) = engine.next_effect() else {
            panic!("reader {} must end", reader.0)
        };
        assert_eq!((ended, rejection.code), (reader, ErrorCode::UnknownPartition));
    }
    let removed = Effect::PartitionRemoved { stream: from.stream };
    assert_eq!(engine.next_effect(), Some(removed));
    assert_eq!(engine.read_done(ONE, 1, 100), ReadVerdict::Gone);
    assert_eq!(engine.partition_count(), 0);
}

#[test]
fn a_trimmed_read_moves_a_subscription_and_refuses_a_fetch() {
    let (mut engine, mut log, from) = with_partition(TopicConfig::default());
    let lsn = append(&mut engine, &mut log, from, 9).lsn;
    engine.commit(lsn);
    engine.subscribe(ONE, from, &StartPosition::First).unwrap();
    engine.add_credit(ONE, 10);
    engine.fetch(TWO, from, 0, 1, 10, 1_000).unwrap();
    while engine.next_effect().is_some() {}
    assert_eq!(engine.read_trimmed(ONE, 5), None);
    let refused = engine.read_trimmed(TWO, 5).unwrap();
    assert_eq!(refused.code, ErrorCode::OffsetOutOfRange);
    assert!(refused.message.contains("from 5") && refused.message.contains("before 9"));
    assert!(matches!(engine.next_effect(), Some(Effect::Read { reader: ONE, offset: 5, .. })));
    assert!(engine.unsubscribe(ONE) && !engine.unsubscribe(ONE));
    assert_eq!(engine.read_done(ONE, 9, 10), ReadVerdict::Gone);
}

#[test]
fn a_start_time_is_the_hosts_to_look_up() {
    let (engine, _, from) = with_partition(TopicConfig::default());
    let refused = engine.resolve(from, &StartPosition::Time(5)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert_eq!(engine.resolve(from, &StartPosition::Last), Ok(0));
}
