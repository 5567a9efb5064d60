//! Going from segment to segment, using them again, and checkpoints.

use model::StreamId;

use super::State;
use crate::WalConfig;
use crate::device::SimDisk;
use crate::testing::{Log, Memory, config, head};
use crate::wal::Wal;

fn fill(log: &mut Log, from: u64, to: u64) {
    for offset in from..to {
        log.append(1, offset, 3_000);
        if offset % 3 == 0 {
            log.settle();
        }
    }
    log.settle();
}

#[test]
fn a_switch_finds_the_next_segment_ready() {
    let mut log = Log::new(config());
    for offset in 0..600 {
        log.append(1, offset, 3_000);
        log.commit();
        assert!(log.wal.in_flight() > 0, "no entry waits for a segment");
        log.settle();
    }
    let stats = log.wal.stats();
    assert!(stats.segments > 5 && stats.pool == 1, "{stats:?}");
    let sealed: Vec<_> = log.wal.sealed_segments().collect();
    assert_eq!(sealed.len() as u32, stats.segments - 1);
    let offsets: Vec<_> = sealed
        .iter()
        .map(|one| {
            let streams = log.wal.segment_streams(one.number);
            assert_eq!((streams.len(), streams[0].stream), (1, StreamId(1)));
            (streams[0].first_offset, streams[0].last_offset)
        })
        .collect();
    assert!(offsets.windows(2).all(|two| two[0].1 + 1 == two[1].0), "{offsets:?}");
}

#[test]
fn a_footer_waits_for_zeros_under_way() {
    const MIB: usize = 1024 * 1024;
    let config = WalConfig {
        segment_bytes: 4 * MIB as u64,
        backlog_bytes: 8 * MIB as u64,
        prepare_bytes: MIB as u64,
        ..config()
    };
    let mut disk = SimDisk::new(1);
    Wal::create(&mut disk, &config).unwrap();
    let (mut wal, _) = Wal::open(&mut disk, config, &mut Memory::default()).unwrap();
    let drain = |wal: &mut Wal, disk: &mut SimDisk| {
        while let Some(completion) = disk.end_one() {
            wal.complete(disk, completion);
        }
    };
    wal.start_job(&mut disk);
    drain(&mut wal, &mut disk);
    wal.append(&head(1, 0), &[&[1; 100]]);
    wal.commit(&mut disk);
    drain(&mut wal, &mut disk);
    let first = wal.segments.active.unwrap();

    // Step by step up to the one that touches the segment's end.
    wal.zero_ahead(&mut disk);
    while !wal.zeroing.touches(first, 4 * MIB as u64 - 1, 4 * MIB as u64) {
        let step = disk.end_one().expect("there is more to prepare");
        wal.complete(&mut disk, step);
        if wal.zeroing.is_idle() {
            wal.zero_ahead(&mut disk);
        }
    }
    let zeroed = disk.end_one().expect("zeros only");
    assert_eq!(disk.in_flight(), 0);
    wal.append(&head(1, 1), &[&[2; 2 * MIB]]);
    wal.append(&head(1, 2), &[&[3; 2 * MIB]]);
    wal.commit(&mut disk);
    drain(&mut wal, &mut disk);
    assert_ne!(wal.segments.active, Some(first));
    wal.seal_full_segments(&mut disk);
    let segment = &wal.segments.all[&first];
    assert_eq!((segment.state, segment.footer_under_way), (State::Sealing, false));

    wal.complete(&mut disk, zeroed);
    wal.seal_full_segments(&mut disk);
    assert!(wal.segments.all[&first].footer_under_way);
    drain(&mut wal, &mut disk);
    assert_eq!(wal.segments.all[&first].state, State::Sealed);
}

