//! Topics, offsets and the server itself.

use std::sync::Arc;
use std::time::Duration;

use model::reply::{PartitionStatus, ServerStatus};
use model::{
    AckLevel, ConsumerName, CoreId, CoreStages, ErrorCode, Offset, PartitionHandle, PartitionIndex,
    Reply, Request, StartPosition, TopicChange, TopicConfig, TopicInfo, TopicName, limits,
};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::routes::{Routes, unexpected};

/// One page of a listing of topics.
#[derive(Clone, Debug)]
pub struct TopicPage {
    /// In order of their names.
    pub topics: Vec<Arc<TopicInfo>>,
    /// What to pass as `after` for the next page; `None` at the end.
    pub next_after: Option<TopicName>,
}

/// A topic with the state of its partitions.
#[derive(Clone, Debug)]
pub struct TopicDescription {
    pub topic: Arc<TopicInfo>,
    pub partitions: Vec<PartitionStatus>,
}

impl Client {
    /// Creates a topic; set what matters, then [`CreateTopic::send`].
    pub fn create_topic(&self, name: impl Into<String>) -> CreateTopic {
        CreateTopic {
            routes: self.routes.clone(),
            name: name.into(),
            partitions: 1,
            config: TopicConfig::default(),
        }
    }

    /// Changes a topic's settings. Returns the topic as it is then.
    pub async fn alter_topic(
        &self,
        name: &str,
        change: TopicChange,
    ) -> Result<Arc<TopicInfo>, Error> {
        let request = Request::AlterTopic { name: TopicName::parse(name)?, change };
        match self.call(&request).await? {
            Reply::Topic(info) => Ok(info),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Deletes a topic with all its messages.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let request = Request::DeleteTopic { name: TopicName::parse(name)? };
        match self.routes.call(None, &request, self.routes.deadline()).await {
            Ok((Reply::TopicDeleted, _)) => Ok(()),
            Ok((reply, _)) => Err(unexpected(&reply)),
            // An earlier try, whose answer was lost, has done it.
            Err(failed) if failed.ambiguous && has_code(&failed.error, ErrorCode::UnknownTopic) => {
                Ok(())
            }
            Err(failed) => Err(failed.error),
        }
    }

    /// What the server knows of a topic: id, settings, partitions.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicInfo>, Error> {
        self.routes.refresh_topic(&TopicName::parse(name)?, self.routes.deadline()).await
    }

