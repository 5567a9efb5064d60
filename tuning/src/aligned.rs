//! Buffers for O_DIRECT, which wants memory on a block's boundary.

/// Bytes that start on a multiple of [`ALIGNMENT`].
pub struct AlignedBuffer {
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

/// Enough for every block size up to a page.
pub const ALIGNMENT: usize = 4096;

impl AlignedBuffer {
    /// `len` bytes that no storage can compress or take for a hole.
    pub fn with_noise(len: usize, seed: u64) -> Self {
        let mut buffer = Self::zeroed(len);
        let mut state = seed | 1;
        for word in buffer.as_mut().chunks_mut(8) {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        buffer
    }

    pub fn zeroed(len: usize) -> Self {
        let storage = vec![0; len + ALIGNMENT];
        // The vector is never grown, so its bytes stay where they are.
        let start = storage.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        Self { storage, start, len }
    }

    pub fn as_ref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_on_a_boundary_and_keep_their_length() {
        for len in [1, 4096, 12_345] {
            let buffer = AlignedBuffer::with_noise(len, 7);
            assert_eq!(buffer.as_ref().as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(buffer.as_ref().len(), len);
        }
    }
}
