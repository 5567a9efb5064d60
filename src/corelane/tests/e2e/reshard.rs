//! Another number of shards: everything as it was, in another place.

use std::path::Path;

use model::{AckLevel, ConsumerName, PartitionHandle, Reply, Request};
use protocol::{BatchBuilder, Producer};

use crate::harness::{Launch, Run, Server, corelane, folder};
use crate::wire::Wire;

const PARTITIONS: u32 = 4;

fn reshard(from: &Path, shards: u16, to: &Path) -> Run {
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let words = ["reshard", "--from", from, "--shards", &shards.to_string(), "--to", to];
    corelane(&[&words[..], &["--output", "json"]].concat())
}

fn one(producer: Producer, value: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.append(1_700_000_000_000, None, Some(value.as_bytes()), []).unwrap();
    builder.finish(Some(producer))
}

fn commit(wire: &mut Wire, partition: PartitionHandle, offset: u64) {
    let consumer = ConsumerName::parse("reader").unwrap();
    let ack = AckLevel::Durable;
    let request = Request::CommitOffset { partition, consumer, offset, ack };
    assert_eq!(wire.request(&request).reply(), Reply::OffsetCommitted);
}

fn committed(wire: &mut Wire, partition: PartitionHandle) -> Reply {
    let consumer = ConsumerName::parse("reader").unwrap();
    wire.request(&Request::CommittedOffset { partition, consumer }).reply()
}

