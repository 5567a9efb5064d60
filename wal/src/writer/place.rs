//! Where the next block goes: the active segment, the next ready one, or nowhere yet.

use crate::format::block;
use crate::format::entry::{EntryRecord, RECORD_BYTES};
use crate::format::footer::{INDEX_BYTES, STREAM_BYTES};
use crate::index::SegmentIndex;
use crate::segments::{Effect, State};
use crate::wal::Wal;

impl Wal {
    /// Makes sure that the active segment has room for a block, going on to the next ready
    /// segment if need be. False when none is ready.
    pub(crate) fn place_block(&mut self, padded: usize, table: &[[u8; RECORD_BYTES]]) -> bool {
        if self.fits_active(padded, table) {
            return true;
        }
        while let Some(next) = self.segments.ready.pop_front() {
            self.switch_to(next);
            if self.fits_active(padded, table) {
                return true;
            }
        }
        false
    }

    fn fits_active(&mut self, padded: usize, table: &[[u8; RECORD_BYTES]]) -> bool {
        let Some(active) = self.segments.active() else { return false };
        let end = self.writer.position + padded as u64;
        if self.writer.position == self.unit as u64 {
            // The first block of a segment: its footer goes without labels, or is left out.
            return end <= active.bytes;
        }
        let (number, bytes) = (active.number, active.bytes);
        let Some(index) = self.indexes.get(number) else { return false };
        let fits = |footer: usize| end + footer.next_multiple_of(self.unit) as u64 <= bytes;
        let most = table.len() * (STREAM_BYTES + INDEX_BYTES + crate::config::LABEL_BYTES_MAX);
        let footer = index.footer_bytes();
        fits(footer + most)
            || fits(footer)
                && fits(
                    footer + {
                        let records = table.iter().map(EntryRecord::decode);
                        index.growth_bytes(records, |stream| self.streams.label(stream).len())
                    },
                )
    }

    fn switch_to(&mut self, next: u64) {
        if let Some(active) = self.segments.active_mut() {
            active.state = State::Sealing;
        }
        self.segments.active = Some(next);
        self.checkpoint.segment_switched = true;
        let writer = &mut self.writer;
        writer.position = self.unit as u64;
        if let Some(active) = self.segments.active_mut() {
            active.state = State::Active;
            active.first_lsn = writer.submitted_lsn + 1;
            active.last_lsn = writer.submitted_lsn;
            active.first_sequence = writer.sequence;
            active.last_sequence = writer.sequence - 1;
            active.previous_crc = writer.previous_crc;
            active.last_crc = writer.previous_crc;
            active.data_end = writer.position;
        }
        self.indexes.pin(next, SegmentIndex::default());
        self.manifest.request(Effect::None);
    }

    /// Where the active segment would end, footer included, with all that waits and one more entry.
    pub(crate) fn end_with(&self, payload_bytes: usize) -> u64 {
        let writer = &self.writer;
        let opened = writer.open.padded_bytes(payload_bytes, 1, self.unit);
        let alone = block::padded_bytes(payload_bytes, 1, self.unit);
        // As if every entry that waits brought a stream of its own to the footer.
        let waiting = (writer.next_lsn - writer.submitted_lsn) as usize;
        let index = self.segments.active.and_then(|active| self.indexes.peek(active));
        let footer = index.map_or(0, SegmentIndex::footer_bytes)
            + waiting * (STREAM_BYTES + INDEX_BYTES + crate::config::LABEL_BYTES_MAX);
        writer.position
            + writer.closed_bytes
            + (opened + alone + footer.next_multiple_of(self.unit)) as u64
    }
}
