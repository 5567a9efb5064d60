//! What the log tells of itself.

use model::StreamId;

/// Counters and sizes since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Bytes of log in use: sealed segments and the written part of the active one.
    pub log_bytes: u64,
    /// Segments in use, the active one included.
    pub segments: u32,
    /// Segments ready for use.
    pub pool: u32,
    /// Segments used again.
    pub recycled_total: u64,
    /// Segments removed.
    pub removed_total: u64,
    /// Memory held by cached blocks, reads of older ones and slices not yet dropped.
    pub cached_bytes: u64,
    /// Bytes of blocks written into segments used for the first time.
    pub fresh_bytes_written: u64,
    /// Bytes of blocks written into recycled segments.
    pub recycled_bytes_written: u64,
    /// Blocks handed to the disk, witnesses included.
    pub blocks: u64,
    /// Witness blocks handed to the disk.
    pub witnesses: u64,
    /// Bytes read from the disk for readers.
    pub cold_bytes_read: u64,
    /// What readers have walked through to find what is theirs: entries of any stream, and
    /// [`crate::READ_BLOCK_COST`] for each block.
    pub walked: u64,
    /// Bytes written with zeros ahead of the log.
    pub zeroed_bytes: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// True when no segment can be made for want of space and none is ready: publishes are
    /// refused, or will be when the active segment is full.
    pub disk_full: bool,
    /// How long the oldest log write under way has taken so far, nanoseconds; 0 without one.
    pub oldest_write_age_ns: u64,
    /// Since when the disk has been slow (`WalConfig::slow_after_ns`), by the clock that
    /// `Wal::tick` is given; `None` while it is not.
    pub slow_since_ns: Option<u64>,
}

/// One sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentUse {
    pub number: u64,
    /// Bytes of blocks in it.
    pub bytes: u64,
    /// The newest time of its batches, Unix milliseconds; `i64::MIN` without any.
    pub max_time_ms: i64,
}

/// One stream's part of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamUse {
    pub stream: StreamId,
    /// Base offset of its first batch in the segment.
    pub first_offset: u64,
    /// The last offset in the segment.
    pub last_offset: u64,
    /// The newest time of its batches, Unix milliseconds.
    pub max_time_ms: i64,
    /// Payload bytes of its batches.
    pub bytes: u64,
}
