use model::{Lsn, PartitionHandle};
use protocol::{BatchBuilder, Producer};
use shards::{Engine, EngineConfig, Journal, Room};
use wal::directory::DirectoryError;
use wal::verify::verify_directory;
use wal::{FileDevice, Wal};

use super::*;
use crate::log_writer::EngineFold;

const SEGMENT_BYTES: u64 = 256 * 1024;

fn options() -> RewriteOptions {
    RewriteOptions { segment_bytes: SEGMENT_BYTES, now_ms: 1_000 }
}

fn topic(id: u64, name: &str, shards: &[u16]) -> TopicRecord {
    TopicRecord {
        id: TopicId(id),
        name: TopicName::parse(name).unwrap(),
        config: TopicConfig { retention_ms: Some(7), ..TopicConfig::default() },
        config_version: 3,
        shards: shards.iter().copied().map(ShardId).collect(),
    }
}

fn partition(topic: &TopicRecord, index: u32, first_offset: u64) -> NewPartition {
    NewPartition {
        topic: topic.id,
        name: topic.name.clone(),
        index: PartitionIndex(index),
        config: topic.config.clone(),
        config_version: topic.config_version,
        first_offset,
    }
}

fn batch(base_offset: u64, records: u32, value: &[u8], producer: Option<Producer>) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.append(5, None, Some(value), []).unwrap();
    }
    let mut bytes = builder.finish(producer);
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes
}

/// The shard's state as a server has it after its start.
fn fold(path: &Path, shard: u16) -> Engine {
    let directory = directory::open(path).unwrap();
    let mut device = FileDevice::open(&directory.shard_path(shard)).unwrap();
    let config = WalConfig { shard, secret: directory.secret(), ..WalConfig::default() };
    let mut engine = Engine::new(ShardId(shard), EngineConfig::default());
    Wal::open(&mut device, config, &mut EngineFold(&mut engine)).unwrap();
    engine
}

/// Takes everything.
struct Anywhere(Lsn);

impl Journal for Anywhere {
    fn append(&mut self, _: &EntryHead, _: &[&[u8]]) -> Lsn {
        self.0 = self.0.next();
        self.0
    }

    fn room(&self, _: usize, _: model::SpaceUse) -> Room {
        Room::Yes
    }
}

#[test]
fn what_is_written_is_what_a_server_opens() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("new");
    let orders = topic(4, "orders", &[0, 1]);
    let gone = topic(6, "gone", &[1]);
    let mut new = Rewriter::create(&path, 2, options()).unwrap();
    let shard = new.shard(ShardId(0)).unwrap();
    shard.numbers_used(TopicId(10), 5_000).unwrap();
    shard.topic(&orders, false).unwrap();
    shard.topic(&gone, true).unwrap();

    let shard = new.shard(ShardId(1)).unwrap();
    let stream = StreamId(3);
    shard.partition(stream, &partition(&orders, 1, 100)).unwrap();
    let mut offset = 100;
    let mut sequence = 0;
    // Several segments, with a hole in the offsets.
    for at in 0..600 {
        if at == 250 {
            offset += 1_000;
        }
        let producer = Producer { id: 77, epoch: 2, sequence };
        let payload = batch(offset, 3, &[7; 1_000], Some(producer));
        let batch = NewBatch { base_offset: offset, records: 3, time_ms: at, payload: &payload };
        shard.batch(stream, &batch).unwrap();
        (offset, sequence) = (offset + 3, sequence + 3);
    }
    shard.streams_used(StreamId(9)).unwrap();
    let producers = shard.log.engine().carry(stream).unwrap().producers;
    let consumers = vec![(ConsumerName::parse("mill").unwrap(), 400)];
    let end = PartitionEnd { next_offset: offset + 50, consumers: consumers.clone(), producers };
    shard.end_partition(stream, &end).unwrap();
    let written = new.finish().unwrap();
    assert_eq!((written.batches, written.records), (600, 1_800));

    let report = verify_directory(&path).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert!(report.shards[1].as_ref().unwrap().segments > 5);
    drop(report);

    let first = fold(&path, 0);
    let topics: Vec<_> = first.topics().collect();
    assert_eq!(topics, [orders]);
    assert_eq!(first.tombstones().collect::<Vec<_>>(), [gone]);
    assert_eq!(first.counted().topic_next, TopicId(10));
    assert_eq!(first.counted().producer_id_next, 5_000);

    let mut second = fold(&path, 1);
    assert_eq!(second.counted().stream_next, StreamId(9));
    let carried = second.carry(stream).unwrap();
    assert_eq!(carried.record.first_offset, 100);
    assert_eq!(carried.record.next_offset, offset + 50);
    assert_eq!(carried.holes, [(850, 1_850), (offset, offset + 50)]);
    assert_eq!(carried.consumers, consumers);

    // The producer goes on where it was, and its newest batch is known.
    let handle = PartitionHandle { topic: TopicId(4), stream, shard: ShardId(1) };
    let mut journal = Anywhere(second.last_lsn());
    for (sequence, at) in [(sequence - 3, offset - 3), (sequence, offset + 50)] {
        let producer = Producer { id: 77, epoch: 2, sequence };
        let payload = batch(0, 3, b"again", Some(producer));
        let header = protocol::check_batch(&[&payload]).unwrap();
        let appended =
            second.produce(2_000, handle, &header, &[payload.as_slice()], &mut journal).unwrap();
        assert_eq!(appended.base_offset, at);
    }
}

#[test]
fn a_cut_leaves_what_no_one_opens() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("new");
    let mut new = Rewriter::create(&path, 1, options()).unwrap();
    new.shard(ShardId(0)).unwrap().topic(&topic(1, "a", &[0]), false).unwrap();
    drop(new);
    assert!(matches!(directory::open(&path), Err(DirectoryError::NotADirectoryOfOurs { .. })));
    let again = Rewriter::create(&path, 1, options()).err().unwrap();
    assert!(
        matches!(again, RewriteError::Directory(DirectoryError::NoSuperblock { .. })),
        "{again}"
    );
    let made = directory::create(&path, 1, [1; 16]).unwrap_err();
    assert!(matches!(made, DirectoryError::NoSuperblock { .. }), "{made}");
}

#[test]
fn offsets_do_not_go_back() {
    let temp = tempfile::tempdir().unwrap();
    let mut new = Rewriter::create(temp.path(), 1, options()).unwrap();
    let shard = new.shard(ShardId(0)).unwrap();
    let stream = shard.next_stream();
    shard.partition(stream, &partition(&topic(1, "a", &[0]), 0, 7)).unwrap();
    let payload = batch(6, 1, b"x", None);
    let early = NewBatch { base_offset: 6, records: 1, time_ms: 0, payload: &payload };
    let refused = shard.batch(stream, &early).unwrap_err();
    assert!(matches!(refused, RewriteError::OffsetGoesBack { expected: 7, found: 6, .. }));
    assert!(matches!(
        shard.next_offset(StreamId(99)),
        Err(RewriteError::UnknownStream { stream: StreamId(99), .. })
    ));
}
