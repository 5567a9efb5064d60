//! The words of the broker: identifiers, limits, requests, replies and error codes.
//!
//! Every other crate speaks in these types. There is no I/O here, no clock and nothing
//! asynchronous, and nothing that exists on Linux only.

pub mod backup;
pub mod entry;
pub mod error;
pub mod ids;
pub mod limits;
pub mod name;
pub mod reply;
pub mod request;
pub mod stages;
pub mod topic;

pub use backup::{BackupPoint, SegmentPoint, ShardPoint};
pub use entry::{EntryHead, SpaceUse};
pub use error::{ErrorCode, Rejection};
pub use ids::{CoreId, Lsn, Offset, PartitionHandle, PartitionIndex, ShardId, StreamId, TopicId};
pub use name::{ConsumerName, NameError, TopicName};
pub use reply::Reply;
pub use request::{Request, StartPosition};
pub use stages::{CoreStages, Stage, StageHistogram};
pub use topic::{AckLevel, PartitionPlace, TopicChange, TopicConfig, TopicInfo};
