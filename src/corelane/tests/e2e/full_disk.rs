//! A disk that is really full: publishes are refused and may be retried, everything else goes on,
//! and publishing resumes by itself. Nothing acknowledged is lost, whatever happens meanwhile.

use std::path::PathBuf;

use model::{AckLevel, ConsumerName, ErrorCode, PartitionHandle, Reply, Request};

use crate::harness::{Launch, Server, corelane, folder, wait_for};
use crate::small_disk::{MIB, SmallDisk};
use crate::wire::{Wire, batch};

const DISK_BYTES: u64 = 144 * MIB;
const FILLER_BYTES: usize = 100_000;

struct Stage {
    // Unmounted before the folder goes.
    disk: SmallDisk,
    data: PathBuf,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Option<Self> {
        let folder = folder();
        let mounted = folder.path().join("disk");
        std::fs::create_dir(&mounted).unwrap();
        let disk = SmallDisk::new(&folder.path().join("image"), DISK_BYTES, &mounted)?;
        Some(Self { disk, data: mounted.join("data"), folder })
    }

    fn launch(&self) -> Launch {
        Launch::new(&self.data)
            .set("CORELANE_STORAGE_RETENTION_CHECK", "20ms")
            .log_at(&self.folder.path().join("log"))
    }

    fn verify(&self) {
        corelane(&["verify", self.data.to_str().unwrap()]).ok();
    }
}

/// Who publishes to one topic, and what was acknowledged of it.
struct Publisher {
    wire: Wire,
    handle: PartitionHandle,
    acknowledged: u64,
}

impl Publisher {
    fn new(server: &Server, topic: &str, acknowledged: u64) -> Self {
        let mut wire = Wire::open(server.address);
        let handle = wire.handle(topic, 0);
        Self { wire, handle, acknowledged }
    }

    fn publish(&mut self) -> Result<(), ErrorCode> {
        let value = value(self.acknowledged);
        let frame = self.wire.produce(self.handle, AckLevel::Durable, &batch(&[value]));
        if frame.header.kind == protocol::kind::PRODUCE_ACK {
            assert_eq!(frame.ack().base_offset, self.acknowledged, "offsets follow each other");
            self.acknowledged += 1;
            return Ok(());
        }
        Err(frame.rejection().code)
    }

    /// Until the disk is full.
    fn fill(&mut self) {
        wait_for("the disk to be full", || match self.publish() {
            Ok(()) => None,
            Err(code) => {
                assert_eq!(code, ErrorCode::DiskFull);
                Some(())
            }
        });
    }

    fn resume(&mut self) {
        wait_for("publishing to resume", || match self.publish() {
            Ok(()) => Some(()),
            Err(code) => {
                assert_eq!(code, ErrorCode::DiskFull);
                None
            }
        });
    }

    fn commit(&mut self, offset: u64) {
        let request = Request::CommitOffset {
            partition: self.handle,
            consumer: ConsumerName::parse("c").unwrap(),
            offset,
            ack: AckLevel::Durable,
        };
        let reply = self.wire.request(&request).reply();
        assert_eq!(reply, Reply::OffsetCommitted, "commits go on");
    }

    fn committed(&mut self) -> u64 {
        let consumer = ConsumerName::parse("c").unwrap();
        let request = Request::CommittedOffset { partition: self.handle, consumer };
        match self.wire.request(&request).reply() {
            Reply::Offset { offset } => offset,
            other => panic!("{other:?}"),
        }
    }
}

fn value(number: u64) -> String {
    format!("{number:010}{}", "v".repeat(FILLER_BYTES))
}

/// All that was acknowledged is there, in order and unchanged; at most a refused rest follows.
fn check(server: &Server, topic: &str, acknowledged: u64) {
    let values = server.values(topic);
    assert_eq!(values.len() as u64, acknowledged, "{topic}");
    for (number, found) in (0..).zip(values) {
        assert!(found == value(number), "{topic}, message {number}");
    }
}

fn is_full(server: &Server) -> bool {
    let status = server.run(&["status", "--output", "json"]).ok().json();
    status["shards"][0]["disk_full"].as_bool().unwrap()
}

#[test]
fn a_full_disk_is_got_out_of_by_deleting_a_topic() {
    let Some(stage) = Stage::new() else { return };
    let mut server = stage.launch().start();
    server.create("gone", 1);
    server.create("kept", 1);
    let mut kept = Publisher::new(&server, "kept", 0);
    kept.publish().unwrap();
    let mut gone = Publisher::new(&server, "gone", 0);
    gone.fill();
    assert!(gone.acknowledged > 300, "{} were taken", gone.acknowledged);
    assert!(is_full(&server));
    gone.commit(7);
    check(&server, "gone", gone.acknowledged);

    // Killed and started while full: what was acknowledged is there, and the reserve is not taken
    // for ordinary space.
    for offset in [11, 12] {
        let acknowledged = gone.acknowledged;
        server.kill();
        stage.verify();
        server = stage.launch().start();
        check(&server, "gone", acknowledged);
        gone = Publisher::new(&server, "gone", acknowledged);
        gone.fill();
        assert!(gone.acknowledged - acknowledged < 200, "publishes do not eat the reserve");
        gone.commit(offset);
        assert_eq!(gone.committed(), offset);
    }

    kept = Publisher::new(&server, "kept", kept.acknowledged);
    server.run(&["topic", "delete", "gone"]).ok();
    kept.resume();
    for _ in 0..20 {
        kept.publish().unwrap();
    }
    assert!(!is_full(&server));
    server.stop();
    stage.verify();
    let server = stage.launch().start();
    check(&server, "kept", kept.acknowledged);
}

#[test]
fn a_full_disk_is_got_out_of_again_and_again_by_retention() {
    let Some(stage) = Stage::new() else { return };
    let server = stage.launch().start();
    for round in 0..3 {
        let topic = format!("t{round}");
        // Made while there is space, filled until there is none.
        server.create(&topic, 1);
        let mut publisher = Publisher::new(&server, &topic, 0);
        publisher.fill();
        publisher.commit(1);
        server.run(&["topic", "alter", &topic, "--retention-bytes", "1MiB"]).ok();
        publisher.resume();
        server.run(&["topic", "delete", &topic]).ok();
        wait_for("the log to find space", || (!is_full(&server)).then_some(()));
    }
    server.stop();
    stage.verify();
}

#[test]
fn space_that_another_takes_and_gives_back() {
    let Some(stage) = Stage::new() else { return };
    let mut server = stage.launch().start();
    server.create("t", 1);
    let mut publisher = Publisher::new(&server, "t", 0);
    for _ in 0..50 {
        publisher.publish().unwrap();
    }
    let eaten = stage.disk.eat();
    publisher.fill();
    // Each commit is a block of its own: far more than what is left of one segment.
    for offset in 0..200 {
        publisher.commit(offset % 50);
    }
    server.kill();
    // Not a byte is free, not even for the file that says who holds the directory.
    server = stage.launch().start();
    check(&server, "t", publisher.acknowledged);
    publisher = Publisher::new(&server, "t", publisher.acknowledged);
    publisher.fill();
    publisher.commit(49);
    std::fs::remove_file(eaten).unwrap();
    publisher.resume();
    for _ in 0..200 {
        publisher.publish().unwrap();
    }
    server.stop();
    stage.verify();
    let server = stage.launch().start();
    check(&server, "t", publisher.acknowledged);
}
