//! What the entries of a shard's log mean: the one definition of each kind and its payload.
//!
//! Entries hold outcomes (offset, time, id), never requests: replaying needs nothing else. All
//! integers are little-endian. A name is a u8 length and its characters; settings are a u8 of
//! presence bits (1 retention_ms, 2 retention_bytes), the ack level u8, retention_ms u64,
//! retention_bytes u64 (0 where absent).
//!
//! | kind | payload |
//! |---|---|
//! | 1 batch | one RecordBatch v2, as it is |
//! | 2 partition created | topic u64, index u32, settings version u32, settings, topic name |
//! | 3 partition altered | settings version u32, settings |
//! | 4 partition deleted | nothing |
//! | 5 topic created | topic u64, settings, name, count u32, then a shard u16 per partition |
//! | 6 topic altered | topic u64, settings version u32, settings |
//! | 7 topic deleted, 8 tombstone cleared | topic u64 |
//! | 9 offset committed | offset u64, consumer name |
//! | 10 log start advanced | offset u64, bytes removed u64 |
//! | 11 producers expired | count u32, then ids i64, rising |
//! | 12 producer ids allocated | next i64 |
//! | 13 offsets skipped | from u64, to u64, cause u8: 1 lost, 2 not kept |
//! | 14 producers restored | 1 when they replace all known before, else 0; then as in a checkpoint |
//!
//! Kinds 4, 7, 8 and 10 carry the flag "frees space"; 13 carries "offsets leap", with `to` as the
//! head's base offset. Kinds 13 and 14 are written by offline tools only.

use model::{
    ConsumerName, EntryHead, Offset, PartitionIndex, ShardId, SpaceUse, StreamId, TopicConfig,
    TopicId, TopicName,
};

use protocol::batch::{BATCH_HEADER_BYTES, BatchHeader};

use crate::codec::{self, DecodeError, Fields};
use crate::producer::ProducerStates;

/// The numbers in [`EntryHead::kind`]. A number is never given a second meaning.
pub mod kind {
    pub const BATCH: u8 = 1;
    pub const PARTITION_CREATED: u8 = 2;
    pub const PARTITION_ALTERED: u8 = 3;
    pub const PARTITION_DELETED: u8 = 4;
    pub const TOPIC_CREATED: u8 = 5;
    pub const TOPIC_ALTERED: u8 = 6;
    pub const TOPIC_DELETED: u8 = 7;
    pub const TOMBSTONE_CLEARED: u8 = 8;
    pub const OFFSET_COMMITTED: u8 = 9;
    pub const LOG_START_ADVANCED: u8 = 10;
    pub const PRODUCERS_EXPIRED: u8 = 11;
    pub const PRODUCER_IDS_ALLOCATED: u8 = 12;
    pub const OFFSETS_SKIPPED: u8 = 13;
    pub const PRODUCERS_RESTORED: u8 = 14;
}

/// Why there are no records for some offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SkipCause {
    /// There were, or may have been, acknowledged records; they are gone.
    Lost = 1,
    /// They were removed by retention before the log was written anew.
    NotKept = 2,
}

