//! A small directory with every kind of entry, several segments, a checkpoint and a torn end.

use std::path::Path;

use model::{
    AckLevel, ConsumerName, EntryHead, Lsn, PartitionIndex, ShardId, StreamId, TopicConfig,
    TopicId, TopicName,
};
use protocol::{BatchBuilder, Producer};
use shards::entry::{Change, SkipCause, kind};
use shards::{Engine, EngineConfig, ReplayError};
use wal::{FileDevice, Fold, LogDevice, Wal, WalConfig, directory};

/// What in the text says that a batch is not kept: of a deleted partition, before a log's start.
pub const GONE: &[&str] = &["kind: 1, flags: 0, stream: StreamId(3)", "base_offset: 0, records: 5"];

const SECRET: [u8; 16] = *b"a golden secret!";

pub fn write(path: &Path) {
    let mut directory = directory::create(path, 2, SECRET).unwrap();
    let block_bytes = directory.block_bytes();
    let mut shard = Shard::create(&directory.shard_path(0), 0, block_bytes);
    write_topics(&mut shard);
    shard.stop();
    let mut shard = Shard::create(&directory.shard_path(1), 1, block_bytes);
    write_partitions(&mut shard);
    shard.stop();
    directory.finish().unwrap();
}

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn config(retention_ms: Option<u64>) -> TopicConfig {
    TopicConfig { retention_ms, retention_bytes: Some(1 << 40), ack: AckLevel::Memory }
}

fn write_topics(shard: &mut Shard) {
    let created = |id: u64, text: &str| Change::TopicCreated {
        id: TopicId(id),
        name: name(text),
        config: config(None),
        shards: vec![ShardId(1), ShardId(1)],
    };
    shard.change(0, &created(1, "orders"));
    shard.change(0, &created(2, "audit.log"));
    shard.change(0, &created(3, "deleted"));
    shard.change(0, &created(4, "cleared"));
    let config = config(Some(u64::MAX));
    shard.change(0, &Change::TopicAltered { id: TopicId(1), config_version: 2, config });
    shard.change(0, &Change::TopicDeleted { id: TopicId(3) });
    shard.change(0, &Change::TopicDeleted { id: TopicId(4) });
    shard.change(0, &Change::TombstoneCleared { id: TopicId(4) });
    shard.change(0, &Change::ProducerIdsAllocated { next: 3_001 });
}

fn write_partitions(shard: &mut Shard) {
    let created = |topic: u64, text: &str, index: u32| Change::PartitionCreated {
        topic: TopicId(topic),
        name: name(text),
        index: PartitionIndex(index),
        config: config(None),
        config_version: 1,
    };
    shard.change(1, &created(1, "orders", 0));
    shard.change(2, &created(1, "orders", 1));
    shard.change(3, &created(3, "deleted", 0));
    shard.change(4, &created(2, "audit.log", 0));
    shard.change(5, &created(2, "audit.log", 1));
    let altered = config(Some(u64::MAX));
    shard.change(1, &Change::PartitionAltered { config_version: 2, config: altered.clone() });
    shard.change(2, &Change::PartitionAltered { config_version: 2, config: altered });
    shard.batch(3, 0, 7, None);
    shard.change(3, &Change::PartitionDeleted);
    shard.batch(1, 0, 5, None);
    let mut offset = 5;
    for at in 0..40 {
        let producer = Producer { id: 2_000 + at % 3, epoch: 1, sequence: (at / 3 * 4) as i32 };
        shard.batch(1, offset, 4, Some(producer));
        offset += 4;
        if at == 20 {
            shard.change(
                1,
                &Change::OffsetsSkipped { from: offset, to: offset + 100, cause: SkipCause::Lost },
            );
            offset += 100;
            shard.checkpoint();
        }
    }
    let bytes = shard.first_batch_bytes;
    shard.change(1, &Change::LogStartAdvanced { offset: 5, bytes });
    shard.change(1, &Change::ProducersExpired { ids: vec![2_001] });
    let consumer = ConsumerName::parse("mill").unwrap();
    shard.change(1, &Change::OffsetCommitted { consumer, offset: 77 });
    let producers = shard.engine.carry(StreamId(1)).unwrap().producers;
    shard.change(2, &Change::ProducersRestored { replaces: true, producers });
    shard.batch(4, 0, 1, None);
}

