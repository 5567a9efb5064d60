//! Tickets and files: which action under way means what.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::device::{Action, FileId, LogDevice, Ticket};
use crate::read::CursorId;

/// A map whose order is the same in every run.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<ahash::AHasher>>;

/// What an action under way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Block {
        sequence: u64,
    },
    Zero,
    Job,
    Manifest {
        number: u64,
    },
    Footer {
        segment: u64,
    },
    FooterRead {
        segment: u64,
    },
    ColdRead {
        cursor: CursorId,
        part: u64,
        slot: u16,
        file: FileId,
    },
    Checkpoint,
    /// The end does not matter.
    Nothing,
}

/// Numbers for tickets and files, and the actions under way.
#[derive(Debug, Default)]
pub(crate) struct Io {
    next_ticket: u64,
    next_file: u32,
    pending: Map<u64, Purpose>,
    reads: Map<FileId, u32>,
}

impl Io {
    /// Goes on after the numbers that recovery has used.
    pub fn after(next_ticket: u64, next_file: u32) -> Self {
        Self { next_ticket, next_file, ..Self::default() }
    }

    pub fn submit<D: LogDevice>(&mut self, device: &mut D, purpose: Purpose, action: Action) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Purpose::ColdRead { file, .. } = purpose {
            *self.reads.entry(file).or_default() += 1;
        }
        self.pending.insert(ticket, purpose);
        device.submit(Ticket(ticket), action);
    }

    /// What the ended action was for; `None` when it is none of ours.
    pub fn ended(&mut self, ticket: Ticket) -> Option<Purpose> {
        let purpose = self.pending.remove(&ticket.0)?;
        if let Purpose::ColdRead { file, .. } = purpose
            && let Some(count) = self.reads.get_mut(&file)
        {
            *count -= 1;
            if *count == 0 {
                self.reads.remove(&file);
            }
        }
        Some(purpose)
    }

    pub fn new_file(&mut self) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        file
    }

    /// Whether readers' reads are under way on the file.
    pub fn is_read(&self, file: FileId) -> bool {
        self.reads.contains_key(&file)
    }

    /// Actions under way.
    pub fn count(&self) -> usize {
        self.pending.len()
    }
}
