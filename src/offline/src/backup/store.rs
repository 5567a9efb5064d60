//! The directory that sets lie in: its lock, its marker, where each file is, and what may go.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use wal::directory::{SUPERBLOCK_BYTES, Superblock, identity, shard_name};
use wal::format::names;

use super::set::{BackupSet, SET_BYTES_MAX, SegmentFile, SetError};
use super::{BackupError, failed};

pub(super) const MARKER_NAME: &str = "corelane-backup.json";
const LOCK_NAME: &str = "LOCK";
const SETS: &str = "sets";
const SEGMENTS: &str = "segments";
pub(super) const SET_NAME: &str = "backup.json";
const SUPERBLOCK_NAME: &str = "corelane.dir";
/// As the log makes its own: messages are not for everyone.
pub(crate) const FILE_MODE: u32 = 0o640;
const NAME_BYTES_MAX: usize = 64;
/// The marker tells data directories apart by a hash made with these bytes.
const MARKER_NONCE: &[u8] = b"backup directory";

/// A directory of backups, locked as long as this value lives.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    _lock: Option<File>,
}

/// One set, or why it is none.
#[derive(Debug)]
pub struct SetState {
    pub name: String,
    pub set: Result<BackupSet, BackupError>,
}

/// What a removal has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub segments: u64,
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    /// Of the data directory that the sets are of.
    identity: String,
}