/// Every message with its partition, offset and time.
fn all(server: &Server, topic: &str) -> Vec<String> {
    let run = server.run(&["consume", topic, "--format", "%p %o %T %v"]).ok();
    let mut lines: Vec<_> = run.text().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn init_producer(wire: &mut Wire) -> i64 {
    match wire.request(&Request::InitProducer).reply() {
        Reply::Producer { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_shards_become_one_and_five() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).shards(2).start();
    server.create("t", PARTITIONS);
    server.run(&["topic", "create", "limited", "--retention-bytes", "1GiB"]).ok();
    server.create("gone", 2);
    server.create("empty", 3);
    server.publish("gone", "x\n");
    server.run(&["topic", "delete", "gone"]).ok();
    let lines: String = (0..5_000).map(|n| format!("{n}-{}\n", "w".repeat(500))).collect();
    for topic in ["t", "limited"] {
        for _ in 0..8 {
            server.publish(topic, &lines);
        }
    }
    let mut wire = Wire::open(server.address);
    let id = init_producer(&mut wire);
    let mut last_offsets = Vec::new();
    for partition in 0..PARTITIONS {
        let handle = wire.handle("t", partition);
        commit(&mut wire, handle, 100 + u64::from(partition));
        for sequence in 0..3 {
            let batch = one(Producer { id, epoch: 0, sequence }, &format!("mine {sequence}"));
            let ack = wire.produce(handle, AckLevel::Durable, &batch).ack();
            last_offsets.push(ack.base_offset);
        }
    }
    let before = ["t", "limited"].map(|topic| all(&server, topic));
    let topic_id = wire.handle("t", 0).topic;
    drop(wire);

    let busy = reshard(&data, 1, &folder.path().join("busy")).failed();
    assert!(busy.contains("in use"), "{busy}");
    server.stop();
    let image = tree(&data);
    for shards in [1, 5] {
        let to = folder.path().join(format!("on{shards}"));
        let done = reshard(&data, shards, &to).ok().json();
        assert_eq!((done["shards_before"].as_u64(), done["topics"].as_u64()), (Some(2), Some(3)));
        let partitions = done["partitions"].as_array().unwrap();
        assert_eq!(partitions.len(), 4 + 1 + 3);
        assert_eq!(done["records"].as_u64().unwrap() as usize, before[0].len() + before[1].len());
        assert_eq!(tree(&data), image, "the original is as it was");
        corelane(&["verify", to.to_str().unwrap()]).ok();

        let server = Launch::new(&to).start();
        assert_eq!(["t", "limited"].map(|topic| all(&server, topic)), before);
        assert_eq!(server.values("empty"), [""; 0]);
        let missing = server.run(&["consume", "gone"]);
        assert_eq!(missing.code, Some(1), "what was deleted stays deleted");
        let mut wire = Wire::open(server.address);
        let mut used = std::collections::BTreeSet::new();
        for partition in 0..PARTITIONS {
            let handle = wire.handle("t", partition);
            used.insert(handle.shard);
            assert_eq!(handle.topic, topic_id);
            let offset = 100 + u64::from(partition);
            assert_eq!(committed(&mut wire, handle), Reply::Offset { offset });
            // What was sent before is known, what follows is taken, a gap is not.
            let last = last_offsets[partition as usize * 3 + 2];
            let again = one(Producer { id, epoch: 0, sequence: 2 }, "mine 2");
            assert_eq!(wire.produce(handle, AckLevel::Durable, &again).ack().base_offset, last);
            let next = one(Producer { id, epoch: 0, sequence: 3 }, "mine 3");
            assert_eq!(wire.produce(handle, AckLevel::Durable, &next).ack().base_offset, last + 1);
            let gap = one(Producer { id, epoch: 0, sequence: 9 }, "mine 9");
            let refused = wire.produce(handle, AckLevel::Durable, &gap).rejection();
            assert_eq!(refused.code, model::ErrorCode::OutOfOrderSequence);
        }
        assert_eq!(used.len(), usize::from(shards.min(4)));
        assert!(init_producer(&mut wire) > id, "no number is given out twice");
        server.create("another", 1);
        assert!(wire.handle("another", 0).topic > topic_id);
        server.stop();
        let server = Launch::new(&to).cores(2).start();
        assert_eq!(all(&server, "limited"), before[1]);
    }
}

#[test]
fn what_retention_has_taken_stays_gone() {
    let folder = folder();
    let data = folder.path().join("data");
    let launch = Launch::new(&data).set("CORELANE_STORAGE_RETENTION_CHECK", "20ms");
    let server = launch.start();
    server.run(&["topic", "create", "t", "--retention-bytes", "2MiB"]).ok();
    let line = format!("{}\n", "z".repeat(1023));
    let offsets = |server: &Server| {
        let described = server.run(&["topic", "describe", "t", "--output", "json"]).ok().json();
        let partition = &described["partitions"][0];
        (partition["first_offset"].as_u64().unwrap(), partition["next_offset"].as_u64().unwrap())
    };
    let mut rounds = 0;
    while offsets(&server).0 == 0 {
        server.publish("t", &line.repeat(20 * 1024));
        rounds += 1;
        assert!(rounds < 50, "retention takes something");
    }
    server.stop();
    let server = launch.clone().start();
    let before = offsets(&server);
    server.kill();
    // Killed: the log has a tail that recovery looks at.
    let to = folder.path().join("new");
    reshard(&data, 3, &to).ok();
    let server = Launch::new(&to).start();
    assert_eq!(offsets(&server), before);
    server.publish("t", "one more\n");
    assert_eq!(offsets(&server).1, before.1 + 1);
}

#[test]
fn damage_is_not_carried_over() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).start();
    server.create("t", 1);
    server.publish("t", &"some line\n".repeat(10_000));
    server.stop();
    let segment = data.join("shard-0000/segment-00000000000000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[9_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let to = folder.path().join("new");
    let sentence = reshard(&data, 2, &to).failed_after_logs();
    assert!(sentence.contains("segment-00000000000000000001"), "{sentence}");
    assert!(!to.join("corelane.dir").exists());
    let sentence = reshard(&folder.path().join("nowhere"), 2, &to).failed_after_logs();
    assert!(sentence.contains("not a Corelane data directory"), "{sentence}");
}

/// Every file with its length and when it was changed.
fn tree(data: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for folder in ["", "shard-0000", "shard-0001"] {
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_file() {
                let name = format!("{folder}/{}", entry.file_name().display());
                found.push((name, metadata.len(), metadata.modified().unwrap()));
            }
        }
    }
    found.sort();
    found
}
