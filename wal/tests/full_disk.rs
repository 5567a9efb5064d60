//! A full disk: what grows is refused, consumers go on, deletes always fit, and what they free is
//! used again; over restarts, over many rounds, and with no byte left beside the log.

mod host;

use corelane_wal::Room;
use corelane_wal::device::sim::SimDisk;
use corelane_wal::verify::verify_log;
use host::{Host, KIND_NOTE, KIND_REMOVED, KIND_TRIMMED, config, created, seed};
use model::SpaceUse;

/// Far more rounds than anything here takes.
const ROUNDS_MAX: u32 = 4_000;

fn opened(seed: u64) -> Host {
    let mut host = Host::open(created(seed), &[], 0, seed).unwrap();
    host.check_reads = false;
    let made = host.entry(host::KIND_STREAM_MADE, 1, host::fold::label(1));
    host.append(made);
    for _ in 0..20 {
        turn(&mut host);
    }
    host
}

/// What a host does now and then.
fn turn(host: &mut Host) {
    host.settle();
    host.tick();
    host.settle();
    if host.wal.wants_mark() {
        let mark = host.entry(KIND_NOTE, 0, Vec::new());
        assert_ne!(host.wal.room(0, SpaceUse::Frees), Room::DiskFull);
        host.append(mark);
        host.settle();
    }
    if host.wal.checkpoint_due() {
        host.checkpoint_whole();
    }
}

/// No byte more than there is now.
fn close_disk(host: &mut Host) -> u64 {
    let used: u64 = host.disk.image().names().map(|(_, bytes)| bytes).sum();
    host.disk.limit_space(used);
    used
}

fn publish(host: &mut Host) -> bool {
    let entry = host.sized_batch(1, 1, 1_900);
    let room = host.wal.room(entry.payload.len(), entry.space_use());
    if room == Room::Yes {
        host.append(entry);
    }
    room != Room::DiskFull
}

/// Publishes until the disk is full for publishes.
fn fill(host: &mut Host) {
    for _ in 0..ROUNDS_MAX {
        if !publish(host) {
            return;
        }
        turn(host);
    }
    panic!("the disk is full some time: {:?}", host.wal.stats());
}

/// A committed offset, say; false when there is no room for it.
fn commit_offset(host: &mut Host) -> bool {
    let note = host.entry(KIND_NOTE, 0, vec![7; 40]);
    let room = host.wal.room(note.payload.len(), SpaceUse::GoesOn);
    if room == Room::Yes {
        host.append(note);
    }
    room == Room::Yes
}

fn free(host: &mut Host) {
    let start = host.streams[&1].next_offset.to_le_bytes().to_vec();
    let entry = host.entry(KIND_TRIMMED, 1, start);
    assert_eq!(
        host.wal.room(entry.payload.len(), SpaceUse::Frees),
        Room::Yes,
        "{:?}",
        host.wal.stats()
    );
    host.append(entry);
}

/// Turns until a publish is let in.
fn resume(host: &mut Host) {
    for _ in 0..200 {
        turn(host);
        if publish(host) {
            return;
        }
    }
    panic!("publishing resumes: {:?}", host.wal.stats());
}

/// A start after a kill, on the same full disk.
fn restart(host: Host, limit: u64, seed: u64) -> Host {
    let image = host.disk.image();
    let mut disk = SimDisk::from_image(image, seed);
    let report = verify_log(&mut disk, &config().secret).unwrap();
    assert!(report.is_good(), "{:?}", report.damage);
    let mut disk = SimDisk::from_image(disk.image(), seed);
    disk.limit_space(limit);
    let promised = host.wal.durable_lsn().0;
    let mut host = Host::open(disk, &host.truth, promised, seed).unwrap();
    host.check_reads = false;
    host
}