/// Every change that is not a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The head's stream is the new partition's.
    PartitionCreated {
        topic: TopicId,
        name: TopicName,
        index: PartitionIndex,
        config: TopicConfig,
        config_version: u32,
    },
    PartitionAltered {
        config_version: u32,
        config: TopicConfig,
    },
    PartitionDeleted,
    /// Shard 0 only, like all topic changes. `shards` has one element a partition. The
    /// settings are version 1.
    TopicCreated {
        id: TopicId,
        name: TopicName,
        config: TopicConfig,
        shards: Vec<ShardId>,
    },
    TopicAltered {
        id: TopicId,
        config_version: u32,
        config: TopicConfig,
    },
    /// Leaves a tombstone: the name is free, the partitions are still to be deleted.
    TopicDeleted {
        id: TopicId,
    },
    /// Every shard has deleted its partitions of the topic.
    TombstoneCleared {
        id: TopicId,
    },
    /// `offset` is the next one the consumer will read.
    OffsetCommitted {
        consumer: ConsumerName,
        offset: Offset,
    },
    /// `offset` is the oldest one kept from now on; `bytes` is what was removed with the rest.
    LogStartAdvanced {
        offset: Offset,
        bytes: u64,
    },
    /// Ids in rising order.
    ProducersExpired {
        ids: Vec<i64>,
    },
    /// Ids below `next` may have been given out.
    ProducerIdsAllocated {
        next: i64,
    },
    /// The partition ended before `from` and goes on at `to`. Readers in between are taken to
    /// `to`.
    OffsetsSkipped {
        from: Offset,
        to: Offset,
        cause: SkipCause,
    },
    /// What idempotent producers have written, where the batches that said so are not in the log.
    ProducersRestored {
        replaces: bool,
        producers: ProducerStates,
    },
}

impl Change {
    /// The number in the entry's head.
    pub fn kind(&self) -> u8 {
        match self {
            Self::PartitionCreated { .. } => kind::PARTITION_CREATED,
            Self::PartitionAltered { .. } => kind::PARTITION_ALTERED,
            Self::PartitionDeleted => kind::PARTITION_DELETED,
            Self::TopicCreated { .. } => kind::TOPIC_CREATED,
            Self::TopicAltered { .. } => kind::TOPIC_ALTERED,
            Self::TopicDeleted { .. } => kind::TOPIC_DELETED,
            Self::TombstoneCleared { .. } => kind::TOMBSTONE_CLEARED,
            Self::OffsetCommitted { .. } => kind::OFFSET_COMMITTED,
            Self::LogStartAdvanced { .. } => kind::LOG_START_ADVANCED,
            Self::ProducersExpired { .. } => kind::PRODUCERS_EXPIRED,
            Self::ProducerIdsAllocated { .. } => kind::PRODUCER_IDS_ALLOCATED,
            Self::OffsetsSkipped { .. } => kind::OFFSETS_SKIPPED,
            Self::ProducersRestored { .. } => kind::PRODUCERS_RESTORED,
        }
    }

    /// The flags in the entry's head.
    pub fn flags(&self) -> u8 {
        match (self.space_use(), self) {
            (SpaceUse::Frees, _) => EntryHead::FLAG_FREES_SPACE,
            (_, Self::OffsetsSkipped { .. }) => EntryHead::FLAG_OFFSETS_LEAP,
            (SpaceUse::GoesOn | SpaceUse::Grows, _) => 0,
        }
    }

    /// Whether the entry is let in when the disk is full. Shorter retention comes as a change of
    /// a topic, so those go on as well.
    pub fn space_use(&self) -> SpaceUse {
        match self {
            Self::PartitionDeleted
            | Self::TopicDeleted { .. }
            | Self::TombstoneCleared { .. }
            | Self::LogStartAdvanced { .. } => SpaceUse::Frees,
            Self::OffsetCommitted { .. }
            | Self::ProducersExpired { .. }
            | Self::PartitionAltered { .. }
            | Self::TopicAltered { .. } => SpaceUse::GoesOn,
            Self::PartitionCreated { .. }
            | Self::TopicCreated { .. }
            | Self::ProducerIdsAllocated { .. }
            | Self::OffsetsSkipped { .. }
            | Self::ProducersRestored { .. } => SpaceUse::Grows,
        }
    }

