//! Where a core's time goes: one histogram for each stage, filled once for each group of publishes
//! and each send, never for a single message. Knows no clock: times come as values.

use model::stages::{STAGE_BUCKETS, STAGES, stage_bucket};
use model::{CoreId, CoreStages, Stage, StageHistogram};

/// Some that wait together, and since when the first of them does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    since_ns: u64,
    count: u32,
}

impl Due {
    #[inline]
    pub fn add(&mut self, since_ns: u64, count: u32) {
        let first = if self.count == 0 { since_ns } else { self.since_ns.min(since_ns) };
        *self = Self { since_ns: first, count: self.count.saturating_add(count) };
    }

    pub fn join(&mut self, other: Self) {
        if other.count > 0 {
            self.add(other.since_ns, other.count);
        }
    }

    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The same ones, waiting for the next thing since `now_ns`.
    pub fn again(self, now_ns: u64) -> Self {
        Self { since_ns: now_ns, ..self }
    }
}

/// All stages of one core since its start.
#[derive(Debug)]
pub struct StageTimes {
    stages: [Times; STAGES],
}

#[derive(Debug)]
struct Times {
    sum_ns: u64,
    max_ns: u64,
    counts: Box<[u64; STAGE_BUCKETS]>,
}

impl Default for StageTimes {
    fn default() -> Self {
        let empty = || Times { sum_ns: 0, max_ns: 0, counts: Box::new([0; STAGE_BUCKETS]) };
        Self { stages: std::array::from_fn(|_| empty()) }
    }
}

impl StageTimes {
    /// What was due has come to pass: all of it counts as having waited as long as the first.
    pub fn done(&mut self, stage: Stage, due: Due, now_ns: u64) {
        if due.is_empty() {
            return;
        }
        let times = &mut self.stages[stage as usize];
        let (ns, count) = (now_ns.saturating_sub(due.since_ns), u64::from(due.count));
        times.counts[stage_bucket(ns)] += count;
        times.sum_ns = times.sum_ns.wrapping_add(ns.wrapping_mul(count));
        times.max_ns = times.max_ns.max(ns);
    }

    pub fn of_core(&self, core: CoreId) -> CoreStages {
        CoreStages { core, stages: std::array::from_fn(|stage| self.stages[stage].histogram()) }
    }
}

impl Times {
    fn histogram(&self) -> StageHistogram {
        let counts = (0u16..).zip(self.counts.iter().copied());
        let buckets: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        StageHistogram { count, sum_ns: self.sum_ns, max_ns: self.max_ns, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_counts_as_its_first_and_all_of_it() {
        let mut due = Due::default();
        due.add(700, 1);
        due.add(300, 2);
        due.join(Due::default());
        assert_eq!(due, Due { since_ns: 300, count: 3 });
        let mut times = StageTimes::default();
        times.done(Stage::DurableToReply, due, 1_300);
        times.done(Stage::DurableToReply, due.again(1_300), 1_400);
        times.done(Stage::Deliver, Due::default(), 9_999);
        let stages = times.of_core(CoreId(2)).stages;
        let reply = &stages[Stage::DurableToReply as usize];
        assert_eq!((reply.count, reply.sum_ns, reply.max_ns), (6, 3_300, 1_000));
        let bucket = |ns| stage_bucket(ns) as u16;
        assert_eq!(reply.buckets, [(bucket(100), 3), (bucket(1_000), 3)]);
        assert_eq!(stages[Stage::Deliver as usize], StageHistogram::default(), "nothing was due");
    }
}
