//! An owned buffer that direct I/O can read into: aligned, reusable, convertible to `Bytes`.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytes::Bytes;

/// Owned memory aligned to 4 KiB, its capacity a multiple of 4 KiB.
///
/// Fit for [`Ring::read_at`](crate::Ring::read_at) on files opened with `O_DIRECT`. Zeroed when
/// made; a reused one keeps its old bytes.
pub struct AlignedBuffer {
    memory: NonNull<u8>,
    len: usize,
    capacity: usize,
}

// SAFETY: the memory is owned by this value alone and plain bytes.
unsafe impl Send for AlignedBuffer {}
// SAFETY: a shared reference only allows reads.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// Alignment of the memory, in bytes.
    pub const ALIGNMENT: usize = 4096;
    /// From this length on the memory lies on huge pages where the system has them: direct I/O then
    /// needs far fewer segments (measured: twice the rate of sequential reads).
    pub const HUGE_PAGE: usize = 2 << 20;

    /// A zeroed buffer of `len` bytes.
    ///
    /// # Panics
    /// When `len` is near `isize::MAX`; the process aborts when memory is out, as for a `Vec`.
    pub fn new(len: usize) -> AlignedBuffer {
        let capacity = len.max(1).next_multiple_of(Self::ALIGNMENT);
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is at least one alignment, so not zero.
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        if capacity >= Self::HUGE_PAGE {
            // SAFETY: advice on the range just allocated, which starts on a huge page; refusing
            // it changes nothing but speed.
            unsafe { libc::madvise(memory.as_ptr().cast(), capacity, libc::MADV_HUGEPAGE) };
        }
        // SAFETY: just allocated with this capacity. After the advice, which counts for pages not
        // yet touched.
        unsafe { memory.as_ptr().write_bytes(0, capacity) };
        AlignedBuffer { memory, len, capacity }
    }

    /// Bytes that fit without a new allocation.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the length for a reuse; the bytes are whatever was there.
    ///
    /// # Panics
    /// When `len` is over the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} bytes in a buffer of {}", self.capacity);
        self.len = len;
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the memory holds `capacity >= len` initialised bytes, owned by self.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }

    /// The bytes, to be filled.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }

    /// The bytes as reference-counted slices, without a copy.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn layout(capacity: usize) -> Layout {
        let alignment = if capacity >= Self::HUGE_PAGE { Self::HUGE_PAGE } else { Self::ALIGNMENT };
        Layout::from_size_align(capacity, alignment).expect("a buffer under isize::MAX bytes")
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout and not freed since.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.capacity)) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsMut<[u8]> for AlignedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

// SAFETY: the bytes lie in memory of their own, which moving the value does not move.
unsafe impl stable_deref_trait::StableDeref for AlignedBuffer {}

impl From<AlignedBuffer> for Bytes {
    fn from(buffer: AlignedBuffer) -> Bytes {
        buffer.into_bytes()
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} of {} bytes)", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_zeroed_reusable_and_shareable() {
        // An interpreter takes minutes for a huge page.
        let largest = if cfg!(miri) { 3 * 4096 } else { AlignedBuffer::HUGE_PAGE + 1 };
        for len in [0, 1, 4095, 4096, 4097, largest] {
            let mut buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % AlignedBuffer::ALIGNMENT, 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.set_len(buffer.capacity());
            buffer.fill(7);
            let bytes = buffer.into_bytes();
            assert!(bytes.slice(1..).iter().all(|byte| *byte == 7));
        }
    }
}
