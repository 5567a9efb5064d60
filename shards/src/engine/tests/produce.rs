//! Appending: rewriting, refusals, repetitions, bounds, retention.

use model::limits::{BATCH_BYTES_MAX, CONSUMERS_PER_PARTITION_MAX, PRODUCERS_PER_PARTITION_MAX};
use model::{AckLevel, ConsumerName, ErrorCode, Lsn, TopicConfig};

use super::{append, batch, stream_1, with_partition};
use crate::entry::kind;
use crate::{Room, SegmentShare};

#[test]
fn only_offset_and_epoch_are_rewritten_however_the_bytes_are_cut() {
    let (header, bytes) = batch(3, None);
    for cut in 0..=bytes.len() {
        let (mut engine, mut log, to) = with_partition(TopicConfig::default());
        append(&mut engine, &mut log, to, 5);
        let (left, right) = bytes.split_at(cut);
        let (middle, right) = right.split_at(right.len() / 2);
        let got = engine.produce(9, to, &header, &[left, &[], middle, right], &mut log).unwrap();
        assert_eq!((got.base_offset, got.records, got.time_ms), (5, 3, 9));
        let (head, stored) = log.entries.last().unwrap();
        assert_eq!((head.base_offset, head.records, head.time_ms), (5, 3, 9));
        let mut expected = bytes.clone();
        expected[..8].copy_from_slice(&5u64.to_be_bytes());
        expected[12..16].copy_from_slice(&[0; 4]);
        assert_eq!(*stored, expected);
    }
}

#[test]
fn time_never_goes_back() {
    let (mut engine, mut log, to) = with_partition(TopicConfig::default());
    let (header, bytes) = batch(1, None);
    let times: Vec<i64> = [50, 20, 60, -5]
        .iter()
        .map(|now| engine.produce(*now, to, &header, &[&bytes], &mut log).unwrap().time_ms)
        .collect();
    assert_eq!(times, [50, 50, 60, 60]);
    engine.truncate(Lsn(2));
    assert_eq!(
        engine.produce(20, to, &header, &[&bytes], &mut TruncatedAt(2)).unwrap().time_ms,
        50
    );
}

/// A log that has been cut and counts on from there.
struct TruncatedAt(u64);

impl crate::Journal for TruncatedAt {
    fn append(&mut self, _: &model::EntryHead, _: &[&[u8]]) -> Lsn {
        self.0 += 1;
        Lsn(self.0)
    }

    fn room(&self, _: usize, _: model::SpaceUse) -> Room {
        Room::Yes
    }
}

#[test]
fn what_the_header_lies_about_is_refused() {
    let (mut engine, mut log, to) = with_partition(TopicConfig::default());
    let (header, bytes) = batch(1, None);
    let refused = engine.produce(2, to, &header, &[&bytes[..99]], &mut log).unwrap_err();
    assert_eq!(refused.code, ErrorCode::CorruptBatch);
    let refused = engine.produce(2, to, &header, &[], &mut log).unwrap_err();
    assert_eq!(refused.code, ErrorCode::CorruptBatch);
    let large = vec![0; BATCH_BYTES_MAX as usize + 1];
    let refused = engine.produce(2, to, &header, &[&large], &mut log).unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge);
    assert_eq!(engine.last_lsn(), Lsn(1));
}

#[test]
fn a_full_log_says_what_to_do() {
    let (mut engine, mut log, to) = with_partition(TopicConfig::default());
    let (header, bytes) = batch(1, None);
    let expected = [
        (Room::Backlog, ErrorCode::Busy),
        (Room::DiskFull, ErrorCode::DiskFull),
        (Room::ReadOnly, ErrorCode::ShardReadOnly),
    ];
    for (room, code) in expected {
        log.room = room;
        let refused = engine.produce(2, to, &header, &[&bytes], &mut log).unwrap_err();
        assert_eq!(refused.code, code);
    }
    assert_eq!(log.entries.len(), 1);
}

#[test]
fn a_repetition_waits_for_the_original_only_while_that_is_not_durable() {
    let (mut engine, mut log, to) = with_partition(TopicConfig::default());
    let (header, bytes) = batch(2, Some((9, 0, 0)));
    let first = engine.produce(2, to, &header, &[&bytes], &mut log).unwrap();
    append(&mut engine, &mut log, to, 4);
    let again = engine.produce(3, to, &header, &[&bytes], &mut log).unwrap();
    assert_eq!((again.lsn, again.base_offset, again.duplicate), (first.lsn, 0, true));
    assert_eq!(again.time_ms, first.time_ms);
    engine.commit(first.lsn);
    let again = engine.produce(3, to, &header, &[&bytes], &mut log).unwrap();
    assert_eq!((again.lsn, again.base_offset), (Lsn::ZERO, 0));
}

