//! Groups, the order of durability, and what `truncate` drops.

use model::{Lsn, SpaceUse};

use crate::testing::{Log, config, payload};
use crate::wal::Room;
use crate::{ENTRY_PAYLOAD_BYTES_MAX, WalConfig};

#[test]
fn entries_of_one_commit_are_one_block() {
    let mut log = Log::new(config());
    let before = log.wal.stats().blocks;
    for offset in 0..5 {
        assert_eq!(log.append(1, offset, 100), Lsn(offset + 1));
    }
    log.commit();
    assert_eq!(log.wal.stats().blocks, before + 1);
    assert_eq!(log.wal.durable_lsn(), Lsn(0));
    log.end_one();
    assert_eq!(log.wal.durable_lsn(), Lsn(5));
}

#[test]
fn a_group_grows_while_writes_are_under_way() {
    let mut log = Log::new(WalConfig { writes_in_flight: 1, ..config() });
    let before = log.wal.stats().blocks;
    for offset in 0..10 {
        log.append(1, offset, 100);
        log.commit();
    }
    assert_eq!(log.wal.in_flight(), 1);
    assert_eq!(log.wal.stats().blocks, before + 1, "one entry alone");
    log.end_one();
    assert_eq!(log.wal.stats().blocks, before + 2, "the other nine together, at once");
    log.end_one();
    assert_eq!(log.wal.durable_lsn(), Lsn(10));
}

#[test]
fn a_group_grows_until_it_has_leave() {
    let mut log = Log::new(config());
    log.wal.ask_before_blocks();
    let before = log.wal.stats().blocks;
    assert!(!log.wal.wants_leave(), "nothing is appended");
    for offset in 0..5 {
        log.append(1, offset, 100);
        log.commit();
        assert!(log.wal.wants_leave());
    }
    assert_eq!((log.wal.in_flight(), log.wal.stats().blocks), (0, before));
    log.wal.give_leave();
    assert!(!log.wal.wants_leave(), "it has it");
    log.commit();
    assert_eq!(log.wal.stats().blocks, before + 1);
    log.append(1, 5, 100);
    log.commit();
    log.end_one();
    assert_eq!(log.wal.durable_lsn(), Lsn(5), "the sixth came after the leave");
    assert_eq!(log.wal.in_flight(), 0, "an end gives none");
    log.wal.give_leave();
    log.commit();
    log.end_one();
    assert_eq!(log.wal.durable_lsn(), Lsn(6));
}

#[test]
fn full_groups_need_leave_one_by_one_and_depth_still_holds() {
    let mut log = Log::new(WalConfig { writes_in_flight: 1, ..config() });
    log.wal.ask_before_blocks();
    for offset in 0..8 {
        log.append(1, offset, 6_000);
    }
    log.commit();
    log.wal.give_leave();
    log.commit();
    assert_eq!(log.wal.in_flight(), 1);
    assert!(!log.wal.wants_leave(), "one is under way, and no more may be");
    let mut leaves = 1;
    while log.wal.durable_lsn() < Lsn(8) {
        log.end_one();
        if log.wal.wants_leave() {
            log.wal.give_leave();
            leaves += 1;
            log.commit();
        }
    }
    assert_eq!(leaves, 4, "two entries each");
}

#[test]
fn durability_moves_in_order_whatever_ends_first() {
    let mut log = Log::new(WalConfig { writes_in_flight: 3, ..config() });
    for offset in 0..3 {
        log.append(1, offset, 100);
        log.commit();
    }
    assert_eq!(log.wal.in_flight(), 3);
    let mut ends = log.ends();
    ends.sort_by_key(|completion| std::cmp::Reverse(completion.ticket));
    let seen: Vec<u64> = ends
        .into_iter()
        .map(|completion| {
            log.wal.complete(&mut log.disk, completion);
            log.wal.durable_lsn().0
        })
        .collect();
    assert_eq!(seen, [0, 0, 3]);
}

#[test]
fn a_large_entry_is_a_block_of_its_own() {
    let mut log = Log::new(config());
    let before = log.wal.stats().blocks;
    log.append(1, 0, 100);
    log.append(1, 1, 40_000);
    log.append(1, 2, 100);
    log.settle();
    assert_eq!(log.wal.stats().blocks - before, 4, "three, and a witness");
    let expected: Vec<u8> =
        [(0, 100), (1, 40_000), (2, 100)].map(|(o, b)| payload(1, o, b)).concat();
    assert_eq!(log.read_all(1, 0, 1 << 20), expected);
}

#[test]
fn the_largest_entry_fits_a_log_of_usual_size() {
    let config = WalConfig::default().bounded(4096);
    let alone = crate::format::block::padded_bytes(ENTRY_PAYLOAD_BYTES_MAX, 1, 4096) as u64;
    assert!(alone + 2 * 4096 <= config.segment_bytes);
    assert!(alone + 2 * 4096 <= config.reserve_bytes(4096));
}

#[test]
fn too_much_that_waits_is_a_backlog() {
    let mut log = Log::new(config());
    let mut offset = 0;
    while log.wal.room(4_000, SpaceUse::Grows) == Room::Yes {
        log.append(1, offset, 4_000);
        log.commit();
        offset += 1;
        assert!(offset < 100);
    }
    assert_eq!(log.wal.room(4_000, SpaceUse::Grows), Room::Backlog);
    log.settle();
    assert_eq!(log.wal.room(4_000, SpaceUse::Grows), Room::Yes);
    assert_eq!(log.wal.durable_lsn(), Lsn(offset));
}

