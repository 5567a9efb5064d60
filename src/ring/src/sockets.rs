//! Accepting, receiving, sending, cancelling and closing.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};

use crate::buffers::GROUP;
use crate::op::{Accept, NO_OP, Op, OpId, Receive, ReceiveState};
use crate::ring::Ring;
use crate::socket_table::{NONE, Slot};
use crate::{Completion, SendParts};

/// `IORING_RECV_MULTISHOT`, a flag in the entry's `ioprio`.
const RECEIVE_MULTISHOT: u16 = 1 << 1;
impl Ring {
    /// Accepts connections on `listener` until that fails or is cancelled; each is reported as
    /// `Accepted`, close-on-exec. What ends it is reported as `AcceptFailed`; call this again to
    /// go on.
    pub fn accept(&mut self, token: u64, listener: RawFd) {
        let epoch = self.sockets.epoch(listener);
        let id = self.start(Op::Accept(Accept { token, listener, epoch, ending: false }));
        self.sockets.enter(listener, id, |_| None);
    }

    /// Receives on `socket` until it ends; each piece is reported as `Received`, the end as
    /// `ReceiveEnded`. When all buffers are held, the socket waits its turn for one. Called on a
    /// socket that is being received on, it only changes the token.
    pub fn receive(&mut self, token: u64, socket: RawFd) {
        let Slot { receive, epoch, .. } = self.sockets.get(socket);
        if let Some(Op::Receive(old)) = self.ops.get_mut(receive as usize)
            && old.socket == socket
            && old.epoch == epoch
            && old.state != ReceiveState::Ending
        {
            old.token = token;
            if old.state == ReceiveState::Pausing {
                old.state = ReceiveState::Resuming;
            }
            return;
        }
        let state = ReceiveState::Armed;
        let id = self.start(Op::Receive(Receive { token, socket, epoch, state }));
        if let Some(slot) = self.sockets.get_mut(socket) {
            // An older one, cancelled, may still be on its way out.
            slot.others += u32::from(slot.receive != NONE);
            slot.receive = id;
        }
    }

    /// Stops receiving on `socket`, silently: after this, only data that had already come in is
    /// reported, until [`Ring::receive`] is called again.
    pub fn pause_receive(&mut self, socket: RawFd) {
        let Slot { receive: id, epoch, .. } = self.sockets.get(socket);
        let Some(Op::Receive(receive)) = self.ops.get_mut(id as usize) else { return };
        if receive.socket != socket || receive.epoch != epoch {
            return;
        }
        match receive.state {
            ReceiveState::Armed => {
                receive.state = ReceiveState::Pausing;
                self.queue_cancel(id);
            }
            ReceiveState::Resuming => receive.state = ReceiveState::Pausing,
            ReceiveState::Starved => self.forget(id),
            ReceiveState::Pausing | ReceiveState::Ending => {}
        }
    }

    /// Sends all `parts` in order and reports `Sent` once. One send per socket at a time: the
    /// bytes of two would mix.
    pub fn send(&mut self, token: u64, socket: RawFd, parts: SendParts) {
        let epoch = self.sockets.epoch(socket);
        let message = self.arena.message(token, socket, epoch, parts);
        let id = self.start(Op::Send(message));
        self.sockets.enter(socket, id, |slot| Some(&mut slot.send));
    }

    /// Cancels everything on a socket, listener or watched eventfd; each operation still reports
    /// its end, with what it had achieved or `ECANCELED`. Do this, and wait for the ends, before
    /// closing a descriptor by other means than [`Ring::close`]. Writes and reads of files are
    /// not cancelled.
    pub fn cancel_socket(&mut self, socket: RawFd) {
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        slot.epoch = slot.epoch.wrapping_add(1);
        let Slot { receive: id, send, others, .. } = *slot;
        if let Some(Op::Receive(receive)) = self.ops.get_mut(id as usize)
            && receive.socket == socket
        {
            if receive.state == ReceiveState::Starved {
                receive.state = ReceiveState::Ending;
                self.queue_end(id);
            } else {
                self.queue_cancel(id);
            }
        }
        if send != NONE {
            self.queue_cancel(send);
        }
        if others > 0 {
            // The kernel looks through all its operations for this, so only when needed.
            let target = CancelBuilder::fd(Fd(socket)).all();
            self.queue(opcode::AsyncCancel2::new(target).build().user_data(NO_OP));
        }
    }

    /// Closes a descriptor and reports `Done`. Cancels first what is in flight on it.
    pub fn close(&mut self, token: u64, fd: OwnedFd) {
        let fd = fd.into_raw_fd();
        let Slot { receive, send, others, .. } = self.sockets.get(fd);
        if (receive, send, others) != (NONE, NONE, 0) {
            self.cancel_socket(fd);
        }
        self.start_plain(token, None, opcode::Close::new(Fd(fd)).build());
    }

    /// Hands a waiting or ended receive to the kernel (again).
    pub(crate) fn arm_receive(&mut self, id: OpId) {
        if let Some(Op::Receive(receive)) = self.ops.get_mut(id as usize) {
            receive.state = ReceiveState::Armed;
            self.queue_op(id);
        }
    }

