//! Reading: hot and cold give the same, bounds hold, searches find what a plain list would.

use model::StreamId;

use super::{READ_BLOCK_COST, READ_WALK_MAX, ReadStep, SeekStep, TimeSeek};
use crate::WalConfig;
use crate::testing::{Log, config, payload};

/// Three streams, one of them rare, over several segments.
fn filled(config: WalConfig) -> (Log, [u64; 4]) {
    let mut log = Log::new(config);
    let mut next = [0u64; 4];
    for round in 0..1_500u64 {
        let stream = if round % 97 == 0 { 3 } else { 1 + round % 2 } as usize;
        log.append(stream as u32, next[stream], 200 + (round % 7) as usize * 300);
        next[stream] += 1;
        if round % 5 == 0 {
            log.settle();
        }
    }
    log.settle();
    assert!(log.wal.sealed_segments().count() >= 3);
    (log, next)
}

fn expected(stream: u32, from: u64, log: &Log) -> Vec<u8> {
    let mine = |(_, head, _): &&(_, model::EntryHead, Vec<u8>)| {
        head.stream == StreamId(stream) && head.base_offset >= from
    };
    log.memory.entries.iter().filter(mine).flat_map(|(_, _, payload)| payload.clone()).collect()
}

#[test]
fn hot_and_cold_reads_give_the_same_bytes() {
    let (mut log, next) = filled(config());
    let hot: Vec<_> = (1..=3).map(|stream| log.read_all(stream, 0, 5_000)).collect();
    assert_eq!(log.wal.stats().cold_bytes_read, 0);
    // No cache to speak of, and no index but what is loaded for each use.
    let cold = WalConfig { cache_bytes: 0, index_cache_bytes: 0, ..config() };
    let mut log = log.reopen(cold);
    for stream in 1..=3u32 {
        assert!(expected(stream, 0, &log) == hot[stream as usize - 1], "stream {stream}");
        for max_bytes in [1, 5_000, 1 << 20] {
            assert!(log.read_all(stream, 0, max_bytes) == hot[stream as usize - 1]);
        }
        for from in [1, next[stream as usize] / 2, next[stream as usize] - 1] {
            assert!(log.read_all(stream, from, 9_000) == expected(stream, from, &log));
        }
    }
    assert!(log.wal.stats().cold_bytes_read > 0);
}

/// The disk has always answered by the next step, so that each wait is a read that nobody foresaw.
#[test]
fn the_next_segment_is_there_when_a_cold_reader_comes_to_it() {
    // Without memory for two indexes it is not, and neither pushes the other out at every step.
    for (index_cache_bytes, waits_each) in [(1 << 20, 0), (0, 3)] {
        read_through(WalConfig { cache_bytes: 0, index_cache_bytes, ..config() }, waits_each);
    }
}

fn read_through(cold: WalConfig, waits_each: usize) {
    let mut log = Log::new(config());
    for offset in 0..3_000 {
        log.append(1, offset, 1_500);
        if offset % 5 == 0 {
            log.settle();
        }
    }
    let mut log = log.reopen(cold);
    let whole = expected(1, 0, &log);
    let mut cursor = log.wal.cursor(StreamId(1), 0);
    let (mut bytes, mut waits) = (Vec::<u8>::new(), 0);
    while bytes.len() < whole.len() {
        match log.wal.read(&mut log.disk, &mut cursor, 1, u64::MAX) {
            ReadStep::Batches(batches) => batches.slices.iter().for_each(|s| bytes.extend(s)),
            ReadStep::Pending => waits += 1,
            step => panic!("{step:?}"),
        }
        while let Some(completion) = log.disk.end_one() {
            log.wal.complete(&mut log.disk, completion);
        }
    }
    assert!(bytes == whole);
    let segments = log.wal.sealed_segments().count();
    let most = 5 + waits_each * segments;
    assert!(segments > 15 && waits < most, "{waits} waits in {segments} segments");
    // Nothing is read twice.
    let (read, stored) = (log.wal.stats().cold_bytes_read, 256 * 1024 * (segments as u64 + 1));
    assert!(read <= stored, "{read} bytes read of {stored}");
}

