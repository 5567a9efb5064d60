//! Backups of a running server, and data directories made from them.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::{ErrorCode, Reply, Request};
use rustix::process::Signal;

use crate::harness::{Launch, Run, Running, Server, corelane, folder, wait_for};
use crate::wire::{Wire, operator_hello};

/// The lines of one publish: each says which it is.
fn lines(from: u64, to: u64) -> String {
    (from..to).map(|number| format!("{number:010}-{}\n", "y".repeat(1000))).collect()
}

fn number_of(line: &str) -> u64 {
    line[..10].parse().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn create(server: &Server, to: &Path) -> Run {
    server.run(&["backup", "create", "--to", text(to), "--output", "json"])
}

fn restore(from: &Path, to: &Path) -> Run {
    corelane(&["backup", "restore", "--from", text(from), "--to", text(to)])
}

/// All messages of a topic's one partition with their offsets: each line stands where it was
/// published, none is missing between.
#[track_caller]
fn audit(server: &Server, topic: &str) -> (u64, u64) {
    let run = server.run(&["consume", topic, "--format", "%o %v"]).ok();
    let (mut first, mut next) = (0, 0);
    for line in run.text().lines() {
        let (offset, value) = line.split_once(' ').unwrap();
        let offset: u64 = offset.parse().unwrap();
        if next == 0 {
            (first, next) = (offset, offset);
        }
        assert_eq!(offset, next, "no message is missing");
        assert_eq!(number_of(value), offset, "the message at offset {offset}");
        next = offset + 1;
    }
    (first, next)
}

fn sets_begun(backups: &Path) -> bool {
    std::fs::read_dir(backups.join("sets")).is_ok_and(|mut sets| sets.next().is_some())
}

/// Where the shared segments of shard 0 lie.
fn shared_segments(backups: &Path) -> Vec<PathBuf> {
    let folder = backups.join("segments/shard-0000");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_backup_beside_publishing_and_cleaning_holds_all_that_was_acknowledged() {
    let folder = folder();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let launch = Launch::new(&data)
        .set("CORELANE_STORAGE_RETENTION_CHECK", "20ms")
        .set("CORELANE_STORAGE_POOL_SEGMENTS_MAX", "1");
    let server = launch.start();
    server.create("kept", 1);
    server.run(&["topic", "create", "churn", "--retention-bytes", "8MiB"]).ok();
    server.publish("kept", &lines(0, 20_000));
    let (stop, published) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = server.address.to_string();
    let before = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let from = published.load(Ordering::Relaxed);
                let words = ["produce", "churn", "--server", &address];
                let input = lines(from, from + 8_000);
                Running::start(&words, &[]).finish_with(input.as_bytes()).ok();
                published.store(from + 8_000, Ordering::Relaxed);
            }
        });
        wait_for("cleaning to be under way", || {
            (published.load(Ordering::Relaxed) > 40_000).then_some(())
        });
        let before = published.load(Ordering::Relaxed);
        let run = create(&server, &backups);
        stop.store(true, Ordering::Relaxed);
        let made = run.ok().json();
        assert!(made["segments_copied"].as_u64().unwrap() >= 2, "{made}");
        before
    });
    let published = published.load(Ordering::Relaxed);
    server.kill();

    let restored = folder.path().join("restored");
    let said = restore(&backups, &restored).ok();
    assert!(said.text().contains("every checksum is good"), "{said:?}");
    for path in [restored.join("corelane.dir"), set_folder(&backups).join("corelane.dir")] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    corelane(&["verify", text(&restored)]).ok();
    let server = Launch::new(&restored).start();
    assert_eq!(audit(&server, "kept"), (0, 20_000));
    let (first, next) = audit(&server, "churn");
    assert!(first <= before && next >= before && next <= published, "{first} to {next}");
    // It goes on from there.
    server.publish("churn", &lines(next, next + 10));
    assert_eq!(audit(&server, "churn").1, next + 10);
    server.stop();
    let server = Launch::new(&restored).start();
    assert_eq!(audit(&server, "kept"), (0, 20_000));
}

