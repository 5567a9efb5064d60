//! Sockets whose receive found no buffer, waiting in turn for one to come back.

use std::collections::VecDeque;

use crate::op::{Op, OpId, Receive, ReceiveState, Watch};
use crate::ring::Ring;

/// Ids that no longer wait are dropped when the queue is longer than this and twice the
/// operations in flight.
const STALE_MIN: usize = 64;

#[derive(Default)]
pub(crate) struct Starved {
    /// May hold ids that wait no longer (paused, cancelled); skipped when their turn comes.
    queue: VecDeque<OpId>,
    /// The ring's watch of returned buffers, while it is in the kernel.
    watch: Option<OpId>,
}

impl Starved {
    pub(crate) fn is_watching(&self) -> bool {
        self.watch.is_some()
    }
}

impl Ring {
    /// Puts a receive that found no buffer to the end of the queue.
    pub(crate) fn starve(&mut self, id: OpId) {
        if let Some(Op::Receive(receive)) = self.ops.get_mut(id as usize) {
            receive.state = ReceiveState::Starved;
            self.starved.queue.push_back(id);
            self.shared.needs_submit.set(true);
        }
        if self.starved.queue.len() > STALE_MIN.max(2 * self.ops.len()) {
            let ops = &self.ops;
            self.starved.queue.retain(|id| is_starved(ops.get(*id as usize)));
        }
    }

    /// Gives returned buffers to the kernel and lets as many waiting sockets go on as there are
    /// buffers, first come first served. Each of them has data, so each completes soon and brings
    /// us back here; with no buffer at all, the return of one wakes the ring.
    pub(crate) fn feed_starved(&mut self) {
        self.buffers.replenish();
        if self.starved.queue.is_empty() {
            return;
        }
        if self.buffers.available() == 0 && !self.wait_for_buffer() {
            self.buffers.replenish();
        }
        for _ in 0..self.buffers.available() {
            let Some(id) = self.next_starved() else { return };
            self.arm_receive(id);
        }
    }

    /// A receive has completed: those that wait may have their turn with the next `submit`.
    pub(crate) fn note_progress(&self) {
        if !self.starved.queue.is_empty() {
            self.shared.needs_submit.set(true);
        }
    }

    /// The ring's own watch fired: a buffer came back.
    pub(crate) fn buffer_returned(&mut self) {
        self.starved.watch = None;
        self.shared.needs_submit.set(true);
    }

    /// Drops all waiting receives, which the kernel does not know of.
    pub(crate) fn drop_starved(&mut self) {
        while let Some(id) = self.next_starved() {
            self.forget(id);
        }
    }

    fn next_starved(&mut self) -> Option<OpId> {
        loop {
            let id = self.starved.queue.pop_front()?;
            if is_starved(self.ops.get(id as usize)) {
                return Some(id);
            }
        }
    }

    /// Has the kernel watch for a returned buffer. False: one is there already.
    fn wait_for_buffer(&mut self) -> bool {
        if !self.buffers.ask_for_wake() {
            return false;
        }
        if self.starved.watch.is_none() {
            let fd = self.buffers.wake_fd();
            let watch = Watch { token: None, fd, epoch: 0, counter: Box::new(0), polling: false };
            self.starved.watch = Some(self.start(Op::Watch(watch)));
        }
        true
    }
}

fn is_starved(op: Option<&Op>) -> bool {
    matches!(op, Some(Op::Receive(Receive { state: ReceiveState::Starved, .. })))
}
