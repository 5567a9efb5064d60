//! What the new directory will hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use model::{Offset, PartitionIndex, ShardId, StreamId, TopicId, TopicName};
use shards::TopicRecord;

use super::{Losses, PartitionLoss, RepairError, ShardFinding};
use crate::read::Source;
use crate::rewrite::{NewPartition, PartitionEnd};
use crate::state::{PartitionView, ShardState, UNKNOWN_LEAP};

/// Numbers of topics passed over when it is not known how many were given out.
const TOPIC_NUMBERS_MARGIN: u64 = 1_000_000;
/// Numbers of producers, likewise.
const PRODUCER_NUMBERS_MARGIN: i64 = 1 << 40;
/// Numbers of streams, likewise.
const STREAM_NUMBERS_MARGIN: u32 = 100_000;

/// Records that no partition takes in a millisecond, over the years between two repairs.
const OFFSETS_PER_MS: u64 = 2048;
/// The year 4199: what says it is later is no time.
const UNKNOWN_TIME_MS_MAX: u64 = 1 << 46;

/// One partition of the new directory.
pub struct PlannedPartition {
    pub stream: StreamId,
    /// The old log has nothing of it; what it calls this stream is something else.
    pub made: bool,
    pub new: NewPartition,
    pub end: PartitionEnd,
}

/// One shard of the new directory.
pub struct PlannedShard {
    pub shard: ShardId,
    pub stream_next: StreamId,
    /// In the order of their streams.
    pub partitions: Vec<PlannedPartition>,
}

/// Everything but the batches.
pub struct Plan {
    pub topics: Vec<TopicRecord>,
    pub tombstones: Vec<TopicRecord>,
    pub topic_next: TopicId,
    pub producer_next: i64,
    pub shards: Vec<PlannedShard>,
    pub segment_bytes: Option<u64>,
    pub losses: Losses,
}

impl Plan {
    pub(super) fn make(source: &Source) -> Result<Self, RepairError> {
        let mut states = Vec::new();
        for shard in (0..source.shards()).map(ShardId) {
            let state = match source.shard(shard)? {
                Some(mut log) => ShardState::read(shard, &mut log)?,
                None => ShardState::nothing(shard),
            };
            states.push(state);
        }
        source.check_untaken()?;
        let views: Vec<Vec<PartitionView>> = states.iter().map(ShardState::partitions).collect();
        let mut maker = Maker::new(&states, &views);
        maker.make_topics();
        maker.make_partitions();
        maker.losses.note = source.note().map(str::to_owned);
        Ok(maker.finish())
    }
}

/// It rises with the time by more than a partition can take, so that what is given out after one
/// repair lies before the place of the next: 2^51.7 in 2026, below 2^53 until 2109.
fn unknown_offset(states: &[ShardState]) -> Offset {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    // A clock that was set back is behind what the logs have seen.
    let seen = states.iter().map(|state| state.engine.counted().time_ms).max().unwrap_or(0);
    let time_ms = now.max(u64::try_from(seen).unwrap_or(0)).min(UNKNOWN_TIME_MS_MAX);
    (time_ms * OFFSETS_PER_MS).max(UNKNOWN_LEAP)
}

struct Maker<'a> {
    states: &'a [ShardState],
    views: &'a [Vec<PartitionView>],
    topics: BTreeMap<TopicId, TopicRecord>,
    tombstones: Vec<TopicRecord>,
    shards: Vec<PlannedShard>,
    losses: Losses,
    /// Behind all offsets given out so far, also by a directory that came from a repair.
    unknown_offset: Offset,
}

impl<'a> Maker<'a> {
    fn new(states: &'a [ShardState], views: &'a [Vec<PartitionView>]) -> Self {
        let finding = |state: &ShardState| {
            let mut notes = state.misfits.clone();
            for (stream, records) in &state.nameless {
                notes.push(format!(
                    "{records} records of stream {stream} are good, but nothing left says which \
                     topic they belong to; they are not kept"
                ));
            }
            ShardFinding {
                shard: state.shard,
                missing: state.missing,
                gaps: state.gaps.clone(),
                state_lost: state.state_is_lost(),
                notes,
            }
        };
        let empty = |state: &ShardState| PlannedShard {
            shard: state.shard,
            stream_next: state.engine.counted().stream_next,
            partitions: Vec::new(),
        };
        Self {
            states,
            views,
            topics: BTreeMap::new(),
            tombstones: Vec::new(),
            shards: states.iter().map(empty).collect(),
            unknown_offset: unknown_offset(states),
            losses: Losses {
                note: None,
                partitions: Vec::new(),
                shards: states.iter().map(finding).collect(),
                kept_partitions: 0,
                kept_records: 0,
            },
        }
    }

