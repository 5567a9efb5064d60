//! The second reading: good batches go from the old logs into the new ones.

use std::collections::BTreeMap;
use std::path::Path;

use model::{Offset, StreamId};

use super::RepairError;
use super::plan::{Plan, PlannedShard};
use crate::read::Source;
use crate::rewrite::{NewBatch, RewriteOptions, Rewriter, ShardWriter, Written};

impl Plan {
    /// Writes the new directory. `progress` is told the bytes of records written so far.
    pub fn write(
        &self,
        source: &Source,
        to: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<Written, RepairError> {
        if is_inside(to, source.path()) {
            return Err(RepairError::Inside { path: to.to_owned() });
        }
        let mut options = RewriteOptions::default();
        if let Some(bytes) = self.segment_bytes {
            options.segment_bytes = bytes.max(wal::config::SEGMENT_BYTES_MIN);
        }
        let mut new = Rewriter::create(to, source.shards(), options)?;
        let mut done_bytes = 0;
        for planned in &self.shards {
            let shard = new.shard(planned.shard)?;
            if planned.shard.0 == 0 {
                shard.numbers_used(self.topic_next, self.producer_next)?;
                for topic in &self.topics {
                    shard.topic(topic, false)?;
                }
                for topic in &self.tombstones {
                    shard.topic(topic, true)?;
                }
            }
            write_shard(source, planned, shard, &mut done_bytes, &mut progress)?;
        }
        source.check_untaken()?;
        Ok(new.finish()?)
    }
}

fn is_inside(place: &Path, directory: &Path) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    let Ok(place) = std::path::absolute(place) else { return false };
    // The place need not exist: the nearest folder above it that does decides.
    let there = place.ancestors().find_map(|above| above.canonicalize().ok());
    there.is_some_and(|there| there.starts_with(directory))
}

fn write_shard(
    source: &Source,
    planned: &PlannedShard,
    shard: &mut ShardWriter,
    done_bytes: &mut u64,
    progress: &mut impl FnMut(u64),
) -> Result<(), RepairError> {
    let mut firsts: BTreeMap<StreamId, Offset> = BTreeMap::new();
    for partition in &planned.partitions {
        shard.partition(partition.stream, &partition.new)?;
        if !partition.made {
            firsts.insert(partition.stream, partition.new.first_offset);
        }
    }
    shard.streams_used(planned.stream_next)?;
    if let Some(mut log) = source.shard(planned.shard)? {
        log.each_entry(|_, head, payload| -> Result<(), RepairError> {
            let Some(first) = firsts.get(&head.stream).filter(|_| head.is_batch()) else {
                return Ok(());
            };
            // What retention removed may still lie in a segment that holds other things.
            if head.base_offset < (*first).max(shard.next_offset(head.stream)?) {
                return Ok(());
            }
            let batch = NewBatch {
                base_offset: head.base_offset,
                records: head.records,
                time_ms: head.time_ms,
                payload,
            };
            shard.batch(head.stream, &batch)?;
            *done_bytes += payload.len() as u64;
            progress(*done_bytes);
            Ok(())
        })?;
    }
    for partition in &planned.partitions {
        shard.end_partition(partition.stream, &partition.end)?;
    }
    Ok(())
}
