//! A partition's messages between the application and the sender: the open batch, and the full
//! ones behind it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::BatchBuilder;
use protocol::batch::BATCH_HEADER_BYTES;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::builder::ProducerOptions;
use super::delivery::{Delivery, Outcome, Ticket};
use super::{Message, Shared};
use crate::error::Error;

/// Batches on their way behind which one of under [`SMALL_BATCH_BYTES`] waits.
const SMALL_IN_FLIGHT_MAX: usize = 2;
const SMALL_BATCH_BYTES: usize = 64 * 1024;

/// A batch that messages gather in, or that is full and waits to be sent.
pub(super) struct OpenBatch {
    pub(super) builder: BatchBuilder,
    pub(super) ticket: Ticket,
    pub(super) opened_at: Instant,
}

pub(super) struct Lane {
    pub(super) partition: u32,
    state: Mutex<State>,
    /// There is something new for the sender to look at.
    pub(super) wake: Notify,
}

#[derive(Default)]
struct State {
    /// Full, oldest first.
    sealed: VecDeque<OpenBatch>,
    open: Option<OpenBatch>,
    /// The outcomes of all batches not done, oldest first, and of some that are.
    unfinished: VecDeque<Arc<Outcome>>,
    /// Bytes of the batch before: the next one begins with that much room.
    batch_bytes_before: usize,
    closed: bool,
}

/// What the sender finds.
pub(super) enum Next {
    Batch(OpenBatch),
    /// The open batch lingers until then.
    LingerUntil(Instant),
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

impl Lane {
    pub(super) fn new(partition: u32) -> Self {
        Self { partition, state: Mutex::default(), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message to the open batch; seals that first where the message does not fit. The
    /// `held` bytes of the buffer are the batch's from here on, unless this fails.
    pub(super) fn append(
        &self,
        shared: &Shared,
        message: &Message,
        timestamp_ms: i64,
        held: u32,
    ) -> Result<Delivery, Error> {
        let options = &shared.options;
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        let bytes = message.buffer_bytes();
        if state.open.as_ref().is_some_and(|open| !open.has_room(bytes, options)) {
            state.seal();
        }
        let opens = state.open.is_none();
        let was_small = state.open.as_ref().is_none_or(OpenBatch::is_small);
        let mut batch = match state.open.take() {
            Some(open) => open,
            None => OpenBatch::new(shared, bytes.max(state.batch_bytes_before)),
        };
        let headers = message.headers.iter().map(|(name, value)| (*name, Some(*value)));
        let appended = batch.builder.append(timestamp_ms, message.key, message.value, headers);
        if let Err(too_large) = appended {
            // Only a batch that was just opened can be too small.
            if !opens {
                state.open = Some(batch);
            }
            return Err(Error::MessageTooLarge { bytes: too_large.bytes, max: too_large.max });
        }
        batch.ticket.hold(held);
        let index = batch.builder.count() - 1;
        let outcome = batch.ticket.outcome();
        if opens {
            state.unfinished.push_back(outcome.clone());
        }
        let full = batch.is_full(options);
        let grew = was_small && !batch.is_small();
        state.open = Some(batch);
        if full {
            state.seal();
        }
        drop(state);
        if opens || grew || full {
            self.wake.notify_one();
        }
        Ok(Delivery::new(outcome, self.partition, index))
    }

    /// What is to be sent now, with `in_flight` batches on their way. Behind [`SMALL_IN_FLIGHT_MAX`] a small batch
    /// gathers until one is answered: many small ones cost client and server more time than they save.
    pub(super) fn next(&self, options: &ProducerOptions, in_flight: usize) -> Next {
        let mut state = self.lock();
        if let Some(batch) = state.sealed.pop_front() {
            return Next::Batch(batch);
        }
        let Some(open) = &state.open else {
            return if state.closed { Next::End } else { Next::Nothing };
        };
        let due = open.opened_at + options.linger;
        if due > Instant::now() {
            return Next::LingerUntil(due);
        }
        if in_flight >= SMALL_IN_FLIGHT_MAX && open.is_small() {
            return Next::Nothing;
        }
        state.take_open().map_or(Next::Nothing, Next::Batch)
    }

    /// Makes everything here ready to be sent. Returns what is not done yet.
    pub(super) fn flush(&self) -> Vec<Arc<Outcome>> {
        let mut state = self.lock();
        state.seal();
        let unfinished = state.unfinished.iter().cloned().collect();
        drop(state);
        self.wake.notify_one();
        unfinished
    }

    /// Takes no more messages; what is here is still sent.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.seal();
        drop(state);
        self.wake.notify_one();
    }

    /// Forgets the outcomes of batches that are done.
    pub(super) fn forget_finished(&self) {
        let mut state = self.lock();
        while state.unfinished.front().is_some_and(|outcome| outcome.is_done()) {
            state.unfinished.pop_front();
        }
    }
}

impl State {
    fn seal(&mut self) {
        let open = self.take_open();
        self.sealed.extend(open);
    }

    fn take_open(&mut self) -> Option<OpenBatch> {
        let open = self.open.take()?;
        self.batch_bytes_before = open.builder.batch_bytes();
        Some(open)
    }
}

impl OpenBatch {
    fn new(shared: &Shared, bytes: usize) -> Self {
        Self {
            builder: BatchBuilder::in_buffer(shared.spare.take(BATCH_HEADER_BYTES + bytes)),
            ticket: Ticket::new(shared.memory.clone()),
            opened_at: Instant::now(),
        }
    }

    fn has_room(&self, bytes: usize, options: &ProducerOptions) -> bool {
        self.builder.batch_bytes() + bytes <= options.batch_bytes as usize
    }

    fn is_small(&self) -> bool {
        self.builder.batch_bytes() < SMALL_BATCH_BYTES
    }

    fn is_full(&self, options: &ProducerOptions) -> bool {
        self.builder.count() >= options.batch_messages
            || self.builder.batch_bytes() >= options.batch_bytes as usize
    }
}
