//! What cores say to each other.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use model::reply::{CoreStatus, PartitionStatus, ShardStatus};
use model::{
    AckLevel, CoreId, CoreStages, PartitionHandle, PartitionIndex, Rejection, Reply, Request,
    ShardId, ShardPoint, StreamId, TopicConfig, TopicId, TopicInfo, TopicName,
};
use protocol::batch::BatchHeader;
use protocol::{DeliverHead, FetchHead, ProduceAck};
use smallvec::SmallVec;

/// A connection, anywhere in the process. The generation tells two users of one slot apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub core: CoreId,
    pub index: u32,
    pub generation: u32,
}

/// A request's way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub connection: ConnectionId,
    pub correlation: u64,
    /// What the request counts against its connection's in-flight bound, bytes.
    pub cost: u32,
}

/// Who is told the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    Client(Origin),
    /// A step of a topic change that shard 0's core coordinates.
    Coordinator {
        step: u32,
        index: PartitionIndex,
    },
    /// The backup under way, on the core of its connection.
    Backup {
        core: CoreId,
        backup: u64,
    },
    /// An answer put together from several cores.
    Gather {
        core: CoreId,
        id: u32,
    },
}

/// One batch of a publish: checked, in as many slices as it was received in.
#[derive(Clone, Debug)]
pub struct CheckedBatch {
    pub header: BatchHeader,
    pub bytes: SmallVec<[Bytes; 2]>,
}

/// A publish to a partition of another core.
#[derive(Debug)]
pub struct RemoteProduce {
    pub origin: Origin,
    pub partition: PartitionHandle,
    pub ack: Option<AckLevel>,
    pub deadline_ms: u32,
    /// When its connection's core read it.
    pub received_ns: u64,
    pub batches: SmallVec<[CheckedBatch; 1]>,
}

/// A reader (subscription or fetch) of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderKey {
    pub shard: ShardId,
    pub reader: u64,
}

/// A topic as the owning shards are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSpec {
    pub topic: TopicId,
    pub name: TopicName,
    pub config: TopicConfig,
    pub config_version: u32,
}

/// A core, or all of them, is to be emptied of its clients, or takes clients again.
#[derive(Clone, Copy, Debug)]
pub struct DrainOrder {
    pub core: Option<CoreId>,
    pub undo: bool,
    pub grace_ms: u32,
}

/// What a shard is asked to do, beside publishes.
#[derive(Debug)]
pub enum ShardRequest {
    /// A client's request on one partition. `deadline_ms`: how long the client waits; 0: no limit.
    Client {
        request: Request,
        deadline_ms: u32,
    },
    EnsurePartition {
        spec: Arc<PartitionSpec>,
        index: PartitionIndex,
    },
    AlterPartition {
        spec: Arc<PartitionSpec>,
        index: PartitionIndex,
    },
    DeletePartition {
        topic: TopicId,
        index: PartitionIndex,
    },
    Describe {
        topic: TopicId,
    },
    Status,
    /// Keep the log's files for a backup, and say what they hold.
    PinLog {
        backup: u64,
    },
    /// Whether the log's files are still kept.
    KeepLog {
        backup: u64,
    },
    UnpinLog {
        backup: u64,
    },
}

/// What a shard answers to those requests that are not a client's.
#[derive(Debug)]
pub enum ShardAnswer {
    Partition(Result<StreamId, Rejection>),
    Described(Vec<PartitionStatus>),
    Status(ShardStatus),
    Pinned(ShardPoint),
    /// Whether the log's files had been kept until now.
    LogKept(bool),
    Core(CoreStatus),
    Stages(CoreStages),
}

/// What each shard tells shard 0's core when it has opened.
#[derive(Debug)]
pub struct ShardReport {
    pub shard: ShardId,
    pub partitions: Vec<ReportedPartition>,
    /// Why the shard could not be opened, if so.
    pub unavailable: Option<String>,
}

