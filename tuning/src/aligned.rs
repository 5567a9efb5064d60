//! Buffers for O_DIRECT, which wants memory on a block's boundary; on huge pages where they can be,
//! as direct reads and writes of small pages are split into many parts.

use std::io;

use memmap2::{Advice, MmapMut};

/// Bytes that start on a huge page's boundary, which is on any block's.
pub struct AlignedBuffer {
    memory: MmapMut,
    start: usize,
    len: usize,
}

const HUGE_PAGE_BYTES: usize = 2 << 20;

impl AlignedBuffer {
    /// `len` bytes that no storage can compress or take for a hole.
    pub fn with_noise(len: usize, seed: u64) -> io::Result<Self> {
        let mut buffer = Self::zeroed(len)?;
        let mut state = seed | 1;
        for word in buffer.as_mut().chunks_mut(8) {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        Ok(buffer)
    }

    pub fn zeroed(len: usize) -> io::Result<Self> {
        // Room for a whole huge page that begins on its boundary.
        let whole = len.next_multiple_of(HUGE_PAGE_BYTES);
        let memory = MmapMut::map_anon(whole + HUGE_PAGE_BYTES)?;
        // A kernel without huge pages refuses; small ones serve as well.
        let _ = memory.advise(Advice::HugePage);
        let start = memory.as_ptr().addr().wrapping_neg() % HUGE_PAGE_BYTES;
        Ok(Self { memory, start, len })
    }

    pub fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_on_a_boundary_and_keep_their_length() {
        for len in [1, 4096, 12_345, HUGE_PAGE_BYTES + 1] {
            let buffer = AlignedBuffer::with_noise(len, 7).unwrap();
            assert_eq!(buffer.as_ref().as_ptr().addr() % HUGE_PAGE_BYTES, 0);
            assert_eq!(buffer.as_ref().len(), len);
        }
    }
}
