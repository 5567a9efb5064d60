//! Replay: the log's entries, and before them the pieces of a checkpoint.
//!
//! A checkpoint is fuzzy: it was written while entries went on being appended, and each object
//! in it says up to which entry it is. Between the checkpoint's start and end an entry that an
//! object already holds is skipped, and so is one for an object that is not there (it was gone
//! when its turn came). After the end every entry must fit.

use model::{EntryHead, Lsn, Offset, ShardId, StreamId, TopicId};

use crate::codec::DecodeError;
use crate::engine::Engine;
use crate::entry::{BatchFacts, Change, kind};

/// Why a log or a checkpoint cannot be this shard's history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("entry {found} comes where {expected} must follow")]
    Gap { expected: Lsn, found: Lsn },
    #[error("entry {lsn} is of kind {kind}, which this version does not know; use a newer one")]
    UnknownKind { lsn: Lsn, kind: u8 },
    #[error("entry {lsn} (kind {kind}) cannot be read: {cause}")]
    Malformed { lsn: Lsn, kind: u8, cause: DecodeError },
    #[error("entry {lsn} is for stream {stream}, which does not exist")]
    UnknownStream { lsn: Lsn, stream: StreamId },
    #[error("entry {lsn} is for topic {topic}, which does not exist")]
    UnknownTopic { lsn: Lsn, topic: TopicId },
    #[error("entry {lsn} creates what exists already")]
    Exists { lsn: Lsn },
    #[error("entry {lsn} of stream {stream} does not fit: the stream ends before {expected}")]
    Offset { lsn: Lsn, stream: StreamId, expected: Offset },
    #[error("the checkpoint cannot be read: {0}")]
    Checkpoint(#[from] DecodeError),
    #[error("the checkpoint is in format {found}; this version reads up to {known}")]
    CheckpointFormat { found: u16, known: u16 },
    #[error("the checkpoint is of shard {found}, not {expected}")]
    CheckpointShard { found: ShardId, expected: ShardId },
    #[error("the checkpoint holds an object twice or out of order")]
    CheckpointOrder,
}

/// Why an entry does not fit the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    UnknownStream,
    UnknownTopic,
    Exists,
    Offset { expected: Offset },
    WrongKind,
}

#[derive(Default)]
pub(super) struct ReplayState {
    /// The cut object at the end of the last checkpoint piece.
    pub partial: Vec<u8>,
    pub head_seen: bool,
    /// The checkpoint's end: entries up to here may be in it already.
    pub fuzzy_until: Lsn,
}

impl Engine {
    /// Applies the next entry of the log, which is committed. The state is then what the live
    /// path left.
    pub fn apply(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), ReplayError> {
        let expected = self.last_lsn.next();
        if lsn != expected {
            return Err(ReplayError::Gap { expected, found: lsn });
        }
        let malformed = |cause| ReplayError::Malformed { lsn, kind: head.kind, cause };
        let undo = if head.kind == kind::BATCH {
            let facts = BatchFacts::parse(payload).map_err(malformed)?;
            if self.skips(lsn, self.stream_lsn(head.stream), false) {
                None
            } else {
                Some(self.apply_batch(lsn, head, &facts))
            }
        } else {
            let change = Change::decode(head.kind, payload).map_err(malformed)?;
            let change = change.ok_or(ReplayError::UnknownKind { lsn, kind: head.kind })?;
            if self.skips_change(lsn, head.stream, &change) {
                None
            } else {
                Some(self.apply_change(lsn, head.stream, &change))
            }
        };
        if let Some(undo) = undo {
            let undo = undo.map_err(|misfit| misfit.of(lsn, head, payload))?;
            self.reveal(undo, false);
        }
        self.counters.time_ms = self.counters.time_ms.max(head.time_ms);
        self.last_lsn = lsn;
        self.committed_lsn = lsn;
        Ok(())
    }

    /// Whether the entry is in the loaded object already. `object` is the object's last entry,
    /// `None` when it is not there.
    fn skips(&self, lsn: Lsn, object: Option<Lsn>, creates: bool) -> bool {
        let fuzzy = lsn <= self.replay.fuzzy_until;
        fuzzy && object.map_or(!creates, |last| last >= lsn)
    }

    fn skips_change(&self, lsn: Lsn, stream: StreamId, change: &Change) -> bool {
        match change {
            Change::PartitionCreated { .. } => self.skips(lsn, self.stream_lsn(stream), true),
            Change::TopicCreated { id, .. } => self.skips(lsn, self.topic_lsn(*id), true),
            Change::TopicAltered { id, .. }
            | Change::TopicDeleted { id }
            | Change::TombstoneCleared { id } => self.skips(lsn, self.topic_lsn(*id), false),
            Change::ProducerIdsAllocated { .. } => false,
            _ => self.skips(lsn, self.stream_lsn(stream), false),
        }
    }

    fn stream_lsn(&self, stream: StreamId) -> Option<Lsn> {
        self.streams.get(stream).map(|partition| partition.lsn)
    }

    fn topic_lsn(&self, id: TopicId) -> Option<Lsn> {
        self.topics.get(id).map(|topic| topic.lsn)
    }
}

impl Misfit {
    pub(super) fn of(self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> ReplayError {
        let stream = head.stream;
        match self {
            Self::UnknownStream => ReplayError::UnknownStream { lsn, stream },
            Self::UnknownTopic => {
                // Every topic entry begins with the topic's id.
                let id = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                ReplayError::UnknownTopic { lsn, topic: TopicId(id) }
            }
            Self::Exists => ReplayError::Exists { lsn },
            Self::Offset { expected } => ReplayError::Offset { lsn, stream, expected },
            Self::WrongKind => ReplayError::UnknownKind { lsn, kind: head.kind },
        }
    }
}
