//! What a pin keeps, and what it gives way to.

use model::{Lsn, SpaceUse, StreamId};

use crate::format::names;
use crate::testing::{Log, config};
use crate::wal::Room;

fn fill(log: &mut Log, from: u64, to: u64) {
    for offset in from..to {
        log.append(1, offset, 3_000);
        if offset % 3 == 0 {
            log.settle();
        }
    }
    log.settle();
}

/// Two checkpoints past everything of before.
fn let_go(log: &mut Log, offset: u64) {
    fill(log, offset, offset + 1);
    log.wal.set_log_start(StreamId(1), offset);
    log.settle();
    log.checkpoint(&[b"one"]);
    fill(log, offset + 1, offset + 2);
    log.checkpoint(&[b"two"]);
}

fn names_on(log: &Log) -> Vec<String> {
    log.disk.image().names().map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn a_pinned_log_keeps_its_files_until_the_pin_is_taken_off() {
    let mut log = Log::new(config());
    fill(&mut log, 0, 300);
    log.checkpoint(&[b"zero"]);
    let point = log.wal.pin();
    let kept: Vec<String> = (point.segments.iter())
        .map(|segment| names::segment(segment.number))
        .chain(point.checkpoints.iter().map(|(_, end)| names::checkpoint(*end)))
        .collect();
    assert!(point.segments.len() > 2 && kept.len() > point.segments.len(), "{point:?}");
    assert_eq!(point.durable_lsn, log.wal.durable_lsn());
    let unsealed = point.segments.iter().filter(|segment| !segment.sealed).count();
    assert_eq!(unsealed, 1, "{point:?}");

    let_go(&mut log, 300);
    fill(&mut log, 302, 320);
    let there = names_on(&log);
    assert!(kept.iter().all(|name| there.contains(name)), "{kept:?} in {there:?}");
    let stats = log.wal.stats();
    assert_eq!((stats.recycled_total, stats.removed_total), (0, 0));
    assert!(log.wal.is_pinned());

    log.wal.unpin(&mut log.disk);
    log.settle();
    let stats = log.wal.stats();
    assert!(stats.recycled_total + stats.removed_total > 0, "{stats:?}");
    let there = names_on(&log);
    let checkpoint = names::checkpoint(point.checkpoints[0].1);
    assert!(!there.contains(&checkpoint), "{there:?}");
}

#[test]
fn what_is_not_durable_is_no_part_of_the_point() {
    let mut log = Log::new(config());
    fill(&mut log, 0, 10);
    let before = log.wal.pin();
    log.append(1, 10, 3_000);
    log.commit();
    assert!(log.wal.in_flight() > 0);
    let during = log.wal.pin();
    assert_eq!(during, before);
    log.settle();
    let after = log.wal.pin();
    assert_eq!(after.durable_lsn, Lsn(11));
    assert!(after.segments[0].data_end > before.segments[0].data_end);
}

#[test]
fn a_log_with_nothing_in_it_has_a_point() {
    let mut log = Log::new(config());
    let point = log.wal.pin();
    assert_eq!((point.durable_lsn, point.checkpoints.len()), (Lsn(0), 0));
}

#[test]
fn a_pin_gives_way_when_there_is_no_space() {
    let mut log = Log::new(config());
    fill(&mut log, 0, 300);
    log.checkpoint(&[b"zero"]);
    log.wal.pin();
    let_go(&mut log, 300);
    assert!(log.wal.is_pinned());
    let used = log.disk.image().names().map(|(_, bytes)| bytes).sum();
    log.disk.limit_space(used);
    for offset in 302..450 {
        // A moment without room, until the pin has given way.
        (0..100).find(|_| {
            log.wal.room(3_000, SpaceUse::Grows) == Room::Yes || {
                log.settle();
                false
            }
        });
        log.append(1, offset, 3_000);
        log.settle();
    }
    assert!(!log.wal.is_pinned(), "the log went on in what the pin had kept");
    assert!(log.wal.stats().recycled_total > 0);
    assert_eq!(log.wal.durable_lsn(), log.wal.appended_lsn());
}

#[test]
fn a_pin_that_keeps_nothing_back_stays_on_a_full_disk() {
    let mut log = Log::new(config());
    fill(&mut log, 0, 20);
    let used = log.disk.image().names().map(|(_, bytes)| bytes).sum();
    log.disk.limit_space(used);
    for offset in 20.. {
        if log.wal.room(3_000, SpaceUse::Grows) != Room::Yes {
            break;
        }
        log.append(1, offset, 3_000);
        log.settle();
    }
    assert!(log.wal.stats().disk_full);
    log.wal.pin();
    log.settle();
    assert!(log.wal.is_pinned());
}

#[test]
fn a_pin_gives_way_to_a_checkpoint_without_space() {
    let mut log = Log::new(config());
    fill(&mut log, 0, 300);
    log.checkpoint(&[b"zero"]);
    log.wal.pin();
    let_go(&mut log, 300);
    let used = log.disk.image().names().map(|(_, bytes)| bytes).sum();
    log.disk.limit_space(used);
    // Larger than what is kept for checkpoints.
    let piece = vec![7; 400 * 1024];
    log.checkpoint(&[&piece]);
    assert!(log.wal.is_pinned(), "what is kept for checkpoints goes first");
    log.checkpoint(&[&piece]);
    assert!(!log.wal.is_pinned(), "nothing else would ever give the checkpoint its space");
    let stats = log.wal.stats();
    assert!(stats.recycled_total + stats.removed_total > 0, "{stats:?}");
}
