//! A shard's log as a vector.

use corelane_shards::{Journal, Room};
use model::{EntryHead, Lsn, SpaceUse};

#[derive(Clone)]
pub struct Entry {
    pub head: EntryHead,
    pub payload: Vec<u8>,
}

/// Entry `n` has the number `n + 1`.
pub struct MemoryLog {
    pub entries: Vec<Entry>,
    pub room: Room,
}

impl MemoryLog {
    pub fn new() -> Self {
        Self { entries: Vec::new(), room: Room::Yes }
    }

    pub fn last(&self) -> Lsn {
        Lsn(self.entries.len() as u64)
    }

    pub fn up_to(&self, lsn: Lsn) -> &[Entry] {
        &self.entries[..lsn.0 as usize]
    }
}

impl Journal for MemoryLog {
    fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn {
        let before = self.entries.last().map_or(i64::MIN, |entry| entry.head.time_ms);
        assert!(head.time_ms >= before, "time went back in the log");
        self.entries.push(Entry { head: *head, payload: payload.concat() });
        self.last()
    }

    fn room(&self, _payload_bytes: usize, space_use: SpaceUse) -> Room {
        if self.room == Room::DiskFull && space_use != SpaceUse::Grows {
            Room::Yes
        } else {
            self.room
        }
    }
}
