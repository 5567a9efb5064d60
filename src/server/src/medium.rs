//! Whether the data lies where a log can keep its word, and how its files are opened there.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tuning::Medium;
use wal::device::{Access, DeviceError, DirectAnswer, FileDevice, LogDevice};
use wal::directory::shard_name;

use crate::config::{IoMode, StorageConfig};

/// What a shard's files stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMedium {
    pub access: Access,
    /// Nothing survives the machine's stop.
    pub volatile: bool,
    /// The number of the device, `st_dev`.
    pub device: u64,
}

/// Why the log cannot be where it is to be.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    #[error("{0}")]
    Unfit(String),
    #[error(
        "{path} is on {kind}, which lives in memory: all messages go with the machine or the \
         mount, whatever they were acknowledged as; put the data directory on a disk, or give \
         --allow-volatile, and acknowledgements say `memory`"
    )]
    Volatile { path: PathBuf, kind: String },
    #[error(
        "the filesystem of {path} does not take direct writes (O_DIRECT): {reason}; put the data \
         directory on xfs or ext4 (not mounted data=journal), or set storage.io = \"auto\" for slower \
         writes through the page cache"
    )]
    NotDirect { path: PathBuf, reason: String },
    #[error(
        "the filesystem of {path} cannot reserve space for a file (fallocate), so a full disk would \
         be met in the middle of a write; put the data directory on a local disk with ext4 or xfs"
    )]
    NoReserving { path: PathBuf },
    #[error("cannot use the filesystem of {path}: {error}; mend it or choose another --data-dir")]
    Device { path: PathBuf, error: DeviceError },
    #[error("cannot look at the filesystem of {path}: {error}; check the path and its permissions")]
    Look { path: PathBuf, error: io::Error },
}

impl MediumError {
    /// Whether the disk itself fails or cannot be reached, and not a choice of the operator's.
    pub fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Device { .. } | Self::Look { .. })
    }
}

/// Judges the place of a data directory, before anything is made or changed there.
pub fn check_place(path: &Path, storage: &StorageConfig) -> Result<(), MediumError> {
    is_volatile(path, storage, |advice| tracing::warn!("{advice}")).map(drop)
}

/// Judges how the files of a data directory could be opened that is not made yet, without making
/// anything: of the place itself, and of the shards' directories where they are there already (a
/// disk for each). What cannot be told so early is judged once the directories are made.
pub fn check_unmade(path: &Path, shards: u16, storage: &StorageConfig) -> Result<(), MediumError> {
    let place = path.ancestors().find(|part| part.is_dir()).unwrap_or(Path::new("."));
    // Whoever may not look there is told so when the directory is to be made.
    let Ok(device) = FileDevice::open(place) else { return Ok(()) };
    let prepared = (0..shards).map(|shard| path.join(shard_name(shard)));
    for folder in prepared.filter(|folder| folder.is_dir()).chain([place.to_owned()]) {
        is_volatile(&folder, storage, |_| {})?;
        let answer = wal::device::probe_unmade(&folder, device.block_bytes())
            .map_err(|_| MediumError::NoReserving { path: folder.clone() })?;
        if let Some(answer) = answer {
            choose_access(&folder, answer, storage.io)?;
        }
    }
    Ok(())
}

/// Judges where a shard's files lie and how they can be opened. What is on another filesystem than
/// `data_dir` (a disk for each shard) is judged by itself. `None`: the directory is missing.
pub fn of_shard(
    path: &Path,
    data_dir: &Path,
    block_bytes: usize,
    storage: &StorageConfig,
) -> Result<Option<ShardMedium>, MediumError> {
    let look = |error| MediumError::Look { path: path.to_owned(), error };
    let device = match std::fs::metadata(path) {
        Ok(found) => found.dev(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(look(error)),
    };
    let elsewhere = device != std::fs::metadata(data_dir).map_err(look)?.dev();
    let volatile = is_volatile(path, storage, |advice| {
        if elsewhere {
            tracing::warn!("{advice}");
        }
    })?;
    let answer = wal::device::probe(path, block_bytes).map_err(|error| match error {
        DeviceError::NoReserving => MediumError::NoReserving { path: path.to_owned() },
        error => MediumError::Device { path: path.to_owned(), error },
    })?;
    let access = choose_access(path, answer, storage.io)?;
    Ok(Some(ShardMedium { access, volatile, device }))
}

fn is_volatile(
    path: &Path,
    storage: &StorageConfig,
    mut advise: impl FnMut(&str),
) -> Result<bool, MediumError> {
    let judged = tuning::medium::judge(path);
    match judged.map_err(|error| MediumError::Look { path: path.to_owned(), error })? {
        Medium::Durable { advice: None } => Ok(false),
        Medium::Durable { advice: Some(advice) } => {
            advise(&advice);
            Ok(false)
        }
        Medium::Volatile { kind } if storage.allow_volatile => {
            advise(&format!(
                "{} is on {kind}, which lives in memory: all messages go with the machine or the \
                 mount; acknowledgements say `memory`, also to those who ask for `durable`",
                path.display()
            ));
            Ok(true)
        }
        Medium::Volatile { kind } => Err(MediumError::Volatile { path: path.to_owned(), kind }),
        Medium::Unfit { reason } => Err(MediumError::Unfit(reason)),
    }
}

fn choose_access(path: &Path, answer: DirectAnswer, mode: IoMode) -> Result<Access, MediumError> {
    match (answer, mode) {
        (DirectAnswer::Taken, _) => Ok(Access::Direct),
        (DirectAnswer::Refused(reason), IoMode::Direct) => {
            Err(MediumError::NotDirect { path: path.to_owned(), reason })
        }
        (DirectAnswer::Refused(_), IoMode::Auto) => Ok(Access::Buffered),
    }
}

/// Says once that the log goes through the page cache.
pub fn warn_of_buffered(data_dir: &Path, shards: &[Option<ShardMedium>]) {
    if shards.iter().flatten().any(|medium| medium.access == Access::Buffered) {
        tracing::warn!(
            "the filesystem of {} does not take direct writes (O_DIRECT); the log is written \
             through the page cache with O_DSYNC: as durable, but every byte is copied once more, \
             takes memory twice, and acknowledgements come later; put the data directory on xfs or \
             ext4 (not mounted data=journal), or set storage.io = \"direct\" to be refused instead",
            data_dir.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_writes_refused_are_buffered_or_an_error() {
        let path = Path::new("/data/shard-0000");
        let refused = || DirectAnswer::Refused("opening a file with it fails".to_owned());
        assert_eq!(
            choose_access(path, DirectAnswer::Taken, IoMode::Direct).unwrap(),
            Access::Direct
        );
        assert_eq!(choose_access(path, refused(), IoMode::Auto).unwrap(), Access::Buffered);
        let sentence = choose_access(path, refused(), IoMode::Direct).unwrap_err().to_string();
        assert!(sentence.contains("/data/shard-0000") && sentence.contains("storage.io"));
    }
}
