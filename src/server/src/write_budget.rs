//! So many writes a second on one device, shared by the shards whose logs lie there.
//!
//! A shard asks for the time of its next write and waits until then; what is appended meanwhile goes
//! into that write, so that with many small publishes the groups grow instead of the writes. A disk
//! that is asked for more than its rate makes everything wait in bursts; one that is asked for a
//! little less does not. An idle device's first writes wait for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Writes that an idle device takes at once: those of so long a time.
const BURST_NS: u64 = 1_000_000;
/// Writes that cannot wait (new space, checkpoints) push those that can no further back than this.
pub const UNASKED_DELAY_NS_MAX: u64 = 10_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// The writes of one device, taken by threads without a lock. Time is the nanoseconds since it was
/// made.
#[derive(Debug)]
pub struct WriteBudget {
    started: Instant,
    interval_ns: u64,
    /// When the next write may begin.
    next_ns: AtomicU64,
    /// The time in a test, where it is told.
    #[cfg(test)]
    told_ns: Option<AtomicU64>,
}

impl WriteBudget {
    pub fn new(writes_per_second: u32) -> Self {
        Self {
            started: Instant::now(),
            interval_ns: (SECOND_NS / u64::from(writes_per_second.max(1))).max(1),
            next_ns: AtomicU64::new(0),
            #[cfg(test)]
            told_ns: None,
        }
    }

    /// One for which time passes when it is told so, from a second on.
    #[cfg(test)]
    pub fn driven(writes_per_second: u32) -> Self {
        Self { told_ns: Some(AtomicU64::new(SECOND_NS)), ..Self::new(writes_per_second) }
    }

    /// Lets time pass for a test.
    #[cfg(test)]
    pub fn pass(&self, ns: u64) {
        self.told_ns.iter().for_each(|told| _ = told.fetch_add(ns, Ordering::Relaxed));
    }

    pub fn now_ns(&self) -> u64 {
        #[cfg(test)]
        if let Some(told_ns) = &self.told_ns {
            return told_ns.load(Ordering::Relaxed);
        }
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes the next write: it may begin at the time returned, at once where that has passed. With
    /// one write asked for by each shard at a time, that is at most one interval for each shard and
    /// [`UNASKED_DELAY_NS_MAX`] from now.
    pub fn take(&self, now_ns: u64) -> u64 {
        let earliest_ns = now_ns.saturating_sub(BURST_NS.max(self.interval_ns));
        let after = |next_ns: u64| Some(next_ns.max(earliest_ns) + self.interval_ns);
        match self.next_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after) {
            Ok(next_ns) | Err(next_ns) => next_ns.max(earliest_ns),
        }
    }

    /// Counts writes that were not asked for.
    pub fn charge(&self, writes: u64, now_ns: u64) {
        let earliest_ns = now_ns.saturating_sub(BURST_NS.max(self.interval_ns));
        let after = |next_ns: u64| {
            let charged_ns = next_ns.max(earliest_ns) + writes.saturating_mul(self.interval_ns);
            Some(charged_ns.min(next_ns.max(now_ns + UNASKED_DELAY_NS_MAX)))
        };
        let _ = self.next_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
    }
}

/// The budget of each shard's device: one for all shards on it. `devices`: by shard, `st_dev`.
pub fn by_device(
    writes_per_second: Option<u32>,
    devices: impl Iterator<Item = Option<u64>>,
) -> Vec<Option<Arc<WriteBudget>>> {
    let mut made: BTreeMap<u64, Arc<WriteBudget>> = BTreeMap::new();
    let mut of = |device: Option<u64>| {
        let rate = writes_per_second?;
        Some(Arc::clone(made.entry(device?).or_insert_with(|| Arc::new(WriteBudget::new(rate)))))
    };
    devices.map(&mut of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn an_idle_device_takes_a_few_writes_at_once_and_then_its_rate() {
        let budget = WriteBudget::new(1_000);
        let now = 5 * SECOND_NS;
        assert!(budget.take(now) <= now);
        assert!(budget.take(now) <= now);
        for ms in 1..=50 {
            assert_eq!(budget.take(now), now + ms * MS);
        }
        let later = now + SECOND_NS;
        assert!(budget.take(later) <= later, "the debt is paid");
    }

    #[test]
    fn no_window_of_time_gets_more_than_its_share() {
        let rate = 3_000;
        let budget = WriteBudget::new(rate);
        let mut now = SECOND_NS;
        let mut times = Vec::new();
        for _ in 0..20_000 {
            now = now.max(budget.take(now));
            times.push(now);
        }
        let burst = (BURST_NS / budget.interval_ns) as usize + 2;
        let in_window = times
            .windows(rate as usize + burst)
            .filter(|w| w.last().unwrap() - w[0] < SECOND_NS - MS);
        assert_eq!(in_window.count(), 0);
    }

    #[test]
    fn every_write_asked_for_waits_within_the_bound() {
        let (rate, shards) = (100, 8);
        let budget = WriteBudget::new(rate);
        let mut slots = vec![0; shards];
        let mut now = SECOND_NS;
        for step in 0..10_000u64 {
            // Shards ask once at a time; others write what they like.
            budget.charge(step % 7, now);
            for slot in &mut slots {
                if *slot <= now {
                    *slot = budget.take(now);
                    let bound = shards as u64 * budget.interval_ns + UNASKED_DELAY_NS_MAX;
                    assert!(*slot <= now + bound, "{slot} {now}");
                }
            }
            now += MS;
        }
    }

    #[test]
    fn two_shards_that_both_want_all_get_half_each() {
        let budget = WriteBudget::new(2_000);
        let (mut counts, mut slots) = ([0u32; 2], [0u64; 2]);
        let mut now = SECOND_NS;
        while now < 2 * SECOND_NS {
            for shard in 0..2 {
                if slots[shard] <= now {
                    counts[shard] += 1;
                    slots[shard] = budget.take(now);
                }
            }
            now += 10_000;
        }
        assert!(counts[0].abs_diff(counts[1]) <= 4, "{counts:?}");
        assert!((1_990..2_010).contains(&(counts[0] + counts[1])), "{counts:?}");
    }

    #[test]
    fn what_is_not_asked_for_counts_but_does_not_add_up_for_ever() {
        let budget = WriteBudget::new(1_000);
        let now = SECOND_NS;
        budget.charge(5, now);
        assert_eq!(budget.take(now), now + 4 * MS);
        budget.charge(1_000_000, now);
        assert!(budget.take(now) <= now + UNASKED_DELAY_NS_MAX + MS);
    }

    #[test]
    fn shards_on_one_device_share_its_budget() {
        let devices = [Some(8), Some(9), None, Some(8)];
        let budgets = by_device(Some(100), devices.into_iter());
        let same = |a: usize, b: usize| {
            Arc::ptr_eq(budgets[a].as_ref().unwrap(), budgets[b].as_ref().unwrap())
        };
        assert!(same(0, 3) && !same(0, 1) && budgets[2].is_none());
        assert!(by_device(None, devices.into_iter()).iter().all(Option::is_none));
    }

    #[test]
    fn threads_share_it_without_a_write_too_many() {
        let budget = WriteBudget::new(1_000_000);
        let taken: Vec<u64> = std::thread::scope(|scope| {
            let take = || (0..1_000).map(|_| budget.take(SECOND_NS)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut distinct = taken.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4_000, "every time is given to one");
    }
}
