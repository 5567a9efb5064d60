//! Where a server's time goes, stage by stage: histograms whose counts only grow, so that two looks
//! at them can be subtracted.
//!
//! The buckets are fixed: 32 to each doubling, so that a bucket is at most 3.1% wide. Everything is
//! in nanoseconds.

use crate::ids::CoreId;

/// What is timed. Every stage but the last is of publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    /// From the bytes of a publish read to its batches appended to the log in memory.
    ReceiveToAppend = 0,
    /// From there to the disk's word that the log is durable up to them.
    AppendToDurable = 1,
    /// From there to the acknowledgement handed to the socket. What is acknowledged from memory
    /// counts from the append.
    DurableToReply = 2,
    /// From something to read, and room for it, to the batches handed to the reader's socket.
    Deliver = 3,
}

pub const STAGES: usize = 4;

impl Stage {
    pub const ALL: [Self; STAGES] =
        [Self::ReceiveToAppend, Self::AppendToDurable, Self::DurableToReply, Self::Deliver];

    /// As it stands in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReceiveToAppend => "receive_to_append",
            Self::AppendToDurable => "append_to_durable",
            Self::DurableToReply => "durable_to_reply",
            Self::Deliver => "deliver",
        }
    }
}

/// The stages of one core, in the order of [`Stage::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreStages {
    pub core: CoreId,
    pub stages: [StageHistogram; STAGES],
}

impl CoreStages {
    /// What has come since an earlier look at the same core.
    pub fn since(&self, before: &Self) -> Self {
        let stages = std::array::from_fn(|stage| self.stages[stage].since(&before.stages[stage]));
        Self { core: self.core, stages }
    }
}

/// Times since the server's start, or between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageHistogram {
    /// Publishes, or for [`Stage::Deliver`] frames with batches.
    pub count: u64,
    /// Of all times; modulo 2^64.
    pub sum_ns: u64,
    /// The longest since the start: of a difference, the end of its highest bucket if that is less.
    pub max_ns: u64,
    /// Those that are not empty, by number: how many times fell into each. They add up to `count`.
    pub buckets: Vec<(u16, u64)>,
}

/// Of each doubling.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 5;
/// Times from here on, 69 s, share the last bucket.
const CAP_BITS: u32 = 36;

/// How many buckets there are.
pub const STAGE_BUCKETS: usize = ((CAP_BITS - STEP_BITS + 1) as usize) << STEP_BITS;

/// The bucket of a time.
#[inline]
pub fn stage_bucket(ns: u64) -> usize {
    let ns = if ns >> CAP_BITS == 0 { ns } else { (1 << CAP_BITS) - 1 };
    let bits = u64::BITS - (ns | STEPS).leading_zeros();
    let shift = bits - 1 - STEP_BITS;
    ((u64::from(shift) << STEP_BITS) + (ns >> shift)) as usize
}

/// The longest time that falls into a bucket; the last one has no end, and this says where it begins
/// to mean nothing.
pub fn stage_bucket_end_ns(bucket: usize) -> u64 {
    let bucket = bucket.min(STAGE_BUCKETS - 1) as u64;
    let shift = (bucket >> STEP_BITS).saturating_sub(1);
    let step = bucket - (shift << STEP_BITS);
    ((step + 1) << shift) - 1
}

impl StageHistogram {
    /// What has come since an earlier look at the same histogram.
    pub fn since(&self, before: &Self) -> Self {
        let mut old = before.buckets.iter().copied().peekable();
        let mut buckets = Vec::with_capacity(self.buckets.len());
        for (bucket, count) in &self.buckets {
            while old.next_if(|(earlier, _)| earlier < bucket).is_some() {}
            let gone = old.next_if(|(same, _)| same == bucket).map_or(0, |(_, gone)| gone);
            if *count > gone {
                buckets.push((*bucket, count - gone));
            }
        }
        let end_ns = buckets.last().map_or(0, |(bucket, _)| highest_ns(*bucket, self.max_ns));
        Self {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum_ns: self.sum_ns.wrapping_sub(before.sum_ns),
            max_ns: end_ns,
            buckets,
        }
    }

