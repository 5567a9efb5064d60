//! Reading: a stream's batches out of one block after another.

use std::ops::Range;

use model::StreamId;

use super::fetch::Fetched;
use super::place::Found;
use super::{Batches, Cursor, Place, ReadStep};
use crate::crc::crc32c;
use crate::device::LogDevice;
use crate::format::block::Block;
use crate::wal::Wal;

/// Slices in one answer at most.
const SLICES_MAX: usize = 256;
/// What one read may walk through, about 10 ns each: entries, its own and others', and
/// [`READ_BLOCK_COST`] for each block. The last block may pass it.
pub const READ_WALK_MAX: u64 = 8_192;
/// What finding a block counts, in entries.
pub const READ_BLOCK_COST: u64 = 32;

/// Why taking batches out of a block ended.
enum Taken {
    /// The block has no more of the stream.
    All,
    /// The answer is full or at its end; the next batch is this entry.
    Stopped { entry: u32 },
    /// An entry's payload does not match its checksum.
    Bad,
}

impl Wal {
    /// A place in a stream, before the batch that holds `offset`. It costs nothing until it is
    /// read.
    pub fn cursor(&mut self, stream: StreamId, offset: u64) -> Cursor {
        Cursor { id: self.readers.new_cursor(), stream, offset, place: None }
    }

    /// Gives back what the cursor holds.
    pub fn close_cursor(&mut self, cursor: Cursor) {
        self.readers.forget(cursor.id);
    }

    /// The next batches of the cursor's stream: whole ones, about `max_bytes`, at least one even
    /// if it is larger, none that begins at or after `end_offset`. The first may begin before
    /// the offset wanted. The cursor moves behind them.
    pub fn read<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: &mut Cursor,
        max_bytes: usize,
        end_offset: u64,
    ) -> ReadStep {
        let mut batches = Batches::default();
        let ended = match self.streams.get(cursor.stream) {
            _ if cursor.offset >= end_offset => ReadStep::End,
            None => ReadStep::End,
            Some(stream) if cursor.offset < stream.log_start => {
                ReadStep::Trimmed { first_offset: stream.log_start }
            }
            Some(_) => self.gather(device, cursor, max_bytes, end_offset, &mut batches),
        };
        self.read_into_next(device, cursor);
        self.share_window(cursor.id);
        if batches.entries > 0 { ReadStep::Batches(batches) } else { ended }
    }

    /// Fills `batches`; what is returned counts when there are none.
    fn gather<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: &mut Cursor,
        max_bytes: usize,
        end_offset: u64,
        batches: &mut Batches,
    ) -> ReadStep {
        let mut walked = 0;
        loop {
            let (segment, at, bytes, entry) = match self.find_block(device, cursor) {
                Found::Block { segment, block, bytes, entry } => (segment, block, bytes, entry),
                Found::Nothing => return ReadStep::End,
                Found::Pending => return ReadStep::Pending,
                Found::Damaged { file, offset } => return ReadStep::Damaged { file, offset },
            };
            cursor.place = Some(Place::At { segment, block: at, bytes, entry });
            let (block, cold) = match self.fetch(device, cursor.id, segment, at, bytes) {
                Fetched::Block { block, cold } => (block, cold),
                Fetched::NotYet => return ReadStep::End,
                Fetched::Pending => return ReadStep::Pending,
                Fetched::Damaged { file, offset } => return ReadStep::Damaged { file, offset },
            };
            let end = at + u64::from(block.header.block_bytes);
            let cost = READ_BLOCK_COST + u64::from(block.header.entries.saturating_sub(entry));
            walked += cost;
            self.stats.walked += cost;
            match take(&block, cold, cursor, entry, max_bytes, end_offset, batches) {
                Taken::All => cursor.place = Some(Place::After { segment, block: at, end }),
                Taken::Stopped { entry } => {
                    let bytes = u64::from(block.header.block_bytes);
                    cursor.place = Some(Place::At { segment, block: at, bytes, entry });
                    return ReadStep::End;
                }
                Taken::Bad => {
                    let file = crate::format::names::segment(segment);
                    return ReadStep::Damaged { file, offset: at };
                }
            }
            if batches.bytes >= max_bytes && batches.entries > 0
                || cursor.offset >= end_offset
                || batches.slices.len() >= SLICES_MAX
            {
                return ReadStep::End;
            }
            if walked >= READ_WALK_MAX {
                // Enough for one read: what was found is handed out, or it goes on when its turn
                // comes again.
                if batches.entries == 0 {
                    self.readers.tell(cursor.id);
                }
                return ReadStep::Pending;
            }
        }
    }
}

/// Takes the cursor's batches from the block's entries from `first` on.
fn take(
    block: &Block,
    cold: bool,
    cursor: &mut Cursor,
    first: u32,
    max_bytes: usize,
    end_offset: u64,
    batches: &mut Batches,
) -> Taken {
    let mut run: Option<Range<usize>> = None;
    let mut taken = Taken::All;
    for (entry, (record, range)) in (0u32..).zip(block.entries()).skip(first as usize) {
        let head = &record.head;
        if head.stream != cursor.stream || !head.is_batch() || head.last_offset() < cursor.offset {
            continue;
        }
        let full = batches.entries > 0 && batches.bytes + range.len() > max_bytes;
        if full || head.base_offset >= end_offset || batches.slices.len() >= SLICES_MAX {
            taken = Taken::Stopped { entry };
            break;
        }
        if cold && crc32c(&block.bytes[range.clone()]) != record.payload_crc {
            taken = Taken::Bad;
            break;
        }
        if batches.entries == 0 {
            batches.first_offset = head.base_offset;
        }
        batches.entries += 1;
        batches.bytes += range.len();
        batches.next_offset = head.last_offset() + 1;
        cursor.offset = batches.next_offset;
        match &mut run {
            Some(run) if run.end == range.start => run.end = range.end,
            _ => {
                if let Some(run) = run.replace(range) {
                    batches.slices.push(block.bytes.slice(run));
                }
            }
        }
    }
    if let Some(run) = run {
        batches.slices.push(block.bytes.slice(run));
    }
    taken
}
