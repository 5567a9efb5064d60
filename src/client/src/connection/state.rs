//! What the callers, the reader and the writer of a connection share, behind one short lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use bytes::Bytes;
use model::limits::FRAME_BYTES_MAX;
use model::{AckLevel, Offset, PartitionHandle, Rejection, Reply, Request, StartPosition};
use protocol::{DeliverHead, FetchHead, ProduceAck, ProduceHead, TooLarge};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::outbox::Outbox;
use super::writer::write_ready;
use crate::error::Error;

pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What an acknowledgement says about one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchAck {
    pub(crate) level: AckLevel,
    /// Unknown where no acknowledgement was asked for.
    pub(crate) base_offset: Option<Offset>,
    pub(crate) append_time_ms: Option<i64>,
}

/// A consumer's mark on a subscription: which partition, and which of its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) attempt: u64,
}

/// What a consumer hears about its subscriptions.
#[derive(Debug)]
pub(crate) enum Event {
    Subscribed {
        slot: Slot,
        offset: Offset,
    },
    Delivered {
        slot: Slot,
        head: DeliverHead,
        batches: Bytes,
    },
    /// Refused, or the connection ended.
    Lost {
        slot: Slot,
        error: Error,
    },
}

/// Who waits for a reply.
pub(super) enum Pending {
    Reply(Answer<Reply>),
    Fetch(Answer<(FetchHead, Bytes)>),
    Produce(Answer<BatchAck>),
    Subscribe {
        subscription: u32,
    },
    /// No one, but a reply will come.
    Nobody,
}

impl Pending {
    pub(super) fn fail(self, error: Error) {
        // A receiver that is gone has stopped caring.
        match self {
            Self::Reply(sender) => drop(sender.send(Err(error))),
            Self::Fetch(sender) => drop(sender.send(Err(error))),
            Self::Produce(sender) => drop(sender.send(Err(error))),
            Self::Subscribe { .. } | Self::Nobody => {}
        }
    }
}

struct Subscriber {
    slot: Slot,
    events: mpsc::UnboundedSender<Event>,
    /// Bytes that the server may still send.
    allowance: i64,
    /// Of its request: an error that ends it later carries the same.
    correlation: u64,
    /// The server has answered.
    answered: bool,
    /// No longer wanted: ended as soon as the server has answered.
    abandoned: bool,
}

enum Status {
    Open,
    /// The server said to go away: replies still come, new requests go elsewhere.
    Draining,
    Closed(Error),
}

struct State {
    status: Status,
    next_correlation: u64,
    next_subscription: u32,
    pending: AHashMap<u64, Pending>,
    subscribers: AHashMap<u32, Subscriber>,
    outbox: Outbox,
    /// Someone has taken the outbox and writes it.
    writing: bool,
    /// Where callers write, while the connection is open.
    socket: Option<Arc<OwnedWriteHalf>>,
    reader: Option<AbortHandle>,
}

pub(super) struct Shared {
    address: String,
    state: Mutex<State>,
    /// Something waits to be written, or the connection is closed.
    pub(super) outbox_filled: Notify,
    outbox_drained: Notify,
}

impl Shared {
    pub(super) fn new(address: &str) -> Self {
        let state = State {
            status: Status::Open,
            // The handshake was 1; 0 marks what the server sends unasked.
            next_correlation: 2,
            next_subscription: 1,
            pending: AHashMap::new(),
            subscribers: AHashMap::new(),
            outbox: Outbox::default(),
            writing: false,
            socket: None,
            reader: None,
        };
        Self {
            address: address.to_owned(),
            state: Mutex::new(state),
            outbox_filled: Notify::new(),
            outbox_drained: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn set_socket(&self, reader: AbortHandle, socket: Arc<OwnedWriteHalf>) {
        let mut state = self.lock();
        (state.reader, state.socket) = (Some(reader), Some(socket));
    }

    pub(super) fn is_usable(&self) -> bool {
        matches!(self.lock().status, Status::Open)
    }

    /// Waits until the outbox has room, or the connection is closed.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            // Made before the second look, so that a wake between the two is not missed.
            let drained = self.outbox_drained.notified();
            if !self.has_room() {
                drained.await;
            }
        }
    }

