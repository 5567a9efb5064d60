//! The write-ahead log of one shard.

pub mod buffer;
pub mod device;

pub use buffer::AlignedBuffer;
/// The log of one shard.
pub struct Wal;