#[test]
fn commits_go_on_for_good_while_the_reserve_is_used_in_turn() {
    let mut host = opened(seed(61));
    close_disk(&mut host);
    fill(&mut host);
    // More than ten times what the reserve holds, a block of 4 KiB each.
    let reserve_blocks = 2 * config().segment_bytes / 4096;
    for round in 0..10 * reserve_blocks {
        assert!(commit_offset(&mut host), "round {round}: {:?}", host.wal.stats());
        turn(&mut host);
        assert!(!publish(&mut host), "nothing was freed");
    }
    free(&mut host);
    resume(&mut host);
    host.settle();
    host.check_streams();
}

#[test]
fn commits_leave_the_last_part_of_the_reserve_to_what_frees_space() {
    let mut host = opened(seed(62));
    close_disk(&mut host);
    fill(&mut host);
    let mut commits = 0;
    // Without checkpoints nothing of the reserve can be used again.
    while commit_offset(&mut host) {
        host.settle();
        host.tick();
        host.settle();
        commits += 1;
        assert!(commits < ROUNDS_MAX, "they are refused at last: {:?}", host.wal.stats());
    }
    assert!(commits > 10, "{commits} commits were let in");
    for _ in 0..3 {
        free(&mut host);
        host.settle();
    }
    resume(&mut host);
    assert!(commit_offset(&mut host), "commits are let in again");
}

#[test]
fn a_full_disk_is_got_out_of_again_and_again() {
    let base = seed(63);
    for seed in base..base + 4 {
        let mut host = opened(seed);
        close_disk(&mut host);
        for round in 0..12 {
            fill(&mut host);
            assert!(commit_offset(&mut host), "seed {seed}, round {round}");
            free(&mut host);
            resume(&mut host);
        }
        host.settle();
        host.check_streams();
    }
}

#[test]
fn a_start_on_a_full_disk_succeeds_at_every_stage() {
    let base = seed(64);
    for seed in base..base + 4 {
        let mut host = opened(seed);
        let limit = close_disk(&mut host);
        for _ in 0..3 {
            fill(&mut host);
            host = restart(host, limit, seed);
            assert!(!publish_after_looking(&mut host), "the reserve is not for publishes");
            assert!(commit_offset(&mut host));
            turn(&mut host);
            host = restart(host, limit, seed);
            assert!(!publish_after_looking(&mut host), "the reserve is not for publishes");
            free(&mut host);
            host.settle();
            host = restart(host, limit, seed);
            resume(&mut host);
        }
    }
}

/// A publish after the log has had time to see how the disk is.
fn publish_after_looking(host: &mut Host) -> bool {
    for _ in 0..3 {
        turn(host);
    }
    publish(host)
}

#[test]
fn space_that_comes_from_outside_is_enough() {
    let mut host = opened(seed(65));
    close_disk(&mut host);
    fill(&mut host);
    assert!(commit_offset(&mut host));
    host.disk.limit_space(u64::MAX);
    resume(&mut host);
    for _ in 0..ROUNDS_MAX / 10 {
        assert!(publish(&mut host));
        turn(&mut host);
    }
    let names: Vec<String> = host.disk.image().names().map(|(name, _)| name.to_owned()).collect();
    for reserve in ["reserve", "reserve-2", "reserve-checkpoint"] {
        assert!(names.iter().any(|name| name == reserve), "{reserve} is there again: {names:?}");
    }
}

#[test]
fn space_that_goes_suddenly_stops_publishes_only() {
    let mut host = opened(seed(66));
    // Another's file eats the space in the middle of a full load.
    for _ in 0..100 {
        publish(&mut host);
        host.commit();
        host.end_one();
    }
    close_disk(&mut host);
    fill(&mut host);
    host.settle();
    host.read_everything().unwrap();
    assert!(host.wal.failure().is_none());
    let removed = host.entry(KIND_REMOVED, 1, Vec::new());
    assert_eq!(host.wal.room(0, SpaceUse::Frees), Room::Yes);
    host.append(removed);
    let (mut turns, before) = (0, host.wal.stats().recycled_total);
    while host.wal.stats().recycled_total == before {
        turn(&mut host);
        turns += 1;
        assert!(turns < 200, "what the stream held is used again: {:?}", host.wal.stats());
    }
}
