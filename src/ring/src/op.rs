//! The operations in flight: what each is, and what it owns while the kernel works on it.

use std::ffi::CString;
use std::os::fd::RawFd;

use bytes::Bytes;

use crate::ReadTarget;
use crate::send::Message;
use crate::timer::Timer;

/// An operation's place in the slab, which is its `user_data` in the kernel.
pub(crate) type OpId = u32;

/// `user_data` of entries whose completion says nothing, such as cancellations.
pub(crate) const NO_OP: u64 = u64::MAX;

/// One operation. What the kernel points into (names, data, buffers, messages) lies on the heap
/// and stays there until the operation's last completion, although the slab may move this value.
pub(crate) enum Op {
    Accept(Accept),
    Receive(Receive),
    Send(Box<Message>),
    Write(Write),
    Read(Read),
    Open {
        token: u64,
        /// Held for the kernel.
        _name: CString,
    },
    /// Reports the result as `Done`.
    Plain {
        token: u64,
        /// Held for the kernel.
        _names: Option<Box<[CString; 2]>>,
    },
    Watch(Watch),
    Timer(Timer),
}

#[derive(Clone, Copy)]
pub(crate) struct Accept {
    pub token: u64,
    pub listener: RawFd,
    pub epoch: u32,
    /// Ended in the kernel; the next completion only reports so.
    pub ending: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Receive {
    pub token: u64,
    pub socket: RawFd,
    pub epoch: u32,
    pub state: ReceiveState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveState {
    /// In the kernel, or queued for it.
    Armed,
    /// As above, with a cancellation behind it; its end is not reported.
    Pausing,
    /// As above, and the caller has asked to receive again.
    Resuming,
    /// Not in the kernel: waits in the ring's queue for a buffer.
    Starved,
    /// Ended in the kernel; the next completion only reports so.
    Ending,
}

pub(crate) struct Write {
    pub token: u64,
    pub file: RawFd,
    pub offset: u64,
    pub data: Bytes,
    pub done: usize,
    pub retries: u16,
}

pub(crate) struct Read {
    pub token: u64,
    pub file: RawFd,
    pub offset: u64,
    pub buffer: Box<dyn ReadTarget>,
    /// Bytes of the buffer.
    pub bytes: usize,
    pub done: usize,
    pub retries: u16,
}

pub(crate) struct Watch {
    /// `None`: the ring's own watch of returned buffers.
    pub token: Option<u64>,
    pub fd: RawFd,
    pub epoch: u32,
    /// Where the kernel puts the eventfd's counter.
    pub counter: Box<u64>,
    /// Waiting for readability rather than reading: the descriptor is non-blocking.
    pub polling: bool,
}
