//! A shard's state, folded from whatever is left of its log.
//!
//! The newest good checkpoint, then the entries behind it, as at a server's start. Where entries
//! are gone the fold goes on: offsets leap, partitions whose creation is gone get their names from
//! the labels in footers. What was taken for true this way is kept apart from what the log says.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    EntryHead, Lsn, Offset, PartitionIndex, ShardId, StreamId, TopicConfig, TopicId, TopicName,
};
use shards::entry::{Change, SkipCause, kind};
use shards::{CarriedPartition, Engine, EngineConfig, ReplayError};
use wal::device::DeviceError;

use crate::ranges::{Range, Ranges};
use crate::read::{Gap, Lost, ReadError, ShardSource, Visit};

/// Entries that do not fit are named one by one up to this many.
const MISFITS_MAX: usize = 100;
/// The least that a batch takes in a log: its header and its record in the table, bytes.
const BATCH_BYTES_MIN: u64 = 101;
/// The most records that a batch can claim to have.
const BATCH_RECORDS_MAX: u64 = i32::MAX as u64;
/// How far a partition is moved, at the least, when nothing bounds what it had.
pub const UNKNOWN_LEAP: u64 = 1 << 50;

/// What one shard's log still says.
pub struct ShardState {
    pub shard: ShardId,
    pub engine: Engine,
    /// In the order in which they were found; those of the frame first.
    pub gaps: Vec<Gap>,
    /// The files that should hold the log are not there at all.
    pub missing: bool,
    /// Entries that do not fit what is known, in a sentence each.
    pub misfits: Vec<String>,
    /// Streams with batches whose names no one knows, and how many records they have.
    pub nameless: BTreeMap<StreamId, u64>,
    /// Length of the segments' files, bytes.
    pub segment_bytes: Option<u64>,
    pub entries: u64,
    kept: BTreeMap<StreamId, Kept>,
    /// Offsets that the log itself says were skipped.
    skipped: BTreeMap<StreamId, Ranges>,
    /// Partitions that are not created by any entry left.
    guessed: BTreeSet<StreamId>,
    labels: BTreeMap<StreamId, Vec<u8>>,
    /// The state is known up to this entry without the log.
    start: Lsn,
    /// Every entry up to this one is known, was read, or is in a gap.
    told: Lsn,
}

/// Good batches of a stream.
#[derive(Default)]
struct Kept {
    ranges: Ranges,
    last_lsn: Lsn,
}

/// What is known of a partition, and what is lost of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    pub carried: CarriedPartition,
    /// The topic's number and settings are not known.
    pub guessed: bool,
    /// Records that are there.
    pub kept_records: u64,
    /// Offsets that had records and have none, in rising order.
    pub lost: Vec<Range>,
    /// How far beyond `next_offset` there may have been records of which nothing is left.
    pub leap: u64,
}

impl ShardState {
    /// Of a shard of which nothing is left.
    pub fn nothing(shard: ShardId) -> Self {
        Self {
            shard,
            engine: Engine::new(shard, EngineConfig::default()),
            gaps: Vec::new(),
            missing: true,
            misfits: Vec::new(),
            nameless: BTreeMap::new(),
            segment_bytes: None,
            entries: 0,
            kept: BTreeMap::new(),
            skipped: BTreeMap::new(),
            guessed: BTreeSet::new(),
            labels: BTreeMap::new(),
            start: Lsn::ZERO,
            told: Lsn::ZERO,
        }
    }

    /// Reads the whole log once.
    pub fn read(shard: ShardId, source: &mut ShardSource) -> Result<Self, ReadError> {
        let mut state = Self::nothing(shard);
        let path = source.path().to_owned();
        let failed = |error| ReadError::Device { path: path.clone(), error };
        let mut salvage = source.salvage()?;
        state.missing = salvage.is_empty();
        state.gaps = salvage.frame_gaps().to_vec();
        state.labels = salvage.labels().clone();
        state.segment_bytes = salvage.segment_bytes();
        for record in salvage.checkpoints().to_vec() {
            let mut engine = Engine::new(shard, EngineConfig::default());
            let loaded = salvage
                .checkpoint_pieces(&record, |piece| {
                    engine.load(piece).map_err(|error| LoadError::Misfit(error.to_string()))
                })
                .map(|whole| match whole {
                    true => engine.loaded(Lsn(record.start), Lsn(record.end)),
                    false => Err(shards::DecodeError::Short.into()),
                });
            match loaded {
                Ok(Ok(())) => {
                    state.engine = engine;
                    state.start = Lsn(record.start);
                    state.told = state.start;
                    break;
                }
                Ok(Err(error)) => state.misfit(format!("a checkpoint: {error}")),
                Err(LoadError::Misfit(what)) => state.misfit(format!("a checkpoint: {what}")),
                Err(LoadError::Device(error)) => return Err(failed(error)),
            }
        }
        state.take_skips_of_checkpoint();
        let last = salvage.walk(&mut state).map_err(failed)?;
        state.tell_missing_before(last.next());
        Ok(state)
    }

