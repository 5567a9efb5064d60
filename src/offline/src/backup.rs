//! Backups: a directory that holds sets, each a data directory as it was at one moment.
//!
//! ```text
//! DIR/corelane-backup.json                  which data directory this is of
//! DIR/LOCK                                  held while a set is made, removed or read
//! DIR/segments/shard-0000/segment-N-G-C     sealed segments, shared by the sets
//! DIR/sets/NAME/backup.json                 what the set is made of; written last
//! DIR/sets/NAME/corelane.dir                the superblock
//! DIR/sets/NAME/shard-0000/...              segments that were not sealed yet, checkpoints
//! ```
//!
//! A sealed segment never changes, so a later set that needs it takes the one that is there; its
//! name carries number, generation and checksum. A set without `backup.json` is no set: what a cut
//! has left is cleared away by the next `create`.
//!
//! Segments keep their places: byte n of a file here is byte n of the log's. What lies between the
//! blocks and the footer is not copied; the files have holes there.

mod check;
mod copy;
mod create;
mod disk;
mod set;
mod store;

use std::io;
use std::path::{Path, PathBuf};

pub use check::{SetReport, check_set};
pub(crate) use copy::{Place, Sink, Wanted, copy_checkpoint, copy_segment};
pub use create::{Copied, NewSet, Progress, Watch, create};
pub(crate) use disk::SetDisk;
pub use set::{BackupSet, CheckpointFile, SegmentFile, SetError, ShardSet};
pub(crate) use store::{FILE_MODE, new_file, sync_folder, write_whole};
pub use store::{Removed, SetState, Store};

/// Why a backup could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(
        "{} is no backup directory: it has no {}; `corelane backup create --to` makes one",
        path.display(), store::MARKER_NAME
    )]
    NotABackup { path: PathBuf },
    #[error(
        "{} is no backup directory but is not empty (there is {found:?}); choose an empty or a new \
         directory",
        path.display()
    )]
    NotEmpty { path: PathBuf, found: String },
    #[error("{} is in use by another backup command; wait for its end", path.display())]
    InUse { path: PathBuf },
    #[error(
        "{} holds the backups of another data directory; choose another directory for this one's",
        path.display()
    )]
    OtherDirectory { path: PathBuf },
    #[error("{} lies inside the data directory; choose a place outside it", path.display())]
    Inside { path: PathBuf },
    #[error("there is no backup {name:?} in {}; `corelane backup list` names them", path.display())]
    NoSuchSet { path: PathBuf, name: String },
    #[error("there is no complete backup in {}", path.display())]
    Empty { path: PathBuf },
    #[error("a backup named {name:?} exists already; choose another name")]
    SetExists { name: String },
    #[error(
        "{name:?} cannot be a backup's name: use 1 to 64 characters of A-Z a-z 0-9 . _ - and no \
         dot at the front"
    )]
    Name { name: String },
    #[error("{}: {error}", path.display())]
    Set { path: PathBuf, error: SetError },
    #[error(
        "the server's data directory {} is not readable here ({error}); run the backup on the \
         server's host, as a user who may read it",
        path.display()
    )]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "{} is not the data directory that the server uses, although it has the same path; run the \
         backup on the server's host, in the same container if it has one",
        path.display()
    )]
    NotTheServers { path: PathBuf },
    #[error("{} at byte {offset}: {what}", path.display())]
    Damaged { path: PathBuf, offset: u64, what: String },
    #[error("the backup was stopped: {reason}")]
    Stopped { reason: String },
    #[error("no space is left for {}; free some or choose another directory", path.display())]
    NoSpace { path: PathBuf },
    #[error("cannot {doing} {}: {error}", path.display())]
    Io { doing: &'static str, path: PathBuf, error: io::Error },
}

pub(crate) fn failed(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackupError::NoSpace { path },
        _ => BackupError::Io { doing, path, error },
    }
}
