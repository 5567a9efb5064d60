//! Consumers that read along, commit what they have read, and now and then begin again from there.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Consumer, OffsetReset};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Plan;
use super::audit::read_record;
use super::ledger::Ledger;
use super::message::Message;
use super::trail::Trail;
use crate::error::{ScenarioError, violated};

const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// How long a follower goes on before it begins again from what it has committed.
const RESUME_AFTER: Duration = Duration::from_secs(4);
/// Between two tries to subscribe while there is no server.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often a follower that gets nothing looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// What follower `number` commits under.
pub fn name(number: usize) -> String {
    format!("follower-{number}")
}

/// Starts a follower. After `stop` it reads on to where the ledger says the partitions end.
pub fn spawn(
    number: usize,
    client: Client,
    plan: &Plan,
    ledger: Arc<Ledger>,
    stop: watch::Receiver<bool>,
) -> JoinHandle<Result<(), ScenarioError>> {
    let plan = plan.clone();
    tokio::spawn(async move {
        let mut follower = Follower { number, client, plan, ledger, places: Vec::new() };
        while follower.follow(&stop).await? == Followed::Resume {
            follower.ledger.books().resumed += 1;
        }
        Ok(())
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Followed {
    Resume,
    End,
}

struct Follower {
    number: usize,
    client: Client,
    plan: Plan,
    ledger: Arc<Ledger>,
    places: Vec<Place>,
}

/// Where it stands in one partition.
#[derive(Clone, Debug)]
struct Place {
    trail: Trail,
    /// By producer, the number that comes next, once one was seen.
    next: Vec<Option<u64>>,
}

impl Follower {
    async fn follow(&mut self, stop: &watch::Receiver<bool>) -> Result<Followed, ScenarioError> {
        let place =
            Place { trail: Trail::new(), next: vec![None; usize::from(self.plan.producers)] };
        self.places = vec![place; self.plan.partitions as usize];
        let mut consumer = self.subscribe().await?;
        let (began, mut committed_at) = (Instant::now(), Instant::now());
        loop {
            if let Ok(next) = timeout(LOOK, consumer.next()).await {
                let Some(record) = next else {
                    return Err(ScenarioError::Ended { who: "a follower", how: "no more".into() });
                };
                let record = record.map_err(ScenarioError::client("follow a topic"))?;
                let (offset, message) = read_record(&record)?;
                self.take(record.partition(), offset, message)?;
            }
            if committed_at.elapsed() >= COMMIT_EVERY {
                self.commit().await?;
                committed_at = Instant::now();
                if self.is_at_end() {
                    return Ok(Followed::End);
                }
                if !*stop.borrow() && began.elapsed() > RESUME_AFTER {
                    return Ok(Followed::Resume);
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<Consumer, ScenarioError> {
        let began = Instant::now();
        loop {
            let consumer = self.client.consumer(&self.plan.topic).name(name(self.number));
            match consumer.reset(OffsetReset::First).build().await {
                Ok(consumer) => return Ok(consumer),
                Err(error) if error.is_retryable() && began.elapsed() < RETRY_MAX => {
                    sleep(RETRY).await;
                }
                Err(error) => return Err(ScenarioError::client("follow a topic")(error)),
            }
        }
    }

    fn take(&mut self, partition: u32, offset: u64, message: Message) -> Result<(), ScenarioError> {
        let place = &mut self.places[partition as usize];
        match place.trail.next() {
            Some(next)
                if offset < next || (offset > next && self.plan.retention_bytes.is_none()) =>
            {
                return violated(format!(
                    "{}: partition {partition}: offset {next} was to come, not {offset}",
                    name(self.number)
                ));
            }
            Some(next) if offset > next => place.next.fill(None),
            Some(_) => {}
            None => {
                // Where it was to go on, unless that is not kept any more.
                let commit = self.ledger.books().commits[self.number][partition as usize];
                if offset < commit.confirmed {
                    return violated(format!(
                        "{} had offset {} confirmed in partition {partition} and went on from {offset}",
                        name(self.number),
                        commit.confirmed
                    ));
                }
            }
        }
        let number = message.sequence / u64::from(self.plan.partitions);
        let Some(expected) = place.next.get_mut(usize::from(message.producer)) else {
            return violated(format!("partition {partition} offset {offset}: {message:?}"));
        };
        let may_skip = self.plan.promise == super::Promise::Memory;
        if expected.is_some_and(|next| number < next || (number > next && !may_skip)) {
            return violated(format!(
                "{}: partition {partition} offset {offset}: {message:?} is not number {expected:?} \
                 of its producer",
                name(self.number)
            ));
        }
        *expected = Some(number + 1);
        let mut books = self.ledger.books();
        books.followed += 1;
        match place.trail.push(offset, message) {
            Some(chunk) => books.shown.note(partition, chunk).or_else(violated),
            None => Ok(()),
        }
    }

    async fn commit(&mut self) -> Result<(), ScenarioError> {
        for partition in 0..self.plan.partitions {
            let Some(next) = self.places[partition as usize].trail.next() else { continue };
            {
                let commit = &mut self.ledger.books().commits[self.number][partition as usize];
                if next <= commit.confirmed {
                    continue;
                }
                commit.asked = commit.asked.max(next);
            }
            let name = name(self.number);
            match self.client.commit_offset(&self.plan.topic, partition, &name, next).await {
                Ok(()) => {
                    let mut books = self.ledger.books();
                    books.commits[self.number][partition as usize].confirmed = next;
                }
                Err(error) if error.is_retryable() => return Ok(()),
                Err(error) => return Err(ScenarioError::client("commit an offset")(error)),
            }
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        let books = self.ledger.books();
        let Some(ends) = &books.ends else { return false };
        let commits = &books.commits[self.number];
        commits.iter().zip(ends).all(|(commit, end)| commit.confirmed >= *end)
    }
}