    fn topics_are_sure(&self) -> bool {
        !self.states[0].state_is_lost()
    }

    fn note(&mut self, shard: ShardId, note: String) {
        self.losses.shards[usize::from(shard.0)].notes.push(note);
    }

    /// What shard 0 says, and where that may be lost, what partitions say of their topics.
    fn make_topics(&mut self) {
        let truth = &self.states[0].engine;
        self.topics = truth.topics().map(|topic| (topic.id, topic)).collect();
        self.tombstones = truth.tombstones().collect();
        if self.topics_are_sure() {
            return;
        }
        let deleted: BTreeSet<TopicId> = self.tombstones.iter().map(|topic| topic.id).collect();
        let mut found: BTreeMap<TopicId, Vec<(ShardId, &PartitionView)>> = BTreeMap::new();
        for (state, views) in self.states.iter().zip(self.views) {
            for view in views.iter().filter(|view| !view.guessed) {
                let id = view.carried.record.topic;
                if !self.topics.contains_key(&id) && !deleted.contains(&id) {
                    found.entry(id).or_default().push((state.shard, view));
                }
            }
        }
        for (id, partitions) in found {
            self.rebuild_topic(id, &partitions);
        }
        self.rebuild_from_labels();
    }

    fn rebuild_topic(&mut self, id: TopicId, partitions: &[(ShardId, &PartitionView)]) {
        let newest = partitions.iter().map(|(_, view)| &view.carried.record);
        let Some(newest) = newest.max_by_key(|record| record.config_version) else { return };
        let count = partitions.iter().map(|(_, view)| view.carried.record.index.0 + 1).max();
        let mut shards = vec![ShardId(0); count.unwrap_or(1) as usize];
        for (shard, view) in partitions {
            shards[view.carried.record.index.0 as usize] = *shard;
        }
        let record = TopicRecord {
            id,
            name: newest.name.clone(),
            config: newest.config.clone(),
            config_version: newest.config_version,
            shards: shards.into(),
        };
        let taken = self.topics.values().any(|topic| topic.name == record.name);
        let name = record.name.clone();
        if taken {
            let note = format!(
                "a second topic {name} (number {id}) is left in partitions; it was deleted before \
                 and is not kept"
            );
            return self.note(ShardId(0), note);
        }
        let note = format!(
            "topic {name} is known from its partitions only; it has at least {} of them, and if it \
             had been deleted it is back",
            record.shards.len()
        );
        self.note(ShardId(0), note);
        self.topics.insert(id, record);
    }

    /// Topics of which only labels are left get new numbers.
    fn rebuild_from_labels(&mut self) {
        let mut found: BTreeMap<TopicName, BTreeMap<PartitionIndex, ShardId>> = BTreeMap::new();
        for (state, views) in self.states.iter().zip(self.views) {
            for view in views.iter().filter(|view| view.guessed) {
                let record = &view.carried.record;
                let places = found.entry(record.name.clone()).or_default();
                places.insert(record.index, state.shard);
            }
        }
        for (name, places) in found {
            if self.topics.values().any(|topic| topic.name == name) {
                continue;
            }
            let count = places.keys().last().map_or(1, |index| index.0 + 1);
            let shard_of = |index| places.get(&PartitionIndex(index)).copied();
            let shards = (0..count).map(|index| shard_of(index).unwrap_or(ShardId(0))).collect();
            let last = self.topics.keys().last().map_or(0, |id| id.0);
            let id = TopicId(last + TOPIC_NUMBERS_MARGIN);
            let note = format!(
                "topic {name} is known from the labels of its records only; it has a new number, \
                 the default settings and at least {count} partitions"
            );
            self.note(ShardId(0), note);
            let config = model::TopicConfig::default();
            self.topics.insert(id, TopicRecord { id, name, config, config_version: 1, shards });
        }
    }

    fn make_partitions(&mut self) {
        for (at, views) in self.views.iter().enumerate() {
            for view in views {
                self.make_partition(at, view);
            }
        }
        for topic in self.topics.values().cloned().collect::<Vec<_>>() {
            for (index, shard) in (0u32..).zip(topic.shards.iter().copied()) {
                self.make_missing(&topic, PartitionIndex(index), shard);
            }
        }
        for shard in &mut self.shards {
            shard.partitions.sort_by_key(|partition| partition.stream);
        }
    }

    /// The topic that a partition belongs to; `None` when it is not kept.
    fn topic_of(&self, view: &PartitionView) -> Option<TopicRecord> {
        let record = &view.carried.record;
        if view.guessed {
            return self.topics.values().find(|topic| topic.name == record.name).cloned();
        }
        let deleted = self.tombstones.iter().find(|topic| topic.id == record.topic);
        self.topics.get(&record.topic).or(deleted).cloned()
    }

