//! How topics, partitions and positions stand in a body: the structures that several kinds share.

use model::{
    AckLevel, ConsumerName, PartitionHandle, PartitionPlace, ShardId, StartPosition, StreamId,
    TopicChange, TopicConfig, TopicId, TopicInfo,
};
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, put_fixed, put_list, put_string};
use crate::frame::TooLarge;

/// A partition handle: 16 bytes.
#[derive(Archive, Serialize)]
pub(crate) struct WireHandle {
    topic: u64,
    stream: u32,
    shard: u16,
    reserved: u16,
}

impl From<PartitionHandle> for WireHandle {
    fn from(handle: PartitionHandle) -> Self {
        let PartitionHandle { topic, stream, shard } = handle;
        Self { topic: topic.0, stream: stream.0, shard: shard.0, reserved: 0 }
    }
}

impl ArchivedWireHandle {
    #[inline]
    pub(crate) fn read(&self) -> Result<PartitionHandle, BodyError> {
        check_reserved(self.reserved.to_native().into(), "the partition handle")?;
        Ok(PartitionHandle {
            topic: TopicId(self.topic.to_native()),
            stream: StreamId(self.stream.to_native()),
            shard: ShardId(self.shard.to_native()),
        })
    }
}

pub(crate) fn read_ack(byte: u8) -> Result<AckLevel, BodyError> {
    AckLevel::from_wire(byte).ok_or(BodyError::Value { field: "the ack level", value: byte.into() })
}

const RETENTION_MS: u8 = 1;
const RETENTION_BYTES: u8 = 2;

/// A topic's settings: 20 bytes. A limit whose bit is not in `present` is 0 and means "none".
#[derive(Archive, Serialize)]
pub(crate) struct WireConfig {
    retention_ms: u64,
    retention_bytes: u64,
    present: u8,
    ack: u8,
    reserved: u16,
}

impl From<&TopicConfig> for WireConfig {
    fn from(config: &TopicConfig) -> Self {
        let mut present = 0;
        present |= if config.retention_ms.is_some() { RETENTION_MS } else { 0 };
        present |= if config.retention_bytes.is_some() { RETENTION_BYTES } else { 0 };
        Self {
            retention_ms: config.retention_ms.unwrap_or(0),
            retention_bytes: config.retention_bytes.unwrap_or(0),
            present,
            ack: config.ack as u8,
            reserved: 0,
        }
    }
}

impl ArchivedWireConfig {
    pub(crate) fn read(&self) -> Result<TopicConfig, BodyError> {
        let field = "the topic's settings";
        check_reserved(self.reserved.to_native().into(), field)?;
        check_reserved((self.present & !(RETENTION_MS | RETENTION_BYTES)).into(), field)?;
        let limit = |bit, value: u64| match self.present & bit {
            0 => check_reserved(value, field).map(|()| None),
            _ => Ok(Some(value)),
        };
        Ok(TopicConfig {
            retention_ms: limit(RETENTION_MS, self.retention_ms.to_native())?,
            retention_bytes: limit(RETENTION_BYTES, self.retention_bytes.to_native())?,
            ack: read_ack(self.ack)?,
        })
    }
}

const CHANGES_RETENTION_MS: u8 = 1;
const HAS_RETENTION_MS: u8 = 2;
const CHANGES_RETENTION_BYTES: u8 = 4;
const HAS_RETENTION_BYTES: u8 = 8;
const CHANGES_ACK: u8 = 16;

/// A change of settings: 20 bytes. What does not change, or changes to "no limit", is 0.
#[derive(Archive, Serialize)]
pub(crate) struct WireChange {
    retention_ms: u64,
    retention_bytes: u64,
    changes: u8,
    ack: u8,
    reserved: u16,
}

impl From<&TopicChange> for WireChange {
    fn from(change: &TopicChange) -> Self {
        let limit = |value: Option<Option<u64>>, changes, has| match value {
            None => (0, 0),
            Some(None) => (0, changes),
            Some(Some(value)) => (value, changes | has),
        };
        let (retention_ms, ms_bits) =
            limit(change.retention_ms, CHANGES_RETENTION_MS, HAS_RETENTION_MS);
        let (retention_bytes, bytes_bits) =
            limit(change.retention_bytes, CHANGES_RETENTION_BYTES, HAS_RETENTION_BYTES);
        let ack_bit = if change.ack.is_some() { CHANGES_ACK } else { 0 };
        Self {
            retention_ms,
            retention_bytes,
            changes: ms_bits | bytes_bits | ack_bit,
            ack: change.ack.map_or(0, |level| level as u8),
            reserved: 0,
        }
    }
}

