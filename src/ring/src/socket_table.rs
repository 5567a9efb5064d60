//! What is in flight on each descriptor, so that a cancellation costs no search and nothing that
//! was cancelled is continued.

use std::os::fd::RawFd;

use crate::op::OpId;

/// Descriptors the table keeps track of; the kernel's own ceiling is lower by default.
const DESCRIPTORS_MAX: usize = 1 << 24;
/// No operation.
pub(crate) const NONE: OpId = OpId::MAX;

/// Per descriptor: what of ours is in flight on it.
#[derive(Default)]
pub(crate) struct SocketTable(Vec<Slot>);

/// What is in flight on one descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    /// Raised by every cancellation: work of an older epoch is not continued.
    pub epoch: u32,
    pub receive: OpId,
    pub send: OpId,
    /// Operations beside those two: accepts, watches, and what the caller doubled.
    pub others: u32,
}

const EMPTY: Slot = Slot { epoch: 0, receive: NONE, send: NONE, others: 0 };

impl SocketTable {
    pub(crate) fn epoch(&self, fd: RawFd) -> u32 {
        self.get(fd).epoch
    }

    pub(crate) fn get(&self, fd: RawFd) -> Slot {
        usize::try_from(fd).ok().and_then(|fd| self.0.get(fd)).copied().unwrap_or(EMPTY)
    }

    /// `None` for what cannot be a descriptor; the kernel will say so.
    pub(crate) fn get_mut(&mut self, fd: RawFd) -> Option<&mut Slot> {
        let fd = usize::try_from(fd).ok().filter(|fd| *fd < DESCRIPTORS_MAX)?;
        if fd >= self.0.len() {
            self.0.resize(fd + 1, EMPTY);
        }
        self.0.get_mut(fd)
    }

    /// Notes a new operation in `field`, or among the others when that is taken.
    pub(crate) fn enter(&mut self, fd: RawFd, id: OpId, field: fn(&mut Slot) -> Option<&mut OpId>) {
        let Some(slot) = self.get_mut(fd) else { return };
        match field(slot) {
            Some(place) if *place == NONE => *place = id,
            _ => slot.others += 1,
        }
    }

    pub(crate) fn leave(&mut self, fd: RawFd, id: OpId) {
        let Some(slot) = self.get_mut(fd) else { return };
        if slot.receive == id {
            slot.receive = NONE;
        } else if slot.send == id {
            slot.send = NONE;
        } else {
            slot.others = slot.others.saturating_sub(1);
        }
    }
}
