//! One partition of a consumer: where it stands, and keeping it subscribed.

use std::sync::Arc;
use std::time::Duration;

use model::{Offset, StartPosition, TopicName};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::builder::{ConsumerOptions, OffsetReset};
use crate::admin::handle_of;
use crate::backoff::Backoff;
use crate::connection::{Connection, Event, Slot};
use crate::error::Error;
use crate::routes::Routes;

pub(super) struct Partition {
    pub(super) index: u32,
    /// Where to start while `position` is not known.
    start: StartPosition,
    /// The next offset to give out; known once a subscription was answered.
    pub(super) position: Option<Offset>,
    pub(super) committed: Option<Offset>,
    /// Where to stop.
    end: Option<Offset>,
    /// Counts subscriptions: what comes from an older one is not for us.
    pub(super) attempt: u64,
    pub(super) link: Option<Link>,
    /// Since when there is no subscription that works.
    pub(super) lost_at: Option<Instant>,
    /// The metadata was asked for again since the last subscription that worked.
    pub(super) refreshed: bool,
    backoff: Backoff,
    /// Consumed bytes whose credit was not given back yet.
    owed: u64,
}

pub(super) struct Link {
    connection: Connection,
    subscription: u32,
}

/// A subscription request is on its way.
pub(super) struct Subscribing {
    pub(super) slot: Slot,
    link: Link,
}

/// Where the news of a subscription goes.
#[derive(Clone)]
pub(super) struct Senders {
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) links: mpsc::UnboundedSender<Subscribing>,
}

impl Partition {
    pub(super) fn new(
        index: u32,
        start: StartPosition,
        end: Option<Offset>,
        backoff: Backoff,
    ) -> Self {
        Self {
            index,
            start,
            position: None,
            committed: None,
            end,
            attempt: 0,
            link: None,
            lost_at: None,
            refreshed: false,
            backoff,
            owed: 0,
        }
    }

    /// Nothing more is wanted.
    pub(super) fn is_at_end(&self) -> bool {
        match (self.position, self.end) {
            (Some(position), Some(end)) => position >= end,
            _ => false,
        }
    }

    /// Begins a new subscription where this partition stands, in the background. What comes of it
    /// arrives at `senders`.
    pub(super) fn subscribe(
        &mut self,
        slot_index: usize,
        routes: Arc<Routes>,
        topic: TopicName,
        options: Arc<ConsumerOptions>,
        senders: Senders,
        refresh: bool,
    ) {
        self.attempt += 1;
        self.owed = 0;
        let wait = if self.attempt == 1 { Duration::ZERO } else { self.backoff.wait() };
        let slot = Slot { index: slot_index, attempt: self.attempt };
        let position = match self.position {
            Some(offset) => StartPosition::Offset(offset),
            None => self.start.clone(),
        };
        let task = Task { slot, routes, topic, partition: self.index, position, options, refresh };
        tokio::spawn(async move {
            sleep(wait).await;
            if let Err(error) = task.run(&senders).await {
                // A consumer that is gone has stopped caring.
                let _ = senders.events.send(Event::Lost { slot, error });
            }
        });
    }

    pub(super) fn sent(&mut self, subscribing: Subscribing, credit_bytes: u64) {
        let Subscribing { slot, link } = subscribing;
        if slot.attempt == self.attempt {
            self.link = Some(link);
            // Deliveries may have come and been consumed before this was heard of.
            self.consumed(slot, 0, credit_bytes);
        } else {
            link.connection.unsubscribe(link.subscription);
        }
    }

    /// The server has answered: it goes on from `offset`.
    pub(super) fn subscribed(&mut self, slot: Slot, offset: Offset) {
        if slot.attempt != self.attempt {
            return;
        }
        self.position = Some(self.position.map_or(offset, |position| position.max(offset)));
        self.lost_at = None;
        self.refreshed = false;
        self.backoff.reset();
    }

    /// Takes another start after the wanted offset was out of range. `false`: it is to be an error.
    pub(super) fn reset(&mut self, reset: OffsetReset) -> bool {
        self.start = match reset {
            OffsetReset::Error => return false,
            OffsetReset::First => StartPosition::First,
            OffsetReset::Next => StartPosition::Next,
        };
        self.position = None;
        true
    }

    /// Gives credit back once a quarter of it was consumed: often enough that the server never
    /// waits for it, seldom enough to cost nothing.
    pub(super) fn consumed(&mut self, slot: Slot, bytes: u64, credit_bytes: u64) {
        if slot.attempt != self.attempt {
            return;
        }
        if self.is_at_end() {
            self.unsubscribe();
            return;
        }
        self.owed += bytes;
        if let Some(Link { connection, subscription }) = &self.link
            && self.owed >= credit_bytes / 4
        {
            connection.credit(*subscription, self.owed);
            self.owed = 0;
        }
    }

    pub(super) fn unsubscribe(&mut self) {
        if let Some(Link { connection, subscription }) = self.link.take() {
            connection.unsubscribe(subscription);
        }
    }
}

/// One try to subscribe.
struct Task {
    slot: Slot,
    routes: Arc<Routes>,
    topic: TopicName,
    partition: u32,
    position: StartPosition,
    options: Arc<ConsumerOptions>,
    refresh: bool,
}

impl Task {
    async fn run(self, senders: &Senders) -> Result<(), Error> {
        let Self { slot, routes, topic, partition, position, options, refresh } = self;
        let deadline = routes.deadline();
        let info = if refresh {
            routes.refresh_topic(&topic, deadline).await?
        } else {
            routes.topic(&topic, deadline).await?
        };
        let handle = handle_of(&info, partition)?;
        let connection = routes.to_shard(handle.shard).await?;
        let events = senders.events.clone();
        let subscription =
            connection.subscribe(handle, position, options.credit_bytes, slot, events)?;
        let subscribing = Subscribing { slot, link: Link { connection, subscription } };
        if let Err(unheard) = senders.links.send(subscribing) {
            // The consumer is gone.
            let Link { connection, subscription } = unheard.0.link;
            connection.unsubscribe(subscription);
        }
        Ok(())
    }
}
