//! The consumer: a stream of records from one or all partitions of a topic, pushed by the server
//! while there is credit.
//!
//! `batches` opens what arrives, `subscription` keeps one partition subscribed. What the server
//! may send ahead is bounded by the credit, so the queue between connection and consumer is, too.

pub(crate) mod batches;
mod builder;
mod fetch;
mod subscription;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use model::{AckLevel, ErrorCode, Offset, StartPosition, TopicName};
use protocol::DeliverHead;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::batches::Batches;
use self::builder::ConsumerOptions;
pub use self::builder::{ConsumerBuilder, OffsetReset};
pub use self::fetch::{Fetch, Fetched};
use self::subscription::{Partition, Senders, Subscribing};
use crate::admin::{handle_of, has_code};
use crate::connection::{Event, Slot};
use crate::error::Error;
use crate::record::Record;
use crate::routes::Routes;

/// Records of a topic: in order for each partition, in any order across them.
///
/// It goes on by itself after a lost connection, from the record after the last one given out. An
/// error ends it; where that was about one batch, [`Consumer::skip_bad_batch`] lets it go on after
/// that one.
///
/// ```no_run
/// # async fn example() -> Result<(), corelane_client::Error> {
/// use corelane_client::{Client, StartPosition};
///
/// let client = Client::connect("127.0.0.1:7300").await?;
/// let mut consumer = client.consumer("orders").name("billing").build().await?;
/// while let Some(record) = consumer.next().await {
///     let record = record?;
///     println!("{}: {:?}", record.offset(), record.value());
///     consumer.commit().await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    routes: Arc<Routes>,
    topic: TopicName,
    options: Arc<ConsumerOptions>,
    partitions: Vec<Partition>,
    /// What connections say of the subscriptions.
    events: mpsc::UnboundedReceiver<Event>,
    /// What the tasks that subscribe have sent.
    links: mpsc::UnboundedReceiver<Subscribing>,
    /// The other ends, for those tasks.
    senders: Senders,
    current: Option<Delivered>,
    /// An error was given out, or the end was reached.
    finished: bool,
    /// What the last result was an error about, by the number among `partitions`, and the offset
    /// after it.
    bad: Option<(usize, Offset)>,
}

/// Messages that a consumer was told to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub partition: u32,
    /// The first offset left out...
    pub from: Offset,
    /// ...and the one that is given out next, if it is there.
    pub to: Offset,
}

/// A delivery being read.
struct Delivered {
    slot: Slot,
    bytes: u64,
    next_offset: Offset,
    batches: Batches,
}

impl Consumer {
    async fn open(
        routes: Arc<Routes>,
        topic: TopicName,
        partitions: Option<Vec<u32>>,
        options: ConsumerOptions,
    ) -> Result<Self, Error> {
        let deadline = routes.deadline();
        let info = routes.topic(&topic, deadline).await?;
        let mut indexes = match partitions {
            Some(indexes) => indexes,
            None => (0..info.partitions.len() as u32).collect(),
        };
        indexes.sort_unstable();
        indexes.dedup();
        let (event_sender, events) = mpsc::unbounded_channel();
        let (link_sender, links) = mpsc::unbounded_channel();
        let start = match (&options.start, &options.name) {
            (Some(start), _) => start.clone(),
            (None, Some(name)) => StartPosition::Committed(name.clone()),
            (None, None) => StartPosition::Next,
        };
        let mut partitions = Vec::with_capacity(indexes.len());
        for index in indexes {
            handle_of(&info, index)?;
            let end = match options.until_end {
                true => {
                    Some(routes.lookup_offset(&topic, index, StartPosition::Next, deadline).await?)
                }
                false => None,
            };
            partitions.push(Partition::new(index, start.clone(), end, routes.backoff()));
        }
        let mut consumer = Self {
            routes,
            topic,
            options: Arc::new(options),
            partitions,
            events,
            links,
            senders: Senders { events: event_sender, links: link_sender },
            current: None,
            finished: false,
            bad: None,
        };
        for index in 0..consumer.partitions.len() {
            consumer.subscribe(index, false);
        }
        Ok(consumer)
    }

    fn subscribe(&mut self, index: usize, refresh: bool) {
        let (routes, options) = (self.routes.clone(), self.options.clone());
        let (topic, senders) = (self.topic.clone(), self.senders.clone());
        self.partitions[index].subscribe(index, routes, topic, options, senders, refresh);
    }

    /// The next record; `None` after an error, and at the end where one was asked for.
    pub async fn next(&mut self) -> Option<Result<Record, Error>> {
        std::future::poll_fn(|context| self.poll_record(context)).await
    }

    /// After an error about one batch ([`Error::after_bad_batch`]), which ended the stream: lets it
    /// go on behind that batch, and says which offsets this consumer does not see. They are not
    /// given out again, and the next commit is behind them. `None`: the last result was no such
    /// error, and nothing changes.
    ///
    /// To read the batch instead, build a consumer with larger limits at the offset it was at.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: corelane_client::Consumer) -> Result<(), corelane_client::Error> {
    /// while let Some(record) = consumer.next().await {
    ///     match record {
    ///         Ok(record) => println!("{}", record.offset()),
    ///         Err(error) => match consumer.skip_bad_batch() {
    ///             Some(skipped) => eprintln!("{error}: {} to {} skipped", skipped.from, skipped.to),
    ///             None => return Err(error),
    ///         },
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn skip_bad_batch(&mut self) -> Option<Skipped> {
        let (index, after) = self.bad.take()?;
        let partition = &mut self.partitions[index];
        let from = partition.position.unwrap_or(0);
        let to = from.max(after);
        partition.position = Some(to);
        self.finished = false;
        Some(Skipped { partition: partition.index, from, to })
    }

