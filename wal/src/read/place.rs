//! Where a stream's batches are: from (stream, offset) or from the block before to a block.

use model::StreamId;

use super::fetch::IndexState;
use super::{Cursor, CursorId, Place};
use crate::device::LogDevice;
use crate::segments::State;
use crate::wal::Wal;

/// What a search for the next block gives.
pub(crate) enum Found {
    Block {
        segment: u64,
        block: u64,
        bytes: u64,
        entry: u32,
    },
    /// There is none (yet).
    Nothing,
    Pending,
    Damaged {
        file: String,
        offset: u64,
    },
}

impl Wal {
    /// The block in which the cursor's next batch may be.
    pub(crate) fn find_block<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: &mut Cursor,
    ) -> Found {
        match cursor.place {
            Some(Place::At { segment, block, bytes, entry }) if self.is_in_use(segment) => {
                Found::Block { segment, block, bytes, entry }
            }
            Some(Place::After { segment, block, end }) if self.is_in_use(segment) => {
                self.after_block(device, cursor, segment, block, end)
            }
            _ => self.by_offset(device, cursor),
        }
    }

    fn is_in_use(&self, segment: u64) -> bool {
        self.segments
            .all
            .get(&segment)
            .is_some_and(|s| !matches!(s.state, State::Pool | State::Dropped))
    }

    fn by_offset<D: LogDevice>(&mut self, device: &mut D, cursor: &mut Cursor) -> Found {
        let Some(stream) = self.streams.get(cursor.stream) else { return Found::Nothing };
        let after = stream.segments.partition_point(|(_, first)| *first <= cursor.offset);
        let mut at = after.saturating_sub(1);
        loop {
            let held = self.streams.get(cursor.stream).and_then(|s| s.segments.get(at).copied());
            let Some((segment, _)) = held else { return Found::Nothing };
            at += 1;
            match self.last_offset_in(segment, cursor.stream) {
                Some(last) if last < cursor.offset => continue,
                _ => {}
            }
            match self.need_index(device, cursor.id, segment) {
                IndexState::Here => {}
                IndexState::Pending => return Found::Pending,
                IndexState::Damaged { file, offset } => return Found::Damaged { file, offset },
            }
            let Some(index) = self.indexes.get(segment).and_then(|i| i.get(cursor.stream)) else {
                continue;
            };
            if index.last_offset < cursor.offset {
                continue;
            }
            let entry = *index.at_offset(cursor.offset);
            return Found::Block {
                segment,
                block: entry.block.into(),
                bytes: entry.block_bytes.into(),
                entry: 0,
            };
        }
    }

    fn last_offset_in(&self, segment: u64, stream: StreamId) -> Option<u64> {
        self.segments.all.get(&segment)?.stream_use(stream).map(|one| one.last_offset)
    }

    fn after_block<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: &mut Cursor,
        segment: u64,
        block: u64,
        end: u64,
    ) -> Found {
        let more_here = self
            .last_offset_in(segment, cursor.stream)
            .is_none_or(|last_offset| last_offset >= cursor.offset);
        if more_here {
            match self.need_index(device, cursor.id, segment) {
                IndexState::Here => {}
                IndexState::Pending => return Found::Pending,
                IndexState::Damaged { file, offset } => return Found::Damaged { file, offset },
            }
            let data_end = self.segments.all.get(&segment).map_or(0, |s| s.data_end);
            let index = self.indexes.get(segment).and_then(|i| i.get(cursor.stream));
            if let Some(index) = index
                && index.last_offset >= cursor.offset
                && let Some(next) = index.after_block(block, end)
                && next < data_end
            {
                let known = index.entries.iter().rev().find(|e| u64::from(e.block) == next);
                let bytes = known.map_or(self.unit as u64, |e| e.block_bytes.into());
                return Found::Block { segment, block: next, bytes, entry: 0 };
            }
        }
        self.next_segment(device, cursor.id, cursor.stream, segment)
    }

    /// The stream's first block in the next segment that holds it.
    fn next_segment<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: CursorId,
        stream: StreamId,
        segment: u64,
    ) -> Found {
        let Some(found) = self.streams.get(stream) else { return Found::Nothing };
        let at = found.segments.partition_point(|(number, _)| *number <= segment);
        let Some((next, _)) = found.segments.get(at).copied() else { return Found::Nothing };
        match self.need_index(device, cursor, next) {
            IndexState::Here => {}
            IndexState::Pending => return Found::Pending,
            IndexState::Damaged { file, offset } => return Found::Damaged { file, offset },
        }
        let entry = self.indexes.get(next).and_then(|i| i.get(stream)?.entries.first().copied());
        match entry {
            Some(entry) => Found::Block {
                segment: next,
                block: entry.block.into(),
                bytes: entry.block_bytes.into(),
                entry: 0,
            },
            None => Found::Nothing,
        }
    }
}
