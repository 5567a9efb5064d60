//! Topics: what is configured, and where the partitions live.

use smallvec::SmallVec;

use crate::ids::{PartitionHandle, PartitionIndex, ShardId, StreamId, TopicId};
use crate::name::TopicName;

/// What must be true of a message before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AckLevel {
    /// No acknowledgement is sent.
    None = 0,
    /// In the memory of the owning core; lost if the process or the machine stops.
    Memory = 1,
    /// On disk: its own durable write and all before it are done.
    #[default]
    Durable = 2,
}

impl AckLevel {
    /// Reads the wire's byte; `None` for a value no version has given out.
    pub fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Memory),
            2 => Some(Self::Durable),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Memory => "memory",
            Self::Durable => "durable",
        }
    }
}

/// A topic's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicConfig {
    /// Messages older than this may be removed, milliseconds since append; `None` keeps them.
    pub retention_ms: Option<u64>,
    /// Each partition is trimmed to about this many bytes; `None` does not trim.
    pub retention_bytes: Option<u64>,
    /// The level used where a publish names none.
    pub ack: AckLevel,
}

/// A change of a topic's settings; a field that is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// `Some(None)` removes the limit.
    pub retention_ms: Option<Option<u64>>,
    /// `Some(None)` removes the limit.
    pub retention_bytes: Option<Option<u64>>,
    pub ack: Option<AckLevel>,
}

impl TopicChange {
    /// The settings after this change.
    #[must_use]
    pub fn applied_to(&self, config: &TopicConfig) -> TopicConfig {
        TopicConfig {
            retention_ms: self.retention_ms.unwrap_or(config.retention_ms),
            retention_bytes: self.retention_bytes.unwrap_or(config.retention_bytes),
            ack: self.ack.unwrap_or(config.ack),
        }
    }
}

/// Where one partition lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionPlace {
    pub shard: ShardId,
    pub stream: StreamId,
}

/// A topic as every core knows it: immutable, replaced whole when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub id: TopicId,
    pub name: TopicName,
    pub config: TopicConfig,
    /// Raised by one at every change of `config`.
    pub config_version: u32,
    /// One place per partition, in order of the partition's index.
    pub partitions: SmallVec<[PartitionPlace; 1]>,
}

impl TopicInfo {
    /// The handle of partition `index`, or `None` past the last.
    pub fn handle(&self, index: PartitionIndex) -> Option<PartitionHandle> {
        let place = self.partitions.get(index.0 as usize)?;
        Some(PartitionHandle { topic: self.id, stream: place.stream, shard: place.shard })
    }
}