    fn has_room(&self) -> bool {
        let state = self.lock();
        matches!(state.status, Status::Closed(_)) || state.outbox.has_room()
    }

    /// Writes a request into the outbox and remembers who waits for its reply. Returns its
    /// correlation id.
    pub(super) fn submit(
        &self,
        pending: Pending,
        put: impl FnOnce(&mut Vec<u8>, u64) -> Result<(), TooLarge>,
    ) -> Result<u64, Error> {
        let mut state = self.lock();
        state.check_open()?;
        let correlation = state.put(Some(pending), put)?;
        self.send(state);
        Ok(correlation)
    }

    pub(super) fn submit_produce(
        &self,
        head: &ProduceHead,
        batch: &Bytes,
    ) -> Result<oneshot::Receiver<Result<BatchAck, Error>>, Error> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        state.check_open()?;
        let correlation = state.take_correlation();
        let outbox = &mut state.outbox;
        outbox.put(|tail| {
            protocol::put_produce_head(tail, correlation, head, batch.len());
            Ok::<(), Error>(())
        })?;
        outbox.push(batch);
        if head.ack == Some(AckLevel::None) {
            outbox.unacknowledged.push(sender);
        } else {
            state.pending.insert(correlation, Pending::Produce(sender));
        }
        self.send(state);
        Ok(receiver)
    }

    pub(super) fn subscribe(
        &self,
        partition: PartitionHandle,
        position: StartPosition,
        credit_bytes: u64,
        slot: Slot,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<u32, Error> {
        let mut state = self.lock();
        state.check_open()?;
        let subscription = state.next_subscription;
        state.next_subscription = subscription.wrapping_add(1);
        let request = Request::Subscribe { partition, subscription, position, credit_bytes };
        let pending = Pending::Subscribe { subscription };
        let correlation = state.put_request(Some(pending), &request)?;
        let subscriber = Subscriber {
            slot,
            events,
            allowance: i64::try_from(credit_bytes).unwrap_or(i64::MAX),
            correlation,
            answered: false,
            abandoned: false,
        };
        state.subscribers.insert(subscription, subscriber);
        drop(state);
        self.outbox_filled.notify_one();
        Ok(subscription)
    }

    pub(super) fn credit(&self, subscription: u32, bytes: u64) {
        let mut state = self.lock();
        let Some(subscriber) = state.subscribers.get_mut(&subscription) else { return };
        subscriber.allowance =
            subscriber.allowance.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        if state.put_request(None, &Request::Credit { subscription, bytes }).is_ok() {
            drop(state);
            self.outbox_filled.notify_one();
        }
    }

    /// Ends a subscription: at once, or when the server has answered that it began.
    pub(super) fn unsubscribe(&self, subscription: u32) {
        let mut state = self.lock();
        let Some(subscriber) = state.subscribers.get_mut(&subscription) else { return };
        if !subscriber.answered {
            subscriber.abandoned = true;
            return;
        }
        state.end_subscription(subscription);
        drop(state);
        self.outbox_filled.notify_one();
    }

    /// Sends a ping whose answer no one waits for: any frame back shows that the server lives.
    pub(super) fn ping(&self) {
        // A connection that is closed by now has told everyone so already.
        let _ = self.submit(Pending::Nobody, |out, correlation| {
            protocol::put_request(out, correlation, &Request::Ping, 0)
        });
    }

    /// Sees to it that what was put into the outbox is written. A request that is the only one
    /// under way is written here and now: there is nothing to gather it with, and waking the writer
    /// would cost as much as the call to the kernel does.
    fn send(&self, mut state: MutexGuard<'_, State>) {
        let alone = state.pending.len() == 1 && state.outbox.unacknowledged.is_empty();
        let socket = state.socket.clone().filter(|_| alone && !state.writing);
        let Some(socket) = socket else {
            drop(state);
            self.outbox_filled.notify_one();
            return;
        };
        let mut outbox = state.take_outbox();
        drop(state);

        let mut chunks = std::mem::take(&mut outbox.chunks).into();
        // The writer meets the same error with what is left, and closes the connection.
        let _ = write_ready(&socket, &mut chunks);
        let mut state = self.lock();
        if matches!(state.status, Status::Closed(_)) {
            return;
        }
        state.writing = false;
        state.outbox.put_back(chunks);
        let is_empty = state.outbox.is_empty();
        drop(state);
        if is_empty {
            self.outbox_drained.notify_waiters();
        } else {
            self.outbox_filled.notify_one();
        }
    }

    /// What is to be written next, once what was taken before is written; `None` once closed.
    /// Empty also while a caller writes, who says so when there is more.
    pub(super) fn take_outbox(&self) -> Option<Outbox> {
        let mut state = self.lock();
        if matches!(state.status, Status::Closed(_)) {
            return None;
        }
        if state.writing {
            return Some(Outbox::default());
        }
        let outbox = state.take_outbox();
        drop(state);
        if !outbox.is_empty() {
            self.outbox_drained.notify_waiters();
        }
        Some(outbox)
    }

    /// What was taken is written.
    pub(super) fn written(&self) {
        self.lock().writing = false;
    }

    pub(super) fn take_pending(&self, correlation: u64) -> Option<Pending> {
        self.lock().pending.remove(&correlation)
    }

    /// Leaves a server that has asked for it, once all that was asked of it is answered.
    pub(super) fn close_if_drained(&self) {
        let drained = {
            let state = self.lock();
            matches!(state.status, Status::Draining)
                && state.pending.is_empty()
                && state.outbox.is_empty()
        };
        if drained {
            self.close(Error::lost(&self.address, "the server asked to go elsewhere"));
        }
    }

    /// Answers the run of batches that `ack` covers. `false`: it covers what was never sent.
    pub(super) fn acknowledge(&self, first: u64, ack: &ProduceAck) -> bool {
        let mut state = self.lock();
        for index in 0..u64::from(ack.count) {
            let pending = state.pending.remove(&first.wrapping_add(index));
            let Some(Pending::Produce(sender)) = pending else { return false };
            let step = u64::from(ack.offset_step).wrapping_mul(index);
            // A producer that is gone has stopped caring.
            let _ = sender.send(Ok(BatchAck {
                level: ack.level,
                base_offset: Some(ack.base_offset.wrapping_add(step)),
                append_time_ms: Some(ack.append_time_ms),
            }));
        }
        true
    }

    /// Hands a delivery to its consumer; one that has unsubscribed gets nothing. `false`: the
    /// server sent more than its credit and a frame, or nothing, which takes no credit.
    pub(super) fn deliver(&self, head: DeliverHead, batches: Bytes) -> bool {
        if batches.is_empty() {
            return false;
        }
        let mut state = self.lock();
        let Some(subscriber) = state.subscribers.get_mut(&head.subscription) else { return true };
        subscriber.allowance = subscriber.allowance.saturating_sub(batches.len() as i64);
        if subscriber.allowance < -i64::from(FRAME_BYTES_MAX) {
            return false;
        }
        let slot = subscriber.slot;
        // A consumer that is gone unsubscribes by itself.
        let _ = subscriber.events.send(Event::Delivered { slot, head, batches });
        true
    }

    /// Tells a consumer how its subscription went; a refused one is forgotten.
    pub(super) fn subscribed(&self, subscription: u32, result: Result<Offset, Rejection>) {
        let mut state = self.lock();
        let Some(subscriber) = state.subscribers.get_mut(&subscription) else { return };
        subscriber.answered = true;
        let (slot, abandoned) = (subscriber.slot, subscriber.abandoned);
        // A consumer that is gone unsubscribes by itself.
        match result {
            Ok(_) if abandoned => {
                state.end_subscription(subscription);
                drop(state);
                self.outbox_filled.notify_one();
            }
            Ok(offset) => {
                let _ = subscriber.events.send(Event::Subscribed { slot, offset });
            }
            Err(rejection) => {
                let error = Error::Server(rejection);
                let _ = subscriber.events.send(Event::Lost { slot, error });
                state.subscribers.remove(&subscription);
            }
        }
    }

    /// An error that answers no request: it may end the subscription that was asked for under
    /// `correlation`.
    pub(super) fn subscription_failed(&self, correlation: u64, rejection: Rejection) {
        let mut state = self.lock();
        let found = state.subscribers.iter().find(|(_, held)| held.correlation == correlation);
        let Some((&subscription, _)) = found else { return };
        if let Some(Subscriber { slot, events, .. }) = state.subscribers.remove(&subscription) {
            // A consumer that is gone has stopped caring.
            let _ = events.send(Event::Lost { slot, error: Error::Server(rejection) });
        }
    }

    /// The server will close: consumers leave now, requests in flight may still be answered.
    pub(super) fn drain(&self, reason: &str) {
        let mut state = self.lock();
        if matches!(state.status, Status::Open) {
            state.status = Status::Draining;
        }
        let error = Error::lost(&self.address, reason);
        state.fail_subscribers(&error);
    }

    /// Ends the connection. The first reason is the one that counts.
    pub(super) fn close(&self, error: Error) {
        let mut state = self.lock();
        if matches!(state.status, Status::Closed(_)) {
            return;
        }
        state.status = Status::Closed(error.clone());
        (state.outbox, state.socket) = (Outbox::default(), None);
        let pending = std::mem::take(&mut state.pending);
        state.fail_subscribers(&error);
        if let Some(reader) = state.reader.take() {
            reader.abort();
        }
        drop(state);
        for (_, pending) in pending {
            pending.fail(error.clone());
        }
        self.outbox_filled.notify_one();
        self.outbox_drained.notify_waiters();
    }
}

