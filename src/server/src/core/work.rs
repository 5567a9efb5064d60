//! How much of a turn each connection may take: a client that asks for much waits behind those that
//! ask for little, but is served in every turn, and a turn does not grow with what one client sends.

use std::collections::VecDeque;

use protocol::{FrameHeader, kind};

use crate::bounds::{
    PARSE_NS_PER_TURN, WORK_FIRST, WORK_LEFT_MIN, WORK_PER_CONNECTION, WORK_PER_LOOK, WORK_PER_TURN,
};
use crate::message::ConnectionId;

/// Work in publishes' worth: about 100 ns each.
pub type Work = u32;

/// Bytes of a frame that are one unit more.
const BYTES_PER_UNIT_LOG2: u32 = 10;
/// The same of names that are looked up, and of an answer, which is put together field by field.
const NAME_BYTES_PER_UNIT_LOG2: u32 = 4;
const ANSWER_BYTES_PER_UNIT_LOG2: u32 = 8;

/// What taking a frame costs, before its answer is known.
pub fn of_frame(header: &FrameHeader) -> Work {
    let request = match header.kind {
        kind::PRODUCE => return of_publish(header.length),
        kind::CREDIT | kind::PING => 1,
        kind::METADATA => 64 + (header.length >> NAME_BYTES_PER_UNIT_LOG2),
        kind::STATUS | kind::DESCRIBE_TOPIC => 64,
        _ => 16,
    };
    request + (header.length >> BYTES_PER_UNIT_LOG2)
}

/// The same of a publish of `length` bytes.
pub fn of_publish(length: u32) -> Work {
    1 + (length >> BYTES_PER_UNIT_LOG2)
}

/// What so many bytes of an answer have cost.
pub fn of_answer(bytes: usize) -> Work {
    u32::try_from(bytes >> ANSWER_BYTES_PER_UNIT_LOG2).unwrap_or(Work::MAX)
}

/// Connections with frames left to parse. Whoever has come through with all it had is first the next
/// time; whoever has not is served in turns, from what of the turn is left.
#[derive(Debug, Default)]
pub struct ParseQueue {
    first: VecDeque<ConnectionId>,
    rest: VecDeque<ConnectionId>,
}

impl ParseQueue {
    pub fn push(&mut self, id: ConnectionId) {
        self.first.push_back(id);
    }

    /// It had more than its share.
    pub fn push_behind(&mut self, id: ConnectionId) {
        self.rest.push_back(id);
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    /// Begins a turn.
    pub fn turn(&self) -> Turn {
        Turn {
            first: self.first.len(),
            rest: None,
            left: WORK_PER_TURN,
            unlooked: 0,
            until_ns: None,
        }
    }

    /// The next connection of this turn and what it may cost. `now_ns` reads a clock.
    pub fn next(
        &mut self,
        turn: &mut Turn,
        now_ns: impl FnOnce() -> u64,
    ) -> Option<(ConnectionId, Work)> {
        let late = turn.is_late(now_ns);
        if turn.first > 0 && !(late && turn.rest.is_none()) {
            turn.first -= 1;
            return Some((self.first.pop_front()?, WORK_FIRST));
        }
        // Those that were too much for the first round included: alone they are not held up. However
        // many were first, something is left for the others.
        if turn.rest.is_none() {
            turn.rest = Some(self.rest.len());
            turn.first = 0;
            turn.left = turn.left.max(WORK_LEFT_MIN);
            turn.until_ns = None;
        } else if late {
            return None;
        }
        let rest = turn.rest.as_mut()?;
        if *rest == 0 || turn.left == 0 {
            return None;
        }
        *rest -= 1;
        Some((self.rest.pop_front()?, WORK_PER_CONNECTION))
    }
}

/// What is left of a turn.
#[derive(Debug)]
pub struct Turn {
    first: usize,
    rest: Option<usize>,
    left: Work,
    /// Work since the clock was looked at.
    unlooked: Work,
    /// When the time of this round is up, once the clock has been looked at.
    until_ns: Option<u64>,
}

impl Turn {
    pub fn spend(&mut self, work: Work) {
        self.left = self.left.saturating_sub(work);
        self.unlooked = self.unlooked.saturating_add(work.max(1));
    }

    /// Whether the round has had its time. One that asks for little is not worth a look.
    fn is_late(&mut self, now_ns: impl FnOnce() -> u64) -> bool {
        if self.unlooked < WORK_PER_LOOK {
            return false;
        }
        self.unlooked = 0;
        let now_ns = now_ns();
        now_ns >= *self.until_ns.get_or_insert(now_ns + PARSE_NS_PER_TURN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CoreId;

    fn id(index: u32) -> ConnectionId {
        ConnectionId { core: CoreId(0), index, generation: 0 }
    }

    #[test]
    fn who_asks_for_little_does_not_wait_for_who_asks_for_much() {
        let mut queue = ParseQueue::default();
        for greedy in 0..100 {
            queue.push_behind(id(greedy));
        }
        queue.push(id(500));
        let mut turn = queue.turn();
        assert_eq!(queue.next(&mut turn, || 0), Some((id(500), WORK_FIRST)));
        let mut served = 0;
        while let Some((greedy, work)) = queue.next(&mut turn, || 0) {
            turn.spend(work);
            queue.push_behind(greedy);
            served += 1;
        }
        assert_eq!(served, WORK_PER_TURN.div_ceil(WORK_PER_CONNECTION));
        // The others are next, in the order they came.
        let mut turn = queue.turn();
        assert_eq!(queue.next(&mut turn, || 0).map(|(id, _)| id), Some(id(served)));
    }

    #[test]
    fn many_that_ask_for_little_do_not_shut_out_who_asks_for_much() {
        let mut queue = ParseQueue::default();
        queue.push_behind(id(1_000));
        for light in 0..256 {
            queue.push(id(light));
        }
        let mut turn = queue.turn();
        for light in 0..256 {
            assert_eq!(queue.next(&mut turn, || 0), Some((id(light), WORK_FIRST)));
            turn.spend(64);
        }
        assert_eq!(queue.next(&mut turn, || 0), Some((id(1_000), WORK_PER_CONNECTION)));
    }

    #[test]
    fn one_alone_gets_its_whole_share_in_one_turn() {
        let mut queue = ParseQueue::default();
        queue.push(id(1));
        let mut turn = queue.turn();
        let (one, _) = queue.next(&mut turn, || 0).unwrap();
        turn.spend(WORK_FIRST);
        queue.push_behind(one);
        assert_eq!(queue.next(&mut turn, || 0), Some((id(1), WORK_PER_CONNECTION)));
        queue.push_behind(one);
        assert_eq!(queue.next(&mut turn, || 0), None, "once a turn");
        assert!(!queue.is_empty());
    }
    #[test]
    fn a_turn_that_takes_too_long_ends_early_and_leaves_something_for_all() {
        let mut queue = ParseQueue::default();
        for light in 0..100 {
            queue.push(id(light));
        }
        queue.push_behind(id(1_000));
        let mut now_ns = 0;
        let mut served = Vec::new();
        let mut turn = queue.turn();
        while let Some((id, _)) = queue.next(&mut turn, || now_ns) {
            served.push(id.index);
            // What is said to be little, and takes long.
            turn.spend(WORK_PER_LOOK);
            now_ns += PARSE_NS_PER_TURN / 4;
        }
        assert_eq!(served, [0, 1, 2, 3, 4, 1_000]);
        let mut turn = queue.turn();
        assert_eq!(queue.next(&mut turn, || 0), Some((id(5), WORK_FIRST)), "it goes on there");
    }
}