    /// The head of the entry that records this change.
    pub fn head(&self, stream: StreamId, time_ms: i64) -> EntryHead {
        let base_offset = match self {
            Self::OffsetsSkipped { to, .. } => *to,
            _ => 0,
        };
        let (kind, flags) = (self.kind(), self.flags());
        EntryHead { kind, flags, stream, base_offset, records: 0, time_ms }
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::PartitionCreated { topic, name, index, config, config_version } => {
                codec::put_u64(out, topic.0);
                codec::put_u32(out, index.0);
                codec::put_u32(out, *config_version);
                codec::put_config(out, config);
                codec::put_name(out, name.as_str());
            }
            Self::PartitionAltered { config_version, config } => {
                codec::put_u32(out, *config_version);
                codec::put_config(out, config);
            }
            Self::PartitionDeleted => {}
            Self::TopicCreated { id, name, config, shards } => {
                codec::put_u64(out, id.0);
                codec::put_config(out, config);
                codec::put_name(out, name.as_str());
                put_shards(out, shards);
            }
            Self::TopicAltered { id, config_version, config } => {
                codec::put_u64(out, id.0);
                codec::put_u32(out, *config_version);
                codec::put_config(out, config);
            }
            Self::TopicDeleted { id } | Self::TombstoneCleared { id } => codec::put_u64(out, id.0),
            Self::OffsetCommitted { consumer, offset } => {
                codec::put_u64(out, *offset);
                codec::put_name(out, consumer.as_str());
            }
            Self::LogStartAdvanced { offset, bytes } => {
                codec::put_u64(out, *offset);
                codec::put_u64(out, *bytes);
            }
            Self::ProducersExpired { ids } => {
                codec::put_u32(out, ids.len() as u32);
                ids.iter().for_each(|id| codec::put_i64(out, *id));
            }
            Self::ProducerIdsAllocated { next } => codec::put_i64(out, *next),
            Self::OffsetsSkipped { from, to, cause } => {
                codec::put_u64(out, *from);
                codec::put_u64(out, *to);
                codec::put_u8(out, *cause as u8);
            }
            Self::ProducersRestored { replaces, producers } => {
                codec::put_u8(out, u8::from(*replaces));
                producers.encode(out);
            }
        }
    }

    /// Reads the payload of an entry of this kind; `Ok(None)` for a kind that is not a change.
    pub fn decode(entry_kind: u8, payload: &[u8]) -> Result<Option<Change>, DecodeError> {
        let mut fields = Fields::new(payload);
        let change = match entry_kind {
            kind::PARTITION_CREATED => decode_partition_created(&mut fields)?,
            kind::PARTITION_ALTERED => {
                Self::PartitionAltered { config_version: fields.u32()?, config: fields.config()? }
            }
            kind::PARTITION_DELETED => Self::PartitionDeleted,
            kind::TOPIC_CREATED => Self::TopicCreated {
                id: TopicId(fields.u64()?),
                config: fields.config()?,
                name: fields.topic_name()?,
                shards: read_shards(&mut fields)?,
            },
            kind::TOPIC_ALTERED => Self::TopicAltered {
                id: TopicId(fields.u64()?),
                config_version: fields.u32()?,
                config: fields.config()?,
            },
            kind::TOPIC_DELETED => Self::TopicDeleted { id: TopicId(fields.u64()?) },
            kind::TOMBSTONE_CLEARED => Self::TombstoneCleared { id: TopicId(fields.u64()?) },
            kind::OFFSET_COMMITTED => Self::OffsetCommitted {
                offset: fields.u64()?,
                consumer: read_consumer(&mut fields)?,
            },
            kind::LOG_START_ADVANCED => {
                Self::LogStartAdvanced { offset: fields.u64()?, bytes: fields.u64()? }
            }
            kind::PRODUCERS_EXPIRED => {
                let count = fields.count(8)?;
                let ids = (0..count).map(|_| fields.i64()).collect::<Result<_, _>>()?;
                Self::ProducersExpired { ids }
            }
            kind::PRODUCER_IDS_ALLOCATED => Self::ProducerIdsAllocated { next: fields.i64()? },
            kind::OFFSETS_SKIPPED => decode_offsets_skipped(&mut fields)?,
            kind::PRODUCERS_RESTORED => Self::ProducersRestored {
                replaces: fields.u8()? == 1,
                producers: ProducerStates::decode(&mut fields)?,
            },
            _ => return Ok(None),
        };
        fields.end()?;
        Ok(Some(change))
    }
}

