//! Retention gives space back: whole segments, by bytes and by time, also when asked for later.

use std::path::Path;

use crate::harness::{Launch, Server, folder, wait_for};

const MIB: u64 = 1024 * 1024;

fn launch(data: &Path) -> Launch {
    Launch::new(data)
        .set("CORELANE_STORAGE_RETENTION_CHECK", "20ms")
        .set("CORELANE_STORAGE_POOL_SEGMENTS_MAX", "1")
}

/// About 48 MiB in three segments' worth of lines.
fn fill(server: &Server, topic: &str) {
    let line = format!("{}\n", "z".repeat(1023));
    server.publish(topic, &line.repeat(48 * 1024));
}

fn offsets(server: &Server, topic: &str) -> (u64, u64) {
    let words = ["topic", "describe", topic, "--output", "json"];
    let described = server.run(&words).ok().json();
    let partition = &described["partitions"][0];
    (partition["first_offset"].as_u64().unwrap(), partition["next_offset"].as_u64().unwrap())
}

fn wait_until_trimmed(server: &Server, topic: &str) -> (u64, u64) {
    wait_for("old messages to go", || Some(offsets(server, topic)).filter(|(first, _)| *first > 0))
}

/// Bytes of the log's files.
fn disk_bytes(data: &Path) -> u64 {
    let entries = std::fs::read_dir(data.join("shard-0000")).unwrap();
    entries.map(|entry| entry.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn bytes_kept_are_bounded() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = launch(&data).start();
    server.run(&["topic", "create", "t", "--retention-bytes", "20MiB"]).ok();
    for _ in 0..4 {
        fill(&server, "t");
    }
    wait_for("the log to be cut down", || {
        // 20 MiB are kept, at most a segment more, the active one, one ready, and two in the reserve.
        (disk_bytes(&data) <= (20 + 5 * 16) * MIB).then_some(())
    });
    let (first, next) = wait_until_trimmed(&server, "t");
    assert_eq!(next, 4 * 48 * 1024);
    assert!((next - first) * 1024 >= 20 * MIB, "{first} to {next}: no more than asked is removed");
    let sentence = server.run(&["consume", "t", "--from", "offset:0"]).failed();
    assert!(sentence.contains("offset"), "{sentence}");
    let kept = server.run(&["consume", "t", "--format", "%o"]).ok();
    let mut kept = kept.text().lines().map(|offset| offset.parse::<u64>().unwrap());
    let oldest = kept.next().unwrap();
    assert!(oldest >= first);
    assert_eq!(kept.next_back(), Some(next - 1));
    server.stop();
    // What is gone stays gone.
    let server = launch(&data).start();
    assert!(offsets(&server, "t").0 >= first);
}

#[test]
fn a_limit_given_later_counts_for_what_is_there() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = launch(&data).start();
    server.create("t", 1);
    fill(&server, "t");
    assert_eq!(offsets(&server, "t"), (0, 48 * 1024));
    server.run(&["topic", "alter", "t", "--retention-bytes", "1MiB"]).ok();
    wait_until_trimmed(&server, "t");
}

#[test]
fn old_messages_go_by_time() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = launch(&data).start();
    server.run(&["topic", "create", "t", "--retention", "100ms"]).ok();
    fill(&server, "t");
    wait_until_trimmed(&server, "t");
}

#[test]
fn a_deleted_topic_gives_its_space_back() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = launch(&data).start();
    server.create("gone", 1);
    server.create("kept", 1);
    fill(&server, "gone");
    fill(&server, "gone");
    server.run(&["topic", "delete", "gone"]).ok();
    fill(&server, "kept");
    // What is kept lies in five segments at most; one is ready, two are the reserve; and the small
    // files. The deleted topic's six come on top of these until they are given back.
    let kept = (5 + 1 + 2) * 16 * MIB + MIB;
    wait_for("the space to come back", || (disk_bytes(&data) <= kept).then_some(()));
    assert_eq!(offsets(&server, "kept"), (0, 48 * 1024));
}
