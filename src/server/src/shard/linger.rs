//! When what was appended goes to the disk: at once while anyone waits for it. What nobody waits for
//! (acknowledged from memory, and no reader here) gathers for a moment, so that not every message
//! costs a write of its own in front of its acknowledgement.

use std::time::Duration;

use ring::Ring;

use super::ShardHost;
use crate::bounds::UNAWAITED_WRITE_NS;
use crate::clock::Clock;
use crate::token::Token;

/// Until when a shard's open block may gather.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// When it is written at the latest.
    due_ns: Option<u64>,
    /// When the last timer that was set ends.
    timer_ns: u64,
}

impl Linger {
    /// Whether the block may wait. The second: how long from now a timer has to be set for, which makes
    /// the core turn.
    fn may_wait(&mut self, now_ns: u64) -> (bool, Option<Duration>) {
        if let Some(due_ns) = self.due_ns {
            return (now_ns < due_ns, None);
        }
        if now_ns < self.timer_ns {
            self.due_ns = Some(self.timer_ns);
            return (true, None);
        }
        self.timer_ns = now_ns + UNAWAITED_WRITE_NS;
        self.due_ns = Some(self.timer_ns);
        (true, Some(Duration::from_nanos(UNAWAITED_WRITE_NS)))
    }

    fn end(&mut self) {
        self.due_ns = None;
    }
}

impl ShardHost {
    /// What was appended goes to the disk, now or soon, as far as its budget allows.
    pub(super) fn write_out(&mut self, ring: &mut Ring, clock: &Clock) {
        if !self.wal.has_unwritten() {
            self.linger.end();
            return self.write_paced(ring);
        }
        if !self.is_awaited() {
            // At this moment, not when the turn began: its timer may have ended since.
            let (waits, timer) = self.linger.may_wait(clock.read_ns());
            if let Some(after) = timer {
                // Its end makes the core turn, which is all that is needed.
                ring.timer(Token::Ignored.encode(), after);
            }
            if waits {
                return self.write_paced(ring);
            }
        }
        self.linger.end();
        self.wal.want_commit();
        self.write_paced(ring);
    }

    /// Whether anyone waits for what is appended to be durable.
    fn is_awaited(&self) -> bool {
        !self.pending.is_empty()
            || !self.readers.is_idle()
            || !self.waiting.is_empty()
            || !self.stalled.is_empty()
            || self.checkpoint.is_some()
            || self.shutting_down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_nanos(UNAWAITED_WRITE_NS);

    #[test]
    fn a_block_gathers_for_one_span_and_sets_one_timer() {
        let mut linger = Linger::default();
        assert_eq!(linger.may_wait(10), (true, Some(SPAN)));
        assert_eq!(linger.may_wait(10 + UNAWAITED_WRITE_NS - 1), (true, None));
        assert_eq!(linger.may_wait(10 + UNAWAITED_WRITE_NS), (false, None));
        linger.end();
        assert_eq!(linger.may_wait(20 + UNAWAITED_WRITE_NS), (true, Some(SPAN)));
    }

    #[test]
    fn a_timer_that_is_set_serves_the_next_block() {
        let mut linger = Linger::default();
        assert_eq!(linger.may_wait(0), (true, Some(SPAN)));
        linger.end();
        assert_eq!(linger.may_wait(500), (true, None));
        assert_eq!(linger.may_wait(UNAWAITED_WRITE_NS), (false, None), "by the first timer");
    }
}
