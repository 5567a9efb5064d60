//! The same topics on another number of shards, in a new data directory.
//!
//! Partitions go where a server with so many shards would have placed them. Batches are taken as
//! they lie, in the order of each old log; topic ids, offsets, append times, committed offsets and
//! what is known of producers stay. At the end the new directory is audited, folded as a server
//! would, and every partition is compared with what it was.

mod compare;
mod plan;

use std::path::{Path, PathBuf};

use model::{PartitionIndex, ShardId, StreamId, TopicName};
use wal::FileDevice;
use wal::directory::{self, DataDirectory, DirectoryError};
use wal::verify::verify_log;

use crate::backup::{BackupError, Progress, Watch};
pub use crate::opened::FoldError;
use crate::opened::OpenedShard;
use crate::rewrite::{
    NewBatch, NewPartition, PartitionEnd, RewriteError, RewriteOptions, Rewriter,
};
use compare::Tally;
use plan::Plan;

/// Why a directory could not be resharded.
#[derive(Debug, thiserror::Error)]
pub enum ReshardError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("{} is still being made; start its server once", path.display())]
    Unfinished { path: PathBuf },
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    Read(#[from] BackupError),
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    #[error("topic {topic} cannot be placed: {reason}")]
    Placement { topic: TopicName, reason: String },
    #[error(
        "shard {shard} holds partition {partition} of a topic {topic} that shard 0 does not know; \
         start the server once, so that it completes or deletes it, or use `corelane repair`"
    )]
    Orphan { shard: ShardId, topic: TopicName, partition: PartitionIndex },
    #[error(
        "{} is not what it should be ({finding}); it is no data directory to be used: remove it and \
         report this",
        path.display()
    )]
    Differs { path: PathBuf, finding: String },
}

/// What became of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPartition {
    pub topic: TopicName,
    pub index: PartitionIndex,
    pub from: ShardId,
    pub to: ShardId,
    pub first_offset: u64,
    pub next_offset: u64,
    pub consumers: usize,
    /// The same before and after.
    pub records: u64,
    /// CRC32C of all batches with their offsets and times, the same before and after.
    pub checksum: u32,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Resharded {
    pub shards_before: u16,
    pub shards: u16,
    pub topics: usize,
    pub records: u64,
    pub payload_bytes: u64,
    /// In order of the topics' names.
    pub partitions: Vec<MovedPartition>,
}

/// Writes what `from` holds to the new directory `to`, on `shards` shards. `from` is not changed.
///
/// # Errors
/// See [`ReshardError`]. Until the last comparison is done `to` is no data directory.
pub fn reshard(
    from: &Path,
    shards: u16,
    to: &Path,
    watch: &mut dyn Watch,
) -> Result<Resharded, ReshardError> {
    let directory = directory::open_read_only(from)?;
    if !directory.is_finished() {
        return Err(ReshardError::Unfinished { path: from.to_owned() });
    }
    let sources = open_all(&directory)?;
    let mut plan = Plan::new(&sources, shards)?;
    let segment_bytes = sources.iter().map(OpenedShard::segment_bytes_max).max().unwrap_or(0);
    let mut options = RewriteOptions::default();
    if segment_bytes > 0 {
        options.segment_bytes = segment_bytes;
    }
    let mut new = Rewriter::create(to, shards, options)?;
    let first = new.shard(ShardId(0))?;
    first.numbers_used(plan.topic_next, plan.producer_id_next)?;
    for topic in &plan.topics {
        first.topic(topic, false)?;
    }
    // Read once to be written, and once more to be compared.
    let total = sources.iter().map(OpenedShard::bytes).sum::<u64>() * 2;
    let mut progress = Progress { bytes: 0, bytes_total: total };
    for source in &sources {
        write_shard(source, &mut plan, &mut new, &mut |bytes| {
            went_on(&mut progress, bytes, watch)
        })?;
    }
    end_partitions(&mut plan, &mut new)?;
    let (mut made, written) = new.close()?;
    compare_all(&made, &plan, &mut |bytes| went_on(&mut progress, bytes, watch))?;
    made.finish()?;
    Ok(Resharded {
        shards_before: directory.shards(),
        shards,
        topics: plan.topics.len(),
        records: written.records,
        payload_bytes: written.payload_bytes,
        partitions: plan.moved(),
    })
}

