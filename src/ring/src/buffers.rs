//! Receive buffers: memory lent to the kernel, handed out as received data, and taken back.
//!
//! The kernel picks a buffer when bytes are there, so idle connections hold none. A buffer has
//! one owner at any time: the kernel (listed in the descriptor ring), or one `ReceivedBuffer`, or
//! the queue of returned ids. The memory lives until the last `ReceivedBuffer` is gone, which may
//! be after the ring.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering, fence};

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::event::{EventfdFlags, eventfd};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::{RingConfig, RingError};

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// Bytes from a socket, in a buffer that goes back to its ring when dropped, on any thread.
///
/// Hold it briefly: the ring has a fixed number of them, and its sockets wait when all are held.
pub struct ReceivedBuffer {
    pool: Arc<Pool>,
    id: u16,
    len: u32,
}

impl ReceivedBuffer {
    /// The bytes as reference-counted slices, without a copy; the buffer goes back when the last
    /// slice is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for ReceivedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let start = self.id as usize * self.pool.buffer_bytes as usize;
        // SAFETY: the range lies in the pool's mapping (`BufferRing::take` checked both values),
        // the kernel wrote it, and no one writes it while this value, the buffer's owner, lives.
        unsafe {
            std::slice::from_raw_parts(
                self.pool.memory.start.as_ptr().add(start),
                self.len as usize,
            )
        }
    }
}

impl AsRef<[u8]> for ReceivedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for ReceivedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivedBuffer({} bytes)", self.len)
    }
}

impl Drop for ReceivedBuffer {
    fn drop(&mut self) {
        self.pool.give_back(self.id);
    }
}

/// What the ring and all `ReceivedBuffer`s share.
struct Pool {
    memory: Mapping,
    buffer_bytes: u32,
    /// Ids on their way back; has room for every id, so it is never full.
    returned: ArrayQueue<u16>,
    /// The ring has sockets waiting for a buffer and asks to be woken when one returns.
    starved: AtomicBool,
    /// Written by whoever returns a buffer while `starved`.
    wake: OwnedFd,
}

impl Pool {
    fn give_back(&self, id: u16) {
        let pushed = self.returned.push(id);
        debug_assert!(pushed.is_ok(), "a receive buffer was returned twice");
        // Pairs with the fence in `BufferRing::ask_for_wake`: either the ring sees the id, or we
        // see that it waits.
        fence(Ordering::SeqCst);
        if self.starved.load(Ordering::Relaxed) && self.starved.swap(false, Ordering::Relaxed) {
            // It fails only when the counter is full, and then the ring is being woken anyway.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

/// The ring's side: the descriptors the kernel takes buffers from.
pub(crate) struct BufferRing {
    pool: Arc<Pool>,
    descriptors: Mapping,
    count: u16,
    tail: u16,
    /// Buffers that the kernel owns now.
    available: u16,
}

impl BufferRing {
    /// Maps the memory and registers the descriptors. `unregister` must be called before this is
    /// dropped; `Ring`'s drop does.
    pub(crate) fn register(io: &IoUring, config: &RingConfig) -> Result<BufferRing, RingError> {
        let map = RingError::io("map the receive buffers");
        let count = config.receive_buffers;
        let memory =
            Mapping::new(count as usize * config.receive_buffer_bytes as usize).map_err(&map)?;
        let descriptors = Mapping::new(count as usize * size_of::<BufRingEntry>()).map_err(&map)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|error| RingError::io("make an eventfd")(error.into()))?;
        let address = descriptors.start.as_ptr() as u64;
        // SAFETY: the mapping is page aligned, holds `count` entries and outlives the
        // registration, which `unregister` ends.
        unsafe { io.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }.map_err(
            |error| match error.raw_os_error() {
                Some(libc::EINVAL) => {
                    RingError::Missing { feature: "IORING_REGISTER_PBUF_RING", since: "5.19" }
                }
                Some(libc::ENOMEM) => RingError::NoMemory { entries: config.entries },
                _ => RingError::io("register the receive buffers")(error),
            },
        )?;
        let pool = Pool {
            memory,
            buffer_bytes: config.receive_buffer_bytes,
            returned: ArrayQueue::new(count as usize),
            starved: AtomicBool::new(false),
            wake,
        };
        let mut ring =
            BufferRing { pool: Arc::new(pool), descriptors, count, tail: 0, available: 0 };
        for id in 0..count {
            ring.list(id);
        }
        ring.publish();
        Ok(ring)
    }

    /// Ends the kernel's use of the memory. No receive may be in flight.
    pub(crate) fn unregister(&mut self, io: &IoUring) -> io::Result<()> {
        io.submitter().unregister_buf_ring(GROUP)
    }

    /// Keeps the memory for good, for a kernel that may still write to it.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(self.pool.clone());
        self.descriptors.leaked = true;
    }

    /// Buffers that the kernel can fill now.
    pub(crate) fn available(&self) -> u16 {
        self.available
    }

    /// Takes over buffer `id`, of which the kernel has filled `len` bytes.
    pub(crate) fn take(&mut self, id: u16, len: u32) -> ReceivedBuffer {
        assert!(id < self.count && len <= self.pool.buffer_bytes, "the kernel names our buffers");
        self.available -= 1;
        ReceivedBuffer { pool: self.pool.clone(), id, len }
    }

    /// Lists all returned buffers for the kernel again.
    pub(crate) fn replenish(&mut self) {
        let before = self.tail;
        while let Some(id) = self.pool.returned.pop() {
            self.list(id);
        }
        if self.tail != before {
            self.publish();
        }
    }

    /// Asks that `wake_fd` be written when a buffer returns. False: one has returned already.
    pub(crate) fn ask_for_wake(&self) -> bool {
        self.pool.starved.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let nothing_back = self.pool.returned.is_empty();
        if !nothing_back {
            self.pool.starved.store(false, Ordering::Relaxed);
        }
        nothing_back
    }

    /// The eventfd of [`BufferRing::ask_for_wake`].
    pub(crate) fn wake_fd(&self) -> RawFd {
        self.pool.wake.as_raw_fd()
    }

    fn list(&mut self, id: u16) {
        let slot = (self.tail & (self.count - 1)) as usize;
        let bytes = self.pool.buffer_bytes;
        let entries = self.descriptors.start.cast::<BufRingEntry>().as_ptr();
        // SAFETY: slot < count, so the entry lies in the mapping; the kernel reads entries below
        // the published tail only, and this one is at or above it. The fields are set one by one
        // because the tail itself lies in the unused field of the first entry.
        let entry = unsafe { &mut *entries.add(slot) };
        // SAFETY: id < count, so the address lies in the pool's mapping.
        let address = unsafe { self.pool.memory.start.as_ptr().add(id as usize * bytes as usize) };
        entry.set_addr(address as u64);
        entry.set_len(bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.available += 1;
    }

    fn publish(&self) {
        let entries = self.descriptors.start.cast::<BufRingEntry>().as_ptr();
        // SAFETY: `entries` is the base of a zeroed, page-aligned array of entries; the tail is
        // two aligned bytes in it, which only we write and the kernel reads.
        let tail = unsafe { &*BufRingEntry::tail(entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// An anonymous private mapping of zeroes, page aligned, without memory until touched.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
    leaked: bool,
}

// SAFETY: a mapping may be unmapped from any thread; access is governed by its users.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, flags) }?;
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let mapping = Mapping { start, len, leaked: false };
        // Without huge pages a small message takes 4 KiB of memory rather than 2 MiB. Only advice.
        // SAFETY: the range is the mapping just made; the advice does not change its contents.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: mapped in `new`, unmapped once, and its users are gone.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
