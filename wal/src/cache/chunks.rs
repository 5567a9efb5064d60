//! Chunks of aligned memory, handed out, taken back when no one refers to them, used again.

use std::sync::Arc;

use super::Tail;
use crate::buffer::{AlignedBuffer, Memory};

/// A chunk's usual size, bytes.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// A small budget is still divided into this many chunks.
const CHUNKS_MIN: u64 = 16;

/// The chunks of one log. The bytes of new ones are zero, those of used ones are not.
pub(crate) struct Chunks {
    chunk_bytes: usize,
    budget_bytes: u64,
    allocated_bytes: u64,
    free: Vec<AlignedBuffer>,
    /// Every chunk handed out; free again when this is the only reference left.
    out: Vec<Arc<Memory>>,
}

impl Chunks {
    /// `group_bytes` is what a chunk must hold at least.
    pub fn new(budget_bytes: u64, group_bytes: usize) -> Self {
        let share = (budget_bytes / CHUNKS_MIN).min(CHUNK_BYTES as u64) as usize;
        let chunk_bytes = share.max(group_bytes).next_multiple_of(64 * 1024);
        Self { chunk_bytes, budget_bytes, allocated_bytes: 0, free: Vec::new(), out: Vec::new() }
    }

    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Whether what is referred to from outside keeps well more memory than the budget.
    pub fn is_pressed(&self) -> bool {
        self.allocated_bytes > self.budget_bytes + self.budget_bytes / 4
    }

    /// Gives memory beyond the budget back to the system, as far as no one refers to it.
    pub fn shrink(&mut self) {
        if self.allocated_bytes <= self.budget_bytes {
            return;
        }
        self.reclaim();
        while self.allocated_bytes > self.budget_bytes
            && let Some(chunk) = self.free.pop()
        {
            self.allocated_bytes -= chunk.len() as u64;
        }
    }

    /// Memory held in all, bytes.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes
    }

    /// A chunk of at least `need` bytes. Within the budget as long as cached blocks can give way;
    /// beyond it when all the rest is referred to from outside.
    pub fn take(&mut self, need: usize, tail: &mut Tail) -> AlignedBuffer {
        let size = need.max(1).next_multiple_of(self.chunk_bytes);
        loop {
            self.reclaim();
            if let Some(at) = self.free.iter().position(|chunk| chunk.len() == size) {
                return self.hand_out(at);
            }
            if self.allocated_bytes + size as u64 <= self.budget_bytes {
                break;
            }
            if let Some(other) = self.free.pop() {
                self.allocated_bytes -= other.len() as u64;
            } else if !tail.evict_oldest() {
                break;
            }
        }
        self.allocated_bytes += size as u64;
        self.free.push(AlignedBuffer::zeroed(size));
        self.hand_out(self.free.len() - 1)
    }

    fn hand_out(&mut self, at: usize) -> AlignedBuffer {
        let chunk = self.free.swap_remove(at);
        self.out.push(chunk.memory().clone());
        chunk
    }

    fn reclaim(&mut self) {
        let mut at = 0;
        while at < self.out.len() {
            match Memory::lease(self.out.swap_remove(at)) {
                Ok(chunk) => self.free.push(chunk),
                Err(memory) => {
                    self.out.push(memory);
                    let last = self.out.len() - 1;
                    self.out.swap(at, last);
                    at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_chunk_is_used_again() {
        let mut tail = Tail::default();
        let mut chunks = Chunks::new(0, 4096);
        let first = chunks.take(1, &mut tail);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(chunks.take(1, &mut tail).as_ptr(), place);
        assert_eq!(chunks.allocated_bytes(), chunks.chunk_bytes() as u64);
    }

    #[test]
    fn what_was_taken_beyond_the_budget_goes_back() {
        let mut tail = Tail::default();
        let mut chunks = Chunks::new(1 << 20, 4096);
        let held: Vec<_> =
            (0..40).map(|_| chunks.take(1, &mut tail).split_to(4096).freeze()).collect();
        assert!(chunks.is_pressed());
        chunks.shrink();
        assert!(chunks.is_pressed(), "it is still referred to");
        drop(held);
        chunks.shrink();
        assert_eq!(chunks.allocated_bytes(), 1 << 20);
    }

    #[test]
    fn a_chunk_referred_to_is_not_used_again() {
        let mut tail = Tail::default();
        let mut chunks = Chunks::new(1 << 20, 4096);
        let mut first = chunks.take(1, &mut tail);
        let slice = first.split_to(4096).freeze();
        let place = first.as_ptr();
        drop(first);
        assert_ne!(chunks.take(1, &mut tail).as_ptr(), place);
        assert_eq!(slice.len(), 4096);
    }
}