fn set_folder(backups: &Path) -> PathBuf {
    std::fs::read_dir(backups.join("sets")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_second_backup_copies_what_is_new() {
    let folder = folder();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let server = Launch::new(&data).start();
    server.create("t", 1);
    server.publish("t", &lines(0, 60_000));
    wait_for("the first segments to be sealed", || {
        let made = create(&server, &folder.path().join("trial")).ok().json();
        let kept = create(&server, &folder.path().join("trial")).ok().json();
        assert!(made["bytes_copied"].as_u64() > Some(0));
        (kept["segments_kept"].as_u64() >= Some(3)).then_some(())
    });
    let first = create(&server, &backups).ok().json();
    server.publish("t", &lines(60_000, 60_100));
    let second = create(&server, &backups).ok().json();
    let copied = |made: &serde_json::Value| made["bytes_copied"].as_u64().unwrap();
    assert!(copied(&first) > 56 * 1024 * 1024, "{first}");
    assert_eq!(second["segments_kept"].as_u64().unwrap(), 3, "{second}");
    // The active segment, and a checkpoint or two.
    assert!(copied(&second) < 17 * 1024 * 1024, "{second}");
    corelane(&["backup", "check", text(&backups)]).ok();

    // The older one alone, then the newer one alone, are whole.
    let older = folder.path().join("older");
    let name = first["backup"].as_str().unwrap();
    let words = ["backup", "restore", "--from", text(&backups), "--at", name, "--to", text(&older)];
    corelane(&words).ok();
    assert_eq!(audit(&Launch::new(&older).start(), "t"), (0, 60_000));
    corelane(&["backup", "remove", text(&backups), name]).ok();
    let sentence = corelane(&words).failed();
    assert!(sentence.contains("there is no backup"), "{sentence}");
    let newer = folder.path().join("newer");
    restore(&backups, &newer).ok();
    assert_eq!(audit(&Launch::new(&newer).start(), "t"), (0, 60_100));

    let last = second["backup"].as_str().unwrap();
    corelane(&["backup", "remove", text(&backups), last]).ok();
    assert!(shared_segments(&backups).is_empty());
    let sentence = restore(&backups, &folder.path().join("none")).failed();
    assert!(sentence.contains("no complete backup"), "{sentence}");
}

#[test]
fn a_killed_backup_is_no_backup_and_the_next_one_works() {
    let folder = folder();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let server = Launch::new(&data).start();
    server.create("t", 1);
    server.publish("t", &lines(0, 100_000));
    let running = server.command(&["backup", "create", "--to", text(&backups)]);
    wait_for("the copying to begin", || sets_begun(&backups).then_some(()));
    running.signal(Signal::KILL);
    let ended = running.finish();
    assert_eq!(ended.code, None, "it was killed while it copied: {ended:?}");
    let listed = corelane(&["backup", "list", text(&backups), "--output", "json"]);
    if listed.code == Some(0) {
        assert_eq!(listed.json()["backups"].as_array().unwrap().len(), 0);
    }
    // Nothing is held for the dead one.
    let made = wait_for("the place to be free", || {
        Some(create(&server, &backups)).filter(|run| run.code == Some(0))
    });
    assert_eq!(made.json()["shards"], 1);
    let listed = corelane(&["backup", "list", text(&backups), "--output", "json"]).ok().json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed}");
    let restored = folder.path().join("restored");
    restore(&backups, &restored).ok();
    assert_eq!(audit(&Launch::new(&restored).start(), "t"), (0, 100_000));
}

#[test]
fn a_server_killed_in_the_midst_leaves_a_whole_backup_or_none() {
    let folder = folder();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let server = Launch::new(&data).start();
    server.create("t", 1);
    server.publish("t", &lines(0, 100_000));
    let running = server.command(&["backup", "create", "--to", text(&backups)]);
    wait_for("the copying to begin", || sets_begun(&backups).then_some(()));
    server.kill();
    let ended = running.finish();
    let listed = corelane(&["backup", "list", text(&backups), "--output", "json"]).json();
    let sets = listed["backups"].as_array().unwrap().len();
    // The files of a dead server change no more: what was copied is as good as ever.
    assert_eq!(sets, usize::from(ended.code == Some(0)), "{ended:?}");
    let server = Launch::new(&data).start();
    create(&server, &backups).ok();
    let restored = folder.path().join("restored");
    restore(&backups, &restored).ok();
    assert_eq!(audit(&Launch::new(&restored).start(), "t"), (0, 100_000));
}

#[test]
fn a_damaged_backup_is_refused_with_file_and_byte() {
    let folder = folder();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let server = Launch::new(&data).start();
    server.create("t", 1);
    server.publish("t", &lines(0, 40_000));
    wait_for("a segment to be sealed", || {
        create(&server, &backups).ok();
        (!shared_segments(&backups).is_empty()).then_some(())
    });
    let victim = shared_segments(&backups).remove(0);
    let at = 5 * 1024 * 1024 + 77;
    let file = std::fs::File::options().read(true).write(true).open(&victim).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();

    let name = victim.file_name().unwrap().to_str().unwrap();
    let checked = corelane(&["backup", "check", text(&backups)]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.text().contains("DAMAGE") && checked.text().contains(name), "{checked:?}");
    assert!(checked.text().contains("at byte "), "{checked:?}");
    let restored = folder.path().join("restored");
    let sentence = restore(&backups, &restored).failed();
    assert!(sentence.contains(name) && sentence.contains("at byte "), "{sentence}");
    // What there is of it is no data directory.
    let refused = Launch::new(&restored).try_start().unwrap_err();
    assert!(refused.failed_after_logs().contains("was cut short there"));

    file.write_all_at(&byte, at).unwrap();
    corelane(&["backup", "check", text(&backups)]).ok();
    // A changed description is no description.
    let description = set_folder(&backups).join("backup.json");
    let words = std::fs::read_to_string(&description).unwrap();
    std::fs::write(&description, words.replacen("\"durable_lsn\": ", "\"durable_lsn\": 1", 1))
        .unwrap();
    let checked = corelane(&["backup", "check", text(&backups)]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.text().contains("checksum"), "{checked:?}");
}

#[test]
fn places_that_cannot_be_are_refused() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).start();
    server.create("t", 1);
    let sentence = create(&server, &data.join("inside")).failed();
    assert!(sentence.contains("inside the data directory"), "{sentence}");
    assert!(!data.join("inside").exists(), "nothing of it is left");
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter"), "dear").unwrap();
    let sentence = create(&server, &foreign).failed();
    assert!(sentence.contains("not empty") && sentence.contains("letter"), "{sentence}");
    let sentence = restore(&foreign, &folder.path().join("new")).failed();
    assert!(sentence.contains("no backup directory"), "{sentence}");

    // A new server's directory has hardly anything in it, and can be kept all the same.
    let backups = folder.path().join("backups");
    create(&server, &backups).ok();
    let sentence = restore(&backups, &data).failed();
    assert!(sentence.contains("in use") || sentence.contains("already"), "{sentence}");
    let words = ["backup", "create", "--name", "../up", "--to", text(&backups)];
    let sentence = server.run(&words).failed();
    assert!(sentence.contains("cannot be a backup's name"), "{sentence}");
    // Another server's backups do not belong here.
    let other = Launch::new(&folder.path().join("other")).start();
    let sentence = create(&other, &backups).failed();
    assert!(sentence.contains("another data directory"), "{sentence}");
    server.stop();
    let restored = folder.path().join("restored");
    restore(&backups, &restored).ok();
    let server = Launch::new(&restored).start();
    assert_eq!(server.values("t"), [""; 0]);
}

