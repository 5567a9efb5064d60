//! A disk under one shard that really fails: a loop device whose own disk is full gives I/O errors.

use model::{AckLevel, ErrorCode};

use crate::harness::{Launch, corelane, folder, wait_for};
use crate::small_disk::{MIB, SmallDisk};
use crate::wire::{Wire, batch};

#[test]
fn a_shard_whose_disk_fails_is_read_only_and_the_other_serves() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("outer")).unwrap();
    std::fs::create_dir_all(at("data").join("shard-0001")).unwrap();
    let Some(outer) = SmallDisk::new(&at("image"), 96 * MIB, &at("outer")) else { return };
    // Larger than what it lies on: its blocks are had when they are first written.
    let inner = at("outer").join("image");
    let Some(inner) = SmallDisk::new(&inner, 256 * MIB, &at("data").join("shard-0001")) else {
        return;
    };
    let launch = || Launch::new(&at("data")).shards(2).log_at(&at("log"));
    let server = launch().start();
    server.create("t", 2);
    let mut wire = Wire::open(server.address);
    let handles = [wire.handle("t", 0), wire.handle("t", 1)];
    let failing = usize::from(handles[1].shard.0 == 1);
    assert_ne!(handles[0].shard, handles[1].shard);
    let value = |number: usize| format!("{number:08}{}", "w".repeat(100_000));

    let eaten = outer.eat();
    let mut acknowledged = 0;
    // The write under way when the disk fails may or may not have happened; those after it have not.
    let code = wait_for("the disk to fail", || {
        let frame =
            wire.produce(handles[failing], AckLevel::Durable, &batch(&[value(acknowledged)]));
        if frame.header.kind == protocol::kind::PRODUCE_ACK {
            acknowledged += 1;
            return None;
        }
        Some(frame.rejection().code)
    });
    assert_eq!(code, ErrorCode::OutcomeUnknown);
    let frame = wire.produce(handles[failing], AckLevel::Durable, &batch(&[value(0)]));
    assert_eq!(frame.rejection().code, ErrorCode::ShardReadOnly);
    for number in 0..20 {
        let batch = batch(&[value(number)]);
        wire.produce(handles[1 - failing], AckLevel::Durable, &batch).ack();
    }
    let status = server.run(&["status", "--output", "json"]).json();
    let shards = status["shards"].as_array().unwrap();
    let health = |shard: usize| shards[shard]["health"].as_str().unwrap().to_owned();
    assert_eq!((&*health(0), &*health(1)), ("serving", "read_only"), "{status}");
    let log = server.log();
    assert!(log.contains("the shard's log has failed"), "{log}");
    server.stop();

    // The disk is mended; what was acknowledged is there.
    inner.unmount().unwrap();
    std::fs::remove_file(eaten).unwrap();
    inner.check();
    inner.mount().unwrap();
    corelane(&["verify", at("data").to_str().unwrap()]).ok();
    let server = launch().start();
    let partition = failing.to_string();
    let run = server.run(&["consume", "t", "--partition", &partition]).ok();
    let lines: Vec<&str> = run.text().lines().collect();
    let found = lines.len();
    assert!(found == acknowledged || found == acknowledged + 1, "{found} of {acknowledged}");
    assert!(lines.iter().enumerate().all(|(number, line)| *line == value(number)));
    let mut wire = Wire::open(server.address);
    let handle = wire.handle("t", failing as u32);
    wire.produce(handle, AckLevel::Durable, &batch(&[value(found)])).ack();
}