impl Store {
    /// Opens a directory of backups to add to it or remove from it; makes it in a new or empty
    /// place.
    ///
    /// # Errors
    /// `NotEmpty`, `InUse`, `Io`.
    pub fn open_or_make(path: &Path) -> Result<Self, BackupError> {
        fs::create_dir_all(path).map_err(failed("make", path))?;
        if !path.join(MARKER_NAME).exists() {
            refuse_foreign(path)?;
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_NAME))
            .map_err(failed("open the lock of", path))?;
        hold(path, &lock, FlockOperation::NonBlockingLockExclusive)?;
        for folder in [SETS, SEGMENTS] {
            make_folder(&path.join(folder))?;
        }
        sync_folder(path)?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Opens an existing directory to change it.
    ///
    /// # Errors
    /// `NotABackup`, `InUse`, `Io`.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        require_marker(path)?;
        Self::open_or_make(path)
    }

    /// Opens an existing directory to read it; others may read as well.
    ///
    /// # Errors
    /// `NotABackup`, `InUse`, `Io`.
    pub fn open_read_only(path: &Path) -> Result<Self, BackupError> {
        require_marker(path)?;
        let lock = match File::open(path.join(LOCK_NAME)) {
            Ok(lock) => {
                hold(path, &lock, FlockOperation::NonBlockingLockShared)?;
                Some(lock)
            }
            // A copy may lack it.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed("open the lock of", path)(error)),
        };
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it is this data directory's.
    ///
    /// # Errors
    /// `OtherDirectory` when it is another's; `Io`.
    pub(super) fn claim(&self, secret: &[u8; 16]) -> Result<(), BackupError> {
        let path = self.path.join(MARKER_NAME);
        let own = hex(&identity(secret, MARKER_NONCE));
        match fs::read(&path) {
            Ok(text) => {
                let marker: Marker = serde_json::from_slice(&text).map_err(|error| {
                    BackupError::Set { path: path.clone(), error: SetError::Syntax(error) }
                })?;
                if marker.identity != own {
                    return Err(BackupError::OtherDirectory { path: self.path.clone() });
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let marker = Marker { format: super::set::SET_FORMAT, identity: own };
                let text = serde_json::to_string_pretty(&marker).unwrap_or_default();
                write_whole(&path, text.as_bytes(), 0o644)
            }
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Takes a place that was only just made away again, as far as nothing is in it.
    pub(super) fn unmake(&self) {
        if !self.path.join(MARKER_NAME).exists() {
            for folder in [SETS, SEGMENTS] {
                let _ = fs::remove_dir(self.path.join(folder));
            }
            let _ = fs::remove_file(self.path.join(LOCK_NAME));
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// Clears away what a cut `create` has left.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn clear(&self) -> Result<(), BackupError> {
        for name in self.names()? {
            let folder = self.set_path(&name);
            if !folder.join(SET_NAME).exists() {
                fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
            }
        }
        for folder in self.segment_folders()? {
            for file in files_in(&folder)? {
                if file.extension().is_some_and(|extension| extension == "tmp") {
                    fs::remove_file(&file).map_err(failed("remove", &file))?;
                }
            }
        }
        Ok(())
    }

    /// All sets, the oldest first; those that cannot be read come first of all.
    ///
    /// # Errors
    /// `Io` when the directory itself cannot be read.
    pub fn sets(&self) -> Result<Vec<SetState>, BackupError> {
        let mut sets = Vec::new();
        for name in self.names()? {
            if self.set_path(&name).join(SET_NAME).exists() {
                let set = self.read_set(&name);
                sets.push(SetState { name, set });
            }
        }
        sets.sort_by_key(|state| state.set.as_ref().map_or(i64::MIN, |set| set.created_ms));
        Ok(sets)
    }

    /// The set of this name, or the newest.
    ///
    /// # Errors
    /// `NoSuchSet`, `Empty`, `Set`, `Io`.
    pub fn set(&self, name: Option<&str>) -> Result<BackupSet, BackupError> {
        if let Some(name) = name {
            check_name(name)?;
            if !self.set_path(name).join(SET_NAME).exists() {
                let (path, name) = (self.path.clone(), name.to_owned());
                return Err(BackupError::NoSuchSet { path, name });
            }
            return self.read_set(name);
        }
        match self.sets()?.pop() {
            Some(state) => state.set,
            None => Err(BackupError::Empty { path: self.path.clone() }),
        }
    }

    fn read_set(&self, name: &str) -> Result<BackupSet, BackupError> {
        let path = self.set_path(name).join(SET_NAME);
        let file = File::open(&path).map_err(failed("read", &path))?;
        let mut text = Vec::new();
        file.take(SET_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed("read", &path))?;
        let parsed = if text.len() as u64 > SET_BYTES_MAX {
            Err(SetError::TooLong)
        } else {
            BackupSet::parse(&text)
        };
        let parsed = parsed.and_then(|set| {
            let same = set.name == name;
            same.then_some(set).ok_or(SetError::Impossible("it has the name of another backup"))
        });
        parsed.map_err(|error| BackupError::Set { path, error })
    }

    /// The superblock that a set has kept.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub(crate) fn superblock(&self, set: &BackupSet) -> Result<Superblock, BackupError> {
        let path = self.superblock_path(&set.name);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(SUPERBLOCK_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(failed("read", &path))?;
        let superblock = Superblock::parse(&bytes)
            .map_err(|error| super::copy::damaged(&path, 0, error.to_string()))?;
        let agrees = usize::from(superblock.shards) == set.shards.len()
            && superblock.block_bytes == set.block_bytes;
        if !agrees {
            return Err(super::copy::damaged(&path, 0, "it contradicts the backup's description"));
        }
        Ok(superblock)
    }

    /// Removes a set, and the segments that no other set needs.
    ///
    /// # Errors
    /// `NoSuchSet`, `Io`. `Set` when another set cannot be read: what it needs is not known.
    pub fn remove(&self, name: &str) -> Result<Removed, BackupError> {
        check_name(name)?;
        let folder = self.set_path(name);
        if !folder.exists() {
            let (path, name) = (self.path.clone(), name.to_owned());
            return Err(BackupError::NoSuchSet { path, name });
        }
        let mut needed = BTreeSet::new();
        for state in self.sets()? {
            if state.name != name {
                let set = state.set?;
                for shard in &set.shards {
                    let shared = shard.segments.iter().filter(|s| s.footer.is_some());
                    needed.extend(shared.map(|s| self.segment_path(name, shard.shard, s)));
                }
            }
        }
        let mut removed = Removed { segments: 0, bytes: used_bytes_below(&folder)? };
        // First it stops being a set: a cut from here on leaves nothing that looks like one.
        let description = folder.join(SET_NAME);
        match fs::remove_file(&description) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("remove", &description)(error));
            }
            _ => sync_folder(&folder)?,
        }
        fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
        sync_folder(&self.path.join(SETS))?;
        for folder in self.segment_folders()? {
            for file in files_in(&folder)? {
                if !needed.contains(&file) {
                    removed.segments += 1;
                    removed.bytes += used_bytes(&file);
                    fs::remove_file(&file).map_err(failed("remove", &file))?;
                }
            }
            sync_folder(&folder)?;
        }
        Ok(removed)
    }

    fn names(&self) -> Result<Vec<String>, BackupError> {
        let path = self.path.join(SETS);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read", &path))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if check_name(&name).is_ok() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn segment_folders(&self) -> Result<Vec<PathBuf>, BackupError> {
        let path = self.path.join(SEGMENTS);
        match fs::read_dir(&path) {
            Ok(entries) => {
                entries.map(|entry| Ok(entry.map_err(failed("read", &path))?.path())).collect()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    pub(super) fn set_path(&self, name: &str) -> PathBuf {
        self.path.join(SETS).join(name)
    }

    pub(super) fn superblock_path(&self, name: &str) -> PathBuf {
        self.set_path(name).join(SUPERBLOCK_NAME)
    }

    pub(super) fn segments_path(&self, shard: u16) -> PathBuf {
        self.path.join(SEGMENTS).join(shard_name(shard))
    }

    /// Where a set has this segment.
    pub(crate) fn segment_path(&self, set: &str, shard: u16, segment: &SegmentFile) -> PathBuf {
        match segment.footer {
            Some(footer) => self.shared_path(shard, segment.number, segment.generation, footer.crc),
            None => self.set_path(set).join(shard_name(shard)).join(names::segment(segment.number)),
        }
    }

    pub(super) fn shared_path(
        &self,
        shard: u16,
        number: u64,
        generation: u32,
        crc: u32,
    ) -> PathBuf {
        let name = format!("{}-{generation:010}-{crc:08x}", names::segment(number));
        self.segments_path(shard).join(name)
    }

    pub(crate) fn checkpoint_path(&self, set: &str, shard: u16, end: u64) -> PathBuf {
        self.set_path(set).join(shard_name(shard)).join(names::checkpoint(end))
    }
}

/// Whether a backup may have this name.
///
/// # Errors
/// `Name`.
pub(super) fn check_name(name: &str) -> Result<(), BackupError> {
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if good { Ok(()) } else { Err(BackupError::Name { name: name.to_owned() }) }
}

fn require_marker(path: &Path) -> Result<(), BackupError> {
    if path.join(MARKER_NAME).exists() {
        return Ok(());
    }
    Err(BackupError::NotABackup { path: path.to_owned() })
}

/// A place that is not ours must be empty. What a cut making has left is ours.
fn refuse_foreign(path: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(path).map_err(failed("read", path))? {
        let found = entry.map_err(failed("read", path))?.file_name();
        let found = found.to_string_lossy().into_owned();
        if ![LOCK_NAME, SETS, SEGMENTS, "lost+found"].contains(&found.as_str())
            && found != format!("{MARKER_NAME}.tmp")
        {
            return Err(BackupError::NotEmpty { path: path.to_owned(), found });
        }
    }
    Ok(())
}

fn hold(path: &Path, lock: &File, how: FlockOperation) -> Result<(), BackupError> {
    match rustix::fs::flock(lock, how) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(BackupError::InUse { path: path.to_owned() }),
        Err(errno) => Err(failed("lock", path)(errno.into())),
    }
}

/// A file that was not there before.
pub(crate) fn new_file(path: &Path) -> Result<File, BackupError> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(FILE_MODE);
    options.open(path).map_err(failed("make", path))
}

/// A file that is there whole or not at all, durable when this returns.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), BackupError> {
    let tmp = PathBuf::from(format!("{}.tmp", path.display()));
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&tmp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, path)
    };
    write().map_err(failed("write", path))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

pub(crate) fn make_folder(path: &Path) -> Result<(), BackupError> {
    fs::create_dir_all(path).map_err(failed("make", path))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

pub(crate) fn sync_folder(path: &Path) -> Result<(), BackupError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = fs::read_dir(folder).map_err(failed("read", folder))?;
    entries.map(|entry| Ok(entry.map_err(failed("read", folder))?.path())).collect()
}

/// What a file takes on the disk, bytes.
fn used_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

fn used_bytes_below(folder: &Path) -> Result<u64, BackupError> {
    let mut sum = 0;
    for path in files_in(folder)? {
        sum += if path.is_dir() { used_bytes_below(&path)? } else { used_bytes(&path) };
    }
    Ok(sum)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