/// A reader that has found its next batch in memory has passed what then leaves the memory behind it.
#[test]
fn nothing_is_read_ahead_that_a_reader_has_passed() {
    let mut log = Log::new(WalConfig { cache_bytes: 0, ..config() });
    let fill = |log: &mut Log, stream: u32, offsets: std::ops::Range<u64>| {
        for offset in offsets {
            log.append(stream, offset, 1_500);
            if offset % 5 == 0 {
                log.settle();
            }
        }
        log.settle();
    };
    fill(&mut log, 1, 0..300);
    fill(&mut log, 2, 0..300);
    let mut cursor = log.wal.cursor(StreamId(1), 0);
    while cursor.offset() < 300 {
        assert!(matches!(log.read(&mut cursor, 1, u64::MAX), ReadStep::Batches(_)));
    }
    fill(&mut log, 1, 300..301);
    assert!(matches!(log.read(&mut cursor, 1, u64::MAX), ReadStep::Batches(_)));
    let before = log.wal.stats().cold_bytes_read;
    fill(&mut log, 2, 300..600);
    fill(&mut log, 1, 301..302);
    assert!(matches!(log.read(&mut cursor, 1, u64::MAX), ReadStep::Batches(_)));
    assert_eq!(log.wal.stats().cold_bytes_read, before);
}

#[test]
fn many_cold_readers_share_few_windows() {
    let (log, _) = filled(config());
    let mut log = log.reopen(WalConfig { cache_bytes: 0, ..config() });
    let whole = expected(1, 0, &log);
    let mut readers: Vec<_> =
        (0..20).map(|_| (log.wal.cursor(StreamId(1), 0), Vec::<u8>::new(), false)).collect();
    let mut turns = 0;
    while readers.iter().any(|(_, bytes, _)| bytes.len() < whole.len()) {
        for (cursor, bytes, waits) in readers.iter_mut().filter(|(_, _, waits)| !waits) {
            match log.wal.read(&mut log.disk, cursor, 20_000, u64::MAX) {
                ReadStep::Batches(batches) => batches.slices.iter().for_each(|s| bytes.extend(s)),
                ReadStep::Pending => *waits = true,
                ReadStep::End => {}
                step => panic!("{step:?}"),
            }
        }
        while let Some(ready) = log.wal.take_ready() {
            readers.iter_mut().filter(|(c, _, _)| c.id() == ready).for_each(|r| r.2 = false);
        }
        if let Some(completion) = log.disk.end_one() {
            log.wal.complete(&mut log.disk, completion);
        }
        turns += 1;
        assert!(turns < 100_000, "every reader comes to its end");
    }
    assert!(readers.iter().all(|(_, bytes, _)| *bytes == whole));
}

#[test]
fn a_free_window_is_passed_on_by_who_does_not_take_it() {
    #[derive(Clone, Copy, Debug)]
    enum Why {
        ClosedWhenTold,
        ClosedWhenNamed,
        NothingToRead,
    }
    for why in [Why::ClosedWhenTold, Why::ClosedWhenNamed, Why::NothingToRead] {
        let (log, next) = filled(config());
        let mut log = log.reopen(WalConfig { cache_bytes: 0, ..config() });
        let mut readers: Vec<_> = (0..4).map(|_| log.wal.cursor(StreamId(1), 0)).collect();
        for cursor in &mut readers {
            let step = log.wal.read(&mut log.disk, cursor, 1, u64::MAX);
            assert_eq!(step, ReadStep::Pending, "two read, two wait for a window");
        }
        let (mut last, mut third) = (readers.pop().unwrap(), readers.pop().unwrap());
        log.wal.close_cursor(readers.pop().unwrap());
        match why {
            Why::ClosedWhenTold => log.wal.close_cursor(third),
            Why::ClosedWhenNamed => {
                assert_eq!(log.wal.take_ready(), Some(third.id()));
                log.wal.close_cursor(third);
            }
            Why::NothingToRead => {
                assert_eq!(log.wal.take_ready(), Some(third.id()));
                third.seek(next[1]);
                assert_eq!(log.wal.read(&mut log.disk, &mut third, 1, u64::MAX), ReadStep::End);
            }
        }
        assert_eq!(log.wal.take_ready(), Some(last.id()), "{why:?}");
        assert!(matches!(log.read(&mut last, 1, u64::MAX), ReadStep::Batches(_)));
    }
}

