//! Requests that change the state, each with what the plain model expects of the answer.

use corelane_shards::entry::SkipCause;
use corelane_shards::{PlainBatch, SegmentShare, TopicSpec};
use model::{
    AckLevel, ConsumerName, ErrorCode, Lsn, PartitionIndex, ShardId, StreamId, TopicChange,
    TopicConfig, TopicId, TopicName,
};
use protocol::batch::BatchHeader;

use super::plain::{Expected, PlainPartition};
use super::world::{World, find};

impl World {
    fn some_config(&mut self) -> TopicConfig {
        let age_ms = self.random.between(50, 4_000);
        let bytes = self.random.between(200, 5_000);
        TopicConfig {
            retention_ms: self.random.percent(50).then_some(age_ms),
            retention_bytes: self.random.percent(50).then_some(bytes),
            ack: self.random.pick(&[AckLevel::Durable, AckLevel::Memory]).unwrap(),
        }
    }

    fn some_place(&mut self) -> (TopicId, PartitionIndex) {
        (TopicId(self.random.between(1, 3)), PartitionIndex(self.random.below(4) as u32))
    }

    fn some_name(&mut self) -> TopicName {
        TopicName::parse(&format!("t{}", self.random.below(3))).unwrap()
    }

    pub fn create_partition(&mut self) {
        let (id, index) = self.some_place();
        let name = TopicName::parse(&format!("p{id}")).unwrap();
        let config = self.some_config();
        let spec = TopicSpec { id, name, config, config_version: 1 };
        let known = self.decided.place(id, index.0);
        let got = self.engine.create_partition(self.now_ms, &spec, index, &mut self.log);
        let expected = if known.is_some() { None } else { self.no_room(false) };
        if self.refused(&got, expected) {
            return;
        }
        let (stream, lsn) = got.unwrap();
        if let Some(known) = known {
            assert_eq!(stream, StreamId(known));
            let shown = self.shown.partitions.contains_key(&known);
            assert_eq!(lsn == Lsn::ZERO, shown);
        } else {
            assert_eq!(lsn, self.log.last());
        }
        self.follow();
        assert_eq!(self.decided.place(id, index.0), Some(stream.0));
        let label = format!("{}/{index}", self.decided.partitions[&stream.0].name);
        assert_eq!(self.engine.label(stream), Some(label.into_bytes()));
    }

    pub fn alter_partition(&mut self) {
        let (id, index) = self.some_place();
        let version = self.random.between(1, 6) as u32;
        let config = self.some_config();
        let known = self.decided.place(id, index.0).map(|s| &self.decided.partitions[&s]);
        let expected = match known {
            None => Some(ErrorCode::UnknownPartition),
            Some(partition) if version <= partition.config_version => None,
            Some(_) => self.no_room(true),
        };
        let (now_ms, log) = (self.now_ms, &mut self.log);
        let got = self.engine.alter_partition(now_ms, id, index, version, &config, log);
        self.refused(&got, expected);
        self.follow();
    }

    pub fn delete_partition(&mut self) {
        let (id, index) = self.some_place();
        let known = self.decided.place(id, index.0);
        let expected = known.and_then(|_| self.no_room(true));
        let got = self.engine.delete_partition(self.now_ms, id, index, &mut self.log);
        if !self.refused(&got, expected) {
            self.follow();
            assert_eq!(self.decided.place(id, index.0), None);
        }
    }

    pub fn create_topic(&mut self) {
        let (name, config) = (self.some_name(), self.some_config());
        let count = self.random.below(4);
        let shards: Vec<ShardId> =
            (0..count).map(|_| ShardId(self.random.below(3) as u16)).collect();
        let expected = if self.decided.topic_named(name.as_str()).is_some() {
            Some(ErrorCode::TopicExists)
        } else if shards.is_empty() {
            Some(ErrorCode::InvalidArgument)
        } else {
            self.no_room(false)
        };
        let got = self.engine.create_topic(self.now_ms, &name, &config, &shards, &mut self.log);
        if !self.refused(&got, expected) {
            self.follow();
            assert_eq!(self.decided.topic_named(name.as_str()), Some(got.unwrap().0.0));
        }
    }

