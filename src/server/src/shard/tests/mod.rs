//! A shard on a real ring and a real directory, with a disk that fails or dawdles when told to.

mod crowd;
mod failing;
mod lingering;
mod paced;
mod slow;

use std::collections::VecDeque;

use wal::device::{Action, Completion, DeviceError, Ticket};

/// What goes wrong with the actions of one shard's log.
#[derive(Debug, Default)]
pub struct Faults {
    /// Actions seen so far: the number that the next one gets.
    pub seen: u64,
    /// The action with this number fails and leaves nothing.
    pub fail: Option<(u64, DeviceError)>,
    /// Writes are kept back until they are let go.
    pub holds_writes: bool,
    held: VecDeque<(Ticket, Action)>,
}

impl Faults {
    /// The action, if it is to go on to the disk now.
    pub fn meet(
        &mut self,
        ticket: Ticket,
        action: Action,
        ended: &mut VecDeque<Completion>,
    ) -> Option<Action> {
        let number = self.seen;
        self.seen += 1;
        if let Some((_, error)) = self.fail.take_if(|(fails, _)| *fails == number) {
            ended.push_back(Completion { ticket, result: Err(error) });
            return None;
        }
        if self.holds_writes && matches!(action, Action::Write { .. }) {
            self.held.push_back((ticket, action));
            return None;
        }
        Some(action)
    }

    /// What was kept back, in order.
    pub fn let_go(&mut self) -> VecDeque<(Ticket, Action)> {
        self.holds_writes = false;
        std::mem::take(&mut self.held)
    }
}
