//! One shard that cannot be served: the others go on, and status says which and why.

use std::path::{Path, PathBuf};

use model::{AckLevel, ErrorCode, PartitionHandle, Request};

use crate::harness::{Launch, folder};
use crate::wire::{Wire, batch};

/// The file of a shard that holds `needle`, and where.
fn find(shard: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let files = std::fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path());
    let found = files.filter_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(needle.len()).position(|window| window == needle)?;
        Some((path, at))
    });
    found.last().expect("the message is in the log")
}

/// The handles of a topic's two partitions, by shard.
fn handles(wire: &mut Wire) -> [PartitionHandle; 2] {
    let mut handles = [wire.handle("t", 0), wire.handle("t", 1)];
    handles.sort_by_key(|handle| handle.shard);
    assert_ne!(handles[0].shard, handles[1].shard);
    handles
}

#[test]
fn one_damaged_shard_leaves_the_other_serving_and_status_names_file_and_byte() {
    for damaged in [0, 1] {
        let folder = folder();
        let data = folder.path().join("data");
        let launch = Launch::new(&data).cores(2).shards(2);
        let server = launch.start();
        server.create("t", 2);
        let mut wire = Wire::open(server.address);
        for handle in handles(&mut wire) {
            for n in 0..20 {
                let text = format!("shard {} message {n}", handle.shard);
                wire.produce(handle, AckLevel::Durable, &batch(&[&text])).ack();
            }
        }
        let known = handles(&mut wire);
        server.stop();
        let needle = format!("shard {damaged} message 7");
        let (path, at) = find(&data.join(format!("shard-000{damaged}")), needle.as_bytes());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();

        let server = launch.start();
        assert!(server.ready_line.contains(&format!("NOT served: shard {damaged}")));
        let status = server.run(&["status", "--output", "json"]);
        assert_eq!(status.code, Some(1), "{status:?}");
        let status = status.json();
        assert_eq!(status["ready"], false);
        let (bad, good) = (&status["shards"][damaged], &status["shards"][1 - damaged]);
        assert_eq!((&bad["health"], &good["health"]), (&"unavailable".into(), &"serving".into()));
        let reason = bad["reason"].as_str().unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        assert!(reason.contains(file) && reason.contains("byte"), "{reason}");
        let shown = server.run(&["status"]);
        assert!(shown.text().contains(reason), "{shown:?}");

        // With shard 0 away the topics are known all the same; handles stay what they were.
        let mut wire = Wire::open(server.address);
        wire.produce(known[1 - damaged], AckLevel::Durable, &batch(&["more"])).ack();
        let refused = wire.produce(known[damaged], AckLevel::Durable, &batch(&["more"]));
        let rejection = refused.rejection();
        assert_eq!(rejection.code, ErrorCode::ShardUnavailable);
        assert!(rejection.message.contains(file), "{rejection}");
        let fetch = |partition| Request::Fetch {
            partition,
            offset: 0,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_wait_ms: 0,
        };
        let frame = wire.request(&fetch(known[damaged]));
        assert_eq!(frame.rejection().code, ErrorCode::ShardUnavailable);
        let frame = wire.request(&fetch(known[1 - damaged]));
        assert_eq!(frame.header.kind, protocol::kind::FETCH_REPLY);
        server.stop();
    }
}

/// Requests of connections that are gone give their places between cores back: many more than
/// there are places, and the next client is served.
#[test]
fn places_between_cores_come_back_from_connections_that_are_gone() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(2).start();
    server.create("t", 2);
    let address = server.direct_addresses()[0];
    let mut first = Wire::open(address);
    let there = handles(&mut first)[1];
    const EACH: u64 = 2_500;
    // The bound is 65,536 requests of one core under way on another.
    for _ in 0..30 {
        let mut wire = Wire::open(address);
        let mut bytes = Vec::new();
        for correlation in 0..EACH {
            let position = model::StartPosition::Next;
            let request = Request::LookupOffset { partition: there, position };
            protocol::put_request(&mut bytes, correlation + 1, &request, 0).unwrap();
        }
        wire.send_anyway(&bytes);
        // One answer shows that they are being worked off; then it goes without reading the rest.
        wire.frame();
    }
    first.produce(there, AckLevel::Durable, &batch(&["served"])).ack();
    assert_eq!(server.values("t"), ["served"]);
    server.stop();
}
