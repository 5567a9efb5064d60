//! The ring itself: queueing, entering the kernel, and handing out completions.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode};
use slab::Slab;

use crate::buffers::BufferRing;
use crate::op::{NO_OP, Op, OpId};
use crate::parker::Parker;
use crate::probe;
use crate::send::SendArena;
use crate::socket_table::SocketTable;
use crate::starved::Starved;
use crate::{Completion, RingConfig, RingError};

/// How long the drop waits before it cancels what is left once more.
const CANCEL_AGAIN: Duration = Duration::from_millis(50);
/// How long memory for a ring is waited for, and how often it is looked for.
const MEMORY_PATIENCE: Duration = Duration::from_secs(2);
const MEMORY_AGAIN: Duration = Duration::from_millis(20);

/// One io_uring, used by the thread that made it.
///
/// Queueing never fails, blocks or loses an operation: what does not fit the kernel's queue waits
/// in memory. Dropping the ring cancels everything, waits for its end, then frees.
pub struct Ring {
    pub(crate) shared: Rc<Shared>,
    pub(crate) ops: Slab<Op>,
    pub(crate) sockets: SocketTable,
    pub(crate) starved: Starved,
    pub(crate) arena: SendArena,
    pub(crate) buffers: BufferRing,
    /// Entries that found the kernel's queue full, in order.
    backlog: VecDeque<Entry>,
    /// Being dropped: nothing is re-armed or continued.
    pub(crate) closing: bool,
}

/// What a ring and its [`Parker`] share.
pub(crate) struct Shared {
    pub io: IoUring,
    /// Something waits for the next `submit` that the kernel does not know of.
    pub needs_submit: Cell<bool>,
}

impl Shared {
    /// Whether a `submit` and `next` would find something to do.
    pub(crate) fn has_work(&self) -> bool {
        // SAFETY: one thread, and every other view of the queue is a temporary that has ended.
        self.must_enter() || !unsafe { self.io.completion_shared() }.is_empty()
    }

    /// Whether the kernel has to be entered: it is given something, or holds something back.
    /// Completions that are there already are taken without it.
    fn must_enter(&self) -> bool {
        // SAFETY: one thread, and every other view of the queue is a temporary that has ended.
        let submission = unsafe { self.io.submission_shared() };
        self.needs_submit.get()
            || !submission.is_empty()
            || submission.taskrun()
            || submission.cq_overflow()
    }

    /// Hands queued entries to the kernel, runs its deferred work, and waits until at least
    /// `want` completions are there or the time is over. Says how many entries it took.
    pub(crate) fn enter(&self, want: usize, timeout: Option<Duration>) -> io::Result<usize> {
        let submitter = self.io.submitter();
        let result = match timeout {
            Some(timeout) => {
                let time = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&time))
            }
            None => {
                // SAFETY: a view of the queue that ends with the statement, as above.
                let queued = unsafe { self.io.submission_shared() }.len() as u32;
                let flags = EnterFlags::GETEVENTS.bits();
                // SAFETY: plain counts and flags; no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(queued, want as u32, flags, None) }
            }
        };
        match result {
            Err(error) if is_passing(&error) => Ok(0),
            other => other,
        }
    }
}

/// Errors of `io_uring_enter` after which everything queued is still queued: a signal, the
/// timeout, or a kernel that wants completions taken or memory freed first.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN))
}

impl Ring {
    /// Makes a ring for the calling thread. Where there is no memory for it, it tries again for two
    /// seconds: the kernel frees the rings of a process that was killed a while after its end.
    ///
    /// # Errors
    /// What the kernel lacks or forbids, or a value of `config` out of bounds.
    pub fn new(config: &RingConfig) -> Result<Ring, RingError> {
        config.check()?;
        let began = Instant::now();
        loop {
            match Self::try_new(config) {
                Err(RingError::NoMemory { .. }) if began.elapsed() < MEMORY_PATIENCE => {
                    std::thread::sleep(MEMORY_AGAIN);
                }
                other => return other,
            }
        }
    }

