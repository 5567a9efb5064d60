//! What is kept for a full disk: two spare segments, so that one can be emptied and used again
//! while the other is written, and space for the checkpoints without which nothing is freed.

use model::SpaceUse;

use super::Segments;
use crate::config::WalConfig;
use crate::wal::Wal;

/// Least space kept for checkpoints, bytes.
const BALLAST_BYTES_MIN: u64 = 256 * 1024;
/// So many times the newest checkpoint is kept. Two are kept and a third is written, so at least
/// one of these is free again afterwards.
const BALLAST_CHECKPOINTS: u64 = 3;
/// Of the last spare segment, the part that only entries that free space may fill: one in so many.
const KEPT_PART: u64 = 2;

/// What there is of it; `None` where it is still to be made.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    /// Lengths of the spare segments, bytes.
    pub segments: [Option<u64>; 2],
    /// Length of the file whose space is for checkpoints, bytes.
    pub ballast: Option<u64>,
    /// A checkpoint found no space.
    pub ballast_wanted: bool,
    /// There was no space for it: a spare segment, which may be smaller, has the next try.
    pub ballast_failed: bool,
}

impl Reserve {
    /// The spare segment that is used next.
    pub fn next(&self) -> Option<(usize, u64)> {
        self.segments.iter().enumerate().find_map(|(slot, bytes)| Some((slot, (*bytes)?)))
    }

    /// A place for one more spare segment.
    pub fn missing(&self) -> Option<usize> {
        self.segments.iter().position(Option::is_none)
    }
}

impl WalConfig {
    /// What is to be kept for checkpoints of this length.
    pub(crate) fn ballast_bytes(&self, checkpoint_bytes: u64, block_bytes: usize) -> u64 {
        (BALLAST_CHECKPOINTS * checkpoint_bytes)
            .max(BALLAST_BYTES_MIN.min(self.segment_bytes))
            .next_multiple_of(block_bytes as u64)
    }

    /// The same on a full disk: what the last use of it has left.
    pub(crate) fn ballast_bytes_left(&self, checkpoint_bytes: u64, block_bytes: usize) -> u64 {
        checkpoint_bytes
            .max(BALLAST_BYTES_MIN.min(self.segment_bytes) / 2)
            .next_multiple_of(block_bytes as u64)
    }
}

impl Segments {
    /// Whether a segment is ready that is not of the reserve.
    pub fn has_spare(&self) -> bool {
        let mut ready = self.ready.iter().filter_map(|number| self.all.get(number));
        ready.any(|segment| !segment.from_reserve)
    }

    /// Notes that the reserve has one more spare segment. When both are there, what was made of
    /// the reserve before is a segment like any other.
    pub fn reserve_made(&mut self, slot: usize, bytes: u64) {
        self.reserve.segments[slot] = Some(bytes);
        if self.reserve.missing().is_none() {
            self.all.values_mut().for_each(|segment| segment.from_reserve = false);
        }
    }
}

impl Wal {
    /// On a full disk: whether the entry fits what there is, or may use the reserve.
    pub(crate) fn fits_full_disk(&self, payload_bytes: usize, space_use: SpaceUse) -> bool {
        if self.segments.has_spare() {
            return true;
        }
        let spare = self.segments.reserve.next().is_some() || !self.segments.ready.is_empty();
        if spare && space_use != SpaceUse::Grows {
            return true;
        }
        let Some(active) = self.segments.active() else { return false };
        let limit = match space_use {
            SpaceUse::Frees => active.bytes,
            SpaceUse::Grows | SpaceUse::GoesOn if !active.from_reserve => active.bytes,
            SpaceUse::GoesOn => active.bytes - active.bytes / KEPT_PART,
            SpaceUse::Grows => return false,
        };
        self.end_with(payload_bytes) <= limit
    }
}
