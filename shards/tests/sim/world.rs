//! An engine, its log, and the plain model beside it; one random step at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash};

use corelane_shards::{Effect, Engine, EngineConfig, Room, SnapshotCursor};
use model::{ErrorCode, Lsn, PartitionHandle, Rejection, ShardId, StreamId};

use super::log::MemoryLog;
use super::plain::Plain;
use super::random::Random;
use super::reading::SimReader;

pub const SHARD: ShardId = ShardId(0);

/// A finished checkpoint.
#[derive(Clone)]
pub struct Checkpoint {
    pub start: Lsn,
    pub end: Lsn,
    pub bytes: Vec<u8>,
}

pub struct World {
    pub random: Random,
    pub engine: Engine,
    pub log: MemoryLog,
    /// The fold of the whole log.
    pub decided: Plain,
    /// The fold of its committed part.
    pub shown: Plain,
    pub now_ms: i64,
    /// The latest time the engine was told.
    pub clock_ms: i64,
    pub readers: BTreeMap<u64, SimReader>,
    pub reader_next: u64,
    /// Reads that wait for the disk.
    pub pending: Vec<Effect>,
    /// Log starts and removals that the host was told of.
    pub starts_told: BTreeMap<u32, u64>,
    pub removals_told: BTreeSet<u32>,
    /// Committed removals, and whether topics have changed since the host was told.
    pub removals_due: BTreeSet<u32>,
    pub topics_due: bool,
    /// Producer ids answered for good, and those whose entry is not committed.
    pub ids_issued: BTreeSet<i64>,
    pub ids_waiting: Vec<(i64, Lsn)>,
    pub checkpoint: Option<(Lsn, SnapshotCursor, Vec<u8>)>,
    pub checkpoints: Vec<Checkpoint>,
    pub transcript: DefaultHasher,
    pub effects: u64,
    pub delivered: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            engine: new_engine(),
            log: MemoryLog::new(),
            decided: Plain::fold(&[]),
            shown: Plain::fold(&[]),
            now_ms: 1_000_000,
            clock_ms: 0,
            readers: BTreeMap::new(),
            reader_next: 1,
            pending: Vec::new(),
            starts_told: BTreeMap::new(),
            removals_told: BTreeSet::new(),
            removals_due: BTreeSet::new(),
            topics_due: false,
            ids_issued: BTreeSet::new(),
            ids_waiting: Vec::new(),
            checkpoint: None,
            checkpoints: Vec::new(),
            transcript: DefaultHasher::new(),
            effects: 0,
            delivered: 0,
        }
    }

    /// One step: a request or an event, then what follows from it is checked.
    pub fn step(&mut self) {
        // The host's clock may stand still or go back.
        self.now_ms += self.random.below(20) as i64 - 3;
        self.tell_time();
        let rooms = [Room::Backlog, Room::DiskFull, Room::ReadOnly];
        let tight = self.random.percent(4);
        self.log.room = if tight { self.random.pick(&rooms).unwrap() } else { Room::Yes };
        match self.random.below(100) {
            0..=3 => self.create_partition(),
            4 => self.alter_partition(),
            5 => self.delete_partition(),
            6..=8 => self.create_topic(),
            9 => self.alter_topic(),
            10..=11 => self.delete_topic(),
            12..=13 => self.clear_tombstone(),
            14..=15 => self.allocate_producer_id(),
            16..=18 => self.commit_offset(),
            19..=44 => self.produce(),
            45..=52 => self.produce_run(),
            53..=54 => self.advance_log_start(),
            55 => self.expire_producers(),
            56..=59 => self.subscribe(),
            60..=66 => self.add_credit(),
            67 => self.unsubscribe(),
            68..=71 => self.fetch(),
            72..=75 => self.tick(),
            76..=87 => self.commit(),
            88..=89 => self.truncate(),
            90..=94 => self.checkpoint_slice(),
            95 => self.ask_everything(),
            96 if self.random.percent(40) => self.crash(),
            97 => self.compare_with_fresh_fold(),
            98 => self.skip_offsets(),
            _ => self.drain_some_effects(),
        }
        self.log.room = Room::Yes;
        assert_eq!(self.engine.last_lsn(), self.log.last());
        assert_eq!(self.engine.committed_lsn().0, self.shown.entries);
        if self.random.percent(60) {
            self.drain_effects();
        }
    }

    /// The plain model follows what the engine has appended since.
    pub fn follow(&mut self) {
        for at in self.decided.entries as usize..self.log.entries.len() {
            self.decided.apply(&self.log.entries[at].clone());
        }
    }

    pub fn note(&mut self, what: &impl Debug) {
        format!("{what:?}").hash(&mut self.transcript);
    }

    /// The refusal that a full log would give to an entry; `goes_on`: one that a full disk takes.
    pub fn no_room(&self, goes_on: bool) -> Option<ErrorCode> {
        match self.log.room {
            Room::Yes => None,
            Room::Backlog => Some(ErrorCode::Busy),
            Room::DiskFull if goes_on => None,
            Room::DiskFull => Some(ErrorCode::DiskFull),
            Room::ReadOnly => Some(ErrorCode::ShardReadOnly),
        }
    }

    /// Checks a refusal; true when there was one, which must have appended nothing.
    pub fn refused<T: Debug>(
        &mut self,
        got: &Result<T, Rejection>,
        expected: Option<ErrorCode>,
    ) -> bool {
        self.note(got);
        let code = got.as_ref().err().map(|rejection| rejection.code);
        assert_eq!(code, expected, "{got:?}");
        if code.is_some() {
            assert_eq!(self.log.last().0, self.decided.entries, "a refusal appends nothing");
        }
        code.is_some()
    }

    /// The handle of a partition that exists as decided, of one that is gone, or of none.
    pub fn some_handle(&mut self) -> PartitionHandle {
        let streams: Vec<u32> = self.decided.partitions.keys().copied().collect();
        let stream = self.random.pick(&streams).unwrap_or(1);
        let mut handle = self.handle(stream);
        match self.random.below(40) {
            0 => handle.topic.0 += 1,
            1 => handle.stream = StreamId(self.random.below(60) as u32),
            2 => handle.shard = ShardId(1),
            _ => {}
        }
        handle
    }

    pub fn handle(&self, stream: u32) -> PartitionHandle {
        let topic = self.decided.partitions.get(&stream).map(|p| p.topic).unwrap_or_default();
        PartitionHandle { topic, stream: StreamId(stream), shard: SHARD }
    }
}

pub fn new_engine() -> Engine {
    Engine::new(SHARD, EngineConfig { read_bytes_max: 600 })
}

/// The partition of a handle in a model, if the handle is right.
pub fn find(plain: &Plain, handle: PartitionHandle) -> Option<&super::plain::PlainPartition> {
    let partition = plain.partitions.get(&handle.stream.0)?;
    (partition.topic == handle.topic && handle.shard == SHARD).then_some(partition)
}
