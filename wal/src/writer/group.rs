//! A group of entries on its way to be a block.

use crate::buffer::AlignedBuffer;
use crate::crc::{Joiner, START_BYTES, crc32c, crc32c_of_start};
use crate::fold::EntryHead;
use crate::format::block::{HEADER_BYTES, padded_bytes};
use crate::format::entry::{EntryRecord, RECORD_BYTES};

type Table = Vec<[u8; RECORD_BYTES]>;

/// Tables kept for the next groups, at most.
const SPARE_TABLES_MAX: usize = 16;

/// The group that entries are added to. Its payloads lie in the chunk after the header's place.
#[derive(Debug, Default)]
pub(crate) struct OpenGroup {
    table: Table,
    payload_bytes: usize,
    /// What the block has for payloads and table; 0 until a group has begun.
    room_bytes: usize,
    first_lsn: u64,
    spare: Vec<Table>,
    joiner: Joiner,
}

/// A group that takes no more entries; in the order of the log.
#[derive(Debug)]
pub(crate) struct Group {
    /// Payloads at their place, everything else still to be filled.
    pub memory: AlignedBuffer,
    pub table: Table,
    pub payload_bytes: usize,
    pub first_lsn: u64,
}

impl OpenGroup {
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The block's length with this many more payload bytes and entries.
    pub fn padded_bytes(&self, more_bytes: usize, more_entries: usize, unit: usize) -> usize {
        padded_bytes(self.payload_bytes + more_bytes, self.table.len() + more_entries, unit)
    }

    /// Whether an entry of this size still fits.
    #[inline]
    pub fn has_room(&self, payload_bytes: usize) -> bool {
        payload_bytes + self.payload_bytes + self.table_bytes(1) <= self.room_bytes
    }

    /// A group that is empty begins; its block has so many bytes, a multiple of the unit, unless its
    /// first entry needs more.
    pub fn begin(&mut self, block_bytes: usize) {
        debug_assert!(self.is_empty());
        self.room_bytes = block_bytes.saturating_sub(HEADER_BYTES);
    }

    fn table_bytes(&self, more_entries: usize) -> usize {
        (self.table.len() + more_entries) * RECORD_BYTES
    }

