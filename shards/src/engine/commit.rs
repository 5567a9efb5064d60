//! Commit and truncation: revealing entries in the log's order, and taking back the newest.

use model::{Lsn, StreamId};

use crate::engine::{Effect, Engine};
use crate::partition::Partition;
use crate::producer::ProducerUndo;
use crate::rejection;
use crate::topics::Stage;
use crate::undo::{BatchUndo, UndoChange};

/// Committed batches of one partition; what they add to it.
#[derive(Debug, Default)]
struct BatchRun {
    stream: StreamId,
    records: u64,
    bytes: u64,
}

impl Engine {
    /// The log is committed up to `upto` (as far as this engine has appended): what those
    /// entries say may be seen from now on. Costs a few loads per entry; partitions without a
    /// new entry are not looked at.
    pub fn commit(&mut self, upto: Lsn) {
        // Batches of one partition in a row are revealed at once.
        let mut run = BatchRun::default();
        while self.committed_lsn < upto {
            let batches = self.undo.pop_oldest_batches(self.committed_lsn, upto);
            if let Some((BatchUndo { stream, records, bytes, .. }, count)) = batches {
                if stream != run.stream {
                    self.reveal_batches(&run);
                    run = BatchRun { stream, ..BatchRun::default() };
                }
                run.records += u64::from(records) * count;
                run.bytes += u64::from(bytes) * count;
                self.committed_lsn.0 += count;
            } else if let Some(change) = self.undo.pop_oldest_change() {
                self.reveal_batches(&std::mem::take(&mut run));
                self.reveal(change, true);
                self.committed_lsn = self.committed_lsn.next();
            } else {
                break;
            }
        }
        self.reveal_batches(&run);
    }

    fn reveal_batches(&mut self, run: &BatchRun) {
        if run.records == 0 {
            return;
        }
        let Some(partition) = self.streams.get_mut(run.stream) else { return };
        partition.shown.next_offset += run.records;
        partition.shown.bytes += run.bytes;
        self.readers.wake(run.stream, run.bytes);
    }

    /// Takes back every entry after `lsn`, newest first. The state is then that of a fresh
    /// fold of the log up to `lsn`. A [`crate::SnapshotCursor`] taken before is of no use after.
    ///
    /// # Panics
    /// If `lsn` is before the last committed entry: what was shown cannot be taken back.
    pub fn truncate(&mut self, lsn: Lsn) {
        assert!(lsn >= self.committed_lsn, "entry {lsn} is committed: it cannot be taken back");
        while self.last_lsn > lsn {
            let undo = self.undo.pop_newest(self.last_lsn);
            let undo = undo.expect("it knows of each uncommitted entry");
            self.last_lsn = Lsn(self.last_lsn.0 - 1);
            self.counters.time_ms = undo.time_before_ms;
            self.take_back(undo.change);
        }
    }

    /// `tells`: the host is told; replay tells nobody, since the host asks afterwards.
    pub(super) fn reveal(&mut self, change: UndoChange, tells: bool) {
        match change {
            UndoChange::Batch { batch, .. } => {
                let (records, bytes) = (u64::from(batch.records), u64::from(batch.bytes));
                self.reveal_batches(&BatchRun { stream: batch.stream, records, bytes });
            }
            UndoChange::PartitionCreated { stream } => {
                if let Some(partition) = self.streams.get_mut(stream) {
                    partition.shown.created = true;
                }
            }
            UndoChange::PartitionDeleted { stream, .. } => self.reveal_deletion(stream, tells),
            UndoChange::OffsetCommitted { stream, consumer, after, .. } => {
                let partition = self.streams.get_mut(stream);
                if let Some(found) = partition.and_then(|p| p.consumers.get_mut(&consumer)) {
                    found.shown = Some(after);
                }
            }
            UndoChange::LogStartAdvanced { stream, after, bytes, .. } => {
                let Some(partition) = self.streams.get_mut(stream) else { return };
                partition.shown.first_offset = after;
                partition.shown.bytes -= bytes;
                self.tell(tells, Effect::LogStart { stream, first_offset: after });
            }
            UndoChange::OffsetsSkipped { stream, hole: (from, to), .. } => {
                let Some(partition) = self.streams.get_mut(stream) else { return };
                partition.shown.next_offset += to - from;
                self.readers.wake(stream, 0);
            }
            UndoChange::TopicCreated { id } => {
                self.reveal_stage(id, Stage::Live);
                self.tell(tells, Effect::TopicsChanged);
            }
            UndoChange::TopicAltered { id, configs, .. } => {
                if let Some(topic) = self.topics.get_mut(id) {
                    let [_, (version, config)] = *configs;
                    (topic.shown_version, topic.shown_config) = (version, config);
                }
                self.tell(tells, Effect::TopicsChanged);
            }
            UndoChange::TopicDeleted { id, .. } => {
                self.reveal_stage(id, Stage::Tombstone);
                self.tell(tells, Effect::TopicsChanged);
            }
            UndoChange::TombstoneCleared { id, .. } => {
                self.topics.remove(id);
                self.tell(tells, Effect::TopicsChanged);
            }
            UndoChange::PartitionAltered { .. }
            | UndoChange::ProducersExpired { .. }
            | UndoChange::ProducersRestored { .. }
            | UndoChange::ProducerIdsAllocated { .. } => {}
        }
    }