    /// Takes another core's times in.
    pub fn add(&mut self, other: &Self) {
        let mut counts = std::mem::take(&mut self.buckets);
        counts.extend(&other.buckets);
        counts.sort_by_key(|(bucket, _)| *bucket);
        for (bucket, count) in counts {
            match self.buckets.last_mut() {
                Some((last, sum)) if *last == bucket => *sum = sum.saturating_add(count),
                _ => self.buckets.push((bucket, count)),
            }
        }
        self.count = self.count.saturating_add(other.count);
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn mean_ns(&self) -> u64 {
        self.sum_ns.checked_div(self.count).unwrap_or(0)
    }

    /// The time that this share of all (0 to 1) do not exceed, to the width of a bucket; 0 without
    /// any.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0u64;
        for (bucket, count) in &self.buckets {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                return highest_ns(*bucket, self.max_ns);
            }
        }
        0
    }
}

/// No time in this bucket was longer.
fn highest_ns(bucket: u16, max_ns: u64) -> u64 {
    match usize::from(bucket) {
        last if last + 1 >= STAGE_BUCKETS => max_ns,
        bucket => stage_bucket_end_ns(bucket).min(max_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[u64]) -> StageHistogram {
        let mut all = StageHistogram::default();
        for ns in times {
            all.add(&StageHistogram {
                count: 1,
                sum_ns: *ns,
                max_ns: *ns,
                buckets: vec![(stage_bucket(*ns) as u16, 1)],
            });
        }
        all
    }

    #[test]
    fn buckets_are_narrow_and_leave_nothing_out() {
        assert_eq!(stage_bucket(0), 0);
        let mut begins_ns = 0;
        for bucket in 0..STAGE_BUCKETS {
            let end_ns = stage_bucket_end_ns(bucket);
            assert_eq!((stage_bucket(begins_ns), stage_bucket(end_ns)), (bucket, bucket));
            let width = end_ns - begins_ns + 1;
            assert!(width == 1 || width * 32 <= begins_ns, "{begins_ns} to {end_ns}");
            begins_ns = end_ns + 1;
        }
        assert_eq!(begins_ns, 1 << CAP_BITS);
        assert_eq!(stage_bucket(u64::MAX), STAGE_BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_found_to_a_bucket() {
        let times: Vec<u64> = (1..=1_000).map(|at| at * 1_000).collect();
        let all = of(&times);
        for (share, exact) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = all.quantile_ns(share);
            assert!(found >= exact && found <= exact + exact / 31, "{share}: {found}");
        }
        assert_eq!((all.count, all.max_ns, all.mean_ns()), (1_000, 1_000_000, 500_500));
        assert_eq!(StageHistogram::default().quantile_ns(0.5), 0);
        assert_eq!(StageHistogram::default().mean_ns(), 0);
        assert_eq!(of(&[1 << 40]).quantile_ns(0.5), 1 << 40, "the last bucket ends at the longest");
    }

    #[test]
    fn a_difference_is_what_came_between() {
        let (early, late) = (of(&[10, 10, 5_000_000]), of(&[10, 20, 300]));
        let mut both = early.clone();
        both.add(&late);
        let between = both.since(&early);
        assert_eq!((between.count, between.sum_ns), (late.count, late.sum_ns));
        assert_eq!(between.buckets, late.buckets);
        assert!((300..310).contains(&between.max_ns), "{}", between.max_ns);
        assert_eq!(both.since(&both), StageHistogram::default());
        let mut wrapped = both.clone();
        wrapped.sum_ns = 5;
        assert_eq!(wrapped.since(&StageHistogram { sum_ns: u64::MAX, ..both }).sum_ns, 6);
    }
}
