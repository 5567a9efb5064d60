//! Aligned memory that can be handed to a disk, shared between cores and used again.
//!
//! A [`Memory`] is one aligned range. An [`AlignedBuffer`] owns a part of one exclusively: parts are
//! only made by leasing a whole `Memory` that no one else refers to, and by splitting a part in
//! two. So a block can be filled and frozen while its neighbours are being read elsewhere. This
//! is the only module of the crate with `unsafe` code.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

/// The alignment of every buffer in memory, bytes.
pub const ALIGNMENT: usize = 4096;

/// From this length on memory comes straight from the system, on huge pages where it has them.
const MAPPED_FROM: usize = 2 * 1024 * 1024;

/// One aligned range of memory, zero when new.
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the range is owned by this value, is not tied to a thread, and is read or written only
// through `AlignedBuffer`s, which never overlap.
unsafe impl Send for Memory {}
// SAFETY: as above; `Memory` itself gives no access to the bytes.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(bytes: usize) -> Arc<Self> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        let start = if bytes >= MAPPED_FROM { map(bytes) } else { allocate(bytes) };
        Arc::new(Self { start, bytes })
    }

    /// The range's length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The whole range as one buffer; the same memory back when something still refers to it.
    pub(crate) fn lease(mut memory: Arc<Self>) -> Result<AlignedBuffer, Arc<Self>> {
        if Arc::get_mut(&mut memory).is_none() {
            return Err(memory);
        }
        let bytes = memory.bytes;
        Ok(AlignedBuffer { memory, start: 0, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes >= MAPPED_FROM {
            // SAFETY: the range was mapped by `map` with this length and nothing refers to it now.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        } else {
            // SAFETY: the range was allocated by `allocate` with this very layout.
            unsafe { dealloc(self.start.as_ptr(), layout(self.bytes)) };
        }
    }
}

fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("a buffer of {bytes} bytes cannot be described"),
    }
}

