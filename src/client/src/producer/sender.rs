//! The task that sends one partition's batches, in order, and sends again what may be lost.
//!
//! Rules that keep a message from being stored twice or out of order:
//! - A batch gets its identity and sequence number when it is first sent and keeps its bytes.
//! - After a failure nothing new is sent until every batch on its way has been answered; then what
//!   is left goes again, in order.
//! - Numbers are given anew (under a new identity) only to batches that are known not to be stored.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{AckLevel, ErrorCode, PartitionHandle, Reply, Request};
use protocol::{ProduceHead, Producer as BatchProducer};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::delivery::Ticket;
use super::lane::{Lane, Next, OpenBatch};
use super::{Shared, Topic};
use crate::admin::handle_of;
use crate::backoff::Backoff;
use crate::connection::{BatchAck, Connection, DEADLINE_GRACE, millis_until};
use crate::error::Error;
use crate::routes::unexpected;

/// New identities in a row without a batch getting through, after which a batch has failed.
const IDENTITIES_MAX: u32 = 3;

/// What a producer calls itself in its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    id: i64,
    epoch: i16,
}

/// Ends when the lane is closed and empty.
pub(super) fn spawn(shared: Arc<Shared>, topic: Arc<Topic>, lane: Arc<Lane>) {
    let backoff = shared.routes.backoff();
    let sender = Sender {
        shared,
        topic,
        lane,
        numbering: Numbering { identity: None, next_sequence: 0, own: false },
        link: None,
        refresh: false,
        in_flight: VecDeque::new(),
        again: VecDeque::new(),
        patience: Box::pin(sleep(Duration::ZERO)),
        backoff,
        identities_in_a_row: 0,
    };
    tokio::spawn(sender.run());
}

struct Sender {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    lane: Arc<Lane>,
    numbering: Numbering,
    link: Option<Link>,
    /// What is known of the topic is out of date.
    refresh: bool,
    /// Sent and not answered, oldest first.
    in_flight: VecDeque<InFlight>,
    /// To be sent again before anything new, oldest first. Filled only while nothing is in flight.
    again: VecDeque<Batch>,
    /// Ends when an answer may be overdue, or before.
    patience: Pin<Box<Sleep>>,
    backoff: Backoff,
    identities_in_a_row: u32,
}

struct Numbering {
    identity: Option<Identity>,
    next_sequence: i32,
    /// The producer's common identity did not work out here: ask for one of our own.
    own: bool,
}

/// Where this partition's batches go.
struct Link {
    connection: Connection,
    handle: PartitionHandle,
    ack: AckLevel,
}

/// A batch that will not grow any more.
struct Batch {
    bytes: Bytes,
    count: u32,
    ticket: Ticket,
    deadline: Instant,
    /// It has its identity and sequence number.
    numbered: bool,
    /// It has its checksum.
    checksummed: bool,
    /// A try went unanswered: it may be stored.
    ambiguous: bool,
}

impl Batch {
    /// Also takes its checksum.
    fn set_producer(&mut self, producer: BatchProducer) {
        let mut bytes = std::mem::take(&mut self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        protocol::records::set_producer(&mut bytes, producer);
        self.bytes = bytes.freeze();
        self.checksummed = true;
    }
}

struct InFlight {
    batch: Batch,
    answer: oneshot::Receiver<Result<BatchAck, Error>>,
    answer_by: Instant,
    connection: Connection,
}

/// What a failure means for its batch.
enum Verdict {
    /// It is stored, the server no longer knows where.
    Stored,
    /// Send the same bytes again.
    Again,
    /// It is not stored, and its number will not do: number it anew.
    Renumber,
    /// The same, and the handle is out of date.
    Refresh,
    Fail,
}

impl Sender {
    async fn run(mut self) {
        loop {
            let linger_until = match self.send_what_is_ready().await {
                Ready::End if self.in_flight.is_empty() => return,
                Ready::LingerUntil(due) => Some(due),
                _ => None,
            };
            if self.in_flight.is_empty() && !self.again.is_empty() {
                continue;
            }
            let has_room = self.in_flight.len() < self.shared.options.in_flight;
            let lane = self.lane.clone();
            tokio::select! {
                result = answer(&mut self.in_flight, self.patience.as_mut()) => self.answered(result).await,
                () = lane.wake.notified(), if has_room => {}
                () = linger(linger_until), if has_room && linger_until.is_some() => {}
            }
        }
    }

