//! Requests, as every front end hands them to the router.
//!
//! A publish is not in this list: it is the hot path, and its payload stays where it was received
//! (see `protocol::produce`).

use crate::backup::BACKUP_NONCE_BYTES;
use crate::ids::{CoreId, Offset, PartitionHandle, TopicId};
use crate::name::{ConsumerName, TopicName};
use crate::topic::{AckLevel, TopicChange, TopicConfig};

/// A topic, named as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    Name(TopicName),
    Id(TopicId),
}

/// Where reading starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartPosition {
    /// The oldest message kept.
    First,
    /// The newest message there is; the end when there is none.
    Last,
    /// What comes after all that is there now.
    Next,
    /// This offset. Past the end or before the first kept one is an error.
    Offset(Offset),
    /// The first message appended at or after this time, Unix milliseconds.
    Time(i64),
    /// After what this consumer has committed; `First` when it has committed nothing.
    Committed(ConsumerName),
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Ping,
    /// The topics from `after` on (names in byte order), or those named.
    Metadata {
        topics: Vec<TopicName>,
        after: Option<TopicName>,
        limit: u32,
    },
    CreateTopic {
        name: TopicName,
        partitions: u32,
        config: TopicConfig,
    },
    AlterTopic {
        name: TopicName,
        change: TopicChange,
    },
    DeleteTopic {
        name: TopicName,
    },
    /// Per-partition offsets, bytes and consumers of one topic.
    DescribeTopic {
        name: TopicName,
    },
    /// A producer id that no one has had.
    InitProducer,
    Fetch {
        partition: PartitionHandle,
        offset: Offset,
        min_bytes: u32,
        max_bytes: u32,
        max_wait_ms: u32,
    },
    /// The offset that a start position stands for now.
    LookupOffset {
        partition: PartitionHandle,
        position: StartPosition,
    },
    /// `subscription` is the client's own number for it, unique on the connection.
    Subscribe {
        partition: PartitionHandle,
        subscription: u32,
        position: StartPosition,
        credit_bytes: u64,
    },
    /// More credit; there is no reply.
    Credit {
        subscription: u32,
        bytes: u64,
    },
    Unsubscribe {
        subscription: u32,
    },
    /// `offset` is the next one to read.
    CommitOffset {
        partition: PartitionHandle,
        consumer: ConsumerName,
        offset: Offset,
        ack: AckLevel,
    },
    CommittedOffset {
        partition: PartitionHandle,
        consumer: ConsumerName,
    },
    /// What `corelane status` shows.
    Status,
    /// Where the time of publishes and deliveries has gone since the start.
    Stages,
    /// Keep all files of the logs as they are, and say what there is to copy. Ends with the
    /// connection.
    BackupBegin {
        nonce: [u8; BACKUP_NONCE_BYTES],
    },
    /// A sign of life of a backup; answered whether its files are still kept.
    BackupKeep {
        backup: u64,
    },
    BackupEnd {
        backup: u64,
    },
    /// Change what is logged while running: a `tracing` filter such as `info,server=debug`.
    SetLogFilter {
        filter: String,
    },
    /// Moves all clients off a core, or off the server (`None`), or lets them come again (`undo`).
    Drain {
        core: Option<CoreId>,
        undo: bool,
        /// How long clients may take to leave by themselves.
        grace_ms: u32,
    },
}
