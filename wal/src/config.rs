//! The log's settings and bounds.

use crate::format::block;

/// Largest payload of one entry, bytes: the largest batch and room for its framing.
pub const ENTRY_PAYLOAD_BYTES_MAX: usize = model::limits::BATCH_BYTES_MAX as usize + 1024;
/// Most block writes under way at once.
pub const WRITES_IN_FLIGHT_MAX: u32 = 64;
/// Longest label of a stream, bytes; more is cut off.
pub const LABEL_BYTES_MAX: usize = 512;
/// Largest piece of a checkpoint, bytes.
pub const CHECKPOINT_PIECE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Smallest segment, bytes.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Largest segment, bytes: places inside a segment have 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// A log's settings. All may change from one start to the next, except `shard` and `secret`.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// The shard's number, written in every block.
    pub shard: u16,
    /// The directory's secret id: seeds the checksums, so that no payload can pose as a block.
    pub secret: [u8; 16],
    /// Size of a new segment; rounded up to whole blocks.
    pub segment_bytes: u64,
    /// A group of entries is closed at this size. One larger entry makes one larger block.
    pub group_bytes: u32,
    /// Block writes under way at once.
    pub writes_in_flight: u32,
    /// Bytes appended and not yet handed to the disk before `room` says `Backlog`.
    pub backlog_bytes: u64,
    /// Budget of the blocks kept in memory and of the reads of older ones.
    pub cache_bytes: u64,
    /// What the first start writes with zeros before it is ready.
    pub prepare_bytes: u64,
    /// Segments kept ready beyond the one being written.
    pub pool_segments: u32,
    /// Recycled segments are kept up to this many; the others are removed.
    pub pool_segments_max: u32,
    /// Budget of the indexes of older segments.
    pub index_cache_bytes: u64,
    /// The pipeline must have been empty this long before a witness is written, nanoseconds.
    pub witness_after_ns: u64,
    /// With a write of the log under way for longer than this the disk is called slow, nanoseconds.
    pub slow_after_ns: u64,
}

impl Default for WalConfig {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            shard: 0,
            secret: [0; 16],
            segment_bytes: 256 * MIB,
            group_bytes: MIB as u32,
            writes_in_flight: 4,
            backlog_bytes: 16 * MIB,
            cache_bytes: 128 * MIB,
            prepare_bytes: 16 * MIB,
            pool_segments: 1,
            pool_segments_max: 4,
            index_cache_bytes: 32 * MIB,
            witness_after_ns: 20_000_000,
            slow_after_ns: 1_000_000_000,
        }
    }
}

impl WalConfig {
    /// The settings with every value brought within its bounds.
    pub(crate) fn bounded(mut self, block_bytes: usize) -> Self {
        let unit = block_bytes as u64;
        self.segment_bytes = self
            .segment_bytes
            .clamp(SEGMENT_BYTES_MIN.max(16 * unit), SEGMENT_BYTES_MAX)
            .next_multiple_of(unit);
        let group_max = (self.segment_bytes / 4).min(u64::from(u32::MAX / 2)) as u32;
        self.group_bytes = self.group_bytes.clamp(block_bytes as u32, group_max);
        self.writes_in_flight = self.writes_in_flight.clamp(1, WRITES_IN_FLIGHT_MAX);
        self.pool_segments = self.pool_segments.max(1);
        self.pool_segments_max = self.pool_segments_max.max(self.pool_segments);
        // What waits when the disk turns out to be full goes into the reserve, and must leave room.
        let backlog_max = self.segment_bytes / 4;
        self.backlog_bytes = self.backlog_bytes.min(backlog_max).max(u64::from(self.group_bytes));
        self
    }

    /// The size of a spare segment: enough for the backlog and the entries that free space.
    pub(crate) fn reserve_bytes(&self, block_bytes: usize) -> u64 {
        let need = self.backlog_bytes + 2 * self.block_bytes_max(block_bytes) as u64;
        (self.segment_bytes / 8)
            .max(need)
            .min(self.segment_bytes)
            .next_multiple_of(block_bytes as u64)
    }

    /// The largest block that can be written.
    pub(crate) fn block_bytes_max(&self, block_bytes: usize) -> usize {
        let one_entry = block::padded_bytes(ENTRY_PAYLOAD_BYTES_MAX, 1, block_bytes);
        one_entry.max(self.group_bytes as usize).min(self.segment_bytes as usize)
    }

    /// How far beyond the end of the log a write under way may have gone.
    pub(crate) fn window_bytes(&self, block_bytes: usize) -> u64 {
        u64::from(self.writes_in_flight) * self.block_bytes_max(block_bytes) as u64
    }
}