    /// Sends until there is nothing to send or enough is on its way.
    async fn send_what_is_ready(&mut self) -> Ready {
        while self.in_flight.len() < self.shared.options.in_flight {
            // A connection that drains or is gone is left once everything on it is answered.
            let gone = self.link.as_ref().is_some_and(|link| !link.connection.is_usable());
            if gone && !self.in_flight.is_empty() {
                return Ready::Nothing;
            }
            let batch = match self.again.pop_front() {
                Some(batch) => batch,
                None => match self.lane.next(&self.shared.options, self.in_flight.len()) {
                    Next::Batch(open) => match self.seal(open) {
                        Some(batch) => batch,
                        None => continue,
                    },
                    Next::LingerUntil(due) => return Ready::LingerUntil(due),
                    Next::Nothing => return Ready::Nothing,
                    Next::End => return Ready::End,
                },
            };
            if let Err(unsent) = self.send(batch).await {
                self.recover(None, Some(unsent)).await;
                return Ready::Nothing;
            }
        }
        Ready::Nothing
    }

    /// Makes the batch's bytes, compressed, with no number yet.
    fn seal(&self, open: OpenBatch) -> Option<Batch> {
        let OpenBatch { builder, mut ticket, opened_at } = open;
        let options = &self.shared.options;
        let partitions = self.topic.partitions.load(std::sync::atomic::Ordering::Relaxed);
        self.topic.spread.batch_sealed(options.partitioner, self.lane.partition, partitions);
        let count = builder.count();
        // A number would change it.
        let builder = if options.idempotent { builder.checksum_later() } else { builder };
        let bytes = match options.compression.compress(builder.records()) {
            Ok(Some(section)) => {
                builder.finish_compressed(None, options.compression.codec(), &section)
            }
            Ok(None) => builder.finish(None),
            Err(source) => {
                let partition = self.lane.partition;
                ticket.finish(Err(Error::NotCompressed { partition, source }));
                return None;
            }
        };
        Some(Batch {
            bytes: bytes.into(),
            count,
            ticket,
            deadline: opened_at + options.delivery_timeout,
            numbered: false,
            checksummed: !options.idempotent,
            ambiguous: false,
        })
    }

    /// Sends one batch. On an error it was not sent.
    async fn send(&mut self, mut batch: Batch) -> Result<(), (Batch, Error)> {
        let sent = match self.prepare(&mut batch).await {
            Ok(()) => self.transmit(&batch).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok((answer, answer_by, connection)) => {
                self.in_flight.push_back(InFlight { batch, answer, answer_by, connection });
                Ok(())
            }
            Err(error) => Err((batch, error)),
        }
    }

    /// Sees to it that there is a connection, and that the batch is numbered and whole.
    async fn prepare(&mut self, batch: &mut Batch) -> Result<(), Error> {
        if self.link.as_ref().is_none_or(|link| !link.connection.is_usable()) {
            self.link = Some(self.connect(batch.deadline).await?);
        }
        let acked = self.link.as_ref().is_some_and(|link| link.ack != AckLevel::None);
        if batch.numbered {
            return Ok(());
        }
        if !acked || !self.shared.options.idempotent {
            if !batch.checksummed {
                batch.set_producer(BatchProducer::NONE);
            }
            return Ok(());
        }
        let identity = match self.numbering.identity {
            Some(identity) => identity,
            None => self.identify(batch.deadline).await?,
        };
        let Identity { id, epoch } = identity;
        let sequence = self.numbering.next_sequence;
        batch.set_producer(BatchProducer { id, epoch, sequence });
        batch.numbered = true;
        self.numbering.next_sequence = sequence_after(sequence, batch.count);
        Ok(())
    }

    async fn connect(&mut self, deadline: Instant) -> Result<Link, Error> {
        let (routes, name) = (&self.shared.routes, &self.topic.name);
        let info = if self.refresh {
            routes.refresh_topic(name, deadline).await?
        } else {
            routes.topic(name, deadline).await?
        };
        self.refresh = false;
        let handle = handle_of(&info, self.lane.partition)?;
        let connection = routes.to_shard(handle.shard).await?;
        let ack = self.shared.options.ack.unwrap_or(info.config.ack);
        Ok(Link { connection, handle, ack })
    }

