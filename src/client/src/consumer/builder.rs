//! Settings of a consumer, with their bounds.

use std::sync::Arc;
use std::time::Duration;

use model::{ConsumerName, StartPosition, TopicName, limits};

use super::Consumer;
use crate::compression::UnpackLimits;
use crate::error::Error;
use crate::routes::Routes;

/// What to do when the offset wanted is not there any more, or not yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// The stream ends with the error.
    #[default]
    Error,
    /// Go on from the oldest message kept, and say so in the log.
    First,
    /// Go on from what comes next, and say so in the log.
    Next,
}

#[derive(Clone, Debug)]
pub(super) struct ConsumerOptions {
    pub(super) start: Option<StartPosition>,
    pub(super) name: Option<ConsumerName>,
    pub(super) reset: OffsetReset,
    pub(super) credit_bytes: u64,
    pub(super) limits: UnpackLimits,
    pub(super) reconnect_timeout: Option<Duration>,
    pub(super) until_end: bool,
}

/// Settings of a [`Consumer`]; made by [`Client::consumer`](crate::Client::consumer).
#[must_use = "nothing happens before `build`"]
pub struct ConsumerBuilder {
    routes: Arc<Routes>,
    topic: String,
    name: Option<String>,
    partitions: Option<Vec<u32>>,
    options: ConsumerOptions,
}

impl ConsumerBuilder {
    pub(crate) fn new(routes: Arc<Routes>, topic: String) -> Self {
        let options = ConsumerOptions {
            start: None,
            name: None,
            reset: OffsetReset::Error,
            credit_bytes: 4 * 1024 * 1024,
            limits: UnpackLimits::default(),
            reconnect_timeout: Some(Duration::from_secs(120)),
            until_end: false,
        };
        Self { routes, topic, name: None, partitions: None, options }
    }

    /// Only this partition; may be called for several. Default: all.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partitions.get_or_insert_default().push(partition);
        self
    }

    /// Where to start in each partition. Default: after what the named consumer has committed, or
    /// `Next` without a name.
    pub fn start(mut self, position: StartPosition) -> Self {
        self.options.start = Some(position);
        self
    }

    /// The name that offsets are committed under.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What to do when the offset wanted is not there. Default: an error.
    pub fn reset(mut self, reset: OffsetReset) -> Self {
        self.options.reset = reset;
        self
    }

    /// Bytes that the server may send ahead for each partition; a batch that is larger still
    /// comes whole. 64 KiB to 256 MiB. Default: 4 MiB.
    pub fn credit_bytes(mut self, bytes: u64) -> Self {
        self.options.credit_bytes = bytes;
        self
    }

    /// The most that one compressed batch may unpack to. Default: 64 MiB.
    pub fn unpacked_bytes_max(mut self, bytes: usize) -> Self {
        self.options.limits.unpacked_bytes_max = bytes;
        self
    }

    /// The largest window that a Zstandard batch may ask for: a power of two from 8 MiB to 1 GiB.
    /// See [`UnpackLimits`]. Default: 128 MiB.
    pub fn window_bytes_max(mut self, bytes: usize) -> Self {
        self.options.limits.window_bytes_max = bytes;
        self
    }

    /// How long to try to reach a lost server again before the stream ends with the error;
    /// `None`: for ever. Default: 2 minutes.
    pub fn reconnect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.reconnect_timeout = timeout;
        self
    }

    /// End the stream at what was the end of each partition when the consumer was built. Default:
    /// wait for more.
    pub fn until_end(mut self, until_end: bool) -> Self {
        self.options.until_end = until_end;
        self
    }

    /// Looks the topic up and subscribes.
    pub async fn build(mut self) -> Result<Consumer, Error> {
        let bad = |option, problem| Err(Error::InvalidOption { option, problem });
        if !(64 * 1024..=limits::CREDIT_BYTES_MAX).contains(&self.options.credit_bytes) {
            return bad("credit_bytes", "65536 to 268435456 are allowed");
        }
        self.options.limits.check()?;
        let topic = TopicName::parse(&self.topic)?;
        self.options.name = self.name.as_deref().map(ConsumerName::parse).transpose()?;
        Consumer::open(self.routes, topic, self.partitions, self.options).await
    }
}
