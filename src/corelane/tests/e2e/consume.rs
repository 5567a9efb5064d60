//! `corelane consume`: where it starts, where it ends, what it commits.

use std::io::{BufRead, BufReader};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::harness::{Launch, Running, Server, folder};

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{n}\n")).collect()
}

fn consume(server: &Server, words: &[&str]) -> String {
    server.run(&[&["consume", "t"], words].concat()).ok().text().to_owned()
}

#[test]
fn it_starts_where_it_is_told() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 1);
    assert_eq!(consume(&server, &[]), "");
    assert_eq!(consume(&server, &["--from", "last"]), "");
    server.publish("t", &lines(0..10));
    assert_eq!(consume(&server, &[]), lines(0..10));
    assert_eq!(consume(&server, &["--from", "first"]), lines(0..10));
    assert_eq!(consume(&server, &["--from", "last"]), "9\n");
    assert_eq!(consume(&server, &["--from", "next"]), "");
    assert_eq!(consume(&server, &["--from", "offset:7"]), lines(7..10));
    assert_eq!(consume(&server, &["--from", "offset:10"]), "");
    assert_eq!(consume(&server, &["--from", "offset:2", "--count", "3"]), lines(2..5));
    assert_eq!(consume(&server, &["--count", "0"]), "");
    let sentence = server.run(&["consume", "t", "--from", "offset:11"]).failed();
    assert!(sentence.contains("11") && sentence.contains("offset"), "{sentence}");
    let sentence = server.run(&["consume", "t", "--partition", "1"]).failed();
    assert!(sentence.contains("partition 1"), "{sentence}");
}

#[test]
fn it_starts_at_a_time() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 1);
    server.publish("t", &lines(0..5));
    let between = after_now();
    server.publish("t", &lines(5..9));
    assert_eq!(consume(&server, &["--from", &format!("time:{between}")]), lines(5..9));
    assert_eq!(consume(&server, &["--from", "time:2001-01-01T00:00:00Z"]), lines(0..9));
    assert_eq!(consume(&server, &["--from", "time:2101-01-01T00:00:00Z"]), "");
}

/// A time after everything so far; the clock has reached it when this returns.
fn after_now() -> jiff::Timestamp {
    let now_ms = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap()
    };
    // The server's clock ticks every few milliseconds.
    let wanted = now_ms() + 50;
    crate::harness::wait_for("the clock", || (now_ms() > wanted).then_some(()));
    jiff::Timestamp::from_millisecond(wanted).unwrap()
}

#[test]
fn the_format_names_every_field() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    server.create("t", 2);
    let words = ["produce", "t", "--key-separator", "\\t"];
    server.run_with(&words, b"a\tone\nb\ttwo\nkeyless\n").ok();
    let printed = consume(&server, &["--format", "%t|%p|%o|%k|%v|%%|\\t|%T"]);
    let mut values = Vec::new();
    for line in printed.lines() {
        let fields: Vec<_> = line.split('|').collect();
        assert_eq!((fields.len(), fields[0], fields[5], fields[6]), (8, "t", "%", "\t"), "{line}");
        assert!(fields[1].parse::<u32>().unwrap() < 2, "{line}");
        assert!(fields[7].parse::<i64>().unwrap() > 1_700_000_000_000, "{line}");
        values.push((fields[3].to_owned(), fields[4].to_owned()));
    }
    values.sort();
    let expected = [("", "keyless"), ("a", "one"), ("b", "two")];
    assert_eq!(values, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let one = consume(&server, &["--partition", "0", "--format", "%p"]);
    let other = consume(&server, &["--partition", "1", "--format", "%p"]);
    assert_eq!(one.len() + other.len(), 6);
    assert!(one.lines().all(|p| p == "0") && other.lines().all(|p| p == "1"));
}

#[test]
fn following_prints_at_once_and_ends_with_ctrl_c() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    server.create("t", 1);
    server.publish("t", &lines(0..3));
    let words = server.words(&["consume", "t", "--follow", "--consumer", "c"]);
    let mut running = Running::start_unread(&words, &[]);
    let mut printed = BufReader::new(running.child.stdout.take().unwrap()).lines();
    for n in 0..9 {
        if n % 3 == 0 && n > 0 {
            server.publish("t", &lines(n..n + 3));
        }
        assert_eq!(printed.next().unwrap().unwrap(), n.to_string());
    }
    running.signal(Signal::INT);
    assert_eq!(running.finish().ok().stderr, "");
    // What it printed is committed.
    server.publish("t", &lines(9..11));
    assert_eq!(consume(&server, &["--consumer", "c"]), lines(9..11));
}

#[test]
fn following_ends_at_its_count() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 1);
    let running = server.command(&["consume", "t", "--follow", "--count", "4"]);
    server.publish("t", &lines(0..9));
    assert_eq!(running.finish().ok().text(), lines(0..4));
}

#[test]
fn a_named_consumer_goes_on_where_it_left_off() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).cores(2).start();
    server.create("t", 1);
    server.publish("t", &lines(0..10));
    let named = |server: &Server, words: &[&str]| {
        consume(server, &[&["--consumer", "billing"], words].concat())
    };
    assert_eq!(named(&server, &["--count", "4"]), lines(0..4));
    assert_eq!(named(&server, &["--count", "3"]), lines(4..7));
    server.kill();
    let server = Launch::new(&data).cores(1).start();
    assert_eq!(named(&server, &[]), lines(7..10));
    assert_eq!(named(&server, &[]), "");
    // Another name has a place of its own; a start that is given counts more than the name.
    assert_eq!(consume(&server, &["--consumer", "other", "--count", "1"]), "0\n");
    assert_eq!(named(&server, &["--from", "offset:8"]), lines(8..10));
    let described = server.run(&["topic", "describe", "t", "--output", "json"]).ok().json();
    let mut consumers: Vec<_> = described["partitions"][0]["consumers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|consumer| (consumer["name"].as_str().unwrap(), consumer["offset"].as_u64().unwrap()))
        .collect();
    consumers.sort_unstable();
    assert_eq!(consumers, [("billing", 10), ("other", 1)]);
    let text = server.run(&["topic", "describe", "t"]).ok();
    assert!(text.text().contains("billing"), "{text:?}");
}
