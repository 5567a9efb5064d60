//! What every entry of a shard's log says of itself, whatever it carries.

use crate::ids::{Offset, StreamId};

/// The fixed part of a log entry, beside its payload. The log stores it and looks things up by
/// stream, offset and time; only the engine knows what the kinds mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// What the entry is; the engine's numbers.
    pub kind: u8,
    /// See the `FLAG_` constants.
    pub flags: u8,
    /// The partition it belongs to; 0 when it belongs to none.
    pub stream: StreamId,
    /// The first offset, for an entry that holds records; where the stream goes on, for one that
    /// leaps; else 0.
    pub base_offset: Offset,
    /// How many records, each taking one offset; 0 for an entry that is not readable as records.
    pub records: u32,
    /// When it was appended, Unix milliseconds; never less than the entry before.
    pub time_ms: i64,
}

impl EntryHead {
    /// The entry leads to free space, so it is let in when the disk is full.
    pub const FLAG_FREES_SPACE: u8 = 1;
    /// The stream goes on at `base_offset`: there are no records for the offsets before it.
    pub const FLAG_OFFSETS_LEAP: u8 = 2;

    /// Whether the entry is a batch: records that readers of its stream may be given.
    #[inline]
    pub fn is_batch(&self) -> bool {
        self.records > 0 && self.stream.0 != 0
    }

    /// Whether the entry says that its stream goes on at `base_offset`.
    #[inline]
    pub fn leaps(&self) -> bool {
        self.flags & Self::FLAG_OFFSETS_LEAP != 0 && self.records == 0 && self.stream.0 != 0
    }

    /// The last offset of a batch.
    #[inline]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(u64::from(self.records.max(1)) - 1)
    }

    /// One past the last offset it holds.
    #[inline]
    pub fn next_offset(&self) -> Offset {
        self.base_offset + u64::from(self.records)
    }
}

/// What an entry does to the space on the disk, which decides whether a full one takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceUse {
    /// Only there for its content: refused on a full disk.
    Grows,
    /// Small, and lets consumers go on: taken on a full disk, but never into the last part of
    /// what is kept for getting out of it.
    GoesOn,
    /// Lets space be freed: taken as long as there is any place for it.
    Frees,
}
