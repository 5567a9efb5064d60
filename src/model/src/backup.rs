//! What a server tells of its logs when a backup begins: which files there are, and how far each
//! is to be copied.

use crate::ids::{Lsn, ShardId};

/// Length of what the asker of a backup makes up, bytes.
pub const BACKUP_NONCE_BYTES: usize = 16;
/// Length of the hash that tells data directories apart, bytes.
pub const BACKUP_IDENTITY_BYTES: usize = 32;

/// A backup under way, as the server answers `BackupBegin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPoint {
    /// The server's number for it.
    pub backup: u64,
    /// SHA-256 of the data directory's secret and the nonce: proves that a directory of the same
    /// name is the server's.
    pub identity: [u8; BACKUP_IDENTITY_BYTES],
    /// Absolute, as the server sees it.
    pub data_dir: String,
    /// Without a sign of life the backup is given up after so long, milliseconds.
    pub silent_ms_max: u32,
    /// All of them, in order.
    pub shards: Vec<ShardPoint>,
}

/// One shard's log at the moment it was pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPoint {
    pub shard: ShardId,
    pub incarnation: u32,
    /// The last entry that was durable.
    pub durable_lsn: Lsn,
    /// The last block that was durable.
    pub last_sequence: u64,
    /// LSN at the begin and at the end of each checkpoint, the newest first.
    pub checkpoints: Vec<(u64, u64)>,
    /// In order of their numbers.
    pub segments: Vec<SegmentPoint>,
}

/// One segment of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPoint {
    pub number: u64,
    pub generation: u32,
    /// Full and closed: it does not change any more.
    pub sealed: bool,
    /// Length of the file, bytes.
    pub bytes: u64,
    /// Where the durable blocks ended, bytes from the begin of the file.
    pub data_end: u64,
}
