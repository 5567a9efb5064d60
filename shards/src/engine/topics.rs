//! Shard 0's part: the truth about topics, and producer ids.

use model::limits::PARTITIONS_MAX;
use model::{Lsn, Rejection, ShardId, StreamId, TopicChange, TopicConfig, TopicId, TopicName};

use crate::engine::Engine;
use crate::entry::Change;
use crate::journal::Journal;
use crate::rejection;
use crate::topics::{Stage, TopicRecord, shards_are_valid};

/// Producer ids taken by one entry.
const PRODUCER_IDS_PER_ENTRY: i64 = 1_000;

/// The producer ids that the last entry took. What is left of them at a crash is never used.
#[derive(Default)]
pub(super) struct ProducerIdBlock {
    next: i64,
    end: i64,
    lsn: Lsn,
}

impl ProducerIdBlock {
    /// Ids from `end` on are not ours: their entry was taken back.
    pub fn cut(&mut self, end: i64) {
        self.end = self.end.min(end);
        self.next = self.next.min(self.end);
    }
}

impl Engine {
    /// Creates a topic with one partition in each of `shards`, in that order. The partitions
    /// themselves are created in their shards once the returned entry is committed.
    pub fn create_topic(
        &mut self,
        now_ms: i64,
        name: &TopicName,
        config: &TopicConfig,
        shards: &[ShardId],
        journal: &mut impl Journal,
    ) -> Result<(TopicId, Lsn), Rejection> {
        let time_ms = self.stamp(now_ms);
        self.expect_shard_0()?;
        if self.topics.id_of(name).is_some() {
            return Err(rejection::topic_exists(name));
        }
        if !shards_are_valid(shards) {
            return Err(rejection::invalid(
                "a topic has at least one partition; ask for 1 or more",
            ));
        }
        let partitions = self.topics.partitions() + shards.len();
        if partitions > PARTITIONS_MAX as usize {
            let message = format!(
                "with {} more there would be {partitions} partitions, and {PARTITIONS_MAX} is the \
                 most; delete topics or ask for fewer partitions",
                shards.len()
            );
            return Err(rejection::limit(message));
        }
        let id = self.counters.topic_next;
        let change = Change::TopicCreated {
            id,
            name: name.clone(),
            config: config.clone(),
            shards: shards.to_vec(),
        };
        let lsn = self.record(time_ms, StreamId(0), &change, journal)?;
        Ok((id, lsn))
    }

    /// Changes a topic's settings; the record is what it is once the entry is committed. The
    /// partitions are told by the host. A change of nothing appends nothing.
    pub fn alter_topic(
        &mut self,
        now_ms: i64,
        name: &TopicName,
        change: &TopicChange,
        journal: &mut impl Journal,
    ) -> Result<(TopicRecord, Lsn), Rejection> {
        let time_ms = self.stamp(now_ms);
        let (record, lsn) = self.decided_topic(name)?;
        let config = change.applied_to(&record.config);
        if config == record.config {
            return Ok((record, self.wait_for(lsn)));
        }
        let config_version = record.config_version.saturating_add(1);
        let altered =
            Change::TopicAltered { id: record.id, config_version, config: config.clone() };
        let lsn = self.record(time_ms, StreamId(0), &altered, journal)?;
        Ok((TopicRecord { config, config_version, ..record }, lsn))
    }

    /// Deletes a topic: its name is free again, and a tombstone stays until
    /// [`Engine::tombstone_cleared`] so that no shard forgets to delete its partitions.
    pub fn delete_topic(
        &mut self,
        now_ms: i64,
        name: &TopicName,
        journal: &mut impl Journal,
    ) -> Result<(TopicRecord, Lsn), Rejection> {
        let time_ms = self.stamp(now_ms);
        let (record, _) = self.decided_topic(name)?;
        let lsn =
            self.record(time_ms, StreamId(0), &Change::TopicDeleted { id: record.id }, journal)?;
        Ok((record, lsn))
    }

    /// Every shard has deleted (durably) its partitions of this topic. A tombstone that is not
    /// there is cleared already.
    pub fn tombstone_cleared(
        &mut self,
        now_ms: i64,
        id: TopicId,
        journal: &mut impl Journal,
    ) -> Result<Lsn, Rejection> {
        let time_ms = self.stamp(now_ms);
        self.expect_shard_0()?;
        match self.topics.get(id).map(|topic| topic.stage) {
            Some(Stage::Tombstone) => {
                self.record(time_ms, StreamId(0), &Change::TombstoneCleared { id }, journal)
            }
            Some(Stage::Live | Stage::Unborn) => {
                Err(rejection::invalid("the topic is not deleted; delete it first"))
            }
            Some(Stage::Gone) | None => Ok(self.wait_for(self.last_lsn)),
        }
    }

    /// The committed topics, in the order of their ids.
    pub fn topics(&self) -> impl Iterator<Item = TopicRecord> {
        self.topics.shown(Stage::Live)
    }

    /// Committed deletions whose partitions may not all be deleted, in the order of their ids.
    pub fn tombstones(&self) -> impl Iterator<Item = TopicRecord> {
        self.topics.shown(Stage::Tombstone)
    }

    /// A producer id that no one has had and no one will have, also after a crash, once the
    /// log is committed up to the returned number.
    pub fn allocate_producer_id(
        &mut self,
        now_ms: i64,
        journal: &mut impl Journal,
    ) -> Result<(i64, Lsn), Rejection> {
        let time_ms = self.stamp(now_ms);
        self.expect_shard_0()?;
        if self.producer_ids.next == self.producer_ids.end {
            let first = self.counters.producer_id_next;
            let Some(end) = first.checked_add(PRODUCER_IDS_PER_ENTRY) else {
                return Err(rejection::limit("all producer ids have been given out".to_owned()));
            };
            let change = Change::ProducerIdsAllocated { next: end };
            let lsn = self.record(time_ms, StreamId(0), &change, journal)?;
            self.producer_ids = ProducerIdBlock { next: first, end, lsn };
        }
        let id = self.producer_ids.next;
        self.producer_ids.next += 1;
        Ok((id, self.wait_for(self.producer_ids.lsn)))
    }

    fn decided_topic(&self, name: &TopicName) -> Result<(TopicRecord, Lsn), Rejection> {
        self.expect_shard_0()?;
        let topic = self.topics.id_of(name).and_then(|id| self.topics.get(id));
        let topic = topic.ok_or_else(|| rejection::unknown_topic(name))?;
        Ok((topic.record.clone(), topic.lsn))
    }

    fn expect_shard_0(&self) -> Result<(), Rejection> {
        if self.shard == ShardId(0) {
            return Ok(());
        }
        Err(rejection::invalid("only shard 0 keeps topics and producer ids; send this to shard 0"))
    }
}
