//! What all cores know of the running server and share without a lock.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::admission::Admission;
use crate::core::ShutdownFlag;

#[derive(Debug)]
pub struct ServerFacts {
    pub version: String,
    /// Absolute.
    pub data_dir: String,
    pub secret: Secret,
    pub started: Instant,
    pub shutdown: ShutdownFlag,
    pub admission: Admission,
    /// The data directory is in memory.
    pub volatile: bool,
    /// Every shard has opened, and the data directory says so durably: connections may be taken.
    may_serve: AtomicBool,
    /// Backups begun so far: the newest one's number.
    backups: AtomicU64,
    /// The one under way; 0: none. One at a time.
    backup: AtomicU64,
    /// The last one that had to give way to publishes.
    backup_broken: AtomicU64,
}

/// The data directory's secret id, which no log line shows.
#[derive(Clone, Copy)]
pub struct Secret([u8; 16]);

impl Secret {
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl ServerFacts {
    pub fn new(
        version: String,
        data_dir: String,
        secret: Secret,
        volatile: bool,
        admission: Admission,
    ) -> Self {
        Self {
            version,
            data_dir,
            secret,
            started: Instant::now(),
            shutdown: ShutdownFlag::default(),
            admission,
            volatile,
            may_serve: AtomicBool::new(false),
            backups: AtomicU64::new(0),
            backup: AtomicU64::new(0),
            backup_broken: AtomicU64::new(0),
        }
    }

    /// Takes the place of the one backup there may be. `None`: it is taken.
    pub fn begin_backup(&self) -> Option<u64> {
        let number = self.backups.fetch_add(1, Ordering::Relaxed) + 1;
        let taken =
            self.backup.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).is_ok();
        taken.then_some(number)
    }

    pub fn end_backup(&self, backup: u64) {
        let _ = self.backup.compare_exchange(backup, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Its number; 0: there is none.
    pub fn backup_under_way(&self) -> u64 {
        self.backup.load(Ordering::Acquire)
    }

    /// Every shard is to let go of the files kept for this backup.
    pub fn break_backup(&self, backup: u64) {
        self.backup_broken.fetch_max(backup, Ordering::AcqRel);
    }

    /// The backup under way, when it is to be broken.
    pub fn broken_backup(&self) -> Option<u64> {
        let under_way = self.backup_under_way();
        (under_way != 0 && self.backup_broken.load(Ordering::Acquire) == under_way)
            .then_some(under_way)
    }

    pub fn let_serve(&self) {
        self.may_serve.store(true, Ordering::Release);
    }

    pub fn may_serve(&self) -> bool {
        self.may_serve.load(Ordering::Acquire)
    }
}
