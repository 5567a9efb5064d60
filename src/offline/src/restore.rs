//! A data directory made from a backup set.
//!
//! Everything is checked while it is copied, and the finished logs are audited. The superblock
//! comes last: until then the place is no data directory, and a server refuses it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use wal::FileDevice;
use wal::device::DeviceError;
use wal::directory::{self, DirectoryError, shard_name};
use wal::format::names;
use wal::verify::verify_log;

use crate::backup::{
    BackupError, BackupSet, FILE_MODE, Place, Progress, SegmentFile, SetDisk, ShardSet, Sink,
    Store, Wanted, Watch, copy_checkpoint, copy_segment, failed, new_file,
};

/// Why a set could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the copy in {} cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: DeviceError },
    #[error(
        "the copy in {} is not good ({finding}); remove it, look at the disk, and restore again",
        path.display()
    )]
    BadCopy { path: PathBuf, finding: String },
    #[error(
        "the backup's logs are written in blocks of {recorded} bytes, and {} asks for {needed}; \
         restore to another disk",
        path.display()
    )]
    BlockSize { path: PathBuf, recorded: u32, needed: usize },
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub shards: u16,
    pub segments: u64,
    pub bytes: u64,
    pub records: u64,
}

/// Makes a data directory in a new or empty place. It is complete, durable and audited when this
/// returns.
///
/// # Errors
/// See [`RestoreError`]; what has been written then is no data directory.
pub fn restore(
    store: &Store,
    set: &BackupSet,
    to: &Path,
    watch: &mut dyn Watch,
) -> Result<Restored, RestoreError> {
    let superblock = store.superblock(set)?;
    let shards = superblock.shards;
    let mut new = directory::begin(to, shards, superblock.secret)?;
    if new.block_bytes() > set.block_bytes as usize {
        let (recorded, needed) = (set.block_bytes, new.block_bytes());
        return Err(RestoreError::BlockSize { path: to.to_owned(), recorded, needed });
    }
    new.set_block_bytes(set.block_bytes);
    let mut restoring = Restoring {
        store,
        set,
        secret: superblock.secret,
        to,
        watch,
        progress: Progress { bytes: 0, bytes_total: set.data_bytes() },
        restored: Restored { shards, ..Restored::default() },
    };
    for shard in &set.shards {
        restoring.shard(shard)?;
        restoring.audit(shard)?;
    }
    let restored = restoring.restored;
    new.finish()?;
    Ok(restored)
}

struct Restoring<'a> {
    store: &'a Store,
    set: &'a BackupSet,
    secret: [u8; 16],
    to: &'a Path,
    watch: &'a mut dyn Watch,
    progress: Progress,
    restored: Restored,
}

impl Restoring<'_> {
    fn shard(&mut self, shard: &ShardSet) -> Result<(), BackupError> {
        let folder = self.to.join(shard_name(shard.shard));
        let place =
            Place { secret: self.secret, shard: shard.shard, unit: self.set.block_bytes as usize };
        for segment in &shard.segments {
            self.segment(&place, shard, segment, &folder)?;
            self.restored.segments += 1;
        }
        for checkpoint in &shard.checkpoints {
            let from_path = self.store.checkpoint_path(&self.set.name, shard.shard, checkpoint.end);
            let from = File::open(&from_path).map_err(failed("read", &from_path))?;
            let to_path = folder.join(names::checkpoint(checkpoint.end));
            let to = new_file(&to_path)?;
            let mut went_on = |bytes| self.went_on(bytes);
            let mut sink = Sink { file: Some((&to, &to_path)), block: None, went_on: &mut went_on };
            let found = copy_checkpoint(&place, checkpoint.end, &from, &from_path, &mut sink)?;
            if found != *checkpoint {
                return Err(contradicts(&from_path));
            }
            to.sync_all().map_err(failed("sync", &to_path))?;
        }
        let disk = SetDisk::new(self.store, self.set, shard, &self.secret);
        for (name, bytes) in disk.made() {
            crate::backup::write_whole(&folder.join(name), bytes, FILE_MODE)?;
        }
        crate::backup::sync_folder(&folder)
    }

    fn segment(
        &mut self,
        place: &Place,
        shard: &ShardSet,
        segment: &SegmentFile,
        folder: &Path,
    ) -> Result<(), BackupError> {
        let from_path = self.store.segment_path(&self.set.name, shard.shard, segment);
        let from = File::open(&from_path).map_err(failed("read", &from_path))?;
        let to_path = folder.join(names::segment(segment.number));
        let to = new_file(&to_path)?;
        // A log expects that its segments have their space: a full disk is met here, not when it
        // writes.
        reserve(&to, &to_path, segment.bytes)?;
        let wanted = Wanted {
            number: segment.number,
            generation: segment.generation,
            bytes: segment.bytes,
            data_end: segment.data_end,
            sealed: segment.footer.is_some(),
        };
        let mut went_on = |bytes| self.went_on(bytes);
        let mut sink = Sink { file: Some((&to, &to_path)), block: None, went_on: &mut went_on };
        let found = copy_segment(place, &wanted, &from, &from_path, &mut sink)?;
        if found != *segment {
            return Err(contradicts(&from_path));
        }
        to.sync_all().map_err(failed("sync", &to_path))
    }

    fn went_on(&mut self, bytes: u64) -> Result<(), BackupError> {
        self.restored.bytes += bytes;
        self.progress.bytes = (self.progress.bytes + bytes).min(self.progress.bytes_total);
        self.watch.went_on(&self.progress).map_err(|reason| BackupError::Stopped { reason })
    }

    /// Reads back what was written, by the rules of `corelane verify`.
    fn audit(&mut self, shard: &ShardSet) -> Result<(), RestoreError> {
        let path = self.to.join(shard_name(shard.shard));
        let unreadable = |error| RestoreError::Unreadable { path: path.clone(), error };
        let device = FileDevice::open(&path).map_err(unreadable)?;
        let mut device = device.with_block_bytes(self.set.block_bytes as usize);
        let report = verify_log(&mut device, &self.secret).map_err(unreadable)?;
        let finding = match report.damage.first() {
            Some(finding) => Some(finding.to_string()),
            None if report.last_lsn != shard.durable_lsn => Some(format!(
                "the log ends with entry {} instead of {}",
                report.last_lsn, shard.durable_lsn
            )),
            None => None,
        };
        if let Some(finding) = finding {
            return Err(RestoreError::BadCopy { path, finding });
        }
        self.restored.records += report.records;
        Ok(())
    }
}

fn reserve(file: &File, path: &Path, bytes: u64) -> Result<(), BackupError> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // The log meets the same disk and makes do.
        Err(Errno::OPNOTSUPP) => file.set_len(bytes).map_err(failed("lengthen", path)),
        Err(errno) => Err(failed("reserve space for", path)(errno.into())),
    }
}

fn contradicts(path: &Path) -> BackupError {
    BackupError::Damaged {
        path: path.to_owned(),
        offset: 0,
        what: "it is not the file that the backup was made with".to_owned(),
    }
}