#[test]
fn an_idle_log_writes_one_witness() {
    let mut log = Log::new(config());
    log.append(1, 0, 10);
    log.settle();
    let witnesses = log.wal.stats().witnesses;
    log.settle();
    assert_eq!(log.wal.stats().witnesses, witnesses, "nothing new to witness");
    log.append(1, 1, 10);
    log.settle();
    assert_eq!(log.wal.stats().witnesses, witnesses + 1);
}

#[test]
fn truncate_drops_what_was_not_handed_to_the_disk() {
    let mut log = Log::new(config());
    log.append(1, 0, 100);
    log.settle();
    // Blocks under way, then closed groups and an open one.
    log.append(1, 1, 100);
    log.commit();
    log.append_joined(1, 2, 100);
    log.commit();
    for offset in 3..9 {
        if offset % 3 == 0 {
            log.append(1, offset, 7_000);
        } else {
            log.append_joined(1, offset, 7_000);
        }
    }
    assert_eq!(log.wal.truncate(Lsn(5)), Lsn(5));
    assert_eq!(log.wal.truncate(Lsn(9)), Lsn(5), "what is gone does not come back");
    assert_eq!(log.append_joined(1, 5, 50), Lsn(6));
    assert_eq!(log.wal.truncate(Lsn(1)), Lsn(3), "blocks under way stay");
    assert_eq!(log.append(1, 3, 30), Lsn(4));
    log.settle();
    let log = log.reopen(config());
    check_entries(&log, &[100, 100, 100, 30]);
}

#[test]
fn entries_handed_over_in_numbers_are_dropped_and_kept_like_others() {
    let mut log = Log::new(config());
    let (mut lengths, mut dropped) = (Vec::new(), 0);
    // Lengths that come again are joined. What is dropped, of the open group and of closed ones, is
    // appended again with another length.
    for (round, bytes) in [21, 22, 149, 150, 300, 1_000, 150, 3_000].into_iter().enumerate() {
        for _ in 0..90 {
            if log.wal.room(bytes, SpaceUse::Grows) != Room::Yes {
                log.settle();
            }
            let offset = lengths.len() as u64;
            assert_eq!(log.append_joined(1, offset, bytes), Lsn(offset + 1));
            lengths.push(bytes);
        }
        if round % 3 == 2 {
            log.commit();
        }
        let kept = log.wal.truncate(Lsn(lengths.len() as u64 - 10 - 5 * round as u64));
        assert_eq!(kept, log.wal.appended_lsn());
        dropped += lengths.len() - kept.0 as usize;
        lengths.truncate(kept.0 as usize);
    }
    assert!(dropped > 100, "{dropped} were");
    log.settle();
    let expected: Vec<u8> = entries(&lengths).collect::<Vec<_>>().concat();
    assert!(log.read_all(1, 0, 10_000) == expected, "what is read from memory");
    let mut log = log.reopen(config());
    check_entries(&log, &lengths);
    assert!(log.read_all(1, 0, 10_000) == expected, "what is read from the disk");
}

#[test]
fn no_block_is_longer_than_a_group_may_be() {
    // No multiple of the disk's unit, 4,096: a block has 8,192 bytes at most.
    let group_bytes = 10_000;
    let mut log = Log::new(WalConfig { group_bytes, writes_in_flight: 1, ..config() });
    for offset in 0..40 {
        if offset % 2 == 0 {
            log.append(1, offset, 1_000)
        } else {
            log.append_joined(1, offset, 1_000)
        };
    }
    let bytes_written = |log: &Log| {
        let stats = log.wal.stats();
        stats.fresh_bytes_written + stats.recycled_bytes_written
    };
    let (mut blocks, mut before) = (Vec::new(), bytes_written(&log));
    log.commit();
    while log.wal.durable_lsn() < Lsn(40) {
        let now = bytes_written(&log);
        blocks.extend((now > before).then_some(now - before));
        before = now;
        log.end_one();
    }
    assert!(blocks.iter().all(|bytes| *bytes <= u64::from(group_bytes)), "{blocks:?}");
    // Seven entries each, and the last five.
    assert_eq!(blocks, [8_192; 6], "{blocks:?}");
    let mut log = log.reopen(config());
    check_entries(&log, &[1_000; 40]);
    assert_eq!(log.read_all(1, 0, 1 << 20).len(), 40_000);
}

/// The entries that were there when the log was opened are those of stream 1 with these lengths, from
/// offset 0 on.
fn check_entries(log: &Log, lengths: &[usize]) {
    let found = &log.memory.entries;
    assert_eq!(found.len(), lengths.len());
    for (at, ((lsn, head, bytes), expected)) in found.iter().zip(entries(lengths)).enumerate() {
        assert_eq!((lsn.0, head.base_offset), (at as u64 + 1, at as u64));
        assert!(*bytes == expected, "entry {lsn}: {} of {} bytes", bytes.len(), expected.len());
    }
}

fn entries(lengths: &[usize]) -> impl Iterator<Item = Vec<u8>> {
    (0..).zip(lengths).map(|(offset, bytes)| payload(1, offset, *bytes))
}
