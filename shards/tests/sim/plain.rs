//! The same state as the engine's, kept in the plainest way: whole histories in vectors, and
//! nothing can be taken back. What was taken back is folded again from the first entry.

use std::collections::BTreeMap;

use corelane_shards::entry::{Change, kind};
use model::{EntryHead, ShardId, StreamId, TopicConfig, TopicId};
use protocol::batch::BatchHeader;

use super::log::Entry;

#[derive(Clone)]
pub struct Batch {
    pub base: u64,
    pub records: u64,
    pub bytes: u64,
    pub time_ms: i64,
    pub lsn: u64,
}

impl Batch {
    pub fn next(&self) -> u64 {
        self.base + self.records
    }
}

/// A batch as its producer counts: `start` never goes round.
#[derive(Clone)]
pub struct Sent {
    pub start: u64,
    pub records: u64,
    pub offset: u64,
    pub lsn: u64,
}

#[derive(Clone)]
pub struct PlainProducer {
    pub epoch: i16,
    pub sent: Vec<Sent>,
    pub time_ms: i64,
}

#[derive(Clone)]
pub struct PlainPartition {
    pub topic: TopicId,
    pub index: u32,
    pub name: String,
    pub config: TopicConfig,
    pub config_version: u32,
    pub batches: Vec<Batch>,
    pub first: u64,
    pub bytes: u64,
    pub consumers: BTreeMap<String, u64>,
    pub producers: BTreeMap<i64, PlainProducer>,
    /// Offsets that were skipped: from, to.
    pub holes: Vec<(u64, u64)>,
}

#[derive(Clone)]
pub struct PlainTopic {
    pub name: String,
    pub config: TopicConfig,
    pub config_version: u32,
    pub shards: Vec<ShardId>,
    pub deleted: bool,
}

#[derive(Clone, Default)]
pub struct Plain {
    pub entries: u64,
    pub partitions: BTreeMap<u32, PlainPartition>,
    pub topics: BTreeMap<u64, PlainTopic>,
    pub producer_ids: i64,
    pub time_ms: i64,
}

/// What a batch of a producer is, told from its whole history.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    Append,
    Duplicate { offset: u64, original: u64 },
    Unknown,
    Fenced,
    OutOfOrder,
    Forgotten,
}

const SEQUENCES: u64 = 1 << 31;
const RUN_RECORDS_MAX: u64 = 1 << 30;

impl PlainProducer {
    pub fn next_start(&self) -> u64 {
        self.sent.last().map_or(0, |sent| sent.start + sent.records)
    }

    /// The batches of the last 64 runs, run by run.
    fn remembered(&self) -> Vec<Vec<Sent>> {
        let mut runs: Vec<Vec<Sent>> = Vec::new();
        for sent in &self.sent {
            let joins = runs.last().is_some_and(|run| {
                let last = run.last().unwrap();
                let records: u64 = run.iter().map(|sent| sent.records).sum();
                last.offset + last.records == sent.offset
                    && records + sent.records <= RUN_RECORDS_MAX
            });
            if joins {
                runs.last_mut().unwrap().push(sent.clone());
            } else {
                runs.push(vec![sent.clone()]);
            }
        }
        let forgotten = runs.len().saturating_sub(model::limits::PRODUCER_RUNS_MAX);
        runs.split_off(forgotten)
    }

    fn judge(&self, sequence: u64, records: u64) -> Expected {
        let next = self.next_start();
        let ahead = (sequence + SEQUENCES - next % SEQUENCES) % SEQUENCES;
        if ahead == 0 {
            return Expected::Append;
        }
        if ahead < SEQUENCES / 2 {
            return Expected::OutOfOrder;
        }
        let behind = SEQUENCES - ahead;
        if behind < records {
            return Expected::OutOfOrder;
        }
        let Some(start) = next.checked_sub(behind) else { return Expected::Forgotten };
        for run in self.remembered() {
            let first = &run[0];
            let end = run.last().map(|sent| sent.start + sent.records).unwrap();
            if first.start <= start && start + records <= end {
                let offset = first.offset + (start - first.start);
                let last = start + records - 1;
                let holds = |sent: &&Sent| (sent.start..sent.start + sent.records).contains(&last);
                let original = run.iter().find(holds).unwrap().lsn;
                return Expected::Duplicate { offset, original };
            }
        }
        Expected::Forgotten
    }
}

impl PlainPartition {
    pub fn next(&self) -> u64 {
        let hole = self.holes.last().map_or(0, |hole| hole.1);
        self.batches.last().map_or(0, Batch::next).max(hole)
    }

    fn hole_of(&self, offset: u64) -> Option<(u64, u64)> {
        self.holes.iter().copied().find(|(from, to)| (*from..*to).contains(&offset))
    }

    /// Where a reader at `offset` goes on.
    pub fn behind(&self, offset: u64) -> u64 {
        self.hole_of(offset).map_or(offset, |hole| self.behind(hole.1))
    }

