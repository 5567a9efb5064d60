//! The write-ahead log of one shard: format, writer, reader, recovery and cleaning.
//!
//! A state machine without I/O of its own: it submits [`device::Action`]s to a
//! [`device::LogDevice`] and is told how each ended. There is no clock here (time comes as a
//! value), no randomness, no thread and nothing asynchronous. It never learns what a topic is: a
//! partition is a [`model::StreamId`] with a label, an entry is a head and some bytes.

pub mod buffer;
mod cache;
mod checkpoint;
pub mod config;
pub mod crc;
pub mod device;
pub mod directory;
pub mod error;
pub mod fold;
pub mod format;
mod index;
mod io;
pub mod read;
mod recovery;
mod segments;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod wal;
mod writer;

pub use buffer::AlignedBuffer;
pub use config::{ENTRY_PAYLOAD_BYTES_MAX, WalConfig};
pub use device::{FileDevice, LogDevice, SimDisk};
pub use error::{OpenError, WalFailure};
pub use fold::{Cut, EntryHead, FREES_SPACE, Fold, Recovered};
pub use read::{
    Batches, Cursor, CursorId, READ_BLOCK_COST, READ_WALK_MAX, ReadStep, SeekStep, TimeSeek,
};
pub use segments::pin::{LogPoint, PointSegment};
pub use stats::{SegmentUse, StreamUse, WalStats};
pub use wal::{Room, Wal};
