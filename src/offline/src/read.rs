//! A data directory opened to read what is good in it. Nothing in it is changed, and no server can
//! use it meanwhile; in a copy that has no `LOCK`, one that does is noticed.

use std::path::{Path, PathBuf};

use model::{EntryHead, Lsn, ShardId};
use wal::FileDevice;
use wal::device::DeviceError;
use wal::directory::{self, DirectoryError, Look, SuperblockError};
pub use wal::verify::salvage::{Gap, Lost, Salvage, Visit};

/// Why a directory cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(
        "{}/corelane.dir cannot be used ({reason}), and nothing else in the directory tells what it \
         said; restore that file from a backup and run this again",
        path.display()
    )]
    Superblock { path: PathBuf, reason: SuperblockError },
    #[error(
        "a server has begun to use {} while it was read; stop it and run this again, to another place",
        path.display()
    )]
    Taken { path: PathBuf },
    #[error("reading {}: {error}", path.display())]
    Device { path: PathBuf, error: DeviceError },
}

/// A data directory, good or damaged.
#[derive(Debug)]
pub struct Source {
    look: Look,
    secret: [u8; 16],
    shards: u16,
    block_bytes: usize,
    finished: bool,
    note: Option<String>,
}

impl Source {
    /// Opens it and keeps servers from using it as long as this value lives, if it has a `LOCK`.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let look = directory::look(path)?;
        let (superblock, note) = match look.superblock {
            Ok(superblock) => (superblock, None),
            Err(reason) => {
                let refused = || ReadError::Superblock { path: path.to_owned(), reason };
                let guessed = directory::guess(&look).ok_or_else(refused)?;
                let state = match reason {
                    SuperblockError::Length(0) => "corelane.dir is missing (if a restore, repair \
                         or reshard was cut short here, this is only a part of a copy)"
                        .to_owned(),
                    reason => format!("corelane.dir cannot be used ({reason})"),
                };
                let shards = guessed.shards;
                let note = format!("{state}; what it said was told from the logs: {shards} shards");
                (guessed, Some(note))
            }
        };
        Ok(Self {
            secret: superblock.secret,
            shards: superblock.shards,
            block_bytes: superblock.block_bytes as usize,
            finished: superblock.finished,
            note,
            look,
        })
    }

    pub fn path(&self) -> &Path {
        &self.look.path
    }

    /// What is wrong with the directory's own file, in a sentence.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Whether the directory was ever complete; one that was not holds nothing.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Says whether all that was read so far was read without a server beside.
    ///
    /// # Errors
    /// `Taken`.
    pub fn check_untaken(&self) -> Result<(), ReadError> {
        match self.look.is_taken() {
            true => Err(ReadError::Taken { path: self.path().to_owned() }),
            false => Ok(()),
        }
    }

    /// A shard's log; `None` when its directory is gone.
    pub fn shard(&self, shard: ShardId) -> Result<Option<ShardSource>, ReadError> {
        self.check_untaken()?;
        let path = self.path().join(directory::shard_name(shard.0));
        match FileDevice::open(&path) {
            Ok(device) => {
                let device = device.with_block_bytes(self.block_bytes);
                let (secret, unit) = (self.secret, self.block_bytes);
                Ok(Some(ShardSource { device, path, secret, shard, unit }))
            }
            Err(DeviceError::NotFound) => Ok(None),
            Err(error) => Err(ReadError::Device { path, error }),
        }
    }
}

/// One shard's log, to be read as often as needed.
#[derive(Debug)]
pub struct ShardSource {
    device: FileDevice,
    path: PathBuf,
    secret: [u8; 16],
    shard: ShardId,
    unit: usize,
}

impl ShardSource {
    /// The shard's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the log's frame; what comes back reads its checkpoints and entries.
    pub fn salvage(&mut self) -> Result<Salvage<'_, FileDevice>, ReadError> {
        let path = self.path.clone();
        Salvage::open(&mut self.device, &self.secret, self.shard.0, self.unit)
            .map_err(|error| ReadError::Device { path, error })
    }

    /// Gives every good entry to `each`, in order; gaps are passed over.
    pub fn each_entry<E: From<DeviceError> + From<ReadError>>(
        &mut self,
        each: impl FnMut(Lsn, &EntryHead, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        struct Entries<F>(F);
        impl<E: From<DeviceError>, F: FnMut(Lsn, &EntryHead, &[u8]) -> Result<(), E>> Visit for Entries<F> {
            type Error = E;
            fn entry(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), E> {
                self.0(lsn, head, payload)
            }
            fn gap(&mut self, _: &Gap) -> Result<(), E> {
                Ok(())
            }
        }
        self.salvage()?.walk(&mut Entries(each))?;
        Ok(())
    }
}
