//! How opening and writing a log can fail.

use model::Lsn;

use crate::device::DeviceError;

/// Why a log could not be created or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Acknowledged bytes are changed or gone. Nothing was written.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Damaged { file: String, offset: u64, reason: String },
    /// A file that the log is made of is gone. Nothing was written.
    #[error(
        "{file} is missing, though the manifest names it; put it back, restore the shard from a \
         backup, or let `corelane repair` write what is left into a new directory"
    )]
    Missing { file: String },
    /// The file was written by a newer version.
    #[error("{file} has format {found}, this version reads up to {known}: use a newer corelane")]
    NewerFormat { file: String, found: u16, known: u16 },
    /// The files are whole and lie in the wrong place. Nothing was written.
    #[error("{file} is out of place: {what}")]
    Misplaced { file: String, what: String },
    /// There is no manifest: this is not a log.
    #[error(
        "the log is missing: there is no manifest-0 and no manifest-1; put the shard's files back \
         (is its disk mounted?) or restore them from a backup"
    )]
    NotALog,
    /// `create` found a log.
    #[error("there is a log in this directory already")]
    Exists,
    /// The disk was made with another block size.
    #[error(
        "the log was made for blocks of {recorded} bytes, this disk needs {needed}; move the \
         directory to a disk with smaller ones"
    )]
    BlockSize { recorded: u32, needed: u32 },
    #[error("{doing} {file}: {error}")]
    Device { doing: &'static str, file: String, error: DeviceError },
    /// The host could not take the checkpoint or an entry.
    #[error("entry {lsn} could not be replayed: {reason}")]
    Fold { lsn: Lsn, reason: String },
}

/// Why the log takes no more writes. What is durable can still be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "writing {file} at byte {offset} failed: {error}; the log is read-only after entry {durable}"
)]
pub struct WalFailure {
    pub file: String,
    pub offset: u64,
    pub error: DeviceError,
    /// The last entry known to be durable when the write failed. Entries after it may or may not
    /// be on the disk.
    pub durable: Lsn,
}
