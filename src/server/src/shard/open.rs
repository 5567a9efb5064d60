//! Opening a shard: its log is replayed into a new engine. Blocking; done before anything is served.

use std::path::Path;
use std::sync::Arc;

use model::{EntryHead, Lsn, ShardId, StreamId};
use ring::{Completion as RingCompletion, Ring};
use shards::{Engine, EngineConfig, ReplayError};
use wal::{Fold, Wal, WalConfig};

use super::{DiskState, RingDevice, ShardHost};
use super::{pace::Pace, pending::Pending, reader_table::Readers, retention::Retention};
use crate::budgets::waiting_bytes_max;
use crate::message::{PartitionSpec, ReportedPartition};
use crate::write_budget::WriteBudget;

/// What is needed to open one shard.
#[derive(Debug)]
pub struct OpenShard<'a> {
    pub id: ShardId,
    /// Which of this core's shards it is.
    pub slot: u8,
    pub path: &'a Path,
    pub block_bytes: usize,
    pub access: wal::device::Access,
    /// The data lies in memory: what is acknowledged says so.
    pub volatile: bool,
    pub wal: WalConfig,
    pub retention_check_ms: u64,
    /// Of the device that the shard's files lie on, where there is one.
    pub write_budget: Option<Arc<WriteBudget>>,
    /// The data directory is new: the shard has no log yet.
    pub create: bool,
}

/// Why a shard cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenShardError {
    #[error(
        "the directory {path} is missing; put it back (is its disk mounted?) or restore it from a \
         backup"
    )]
    Missing { path: String },
    #[error(
        "the directory {path} cannot be opened ({error}); it must be the server's user's: see its \
         owner and permissions"
    )]
    Directory { path: String, error: std::io::Error },
    #[error(transparent)]
    Log(#[from] wal::OpenError),
}

/// Opens the shard's log and brings its engine up to the last durable entry.
///
/// `others` receives ends of other shards' operations that came in meanwhile.
pub fn open_shard(
    ring: &mut Ring,
    order: OpenShard<'_>,
    others: &mut Vec<RingCompletion>,
) -> Result<ShardHost, OpenShardError> {
    let directory = |error: std::io::Error| {
        let path = order.path.display().to_string();
        match error.kind() {
            std::io::ErrorKind::NotFound => OpenShardError::Missing { path },
            _ => OpenShardError::Directory { path, error },
        }
    };
    let waiting_bytes_max = waiting_bytes_max(order.wal.backlog_bytes);
    let mut disk = DiskState::open(order.slot, order.path, order.block_bytes, order.access)
        .map_err(directory)?;
    let mut engine = Engine::new(order.id, EngineConfig::default());
    let mut device = RingDevice { ring, disk: &mut disk, others };
    if order.create {
        Wal::create(&mut device, &order.wal)?;
    }
    let mut fold = EngineFold { engine: &mut engine };
    let (mut wal, recovered) = Wal::open(&mut device, order.wal, &mut fold)?;
    tracing::info!(
        shard = %order.id,
        last_lsn = %recovered.last_lsn,
        entries_replayed = recovered.entries_replayed,
        log_bytes = recovered.log_bytes,
        older_checkpoint_used = recovered.older_checkpoint_used,
        "shard opened"
    );
    let durable = wal.durable_lsn();
    engine.commit(durable);
    let pace = order.write_budget.map(|budget| {
        wal.ask_before_blocks();
        Pace::new(budget, disk.writes())
    });
    Ok(ShardHost {
        id: order.id,
        wal,
        engine,
        disk,
        pace,
        volatile: order.volatile,
        pending: Pending::default(),
        taken: Pending::default(),
        run_offsets: Vec::new(),
        readers: Readers::default(),
        checkpoint: None,
        retention: Retention::new(order.retention_check_ms),
        waiting: std::collections::VecDeque::new(),
        waiting_bytes: 0,
        waiting_bytes_max,
        stalled: Vec::new(),
        times: super::times::AppendTimes::default(),
        linger: super::linger::Linger::default(),
        undurable: None,
        failed: None,
        notice: None,
        deciding: false,
        shutting_down: false,
        pin: None,
        final_checkpoint: false,
    })
}

impl ShardHost {
    /// The partitions this shard holds, for the one who keeps the topics.
    pub fn report(&self) -> Vec<ReportedPartition> {
        self.engine
            .partitions()
            .map(|partition| ReportedPartition {
                stream: partition.stream,
                index: partition.index,
                spec: PartitionSpec {
                    topic: partition.topic,
                    name: partition.name.clone(),
                    config: partition.config.clone(),
                    config_version: partition.config_version,
                },
            })
            .collect()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine and its journal, for topic changes on shard 0.
    pub(crate) fn decide<R>(
        &mut self,
        call: impl FnOnce(&mut Engine, &mut super::LogJournal<'_>) -> R,
    ) -> R {
        self.deciding = true;
        let decided = call(&mut self.engine, &mut super::LogJournal(&mut self.wal));
        self.deciding = false;
        decided
    }

    /// Whether a decision was begun and has not come to its end: it has panicked.
    pub(crate) fn is_deciding(&self) -> bool {
        self.deciding
    }

    /// `answer` is sent once `lsn` is durable.
    pub(crate) fn answer_when_durable(
        &mut self,
        lsn: Lsn,
        to: crate::message::ReplyTo,
        answer: crate::message::ShardAnswer,
    ) {
        let waiting = super::pending::Waiting::Answer { to, answer: Box::new(answer) };
        self.deciding = true;
        self.pending.push(lsn, u64::MAX, waiting);
        self.deciding = false;
    }
}

/// Replays the log into the engine.
struct EngineFold<'a> {
    engine: &'a mut Engine,
}

impl Fold for EngineFold<'_> {
    type Error = ReplayError;

    fn load(&mut self, piece: &[u8]) -> Result<(), ReplayError> {
        self.engine.load(piece)
    }

    fn loaded(&mut self, start: Lsn, end: Lsn) -> Result<(), ReplayError> {
        self.engine.loaded(start, end)
    }

    fn apply(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), ReplayError> {
        self.engine.apply(lsn, head, payload)
    }

    fn log_start(&self, stream: StreamId) -> Option<u64> {
        self.engine.log_start(stream)
    }

    fn label(&self, stream: StreamId) -> Option<Vec<u8>> {
        self.engine.label(stream)
    }
}
