//! A data directory: one small superblock, a lock, and a directory for each shard.
//!
//! The superblock, `corelane.dir`, holds what every log in the directory needs to know: the secret
//! that header checksums are seeded with, the number of shards and the block size. It holds no
//! absolute path, device or CPU. All here happens at start and at stop, so it goes through plain
//! blocking files and not through a `LogDevice`.
//!
//! A directory is made in two steps, so that a shard's missing log always means damage and never
//! "not made yet": [`create`] leaves it unfinished, and [`DataDirectory::finish`] is called when
//! every shard has its log. One that is still unfinished is begun again
//! ([`DataDirectory::begin_again`]).

mod guess;
mod identity;
mod superblock;
mod unfinished;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

pub use guess::guess;
pub use identity::{IDENTITY_BYTES, identity};
pub use superblock::{DIRECTORY_FORMAT, SUPERBLOCK_BYTES, Superblock, SuperblockError};

use crate::device::{FileDevice, LogDevice};

const SUPERBLOCK_NAME: &str = "corelane.dir";
const SUPERBLOCK_TMP_NAME: &str = "corelane.dir.tmp";
const LOCK_NAME: &str = "LOCK";
/// What an empty file system has.
const LOST_AND_FOUND: &str = "lost+found";

/// Why a data directory cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("{path} is in use{}; stop it first or choose another data directory", by(*.pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("{path} is not a Corelane data directory: it has no {SUPERBLOCK_NAME}")]
    NotADirectoryOfOurs { path: PathBuf },
    #[error(
        "{path} is no Corelane data directory but is not empty (there is {found:?}); \
         choose an empty or a new directory"
    )]
    NotEmpty { path: PathBuf, found: String },
    #[error("{path} is a Corelane data directory already")]
    Exists { path: PathBuf },
    #[error(
        "{path} was written by a newer Corelane (format {found}, this one reads up to {known}); \
         use that version"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error(
        "{path}/{SUPERBLOCK_NAME} is damaged ({reason}); restore it from a backup: it holds the \
         secret without which no log of the directory can be read"
    )]
    Damaged { path: PathBuf, reason: SuperblockError },
    #[error(
        "{path} has shards with logs and no {SUPERBLOCK_NAME}; if a restore, repair or reshard was \
         cut short there, remove the directory and run it again; else put the file back or \
         restore it from a backup: it holds the secret without which no log there can be read"
    )]
    NoSuperblock { path: PathBuf },
    #[error(
        "{path} holds a log of another data directory ({found:?}), and this data directory was not \
         finished yet: put that log back where it belongs (are the right disks mounted?), or \
         choose another data directory"
    )]
    ForeignLog { path: PathBuf, found: String },
    #[error(
        "{path} should have {shards} shards, but {missing} is missing; put it back (is its disk \
         mounted?) or restore it from a backup"
    )]
    MissingShard { path: PathBuf, shards: u16, missing: String },
    #[error(
        "{path} is no folder, as it, or a part of its path, is a file; choose another --data-dir, \
         or move the file away"
    )]
    NotAFolder { path: PathBuf },
    #[error(
        "{path} cannot be made: the folder {parent} does not exist; make it, or mount the disk \
         that belongs there, or choose another --data-dir"
    )]
    NoParent { path: PathBuf, parent: PathBuf },
    #[error(
        "cannot {doing} {path}: its filesystem is mounted read-only; mount it for writing (a disk \
         with errors may have been switched to that: look at dmesg) or choose another --data-dir"
    )]
    ReadOnly { doing: &'static str, path: PathBuf },
    #[error(
        "cannot {doing} {path}: permission denied{}; give the directory and all in it to the \
         server's user (chown -R) or run the server as its owner", whose(*.owner, *.user)
    )]
    NotPermitted { doing: &'static str, path: PathBuf, owner: Option<u32>, user: u32 },
    #[error("cannot {doing} {path}: there is no space left on its disk; free some and start again")]
    NoSpace { doing: &'static str, path: PathBuf },
    #[error("a data directory has 1 to {max} shards, not {asked}", max = model::limits::SHARDS_MAX)]
    Shards { asked: u16 },
    #[error("cannot {doing} {path}: {error}; look at the path and the disk below it")]
    Io { doing: &'static str, path: PathBuf, error: io::Error },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

fn whose(owner: Option<u32>, user: u32) -> String {
    let owner = owner.map(|owner| format!(" (it is user {owner}'s, this is user {user})"));
    owner.unwrap_or_else(|| format!(" (this is user {user})"))
}

/// A data directory, locked as long as this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    superblock: Superblock,
    lock: Option<File>,
}

/// Makes a data directory in an empty or not yet existing place and locks it. It is unfinished.
///
/// When this returns, the superblock and the shards' directories are durable.
///
/// # Errors
/// `Exists`, `NotEmpty`, `NoSuperblock`, `NoParent`, `InUse`, `Shards`, and what the system says.
pub fn create(path: &Path, shards: u16, secret: [u8; 16]) -> Result<DataDirectory, DirectoryError> {
    let directory = begin(path, shards, secret)?;
    directory.write_superblock()?;
    Ok(directory)
}

/// The place, locked, with nothing in it yet.
fn make(path: &Path, shards: u16, secret: [u8; 16]) -> Result<DataDirectory, DirectoryError> {
    check_shards(shards)?;
    refuse_missing_parent(path)?;
    make_directory(path)?;
    refuse_foreign(path)?;
    let lock = take_lock(path)?;
    if exists(path) {
        return Err(DirectoryError::Exists { path: path.to_owned() });
    }
    unfinished::remove_beyond(&unfinished::shard_folders(path)?, shards);
    let block_bytes = block_bytes_at(path)?;
    let superblock = Superblock { secret, shards, block_bytes, finished: false };
    Ok(DataDirectory { path: path.to_owned(), superblock, lock: Some(lock) })
}

/// Whether a data directory can be made at a place where there is none: looks, and makes nothing.
///
/// # Errors
/// `NotEmpty`, `NoSuperblock`, `NoParent`, `NotAFolder`, `Shards`, and what the system says.
pub fn check_new(path: &Path, shards: u16) -> Result<(), DirectoryError> {
    check_shards(shards)?;
    refuse_missing_parent(path)?;
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", path)(error)),
        Ok(found) if !found.is_dir() => Err(DirectoryError::NotAFolder { path: path.to_owned() }),
        Ok(_) => refuse_foreign(path),
    }
}

fn check_shards(asked: u16) -> Result<(), DirectoryError> {
    let good = (1..=model::limits::SHARDS_MAX).contains(&asked);
    if good { Ok(()) } else { Err(DirectoryError::Shards { asked }) }
}

/// The block size that logs below a directory are made with, bytes.
fn block_bytes_at(path: &Path) -> Result<u32, DirectoryError> {
    let device = FileDevice::open(path)
        .map_err(|error| failed("open", path)(io::Error::other(error.to_string())))?;
    Ok(device.block_bytes() as u32)
}

/// Begins a data directory that is filled before it has a superblock, in an empty or not yet
/// existing place, and locks it. Only [`DataDirectory::finish`] makes it a data directory: what a
/// cut leaves is opened by no one, and taken for an empty place by no one.
///
/// # Errors
/// `Exists`, `NotEmpty`, `InUse`, `Shards`, `Io`.
pub fn begin(path: &Path, shards: u16, secret: [u8; 16]) -> Result<DataDirectory, DirectoryError> {
    let directory = make(path, shards, secret)?;
    for shard in 0..shards {
        make_directory(&directory.shard_path(shard))?;
    }
    Ok(directory)
}

/// Opens a data directory and locks it. A shard's directory may be missing: that is for its shard
/// to say, the others can be served.
///
/// # Errors
/// `NotADirectoryOfOurs`, `Newer`, `Damaged`, `InUse`, and what the system says.
pub fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
    if !exists(path) {
        return Err(DirectoryError::NotADirectoryOfOurs { path: path.to_owned() });
    }
    let lock = take_lock(path)?;
    read(path, Some(lock))
}

