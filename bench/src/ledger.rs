//! What became of the messages: each reader of a partition keeps one account per producer.
//!
//! Sequences count from 0 in each (producer, partition), so that one number is enough to tell a
//! gap from a repetition; only the gaps themselves are kept, and there are none on a good day.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// The end of a run in five numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Messages looked at.
    pub checked: u64,
    /// Acknowledged (or published before an acknowledged one) and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// After a message that was sent later.
    pub reordered: u64,
    /// The checksum does not match, or it is not a message of this run.
    pub corrupted: u64,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.corrupted == 0
    }

    pub fn add(&mut self, other: &Verdict) {
        self.checked += other.checked;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
    }
}

/// Gaps remembered in one account; a gap beyond that counts as lost for good.
const GAPS_MAX: usize = 65_536;

/// One producer's messages in one partition, as one reader sees them.
#[derive(Clone, Debug, Default)]
struct Account {
    next: u64,
    /// Missing so far: first to one past the last.
    gaps: BTreeMap<u64, u64>,
    lost_for_good: u64,
}

impl Account {
    fn lost(&self) -> u64 {
        self.lost_for_good + self.gaps.iter().map(|(from, to)| to - from).sum::<u64>()
    }

    fn open_gap(&mut self, from: u64, to: u64) {
        if self.gaps.len() < GAPS_MAX {
            self.gaps.insert(from, to);
        } else {
            self.lost_for_good += to - from;
        }
    }

    /// Takes `sequence` out of the gaps; `false` when it was in none.
    fn fill_gap(&mut self, sequence: u64) -> bool {
        let Some((&from, &to)) = self.gaps.range(..=sequence).next_back() else { return false };
        if sequence >= to {
            return false;
        }
        self.gaps.remove(&from);
        if from < sequence {
            self.gaps.insert(from, sequence);
        }
        if sequence + 1 < to {
            self.gaps.insert(sequence + 1, to);
        }
        true
    }
}

/// One reader's accounts for one partition.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Producers are numbered from 0 and few; a number past this is not of this run.
    producers: u32,
    accounts: HashMap<u32, Account>,
    /// The reader began in the middle (or a part was trimmed): the first sequence seen is taken.
    from_the_middle: bool,
    verdict: Verdict,
}

impl Ledger {
    /// `from_start`: reading begins at the partition's first message ever.
    pub fn new(producers: u32, from_start: bool) -> Self {
        Self {
            producers,
            accounts: HashMap::new(),
            from_the_middle: !from_start,
            verdict: Verdict::default(),
        }
    }

    /// A message arrived whole.
    pub fn seen(&mut self, producer: u32, sequence: u64) {
        self.verdict.checked += 1;
        if producer >= self.producers {
            self.verdict.corrupted += 1;
            return;
        }
        let middle = self.from_the_middle;
        let account = self.accounts.entry(producer).or_insert_with(|| Account {
            next: if middle { sequence } else { 0 },
            ..Account::default()
        });
        if sequence == account.next {
            account.next += 1;
        } else if sequence > account.next {
            account.open_gap(account.next, sequence);
            account.next = sequence + 1;
        } else if account.fill_gap(sequence) {
            self.verdict.reordered += 1;
        } else {
            self.verdict.duplicated += 1;
        }
    }

    /// A message arrived altered.
    pub fn altered(&mut self) {
        self.verdict.checked += 1;
        self.verdict.corrupted += 1;
    }

    /// The server removed a part by retention: sequences go on from whatever comes next.
    pub fn skip(&mut self) {
        for account in self.accounts.values_mut() {
            account.lost_for_good = account.lost();
            account.gaps.clear();
        }
        let lost: u64 = self.accounts.values().map(|a| a.lost_for_good).sum();
        self.verdict.lost += lost;
        self.accounts.clear();
        self.from_the_middle = true;
    }

    /// The end: `published(producer)` is how many messages of it must be there by now.
    pub fn close(mut self, published: impl Fn(u32) -> u64) -> Verdict {
        for producer in 0..self.producers {
            let published = published(producer);
            match self.accounts.get(&producer) {
                Some(account) => {
                    self.verdict.lost += account.lost() + published.saturating_sub(account.next);
                }
                None if !self.from_the_middle => self.verdict.lost += published,
                None => {}
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(from_start: bool, seen: &[u64], published: u64) -> Verdict {
        let mut ledger = Ledger::new(1, from_start);
        for sequence in seen {
            ledger.seen(0, *sequence);
        }
        ledger.close(|_| published)
    }

    #[test]
    fn all_there_in_order_is_clean() {
        let v = verdict(true, &[0, 1, 2, 3], 4);
        assert!(v.is_clean());
        assert_eq!(v.checked, 4);
    }

    #[test]
    fn lost_in_the_middle_and_at_both_ends() {
        assert_eq!(verdict(true, &[0, 1, 4], 5).lost, 2);
        assert_eq!(verdict(true, &[2, 3, 4], 5).lost, 2);
        assert_eq!(verdict(true, &[0, 1, 2], 5).lost, 2);
        assert_eq!(verdict(true, &[], 5).lost, 5);
    }

    #[test]
    fn repeated_and_reordered_are_told_apart() {
        let v = verdict(true, &[0, 1, 1, 2], 3);
        assert_eq!((v.duplicated, v.reordered, v.lost), (1, 0, 0));
        let v = verdict(true, &[0, 3, 2, 1, 4], 5);
        assert_eq!((v.duplicated, v.reordered, v.lost), (0, 2, 0));
        let v = verdict(true, &[0, 2, 1, 1], 3);
        assert_eq!((v.duplicated, v.reordered, v.lost), (1, 1, 0));
    }

    #[test]
    fn altered_or_foreign_is_corrupted() {
        let mut ledger = Ledger::new(1, true);
        ledger.seen(0, 0);
        ledger.altered();
        ledger.seen(9, 1);
        let v = ledger.close(|_| 2);
        assert_eq!((v.checked, v.corrupted, v.lost), (3, 2, 1));
    }

    #[test]
    fn a_reader_from_the_middle_checks_from_what_it_sees_first() {
        assert!(verdict(false, &[7, 8, 9], 10).is_clean());
        assert_eq!(verdict(false, &[7, 9], 10).lost, 1);
        assert_eq!(verdict(false, &[7, 8], 10).lost, 1);
        let mut ledger = Ledger::new(1, true);
        ledger.seen(0, 0);
        ledger.seen(0, 2);
        ledger.skip();
        ledger.seen(0, 50);
        assert_eq!(ledger.close(|_| 51).lost, 1);
    }

    #[test]
    fn two_producers_do_not_mix() {
        let mut ledger = Ledger::new(2, true);
        for (producer, sequence) in [(0, 0), (1, 0), (1, 1), (0, 1)] {
            ledger.seen(producer, sequence);
        }
        assert!(ledger.close(|_| 2).is_clean());
    }
}