    fn make_partition(&mut self, at: usize, view: &PartitionView) {
        let record = &view.carried.record;
        let shard = ShardId(at as u16);
        let Some(topic) = self.topic_of(view) else {
            let (name, index, records) = (&record.name, record.index, view.kept_records);
            // With the topics known for sure this is what is left of a deleted one.
            if !self.topics_are_sure() || records > 0 {
                let note = format!(
                    "partition {index} of topic {name} is not kept, as shard 0 knows no such topic; \
                     it has {records} good records"
                );
                self.note(shard, note);
            }
            return;
        };
        let mut first_offset = record.first_offset;
        if let Some((from, to)) = view.lost.first().copied()
            && from == first_offset
        {
            first_offset = to;
        }
        let next_offset = match view.leap {
            0 => record.next_offset,
            // What is lost may have been a leap of an earlier repair.
            leap => (record.next_offset + leap).max(self.unknown_offset),
        };
        let settings = if view.guessed { &topic.config } else { &record.config };
        let version = if view.guessed { topic.config_version } else { record.config_version };
        self.shards[at].partitions.push(PlannedPartition {
            stream: record.stream,
            made: false,
            new: NewPartition {
                topic: topic.id,
                name: record.name.clone(),
                index: record.index,
                config: settings.clone(),
                config_version: version,
                first_offset,
            },
            end: PartitionEnd {
                next_offset,
                consumers: view.carried.consumers.clone(),
                producers: view.carried.producers.clone(),
            },
        });
        self.losses.kept_partitions += 1;
        self.losses.kept_records += view.kept_records;
        if !view.lost.is_empty() || view.leap > 0 || view.guessed {
            self.losses.partitions.push(PartitionLoss {
                topic: record.name.clone(),
                id: topic.id,
                partition: record.index,
                shard,
                lost: view.lost.clone(),
                end_unknown: view.leap > 0,
                next_offset,
                settings_lost: view.guessed,
            });
        }
    }

    /// A partition that its topic names and its shard does not have: where the shard has lost
    /// what it knew, nothing bounds the offsets it has given out.
    fn make_missing(&mut self, topic: &TopicRecord, index: PartitionIndex, shard: ShardId) {
        let at = usize::from(shard.0);
        let Some(state) = self.states.get(at) else { return };
        let there = |p: &PlannedPartition| p.new.topic == topic.id && p.new.index == index;
        if self.shards[at].partitions.iter().any(there) || !state.state_is_lost() {
            return;
        }
        let planned = &mut self.shards[at];
        let used = planned.partitions.iter().map(|p| p.stream.0 + 1).max().unwrap_or(1);
        let stream = StreamId(used.max(planned.stream_next.0));
        planned.stream_next = StreamId(stream.0 + 1);
        planned.partitions.push(PlannedPartition {
            stream,
            made: true,
            new: NewPartition {
                topic: topic.id,
                name: topic.name.clone(),
                index,
                config: topic.config.clone(),
                config_version: topic.config_version,
                first_offset: self.unknown_offset,
            },
            end: PartitionEnd::default(),
        });
        self.losses.partitions.push(PartitionLoss {
            topic: topic.name.clone(),
            id: topic.id,
            partition: index,
            shard,
            lost: Vec::new(),
            end_unknown: true,
            next_offset: self.unknown_offset,
            settings_lost: false,
        });
    }

    fn finish(mut self) -> Plan {
        let counted = self.states[0].engine.counted();
        let mut topic_next = counted.topic_next.0;
        let mut producer_next = counted.producer_id_next;
        if !self.topics_are_sure() {
            let last = self.topics.keys().last().map_or(0, |id| id.0);
            topic_next = topic_next.max(last + 1) + TOPIC_NUMBERS_MARGIN;
            let known = self.views.iter().flatten();
            let known = known.filter_map(|view| view.carried.producers.last_id()).max();
            producer_next = producer_next.max(known.unwrap_or(0) + 1) + PRODUCER_NUMBERS_MARGIN;
        }
        for (state, shard) in self.states.iter().zip(&mut self.shards) {
            if state.state_is_lost() {
                let next = shard.stream_next.0.saturating_add(STREAM_NUMBERS_MARGIN);
                shard.stream_next = StreamId(next);
            }
        }
        self.losses
            .partitions
            .sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Plan {
            topics: self.topics.into_values().collect(),
            tombstones: self.tombstones,
            topic_next: TopicId(topic_next),
            producer_next,
            shards: self.shards,
            segment_bytes: self.states.iter().filter_map(|state| state.segment_bytes).max(),
            losses: self.losses,
        }
    }
}
