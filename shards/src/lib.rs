//! The engine of one shard: a deterministic state machine.
//!
//! Inputs are requests, "committed up to this entry" and time as a value; outputs are entries
//! for the shard's log, answers, and [`Effect`]s. There are no sockets, clocks, files, threads
//! or random numbers here, and no map is walked in an order that could differ between two runs.
//!
//! The state is a fold over the log. Every change goes the same way: decide (validate, choose
//! the outcome), append the entry to the [`Journal`], then apply it by the very function that
//! replay uses. What is decided is kept apart from what [`Engine::commit`] reveals, and each
//! entry that is not committed can be taken back by [`Engine::truncate`].

mod codec;
mod engine;
pub mod entry;
mod journal;
mod partition;
mod placement;
mod producer;
mod readers;
mod rejection;
mod stream_table;
mod topics;
mod undo;

pub use codec::DecodeError;
pub use engine::{
    Appended, AppendedRun, Bounds, CarriedPartition, Counted, Effect, Engine, EngineConfig,
    PartitionRecord, PlainBatch, ReadVerdict, ReplayError, SegmentShare, SnapshotCursor,
    Subscribed, TopicSpec,
};
pub use journal::{Journal, Room, UNCOVERED_BYTES};
pub use placement::place_partitions;
pub use producer::ProducerStates;
pub use readers::ReaderId;
pub use topics::TopicRecord;
