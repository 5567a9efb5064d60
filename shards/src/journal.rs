//! Where the engine's entries go.
//!
//! The host puts the shard's write-ahead log behind this; tests put a vector behind it.

use model::{EntryHead, ErrorCode, Lsn, Rejection, SpaceUse};
use protocol::batch::{CRC_FROM, LEADER_EPOCH};

/// The start of a batch that the broker writes: base offset, length, leader epoch.
pub(crate) const REWRITTEN_BYTES: usize = LEADER_EPOCH.end;
const _: () = assert!(REWRITTEN_BYTES == size_of::<u128>());
/// After that, what the batch's own checksum does not cover: its magic number and the checksum.
pub const UNCOVERED_BYTES: usize = CRC_FROM - REWRITTEN_BYTES;

/// Whether an entry would be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Yes,
    /// Too much is waiting for the disk; there will be room after completions.
    Backlog,
    /// The disk is full, and an entry of this use has no place any more.
    DiskFull,
    /// A write has failed: nothing is let in until the shard is opened again.
    ReadOnly,
}

/// A shard's log, as the engine writes it.
pub trait Journal {
    /// Takes an entry whose payload lies in several slices. Its number is one more than the
    /// last's. The engine has asked [`Journal::room`] before.
    fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn;

    /// The same, and the CRC32C of the payload's last `covered_bytes` is known to be `crc`.
    fn append_covered(
        &mut self,
        head: &EntryHead,
        payload: &[&[u8]],
        _covered_bytes: usize,
        _crc: u32,
    ) -> Lsn {
        self.append(head, payload)
    }

    /// The same of a batch in one piece: the little-endian bytes of `start`, a number so that it stays in
    /// registers, and then `rest`, of which the CRC32C of all but the first [`UNCOVERED_BYTES`] is
    /// `crc`.
    fn append_whole_batch(&mut self, head: &EntryHead, start: u128, rest: &[u8], crc: u32) -> Lsn {
        self.append_covered(head, &[&start.to_le_bytes(), rest], rest.len() - UNCOVERED_BYTES, crc)
    }

    /// Whether an entry of this size and use would be let in now.
    fn room(&self, payload_bytes: usize, space_use: SpaceUse) -> Room;

    /// Whether some dozens of small batches would be. Where that depends on each of them, as on a
    /// full disk, the answer is no: they are asked for one by one.
    fn room_for_run(&self) -> Room {
        self.room(0, SpaceUse::Grows)
    }
}

/// Turns "no room" into the answer a client gets.
pub(crate) fn admit(
    journal: &impl Journal,
    payload_bytes: usize,
    space_use: SpaceUse,
) -> Result<(), Rejection> {
    refuse_unless(journal.room(payload_bytes, space_use))
}

/// The same for a run of batches.
pub(crate) fn admit_run(journal: &impl Journal) -> Result<(), Rejection> {
    refuse_unless(journal.room_for_run())
}

fn refuse_unless(room: Room) -> Result<(), Rejection> {
    let (code, message) = match room {
        Room::Yes => return Ok(()),
        Room::Backlog => {
            (ErrorCode::Busy, "too much is waiting for this shard's disk; try again shortly")
        }
        Room::DiskFull => (
            ErrorCode::DiskFull,
            "the disk of the data directory is full; free space, delete topics or shorten retention",
        ),
        Room::ReadOnly => (
            ErrorCode::ShardReadOnly,
            "a write to this shard's log has failed and it takes no more; check the disk and \
             restart the server",
        ),
    };
    Err(Rejection::new(code, message))
}