    pub fn alter_topic(&mut self) {
        let name = self.some_name();
        let config = self.some_config();
        let change = TopicChange {
            retention_ms: self.random.percent(50).then_some(config.retention_ms),
            retention_bytes: self.random.percent(50).then_some(config.retention_bytes),
            ack: self.random.percent(50).then_some(config.ack),
        };
        let known = self.decided.topic_named(name.as_str()).map(|id| &self.decided.topics[&id]);
        let after = known.map(|topic| change.applied_to(&topic.config));
        let expected = match known {
            None => Some(ErrorCode::UnknownTopic),
            Some(topic) if after.as_ref() == Some(&topic.config) => None,
            Some(_) => self.no_room(true),
        };
        let got = self.engine.alter_topic(self.now_ms, &name, &change, &mut self.log);
        if !self.refused(&got, expected) {
            self.follow();
            let (record, _) = got.unwrap();
            let topic = &self.decided.topics[&record.id.0];
            assert_eq!(Some(&record.config), after.as_ref());
            assert_eq!(
                (&record.config, record.config_version),
                (&topic.config, topic.config_version)
            );
        }
    }

    pub fn delete_topic(&mut self) {
        let name = self.some_name();
        let known = self.decided.topic_named(name.as_str());
        let expected =
            if known.is_some() { self.no_room(true) } else { Some(ErrorCode::UnknownTopic) };
        let got = self.engine.delete_topic(self.now_ms, &name, &mut self.log);
        if let Err(rejection) = &got
            && rejection.code == ErrorCode::UnknownTopic
        {
            assert!(rejection.message.contains(&format!("corelane topic create {name}")));
        }
        if !self.refused(&got, expected) {
            self.follow();
            assert_eq!(self.decided.topic_named(name.as_str()), None);
        }
    }

    pub fn clear_tombstone(&mut self) {
        let known: Vec<u64> = self.decided.topics.keys().copied().collect();
        let known = self.random.pick(&known).filter(|_| self.random.percent(80));
        let id = TopicId(known.unwrap_or_else(|| self.random.between(1, 30)));
        let expected = match self.decided.topics.get(&id.0) {
            None => None,
            Some(topic) if topic.deleted => self.no_room(true),
            Some(_) => Some(ErrorCode::InvalidArgument),
        };
        let got = self.engine.tombstone_cleared(self.now_ms, id, &mut self.log);
        self.refused(&got, expected);
        self.follow();
    }

    pub fn allocate_producer_id(&mut self) {
        let before = self.decided.entries;
        let got = self.engine.allocate_producer_id(self.now_ms, &mut self.log);
        self.note(&got);
        self.follow();
        let Ok((id, lsn)) = got else {
            assert!(self.no_room(false).is_some() && self.decided.entries == before);
            return;
        };
        assert!((1..self.decided.producer_ids).contains(&id));
        assert!(!self.ids_issued.contains(&id), "producer id {id} was given out before");
        assert!(self.ids_waiting.iter().all(|(other, _)| *other != id));
        self.ids_waiting.push((id, lsn));
        self.settle_ids();
    }

    /// Answers what is committed.
    pub fn settle_ids(&mut self) {
        let committed = self.engine.committed_lsn();
        let (done, waiting) = self.ids_waiting.iter().partition(|(_, lsn)| *lsn <= committed);
        self.ids_waiting = waiting;
        let done: Vec<(i64, Lsn)> = done;
        self.ids_issued.extend(done.iter().map(|(id, _)| *id));
    }

    pub fn commit_offset(&mut self) {
        let handle = self.some_handle();
        let consumer = ConsumerName::parse(&format!("c{}", self.random.below(3))).unwrap();
        let shown_next = find(&self.shown, handle).map_or(0, |p| p.next());
        let offset = self.random.below(shown_next + 3);
        let expected = match find(&self.decided, handle) {
            None => Some(ErrorCode::UnknownPartition),
            Some(_) if offset > shown_next => Some(ErrorCode::OffsetOutOfRange),
            Some(p) if p.consumers.get(consumer.as_str()) == Some(&offset) => None,
            Some(_) => self.no_room(true),
        };
        let (now_ms, log) = (self.now_ms, &mut self.log);
        let got = self.engine.commit_offset(now_ms, handle, &consumer, offset, log);
        if !self.refused(&got, expected) {
            self.follow();
            let partition = find(&self.decided, handle).unwrap();
            assert_eq!(partition.consumers[consumer.as_str()], offset);
        }
    }

