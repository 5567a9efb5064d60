//! Waiting for a ring inside a glommio executor.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use glommio::io::BufferedFile;
use rustix::event::{EventfdFlags, eventfd};

use crate::ring::Shared;

/// Waits for a [`Ring`](crate::Ring) that it does not borrow.
///
/// The kernel signals the eventfd behind this only while someone waits, so a busy core pays
/// nothing for it. Drop it inside its executor: outside, its eventfd stays open.
pub struct Parker {
    shared: Rc<Shared>,
    eventfd: OwnedFd,
    /// The same eventfd as glommio's file; made at the first wait, which has an executor.
    file: RefCell<Option<Rc<BufferedFile>>>,
}

impl Parker {
    pub(crate) fn new(shared: Rc<Shared>) -> io::Result<Parker> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        shared.io.submitter().register_eventfd(eventfd.as_raw_fd())?;
        let parker = Parker { shared, eventfd, file: RefCell::new(None) };
        parker.signals(false);
        Ok(parker)
    }

    /// Resolves when [`Ring::submit`](crate::Ring::submit) and [`Ring::next`](crate::Ring::next)
    /// have something to do: at once when something is queued or has come in already. May resolve
    /// early. Dropping the future loses nothing. One waiter at a time, in the glommio executor of
    /// the ring's thread; whoever queues operations while it waits must call `submit`.
    ///
    /// # Errors
    /// What reading the eventfd brings; not expected.
    pub async fn wait(&self) -> io::Result<()> {
        let _quiet = QuietAtEnd(self);
        self.signals(true);
        // Signals first, then the look at the queues: what comes in between is seen by one.
        fence(Ordering::SeqCst);
        if cfg!(not(target_arch = "x86_64")) {
            // The kernel sets its "work is here" flag before it looks whether to signal, without
            // a barrier between the two where the CPU needs one. This runs such work.
            self.shared.enter(0, None)?;
        }
        if self.shared.has_work() {
            return Ok(());
        }
        let file = self.file()?;
        file.read_at(0, size_of::<u64>()).await?;
        Ok(())
    }

    /// Ends the present wait, or the next one, early. For another task of the executor; other
    /// threads write an eventfd that the ring watches.
    pub fn wake(&self) {
        // It fails only when the counter is full, and then the wait ends anyway.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    fn file(&self) -> io::Result<Rc<BufferedFile>> {
        if let Some(file) = &*self.file.borrow() {
            return Ok(file.clone());
        }
        let descriptor = self.eventfd.try_clone()?.into_raw_fd();
        // SAFETY: a descriptor of our own, which the file now owns.
        let file = Rc::new(unsafe { BufferedFile::from_raw_fd(descriptor) });
        *self.file.borrow_mut() = Some(file.clone());
        Ok(file)
    }

    fn signals(&self, on: bool) {
        // SAFETY: one thread, and no other view of the queue is alive: the ring's are
        // temporaries in calls that have returned.
        let completion = unsafe { self.shared.io.completion_shared() };
        if on { completion.enable_eventfd() } else { completion.disable_eventfd() }
    }
}

impl Drop for Parker {
    fn drop(&mut self) {
        // The ring goes on without signals. Failing changes nothing: no one listens.
        let _ = self.shared.io.submitter().unregister_eventfd();
    }
}

struct QuietAtEnd<'a>(&'a Parker);

impl Drop for QuietAtEnd<'_> {
    fn drop(&mut self) {
        self.0.signals(false);
    }
}