    fn try_new(config: &RingConfig) -> Result<Ring, RingError> {
        let io = probe::open(config)?;
        let buffers = BufferRing::register(&io, config)?;
        Ok(Ring {
            shared: Rc::new(Shared { io, needs_submit: Cell::new(false) }),
            ops: Slab::new(),
            sockets: SocketTable::default(),
            starved: Starved::default(),
            arena: SendArena::default(),
            buffers,
            backlog: VecDeque::new(),
            closing: false,
        })
    }

    /// Hands everything queued to the kernel and runs what it deferred to us; does not wait.
    /// Makes no system call when there is nothing of either.
    ///
    /// # Errors
    /// Only what cannot be retried; what was queued stays queued.
    pub fn submit(&mut self) -> io::Result<()> {
        self.prepare();
        if self.shared.must_enter() {
            self.shared.enter(0, None)?;
        }
        while !self.backlog.is_empty() && self.move_backlog() {
            if self.shared.enter(0, None)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// As [`Ring::submit`], and enters the kernel in any case: it may have more ends by now than it
    /// has told of.
    ///
    /// # Errors
    /// As for `submit`.
    pub fn poll(&mut self) -> io::Result<()> {
        self.prepare();
        self.shared.enter(0, None).map(drop)
    }

    /// As [`Ring::submit`], and blocks until there is a completion or the time is over. May
    /// return early, with nothing for [`Ring::next`].
    ///
    /// # Errors
    /// As for `submit`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.prepare();
        while !self.backlog.is_empty() {
            if self.shared.enter(0, None)? == 0 || !self.move_backlog() {
                return Ok(());
            }
        }
        self.shared.enter(1, timeout).map(drop)
    }

    /// The next completion, if one is there. Enters the kernel only to fetch completions for
    /// which its queue had no room.
    // Not an `Iterator`: an end here is only the end for now, and adapters would hide that.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Completion> {
        loop {
            // SAFETY: one thread, and no other view of the queue is alive.
            let entry = unsafe { self.shared.io.completion_shared() }.next();
            let Some(entry) = entry else {
                if !self.fetch_overflow() {
                    return None;
                }
                continue;
            };
            if entry.user_data() == NO_OP {
                continue;
            }
            let id = entry.user_data() as OpId;
            if let Some(completion) = self.finish(id, entry.result(), entry.flags()) {
                return Some(completion);
            }
        }
    }

    /// A handle on which a glommio task waits for this ring. From then on the kernel signals it.
    ///
    /// # Errors
    /// When the eventfd cannot be made or registered; one parker per ring (`EBUSY`).
    pub fn parker(&mut self) -> io::Result<Parker> {
        Parker::new(self.shared.clone())
    }

    /// Whether a [`Ring::submit`] would do anything: entries queued, or ends to be fetched.
    pub fn has_queued(&self) -> bool {
        !self.backlog.is_empty() || self.shared.has_work()
    }

    /// Operations whose last completion has not been returned by [`Ring::next`].
    pub fn in_flight(&self) -> usize {
        self.ops.len() - usize::from(self.starved.is_watching())
    }

    /// Stores a new operation and queues its first entry.
    pub(crate) fn start(&mut self, op: Op) -> OpId {
        let id = self.ops.insert(op) as OpId;
        self.queue_op(id);
        id
    }

    /// Queues the (next) kernel entry of an operation.
    pub(crate) fn queue_op(&mut self, id: OpId) {
        let entry = match self.ops.get_mut(id as usize) {
            Some(Op::Accept(accept)) => accept.entry(),
            Some(Op::Receive(receive)) => receive.entry(),
            Some(Op::Send(message)) => message.entry(),
            Some(Op::Watch(watch)) => watch.entry(),
            Some(Op::Timer(timer)) => timer.entry(),
            Some(Op::Write(write)) => write.entry(),
            Some(Op::Read(read)) => read.entry(),
            // Their one entry was queued when they were made.
            Some(Op::Open { .. } | Op::Plain { .. }) | None => return,
        };
        self.queue(entry.user_data(id.into()));
    }

    /// Queues an entry whose memory, if any, is owned by an operation in the slab.
    pub(crate) fn queue(&mut self, entry: Entry) {
        if self.backlog.is_empty() {
            if self.try_queue(&entry) {
                return;
            }
            // An error here comes again with the next `submit`, and can be reported there.
            let _ = self.shared.enter(0, None);
            if self.try_queue(&entry) {
                return;
            }
        }
        self.shared.needs_submit.set(true);
        self.backlog.push_back(entry);
    }

