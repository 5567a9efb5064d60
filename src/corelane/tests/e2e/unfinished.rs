//! A data directory whose making was cut short has promised nothing: the next start makes it as it
//! is asked to. What cannot be served is refused before anything is made.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Launch, Running, folder, seed};

/// Where the superblock says that the directory is finished.
const FINISHED_AT: usize = 14;

fn shard_folders(data: &Path) -> usize {
    let names = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with("shard-")).count()
}

fn serves_with(data: &Path, shards: u16) {
    let server = Launch::new(data).shards(shards).start();
    let said = format!("; {shards} shard");
    let line = &server.ready_line;
    assert!(line.contains(&said) && line.ends_with(" created"), "{line}");
    assert_eq!(shard_folders(data), usize::from(shards));
    server.create("t", 4);
    server.publish("t", "1\n2\n3\n4\n");
    server.stop();
    assert_eq!(Launch::new(data).start().values("t").len(), 4);
}

#[test]
fn an_unfinished_directory_becomes_what_is_asked_for_next() {
    let folder = folder();
    for (name, asked) in [("fewer", 2), ("more", 5)] {
        let data = folder.path().join(name);
        drop(wal::directory::create(&data, 3, [5; 16]).unwrap());
        std::fs::write(data.join("shard-0002/manifest-0"), "begun").unwrap();
        serves_with(&data, asked);
    }
    // Cut before the superblock.
    let data = folder.path().join("earlier");
    drop(wal::directory::create(&data, 3, [5; 16]).unwrap());
    std::fs::rename(data.join("corelane.dir"), data.join("corelane.dir.tmp")).unwrap();
    serves_with(&data, 2);
}

#[test]
fn a_start_that_is_killed_binds_the_next_one_to_nothing() {
    let seed = seed();
    let folder = folder();
    let mut unfinished = 0;
    for round in 0..8u64 {
        let data = folder.path().join(format!("data-{round}"));
        let place = data.to_str().unwrap();
        let words = ["serve", "--listen", "127.0.0.1:0", "--data-dir", place, "--cores=1"];
        let words = [&words[..], &["--shards", "6"]].concat();
        let start = Running::start(&words, &[("CORELANE_STORAGE_SEGMENT_BYTES", "16MiB")]);
        // Wherever it is by then: any moment will do.
        let random = (seed + round).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        std::thread::sleep(Duration::from_millis(5 + random % 500));
        start.signal(Signal::KILL);
        start.finish();
        let superblock = std::fs::read(data.join("corelane.dir"));
        if superblock.is_ok_and(|bytes| bytes[FINISHED_AT] == 1) {
            let sentence = Launch::new(&data).shards(2).try_start().unwrap_err();
            assert!(sentence.failed_after_logs().contains("has 6 shards, but --shards 2"));
        } else {
            unfinished += 1;
            serves_with(&data, 2);
        }
    }
    println!("{unfinished} of 8 were unfinished");
}

#[test]
fn what_cannot_be_served_is_refused_before_anything_is_made() {
    let folder = folder();
    let data = folder.path().join("data");
    let launch = Launch::new(&data);
    let refused = |launch: Launch, words: &str| {
        let sentence = launch.try_start().unwrap_err().failed_after_logs();
        assert!(sentence.contains(words), "{sentence}");
        assert!(!data.exists(), "made before: {sentence}");
    };
    refused(launch.clone().ulimit("-n 40"), "limit of open files");
    refused(launch.clone().ulimit("-v 600000"), "address space");
    let elsewhere = launch.clone().listen("192.0.2.1:7300".parse().unwrap());
    refused(elsewhere.word("--allow-anonymous"), "no interface of this machine");
    serves_with(&data, 3);
}
