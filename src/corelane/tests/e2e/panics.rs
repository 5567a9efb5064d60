//! Where a panic ends. Only in builds with debug assertions: others cannot be asked to panic.

use model::{AckLevel, ConsumerName, ErrorCode, Request, StartPosition};
use protocol::{Hello, kind};

use crate::harness::{Launch, Server, folder, wait_for};
use crate::wire::{Wire, batch};

const ORDER: &str = "TEST_PANIC_CORELANE";

/// The line of the panic and the line that says what it has ended; no stack trace.
#[track_caller]
fn check_log(server: &Server, ended: &str) {
    let log = server.log();
    let errors: Vec<_> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(errors.len(), 2, "{log}");
    assert!(errors[0].contains("panicked; this is a fault of the server"), "{log}");
    assert!(errors[0].contains("asked to by a test") && errors[0].contains(".rs:"), "{log}");
    assert!(errors[1].contains(ended), "{log}");
    assert!(!log.contains("stack backtrace") && !log.contains("RUST_BACKTRACE"), "{log}");
}

#[test]
fn a_panic_in_a_connection_ends_that_connection() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).cores(1);
    let server = launch.set(ORDER, "connection:bad").start();
    server.create("t", 1);
    let mut good = Wire::open(server.address);
    let handle = good.handle("t", 0);
    let mut bad = Wire::silent(server.address);
    let mut bytes = Vec::new();
    let hello =
        Hello { version_min: 1, version_max: 1, client_name: "bad".into(), ..Hello::default() };
    protocol::put_hello(&mut bytes, 0, &hello).unwrap();
    bad.send(&bytes);
    assert!(bad.until_closed().is_empty());
    good.produce(handle, AckLevel::Durable, &batch(&["still here"])).ack();
    assert_eq!(server.values("t"), ["still here"]);
    check_log(&server, "the handling of a connection panicked");
    let status = server.run(&["status", "--output", "json"]).ok().json();
    assert_eq!(status["cores"][0]["connections"], 1);
    server.stop();
}

#[test]
fn a_panic_in_an_engine_stops_its_shard_and_no_other() {
    let folder = folder();
    let data = folder.path().join("data");
    // Both shards on one core: even there the other one goes on.
    let launch = Launch::new(&data).cores(1).shards(2);
    let server = launch.clone().set(ORDER, "engine:bad").start();
    server.create("t", 2);
    let mut wire = Wire::open(server.address);
    let mut reader = Wire::open(server.address);
    let (struck, spared) = (wire.handle("t", 0), wire.handle("t", 1));
    assert_ne!(struck.shard, spared.shard);
    for handle in [struck, spared] {
        wire.produce(handle, AckLevel::Durable, &batch(&["before"])).ack();
    }
    let subscribe = Request::Subscribe {
        partition: struck,
        subscription: 1,
        position: StartPosition::Next,
        credit_bytes: 1 << 20,
    };
    assert_eq!(reader.request(&subscribe).header.kind, kind::SUBSCRIBED);

    let consumer = ConsumerName::parse("bad").unwrap();
    let ack = AckLevel::Durable;
    let commit = Request::CommitOffset { partition: struck, consumer, offset: 1, ack };
    assert_eq!(wire.request(&commit).rejection().code, ErrorCode::OutcomeUnknown);
    // Who read there is told, who comes is refused.
    assert_eq!(reader.frame().rejection().code, ErrorCode::ShardUnavailable);
    let refused = wire.produce(struck, AckLevel::Durable, &batch(&["after"])).rejection();
    assert_eq!(refused.code, ErrorCode::ShardUnavailable);
    assert!(refused.message.contains("restart the server"), "{refused}");
    wire.produce(spared, AckLevel::Durable, &batch(&["after"])).ack();
    reader.check_alive();

    let status = server.run(&["status", "--output", "json"]);
    assert_eq!(status.code, Some(1));
    let shards = status.json()["shards"].clone();
    let health = |shard: model::ShardId| shards[usize::from(shard.0)]["health"].clone();
    assert_eq!(
        (health(struck.shard), health(spared.shard)),
        ("unavailable".into(), "serving".into())
    );
    check_log(&server, "the shard's engine panicked");
    server.stop();

    let server = launch.start();
    let mut values = server.values("t");
    values.sort();
    assert_eq!(values, ["after", "before", "before"]);
}

/// Topics can only be read, messages go on, status says so, and a restart mends it.
fn check_topics_fixed(server: &Server) {
    let refused = server.run(&["topic", "create", "other"]).failed();
    assert!(
        refused.contains("topics cannot be created") && refused.contains("restart"),
        "{refused}"
    );
    server.run(&["topic", "delete", "t"]).failed();
    server.publish("t", "1\n2\n");
    assert_eq!(server.values("t").len(), 2);
    let list = server.run(&["topic", "list"]).ok();
    assert!(list.text().contains('t') && !list.text().contains("other"), "{}", list.text());
    let status = server.run(&["status", "--output", "json"]);
    assert_eq!(status.code, Some(1));
    let status = status.json();
    assert_eq!(status["ready"], false);
    for shard in [0, 1] {
        assert_eq!(status["shards"][shard]["health"], "serving", "{status}");
    }
    let reason = status["shards"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("topics cannot be created"), "{reason}");
    check_log(server, "the keeping of topics panicked");
}

#[test]
fn a_panic_half_way_through_a_topic_change_ends_topic_changes_alone() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).cores(1).shards(2);
    let server = launch.clone().set(ORDER, "coordinator:bad").start();
    server.create("t", 2);
    let struck = server.run(&["topic", "create", "bad"]).failed();
    assert!(struck.contains("fault of the server") || struck.contains("had a fault"), "{struck}");
    check_topics_fixed(&server);
    server.stop();
    let server = launch.start();
    let list = server.run(&["topic", "list"]).ok();
    assert!(list.text().contains("bad"), "decided before the fault: {}", list.text());
    server.create("other", 1);
    assert_eq!(server.values("t").len(), 2);
}

#[test]
fn a_panic_in_the_topics_clock_does_not_end_the_server() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).cores(1).shards(2);
    let server = launch.clone().set(ORDER, "tick:bad").start();
    server.create("t", 2);
    server.create("bad", 1);
    wait_for("the panic", || server.log().contains("panicked").then_some(()));
    check_topics_fixed(&server);
    server.stop();
    let server = launch.start();
    server.create("other", 1);
    assert_eq!(server.values("t").len(), 2);
}
