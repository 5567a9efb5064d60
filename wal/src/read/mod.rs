//! Reading batches by (stream, offset): what the host holds and gets.
//!
//! A read finds the block through the index (`place`), gets it from memory or through a window of
//! disk reads (`fetch`, `window`; `readers` says who has one, `ahead` goes on into the next segment), and
//! takes the stream's batches out of it (`batches`).

mod ahead;
mod batches;
mod fetch;
mod place;
mod readers;
mod seek;
#[cfg(test)]
mod tests;
mod window;
#[cfg(test)]
mod window_tests;

use bytes::Bytes;
use model::StreamId;
use smallvec::SmallVec;

pub use batches::{READ_BLOCK_COST, READ_WALK_MAX};
pub(crate) use readers::Readers;
pub(crate) use window::{Got, PartNumbers, ReadOrder, Window};

/// A cursor's number, unique while the log is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorId(pub u64);

/// A place in a stream from which batches are read one after another.
///
/// Made by [`crate::Wal::cursor`], given back with [`crate::Wal::close_cursor`].
#[derive(Debug)]
pub struct Cursor {
    pub(crate) id: CursorId,
    pub(crate) stream: StreamId,
    pub(crate) offset: u64,
    pub(crate) place: Option<Place>,
}

impl Cursor {
    pub fn id(&self) -> CursorId {
        self.id
    }

    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The next offset wanted.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on at another offset of the same stream.
    pub fn seek(&mut self, offset: u64) {
        self.offset = offset;
        self.place = None;
    }
}

/// Where a cursor's next batch is looked for: a hint, checked before use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this block, from this entry on. `bytes` is the block's length as far as it is known.
    At { segment: u64, block: u64, bytes: u64, entry: u32 },
    /// After this block, which ends at `end`.
    After { segment: u64, block: u64, end: u64 },
}

impl Place {
    pub(crate) fn segment(self) -> u64 {
        match self {
            Self::At { segment, .. } | Self::After { segment, .. } => segment,
        }
    }
}

/// Whole batches of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// The payloads in order; neighbours in the log are one slice.
    pub slices: SmallVec<[Bytes; 4]>,
    /// The sum of the slices' lengths.
    pub bytes: usize,
    /// The base offset of the first batch: at or before the offset wanted.
    pub first_offset: u64,
    /// The offset after the last batch; the cursor is there now.
    pub next_offset: u64,
    /// Number of batches.
    pub entries: u32,
}

/// What a read gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadStep {
    Batches(Batches),
    /// Disk reads are under way, or more of other streams lies between than one read walks through;
    /// [`crate::Wal::take_ready`] names the cursor when it can go on.
    Pending,
    /// Nothing before the end offset.
    End,
    /// The offset wanted is before the first one kept.
    Trimmed {
        first_offset: u64,
    },
    /// The stored bytes do not match their checksum, or could not be read.
    Damaged {
        file: String,
        offset: u64,
    },
}

/// A search for the first batch of a stream appended at or after a time.
#[derive(Debug)]
pub struct TimeSeek {
    pub(crate) stream: StreamId,
    pub(crate) time_ms: i64,
    pub(crate) cursor: Option<Cursor>,
}

impl TimeSeek {
    /// `time_ms` is in Unix milliseconds.
    pub fn new(stream: StreamId, time_ms: i64) -> Self {
        Self { stream, time_ms, cursor: None }
    }

    /// The number that [`crate::Wal::take_ready`] names; `None` before the first step.
    pub fn id(&self) -> Option<CursorId> {
        self.cursor.as_ref().map(Cursor::id)
    }
}

/// What a step of a search gives. After `Pending` the same search is stepped again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekStep {
    /// The base offset of the first batch with that time or a later one.
    Found(u64),
    /// Every batch is older.
    End,
    Pending,
    Damaged {
        file: String,
        offset: u64,
    },
}
