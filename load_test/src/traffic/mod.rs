//! Load with its oracle: producers and followers that go on through every fault, and an audit that
//! knows what the broker has promised them.
//!
//! The promises, whatever happens to the process:
//! - a message acknowledged durable is there, at the offset it was acknowledged with;
//! - every message is there once, each producer's in order, although clients send again what went
//!   unanswered; what was acknowledged from memory may be lost, but is neither repeated nor changed;
//! - an offset that was shown never gets another message;
//! - a committed offset, once confirmed, is never taken back.

mod audit;
mod followers;
mod lane;
mod ledger;
mod message;
mod producers;
mod trail;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::{AckLevel, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::audit::Audit;
use self::ledger::Ledger;
pub use self::ledger::Promised;
use crate::error::{ScenarioError, violated};

/// How long a new client is refused before that is an error, and how often it tries.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_AGAIN: Duration = Duration::from_millis(100);
/// How long one record may keep us waiting.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);
/// Last messages have to be answered, and followers to reach the end, within this.
const FINISH_TIMEOUT: Duration = Duration::from_secs(120);

/// Partitions of a topic under load.
pub const PARTITIONS: u32 = 4;

/// What an acknowledgement stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    Durable,
    Memory,
}

/// One topic and what goes on in it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub address: SocketAddr,
    pub topic: String,
    pub partitions: u32,
    pub producers: u16,
    /// Messages a second of each producer, which can be changed; `None`: as many as the server takes.
    pub rate: Option<u32>,
    pub promise: Promise,
    /// For each partition.
    pub retention_bytes: Option<u64>,
    pub followers: u16,
}

impl Plan {
    /// What most scenarios do to a topic; how many produce, how fast, and what is kept is theirs to
    /// say.
    pub fn durable(address: SocketAddr, topic: &str) -> Self {
        Self {
            address,
            topic: topic.to_owned(),
            partitions: PARTITIONS,
            producers: 2,
            rate: None,
            promise: Promise::Durable,
            retention_bytes: None,
            followers: 2,
        }
    }
}

/// What a good run has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub sent: u64,
    pub acknowledged: u64,
    pub found: u64,
    /// Memory only.
    pub lost: u64,
    /// Memory only: not known whether they were stored.
    pub unknown: u64,
    /// Records that followers were given.
    pub followed: u64,
    /// Followers begun again from their committed offsets.
    pub resumed: u64,
    /// Rows of messages compared between readers.
    pub chunks: usize,
    /// Records the audit has read, repeats included.
    pub audited: u64,
}

/// A topic under load.
#[derive(Debug)]
pub struct Traffic {
    plan: Plan,
    ledger: Arc<Ledger>,
    audit: Audit,
    stop: watch::Sender<bool>,
    producers: Vec<JoinHandle<Result<(), ScenarioError>>>,
    followers: Vec<JoinHandle<Result<(), ScenarioError>>>,
}

impl Traffic {
    /// Makes the topic and starts everything.
    pub async fn start(plan: Plan) -> Result<Self, ScenarioError> {
        let client = connect(plan.address).await?;
        let mut topic = client.create_topic(&plan.topic).partitions(plan.partitions);
        if let Some(bytes) = plan.retention_bytes {
            topic = topic.retention_bytes(bytes);
        }
        if plan.promise == Promise::Memory {
            topic = topic.ack(AckLevel::Memory);
        }
        topic.send().await.map_err(ScenarioError::client("create a topic"))?;
        let (stop, stopped) = watch::channel(false);
        let ledger = Arc::new(Ledger::new(&plan));
        let (mut producers, mut followers) = (Vec::new(), Vec::new());
        for number in 0..plan.producers {
            let client = connect(plan.address).await?;
            let (ledger, stopped) = (Arc::clone(&ledger), stopped.clone());
            producers.push(producers::spawn(number, client, &plan, ledger, stopped));
        }
        for number in 0..usize::from(plan.followers) {
            let client = connect(plan.address).await?;
            let (ledger, stopped) = (Arc::clone(&ledger), stopped.clone());
            followers.push(followers::spawn(number, client, &plan, ledger, stopped));
        }
        let audit = Audit::new(plan.partitions);
        Ok(Self { plan, ledger, audit, stop, producers, followers })
    }