    async fn identify(&mut self, deadline: Instant) -> Result<Identity, Error> {
        let ask = async || {
            let routes = &self.shared.routes;
            match routes.call(None, &Request::InitProducer, deadline).await?.0 {
                Reply::Producer { id, epoch } => Ok(Identity { id, epoch }),
                reply => Err(unexpected(&reply)),
            }
        };
        let identity = if self.numbering.own {
            ask().await?
        } else {
            *self.shared.identity.get_or_try_init(ask).await?
        };
        self.numbering.identity = Some(identity);
        Ok(identity)
    }

    async fn transmit(
        &self,
        batch: &Batch,
    ) -> Result<(oneshot::Receiver<Result<BatchAck, Error>>, Instant, Connection), Error> {
        let Some(Link { connection, handle, ack }) = &self.link else {
            return Err(Error::Closed);
        };
        let deadline = self.shared.routes.deadline().min(batch.deadline);
        let head = ProduceHead {
            handle: *handle,
            ack: Some(*ack),
            deadline_ms: millis_until(deadline),
            batch_count: 1,
        };
        let answer = connection.produce(&head, &batch.bytes).await?;
        Ok((answer, deadline + DEADLINE_GRACE, connection.clone()))
    }

    /// The oldest batch on its way has been answered.
    async fn answered(&mut self, result: Result<BatchAck, Error>) {
        let Some(InFlight { batch, .. }) = self.in_flight.pop_front() else { return };
        match result {
            Ok(ack) => self.done(batch, ack),
            Err(error) => self.recover(Some((batch, error)), None).await,
        }
    }

    fn done(&mut self, mut batch: Batch, ack: BatchAck) {
        batch.ticket.finish(Ok(ack));
        self.shared.spare.give(batch.bytes);
        self.lane.forget_finished();
        self.backoff.reset();
        self.identities_in_a_row = 0;
    }

    /// Sending has failed: waits for the answers to all that is on its way, then decides for each
    /// batch, in order, what to do. `oldest` was sent before all on their way, `unsent` is not sent
    /// and comes after them.
    async fn recover(&mut self, oldest: Option<(Batch, Error)>, unsent: Option<(Batch, Error)>) {
        let mut failed: VecDeque<(Batch, Error)> = oldest.into_iter().collect();
        while !self.in_flight.is_empty() {
            let result = answer(&mut self.in_flight, self.patience.as_mut()).await;
            let Some(InFlight { batch, .. }) = self.in_flight.pop_front() else { break };
            match result {
                Ok(ack) => self.done(batch, ack),
                Err(error) => failed.push_back((batch, error)),
            }
        }
        for (batch, error) in &mut failed {
            batch.ambiguous |= error.is_ambiguous();
        }
        failed.extend(unsent);

        let wait = self.backoff.wait();
        self.again = self.sort_out(failed, wait);
        self.lane.forget_finished();
        if !self.again.is_empty() {
            tracing::debug!(
                topic = %self.topic.name,
                partition = self.lane.partition,
                batches = self.again.len(),
                "sending again in {wait:?}"
            );
            sleep(wait).await;
        }
    }

    /// Finishes what is stored or has failed for good, and returns what is to be sent again: of
    /// `failed`, and after that what waited to be sent again already.
    fn sort_out(&mut self, failed: VecDeque<(Batch, Error)>, wait: Duration) -> VecDeque<Batch> {
        let mut renumber = false;
        let mut kept: VecDeque<(Batch, Error)> = VecDeque::new();
        // A numbered batch is known not to be stored: then nothing numbered after it is, since the
        // server leaves no gaps.
        let mut gap = false;
        let mut last_error = Error::Closed;
        for (mut batch, error) in failed {
            last_error = error.clone();
            let verdict = self.judge(&batch, &error, wait, kept.is_empty() && !renumber);
            match verdict {
                Verdict::Stored => {
                    let level = self.link.as_ref().map_or(AckLevel::Memory, |link| link.ack);
                    self.done(batch, BatchAck { level, base_offset: None, append_time_ms: None });
                }
                Verdict::Again => kept.push_back((batch, error)),
                Verdict::Renumber | Verdict::Refresh => {
                    if matches!(verdict, Verdict::Refresh) {
                        (self.link, self.refresh) = (None, true);
                    }
                    batch.ambiguous = false;
                    renumber = true;
                    kept.push_back((batch, error));
                }
                Verdict::Fail => {
                    renumber |= batch.numbered;
                    gap |= batch.numbered && !batch.ambiguous;
                    fail(batch, error);
                }
            }
        }
        let waiting = std::mem::take(&mut self.again);
        kept.extend(waiting.into_iter().map(|batch| (batch, last_error.clone())));
        if renumber {
            self.renumber(kept, gap)
        } else {
            kept.into_iter().map(|(batch, _)| batch).collect()
        }
    }

