//! A shard's writes held to the budget of its device. A block waits for the time it is given, and
//! what else the log writes is counted behind it.

use std::sync::Arc;
use std::time::Duration;

use ring::Ring;

use super::ShardHost;
use crate::token::Token;
use crate::write_budget::WriteBudget;

/// One shard's share in a budget.
#[derive(Debug)]
pub(super) struct Pace {
    budget: Arc<WriteBudget>,
    /// The time given to the next block, and whether a timer will tell of it.
    slot: Option<Slot>,
    /// Writes taken from the budget so far.
    taken: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    at_ns: u64,
    timer: bool,
}

/// Whether a block may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Now,
    /// Not yet; look again after so long, if no one will tell.
    Later(Option<Duration>),
}

impl Pace {
    /// `written`: what the log has written before anyone counted.
    pub(super) fn new(budget: Arc<WriteBudget>, written: u64) -> Self {
        Self { budget, slot: None, taken: written }
    }

    fn ask(&mut self) -> Leave {
        let now_ns = self.budget.now_ns();
        let slot = match self.slot {
            Some(slot) => slot,
            None => {
                self.taken += 1;
                Slot { at_ns: self.budget.take(now_ns), timer: false }
            }
        };
        if slot.at_ns <= now_ns {
            self.slot = None;
            return Leave::Now;
        }
        self.slot = Some(Slot { timer: true, ..slot });
        let wait = (!slot.timer).then(|| Duration::from_nanos(slot.at_ns - now_ns));
        Leave::Later(wait)
    }

    /// The shard has written so much in all; what of it was not asked for counts too.
    fn settle(&mut self, written: u64) {
        // A block that has leave and is not written yet is no debt.
        if written > self.taken {
            self.budget.charge(written - self.taken, self.budget.now_ns());
            self.taken = written;
        }
    }
}

impl ShardHost {
    /// What is to be written goes to the disk, as far as its budget allows.
    pub(super) fn write_paced(&mut self, ring: &mut Ring) {
        self.with_log(ring, |wal, device| wal.write(device));
        let Some(mut pace) = self.pace.take() else { return };
        while self.wal.wants_leave() {
            match pace.ask() {
                Leave::Now => {
                    self.wal.give_leave();
                    self.with_log(ring, |wal, device| wal.write(device));
                }
                Leave::Later(wait) => {
                    if let Some(wait) = wait {
                        // Its end makes the core turn, which is all that is needed.
                        ring.timer(Token::Ignored.encode(), wait);
                    }
                    break;
                }
            }
        }
        pace.settle(self.disk.writes());
        self.pace = Some(pace);
    }
}
