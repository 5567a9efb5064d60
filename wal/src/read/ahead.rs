//! Reading ahead across the end of a segment: whoever reads one from its begin to its end finds the next
//! one there already.

use super::fetch::IndexState;
use super::{Cursor, Window};
use crate::device::{FileId, LogDevice};
use crate::segments::State;
use crate::wal::Wal;

/// Less than that, or than half of what is read ahead, is not worth a read: it would only cut the next
/// segment's first part small.
const BEYOND_MIN: u64 = 512 * 1024;

/// What is read ahead of the segment after the one that a cursor reads.
pub(super) struct Next {
    pub segment: u64,
    file: FileId,
    pub window: Window,
}

impl Wal {
    /// Once all of its segment is read ahead, what is left of a cursor's read-ahead goes on in the next
    /// segment that holds its stream. Not while others wait for a window.
    pub(super) fn read_into_next<D: LogDevice>(&mut self, device: &mut D, cursor: &Cursor) {
        if self.readers.cold.is_empty() || !self.readers.queue.is_empty() {
            return;
        }
        let Some(cold) = self.readers.cold.get(&cursor.id) else { return };
        if cursor.place.is_none_or(|place| place.segment() != cold.segment) {
            // It has found what follows in memory, and passed what may have left that since.
            return;
        }
        let Some(here) = self.segments.all.get(&cold.segment) else { return };
        let beyond = cold.window.ahead_beyond(here.data_end);
        if here.state != State::Sealed || beyond < BEYOND_MIN.min(cold.window.ahead() / 2) {
            return;
        }
        let Some(held) = self.streams.get(cursor.stream) else { return };
        let after = held.segments.partition_point(|(number, _)| *number <= cold.segment);
        let Some((segment, _)) = held.segments.get(after).copied() else { return };
        let index_bytes = self.index_bytes_about(cold.segment) + self.index_bytes_about(segment);
        if index_bytes > self.config.index_cache_bytes {
            // At each step one would push the other out.
            return;
        }
        if !matches!(self.load_index(device, segment), IndexState::Here) {
            return;
        }
        let first = self.indexes.get(segment).and_then(|i| i.get(cursor.stream)?.entries.first());
        let Some(first) = first.map(|entry| u64::from(entry.block)) else { return };
        let Some(there) = self.segments.all.get(&segment) else { return };
        // What is in memory need not be read.
        let in_memory = self.tail.first_in(segment).unwrap_or(u64::MAX);
        let (file, end) = (there.file, self.readable_end(there).min(in_memory));
        if first >= end {
            return;
        }
        let numbers = &self.readers.part_numbers;
        let Some(cold) = self.readers.cold.get_mut(&cursor.id) else { return };
        cold.next.take_if(|next| next.segment != segment);
        let next = cold.next.get_or_insert_with(|| Next {
            segment,
            file,
            window: Window::new(beyond, numbers.clone()),
        });
        next.window.set_ahead(beyond);
        let orders = next.window.plan(first, 0, end, beyond, &mut self.chunks, &mut self.tail);
        let file = next.file;
        self.submit_reads(device, cursor.id, file, orders);
    }

    /// What a segment's index takes of the memory for those that can be loaded again, by its footer; one
    /// that has none yet takes nothing of it.
    fn index_bytes_about(&self, segment: u64) -> u64 {
        let footer = self.segments.all.get(&segment).and_then(|segment| segment.footer);
        footer.map_or(0, |footer| 2 * footer.bytes)
    }
}