/// Opens a data directory to look at it: nothing in it is made or changed. Others may look at the
/// same time, but no server may use it.
///
/// # Errors
/// As [`open`], and `MissingShard`.
pub fn open_read_only(path: &Path) -> Result<DataDirectory, DirectoryError> {
    if !exists(path) {
        return Err(DirectoryError::NotADirectoryOfOurs { path: path.to_owned() });
    }
    let lock = take_shared_lock(path)?;
    let directory = read(path, lock)?;
    match (0..directory.shards()).find(|shard| !directory.shard_path(*shard).is_dir()) {
        Some(shard) => Err(DirectoryError::MissingShard {
            path: path.to_owned(),
            shards: directory.shards(),
            missing: shard_name(shard),
        }),
        None => Ok(directory),
    }
}

/// A data directory that may be damaged, kept from servers as long as this value lives.
#[derive(Debug)]
pub struct Look {
    pub path: PathBuf,
    pub superblock: Result<Superblock, SuperblockError>,
    /// The numbers of the shards that have a directory, in order.
    pub shards: Vec<u16>,
    lock: Option<File>,
}

impl Look {
    /// Whether this value keeps servers from using the directory.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether a server has taken the directory since. It can only where there was no lock to hold,
    /// as in a copy without the file.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.lock.is_none() && fs::symlink_metadata(self.path.join(LOCK_NAME)).is_ok()
    }
}

