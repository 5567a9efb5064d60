//! A damaged data directory written anew without what is lost, and the list of what that is.
//!
//! The plan is made first, by reading everything once; it is what a report is printed from and what
//! the new directory is written to. Offsets are never used again: where it is not known how far a
//! partition went, it goes on behind every offset that may have been acknowledged.

mod plan;
mod write;

use model::{Offset, PartitionIndex, ShardId, TopicId, TopicName};

use crate::ranges::Range;
use crate::read::{Gap, ReadError, Source};
use crate::rewrite::RewriteError;

pub use plan::Plan;

/// Why a repair came to no end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] RewriteError),
    #[error("reading the log: {0}")]
    Device(#[from] wal::device::DeviceError),
    #[error(
        "the directory was never finished: no server has ever acknowledged anything in it, so there \
         is nothing to repair; remove it"
    )]
    Unfinished,
    #[error("{} lies in the directory that is read; choose a place outside it", path.display())]
    Inside { path: std::path::PathBuf },
}

/// What is lost of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLoss {
    pub topic: TopicName,
    pub id: TopicId,
    pub partition: PartitionIndex,
    pub shard: ShardId,
    /// Offsets that had records, each from the first up to before the second.
    pub lost: Vec<Range>,
    /// The newest records may be lost too: how many is not known. The partition goes on at
    /// `next_offset`, behind all that may have been acknowledged.
    pub end_unknown: bool,
    pub next_offset: Offset,
    /// The topic's settings are not known any more; it has the defaults.
    pub settings_lost: bool,
}

impl PartitionLoss {
    /// Records known to be lost.
    pub fn records(&self) -> u64 {
        self.lost.iter().map(|(from, to)| to - from).sum()
    }
}

/// What was found wrong in one shard, and what else than records it takes away.
#[derive(Clone, Debug)]
pub struct ShardFinding {
    pub shard: ShardId,
    /// The shard's log is gone altogether.
    pub missing: bool,
    pub gaps: Vec<Gap>,
    /// Changes of topics, committed offsets or producers may be lost.
    pub state_lost: bool,
    /// Sentences about what could not be kept.
    pub notes: Vec<String>,
}

/// What a repair would lose, or has lost.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is wrong with the directory's own file.
    pub note: Option<String>,
    pub partitions: Vec<PartitionLoss>,
    pub shards: Vec<ShardFinding>,
    /// Partitions and records that are kept.
    pub kept_partitions: u64,
    pub kept_records: u64,
}

impl Losses {
    /// Whether anything that was acknowledged is lost, or may be.
    pub fn is_any(&self) -> bool {
        !self.partitions.is_empty()
            || self.shards.iter().any(|s| s.state_lost || s.missing || !s.notes.is_empty())
    }

    /// Whether every file is as it should be.
    pub fn is_whole(&self) -> bool {
        !self.is_any()
            && self.note.is_none()
            && self.shards.iter().all(|shard| shard.gaps.is_empty())
    }

    pub fn records(&self) -> u64 {
        self.partitions.iter().map(PartitionLoss::records).sum()
    }
}

/// Reads the whole directory and says what can be kept.
pub fn plan(source: &Source) -> Result<Plan, RepairError> {
    if !source.is_finished() {
        return Err(RepairError::Unfinished);
    }
    Plan::make(source)
}
