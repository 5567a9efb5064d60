//! Reading by poll: one request, one answer, for those who keep their own position.

use std::sync::Arc;
use std::time::Duration;

use model::{ErrorCode, Offset, Request, TopicName, limits};

use super::batches::Batches;
use crate::admin::{handle_of, has_code};
use crate::client::Client;
use crate::compression::UnpackLimits;
use crate::error::Error;
use crate::record::Record;
use crate::routes::Routes;

/// A fetch about to be sent; made by [`Client::fetch`].
#[must_use = "nothing happens before `send`"]
pub struct Fetch {
    routes: Arc<Routes>,
    topic: String,
    partition: u32,
    offset: Offset,
    min_bytes: u32,
    max_bytes: u32,
    max_wait: Duration,
    limits: UnpackLimits,
}

/// Records from one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub records: Vec<Record>,
    /// The offset to fetch next.
    pub next_offset: Offset,
    /// One past the newest committed offset.
    pub high_watermark: Offset,
    /// The oldest offset kept.
    pub log_start: Offset,
}

impl Client {
    /// Fetches records of one partition from `offset` on.
    ///
    /// ```no_run
    /// # async fn example(client: corelane_client::Client) -> Result<(), corelane_client::Error> {
    /// let mut offset = 0;
    /// loop {
    ///     let fetched = client.fetch("orders", 0, offset).send().await?;
    ///     for record in &fetched.records {
    ///         println!("{}: {:?}", record.offset(), record.value());
    ///     }
    ///     offset = fetched.next_offset;
    /// }
    /// # }
    /// ```
    pub fn fetch(&self, topic: impl Into<String>, partition: u32, offset: Offset) -> Fetch {
        Fetch {
            routes: self.routes.clone(),
            topic: topic.into(),
            partition,
            offset,
            min_bytes: 1,
            max_bytes: 1024 * 1024,
            max_wait: Duration::from_millis(500),
            limits: UnpackLimits::default(),
        }
    }
}

impl Fetch {
    /// The server answers once this much is there, or the wait is over. Default: 1.
    pub fn min_bytes(mut self, bytes: u32) -> Self {
        self.min_bytes = bytes;
        self
    }

    /// The most to answer with; one batch that is larger still comes whole. Default: 1 MiB.
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long the server waits for `min_bytes`, at most a minute. Default: 500 ms.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// What one compressed batch may cost.
    pub fn unpack_limits(mut self, limits: UnpackLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sends it. No records: nothing new came in time.
    ///
    /// A batch that cannot be read ends the records before it; the fetch that begins with it fails,
    /// and the error says where to go on without it ([`Error::after_bad_batch`]).
    pub async fn send(self) -> Result<Fetched, Error> {
        self.limits.check()?;
        let topic = TopicName::parse(&self.topic)?;
        let wait_ms = u32::try_from(self.max_wait.as_millis()).unwrap_or(u32::MAX);
        let max_wait_ms = wait_ms.min(limits::FETCH_WAIT_MS_MAX);
        let deadline = self.routes.deadline() + Duration::from_millis(max_wait_ms.into());
        let mut backoff = self.routes.backoff();
        let mut refreshed = false;
        let (head, batches) = loop {
            let info = self.routes.topic(&topic, deadline).await?;
            let handle = handle_of(&info, self.partition)?;
            let request = Request::Fetch {
                partition: handle,
                offset: self.offset,
                min_bytes: self.min_bytes,
                max_bytes: self.max_bytes,
                max_wait_ms,
            };
            let result = match self.routes.to_shard(handle.shard).await {
                Ok(connection) => connection.fetch(&request, deadline).await,
                Err(error) => Err(error),
            };
            let error = match result {
                Ok(fetched) => break fetched,
                Err(error) => error,
            };
            let wait = backoff.wait();
            if has_code(&error, ErrorCode::UnknownPartition) && !refreshed {
                refreshed = true;
                self.routes.refresh_topic(&topic, deadline).await?;
            } else if error.is_retryable() && tokio::time::Instant::now() + wait < deadline {
                tokio::time::sleep(wait).await;
            } else {
                return Err(error);
            }
        };
        let mut batches =
            Batches::new((topic, self.partition), batches, head.next_offset, self.limits);
        let mut records: Vec<Record> = Vec::new();
        let mut next_offset = head.next_offset;
        while let Some(record) = batches.next(self.offset) {
            match (record, records.last()) {
                (Ok(record), _) => records.push(record),
                (Err(_), Some(last)) => {
                    next_offset = last.offset() + 1;
                    break;
                }
                (Err(error), None) => return Err(error),
            }
        }
        Ok(Fetched {
            records,
            next_offset,
            high_watermark: head.high_watermark,
            log_start: head.log_start,
        })
    }
}