/// Looks at a data directory of which parts may be missing or damaged. Nothing is changed.
///
/// # Errors
/// `NotADirectoryOfOurs` when there is neither a superblock nor a shard, `Newer`, `InUse`, `Io`.
pub fn look(path: &Path) -> Result<Look, DirectoryError> {
    let lock = take_shared_lock(path)?;
    let mut shards = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("read the directory", path))? {
        let entry = entry.map_err(failed("read the directory", path))?;
        shards.extend(shard_number(&entry.file_name().to_string_lossy()));
    }
    shards.sort_unstable();
    let superblock = match read_superblock(path) {
        Ok(superblock) => Ok(superblock),
        Err(DirectoryError::Damaged { reason, .. }) => Err(reason),
        Err(DirectoryError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
            if shards.is_empty() {
                return Err(DirectoryError::NotADirectoryOfOurs { path: path.to_owned() });
            }
            Err(SuperblockError::Length(0))
        }
        Err(error) => return Err(error),
    };
    Ok(Look { path: path.to_owned(), superblock, shards, lock })
}

/// Whether there is a superblock, good or not.
#[must_use]
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path.join(SUPERBLOCK_NAME)).is_ok()
}

/// The name of a shard's directory inside its data directory.
#[must_use]
pub fn shard_name(shard: u16) -> String {
    format!("shard-{shard:04}")
}

/// The shard whose directory has this name.
fn shard_number(name: &str) -> Option<u16> {
    let number = name.strip_prefix("shard-").and_then(|digits| digits.parse().ok());
    number.filter(|number| shard_name(*number) == name)
}

impl DataDirectory {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a shard's log.
    #[must_use]
    pub fn shard_path(&self, shard: u16) -> PathBuf {
        self.path.join(shard_name(shard))
    }

    #[must_use]
    pub fn shards(&self) -> u16 {
        self.superblock.shards
    }

    /// What header checksums are seeded with.
    #[must_use]
    pub fn secret(&self) -> [u8; 16] {
        self.superblock.secret
    }

    /// The block size of all logs in the directory.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.superblock.block_bytes as usize
    }

    /// For a directory that is begun for logs whose blocks are of this size already, bytes.
    ///
    /// # Panics
    /// When the directory is finished: then it is fixed.
    pub fn set_block_bytes(&mut self, block_bytes: u32) {
        assert!(!self.superblock.finished, "the block size of a finished directory is fixed");
        self.superblock.block_bytes = block_bytes;
    }

    /// Whether all shards have their logs. Until then nothing in the directory was ever promised,
    /// and the logs still missing are to be made.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.superblock.finished
    }

    /// Says that every shard has its log. Durable when this returns.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(&mut self) -> Result<(), DirectoryError> {
        self.superblock.finished = true;
        self.write_superblock()
    }

    /// Whether this value keeps others from using the directory.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    fn write_superblock(&self) -> Result<(), DirectoryError> {
        let tmp = self.path.join(SUPERBLOCK_TMP_NAME);
        let write = || {
            // Only the owner may read the secret.
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&tmp)?;
            file.write_all(&self.superblock.to_bytes())?;
            file.sync_all()?;
            fs::rename(&tmp, self.path.join(SUPERBLOCK_NAME))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(failed("write the superblock of", &self.path))
    }
}

