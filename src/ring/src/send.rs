//! Vectored sends: the parts a caller hands in, and the message the kernel sees.

use std::os::fd::RawFd;

use bytes::Bytes;
use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use smallvec::SmallVec;

/// Most parts of one system call, the kernel's `UIO_MAXIOV`.
const VECTORS_MAX: usize = 1024;
/// Most bytes of one single-part send; the kernel stops a little below 2 GiB.
const SEND_BYTES_MAX: usize = 1 << 30;
/// Spare messages kept for reuse, and the most parts one may keep room for.
const SPARE_MESSAGES_MAX: usize = 1024;
const SPARE_VECTORS_MAX: usize = 64;

/// The bytes of one send, in order, as reference-counted slices. Up to four parts need no
/// allocation; there may be any number.
#[derive(Clone, Debug, Default)]
pub struct SendParts(SmallVec<[Bytes; 4]>);

impl SendParts {
    /// No parts yet.
    pub fn new() -> SendParts {
        SendParts::default()
    }

    /// Appends a part. Empty ones are dropped.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.0.push(part);
        }
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sum of all parts, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }
}

impl From<Bytes> for SendParts {
    fn from(part: Bytes) -> SendParts {
        let mut parts = SendParts::new();
        parts.push(part);
        parts
    }
}

impl Extend<Bytes> for SendParts {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, parts: I) {
        parts.into_iter().for_each(|part| self.push(part));
    }
}

impl FromIterator<Bytes> for SendParts {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> SendParts {
        let mut all = SendParts::new();
        all.extend(parts);
        all
    }
}

/// One send in flight. Boxed, so that the header and the vectors stay where the kernel looks.
pub(crate) struct Message {
    pub token: u64,
    pub socket: RawFd,
    pub epoch: u32,
    /// Bytes the kernel has taken.
    pub sent: u64,
    parts: SmallVec<[Bytes; 4]>,
    /// First part not fully sent, and the bytes of it that were.
    next: usize,
    next_offset: usize,
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

impl Message {
    /// Whether every byte is sent.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.parts.len()
    }

    /// Counts `bytes` more as sent.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        self.sent += bytes as u64;
        while bytes > 0 {
            let left = self.parts[self.next].len() - self.next_offset;
            if bytes < left {
                self.next_offset += bytes;
                return;
            }
            bytes -= left;
            self.next += 1;
            self.next_offset = 0;
        }
    }

    /// The kernel's entry for what is left. It points into self, which must stay in its box,
    /// unchanged, until the completion.
    pub(crate) fn entry(&mut self) -> Entry {
        // WAITALL makes the kernel go on after a short send; NOSIGNAL makes EPIPE a result.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let socket = types::Fd(self.socket);
        let rest = &self.parts[self.next..];
        if let [] | [_] = rest {
            let data = rest.first().map_or(&[][..], |part| &part[self.next_offset..]);
            let len = data.len().min(SEND_BYTES_MAX) as u32;
            return opcode::Send::new(socket, data.as_ptr(), len).flags(flags).build();
        }
        self.vectors.clear();
        let mut skip = self.next_offset;
        for part in rest.iter().take(VECTORS_MAX) {
            let data = &part[skip..];
            skip = 0;
            let start = data.as_ptr().cast_mut().cast();
            self.vectors.push(libc::iovec { iov_base: start, iov_len: data.len() });
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len() as _;
        opcode::SendMsg::new(socket, &raw const self.header).flags(flags as u32).build()
    }
}

/// Makes messages, and keeps finished ones for reuse.
#[derive(Default)]
// Boxed on purpose: a message must not move while the kernel has it.
#[allow(clippy::vec_box)]
pub(crate) struct SendArena {
    spare: Vec<Box<Message>>,
}

impl SendArena {
    pub(crate) fn message(
        &mut self,
        token: u64,
        socket: RawFd,
        epoch: u32,
        parts: SendParts,
    ) -> Box<Message> {
        let mut message = self.spare.pop().unwrap_or_else(empty_message);
        message.token = token;
        message.socket = socket;
        message.epoch = epoch;
        message.sent = 0;
        message.parts = parts.0;
        message.next = 0;
        message.next_offset = 0;
        message
    }

    /// Drops the parts and keeps the box.
    pub(crate) fn recycle(&mut self, mut message: Box<Message>) {
        message.parts = SmallVec::new();
        if self.spare.len() < SPARE_MESSAGES_MAX {
            if message.vectors.capacity() > SPARE_VECTORS_MAX {
                message.vectors = Vec::new();
            }
            self.spare.push(message);
        }
    }
}

fn empty_message() -> Box<Message> {
    // SAFETY: a msghdr is pointers and integers, for which all zeroes are valid: no name, no
    // vectors, no control data.
    let header = unsafe { std::mem::zeroed() };
    Box::new(Message {
        token: 0,
        socket: -1,
        epoch: 0,
        sent: 0,
        parts: SmallVec::new(),
        next: 0,
        next_offset: 0,
        header,
        vectors: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_across_parts_and_skips_empty_ones() {
        let parts: SendParts =
            ["abc", "", "de", "f"].map(|s| Bytes::from_static(s.as_bytes())).into_iter().collect();
        assert_eq!((parts.len(), parts.len_bytes()), (3, 6));
        let mut message = SendArena::default().message(1, 0, 0, parts);
        for (bytes, next, offset) in [(2, 0, 2), (2, 1, 1), (1, 2, 0), (1, 3, 0)] {
            message.advance(bytes);
            assert_eq!((message.next, message.next_offset), (next, offset));
        }
        assert!(message.is_done());
        assert_eq!(message.sent, 6);
    }
}