#[test]
fn the_producer_idle_longest_makes_room() {
    let (mut engine, mut log, to) = with_partition(TopicConfig::default());
    let send = |engine: &mut crate::Engine, log: &mut super::Log, id: i64, sequence: i32| {
        let (header, bytes) = batch(1, Some((id, 0, sequence)));
        engine.produce(2, to, &header, &[&bytes], log)
    };
    let most = PRODUCERS_PER_PARTITION_MAX as i64;
    for id in 0..most {
        send(&mut engine, &mut log, id, 0).unwrap();
    }
    send(&mut engine, &mut log, 0, 1).unwrap();
    send(&mut engine, &mut log, most, 0).unwrap();
    let kinds = log.kinds();
    assert_eq!(kinds[kinds.len() - 2..], [kind::PRODUCERS_EXPIRED, kind::BATCH]);
    // Producer 0 wrote again, so it was producer 1 that had been idle longest.
    send(&mut engine, &mut log, 0, 2).unwrap();
    let refused = send(&mut engine, &mut log, 1, 1).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownProducer);
    let mut replayed = log.replayed();
    let refused = send(&mut replayed, &mut log, 1, 1).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownProducer);
}

#[test]
fn consumers_are_bounded_and_the_same_offset_costs_nothing() {
    let (mut engine, mut log, to) = with_partition(TopicConfig::default());
    for number in 0..CONSUMERS_PER_PARTITION_MAX {
        let consumer = ConsumerName::parse(&format!("c{number}")).unwrap();
        engine.commit_offset(2, to, &consumer, 0, &mut log).unwrap();
    }
    let entries = log.entries.len();
    let known = ConsumerName::parse("c1").unwrap();
    let lsn = engine.commit_offset(2, to, &known, 0, &mut log).unwrap();
    assert_eq!((lsn, log.entries.len()), (engine.last_lsn(), entries));
    let one_more = ConsumerName::parse("one-more").unwrap();
    let refused = engine.commit_offset(2, to, &one_more, 0, &mut log).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LimitReached);
}

#[test]
fn the_partition_says_its_default_ack_level() {
    let config = TopicConfig { ack: AckLevel::Memory, ..TopicConfig::default() };
    let (engine, _, to) = with_partition(config);
    assert_eq!(engine.default_ack(to), Ok(AckLevel::Memory));
}

#[test]
fn retention_removes_by_age_and_by_size_but_never_what_is_not_committed() {
    let share =
        |last_offset| SegmentShare { first_offset: 0, last_offset, max_time_ms: 2, bytes: 100 };
    let by_age = TopicConfig { retention_ms: Some(10), ..TopicConfig::default() };
    let (mut engine, mut log, to) = with_partition(by_age);
    let lsn = append(&mut engine, &mut log, to, 1).lsn;
    append(&mut engine, &mut log, to, 1);
    assert_eq!(engine.advance_log_start(50, stream_1(), share(0), &mut log), None);
    engine.commit(lsn);
    assert_eq!(engine.advance_log_start(12, stream_1(), share(0), &mut log), None);
    let advanced = engine.advance_log_start(13, stream_1(), share(0), &mut log);
    assert_eq!(engine.log_start(stream_1()), Some(0), "not before it is committed");
    engine.commit(advanced.unwrap());
    assert_eq!(engine.log_start(stream_1()), Some(1));
    assert_eq!(engine.advance_log_start(50, stream_1(), share(0), &mut log), None, "only once");

    let by_size = TopicConfig { retention_bytes: Some(250), ..TopicConfig::default() };
    let (mut engine, mut log, to) = with_partition(by_size);
    for _ in 0..3 {
        let lsn = append(&mut engine, &mut log, to, 1).lsn;
        engine.commit(lsn);
    }
    assert_eq!(engine.advance_log_start(50, stream_1(), share(0), &mut log), None);
    let lsn = append(&mut engine, &mut log, to, 1).lsn;
    engine.commit(lsn);
    assert!(engine.advance_log_start(50, stream_1(), share(0), &mut log).is_some());
    assert_eq!(engine.advance_log_start(50, stream_1(), share(1), &mut log), None);
}