    /// Queues a completion for `id` that says nothing but that it is its turn.
    pub(crate) fn queue_end(&mut self, id: OpId) {
        self.queue(opcode::Nop::new().build().user_data(id.into()));
    }

    /// Queues the cancellation of one operation.
    pub(crate) fn queue_cancel(&mut self, id: OpId) {
        let target = CancelBuilder::user_data(id.into());
        self.queue(opcode::AsyncCancel2::new(target).build().user_data(NO_OP));
    }

    /// Whether work on `fd` that began in `epoch` should go on.
    pub(crate) fn is_live(&self, fd: RawFd, epoch: u32) -> bool {
        !self.closing && self.sockets.epoch(fd) == epoch
    }

    fn finish(&mut self, id: OpId, result: i32, flags: u32) -> Option<Completion> {
        match self.ops.get(id as usize) {
            Some(Op::Accept(_)) => self.finish_accept(id, result, flags),
            Some(Op::Receive(_)) => self.finish_receive(id, result, flags),
            Some(Op::Send(_)) => self.finish_send(id, result),
            Some(Op::Watch(_)) => self.finish_watch(id, result),
            Some(Op::Timer(_)) => self.finish_timer(id),
            Some(Op::Write(_)) => self.finish_write(id, result),
            Some(Op::Read(_)) => self.finish_read(id, result),
            Some(Op::Open { .. }) => self.finish_open(id, result),
            Some(Op::Plain { .. }) => self.finish_plain(id, result),
            None => {
                debug_assert!(false, "a completion of an operation that has ended");
                None
            }
        }
    }

    fn prepare(&mut self) {
        self.shared.needs_submit.set(false);
        self.move_backlog();
        self.feed_starved();
        if !self.backlog.is_empty() {
            self.shared.needs_submit.set(true);
        }
    }

    /// Moves waiting entries into the kernel's queue; whether any was moved.
    fn move_backlog(&mut self) -> bool {
        let before = self.backlog.len();
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_queue(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
        self.backlog.len() < before
    }

    fn try_queue(&self, entry: &Entry) -> bool {
        // SAFETY: one thread, and no other view of the queue is alive. What the entry points to
        // is owned by its operation in the slab, on the heap, until its last completion.
        unsafe { self.shared.io.submission_shared().push(entry) }.is_ok()
    }

    /// Has the kernel bring completions that did not fit its queue; whether there are any.
    fn fetch_overflow(&self) -> bool {
        // SAFETY: views of the queues that end with their statements.
        if !unsafe { self.shared.io.submission_shared() }.cq_overflow() {
            return false;
        }
        // An error here comes again with the next `submit`.
        let _ = self.shared.enter(0, None);
        // SAFETY: as above.
        !unsafe { self.shared.io.completion_shared() }.is_empty()
    }

    /// Cancels and reaps everything. False: the kernel may still use our memory.
    fn reap_all(&mut self) -> bool {
        self.closing = true;
        self.drop_starved();
        // One by one: the kernel finds each by its number, and goes through all of them for one that
        // asks for any.
        let under_way: Vec<OpId> = self.ops.iter().map(|(id, _)| id as OpId).collect();
        under_way.into_iter().for_each(|id| self.queue_cancel(id));
        while !self.ops.is_empty() {
            self.move_backlog();
            if self.shared.enter(1, Some(CANCEL_AGAIN)).is_err() {
                return false;
            }
            let mut ended = false;
            while let Some(completion) = self.next() {
                ended = true;
                drop(completion);
            }
            if !ended && self.backlog.is_empty() {
                let any = CancelBuilder::any();
                self.queue(opcode::AsyncCancel2::new(any).build().user_data(NO_OP));
            }
        }
        self.buffers.unregister(&self.shared.io).is_ok()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.reap_all() {
            // The kernel refused to be entered, so what it may still write to must stay.
            std::mem::forget(std::mem::take(&mut self.ops));
            self.buffers.leak();
        }
    }
}