struct Shard {
    device: FileDevice,
    wal: Wal,
    engine: Engine,
    time_ms: i64,
    first_batch_bytes: u64,
    seed: u32,
}

impl Shard {
    fn create(path: &Path, shard: u16, block_bytes: usize) -> Self {
        let config = WalConfig {
            shard,
            secret: SECRET,
            segment_bytes: 64 * 1024,
            group_bytes: 4096,
            backlog_bytes: 8192,
            cache_bytes: 1 << 20,
            prepare_bytes: 0,
            ..WalConfig::default()
        };
        let mut device = FileDevice::open(path).unwrap().with_block_bytes(block_bytes);
        let mut engine = Engine::new(ShardId(shard), EngineConfig::default());
        Wal::create(&mut device, &config).unwrap();
        let (wal, _) = Wal::open(&mut device, config, &mut Replay(&mut engine)).unwrap();
        let time_ms = 1_700_000_000_000;
        Self { device, wal, engine, time_ms, first_batch_bytes: 0, seed: 1 }
    }

    fn change(&mut self, stream: u32, change: &Change) {
        let mut payload = Vec::new();
        change.encode(&mut payload);
        self.append(&change.head(StreamId(stream), self.time_ms), &payload);
        if let Some(label) = self.engine.label(StreamId(stream)) {
            self.wal.label(StreamId(stream), &label);
        }
    }

    fn batch(&mut self, stream: u32, offset: u64, records: u32, producer: Option<Producer>) {
        let mut builder = BatchBuilder::new();
        for _ in 0..records {
            // No pattern, so that segments fill.
            let value: Vec<u8> = (0..300).map(|_| self.byte()).collect();
            builder.append(self.time_ms, Some(b"key"), Some(&value), []).unwrap();
        }
        let mut payload = builder.finish(producer);
        payload[..8].copy_from_slice(&offset.to_be_bytes());
        if stream == 1 && offset == 0 {
            self.first_batch_bytes = payload.len() as u64;
        }
        let head = EntryHead {
            kind: kind::BATCH,
            flags: 0,
            stream: StreamId(stream),
            base_offset: offset,
            records,
            time_ms: self.time_ms,
        };
        self.append(&head, &payload);
    }

    fn byte(&mut self) -> u8 {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.seed >> 24) as u8 & 0x3f
    }

    fn append(&mut self, head: &EntryHead, payload: &[u8]) {
        self.time_ms += 10;
        let lsn = self.engine.last_lsn().next();
        self.engine.apply(lsn, head, payload).unwrap();
        assert_eq!(self.wal.append(head, &[payload]), lsn);
        self.wal.commit(&mut self.device);
        self.settle();
        self.wal.tick(&mut self.device, 0);
        self.settle();
    }

    fn checkpoint(&mut self) {
        self.wal.checkpoint_begin(&mut self.device);
        let mut cursor = self.engine.snapshot();
        let mut more = true;
        while more {
            let mut piece = Vec::new();
            more = self.engine.snapshot_slice(&mut cursor, 1, &mut piece);
            self.wal.checkpoint_push(&mut self.device, &piece);
            self.settle();
        }
        self.wal.checkpoint_finish(&mut self.device);
        self.settle();
    }

    fn stop(mut self) {
        self.wal.shutdown(&mut self.device);
        self.settle();
        assert!(self.wal.is_shut_down());
    }

    fn settle(&mut self) {
        while self.wal.actions_under_way() > 0 {
            let ended = self.device.wait();
            self.wal.complete(&mut self.device, ended);
        }
    }
}

struct Replay<'a>(&'a mut Engine);

impl Fold for Replay<'_> {
    type Error = ReplayError;

    fn load(&mut self, piece: &[u8]) -> Result<(), ReplayError> {
        self.0.load(piece)
    }

    fn loaded(&mut self, start: Lsn, end: Lsn) -> Result<(), ReplayError> {
        self.0.loaded(start, end)
    }

    fn apply(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), ReplayError> {
        self.0.apply(lsn, head, payload)
    }

    fn log_start(&self, stream: StreamId) -> Option<u64> {
        self.0.log_start(stream)
    }

    fn label(&self, stream: StreamId) -> Option<Vec<u8>> {
        self.0.label(stream)
    }
}
