//! When a shard's publishes came, and what of them the disk still has to confirm: in groups, each
//! of what one turn appended.

use std::collections::VecDeque;

use model::{Lsn, Stage};

use super::ShardHost;
use crate::clock::Clock;
use crate::stages::{Due, StageTimes};

/// Groups kept apart, at most; what comes when so many wait joins the last.
const GROUPS_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct AppendTimes {
    /// Appended since the last look at the clock; due since they were received.
    new: Due,
    /// When that look was.
    pub appended_ns: u64,
    /// Not durable yet: the last entry of each group; due since they were appended.
    groups: VecDeque<(Lsn, Due)>,
}

impl AppendTimes {
    /// Publishes that came together have been appended.
    #[inline]
    pub fn appended(&mut self, received_ns: u64, publishes: u32) {
        self.new.add(received_ns, publishes);
    }

    /// What has been appended up to `newest` is a group of its own.
    fn close_group(&mut self, newest: Lsn, now_ns: u64, stages: &mut StageTimes) {
        let new = std::mem::take(&mut self.new);
        stages.done(Stage::ReceiveToAppend, new, now_ns);
        self.appended_ns = now_ns;
        let full = self.groups.len() >= GROUPS_MAX;
        match self.groups.back_mut() {
            Some((last, due)) if full => {
                *last = newest;
                due.join(new.again(now_ns));
            }
            _ => self.groups.push_back((newest, new.again(now_ns))),
        }
    }

    fn durable(&mut self, durable: Lsn, now_ns: u64, stages: &mut StageTimes) {
        while let Some((last, due)) = self.groups.front()
            && *last <= durable
        {
            stages.done(Stage::AppendToDurable, *due, now_ns);
            self.groups.pop_front();
        }
    }
}

impl ShardHost {
    /// Reads the clock if something has been appended since it last was.
    pub(super) fn time_appends(&mut self, clock: &Clock, stages: &mut StageTimes) {
        if !self.times.new.is_empty() {
            let newest = self.wal.appended_lsn();
            self.times.close_group(newest, clock.read_ns(), stages);
        }
    }

    /// The disk's word is as old as the turn.
    pub(super) fn time_durable(&mut self, clock: &Clock, stages: &mut StageTimes) {
        self.times.durable(self.wal.durable_lsn(), clock.now_ns(), stages);
    }
}

#[cfg(test)]
mod tests {
    use model::{CoreId, StageHistogram};

    use super::*;

    fn stage(stages: &StageTimes, stage: Stage) -> StageHistogram {
        stages.of_core(CoreId(0)).stages[stage as usize].clone()
    }

    #[test]
    fn a_group_is_durable_when_its_last_entry_is() {
        let (mut times, mut stages) = (AppendTimes::default(), StageTimes::default());
        times.appended(1_000, 1);
        times.appended(1_500, 1);
        times.close_group(Lsn(7), 2_000, &mut stages);
        times.appended(2_500, 1);
        times.close_group(Lsn(9), 3_000, &mut stages);
        let received = stage(&stages, Stage::ReceiveToAppend);
        assert_eq!((received.count, received.sum_ns), (3, 2_500));
        times.durable(Lsn(6), 4_000, &mut stages);
        assert_eq!(stage(&stages, Stage::AppendToDurable).count, 0);
        times.durable(Lsn(8), 5_000, &mut stages);
        let durable = stage(&stages, Stage::AppendToDurable);
        assert_eq!((durable.count, durable.sum_ns), (2, 6_000));
        times.durable(Lsn(9), 5_000, &mut stages);
        let durable = stage(&stages, Stage::AppendToDurable);
        assert_eq!((durable.count, durable.sum_ns), (3, 8_000));
    }

    /// A disk that does not answer: no more groups than the bound, and none is lost.
    #[test]
    fn groups_beyond_the_bound_join_the_last() {
        let (mut times, mut stages) = (AppendTimes::default(), StageTimes::default());
        let many = 3 * GROUPS_MAX as u64;
        for at in 1..=many {
            times.appended(at, 1);
            times.close_group(Lsn(at), at, &mut stages);
        }
        assert_eq!(times.groups.len(), GROUPS_MAX);
        times.durable(Lsn(many - 1), many, &mut stages);
        assert_eq!(stage(&stages, Stage::AppendToDurable).count, GROUPS_MAX as u64 - 1);
        times.durable(Lsn(many), many, &mut stages);
        let durable = stage(&stages, Stage::AppendToDurable);
        let first_of_last = GROUPS_MAX as u64;
        assert_eq!((durable.count, durable.max_ns), (many, many - 1));
        let apart: u64 = (1..first_of_last).map(|at| many - at).sum();
        let joined = (many - first_of_last + 1) * (many - first_of_last);
        assert_eq!(durable.sum_ns, apart + joined);
    }
}
