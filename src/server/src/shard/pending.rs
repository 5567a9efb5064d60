//! Replies that wait until the log is durable up to their entry: one queue per shard, in the order
//! of the log, swept when "durable up to" moves.

use std::collections::VecDeque;

use model::{Lsn, Offset, Reply};

use crate::message::{ConnectionId, ReplyTo, ShardAnswer};

/// What is to be said, or done, once an entry is durable.
#[derive(Debug)]
pub enum Waiting {
    /// Acknowledgements of one connection with consecutive correlation ids, contiguous offsets and
    /// the same number of records each.
    Ack(AckRun),
    Reply {
        to: ReplyTo,
        reply: Box<Reply>,
    },
    Answer {
        to: ReplyTo,
        answer: Box<ShardAnswer>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckRun {
    pub connection: ConnectionId,
    pub first_correlation: u64,
    pub count: u32,
    pub base_offset: Offset,
    /// Records of each request.
    pub records: u32,
    pub time_ms: i64,
    /// Bytes all requests of the run count in flight.
    pub cost: u32,
}

impl AckRun {
    /// Takes `next` in if it carries this run on. Returns whether it does.
    #[inline]
    pub fn join(&mut self, next: &Self) -> bool {
        let goes_on = self.continues_with(next);
        if goes_on {
            self.count += next.count;
            self.cost += next.cost;
        }
        goes_on
    }

    #[inline]
    fn continues_with(&self, next: &Self) -> bool {
        self.connection == next.connection
            && self.first_correlation.wrapping_add(u64::from(self.count)) == next.first_correlation
            && self.records == next.records
            && self.time_ms == next.time_ms
            && self.base_offset + u64::from(self.count) * u64::from(self.records)
                == next.base_offset
            && self.cost.checked_add(next.cost).is_some()
            && self.count.checked_add(next.count).is_some()
    }
}

#[derive(Debug)]
struct Entry {
    lsn: Lsn,
    /// When a client's patience ends, nanoseconds of the core's clock.
    deadline_ns: u64,
    waiting: Waiting,
}

#[derive(Debug, Default)]
pub struct Pending {
    entries: VecDeque<Entry>,
    /// Entries below this place are of blocks already handed to the disk, and are not added to.
    sealed: usize,
}

impl Pending {
    /// `deadline_ns`: `u64::MAX` for no deadline.
    pub fn push(&mut self, lsn: Lsn, deadline_ns: u64, waiting: Waiting) {
        // A duplicate waits for an older entry: behind the newest it is answered a little later,
        // never too early.
        let lsn = self.entries.back().map_or(lsn, |last| lsn.max(last.lsn));
        if let Waiting::Ack(next) = &waiting
            && self.entries.len() > self.sealed
            && let Some(Entry { waiting: Waiting::Ack(run), lsn: last, deadline_ns: until }) =
                self.entries.back_mut()
            && *until == deadline_ns
            && run.join(next)
        {
            *last = lsn;
            return;
        }
        self.entries.push_back(Entry { lsn, deadline_ns, waiting });
    }

    /// A block has been closed: what is added from now on becomes durable later.
    pub fn seal(&mut self) {
        self.sealed = self.entries.len();
    }

    /// The next that is durable.
    pub fn pop_durable(&mut self, durable: Lsn) -> Option<Waiting> {
        if self.entries.front()?.lsn > durable {
            return None;
        }
        self.sealed = self.sealed.saturating_sub(1);
        self.entries.pop_front().map(|entry| entry.waiting)
    }

    /// Those whose deadline has passed; the caller answers them, they are not answered again.
    pub fn take_expired(&mut self, now_ns: u64) -> Vec<Waiting> {
        let mut expired = Vec::new();
        let expires = |entry: &Entry| {
            entry.deadline_ns <= now_ns
                && matches!(
                    entry.waiting,
                    Waiting::Ack(_) | Waiting::Reply { to: ReplyTo::Client(_), .. }
                )
        };
        if !self.entries.iter().any(expires) {
            return expired;
        }
        let mut kept = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            if expires(&entry) { expired.push(entry.waiting) } else { kept.push_back(entry) }
        }
        self.entries = kept;
        self.seal();
        expired
    }

    /// Everything that waits: the log has failed and none of it will become durable.
    pub fn take_all(&mut self) -> Vec<Waiting> {
        self.sealed = 0;
        self.entries.drain(..).map(|entry| entry.waiting).collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CoreId;

    fn run(correlation: u64, base_offset: u64) -> AckRun {
        AckRun {
            connection: ConnectionId { core: CoreId(0), index: 1, generation: 1 },
            first_correlation: correlation,
            count: 1,
            base_offset,
            records: 10,
            time_ms: 5,
            cost: 100,
        }
    }

    fn pop_run(pending: &mut Pending, durable: u64) -> Option<AckRun> {
        match pending.pop_durable(Lsn(durable)) {
            Some(Waiting::Ack(run)) => Some(run),
            None => None,
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn consecutive_acks_of_one_block_become_one_run_that_waits_for_the_last() {
        let mut pending = Pending::default();
        for i in 0..3 {
            pending.push(Lsn(i + 1), u64::MAX, Waiting::Ack(run(7 + i, 100 + i * 10)));
        }
        assert_eq!(pop_run(&mut pending, 2), None);
        let popped = pop_run(&mut pending, 3).unwrap();
        assert_eq!((popped.first_correlation, popped.count, popped.base_offset), (7, 3, 100));
        assert_eq!(popped.cost, 300);
    }

    #[test]
    fn a_gap_or_a_closed_block_starts_a_new_run() {
        let mut pending = Pending::default();
        pending.push(Lsn(1), u64::MAX, Waiting::Ack(run(1, 0)));
        pending.push(Lsn(2), u64::MAX, Waiting::Ack(run(3, 10)));
        pending.push(Lsn(3), u64::MAX, Waiting::Ack(run(4, 30)));
        pending.seal();
        pending.push(Lsn(4), u64::MAX, Waiting::Ack(run(5, 40)));
        let counts: Vec<u32> =
            std::iter::from_fn(|| pop_run(&mut pending, 9)).map(|run| run.count).collect();
        assert_eq!(counts, [1, 1, 1, 1]);
    }

    #[test]
    fn a_duplicate_is_never_answered_before_what_it_waits_for() {
        let mut pending = Pending::default();
        pending.push(Lsn(9), u64::MAX, Waiting::Ack(run(1, 0)));
        pending.push(Lsn(4), u64::MAX, Waiting::Ack(run(9, 70)));
        assert_eq!(pop_run(&mut pending, 8), None);
        assert!(pop_run(&mut pending, 9).is_some());
        assert!(pop_run(&mut pending, 9).is_some());
    }

    #[test]
    fn expired_waiters_are_handed_out_once() {
        let mut pending = Pending::default();
        pending.push(Lsn(1), 10, Waiting::Ack(run(1, 0)));
        pending.push(Lsn(2), 90, Waiting::Ack(run(5, 10)));
        assert_eq!(pending.take_expired(10).len(), 1);
        assert_eq!(pending.len(), 1);
        assert_eq!(pop_run(&mut pending, 2).unwrap().first_correlation, 5);
    }
}
