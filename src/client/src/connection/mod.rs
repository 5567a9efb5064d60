//! One TCP connection: the handshake, and then frames out and replies in.
//!
//! Knows correlation ids and subscriptions, not topics: who talks to which server is decided in
//! `routes`. A connection that fails stays failed; all that waited on it is told.

mod inbox;
mod outbox;
mod reader;
mod state;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{PartitionHandle, Rejection, Reply, Request, StartPosition};
use protocol::{FetchHead, Hello, HelloReply, PROTOCOL_VERSION, ProduceHead, kind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use self::inbox::Inbox;
pub(crate) use self::state::{BatchAck, Event, Slot};
use self::state::{Pending, Shared};
use crate::error::Error;

/// How long a request may wait over its own deadline for the server's word on it.
pub(crate) const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// A handshaken connection. Clones are the same connection; it closes when the last is dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    guard: Arc<Guard>,
}

struct Guard {
    shared: Arc<Shared>,
    hello: HelloReply,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.close(Error::Closed);
    }
}

impl Connection {
    /// Connects and shakes hands, all within `within`.
    pub(crate) async fn open(
        address: &str,
        client_name: &str,
        features: u64,
        within: Duration,
    ) -> Result<Self, Error> {
        match timeout(within, Self::handshake(address, client_name, features)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { what: "connecting", after: within }),
        }
    }

    async fn handshake(address: &str, client_name: &str, features: u64) -> Result<Self, Error> {
        let connect =
            |source| Error::Connect { address: address.to_owned(), source: Arc::new(source) };
        let mut stream = TcpStream::connect(address).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;

        let hello = Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            client_name: client_name.to_owned(),
            features,
            ..Hello::default()
        };
        let mut out = Vec::new();
        protocol::put_hello(&mut out, 1, &hello).map_err(|_| Error::InvalidOption {
            option: "client_name",
            problem: "at most 65,535 bytes fit",
        })?;
        stream.write_all(&out).await.map_err(connect)?;

        let bad = |source| Error::Protocol { address: address.to_owned(), source };
        let mut inbox = Inbox::new();
        let (header, body) = loop {
            if let Some(frame) = inbox.take().map_err(bad)? {
                break frame;
            }
            if inbox.receive(&mut stream).await.map_err(connect)? == 0 {
                return Err(Error::lost(address, "the server closed it during the handshake"));
            }
        };
        if header.kind == kind::GO_AWAY {
            // It stops, or sends its clients away, and was so before it read the hello.
            let away = protocol::parse_go_away(&body).map_err(|error| bad(error.into()))?;
            return Err(Error::Server(Rejection::new(away.reason, away.message)));
        }
        if header.kind != kind::HELLO_REPLY {
            return Err(match protocol::decode_reply(&header, &body).map_err(bad)? {
                Reply::Rejected(rejection) => Error::Server(rejection),
                _ => bad(protocol::FrameError::Kind { kind: header.kind }),
            });
        }
        let hello = protocol::parse_hello_reply(&body).map_err(|error| bad(error.into()))?;

        let (read_half, write_half) = stream.into_split();
        let shared = Arc::new(Shared::new(address));
        let reader = tokio::spawn(reader::run(shared.clone(), read_half, inbox));
        let write_half = Arc::new(write_half);
        shared.set_socket(reader.abort_handle(), write_half.clone());
        tokio::spawn(writer::run(shared.clone(), write_half));
        Ok(Self { guard: Arc::new(Guard { shared, hello }) })
    }

    /// What the server said of itself.
    pub(crate) fn hello(&self) -> &HelloReply {
        &self.guard.hello
    }

    pub(crate) fn address(&self) -> &str {
        self.guard.shared.address()
    }

    /// Whether new requests should go here: not closed, and not told to go away.
    pub(crate) fn is_usable(&self) -> bool {
        self.guard.shared.is_usable()
    }

    /// Ends the connection because of `error`; everything that waits on it gets that error.
    pub(crate) fn close(&self, error: Error) {
        self.guard.shared.close(error);
    }

    /// Sends a request and waits for its reply, no longer than `deadline`. A refusal is an error.
    pub(crate) async fn call(&self, request: &Request, deadline: Instant) -> Result<Reply, Error> {
        let shared = &self.guard.shared;
        let (sender, receiver) = oneshot::channel();
        let started = Instant::now();
        let deadline_ms = millis_until(deadline);
        shared.room().await;
        let correlation = shared.submit(Pending::Reply(sender), |out, correlation| {
            protocol::put_request(out, correlation, request, deadline_ms)
        })?;
        match self.wait(correlation, receiver, started, deadline).await? {
            Reply::Rejected(rejection) => Err(Error::Server(rejection)),
            reply => Ok(reply),
        }
    }

    /// As [`Self::call`] for a fetch: the head of the reply and its batches.
    pub(crate) async fn fetch(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<(FetchHead, Bytes), Error> {
        let shared = &self.guard.shared;
        let (sender, receiver) = oneshot::channel();
        let started = Instant::now();
        let deadline_ms = millis_until(deadline);
        shared.room().await;
        let correlation = shared.submit(Pending::Fetch(sender), |out, correlation| {
            protocol::put_request(out, correlation, request, deadline_ms)
        })?;
        self.wait(correlation, receiver, started, deadline).await
    }

    async fn wait<T>(
        &self,
        correlation: u64,
        receiver: oneshot::Receiver<Result<T, Error>>,
        started: Instant,
        deadline: Instant,
    ) -> Result<T, Error> {
        match timeout_at(deadline + DEADLINE_GRACE, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::lost(self.address(), "it was closed")),
            Err(_) => {
                self.guard.shared.take_pending(correlation);
                Err(Error::Timeout { what: "the request", after: started.elapsed() })
            }
        }
    }

    /// Sends one batch. What comes of it arrives in the receiver, in the order of the batches of a
    /// partition; for `AckLevel::None` that is when the batch was handed to the kernel.
    ///
    /// An error here means that nothing was sent.
    pub(crate) async fn produce(
        &self,
        head: &ProduceHead,
        batch: &Bytes,
    ) -> Result<oneshot::Receiver<Result<BatchAck, Error>>, Error> {
        self.guard.shared.room().await;
        self.guard.shared.submit_produce(head, batch)
    }

    /// Subscribes; everything about it goes to `events`, in order, marked with `slot`. Returns the
    /// subscription's number. Bounded by the credit given: the server sends no more than that.
    pub(crate) fn subscribe(
        &self,
        partition: PartitionHandle,
        position: StartPosition,
        credit_bytes: u64,
        slot: Slot,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<u32, Error> {
        self.guard.shared.subscribe(partition, position, credit_bytes, slot, events)
    }

    /// Gives a subscription more credit. A connection that is gone does not care.
    pub(crate) fn credit(&self, subscription: u32, bytes: u64) {
        self.guard.shared.credit(subscription, bytes);
    }

    /// Ends a subscription without waiting for the server's word.
    pub(crate) fn unsubscribe(&self, subscription: u32) {
        self.guard.shared.unsubscribe(subscription);
    }
}

/// The wire's deadline: at least 1, since 0 would mean "none".
pub(crate) fn millis_until(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    u32::try_from(left).unwrap_or(u32::MAX).max(1)
}
