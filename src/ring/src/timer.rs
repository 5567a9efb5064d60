//! One-shot timers on the ring, so that whoever waits for the ring needs no other clock.

use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::op::{Op, OpId};
use crate::{Completion, Ring};

/// A timer in flight.
pub(crate) struct Timer {
    pub token: u64,
    /// Read by the kernel when the entry is submitted.
    pub span: Box<types::Timespec>,
}

impl Timer {
    pub(crate) fn entry(&self) -> Entry {
        opcode::Timeout::new(&*self.span).build()
    }
}

impl Ring {
    /// Reports `Woken` once, when `after` has passed.
    pub fn timer(&mut self, token: u64, after: Duration) {
        let span = Box::new(types::Timespec::from(after));
        self.start(Op::Timer(Timer { token, span }));
    }

    pub(crate) fn finish_timer(&mut self, id: OpId) -> Option<Completion> {
        let Some(Op::Timer(timer)) = self.ops.try_remove(id as usize) else { return None };
        Some(Completion::Woken { token: timer.token })
    }
}