    /// Ends a socket's operation without a report.
    pub(crate) fn forget(&mut self, id: OpId) {
        let fd = match self.ops.try_remove(id as usize) {
            Some(Op::Accept(accept)) => accept.listener,
            Some(Op::Receive(receive)) => receive.socket,
            Some(Op::Watch(watch)) => watch.fd,
            Some(Op::Send(message)) => {
                let socket = message.socket;
                self.arena.recycle(message);
                socket
            }
            _ => return,
        };
        self.sockets.leave(fd, id);
    }

    pub(crate) fn finish_accept(
        &mut self,
        id: OpId,
        result: i32,
        flags: u32,
    ) -> Option<Completion> {
        let Some(Op::Accept(accept)) = self.ops.get_mut(id as usize) else { return None };
        let Accept { token, listener, epoch, ending } = *accept;
        if ending {
            self.forget(id);
            return Some(Completion::AcceptFailed { token, error: canceled() });
        }
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            if !cqueue::more(flags) {
                if self.is_live(listener, epoch) {
                    self.queue_op(id);
                } else if let Some(Op::Accept(accept)) = self.ops.get_mut(id as usize) {
                    accept.ending = true;
                    self.queue_end(id);
                }
            }
            return Some(Completion::Accepted { token, socket });
        }
        if is_one_connections_fault(-result) && self.is_live(listener, epoch) {
            self.queue_op(id);
            return None;
        }
        self.forget(id);
        Some(Completion::AcceptFailed { token, error: io::Error::from_raw_os_error(-result) })
    }

    pub(crate) fn finish_receive(
        &mut self,
        id: OpId,
        result: i32,
        flags: u32,
    ) -> Option<Completion> {
        self.note_progress();
        let Some(Op::Receive(receive)) = self.ops.get(id as usize) else { return None };
        let Receive { token, socket, epoch, state } = *receive;
        if state == ReceiveState::Ending {
            self.forget(id);
            return Some(Completion::ReceiveEnded { token, error: Some(canceled()) });
        }
        let len = result.max(0) as u32;
        // Taken even when it is empty, so that it goes back.
        let data = cqueue::buffer_select(flags).map(|buffer| self.buffers.take(buffer, len));
        let (more, live) = (cqueue::more(flags), self.is_live(socket, epoch));
        if let Some(data) = data.filter(|_| len > 0) {
            if !more {
                self.receive_stopped(id, state, live);
            }
            return Some(Completion::Received { token, data });
        }
        if more {
            return None;
        }
        match (state, -result) {
            (ReceiveState::Pausing, _) => {
                self.forget(id);
                None
            }
            (_, libc::ENOBUFS) if live => {
                self.starve(id);
                None
            }
            (ReceiveState::Resuming, libc::ECANCELED) | (_, libc::EINTR) if live => {
                self.arm_receive(id);
                None
            }
            (_, error) => {
                self.forget(id);
                let error = match error {
                    0 => None,
                    libc::ENOBUFS | libc::EINTR => Some(canceled()),
                    error => Some(io::Error::from_raw_os_error(error)),
                };
                Some(Completion::ReceiveEnded { token, error })
            }
        }
    }

    /// The kernel ended a multishot receive with its last data, for reasons of its own.
    fn receive_stopped(&mut self, id: OpId, state: ReceiveState, live: bool) {
        match (state, live) {
            (ReceiveState::Pausing, _) => self.forget(id),
            (_, true) => self.arm_receive(id),
            (_, false) => {
                if let Some(Op::Receive(receive)) = self.ops.get_mut(id as usize) {
                    receive.state = ReceiveState::Ending;
                    self.queue_end(id);
                }
            }
        }
    }

    pub(crate) fn finish_send(&mut self, id: OpId, result: i32) -> Option<Completion> {
        let Some(Op::Send(message)) = self.ops.get_mut(id as usize) else { return None };
        if result > 0 {
            message.advance(result as usize);
        }
        let (token, bytes, done) = (message.token, message.sent, message.is_done());
        let (socket, epoch) = (message.socket, message.epoch);
        let result = match -result {
            _ if done => Ok(()),
            // A short count also hides the error that made it short; going on shows that error.
            error if error < 0 || error == libc::EINTR => {
                if self.is_live(socket, epoch) {
                    self.queue_op(id);
                    return None;
                }
                Err(canceled())
            }
            0 => Err(io::ErrorKind::WriteZero.into()),
            error => Err(io::Error::from_raw_os_error(error)),
        };
        self.forget(id);
        Some(Completion::Sent { token, result, bytes })
    }
}

impl Accept {
    pub(crate) fn entry(&self) -> Entry {
        opcode::AcceptMulti::new(Fd(self.listener)).flags(libc::SOCK_CLOEXEC).build()
    }
}

impl Receive {
    pub(crate) fn entry(&self) -> Entry {
        opcode::Recv::new(Fd(self.socket), std::ptr::null_mut(), 0)
            .ioprio(RECEIVE_MULTISHOT)
            .buf_group(GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT)
    }
}

/// Errors of `accept` that belong to the one connection it would have returned.
fn is_one_connections_fault(error: i32) -> bool {
    matches!(
        error,
        libc::EINTR
            | libc::ECONNABORTED
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
    )
}

pub(crate) fn canceled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}