/// One partition that a shard holds.
#[derive(Debug)]
pub struct ReportedPartition {
    pub stream: StreamId,
    pub index: PartitionIndex,
    pub spec: PartitionSpec,
}

/// A change of what topics exist.
#[derive(Clone, Debug)]
pub enum MetadataChange {
    /// New or altered.
    Topics(Arc<[Arc<TopicInfo>]>),
    Deleted {
        id: TopicId,
        name: TopicName,
    },
    /// All topics known at start have been told.
    Complete,
    /// Topics stay as they are until a restart.
    Fixed,
}

#[derive(Debug)]
pub enum Message {
    // requests: each holds a place of the pair until it is answered
    Produce(RemoteProduce),
    Request {
        shard: ShardId,
        reply_to: ReplyTo,
        request: Box<ShardRequest>,
    },
    /// For the core that coordinates topics.
    TopicRequest {
        origin: Origin,
        request: Box<Request>,
        /// How long the client waits; 0: no limit.
        deadline_ms: u32,
    },
    CoreStatus {
        reply_to: ReplyTo,
    },
    CoreStages {
        reply_to: ReplyTo,
    },
    /// Answered with the core's status, once the core goes by it.
    Drain {
        order: DrainOrder,
        reply_to: ReplyTo,
    },
    // answers
    ProduceAck {
        connection: ConnectionId,
        first_correlation: u64,
        ack: ProduceAck,
        cost: u32,
        /// Since when it could be told.
        due_ns: u64,
    },
    Reply {
        origin: Origin,
        reply: Box<Reply>,
    },
    Fetched {
        origin: Origin,
        key: ReaderKey,
        head: FetchHead,
        payload: Payload,
    },
    Answer {
        reply_to: ReplyTo,
        answer: Box<ShardAnswer>,
    },
    /// A publish with ack level `none` has been taken: frees its place.
    Taken {
        connection: ConnectionId,
        cost: u32,
    },
    // no answer follows
    Deliver {
        connection: ConnectionId,
        key: ReaderKey,
        head: DeliverHead,
        payload: Payload,
    },
    /// Bytes of a reader have left its connection.
    Sent {
        key: ReaderKey,
        connection: ConnectionId,
        bytes: u64,
    },
    Credit {
        key: ReaderKey,
        bytes: u64,
    },
    Unsubscribe {
        key: ReaderKey,
    },
    /// A subscription has come into being; its connection may by now be gone.
    Subscribed {
        origin: Origin,
        subscription: u32,
        key: ReaderKey,
        offset: u64,
    },
    ConnectionClosed {
        connection: ConnectionId,
    },
    /// A new connection that the receiving core is to serve.
    HandOver {
        socket: OwnedFd,
        peer: Option<SocketAddr>,
    },
    /// No log's files need be kept for this backup any more.
    ReleaseLogs {
        backup: u64,
    },
    Metadata(MetadataChange),
    ShardReport(Box<ShardReport>),
}

/// Batches for a reader.
#[derive(Debug, Default)]
pub struct Payload {
    pub slices: SmallVec<[Bytes; 4]>,
    /// Copied out of the log's cache, which has no more room for readers that do not read.
    pub copied: bool,
    /// Since when it could be read.
    pub due_ns: u64,
}

impl Payload {
    pub fn bytes(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }
}

impl Message {
    /// Whether the message holds a place of the pair of cores until it is answered.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Produce(_)
                | Self::Request { .. }
                | Self::TopicRequest { .. }
                | Self::CoreStatus { .. }
                | Self::CoreStages { .. }
                | Self::Drain { .. }
        )
    }

    /// How many requests this message is the answer of.
    pub fn answers(&self) -> u32 {
        match self {
            Self::ProduceAck { ack, .. } => ack.count,
            Self::Reply { .. }
            | Self::Fetched { .. }
            | Self::Answer { .. }
            | Self::Taken { .. }
            | Self::Subscribed { .. } => 1,
            _ => 0,
        }
    }
}
