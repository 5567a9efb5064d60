//! What all cores know of the running server and share without a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::admission::Admission;
use crate::core::ShutdownFlag;

#[derive(Debug)]
pub struct ServerFacts {
    pub version: String,
    /// Absolute.
    pub data_dir: String,
    pub started: Instant,
    pub shutdown: ShutdownFlag,
    pub admission: Admission,
    /// The data directory is in memory.
    pub volatile: bool,
    /// Every shard has opened, and the data directory says so durably: connections may be taken.
    may_serve: AtomicBool,
}

impl ServerFacts {
    pub fn new(version: String, data_dir: String, volatile: bool, admission: Admission) -> Self {
        Self {
            version,
            data_dir,
            started: Instant::now(),
            shutdown: ShutdownFlag::default(),
            admission,
            volatile,
            may_serve: AtomicBool::new(false),
        }
    }

    pub fn let_serve(&self) {
        self.may_serve.store(true, Ordering::Release);
    }

    pub fn may_serve(&self) -> bool {
        self.may_serve.load(Ordering::Acquire)
    }
}
