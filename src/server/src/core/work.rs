//! How much of a turn each connection may take: a client that asks for much waits behind those that
//! ask for little, but is served in every turn, and a turn does not grow with what one client sends.

use std::collections::VecDeque;

use protocol::{FrameHeader, kind};

use crate::bounds::{WORK_FIRST, WORK_LEFT_MIN, WORK_PER_CONNECTION, WORK_PER_TURN};
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
        Turn { first: self.first.len(), rest: None, left: WORK_PER_TURN }
    }

    /// The next connection of this turn and what it may cost.
    pub fn next(&mut self, turn: &mut Turn) -> Option<(ConnectionId, Work)> {
        if turn.first > 0 {
            turn.first -= 1;
            return Some((self.first.pop_front()?, WORK_FIRST));
        }
        // Those that were too much for the first round included: alone they are not held up. However
        // many were first, something is left for the others.
        let rest = turn.rest.get_or_insert_with(|| {
            turn.left = turn.left.max(WORK_LEFT_MIN);
            self.rest.len()
        });
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
}

impl Turn {
    pub fn spend(&mut self, work: Work) {
        self.left = self.left.saturating_sub(work);
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
        assert_eq!(queue.next(&mut turn), Some((id(500), WORK_FIRST)));
        let mut served = 0;
        while let Some((greedy, work)) = queue.next(&mut turn) {
            turn.spend(work);
            queue.push_behind(greedy);
            served += 1;
        }
        assert_eq!(served, WORK_PER_TURN.div_ceil(WORK_PER_CONNECTION));
        // The others are next, in the order they came.
        let mut turn = queue.turn();
        assert_eq!(queue.next(&mut turn).map(|(id, _)| id), Some(id(served)));
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
            assert_eq!(queue.next(&mut turn), Some((id(light), WORK_FIRST)));
            turn.spend(64);
        }
        assert_eq!(queue.next(&mut turn), Some((id(1_000), WORK_PER_CONNECTION)));
    }

    #[test]
    fn one_alone_gets_its_whole_share_in_one_turn() {
        let mut queue = ParseQueue::default();
        queue.push(id(1));
        let mut turn = queue.turn();
        let (one, _) = queue.next(&mut turn).unwrap();
        turn.spend(WORK_FIRST);
        queue.push_behind(one);
        assert_eq!(queue.next(&mut turn), Some((id(1), WORK_PER_CONNECTION)));
        queue.push_behind(one);
        assert_eq!(queue.next(&mut turn), None, "once a turn");
        assert!(!queue.is_empty());
    }
}
