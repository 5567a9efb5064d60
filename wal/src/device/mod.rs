//! The only way of the log to a disk.
//!
//! The log is a state machine: it hands actions to a [`LogDevice`] and is told later how each
//! ended. The server's device puts them on the core's io_uring, [`FileDevice`] does them at once
//! with plain system calls (offline tools, tests), [`SimDisk`] keeps them in memory and can crash.
//!
//! A device works inside one shard's directory. Names are single file names, never paths.

mod direct;
mod file;
pub mod sim;

use bytes::Bytes;

pub(crate) use self::direct::PROBE_NAME;
pub use self::direct::{Access, DirectAnswer, probe, probe_unmade};
pub use self::file::FileDevice;
pub use self::sim::SimDisk;
use crate::buffer::AlignedBuffer;

/// A file the log has open. The log picks the number and never uses it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// The log's own number for an action under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One thing to be done to the disk.
#[derive(Debug)]
pub enum Action {
    /// Makes a file of `bytes` (fallocate; 0: empty) and opens it as `Open` does. Fails if it
    /// exists. Fails with no space left when the blocks cannot be had. Durable only after
    /// `SyncDirectory`.
    Create { file: FileId, name: String, bytes: u64 },
    /// Opens an existing file for reading and writing, O_DIRECT and O_DSYNC.
    Open { file: FileId, name: String },
    /// Opens an existing file for reading only (offline tools; a damaged shard is not touched).
    OpenReadOnly { file: FileId, name: String },
    /// Writes at `offset`; both and the length are multiples of the block size. When it is done
    /// the bytes are on the medium.
    Write { file: FileId, offset: u64, data: Bytes },
    /// Reads `buffer.len()` bytes at `offset`, fewer only at the end of the file.
    Read { file: FileId, offset: u64, buffer: AlignedBuffer },
    /// Everything written to the file and its length are on the medium when this is done.
    Sync { file: FileId },
    /// Ends the use of the number. Operations under way on the file must be done before.
    Close { file: FileId },
    /// Durable only after `SyncDirectory`. Replaces `to` if it exists.
    Rename { from: String, to: String },
    /// Durable only after `SyncDirectory`.
    Remove { name: String },
    /// Creations, renames and removals before this are on the medium when this is done.
    SyncDirectory,
    /// The names in the directory and the lengths of the files.
    List,
}

/// What an action yields.
#[derive(Debug)]
pub enum Done {
    Nothing,
    /// `Open`, `OpenReadOnly`, `Create`: the file's length in bytes.
    Opened {
        bytes: u64,
    },
    /// `Read`: the first `bytes` of the buffer are from the file.
    Read {
        buffer: AlignedBuffer,
        bytes: usize,
    },
    /// `List`, in no particular order.
    Listed(Vec<(String, u64)>),
}

/// How an action failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("no space left on the disk")]
    NoSpace,
    #[error("no such file")]
    NotFound,
    #[error("the file exists already")]
    Exists,
    /// A full disk would be met in the middle of a write of the log.
    #[error("the filesystem cannot reserve space for a file (fallocate)")]
    NoReserving,
    /// Anything else the system said. After a failed write or sync nothing is known of the bytes.
    #[error("{doing}: {error} (os error {errno})")]
    Io { doing: &'static str, errno: i32, error: String },
}

/// One action's end.
#[derive(Debug)]
pub struct Completion {
    pub ticket: Ticket,
    pub result: Result<Done, DeviceError>,
}

/// Does actions and reports each one's end once. Actions may end in any order: whoever needs an
/// order waits for the first before submitting the second.
pub trait LogDevice {
    /// Takes an action over. Never blocks for the disk.
    fn submit(&mut self, ticket: Ticket, action: Action);

    /// Blocks until some submitted action has ended and returns it. Used while a log is opened, by
    /// offline tools and in tests; a running log is told by [`crate::Wal::complete`].
    ///
    /// # Panics
    /// When nothing is under way.
    fn wait(&mut self) -> Completion;

    /// The unit of `Write` and `Read` in bytes: the larger of 4096 and what the device asks for.
    fn block_bytes(&self) -> usize;
}
