//! The truth about topics, which shard 0 keeps: names, settings, tombstones.
//!
//! As in a partition, what is decided at append is kept apart from what commit has shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::limits::SHARDS_MAX;
use model::{Lsn, ShardId, TopicConfig, TopicId, TopicName};

use crate::codec::{self, DecodeError, Fields};
use crate::entry::{put_shards, read_shards};

/// A committed topic, or a committed tombstone, as the host is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    pub id: TopicId,
    pub name: TopicName,
    pub config: TopicConfig,
    pub config_version: u32,
    /// The shard of each partition, in order of the partition's index.
    pub shards: Arc<[ShardId]>,
}

/// How far a topic has come in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Its creation is not committed (only in [`Topic::shown`]).
    Unborn,
    Live,
    Tombstone,
    /// The tombstone is cleared, but that is not committed.
    Gone,
}

pub(crate) struct Topic {
    pub record: TopicRecord,
    /// The last entry that changed it.
    pub lsn: Lsn,
    pub stage: Stage,
    /// What commit has revealed.
    pub shown: Stage,
    pub shown_config: TopicConfig,
    pub shown_version: u32,
}

impl Topic {
    pub fn new(record: TopicRecord, lsn: Lsn, stage: Stage) -> Self {
        let shown_config = record.config.clone();
        let shown_version = record.config_version;
        Self { record, lsn, stage, shown: Stage::Unborn, shown_config, shown_version }
    }

    /// The topic as commit has revealed it.
    fn shown_record(&self) -> TopicRecord {
        TopicRecord {
            config: self.shown_config.clone(),
            config_version: self.shown_version,
            ..self.record.clone()
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::put_u64(out, self.record.id.0);
        codec::put_u64(out, self.lsn.0);
        codec::put_u8(out, u8::from(self.stage == Stage::Tombstone));
        codec::put_u32(out, self.record.config_version);
        codec::put_config(out, &self.record.config);
        codec::put_name(out, self.record.name.as_str());
        put_shards(out, &self.record.shards);
    }

    /// Reads [`Topic::encode`]; all of it counts as committed.
    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (id, lsn) = (TopicId(fields.u64()?), Lsn(fields.u64()?));
        let stage = match fields.u8()? {
            0 => Stage::Live,
            1 => Stage::Tombstone,
            _ => return Err(DecodeError::BadField("stage")),
        };
        let (config_version, config) = (fields.u32()?, fields.config()?);
        let name = fields.topic_name()?;
        let shards = read_shards(fields)?.into();
        let record = TopicRecord { id, name, config, config_version, shards };
        let mut topic = Self::new(record, lsn, stage);
        topic.shown = stage;
        Ok(topic)
    }
}

/// All topics and tombstones, in the order of their ids.
#[derive(Default)]
pub(crate) struct Topics {
    by_id: BTreeMap<TopicId, Topic>,
    /// Live topics only, as decided.
    by_name: BTreeMap<TopicName, TopicId>,
    partitions: usize,
}

impl Topics {
    /// Partitions of all topics, tombstones included: theirs may still exist.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    pub fn id_of(&self, name: &TopicName) -> Option<TopicId> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, id: TopicId) -> Option<&Topic> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.by_id.get_mut(&id)
    }

    pub fn insert(&mut self, topic: Topic) {
        let id = topic.record.id;
        self.partitions += topic.record.shards.len();
        if topic.stage == Stage::Live {
            self.take_name(topic.record.name.clone(), id);
        }
        let old = self.by_id.insert(id, topic);
        assert!(old.is_none(), "topic {id} exists already");
    }

    pub fn remove(&mut self, id: TopicId) {
        if let Some(topic) = self.by_id.remove(&id) {
            if topic.stage != Stage::Gone {
                self.partitions -= topic.record.shards.len();
            }
            self.free_name(&topic.record.name, id);
        }
    }

    /// Moves a topic on (or, in a truncation, back), with its name and its partitions' count.
    pub fn set_stage(&mut self, id: TopicId, stage: Stage, lsn: Lsn) {
        let Some(topic) = self.by_id.get_mut(&id) else { return };
        let counted = usize::from(topic.stage != Stage::Gone);
        let counts = usize::from(stage != Stage::Gone);
        let partitions = topic.record.shards.len();
        topic.stage = stage;
        topic.lsn = lsn;
        let name = topic.record.name.clone();
        self.partitions = self.partitions + counts * partitions - counted * partitions;
        if stage == Stage::Live {
            self.take_name(name, id);
        } else {
            self.free_name(&name, id);
        }
    }

    /// Of two topics with one name the later one holds it: replay from a fuzzy checkpoint may
    /// create, and then delete, one whose successor is loaded already.
    fn take_name(&mut self, name: TopicName, id: TopicId) {
        let holder = self.by_name.entry(name).or_insert(id);
        *holder = id.max(*holder);
    }

    /// The name may belong to a later topic by now.
    fn free_name(&mut self, name: &TopicName, id: TopicId) {
        if self.by_name.get(name) == Some(&id) {
            self.by_name.remove(name);
        }
    }

    /// Those that commit has shown to be at `stage`.
    pub fn shown(&self, stage: Stage) -> impl Iterator<Item = TopicRecord> {
        self.by_id.values().filter(move |t| t.shown == stage).map(Topic::shown_record)
    }

    /// Every topic and tombstone as decided, from `first` on.
    pub fn range(&self, first: TopicId) -> impl Iterator<Item = &Topic> {
        self.by_id.range(first..).map(|(_, topic)| topic).filter(|t| t.stage < Stage::Gone)
    }
}

/// Whether a list of shards can be a topic's.
pub(crate) fn shards_are_valid(shards: &[ShardId]) -> bool {
    !shards.is_empty() && shards.iter().all(|shard| shard.0 < SHARDS_MAX)
}