    /// Whether every byte is there and everything fits.
    pub fn is_good(&self) -> bool {
        !self.missing && self.gaps.is_empty() && self.misfits.is_empty()
    }

    /// Whether changes of the state (not only records) may be lost.
    pub fn state_is_lost(&self) -> bool {
        self.missing || !self.misfits.is_empty() || self.gaps.iter().any(|gap| self.is_state(gap))
    }

    fn is_state(&self, gap: &Gap) -> bool {
        match gap.lost {
            Lost::Nothing => false,
            Lost::Payload { lsn, head } => lsn > self.start && head.kind != kind::BATCH,
            Lost::Entries { last, .. } => last > self.start,
            Lost::End { .. } => true,
        }
    }

    /// The partitions, in the order of their streams.
    pub fn partitions(&self) -> Vec<PartitionView> {
        let records = self.engine.partitions();
        let carried = records.filter_map(|record| self.engine.carry(record.stream));
        carried.map(|carried| self.view(carried)).collect()
    }

    fn view(&self, carried: CarriedPartition) -> PartitionView {
        let stream = carried.record.stream;
        let mut there = self.kept.get(&stream).map(|k| k.ranges.clone()).unwrap_or_default();
        let (first, next) = (carried.record.first_offset, carried.record.next_offset);
        let without: u64 = there.missing_in(first, next).iter().map(|(from, to)| to - from).sum();
        let kept_records = next - first - without;
        let skipped = self.skipped.get(&stream).cloned().unwrap_or_default();
        skipped.iter().for_each(|(from, to)| there.add(from, to));
        let lost = there.missing_in(first, next);
        let leap = self.leap_of(stream);
        let guessed = self.guessed.contains(&stream);
        PartitionView { carried, guessed, kept_records, lost, leap }
    }

    /// How many records of a stream there may have been of which nothing is left: those in lost
    /// entries that no later batch of the stream bounds.
    fn leap_of(&self, stream: StreamId) -> u64 {
        let last_lsn = self.kept.get(&stream).map_or(Lsn::ZERO, |kept| kept.last_lsn);
        let mut batches = 0u64;
        for gap in &self.gaps {
            match gap.lost {
                Lost::Entries { first, last } if last > last_lsn.max(self.start) => {
                    let first = first.max(self.start.next());
                    batches = batches.saturating_add(last.0 - first.0 + 1);
                }
                Lost::End { .. } if gap.to <= gap.from => return UNKNOWN_LEAP,
                Lost::End { .. } => {
                    batches = batches.saturating_add((gap.to - gap.from) / BATCH_BYTES_MIN + 1);
                }
                _ => {}
            }
        }
        batches.saturating_mul(BATCH_RECORDS_MAX).min(UNKNOWN_LEAP)
    }

    fn misfit(&mut self, what: String) {
        if self.misfits.len() < MISFITS_MAX {
            self.misfits.push(what);
        }
    }

    fn take_skips_of_checkpoint(&mut self) {
        for record in self.engine.partitions() {
            let carried = self.engine.carry(record.stream);
            for (from, to) in carried.into_iter().flat_map(|carried| carried.holes) {
                self.skipped.entry(record.stream).or_default().add(from, to);
            }
        }
    }

    /// Entries that nothing stands for: recycled ones whose checkpoints are bad, or those of a file
    /// that is not there and that nothing names.
    fn tell_missing_before(&mut self, lsn: Lsn) {
        if lsn > self.told.next() {
            self.gaps.push(Gap {
                file: "the log".to_owned(),
                from: 0,
                to: 0,
                what: "a part is not there, and no good checkpoint stands for it".to_owned(),
                lost: Lost::Entries { first: self.told.next(), last: Lsn(lsn.0 - 1) },
            });
        }
        self.told = self.told.max(Lsn(lsn.0.saturating_sub(1)));
    }

    fn fold(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) {
        if lsn <= self.engine.last_lsn() {
            return;
        }
        self.engine.entries_lost(Lsn(lsn.0 - 1));
        let Err(error) = self.engine.apply(lsn, head, payload) else { return };
        let mended = match error {
            ReplayError::Offset { expected, .. } if head.is_batch() => {
                self.skip(head.stream, expected, head.base_offset)
            }
            ReplayError::UnknownStream { .. } if head.is_batch() => self.guess(head),
            ReplayError::Offset { .. } if self.advance_around_losses(head, payload) => {
                return self.engine.entries_lost(lsn);
            }
            _ => false,
        };
        if !mended || self.engine.apply(lsn, head, payload).is_err() {
            if head.is_batch() && self.engine.next_offset(head.stream).is_none() {
                *self.nameless.entry(head.stream).or_default() += u64::from(head.records);
            } else {
                self.misfit(error.to_string());
            }
            self.engine.entries_lost(lsn);
        }
    }