fn decode_partition_created(fields: &mut Fields<'_>) -> Result<Change, DecodeError> {
    Ok(Change::PartitionCreated {
        topic: TopicId(fields.u64()?),
        index: PartitionIndex(fields.u32()?),
        config_version: fields.u32()?,
        config: fields.config()?,
        name: fields.topic_name()?,
    })
}

fn decode_offsets_skipped(fields: &mut Fields<'_>) -> Result<Change, DecodeError> {
    let (from, to) = (fields.u64()?, fields.u64()?);
    if from >= to {
        return Err(DecodeError::BadField("skipped offsets"));
    }
    let cause = match fields.u8()? {
        1 => SkipCause::Lost,
        2 => SkipCause::NotKept,
        _ => return Err(DecodeError::BadField("cause")),
    };
    Ok(Change::OffsetsSkipped { from, to, cause })
}

/// One shard a partition: a u32 count, then u16 each.
pub(crate) fn put_shards(out: &mut Vec<u8>, shards: &[ShardId]) {
    codec::put_u32(out, shards.len() as u32);
    shards.iter().for_each(|shard| codec::put_u16(out, shard.0));
}

pub(crate) fn read_shards(fields: &mut Fields<'_>) -> Result<Vec<ShardId>, DecodeError> {
    let count = fields.count(2)?;
    (0..count).map(|_| fields.u16().map(ShardId)).collect()
}

pub(crate) fn read_consumer(fields: &mut Fields<'_>) -> Result<ConsumerName, DecodeError> {
    ConsumerName::parse(fields.text()?).map_err(|_| DecodeError::BadField("consumer name"))
}

/// What the engine needs of a batch: taken from the checked header when it is produced, and
/// from the stored bytes when it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchFacts {
    pub bytes: u32,
    pub records: u32,
    pub producer: Option<ProducerStamp>,
}

/// Who wrote a batch, and the batch's place among what they wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerStamp {
    pub id: i64,
    pub epoch: i16,
    /// The sequence number of the first record.
    pub sequence: i32,
}

