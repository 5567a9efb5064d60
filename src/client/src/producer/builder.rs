//! Settings of a producer, with their bounds.

use std::sync::Arc;
use std::time::Duration;

use model::{AckLevel, limits};

use super::{Partitioner, Producer};
use crate::compression::Compression;
use crate::error::Error;
use crate::routes::Routes;

/// Batches of one partition that may be unanswered at once.
pub(super) const IN_FLIGHT_MAX: usize = 5;

#[derive(Clone, Debug)]
pub(super) struct ProducerOptions {
    pub(super) linger: Duration,
    pub(super) batch_bytes: u32,
    pub(super) batch_messages: u32,
    pub(super) compression: Compression,
    pub(super) partitioner: Partitioner,
    pub(super) ack: Option<AckLevel>,
    pub(super) idempotent: bool,
    pub(super) in_flight: usize,
    pub(super) buffer_bytes: u32,
    pub(super) delivery_timeout: Duration,
}

/// Settings of a [`Producer`]; made by [`Client::producer`](crate::Client::producer).
#[derive(Clone)]
pub struct ProducerBuilder {
    routes: Arc<Routes>,
    options: ProducerOptions,
}

impl ProducerBuilder {
    pub(crate) fn new(routes: Arc<Routes>) -> Self {
        let options = ProducerOptions {
            linger: Duration::ZERO,
            batch_bytes: 256 * 1024,
            batch_messages: 10_000,
            compression: Compression::None,
            partitioner: Partitioner::KeyHash,
            ack: None,
            idempotent: true,
            in_flight: IN_FLIGHT_MAX,
            buffer_bytes: 32 * 1024 * 1024,
            delivery_timeout: Duration::from_secs(120),
        };
        Self { routes, options }
    }

    /// How long a batch that is not full waits for more messages. While a partition has as many
    /// batches on their way as it may, or two and less than 64 KiB for the next, messages gather anyway. Default: 0.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.linger = linger;
        self
    }

    /// A batch is sent when it has this many bytes, before compression; a larger message makes a
    /// batch of its own. 1 KiB to 8 MiB. Default: 256 KiB.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: u32) -> Self {
        self.options.batch_bytes = bytes;
        self
    }

    /// A batch is sent when it has this many messages. Default: 10,000.
    #[must_use]
    pub fn batch_messages(mut self, messages: u32) -> Self {
        self.options.batch_messages = messages;
        self
    }

    /// Default: none.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.compression = compression;
        self
    }

    /// How messages that name no partition are spread. Default: by key.
    #[must_use]
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.options.partitioner = partitioner;
        self
    }

    /// What must be true of a message before its delivery resolves. Default: the topic's level.
    #[must_use]
    pub fn ack(mut self, level: AckLevel) -> Self {
        self.options.ack = Some(level);
        self
    }

    /// Whether batches are numbered, so that one sent again is not stored again. Without it
    /// nothing whose outcome is unknown is sent again. Default: yes.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.options.idempotent = idempotent;
        self
    }

    /// Batches of one partition that may be unanswered at once, 1 to 5. Default: 5.
    #[must_use]
    pub fn in_flight(mut self, batches: usize) -> Self {
        self.options.in_flight = batches;
        self
    }

    /// Bytes of messages that may be on their way; past that, sending waits. At least
    /// `batch_bytes`. Default: 32 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: u32) -> Self {
        self.options.buffer_bytes = bytes;
        self
    }

    /// How long a message is tried for, retries included. Default: 2 minutes.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.delivery_timeout = timeout;
        self
    }

    /// Fails when a setting is out of its bounds. Must be called inside a tokio runtime.
    pub fn build(self) -> Result<Producer, Error> {
        let bad = |option, problem| Err(Error::InvalidOption { option, problem });
        let options = &self.options;
        if !(1024..=limits::BATCH_BYTES_MAX).contains(&options.batch_bytes) {
            return bad("batch_bytes", "1024 to 8388608 are allowed");
        }
        if options.batch_messages == 0 {
            return bad("batch_messages", "at least 1 is needed");
        }
        if !(1..=IN_FLIGHT_MAX).contains(&options.in_flight) {
            return bad("in_flight", "1 to 5 are allowed");
        }
        if options.buffer_bytes < options.batch_bytes {
            return bad("buffer_bytes", "at least batch_bytes is needed");
        }
        Ok(Producer::new(self.routes, self.options))
    }
}