    pub fn produce(&mut self) {
        let handle = self.some_handle();
        let known = find(&self.decided, handle).cloned();
        let header = self.some_batch(known.as_ref());
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(header.batch_length as usize, self.random.next() as u8);
        let mut cuts: Vec<usize> = (0..self.random.below(4))
            .map(|_| self.random.below(bytes.len() as u64) as usize)
            .collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let verdict = known.as_ref().map(|partition| partition.judge(&header));
        let expected = match &verdict {
            None => Some(ErrorCode::UnknownPartition),
            Some(Expected::Append) => self.no_room(false),
            Some(Expected::Duplicate { .. }) => None,
            Some(Expected::Unknown) => Some(ErrorCode::UnknownProducer),
            Some(Expected::Fenced) => Some(ErrorCode::ProducerFenced),
            Some(Expected::OutOfOrder) => Some(ErrorCode::OutOfOrderSequence),
            Some(Expected::Forgotten) => Some(ErrorCode::DuplicateSequence),
        };
        let got = self.engine.produce(self.now_ms, handle, &header, &parts, &mut self.log);
        if self.refused(&got, expected) {
            return;
        }
        let (got, known) = (got.unwrap(), known.unwrap());
        assert_eq!(got.records, header.records_count);
        if let Some(Expected::Duplicate { offset, original }) = verdict {
            assert!(got.duplicate);
            assert_eq!(got.base_offset, offset);
            assert_eq!(self.log.last().0, self.decided.entries, "a repetition appends nothing");
            assert!(got.lsn.0 >= original || original <= self.shown.entries);
            assert!(got.lsn <= self.log.last());
            return;
        }
        assert!(!got.duplicate);
        assert_eq!((got.base_offset, got.lsn), (known.next(), self.log.last()));
        let entry = self.log.entries.last().unwrap();
        assert_eq!(entry.head.time_ms, got.time_ms);
        assert_eq!(entry.payload[8..12], bytes[8..12]);
        assert_eq!(entry.payload[12..16], [0; 4], "the leader epoch is 0");
        assert_eq!(entry.payload[16..], bytes[16..]);
        self.follow();
    }

    /// Several batches at once, now and then for partitions that there are not: all or none.
    pub fn produce_run(&mut self) {
        let handle = self.some_handle();
        let batches: Vec<_> = (0..self.random.between(1, 12))
            .flat_map(|_| {
                let to = if self.random.percent(80) { handle } else { self.some_handle() };
                let header = self.some_batch(None);
                let mut bytes = header.to_bytes().to_vec();
                bytes.resize(header.batch_length as usize, self.random.next() as u8);
                // Some come several times over, as small messages mostly do.
                let times = if self.random.percent(40) { self.random.between(2, 6) } else { 1 };
                vec![(to, header, bytes); times as usize]
            })
            .filter(|(_, header, _)| !header.is_idempotent())
            .collect();
        let numbered = self.some_batch(None);
        let bytes = vec![0; numbered.batch_length as usize];
        let plain = PlainBatch::new(handle, &numbered, &bytes);
        assert_eq!(plain.is_none(), numbered.is_idempotent());
        if batches.is_empty() {
            return;
        }
        let all_known = batches.iter().all(|(to, ..)| find(&self.decided, *to).is_some());
        let room = self.no_room(false);
        let expected = if all_known { room } else { Some(ErrorCode::UnknownPartition) };
        let plain: Vec<_> = batches
            .iter()
            .map(|(to, header, bytes)| PlainBatch::new(*to, header, bytes).unwrap())
            .collect();
        let before = self.log.last();
        let mut offsets = vec![7];
        let (now_ms, log) = (self.now_ms, &mut self.log);
        let got = self.engine.produce_run(now_ms, plain.iter(), &mut offsets, log);
        if self.refused(&got, expected) {
            assert_eq!(self.log.last(), before, "all or none");
            return;
        }
        let got = got.unwrap();
        assert_eq!(got.first_lsn, before.next());
        assert_eq!(self.log.last().0, before.0 + batches.len() as u64);
        assert_eq!(offsets.len(), batches.len());
        for (at, (to, header, bytes)) in batches.iter().enumerate() {
            let entry = self.log.entries[before.0 as usize + at].clone();
            assert_eq!((entry.head.stream, entry.head.time_ms), (to.stream, got.time_ms));
            assert_eq!(
                (entry.head.base_offset, entry.head.records),
                (offsets[at], header.records_count)
            );
            assert_eq!(offsets[at], find(&self.decided, *to).unwrap().next());
            assert_eq!(entry.payload[..8], offsets[at].to_be_bytes());
            assert_eq!(entry.payload[8..12], bytes[8..12]);
            assert_eq!(entry.payload[12..16], [0; 4], "the leader epoch is 0");
            assert_eq!(entry.payload[16..], bytes[16..]);
            self.decided.apply(&entry);
        }
    }