impl BatchFacts {
    /// Reads the stored bytes of a batch, which the log has checked against its own checksum.
    pub fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let bytes = payload.first_chunk::<BATCH_HEADER_BYTES>().ok_or(DecodeError::Short)?;
        let header = BatchHeader::parse(bytes).map_err(|_| DecodeError::BadField("batch"))?;
        Self::of(&header, payload.len()).ok_or(DecodeError::BadField("batch length"))
    }

    /// `None` when the header cannot be true of `length` bytes.
    pub fn of(header: &BatchHeader, length: usize) -> Option<Self> {
        if header.batch_length as usize != length || header.records_count == 0 {
            return None;
        }
        let stamp = ProducerStamp {
            id: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
        };
        // Id -1 is "no producer"; other negative fields were refused with the header.
        let producer = (stamp.id >= 0).then_some(stamp);
        Some(Self { bytes: header.batch_length, records: header.records_count, producer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::AckLevel;

    fn config() -> TopicConfig {
        TopicConfig { retention_ms: Some(7), retention_bytes: None, ack: AckLevel::Memory }
    }

    /// Every kind with its exact payload: what is on disk stays readable for ever.
    fn golden() -> Vec<(Change, Vec<u8>)> {
        let name = TopicName::parse("ab").unwrap();
        let settings: &[u8] = &[1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let id9: &[u8] = &[9, 0, 0, 0, 0, 0, 0, 0];
        vec![
            (
                Change::PartitionCreated {
                    topic: TopicId(9),
                    name: name.clone(),
                    index: PartitionIndex(3),
                    config: config(),
                    config_version: 2,
                },
                [id9, &[3, 0, 0, 0, 2, 0, 0, 0], settings, b"\x02ab"].concat(),
            ),
            (
                Change::PartitionAltered { config_version: 5, config: config() },
                [&[5, 0, 0, 0][..], settings].concat(),
            ),
            (Change::PartitionDeleted, vec![]),
            (
                Change::TopicCreated {
                    id: TopicId(9),
                    name,
                    config: config(),
                    shards: vec![ShardId(0), ShardId(258)],
                },
                [id9, settings, b"\x02ab", &[2, 0, 0, 0, 0, 0, 2, 1]].concat(),
            ),
            (
                Change::TopicAltered { id: TopicId(9), config_version: 4, config: config() },
                [id9, &[4, 0, 0, 0], settings].concat(),
            ),
            (Change::TopicDeleted { id: TopicId(9) }, id9.to_vec()),
            (Change::TombstoneCleared { id: TopicId(9) }, id9.to_vec()),
            (
                Change::OffsetCommitted { consumer: ConsumerName::parse("c").unwrap(), offset: 9 },
                [id9, b"\x01c"].concat(),
            ),
            (Change::LogStartAdvanced { offset: 9, bytes: 9 }, [id9, id9].concat()),
            (Change::ProducersExpired { ids: vec![9] }, [&[1, 0, 0, 0][..], id9].concat()),
            (Change::ProducerIdsAllocated { next: 9 }, id9.to_vec()),
            (
                Change::OffsetsSkipped { from: 9, to: 10, cause: SkipCause::NotKept },
                [id9, &[10, 0, 0, 0, 0, 0, 0, 0, 2]].concat(),
            ),
            (
                Change::ProducersRestored { replaces: true, producers: ProducerStates::default() },
                vec![1, 0, 0, 0, 0],
            ),
        ]
    }

    #[test]
    fn payloads_have_their_golden_bytes() {
        for (at, (change, bytes)) in golden().into_iter().enumerate() {
            assert_eq!(usize::from(change.kind()), at + 2, "kinds are numbered from 2 on");
            let mut out = Vec::new();
            change.encode(&mut out);
            assert_eq!(out, bytes, "{change:?}");
            assert_eq!(Change::decode(change.kind(), &bytes), Ok(Some(change)));
        }
    }

    #[test]
    fn damaged_payloads_are_errors() {
        for (change, bytes) in golden() {
            for cut in 0..bytes.len() {
                assert!(Change::decode(change.kind(), &bytes[..cut]).is_err(), "{change:?}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(Change::decode(change.kind(), &longer).is_err(), "{change:?}");
            for at in 0..bytes.len() {
                for value in [0, 0xFF, 0x80] {
                    let mut flipped = bytes.clone();
                    flipped[at] = value;
                    let _ = Change::decode(change.kind(), &flipped);
                }
            }
        }
        assert_eq!(Change::decode(200, &[]), Ok(None));
        assert_eq!(Change::decode(kind::BATCH, &[]), Ok(None));
    }

    #[test]
    fn batch_facts_come_from_the_header() {
        let header = BatchHeader {
            base_offset: 5,
            batch_length: 70,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: 4,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 77,
            producer_epoch: 3,
            base_sequence: 11,
            records_count: 5,
        };
        let mut batch = header.to_bytes().to_vec();
        assert_eq!(BatchFacts::parse(&batch), Err(DecodeError::BadField("batch length")));
        batch.resize(70, 0);
        let producer = Some(ProducerStamp { id: 77, epoch: 3, sequence: 11 });
        assert_eq!(BatchFacts::parse(&batch), Ok(BatchFacts { bytes: 70, records: 5, producer }));
        assert_eq!(BatchFacts::parse(&batch[..60]), Err(DecodeError::Short));
        let anonymous = BatchHeader { producer_id: -1, ..header };
        assert_eq!(BatchFacts::of(&anonymous, 70).unwrap().producer, None);
    }
}
