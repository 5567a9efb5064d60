//! Applying entries: the one place where the fold of the log changes going forward.
//!
//! Live requests and replay both come here. Each function returns how to take the change back,
//! or why the entry does not fit the state; after an error nothing has changed.

use model::{EntryHead, Lsn, Offset, PartitionIndex, StreamId, TopicId};

use crate::engine::{Engine, replay::Misfit};
use crate::entry::{BatchFacts, Change};
use crate::partition::{Consumer, Partition};
use crate::producer::{AppendedBatch, ProducerUndo};
use crate::topics::{Stage, Topic, TopicRecord};
use crate::undo::UndoChange;

impl Engine {
    pub(super) fn apply_batch(
        &mut self,
        lsn: Lsn,
        head: &EntryHead,
        facts: &BatchFacts,
    ) -> Result<UndoChange, Misfit> {
        let partition = self.streams.get_mut(head.stream).ok_or(Misfit::UnknownStream)?;
        if head.base_offset != partition.next_offset || head.records != facts.records {
            return Err(Misfit::Offset { expected: partition.next_offset });
        }
        let producer = match &facts.producer {
            None => ProducerUndo::None,
            Some(stamp) => {
                let (records, base_offset) = (head.records, head.base_offset);
                let batch = AppendedBatch { records, base_offset, lsn, time_ms: head.time_ms };
                partition.producers.append(stamp, &batch)
            }
        };
        self.remembered += usize::from(matches!(producer, ProducerUndo::Added { .. }));
        let batch = partition.append(lsn, head.stream, head.records, facts.bytes);
        Ok(UndoChange::Batch { batch, producer })
    }

    pub(super) fn apply_change(
        &mut self,
        lsn: Lsn,
        stream: StreamId,
        change: &Change,
    ) -> Result<UndoChange, Misfit> {
        match change {
            Change::PartitionCreated { .. } => self.apply_partition_created(lsn, stream, change),
            Change::TopicCreated { .. } => self.apply_topic_created(lsn, change),
            Change::TopicAltered { .. }
            | Change::TopicDeleted { .. }
            | Change::TombstoneCleared { .. } => self.apply_to_topic(lsn, change),
            Change::ProducerIdsAllocated { next } => {
                let before = self.counters.producer_id_next;
                self.counters.producer_id_next = before.max(*next);
                Ok(UndoChange::ProducerIdsAllocated { before })
            }
            _ => self.apply_to_partition(lsn, stream, change),
        }
    }

    fn apply_partition_created(
        &mut self,
        lsn: Lsn,
        stream: StreamId,
        change: &Change,
    ) -> Result<UndoChange, Misfit> {
        let Change::PartitionCreated { topic, name, index, config, config_version } = change else {
            return Err(Misfit::WrongKind);
        };
        if self.streams.get(stream).is_some() || stream.0 == 0 || stream.0 == u32::MAX {
            return Err(Misfit::Exists);
        }
        let (name, config) = (name.clone(), config.clone());
        let partition = Partition::new(*topic, *index, name, config, *config_version, lsn);
        self.streams.insert(stream, partition);
        self.take_place((*topic, *index), stream);
        let following = StreamId(stream.0 + 1);
        self.counters.stream_next = self.counters.stream_next.max(following);
        Ok(UndoChange::PartitionCreated { stream })
    }

    /// Of two partitions in one place the later one holds it: replay from a fuzzy checkpoint
    /// may create, and then delete, one whose successor is loaded already.
    pub(super) fn take_place(&mut self, place: (TopicId, PartitionIndex), stream: StreamId) {
        let holder = self.places.entry(place).or_insert(stream);
        *holder = stream.max(*holder);
    }