fn allocate(bytes: usize) -> NonNull<u8> {
    let layout = layout(bytes);
    // SAFETY: the layout's size is not zero: `Memory::new` asks for at least one page.
    let start = unsafe { alloc_zeroed(layout) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Maps a range whose start is a multiple of the huge page, so that it costs few page faults.
fn map(bytes: usize) -> NonNull<u8> {
    let spare = bytes + MAPPED_FROM;
    // SAFETY: an anonymous private mapping at a place of the system's choice touches nothing else.
    let raw = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            spare,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if raw == libc::MAP_FAILED {
        handle_alloc_error(layout(bytes));
    }
    let first = raw as usize;
    let start = first.next_multiple_of(MAPPED_FROM);
    let before = start - first;
    let after = spare - before - bytes;
    // SAFETY: both ranges lie within the mapping just made and outside [start, start + bytes);
    // `start` is not null since the mapping is not.
    unsafe {
        if before > 0 {
            libc::munmap(raw, before);
        }
        if after > 0 {
            libc::munmap((start + bytes) as *mut libc::c_void, after);
        }
        libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE);
        NonNull::new_unchecked(start as *mut u8)
    }
}

/// A part of a [`Memory`] that nothing else can read or write.
///
/// The start in memory is a multiple of [`ALIGNMENT`], as long as it is split at such multiples.
pub struct AlignedBuffer {
    memory: Arc<Memory>,
    start: usize,
    bytes: usize,
}

impl AlignedBuffer {
    /// A buffer of its own, `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        Self { memory: Memory::new(len), start: 0, bytes: len }
    }

    /// Splits the buffer: the first `at` bytes are returned, the rest stays.
    ///
    /// # Panics
    /// When `at` is more than the length.
    #[must_use]
    pub fn split_to(&mut self, at: usize) -> Self {
        assert!(at <= self.bytes, "split at {at} of {} bytes", self.bytes);
        let first = Self { memory: self.memory.clone(), start: self.start, bytes: at };
        self.start += at;
        self.bytes -= at;
        first
    }

    /// Drops all but the first `bytes`; more than there are changes nothing.
    pub fn truncate(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
    }

    /// The memory this is a part of. It stays in use as long as any part does.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Makes the buffer read-only, so that it can grow by its neighbours.
    pub(crate) fn share(self) -> Shared {
        Shared { memory: self.memory, start: self.start, bytes: self.bytes }
    }

    /// Makes the buffer read-only and shareable.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: [start, start + bytes) lies in the memory (checked by lease and split_to), is
        // initialised (zero when mapped or allocated), and no other buffer covers any of it.
        unsafe {
            std::slice::from_raw_parts(self.memory.start.as_ptr().add(self.start), self.bytes)
        }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` is the only way to this part.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.start.as_ptr().add(self.start), self.bytes)
        }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

// SAFETY: the bytes lie in the `Memory`, which moving the value does not move.
unsafe impl stable_deref_trait::StableDeref for AlignedBuffer {}

impl From<AlignedBuffer> for Bytes {
    fn from(buffer: AlignedBuffer) -> Bytes {
        buffer.freeze()
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.bytes)
    }
}

/// A part of a [`Memory`] that no one writes to any more. Each part of it was an
/// [`AlignedBuffer`] once, which is gone.
#[derive(Clone)]
pub(crate) struct Shared {
    memory: Arc<Memory>,
    start: usize,
    bytes: usize,
}

impl Shared {
    /// Takes on the part that follows; false when `next` is not that.
    pub fn join(&mut self, next: Self) -> bool {
        let follows =
            Arc::ptr_eq(&self.memory, &next.memory) && self.start + self.bytes == next.start;
        if follows {
            self.bytes += next.bytes;
        }
        follows
    }

    /// These bytes of it, shared; `None` when they are not all in it.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.bytes {
            return None;
        }
        let (start, bytes) = (self.start + range.start, range.len());
        Some(Bytes::from_owner(Self { memory: self.memory.clone(), start, bytes }))
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: [start, start + bytes) lies in the memory: it is made of whole buffers that lay
        // there (share, join) and of parts of it (slice). It is initialised, and nothing writes to
        // it: those buffers are gone, and the memory is not leased again while this refers to it.
        unsafe {
            std::slice::from_raw_parts(self.memory.start.as_ptr().add(self.start), self.bytes)
        }
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn assert_zero_and_aligned(len: usize) {
        let buffer = AlignedBuffer::zeroed(len);
        assert_eq!(buffer.len(), len);
        assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
        assert!(buffer.iter().all(|b| *b == 0));
    }

    #[test]
    fn buffers_are_zero_and_aligned() {
        [1, 4096, 5000].into_iter().for_each(assert_zero_and_aligned);
    }

    #[test]
    fn mapped_buffers_are_zero_and_aligned() {
        [MAPPED_FROM, 3 * MAPPED_FROM + 1].into_iter().for_each(assert_zero_and_aligned);
    }

    #[test]
    fn parts_do_not_touch_each_other() {
        let mut rest = AlignedBuffer::zeroed(3 * 4096);
        let mut first = rest.split_to(4096);
        first.fill(1);
        let shared = first.freeze();
        rest.fill(2);
        assert!(shared.iter().all(|b| *b == 1));
        assert_eq!(rest.len(), 2 * 4096);
        assert!(rest.iter().all(|b| *b == 2));
    }

    #[test]
    fn neighbours_become_one_again() {
        let mut third = AlignedBuffer::zeroed(3 * 4096);
        let memory = third.memory().clone();
        let mut first = third.split_to(4096);
        let mut second = third.split_to(4096);
        first.fill(1);
        second.fill(2);
        let mut shared = first.share();
        assert!(!shared.clone().join(third.share()), "there is one between them");
        assert!(!shared.clone().join(AlignedBuffer::zeroed(4096).share()));
        assert!(shared.join(second.share()));
        let both = shared.slice(4000..4200).expect("in it");
        assert_eq!(both, [vec![1; 96], vec![2; 104]].concat());
        assert!(shared.slice(4000..8193).is_none());
        drop(shared);
        let memory = Memory::lease(memory).map(|_| ()).expect_err("a slice refers to it");
        drop(both);
        assert!(Memory::lease(memory).is_ok());
    }

    #[test]
    fn memory_is_leased_only_when_free() {
        let buffer = AlignedBuffer::zeroed(4096);
        let memory = buffer.memory().clone();
        let bytes = buffer.freeze();
        let memory = Memory::lease(memory).map(|_| ()).expect_err("still referred to");
        drop(bytes);
        assert!(Memory::lease(memory).is_ok());
    }

    /// A block's life: filled, lent to other threads in parts, filled again once none refers to it.
    /// The bytes show a reader that met the next filling; a thread sanitizer shows the order.
    #[test]
    fn memory_lent_to_other_threads_is_filled_again_only_after_them() {
        const ROUNDS: u8 = if cfg!(miri) { 5 } else { 250 };
        const PART: usize = if cfg!(miri) { 256 } else { 8 * ALIGNMENT };
        let (senders, readers): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (sender, lent) = mpsc::channel::<(u8, Bytes)>();
                let read = move || {
                    for (round, bytes) in lent {
                        assert!(bytes.iter().all(|byte| *byte == round), "round {round}");
                    }
                };
                (sender, thread::spawn(read))
            })
            .unzip();
        let mut buffer = AlignedBuffer::zeroed(2 * PART);
        for round in 1..=ROUNDS {
            buffer.fill(round);
            let mut memory = buffer.memory().clone();
            let first = buffer.split_to(PART).freeze();
            let second = buffer.share().slice(0..PART).expect("all of it");
            for sender in &senders {
                sender.send((round, first.clone())).expect("it reads");
                sender.send((round, second.clone())).expect("it reads");
            }
            drop((first, second));
            let since = Instant::now();
            buffer = loop {
                match Memory::lease(memory) {
                    Ok(buffer) => break buffer,
                    Err(lent) => memory = lent,
                }
                assert!(since.elapsed() < Duration::from_secs(60), "still lent in round {round}");
                thread::yield_now();
            };
        }
        drop(senders);
        readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
    }
}
