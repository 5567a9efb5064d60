//! Searching a stream by time.

use super::fetch::{Fetched, IndexState};
use super::place::Found;
use super::{Cursor, Place, SeekStep, TimeSeek};
use crate::device::LogDevice;
use crate::wal::Wal;

impl Wal {
    /// Goes on with a search. After `Found`, `End` and `Damaged` it holds nothing any more.
    pub fn seek_time<D: LogDevice>(&mut self, device: &mut D, seek: &mut TimeSeek) -> SeekStep {
        let (id, log_start) = match self.streams.get(seek.stream) {
            None => return self.seek_ended(seek, SeekStep::End),
            Some(stream) => (seek.id(), stream.log_start),
        };
        let id = id.unwrap_or_else(|| self.readers.new_cursor());
        let fresh = Cursor { id, stream: seek.stream, offset: log_start, place: None };
        let mut cursor = seek.cursor.take().unwrap_or(fresh);
        let step = self.seek_on(device, &mut cursor, seek.time_ms);
        self.share_window(cursor.id);
        seek.cursor = Some(cursor);
        if step == SeekStep::Pending { step } else { self.seek_ended(seek, step) }
    }

    /// Gives back what an unfinished search holds.
    pub fn close_seek(&mut self, mut seek: TimeSeek) {
        self.seek_ended(&mut seek, SeekStep::End);
    }

    fn seek_ended(&mut self, seek: &mut TimeSeek, step: SeekStep) -> SeekStep {
        if let Some(cursor) = seek.cursor.take() {
            self.readers.forget(cursor.id);
        }
        step
    }

    fn seek_on<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: &mut Cursor,
        time_ms: i64,
    ) -> SeekStep {
        loop {
            if cursor.place.is_none() {
                match self.place_by_time(device, cursor, time_ms) {
                    Found::Nothing => return SeekStep::End,
                    Found::Pending => return SeekStep::Pending,
                    Found::Damaged { file, offset } => return SeekStep::Damaged { file, offset },
                    Found::Block { .. } => {}
                }
            }
            let (segment, at, bytes, _) = match self.find_block(device, cursor) {
                Found::Block { segment, block, bytes, entry } => (segment, block, bytes, entry),
                Found::Nothing => return SeekStep::End,
                Found::Pending => return SeekStep::Pending,
                Found::Damaged { file, offset } => return SeekStep::Damaged { file, offset },
            };
            let block = match self.fetch(device, cursor.id, segment, at, bytes) {
                Fetched::Block { block, .. } => block,
                Fetched::NotYet => return SeekStep::End,
                Fetched::Pending => return SeekStep::Pending,
                Fetched::Damaged { file, offset } => return SeekStep::Damaged { file, offset },
            };
            for record in block.records() {
                let head = &record.head;
                if head.stream != cursor.stream || !head.is_batch() {
                    continue;
                }
                if head.last_offset() >= cursor.offset && head.time_ms >= time_ms {
                    return SeekStep::Found(head.base_offset);
                }
                cursor.offset = cursor.offset.max(head.last_offset() + 1);
            }
            let end = at + u64::from(block.header.block_bytes);
            cursor.place = Some(Place::After { segment, block: at, end });
        }
    }

    /// Puts the cursor at the block from which the first batch with that time is found.
    fn place_by_time<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: &mut Cursor,
        time_ms: i64,
    ) -> Found {
        let mut at = 0;
        loop {
            let held = self.streams.get(cursor.stream).and_then(|s| s.segments.get(at).copied());
            let Some((segment, _)) = held else { return Found::Nothing };
            at += 1;
            let sealed = self.segments.all.get(&segment).and_then(|s| s.stream_use(cursor.stream));
            if sealed.is_some_and(|one| one.max_time_ms < time_ms) {
                continue;
            }
            match self.need_index(device, cursor.id, segment) {
                IndexState::Here => {}
                IndexState::Pending => return Found::Pending,
                IndexState::Damaged { file, offset } => return Found::Damaged { file, offset },
            }
            let Some(index) = self.indexes.get(segment).and_then(|i| i.get(cursor.stream)) else {
                continue;
            };
            if index.max_time_ms < time_ms {
                continue;
            }
            let entry = *index.at_time(time_ms);
            let (block, bytes) = (u64::from(entry.block), u64::from(entry.block_bytes));
            cursor.place = Some(Place::At { segment, block, bytes, entry: 0 });
            return Found::Block { segment, block, bytes, entry: 0 };
        }
    }
}
