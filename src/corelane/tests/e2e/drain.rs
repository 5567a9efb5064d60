//! Emptying a core or the server of its clients: nothing is lost, nothing comes twice.

use std::thread::JoinHandle;
use std::time::Duration;

use client::{Client, Message, StartPosition};
use model::{AckLevel, ErrorCode, Request};
use protocol::kind;

use crate::harness::{DEADLINE, Launch, Server, folder, wait_for};
use crate::wire::{Wire, batch, hello};

const MESSAGES: usize = 3_000;

fn drained(server: &Server, core: usize) -> u64 {
    let status = server.run(&["status", "--output", "json"]).json();
    assert_eq!(status["cores"][core]["draining"], true, "{status}");
    status["cores"][core]["connections"].as_u64().unwrap()
}

#[test]
fn a_drained_core_tells_its_clients_and_passes_new_ones_on() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(2).start();
    server.create("t", 2);
    let direct = server.direct_addresses();
    let mut stays = Wire::open(direct[0]);
    let mut leaves = Wire::open(direct[1]);
    let handle = leaves.handle("t", 1);
    let subscribe = Request::Subscribe {
        partition: handle,
        subscription: 7,
        position: StartPosition::First,
        credit_bytes: 1 << 20,
    };
    assert_eq!(leaves.request(&subscribe).header.kind, kind::SUBSCRIBED);

    server.run(&["drain", "--core", "1", "--grace", "60s"]).ok();
    let told = leaves.frame().go_away();
    assert_eq!((told.reason, told.close_in_ms), (ErrorCode::Draining, 60_000));
    // The subscription ends under the correlation of its request.
    let ended = leaves.frame();
    assert_eq!(ended.rejection().code, ErrorCode::Draining);
    assert_ne!(ended.header.correlation, 0);
    // Until then it is served, but gets no new subscription.
    let ack = leaves.produce(handle, AckLevel::Durable, &batch(&["late"])).ack();
    assert_eq!(ack.base_offset, 0);
    let frame = leaves.request(&subscribe);
    assert_eq!(frame.rejection().code, ErrorCode::Draining);
    stays.check_alive();
    assert_eq!(drained(&server, 1), 1);

    // Both ports of the drained core lead elsewhere; its shard is reached all the same.
    for address in [server.address, direct[1], direct[1]] {
        let mut new = Wire::silent(address);
        new.send(&hello());
        let reply = protocol::parse_hello_reply(&new.frame().body).unwrap();
        assert_eq!(reply.core.0, 0, "{address}");
        let at = new.handle("t", 1);
        new.produce(at, AckLevel::Durable, &batch(&["elsewhere"])).ack();
    }
    drop(leaves);
    server.run(&["drain", "--core", "1", "--wait", "30s"]).ok();
    assert_eq!(drained(&server, 1), 0);
    let status = server.run(&["status"]).ok();
    assert!(status.text().contains("draining"), "{}", status.text());

    server.run(&["drain", "--core", "1", "--undo"]).ok();
    let mut back = Wire::silent(direct[1]);
    back.send(&hello());
    assert_eq!(protocol::parse_hello_reply(&back.frame().body).unwrap().core.0, 1);
    assert_eq!(server.values("t").len(), 4);
    server.stop();
}

#[test]
fn a_client_that_does_not_leave_is_disconnected_when_its_grace_is_over() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    let mut stubborn = Wire::open(server.direct_addresses()[1]);
    let run = server.run(&["drain", "--core", "1", "--grace", "300ms", "--wait", "30s"]).ok();
    assert_eq!(run.text(), "core 1 is drained: no clients are left\n");
    let frames = stubborn.until_closed();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].go_away().close_in_ms, 300);
    server.stop();
}

#[test]
fn a_second_drain_in_more_of_a_hurry_shortens_the_first() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    let mut stubborn = Wire::open(server.direct_addresses()[1]);
    let run = server.run(&["drain", "--core", "1", "--grace", "1h", "--wait", "0"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    // A longer one takes nothing back.
    for (grace, left) in [("0s", 0), ("1h", 0)] {
        let run = server.run(&["drain", "--core", "1", "--grace", grace, "--wait", "20s"]).ok();
        assert_eq!(drained(&server, 1), left, "{run:?}");
    }
    let frames = stubborn.until_closed();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].go_away().close_in_ms, 3_600_000);
    server.stop();
}

#[test]
fn a_drained_server_lets_only_operators_in() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    let mut client = Wire::open(server.address);
    let run = server.run(&["drain", "--wait", "0", "--grace", "60s"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.text().contains("1 connection is left"), "{run:?}");
    client.frame().go_away();
    let mut refused = Wire::silent(server.address);
    refused.send(&hello());
    let rejection = refused.frame().rejection();
    assert_eq!(rejection.code, ErrorCode::Draining);
    assert!(rejection.message.contains("--undo"), "{rejection}");
    let status = server.run(&["status", "--output", "json"]);
    assert_eq!(status.code, Some(1), "not ready");
    assert_eq!(status.json()["draining"], true);
    server.run(&["drain", "--undo"]).ok();
    server.create("t", 1);
    // Who was told to leave and has not may stay after all.
    client.check_alive();
    let none = server.run(&["drain", "--core", "9"]).failed();
    assert!(none.contains("there is no core 9"), "{none}");
    server.stop();
}

/// The Rust client goes elsewhere by itself while it publishes and consumes: each message once, in
/// order.
#[test]
fn the_client_moves_without_losing_or_repeating() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(2).start();
    server.create("t", 2);
    let address = server.address.to_string();
    let publisher = on_a_thread(publish(address.clone()));
    let consumer = on_a_thread(consume(address));
    let mut drains = 0;
    while !(publisher.is_finished() && consumer.is_finished()) {
        let what: &[&str] = match drains % 3 {
            0 => &["drain", "--core", "1"],
            1 => &["drain", "--core", "0"],
            _ => &["drain"],
        };
        let mut words = what.to_vec();
        words.extend(["--grace", "200ms", "--wait", "20s"]);
        server.run(&words).ok();
        words.truncate(what.len());
        words.push("--undo");
        server.run(&words).ok();
        drains += 1;
    }
    publisher.join().unwrap();
    consumer.join().unwrap();
    assert!(drains > 0);
    wait_for("the clients' end", || {
        let status = server.run(&["status", "--output", "json"]).json();
        let cores = status["cores"].as_array().unwrap();
        cores.iter().all(|core| core["connections"] == 0).then_some(())
    });
    assert_eq!(server.values("t").len(), MESSAGES);
    server.stop();
}

async fn publish(address: String) {
    let client = Client::connect(address).await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    for n in 0..MESSAGES {
        let value = n.to_string();
        let message = Message::new("t").partition(n as u32 % 2).value(&value);
        let delivery = producer.send(message).await.unwrap();
        if n % 10 == 0 {
            delivery.await.unwrap();
        }
    }
    producer.close().await.unwrap();
}

async fn consume(address: String) {
    let client = Client::connect(address).await.unwrap();
    let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
    let mut next = [0, 1];
    for _ in 0..MESSAGES {
        let record = consumer.next().await.unwrap().unwrap();
        let partition = record.partition() as usize;
        let value: usize = std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap();
        assert_eq!(value, next[partition], "partition {partition}");
        next[partition] += 2;
    }
}

fn on_a_thread(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.unwrap() });
    })
}
