//! Every good batch of a directory, with the name of what it belongs to.

use std::collections::BTreeMap;

use model::{Offset, PartitionIndex, ShardId, StreamId, TopicName};
use wal::device::DeviceError;

use crate::read::{Lost, ReadError, Source};
use crate::state::ShardState;

/// Which batches.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub topic: Option<TopicName>,
    pub partition: Option<PartitionIndex>,
    /// Batches that end before it are passed over.
    pub from_offset: Offset,
}

/// One batch.
#[derive(Clone, Copy, Debug)]
pub struct FoundBatch<'a> {
    pub topic: &'a TopicName,
    pub partition: PartitionIndex,
    /// A RecordBatch v2.
    pub payload: &'a [u8],
}

struct Place {
    topic: TopicName,
    partition: PartitionIndex,
    first_offset: Offset,
}

/// Gives every wanted batch to `each`, the shards one after another, each in the order of its log;
/// and a sentence about each thing that is damaged or missing to `problem`.
pub fn export<E>(
    source: &Source,
    wanted: &Wanted,
    mut each: impl FnMut(FoundBatch<'_>) -> Result<(), E>,
    mut problem: impl FnMut(String),
) -> Result<(), E>
where
    E: From<DeviceError> + From<ReadError>,
{
    if let Some(note) = source.note() {
        problem(note.to_owned());
    }
    for shard in (0..source.shards()).map(ShardId) {
        let Some(mut log) = source.shard(shard)? else {
            problem(format!("shard {shard}: its directory is missing"));
            continue;
        };
        let state = ShardState::read(shard, &mut log)?;
        tell_problems(&state, wanted, &mut problem);
        let places = places(&state, wanted);
        log.each_entry(|_, head, payload| -> Result<(), E> {
            let Some(place) = places.get(&head.stream).filter(|_| head.is_batch()) else {
                return Ok(());
            };
            let gone = head.last_offset() < place.first_offset.max(wanted.from_offset);
            if gone {
                return Ok(());
            }
            each(FoundBatch { topic: &place.topic, partition: place.partition, payload })
        })?;
    }
    Ok(source.check_untaken()?)
}

fn places(state: &ShardState, wanted: &Wanted) -> BTreeMap<StreamId, Place> {
    let all = state.engine.partitions();
    let asked = all.filter(|record| {
        wanted.topic.as_ref().is_none_or(|topic| *topic == record.name)
            && wanted.partition.is_none_or(|partition| partition == record.index)
    });
    let place = |record: shards::PartitionRecord| {
        let (topic, partition) = (record.name, record.index);
        (record.stream, Place { topic, partition, first_offset: record.first_offset })
    };
    asked.map(place).collect()
}

fn tell_problems(state: &ShardState, wanted: &Wanted, problem: &mut impl FnMut(String)) {
    let shard = state.shard;
    if state.missing {
        problem(format!("shard {shard}: no part of its log is there"));
    }
    for gap in &state.gaps {
        problem(format!("shard {shard}: {}", gap_sentence(gap)));
    }
    for misfit in &state.misfits {
        problem(format!("shard {shard}: {misfit}"));
    }
    for (stream, records) in &state.nameless {
        problem(format!(
            "shard {shard}: {records} records of stream {stream} are good, but nothing left says \
             which topic they belong to"
        ));
    }
    for view in state.partitions() {
        let record = &view.carried.record;
        let asked = wanted.topic.as_ref().is_none_or(|topic| *topic == record.name)
            && wanted.partition.is_none_or(|partition| partition == record.index);
        for (from, to) in view.lost.into_iter().filter(|_| asked) {
            let (name, index) = (&record.name, record.index);
            problem(format!(
                "shard {shard}: topic {name}, partition {index}: offsets {from} to {} are not there",
                to - 1
            ));
        }
    }
}

/// Where a gap is, what is wrong there, and which entries it takes.
pub fn gap_sentence(gap: &crate::read::Gap) -> String {
    let place = match gap.to {
        to if to > gap.from => format!("{} bytes {} to {}", gap.file, gap.from, to - 1),
        _ => format!("{} at byte {}", gap.file, gap.from),
    };
    let what = &gap.what;
    match gap.lost {
        Lost::Nothing => format!("{place}: {what}"),
        Lost::Payload { lsn, .. } => format!("{place}: {what}; entry {lsn} cannot be read"),
        Lost::Entries { first, last } if first == last => {
            format!("{place}: {what}; entry {first} cannot be read")
        }
        Lost::Entries { first, last } => {
            format!("{place}: {what}; entries {first} to {last} cannot be read")
        }
        Lost::End { first, promised } if promised >= first => format!(
            "{place}: {what}; entries from {first} on cannot be read, of which those up to \
             {promised} were durable"
        ),
        Lost::End { first, .. } => {
            format!("{place}: {what}; entry {first} cannot be read, if it was ever durable")
        }
    }
}