fn went_on(progress: &mut Progress, bytes: u64, watch: &mut dyn Watch) -> Result<(), BackupError> {
    progress.bytes = (progress.bytes + bytes).min(progress.bytes_total);
    watch.went_on(progress).map_err(|reason| BackupError::Stopped { reason })
}

fn open_all(directory: &DataDirectory) -> Result<Vec<OpenedShard>, FoldError> {
    (0..directory.shards()).map(|shard| OpenedShard::open(directory, shard)).collect()
}

/// Copies the batches that are still kept.
fn write_shard(
    source: &OpenedShard,
    plan: &mut Plan,
    new: &mut Rewriter,
    went_on: &mut dyn FnMut(u64) -> Result<(), BackupError>,
) -> Result<(), ReshardError> {
    source.batches(went_on, |head, payload| {
        let Some(planned) = plan.get_mut(source.shard, head.stream) else { return Ok(()) };
        if head.last_offset() < planned.carried.record.first_offset {
            return Ok(());
        }
        let stream = begin(planned, head.base_offset, new)?;
        let batch = NewBatch {
            base_offset: head.base_offset,
            records: head.records,
            time_ms: head.time_ms,
            payload,
        };
        new.shard(planned.to)?.batch(stream, &batch)?;
        planned.tally.add(head, payload);
        Ok(())
    })
}

/// The partition's stream in the new directory, which is made when it is first wanted.
fn begin(
    planned: &mut plan::Planned,
    base_offset: u64,
    new: &mut Rewriter,
) -> Result<StreamId, ReshardError> {
    if let Some(stream) = planned.stream {
        return Ok(stream);
    }
    let record = &planned.carried.record;
    let partition = NewPartition {
        topic: record.topic,
        name: record.name.clone(),
        index: record.index,
        config: record.config.clone(),
        config_version: record.config_version,
        // A batch that begins before is kept whole.
        first_offset: record.first_offset.min(base_offset),
    };
    let writer = new.shard(planned.to)?;
    let stream = writer.next_stream();
    writer.partition(stream, &partition)?;
    planned.stream = Some(stream);
    Ok(stream)
}

fn end_partitions(plan: &mut Plan, new: &mut Rewriter) -> Result<(), ReshardError> {
    for planned in plan.partitions.values_mut() {
        let stream = begin(planned, u64::MAX, new)?;
        let carried = &planned.carried;
        let end = PartitionEnd {
            next_offset: carried.record.next_offset,
            consumers: carried.consumers.clone(),
            producers: carried.producers.clone(),
        };
        new.shard(planned.to)?.end_partition(stream, &end)?;
    }
    Ok(())
}

/// Audits the new logs and compares every partition with what it was.
fn compare_all(
    made: &DataDirectory,
    plan: &Plan,
    went_on: &mut dyn FnMut(u64) -> Result<(), BackupError>,
) -> Result<(), ReshardError> {
    let differs = |finding| ReshardError::Differs { path: made.path().to_owned(), finding };
    for shard in 0..made.shards() {
        let opened = FileDevice::open(&made.shard_path(shard));
        let report = opened.and_then(|device| {
            verify_log(&mut device.with_block_bytes(made.block_bytes()), &made.secret())
        });
        let report = report.map_err(|error| differs(error.to_string()))?;
        if let Some(damage) = report.damage.first() {
            return Err(differs(format!("shard {shard}: {damage}")));
        }
    }
    let sources = open_all(made)?;
    let mut tallies = std::collections::BTreeMap::<(ShardId, StreamId), Tally>::new();
    for source in &sources {
        source.batches::<FoldError>(went_on, |head, payload| {
            tallies.entry((source.shard, head.stream)).or_default().add(head, payload);
            Ok(())
        })?;
    }
    for planned in plan.partitions.values() {
        let found = planned.stream.and_then(|stream| {
            let source = sources.get(usize::from(planned.to.0))?;
            let tally = tallies.get(&(planned.to, stream)).copied().unwrap_or_default();
            Some((source.engine.carry(stream)?, tally))
        });
        if let Some(finding) = compare::difference(planned, found.as_ref()) {
            return Err(differs(finding));
        }
    }
    Ok(())
}