    /// `is_first`: no batch before this one is to be sent again.
    fn judge(&self, batch: &Batch, error: &Error, wait: Duration, is_first: bool) -> Verdict {
        if Instant::now() + wait >= batch.deadline {
            return Verdict::Fail;
        }
        let may_identify = batch.numbered && self.identities_in_a_row < IDENTITIES_MAX;
        match error.code() {
            Some(ErrorCode::DuplicateSequence) => Verdict::Stored,
            // A gap: the batch before it did not get through, and will go again before this one.
            // Where that was the producer's first, the server knows nothing of the producer yet.
            Some(ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer) if !is_first => {
                Verdict::Again
            }
            // The server lacks what came before and was acknowledged from memory, or has failed.
            // This batch is not stored: its number is past all that the server has.
            Some(ErrorCode::OutOfOrderSequence) if may_identify => Verdict::Renumber,
            // Forgotten or replaced, and with it whether an unanswered try was stored.
            Some(ErrorCode::UnknownProducer | ErrorCode::ProducerFenced)
                if may_identify && !batch.ambiguous =>
            {
                Verdict::Renumber
            }
            // Nothing was stored under a handle that does not exist.
            Some(ErrorCode::UnknownPartition)
                if !batch.ambiguous && self.identities_in_a_row < IDENTITIES_MAX =>
            {
                Verdict::Refresh
            }
            _ if !error.is_retryable() => Verdict::Fail,
            // Without a number the server cannot tell a repeat.
            _ if batch.ambiguous && !batch.numbered => Verdict::Fail,
            _ => Verdict::Again,
        }
    }

    /// Gives up the identity. Batches that may be stored under it cannot be sent under another:
    /// they fail, unless a batch before them is known not to be stored (`gap`).
    fn renumber(&mut self, batches: VecDeque<(Batch, Error)>, mut gap: bool) -> VecDeque<Batch> {
        self.numbering = Numbering { identity: None, next_sequence: 0, own: true };
        self.identities_in_a_row += 1;
        let mut kept = VecDeque::new();
        for (mut batch, error) in batches {
            gap |= batch.numbered && !batch.ambiguous;
            if batch.ambiguous && !gap {
                fail(batch, error);
                continue;
            }
            batch.ambiguous = false;
            batch.numbered = false;
            kept.push_back(batch);
        }
        kept
    }
}

/// How a round of sending ended.
enum Ready {
    LingerUntil(Instant),
    Nothing,
    End,
}

/// The answer to the oldest batch on its way; never comes when there is none. A server that does
/// not answer in time loses the connection: an answer after that would be taken for another's.
async fn answer(
    in_flight: &mut VecDeque<InFlight>,
    mut patience: Pin<&mut Sleep>,
) -> Result<BatchAck, Error> {
    let Some(InFlight { answer, answer_by, connection, .. }) = in_flight.front_mut() else {
        return std::future::pending().await;
    };
    // Most answers come long before: a timer that ends too early is cheaper than one for each.
    if patience.deadline() > *answer_by {
        patience.as_mut().reset(*answer_by);
    }
    loop {
        tokio::select! {
            biased;
            answered = &mut *answer => return match answered {
                Ok(result) => result,
                Err(_) => Err(Error::lost(connection.address(), "it was closed")),
            },
            () = patience.as_mut() => {}
        }
        if Instant::now() >= *answer_by {
            let error = Error::lost(connection.address(), "a batch was not answered in time");
            connection.close(error.clone());
            return Err(error);
        }
        patience.as_mut().reset(*answer_by);
    }
}

async fn linger(until: Option<Instant>) {
    match until {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Tells what became of a batch that is given up.
fn fail(mut batch: Batch, error: Error) {
    let error =
        if batch.ambiguous { Error::OutcomeUnknown { source: error.into() } } else { error };
    batch.ticket.finish(Err(error));
}

/// Sequence numbers go from 0 to 2^31 - 1 and then from 0 again.
fn sequence_after(sequence: i32, count: u32) -> i32 {
    let next = sequence.cast_unsigned().wrapping_add(count) & i32::MAX.cast_unsigned();
    next.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 10), 10);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 4), 2);
    }
}
