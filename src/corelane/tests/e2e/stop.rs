//! A graceful stop and a sudden end: nothing acknowledged is lost by either.

use std::time::{Duration, Instant};

use model::{AckLevel, ErrorCode};
use rustix::process::Signal;

use crate::harness::{Launch, folder};
use crate::wire::{Wire, batch, produce_frame};

/// What the stop may take.
const STOP_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_stop_tells_clients_finishes_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = folder();
        let data = folder.path().join("data");
        let server = Launch::new(&data).cores(2).start();
        server.create("t", 2);
        let mut idle = Wire::open(server.address);
        let mut busy = Wire::open(server.address);
        let handle = busy.handle("t", 0);
        // Sent before the signal: they are answered, all of them.
        let count = 200;
        let mut frames = Vec::new();
        for n in 0..count {
            let batch = batch(&[format!("message {n}")]);
            frames.extend(produce_frame(handle, Some(AckLevel::Durable), n, &batch));
        }
        busy.send(&frames);
        let first = busy.frame().ack();
        let mut acknowledged = u64::from(first.count);
        let began = Instant::now();
        server.signal(signal);

        assert_eq!(idle.frame().go_away().reason, ErrorCode::ShuttingDown);
        assert!(idle.until_closed().is_empty());
        let mut told = false;
        for frame in busy.until_closed() {
            if frame.header.kind == protocol::kind::GO_AWAY {
                told = true;
            } else if frame.header.kind == protocol::kind::PRODUCE_ACK {
                acknowledged += u64::from(frame.ack().count);
            } else {
                // Received after the stop began.
                assert_eq!(frame.rejection().code, ErrorCode::ShuttingDown);
            }
        }
        assert!(told, "{signal:?}");
        let status = server.wait();
        assert!(status.success(), "{status}");
        assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());

        let server = Launch::new(&data).cores(2).start();
        let values = server.values("t");
        let expected: Vec<_> = (0..values.len()).map(|n| format!("message {n}")).collect();
        assert_eq!(values, expected);
        assert!(values.len() as u64 >= acknowledged, "{} of {acknowledged}", values.len());
    }
}

#[test]
fn a_following_consumer_and_a_half_frame_do_not_hold_up_a_stop() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 1);
    let mut half = Wire::open(server.address);
    let handle = half.handle("t", 0);
    let frame = produce_frame(handle, None, 1, &batch(&["never whole"]));
    half.send(&frame[..frame.len() - 1]);
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
}

/// A stop waits for nothing but its last writes. A busy machine may hold up one of several.
#[test]
fn a_stop_with_nothing_to_do_takes_no_time() {
    let stop = || {
        let folder = folder();
        let server = Launch::new(&folder.path().join("data")).cores(2).start();
        let _idle = Wire::open(server.address);
        let began = Instant::now();
        server.stop();
        began.elapsed()
    };
    let took: Vec<_> = (0..5).map(|_| stop()).collect();
    assert!(took.iter().min().unwrap() < &Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_kill_keeps_all_that_was_acknowledged() {
    let folder = folder();
    let data = folder.path().join("data");
    let mut expected = Vec::new();
    for round in 0..4 {
        let server = Launch::new(&data).cores(2).shards(2).start();
        if round == 0 {
            server.create("t", 1);
        }
        assert_eq!(server.values("t"), expected, "round {round}");
        let mut wire = Wire::open(server.address);
        let handle = wire.handle("t", 0);
        for n in 0..50 {
            let value = format!("round {round} message {n}");
            let ack = wire.produce(handle, AckLevel::Durable, &batch(&[&value])).ack();
            assert_eq!(ack.base_offset, expected.len() as u64);
            expected.push(value);
        }
        server.kill();
    }
    let server = Launch::new(&data).start();
    assert_eq!(server.values("t"), expected);
}

#[test]
fn topics_and_their_settings_outlive_a_kill() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).cores(2).shards(2).start();
    for n in 0..20 {
        server.create(&format!("topic-{n}"), n % 5 + 1);
    }
    server.run(&["topic", "alter", "topic-3", "--retention-bytes", "1GiB"]).ok();
    server.run(&["topic", "delete", "topic-4"]).ok();
    let before = server.run(&["topic", "list", "--output", "json"]).ok().json();
    server.kill();
    let server = Launch::new(&data).cores(1).start();
    let after = server.run(&["topic", "list", "--output", "json"]).ok().json();
    assert_eq!(before, after);
    assert_eq!(after.as_array().unwrap().len(), 19);
    // A name that is free again makes a new topic, with a new number and nothing in it.
    server.create("topic-4", 1);
    assert!(server.values("topic-4").is_empty());
}
