//! Work that crosses cores, and a data directory on other numbers of cores than it was made with.

use std::collections::BTreeSet;

use model::{AckLevel, Request, StartPosition};
use protocol::{DELIVER_HEAD_BYTES, DeliverHead, FETCH_HEAD_BYTES, FetchHead, kind};

use crate::harness::{Launch, Server, folder};
use crate::wire::{Wire, batch};

/// Publishes to and reads from every partition over one connection to each core.
fn check_every_way(server: &Server, topic: &str, partitions: u32) {
    for address in server.direct_addresses() {
        let mut wire = Wire::open(address);
        for partition in 0..partitions {
            let handle = wire.handle(topic, partition);
            let text = format!("{address} to {partition}");
            let ack = wire.produce(handle, AckLevel::Durable, &batch(&[&text])).ack();
            assert_eq!((ack.count, ack.level), (1, AckLevel::Durable));
            assert_eq!(ack.shard, handle.shard);
            let frame = wire.request(&Request::Fetch {
                partition: handle,
                offset: ack.base_offset,
                min_bytes: 1,
                max_bytes: 1 << 20,
                max_wait_ms: 30_000,
            });
            assert_eq!(frame.header.kind, kind::FETCH_REPLY, "{frame:?}");
            let head = FetchHead::parse(&frame.body).unwrap();
            assert_eq!(head.next_offset, ack.base_offset + 1);
            assert_eq!(values(&frame.body[FETCH_HEAD_BYTES..]), [text]);
        }
    }
}

/// The values of uncompressed batches.
fn values(mut bytes: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let span = protocol::split_batches(&[bytes], None).next().unwrap().unwrap();
        let (one, rest) = bytes.split_at(span.range.len());
        let section = &one[protocol::batch::BATCH_HEADER_BYTES..];
        for record in protocol::RecordIter::new(&span.header, section) {
            let value = record.unwrap().value.unwrap().to_vec();
            values.push(String::from_utf8(value).unwrap());
        }
        bytes = rest;
    }
    values
}

#[test]
fn any_core_serves_any_partition() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(2).start();
    server.create("t", 4);
    let mut wire = Wire::open(server.address);
    let shards: BTreeSet<_> = (0..4).map(|p| wire.handle("t", p).shard).collect();
    assert_eq!(shards.len(), 2, "the partitions lie on both shards");
    check_every_way(&server, "t", 4);
    server.stop();
}

#[test]
fn a_subscription_reaches_across_cores() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(2).start();
    server.create("t", 2);
    let addresses = server.direct_addresses();
    let mut readers: Vec<Wire> = addresses.iter().map(|address| Wire::open(*address)).collect();
    for reader in &mut readers {
        for partition in 0..2 {
            let handle = reader.handle("t", partition);
            let frame = reader.request(&Request::Subscribe {
                partition: handle,
                subscription: partition,
                position: StartPosition::First,
                credit_bytes: 1 << 20,
            });
            assert_eq!(frame.header.kind, kind::SUBSCRIBED, "{frame:?}");
        }
    }
    let mut writer = Wire::open(addresses[0]);
    for partition in 0..2 {
        let handle = writer.handle("t", partition);
        writer.produce(handle, AckLevel::Durable, &batch(&["one", "two"])).ack();
    }
    for reader in &mut readers {
        let mut subscriptions = BTreeSet::new();
        for _ in 0..2 {
            let frame = reader.frame();
            assert_eq!(frame.header.kind, kind::DELIVER, "{frame:?}");
            let head = DeliverHead::parse(&frame.body).unwrap();
            assert_eq!((head.first_offset, head.next_offset), (0, 2));
            assert_eq!(values(&frame.body[DELIVER_HEAD_BYTES..]), ["one", "two"]);
            subscriptions.insert(head.subscription);
        }
        assert_eq!(subscriptions, BTreeSet::from([0, 1]));
    }
}

#[test]
fn a_directory_of_2_shards_opens_on_1_core_and_on_2_and_on_3() {
    let folder = folder();
    let data = folder.path().join("data");
    let mut expected = BTreeSet::new();
    for (at, cores) in [2, 1, 2, 3, 1].into_iter().enumerate() {
        let launch = Launch::new(&data).cores(cores);
        let server = if at == 0 { launch.shards(2).start() } else { launch.start() };
        if at == 0 {
            server.create("t", 4);
        }
        let found: BTreeSet<String> = server.values("t").into_iter().collect();
        assert_eq!(found, expected, "on {cores} cores");
        let lines: Vec<_> = (0..100).map(|n| format!("start {at} line {n}")).collect();
        server.publish("t", &format!("{}\n", lines.join("\n")));
        expected.extend(lines);
        let found: BTreeSet<String> = server.values("t").into_iter().collect();
        assert_eq!(found, expected, "on {cores} cores");
        server.stop();
    }
}

#[test]
fn a_server_of_more_cores_than_shards_warns_and_serves() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(1).start();
    assert!(server.log().contains("more cores than shards"), "{}", server.log());
    server.create("t", 2);
    check_every_way(&server, "t", 2);
}