impl State {
    fn check_open(&self) -> Result<(), Error> {
        match &self.status {
            Status::Open | Status::Draining => Ok(()),
            Status::Closed(error) => Err(error.clone()),
        }
    }

    fn take_outbox(&mut self) -> Outbox {
        let outbox = self.outbox.take();
        self.writing = !outbox.is_empty();
        outbox
    }

    fn take_correlation(&mut self) -> u64 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        correlation
    }

    fn put(
        &mut self,
        pending: Option<Pending>,
        put: impl FnOnce(&mut Vec<u8>, u64) -> Result<(), TooLarge>,
    ) -> Result<u64, Error> {
        let correlation = self.take_correlation();
        self.outbox
            .put(|tail| put(tail, correlation))
            .map_err(|error| Error::Server(Rejection::from(error)))?;
        if let Some(pending) = pending {
            self.pending.insert(correlation, pending);
        }
        Ok(correlation)
    }

    fn put_request(&mut self, pending: Option<Pending>, request: &Request) -> Result<u64, Error> {
        self.put(pending, |out, correlation| protocol::put_request(out, correlation, request, 0))
    }

    /// Forgets a subscription and tells the server, whose word on it no one waits for.
    fn end_subscription(&mut self, subscription: u32) {
        self.subscribers.remove(&subscription);
        // Only a frame over its limit fails, and this one is small.
        let _ = self.put_request(Some(Pending::Nobody), &Request::Unsubscribe { subscription });
    }

    fn fail_subscribers(&mut self, error: &Error) {
        for (_, subscriber) in self.subscribers.drain() {
            let slot = subscriber.slot;
            // A consumer that is gone has stopped caring.
            let _ = subscriber.events.send(Event::Lost { slot, error: error.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