    /// The last offset that has a record, as far as 0.
    pub fn last(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.next() - 1)
    }

    pub fn judge(&self, header: &BatchHeader) -> Expected {
        if header.producer_id < 0 {
            return Expected::Append;
        }
        let first = header.base_sequence == 0;
        match self.producers.get(&header.producer_id) {
            None if first => Expected::Append,
            None => Expected::Unknown,
            Some(known) if header.producer_epoch < known.epoch => Expected::Fenced,
            Some(known) if header.producer_epoch > known.epoch && first => Expected::Append,
            Some(known) if header.producer_epoch > known.epoch => Expected::OutOfOrder,
            Some(known) => {
                known.judge(header.base_sequence as u64, u64::from(header.records_count))
            }
        }
    }

    /// Batches that hold anything from `offset` on.
    pub fn from(&self, offset: u64) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(move |batch| batch.next() > offset)
    }
}

impl Plain {
    pub fn fold(entries: &[Entry]) -> Plain {
        let mut plain = Plain { producer_ids: 1, ..Plain::default() };
        entries.iter().for_each(|entry| plain.apply(entry));
        plain
    }

    pub fn topic_named(&self, name: &str) -> Option<u64> {
        let live = self.topics.iter().filter(|(_, topic)| !topic.deleted);
        live.filter(|(_, topic)| topic.name == name).map(|(id, _)| *id).next()
    }

    pub fn place(&self, topic: TopicId, index: u32) -> Option<u32> {
        let mut found = self.partitions.iter();
        found.find(|(_, p)| p.topic == topic && p.index == index).map(|(stream, _)| *stream)
    }

    pub fn apply(&mut self, entry: &Entry) {
        self.entries += 1;
        self.time_ms = self.time_ms.max(entry.head.time_ms);
        let StreamId(stream) = entry.head.stream;
        if entry.head.kind == kind::BATCH {
            return self.apply_batch(&entry.head, &entry.payload);
        }
        let change = Change::decode(entry.head.kind, &entry.payload).unwrap().unwrap();
        assert_eq!(change.flags(), entry.head.flags);
        match change {
            Change::PartitionCreated { topic, name, index, config, config_version } => {
                let partition = PlainPartition {
                    topic,
                    index: index.0,
                    name: name.as_str().to_owned(),
                    config,
                    config_version,
                    batches: Vec::new(),
                    first: 0,
                    bytes: 0,
                    consumers: BTreeMap::new(),
                    producers: BTreeMap::new(),
                    holes: Vec::new(),
                };
                let old = self.partitions.insert(stream, partition);
                assert!(old.is_none(), "stream {stream} was given out twice");
            }
            Change::PartitionDeleted => {
                self.partitions.remove(&stream).unwrap();
            }
            Change::TopicCreated { id, name, config, shards } => {
                let name = name.as_str().to_owned();
                let topic = PlainTopic { name, config, config_version: 1, shards, deleted: false };
                assert!(
                    self.topics.insert(id.0, topic).is_none(),
                    "topic {id} was given out twice"
                );
            }
            Change::TopicAltered { id, config_version, config } => {
                let topic = self.topics.get_mut(&id.0).unwrap();
                (topic.config_version, topic.config) = (config_version, config);
            }
            Change::TopicDeleted { id } => self.topics.get_mut(&id.0).unwrap().deleted = true,
            Change::TombstoneCleared { id } => {
                self.topics.remove(&id.0).unwrap();
            }
            Change::ProducerIdsAllocated { next } => self.producer_ids = next,
            change => self.apply_to_partition(stream, change),
        }
    }

    fn apply_to_partition(&mut self, stream: u32, change: Change) {
        let partition = self.partitions.get_mut(&stream).unwrap();
        match change {
            Change::PartitionAltered { config_version, config } => {
                (partition.config_version, partition.config) = (config_version, config);
            }
            Change::OffsetCommitted { consumer, offset } => {
                partition.consumers.insert(consumer.as_str().to_owned(), offset);
            }
            Change::LogStartAdvanced { offset, bytes } => {
                partition.first = offset;
                partition.bytes -= bytes;
            }
            Change::OffsetsSkipped { from, to, .. } => {
                assert_eq!(from, partition.next());
                partition.holes.push((from, to));
            }
            Change::ProducersExpired { ids } => {
                ids.iter().for_each(|id| assert!(partition.producers.remove(id).is_some()));
            }
            change => panic!("{change:?} is not a partition's"),
        }
    }

    fn apply_batch(&mut self, head: &EntryHead, payload: &[u8]) {
        let lsn = self.entries;
        let partition = self.partitions.get_mut(&head.stream.0).unwrap();
        let header = BatchHeader::parse(payload.first_chunk().unwrap()).unwrap();
        assert_eq!(header.base_offset, head.base_offset, "the stored batch says its offset");
        assert_eq!(head.base_offset, partition.next(), "offsets leave no gap");
        assert_eq!(head.records, header.records_count);
        let (records, bytes) = (u64::from(head.records), payload.len() as u64);
        let (base, time_ms) = (head.base_offset, head.time_ms);
        partition.batches.push(Batch { base, records, bytes, time_ms, lsn });
        partition.bytes += bytes;
        if header.producer_id >= 0 {
            let fresh = PlainProducer { epoch: header.producer_epoch, sent: Vec::new(), time_ms };
            let known = partition.producers.entry(header.producer_id).or_insert(fresh.clone());
            if known.epoch != header.producer_epoch {
                *known = fresh;
            }
            let start = known.next_start();
            known.sent.push(Sent { start, records, offset: base, lsn });
            known.time_ms = time_ms;
        }
    }
}
