//! Runs are recorded on the simulated disk and crashed at every point. Recovery must yield all that
//! was promised durable, plus at most unacknowledged whole entries in order; then the log is
//! written to and crashed again.

mod host;

use corelane_wal::device::DeviceError;
use corelane_wal::device::sim::{Dice, Fate, Image, SimDisk};
use corelane_wal::verify::verify_log;
use corelane_wal::{OpenError, Room, Wal};
use host::{Entry, Host, config, created, seed};
use model::SpaceUse;

/// Runs longer than CI wants: multiplies the number of runs.
fn effort() -> u64 {
    std::env::var("CORELANE_EFFORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Opens what a crash left, checks it, reads every stream back.
fn recover(image: Image, truth: &[Entry], bounds: (u64, u64), seed: u64) -> Host {
    let (promised, appended) = bounds;
    let mut disk = SimDisk::from_image(image, seed);
    if seed.is_multiple_of(4) {
        // What a crash may leave is lawful: the audit calls none of it damage.
        let report = verify_log(&mut disk, &config().secret).unwrap();
        assert!(report.is_good(), "{:?}", report.damage);
        assert!(report.last_lsn >= promised);
        disk = SimDisk::from_image(disk.image(), seed);
    }
    let opened = Host::open(disk, &truth[..appended as usize], promised, seed);
    let mut host = opened.unwrap_or_else(|error| panic!("the log does not open: {error}"));
    host.check_streams();
    host
}

fn run(seed: u64, steps: u64) -> Host {
    let mut host = Host::open(created(seed), &[], 0, seed).unwrap();
    for _ in 0..steps {
        host.step();
    }
    host
}

/// Every fate worth trying at one point.
fn fates(writes: &[usize], dice: &mut Dice) -> Vec<Fate> {
    let mut fates = vec![Fate::Lost, Fate::Landed];
    fates.extend((0..3).map(|_| Fate::Mixed { seed: dice.roll() }));
    for (write, sectors) in writes.iter().enumerate() {
        for sectors in 0..=*sectors {
            fates.push(Fate::Torn { write, sectors, others: sectors % 2 == 0 });
        }
    }
    fates
}

#[test]
fn every_point_and_every_torn_sector_of_a_run() {
    let base = seed(1);
    for round in 0..effort() {
        let seed = base + round;
        let host = run(seed, 140);
        let mut dice = Dice::new(seed);
        let mut walk = host.disk.walk();
        let mut images = 0;
        loop {
            // What is before is the making of the log: a test of its own.
            if walk.point() >= host.made_at {
                let bounds = host.bounds(walk.point());
                for fate in fates(&walk.writes_in_flight(), &mut dice) {
                    let context = (seed, walk.point(), fate, bounds);
                    let mut again = with_context(&context, || {
                        recover(walk.crash(fate), &host.truth, bounds, dice.roll())
                    });
                    images += 1;
                    if dice.chance(16) {
                        with_context(&context, || write_and_crash_again(&mut again, 2));
                    }
                }
            }
            if !walk.advance() {
                break;
            }
        }
        println!("seed {seed}: {} entries, {images} images", host.truth.len());
    }
}

#[test]
fn crash_recover_write_and_crash_again() {
    let base = seed(1_000);
    for round in 0..60 * effort() {
        let seed = base + round;
        let mut host = run(seed, 400);
        with_context(&seed, || write_and_crash_again(&mut host, 5));
    }
}

/// Writes on, crashes at a point of this life, recovers, and so on.
fn write_and_crash_again(host: &mut Host, lives: u32) {
    for _ in 0..lives {
        for _ in 0..20 + host.dice.below(60) {
            host.step();
        }
        // Points while the log is being opened count as well, not those while it is made.
        let points = host.disk.points() - host.made_at;
        let point = host.made_at + host.dice.below(points as u64) as usize;
        let seed = host.dice.roll();
        let image = host.disk.crash(point, Fate::Mixed { seed }).image();
        let next = recover(image, &host.truth, host.bounds(point), seed);
        *host = next;
    }
}

#[test]
fn a_crash_while_the_log_is_made_leaves_something_to_start_from() {
    let base = seed(3);
    for seed in base..base + 4 {
        let disk = created(seed);
        let mut dice = Dice::new(seed);
        let mut walk = disk.walk();
        loop {
            for fate in fates(&walk.writes_in_flight(), &mut dice) {
                let image = walk.crash(fate);
                let context = (seed, walk.point(), fate);
                with_context(&context, || start_over(image, seed));
            }
            if !walk.advance() {
                break;
            }
        }
    }
}

fn start_over(image: Image, seed: u64) {
    let mut disk = SimDisk::from_image(image, seed);
    match Wal::create(&mut disk, &config()) {
        Ok(()) | Err(OpenError::Exists) => {}
        Err(error) => panic!("{error}"),
    }
    let disk = SimDisk::from_image(disk.image(), seed);
    let mut host = Host::open(disk, &[], 0, seed).unwrap();
    for _ in 0..30 {
        host.step();
    }
    host.settle();
    host.check_streams();
}

#[test]
fn a_cut_block_never_returns() {
    let base = seed(5);
    for seed in base..base + 40 * effort() {
        let mut host = run(seed, 40);
        host.settle();
        // Some writes are under way, all of one block each and of the same length.
        let stream = live_stream(&mut host);
        for _ in 0..3 {
            let entry = host.sized_batch(stream, 1, 500);
            host.append(entry);
            host.commit();
        }
        let mut walk = host.disk.walk();
        while walk.advance() {}
        let writes = walk.writes_in_flight();
        assert!(!writes.is_empty());
        // The first is not there whole (its second sector ends it), those after it are.
        let fate = Fate::Torn { write: 0, sectors: (seed % 2) as usize, others: true };
        let bounds = host.bounds(walk.point());
        let mut after = recover(walk.crash(fate), &host.truth, bounds, seed);
        assert_eq!(after.truth.len() as u64, bounds.0, "the torn block and all after it are cut");
        // One block of the same length takes its place; what lay behind it must stay cut, at once
        // and after one more crash.
        let entry = after.sized_batch(stream, 1, 500);
        after.append(entry);
        after.settle();
        let end = after.disk.points() - 1;
        let image = after.disk.crash(end, Fate::Lost).image();
        let kept = recover(image, &after.truth, after.bounds(end), seed);
        assert_eq!(kept.truth, after.truth);
    }
}

/// Entries of one length in a row, as small publishes are, whose checksums are joined from parts; some are
/// dropped before the disk has them, others take their place, and the log is crashed and opened again.
#[test]
fn stretches_of_one_length_are_kept_as_they_are_and_what_is_dropped_is_gone() {
    let base = seed(19);
    for seed in base..base + 20 * effort() {
        let mut host = Host::open(created(seed), &[], 0, seed).unwrap();
        let mut dropped = 0;
        with_context(&seed, || {
            for life in 0..4 {
                for _ in 0..25 {
                    dropped += append_a_stretch(&mut host);
                }
                let image = if life % 2 == 0 {
                    host.disk.crash(host.disk.points() - 1, Fate::Mixed { seed }).image()
                } else {
                    host.settle();
                    host.check_streams();
                    host.shut_down();
                    host.disk.image()
                };
                let bounds = host.bounds(host.disk.points() - 1);
                // A multiple of four: audited as well.
                host = recover(image, &host.truth, bounds, 4 * (seed + life));
            }
            assert!(dropped > 100 && host.truth.len() > 500, "{dropped}, {}", host.truth.len());
        });
    }
}

/// Appends some dozens of entries of one length. Returns how many were dropped at last.
fn append_a_stretch(host: &mut Host) -> u64 {
    let stream = live_stream(host);
    let filler = 80 + host.dice.below(220) as usize;
    for _ in 0..20 + host.dice.below(40) {
        let entry = host.sized_batch(stream, 1, filler);
        while host.wal.room(entry.payload.len(), SpaceUse::Grows) != Room::Yes {
            host.commit();
            assert!(host.end_one(), "what waits for the disk is written");
        }
        host.append(entry);
        match host.dice.below(20) {
            0 => host.commit(),
            1 => drop(host.end_one()),
            _ => {}
        }
    }
    if host.dice.chance(2) {
        return 0;
    }
    let (before, back) = (host.truth.len() as u64, host.dice.below(50));
    host.truncate(before.saturating_sub(back));
    before - host.truth.len() as u64
}

fn live_stream(host: &mut Host) -> u32 {
    loop {
        let alive = host.streams.iter().find(|(_, stream)| stream.alive);
        match alive {
            Some((number, _)) => return *number,
            None => host.append_some(),
        }
    }
}

#[test]
fn a_stop_and_a_start_lose_nothing() {
    let base = seed(7);
    for seed in base..base + 20 * effort() {
        let mut host = run(seed, 150);
        for _ in 0..3 {
            host.shut_down();
            let length = host.truth.len() as u64;
            let image = host.disk.crash(host.disk.points() - 1, Fate::Lost).image();
            host = recover(image, &host.truth, (length, length), seed);
            for _ in 0..40 {
                host.step();
            }
        }
    }
}

#[test]
fn a_failed_write_makes_the_log_read_only_up_to_what_is_durable() {
    let base = seed(9);
    for seed in base..base + 20 * effort() {
        let mut host = run(seed, 60);
        host.check_reads = false;
        let error = DeviceError::Io { doing: "write", errno: 5, error: "I/O error".into() };
        while host.disk.in_flight() > 0 {
            host.end_one();
        }
        host.append_some();
        host.disk.fail(host.disk.submitted(), error);
        host.commit();
        for _ in 0..40 {
            host.commit();
            host.end_one();
            if host.wal.failure().is_some() {
                break;
            }
            if host.wal.room(100, SpaceUse::Grows) == Room::Yes {
                host.append_some();
            }
        }
        if host.wal.failure().is_none() {
            // The one that failed was no write of a block (the pool's, say); the log goes on.
            continue;
        }
        assert_eq!(host.wal.room(1, SpaceUse::Grows), Room::Failed);
        assert_eq!(host.wal.room(1, SpaceUse::Frees), Room::Failed);
        while host.end_one() {}
        host.read_everything().unwrap();
        let end = host.disk.points() - 1;
        let image = host.disk.crash(end, Fate::Lost).image();
        recover(image, &host.truth, host.bounds(end), seed);
    }
}

/// Any action of a run may fail: the log goes on or turns read-only, and loses nothing.
#[test]
fn any_action_may_fail() {
    let base = seed(17);
    for seed in base..base + 60 * effort() {
        let mut host = run(seed, 40);
        for _ in 0..3 {
            let number = host.disk.submitted() + host.dice.below(120);
            let error = match host.dice.below(3) {
                0 => DeviceError::NoSpace,
                _ => DeviceError::Io { doing: "test", errno: 5, error: "I/O error".into() },
            };
            host.disk.fail(number, error);
        }
        // Reads that fail are reported as damage, which is not what is looked at here.
        host.check_reads = false;
        with_context(&seed, || {
            for _ in 0..400 {
                host.step();
            }
            let point =
                host.made_at + host.dice.below((host.disk.points() - host.made_at) as u64) as usize;
            let image = host.disk.crash(point, Fate::Mixed { seed }).image();
            // A multiple of four: audited as well.
            recover(image, &host.truth, host.bounds(point), seed & !3);
        });
    }
}

/// A disk that fails while the log is opened is not a torn tail: nothing may be cut for it.
#[test]
fn a_disk_error_while_opening_loses_nothing() {
    let base = seed(15);
    for seed in base..base + 10 * effort() {
        let mut host = run(seed, 120);
        let end = host.disk.points() - 1;
        let image = host.disk.crash(end, Fate::Mixed { seed }).image();
        let (promised, appended) = host.bounds(end);
        let truth = &host.truth[..appended as usize];
        let error = DeviceError::Io { doing: "test", errno: 5, error: "I/O error".into() };
        let mut failed = 0;
        for action in 0.. {
            let mut disk = SimDisk::from_image(image.clone(), seed);
            disk.fail(action, error.clone());
            let mut log = host::fold::Replay::new(truth);
            let (left, submitted) = match Wal::open(&mut disk, config(), &mut log) {
                Ok((_, recovered)) => {
                    assert!(recovered.last_lsn.0 >= promised, "action {action}: {recovered:?}");
                    (disk.image(), disk.submitted())
                }
                Err(_) => {
                    failed += 1;
                    (disk.image(), disk.submitted())
                }
            };
            // The next start, on a disk that works again.
            with_context(&(seed, action), || {
                recover(left, &host.truth, (promised, appended), seed)
            });
            if submitted <= action {
                break;
            }
        }
        assert!(failed > 5, "errors are told");
        host.settle();
    }
}

#[test]
fn a_full_disk_can_be_got_out_of() {
    let seed = seed(11);
    let mut host = run(seed, 30);
    host.settle();
    let used: u64 = host.disk.image().names().map(|(_, bytes)| bytes).sum();
    host.disk.limit_space(used + 100 * 1024);
    let stream = live_stream(&mut host);
    let mut rounds = 0;
    while host.wal.room(2_000, SpaceUse::Grows) != Room::DiskFull {
        if host.wal.room(2_000, SpaceUse::Grows) == Room::Yes {
            let entry = host.sized_batch(stream, 1, 1_900);
            host.append(entry);
        }
        host.settle();
        host.tick();
        rounds += 1;
        assert!(rounds < 1_000, "the disk is full some time");
    }
    // Entries that free space are let in, and do free it.
    for number in host.streams.keys().copied().collect::<Vec<_>>() {
        if host.streams[&number].alive {
            assert_eq!(host.wal.room(8, SpaceUse::Frees), Room::Yes);
            let start = host.streams[&number].next_offset.to_le_bytes().to_vec();
            let entry = host.entry(host::KIND_TRIMMED, number, start);
            host.append(entry);
            host.settle();
        }
    }
    let mut rounds = 0;
    while host.wal.room(2_000, SpaceUse::Grows) != Room::Yes {
        // Two checkpoints after the last entry that is to go; they differ in their last entry.
        let entry = host.entry(host::KIND_REMOVED, stream, Vec::new());
        host.append(entry);
        host.checkpoint_whole();
        host.tick();
        host.settle();
        rounds += 1;
        assert!(rounds < 8, "the log goes on when there is space again: {:?}", host.wal.stats());
    }
    for _ in 0..200 {
        host.step();
    }
    host.settle();
    host.check_streams();
    let end = host.disk.points() - 1;
    let image = host.disk.crash(end, Fate::Lost).image();
    recover(image, &host.truth, host.bounds(end), seed);
}

#[test]
fn old_segments_are_used_again() {
    let seed = seed(13);
    let mut host = run(seed, 100);
    for _ in 0..60 {
        for _ in 0..40 {
            host.step();
        }
        for number in host.streams.keys().copied().collect::<Vec<_>>() {
            if host.streams[&number].alive && host.wal.room(8, SpaceUse::Frees) == Room::Yes {
                let start = host.streams[&number].next_offset.to_le_bytes().to_vec();
                let entry = host.entry(host::KIND_TRIMMED, number, start);
                host.append(entry);
            }
        }
        host.settle();
        host.checkpoint_whole();
        host.tick();
        host.settle();
    }
    let stats = host.wal.stats();
    assert!(stats.recycled_total > 5, "{stats:?}");
    assert!(host.disk.image().names().count() < 30, "files do not pile up");
    write_and_crash_again(&mut host, 5);
}

/// Says where a failure happened before it goes on.
fn with_context<T>(context: &dyn std::fmt::Debug, work: impl FnOnce() -> T) -> T {
    struct Say<'a>(&'a dyn std::fmt::Debug);
    impl Drop for Say<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("at {:?}", self.0);
            }
        }
    }
    let _say = Say(context);
    work()
}
