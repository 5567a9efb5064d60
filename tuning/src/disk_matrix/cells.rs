//! Which sizes and depths are measured, and in which order.

use std::fmt;

use super::{KIB, MIB, WRITE_DEPTHS, WRITE_SIZES, Work};

/// A cell to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub work: Work,
    pub size_bytes: u64,
    pub depth: usize,
}

const FRESH: [(u64, usize); 6] =
    [(4 * KIB, 1), (4 * KIB, 4), (64 * KIB, 1), (64 * KIB, 4), (MIB, 1), (MIB, 4)];
pub const FRESH_CELLS: usize = FRESH.len();
const READS: [(Work, u64, usize); 5] = [
    (Work::ReadSequential, MIB, 1),
    (Work::ReadSequential, MIB, 4),
    (Work::ReadRandom, 4 * KIB, 1),
    (Work::ReadRandom, 4 * KIB, 8),
    (Work::ReadRandom, 64 * KIB, 4),
];

/// All cells. What a small disk budget of a cloud volume is spent on comes last.
pub fn plan() -> Vec<Spec> {
    let recycled = WRITE_SIZES.into_iter().flat_map(|size_bytes| {
        WRITE_DEPTHS.map(|depth| Spec { work: Work::WriteRecycled, size_bytes, depth })
    });
    let fresh = FRESH.map(|(size_bytes, depth)| Spec { work: Work::WriteFresh, size_bytes, depth });
    let reads = READS.map(|(work, size_bytes, depth)| Spec { work, size_bytes, depth });
    recycled.chain(reads).chain(fresh).collect()
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = match self.work {
            Work::WriteRecycled => "durable writes, recycled",
            Work::WriteFresh => "durable writes, fresh",
            Work::ReadSequential => "reads in order",
            Work::ReadRandom => "reads at random",
        };
        write!(f, "{work}, {} KiB, depth {}", self.size_bytes / KIB, self.depth)
    }
}