fn read_superblock(path: &Path) -> Result<Superblock, DirectoryError> {
    let file = path.join(SUPERBLOCK_NAME);
    let mut bytes = Vec::with_capacity(SUPERBLOCK_BYTES);
    File::open(&file)
        .and_then(|file| file.take(SUPERBLOCK_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(failed("read", &file))?;
    Superblock::parse(&bytes).map_err(|reason| match reason {
        SuperblockError::Newer { found, known } => {
            DirectoryError::Newer { path: path.to_owned(), found, known }
        }
        reason => DirectoryError::Damaged { path: path.to_owned(), reason },
    })
}

fn read(path: &Path, lock: Option<File>) -> Result<DataDirectory, DirectoryError> {
    let superblock = read_superblock(path)?;
    Ok(DataDirectory { path: path.to_owned(), superblock, lock })
}

/// A mistyped path, or a disk that is not mounted, is not made up for.
fn refuse_missing_parent(path: &Path) -> Result<(), DirectoryError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => return Ok(()),
    };
    match fs::metadata(parent) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (path, parent) = (path.to_owned(), parent.to_owned());
            Err(DirectoryError::NoParent { path, parent })
        }
        _ => Ok(()),
    }
}

/// Makes a directory where there is none, durably.
fn make_directory(path: &Path) -> Result<(), DirectoryError> {
    let make = || {
        match fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(path)?.sync_all()?;
        File::open(parent)?.sync_all()
    };
    make().map_err(failed("make the directory", path))
}

/// Refuses a directory with anything in it that is not left over from an interrupted [`create`].
fn refuse_foreign(path: &Path) -> Result<(), DirectoryError> {
    let entries = fs::read_dir(path).map_err(failed("read the directory", path))?;
    for entry in entries {
        let entry = entry.map_err(failed("read the directory", path))?;
        let found = entry.file_name().to_string_lossy().into_owned();
        let ours = match found.as_str() {
            SUPERBLOCK_NAME | SUPERBLOCK_TMP_NAME | LOCK_NAME | LOST_AND_FOUND => true,
            name if name.starts_with("shard-") => unfinished::holds_nothing(&entry.path()),
            _ => false,
        };
        if !ours && !exists(path) && found.starts_with("shard-") {
            return Err(DirectoryError::NoSuperblock { path: path.to_owned() });
        }
        if !ours && !exists(path) {
            return Err(DirectoryError::NotEmpty { path: path.to_owned(), found });
        }
    }
    Ok(())
}

fn take_shared_lock(path: &Path) -> Result<Option<File>, DirectoryError> {
    match File::open(path.join(LOCK_NAME)) {
        Ok(lock) => {
            hold(path, &lock, FlockOperation::NonBlockingLockShared)?;
            Ok(Some(lock))
        }
        // A copy may well lack the lock; then no server has ever opened it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open the lock of", path)(error)),
    }
}

fn take_lock(path: &Path) -> Result<File, DirectoryError> {
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path.join(LOCK_NAME))
        .map_err(failed("open the lock of", path))?;
    hold(path, &lock, FlockOperation::NonBlockingLockExclusive)?;
    // The number only makes the message better for whoever comes second.
    // On a full disk there may be no room for it.
    let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
    Ok(lock)
}

fn hold(path: &Path, lock: &File, how: FlockOperation) -> Result<(), DirectoryError> {
    match rustix::fs::flock(lock, how) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = (lock.take(16).read_to_string(&mut text).ok())
                .and_then(|_| text.trim().parse().ok());
            Err(DirectoryError::InUse { path: path.to_owned(), pid })
        }
        Err(errno) => Err(failed("lock", path)(errno.into())),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| match error.kind() {
        ErrorKind::ReadOnlyFilesystem => DirectoryError::ReadOnly { doing, path },
        ErrorKind::PermissionDenied => {
            let owner = fs::metadata(&path).ok().map(|found| found.uid());
            let user = rustix::process::geteuid().as_raw();
            DirectoryError::NotPermitted { doing, path, owner, user }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            DirectoryError::NoSpace { doing, path }
        }
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => DirectoryError::NotAFolder { path },
        _ => DirectoryError::Io { doing, path, error },
    }
}

#[cfg(test)]
mod tests;