    /// A batch with or without a producer: mostly the next one, often a repetition, sometimes
    /// wrong.
    fn some_batch(&mut self, partition: Option<&PlainPartition>) -> BatchHeader {
        let mut records = self.random.between(1, 5);
        if self.random.percent(1) {
            records = 1 << 29;
        }
        let mut header = BatchHeader {
            base_offset: self.random.next(),
            batch_length: self.random.between(61, 300) as u32,
            leader_epoch: -1,
            crc: 7,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: 0,
        };
        if self.random.percent(70) {
            header.producer_id = self.random.between(1, 4) as i64;
            let known = partition.and_then(|p| p.producers.get(&header.producer_id));
            header.producer_epoch = known.map_or(0, |producer| producer.epoch);
            let mut sequence = known.map_or(0, |producer| producer.next_start());
            match self.random.below(20) {
                0 => sequence += self.random.between(1, 9),
                1..=5 => {
                    if let Some(sent) = known.and_then(|p| self.random.pick(&p.sent)) {
                        (sequence, records) = (sent.start, sent.records);
                    }
                }
                6 => sequence = sequence.saturating_sub(self.random.between(1, 9)),
                7 => sequence = self.random.below(1 << 31),
                8 => {
                    header.producer_epoch += self.random.between(0, 2) as i16 - 1;
                    sequence = 0;
                }
                _ => {}
            }
            header.producer_epoch = header.producer_epoch.max(0);
            header.base_sequence = (sequence % (1 << 31)) as i32;
        }
        header.records_count = records as u32;
        header.last_offset_delta = records as u32 - 1;
        header
    }

    pub fn advance_log_start(&mut self) {
        let stream = self.some_handle().stream;
        let Some(partition) = self.decided.partitions.get(&stream.0) else { return };
        let kept: Vec<_> = partition.from(partition.first).cloned().collect();
        if kept.is_empty() {
            return;
        }
        let share = &kept[..self.random.between(1, kept.len() as u64) as usize];
        let last_offset = share.last().unwrap().next() - 1;
        let bytes: u64 = share.iter().map(|batch| batch.bytes).sum();
        let max_time_ms = share.iter().map(|batch| batch.time_ms).max().unwrap();
        let now_ms = self.now_ms.max(self.decided.time_ms);
        let shown_next = self.shown.partitions.get(&stream.0).map_or(0, |p| p.next());
        let config = &partition.config;
        let old = config.retention_ms.is_some_and(|limit| now_ms - max_time_ms > limit as i64);
        let large = config.retention_bytes.is_some_and(|limit| partition.bytes - bytes >= limit);
        let goes = (old || large) && last_offset < shown_next && self.no_room(true).is_none();
        let first_offset = kept[0].base;
        let share = SegmentShare { first_offset, last_offset, max_time_ms, bytes };
        let got = self.engine.advance_log_start(self.now_ms, stream, share, &mut self.log);
        self.note(&got);
        assert_eq!(got.is_some(), goes);
        self.follow();
        if goes {
            let partition = &self.decided.partitions[&stream.0];
            let left: u64 = partition.from(partition.first).map(|batch| batch.bytes).sum();
            let first = self.shown.partitions[&stream.0].behind(last_offset + 1);
            assert_eq!((partition.first, partition.bytes), (first, left));
        }
    }

    pub fn skip_offsets(&mut self) {
        let handle = self.some_handle();
        let known = find(&self.decided, handle).map(PlainPartition::next);
        let to = known.unwrap_or(0) + self.random.below(9);
        let expected = match known {
            None => Some(ErrorCode::UnknownPartition),
            Some(next) if to <= next => Some(ErrorCode::InvalidArgument),
            Some(_) => self.no_room(false),
        };
        let (now_ms, log) = (self.now_ms, &mut self.log);
        let got = self.engine.skip_offsets(now_ms, handle, to, SkipCause::Lost, log);
        if !self.refused(&got, expected) {
            self.follow();
            assert_eq!(find(&self.decided, handle).unwrap().next(), to);
        }
    }

    pub fn expire_producers(&mut self) {
        let idle_ms = self.random.between(100, 2_000);
        let before_ms = self.now_ms.max(self.decided.time_ms) - idle_ms as i64;
        let all = self.decided.partitions.values().flat_map(|p| p.producers.values());
        let idle = all.filter(|producer| producer.time_ms < before_ms).count();
        let expected = if self.no_room(true).is_some() { 0 } else { idle };
        let got = self.engine.expire_producers(self.now_ms, idle_ms, &mut self.log);
        assert_eq!(got, expected);
        self.follow();
    }
}
