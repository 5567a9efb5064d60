//! What becomes of a message: one shared outcome per batch, and a future per message that looks
//! at it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use model::{AckLevel, Offset};
use tokio::sync::Semaphore;

use crate::connection::BatchAck;
use crate::error::Error;

/// Where and how safely a message was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub partition: u32,
    /// `None` for messages sent without acknowledgement, and for a repeat so old that the server
    /// no longer knows where it stored the first.
    pub offset: Option<Offset>,
    /// What is true of the message by now.
    pub level: AckLevel,
    /// When the log took it, Unix milliseconds; unknown where the offset is.
    pub append_time_ms: Option<i64>,
}

/// Resolves when a message is stored as its ack level asks, or has failed for good.
///
/// Dropping it does not stop the message. [`Producer::flush`](crate::Producer::flush) waits for
/// all of them at once.
#[derive(Debug)]
#[must_use = "await it to learn whether the message was stored, or flush the producer"]
pub struct Delivery {
    outcome: Arc<Outcome>,
    partition: u32,
    /// The message's place in its batch.
    index: u32,
    /// Where this future's waker stands in the outcome's list.
    waker_at: Option<usize>,
}

impl Delivery {
    pub(super) fn new(outcome: Arc<Outcome>, partition: u32, index: u32) -> Self {
        Self { outcome, partition, index, waker_at: None }
    }
}

impl Future for Delivery {
    type Output = Result<Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let result = std::task::ready!(this.outcome.poll(&mut this.waker_at, context));
        Poll::Ready(result.map(|ack| Receipt {
            partition: this.partition,
            offset: ack.base_offset.map(|base| base + u64::from(this.index)),
            level: ack.level,
            append_time_ms: ack.append_time_ms,
        }))
    }
}

/// What became of a batch; set once.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    state: Mutex<OutcomeState>,
}

#[derive(Debug)]
enum OutcomeState {
    Pending(Vec<Waker>),
    Done(Result<BatchAck, Error>),
}

impl Default for OutcomeState {
    fn default() -> Self {
        Self::Pending(Vec::new())
    }
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, OutcomeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(
        &self,
        waker_at: &mut Option<usize>,
        context: &Context<'_>,
    ) -> Poll<Result<BatchAck, Error>> {
        match &mut *self.lock() {
            OutcomeState::Done(result) => Poll::Ready(result.clone()),
            OutcomeState::Pending(wakers) => {
                match waker_at.and_then(|at| wakers.get_mut(at)) {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => {
                        *waker_at = Some(wakers.len());
                        wakers.push(context.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(*self.lock(), OutcomeState::Done(_))
    }

    /// Waits until the batch is done, and says how it went.
    pub(super) async fn wait(&self) -> Result<BatchAck, Error> {
        let mut waker_at = None;
        std::future::poll_fn(|context| self.poll(&mut waker_at, context)).await
    }
}

/// The duty to say what became of a batch and to give its memory back; done on drop at the latest.
#[derive(Debug)]
pub(super) struct Ticket {
    outcome: Arc<Outcome>,
    memory: Arc<Semaphore>,
    /// Bytes of the producer's buffer that the batch holds.
    held: usize,
}

impl Ticket {
    pub(super) fn new(memory: Arc<Semaphore>) -> Self {
        Self { outcome: Arc::default(), memory, held: 0 }
    }

    /// Takes over `bytes` of the buffer from a permit that was forgotten.
    pub(super) fn hold(&mut self, bytes: u32) {
        self.held += bytes as usize;
    }

    pub(super) fn outcome(&self) -> Arc<Outcome> {
        self.outcome.clone()
    }

    pub(super) fn finish(&mut self, result: Result<BatchAck, Error>) {
        self.memory.add_permits(std::mem::take(&mut self.held));
        let mut state = self.outcome.lock();
        if let OutcomeState::Pending(wakers) = &mut *state {
            let wakers = std::mem::take(wakers);
            *state = OutcomeState::Done(result);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.outcome.is_done() {
            self.finish(Err(Error::Closed));
        }
    }
}