/// Two readers have the windows, two wait for one; the two are not read on, before or after the disk
/// has answered them, and come back later.
#[test]
fn readers_at_rest_keep_no_window_from_others() {
    for answered in [false, true] {
        let (log, _) = filled(config());
        let mut log = log.reopen(WalConfig { cache_bytes: 0, ..config() });
        let mut readers: Vec<_> = (0..4).map(|_| log.wal.cursor(StreamId(1), 0)).collect();
        for cursor in &mut readers {
            let step = log.wal.read(&mut log.disk, cursor, 1, u64::MAX);
            assert_eq!(step, ReadStep::Pending, "two read, two wait for a window");
        }
        if answered {
            while let Some(completion) = log.disk.end_one() {
                log.wal.complete(&mut log.disk, completion);
            }
            assert_eq!(log.wal.take_ready(), Some(readers[0].id()));
            assert_eq!(log.wal.take_ready(), Some(readers[1].id()));
            assert_eq!(log.wal.take_ready(), None);
        }
        for resting in 0..2 {
            log.wal.rest(readers[resting].id());
            assert_eq!(log.wal.take_ready(), Some(readers[resting + 2].id()));
        }
        for cursor in readers.iter_mut().rev() {
            let step = log.read(cursor, 1, u64::MAX);
            assert!(matches!(step, ReadStep::Batches(_)), "answered {answered}: {step:?}");
        }
    }
}

#[test]
fn neighbours_are_one_slice_and_the_end_is_kept() {
    let mut log = Log::new(config());
    for offset in 0..6 {
        log.append(1, offset, 100);
    }
    log.append(2, 0, 100);
    log.append(1, 6, 100);
    log.settle();
    let mut cursor = log.wal.cursor(StreamId(1), 2);
    let ReadStep::Batches(batches) = log.read(&mut cursor, 10_000, 7) else { panic!() };
    assert_eq!((batches.slices.len(), batches.entries, batches.bytes), (2, 5, 500));
    assert_eq!((batches.first_offset, batches.next_offset), (2, 7));
    assert_eq!(batches.slices[0], [2, 3, 4, 5].map(|o| payload(1, o, 100)).concat());
    cursor.seek(0);
    let ReadStep::Batches(batches) = log.read(&mut cursor, 1, 3) else { panic!() };
    assert_eq!((batches.entries, batches.next_offset), (1, 1), "at least one");
    let ReadStep::Batches(batches) = log.read(&mut cursor, 10_000, 3) else { panic!() };
    assert_eq!((batches.entries, batches.next_offset), (2, 3), "none at the end or after");
    assert_eq!(log.read(&mut cursor, 10_000, 3), ReadStep::End);
}

#[test]
fn a_reader_at_the_end_goes_on_when_there_is_more() {
    let mut log = Log::new(config());
    let mut cursor = log.wal.cursor(StreamId(1), 0);
    for offset in 0..400 {
        assert_eq!(log.read(&mut cursor, 10_000, offset), ReadStep::End);
        log.append(1, offset, 900);
        // Others write in between, so that this stream is rare.
        for other in 0..3 {
            log.append(2, offset * 3 + other, 2_000);
        }
        log.settle();
        let ReadStep::Batches(batches) = log.read(&mut cursor, 10_000, offset + 1) else {
            panic!("offset {offset}");
        };
        assert_eq!(batches.slices.concat(), payload(1, offset, 900));
    }
}

#[test]
fn a_search_by_time_finds_the_first_batch() {
    let (mut log, next) = filled(config());
    for reopened in [false, true] {
        if reopened {
            let cold = WalConfig { cache_bytes: 0, index_cache_bytes: 0, ..config() };
            log = log.reopen(cold);
        }
        for time_ms in (990..1_100).step_by(7) {
            let wanted = (time_ms - 1_000).max(0) as u64 * 10;
            let expected = if wanted < next[1] { SeekStep::Found(wanted) } else { SeekStep::End };
            let mut seek = TimeSeek::new(StreamId(1), time_ms);
            let found = loop {
                match log.wal.seek_time(&mut log.disk, &mut seek) {
                    SeekStep::Pending => log.end_one(),
                    step => break step,
                }
            };
            assert_eq!(found, expected, "time {time_ms}");
        }
    }
}

#[test]
fn offsets_below_the_begin_are_trimmed() {
    let (mut log, _) = filled(config());
    log.wal.set_log_start(StreamId(1), 50);
    let mut cursor = log.wal.cursor(StreamId(1), 49);
    let step = log.read(&mut cursor, 1, u64::MAX);
    assert_eq!(step, ReadStep::Trimmed { first_offset: 50 });
    cursor.seek(50);
    assert!(matches!(log.read(&mut cursor, 1, u64::MAX), ReadStep::Batches(_)));
    log.wal.remove_stream(StreamId(1));
    assert_eq!(log.read(&mut cursor, 1, u64::MAX), ReadStep::End);
}

