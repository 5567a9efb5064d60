//! One shard's log written by the log's own writer, entry by entry, each durable before the next.

use std::path::Path;

use model::{EntryHead, Lsn, ShardId, StreamId};
use protocol::{BatchBuilder, Producer};
use shards::entry::{Change, kind};
use shards::{Engine, EngineConfig, ReplayError};
use wal::{FileDevice, Fold, LogDevice, Wal, WalConfig};

pub const SECRET: [u8; 16] = *b"a golden secret!";

pub struct Shard {
    device: FileDevice,
    pub wal: Wal,
    pub engine: Engine,
    time_ms: i64,
    pub first_batch_bytes: u64,
    seed: u32,
}

impl Shard {
    pub fn create(path: &Path, shard: u16, block_bytes: usize) -> Self {
        Self::begin(path, shard, block_bytes, SECRET, true)
    }

    /// Goes on with a log that is there.
    pub fn open(path: &Path, shard: u16, block_bytes: usize, secret: [u8; 16]) -> Self {
        Self::begin(path, shard, block_bytes, secret, false)
    }

    fn begin(path: &Path, shard: u16, block_bytes: usize, secret: [u8; 16], new: bool) -> Self {
        let config = WalConfig {
            shard,
            secret,
            segment_bytes: 64 * 1024,
            group_bytes: 4096,
            backlog_bytes: 8192,
            cache_bytes: 1 << 20,
            prepare_bytes: 0,
            ..WalConfig::default()
        };
        let mut device = FileDevice::open(path).unwrap().with_block_bytes(block_bytes);
        let mut engine = Engine::new(ShardId(shard), EngineConfig::default());
        if new {
            Wal::create(&mut device, &config).unwrap();
        }
        let (wal, _) = Wal::open(&mut device, config, &mut Replay(&mut engine)).unwrap();
        let time_ms = 1_700_000_000_000;
        Self { device, wal, engine, time_ms, first_batch_bytes: 0, seed: 1 }
    }

    pub fn change(&mut self, stream: u32, change: &Change) {
        let mut payload = Vec::new();
        change.encode(&mut payload);
        self.append(&change.head(StreamId(stream), self.time_ms), &payload);
        if let Some(label) = self.engine.label(StreamId(stream)) {
            self.wal.label(StreamId(stream), &label);
        }
    }

    /// Returns the bytes of the batch.
    pub fn batch(
        &mut self,
        stream: u32,
        offset: u64,
        records: u32,
        producer: Option<Producer>,
    ) -> u64 {
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
        payload.len() as u64
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

    pub fn checkpoint(&mut self) {
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

    pub fn stop(mut self) {
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
