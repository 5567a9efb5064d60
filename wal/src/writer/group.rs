//! A group of entries on its way to be a block.

use crate::buffer::AlignedBuffer;
use crate::crc::{Joiner, crc32c};
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

    /// Copies an entry in. There must be room in `chunk`. `covered`: how many of the payload's last
    /// bytes have a known CRC32C, and that.
    #[inline]
    pub fn add(
        &mut self,
        chunk: &mut AlignedBuffer,
        lsn: u64,
        head: &EntryHead,
        payload: &[&[u8]],
        bytes: usize,
        covered: (usize, u32),
    ) {
        if self.table.is_empty() {
            self.first_lsn = lsn;
        }
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
        let record = EntryRecord { head: *head, payload_bytes: bytes as u32, payload_crc };
        let mut encoded = [0; RECORD_BYTES];
        record.encode(&mut encoded);
        self.table.push(encoded);
        self.payload_bytes += bytes;
    }

    /// Hands the entries over with the memory they lie in; the open group is empty after it.
    pub fn close(&mut self, memory: AlignedBuffer) -> Group {
        let table = std::mem::replace(&mut self.table, self.spare.pop().unwrap_or_default());
        let payload_bytes = std::mem::take(&mut self.payload_bytes);
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