    fn apply_to_partition(
        &mut self,
        lsn: Lsn,
        stream: StreamId,
        change: &Change,
    ) -> Result<UndoChange, Misfit> {
        let partition = self.streams.get_mut(stream).ok_or(Misfit::UnknownStream)?;
        let lsn_before = partition.lsn;
        let undo = match change {
            Change::PartitionAltered { config_version, config } => {
                let config = std::mem::replace(&mut partition.config, config.clone());
                let version = std::mem::replace(&mut partition.config_version, *config_version);
                let before = Box::new((version, config));
                UndoChange::PartitionAltered { stream, lsn_before, before }
            }
            Change::PartitionDeleted => {
                partition.deleted = true;
                let place = (partition.topic, partition.index);
                if self.places.get(&place) == Some(&stream) {
                    self.places.remove(&place);
                }
                UndoChange::PartitionDeleted { stream, lsn_before }
            }
            Change::OffsetCommitted { consumer, offset } => {
                let fresh = Consumer { offset: *offset, shown: None };
                let entry = partition.consumers.entry(consumer.clone());
                let mut before = None;
                entry
                    .and_modify(|c| before = Some(std::mem::replace(&mut c.offset, *offset)))
                    .or_insert(fresh);
                self.remembered += usize::from(before.is_none());
                let (consumer, after) = (consumer.clone(), *offset);
                UndoChange::OffsetCommitted { stream, lsn_before, consumer, before, after }
            }
            Change::LogStartAdvanced { offset, bytes } => {
                advance(partition, *offset, *bytes, stream, lsn_before)?
            }
            Change::OffsetsSkipped { from, to, .. } => {
                if *from != partition.next_offset || *to <= *from {
                    return Err(Misfit::Offset { expected: partition.next_offset });
                }
                partition.next_offset = *to;
                partition.holes.push((*from, *to));
                UndoChange::OffsetsSkipped { stream, lsn_before, hole: (*from, *to) }
            }
            Change::ProducersRestored { replaces, producers } => {
                let before = partition.producers.restore(*replaces, producers, lsn);
                self.remembered += partition.producers.len();
                self.remembered -= before.len();
                UndoChange::ProducersRestored { stream, lsn_before, before: Box::new(before) }
            }
            Change::ProducersExpired { ids } => {
                let producers = ids.iter().filter_map(|id| partition.producers.take(*id));
                let producers: Vec<_> = producers.collect();
                self.remembered -= producers.len();
                UndoChange::ProducersExpired { stream, lsn_before, producers }
            }
            _ => return Err(Misfit::WrongKind),
        };
        partition.lsn = lsn;
        Ok(undo)
    }

    fn apply_topic_created(&mut self, lsn: Lsn, change: &Change) -> Result<UndoChange, Misfit> {
        let Change::TopicCreated { id, name, config, shards } = change else {
            return Err(Misfit::WrongKind);
        };
        if self.topics.get(*id).is_some() || id.0 == u64::MAX {
            return Err(Misfit::Exists);
        }
        let record = TopicRecord {
            id: *id,
            name: name.clone(),
            config: config.clone(),
            config_version: 1,
            shards: shards.as_slice().into(),
        };
        self.topics.insert(Topic::new(record, lsn, Stage::Live));
        self.counters.topic_next = self.counters.topic_next.max(TopicId(id.0 + 1));
        Ok(UndoChange::TopicCreated { id: *id })
    }

    fn apply_to_topic(&mut self, lsn: Lsn, change: &Change) -> Result<UndoChange, Misfit> {
        match change {
            Change::TopicAltered { id, config_version, config } => {
                let topic = self.topics.get_mut(*id).ok_or(Misfit::UnknownTopic)?;
                let lsn_before = std::mem::replace(&mut topic.lsn, lsn);
                let record = &mut topic.record;
                let old = std::mem::replace(&mut record.config, config.clone());
                let version = std::mem::replace(&mut record.config_version, *config_version);
                let configs = Box::new([(version, old), (*config_version, config.clone())]);
                Ok(UndoChange::TopicAltered { id: *id, lsn_before, configs })
            }
            Change::TopicDeleted { id } => {
                let lsn_before = self.topics.get(*id).ok_or(Misfit::UnknownTopic)?.lsn;
                self.topics.set_stage(*id, Stage::Tombstone, lsn);
                Ok(UndoChange::TopicDeleted { id: *id, lsn_before })
            }
            Change::TombstoneCleared { id } => {
                let lsn_before = self.topics.get(*id).ok_or(Misfit::UnknownTopic)?.lsn;
                self.topics.set_stage(*id, Stage::Gone, lsn);
                Ok(UndoChange::TombstoneCleared { id: *id, lsn_before })
            }
            _ => Err(Misfit::WrongKind),
        }
    }
}

fn advance(
    partition: &mut Partition,
    after: Offset,
    bytes: u64,
    stream: StreamId,
    lsn_before: Lsn,
) -> Result<UndoChange, Misfit> {
    let before = partition.first_offset;
    if after < before || after > partition.next_offset || bytes > partition.bytes {
        return Err(Misfit::Offset { expected: partition.next_offset });
    }
    partition.first_offset = after;
    partition.bytes -= bytes;
    let gone = partition.holes.partition_point(|(_, to)| *to <= after);
    let holes = partition.holes.drain(..gone).collect();
    Ok(UndoChange::LogStartAdvanced { stream, lsn_before, before, after, bytes, holes })
}