    /// A topic with offsets, bytes and consumers of each partition.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, Error> {
        let request = Request::DescribeTopic { name: TopicName::parse(name)? };
        match self.call(&request).await? {
            Reply::TopicDescription { topic, partitions } => {
                Ok(TopicDescription { topic, partitions })
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// One page of the topics whose names come after `after`, at most `limit`.
    pub async fn list_topics_page(
        &self,
        after: Option<&TopicName>,
        limit: u32,
    ) -> Result<TopicPage, Error> {
        let limit = limit.clamp(1, limits::TOPICS_PER_PAGE_MAX);
        let request = Request::Metadata { topics: Vec::new(), after: after.cloned(), limit };
        match self.call(&request).await? {
            Reply::Metadata { topics, more, .. } => {
                let last = topics.last().map(|info| info.name.clone());
                Ok(TopicPage { topics, next_after: last.filter(|_| more) })
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// All topics, in order of their names: as many pages as it takes.
    pub async fn list_topics(&self) -> Result<Vec<Arc<TopicInfo>>, Error> {
        let mut topics = Vec::new();
        let mut after = None;
        loop {
            let page = self.list_topics_page(after.as_ref(), limits::TOPICS_PER_PAGE_MAX).await?;
            topics.extend(page.topics);
            match page.next_after {
                Some(next) => after = Some(next),
                None => return Ok(topics),
            }
        }
    }

    /// How the server is doing.
    pub async fn status(&self) -> Result<ServerStatus, Error> {
        match self.call(&Request::Status).await? {
            Reply::Status(status) => Ok(*status),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Where the time of publishes and deliveries has gone since the server's start, for each core.
    pub async fn stages(&self) -> Result<Vec<CoreStages>, Error> {
        match self.call(&Request::Stages).await? {
            Reply::Stages(cores) => Ok(cores),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Asks for a sign of life. Returns how long it took.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let started = Instant::now();
        match self.call(&Request::Ping).await? {
            Reply::Pong => Ok(started.elapsed()),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Changes what the running server logs: a `tracing` filter such as `info,server=debug`.
    pub async fn set_log_filter(&self, filter: impl Into<String>) -> Result<(), Error> {
        match self.call(&Request::SetLogFilter { filter: filter.into() }).await? {
            Reply::LogFilterSet => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Moves all clients off a core, or off the server (`None`); its shards go on, reached over
    /// other cores. Clients have `grace` to leave by themselves.
    pub async fn drain(&self, core: Option<CoreId>, grace: Duration) -> Result<(), Error> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.set_drain(Request::Drain { core, undo: false, grace_ms }).await
    }

    /// Lets clients come again to a core, or to the server (`None`).
    pub async fn undo_drain(&self, core: Option<CoreId>) -> Result<(), Error> {
        self.set_drain(Request::Drain { core, undo: true, grace_ms: 0 }).await
    }

    async fn set_drain(&self, request: Request) -> Result<(), Error> {
        match self.call(&request).await? {
            Reply::DrainSet => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }

    /// The offset that a position stands for now in one partition.
    pub async fn lookup_offset(
        &self,
        topic: &str,
        partition: u32,
        position: StartPosition,
    ) -> Result<Offset, Error> {
        let deadline = self.routes.deadline();
        let name = TopicName::parse(topic)?;
        self.routes.lookup_offset(&name, partition, position, deadline).await
    }

    /// The offset that a named consumer will go on from in one partition; `None` when it has
    /// committed nothing.
    pub async fn committed_offset(
        &self,
        topic: &str,
        partition: u32,
        consumer: &str,
    ) -> Result<Option<Offset>, Error> {
        let deadline = self.routes.deadline();
        let consumer = ConsumerName::parse(consumer)?;
        let name = TopicName::parse(topic)?;
        let result = self
            .routes
            .call_partition(&name, partition, deadline, |partition| Request::CommittedOffset {
                partition,
                consumer: consumer.clone(),
            })
            .await;
        match result {
            Ok(Reply::Offset { offset }) => Ok(Some(offset)),
            Ok(reply) => Err(unexpected(&reply)),
            Err(error) if has_code(&error, ErrorCode::NoCommittedOffset) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Commits `offset`, the next one to read, for a named consumer. Durable when it returns.
    pub async fn commit_offset(
        &self,
        topic: &str,
        partition: u32,
        consumer: &str,
        offset: Offset,
    ) -> Result<(), Error> {
        let consumer = ConsumerName::parse(consumer)?;
        let name = TopicName::parse(topic)?;
        self.routes.commit_offset(&name, partition, &consumer, offset, AckLevel::Durable).await
    }

    async fn call(&self, request: &Request) -> Result<Reply, Error> {
        let (reply, _) = self.routes.call(None, request, self.routes.deadline()).await?;
        Ok(reply)
    }
}

impl Routes {
    /// The partition's handle, and its topic.
    pub(crate) async fn partition(
        &self,
        topic: &TopicName,
        partition: u32,
        deadline: Instant,
    ) -> Result<PartitionHandle, Error> {
        let info = self.topic(topic, deadline).await?;
        handle_of(&info, partition)
    }

    /// A call about one partition, once more with fresh metadata when the handle is out of date.
    pub(crate) async fn call_partition(
        &self,
        topic: &TopicName,
        partition: u32,
        deadline: Instant,
        request: impl Fn(PartitionHandle) -> Request,
    ) -> Result<Reply, Error> {
        let handle = self.partition(topic, partition, deadline).await?;
        match self.call(Some(handle.shard), &request(handle), deadline).await {
            Err(failed) if has_code(&failed.error, ErrorCode::UnknownPartition) => {
                let info = self.refresh_topic(topic, deadline).await?;
                let handle = handle_of(&info, partition)?;
                Ok(self.call(Some(handle.shard), &request(handle), deadline).await?.0)
            }
            result => Ok(result?.0),
        }
    }

    pub(crate) async fn lookup_offset(
        &self,
        topic: &TopicName,
        partition: u32,
        position: StartPosition,
        deadline: Instant,
    ) -> Result<Offset, Error> {
        let request = |partition| Request::LookupOffset { partition, position: position.clone() };
        match self.call_partition(topic, partition, deadline, request).await? {
            Reply::Offset { offset } => Ok(offset),
            reply => Err(unexpected(&reply)),
        }
    }

    pub(crate) async fn commit_offset(
        &self,
        topic: &TopicName,
        partition: u32,
        consumer: &ConsumerName,
        offset: Offset,
        ack: AckLevel,
    ) -> Result<(), Error> {
        let request = |partition| {
            let consumer = consumer.clone();
            Request::CommitOffset { partition, consumer, offset, ack }
        };
        match self.call_partition(topic, partition, self.deadline(), request).await? {
            Reply::OffsetCommitted => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }
}

/// The handle of a partition that must exist.
pub(crate) fn handle_of(info: &TopicInfo, partition: u32) -> Result<PartitionHandle, Error> {
    info.handle(PartitionIndex(partition)).ok_or_else(|| Error::NoSuchPartition {
        topic: info.name.to_string(),
        partition,
        partitions: info.partitions.len() as u32,
    })
}

pub(crate) fn has_code(error: &Error, code: ErrorCode) -> bool {
    matches!(error, Error::Server(rejection) if rejection.code == code)
}

/// A topic about to be created.
#[must_use = "nothing happens before `send`"]
pub struct CreateTopic {
    routes: Arc<Routes>,
    name: String,
    partitions: u32,
    config: TopicConfig,
}

impl CreateTopic {
    /// Default: 1.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Messages older than this may be removed. Default: kept.
    pub fn retention(mut self, age: Duration) -> Self {
        self.config.retention_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Each partition is trimmed to about this many bytes. Default: not trimmed.
    pub fn retention_bytes(mut self, bytes: u64) -> Self {
        self.config.retention_bytes = Some(bytes);
        self
    }

    /// What must be true of a message before it is acknowledged. Default: durable.
    pub fn ack(mut self, level: AckLevel) -> Self {
        self.config.ack = level;
        self
    }

    /// Creates the topic: every partition of it is durable when this returns.
    pub async fn send(self) -> Result<Arc<TopicInfo>, Error> {
        let Self { routes, name, partitions, config } = self;
        let name = TopicName::parse(&name)?;
        let deadline = routes.deadline();
        let request =
            Request::CreateTopic { name: name.clone(), partitions, config: config.clone() };
        match routes.call(None, &request, deadline).await {
            Ok((Reply::Topic(info), _)) => Ok(info),
            Ok((reply, _)) => Err(unexpected(&reply)),
            // An earlier try, whose answer was lost, may have done it: then the topic is as asked.
            Err(failed) if failed.ambiguous && has_code(&failed.error, ErrorCode::TopicExists) => {
                let info = routes.refresh_topic(&name, deadline).await?;
                let as_asked = info.config == config && info.partitions.len() as u32 == partitions;
                if as_asked { Ok(info) } else { Err(failed.error) }
            }
            Err(failed) => Err(failed.error),
        }
    }
}
