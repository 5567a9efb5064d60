//! One partition's state: what has been decided at append, and beside it what commit has shown.

use std::collections::BTreeMap;

use model::{ConsumerName, Lsn, Offset, PartitionIndex, StreamId, TopicConfig, TopicId, TopicName};

use crate::codec::{self, DecodeError, Fields};
use crate::entry::read_consumer;
use crate::producer::Producers;
use crate::undo::BatchUndo;

/// A partition whose log ends at `next_offset`.
///
/// What every publish and its commit touch lies in the first cache line: with thousands of
/// partitions each message finds its own one cold.
#[repr(C, align(64))]
pub(crate) struct Partition {
    pub topic: TopicId,
    /// One past the newest appended offset.
    pub next_offset: Offset,
    /// Payload bytes of the batches from `first_offset` on.
    pub bytes: u64,
    /// The last entry that changed this partition.
    pub lsn: Lsn,
    /// Its deletion is appended: it takes no more changes, and is gone once that is committed.
    pub deleted: bool,
    pub shown: Shown,
    pub config: TopicConfig,
    pub config_version: u32,
    pub first_offset: Offset,
    pub producers: Producers,
    pub consumers: BTreeMap<ConsumerName, Consumer>,
    /// Offsets without records, from the first up to before the second, in rising order.
    pub holes: Vec<Hole>,
    pub index: PartitionIndex,
    pub name: TopicName,
}

const _: () = {
    let end_of_hot = std::mem::offset_of!(Partition, shown) + std::mem::offset_of!(Shown, created);
    assert!(end_of_hot < 64, "what every publish touches is one cache line");
};

/// Offsets from the first up to before the second.
pub(crate) type Hole = (Offset, Offset);

/// What commit has revealed: the only part that readers and other shards are told of.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Shown {
    /// The high watermark: one past the newest committed offset.
    pub next_offset: Offset,
    pub bytes: u64,
    pub created: bool,
    pub first_offset: Offset,
}

/// A named consumer's committed offset.
#[derive(Clone, Copy)]
pub(crate) struct Consumer {
    pub offset: Offset,
    /// The newest one whose entry is committed.
    pub shown: Option<Offset>,
}

impl Partition {
    pub fn new(
        topic: TopicId,
        index: PartitionIndex,
        name: TopicName,
        config: TopicConfig,
        config_version: u32,
        lsn: Lsn,
    ) -> Self {
        Self {
            topic,
            index,
            name,
            config,
            config_version,
            lsn,
            next_offset: 0,
            first_offset: 0,
            bytes: 0,
            producers: Producers::default(),
            consumers: BTreeMap::new(),
            holes: Vec::new(),
            deleted: false,
            shown: Shown::default(),
        }
    }

    /// A batch is added at the end, as the log's entry `lsn`.
    #[inline]
    pub fn append(&mut self, lsn: Lsn, stream: StreamId, records: u32, bytes: u32) -> BatchUndo {
        self.next_offset += u64::from(records);
        self.bytes += u64::from(bytes);
        let lsn_before = std::mem::replace(&mut self.lsn, lsn);
        BatchUndo { stream, records, bytes, lsn_before }
    }

    /// Producers and named consumers.
    pub fn remembered(&self) -> usize {
        self.producers.len() + self.consumers.len()
    }

    /// Where a reader at `offset` finds the next record, as far as commit has shown.
    pub fn behind_hole(&self, offset: Offset) -> Offset {
        let mut at = offset;
        // Holes may touch.
        while let Some((_, to)) = self.hole_of(at).filter(|hole| hole.1 <= self.shown.next_offset) {
            at = to;
        }
        at
    }

    /// The newest offset up to this one that has a record; 0 without any.
    pub fn last_with_record(&self, offset: Offset) -> Offset {
        let mut at = offset;
        while let Some((from, _)) = self.hole_of(at).filter(|_| at > 0) {
            at = from.saturating_sub(1);
        }
        at
    }

    /// The hole that holds `offset`.
    fn hole_of(&self, offset: Offset) -> Option<Hole> {
        let after = self.holes.partition_point(|(from, _)| *from <= offset);
        let hole = *self.holes.get(after.checked_sub(1)?)?;
        (offset < hole.1).then_some(hole)
    }

    /// Everything but `deleted`, `holes` and `shown`: what the log says, not how far it is committed.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::put_u64(out, self.lsn.0);
        codec::put_u64(out, self.topic.0);
        codec::put_u32(out, self.index.0);
        codec::put_u32(out, self.config_version);
        codec::put_config(out, &self.config);
        codec::put_name(out, self.name.as_str());
        codec::put_u64(out, self.first_offset);
        codec::put_u64(out, self.next_offset);
        codec::put_u64(out, self.bytes);
        codec::put_u32(out, self.consumers.len() as u32);
        for (name, consumer) in &self.consumers {
            codec::put_u64(out, consumer.offset);
            codec::put_name(out, name.as_str());
        }
        self.producers.encode(out);
    }

    /// Reads [`Partition::encode`]; all of it counts as committed.
    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let lsn = Lsn(fields.u64()?);
        let (topic, index) = (TopicId(fields.u64()?), PartitionIndex(fields.u32()?));
        let (config_version, config) = (fields.u32()?, fields.config()?);
        let name = fields.topic_name()?;
        let mut partition = Self::new(topic, index, name, config, config_version, lsn);
        partition.first_offset = fields.u64()?;
        partition.next_offset = fields.u64()?;
        partition.bytes = fields.u64()?;
        if partition.first_offset > partition.next_offset {
            return Err(DecodeError::BadField("first offset"));
        }
        for _ in 0..fields.count(9)? {
            let offset = fields.u64()?;
            let consumer = Consumer { offset, shown: Some(offset) };
            partition.consumers.insert(read_consumer(fields)?, consumer);
        }
        partition.producers = Producers::decode(fields)?;
        partition.shown = Shown {
            created: true,
            first_offset: partition.first_offset,
            next_offset: partition.next_offset,
            bytes: partition.bytes,
        };
        Ok(partition)
    }
}