    /// Copies an entry in. There must be room in `chunk`. `covered`: how many of the payload's last
    /// bytes have a known CRC32C, and that.
    pub fn add(
        &mut self,
        chunk: &mut AlignedBuffer,
        lsn: u64,
        head: &EntryHead,
        payload: &[&[u8]],
        bytes: usize,
        covered: (usize, u32),
    ) {
        let start = HEADER_BYTES + self.payload_bytes;
        let place = &mut chunk[start..start + bytes];
        let mut at = 0;
        for piece in payload {
            place[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        let payload_crc = if self.joiner.is_worth(covered.0) {
            let uncovered = crc32c(&place[..bytes - covered.0]);
            self.joiner.join(uncovered, covered.1, covered.0)
        } else {
            crc32c(place)
        };
        self.add_record(lsn, EntryRecord { head: *head, payload_bytes: bytes as u32, payload_crc });
    }

    /// The same of an entry that is the little-endian bytes of `start` and then `rest`; `crc` is that of `rest` without its first
    /// `MORE` bytes.
    #[inline]
    pub fn add_joined<const MORE: usize>(
        &mut self,
        chunk: &mut AlignedBuffer,
        lsn: u64,
        head: &EntryHead,
        start: u128,
        (rest, crc): (&[u8], u32),
    ) {
        let bytes = START_BYTES + rest.len();
        let at = HEADER_BYTES + self.payload_bytes;
        let place = &mut chunk[at..at + bytes];
        place[..START_BYTES].copy_from_slice(&start.to_le_bytes());
        place[START_BYTES..].copy_from_slice(rest);
        let payload_crc = match rest.first_chunk() {
            Some(next) if self.joiner.is_worth(rest.len() - MORE) => {
                let uncovered = crc32c_of_start::<MORE>(start, *next);
                self.joiner.join(uncovered, crc, rest.len() - MORE)
            }
            _ => crc32c(place),
        };
        self.add_record(lsn, EntryRecord { head: *head, payload_bytes: bytes as u32, payload_crc });
    }

    #[inline]
    fn add_record(&mut self, lsn: u64, record: EntryRecord) {
        if self.table.is_empty() {
            self.first_lsn = lsn;
        }
        self.table.push(record.to_bytes());
        self.payload_bytes += record.payload_bytes as usize;
    }

    /// Hands the entries over with the memory they lie in; the open group is empty after it.
    pub fn close(&mut self, memory: AlignedBuffer) -> Group {
        let table = std::mem::replace(&mut self.table, self.spare.pop().unwrap_or_default());
        let payload_bytes = std::mem::take(&mut self.payload_bytes);
        self.room_bytes = 0;
        Group { memory, table, payload_bytes, first_lsn: self.first_lsn }
    }

    /// Takes a table back, so that the next group need not allocate one.
    pub fn recycle(&mut self, mut table: Table) {
        if self.spare.len() < SPARE_TABLES_MAX {
            table.clear();
            self.spare.push(table);
        }
    }

    /// Drops the entries above `last_lsn`.
    pub fn truncate(&mut self, last_lsn: u64) {
        let keep = (last_lsn + 1).saturating_sub(self.first_lsn) as usize;
        cut(&mut self.table, &mut self.payload_bytes, keep);
        if self.table.is_empty() {
            self.room_bytes = 0;
        }
    }
}

impl Group {
    /// Drops the entries above `last_lsn`, of which at least one must stay.
    pub fn truncate(&mut self, last_lsn: u64, unit: usize) {
        let keep = (last_lsn + 1 - self.first_lsn) as usize;
        cut(&mut self.table, &mut self.payload_bytes, keep);
        self.memory.truncate(padded_bytes(self.payload_bytes, self.table.len(), unit));
    }
}

fn cut(table: &mut Table, payload_bytes: &mut usize, keep: usize) {
    if keep >= table.len() {
        return;
    }
    let gone: usize =
        table[keep..].iter().map(|r| EntryRecord::decode(r).payload_bytes as usize).sum();
    table.truncate(keep);
    *payload_bytes -= gone;
}

#[cfg(test)]
mod tests {
    use model::StreamId;
    use proptest::prelude::*;

    use super::*;

    const MORE: usize = 5;

    proptest! {
        /// Each entry's checksum is that of its bytes, however it was made: lengths that come again
        /// are joined, others are not.
        #[test]
        fn entries_have_the_checksums_of_their_bytes(
            lengths in prop::collection::vec((0..600usize, 1..4usize), 1..20), salt: u8
        ) {
            let mut chunk = AlignedBuffer::zeroed(64 * 1024);
            let mut group = OpenGroup::default();
            group.begin(chunk.len());
            let mut payloads = Vec::new();
            for bytes in lengths.into_iter().flat_map(|(bytes, times)| vec![bytes; times]) {
                let lsn = payloads.len() as u64 + 1;
                let byte = |at: usize| (at as u8).wrapping_mul(lsn as u8 | 1) ^ salt;
                let start: [u8; START_BYTES] = std::array::from_fn(byte);
                let rest: Vec<u8> = (START_BYTES..START_BYTES + MORE + bytes).map(byte).collect();
                let (base_offset, stream) = (lsn, StreamId(1));
                let head = EntryHead { kind: 1, flags: 0, stream, base_offset, records: 1, time_ms: 1 };
                let crc = crc32c(&rest[MORE..]);
                if lsn.is_multiple_of(3) {
                    let pieces: [&[u8]; 2] = [&start, &rest];
                    let all = START_BYTES + rest.len();
                    group.add(&mut chunk, lsn, &head, &pieces, all, (bytes, crc));
                } else {
                    let start = u128::from_le_bytes(start);
                    group.add_joined::<MORE>(&mut chunk, lsn, &head, start, (&rest, crc));
                }
                payloads.push([&start[..], &rest].concat());
            }
            let mut at = HEADER_BYTES;
            for (record, payload) in group.table.iter().map(EntryRecord::decode).zip(&payloads) {
                let end = at + record.payload_bytes as usize;
                prop_assert_eq!(&chunk[at..end], &payload[..]);
                prop_assert_eq!(record.payload_crc, crc32c(payload));
                at = end;
            }
            prop_assert_eq!(group.table.len(), payloads.len());
        }

        /// What has room is what a padded block holds.
        #[test]
        fn there_is_room_for_what_a_block_holds(units in 1..5usize, bytes in 0..2_000usize, next in 0..9_000usize) {
            let (unit, head) = (4096, EntryHead { kind: 1, flags: 0, stream: StreamId(1), base_offset: 0, records: 1, time_ms: 1 });
            let mut group = OpenGroup::default();
            prop_assert!(!group.has_room(0), "none has begun");
            let mut chunk = AlignedBuffer::zeroed(units * unit);
            group.begin(chunk.len());
            let payload = vec![7; bytes];
            while group.has_room(bytes) && group.table.len() < 40 {
                group.add(&mut chunk, 1 + group.table.len() as u64, &head, &[&payload], bytes, (0, 0));
            }
            prop_assert_eq!(group.has_room(next), group.padded_bytes(next, 1, unit) <= chunk.len());
            if !group.is_empty() {
                group.truncate(0);
                prop_assert!(!group.has_room(0), "what is left is not counted on");
            }
        }
    }
}