#[test]
fn nothing_is_used_again_before_two_checkpoints_are_past_it() {
    let mut log = Log::new(config());
    fill(&mut log, 0, 300);
    log.wal.set_log_start(StreamId(1), 300);
    log.settle();
    assert_eq!(log.wal.stats().recycled_total, 0);
    log.checkpoint(&[b"one"]);
    assert_eq!(log.wal.stats().recycled_total, 0, "the older one would need all of it");
    fill(&mut log, 300, 301);
    log.checkpoint(&[b"two", b"", b"three"]);
    let stats = log.wal.stats();
    assert!(stats.recycled_total > 0 && stats.pool <= config().pool_segments_max, "{stats:?}");
    assert!(stats.removed_total > 0, "what the pool does not take is removed");

    // Used again, read back, opened again.
    fill(&mut log, 301, 600);
    assert!(log.wal.stats().recycled_bytes_written > 0);
    let kept = log.read_all(1, 301, 1 << 20);
    let mut log = log.reopen(config());
    assert_eq!(log.memory.pieces, [&b"two"[..], b"", b"three"]);
    assert!(log.read_all(1, 301, 1 << 20) == kept);
}

#[test]
fn a_stream_that_is_kept_keeps_its_segments() {
    let mut log = Log::new(config());
    log.append(2, 0, 100);
    fill(&mut log, 0, 300);
    log.wal.remove_stream(StreamId(1));
    log.checkpoint(&[]);
    log.append(2, 1, 100);
    log.settle();
    log.checkpoint(&[]);
    let first = log.wal.sealed_segments().next().expect("the one that stream 2 needs");
    assert_eq!(log.wal.segment_streams(first.number).len(), 2);
    assert!(log.wal.stats().recycled_total + log.wal.stats().removed_total > 0);
    let both = [crate::testing::payload(2, 0, 100), crate::testing::payload(2, 1, 100)];
    assert_eq!(log.read_all(2, 0, 1_000), both.concat());
}

#[test]
fn a_large_checkpoint_comes_back_piece_by_piece() {
    let mut log = Log::new(config());
    fill(&mut log, 0, 10);
    let pieces: Vec<Vec<u8>> = (0..40usize).map(|i| vec![i as u8; i * 37_000 % 500_000]).collect();
    log.checkpoint(&pieces.iter().map(|piece| &piece[..]).collect::<Vec<_>>());
    let log = log.reopen(config());
    assert!(log.memory.pieces == pieces);
    assert!(log.memory.entries.is_empty(), "nothing is replayed that the checkpoint holds");
}

#[test]
fn many_streams_close_a_segment_earlier() {
    let mut log = Log::new(WalConfig { group_bytes: 64 * 1024, ..config() });
    for offset in 0..3 {
        for stream in 1..=1_500 {
            log.append(stream, offset, 20);
            if stream % 50 == 0 {
                log.settle();
            }
        }
    }
    let sealed: Vec<_> = log.wal.sealed_segments().map(|one| one.number).collect();
    assert!(sealed.len() > 1);
    let mut log = log.reopen(WalConfig { cache_bytes: 0, index_cache_bytes: 0, ..config() });
    for stream in [1, 750, 1_500] {
        let expected = [0, 1, 2].map(|offset| crate::testing::payload(stream, offset, 20));
        assert_eq!(log.read_all(stream, 0, 1_000), expected.concat());
    }
}

#[test]
fn a_spare_segment_is_made_where_a_large_checkpoint_has_no_space() {
    let mut disk = SimDisk::new(1);
    Wal::create(&mut disk, &config()).unwrap();
    let (wal, _) = Wal::open(&mut disk, config(), &mut Memory::default()).unwrap();
    drop(wal);
    let used: u64 = disk.image().names().map(|(_, bytes)| bytes).sum();
    let mut disk = SimDisk::from_image(disk.image(), 2);
    disk.limit_space(used);
    let mut log = Log::open(disk, config());
    assert!(log.wal.stats().disk_full);
    assert!(log.wal.segments.reserve.next().is_none());

    log.wal.checkpoint.file_bytes = 40 * config().segment_bytes;
    log.disk.limit_space(used + 2 * config().segment_bytes);
    for _ in 0..30 {
        log.settle();
    }
    assert!(log.wal.segments.reserve.next().is_some(), "commits go on");
    assert!(log.wal.segments.reserve.ballast.is_none());
    assert!(!log.wal.segments.has_spare(), "what is left is for a checkpoint");
}
