//! What comes and goes beside the load: topics, consumers, connections, and a reader that is too
//! slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::{Client, Error, Message, OffsetReset, StartPosition};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::error::{ScenarioError, violated};
use crate::random::Random;
use crate::traffic::connect;

const TOPIC_MESSAGES: u64 = 200;
const VISIT_RECORDS: u64 = 2_000;
const VISIT_TIME_MAX: Duration = Duration::from_secs(2);
/// The slow reader takes a record this often.
const SLOW_EVERY: Duration = Duration::from_millis(20);
/// So much is sent ahead to it.
const SLOW_CREDIT_BYTES: u64 = 256 * 1024;
const PAUSE_MS_MAX: u64 = 1_500;
/// After a failure that time heals.
const RETRY: Duration = Duration::from_millis(200);

/// How often each thing has been done.
#[derive(Debug, Default)]
pub struct Counts {
    pub topics: AtomicU64,
    pub visits: AtomicU64,
    pub reconnects: AtomicU64,
    pub slow_records: AtomicU64,
}

/// The tasks. Dropping it ends them.
#[derive(Debug)]
pub struct Churn {
    pub counts: Arc<Counts>,
    tasks: Vec<JoinHandle<Result<(), ScenarioError>>>,
}

impl Churn {
    /// `topic` is the one that the load goes to.
    pub fn start(address: SocketAddr, topic: &str, seed: u64) -> Self {
        let counts = Arc::<Counts>::default();
        let worker = |number| Worker {
            address,
            topic: topic.to_owned(),
            random: Random::new(seed ^ number),
            counts: Arc::clone(&counts),
        };
        let tasks = vec![
            tokio::spawn(worker(1).topics()),
            tokio::spawn(worker(2).visits()),
            tokio::spawn(worker(3).visits()),
            tokio::spawn(worker(4).reconnects()),
            tokio::spawn(worker(5).read_slowly()),
        ];
        Self { counts, tasks }
    }

    /// An error when one has failed.
    pub async fn check(&mut self) -> Result<(), ScenarioError> {
        let Some(ended) = self.tasks.iter().position(JoinHandle::is_finished) else {
            return Ok(());
        };
        match self.tasks.swap_remove(ended).await {
            Ok(Err(error)) => Err(error),
            other => {
                let how = format!("{other:?}");
                Err(ScenarioError::Ended { who: "a task beside the load", how })
            }
        }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Worker {
    address: SocketAddr,
    topic: String,
    random: Random,
    counts: Arc<Counts>,
}

impl Worker {
    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.random.between(50, PAUSE_MS_MAX))).await;
    }

    /// Topics that live for a moment: made, filled, read, deleted.
    async fn topics(mut self) -> Result<(), ScenarioError> {
        let client = connect(self.address).await?;
        for number in 0.. {
            let name = format!("passing-{number}");
            let partitions = self.random.between(1, 5) as u32;
            client
                .create_topic(&name)
                .partitions(partitions)
                .send()
                .await
                .map_err(ScenarioError::client("create a passing topic"))?;
            fill_and_read(&client, &name).await?;
            self.pause().await;
            let deleted = client.delete_topic(&name).await;
            deleted.map_err(ScenarioError::client("delete a passing topic"))?;
            self.counts.topics.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Consumers that come, read a while, and go.
    async fn visits(mut self) -> Result<(), ScenarioError> {
        loop {
            let client = connect(self.address).await;
            if let Ok(client) = client {
                let start = match self.random.between(0, 3) {
                    0 => StartPosition::First,
                    1 => StartPosition::Last,
                    _ => StartPosition::Next,
                };
                let consumer = client.consumer(&self.topic).start(start).reset(OffsetReset::First);
                let visit = async {
                    let mut consumer = consumer.build().await?;
                    for _ in 0..VISIT_RECORDS {
                        consumer.next().await.transpose()?;
                    }
                    Ok(())
                };
                healed("visit the topic", timeout(VISIT_TIME_MAX, visit).await.unwrap_or(Ok(())))?;
                self.counts.visits.fetch_add(1, Ordering::Relaxed);
            }
            self.pause().await;
        }
    }

    /// Clients that connect, ask something, and are gone.
    async fn reconnects(mut self) -> Result<(), ScenarioError> {
        loop {
            if let Ok(client) = connect(self.address).await {
                healed("ask for the status", client.status().await.map(drop))?;
                healed("ask for a sign of life", client.ping().await.map(drop))?;
                self.counts.reconnects.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(self.random.between(5, 100))).await;
        }
    }

    /// Falls behind until retention takes from under it what it would have read.
    async fn read_slowly(self) -> Result<(), ScenarioError> {
        let client = connect(self.address).await?;
        loop {
            let consumer = client
                .consumer(&self.topic)
                .start(StartPosition::First)
                .reset(OffsetReset::First)
                .credit_bytes(SLOW_CREDIT_BYTES)
                .build()
                .await;
            match consumer {
                Ok(mut consumer) => {
                    while let Some(record) = consumer.next().await {
                        let Ok(record) = record else { break };
                        if record.value().is_none_or(<[u8]>::is_empty) {
                            return violated("a record came without its payload".to_owned());
                        }
                        self.counts.slow_records.fetch_add(1, Ordering::Relaxed);
                        sleep(SLOW_EVERY).await;
                    }
                }
                Err(error) => healed("read slowly", Err(error))?,
            }
            sleep(RETRY).await;
        }
    }
}

async fn fill_and_read(client: &Client, topic: &str) -> Result<(), ScenarioError> {
    let producer = client.producer().build().map_err(ScenarioError::client("make a producer"))?;
    for number in 0..TOPIC_MESSAGES {
        let value = number.to_string();
        let message = Message::new(topic).value(&value);
        drop(producer.send(message).await.map_err(ScenarioError::client("fill a topic"))?);
    }
    producer.close().await.map_err(ScenarioError::client("fill a topic"))?;
    let consumer = client.consumer(topic).start(StartPosition::First).until_end(true).build();
    let mut consumer = consumer.await.map_err(ScenarioError::client("read a passing topic"))?;
    let mut found = 0;
    while let Some(record) = consumer.next().await {
        record.map_err(ScenarioError::client("read a passing topic"))?;
        found += 1;
    }
    match found == TOPIC_MESSAGES {
        true => Ok(()),
        false => violated(format!("{topic} has {found} of {TOPIC_MESSAGES} messages")),
    }
}

/// Failures that a retry heals are the weather of a long run.
fn healed(doing: &'static str, result: Result<(), Error>) -> Result<(), ScenarioError> {
    match result {
        Err(error) if !error.is_retryable() => Err(ScenarioError::client(doing)(error)),
        _ => Ok(()),
    }
}
