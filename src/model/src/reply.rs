//! Replies, one for each request kind that has one.

use std::sync::Arc;

use crate::backup::BackupPoint;
use crate::error::Rejection;
use crate::ids::{CoreId, Offset, PartitionIndex, ShardId};
use crate::name::{ConsumerName, TopicName};
use crate::stages::CoreStages;
use crate::topic::TopicInfo;

/// Where a core is reached directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreAddress {
    pub core: CoreId,
    pub host: String,
    /// 0 when the core has no direct port.
    pub port: u16,
    /// The shards this core owns.
    pub shards: Vec<ShardId>,
}

/// One partition in a topic's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    pub index: PartitionIndex,
    pub shard: ShardId,
    /// The oldest offset kept.
    pub first_offset: Offset,
    /// One past the newest committed offset.
    pub next_offset: Offset,
    /// Stored bytes of the offsets kept.
    pub bytes: u64,
    pub consumers: Vec<(ConsumerName, Offset)>,
}

/// How a shard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShardHealth {
    Serving = 0,
    /// Reads work, writes are refused: a log write failed.
    ReadOnly = 1,
    /// Nothing is served: the log is damaged or the engine stopped.
    Unavailable = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    pub shard: ShardId,
    pub core: CoreId,
    pub health: ShardHealth,
    /// Why the shard is not serving, or what an operator should know of it; else empty.
    pub reason: String,
    pub partitions: u32,
    /// Entries durable so far.
    pub durable_lsn: u64,
    /// Bytes of log on disk that are in use.
    pub log_bytes: u64,
    /// The disk has not answered for longer than is allowed; writes wait.
    pub slow: bool,
    /// No segment can be made for want of space; publishes are refused.
    pub disk_full: bool,
    /// How long the oldest write that is not durable yet has waited, about.
    pub oldest_write_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreStatus {
    pub core: CoreId,
    /// The CPU the core is pinned to; `None` when it is not pinned.
    pub cpu: Option<u32>,
    /// Clients; connections of operators are not counted.
    pub connections: u32,
    /// Its clients are being moved elsewhere, and it takes no new ones.
    pub draining: bool,
    /// Connections taken since the start, those handed over by other cores included.
    pub accepted: u64,
    /// Connections refused at a bound or while draining.
    pub refused: u64,
    /// New connections passed on to another core.
    pub handed_over: u64,
    pub messages_in: u64,
    pub bytes_in: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStatus {
    pub version: String,
    /// True when every shard serves, topics can be changed, and neither a stop nor a drain of the
    /// server is under way.
    pub ready: bool,
    /// Every core is being emptied of its clients.
    pub draining: bool,
    /// The data directory is in memory: nothing is durable.
    pub volatile: bool,
    pub uptime_ms: u64,
    pub data_dir: String,
    pub topics: u32,
    pub cores: Vec<CoreStatus>,
    pub shards: Vec<ShardStatus>,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Pong,
    Metadata {
        cores: Arc<[CoreAddress]>,
        topics: Vec<Arc<TopicInfo>>,
        /// Those asked for by name that do not exist.
        unknown: Vec<TopicName>,
        /// There are more topics after the last one here.
        more: bool,
    },
    /// Created, altered, and described as it now is.
    Topic(Arc<TopicInfo>),
    TopicDeleted,
    TopicDescription {
        topic: Arc<TopicInfo>,
        partitions: Vec<PartitionStatus>,
    },
    Producer {
        id: i64,
        epoch: i16,
    },
    Offset {
        offset: Offset,
    },
    Subscribed {
        subscription: u32,
        offset: Offset,
    },
    Unsubscribed {
        subscription: u32,
    },
    OffsetCommitted,
    Status(Box<ServerStatus>),
    /// Of every core, in their order.
    Stages(Vec<CoreStages>),
    BackupBegun(Box<BackupPoint>),
    BackupKept,
    /// The files were kept to the end.
    BackupEnded,
    LogFilterSet,
    /// The drain, or its end, has begun.
    DrainSet,
    Rejected(Rejection),
}