    /// A log start that counts batches which are lost: their bytes and perhaps their offsets are not
    /// in the partition. It holds all the same.
    fn advance_around_losses(&mut self, head: &EntryHead, payload: &[u8]) -> bool {
        let Ok(Some(Change::LogStartAdvanced { offset, bytes })) =
            Change::decode(head.kind, payload)
        else {
            return false;
        };
        let Some(next) = self.engine.next_offset(head.stream) else { return false };
        if self.engine.log_start(head.stream).is_some_and(|start| offset <= start) {
            return true;
        }
        if self.gaps.iter().all(|gap| gap.lost == Lost::Nothing) {
            return false;
        }
        self.skip(head.stream, next, offset);
        // How many of the bytes are left in the partition only the engine knows; none is the least
        // that always fits, and no more than that is asked of a fold that serves no one.
        [bytes, 0].into_iter().any(|bytes| {
            self.engine.amend(head.stream, &Change::LogStartAdvanced { offset, bytes }).is_ok()
        })
    }

    fn skip(&mut self, stream: StreamId, from: Offset, to: Offset) -> bool {
        let change = Change::OffsetsSkipped { from, to, cause: SkipCause::Lost };
        from < to && self.engine.amend(stream, &change).is_ok()
    }

    /// A partition whose creation is gone: what its label says.
    fn guess(&mut self, head: &EntryHead) -> bool {
        let label = self.labels.get(&head.stream).and_then(|label| parse_label(label));
        let Some((name, index)) = label else { return false };
        let created = Change::PartitionCreated {
            topic: TopicId(0),
            name,
            index,
            config: TopicConfig::default(),
            config_version: 1,
        };
        if self.engine.amend(head.stream, &created).is_err() {
            return false;
        }
        self.guessed.insert(head.stream);
        let first = self.kept.get(&head.stream).and_then(|kept| kept.ranges.first());
        let first = first.unwrap_or(head.base_offset);
        self.skip(head.stream, 0, head.base_offset);
        let started = Change::LogStartAdvanced { offset: first, bytes: 0 };
        first == 0 || self.engine.amend(head.stream, &started).is_ok()
    }
}

impl Visit for ShardState {
    type Error = DeviceError;

    fn entry(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), DeviceError> {
        self.entries += 1;
        self.tell_missing_before(lsn);
        self.told = self.told.max(lsn);
        if head.is_batch() {
            let kept = self.kept.entry(head.stream).or_default();
            kept.ranges.add(head.base_offset, head.next_offset());
            kept.last_lsn = lsn;
        } else if head.leaps()
            && let Ok(Some(Change::OffsetsSkipped { from, to, .. })) =
                Change::decode(head.kind, payload)
        {
            self.skipped.entry(head.stream).or_default().add(from, to);
        }
        if lsn > self.start {
            self.fold(lsn, head, payload);
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), DeviceError> {
        let (first, last) = match gap.lost {
            Lost::Nothing => (Lsn::ZERO, Lsn::ZERO),
            Lost::Payload { lsn, .. } => (lsn, lsn),
            Lost::Entries { first, last } => (first, last),
            Lost::End { first, promised } => (first, promised),
        };
        self.tell_missing_before(first);
        self.told = self.told.max(last);
        let alone = self.gaps.iter().all(|gap| gap.lost == Lost::Nothing);
        self.gaps.push(gap.clone());
        if let Lost::Payload { lsn, head } = gap.lost
            && (head.is_batch() || head.leaps())
            && lsn > self.start
            && let Some(next) = self.engine.next_offset(head.stream)
        {
            let skipped = self.skip(head.stream, next, head.next_offset());
            if skipped && alone && head.leaps() {
                // The offsets of a leap had no records, as long as nothing before it is lost.
                let known = self.skipped.entry(head.stream).or_default();
                known.add(next, head.next_offset());
            }
        }
        Ok(())
    }
}

/// Why a checkpoint was not loaded.
enum LoadError {
    Device(DeviceError),
    Misfit(String),
}

impl From<DeviceError> for LoadError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// `name/partition`.
fn parse_label(label: &[u8]) -> Option<(TopicName, PartitionIndex)> {
    let (name, index) = std::str::from_utf8(label).ok()?.rsplit_once('/')?;
    Some((TopicName::parse(name).ok()?, PartitionIndex(index.parse().ok()?)))
}
