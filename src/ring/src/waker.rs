//! Waking a parked ring from another thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Ends a [`Parker::wait`](crate::Parker::wait), under way or next. Cheap to clone, `Send`.
#[derive(Clone, Debug)]
pub struct Waker(pub(crate) Arc<OwnedFd>);

impl Waker {
    /// One system call; never blocks.
    pub fn wake(&self) {
        // Fails only when the counter is near its end: then a wake is pending anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}
