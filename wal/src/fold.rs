//! What the host gives the log to rebuild its state with.

use std::fmt::Display;

use model::{Lsn, StreamId};

pub use crate::format::entry::{EntryHead, FREES_SPACE};

/// The host's state, rebuilt from the newest checkpoint and the entries after it.
pub trait Fold {
    type Error: Display;

    /// One piece of the checkpoint, as it was pushed, in order.
    fn load(&mut self, checkpoint_piece: &[u8]) -> Result<(), Self::Error>;

    /// The checkpoint is loaded whole: begun after entry `start`, ended after entry `end`. Not
    /// called when there is none.
    fn loaded(&mut self, start: Lsn, end: Lsn) -> Result<(), Self::Error>;

    /// One entry after the checkpoint's start, in order. Entries up to the checkpoint's end may
    /// be in it already: the host compares with what it loaded.
    fn apply(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), Self::Error>;

    /// After recovery: the first offset kept; `None` when the stream does not exist any more.
    fn log_start(&self, stream: StreamId) -> Option<u64>;

    /// After recovery: what the stream is called in the footers, for offline tools.
    fn label(&self, stream: StreamId) -> Option<Vec<u8>>;
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last entry; all up to it are durable.
    pub last_lsn: Lsn,
    /// Where the checkpoint used began; `None` without one.
    pub checkpoint_start: Option<Lsn>,
    /// True when the newest checkpoint was bad and the older one was used.
    pub older_checkpoint_used: bool,
    /// Entries given to `Fold::apply`.
    pub entries_replayed: u64,
    /// This opening's number.
    pub incarnation: u32,
    /// Bytes of log in use.
    pub log_bytes: u64,
    /// The torn tail that was cut, if there was one.
    pub cut: Option<Cut>,
}

/// A torn tail: blocks that were under way when the last run ended and are not all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: String,
    pub offset: u64,
    /// Bytes set aside.
    pub bytes: u64,
    /// The files that hold them.
    pub saved_as: Vec<String>,
}