#[test]
fn shards_are_taken_so_that_a_topic_made_meanwhile_is_whole_or_absent() {
    let folder = folder();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let server = Launch::new(&data).shards(4).start();
    let stop = AtomicBool::new(false);
    let address = server.address.to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let topic = format!("t{number}");
                let at = ["--server", &address];
                let words = ["topic", "create", &topic, "--partitions", "8"];
                corelane(&[&words[..], &at[..]].concat()).ok();
                if number % 3 == 0 {
                    corelane(&[&["topic", "delete", &topic][..], &at[..]].concat()).ok();
                }
            }
        });
        for round in 0..6 {
            let words = ["--name", &format!("b{round}"), "--to", text(&backups)];
            server.run(&[&["backup", "create"][..], &words[..]].concat()).ok();
        }
        stop.store(true, Ordering::Relaxed);
    });
    for round in 0..6 {
        let restored = folder.path().join(format!("restored{round}"));
        let name = format!("b{round}");
        let at = ["--at", &name, "--to", text(&restored)];
        corelane(&[&["backup", "restore", "--from", text(&backups)][..], &at[..]].concat()).ok();
        let server = Launch::new(&restored).start();
        let topics = server.run(&["topic", "list", "--output", "json"]).ok().json();
        for topic in topics.as_array().unwrap() {
            let name = topic["name"].as_str().unwrap();
            server.publish(name, "one\ntwo\n");
            let mut values = server.values(name);
            values.sort();
            assert_eq!(values, ["one", "two"], "{name}");
        }
        server.stop();
        corelane(&["verify", text(&restored)]).ok();
    }
}