    /// An error when a producer or follower has ended by itself.
    pub async fn check_alive(&mut self) -> Result<(), ScenarioError> {
        for (who, tasks) in
            [("a producer", &mut self.producers), ("a follower", &mut self.followers)]
        {
            if let Some(ended) = tasks.iter().position(JoinHandle::is_finished) {
                return match tasks.swap_remove(ended).await {
                    Ok(Err(error)) => Err(error),
                    other => Err(ScenarioError::Ended { who, how: format!("{other:?}") }),
                };
            }
        }
        Ok(())
    }

    /// What is promised now.
    pub fn promised(&self) -> Promised {
        self.ledger.promised()
    }

    /// Messages a second of each producer from now on, where the plan has a rate.
    pub fn set_rate(&self, rate: u32) {
        self.ledger.rate.store(rate, Ordering::Relaxed);
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.ledger.books().acknowledged
    }

    /// Checks the running server: what is new, and the last of what was read before.
    pub async fn check(&mut self, promised: &Promised) -> Result<(), ScenarioError> {
        let client = connect(self.plan.address).await?;
        self.audit.check(&client, &self.plan, &self.ledger, promised, false).await
    }

    /// Ends producers and followers, and checks everything that is kept.
    pub async fn finish(&mut self) -> Result<Totals, ScenarioError> {
        let _ = self.stop.send(true);
        join(&mut self.producers, "a producer").await?;
        let promised = self.promised();
        self.check(&promised).await?;
        self.ledger.books().ends = Some(self.audit.ends());
        join(&mut self.followers, "a follower").await?;
        let promised = self.promised();
        let client = connect(self.plan.address).await?;
        self.audit.check(&client, &self.plan, &self.ledger, &promised, true).await?;
        let (found, lost) = self.ledger.found_and_lost();
        let books = self.ledger.books();
        let totals = Totals {
            sent: books.sent,
            acknowledged: books.acknowledged,
            found,
            lost: if self.plan.promise == Promise::Memory { books.sent - found } else { lost },
            unknown: books.unknown,
            followed: books.followed,
            resumed: books.resumed,
            chunks: books.shown.chunks(),
            audited: self.audit.records,
        };
        drop(books);
        if self.plan.promise == Promise::Durable
            && (totals.sent != totals.acknowledged || totals.sent != totals.found)
        {
            return violated(format!("not all that was sent is there once: {totals:?}"));
        }
        Ok(totals)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for task in self.producers.iter().chain(&self.followers) {
            task.abort();
        }
    }
}

async fn join(
    tasks: &mut Vec<JoinHandle<Result<(), ScenarioError>>>,
    who: &'static str,
) -> Result<(), ScenarioError> {
    for task in tasks.drain(..) {
        let ended = timeout(FINISH_TIMEOUT, task).await;
        let ended =
            ended.map_err(|_| ScenarioError::TooLong { what: who, after: FINISH_TIMEOUT })?;
        ended.map_err(|error| ScenarioError::Ended { who, how: error.to_string() })??;
    }
    Ok(())
}

/// A new client. Refusals that pass, such as for connections that have just been left and are still
/// counted, are met with patience.
pub async fn connect(address: SocketAddr) -> Result<Client, ScenarioError> {
    let began = Instant::now();
    loop {
        let client = Client::builder().server(address.to_string()).client_name("load-test");
        match client.build().await {
            Err(error) if error.is_retryable() && began.elapsed() < CONNECT_PATIENCE => {
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
            other => return other.map_err(ScenarioError::client("connect")),
        }
    }
}
