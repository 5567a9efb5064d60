//! Producers that go on through every fault.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use client::{AckLevel, Client, Delivery, Error, Producer};
use tokio::sync::watch;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::Ledger;
use super::message::Message;
use super::{Plan, Promise};
use crate::error::{ScenarioError, violated};

/// Messages that one producer has unanswered at most; past this it waits.
const UNDER_WAY_MAX: usize = 10_000;
/// Messages sent before other tasks have their turn.
const BURST: usize = 256;
/// A message is tried for so long: longer than any fault takes.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(100);
const TICK: Duration = Duration::from_millis(5);

/// Starts producer `number`. It ends when `stop` turns true, with all it sent answered, or with
/// the first message that failed.
pub fn spawn(
    number: u16,
    client: Client,
    plan: &Plan,
    ledger: Arc<Ledger>,
    stop: watch::Receiver<bool>,
) -> JoinHandle<Result<(), ScenarioError>> {
    let plan = plan.clone();
    tokio::spawn(async move {
        let ack = match plan.promise {
            Promise::Durable => AckLevel::Durable,
            Promise::Memory => AckLevel::Memory,
        };
        let producer = client.producer().ack(ack).delivery_timeout(DELIVERY_TIMEOUT).build();
        let producer = producer.map_err(ScenarioError::client("make a producer"))?;
        let under_way = (0..plan.partitions).map(|_| VecDeque::new()).collect();
        Worker { number, producer, ack, plan, ledger, under_way, sequence: 0 }.run(stop).await
    })
}

struct Worker {
    number: u16,
    producer: Producer,
    ack: AckLevel,
    plan: Plan,
    ledger: Arc<Ledger>,
    /// For each partition, in the order sent.
    under_way: Vec<VecDeque<(Message, Delivery)>>,
    sequence: u64,
}

impl Worker {
    async fn run(mut self, stop: watch::Receiver<bool>) -> Result<(), ScenarioError> {
        match self.plan.rate {
            Some(_) => self.run_paced(&stop).await?,
            None => self.run_full(&stop).await?,
        }
        for partition in 0..self.plan.partitions {
            while let Some((message, delivery)) = self.under_way[partition as usize].pop_front() {
                self.note(message, partition, delivery.await)?;
            }
        }
        Ok(())
    }

    async fn run_paced(&mut self, stop: &watch::Receiver<bool>) -> Result<(), ScenarioError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            ticks.tick().await;
            self.reap()?;
            let rate = self.ledger.rate.load(Ordering::Relaxed);
            let per_tick = (u128::from(rate) * TICK.as_millis()).div_ceil(1000);
            for _ in 0..per_tick {
                if self.under_way() < UNDER_WAY_MAX {
                    self.send_one().await?;
                }
            }
        }
        Ok(())
    }

    /// As much as the server takes.
    async fn run_full(&mut self, stop: &watch::Receiver<bool>) -> Result<(), ScenarioError> {
        while !*stop.borrow() {
            self.reap()?;
            if self.under_way() >= UNDER_WAY_MAX {
                self.await_oldest().await?;
                continue;
            }
            for _ in 0..BURST {
                self.send_one().await?;
            }
            yield_now().await;
        }
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.under_way.iter().map(VecDeque::len).sum()
    }

    async fn await_oldest(&mut self) -> Result<(), ScenarioError> {
        let fullest = (0..self.under_way.len()).max_by_key(|at| self.under_way[*at].len());
        let Some(at) = fullest else { return Ok(()) };
        let Some((message, delivery)) = self.under_way[at].pop_front() else { return Ok(()) };
        self.note(message, at as u32, delivery.await)
    }

    async fn send_one(&mut self) -> Result<(), ScenarioError> {
        let message = Message { producer: self.number, sequence: self.sequence };
        let partition = message.partition(self.plan.partitions);
        let payload = message.payload();
        let delivery = self
            .producer
            .send(client::Message::new(&self.plan.topic).partition(partition).value(&payload))
            .await
            .map_err(ScenarioError::client("send a message"))?;
        self.under_way[partition as usize].push_back((message, delivery));
        self.sequence += 1;
        self.ledger.books().sent += 1;
        Ok(())
    }

    /// Notes the deliveries that are done.
    fn reap(&mut self) -> Result<(), ScenarioError> {
        for partition in 0..self.plan.partitions {
            while let Some((message, delivery)) = self.under_way[partition as usize].front_mut() {
                let message = *message;
                let Some(result) = poll_once(delivery) else { break };
                self.under_way[partition as usize].pop_front();
                self.note(message, partition, result)?;
            }
        }
        Ok(())
    }

    fn note(
        &self,
        message: Message,
        partition: u32,
        result: Result<client::Receipt, Error>,
    ) -> Result<(), ScenarioError> {
        let receipt = match result {
            Ok(receipt) => receipt,
            // What stood before it in memory is gone, and with it what is known of this one.
            Err(Error::OutcomeUnknown { .. }) if self.plan.promise == Promise::Memory => {
                self.ledger.books().unknown += 1;
                return Ok(());
            }
            Err(error) => return Err(ScenarioError::client("deliver a message")(error)),
        };
        if receipt.level != self.ack {
            return violated(format!("{message:?} was acknowledged {:?}", receipt.level));
        }
        self.ledger.acknowledge(message, partition, receipt.offset)
    }
}

/// The result of a delivery that is done already.
fn poll_once(delivery: &mut Delivery) -> Option<Result<client::Receipt, Error>> {
    match Pin::new(delivery).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