#[test]
fn a_stopped_directory_can_be_moved_copied_and_served_by_other_cores() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).shards(3).start();
    server.create("t", 1);
    server.publish("t", &lines(0, 2_000));
    server.stop();
    let moved = folder.path().join("elsewhere/moved");
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    std::fs::rename(&data, &moved).unwrap();
    let server = Launch::new(&moved).cores(2).start();
    assert_eq!(audit(&server, "t"), (0, 2_000));
    server.publish("t", &lines(2_000, 2_100));
    server.stop();
    let copied = folder.path().join("copied");
    let status =
        std::process::Command::new("cp").args(["-r", text(&moved), text(&copied)]).status();
    assert!(status.unwrap().success());
    let server = Launch::new(&copied).cores(1).start();
    assert_eq!(audit(&server, "t"), (0, 2_100));
    server.publish("t", &lines(2_100, 2_200));
    assert_eq!(audit(&server, "t"), (0, 2_200));
    server.stop();
    // The one that it was copied of has not changed.
    assert_eq!(audit(&Launch::new(&moved).cores(2).start(), "t"), (0, 2_100));
}

#[test]
fn one_backup_at_a_time_which_ends_with_its_connection() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(3).start();
    server.create("t", 6);
    let begin = Request::BackupBegin { nonce: [7; 16] };
    let begun = |wire: &mut Wire| match wire.request(&begin).reply() {
        Reply::BackupBegun(point) => Some(point),
        Reply::Rejected(rejection) => {
            assert_eq!(rejection.code, ErrorCode::LimitReached, "{rejection}");
            None
        }
        other => panic!("{other:?}"),
    };
    let mut first = Wire::open(server.address);
    let mut second = Wire::open(server.direct_addresses()[1]);
    let point = begun(&mut first).expect("there is none yet");
    assert_eq!(point.shards.iter().map(|one| one.shard.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(begun(&mut second).is_none(), "one at a time");
    let (keep, end) = {
        let backup = point.backup;
        (Request::BackupKeep { backup }, Request::BackupEnd { backup })
    };
    for request in [&keep, &end] {
        assert_eq!(second.request(request).rejection().code, ErrorCode::BackupBroken);
    }
    assert_eq!(first.request(&keep).reply(), Reply::BackupKept);
    assert_eq!(first.request(&end).reply(), Reply::BackupEnded);
    for request in [&keep, &end] {
        assert_eq!(first.request(request).rejection().code, ErrorCode::BackupBroken);
    }
    assert!(begun(&mut second).is_some());
    drop(second);
    wait_for("the backup to end with its connection", || begun(&mut first));
    // Whoever begins and is gone before the answer leaves nothing behind.
    assert_eq!(first.request(&Request::Ping).reply(), Reply::Pong);
    drop(first);
    for _ in 0..50 {
        let mut hasty = Wire::open(server.address);
        let mut bytes = Vec::new();
        protocol::put_request(&mut bytes, 9, &begin, 0).unwrap();
        hasty.send(&bytes);
    }
    let mut last = Wire::open(server.address);
    wait_for("all of them to be gone", || begun(&mut last));
}

#[test]
fn a_drain_neither_ends_a_backup_nor_keeps_one_from_being_made() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    server.create("t", 1);
    server.publish("t", &lines(0, 100));
    let begin = Request::BackupBegin { nonce: [7; 16] };
    let mut running = Wire::silent(server.address);
    running.send(&operator_hello());
    running.frame();
    let Reply::BackupBegun(point) = running.request(&begin).reply() else { panic!("not begun") };
    let mut client = Wire::open(server.address);
    server.run(&["drain", "--grace", "0s", "--wait", "30s"]).ok();
    client.until_closed();
    let backup = point.backup;
    for (request, reply) in [
        (Request::BackupKeep { backup }, Reply::BackupKept),
        (Request::BackupEnd { backup }, Reply::BackupEnded),
    ] {
        assert_eq!(running.request(&request).reply(), reply);
    }
    let backups = folder.path().join("backups");
    create(&server, &backups).ok();
    server.stop();
    let restored = folder.path().join("restored");
    restore(&backups, &restored).ok();
    assert_eq!(audit(&Launch::new(&restored).start(), "t"), (0, 100));
}
