//! The segment indexes in memory: those that must be there, and others under a budget.

use super::SegmentIndex;
use crate::io::Map;

struct Resident {
    index: SegmentIndex,
    /// Has no footer to be loaded from (yet): stays.
    pinned: bool,
    used: u64,
    bytes: u64,
}

/// Indexes by segment number. The one used longest ago makes room.
#[derive(Default)]
pub(crate) struct Indexes {
    all: Map<u64, Resident>,
    budget_bytes: u64,
    loaded_bytes: u64,
    clock: u64,
}

impl Indexes {
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes, ..Self::default() }
    }

    /// Keeps the index until it is unpinned or removed.
    pub fn pin(&mut self, segment: u64, index: SegmentIndex) {
        self.remove(segment);
        self.all.insert(segment, Resident { index, pinned: true, used: 0, bytes: 0 });
    }

    /// From now on the index can be loaded from its footer: it may make room for others.
    pub fn unpin(&mut self, segment: u64) {
        if let Some(found) = self.all.remove(&segment) {
            self.insert(segment, found.index);
        }
    }

    /// Takes an index that can be loaded again.
    pub fn insert(&mut self, segment: u64, index: SegmentIndex) {
        self.remove(segment);
        let bytes = index.memory_bytes() as u64;
        self.clock += 1;
        self.loaded_bytes += bytes;
        self.all.insert(segment, Resident { index, pinned: false, used: self.clock, bytes });
        self.shrink(segment);
    }

    fn shrink(&mut self, keep: u64) {
        while self.loaded_bytes > self.budget_bytes {
            let oldest = self
                .all
                .iter()
                .filter(|(number, one)| !one.pinned && **number != keep)
                .min_by_key(|(_, one)| one.used)
                .map(|(number, _)| *number);
            let Some(oldest) = oldest else { return };
            self.remove(oldest);
        }
    }

    pub fn remove(&mut self, segment: u64) {
        if let Some(found) = self.all.remove(&segment)
            && !found.pinned
        {
            self.loaded_bytes -= found.bytes;
        }
    }

    /// The index if it is in memory.
    pub fn get(&mut self, segment: u64) -> Option<&SegmentIndex> {
        self.clock += 1;
        let clock = self.clock;
        self.all.get_mut(&segment).map(|found| {
            found.used = clock;
            &found.index
        })
    }

    /// The index if it is in memory, without counting as a use.
    pub fn peek(&self, segment: u64) -> Option<&SegmentIndex> {
        self.all.get(&segment).map(|found| &found.index)
    }

    pub fn get_mut(&mut self, segment: u64) -> Option<&mut SegmentIndex> {
        self.all.get_mut(&segment).map(|found| &mut found.index)
    }
}
