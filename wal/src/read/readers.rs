//! Who reads from the disk, through which windows, and who waits for one.

use std::collections::VecDeque;

use super::ahead::Next;
use super::{CursorId, PartNumbers, Window};
use crate::device::FileId;
use crate::format::block::Block;
use crate::io::Map;

/// Chunks that one cold reader may hold when there are as many as may be.
const CHUNKS_PER_WINDOW: u64 = 6;
/// Of them those beside what is read ahead: the range lies in one more than it fills, in another where it
/// reaches into the next segment, and blocks are joined in one.
const CHUNKS_BESIDE: u64 = 3;
/// Read ahead at most, bytes. All but one part of it is under way when the disk is the slower.
const AHEAD_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Read ahead at most while others wait for a window, bytes: what is not used by the end of the
/// reader's turn is lost.
const AHEAD_BYTES_CROWDED: u64 = 1024 * 1024;
/// Cold readers at once, whatever the budget.
const WINDOWS_MIN: u64 = 2;

/// A cursor's reads from the disk.
pub(super) struct Cold {
    pub(super) segment: u64,
    pub(super) file: FileId,
    pub(super) window: Window,
    /// What is read ahead of the segment after.
    pub(super) next: Option<Next>,
    /// The reader is to be told when this range is there.
    pub(super) awaited: Option<(u64, u64)>,
    /// Told, and has not come yet: it keeps its window.
    pub(super) told: bool,
    /// The block given last; a reader often takes it in several steps.
    pub(super) last: Option<(u64, Block)>,
}

/// All cursors' reads, and who waits for what.
#[derive(Default)]
pub(crate) struct Readers {
    next_cursor: u64,
    pub(super) part_numbers: PartNumbers,
    pub(super) cold: Map<CursorId, Cold>,
    windows_max: usize,
    pub(super) ready: VecDeque<CursorId>,
    /// Cursors that wait for a window.
    pub(super) queue: VecDeque<CursorId>,
    /// Told that a window is free, and have not come yet.
    offered: Vec<CursorId>,
    /// Cursors that wait for a segment's footer.
    pub(super) footer_waits: Map<u64, Vec<CursorId>>,
    /// Segments whose footer could not be loaded.
    pub(super) bad_footers: Map<u64, ()>,
}

impl Readers {
    pub fn new(cache_bytes: u64, chunk_bytes: usize) -> Self {
        let windows = cache_bytes / 2 / (CHUNKS_PER_WINDOW * chunk_bytes as u64);
        Self { windows_max: windows.max(WINDOWS_MIN) as usize, ..Self::default() }
    }

    pub fn new_cursor(&mut self) -> CursorId {
        self.next_cursor += 1;
        CursorId(self.next_cursor)
    }

    /// The cursor can go on.
    pub(super) fn tell(&mut self, cursor: CursorId) {
        self.ready.push_back(cursor);
    }

    /// Gives the cursor's window up, to who waits for one.
    pub(super) fn release(&mut self, cursor: CursorId) {
        if self.cold.remove(&cursor).is_some() {
            self.offer_window();
        }
    }

    /// Tells the next one who waits that a window is free.
    fn offer_window(&mut self) {
        if let Some(next) = self.queue.pop_front() {
            self.offered.push(next);
            self.tell(next);
        }
    }

    /// The cursor takes no window now: one that it was offered goes to the next who waits.
    pub(super) fn decline(&mut self, cursor: CursorId) {
        if let Some(at) = self.offered.iter().position(|offered| *offered == cursor) {
            self.offered.swap_remove(at);
            self.offer_window();
        }
    }

    /// Everything that a cursor holds or waits for.
    pub fn forget(&mut self, cursor: CursorId) {
        self.queue.retain(|waiting| *waiting != cursor);
        self.ready.retain(|told| *told != cursor);
        for waits in self.footer_waits.values_mut() {
            waits.retain(|waiting| *waiting != cursor);
        }
        self.release(cursor);
        self.decline(cursor);
    }

    /// How far a reader may read ahead now, bytes.
    pub(super) fn ahead_max(&self, chunk_bytes: usize) -> u64 {
        let most = if self.queue.is_empty() { AHEAD_BYTES_MAX } else { AHEAD_BYTES_CROWDED };
        most.min(ahead_share(self.windows_max, self.cold.len(), chunk_bytes))
    }

    /// Makes sure the cursor has a window on this segment. False when it must wait for one.
    pub(super) fn claim(
        &mut self,
        cursor: CursorId,
        segment: u64,
        file: FileId,
        bytes: u64,
    ) -> bool {
        self.offered.retain(|offered| *offered != cursor);
        if let Some(cold) = self.cold.get_mut(&cursor) {
            cold.told = false;
            if cold.segment == segment {
                return true;
            }
            // Read on from one segment into the next at full speed.
            let ahead = cold.window.ahead();
            let mut window = match cold.next.take() {
                Some(next) if next.segment == segment => next.window,
                _ => Window::new(ahead, self.part_numbers.clone()),
            };
            window.set_ahead(ahead);
            *cold = Cold::new(segment, file, window);
            return true;
        }
        if self.cold.len() >= self.windows_max {
            let idle = self.cold.iter().find(|(_, c)| c.awaited.is_none() && !c.told);
            match idle.map(|(cursor, _)| *cursor) {
                Some(idle) => {
                    let queue = std::mem::take(&mut self.queue);
                    self.release(idle);
                    self.queue = queue;
                }
                None => {
                    if !self.queue.contains(&cursor) {
                        self.queue.push_back(cursor);
                    }
                    return false;
                }
            }
        }
        self.queue.retain(|waiting| *waiting != cursor);
        let window = Window::new(bytes, self.part_numbers.clone());
        self.cold.insert(cursor, Cold::new(segment, file, window));
        true
    }
}

/// What one of so many readers may read ahead, bytes, of the chunks that `windows_max` of them may hold.
fn ahead_share(windows_max: usize, readers: usize, chunk_bytes: usize) -> u64 {
    let chunks = windows_max as u64 * CHUNKS_PER_WINDOW / readers.max(1) as u64;
    chunks.saturating_sub(CHUNKS_BESIDE).max(1) * chunk_bytes as u64
}

impl Cold {
    fn new(segment: u64, file: FileId, window: Window) -> Self {
        Self { segment, file, window, next: None, awaited: None, told: false, last: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_what_may_be_held_and_never_pass_it() {
        const CHUNK: u64 = 4 << 20;
        for windows_max in [2, 3, 12, 100] {
            let all = windows_max as u64 * CHUNKS_PER_WINDOW * CHUNK;
            for readers in 1..=windows_max {
                let ahead = ahead_share(windows_max, readers, CHUNK as usize);
                let held = readers as u64 * (ahead + CHUNKS_BESIDE * CHUNK);
                assert!(ahead >= CHUNK && held <= all, "{readers} of {windows_max}: {held}");
            }
            assert!(ahead_share(windows_max, 1, CHUNK as usize) > AHEAD_BYTES_MAX);
        }
    }
}