impl ArchivedWireChange {
    pub(crate) fn read(&self) -> Result<TopicChange, BodyError> {
        let field = "the change of settings";
        check_reserved(self.reserved.to_native().into(), field)?;
        check_reserved((self.changes >> 5).into(), field)?;
        let limit = |value: u64, changes, has| match self.changes & (changes | has) {
            0 => check_reserved(value, field).map(|()| None),
            bits if bits == changes => check_reserved(value, field).map(|()| Some(None)),
            bits if bits == changes | has => Ok(Some(Some(value))),
            bits => Err(BodyError::Value { field, value: bits.into() }),
        };
        Ok(TopicChange {
            retention_ms: limit(
                self.retention_ms.to_native(),
                CHANGES_RETENTION_MS,
                HAS_RETENTION_MS,
            )?,
            retention_bytes: limit(
                self.retention_bytes.to_native(),
                CHANGES_RETENTION_BYTES,
                HAS_RETENTION_BYTES,
            )?,
            ack: match self.changes & CHANGES_ACK {
                0 => check_reserved(self.ack.into(), field).map(|()| None)?,
                _ => Some(read_ack(self.ack)?),
            },
        })
    }
}

/// Where reading starts: 16 bytes, and the consumer's name later in the body (empty unless
/// `which` is 5).
#[derive(Archive, Serialize)]
pub(crate) struct WirePosition {
    which: u8,
    reserved: [u8; 7],
    value: u64,
}

impl From<&StartPosition> for WirePosition {
    fn from(position: &StartPosition) -> Self {
        let (which, value) = match position {
            StartPosition::First => (0, 0),
            StartPosition::Last => (1, 0),
            StartPosition::Next => (2, 0),
            StartPosition::Offset(offset) => (3, *offset),
            StartPosition::Time(time_ms) => (4, time_ms.cast_unsigned()),
            StartPosition::Committed(_) => (5, 0),
        };
        Self { which, reserved: [0; 7], value }
    }
}

impl ArchivedWirePosition {
    pub(crate) fn read(&self, consumer: &str) -> Result<StartPosition, BodyError> {
        let field = "the start position";
        let value = self.value.to_native();
        check_reserved(self.reserved.iter().map(|byte| u64::from(*byte)).sum(), field)?;
        if !matches!(self.which, 3 | 4) {
            check_reserved(value, field)?;
        }
        if self.which != 5 && !consumer.is_empty() {
            let (field, value) = ("the length of the consumer's name", consumer.len() as u64);
            return Err(BodyError::Value { field, value });
        }
        match self.which {
            0 => Ok(StartPosition::First),
            1 => Ok(StartPosition::Last),
            2 => Ok(StartPosition::Next),
            3 => Ok(StartPosition::Offset(value)),
            4 => Ok(StartPosition::Time(value.cast_signed())),
            5 => ConsumerName::parse(consumer)
                .map(StartPosition::Committed)
                .map_err(|source| BodyError::Name { field: "the consumer's name", source }),
            which => Err(BodyError::Value { field, value: which.into() }),
        }
    }
}

/// The string that follows a body with a position.
pub(crate) fn position_consumer(position: &StartPosition) -> &str {
    match position {
        StartPosition::Committed(consumer) => consumer.as_str(),
        _ => "",
    }
}

/// A topic: 32 bytes, then its name, then the list of its partitions.
#[derive(Archive, Serialize)]
struct WireTopic {
    id: u64,
    config_version: u32,
    config: WireConfig,
}

/// Where a partition lives: 8 bytes.
#[derive(Archive, Serialize)]
struct WirePlace {
    stream: u32,
    shard: u16,
    reserved: u16,
}

/// Least bytes of a topic in a list.
pub(crate) const TOPIC_BYTES_MIN: usize = size_of::<ArchivedWireTopic>() + 2 + 4;

pub(crate) fn put_topic(out: &mut Vec<u8>, topic: &TopicInfo) -> Result<(), TooLarge> {
    let TopicInfo { id, name, config, config_version, partitions } = topic;
    put_fixed(out, &WireTopic { id: id.0, config_version: *config_version, config: config.into() });
    put_string(out, "the topic's name", name.as_str())?;
    put_list(out, partitions, |out, place| {
        let PartitionPlace { stream, shard } = *place;
        put_fixed(out, &WirePlace { stream: stream.0, shard: shard.0, reserved: 0 });
        Ok(())
    })
}

pub(crate) fn read_topic(cursor: &mut Cursor) -> Result<TopicInfo, BodyError> {
    let fixed = cursor.fixed::<ArchivedWireTopic>("the topic")?;
    let name = cursor.topic_name("the topic's name")?;
    let field = "the topic's partitions";
    let partitions = cursor.list(field, size_of::<ArchivedWirePlace>(), |cursor| {
        let place = cursor.fixed::<ArchivedWirePlace>(field)?;
        check_reserved(place.reserved.to_native().into(), field)?;
        let (stream, shard) =
            (StreamId(place.stream.to_native()), ShardId(place.shard.to_native()));
        Ok(PartitionPlace { stream, shard })
    })?;
    Ok(TopicInfo {
        id: TopicId(fixed.id.to_native()),
        name,
        config: fixed.config.read()?,
        config_version: fixed.config_version.to_native(),
        partitions: partitions.into(),
    })
}