    fn reveal_stage(&mut self, id: model::TopicId, stage: Stage) {
        if let Some(topic) = self.topics.get_mut(id) {
            topic.shown = stage;
        }
    }

    fn reveal_deletion(&mut self, stream: StreamId, tells: bool) {
        let Some(partition) = self.streams.remove(stream) else { return };
        self.remembered -= partition.remembered();
        let handle = model::PartitionHandle { topic: partition.topic, stream, shard: self.shard };
        for reader in self.readers.remove_stream(stream) {
            let rejection = rejection::unknown_partition(handle);
            self.tell(tells, Effect::Ended { reader, rejection });
        }
        self.tell(tells, Effect::PartitionRemoved { stream });
    }

    /// Several changes of the topics in a row are told once.
    fn tell(&mut self, tells: bool, effect: Effect) {
        if tells && self.notices.back() != Some(&effect) {
            self.notices.push_back(effect);
        }
    }

    fn take_back(&mut self, change: UndoChange) {
        match change {
            UndoChange::PartitionCreated { stream } => {
                if let Some(partition) = self.streams.remove(stream) {
                    self.places.remove(&(partition.topic, partition.index));
                }
                self.counters.stream_next = stream;
            }
            UndoChange::TopicCreated { id } => {
                self.topics.remove(id);
                self.counters.topic_next = id;
            }
            UndoChange::TopicAltered { id, lsn_before, configs } => {
                if let Some(topic) = self.topics.get_mut(id) {
                    let [(version, config), _] = *configs;
                    (topic.record.config_version, topic.record.config) = (version, config);
                    topic.lsn = lsn_before;
                }
            }
            UndoChange::TopicDeleted { id, lsn_before } => {
                self.topics.set_stage(id, Stage::Live, lsn_before);
            }
            UndoChange::TombstoneCleared { id, lsn_before } => {
                self.topics.set_stage(id, Stage::Tombstone, lsn_before);
            }
            UndoChange::ProducerIdsAllocated { before } => {
                self.counters.producer_id_next = before;
                self.producer_ids.cut(before);
            }
            change => self.take_back_from_partition(change),
        }
    }

    fn take_back_from_partition(&mut self, change: UndoChange) {
        match change {
            UndoChange::Batch { batch, producer } => {
                self.remembered -= usize::from(matches!(producer, ProducerUndo::Added { .. }));
                let partition = self.changed(batch.stream);
                partition.next_offset -= u64::from(batch.records);
                partition.bytes -= u64::from(batch.bytes);
                partition.producers.undo(producer);
                partition.lsn = batch.lsn_before;
            }
            UndoChange::PartitionAltered { stream, lsn_before, before } => {
                let partition = self.changed(stream);
                (partition.config_version, partition.config) = *before;
                partition.lsn = lsn_before;
            }
            UndoChange::PartitionDeleted { stream, lsn_before } => {
                let partition = self.changed(stream);
                partition.deleted = false;
                partition.lsn = lsn_before;
                let place = (partition.topic, partition.index);
                self.places.insert(place, stream);
            }
            UndoChange::OffsetCommitted { stream, lsn_before, consumer, before, .. } => {
                self.remembered -= usize::from(before.is_none());
                let partition = self.changed(stream);
                partition.lsn = lsn_before;
                match (before, partition.consumers.get_mut(&consumer)) {
                    (Some(offset), Some(found)) => found.offset = offset,
                    _ => {
                        partition.consumers.remove(&consumer);
                    }
                }
            }
            UndoChange::LogStartAdvanced { stream, lsn_before, before, bytes, holes, .. } => {
                let partition = self.changed(stream);
                partition.first_offset = before;
                partition.bytes += bytes;
                partition.holes.splice(..0, holes);
                partition.lsn = lsn_before;
            }
            UndoChange::OffsetsSkipped { stream, lsn_before, hole } => {
                let partition = self.changed(stream);
                partition.next_offset = hole.0;
                partition.holes.pop();
                partition.lsn = lsn_before;
            }
            UndoChange::ProducersRestored { stream, lsn_before, before } => {
                let partition = self.changed(stream);
                let restored = std::mem::replace(&mut partition.producers, *before).len();
                partition.lsn = lsn_before;
                let known = partition.producers.len();
                self.remembered = self.remembered + known - restored;
            }
            UndoChange::ProducersExpired { stream, lsn_before, producers } => {
                self.remembered += producers.len();
                let partition = self.changed(stream);
                producers.into_iter().for_each(|p| partition.producers.put_back(p));
                partition.lsn = lsn_before;
            }
            _ => {}
        }
    }

    /// A partition with an uncommitted change stays until that is committed.
    fn changed(&mut self, stream: StreamId) -> &mut Partition {
        self.streams.get_mut(stream).expect("an uncommitted change keeps its partition")
    }
}