    /// The offset of the next record to come from each partition: what a commit would commit.
    /// Partitions whose subscription was not answered yet are missing.
    pub fn positions(&self) -> Vec<(u32, Offset)> {
        let known = self.partitions.iter();
        known.filter_map(|partition| Some((partition.index, partition.position?))).collect()
    }

    /// Commits, under the consumer's name, what was given out so far: a consumer of the same name
    /// goes on after it. Durable when this returns.
    ///
    /// Fails with [`Error::NoConsumerName`] when the consumer has none.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let name = self.options.name.as_ref().ok_or(Error::NoConsumerName)?;
        for partition in &mut self.partitions {
            let Some(position) = partition.position else { continue };
            if partition.committed == Some(position) {
                continue;
            }
            let (index, ack) = (partition.index, AckLevel::Durable);
            self.routes.commit_offset(&self.topic, index, name, position, ack).await?;
            partition.committed = Some(position);
        }
        Ok(())
    }

    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Record, Error>>> {
        loop {
            if self.finished {
                return Poll::Ready(None);
            }
            if let Some(result) = self.next_here() {
                self.finished |= result.is_err();
                return Poll::Ready(Some(result));
            }
            if self.partitions.iter().all(Partition::is_at_end) {
                self.finished = true;
                continue;
            }
            while let Poll::Ready(Some(subscribing)) = self.links.poll_recv(context) {
                let credit_bytes = self.options.credit_bytes;
                self.partitions[subscribing.slot.index].sent(subscribing, credit_bytes);
            }
            // The consumer holds a sender itself, so the channel does not end.
            let Some(event) = ready!(self.events.poll_recv(context)) else {
                return Poll::Ready(None);
            };
            if let Err(error) = self.hear(event) {
                self.finished = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// The next record of the delivery at hand; when it is used up, its credit goes back.
    fn next_here(&mut self) -> Option<Result<Record, Error>> {
        let delivered = self.current.as_mut()?;
        let partition = &mut self.partitions[delivered.slot.index];
        let position = partition.position.unwrap_or(0);
        let at_end = partition.is_at_end();
        match delivered.batches.next(position).filter(|_| !at_end) {
            Some(Ok(record)) => {
                partition.position = Some(record.offset() + 1);
                Some(Ok(record))
            }
            Some(Err(error)) => {
                let index = delivered.slot.index;
                self.bad = error.after_bad_batch().map(|(_, after)| (index, after));
                Some(Err(error))
            }
            None => {
                if !at_end {
                    partition.position = Some(position.max(delivered.next_offset));
                }
                let (slot, bytes) = (delivered.slot, delivered.bytes);
                self.current = None;
                self.partitions[slot.index].consumed(slot, bytes, self.options.credit_bytes);
                None
            }
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Subscribed { slot, offset } => {
                self.partitions[slot.index].subscribed(slot, offset);
            }
            Event::Delivered { slot, head, batches } => self.delivered(slot, head, batches),
            Event::Lost { slot, error } => self.lost(slot, error)?,
        }
        Ok(())
    }

    fn delivered(&mut self, slot: Slot, head: DeliverHead, batches: Bytes) {
        let partition = &self.partitions[slot.index];
        if partition.attempt != slot.attempt {
            return;
        }
        let bytes = batches.len() as u64;
        let (index, limits) = (partition.index, self.options.limits);
        let place = (self.topic.clone(), index);
        let batches = Batches::new(place, batches, head.next_offset, limits);
        self.current = Some(Delivered { slot, bytes, next_offset: head.next_offset, batches });
    }

    /// A subscription was refused or its connection ended: subscribes again where that may help.
    fn lost(&mut self, slot: Slot, error: Error) -> Result<(), Error> {
        let partition = &mut self.partitions[slot.index];
        if partition.attempt != slot.attempt {
            return Ok(());
        }
        partition.link = None;
        if partition.is_at_end() {
            return Ok(());
        }
        if has_code(&error, ErrorCode::OffsetOutOfRange) && partition.reset(self.options.reset) {
            tracing::warn!(
                topic = %self.topic,
                partition = partition.index,
                "the offset wanted is not there any more; going on with {:?}",
                self.options.reset
            );
            self.subscribe(slot.index, false);
            return Ok(());
        }
        let out_of_date = has_code(&error, ErrorCode::UnknownPartition);
        // A connection that breaks the protocol is closed; another one may do better.
        let broken = matches!(error, Error::Protocol { .. });
        let lost_at = *partition.lost_at.get_or_insert_with(Instant::now);
        let in_time = self.options.reconnect_timeout.is_none_or(|max| lost_at.elapsed() < max);
        let again = out_of_date && !partition.refreshed || broken || error.is_retryable();
        if !again || !in_time {
            return Err(error);
        }
        partition.refreshed |= out_of_date;
        tracing::debug!(partition = partition.index, "subscribing again: {error}");
        self.subscribe(slot.index, out_of_date);
        Ok(())
    }
}

impl Stream for Consumer {
    type Item = Result<Record, Error>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Record, Error>>> {
        self.poll_record(context)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for partition in &mut self.partitions {
            partition.unsubscribe();
        }
    }
}
