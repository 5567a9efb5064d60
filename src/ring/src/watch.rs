//! Watching eventfds: wake-ups from other threads as completions.

use std::io;
use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::Fd;

use crate::Completion;
use crate::op::{Op, OpId, Watch};
use crate::ring::Ring;
use crate::sockets::canceled;

impl Ring {
    /// Reports `Woken` whenever the eventfd `fd` was written, and resets it. An eventfd without
    /// `EFD_NONBLOCK` costs one kernel operation per wake, with it two.
    pub fn watch_eventfd(&mut self, token: u64, fd: RawFd) {
        let (token, epoch) = (Some(token), self.sockets.epoch(fd));
        let counter = Box::new(0);
        let id = self.start(Op::Watch(Watch { token, fd, epoch, counter, polling: false }));
        self.sockets.enter(fd, id, |_| None);
    }

    pub(crate) fn finish_watch(&mut self, id: OpId, result: i32) -> Option<Completion> {
        let Some(Op::Watch(watch)) = self.ops.get_mut(id as usize) else { return None };
        let (token, fd, epoch) = (watch.token, watch.fd, watch.epoch);
        let was_polling = std::mem::take(&mut watch.polling);
        let live = !self.closing && (token.is_none() || self.sockets.epoch(fd) == epoch);
        if result < 0 {
            if live && matches!(-result, libc::EAGAIN | libc::EINTR) {
                if let Some(Op::Watch(watch)) = self.ops.get_mut(id as usize) {
                    watch.polling = -result == libc::EAGAIN;
                }
                self.queue_op(id);
                return None;
            }
            return self.watch_ended(id, token, io::Error::from_raw_os_error(-result));
        }
        if !live {
            return self.watch_ended(id, token, canceled());
        }
        let Some(token) = token else {
            self.ops.remove(id as usize);
            self.buffer_returned();
            return None;
        };
        self.queue_op(id);
        (!was_polling).then_some(Completion::Woken { token })
    }

    fn watch_ended(
        &mut self,
        id: OpId,
        token: Option<u64>,
        error: io::Error,
    ) -> Option<Completion> {
        match token {
            Some(token) => {
                self.forget(id);
                Some(Completion::Done { token, result: Err(error) })
            }
            None => {
                self.ops.remove(id as usize);
                self.buffer_returned();
                None
            }
        }
    }
}

impl Watch {
    pub(crate) fn entry(&mut self) -> Entry {
        let fd = Fd(self.fd);
        if self.polling {
            return opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
        }
        let counter = (&raw mut *self.counter).cast();
        opcode::Read::new(fd, counter, size_of::<u64>() as u32).build()
    }
}
