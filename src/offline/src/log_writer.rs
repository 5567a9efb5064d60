//! One shard's new log: the log's own writer over plain files, waited for, with the engine's fold
//! beside it. Every entry is applied as replay will apply it, so that what a server would refuse
//! at its start is refused here.

use std::path::Path;
use std::time::Instant;

use model::{EntryHead, Lsn, ShardId, SpaceUse, StreamId};
use shards::{Engine, EngineConfig, ReplayError};
use wal::device::DeviceError;
use wal::{FileDevice, Fold, LogDevice, OpenError, Room, Wal, WalConfig};

/// Bytes appended between two looks at footers, manifests and new segments.
const TICK_EVERY_BYTES: u64 = 8 * 1024 * 1024;
/// Objects of the engine's state in one piece of the checkpoint.
const CHECKPOINT_SLICE_OBJECTS: usize = 256;

/// Why an entry could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("there is no space left for the new log; free some, or write to another disk")]
    Full,
    #[error("{0}; the new directory is not complete: remove it and start again")]
    Failed(String),
    #[error("opening the new log failed: {0}")]
    Open(#[from] OpenError),
    #[error("opening the new log's directory failed: {0}")]
    Directory(DeviceError),
    #[error("what was read does not make a log that a server would open: {0}")]
    Misfit(#[from] ReplayError),
}

/// A shard's log while it is written.
pub(crate) struct LogWriter {
    device: FileDevice,
    wal: Wal,
    engine: Engine,
    since_tick_bytes: u64,
    started: Instant,
}

impl LogWriter {
    pub fn create(path: &Path, block_bytes: usize, config: WalConfig) -> Result<Self, WriteError> {
        let device = FileDevice::open(path).map_err(WriteError::Directory)?;
        let mut device = device.with_block_bytes(block_bytes);
        let mut engine = Engine::new(ShardId(config.shard), EngineConfig::default());
        Wal::create(&mut device, &config)?;
        let (wal, _) = Wal::open(&mut device, config, &mut EngineFold(&mut engine))?;
        Ok(Self { device, wal, engine, since_tick_bytes: 0, started: Instant::now() })
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn wal(&mut self) -> &mut Wal {
        &mut self.wal
    }

    /// Adds an entry. It is in memory when this returns.
    pub fn append(&mut self, head: &EntryHead, payload: &[u8]) -> Result<(), WriteError> {
        self.make_room(payload.len())?;
        let lsn = self.engine.last_lsn().next();
        self.engine.apply(lsn, head, payload)?;
        let written = self.wal.append(head, &[payload]);
        assert_eq!(written, lsn, "the log and the fold number entries alike");
        self.since_tick_bytes += payload.len() as u64;
        Ok(())
    }

    /// Makes all that was added durable, with a checkpoint, and closes the log.
    pub fn finish(mut self) -> Result<Lsn, WriteError> {
        let last = self.wal.appended_lsn();
        self.wal.commit(&mut self.device);
        self.drive(|wal| wal.durable_lsn() == last)?;
        self.write_checkpoint()?;
        self.wal.shutdown(&mut self.device);
        self.drive(Wal::is_shut_down)?;
        Ok(last)
    }

    fn write_checkpoint(&mut self) -> Result<(), WriteError> {
        self.wal.checkpoint_begin(&mut self.device);
        let mut cursor = self.engine.snapshot();
        let mut piece = Vec::new();
        loop {
            self.drive(Wal::checkpoint_room)?;
            piece.clear();
            let more =
                self.engine.snapshot_slice(&mut cursor, CHECKPOINT_SLICE_OBJECTS, &mut piece);
            self.wal.checkpoint_push(&mut self.device, &piece);
            if !more {
                break;
            }
        }
        self.wal.checkpoint_finish(&mut self.device);
        self.drive(|wal| !wal.checkpoint_under_way())?;
        // The manifest that names it, and the footers that are still due.
        self.tick();
        self.drive(|wal| wal.actions_under_way() == 0)
    }

    fn make_room(&mut self, payload_bytes: usize) -> Result<(), WriteError> {
        if self.since_tick_bytes >= TICK_EVERY_BYTES {
            self.tick();
        }
        let wants = |wal: &Wal| wal.room(payload_bytes, SpaceUse::Grows) != Room::Backlog;
        if !wants(&self.wal) {
            self.wal.commit(&mut self.device);
            self.drive(wants)?;
        }
        match self.wal.room(payload_bytes, SpaceUse::Grows) {
            Room::Yes | Room::Backlog => Ok(()),
            Room::DiskFull => Err(WriteError::Full),
            Room::Failed => Err(self.failure()),
        }
    }

    fn tick(&mut self) {
        self.since_tick_bytes = 0;
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.wal.tick(&mut self.device, now_ns);
    }

    /// Takes ends of actions in until `done`. What has come to a stand is looked at once more by
    /// a tick, and has failed if nothing comes of that.
    fn drive(&mut self, done: impl Fn(&Wal) -> bool) -> Result<(), WriteError> {
        let mut ticked = false;
        while !done(&self.wal) {
            if self.wal.failure().is_some() {
                return Err(self.failure());
            }
            if self.wal.actions_under_way() > 0 {
                ticked = false;
                let ended = self.device.wait();
                self.wal.complete(&mut self.device, ended);
            } else if !ticked {
                ticked = true;
                self.tick();
            } else if self.wal.stats().disk_full {
                return Err(WriteError::Full);
            } else {
                return Err(WriteError::Failed("the new log has come to a stand".to_owned()));
            }
        }
        Ok(())
    }

    fn failure(&self) -> WriteError {
        let failure = self.wal.failure();
        WriteError::Failed(failure.map_or_else(String::new, ToString::to_string))
    }
}

/// Replays a log into an engine.
pub(crate) struct EngineFold<'a>(pub &'a mut Engine);

impl Fold for EngineFold<'_> {
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