#[test]
fn memory_stays_within_its_budget() {
    let budget = 1024 * 1024;
    let (mut log, _) = filled(WalConfig { cache_bytes: budget, ..config() });
    assert!(log.wal.stats().cached_bytes <= budget);
    // A slice held outside keeps its chunk, and nothing else.
    let mut cursor = log.wal.cursor(StreamId(2), 0);
    let ReadStep::Batches(held) = log.read(&mut cursor, 1, u64::MAX) else { panic!() };
    let before = held.slices[0].to_vec();
    for offset in 0..2_000 {
        log.append(9, offset, 1_500);
        log.settle();
    }
    assert!(log.wal.stats().cached_bytes <= budget + 512 * 1024);
    assert_eq!(held.slices[0], before);
}

/// One batch of a stream among very many of others: a read walks through so much and no more, in
/// memory and on the disk, and all is found in the end.
#[test]
fn a_read_of_a_rare_stream_walks_through_so_much_of_others_and_no_more() {
    // Blocks of one stream's batches and of many batches of another, then much without the first.
    let mut log = Log::new(config());
    let (mut rare, mut other) = (0, 0);
    for round in 0..400 {
        if round < 300 {
            log.append(1, rare, 20);
            rare += 1;
        }
        for _ in 0..60 {
            log.append(2, other, 12);
            other += 1;
        }
        log.settle();
    }
    let block_max = 60 + 1 + READ_BLOCK_COST;
    let cold = WalConfig { cache_bytes: 0, ..config() };
    for reopened in [false, true] {
        if reopened {
            log = log.reopen(cold.clone());
        }
        let mut cursor = log.wal.cursor(StreamId(1), 0);
        let (mut found, mut steps) = (Vec::<u8>::new(), 0);
        loop {
            let before = log.wal.stats().walked;
            let step = log.wal.read(&mut log.disk, &mut cursor, 1 << 20, u64::MAX);
            let walked = log.wal.stats().walked - before;
            assert!(walked < READ_WALK_MAX + block_max, "{walked} in one read");
            steps += 1;
            match step {
                ReadStep::Batches(batches) => batches.slices.iter().for_each(|s| found.extend(s)),
                ReadStep::Pending => {
                    while log.wal.take_ready() != Some(cursor.id()) {
                        log.end_one();
                    }
                }
                ReadStep::End => break,
                step => panic!("{step:?}"),
            }
        }
        let whole: Vec<u8> = (0..rare).flat_map(|offset| payload(1, offset, 20)).collect();
        assert!(found == whole, "reopened: {reopened}");
        assert!(steps > 300 * (60 + READ_BLOCK_COST) / READ_WALK_MAX, "{steps} steps");
        log.wal.close_cursor(cursor);
    }
}

/// Behind a small block there is one of very many others: the reader has its turn to itself no
/// longer than that, and comes again without the disk.
#[test]
fn a_read_that_finds_nothing_in_so_much_comes_again() {
    let config = WalConfig {
        segment_bytes: 4 * 1024 * 1024,
        group_bytes: 1024 * 1024,
        backlog_bytes: 8 * 1024 * 1024,
        ..config()
    };
    let mut log = Log::new(config);
    log.append(1, 0, 20);
    log.settle();
    let many = READ_WALK_MAX;
    (0..many).for_each(|offset| _ = log.append(2, offset, 12));
    log.settle();
    log.append(1, 1, 20);
    log.settle();
    let mut cursor = log.wal.cursor(StreamId(1), 0);
    let ReadStep::Batches(first) = log.wal.read(&mut log.disk, &mut cursor, 1, u64::MAX) else {
        panic!("the first is in memory")
    };
    assert_eq!((first.first_offset, first.next_offset), (0, 1));
    let step = log.wal.read(&mut log.disk, &mut cursor, 1, u64::MAX);
    assert_eq!(step, ReadStep::Pending);
    assert_eq!(log.wal.take_ready(), Some(cursor.id()), "nothing is waited for");
    let ReadStep::Batches(second) = log.wal.read(&mut log.disk, &mut cursor, 1, u64::MAX) else {
        panic!("the second is in memory")
    };
    assert_eq!((second.first_offset, second.next_offset), (1, 2));
    log.wal.close_cursor(cursor);
    assert_eq!(log.wal.take_ready(), None);
}
